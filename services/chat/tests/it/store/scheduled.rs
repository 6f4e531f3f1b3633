//! Messages that are sent at a time.

use std::time::Duration;

use chat::{
    domain::{
        Command, Founding, Limits, NewChat, OutboxRecord, READDING_PAUSE, Refusal, Scheduled,
        ScheduledCounts, ScheduledText, Update,
    },
    scheduled,
    store::{MemoryStore, PostgresStore},
};
use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    api::{HistoryAccess, MAX_AHEAD_SECONDS, MAX_SCHEDULED, Visibility},
    event::{Role, SendRecord},
};
use kit::{catalog::Topic, testing::wait_for};

use super::{Store, change, direct, group, own_states, put, refused, update};
use crate::{at, crew, database, new_user};

const PATIENCE: Duration = Duration::from_secs(20);
/// So soon that a test waits for it.
const SOON: TimeDelta = TimeDelta::milliseconds(200);

suite![
    memory, postgres, super::Limits::default();
    a_message_is_sent_once_at_its_time_and_never_before,
    a_message_is_changed_cancelled_and_sent_at_once,
    what_its_sender_may_not_write_at_its_time_stays_with_the_refusal,
    what_a_removed_member_has_scheduled_is_never_sent,
    a_user_schedules_so_many_messages_at_times_ahead,
    in_slow_mode_scheduled_messages_wait_for_one_another,
];

/// Returns a message for a time from now on, to the microsecond that every store keeps.
fn message(chat_id: ChatId, user_id: UserId, body: &str, ahead: TimeDelta) -> Scheduled {
    let text =
        ScheduledText { body: body.to_owned(), reply_to: None, mentions: Vec::new(), mentions_all: false };
    let send_at = DateTime::from_timestamp_millis((Utc::now() + ahead).timestamp_millis()).expect("a time");
    Scheduled { chat_id, user_id, key: MessageKey::generate(), text, send_at, refused: None }
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
        store.due_chats(10).await.expect("a list").is_empty().then_some(())
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
    wait_for("the time of both", PATIENCE, || async {
        let due = store.due_chats(10).await.expect("a list");
        let is_early = Utc::now() < messages[1].send_at;
        if is_early {
            assert_eq!(store.send_due(chat_id).await.expect("a look"), 0);
        }
        (!due.is_empty() && Utc::now() > messages[0].send_at + SOON).then_some(())
    })
    .await;
    let (one, other) = tokio::join!(store.send_due(chat_id), store.send_due(chat_id));
    assert_eq!(one.expect("a look") + other.expect("a look"), 2);
    let expected = [(messages[1].key, "first".to_owned()), (messages[0].key, "second".to_owned())];
    assert_eq!(sent(&store).await, expected);
    assert_eq!(store.due_chats(10).await.expect("a list"), []);
    assert_eq!(store.scheduled(chat_id, ann).await.expect("a list"), Some(vec![]));
    assert_eq!(counts(&store, chat_id, ann).await, waiting(0, 0));
    let said = own_states(&store).await;
    let of_ann: Vec<u32> =
        said.iter().filter(|(user, _)| *user == ann).map(|(_, own)| own.scheduled).collect();
    assert_eq!(of_ann, [1, 2, 0], "each change reaches the devices");
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
    let reached = || async { (Utc::now() > in_pair.send_at + SOON).then_some(()) };
    wait_for("their time", PATIENCE, reached).await;
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
    let reached = || async { (Utc::now() > of.send_at + SOON).then_some(()) };
    wait_for("its time", PATIENCE, reached).await;
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
    let slow = Update { slow_mode_seconds: Some(3600), ..Update::default() };
    change(&store, chat_id, ann, update(slow)).await;
    let mut messages = Vec::new();
    for user in [bob, ann, bob, ann] {
        let of = message(chat_id, user, "now", SOON);
        schedule(&store, &of).await;
        messages.push(of);
    }
    let reached = || async { (Utc::now() > messages[3].send_at + SOON).then_some(()) };
    wait_for("their time", PATIENCE, reached).await;
    until_done(&store).await;
    assert_eq!(sent(&store).await.len(), 3, "an owner does not wait");
    let rest = store.scheduled(chat_id, bob).await.expect("a list").expect("a member");
    let [rest] = rest.as_slice() else { panic!("{rest:?}") };
    assert!(rest.send_at > messages[3].send_at + TimeDelta::minutes(59), "{rest:?}");
    let refusal = refused(store.send_now(chat_id, bob, rest.key).await);
    assert!(matches!(refusal, Refusal::SlowMode { wait } if wait > Duration::from_secs(3500)), "{refusal:?}");
    change(&store, chat_id, ann, update(Update { slow_mode_seconds: Some(0), ..Update::default() })).await;
    store.send_now(chat_id, bob, rest.key).await.expect("it is sent").expect("it waited");
    assert_eq!(sent(&store).await.len(), 4);
}
