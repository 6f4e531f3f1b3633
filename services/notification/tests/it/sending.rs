//! What reaches a user: by a browser that decrypts, a server that checks signatures, and a mailbox.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use contracts::{ChatId, UserId, api::NotificationChannel};
use kit::testing::{
    TestUser,
    receivers::{Browser, Receiver, verify_sender, verify_webhook},
};
use notification::{
    departures,
    domain::Batch,
    store::{NotificationStore as _, Place},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::stand::Stand;

const SUBSCRIPTIONS: &str = "/api/notifications/subscriptions";
/// What comes twice comes within so long: several rounds of everything.
const A_WHILE: Duration = Duration::from_secs(4);

async fn subscribe(stand: &Stand, user: &TestUser, body: Value) -> Value {
    let created = stand.api.post(user, SUBSCRIPTIONS, body).await.ok(200);
    stand.listed(user.id).await;
    created
}

async fn webhook(stand: &Stand, user: &TestUser, receiver: &Receiver) -> String {
    let created = subscribe(stand, user, json!({"webhook": {"url": receiver.url}})).await;
    created["secret"].as_str().expect("a secret").to_owned()
}

/// A user with a browser.
struct Away {
    user: TestUser,
    browser: Browser,
    receiver: Receiver,
}

impl Away {
    async fn start(stand: &Stand, name: &str) -> Self {
        let (user, browser, receiver) = (stand.realm.user(name), Browser::new(), Receiver::start().await);
        subscribe(stand, &user, browser.subscription(&receiver.url)).await;
        Self { user, browser, receiver }
    }

    async fn next(&self, count: usize) -> Value {
        let taken = self.receiver.wait_taken(count).await;
        assert_eq!(taken.len(), count);
        self.browser.open(taken.last().expect("a push"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_is_told_once_by_each_channel_and_who_is_online_is_not() {
    let stand = Stand::start().await;
    let away = Away::start(&stand, "ben").await;
    let hook = Receiver::start().await;
    let secret = webhook(&stand, &away.user, &hook).await;
    let online = Away::start(&stand, "eve").await;
    let ann = Away::start(&stand, "ann").await;
    let chat = stand.found(&[ann.user.id, away.user.id, online.user.id]);
    stand.peers.title(chat, "Cats\r\nBcc: all@acme.example");
    stand.peers.name(ann.user.id, "<b>Ann</b>\r\nX-Evil: 1");
    stand.say(chat, 1, ann.user.id, "<script>hello</script>", &[]);
    stand.peers.deliver(chat, online.user.id, 1);
    // Announcements may come again.
    stand.announce(chat, 1, ann.user.id, "<script>hello</script>", &[]);

    let push = away.next(1).await;
    assert_eq!((&push["seq"], &push["unread"], &push["badge"]), (&1.into(), &1.into(), &1.into()), "{push}");
    assert_eq!(push["message"]["text"], "<script>hello</script>", "data stays data");
    assert_eq!(push["message"]["name"], "<b>Ann</b> X-Evil: 1");
    let [received] = away.receiver.all().try_into().expect("one push");
    let claims = verify_sender(&received, &stand.public_key);
    assert_eq!(away.receiver.url, format!("{}/send", claims["aud"].as_str().expect("text")));
    assert_eq!((received.header("ttl"), received.header("topic").len()), ("86400", 32));
    assert!(received.headers.get("x-evil").is_none());
    let [received] = hook.wait(1).await.try_into().expect("one request");
    assert_eq!(verify_webhook(&received, &secret)["message"], push["message"]);

    stand.announce(chat, 1, ann.user.id, "<script>hello</script>", &[]);
    sleep(A_WHILE).await;
    assert_eq!((away.receiver.all().len(), hook.all().len()), (1, 1));
    assert_eq!(
        (online.receiver.all().len(), ann.receiver.all().len()),
        (0, 0),
        "who has it, and who sent it"
    );
    stand.say(chat, 2, ann.user.id, "again", &[]);
    let push = away.next(2).await;
    assert_eq!((&push["seq"], &push["badge"]), (&2.into(), &2.into()));
    let topics: Vec<_> = away.receiver.all().iter().map(|one| one.header("topic").to_owned()).collect();
    assert_eq!(topics[0], topics[1], "the second takes the place of the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_delays_its_own_channel_and_loses_nothing() {
    let stand = Stand::start().await;
    let away = Away::start(&stand, "ben").await;
    let hook = Receiver::start().await;
    webhook(&stand, &away.user, &hook).await;
    let ann = stand.realm.user("ann");
    let chats: Vec<ChatId> = (0..20).map(|_| stand.found(&[ann.id, away.user.id])).collect();
    away.receiver.answer(503);
    for chat in &chats {
        stand.say(*chat, 1, ann.id, "hello", &[]);
    }
    hook.wait_taken(chats.len()).await;
    away.receiver.wait(chats.len()).await;
    assert_eq!(away.receiver.taken().len(), 0);
    away.receiver.answer(201);
    let taken = away.receiver.wait_taken(chats.len()).await;
    sleep(A_WHILE).await;
    assert_eq!(away.receiver.taken().len(), chats.len(), "none twice");
    assert_eq!(hook.all().len(), chats.len());
    let mut told: Vec<String> =
        taken.iter().map(|one| away.browser.open(one)["chat"].as_str().expect("a chat").to_owned()).collect();
    let mut expected: Vec<String> = chats.iter().map(ChatId::to_string).collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!(stand.waiting(NotificationChannel::WebPush).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_while_another_service_was_down_is_not_told() {
    let stand = Stand::start().await;
    let away = Away::start(&stand, "ben").await;
    let ann = stand.realm.user("ann");
    let [first, second] = [stand.found(&[ann.id, away.user.id]), stand.found(&[ann.id, away.user.id])];
    stand.peers.set_down(true);
    stand.say(first, 1, ann.id, "hello", &[]);
    stand.say(second, 1, ann.id, "hello", &[]);
    sleep(A_WHILE).await;
    stand.peers.deliver(first, away.user.id, 1);
    stand.peers.set_down(false);
    let push = away.next(1).await;
    assert_eq!(push["chat"], json!(second));
    sleep(A_WHILE).await;
    assert_eq!(away.receiver.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_forgotten_and_one_that_refuses_is_given_up() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let (gone, refusing) = (Away::start(&stand, "ben").await, Away::start(&stand, "eve").await);
    gone.receiver.answer(410);
    refusing.receiver.answer(400);
    let chat = stand.found(&[ann.id, gone.user.id, refusing.user.id]);
    stand.peers.title(chat, "Cats");
    stand.say(chat, 1, ann.id, "hello", &[]);
    kit::testing::wait_for("both outcomes", super::stand::PATIENCE, || async {
        let left = stand.store.subscriptions(gone.user.id).await.expect("a list").len();
        (left == 0 && stand.waiting(NotificationChannel::WebPush).await == (0, 1)).then_some(())
    })
    .await;
    assert_eq!(stand.store.subscriptions(refusing.user.id).await.expect("a list").len(), 1);
    // What comes later is another job.
    refusing.receiver.answer(201);
    stand.say(chat, 2, ann.id, "again", &[]);
    assert_eq!(refusing.next(1).await["seq"], 2);
    assert_eq!((gone.receiver.all().len(), refusing.receiver.all().len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_private_address_whatever_was_allowed_before() {
    let (allowing, stand) = (Stand::start().await, Stand::outside().await);
    let (ann, ben, receiver) = (stand.realm.user("ann"), stand.realm.user("ben"), Receiver::start().await);
    // The subscription of another time.
    let old = allowing.realm.user("ben");
    webhook(&allowing, &old, &receiver).await;
    let [known] = allowing.store.subscriptions(old.id).await.expect("a list").try_into().expect("one");
    let new = notification::domain::NewSubscription {
        id: known.id,
        user_id: ben.id,
        target: known.target,
        created_at: known.created_at,
    };
    stand.store.subscribe(&new).await.expect("it is there");
    let chat = stand.found(&[ann.id, ben.id]);
    stand.listed(ben.id).await;
    stand.say(chat, 1, ann.id, "hello", &[]);
    kit::testing::wait_for("the job to be given up", super::stand::PATIENCE, || async {
        (stand.waiting(NotificationChannel::Webhook).await == (0, 1)).then_some(())
    })
    .await;
    assert_eq!(receiver.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_told_what_the_user_wants_to_be_told() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let away = Away::start(&stand, "ben").await;
    let ben: UserId = away.user.id;
    let groups: Vec<ChatId> = (0..4).map(|_| stand.found(&[ann.id, ben])).collect();
    for group in &groups {
        stand.peers.title(*group, "Cats");
    }
    let [plain, muted, calling, left] = groups[..] else { panic!("four groups") };
    let preferences = json!({"level": "mentions", "shows_text": false});
    let line = "PUT /api/notifications/preferences";
    stand.api.send(line, Some(&away.user.token), Some(preferences)).await.ok(200);
    stand.peers.mute(muted, ben);
    stand.peers.leave(left, ben);
    stand.say(plain, 1, ann.id, "hello", &[]);
    stand.say(muted, 1, ann.id, "hello", &[ben]);
    stand.say(left, 1, ann.id, "hello", &[ben]);
    stand.say(calling, 1, ann.id, "hello", &[ben]);
    let push = away.next(1).await;
    assert_eq!((&push["chat"], &push["title"]), (&json!(calling), &json!("Cats")));
    assert!(push.get("message").is_none(), "no text: {push}");
    let preferences = json!({
        "level": "all", "shows_text": true, "quiet": {"from": "00:00", "to": "23:59", "time_zone": "UTC"},
    });
    stand.api.send(line, Some(&away.user.token), Some(preferences)).await.ok(200);
    stand.say(plain, 2, ann.id, "hello", &[]);
    sleep(A_WHILE).await;
    let expected = if Utc::now().format("%H:%M").to_string() == "23:59" { 2 } else { 1 };
    assert_eq!(away.receiver.all().len(), expected, "it is quiet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_sums_up_what_was_missed_until_its_user_wants_no_more() {
    let stand = Stand::by_hand().await;
    let (ann, ben) = (stand.realm.user("ann"), stand.realm.user("ben"));
    let created =
        stand.api.post(&ben, SUBSCRIPTIONS, json!({"email": {"address": "ben@corp.test"}})).await.ok(200);
    assert_eq!(created["confirmed"], false);
    let mail = stand.mail.next().await;
    assert_eq!(mail.to, "ben@corp.test");
    let token = mail.token("notifications_confirmation");
    let body = json!({"token": token});
    stand.api.send("POST /api/notifications/confirmations", None, Some(body)).await.ok(204);
    let chat = stand.found(&[ann.id, ben.id]);
    stand.peers.title(chat, "Cats\r\nBcc: all@corp.test");
    stand.peers.say(chat, 1, ann.id, "a secret");
    stand.listed(ben.id).await;
    // As it was read of the log half an hour ago.
    let then = Utc::now() - TimeDelta::minutes(31);
    let mut batch = Batch::default();
    batch.news.entry(chat).or_default().seq = 1;
    let place = Place { topic: kit::catalog::Topic::MessageDelivered, partition: 99, next_offset: 1 };
    stand.store.list(ben.id, &[(chat, 1)], then).await.expect("it is noted");
    stand.store.apply(place, &batch, TimeDelta::zero(), then).await.expect("it is noted");
    stand.store.spread(then, 10).await.expect("a job is made");
    let mail = stand.mail.next().await;
    assert!(mail.content.contains("Subject: 1 unread message at acme.example"), "{}", mail.content);
    assert!(mail.content.contains("Cats Bcc: all@corp.test: 1"), "{}", mail.content);
    assert!(!mail.content.contains("a secret") && !mail.content.contains("\nBcc:"));
    assert!(mail.content.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click"));
    let token = mail.token("notifications_end");
    let line = format!("POST /api/notifications/unsubscriptions/{token}");
    stand.api.send(&line, None, None).await.ok(204);
    assert!(stand.store.subscriptions(ben.id).await.expect("a list").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_account_is_deleted_is_forgotten() {
    let stand = Stand::start().await;
    let away = Away::start(&stand, "ben").await;
    stand.peers.delete(away.user.id);
    departures::catch_up(&stand.client, &*stand.store).await.expect("it is carried out");
    assert!(stand.store.subscriptions(away.user.id).await.expect("a list").is_empty());
}
