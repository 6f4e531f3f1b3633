//! Refreshes over several replicas of the service: on a real realm and a real Redis, because what these do at the same moment, and
//! forget, is what this is about.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use auth::{
    config::Registration,
    domain::{Account, Credentials, Grant, ListedSession, NewAccount, OwnEmail, Session, email::Email},
    guard::Refreshes,
    store::{AccountStore, Keycloak, SharedRefreshes, StoreError},
};
use contracts::UserId;
use kit::{
    catalog::REFRESH_RETRIES,
    config::{RedisArgs, Tls, TrustArgs},
    log::Log,
    testing::{TestCache, wait_for},
    text::Password,
};
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::Notify;
use tonic::async_trait;

use crate::{
    api::App,
    events::{Reader, refresh_token, session},
    memory_realm,
    peers::Peers,
    realm::Realm,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shorter than in production, and longer than a busy machine needs for requests at once.
const GRACE: Duration = Duration::from_secs(3);

/// A tenant's realm and cache, and a log.
struct Tenant {
    name: String,
    realm: Realm,
    cache: TestCache,
    log: Log,
}

impl Tenant {
    async fn create() -> Self {
        let realm = Realm::create().await;
        let name = realm.args().realm;
        let cache = TestCache::create(&name).await;
        Self { name, realm, cache, log: Log::memory() }
    }

    fn keycloak(&self) -> Arc<Keycloak> {
        Arc::new(Keycloak::new(&self.realm.args()).expect("a client"))
    }

    /// Starts a replica of the service.
    async fn replica(&self) -> App {
        self.replica_on(self.keycloak()).await
    }

    async fn replica_on(&self, accounts: Arc<dyn AccountStore>) -> App {
        self.replica_with(accounts, &self.cache.args()).await
    }

    async fn replica_with(&self, accounts: Arc<dyn AccountStore>, redis: &RedisArgs) -> App {
        let redis = kit::redis::connection(redis).expect("a connection");
        let refreshes = Refreshes::shared(SharedRefreshes::new(redis, &self.name)).with_grace(GRACE);
        let users = Peers::default().start().await;
        App::with(&self.log, accounts, refreshes, Registration::Open, users)
    }

    /// Waits until no replica receives what another one was given.
    async fn grace_is_over(&self) {
        wait_for("the end of the grace period", PATIENCE, || async {
            self.cache.keys("refresh:").await.is_empty().then_some(())
        })
        .await;
    }
}

/// Returns the settings of a Redis that is down: nothing listens on port 9 (discard) of loopback.
fn no_redis() -> RedisArgs {
    RedisArgs {
        redis_addr: "127.0.0.1:9".to_owned(),
        redis_tls: Tls::Disabled,
        trust: TrustArgs::default(),
        redis_username: "u".to_owned(),
        redis_password: "p".into(),
    }
}

/// Sends one token six times at once, to all replicas in turn, and returns the answers.
async fn six_at_once(replicas: [&App; 2], tokens: &Value) -> [Value; 6] {
    let [a, b] = replicas.map(|replica| async {
        let [one, two, three] = [(); 3].map(|()| replica.post("refresh", refresh_token(tokens)));
        let (one, two, three) = tokio::join!(one, two, three);
        [one.ok(200), two.ok(200), three.ok(200)]
    });
    let ([a, b, c], [d, e, f]) = tokio::join!(a, b);
    [a, b, c, d, e, f]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_give_the_same_for_a_token_and_end_its_session_when_it_is_used_later() {
    let tenant = Tenant::create().await;
    let (one, two) = (tenant.replica().await, tenant.replica().await);
    one.register("ann").await.ok(201);
    let first = one.sign_in("ann").await;
    let mut tokens = first.clone();
    for round in 0..5 {
        let answers = six_at_once([&one, &two], &tokens).await;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "round {round}");
        tokens = answers[0].clone();
    }
    let mut reader = Reader::start(&tenant.log).await;
    let last = two.post("refresh", refresh_token(&tokens)).await.ok(200);
    tenant.grace_is_over().await;
    // The replica that was not asked for it.
    assert_eq!(one.post("refresh", refresh_token(&tokens)).await.code(), "unauthenticated");
    assert_eq!(reader.next().await, session(&first));
    assert_eq!(one.post("refresh", refresh_token(&last)).await.code(), "unauthenticated");
    assert_eq!(two.post("refresh", refresh_token(&last)).await.code(), "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_the_cache_learns_no_token_and_who_writes_to_it_gives_none() {
    let tenant = Tenant::create().await;
    let (one, two) = (tenant.replica().await, tenant.replica().await);
    one.register("ann").await.ok(201);
    let tokens = one.sign_in("ann").await;
    one.post("refresh", refresh_token(&tokens)).await.ok(200);
    let keys = tenant.cache.keys("").await;
    assert_eq!(keys.len(), 2, "what the token gave, and which of the session was used: {keys:?}");
    for key in &keys {
        let value = tenant.cache.value(key).await.expect("a value");
        // Every part of a token begins like this: a JSON object in base64.
        assert!(!String::from_utf8_lossy(&value).contains("eyJ"), "{key}");
        assert!(!key.contains("eyJ"), "{key}");
    }
    let given = keys.iter().find(|key| key.contains(":refresh:")).expect("what the token gave");
    tenant.cache.set(given, "something else").await;
    // It goes on without the entry, as it does without Redis.
    two.post("refresh", refresh_token(&tokens)).await.ok(200);
}

/// A realm from which answers to refreshes do not come as they should.
struct Unsteady {
    realm: Arc<dyn AccountStore>,
    fate: Fate,
    /// Refreshes that the realm has answered.
    answered: AtomicUsize,
    has_answered: Notify,
}

/// What becomes of an answer to a refresh.
enum Fate {
    /// The process is killed before it has noted it.
    Killed,
    /// The first ones do not come in time; this many.
    TimedOut(usize),
    /// It comes when this is notified.
    Slow(Notify),
}

impl Unsteady {
    fn new(realm: Arc<dyn AccountStore>, fate: Fate) -> Arc<Self> {
        Arc::new(Self { realm, fate, answered: AtomicUsize::new(0), has_answered: Notify::new() })
    }
}

#[async_trait]
impl AccountStore for Unsteady {
    async fn register(&self, account: &NewAccount) -> Result<UserId, StoreError> {
        self.realm.register(account).await
    }

    async fn account(&self, credentials: &Credentials) -> Result<Account, StoreError> {
        self.realm.account(credentials).await
    }

    async fn has_password(&self, user_id: UserId) -> Result<bool, StoreError> {
        self.realm.has_password(user_id).await
    }

    async fn delete(&self, user_id: UserId) -> Result<(), StoreError> {
        self.realm.delete(user_id).await
    }

    async fn exists(&self, user_id: UserId) -> Result<bool, StoreError> {
        self.realm.exists(user_id).await
    }

    async fn redeem(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Grant, StoreError> {
        self.realm.redeem(code, verifier, redirect_uri).await
    }

    async fn account_of(&self, email: &Email) -> Result<Option<UserId>, StoreError> {
        self.realm.account_of(email).await
    }

    async fn email(&self, user_id: UserId) -> Result<OwnEmail, StoreError> {
        self.realm.email(user_id).await
    }

    async fn set_email(&self, user_id: UserId, email: &Email) -> Result<(), StoreError> {
        self.realm.set_email(user_id, email).await
    }

    async fn sign_in(&self, credentials: &Credentials) -> Result<Grant, StoreError> {
        self.realm.sign_in(credentials).await
    }

    async fn refresh(&self, token: &SecretString) -> Result<Grant, StoreError> {
        let answer = self.realm.refresh(token).await;
        let before = self.answered.fetch_add(1, SeqCst);
        self.has_answered.notify_one();
        match &self.fate {
            Fate::Killed => pending().await,
            Fate::TimedOut(times) if before < *times => {
                answer.expect("the realm goes on with the session");
                Err(StoreError::Unable { step: "go on with a session", status: 504 })
            }
            Fate::TimedOut(_) => answer,
            Fate::Slow(go) => {
                go.notified().await;
                answer
            }
        }
    }

    async fn sign_out(&self, token: &SecretString) -> Result<Session, StoreError> {
        self.realm.sign_out(token).await
    }

    async fn sessions(&self, user_id: UserId) -> Result<Vec<ListedSession>, StoreError> {
        self.realm.sessions(user_id).await
    }

    async fn end(&self, session: &Session) -> Result<(), StoreError> {
        self.realm.end(session).await
    }

    async fn set_password(&self, user_id: UserId, password: &Password) -> Result<(), StoreError> {
        self.realm.set_password(user_id, password).await
    }

    async fn close_other_ways(&self, user_id: UserId) -> Result<(), StoreError> {
        self.realm.close_other_ways(user_id).await
    }

    async fn set_closed(&self, user_id: UserId, is_closed: bool) -> Result<(), StoreError> {
        self.realm.set_closed(user_id, is_closed).await
    }

    async fn is_closed(&self, user_id: UserId) -> Result<bool, StoreError> {
        self.realm.is_closed(user_id).await
    }

    async fn revoke_tokens(&self, user_id: UserId) -> Result<(), StoreError> {
        self.realm.revoke_tokens(user_id).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_with_the_answer_of_the_realm_throws_nobody_out() {
    let tenant = Tenant::create().await;
    let killed = Unsteady::new(tenant.keycloak(), Fate::Killed);
    let replica = tenant.replica_on(killed.clone()).await;
    let (one, two) = (tenant.replica().await, tenant.replica().await);
    one.register("ann").await.ok(201);
    let tokens = one.sign_in("ann").await;
    let body = refresh_token(&tokens);
    let lost = tokio::spawn(async move { replica.post("refresh", body).await.status });
    killed.has_answered.notified().await;
    let answers = six_at_once([&one, &two], &tokens).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert!(!lost.is_finished());
    two.post("refresh", refresh_token(&answers[0])).await.ok(200);
    lost.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_realm_that_come_too_late_throw_nobody_out() {
    let tenant = Tenant::create().await;
    let late = Unsteady::new(tenant.keycloak(), Fate::TimedOut(REFRESH_RETRIES.into()));
    let (one, two) = (tenant.replica_on(late.clone()).await, tenant.replica_on(late.clone()).await);
    one.register("ann").await.ok(201);
    let tokens = one.sign_in("ann").await;
    for n in 0..REFRESH_RETRIES {
        let replica = if n % 2 == 0 { &one } else { &two };
        assert_eq!(replica.post("refresh", refresh_token(&tokens)).await.code(), "unavailable");
    }
    let answers = six_at_once([&one, &two], &tokens).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    one.post("refresh", refresh_token(&answers[5])).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_out_at_one_replica_is_one_at_all() {
    let tenant = Tenant::create().await;
    let (one, two) = (tenant.replica().await, tenant.replica().await);
    one.register("ann").await.ok(201);
    let (phone, desk) = (one.sign_in("ann").await, one.sign_in("ann").await);
    let next = one.post("refresh", refresh_token(&phone)).await.ok(200);
    assert_eq!(two.post("refresh", refresh_token(&phone)).await.ok(200), next);
    two.post("sign-out", refresh_token(&next)).await.ok(204);
    for replica in [&one, &two] {
        for tokens in [&phone, &next] {
            let answer = replica.post("refresh", refresh_token(tokens)).await;
            assert_eq!(answer.code(), "unauthenticated");
        }
    }
    one.post("refresh", refresh_token(&desk)).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_replica_gives_the_same_for_itself() {
    let tenant = Tenant::create().await;
    let (one, two) = (
        tenant.replica_with(tenant.keycloak(), &no_redis()).await,
        tenant.replica_with(tenant.keycloak(), &no_redis()).await,
    );
    one.register("ann").await.ok(201);
    let first = one.sign_in("ann").await;
    let [a, b, c] = [(); 3].map(|()| one.post("refresh", refresh_token(&first)));
    let (a, b, c) = tokio::join!(a, b, c);
    let second = a.ok(200);
    assert_eq!((b.ok(200), c.ok(200)), (second.clone(), second.clone()));
    // The realm takes this for a lost answer, and gives something else.
    let other = two.post("refresh", refresh_token(&first)).await.ok(200);
    assert_ne!(other["refresh_token"], second["refresh_token"]);

    let third = two.post("refresh", refresh_token(&other)).await.ok(200);
    let mut reader = Reader::start(&tenant.log).await;
    // The realm itself knows what is used after that.
    wait_for("the end of the session", PATIENCE, || async {
        (one.post("refresh", refresh_token(&first)).await.status == 401).then_some(())
    })
    .await;
    assert_eq!(reader.next().await, session(&first));
    assert_eq!(one.post("refresh", refresh_token(&third)).await.code(), "unauthenticated");
}

#[tokio::test]
async fn a_token_that_is_used_later_ends_its_session_in_memory_too() {
    let log = Log::memory();
    let refreshes = Refreshes::in_process().with_grace(Duration::from_millis(300));
    let users = Peers::default().start().await;
    let app = App::with(&log, Arc::new(memory_realm()), refreshes, Registration::Open, users);
    app.register("ann").await.ok(201);
    let first = app.sign_in("ann").await;
    let second = app.post("refresh", refresh_token(&first)).await.ok(200);
    // The realm would take this for a lost answer.
    wait_for("the end of the session", PATIENCE, || async {
        let again = app.post("refresh", refresh_token(&first)).await;
        if again.status == 200 {
            assert_eq!(again.body, second)
        }
        (again.status == 401).then_some(())
    })
    .await;
    assert_eq!(Reader::start(&log).await.next().await, session(&first));
    assert_eq!(app.post("refresh", refresh_token(&second)).await.code(), "unauthenticated");
}

#[tokio::test]
async fn a_refresh_goes_on_when_its_client_goes_away() {
    let slow = Unsteady::new(Arc::new(memory_realm()), Fate::Slow(Notify::new()));
    let users = Peers::default().start().await;
    let app = App::on(&Log::memory(), slow.clone(), Registration::Open, users);
    app.register("ann").await.ok(201);
    let tokens = app.sign_in("ann").await;
    tokio::select! {
        _ = app.post("refresh", refresh_token(&tokens)) => panic!("the realm has not answered"),
        () = slow.has_answered.notified() => {}
    }
    let Fate::Slow(go) = &slow.fate else { panic!("it is slow") };
    go.notify_one();
    let next = app.post("refresh", refresh_token(&tokens)).await.ok(200);
    go.notify_one();
    app.post("refresh", refresh_token(&next)).await.ok(200);
    assert_eq!(slow.answered.load(SeqCst), 2, "each token was used once");
}
