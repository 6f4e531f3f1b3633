//! Stories over REST.

use std::sync::Arc;

use auth::{
    api::{AppState, grpc::AccountRpc},
    config::Registration,
    deletions::Deletions,
    domain::attempts::AttemptRates,
    events::SessionEvents,
    external::External,
    guard::{Guard, Refreshes},
    metrics::Metrics,
    recovery::Recovery,
    store::{AccountStore, Keycloak, Tickets},
};
use contracts::rpc::{EnsureUserRequest, user_service_client::UserServiceClient};
use kit::{
    auth::TokenVerifier,
    log::Log,
    mail::Mailer,
    rpc::InternalChannel,
    testing::{Answer, TestApi},
};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::{
    memory_realm,
    peers::{self, Peers},
    realm::Realm,
};

pub const TENANT: &str = "acme";
pub const PASSWORD: &str = "correct horse";

/// The REST API over an account store.
pub struct App {
    api: TestApi,
    state: AppState,
    pub deletions: Deletions,
}

impl App {
    fn new(
        accounts: impl AccountStore,
        registration: Registration,
        users: UserServiceClient<InternalChannel>,
    ) -> Self {
        Self::on(&Log::memory(), Arc::new(accounts), registration, users)
    }

    /// Creates an API that publishes to this log.
    pub fn on(
        log: &Log,
        accounts: Arc<dyn AccountStore>,
        registration: Registration,
        users: UserServiceClient<InternalChannel>,
    ) -> Self {
        Self::with(log, accounts, Refreshes::in_process(), registration, users)
    }

    /// Creates an API that remembers refreshes like this.
    pub fn with(
        log: &Log,
        accounts: Arc<dyn AccountStore>,
        refreshes: Refreshes,
        registration: Registration,
        users: UserServiceClient<InternalChannel>,
    ) -> Self {
        let events = SessionEvents::new(log, TENANT).expect("a producer");
        let accounts = Guard::new(accounts, events, refreshes, AttemptRates::default(), TaskTracker::new());
        let deletions = Deletions::new(accounts.clone(), users.clone());
        let tasks = TaskTracker::new();
        let recovery = Recovery::new(accounts.clone(), None, Tickets::in_process(), tasks);
        let state = AppState {
            accounts,
            deletions: deletions.clone(),
            external: External::none(),
            metrics: Metrics::default(),
            recovery,
            registration,
            users,
        };
        Self { api: TestApi::open(auth::api::router(state.clone())), state, deletions }
    }

    /// Lets users sign in with these providers.
    pub fn with_providers(self, external: External) -> Self {
        let state = AppState { external, ..self.state };
        Self { api: TestApi::open(auth::api::router(state.clone())), state, ..self }
    }

    /// Sends mail with this.
    pub fn with_mail(self, mail: Option<(Mailer, String)>, tickets: Tickets) -> Self {
        let recovery = Recovery::new(self.state.accounts.clone(), mail, tickets, TaskTracker::new());
        let state = AppState { recovery, ..self.state };
        Self { api: TestApi::open(auth::api::router(state.clone())), state, ..self }
    }

    /// Returns what the tenant's other services call.
    pub fn accounts(&self) -> AccountRpc {
        AccountRpc::new(self.state.accounts.clone())
    }

    /// Sends a request with headers.
    pub async fn send_with(&self, line: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        self.api.send_with(line, None, headers, body).await
    }

    /// Takes the tokens that this verifier takes.
    pub fn verifying(self, verifier: Arc<TokenVerifier>) -> Self {
        Self { api: self.api.verifying(verifier), ..self }
    }

    /// Sends a request with the access token of a response to a sign-in, if any.
    pub async fn send(&self, line: &str, tokens: Option<&Value>, body: Option<Value>) -> Answer {
        let token = tokens.map(|tokens| tokens["access_token"].as_str().expect("a token"));
        self.api.send(line, token, body).await
    }

    /// Signs in and returns the tokens.
    pub async fn sign_in(&self, username: &str) -> Value {
        self.post("sign-in", json!({"username": username, "password": PASSWORD})).await.ok(200)
    }

    pub async fn post(&self, what: &str, body: Value) -> Answer {
        self.api.send(&format!("POST /api/auth/{what}"), None, Some(body)).await
    }

    pub async fn register(&self, username: &str) -> Answer {
        self.post("register", json!({"username": username, "password": PASSWORD})).await
    }
}

#[tokio::test]
async fn a_user_registers_signs_in_and_out() {
    let peers = Peers::default();
    let app = App::new(memory_realm(), Registration::Open, peers.start().await);
    let body = json!({"username": "ann", "password": PASSWORD, "display_name": " Ann A. "});
    let registered = app.post("register", body).await.ok(201);
    assert_eq!(registered["username"], "ann");
    let ensured = peers.ensured.lock().expect("no panic").clone();
    let expected = EnsureUserRequest {
        user_id: registered["user_id"].as_str().expect("an id").to_owned(),
        username: "ann".to_owned(),
        display_name: "Ann A.".to_owned(),
    };
    assert_eq!(ensured, [expected]);

    let tokens = app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await.ok(200);
    assert!(tokens["access_token"].is_string() && tokens["expires_in_seconds"] == 300);
    let session = json!({"refresh_token": tokens["refresh_token"]});
    assert!(app.post("refresh", session.clone()).await.ok(200)["access_token"].is_string());
    app.post("sign-out", session.clone()).await.ok(204);
    app.post("sign-out", session.clone()).await.ok(204);
    assert_eq!(app.post("refresh", session).await.code(), "unauthenticated");
}

#[tokio::test]
async fn no_name_is_given_out_that_a_profile_has_or_may_have() {
    let peers = Peers::default();
    let users = peers.start().await;
    let app = App::new(memory_realm(), Registration::Open, users.clone());
    app.register("ann").await.ok(201);
    assert_eq!(app.register("ann").await.code(), "conflict");
    // The realm has forgotten her, and her profile is there.
    let later = App::new(memory_realm(), Registration::Open, users);
    let answer = later.register("ann").await;
    assert_eq!((answer.status, answer.code()), (409, "conflict"));
    let body = json!({"username": "ann", "password": PASSWORD});
    let again = later
        .api
        .send_with("POST /api/auth/register", None, &[("idempotency-key", "5f0c")], Some(body))
        .await;
    assert_eq!(again.code(), "conflict", "a key is no right to a name");
    later.register("bob").await.ok(201);
    let unknown = App::new(memory_realm(), Registration::Open, peers::unreachable());
    assert_eq!(unknown.register("ann").await.code(), "unavailable");
}

#[tokio::test]
async fn a_registration_that_is_repeated_with_its_key_is_the_same_account() {
    let peers = Peers::default();
    let app = App::new(memory_realm(), Registration::Open, peers.start().await);
    let register = async |password: &str, key: Option<&str>| {
        let headers: Vec<_> = key.iter().map(|key| ("idempotency-key", *key)).collect();
        let body = json!({"username": "ann", "password": password});
        app.api.send_with("POST /api/auth/register", None, &headers, Some(body)).await
    };
    let first = register(PASSWORD, Some("5f0c")).await.ok(201);
    assert_eq!(register(PASSWORD, Some("5f0c")).await.ok(200), first);
    assert_eq!(register("another password", Some("5f0c")).await.code(), "conflict");
    assert_eq!(register(PASSWORD, None).await.code(), "conflict");
    assert_eq!(register(PASSWORD, Some("two words")).await.code(), "invalid_argument");
    let ensured = peers.ensured.lock().expect("no panic").clone();
    assert_eq!(ensured.len(), 2, "the retry creates a profile that is missing");
    assert_eq!(ensured[0], ensured[1]);
}

#[tokio::test]
async fn by_invitation_only_registration_is_refused_and_users_sign_in() {
    let peers = Peers::default();
    let app = App::new(memory_realm(), Registration::InviteOnly, peers.start().await);
    assert_eq!(app.register("ann").await.code(), "permission_denied");
    let answer = app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await;
    assert_eq!(answer.code(), "unauthenticated");
    assert!(peers.ensured.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_one_answer() {
    let app = App::new(memory_realm(), Registration::Open, Peers::default().start().await);
    app.register("ann").await.ok(201);
    let wrong = app.post("sign-in", json!({"username": "ann", "password": "guess"})).await;
    let unknown = app.post("sign-in", json!({"username": "eve", "password": PASSWORD})).await;
    assert_eq!(wrong.code(), "unauthenticated");
    assert_eq!(wrong, unknown);
}

#[tokio::test]
async fn who_guesses_passwords_is_held_up_and_the_owner_elsewhere_is_not() {
    let app = App::new(memory_realm(), Registration::Open, Peers::default().start().await);
    app.register("ann").await.ok(201);
    let sign_in = async |address: &str, password: &str| {
        let body = json!({"username": " ANN", "password": password});
        // What a client claims comes before what Traefik has seen.
        let forwarded = format!("203.0.113.9, {address}");
        app.api
            .send_with("POST /api/auth/sign-in", None, &[("x-forwarded-for", &forwarded)], Some(body))
            .await
    };
    for _ in 0..5 {
        assert_eq!(sign_in("192.0.2.1", "guess").await.code(), "unauthenticated");
    }
    for password in ["guess", PASSWORD] {
        let answer = sign_in("192.0.2.1", password).await;
        assert_eq!((answer.status, answer.code()), (429, "rate_limited"));
        assert_eq!(answer.retry_after, Some(30));
    }
    for _ in 0..20 {
        sign_in("192.0.2.2", PASSWORD).await.ok(200);
    }
}

#[tokio::test]
async fn windows_that_refresh_at_once_receive_the_same_tokens() {
    let app = App::new(memory_realm(), Registration::Open, Peers::default().start().await);
    app.register("ann").await.ok(201);
    let tokens = app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await.ok(200);
    let session = json!({"refresh_token": tokens["refresh_token"]});
    let [one, two, three] = [(); 3].map(|()| app.post("refresh", session.clone()));
    let (one, two, three) = tokio::join!(one, two, three);
    let one = one.ok(200);
    assert_eq!((two.ok(200), three.ok(200)), (one.clone(), one.clone()));
    assert_ne!(one["refresh_token"], tokens["refresh_token"], "a token is good for one refresh");
    let next = json!({"refresh_token": one["refresh_token"]});
    app.post("refresh", next.clone()).await.ok(200);
    app.post("sign-out", next.clone()).await.ok(204);
    assert_eq!(app.post("refresh", next).await.code(), "unauthenticated", "nothing is remembered of an end");
}

#[tokio::test]
async fn bad_input_gets_a_code_and_makes_no_account() {
    let peers = Peers::default();
    let app = App::new(memory_realm(), Registration::Open, peers.start().await);
    let cases = [
        ("register", json!({"username": "Änn", "password": PASSWORD})),
        ("register", json!({"username": "ann", "password": PASSWORD, "display_name": "\u{3164}"})),
        ("sign-in", json!({"username": " ", "password": PASSWORD})),
        ("sign-in", json!({"username": "x".repeat(256), "password": PASSWORD})),
        ("sign-in", json!({"username": "ann", "password": ""})),
        ("sign-in", json!({"username": "ann", "password": "x".repeat(257)})),
        ("register", json!({"username": "ann", "password": "short"})),
        ("register", json!({"username": "ann", "password": "        "})),
        ("register", json!({"username": "ann", "password": "x".repeat(257)})),
        ("register", json!({"username": "ann", "password": PASSWORD, "display_name": ""})),
        ("register", json!({"username": "ann", "password": PASSWORD, "roles": ["admin"]})),
        ("register", json!({"username": "ann"})),
        ("sign-in", json!({"username": "ann"})),
        ("sign-in", json!({"username": "ann", "password": PASSWORD, "realm": "globex"})),
        ("delete-account", json!({"username": "ann"})),
        ("refresh", json!({})),
        ("sign-out", json!({"refresh_token": 7})),
    ];
    for (what, body) in cases {
        let answer = app.post(what, body.clone()).await;
        assert_eq!(answer.code(), "invalid_argument", "{what} {body}");
        assert!(!answer.body.to_string().contains(PASSWORD));
    }
    let no_body = app.api.send("POST /api/auth/sign-in", None, None).await;
    assert_eq!(no_body.code(), "unsupported_media_type");
    assert!(peers.ensured.lock().expect("no panic").is_empty());
}

/// On a real realm, because what it makes of odd input is what this is about.
#[tokio::test]
async fn no_input_is_a_fault_of_the_service() {
    let realm = Realm::create().await;
    let app = App::new(
        Keycloak::new(&realm.args()).expect("a client"),
        Registration::Open,
        Peers::default().start().await,
    );
    app.register("ann").await.ok(201);
    let long = "x".repeat(100_000);
    let sign_in = |username: &str, password: &str| json!({"username": username, "password": password});
    let token = |token: &str| json!({"refresh_token": token});
    let cases = [
        ("sign-in", sign_in("a\0b", PASSWORD), "invalid_argument"),
        ("sign-in", sign_in("ann", "correct\0horse"), "invalid_argument"),
        ("register", sign_in("bob", "correct\0horse"), "invalid_argument"),
        ("sign-in", json!(["ann", PASSWORD]), "invalid_argument"),
        ("register", json!(["bob", PASSWORD, null]), "invalid_argument"),
        ("refresh", json!(["token"]), "invalid_argument"),
        ("refresh", token(""), "unauthenticated"),
        ("refresh", token(" "), "unauthenticated"),
        ("refresh", token(&long[..4000]), "unauthenticated"),
        ("refresh", token(&long[..4001]), "unauthenticated"),
        ("refresh", token(&long), "unauthenticated"),
        ("sign-out", token(""), "unauthenticated"),
        ("sign-out", token(&long[..4000]), "unauthenticated"),
        ("sign-out", token(&long), "unauthenticated"),
    ];
    for (what, body, code) in cases {
        let answer = app.post(what, body.clone()).await;
        assert_eq!(answer.code(), code, "{what} {}", &body.to_string()[..40.min(body.to_string().len())]);
    }
}

#[tokio::test]
async fn a_deletion_publishes_the_name_of_the_account_and_not_what_was_typed() {
    let realm = Realm::create().await;
    realm.add_account("ann", Some("ann@corp.example")).await;
    let peers = Peers::default();
    let users = peers.start().await;
    let app = App::new(Keycloak::new(&realm.args()).expect("a client"), Registration::Open, users);
    let delete = async || {
        app.post("delete-account", json!({"username": "ann@corp.example", "password": PASSWORD})).await
    };
    let refused = delete().await;
    assert_eq!((refused.status, refused.code()), (401, "unauthenticated"), "an address signs nobody in");
    realm.allow_addresses().await;
    delete().await.ok(200);
    let ensured = peers.ensured.lock().expect("no panic").clone();
    assert_eq!(ensured[0].username, "ann");
    assert_eq!(app.register("ann").await.code(), "conflict", "the name is not given out again");
}

/// An administrator gave it the name in the realm, where the auth service gives it to nobody.
#[tokio::test]
async fn an_account_with_the_name_of_a_deleted_one_can_be_deleted() {
    let peers = Peers::default();
    peers.refused.lock().expect("no panic").insert("ann".to_owned());
    let app = App::new(memory_realm(), Registration::Open, peers.start().await);
    app.register("ann").await.ok(201);
    let credentials = json!({"username": "ann", "password": PASSWORD});
    app.post("delete-account", credentials.clone()).await.ok(200);
    let gone = app.post("sign-in", credentials).await;
    assert_eq!((gone.status, gone.code()), (401, "unauthenticated"));
    assert!(peers.deleted.lock().expect("no panic").is_empty(), "there is no profile to delete");
}

#[tokio::test]
async fn a_realm_that_is_down_is_a_problem_without_details() {
    let args = auth::config::RealmArgs {
        keycloak_url: "http://127.0.0.1:9".parse().expect("a URL"),
        realm: "acme".to_owned(),
        oidc_client_id: "messenger-auth".to_owned(),
        oidc_client_secret: "hunter2".into(),
        trust: kit::config::TrustArgs::default(),
    };
    let realm = Keycloak::new(&args).expect("a client");
    let app = App::new(realm, Registration::Open, Peers::default().start().await);
    for answer in [
        app.register("ann").await,
        app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await,
    ] {
        assert_eq!((answer.status, answer.code()), (503, "unavailable"));
        assert!(answer.body.get("detail").is_none(), "{answer:?}");
    }
}

#[tokio::test]
async fn the_description_names_every_endpoint_and_its_problems() {
    let users = Peers::default().start().await;
    let accounts = Guard::new(
        Arc::new(memory_realm()),
        SessionEvents::new(&Log::memory(), TENANT).expect("a producer"),
        Refreshes::in_process(),
        AttemptRates::default(),
        TaskTracker::new(),
    );
    let deletions = Deletions::new(accounts.clone(), users.clone());
    let recovery = Recovery::new(accounts.clone(), None, Tickets::in_process(), TaskTracker::new());
    let registration = Registration::Open;
    let (external, metrics) = (External::none(), Metrics::default());
    let state = AppState { accounts, deletions, external, metrics, recovery, registration, users };
    let description = serde_json::to_value(auth::api::router(state).get_openapi()).expect("json");
    let statuses = |what: &str| {
        let operation = &description["paths"][format!("/api/auth/{what}")]["post"];
        let responses = operation["responses"].as_object().expect("responses");
        responses.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(statuses("register"), "200 201 400 403 409 413 415 500 503");
    assert_eq!(statuses("delete-account"), "200 400 401 413 415 500 503");
    assert_eq!(statuses("sign-in"), "200 400 401 413 415 500 503");
    assert_eq!(statuses("refresh"), "200 400 401 413 415 500 503");
    assert_eq!(statuses("sign-out"), "204 400 401 413 415 500 503");
    // One rule, here and in the realms that the operator makes.
    let username = &description["components"]["schemas"]["RegisterRequest"]["properties"]["username"];
    assert_eq!(username["pattern"], kit::catalog::USERNAME_PATTERN);
}
