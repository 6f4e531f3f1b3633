//! One suite for every store, and what only a realm can get wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use auth::{
    config::RealmArgs,
    domain::{Account, Credentials, ListedSession, NewAccount, OwnEmail, Session, email::Email},
    error::Error,
    store::{AccountStore, Keycloak, MemoryStore, StoreError},
};
use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
    routing::{get, post},
};
use contracts::{
    ErrorCode, UserId,
    api::{RegisterRequest, SignInRequest},
};
use kit::{
    auth::TokenVerifier,
    catalog::REFRESH_RETRIES,
    config::TrustArgs,
    error::{ServiceError as _, chain},
    testing::TlsFront,
    text::Password,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    issuer, memory_realm,
    realm::{FAILURES, Realm},
};

type Store = dyn AccountStore;

const PASSWORD: &str = "correct horse";

fn account(username: &str, password: &str) -> NewAccount {
    let request =
        RegisterRequest { username: username.to_owned(), password: password.to_owned(), display_name: None };
    NewAccount::parse(request).expect("an account")
}

fn credentials(username: &str, password: &str) -> Credentials {
    let request = SignInRequest { username: username.to_owned(), password: password.to_owned() };
    Credentials::parse(request).expect("credentials")
}

/// Returns an unused username.
fn username() -> String {
    format!("a{}", &Uuid::new_v4().simple().to_string()[..20])
}

fn secret(text: &str) -> SecretString {
    text.into()
}

async fn a_session_lives_from_sign_in_to_sign_out(store: &Store) {
    let name = username();
    store.register(&account(&name, PASSWORD)).await.expect("an account");
    let first = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    assert!(first.expires_in_seconds > 0 && first.refresh_expires_in_seconds >= first.expires_in_seconds);
    let second = store.refresh(&first.refresh_token).await.expect("new tokens");
    assert_ne!(first.access_token.expose_secret(), second.access_token.expose_secret());
    let other = store.sign_in(&credentials(&name, PASSWORD)).await.expect("another session");
    assert_eq!(first.session, second.session, "a refresh goes on with the session");
    assert_ne!(first.session.id, other.session.id);
    for _ in 0..2 {
        let ended = store.sign_out(&second.refresh_token).await.expect("an end, and the same again");
        assert_eq!(ended, first.session);
    }
    let after = store.refresh(&second.refresh_token).await;
    assert!(matches!(after, Err(StoreError::SessionOver)), "{after:?}");
    store.refresh(&other.refresh_token).await.expect("the other session goes on");
}

async fn a_closed_account_begins_and_refreshes_no_session(store: &Store) {
    let name = username();
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    let grant = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    assert!(!store.is_closed(user_id).await.expect("a look"));
    for _ in 0..2 {
        store.set_closed(user_id, true).await.expect("it is closed");
        assert!(store.is_closed(user_id).await.expect("a look"));
    }
    let refused = store.sign_in(&credentials(&name, PASSWORD)).await;
    assert!(matches!(refused, Err(StoreError::Rejected)), "{refused:?}");
    let refused = store.refresh(&grant.refresh_token).await;
    let is_refused = matches!(refused, Err(StoreError::SessionOver | StoreError::InvalidRefreshToken));
    assert!(is_refused, "{refused:?}");
    store.set_closed(user_id, false).await.expect("it is open");
    assert!(!store.is_closed(user_id).await.expect("a look"));
    store.sign_in(&credentials(&name, PASSWORD)).await.expect("another session");
    let unknown = UserId::generate();
    store.set_closed(unknown, true).await.expect("an unknown user is no error");
    assert!(!store.is_closed(unknown).await.expect("a look"));
}

/// Keycloak knows a token that was used before by the second in which it was issued.
async fn next_second() {
    let second =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let began = second();
    while second() == began {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_refresh_token_is_good_once(store: &Store) {
    let name = username();
    store.register(&account(&name, PASSWORD)).await.expect("an account");
    let first = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let second = store.refresh(&first.refresh_token).await.expect("new tokens");
    next_second().await;
    let third = store.refresh(&second.refresh_token).await.expect("new tokens");
    let again = store.refresh(&first.refresh_token).await;
    assert!(matches!(again, Err(StoreError::SessionOver)), "{again:?}");
    store.sign_out(&third.refresh_token).await.expect("an end");
}

async fn what_a_refresh_gave_and_was_lost_is_replaced(store: &Store) {
    let name = username();
    store.register(&account(&name, PASSWORD)).await.expect("an account");
    let first = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let mut last = store.refresh(&first.refresh_token).await.expect("new tokens");
    for _ in 0..REFRESH_RETRIES {
        last = store.refresh(&first.refresh_token).await.expect("others in their place");
    }
    last = store.refresh(&last.refresh_token).await.expect("the last are good");
    let again = store.refresh(&last.refresh_token).await.expect("and what they give");
    for _ in 0..REFRESH_RETRIES {
        store.refresh(&last.refresh_token).await.expect("others in their place");
    }
    let too_often = store.refresh(&last.refresh_token).await;
    assert!(matches!(too_often, Err(StoreError::SessionOver)), "{too_often:?}");
    store.sign_out(&again.refresh_token).await.expect("an end");
}

async fn of_two_who_hold_what_one_token_gave_the_second_ends_the_session(store: &Store) {
    let name = username();
    store.register(&account(&name, PASSWORD)).await.expect("an account");
    let first = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let owner = store.refresh(&first.refresh_token).await.expect("new tokens");
    next_second().await;
    store.refresh(&first.refresh_token).await.expect("the same for a thief");
    let over = store.refresh(&owner.refresh_token).await;
    assert!(matches!(over, Err(StoreError::SessionOver)), "{over:?}");
}

async fn a_used_token_ends_the_whole_session(store: &Store) {
    let name = username();
    store.register(&account(&name, PASSWORD)).await.expect("an account");
    let first = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let second = store.refresh(&first.refresh_token).await.expect("new tokens");
    assert_eq!(store.sign_out(&first.refresh_token).await.expect("an end"), second.session);
    let after = store.refresh(&second.refresh_token).await;
    assert!(matches!(after, Err(StoreError::SessionOver)), "{after:?}");
}

async fn a_deleted_account_is_gone_with_its_sessions(store: &Store) {
    let name = username();
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    let grant = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    assert!(store.exists(user_id).await.expect("an answer"));
    for _ in 0..2 {
        store.delete(user_id).await.expect("a deletion, and the same again");
    }
    assert!(!store.exists(user_id).await.expect("an answer"));
    let after = store.refresh(&grant.refresh_token).await;
    assert!(matches!(after, Err(StoreError::SessionOver)), "{after:?}");
    assert_eq!(store.sign_out(&grant.refresh_token).await.expect("it has ended"), grant.session);
    let again = store.sign_in(&credentials(&name, PASSWORD)).await;
    assert!(matches!(again, Err(StoreError::Rejected)), "{again:?}");
}

async fn sessions_are_listed_for_their_user_until_they_end(store: &Store) {
    let (name, other) = (username(), username());
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    store.register(&account(&other, PASSWORD)).await.expect("an account");
    let listed = async || {
        let mut ids: Vec<_> =
            store.sessions(user_id).await.expect("a list").into_iter().map(|listed| listed.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(listed().await, []);
    let phone = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let desk = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let stranger = store.sign_in(&credentials(&other, PASSWORD)).await.expect("a session of another user");
    let mut both = [phone.session.id.clone(), desk.session.id.clone()];
    both.sort();
    assert_eq!(listed().await, both);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    for listed in store.sessions(user_id).await.expect("a list") {
        for at_ms in [listed.started_at_ms, listed.last_used_at_ms] {
            let age = since_epoch.as_millis() as i64 - at_ms;
            assert!((-5_000..60_000).contains(&age), "{age} ms ago");
        }
    }
    next_second().await;
    let before = store.sessions(user_id).await.expect("a list");
    store.refresh(&desk.refresh_token).await.expect("new tokens");
    let used = |sessions: &[ListedSession]| {
        let desk = sessions.iter().find(|listed| listed.id == desk.session.id).expect("it goes on");
        (desk.started_at_ms, desk.last_used_at_ms)
    };
    let after = store.sessions(user_id).await.expect("a list");
    assert_eq!(used(&before).0, used(&after).0);
    assert!(used(&before).1 < used(&after).1, "{before:?} {after:?}");

    for _ in 0..2 {
        store.end(&phone.session).await.expect("an end, and the same again");
    }
    assert_eq!(listed().await, [desk.session.id]);
    let over = store.refresh(&phone.refresh_token).await;
    assert!(matches!(over, Err(StoreError::SessionOver)), "{over:?}");
    store.refresh(&stranger.refresh_token).await.expect("the session of another user goes on");
    assert_eq!(store.sessions(UserId::generate()).await.expect("a list"), []);
}

async fn a_password_is_replaced_and_sessions_go_on(store: &Store) {
    let name = username();
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    let grant = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let password = |text: &str| Password::parse("password", text).expect("a password");
    let short = store.set_password(user_id, &password("sh0rt!")).await.expect_err("too short");
    assert!(matches!(&short, StoreError::Refused(words) if words.contains("minimum length 8")), "{short:?}");
    store.set_password(user_id, &password("dear Zo\u{eb} 7")).await.expect("another password");
    let old = store.account(&credentials(&name, PASSWORD)).await;
    assert!(matches!(old, Err(StoreError::Rejected)), "{old:?}");
    let new = credentials(&name, "dear Zoe\u{308} 7");
    assert_eq!(store.account(&new).await.expect("the account").user_id, user_id);
    store.refresh(&grant.refresh_token).await.expect("the session goes on");
    let unknown = store.set_password(UserId::generate(), &password(PASSWORD)).await;
    assert!(matches!(unknown, Err(StoreError::Rejected)), "{unknown:?}");
}

async fn an_address_opens_one_account(store: &Store) {
    let email = |name: &str| Email::parse("email", &format!("{name}@corp.test")).expect("an address");
    let (name, other) = (username(), username());
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    let other_id = store.register(&account(&other, PASSWORD)).await.expect("an account");
    assert_eq!(store.email(user_id).await.expect("an answer"), OwnEmail::default());
    assert_eq!(store.account_of(&email(&name)).await.expect("an answer"), None);
    store.set_email(user_id, &email(&name)).await.expect("an address");
    let own = OwnEmail { email: Some(email(&name)), is_confirmed: true };
    assert_eq!(store.email(user_id).await.expect("an answer"), own);
    assert_eq!(store.account_of(&email(&name)).await.expect("an answer"), Some(user_id));
    let taken = store.set_email(other_id, &email(&name)).await;
    assert!(matches!(taken, Err(StoreError::EmailTaken)), "{taken:?}");
    store.set_email(user_id, &email(&other)).await.expect("another address");
    store.set_email(other_id, &email(&name)).await.expect("it is free again");
    let gone = store.set_email(UserId::generate(), &email(&username())).await;
    assert!(matches!(gone, Err(StoreError::Rejected)), "{gone:?}");
    // What else an account has stays.
    store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    store.delete(other_id).await.expect("a deletion");
    assert_eq!(store.account_of(&email(&name)).await.expect("an answer"), None);
}

async fn a_username_is_taken_once(store: &Store) {
    let name = username();
    store.register(&account(&name, PASSWORD)).await.expect("an account");
    let again = store.register(&account(&name, "another password")).await;
    assert!(matches!(&again, Err(StoreError::Taken(taken)) if *taken == name), "{again:?}");
    store.sign_in(&credentials(&name, PASSWORD)).await.expect("the first password holds");
}

async fn an_account_is_found_by_its_credentials(store: &Store) {
    let name = username();
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    let typed = credentials(&format!(" {}", name.to_uppercase()), PASSWORD);
    let opened = store.account(&typed).await.expect("the account");
    assert_eq!(opened, Account { user_id, username: name.clone() });
    assert!(store.has_password(user_id).await.expect("an answer"));
    assert!(!store.has_password(UserId::generate()).await.expect("an answer"));
    for other in [credentials(&name, "another password"), credentials(&username(), PASSWORD)] {
        let refused = store.account(&other).await;
        assert!(matches!(refused, Err(StoreError::Rejected)), "{refused:?}");
    }
}

async fn a_password_that_the_policy_refuses_makes_no_account(store: &Store) {
    let name = username();
    // What the service would not send: its rule is its own, and the realm's may be stricter.
    let short = Password::parse("password", "sh0rt!").expect("a password");
    let short = NewAccount { password: short, ..account(&name, PASSWORD) };
    let error = store.register(&short).await.expect_err("too short");
    assert!(matches!(&error, StoreError::Refused(words) if words.contains("minimum length 8")), "{error:?}");
    assert!(!format!("{error:?}").contains("sh0rt!"));
    store.register(&account(&name, PASSWORD)).await.expect("the name is free still");
}

async fn an_unknown_name_and_a_wrong_password_look_the_same(store: &Store) {
    let name = username();
    store.register(&account(&name, PASSWORD)).await.expect("an account");
    let wrong = store.sign_in(&credentials(&name, "wrong horse")).await.expect_err("a wrong password");
    let unknown = store.sign_in(&credentials(&username(), PASSWORD)).await.expect_err("an unknown name");
    assert_eq!(format!("{wrong:?} {wrong}"), format!("{unknown:?} {unknown}"));
    assert!(matches!(wrong, StoreError::Rejected));
}

async fn a_session_begins_however_name_and_password_are_typed(store: &Store) {
    let name = username();
    store.register(&account(&name, "dear Zo\u{eb} 7")).await.expect("an account");
    let wide: String =
        name.chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).expect("a full-width letter")).collect();
    for name in [&name, &name.to_uppercase(), &format!(" {name}\n"), &wide] {
        let composed = store.sign_in(&credentials(name, "dear Zo\u{eb} 7")).await;
        assert!(composed.is_ok(), "{name:?}: {composed:?}");
    }
    let decomposed = store.sign_in(&credentials(&name, "dear Zoe\u{308} 7")).await;
    assert!(decomposed.is_ok(), "{decomposed:?}");
    for other in ["dear Zo\u{eb} 7 ", "dear Zoe 7", "Dear Zo\u{eb} 7"] {
        let refused = store.sign_in(&credentials(&name, other)).await;
        assert!(matches!(refused, Err(StoreError::Rejected)), "{other}: {refused:?}");
        store.sign_in(&credentials(&name, "dear Zo\u{eb} 7")).await.expect("this forgets the failure");
    }
}

async fn what_is_no_refresh_token_is_refused(store: &Store) {
    let token = secret("not.a.token");
    assert!(matches!(store.refresh(&token).await, Err(StoreError::InvalidRefreshToken)));
    assert!(matches!(store.sign_out(&token).await, Err(StoreError::InvalidRefreshToken)));
}

async fn suite(store: &Store) {
    sessions_are_listed_for_their_user_until_they_end(store).await;
    a_password_is_replaced_and_sessions_go_on(store).await;
    a_session_lives_from_sign_in_to_sign_out(store).await;
    a_closed_account_begins_and_refreshes_no_session(store).await;
    a_refresh_token_is_good_once(store).await;
    what_a_refresh_gave_and_was_lost_is_replaced(store).await;
    of_two_who_hold_what_one_token_gave_the_second_ends_the_session(store).await;
    a_used_token_ends_the_whole_session(store).await;
    a_deleted_account_is_gone_with_its_sessions(store).await;
    an_address_opens_one_account(store).await;
    a_username_is_taken_once(store).await;
    an_account_is_found_by_its_credentials(store).await;
    a_password_that_the_policy_refuses_makes_no_account(store).await;
    an_unknown_name_and_a_wrong_password_look_the_same(store).await;
    a_session_begins_however_name_and_password_are_typed(store).await;
    what_is_no_refresh_token_is_refused(store).await;
}

#[tokio::test]
async fn the_suite_holds_in_memory() {
    suite(&memory_realm()).await;
}

#[tokio::test]
async fn the_tokens_of_a_realm_in_memory_are_checked_with_its_keys() {
    let (issuer, other) = (issuer(), issuer());
    let realm = MemoryStore::new(issuer.clone());
    let account = account("ann", PASSWORD);
    let user_id = realm.register(&account).await.expect("an account");
    let grant = realm.sign_in(&credentials("ann", PASSWORD)).await.expect("a session");
    let verifier = issuer.verifier().expect("a verifier");
    let claims = verifier.verify(grant.access_token.expose_secret()).await.expect("a token of this realm");
    assert_eq!((claims.user_id, claims.username.as_str()), (user_id, "ann"));
    assert_eq!((grant.session.user_id, &grant.session.id), (user_id, &claims.session));

    let stranger = other.verifier().expect("a verifier");
    assert!(stranger.verify(grant.access_token.expose_secret()).await.is_err(), "another realm's key");
}

/// In one realm and one test: making a realm costs Keycloak a second.
#[tokio::test]
async fn the_suite_holds_on_a_realm_and_its_tokens_are_ours() {
    let realm = Realm::create().await;
    let store = Keycloak::new(&realm.args()).expect("a client");
    suite(&store).await;

    let name = username();
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    let grant = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    let verifier = TokenVerifier::new(&realm.oidc()).expect("a verifier");
    let claims = verifier.verify(grant.access_token.expose_secret()).await.expect("a token of this tenant");
    assert_eq!((claims.user_id, claims.username), (user_id, name.clone()));
    assert_eq!((grant.session.user_id, &grant.session.id), (user_id, &claims.session));
    assert!(verifier.verify(grant.refresh_token.expose_secret()).await.is_err(), "no access token");

    for _ in 0..FAILURES {
        assert!(matches!(store.sign_in(&credentials(&name, "guess")).await, Err(StoreError::Rejected)));
    }
    let blocked = store.sign_in(&credentials(&name, PASSWORD)).await;
    assert!(matches!(blocked, Err(StoreError::Rejected)), "blocked for a while: {blocked:?}");

    let args = RealmArgs { oidc_client_secret: "wrong".into(), ..realm.args() };
    let stranger = Keycloak::new(&args).expect("a client");
    let error = Error::from(
        stranger.sign_in(&credentials(&name, PASSWORD)).await.expect_err("no client of the realm"),
    );
    assert_eq!(error.code(), ErrorCode::Internal);
}

/// A realm that returns what the test wants, and counts its requests.
#[derive(Default)]
struct Script {
    tokens: AtomicUsize,
    /// Requests for an account that return 401, as a realm does that has forgotten a token.
    forget: AtomicUsize,
}

/// Returns a realm that returns what a router does.
async fn served(router: Router) -> Keycloak {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    Keycloak::new(&args(&format!("http://{addr}/"))).expect("a client")
}

async fn scripted(script: Arc<Script>) -> Keycloak {
    let tokens = script.clone();
    let token = move || async move {
        tokens.tokens.fetch_add(1, SeqCst);
        Json(json!({"access_token": "service", "expires_in": 60}))
    };
    let users = move |headers: HeaderMap| async move {
        let forget = script.forget.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if forget || headers["authorization"] != "Bearer service" {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        (StatusCode::CREATED, [("location", format!("/users/{}", Uuid::now_v7()))]).into_response()
    };
    let router = Router::new()
        .route("/realms/acme/protocol/openid-connect/token", post(token))
        .route("/admin/realms/acme/users", post(users));
    served(router).await
}

fn args(url: &str) -> RealmArgs {
    RealmArgs {
        keycloak_url: url.parse().expect("a URL"),
        realm: "acme".to_owned(),
        oidc_client_id: "messenger-auth".to_owned(),
        oidc_client_secret: "secret".into(),
        trust: TrustArgs::default(),
    }
}

#[tokio::test]
async fn registrations_at_once_share_one_service_token() {
    let script = Arc::new(Script::default());
    let store = Arc::new(scripted(script.clone()).await);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.register(&account(&username(), PASSWORD)).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("an account");
    }
    assert_eq!(script.tokens.load(SeqCst), 1);
}

#[tokio::test]
async fn a_forgotten_service_token_is_renewed_once() {
    let script = Arc::new(Script::default());
    let store = scripted(script.clone()).await;
    store.register(&account(&username(), PASSWORD)).await.expect("an account");
    script.forget.store(1, SeqCst);
    store.register(&account(&username(), PASSWORD)).await.expect("an account");
    assert_eq!(script.tokens.load(SeqCst), 2);
    script.forget.store(2, SeqCst);
    let error = store.register(&account(&username(), PASSWORD)).await.expect_err("no account");
    assert_eq!(Error::from(error).code(), ErrorCode::Internal);
    assert_eq!(script.tokens.load(SeqCst), 3, "asked once more, and not forever");
}

/// Returns a realm where everything but a token is missing, in these words; a search finds nobody.
async fn missing(words: &'static str) -> Keycloak {
    let token = || async { Json(json!({"access_token": "service", "expires_in": 60})) };
    let router = Router::new()
        .route("/realms/acme/protocol/openid-connect/token", post(token))
        .route("/admin/realms/acme/users", get(|| async { Json(json!([])) }))
        .fallback(move || async move { (StatusCode::NOT_FOUND, words) });
    served(router).await
}

/// What a proxy or a realm that is gone says of a user would delete the profile, and let sessions that go on count as over.
#[tokio::test]
async fn nobody_but_the_realm_says_that_it_does_not_have_a_user() {
    let user_id = UserId::generate();
    let session = Session { user_id, id: "a-session".parse().expect("an id") };
    let password = Password::parse("password", PASSWORD).expect("a password");
    let email = Email::parse("email", "ann@corp.test").expect("an address");
    for (words, code) in [
        ("404 page not found", ErrorCode::Unavailable),
        ("", ErrorCode::Unavailable),
        (r#"{"error":"Realm not found."}"#, ErrorCode::Internal),
        (r#"{"error":"HTTP 404 Not Found"}"#, ErrorCode::Internal),
    ] {
        let store = missing(words).await;
        let errors = [
            store.sessions(user_id).await.err(),
            store.end(&session).await.err(),
            store.exists(user_id).await.err(),
            store.delete(user_id).await.err(),
            store.email(user_id).await.err(),
            store.has_password(user_id).await.err(),
            store.close_other_ways(user_id).await.err(),
            store.is_closed(user_id).await.err(),
            store.set_closed(user_id, true).await.err(),
            store.revoke_tokens(user_id).await.err(),
            store.set_password(user_id, &password).await.err(),
            store.set_email(user_id, &email).await.err(),
        ];
        for error in errors {
            assert_eq!(Error::from(error.expect("it is no answer")).code(), code, "{words}");
        }
    }
    let words =
        r#"{"error":"User not found","error_description":"For more on this error consult the server log."}"#;
    let store = missing(words).await;
    assert_eq!(store.sessions(user_id).await.expect("a list"), []);
    assert!(!store.exists(user_id).await.expect("an answer"));
    store.delete(user_id).await.expect("it is deleted already");
    for refused in [store.set_password(user_id, &password).await, store.set_email(user_id, &email).await] {
        assert!(matches!(refused, Err(StoreError::Rejected)), "{refused:?}");
    }
    missing(r#"{"error":"Session not found"}"#).await.end(&session).await.expect("it has ended already");
}

#[tokio::test]
async fn a_realm_that_is_down_is_unavailable() {
    // Port 9 (discard) of loopback: nothing listens there.
    let store = Keycloak::new(&args("http://127.0.0.1:9")).expect("a client");
    let token = secret("token");
    let errors = [
        store.register(&account(&username(), PASSWORD)).await.err(),
        store.sign_in(&credentials("ann", PASSWORD)).await.err(),
        store.refresh(&token).await.err(),
        store.sign_out(&token).await.err(),
    ];
    for error in errors {
        let error = Error::from(error.expect("no realm responds"));
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    }
}

/// As the real one, because what it makes of another address is part of this.
#[tokio::test]
async fn a_realm_behind_a_certificate_of_an_own_authority_is_administered_with_its_bundle() {
    let realm = Realm::create().await;
    let keycloak = realm.args().keycloak_url;
    let server = format!(
        "{}:{}",
        keycloak.host_str().expect("a host"),
        keycloak.port_or_known_default().expect("a port")
    );
    let front = TlsFront::start(&server).await;
    let over_tls = |oidc_ca_bundle: Option<&str>| {
        let keycloak_url = front.url.parse().expect("a URL");
        let trust = TrustArgs { oidc_ca_bundle: oidc_ca_bundle.map(str::to_owned) };
        RealmArgs { keycloak_url, trust, ..realm.args() }
    };
    let store = Keycloak::new(&over_tls(Some(&front.ca_bundle))).expect("a client");
    let name = username();
    let user_id = store.register(&account(&name, PASSWORD)).await.expect("an account");
    let grant = store.sign_in(&credentials(&name, PASSWORD)).await.expect("a session");
    store.refresh(&grant.refresh_token).await.expect("new tokens");
    store.delete(user_id).await.expect("a deletion");
    assert!(!store.exists(user_id).await.expect("an answer"));

    let other = TlsFront::start(&server).await.ca_bundle;
    for bundle in [None, Some(&*other)] {
        let stranger = Keycloak::new(&over_tls(bundle)).expect("a client");
        let errors = [
            stranger.register(&account(&name, PASSWORD)).await.err(),
            stranger.sign_in(&credentials(&name, PASSWORD)).await.err(),
            stranger.refresh(&grant.refresh_token).await.err(),
            stranger.exists(user_id).await.err(),
        ];
        for error in errors {
            let error = Error::from(error.expect("the certificate is not accepted"));
            assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
            let text = chain(&error);
            assert!(text.contains("authority that is not trusted"), "{text}");
            assert!(text.contains("--oidc-ca-bundle"), "{text}");
        }
    }
}
