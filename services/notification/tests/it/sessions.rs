//! Browsers and apps, and the sessions that subscribed them.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use contracts::{ChatId, SessionId, UserId, api::NotificationChannel, event::Ended};
use kit::{
    catalog,
    testing::{
        TestUser,
        receivers::{Browser, Receiver},
        wait_for,
    },
};
use notification::{
    domain::{NewSubscription, SEEN_FOR},
    error::Error,
    making::Maker,
    metrics::Metrics,
    store::{NotificationStore as _, PostgresStore, Preferences},
};
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{
    stand::{PATIENCE, Stand},
    store::{Store, browser, database, subscribed},
};

const SUBSCRIPTIONS: &str = "/api/notifications/subscriptions";

fn session(name: &str) -> SessionId {
    name.parse().expect("an id")
}

/// Signs a user in on a device.
fn sign_in(stand: &Stand, user: UserId, session: &str) -> TestUser {
    TestUser { id: user, token: stand.realm.token_with(user, "ben", json!({ "sid": session })) }
}

/// Waits until a user has so many subscriptions.
async fn has(stand: &Stand, user: UserId, count: usize) {
    wait_for("the subscriptions of a user", PATIENCE, || async {
        let found = stand.store.subscriptions(user).await.expect("a list");
        (found.len() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_end_with_their_session_and_come_again_with_the_next() {
    let stand = Stand::start().await;
    let (ann, ben) = (stand.realm.user("ann"), UserId::generate());
    let (phone, desk) = (sign_in(&stand, ben, "phone"), sign_in(&stand, ben, "desk"));
    let (browser, pushes) = (Browser::new(), Receiver::start().await);
    let (other, others) = (Browser::new(), Receiver::start().await);
    let subscription = browser.subscription(&pushes.url);
    stand.api.post(&phone, SUBSCRIPTIONS, subscription.clone()).await.ok(200);
    stand.api.post(&desk, SUBSCRIPTIONS, other.subscription(&others.url)).await.ok(200);
    stand.listed(ben).await;
    let chat = stand.found(&[ann.id, ben]);
    stand.say(chat, 1, ann.id, "to both", &[]);
    pushes.wait_taken(1).await;
    others.wait_taken(1).await;

    // By its user on another device, or by a moderator: the log has the same.
    stand.end(ben, Ended::Session(session("phone")));
    has(&stand, ben, 1).await;
    stand.say(chat, 2, ann.id, "to the desk", &[]);
    others.wait_taken(2).await;
    let refused = stand.api.post(&phone, SUBSCRIPTIONS, subscription.clone()).await;
    assert_eq!(refused.code(), "unauthenticated", "its access token is good for some minutes");
    // The jobs of a text are made together.
    wait_for("all to be sent", PATIENCE, || async {
        (stand.waiting(NotificationChannel::WebPush).await == (0, 0)).then_some(())
    })
    .await;
    assert_eq!((pushes.all().len(), others.all().len()), (1, 2));

    // The same browser signs in again. An end that is read again changes nothing.
    let next = sign_in(&stand, ben, "next");
    stand.api.post(&next, SUBSCRIPTIONS, subscription).await.ok(200);
    stand.end(ben, Ended::Session(session("phone")));
    stand.listed(ben).await;
    stand.say(chat, 3, ann.id, "to both again", &[]);
    let taken = pushes.wait_taken(2).await;
    assert_eq!(browser.open(&taken[1])["seq"], 3);
    others.wait_taken(3).await;
}

/// Lets the device of a user be one that was bound so long ago that its session is looked for.
async fn unseen(stand: &Stand, user: UserId, session: &SessionId) {
    let [known] = stand.store.subscriptions(user).await.expect("a list").try_into().expect("one");
    let created_at = Utc::now() - SEEN_FOR - TimeDelta::minutes(1);
    let (id, session) = (known.id, session.clone());
    let new = NewSubscription { id, user_id: user, session, target: known.target, created_at };
    stand.store.subscribe(&new).await.expect("it is bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_session_ran_out_is_forgotten_at_the_next_look() {
    let stand = Stand::by_hand().await;
    let mut users = Vec::new();
    for name in ["phone", "desk"] {
        let (user, of) = (UserId::generate(), session(name));
        let body = Browser::new().subscription(&format!("https://push.example/{name}"));
        stand.api.post(&sign_in(&stand, user, name), SUBSCRIPTIONS, body).await.ok(200);
        stand.peers.begin_session(user, &of);
        users.push((user, of));
    }
    let [(ben, phone), (eve, desk)] = &users[..] else { panic!("two") };
    assert_eq!(stand.maker.look_at_some().await.expect("a look"), 0, "both have just shown a token");
    unseen(&stand, *ben, phone).await;
    unseen(&stand, *eve, desk).await;
    assert_eq!(stand.maker.look_at_some().await.expect("a look"), 2);
    has(&stand, *ben, 1).await;
    has(&stand, *eve, 1).await;
    assert_eq!(stand.peers.sessions_read(), 2);
    assert_eq!(stand.maker.look_at_some().await.expect("a look"), 0, "they were seen just now");

    unseen(&stand, *ben, phone).await;
    unseen(&stand, *eve, desk).await;
    stand.peers.set_down(true);
    stand.maker.look_at_some().await.expect_err("the auth service does not answer");
    stand.peers.set_down(false);
    stand.peers.end_session(phone);
    has(&stand, *ben, 1).await;
    // As when the lease has ended.
    unseen(&stand, *ben, phone).await;
    unseen(&stand, *eve, desk).await;
    assert_eq!(stand.maker.look_at_some().await.expect("a look"), 2);
    has(&stand, *ben, 0).await;
    has(&stand, *eve, 1).await;
}

/// Signs users in, each on one device, whose session is to be looked for. They come in the order in which they are asked for.
async fn away<const N: usize>(stand: &Stand, names: [&str; N]) -> [(UserId, SessionId); N] {
    let mut users = names.map(|_| UserId::generate());
    users.sort();
    let users: Vec<_> = users.into_iter().zip(names.map(session)).collect();
    for (user, of) in &users {
        let body = Browser::new().subscription(&format!("https://push.example/{of}"));
        stand.api.post(&sign_in(stand, *user, of.as_str()), SUBSCRIPTIONS, body).await.ok(200);
        unseen(stand, *user, of).await;
    }
    users.try_into().expect("as many as names")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_whom_nothing_can_be_learned_keeps_no_other_waiting() {
    let stand = Stand::by_hand().await;
    let [(ann, _), (ben, desk), (eve, _)] = away(&stand, ["phone", "desk", "tablet"]).await;
    stand.peers.begin_session(ben, &desk);
    stand.peers.refuse_sessions(ann);
    stand.maker.look_at_some().await.expect_err("one of them could not be looked at");
    assert_eq!(stand.peers.sessions_read(), 3);
    has(&stand, ann, 1).await;
    has(&stand, ben, 1).await;
    has(&stand, eve, 0).await;
    assert_eq!(stand.maker.look_at_some().await.expect("a look"), 0, "it is tried again a while later");
}

/// Such as that of an auth service of another release, which lists some sessions of the user and knows nothing of a question.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forgotten_on_an_answer_to_another_question() {
    let stand = Stand::by_hand().await;
    let [(ann, phone)] = away(&stand, ["phone"]).await;
    for said in [&["desk"][..], &["phone", "desk"], &["phone", "phone"], &["no id"], &[""]] {
        stand.peers.say_of_sessions(Some(said));
        let refused = stand.maker.look_at_some().await;
        assert!(matches!(refused, Err(Error::NoAnswer(_))), "{said:?}: {refused:?}");
        has(&stand, ann, 1).await;
        // As when the lease has ended: it does not count as seen.
        unseen(&stand, ann, &phone).await;
    }
    stand.peers.say_of_sessions(None);
    assert_eq!(stand.maker.look_at_some().await.expect("a look"), 1);
    has(&stand, ann, 0).await;
}

/// A process of the release before this one goes on for a while beside it, and binds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_without_a_session_are_counted_and_have_a_month_to_be_bound() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let (stand, figures) = (Stand::by_hand().await, kit::metrics::Metrics::default());
    let metrics = figures.register(catalog::Service::Notification, "acme", Metrics::register);
    let maker = Maker { store: store.clone(), metrics, ..stand.maker.clone() };
    let counted = async || {
        maker.note_unbound().await.expect("a count");
        let text = figures.encode();
        let line = text.lines().find(|line| line.starts_with("posthouse_notification_unbound{"));
        line.and_then(|line| line.rsplit(' ').next()).expect("the metric is there").to_owned()
    };
    let unbound = async |days: i64| {
        let since = Utc::now() + TimeDelta::days(days) - SEEN_FOR;
        let taken = store.take_unseen(since, since + TimeDelta::minutes(5), 10).await.expect("devices");
        taken.into_iter().filter(|device| device.session.is_none()).collect::<Vec<_>>()
    };
    let ann = UserId::generate();
    for name in ["1", "2", "3"] {
        subscribed(&store, &browser(ann, "phone", name)).await;
    }
    assert_eq!(counted().await, "0");
    sqlx::query(
        "UPDATE subscriptions SET session = NULL, session_seen_at = NULL WHERE NOT endpoint LIKE '%/3'",
    )
    .execute(&pool)
    .await
    .expect("rows");
    assert_eq!(counted().await, "2");
    assert_eq!(unbound(29).await, []);
    // Its page is opened.
    subscribed(&store, &browser(ann, "phone", "2")).await;
    assert_eq!(counted().await, "1");
    let old: Vec<_> = unbound(31).await.into_iter().map(|device| device.user_id).collect();
    assert_eq!(old, [ann]);
}

/// The chats of one user cannot be noted, whatever the reason is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_chats_cannot_be_noted_keeps_no_other_waiting() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool.clone()));
    let stand = Stand::by_hand().await;
    let maker = Maker { store: store.clone(), ..stand.maker.clone() };
    let [ann, ben] = [(), ()].map(|()| UserId::generate());
    let long_ago = Utc::now() - TimeDelta::days(1);
    for (user, listed_at) in [(ann, long_ago), (ben, long_ago + TimeDelta::hours(1))] {
        store.set_preferences(user, &Preferences::default()).await.expect("a user");
        store.list_again(user, listed_at).await.expect("it is noted");
        stand.peers.join(ChatId::generate(), user);
    }
    let refuse = format!("ALTER TABLE seats ADD CONSTRAINT none_of_ann CHECK (user_id <> '{ann}')");
    sqlx::query(AssertSqlSafe(refuse)).execute(&pool).await.expect("a constraint");
    assert_eq!(maker.list_some().await.expect("a round"), 2);
    assert_eq!(maker.list_some().await.expect("a round"), 0, "one is listed, and one is tried again later");
}
