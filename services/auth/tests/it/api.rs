//! Stories over REST and gRPC.

use std::sync::Arc;

use auth::{
    api::grpc::AuthRpc,
    config::Registration,
    state::AppState,
    store::{AccountStore, Keycloak, MemoryStore},
};
use contracts::{
    ChatId, UserId,
    rpc::{
        CheckMembershipRequest, CheckTokenRequest, EnsureUserRequest, auth_service_server::AuthService as _,
    },
};
use kit::{
    auth::TokenVerifier,
    testing::{Answer, TestApi, TestRealm},
};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::peers::{self, Clients, Peers};

const PASSWORD: &str = "correct horse";

/// The REST API over an account store.
struct App {
    api: TestApi,
}

impl App {
    fn new(accounts: impl AccountStore, registration: Registration, clients: Clients) -> Self {
        let state = AppState { accounts: Arc::new(accounts), registration, users: clients.users };
        Self { api: TestApi::new(auth::api::router(state)) }
    }

    async fn post(&self, what: &str, body: Value) -> Answer {
        self.api.send(&format!("POST /api/auth/{what}"), None, Some(body)).await
    }

    async fn register(&self, username: &str) -> Answer {
        self.post("register", json!({"username": username, "password": PASSWORD})).await
    }
}

#[tokio::test]
async fn a_person_registers_signs_in_and_out() {
    let peers = Peers::default();
    let app = App::new(MemoryStore::default(), Registration::Open, peers.start().await);
    let body = json!({"username": "ann", "password": PASSWORD, "display_name": " Ann A. "});
    let registered = app.post("register", body).await.ok(201);
    assert_eq!(registered["username"], "ann");
    let told = peers.ensured.lock().expect("no panic").clone();
    let expected = EnsureUserRequest {
        user_id: registered["user_id"].as_str().expect("an id").to_owned(),
        username: "ann".to_owned(),
        display_name: "Ann A.".to_owned(),
    };
    assert_eq!(told, [expected]);

    let tokens = app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await.ok(200);
    assert!(tokens["access_token"].is_string() && tokens["expires_in_seconds"] == 300);
    let session = json!({"refresh_token": tokens["refresh_token"]});
    assert!(app.post("refresh", session.clone()).await.ok(200)["access_token"].is_string());
    app.post("sign-out", session.clone()).await.ok(204);
    app.post("sign-out", session.clone()).await.ok(204);
    assert_eq!(app.post("refresh", session).await.code(), "unauthenticated");
}

#[tokio::test]
async fn a_registration_stands_while_the_user_service_is_down() {
    let app = App::new(MemoryStore::default(), Registration::Open, peers::unreachable());
    app.register("ann").await.ok(201);
    assert_eq!(app.register("ann").await.code(), "conflict");
}

#[tokio::test]
async fn by_invitation_only_nobody_registers_but_people_sign_in() {
    let peers = Peers::default();
    let app = App::new(MemoryStore::default(), Registration::InviteOnly, peers.start().await);
    assert_eq!(app.register("ann").await.code(), "permission_denied");
    let answer = app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await;
    assert_eq!(answer.code(), "unauthenticated");
    assert!(peers.ensured.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_one_answer() {
    let app = App::new(MemoryStore::default(), Registration::Open, peers::unreachable());
    app.register("ann").await.ok(201);
    let wrong = app.post("sign-in", json!({"username": "ann", "password": "guess"})).await;
    let unknown = app.post("sign-in", json!({"username": "eve", "password": PASSWORD})).await;
    assert_eq!(wrong.code(), "unauthenticated");
    assert_eq!(wrong, unknown);
}

#[tokio::test]
async fn bad_input_gets_a_code_and_makes_no_account() {
    let peers = Peers::default();
    let app = App::new(MemoryStore::default(), Registration::Open, peers.start().await);
    let cases = [
        ("register", json!({"username": "Ann", "password": PASSWORD})),
        ("register", json!({"username": "ann", "password": "short"})),
        ("register", json!({"username": "ann", "password": "x".repeat(257)})),
        ("register", json!({"username": "ann", "password": PASSWORD, "display_name": ""})),
        ("register", json!({"username": "ann", "password": PASSWORD, "roles": ["admin"]})),
        ("register", json!({"username": "ann"})),
        ("sign-in", json!({"username": "ann"})),
        ("sign-in", json!({"username": "ann", "password": PASSWORD, "realm": "globex"})),
        ("refresh", json!({})),
        ("sign-out", json!({"refresh_token": 7})),
    ];
    for (what, body) in cases {
        let answer = app.post(what, body.clone()).await;
        assert_eq!(answer.code(), "invalid_argument", "{what} {body}");
        assert!(!answer.body.to_string().contains(PASSWORD));
    }
    let no_body = app.api.send("POST /api/auth/sign-in", None, None).await;
    assert_eq!(no_body.code(), "malformed");
    assert!(peers.ensured.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_realm_that_is_down_is_a_problem_that_tells_nothing() {
    let args = auth::config::RealmArgs {
        keycloak_url: "http://127.0.0.1:9".parse().expect("a URL"),
        realm: "acme".to_owned(),
        oidc_client_id: "messenger-auth".to_owned(),
        oidc_client_secret: "hunter2".into(),
    };
    let realm = Keycloak::new(&args).expect("a client");
    let app = App::new(realm, Registration::Open, peers::unreachable());
    for answer in [
        app.register("ann").await,
        app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await,
    ] {
        assert_eq!((answer.status, answer.code()), (503, "unavailable"));
        assert!(answer.body.get("detail").is_none(), "{answer:?}");
    }
}

#[tokio::test]
async fn other_services_check_tokens_and_memberships() {
    let (realm, globex) = (TestRealm::start("acme").await, TestRealm::start("globex").await);
    let verifier = TokenVerifier::new(&realm.args()).expect("a verifier");
    let peers = Peers::default();
    let rpc = AuthRpc::new(verifier.clone(), peers.start().await.chats);
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let token = realm.token(ann, "ann");
    let check_token = async |access_token: &str| {
        let request = CheckTokenRequest { access_token: access_token.to_owned() };
        let answer = rpc.check_token(Request::new(request)).await;
        answer.map(|answer| answer.into_inner().username).map_err(|status| status.code())
    };
    assert_eq!(check_token(&token).await, Ok("ann".to_owned()));
    assert_eq!(check_token(&globex.token(ann, "ann")).await, Err(Code::Unauthenticated));
    assert_eq!(check_token("").await, Err(Code::Unauthenticated));

    let ask = |access_token: &str, chat_id: &str| {
        Request::new(CheckMembershipRequest {
            access_token: access_token.to_owned(),
            chat_id: chat_id.to_owned(),
        })
    };
    let check = async |access_token: &str, chat_id: &str| {
        let answer = rpc.check_membership(ask(access_token, chat_id)).await;
        answer.map(|answer| answer.into_inner().role).map_err(|status| status.code())
    };
    let chat = chat.to_string();
    assert_eq!(check(&token, &chat).await, Ok(String::new()), "not a member");
    *peers.membership.lock().expect("no panic") = Some((chat.clone(), ann.to_string(), "admin".to_owned()));
    assert_eq!(check(&token, &chat).await, Ok("admin".to_owned()));
    assert_eq!(check(&token, "7").await, Err(Code::InvalidArgument));
    assert_eq!(check("nonsense", &chat).await, Err(Code::Unauthenticated));

    let lonely = AuthRpc::new(verifier, peers::unreachable().chats);
    let status = lonely.check_membership(ask(&token, &chat)).await.expect_err("the chat service is down");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn the_description_names_every_endpoint_and_its_problems() {
    let state = AppState {
        accounts: Arc::new(MemoryStore::default()),
        registration: Registration::Open,
        users: peers::unreachable().users,
    };
    let description = serde_json::to_value(auth::api::router(state).get_openapi()).expect("json");
    let statuses = |what: &str| {
        let operation = &description["paths"][format!("/api/auth/{what}")]["post"];
        let responses = operation["responses"].as_object().expect("responses");
        responses.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(statuses("register"), "201 400 403 409 413 500 503");
    assert_eq!(statuses("sign-in"), "200 400 401 413 500 503");
    assert_eq!(statuses("refresh"), "200 400 401 413 500 503");
    assert_eq!(statuses("sign-out"), "204 400 401 413 500 503");
}
