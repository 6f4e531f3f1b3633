//! What ends is published, whatever the log does meanwhile.

use std::{sync::Arc, time::Duration};

use auth::{
    config::Registration,
    domain::Session,
    store::{AccountStore as _, MemoryStore},
};
use contracts::{
    UserId,
    event::{Ended, SessionEndRecord},
};
use kit::{
    catalog::Topic,
    config::{KafkaArgs, TrustArgs},
    health::Health,
    log::{Event, Follower, Log, Start},
};
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{App, PASSWORD, TENANT},
    memory_realm,
    peers::{self, Peers},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads what is published.
pub struct Reader {
    follower: Follower,
    stop: CancellationToken,
}

impl Reader {
    pub async fn start(log: &Log) -> Self {
        let (topic, check, stop) =
            (Topic::SessionEvents.of(TENANT), Health::default().check("test"), CancellationToken::new());
        let follower = log.follow(&topic, "acme.test", Start::Beginning, &check, &stop).await;
        Self { follower: follower.expect("a follower"), stop }
    }

    /// Returns the next end.
    pub async fn next(&mut self) -> (UserId, Ended) {
        let record = timeout(PATIENCE, async {
            loop {
                let event = self.follower.next(&self.stop).await.expect("not stopped");
                if let Event::Record(record) = event {
                    assert_eq!(record.key().map(<[u8]>::len), Some(36), "keyed by the user");
                    break serde_json::from_slice(record.payload().expect("a payload")).expect("a record");
                }
            }
        });
        let SessionEndRecord { v: 1, user, ended } = record.await.expect("a record in time") else {
            panic!("another version")
        };
        (user, ended)
    }
}

/// A service of the tenant with one account.
async fn app(log: &Log, realm: &Arc<MemoryStore>) -> App {
    let app = another(log, realm).await;
    app.register("ann").await.ok(201);
    app
}

/// Another process of the service, which remembers nothing.
async fn another(log: &Log, realm: &Arc<MemoryStore>) -> App {
    App::on(log, realm.clone(), Registration::Open, Peers::default().start().await)
}

fn realm() -> Arc<MemoryStore> {
    Arc::new(memory_realm())
}

/// Returns the end of the session that tokens are of.
pub fn session(tokens: &Value) -> (UserId, Ended) {
    let token = tokens["access_token"].as_str().expect("a token");
    let Session { user_id, id } = Session::of(token).expect("a session");
    (user_id, Ended::Session(id))
}

/// Returns the body of a request with a refresh token.
pub fn refresh_token(tokens: &Value) -> Value {
    json!({"refresh_token": tokens["refresh_token"]})
}

#[tokio::test]
async fn a_sign_out_publishes_the_end_of_its_session_once() {
    let log = Log::memory();
    let (app, mut reader) = (app(&log, &realm()).await, Reader::start(&log).await);
    let (phone, desk) = (app.sign_in("ann").await, app.sign_in("ann").await);
    for _ in 0..3 {
        app.post("sign-out", refresh_token(&phone)).await.ok(204);
    }
    app.post("sign-out", refresh_token(&desk)).await.ok(204);
    assert_eq!(reader.next().await, session(&phone));
    assert_eq!(reader.next().await, session(&desk), "repeated requests publish nothing more");
    let answer = app.post("sign-out", json!({"refresh_token": "not.a.token"})).await;
    assert_eq!(answer.code(), "unauthenticated");
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_ends_its_session() {
    let (log, realm) = (Log::memory(), realm());
    let (app, mut reader) = (app(&log, &realm).await, Reader::start(&log).await);
    let first = app.sign_in("ann").await;
    let second = app.post("refresh", refresh_token(&first)).await.ok(200);
    let third = app.post("refresh", refresh_token(&second)).await.ok(200);
    // This process would give the same tokens again for ten seconds.
    let later = another(&log, &realm).await;
    assert_eq!(later.post("refresh", refresh_token(&first)).await.code(), "unauthenticated");
    assert_eq!(reader.next().await, session(&first));
    assert_eq!(later.post("refresh", refresh_token(&third)).await.code(), "unauthenticated");
    assert_eq!(
        later.post("refresh", json!({"refresh_token": "not.a.token"})).await.code(),
        "unauthenticated"
    );
}

#[tokio::test]
async fn nothing_that_is_remembered_of_a_session_outlives_it() {
    let app = app(&Log::memory(), &realm()).await;
    let first = app.sign_in("ann").await;
    let second = app.post("refresh", refresh_token(&first)).await.ok(200);
    let third = app.post("refresh", refresh_token(&second)).await.ok(200);
    assert_eq!(app.post("refresh", refresh_token(&first)).await.ok(200), second);
    // Any token of the session ends it.
    app.post("sign-out", refresh_token(&third)).await.ok(204);
    for tokens in [&first, &second, &third] {
        assert_eq!(app.post("refresh", refresh_token(tokens)).await.code(), "unauthenticated");
    }
}

#[tokio::test]
async fn a_deleted_account_ends_with_all_its_sessions() {
    let (log, realm, peers) = (Log::memory(), realm(), Peers::default());
    let app = App::on(&log, realm, Registration::Open, peers.start().await);
    let mut reader = Reader::start(&log).await;
    let user_id = app.register("ann").await.ok(201)["user_id"].as_str().expect("an id").to_owned();
    let phone = app.sign_in("ann").await;
    let delete = async |password: &str| {
        app.post("delete-account", json!({"username": " Ann", "password": password})).await
    };
    assert_eq!(delete("guess").await.code(), "unauthenticated");
    assert!(peers.deleted.lock().expect("no panic").is_empty());
    let receipt = delete(PASSWORD).await.ok(200)["receipt"].as_str().expect("a receipt").to_owned();
    let kept = peers.receipts.lock().expect("no panic").clone();
    assert_eq!(kept, [Sha256::digest(&receipt).to_vec()], "its hash alone is kept");
    for ids in [&peers.deleted, &peers.finished] {
        assert!(ids.lock().expect("no panic").contains(&user_id));
    }
    assert_eq!(reader.next().await, (user_id.parse().expect("an id"), Ended::Account));
    assert_eq!(app.post("refresh", refresh_token(&phone)).await.code(), "unauthenticated");
    assert_eq!(delete(PASSWORD).await.code(), "unauthenticated");
    assert_eq!(app.register("ann").await.code(), "conflict", "the name is not given out again");
}

#[tokio::test]
async fn a_deletion_that_has_begun_is_finished_by_another_process() {
    let (log, realm, peers) = (Log::memory(), realm(), Peers::default());
    let app = App::on(&log, realm.clone(), Registration::Open, peers.start().await);
    let user_id = app.register("ann").await.ok(201)["user_id"].as_str().expect("an id").to_owned();
    // The process that began it was killed before it came to the realm.
    peers.deleted.lock().expect("no panic").insert(user_id.clone());
    let other = App::on(&log, realm, Registration::Open, peers.start().await);
    let mut reader = Reader::start(&log).await;
    other.deletions.finish_all().await.expect("all is up");
    assert_eq!(reader.next().await, (user_id.parse().expect("an id"), Ended::Account));
    assert!(peers.finished.lock().expect("no panic").contains(&user_id));
    let answer = app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await;
    assert_eq!(answer.code(), "unauthenticated");
}

#[tokio::test]
async fn a_deletion_does_not_begin_while_no_one_can_be_notified_of_it() {
    let (log, realm) = (Log::memory(), realm());
    app(&log, &realm).await;
    let alone = App::on(&log, realm, Registration::Open, peers::unreachable());
    let body = json!({"username": "ann", "password": PASSWORD});
    assert_eq!(alone.post("delete-account", body).await.code(), "unavailable");
    alone.sign_in("ann").await;
}

#[tokio::test]
async fn an_account_that_an_administrator_has_deleted_is_noticed_at_the_next_refresh() {
    let (log, realm, peers) = (Log::memory(), realm(), Peers::default());
    let app = App::on(&log, realm.clone(), Registration::Open, peers.start().await);
    let user_id = app.register("ann").await.ok(201)["user_id"].as_str().expect("an id").to_owned();
    let phone = app.sign_in("ann").await;
    realm.delete(user_id.parse().expect("an id")).await.expect("a realm in memory");
    assert_eq!(app.post("refresh", refresh_token(&phone)).await.code(), "unauthenticated");
    assert!(peers.finished.lock().expect("no panic").contains(&user_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_out_while_the_log_is_down_is_repeated_by_the_client_or_by_the_service() {
    let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).expect("a broker");
    cluster.create_topic(&Topic::SessionEvents.of(TENANT), 3, 1).expect("a topic");
    let log = Log::kafka(KafkaArgs {
        kafka_bootstrap_servers: cluster.bootstrap_servers(),
        kafka_security_protocol: "plaintext".to_owned(),
        trust: TrustArgs::default(),
        kafka_username: "u".to_owned(),
        kafka_password: "p".into(),
        schema_ids: Vec::new(),
    });
    let (app, mut reader) = (app(&log, &realm()).await, Reader::start(&log).await);
    let (phone, desk) = (app.sign_in("ann").await, app.sign_in("ann").await);
    app.post("sign-out", refresh_token(&phone)).await.ok(204);
    assert_eq!(reader.next().await, session(&phone));

    cluster.broker_down(1).expect("a broker");
    let answer = app.post("sign-out", refresh_token(&desk)).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"), "no silence");
    assert_eq!(app.post("refresh", refresh_token(&desk)).await.status, 503, "nor here");
    cluster.broker_up(1).expect("a broker");
    assert_eq!(reader.next().await, session(&desk), "nothing was repeated by the client");
    app.post("sign-out", refresh_token(&desk)).await.ok(204);
}
