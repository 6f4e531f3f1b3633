//! One suite for every store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, SessionId, SubscriptionId, UserId,
    api::{CreateSubscriptionRequest, NotificationChannel, NotificationLevel},
};
use kit::{
    catalog::Topic,
    postgres::Schema,
    testing::{TestDatabase, receivers::Browser, wait_for},
};
use notification::{
    domain::{
        Batch, Busy, CODE_FOR, CODES_COUNT_FOR, CodeOutcome, Job, MAX_CODES, MAX_OF_HOST, MAX_OF_USER,
        MAX_SUBSCRIPTIONS, MAX_TRIES, NewCode, NewSubscription, News, Places, Quiet, Seat, Subscription,
        Taken, Target, Ticket, Unseen,
    },
    store::{Begun, MemoryStore, NotificationStore, Place, PostgresStore, Preferences, SCHEMA, StoreError},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use super::stand::PATIENCE;

pub type Store = Arc<dyn NotificationStore>;

kit::on_both_stores![
    a_subscription_is_kept_as_it_was_made,
    what_is_announced_is_told_once,
    who_took_it_is_told_nothing,
    who_takes_texts_in_time_is_told_nothing_in_a_busy_chat,
    the_chats_of_a_user_follow_records_and_lists,
    a_job_is_of_one_process_at_a_time,
    it_is_known_when_the_next_is_due,
    neither_a_user_nor_a_host_has_all_places,
    what_comes_while_a_job_is_sent_is_told_behind_it,
    a_ticket_stands_for_a_job_once,
    tickets_that_are_taken_back_stand_for_nothing,
    a_job_is_carried_one_way_at_a_time,
    neither_a_user_nor_a_host_has_all_places_of_a_queue,
    jobs_to_a_host_that_is_down_stay_in_their_rows_but_for_one,
    a_job_that_was_given_up_is_begun_again_by_who_puts_it_back,
    a_job_that_was_given_up_makes_room_for_another,
    a_digest_is_one_job_for_all_chats,
    a_device_is_one_users_and_a_number_that_of_who_confirmed_it,
    of_two_users_at_once_one_has_a_number_and_a_device,
    a_code_is_good_for_a_while_and_a_few_attempts,
    codes_are_counted_for_a_user_and_for_a_number,
    a_browser_is_kept_with_the_key_it_subscribed_with,
    a_device_ends_with_its_session_and_what_is_the_accounts_does_not,
    a_session_that_has_ended_subscribes_nothing,
    a_device_is_bound_to_the_session_that_subscribed_it_last,
    a_session_is_looked_for_once_a_day_by_one_process,
    a_session_that_is_over_at_a_look_has_no_device_and_gets_none,
    who_is_deleted_is_forgotten_and_comes_back_by_no_token,
    after_ends_that_may_be_lost_every_session_is_looked_for,
    preferences_are_kept,
    positions_are_kept_by_topic_and_partition,
    a_user_is_forgotten,
];

/// Returns a database with the tables of this service.
pub async fn database() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await;
    let args = database.args();
    SCHEMA.migrate(&args).await.expect("the tables are made");
    let pool = SCHEMA.pool(&args);
    (database, pool)
}

/// Stores keep microseconds.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).expect("a time")
}

fn hook(user_id: UserId, name: &str) -> NewSubscription {
    subscription(user_id, json!({"webhook": {"url": format!("https://hooks.example/{name}")}}))
}

fn mails(user_id: UserId) -> NewSubscription {
    subscription(user_id, json!({"email": {"address": "ben@corp.test"}}))
}

fn subscription(user_id: UserId, request: serde_json::Value) -> NewSubscription {
    of_session(user_id, "a-session", request)
}

fn of_session(user_id: UserId, of: &str, request: serde_json::Value) -> NewSubscription {
    let request: CreateSubscriptionRequest = serde_json::from_value(request).expect("a request");
    let target = Target::parse(&request, "a key", || "a secret".to_owned().into()).expect("a target");
    NewSubscription {
        id: SubscriptionId::generate(),
        user_id,
        session: session(of),
        target,
        created_at: now(),
    }
}

fn session(name: &str) -> SessionId {
    name.parse().expect("an id")
}

/// A browser that subscribes in a session.
pub fn browser(user_id: UserId, of: &str, endpoint: &str) -> NewSubscription {
    of_session(user_id, of, Browser::new().subscription(&format!("https://push.example/{endpoint}")))
}

fn ends(user: UserId, of: &str) -> Batch {
    let mut batch = Batch::default();
    batch.ended.insert((user, session(of)));
    batch
}

/// Returns the endpoints of a user.
async fn endpoints(store: &Store, user: UserId) -> Vec<String> {
    let own = store.subscriptions(user).await.expect("a list");
    own.iter().map(|one| one.target.endpoint().to_owned()).collect()
}

pub async fn subscribed(store: &Store, new: &NewSubscription) -> Subscription {
    store.subscribe(new).await.expect("it is made")
}

pub fn news(chat: ChatId, seq: i64, called: &[UserId]) -> Batch {
    let mut batch = Batch::default();
    let called: BTreeSet<UserId> = called.iter().copied().collect();
    batch.news.insert(chat, News { seq, called, calls_all: false });
    batch
}

fn seat(chat: ChatId, user: UserId, is_member: bool, version: Option<i64>) -> Batch {
    let mut batch = Batch::default();
    batch.seats.insert((chat, user), Seat { is_member, version });
    batch
}

pub async fn apply(store: &Store, batch: &Batch) {
    let place = Place { topic: Topic::MessageDelivered, partition: 0, next_offset: 1 };
    store.apply(place, batch, TimeDelta::zero(), now()).await.expect("it is noted");
}

/// Makes jobs of all that is due by now. Returns of how many pieces of news.
pub async fn spread(store: &Store) -> usize {
    spread_at(store, now() + TimeDelta::seconds(1)).await
}

async fn spread_at(store: &Store, at: DateTime<Utc>) -> usize {
    let mut all = 0;
    loop {
        match store.spread(at, 100).await.expect("jobs are made") {
            0 => break all,
            some => all += some,
        }
    }
}

async fn claim(store: &Store) -> Vec<Job> {
    claim_at(store, now() + TimeDelta::seconds(2)).await
}

async fn claim_at(store: &Store, at: DateTime<Utc>) -> Vec<Job> {
    let lease = at + TimeDelta::minutes(1);
    store.claim(NotificationChannel::Webhook, at, lease, 100, &Busy::default()).await.expect("jobs")
}

/// Returns a user with a webhook who is in a chat.
pub async fn member(store: &Store) -> (UserId, ChatId) {
    let (user, chat) = (UserId::generate(), ChatId::generate());
    subscribed(store, &hook(user, &user.to_string())).await;
    store.list(user, &[(chat, 1)], now()).await.expect("it is noted");
    (user, chat)
}

async fn a_subscription_is_kept_as_it_was_made(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let made = subscribed(&store, &hook(ann, "1")).await;
    let again = subscribed(&store, &hook(ann, "1")).await;
    assert_eq!(made.id, again.id);
    assert_ne!(subscribed(&store, &hook(ben, "1")).await.id, made.id, "a server may be of several users");
    let address = subscribed(&store, &mails(ann)).await;
    assert!(made.is_confirmed && !address.is_confirmed);
    assert!(store.confirm(address.id).await.expect("an answer"));
    assert!(!store.confirm(SubscriptionId::generate()).await.expect("an answer"));
    let own = store.subscriptions(ann).await.expect("a list");
    let shown: Vec<_> = own.iter().map(|one| (one.id, one.target.endpoint(), one.is_confirmed)).collect();
    let expected = [(made.id, "https://hooks.example/1", true), (address.id, "ben@corp.test", true)];
    assert_eq!(shown, expected);
    for n in 2..MAX_SUBSCRIPTIONS {
        subscribed(&store, &hook(ann, &n.to_string())).await;
    }
    let refused = store.subscribe(&hook(ann, "one-more")).await;
    assert!(matches!(refused, Err(StoreError::TooMany)), "{refused:?}");
    assert!(!store.unsubscribe(made.id, Some(ben)).await.expect("an answer"));
    assert!(store.unsubscribe(made.id, Some(ann)).await.expect("an answer"));
    assert!(store.unsubscribe(address.id, None).await.expect("an answer"));
}

async fn what_is_announced_is_told_once(store: Store) {
    let (user, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    apply(&store, &news(chat, 3, &[user])).await;
    assert_eq!(store.spread(now() - TimeDelta::minutes(1), 100).await.expect("an answer"), 0, "not yet");
    assert_eq!(spread(&store).await, 2);
    assert_eq!(spread(&store).await, 0);
    let [job] = claim(&store).await.try_into().expect("one job");
    assert_eq!((job.chat_id, job.seq, job.is_called, job.attempts), (Some(chat), 3, true, 1));
    assert_eq!(job.subscription.user_id, user);
    store.finish(&job, now(), None).await.expect("it is done");
    // The log is read again from an earlier place.
    apply(&store, &news(chat, 2, &[user])).await;
    apply(&store, &news(chat, 3, &[user])).await;
    assert_eq!(spread(&store).await, 2);
    assert!(claim(&store).await.is_empty(), "it is known");
    apply(&store, &news(chat, 4, &[])).await;
    spread(&store).await;
    let [job] = claim(&store).await.try_into().expect("one job");
    assert_eq!((job.seq, job.is_called), (4, false));
}

async fn who_took_it_is_told_nothing(store: Store) {
    let (user, chat) = member(&store).await;
    let mut batch = news(chat, 2, &[]);
    batch.taken.insert((chat, user), 2);
    batch.taken.insert((chat, UserId::generate()), 2);
    apply(&store, &batch).await;
    spread(&store).await;
    assert!(claim(&store).await.is_empty());
    // It never goes back.
    let mut batch = news(chat, 2, &[]);
    batch.taken.insert((chat, user), 1);
    apply(&store, &batch).await;
    spread(&store).await;
    assert!(claim(&store).await.is_empty());
    apply(&store, &news(chat, 3, &[])).await;
    spread(&store).await;
    assert_eq!(claim(&store).await.len(), 1);
}

async fn who_takes_texts_in_time_is_told_nothing_in_a_busy_chat(store: Store) {
    let ((online, chat), away) = (member(&store).await, UserId::generate());
    subscribed(&store, &hook(away, "away")).await;
    store.list(away, &[(chat, 1)], now()).await.expect("it is noted");
    let (start, delay) = (now(), TimeDelta::seconds(10));
    let after = |seconds: i64| start + TimeDelta::seconds(seconds);
    let place = Place { topic: Topic::MessageDelivered, partition: 0, next_offset: 1 };
    let note = async |batch: &Batch, at: DateTime<Utc>| {
        store.apply(place, batch, delay, at).await.expect("it is noted");
    };
    let take = async |seq: i64, at: DateTime<Utc>| {
        let mut batch = Batch::default();
        batch.taken.insert((chat, online), seq);
        note(&batch, at).await;
    };
    let told = async |at: DateTime<Utc>| {
        spread_at(&store, at).await;
        let jobs = claim_at(&store, at).await;
        for job in &jobs {
            store.finish(job, at, None).await.expect("it is done");
        }
        jobs.iter().map(|job| (job.subscription.user_id, job.seq)).collect::<Vec<_>>()
    };
    note(&news(chat, 1, &[]), after(0)).await;
    take(1, after(1)).await;
    // Read again, which makes nothing wait longer.
    note(&news(chat, 1, &[]), after(5)).await;
    note(&news(chat, 2, &[]), after(6)).await;
    note(&news(chat, 3, &[]), after(9)).await;
    assert_eq!(told(after(10)).await, [(away, 1)], "the others were just said");
    take(3, after(12)).await;
    // It waits with nothing but itself.
    note(&news(chat, 4, &[]), after(13)).await;
    assert!(told(after(18)).await.is_empty(), "each waits as long");
    assert_eq!(told(after(19)).await, [(away, 3)]);
    let mut all = told(after(23)).await;
    all.sort();
    let mut expected = [(online, 4), (away, 4)];
    expected.sort();
    assert_eq!(all, expected);
    assert!(told(after(60)).await.is_empty());
}

async fn the_chats_of_a_user_follow_records_and_lists(store: Store) {
    let (user, stranger) = (UserId::generate(), UserId::generate());
    let [listed, joined, left] = [ChatId::generate(), ChatId::generate(), ChatId::generate()];
    let long_ago = now() - TimeDelta::hours(1);
    subscribed(&store, &hook(user, "1")).await;
    assert_eq!(store.unlisted(long_ago, 10).await.expect("a list"), [user]);
    // The list was read before the record that comes after it.
    apply(&store, &seat(left, user, true, Some(4))).await;
    apply(&store, &seat(left, user, false, Some(5))).await;
    store.list(user, &[(listed, 1), (left, 4)], long_ago).await.expect("it is noted");
    assert!(store.unlisted(long_ago, 10).await.expect("a list").is_empty());
    apply(&store, &seat(joined, user, true, Some(2))).await;
    apply(&store, &seat(joined, stranger, true, Some(3))).await;
    // One that does not have what came since.
    store.list(user, &[(listed, 1)], now() - TimeDelta::minutes(1)).await.expect("it is noted");
    let told = async |store: &Store, seq: i64| {
        for chat in [listed, joined, left] {
            apply(store, &news(chat, seq, &[])).await;
        }
        spread(store).await;
        let jobs = claim(store).await;
        for job in &jobs {
            store.finish(job, now(), None).await.expect("it is done");
        }
        jobs.iter().filter_map(|job| job.chat_id).collect::<BTreeSet<_>>()
    };
    assert_eq!(told(&store, 1).await, BTreeSet::from([listed, joined]));
    apply(&store, &seat(joined, user, false, None)).await;
    assert_eq!(told(&store, 2).await, BTreeSet::from([listed]), "a tombstone alone");
    store.list(user, &[(joined, 2)], now() + TimeDelta::seconds(1)).await.expect("it is noted");
    assert_eq!(told(&store, 3).await, BTreeSet::from([joined]));
}

async fn a_job_is_of_one_process_at_a_time(store: Store) {
    let (_, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let [first] = claim(&store).await.try_into().expect("one job");
    assert!(claim(&store).await.is_empty());
    let later = now() + TimeDelta::minutes(2);
    let [second] = claim_at(&store, later).await.try_into().expect("the lease has ended");
    assert_eq!((first.attempts, second.attempts), (1, 2));
    // The first process comes back too late.
    store.finish(&first, now(), None).await.expect("nothing is done");
    store.put_off(&first, now(), true).await.expect("nothing is done");
    store.bury(&first, now(), "late").await.expect("nothing is done");
    assert!(claim_at(&store, later).await.is_empty());
    store.put_off(&second, later, false).await.expect("it waits");
    let [third] = claim_at(&store, later).await.try_into().expect("it is due");
    assert_eq!(third.attempts, 2, "that attempt was none");
    store.finish(&third, later, None).await.expect("it is done");
    assert!(claim_at(&store, later + TimeDelta::hours(1)).await.is_empty());
}

async fn it_is_known_when_the_next_is_due(store: Store) {
    let (_, chat) = member(&store).await;
    let (start, delay) = (now(), TimeDelta::seconds(10));
    let place = Place { topic: Topic::MessageDelivered, partition: 0, next_offset: 1 };
    let next = async || {
        let news = store.next_news().await.expect("an answer");
        (news, store.next_job(NotificationChannel::Webhook).await.expect("an answer"))
    };
    assert_eq!(next().await, (None, None));
    store.apply(place, &news(chat, 1, &[]), delay, start).await.expect("it is noted");
    store.apply(place, &news(chat, 2, &[]), delay, start + delay / 2).await.expect("it is noted");
    let (first, second) = (start + delay, start + delay + delay / 2);
    assert_eq!(next().await, (Some(first), None));
    assert_eq!(store.spread(first, 10).await.expect("jobs are made"), 1);
    assert_eq!(next().await, (Some(second), Some(first)));
    let [job] = claim_at(&store, first).await.try_into().expect("one job");
    assert_eq!(next().await, (Some(second), Some(first + TimeDelta::minutes(1))), "its lease");
    store.bury(&job, first, "status 400").await.expect("it is given up");
    assert_eq!(next().await, (Some(second), None));
    assert_eq!(store.next_job(NotificationChannel::Email).await.expect("an answer"), None);
}

async fn neither_a_user_nor_a_host_has_all_places(store: Store) {
    const PLACES: usize = 32;
    let claim = async |running: &[Subscription]| {
        let (at, busy) = (now() + TimeDelta::seconds(2), Busy::with(running.iter()));
        let (until, free) = (at + TimeDelta::minutes(1), PLACES - running.len());
        let jobs = store.claim(NotificationChannel::Webhook, at, until, free, &busy).await.expect("jobs");
        jobs.into_iter().map(|job| job.subscription).collect::<Vec<_>>()
    };
    let of = |jobs: &[Subscription], user: UserId| {
        jobs.iter().map(|one| i64::from(one.user_id == user)).sum::<i64>()
    };
    // One user is to be notified of many chats, at a server that does not answer, and another user at the same server of one.
    let greedy = UserId::generate();
    subscribed(&store, &hook(greedy, "slow")).await;
    let chats: Vec<_> = (0..40).map(|_| (ChatId::generate(), 1)).collect();
    store.list(greedy, &chats, now()).await.expect("it is noted");
    for (chat, _) in &chats {
        apply(&store, &news(*chat, 1, &[])).await;
    }
    spread(&store).await;
    let (modest, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let mut running = claim(&[]).await;
    let more = claim(&running).await;
    running.extend(more);
    assert_eq!((of(&running, greedy), of(&running, modest)), (MAX_OF_USER, 1));
    assert!(claim(&running).await.is_empty(), "there is no place for the others");
    // One that has ended leaves its place to the next.
    let ended = running.iter().position(|one| one.user_id == greedy).expect("one of them");
    running.remove(ended);
    assert_eq!(of(&claim(&running).await, greedy), 1);
    // Many users at one host.
    let mut running = Vec::new();
    for _ in 0..PLACES {
        let (_, chat) = member(&store).await;
        apply(&store, &news(chat, 1, &[])).await;
    }
    let elsewhere = UserId::generate();
    subscribed(&store, &subscription(elsewhere, json!({"webhook": {"url": "https://other.example/1"}})))
        .await;
    store.list(elsewhere, &[(chat, 1)], now()).await.expect("it is noted");
    apply(&store, &news(chat, 2, &[])).await;
    spread(&store).await;
    loop {
        let more = claim(&running).await;
        if more.is_empty() {
            break;
        }
        running.extend(more);
    }
    let at_host =
        running.iter().map(|one| i64::from(one.target.host() == Some("hooks.example"))).sum::<i64>();
    assert_eq!((at_host, of(&running, elsewhere)), (MAX_OF_HOST, 1));
}

async fn what_comes_while_a_job_is_sent_is_told_behind_it(store: Store) {
    let (_, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let [first] = claim(&store).await.try_into().expect("one job");
    apply(&store, &news(chat, 2, &[])).await;
    spread(&store).await;
    assert!(claim(&store).await.is_empty(), "one at a time");
    store.finish(&first, now(), None).await.expect("it is done");
    let [second] = claim(&store).await.try_into().expect("there is more");
    assert_eq!((second.seq, second.attempts), (2, 1));
    store.finish(&second, now(), None).await.expect("it is done");
    assert!(claim(&store).await.is_empty());
}

/// Hands over what is due then.
async fn hand_over(store: &Store, at: DateTime<Utc>, places: Places) -> Vec<Ticket> {
    let until = at + TimeDelta::minutes(5);
    store.hand_over(NotificationChannel::Webhook, at, until, places, &BTreeMap::new()).await.expect("tickets")
}

async fn begin(store: &Store, ticket: Ticket, is_revived: bool) -> Begun {
    let until = now() + TimeDelta::minutes(1);
    store
        .begin(NotificationChannel::Webhook, &[Taken { ticket, is_revived }], until)
        .await
        .expect("an answer")
}

async fn a_ticket_stands_for_a_job_once(store: Store) {
    let (user, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let (soon, places) = (now() + TimeDelta::seconds(2), Places::of(1));
    let [first] = hand_over(&store, soon, places).await.try_into().expect("one ticket");
    assert_eq!((first.chat_id, first.attempts), (Some(chat), 0));
    assert!(hand_over(&store, soon, places).await.is_empty(), "it is handed over");
    // What is said meanwhile comes with it.
    apply(&store, &news(chat, 2, &[user])).await;
    spread(&store).await;
    let stranger = Ticket { number: first.number + 1_000, ..first };
    assert!(begin(&store, stranger, false).await.jobs.is_empty());
    let [(number, job)] = begin(&store, first, false).await.jobs.try_into().expect("one job");
    assert_eq!((number, job.seq, job.is_called, job.attempts), (first.number, 2, true, 1));
    assert_eq!(job.subscription.user_id, user);
    let again = begin(&store, first, false).await;
    assert!(again.jobs.is_empty() && again.dead.is_empty(), "{again:?}");
    assert!(hand_over(&store, now(), places).await.is_empty());
    // The process that began it is gone: the lease ends, and another ticket stands for it.
    let later = now() + TimeDelta::minutes(2);
    let [second] = hand_over(&store, later, places).await.try_into().expect("one ticket");
    assert_ne!(second.number, first.number);
    assert!(begin(&store, first, false).await.jobs.is_empty());
    let [(_, job)] = begin(&store, second, false).await.jobs.try_into().expect("one job");
    assert_eq!(job.attempts, 2);
    store.finish(&job, now(), None).await.expect("it is done");
    assert!(begin(&store, second, false).await.jobs.is_empty());
    assert!(hand_over(&store, later + TimeDelta::hours(1), places).await.is_empty());
}

async fn tickets_that_are_taken_back_stand_for_nothing(store: Store) {
    for _ in 0..3 {
        let (_, chat) = member(&store).await;
        apply(&store, &news(chat, 1, &[])).await;
    }
    spread(&store).await;
    let (soon, places) = (now() + TimeDelta::seconds(2), Places::of(1));
    let [first, second, third] = hand_over(&store, soon, places).await.try_into().expect("three tickets");
    let [(_, job)] = begin(&store, third, false).await.jobs.try_into().expect("one job");
    let later = soon + TimeDelta::seconds(5);
    store.take_back(&[first, third], later).await.expect("it is noted");
    assert!(begin(&store, first, false).await.jobs.is_empty());
    assert!(hand_over(&store, soon, places).await.is_empty(), "it is due later");
    assert_eq!(hand_over(&store, later, places).await.len(), 1, "one is begun, and one is handed over");
    // The broker is gone.
    let taken_back = store.take_all_back(NotificationChannel::Webhook, soon).await.expect("an answer");
    assert_eq!(taken_back, 2);
    assert!(begin(&store, second, false).await.jobs.is_empty());
    assert_eq!(claim_at(&store, soon).await.len(), 2);
    assert_eq!(store.take_all_back(NotificationChannel::Email, soon).await.expect("an answer"), 0);
    store.finish(&job, now(), None).await.expect("it is done");
}

/// Processes with a queue and without run side by side while they are replaced.
async fn a_job_is_carried_one_way_at_a_time(store: Store) {
    let (_, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let (soon, places) = (now() + TimeDelta::seconds(2), Places::of(1));
    let [ticket] = hand_over(&store, soon, places).await.try_into().expect("one ticket");
    assert!(claim_at(&store, soon).await.is_empty(), "it is handed over");
    let later = soon + TimeDelta::minutes(6);
    let [job] = claim_at(&store, later).await.try_into().expect("nobody began it");
    assert!(begin(&store, ticket, false).await.jobs.is_empty(), "it is another process's");
    assert!(hand_over(&store, later, places).await.is_empty());
    store.put_off(&job, later, true).await.expect("it waits");
    let [ticket] = hand_over(&store, later, places).await.try_into().expect("one ticket");
    assert_eq!(ticket.attempts, 1);
    let [(_, job)] = begin(&store, ticket, false).await.jobs.try_into().expect("one job");
    store.put_off(&job, later, false).await.expect("it waits");
    let [job] = claim_at(&store, later).await.try_into().expect("it is due");
    assert_eq!(job.attempts, 2, "that attempt was none");
}

async fn neither_a_user_nor_a_host_has_all_places_of_a_queue(store: Store) {
    let places = Places { all: 8, of_user: 2, of_host: 4 };
    let greedy = UserId::generate();
    let own = subscribed(&store, &hook(greedy, "slow")).await;
    let chats: Vec<_> = (0..10).map(|_| (ChatId::generate(), 1)).collect();
    store.list(greedy, &chats, now()).await.expect("it is noted");
    for (chat, _) in &chats {
        apply(&store, &news(*chat, 1, &[])).await;
    }
    spread(&store).await;
    for _ in 0..6 {
        let (_, chat) = member(&store).await;
        apply(&store, &news(chat, 1, &[])).await;
    }
    let elsewhere = UserId::generate();
    for n in 0..6 {
        let url = format!("https://other{n}.example/1");
        subscribed(&store, &subscription(elsewhere, json!({"webhook": {"url": url}}))).await;
    }
    let chat = ChatId::generate();
    store.list(elsewhere, &[(chat, 1)], now()).await.expect("it is noted");
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let soon = now() + TimeDelta::seconds(2);
    let mut handed = Vec::new();
    loop {
        let more = hand_over(&store, soon, places).await;
        if more.is_empty() {
            break;
        }
        handed.extend(more);
    }
    let of_greedy = handed.iter().filter(|ticket| ticket.subscription_id == own.id).count();
    // Four at one host, two of them one user's, and two of another user elsewhere.
    assert_eq!((handed.len(), of_greedy), (6, 2));
    // One that is done leaves its place, and those that wait for the longest come first.
    let ticket = *handed.iter().find(|ticket| ticket.subscription_id == own.id).expect("one of them");
    let [(_, job)] = begin(&store, ticket, false).await.jobs.try_into().expect("one job");
    assert!(hand_over(&store, soon, places).await.is_empty(), "it is under way");
    store.finish(&job, now(), None).await.expect("it is done");
    let [next] = hand_over(&store, soon, places).await.try_into().expect("one ticket");
    assert_eq!(next.subscription_id, own.id);
    let one_place = Places { all: 7, ..Places::of(3) };
    assert_eq!(hand_over(&store, soon, one_place).await.len(), 1, "of all there are seven");
}

async fn jobs_to_a_host_that_is_down_stay_in_their_rows_but_for_one(store: Store) {
    let url = |path: &str| json!({"webhook": {"url": format!("https://{path}")}});
    for host in ["away.example/1", "away.example/2", "there.example/1"] {
        let (user, chat) = (UserId::generate(), ChatId::generate());
        subscribed(&store, &subscription(user, url(host))).await;
        store.list(user, &[(chat, 1)], now()).await.expect("it is noted");
        apply(&store, &news(chat, 1, &[])).await;
    }
    spread(&store).await;
    let soon = now() + TimeDelta::seconds(2);
    let hand_over = async |places: i64| {
        let (few, until) =
            (BTreeMap::from([("away.example".to_owned(), places)]), soon + TimeDelta::minutes(5));
        store
            .hand_over(NotificationChannel::Webhook, soon, until, Places::of(1), &few)
            .await
            .expect("tickets")
            .len()
    };
    assert_eq!(hand_over(0).await, 1, "that of the other host");
    assert_eq!(hand_over(0).await, 0);
    assert_eq!(hand_over(1).await, 1, "it is time to try");
    assert_eq!(hand_over(1).await, 0, "one tries");
    assert_eq!(hand_over(2).await, 1);
}

async fn a_job_that_was_given_up_is_begun_again_by_who_puts_it_back(store: Store) {
    let (_, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let (soon, places) = (now() + TimeDelta::seconds(2), Places::of(1));
    let [ticket] = hand_over(&store, soon, places).await.try_into().expect("one ticket");
    let [(_, job)] = begin(&store, ticket, false).await.jobs.try_into().expect("one job");
    assert!(begin(&store, ticket, true).await.jobs.is_empty(), "it is under way");
    store.bury(&job, now(), "status 400").await.expect("it is given up");
    let again = begin(&store, ticket, false).await;
    assert_eq!((again.jobs.len(), again.dead), (0, vec![ticket.number]), "the message alone revives nothing");
    assert!(hand_over(&store, soon + TimeDelta::hours(1), places).await.is_empty());
    // Put into the queue of another channel, it is a dead letter again.
    let taken = [Taken { ticket, is_revived: true }];
    let elsewhere = store.begin(NotificationChannel::Email, &taken, now()).await.expect("an answer");
    assert_eq!((elsewhere.jobs.len(), elsewhere.dead), (0, vec![ticket.number]));
    let [(_, job)] = begin(&store, ticket, true).await.jobs.try_into().expect("one job");
    assert_eq!(job.attempts, 1);
    store.bury(&job, now(), "status 400").await.expect("it is given up");
    // What comes later is another job.
    apply(&store, &news(chat, 2, &[])).await;
    spread(&store).await;
    let late = begin(&store, ticket, true).await;
    assert!(late.jobs.is_empty() && late.dead.is_empty(), "{late:?}");
    let [next] =
        hand_over(&store, now() + TimeDelta::seconds(2), places).await.try_into().expect("one ticket");
    assert_eq!(next.attempts, 0);
}

async fn a_job_that_was_given_up_makes_room_for_another(store: Store) {
    let (_, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let [job] = claim(&store).await.try_into().expect("one job");
    store.bury(&job, now(), "status 400").await.expect("it is given up");
    let count = async |store: &Store| {
        let counts = store.counts().await.expect("counts");
        counts.get(&NotificationChannel::Webhook).copied().unwrap_or_default()
    };
    assert_eq!(count(&store).await, (0, 1));
    assert!(claim_at(&store, now() + TimeDelta::days(1)).await.is_empty());
    apply(&store, &news(chat, 2, &[])).await;
    spread(&store).await;
    assert_eq!(count(&store).await, (1, 0));
    let [job] = claim(&store).await.try_into().expect("one job");
    assert_eq!(job.attempts, 1);
    store.bury(&job, now(), "status 400").await.expect("it is given up");
    assert_eq!(store.forget_dead(now() - TimeDelta::hours(1)).await.expect("an answer"), 0);
    assert_eq!(store.forget_dead(now() + TimeDelta::hours(1)).await.expect("an answer"), 1);
}

async fn a_digest_is_one_job_for_all_chats(store: Store) {
    let (user, chats) = (UserId::generate(), [ChatId::generate(), ChatId::generate()]);
    let address = subscribed(&store, &mails(user)).await;
    store.list(user, &chats.map(|chat| (chat, 1)), now()).await.expect("it is noted");
    apply(&store, &news(chats[0], 1, &[])).await;
    spread(&store).await;
    let claim = async |store: &Store, at: DateTime<Utc>| {
        let until = at + TimeDelta::minutes(1);
        store.claim(NotificationChannel::Email, at, until, 10, &Busy::default()).await.expect("jobs")
    };
    let day = now() + TimeDelta::days(1);
    assert!(claim(&store, day).await.is_empty(), "the address is not confirmed");
    store.confirm(address.id).await.expect("an answer");
    for chat in chats {
        apply(&store, &news(chat, 2, &[])).await;
    }
    spread(&store).await;
    assert!(claim(&store, now() + TimeDelta::minutes(29)).await.is_empty());
    let sent_at = now() + TimeDelta::minutes(31);
    let [job] = claim(&store, sent_at).await.try_into().expect("one job");
    assert_eq!(job.chat_id, None);
    let next_at = sent_at + TimeDelta::hours(4);
    store.finish(&job, sent_at, Some(next_at)).await.expect("it is done");
    apply(&store, &news(chats[0], 3, &[])).await;
    spread(&store).await;
    assert!(claim(&store, next_at - TimeDelta::minutes(1)).await.is_empty());
    assert_eq!(claim(&store, next_at).await.len(), 1);
}

fn number(user_id: UserId) -> NewSubscription {
    subscription(user_id, json!({"sms": {"number": "+4915112345678"}}))
}

fn code(of: &Subscription, number: &str, code: &str, sent_at: DateTime<Utc>) -> NewCode {
    let (number, code) = (number.as_bytes().to_vec(), code.as_bytes().to_vec());
    NewCode { subscription: of.id, user_id: of.user_id, number, code, sent_at }
}

async fn note(store: &Store, new: &NewCode) -> Option<TimeDelta> {
    store.note_code(new).await.expect("an answer")
}

async fn try_code(store: &Store, of: &Subscription, code: &str, at: DateTime<Utc>) -> CodeOutcome {
    store.try_code(of.id, of.user_id, code.as_bytes(), at).await.expect("an answer")
}

async fn a_device_is_one_users_and_a_number_that_of_who_confirmed_it(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let app = |user| subscription(user, json!({"fcm": {"token": "a".repeat(150)}}));
    let first = subscribed(&store, &app(ann)).await;
    assert!(first.is_confirmed);
    let other = subscribed(&store, &app(ben)).await;
    assert_ne!(first.id, other.id);
    assert!(store.subscriptions(ann).await.expect("a list").is_empty());
    let (of_ann, of_ben) = (subscribed(&store, &number(ann)).await, subscribed(&store, &number(ben)).await);
    assert!(!of_ann.is_confirmed && !of_ben.is_confirmed, "both may have entered it");
    for of in [&of_ann, &of_ben] {
        assert_eq!(note(&store, &code(of, "n", "c", now())).await, None);
    }
    assert_eq!(try_code(&store, &of_ann, "c", now()).await, CodeOutcome::Confirmed);
    assert!(subscribed(&store, &number(ann)).await.is_confirmed, "entered again");
    assert_eq!(
        store.subscriptions(ben).await.expect("a list").len(),
        2,
        "what is not confirmed takes nothing"
    );
    assert_eq!(try_code(&store, &of_ben, "c", now()).await, CodeOutcome::Confirmed);
    assert!(store.subscriptions(ann).await.expect("a list").is_empty());
}

async fn of_two_users_at_once_one_has_a_number_and_a_device(store: Store) {
    for round in 0..20 {
        let users = [UserId::generate(), UserId::generate()];
        let phone = format!("+49151000000{round:02}");
        let [first, second] = users.map(|user| subscription(user, json!({"sms": {"number": phone}})));
        let (first, second) = (subscribed(&store, &first).await, subscribed(&store, &second).await);
        for of in [&first, &second] {
            assert_eq!(note(&store, &code(of, &phone, "c", now())).await, None);
        }
        let tried = tokio::join!(try_code(&store, &first, "c", now()), try_code(&store, &second, "c", now()));
        assert_eq!(tried, (CodeOutcome::Confirmed, CodeOutcome::Confirmed));
        let token = format!("{round}:{}", "a".repeat(150));
        let [first, second] = users.map(|user| subscription(user, json!({"fcm": {"token": token}})));
        tokio::join!(subscribed(&store, &first), subscribed(&store, &second));
        let mut left = Vec::new();
        for user in users {
            left.extend(store.subscriptions(user).await.expect("a list"));
        }
        let count = |channel| left.iter().filter(|one| one.target.channel() == channel).count();
        let counts = (count(NotificationChannel::Sms), count(NotificationChannel::Fcm));
        assert_eq!(counts, (1, 1), "round {round}");
    }
}

async fn a_code_is_good_for_a_while_and_a_few_attempts(store: Store) {
    let (ann, sent_at) = (UserId::generate(), now());
    let one = subscribed(&store, &number(ann)).await;
    assert_eq!(try_code(&store, &one, "c", sent_at).await, CodeOutcome::NoCode, "none was sent");
    let hook = subscribed(&store, &hook(ann, "1")).await;
    assert_eq!(try_code(&store, &hook, "c", sent_at).await, CodeOutcome::NoCode);
    note(&store, &code(&one, "n", "first", sent_at)).await;
    note(&store, &code(&one, "n", "second", sent_at)).await;
    for attempt in 1..=MAX_TRIES {
        // The first one was replaced.
        let expected = CodeOutcome::Wrong { left: MAX_TRIES - attempt };
        assert_eq!(try_code(&store, &one, "first", sent_at).await, expected);
    }
    assert_eq!(try_code(&store, &one, "second", sent_at).await, CodeOutcome::NoCode);
    note(&store, &code(&one, "n", "third", sent_at)).await;
    assert_eq!(try_code(&store, &one, "third", sent_at + CODE_FOR).await, CodeOutcome::NoCode, "too late");
    assert_eq!(try_code(&store, &one, "third", sent_at).await, CodeOutcome::Confirmed);
    assert_eq!(try_code(&store, &one, "whatever", sent_at).await, CodeOutcome::Confirmed, "it is confirmed");
}

async fn codes_are_counted_for_a_user_and_for_a_number(store: Store) {
    let (ann, ben, sent_at) = (UserId::generate(), UserId::generate(), now());
    let (of_ann, of_ben) = (subscribed(&store, &number(ann)).await, subscribed(&store, &number(ben)).await);
    for n in 0..MAX_CODES {
        let at = sent_at + TimeDelta::minutes(n);
        assert_eq!(note(&store, &code(&of_ann, "n", "c", at)).await, None);
    }
    let later = sent_at + TimeDelta::hours(1);
    let wait = Some(CODES_COUNT_FOR - TimeDelta::hours(1));
    assert_eq!(note(&store, &code(&of_ann, "another", "c", later)).await, wait, "of the user");
    assert_eq!(note(&store, &code(&of_ben, "n", "c", later)).await, wait, "of the number");
    assert_eq!(note(&store, &code(&of_ben, "another", "c", later)).await, None);
    // What is gone counts.
    assert!(store.unsubscribe(of_ann.id, Some(ann)).await.expect("an answer"));
    assert!(store.erase(ann).await.expect("an answer"));
    assert_eq!(note(&store, &code(&of_ben, "n", "c", later)).await, wait);
    let next_day = sent_at + CODES_COUNT_FOR;
    assert_eq!(note(&store, &code(&of_ben, "n", "c", next_day)).await, None, "the first counts no more");
    assert_eq!(store.forget_codes(sent_at + TimeDelta::minutes(1)).await.expect("an answer"), 1);
}

async fn a_browser_is_kept_with_the_key_it_subscribed_with(store: Store) {
    let (user, browser) = (UserId::generate(), Browser::new());
    let mut new = subscription(user, browser.subscription("https://push.example/1"));
    let keys = async |store: &Store| {
        let own = store.subscriptions(user).await.expect("a list");
        own.iter().filter_map(|one| one.target.sender_key().map(str::to_owned)).collect::<Vec<_>>()
    };
    subscribed(&store, &new).await;
    assert_eq!(keys(&store).await, ["a key"]);
    // With another key of the tenant, under the same endpoint.
    let Target::WebPush { sender_key, .. } = &mut new.target else { panic!("a browser") };
    "another key".clone_into(sender_key);
    subscribed(&store, &new).await;
    assert_eq!(keys(&store).await, ["another key"]);
}

async fn a_device_ends_with_its_session_and_what_is_the_accounts_does_not(store: Store) {
    let (ann, ben, chat) = (UserId::generate(), UserId::generate(), ChatId::generate());
    subscribed(&store, &browser(ann, "phone", "1")).await;
    subscribed(&store, &browser(ann, "phone", "2")).await;
    subscribed(&store, &browser(ann, "desk", "3")).await;
    subscribed(&store, &of_session(ann, "phone", json!({"webhook": {"url": "https://hooks.example/1"}})))
        .await;
    // A realm gives no id twice, and no user ends sessions of another one.
    subscribed(&store, &browser(ben, "phone", "4")).await;
    store.list(ann, &[(chat, 1)], now()).await.expect("it is noted");
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    let jobs = async || {
        let (at, busy) = (now() + TimeDelta::seconds(2), Busy::default());
        let jobs = store.claim(NotificationChannel::WebPush, at, at + TimeDelta::minutes(1), 10, &busy).await;
        jobs.expect("jobs").len()
    };
    // Of accounts that were never notified of anything, too.
    let mut batch = ends(ann, "phone");
    batch.ended.insert((UserId::generate(), session("phone")));
    apply(&store, &batch).await;
    apply(&store, &batch).await;
    assert_eq!(endpoints(&store, ann).await, ["https://push.example/3", "https://hooks.example/1"]);
    assert_eq!(endpoints(&store, ben).await.len(), 1);
    assert_eq!(jobs().await, 1, "what was to be sent to the others went with them");
}

async fn a_session_that_has_ended_subscribes_nothing(store: Store) {
    let ann = UserId::generate();
    let read_at = now();
    // Nothing was known of the user.
    apply(&store, &ends(ann, "phone")).await;
    let late = [
        browser(ann, "phone", "1"),
        of_session(ann, "phone", json!({"webhook": {"url": "https://hooks.example/1"}})),
    ];
    for new in &late {
        let refused = store.subscribe(new).await;
        assert!(matches!(refused, Err(StoreError::SessionOver)), "{refused:?}");
    }
    assert!(endpoints(&store, ann).await.is_empty());
    subscribed(&store, &browser(ann, "desk", "1")).await;
    let refused = store.subscribe(&late[0]).await;
    assert!(matches!(refused, Err(StoreError::SessionOver)), "{refused:?}");
    assert_eq!(endpoints(&store, ann).await.len(), 1, "what another session has stays");
    subscribed(&store, &browser(UserId::generate(), "phone", "2")).await;
    // Once its tokens have expired, nothing has to be remembered.
    assert_eq!(store.forget_ends(read_at).await.expect("an answer"), 0);
    assert_eq!(store.forget_ends(now() + TimeDelta::seconds(1)).await.expect("an answer"), 1);
    subscribed(&store, &late[0]).await;
}

async fn a_device_is_bound_to_the_session_that_subscribed_it_last(store: Store) {
    let ann = UserId::generate();
    let first = subscribed(&store, &browser(ann, "before", "1")).await;
    let again = subscribed(&store, &browser(ann, "after", "1")).await;
    assert_eq!(first.id, again.id);
    apply(&store, &ends(ann, "before")).await;
    assert_eq!(endpoints(&store, ann).await.len(), 1, "its page was opened in another session since");
    apply(&store, &ends(ann, "after")).await;
    assert!(endpoints(&store, ann).await.is_empty());
    // The same browser signs in again.
    subscribed(&store, &browser(ann, "next", "1")).await;
}

async fn a_session_is_looked_for_once_a_day_by_one_process(store: Store) {
    let (ann, day, moment) = (UserId::generate(), TimeDelta::days(1), TimeDelta::minutes(5));
    let mut made = Vec::new();
    for name in ["phone", "desk"] {
        made.push(subscribed(&store, &browser(ann, name, name)).await);
    }
    subscribed(&store, &hook(ann, "1")).await;
    let taken = async |at: DateTime<Utc>, limit: usize| {
        let taken = store.take_unseen(at - day, at - day + moment, limit).await.expect("devices");
        taken.into_iter().map(|one| (one.session.clone().expect("a session"), one)).collect::<Vec<_>>()
    };
    let today = now() + TimeDelta::seconds(1);
    assert!(taken(today, 10).await.is_empty(), "each was just seen, and a server is of no session");
    let tomorrow = today + day;
    let [(first, phone)] = taken(tomorrow, 1).await.try_into().expect("one");
    assert_eq!((&first, phone.id, phone.user_id), (&session("phone"), made[0].id, ann), "the oldest");
    let [(second, desk)] = taken(tomorrow, 10).await.try_into().expect("the other one");
    assert_eq!((&second, desk.id), (&session("desk"), made[1].id));
    assert!(taken(tomorrow, 10).await.is_empty(), "another process has them");
    store.note_seen(&desk, tomorrow).await.expect("it is noted");
    let [(third, _)] = taken(tomorrow + moment * 2, 10).await.try_into().expect("nothing was noted of it");
    assert_eq!(third, session("phone"));
    // It is bound to another session meanwhile.
    subscribed(&store, &browser(ann, "tablet", "phone")).await;
    assert!(!store.end_unseen(&phone, now()).await.expect("an answer"));
    assert!(store.end_unseen(&desk, now()).await.expect("an answer"));
    assert!(!store.end_unseen(&desk, now()).await.expect("an answer"));
    let other = Unseen { session: None, ..phone };
    assert!(!store.end_unseen(&other, now()).await.expect("an answer"));
    assert_eq!(endpoints(&store, ann).await, ["https://push.example/phone", "https://hooks.example/1"]);
}

/// The realm says so at a look, and the log never does: an access token of it may be good for as long.
async fn a_session_that_is_over_at_a_look_has_no_device_and_gets_none(store: Store) {
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let first = subscribed(&store, &browser(ann, "phone", "1")).await;
    subscribed(&store, &browser(ann, "phone", "2")).await;
    subscribed(&store, &browser(ann, "desk", "3")).await;
    subscribed(&store, &browser(ben, "phone", "4")).await;
    let looked_at = now();
    let device = Unseen { id: first.id, user_id: ann, session: Some(session("phone")) };
    assert!(store.end_unseen(&device, looked_at).await.expect("an answer"));
    assert_eq!(endpoints(&store, ann).await, ["https://push.example/3"]);
    assert_eq!(endpoints(&store, ben).await.len(), 1);
    let late = browser(ann, "phone", "1");
    let refused = store.subscribe(&late).await;
    assert!(matches!(refused, Err(StoreError::SessionOver)), "{refused:?}");
    let after = looked_at + TimeDelta::seconds(1);
    assert_eq!(store.forget_ends(after).await.expect("an answer"), 1);
    subscribed(&store, &late).await;
}

/// A process that knows the user takes an access token until it expires, after the list of deletions is settled.
async fn who_is_deleted_is_forgotten_and_comes_back_by_no_token(store: Store) {
    let (ann, ben, read_at) = (UserId::generate(), UserId::generate(), now());
    let own = [browser(ann, "phone", "1"), hook(ann, "1"), mails(ann)];
    for new in &own {
        subscribed(&store, new).await;
    }
    subscribed(&store, &browser(ben, "phone", "2")).await;
    let batch = Batch { gone: BTreeSet::from([ann]), ..Batch::default() };
    apply(&store, &batch).await;
    apply(&store, &batch).await;
    assert!(!store.erase(ann).await.expect("an answer"), "nothing is left");
    assert_eq!(endpoints(&store, ben).await.len(), 1);
    for new in &own {
        let refused = store.subscribe(new).await;
        assert!(matches!(refused, Err(StoreError::SessionOver)), "{refused:?}");
    }
    let preferences = Preferences { level: NotificationLevel::None, ..Preferences::default() };
    store.set_preferences(ann, &preferences).await.expect("they are set for nobody");
    store.set_preferences(ben, &preferences).await.expect("they are set");
    assert!(!store.erase(ann).await.expect("an answer"), "nothing came back");
    let (of_ben, _) = store.preferences(ben, now()).await.expect("an answer");
    assert_eq!(of_ben, preferences);
    assert_eq!(store.forget_ends(read_at).await.expect("an answer"), 0);
    assert_eq!(store.forget_ends(now() + TimeDelta::seconds(1)).await.expect("an answer"), 1);
}

async fn after_ends_that_may_be_lost_every_session_is_looked_for(store: Store) {
    let (ann, day) = (UserId::generate(), TimeDelta::days(1));
    subscribed(&store, &browser(ann, "phone", "1")).await;
    subscribed(&store, &hook(ann, "1")).await;
    store.positions(Topic::SessionEvents, &[0, 1]).await.expect("positions");
    let (start, kept) = (now(), TimeDelta::hours(1));
    let read = async |partition: i32, at: DateTime<Utc>| {
        store.ends_read(partition, at, at - kept).await.expect("it is noted")
    };
    let unseen = async || {
        let since = now() - day;
        store.take_unseen(since, since + TimeDelta::minutes(5), 10).await.expect("devices").len()
    };
    assert_eq!(read(0, start).await, 0, "nothing was read before");
    assert_eq!(read(0, start + kept).await, 0, "nothing of it can be lost");
    assert_eq!(read(1, start + kept * 3).await, 0, "another partition");
    assert_eq!(unseen().await, 0);
    assert_eq!(read(0, start + kept * 3).await, 1);
    assert_eq!(read(0, start + kept * 3).await, 0, "once");
    assert_eq!(unseen().await, 1);
}

async fn preferences_are_kept(store: Store) {
    let (user, noon) = (UserId::generate(), "2026-01-15T12:00:00Z".parse().expect("a time"));
    let standard = store.preferences(user, noon).await.expect("an answer");
    assert_eq!(standard, (Preferences::default(), None));
    let quiet = Quiet { from: 22 * 60, to: 7 * 60, time_zone: "UTC".to_owned() };
    let chosen = Preferences { level: NotificationLevel::Mentions, shows_text: false, quiet: Some(quiet) };
    store.set_preferences(user, &chosen).await.expect("they are set");
    assert_eq!(store.preferences(user, noon).await.expect("an answer"), (chosen, Some(12 * 60)));
    assert!(store.knows_time_zone("UTC").await.expect("an answer"));
    assert!(!store.knows_time_zone("Nowhere/At_All").await.expect("an answer"));
}

async fn positions_are_kept_by_topic_and_partition(store: Store) {
    let starts = async |topic: Topic| {
        let found = store.positions(topic, &[0, 1]).await.expect("positions");
        (found[&0], found[&1])
    };
    assert_eq!(starts(Topic::MessageDelivered).await, (None, None));
    let place = Place { topic: Topic::MessageDelivered, partition: 1, next_offset: 7 };
    store.apply(place, &Batch::default(), TimeDelta::zero(), now()).await.expect("it is noted");
    assert_eq!(starts(Topic::MessageDelivered).await, (None, Some(7)));
    assert_eq!(starts(Topic::ChatEvents).await, (None, None));
    assert_eq!(store.deletions_position().get().await.expect("an answer"), None);
    store.deletions_position().set("a").await.expect("it is noted");
    store.deletions_position().set("b").await.expect("it is noted");
    assert_eq!(store.deletions_position().get().await.expect("an answer").as_deref(), Some("b"));
}

async fn a_user_is_forgotten(store: Store) {
    let (user, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    spread(&store).await;
    assert!(store.erase(user).await.expect("an answer"));
    assert!(!store.erase(user).await.expect("an answer"));
    assert!(claim(&store).await.is_empty());
    assert!(store.subscriptions(user).await.expect("a list").is_empty());
}

/// A statement that takes too long is rolled back, and would take as long the next time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_room_is_told_in_slices_and_no_other_chat_waits_for_it() {
    const MEMBERS: i64 = 1_000;
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let room = ChatId::generate();
    for statement in [
        "INSERT INTO users (user_id) SELECT gen_random_uuid() FROM generate_series(1, $2)",
        "INSERT INTO seats (chat_id, user_id, is_member, version, changed_at)
         SELECT $1, user_id, TRUE, 1, now() FROM users ORDER BY user_id LIMIT $2",
        "INSERT INTO subscriptions (subscription_id, user_id, channel, endpoint, secret, is_confirmed, created_at)
         SELECT gen_random_uuid(), user_id, 'webhook', 'https://hooks.example/room', 'a secret', TRUE, now()
         FROM seats WHERE chat_id = $1 LIMIT $2",
    ] {
        // Each has both, so that both have a type.
        let statement = format!("WITH given AS (SELECT $1::UUID, $2::BIGINT) {statement}");
        let made = sqlx::query(AssertSqlSafe(statement)).bind(room.0).bind(MEMBERS).execute(&pool).await;
        assert_eq!(made.expect("rows").rows_affected(), MEMBERS as u64);
    }
    let (_, small) = member(&store).await;
    apply(&store, &news(room, 1, &[])).await;
    apply(&store, &news(small, 1, &[])).await;
    let (at, mut told, mut rounds, mut small_at) = (now() + TimeDelta::seconds(1), 0, 0, None);
    while store.spread(at, 1).await.expect("jobs are made") > 0 {
        rounds += 1;
        let counts = store.counts().await.expect("counts");
        let (waiting, _) = counts.get(&NotificationChannel::Webhook).copied().unwrap_or_default();
        assert!(waiting - told <= MEMBERS / 4, "{} in one round", waiting - told);
        if waiting - told == 1 {
            small_at = Some(rounds);
        }
        told = waiting;
    }
    assert_eq!(told, MEMBERS + 1, "each once, and nobody left out");
    assert_eq!(small_at, Some(2), "of {rounds} rounds");
}

/// Returns how many sessions of the database wait for a lock.
async fn waiting(pool: &PgPool) -> i64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sqlx::query_scalar(waiting).fetch_one(pool).await.expect("a count")
}

/// A device that is subscribed at the moment at which its session ends is removed by the end, or is refused because of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_device_comes_between_the_end_of_its_session_and_its_note() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let ann = UserId::generate();
    // As long as the user's row is locked, a device waits behind its look for the end.
    subscribed(&store, &hook(ann, "1")).await;
    let mut holding = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM users WHERE user_id = $1 FOR UPDATE")
        .bind(ann.0)
        .execute(&mut *holding)
        .await
        .expect("the user");
    let waits = async |sessions: i64| {
        let wait = || async { (waiting(&pool).await == sessions).then_some(()) };
        wait_for("sessions that wait", PATIENCE, wait).await;
    };
    let subscribing = {
        let store = store.clone();
        tokio::spawn(async move { store.subscribe(&browser(ann, "phone", "1")).await })
    };
    waits(1).await;
    let ending = {
        let store = store.clone();
        tokio::spawn(async move { apply(&store, &ends(ann, "phone")).await })
    };
    waits(2).await;
    holding.commit().await.expect("it ends");
    subscribing.await.expect("no panic").expect("it was there first");
    ending.await.expect("it is noted");
    assert_eq!(endpoints(&store, ann).await, ["https://hooks.example/1"]);
}

/// A table of a tenant may have more rows than one statement of a request may take time for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_has_the_time_that_a_table_takes() {
    const NOTED: Schema = Schema {
        name: "limits_service",
        migrations: &[(
            "0001_note_limits",
            "CREATE TABLE limits AS SELECT current_setting('statement_timeout') AS of_statements, current_setting('lock_timeout') AS of_locks",
        )],
    };
    let database = TestDatabase::create().await;
    let args = database.args();
    NOTED.migrate(&args).await.expect("the limits are noted");
    let pool = NOTED.pool(&args);
    let limits: (String, String) =
        sqlx::query_as("SELECT of_statements, of_locks FROM limits").fetch_one(&pool).await.expect("limits");
    assert_eq!(limits, ("10min".to_owned(), "5s".to_owned()));
    let of_requests: String =
        sqlx::query_scalar("SHOW statement_timeout").fetch_one(&pool).await.expect("a limit");
    assert_eq!(of_requests, "5s");
}

/// A tenant may have more devices than one statement changes in its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_devices_are_doubted_some_at_a_time_and_it_is_noted_behind_the_last() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let ann = UserId::generate();
    store.set_preferences(ann, &Preferences::default()).await.expect("they are set");
    sqlx::query(
        "INSERT INTO subscriptions (subscription_id, user_id, channel, endpoint, is_confirmed, created_at, session, session_seen_at)
         SELECT lpad(to_hex(n), 32, '0')::UUID, $1, 'web_push', n::TEXT, TRUE, now(), 'phone', now() - INTERVAL '1 hour'
         FROM generate_series(1, 6000) AS n",
    )
    .bind(ann.0)
    .execute(&pool)
    .await
    .expect("the devices");
    store.positions(Topic::SessionEvents, &[0]).await.expect("positions");
    let (at, kept) = (now(), TimeDelta::hours(1));
    let read = async |store: &Store, at: DateTime<Utc>| store.ends_read(0, at, at - kept).await;
    assert_eq!(read(&store, at - kept * 2).await.expect("it is noted"), 0, "nothing was read before");
    let mut holding = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM subscriptions WHERE endpoint = '6000' FOR UPDATE")
        .execute(&mut *holding)
        .await
        .expect("the last device");
    let doubting = {
        let store = store.clone();
        tokio::spawn(async move { store.ends_read(0, at, at - kept).await })
    };
    let waits = || async { (waiting(&pool).await == 1).then_some(()) };
    wait_for("a session that waits for the last device", PATIENCE, waits).await;
    let doubted = "SELECT count(*) FROM subscriptions WHERE session_seen_at = '-infinity'";
    let doubted: i64 = sqlx::query_scalar(doubted).fetch_one(&pool).await.expect("a count");
    assert!((1..6_000).contains(&doubted), "{doubted}");
    holding.commit().await.expect("it ends");
    assert_eq!(doubting.await.expect("no panic").expect("it is noted"), 6_000);
    assert_eq!(read(&store, at).await.expect("it is noted"), 0, "once");
}

/// What a user had may be much, and something else may have it for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_who_is_deleted_is_forgotten_others_subscribe_and_nothing_of_them_comes_back() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let (ann, ben) = (UserId::generate(), UserId::generate());
    let preferences = Preferences { level: NotificationLevel::None, ..Preferences::default() };
    store.set_preferences(ann, &preferences).await.expect("they are set");
    let mut holding = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM users WHERE user_id = $1 FOR UPDATE")
        .bind(ann.0)
        .execute(&mut *holding)
        .await
        .expect("the user");
    let forgetting = {
        let store = store.clone();
        let batch = Batch { gone: BTreeSet::from([ann]), ..Batch::default() };
        tokio::spawn(async move { apply(&store, &batch).await })
    };
    let waits = || async { (waiting(&pool).await == 1).then_some(()) };
    wait_for("a session that waits for what the user had", PATIENCE, waits).await;
    let setting = {
        let store = store.clone();
        tokio::spawn(async move { store.set_preferences(ann, &preferences).await })
    };
    let settles = || async { (setting.is_finished() || waiting(&pool).await == 2).then_some(()) };
    wait_for("preferences that are set, or wait", PATIENCE, settles).await;
    subscribed(&store, &browser(ben, "phone", "1")).await;
    holding.commit().await.expect("it ends");
    forgetting.await.expect("it is noted");
    setting.await.expect("no panic").expect("they are set for nobody");
    assert!(!store.erase(ann).await.expect("an answer"), "nothing came back");
}

/// Devices of a release without this knowledge are bound when their pages open, or go after a month.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_of_before_has_a_month_to_be_bound() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let ann = UserId::generate();
    for name in ["1", "2"] {
        subscribed(&store, &browser(ann, "phone", name)).await;
    }
    // As the migration leaves them.
    sqlx::query("UPDATE subscriptions SET session = NULL, session_seen_at = now() + INTERVAL '29 days'")
        .execute(&pool)
        .await
        .expect("rows");
    let unseen = async |days: i64| {
        let since = now() + TimeDelta::days(days - 1);
        store.take_unseen(since, since + TimeDelta::minutes(5), 10).await.expect("devices")
    };
    assert!(unseen(29).await.is_empty());
    subscribed(&store, &browser(ann, "phone", "2")).await;
    let old = unseen(31).await;
    let unbound: Vec<_> = old.iter().filter(|one| one.session.is_none()).collect();
    let [device] = unbound.try_into().expect("one");
    assert!(store.end_unseen(device, now()).await.expect("an answer"));
    assert_eq!(endpoints(&store, ann).await, ["https://push.example/2"]);
}

/// The log is read while news are spread: what both lock they lock in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_news_has_no_seat_that_spreading_wants() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let (user, chat) = member(&store).await;
    apply(&store, &news(chat, 1, &[])).await;
    // As spreading begins.
    let mut spreading = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM news WHERE chat_id = $1 FOR UPDATE")
        .bind(chat.0)
        .execute(&mut *spreading)
        .await
        .expect("the news");
    let mut batch = news(chat, 2, &[]);
    batch.taken.insert((chat, user), 1);
    let noting = {
        let store = store.clone();
        tokio::spawn(async move { apply(&store, &batch).await })
    };
    let waits = || async { (waiting(&pool).await > 0).then_some(()) };
    wait_for("a session that waits for the news", PATIENCE, waits).await;
    sqlx::query("SELECT FROM seats WHERE chat_id = $1 FOR UPDATE NOWAIT")
        .bind(chat.0)
        .execute(&mut *spreading)
        .await
        .expect("no other session has the seats");
    spreading.commit().await.expect("it ends");
    noting.await.expect("it is noted");
}

/// The database knows what no image has to bring along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_knows_the_time_zones() {
    let (_database, pool) = database().await;
    let store = PostgresStore::new(pool);
    let user = UserId::generate();
    for (zone, at, minute) in [
        ("Europe/Moscow", "2026-01-15T12:00:00Z", 15 * 60),
        ("America/New_York", "2026-01-15T02:30:00Z", 21 * 60 + 30),
        ("America/New_York", "2026-07-15T02:30:00Z", 22 * 60 + 30),
        ("Asia/Kolkata", "2026-01-15T20:00:00Z", 90),
    ] {
        assert!(store.knows_time_zone(zone).await.expect("an answer"), "{zone}");
        let quiet = Some(Quiet { from: 0, to: 1, time_zone: zone.to_owned() });
        let preferences = Preferences { quiet, ..Preferences::default() };
        store.set_preferences(user, &preferences).await.expect("they are set");
        let (_, found) = store.preferences(user, at.parse().expect("a time")).await.expect("an answer");
        assert_eq!(found, Some(minute), "{zone}");
    }
}
