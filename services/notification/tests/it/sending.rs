//! What reaches a user: by a browser that decrypts, a server that checks signatures, and a mailbox.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use contracts::{ChatId, SubscriptionId, UserId, api::NotificationChannel};
use kit::{
    deletions,
    testing::{
        TestUser,
        receivers::{Browser, Receiver, verify_sender, verify_webhook},
        wait_for,
    },
};
use notification::{
    channels::{Channel as _, Content, FcmChannel, GOOGLE, Outside, SendError, ServiceAccount, SmsHook},
    domain::{Batch, Busy, Notice, PhoneNumber, Subscription, Target},
    store::{NotificationStore, Place},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    broker::MemoryBroker,
    google::{Google, account, firebase_error},
    stand::{PATIENCE, SMS_EVERY, SMS_KEY, Stand},
};

const SUBSCRIPTIONS: &str = "/api/notifications/subscriptions";
/// What comes twice comes within so long: several rounds of everything.
const A_WHILE: Duration = Duration::from_secs(6);

async fn subscribe(stand: &Stand, user: &TestUser, body: Value) -> Value {
    let created = stand.api.post(user, SUBSCRIPTIONS, body).await.ok(200);
    stand.listed(user.id).await;
    created
}

async fn webhook(stand: &Stand, user: &TestUser, receiver: &Receiver) -> String {
    let created = subscribe(stand, user, json!({"webhook": {"url": receiver.url}})).await;
    created["secret"].as_str().expect("a secret").to_owned()
}

/// Runs stories with jobs from the store, and with jobs through the queues of a broker.
macro_rules! on_both_carriers {
    ($($story:ident),* $(,)?) => {
        mod by_the_store {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $story() {
                    super::$story(super::Stand::start().await).await;
                }
            )*
        }
        mod by_a_broker {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $story() {
                    let broker = super::MemoryBroker::new();
                    super::$story(super::Stand::with_broker(&broker).await).await;
                    assert!(broker.counts().published > 0, "they went through it");
                }
            )*
        }
    };
}

on_both_carriers![
    who_is_away_is_told_once_by_each_channel_and_who_is_online_is_not,
    a_provider_that_is_down_delays_its_own_channel_and_loses_nothing,
    a_call_that_was_read_makes_nothing_of_what_follows_it,
];

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

async fn who_is_away_is_told_once_by_each_channel_and_who_is_online_is_not(stand: Stand) {
    let away = Away::start(&stand, "ben").await;
    let hook = Receiver::start().await;
    let secret = webhook(&stand, &away.user, &hook).await;
    let online = Away::start(&stand, "eve").await;
    let ann = Away::start(&stand, "ann").await;
    let chat = stand.found(&[ann.user.id, away.user.id, online.user.id]);
    stand.peers.title(chat, "Cats\r\nBcc: all@acme.example");
    stand.peers.name(ann.user.id, "<b>Ann</b>\r\nX-Evil: 1");
    // Who is online takes it before it is time to tell of it, however busy the machine is.
    stand.peers.say(chat, 1, ann.user.id, "<script>hello</script>");
    stand.peers.deliver(chat, online.user.id, 1);
    stand.announce(chat, 1, ann.user.id, "<script>hello</script>", &[]);
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
async fn the_name_of_a_sender_is_read_once_for_all_who_are_notified() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let mut away = Vec::new();
    for name in ["ben", "eve", "kim", "lea"] {
        away.push(Away::start(&stand, name).await);
    }
    let chat = stand.found(&away.iter().map(|one| one.user.id).chain([ann.id]).collect::<Vec<_>>());
    stand.peers.name(ann.id, "Ann");
    stand.say(chat, 1, ann.id, "hello", &[]);
    for one in &away {
        assert_eq!(one.next(1).await["message"]["name"], "Ann");
    }
    assert_eq!(stand.peers.names_read(), 1);
}

async fn a_provider_that_is_down_delays_its_own_channel_and_loses_nothing(stand: Stand) {
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

/// Waits until no job of a channel is left.
async fn is_done(stand: &Stand, channel: NotificationChannel) {
    wait_for("the jobs to be done", PATIENCE, || async {
        (stand.waiting(channel).await == (0, 0)).then_some(())
    })
    .await;
}

/// Returns what Firebase calls the app of a user.
fn app(name: &str) -> String {
    format!("{name}:APA91b{}", "x".repeat(120))
}

/// Returns a user with an app.
async fn with_app(stand: &Stand, name: &str) -> TestUser {
    let user = stand.realm.user(name);
    subscribe(stand, &user, json!({"fcm": {"token": app(name)}})).await;
    user
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_a_user_who_is_away_is_told_once_and_that_of_another_is_not() {
    let stand = Stand::start().await;
    let (ann, ben, eve) =
        (with_app(&stand, "ann").await, with_app(&stand, "ben").await, with_app(&stand, "eve").await);
    let chat = stand.found(&[ann.id, ben.id, eve.id]);
    stand.peers.title(chat, "Cats");
    stand.peers.name(ann.id, "Ann");
    stand.peers.say(chat, 1, ann.id, "hello");
    stand.peers.deliver(chat, eve.id, 1);
    stand.announce(chat, 1, ann.id, "hello", &[]);
    stand.announce(chat, 1, ann.id, "hello", &[]);
    let [sent] = stand.google.wait_taken(1).await.try_into().expect("one message");
    assert_eq!(sent["message"]["token"], json!(app("ben")));
    let data = json!({"chat": chat, "seq": "1", "badge": "1", "title": "Cats", "body": "Ann: hello"});
    assert_eq!(sent["message"]["data"], data);
    assert_eq!(sent["message"]["android"]["collapse_key"], json!(chat));
    assert_eq!(sent["message"]["apns"]["headers"]["apns-collapse-id"], json!(chat));
    stand.announce(chat, 1, ann.id, "hello", &[]);
    sleep(A_WHILE).await;
    assert_eq!((stand.google.all().len(), stand.google.granted()), (1, 1));
    // The user wants no texts any more.
    let line = "PUT /api/notifications/preferences";
    let preferences = json!({"level": "all", "shows_text": false});
    stand.api.send(line, Some(&ben.token), Some(preferences)).await.ok(200);
    stand.peers.say(chat, 2, ann.id, "a secret");
    stand.peers.deliver(chat, eve.id, 2);
    stand.announce(chat, 2, ann.id, "a secret", &[]);
    let taken = stand.google.wait_taken(2).await;
    let data = json!({"chat": chat, "seq": "2", "badge": "2"});
    assert_eq!(taken[1]["message"]["data"], data, "no text and no name");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_is_requested_once_for_all_and_renewed_once() {
    let stand = Stand::start().await;
    let (ann, ben) = (stand.realm.user("ann"), with_app(&stand, "ben").await);
    let chats: Vec<ChatId> = (0..20).map(|_| stand.found(&[ann.id, ben.id])).collect();
    let mut said = 0;
    let mut say = async |chats: &[ChatId], seq: i64| {
        for chat in chats {
            stand.say(*chat, seq, ann.id, "hello", &[]);
        }
        said += chats.len();
        assert_eq!(stand.google.wait_taken(said).await.len(), said);
        stand.google.granted()
    };
    assert_eq!(say(&chats[..], 1).await, 1, "one for all");
    // Google takes it no more: it is renewed, and what was refused is sent again with the new one.
    stand.google.revoke();
    assert_eq!(say(&chats[..], 2).await, 2, "one more for all");
    let refused = stand.google.all().iter().filter(|one| one.status == 401).count();
    assert!((1..=chats.len()).contains(&refused), "{refused}");
    // One that is about to end is not used.
    stand.google.revoke();
    stand.google.grant_for(60);
    assert_eq!(say(&chats[..1], 3).await, 3);
    stand.google.grant_for(3600);
    assert_eq!(say(&chats[..1], 4).await, 4);
    assert_eq!(say(&chats[..1], 5).await, 4, "it is kept");
    is_done(&stand, NotificationChannel::Fcm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_gone_is_forgotten_and_a_project_that_is_refused_costs_no_subscription() {
    let stand = Stand::start().await;
    let (ann, ben, eve) =
        (stand.realm.user("ann"), with_app(&stand, "ben").await, with_app(&stand, "eve").await);
    let subscriptions =
        async |user: &TestUser| stand.store.subscriptions(user.id).await.expect("a list").len();
    stand.google.refuse(Some((404, firebase_error("NOT_FOUND", "UNREGISTERED"))));
    let chat = stand.found(&[ann.id, ben.id]);
    stand.say(chat, 1, ann.id, "hello", &[]);
    wait_for("the app to be forgotten", PATIENCE, || async {
        (subscriptions(&ben).await == 0).then_some(())
    })
    .await;
    assert_eq!(stand.google.all().len(), 1);
    for (status, word) in [(403, "PERMISSION_DENIED"), (404, "NOT_FOUND")] {
        stand.google.refuse(Some((status, firebase_error(word, ""))));
        let (before, taken) = (stand.google.all().len(), stand.google.taken().len());
        let chat = stand.found(&[ann.id, eve.id]);
        stand.say(chat, 1, ann.id, "hello", &[]);
        stand.google.wait(before + 1).await;
        assert_eq!((subscriptions(&eve).await, stand.waiting(NotificationChannel::Fcm).await), (1, (1, 0)));
        // An administrator has seen to it.
        stand.google.refuse(None);
        stand.google.wait_taken(taken + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_refuses_every_token_is_granted_few() {
    let stand = Stand::start().await;
    let (ann, ben) = (stand.realm.user("ann"), with_app(&stand, "ben").await);
    let chats: Vec<ChatId> = (0..20).map(|_| stand.found(&[ann.id, ben.id])).collect();
    stand.google.refuse(Some((401, firebase_error("UNAUTHENTICATED", ""))));
    for chat in &chats {
        stand.say(*chat, 1, ann.id, "hello", &[]);
    }
    stand.google.wait(chats.len()).await;
    let granted = stand.google.granted();
    assert!(granted <= chats.len() / 4, "{granted} tokens");
    stand.google.refuse(None);
    stand.google.wait_taken(chats.len()).await;
    is_done(&stand, NotificationChannel::Fcm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_that_grants_nothing_delays_apps_alone_and_loses_nothing() {
    let stand = Stand::start().await;
    let (ann, ben) = (stand.realm.user("ann"), with_app(&stand, "ben").await);
    let hook = Receiver::start().await;
    webhook(&stand, &ben, &hook).await;
    let chats: Vec<ChatId> = (0..10).map(|_| stand.found(&[ann.id, ben.id])).collect();
    stand.google.deny(Some((503, json!({}))));
    for chat in &chats {
        stand.say(*chat, 1, ann.id, "hello", &[]);
    }
    hook.wait_taken(chats.len()).await;
    assert_eq!(stand.google.all().len(), 0, "nothing is sent without a token");
    stand.google.deny(None);
    let taken = stand.google.wait_taken(chats.len()).await;
    sleep(A_WHILE).await;
    assert_eq!((stand.google.all().len(), stand.google.granted()), (chats.len(), 1), "none twice");
    let mut told: Vec<_> = taken.iter().map(|one| one["message"]["data"]["chat"].clone()).collect();
    let mut expected: Vec<_> = chats.iter().map(|chat| json!(chat)).collect();
    told.sort_by_key(ToString::to_string);
    expected.sort_by_key(ToString::to_string);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_address_of_the_tenant_that_is_not_public_is_not_requested() {
    let to = Subscription {
        id: SubscriptionId::generate(),
        user_id: UserId::generate(),
        target: Target::Fcm { token: app("ben") },
        is_confirmed: true,
        created_at: Utc::now(),
    };
    let notice = Content::Notice(Notice {
        chat: ChatId::generate(),
        kind: "direct".to_owned(),
        title: None,
        seq: 1,
        message: None,
        unread: 1,
        mentions: 0,
        badge: 1,
    });
    let (google, hook) = (Google::start().await, Receiver::start().await);
    let number = PhoneNumber::parse("number", "+4915112345678").expect("a number");
    let outside = Outside::internet().expect("a client");
    for url in [
        format!("{}/token", google.url),
        hook.url.clone(),
        "http://oauth2.example/token".to_owned(),
        "https://oauth2.example:8443/token".to_owned(),
        "https://10.0.0.1/token".to_owned(),
        "https://[::1]/token".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://kubernetes.default.svc/api".to_owned(),
        "https://localhost/token".to_owned(),
    ] {
        let account = ServiceAccount::parse(&account(&url)).expect("a service account");
        let fcm = FcmChannel::new(outside.clone(), account, GOOGLE).expect("a channel");
        let refused = fcm.send(&to, &notice).await.expect_err("it is not public");
        assert!(matches!(refused, SendError::Misconfigured(_)), "{url}: {refused}");
        let sms = SmsHook::new(outside.clone(), url.parse().expect("a URL"), SMS_KEY.to_owned().into());
        let refused = sms.send("1", &number, "hello").await.expect_err("it is not public");
        assert!(matches!(refused, SendError::Misconfigured(_)), "{url}: {refused}");
    }
    assert_eq!((google.granted(), google.all().len(), hook.all().len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_message_says_how_much_was_missed_and_nothing_else() {
    let stand = Stand::by_hand().await;
    let (ann, ben) = (stand.realm.user("ann"), stand.realm.user("ben"));
    let body = json!({"sms": {"number": "+4915112345678"}});
    let created = stand.api.post(&ben, SUBSCRIPTIONS, body).await.ok(200);
    let chats = [stand.found(&[ann.id, ben.id]), stand.found(&[ann.id, ben.id])];
    for chat in chats {
        stand.peers.title(chat, "Cats");
        stand.peers.say(chat, 1, ann.id, "a secret");
        stand.peers.say(chat, 2, ann.id, "a secret");
    }
    stand.listed(ben.id).await;
    // As it was read of the log half an hour ago, by a user who had not confirmed the number yet, and by one who had.
    let then = Utc::now() - TimeDelta::minutes(31);
    let tell = async |seq: i64, at: chrono::DateTime<Utc>| {
        let mut batch = Batch::default();
        for chat in chats {
            batch.news.entry(chat).or_default().seq = seq;
        }
        let place = Place { topic: kit::catalog::Topic::MessageDelivered, partition: 99, next_offset: seq };
        stand.store.apply(place, &batch, TimeDelta::zero(), at).await.expect("it is noted");
        stand.store.spread(at, 10).await.expect("jobs are made");
    };
    let listed = chats.map(|chat| (chat, 1));
    stand.store.list(ben.id, &listed, then).await.expect("it is noted");
    tell(1, then).await;
    assert_eq!(stand.waiting(NotificationChannel::Sms).await, (0, 0), "it is not confirmed");
    let code = verify_webhook(&stand.sms.all()[0], SMS_KEY)["text"].as_str().expect("a text")[..6].to_owned();
    let line = format!("POST {SUBSCRIPTIONS}/{}/confirmation", created["id"].as_str().expect("an id"));
    stand.api.send(&line, Some(&ben.token), Some(json!({"code": code}))).await.ok(204);
    // The hook is down at first: the same text message comes again, under the same id.
    stand.sms.answer(503);
    tell(2, then).await;
    stand.sms.wait(2).await;
    stand.sms.answer(200);
    let taken = stand.sms.wait_taken(2).await;
    let sent = verify_webhook(&taken[1], SMS_KEY);
    assert_eq!(sent["to"], "+4915112345678");
    assert_eq!(sent["text"], "4 unread messages in 2 chats at acme.example");
    let ids: Vec<_> = stand.sms.all()[1..].iter().map(|one| one.header("posthouse-id").to_owned()).collect();
    assert!(ids.iter().all(|id| *id == sent["id"].as_str().expect("an id")), "{ids:?}");
    is_done(&stand, NotificationChannel::Sms).await;
    // The next one has to wait.
    tell(3, then).await;
    assert_eq!(stand.waiting(NotificationChannel::Sms).await, (1, 0));
    let claim = async |at: chrono::DateTime<Utc>| {
        let jobs =
            stand.store.claim(NotificationChannel::Sms, at, at, 10, &Busy::default()).await.expect("jobs");
        jobs.len()
    };
    assert_eq!(claim(Utc::now() + SMS_EVERY - TimeDelta::minutes(2)).await, 0);
    assert_eq!(claim(Utc::now() + SMS_EVERY).await, 1);
    assert_eq!(stand.sms.all().len(), ids.len() + 1);
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
async fn while_another_service_is_down_the_jobs_that_wait_do_not_go_round() {
    let stand = Stand::start().await;
    let away = Away::start(&stand, "ben").await;
    let ann = stand.realm.user("ann");
    let chats: Vec<ChatId> = (0..30).map(|_| stand.found(&[ann.id, away.user.id])).collect();
    stand.peers.set_down(true);
    for chat in &chats {
        stand.say(*chat, 1, ann.id, "hello", &[]);
    }
    wait_for("all jobs to wait", PATIENCE, || async {
        (stand.waiting(NotificationChannel::WebPush).await == (30, 0)).then_some(())
    })
    .await;
    sleep(A_WHILE).await;
    // Those that were begun before the first one failed, and then one at a time.
    let refused = stand.peers.refused();
    assert!((1..chats.len()).contains(&refused), "{refused} calls");
    stand.peers.set_down(false);
    away.receiver.wait_taken(chats.len()).await;
    assert_eq!(away.receiver.all().len(), chats.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_chats_cannot_be_listed_keeps_nobody_waiting() {
    let stand = Stand::start().await;
    let (eve, hook) = (stand.realm.user("eve"), Receiver::start().await);
    stand.peers.refuse_list(eve.id);
    let body = json!({"webhook": {"url": hook.url}});
    stand.api.post(&eve, SUBSCRIPTIONS, body).await.ok(200);
    // Each of them waits until it is listed.
    for name in ["ann", "ben", "carl", "dora"] {
        Away::start(&stand, name).await;
    }
    let long_ago = Utc::now() - TimeDelta::hours(1);
    assert_eq!(stand.store.unlisted(long_ago, 10).await.expect("a list"), [eve.id], "it is tried again");
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
    wait_for("both outcomes", PATIENCE, || async {
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
async fn a_browser_that_subscribed_with_another_key_is_forgotten() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let (now, old) = (Away::start(&stand, "ben").await, Away::start(&stand, "eve").await);
    // As after a tenant was deleted and made again, whose data were kept: its key is another one.
    let [known] = stand.store.subscriptions(old.user.id).await.expect("a list").try_into().expect("one");
    let mut target = known.target;
    let Target::WebPush { sender_key, .. } = &mut target else { panic!("a browser") };
    "another key".clone_into(sender_key);
    let new = notification::domain::NewSubscription {
        id: known.id,
        user_id: old.user.id,
        session: "phone".parse().expect("an id"),
        target,
        created_at: known.created_at,
    };
    stand.store.subscribe(&new).await.expect("it is there");
    let chat = stand.found(&[ann.id, now.user.id, old.user.id]);
    stand.peers.title(chat, "Cats");
    stand.say(chat, 1, ann.id, "hello", &[]);
    now.next(1).await;
    wait_for("the browser to be forgotten", PATIENCE, || async {
        stand.store.subscriptions(old.user.id).await.expect("a list").is_empty().then_some(())
    })
    .await;
    assert!(old.receiver.all().is_empty(), "the push service would refuse it");
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
        session: "phone".parse().expect("an id"),
        target: known.target,
        created_at: known.created_at,
    };
    stand.store.subscribe(&new).await.expect("it is there");
    let chat = stand.found(&[ann.id, ben.id]);
    stand.listed(ben.id).await;
    stand.say(chat, 1, ann.id, "hello", &[]);
    wait_for("the job to be given up", PATIENCE, || async {
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

/// Lets a user want to be notified of mentions alone.
async fn wants_mentions(stand: &Stand, user: &TestUser) {
    let preferences = json!({"level": "mentions", "shows_text": true});
    let line = "PUT /api/notifications/preferences";
    stand.api.send(line, Some(&user.token), Some(preferences)).await.ok(200);
}

async fn a_call_that_was_read_makes_nothing_of_what_follows_it(stand: Stand) {
    let ann = stand.realm.user("ann");
    let away = Away::start(&stand, "ben").await;
    let chat = stand.found(&[ann.id, away.user.id]);
    stand.peers.title(chat, "Cats");
    wants_mentions(&stand, &away.user).await;
    away.receiver.answer(503);
    stand.say(chat, 1, ann.id, "hello", &[away.user.id]);
    away.receiver.wait(1).await;
    // It is read elsewhere while the push waits, and what comes then calls nobody.
    stand.peers.read(chat, away.user.id, 1);
    stand.say(chat, 2, ann.id, "hello", &[]);
    away.receiver.answer(201);
    is_done(&stand, NotificationChannel::WebPush).await;
    assert!(away.receiver.taken().is_empty());
    stand.say(chat, 3, ann.id, "hello", &[away.user.id]);
    assert_eq!(away.next(1).await["seq"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_has_what_its_user_wants_to_be_told_and_no_more() {
    let stand = Stand::by_hand().await;
    let (ann, ben) = (stand.realm.user("ann"), stand.realm.user("ben"));
    stand.api.post(&ben, SUBSCRIPTIONS, json!({"email": {"address": "ben@corp.test"}})).await.ok(200);
    assert!(stand.mail.next().await.content.contains("notifications_confirmation"));
    let [own] = stand.store.subscriptions(ben.id).await.expect("a list").try_into().expect("one");
    assert!(stand.store.confirm(own.id).await.expect("an answer"));
    let chats =
        [stand.found(&[ann.id, ben.id]), stand.found(&[ann.id, ben.id]), stand.found(&[ann.id, ben.id])];
    let [plain, calling, direct] = chats;
    stand.peers.title(plain, "Dogs");
    stand.peers.title(calling, "Cats");
    wants_mentions(&stand, &ben).await;
    stand.listed(ben.id).await;
    let then = Utc::now() - TimeDelta::minutes(31);
    stand.store.list(ben.id, &chats.map(|chat| (chat, 1)), then).await.expect("it is noted");
    let tell = async |chat: ChatId, seq: i64| {
        stand.peers.say(chat, seq, ann.id, "hello");
        let mut batch = Batch::default();
        batch.news.entry(chat).or_default().seq = seq;
        let place = Place { topic: kit::catalog::Topic::MessageDelivered, partition: 99, next_offset: seq };
        stand.store.apply(place, &batch, TimeDelta::zero(), then).await.expect("it is noted");
    };
    tell(plain, 1).await;
    stand.store.spread(then, 10).await.expect("a job is made");
    is_done(&stand, NotificationChannel::Email).await;
    // Had it been sent, the next one would wait for hours.
    tell(plain, 2).await;
    tell(direct, 1).await;
    stand.peers.call(calling, 1, &[ben.id]);
    tell(calling, 1).await;
    stand.store.spread(then, 10).await.expect("a job is made");
    let mail = stand.mail.next().await;
    assert!(mail.content.contains("Subject: 2 unread messages at acme.example"), "{}", mail.content);
    assert!(mail.content.contains("Cats: 1") && !mail.content.contains("Dogs"), "{}", mail.content);
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
    // A browser that opens the address of the header is shown the page, and nothing ends by that.
    let path = format!("/api/notifications/unsubscriptions/{token}");
    let shown = stand.api.send(&format!("GET {path}"), None, None).await;
    assert_eq!(shown.status, 303);
    assert_eq!(shown.headers["location"], format!("/#notifications_end={token}"));
    assert_eq!(stand.store.subscriptions(ben.id).await.expect("a list").len(), 1);
    assert_eq!(
        stand.api.send("GET /api/notifications/unsubscriptions/x", None, None).await.code(),
        "not_found"
    );
    stand.api.send(&format!("POST {path}"), None, None).await.ok(204);
    assert!(stand.store.subscriptions(ben.id).await.expect("a list").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_refuses_the_sender_costs_no_address_and_one_that_is_none_is_forgotten() {
    let stand = Stand::by_hand().await;
    let (ann, ben) = (stand.realm.user("ann"), stand.realm.user("ben"));
    let mut body = json!({"email": {"address": "ben@corp.test"}});
    stand.api.post(&ben, SUBSCRIPTIONS, body.clone()).await.ok(200);
    body["email"]["address"] = json!("nobody@corp.test");
    assert_eq!(stand.api.post(&ben, SUBSCRIPTIONS, body).await.code(), "conflict");
    let own = stand.store.subscriptions(ben.id).await.expect("a list");
    for one in &own {
        assert!(stand.store.confirm(one.id).await.expect("an answer"));
    }
    let chat = stand.found(&[ann.id, ben.id]);
    stand.listed(ben.id).await;
    let then = Utc::now() - TimeDelta::minutes(31);
    stand.store.list(ben.id, &[(chat, 1)], then).await.expect("it is noted");
    let tell = async |seq: i64| {
        stand.peers.say(chat, seq, ann.id, "hello");
        let mut batch = Batch::default();
        batch.news.entry(chat).or_default().seq = seq;
        let place = Place { topic: kit::catalog::Topic::MessageDelivered, partition: 99, next_offset: seq };
        stand.store.apply(place, &batch, TimeDelta::zero(), then).await.expect("it is noted");
        stand.store.spread(then, 10).await.expect("a job is made");
    };
    stand.mail.refuse_sender(true);
    tell(1).await;
    wait_for("both mails to be given up", PATIENCE, || async {
        (stand.waiting(NotificationChannel::Email).await == (0, 2)).then_some(())
    })
    .await;
    assert_eq!(stand.store.subscriptions(ben.id).await.expect("a list").len(), 2);
    // An address that is none is forgotten.
    stand.mail.refuse_sender(false);
    tell(2).await;
    assert!(stand.mail.next().await.content.contains("notifications_confirmation"));
    assert!(stand.mail.next().await.content.contains("2 unread messages"));
    wait_for("the address to be forgotten", PATIENCE, || async {
        let left = stand.store.subscriptions(ben.id).await.expect("a list");
        (left.len() == 1 && left[0].target.endpoint() == "ben@corp.test").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_account_is_deleted_is_forgotten() {
    let stand = Stand::start().await;
    let away = Away::start(&stand, "ben").await;
    stand.peers.delete(away.user.id);
    deletions::catch_up(stand.client.users(), &*stand.store as &dyn NotificationStore)
        .await
        .expect("it is carried out");
    assert!(stand.store.subscriptions(away.user.id).await.expect("a list").is_empty());
}
