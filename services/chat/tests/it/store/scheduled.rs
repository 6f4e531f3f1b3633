//! Messages that are sent at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chat::{
    domain::{
        Command, Founding, Limits, NewChat, OutboxRecord, READDING_PAUSE, Refusal, Scheduled,
        ScheduledCounts, ScheduledText, Update,
    },
    error::Error,
    scheduled,
    store::{MemoryStore, PostgresStore, SCHEMA},
};
use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    api::{HistoryAccess, MAX_AHEAD_SECONDS, MAX_SCHEDULED, Visibility},
    event::{Role, SendRecord},
};
use kit::{
    catalog::{Rate, Topic},
    config::SendRates,
    error::ServiceError as _,
    testing::wait_for,
};
use sqlx::{Connection as _, PgConnection};
use tokio::{task::JoinSet, time::timeout};

use super::{Store, change, direct, group, own_states, put, refused, update};
use crate::{at, crew, database, new_user};

const PATIENCE: Duration = Duration::from_secs(20);
/// So soon that a test waits for it, and not so soon that it is past on a busy machine before all is scheduled.
const SOON: TimeDelta = TimeDelta::seconds(1);

suite![
    memory, postgres, super::Limits::default();
    a_message_is_sent_once_at_its_time_and_never_before,
    a_message_is_changed_cancelled_and_sent_at_once,
    what_its_sender_may_not_write_at_its_time_stays_with_the_refusal,
    what_a_removed_member_has_scheduled_is_never_sent,
    a_user_schedules_so_many_messages_at_times_ahead,
    in_slow_mode_scheduled_messages_wait_for_one_another,
    slow_mode_holds_for_a_user_who_leaves_and_comes_back,
    a_request_is_answered_as_before_when_its_message_was_sent,
    roles_are_those_of_the_time_of_the_message,
];

suite![
    memory_at_user_rates, postgres_at_user_rates, super::OF_USERS;
    what_a_user_schedules_for_one_moment_is_spread_out_in_its_order,
];

suite![
    memory_at_tenant_rates, postgres_at_tenant_rates, super::OF_TENANT;
    what_the_tenant_has_no_room_for_stays_due,
];

/// A user sends three at once, and one in two seconds.
const OF_USERS: Limits = Limits {
    sends: SendRates { user_sends: Rate::every(Duration::from_secs(2), 3), ..SendRates::DEFAULT },
    ..Limits::DEFAULT
};

/// All send four at once and two a second, of which scheduled messages have half.
const OF_TENANT: Limits = Limits {
    sends: SendRates { tenant_sends: Rate::per_second(2, 4), ..SendRates::DEFAULT },
    ..Limits::DEFAULT
};

/// Returns a message for a time from now on, to the microsecond that every store keeps.
fn message(chat_id: ChatId, user_id: UserId, body: &str, ahead: TimeDelta) -> Scheduled {
    let text = ScheduledText { body: body.to_owned(), ..ScheduledText::default() };
    let send_at = DateTime::from_timestamp_millis((Utc::now() + ahead).timestamp_millis()).expect("a time");
    let key = MessageKey::generate();
    Scheduled { chat_id, user_id, key, text, send_at, not_before: None, attempts: 0, refused: None }
}

/// Waits until the time of a message is past.
async fn until_past(of: &Scheduled) {
    let is_past = || async { (Utc::now() > of.send_at + SOON).then_some(()) };
    wait_for("the time of a message", PATIENCE, is_past).await;
}

fn later(chat_id: ChatId, user_id: UserId, body: &str) -> Scheduled {
    message(chat_id, user_id, body, TimeDelta::hours(1))
}

/// Returns the texts that are in the outbox, in their order.
async fn sent(store: &Store) -> Vec<(MessageKey, String)> {
    let pending = store.pending(5000).await.expect("the outbox").into_iter();
    let entries = pending.filter(|record| record.topic == Topic::MessageSend);
    let entries = entries.map(|record: OutboxRecord| -> SendRecord {
        serde_json::from_str(&record.payload.expect("an entry")).expect("json")
    });
    entries.filter(|entry| entry.kind.is_from_device()).map(|entry| (entry.key, entry.body)).collect()
}

async fn schedule(store: &Store, new: &Scheduled) {
    let (kept, is_new) = store.schedule(new).await.expect("it is kept").expect("a member");
    assert_eq!((&kept, is_new), (new, true));
}

async fn counts(store: &Store, chat_id: ChatId, user: UserId) -> ScheduledCounts {
    store.chat(chat_id, user).await.expect("a read").expect("a member").own.scheduled
}

const fn waiting(waiting: u32, refused: u32) -> ScheduledCounts {
    ScheduledCounts { waiting, refused }
}

/// Does rounds until nothing waits that is due.
async fn until_done(store: &Store) {
    let done = || async {
        scheduled::round(&**store).await.expect("a round");
        store.due_senders(10).await.expect("a list").is_empty().then_some(())
    };
    wait_for("that what is due is sent", PATIENCE, done).await;
}

async fn a_message_is_sent_once_at_its_time_and_never_before(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    assert_eq!(store.until_next().await.expect("a read"), None);
    let messages =
        [("second", SOON * 2), ("first", SOON)].map(|(body, ahead)| message(chat_id, ann, body, ahead));
    for of in &messages {
        schedule(&store, of).await;
        let (kept, is_new) = store.schedule(of).await.expect("an answer").expect("a member");
        assert_eq!((&kept, is_new), (of, false), "the same key is the same message");
    }
    schedule(&store, &later(chat_id, bob, "much later")).await;
    assert_eq!(counts(&store, chat_id, ann).await, waiting(2, 0));
    assert!(store.until_next().await.expect("a read").expect("the next") <= SOON.to_std().expect("small"));
    // Before their time each look finds nothing, and at it one of those who look at once sends it.
    let looked = AtomicUsize::new(0);
    wait_for("the time of both", PATIENCE, || async {
        let due = store.due_senders(10).await.expect("a list");
        if Utc::now() < messages[1].send_at {
            let found = store.send_due(chat_id, ann).await.expect("a look").changed;
            assert!(found == 0 || Utc::now() >= messages[1].send_at, "{found} were sent before their time");
            looked.fetch_add(found, Ordering::Relaxed);
        }
        let is_left = !due.is_empty() || looked.load(Ordering::Relaxed) == 2;
        (is_left && Utc::now() > messages[0].send_at + SOON).then_some(())
    })
    .await;
    let (one, other) = tokio::join!(store.send_due(chat_id, ann), store.send_due(chat_id, ann));
    let found = one.expect("a look").changed + other.expect("a look").changed;
    let looked = looked.into_inner();
    assert_eq!(looked + found, 2);
    let expected = [(messages[1].key, "first".to_owned()), (messages[0].key, "second".to_owned())];
    assert_eq!(sent(&store).await, expected);
    assert_eq!(store.due_senders(10).await.expect("a list"), []);
    assert_eq!(store.scheduled(chat_id, ann).await.expect("a list"), Some(vec![]));
    assert_eq!(counts(&store, chat_id, ann).await, waiting(0, 0));
    let said = own_states(&store).await;
    let of_ann: Vec<u32> =
        said.iter().filter(|(user, _)| *user == ann).map(|(_, own)| own.scheduled).collect();
    // A look that began before the time of the first and came to the store after it sent that one alone.
    let expected: &[u32] = if looked == 1 { &[1, 2, 1, 0] } else { &[1, 2, 0] };
    assert_eq!(of_ann, expected, "each change reaches the devices");
}

async fn a_message_is_changed_cancelled_and_sent_at_once(store: Store) {
    let (ann, bob, eve) = (new_user(), new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let [one, two] = ["one", "two"].map(|body| later(chat_id, ann, body));
    schedule(&store, &one).await;
    schedule(&store, &two).await;
    let mut changed = later(chat_id, ann, "uno");
    changed.key = one.key;
    changed.text.mentions = vec![bob];
    changed.text.reply_to = Some(7);
    changed.send_at += TimeDelta::hours(1);
    assert!(store.reschedule(&changed).await.expect("a change"));
    assert_eq!(
        store.scheduled(chat_id, ann).await.expect("a list"),
        Some(vec![two.clone(), changed.clone()])
    );
    // Others know nothing of it.
    for user in [bob, eve] {
        let theirs = Scheduled { user_id: user, ..changed.clone() };
        assert!(!store.reschedule(&theirs).await.expect("an answer"));
        assert!(!store.unschedule(chat_id, user, two.key).await.expect("an answer"));
        assert_eq!(store.send_now(chat_id, user, two.key).await.expect("an answer"), None);
    }
    assert_eq!(store.scheduled(chat_id, bob).await.expect("a list"), Some(vec![]));
    assert_eq!(store.scheduled(chat_id, eve).await.expect("a list"), None);
    assert_eq!(store.schedule(&later(chat_id, eve, "let me in")).await.expect("an answer"), None);

    let publication = store.send_now(chat_id, ann, one.key).await.expect("it is sent").expect("it waited");
    assert!(!store.is_published(publication).await.expect("a read"));
    assert_eq!(sent(&store).await, [(one.key, "uno".to_owned())]);
    assert_eq!(store.send_now(chat_id, ann, one.key).await.expect("an answer"), None, "once");
    assert!(store.unschedule(chat_id, ann, two.key).await.expect("it is cancelled"));
    assert!(!store.unschedule(chat_id, ann, two.key).await.expect("an answer"));
    assert_eq!(counts(&store, chat_id, ann).await, waiting(0, 0));
    assert_eq!(sent(&store).await.len(), 1);
}

async fn what_its_sender_may_not_write_at_its_time_stays_with_the_refusal(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let founding = Founding::Group {
        is_channel: true,
        title: crew(),
        history: HistoryAccess::All,
        visibility: Visibility::Private,
        others: [bob].into(),
    };
    let news = NewChat { chat_id: ChatId::generate(), founder: ann, founding, key: None, created_at: at(0) };
    let news = store.create(&news).await.expect("a channel").chat.chat_id;
    let pair = store.create(&direct(ann, bob)).await.expect("a chat").chat.chat_id;
    change(&store, news, ann, put(bob, Role::Admin)).await;
    let (in_news, in_pair) = (message(news, bob, "news", SOON), message(pair, bob, "hi", SOON));
    schedule(&store, &in_news).await;
    schedule(&store, &in_pair).await;
    change(&store, news, ann, put(bob, Role::Member)).await;
    store.block(ann, bob, at(1)).await.expect("a block");
    until_past(&in_pair).await;
    until_done(&store).await;
    for (chat_id, of) in [(news, &in_news), (pair, &in_pair)] {
        let refused_now = Scheduled { refused: Some(ErrorCode::PermissionDenied), ..of.clone() };
        assert_eq!(store.scheduled(chat_id, bob).await.expect("a list"), Some(vec![refused_now]));
        assert_eq!(counts(&store, chat_id, bob).await, waiting(0, 1));
        assert_eq!(refused(store.send_now(chat_id, bob, of.key).await), Refusal::MayNotWrite);
    }
    assert_eq!(sent(&store).await, []);
    assert_eq!(store.until_next().await.expect("a read"), None, "it is not tried again by itself");
    store.unblock(ann, bob, at(2)).await.expect("it is lifted");
    store.send_now(pair, bob, in_pair.key).await.expect("bob may again").expect("it waited");
    assert_eq!(sent(&store).await, [(in_pair.key, "hi".to_owned())]);
    // A new time is a new attempt.
    let again = Scheduled { send_at: in_news.send_at + TimeDelta::hours(1), ..in_news };
    assert!(store.reschedule(&again).await.expect("a change"));
    assert_eq!(counts(&store, news, bob).await, waiting(1, 0));
}

async fn what_a_removed_member_has_scheduled_is_never_sent(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let of = message(chat_id, bob, "bye", SOON);
    schedule(&store, &of).await;
    change(&store, chat_id, ann, Command::Remove { user_id: bob }).await;
    assert_eq!(store.scheduled(chat_id, bob).await.expect("a list"), None);
    let back = at(10) + READDING_PAUSE;
    store.change(chat_id, ann, put(bob, Role::Member), back).await.expect("bob is added again");
    until_past(&of).await;
    until_done(&store).await;
    assert_eq!(sent(&store).await, []);
    assert_eq!(store.scheduled(chat_id, bob).await.expect("a list"), Some(vec![]));
    assert_eq!(counts(&store, chat_id, bob).await, waiting(0, 0));
}

async fn a_user_schedules_so_many_messages_at_times_ahead(store: Store) {
    let ann = new_user();
    let chats = [(); 2].map(|()| group(ann, &[]));
    for chat in &chats {
        store.create(chat).await.expect("a chat");
    }
    let [first, second] = chats.map(|chat| chat.chat_id);
    let check = async |of: Scheduled, expected| assert_eq!(refused(store.schedule(&of).await), expected);
    check(message(first, ann, "late", TimeDelta::seconds(-60)), Refusal::TimeIsPast).await;
    let too_far = TimeDelta::seconds(MAX_AHEAD_SECONDS + 60);
    check(message(first, ann, "too far", too_far), Refusal::TooFarAhead).await;
    let kept = later(first, ann, "kept");
    schedule(&store, &kept).await;
    let other = Scheduled { key: kept.key, ..later(first, ann, "another") };
    check(other.clone(), Refusal::ScheduledKeyReused).await;
    // A key is of one chat.
    schedule(&store, &Scheduled { chat_id: second, ..other }).await;
    let past = Scheduled { send_at: kept.send_at - TimeDelta::hours(2), ..kept.clone() };
    assert_eq!(refused(store.reschedule(&past).await), Refusal::TimeIsPast);
    for _ in 2..MAX_SCHEDULED {
        schedule(&store, &later(first, ann, "and")).await;
    }
    check(later(second, ann, "one more"), Refusal::TooManyScheduled).await;
    assert!(store.unschedule(first, ann, kept.key).await.expect("it is cancelled"));
    schedule(&store, &later(second, ann, "there is room")).await;
    assert_eq!(counts(&store, second, ann).await, waiting(2, 0));
}

async fn in_slow_mode_scheduled_messages_wait_for_one_another(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let slow = |seconds| update(Update { slow_mode_seconds: Some(seconds), ..Update::default() });
    change(&store, chat_id, ann, slow(3600)).await;
    let mut messages = Vec::new();
    for (n, user) in [bob, ann, bob, ann, bob].into_iter().enumerate() {
        // Keys say nothing of the order: the times do.
        let ahead = SOON + TimeDelta::milliseconds(i64::try_from(n).expect("small"));
        let of = message(chat_id, user, &n.to_string(), ahead);
        schedule(&store, &of).await;
        messages.push(of);
    }
    until_past(&messages[4]).await;
    until_done(&store).await;
    let of_bob = [&messages[0], &messages[2], &messages[4]];
    let sent_bodies = async || sent(&store).await.into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    let mut first = sent_bodies().await;
    first.sort();
    assert_eq!(first, ["0", "1", "3"], "an owner does not wait");
    let rest = store.scheduled(chat_id, bob).await.expect("a list").expect("a member");
    let [second, third] = rest.as_slice() else { panic!("{rest:?}") };
    assert_eq!((second.key, third.key), (of_bob[1].key, of_bob[2].key));
    assert_eq!((second.send_at, third.send_at), (of_bob[1].send_at, of_bob[2].send_at));
    let tried = second.not_before.expect("it is put off");
    assert!(tried > second.send_at + TimeDelta::minutes(59) && third.not_before == Some(tried), "{rest:?}");
    for of in [&messages[2], &messages[4]] {
        let (kept, is_new) = store.schedule(of).await.expect("an answer").expect("a member");
        assert_eq!((kept.key, kept.send_at, is_new), (of.key, of.send_at, false), "it is the same request");
    }
    let refusal = refused(store.send_now(chat_id, bob, second.key).await);
    assert!(matches!(refusal, Refusal::SlowMode { wait } if wait > Duration::from_secs(3500)), "{refusal:?}");
    // What comes behind does not overtake them when the chat is not slow any more.
    change(&store, chat_id, ann, slow(0)).await;
    let last = message(chat_id, bob, "5", SOON);
    schedule(&store, &last).await;
    until_past(&last).await;
    until_done(&store).await;
    assert_eq!(sent_bodies().await[3..], ["2", "4", "5"]);
    assert_eq!(counts(&store, chat_id, bob).await, waiting(0, 0));
}

async fn slow_mode_holds_for_a_user_who_leaves_and_comes_back(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let open =
        Update { slow_mode_seconds: Some(3600), visibility: Some(Visibility::Public), ..Update::default() };
    change(&store, chat_id, ann, update(open)).await;
    let send = async |body: &str| {
        let of = later(chat_id, bob, body);
        schedule(&store, &of).await;
        store.send_now(chat_id, bob, of.key).await
    };
    send("the last for an hour").await.expect("it is sent").expect("it waited");
    change(&store, chat_id, bob, Command::Leave).await;
    store.join(chat_id, bob, at(20)).await.expect("the chat is public");
    let refusal = refused(send("back again").await);
    assert!(matches!(refusal, Refusal::SlowMode { wait } if wait > Duration::from_secs(3500)), "{refusal:?}");
    assert_eq!(sent(&store).await.len(), 1);
}

/// Returns the texts that one user has sent.
async fn sent_of(store: &Store, messages: &[Scheduled]) -> Vec<String> {
    let is_one = |key: &MessageKey| messages.iter().any(|of| of.key == *key);
    sent(store).await.into_iter().filter(|(key, _)| is_one(key)).map(|(_, body)| body).collect()
}

async fn what_a_user_schedules_for_one_moment_is_spread_out_in_its_order(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let other = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let mut of_ann = Vec::new();
    for n in 0..5 {
        let of = message(chat_id, ann, &n.to_string(), SOON + TimeDelta::milliseconds(n));
        schedule(&store, &of).await;
        of_ann.push(of);
    }
    let of_bob = message(chat_id, bob, "bob's", SOON);
    schedule(&store, &of_bob).await;
    let asked = later(other, ann, "at once");
    schedule(&store, &asked).await;
    until_past(&of_ann[4]).await;
    // While a chat is locked for one of them, a round leaves the other to the next one.
    let both_had_a_turn = || async {
        scheduled::round(&*store).await.expect("a round");
        let sent = sent_of(&store, &of_ann[..1]).await.len()
            + sent_of(&store, std::slice::from_ref(&of_bob)).await.len();
        (sent == 2).then_some(())
    };
    wait_for("that both had a turn", PATIENCE, both_had_a_turn).await;
    assert_eq!(sent_of(&store, &of_ann).await, ["0", "1", "2"], "what a user sends at once");
    assert_eq!(sent_of(&store, std::slice::from_ref(&of_bob)).await, ["bob's"], "no one else waits");
    let refusal = refused(store.send_now(other, ann, asked.key).await);
    assert!(
        matches!(refusal, Refusal::TooManySent { wait } if wait <= Duration::from_secs(2)),
        "in another chat too: {refusal:?}"
    );
    let waits = store.scheduled(chat_id, ann).await.expect("a list").expect("a member");
    assert_eq!(waits.iter().filter(|of| of.not_before.is_some() && of.refused.is_none()).count(), 2);
    assert_eq!(counts(&store, chat_id, ann).await, waiting(2, 0));
    let all_sent = || async {
        scheduled::round(&*store).await.expect("a round");
        (counts(&store, chat_id, ann).await == waiting(0, 0)).then_some(())
    };
    wait_for("that all are sent", PATIENCE, all_sent).await;
    assert_eq!(sent_of(&store, &of_ann).await, ["0", "1", "2", "3", "4"]);
}

async fn what_the_tenant_has_no_room_for_stays_due(store: Store) {
    let ann = new_user();
    let chat_id = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let mut messages = Vec::new();
    for n in 0..4 {
        let of = message(chat_id, ann, &n.to_string(), SOON + TimeDelta::milliseconds(n));
        schedule(&store, &of).await;
        messages.push(of);
    }
    until_past(&messages[3]).await;
    let sent_first = store.send_due(chat_id, ann).await.expect("a look");
    assert_eq!(sent_first.changed, 2, "half of four");
    let wait = sent_first.resumes_after.expect("there is no more room");
    assert!(wait <= Duration::from_secs(1), "half of two a second: {wait:?}");
    let waits = store.scheduled(chat_id, ann).await.expect("a list").expect("a member");
    assert_eq!(waits, messages[2..], "they are not put off behind those of others");
    let all_sent = || async {
        scheduled::round(&*store).await.expect("a round");
        (counts(&store, chat_id, ann).await == waiting(0, 0)).then_some(())
    };
    wait_for("that all are sent", PATIENCE, all_sent).await;
    assert_eq!(sent_of(&store, &messages).await, ["0", "1", "2", "3"]);
}

async fn a_request_is_answered_as_before_when_its_message_was_sent(store: Store) {
    let ann = new_user();
    let chat_id = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let (soon, now) = (message(chat_id, ann, "soon", SOON), later(chat_id, ann, "now"));
    for of in [&soon, &now] {
        schedule(&store, of).await;
    }
    store.send_now(chat_id, ann, now.key).await.expect("it is sent").expect("it waited");
    until_past(&soon).await;
    until_done(&store).await;
    for of in [&soon, &now] {
        let (kept, is_new) = store.schedule(of).await.expect("the same answer").expect("a member");
        assert_eq!((&kept, is_new), (of, false));
        let text = ScheduledText { silent: true, ..of.text.clone() };
        let other = Scheduled { text, send_at: of.send_at + TimeDelta::hours(2), ..of.clone() };
        assert_eq!(refused(store.schedule(&other).await), Refusal::ScheduledKeyReused);
    }
    assert_eq!(sent(&store).await.len(), 2, "each is sent once");
    assert_eq!(counts(&store, chat_id, ann).await, waiting(0, 0));
}

async fn roles_are_those_of_the_time_of_the_message(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let chat_id = store.create(&group(ann, &[bob, cid])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    let mut of = message(chat_id, ann, "all hands", SOON);
    of.text.mention_roles = vec![Role::Owner, Role::Admin];
    (of.text.mentions_here, of.text.silent) = (true, true);
    schedule(&store, &of).await;
    assert_eq!(store.scheduled(chat_id, ann).await.expect("a list"), Some(vec![of.clone()]));
    change(&store, chat_id, ann, put(bob, Role::Member)).await;
    change(&store, chat_id, ann, put(cid, Role::Admin)).await;
    until_past(&of).await;
    until_done(&store).await;
    let mut pending = store.pending(5000).await.expect("the outbox").into_iter();
    let last = pending.rfind(|record| record.topic == Topic::MessageSend).expect("an entry");
    let last: SendRecord = serde_json::from_str(&last.payload.expect("an entry")).expect("json");
    assert_eq!((last.key, last.mentions, last.called_by_role), (of.key, vec![cid], 1));
    assert_eq!(last.mention_roles, of.text.mention_roles);
    assert!(last.mentions_here && last.silent);
}

/// What cannot be written of one member's messages holds up no other member's, and is refused in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_cannot_be_sent_hold_up_no_others() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), Limits::default()));
    let [ann, bob] = [(); 2].map(|()| new_user());
    let broken = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let sound = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let run = async |sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.expect("it is done");
    };
    run(format!(
        "CREATE FUNCTION fail() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
         CREATE TRIGGER fail BEFORE INSERT ON outbox FOR EACH ROW
         WHEN (NEW.topic = 'message.send' AND NEW.record_key = '{broken}' AND NEW.payload LIKE '%poison%')
         EXECUTE FUNCTION fail();"
    ))
    .await;
    let first = message(broken, ann, "first", SOON);
    let poison = message(broken, ann, "poison", SOON + TimeDelta::milliseconds(1));
    let behind = message(broken, ann, "behind", SOON + TimeDelta::milliseconds(2));
    let of_bob = message(broken, bob, "bob's", SOON + TimeDelta::milliseconds(3));
    let other = message(sound, ann, "other", SOON + TimeDelta::milliseconds(4));
    for of in [&first, &poison, &behind, &of_bob, &other] {
        schedule(&store, of).await;
    }
    until_past(&other).await;
    // A failure of one is none of the round. While the chat is locked for one user, a round leaves the other to the next one.
    until_done(&store).await;
    let bodies = async || {
        let mut bodies: Vec<String> = sent(&store).await.into_iter().map(|(_, body)| body).collect();
        bodies.sort();
        bodies
    };
    assert_eq!(bodies().await, ["bob's", "other"]);
    let list = async || store.scheduled(broken, ann).await.expect("a list").expect("a member");
    let waits = list().await;
    assert_eq!(waits.iter().map(|of| of.attempts).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(waits.iter().all(|of| of.not_before > Some(of.send_at)), "{waits:?}");
    assert_eq!(store.due_senders(10).await.expect("a list"), [], "no process looks again and again");
    // The first one is tried alone, and goes. The one that fails is tried for a while.
    for attempts in 0..19 {
        let again = || async {
            run(format!("UPDATE scheduled SET not_before = NULL WHERE chat_id = '{broken}'")).await;
            scheduled::round(&*store).await.expect("a round");
            let waits = list().await;
            (waits.len() == 2 && waits[0].attempts > attempts).then_some(())
        };
        wait_for("one more attempt", PATIENCE, again).await;
    }
    assert_eq!(counts(&store, broken, ann).await, waiting(2, 0));
    run(format!("UPDATE scheduled SET not_before = NULL WHERE chat_id = '{broken}'")).await;
    let refused_in_the_end = || async {
        scheduled::round(&*store).await.expect("a round");
        (list().await.len() == 1).then_some(())
    };
    wait_for("the refusal", PATIENCE, refused_in_the_end).await;
    let [refused_one] = &list().await[..] else { panic!("one is left") };
    assert_eq!((refused_one.key, refused_one.refused), (poison.key, Some(ErrorCode::Internal)));
    assert_eq!(counts(&store, broken, ann).await, waiting(0, 1), "the devices of the user learn of it");
    assert_eq!(
        own_states(&store).await.last().map(|(user, own)| (*user, own.scheduled_refused)),
        Some((ann, 1))
    );
    assert_eq!(bodies().await, ["behind", "bob's", "first", "other"]);
    assert_eq!(store.until_next().await.expect("a read"), None);
}

/// What sends of the tenant wait for one another for is not waited for with a chat or a session: here another process stays in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_the_rates_of_the_tenant_holds_up_no_chat() {
    const SOON_ENOUGH: Duration = Duration::from_secs(1);
    let (database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool, Limits::default()));
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let quiet = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let busy = store.create(&group(ann, &[bob, cid])).await.expect("a chat").chat.chat_id;
    let due = message(quiet, ann, "due", SOON);
    schedule(&store, &due).await;
    let at_once = ["1", "2", "3", "4"].map(|body| later(busy, bob, body));
    for of in &at_once {
        schedule(&store, of).await;
    }
    until_past(&due).await;
    let options = SCHEMA.connect_options(&database.args());
    let mut other = PgConnection::connect_with(&options).await.expect("a session");
    let mut taken = other.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('scheduled', 0))")
        .execute(&mut *taken)
        .await
        .expect("the lock");

    let round = timeout(SOON_ENOUGH, scheduled::round(&*store)).await.expect("it waits for nobody");
    round.expect("a round without work");
    let mut requests = JoinSet::new();
    for of in &at_once {
        let (store, key) = (store.clone(), of.key);
        requests.spawn(async move { store.send_now(busy, bob, key).await });
    }
    // By then they have all sessions.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let read = timeout(SOON_ENOUGH, store.chat(quiet, ann)).await.expect("a session is free");
    assert!(read.expect("a read").is_some());
    let removal = store.change(busy, ann, Command::Remove { user_id: cid }, at(10));
    timeout(SOON_ENOUGH, removal).await.expect("the chat is free").expect("the removal");
    while let Some(request) = requests.join_next().await {
        let error = Error::from(request.expect("no panic").expect_err("another process sends"));
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error:?}");
    }
    let waits = store.scheduled(quiet, ann).await.expect("a list").expect("a member");
    assert_eq!(waits, std::slice::from_ref(&due), "no attempt is counted, and it is not put off");

    taken.rollback().await.expect("the other process goes on");
    until_done(&store).await;
    store.send_now(busy, bob, at_once[0].key).await.expect("it is sent").expect("it waited");
    assert_eq!(sent_of(&store, &[due, at_once[0].clone()]).await, ["due", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_is_too_busy_for_is_no_failure_of_a_message() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone(), Limits::default()));
    let ann = new_user();
    let chat_id = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let of = message(chat_id, ann, "late", SOON);
    schedule(&store, &of).await;
    until_past(&of).await;
    let run = async |sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.expect("it is done");
    };
    // A statement that took too long, and a lock that others have.
    for state in ["57014", "55P03"] {
        run(format!(
            "CREATE OR REPLACE FUNCTION fail() RETURNS TRIGGER LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '{state}'; END $$;
             CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION fail();
             UPDATE scheduled SET not_before = NULL;"
        ))
        .await;
        scheduled::round(&*store).await.expect("a round");
        let waits = store.scheduled(chat_id, ann).await.expect("a list").expect("a member");
        assert_eq!(waits.iter().map(|of| of.attempts).collect::<Vec<_>>(), [0], "{state}");
        assert!(waits[0].not_before > Some(of.send_at), "it makes room for others: {waits:?}");
    }
    run("DROP TRIGGER fail ON outbox; UPDATE scheduled SET not_before = NULL;".to_owned()).await;
    until_done(&store).await;
    assert_eq!(sent_of(&store, &[of]).await, ["late"]);
}
