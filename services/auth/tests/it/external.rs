//! Sign-in with external identity providers: a second realm is the provider, and a browser goes through the pages of both.

use std::sync::Arc;

use auth::{
    config::{ExternalArgs, Registration},
    domain::external::{Provider, Providers},
    external::External,
    store::Keycloak,
};
use contracts::rpc::EnsureUserRequest;
use kit::{auth::TokenVerifier, log::Log, testing::Answer};
use serde_json::{Value, json};

use crate::{
    api::{App, PASSWORD},
    browser::{Browser, Place},
    events::session,
    memory_realm,
    peers::Peers,
    realm::{CALLBACK, ORIGIN, PROVIDER_PASSWORD, Realm},
};

/// The service, a realm with the provider `corp`, and the provider's realm.
struct World {
    app: App,
    peers: Peers,
    realm: Realm,
    corp: Realm,
}

/// A sign-in that a browser has begun.
struct Login {
    location: String,
    cookie: String,
}

impl World {
    async fn new() -> Self {
        let (realm, corp) = (Realm::create().await, Realm::create().await);
        realm.add_provider(&corp).await;
        let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
        let peers = Peers::default();
        let app = App::on(&Log::memory(), store, Registration::InviteOnly, peers.start().await);
        let args = ExternalArgs {
            identity_providers: Providers(vec![Provider {
                alias: "corp".to_owned(),
                display_name: "Corp, Inc.".to_owned(),
            }]),
            public_origins: vec![ORIGIN.to_owned()],
            oidc_issuer: realm.oidc().oidc_issuer,
        };
        let app = app.with_providers(External::new(args, &realm.args()).expect("providers"));
        let app = app.verifying(TokenVerifier::new(&realm.oidc()).expect("a verifier"));
        Self { app, peers, realm, corp }
    }

    async fn begin(&self) -> Login {
        let answer = self.app.send("GET /api/auth/login/corp?return_to=/app?tab=1", None, None).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        let header = |name: &str| answer.headers[name].to_str().expect("text").to_owned();
        let (location, cookie) = (header("location"), header("set-cookie"));
        assert!(cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"), "{cookie}");
        Login { location, cookie: cookie.split(';').next().expect("a pair").to_owned() }
    }

    /// Goes to the provider and signs in there.
    async fn at_provider(&self, browser: &mut Browser, login: &Login, username: &str) -> Place {
        let page = browser.open(&login.location).await;
        let Place::Page { url, .. } = &page else { panic!("{page:?}") };
        assert!(url.path().starts_with(&format!("/realms/{}/", self.corp.name())), "at the provider: {url}");
        browser.submit(&page, &[("username", username), ("password", PROVIDER_PASSWORD)]).await
    }

    /// Comes back to the service, and returns where it sends the browser.
    async fn come_back(&self, url: &str, cookie: &str) -> Answer {
        let path = url.strip_prefix(ORIGIN).unwrap_or_else(|| panic!("{url} is not ours"));
        self.app.send_with(&format!("GET {path}"), &[("cookie", cookie)], None).await
    }

    async fn finish(&self, code: &str, cookie: &str) -> Answer {
        let body = json!({ "code": code });
        self.app.send_with("POST /api/auth/login", &[("cookie", cookie)], Some(body)).await
    }

    /// Returns the code of a browser that was sent back by the realm.
    async fn code(&self, place: &Place, cookie: &str) -> String {
        let Place::Elsewhere(url) = place else { panic!("{place:?}") };
        assert!(url.starts_with(&format!("{ORIGIN}{CALLBACK}?")), "{url}");
        let back = self.come_back(url, cookie).await;
        assert_eq!(back.status, 303, "{back:?}");
        let location = back.headers["location"].to_str().expect("text");
        let code = location.strip_prefix(&format!("{ORIGIN}/app?tab=1#login_code="));
        code.unwrap_or_else(|| panic!("{location}")).to_owned()
    }

    async fn tokens(&self, browser: &mut Browser, username: &str) -> Value {
        let login = self.begin().await;
        let place = self.at_provider(browser, &login, username).await;
        let code = self.code(&place, &login.cookie).await;
        self.finish(&code, &login.cookie).await.ok(200)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_a_provider_signs_in_and_has_a_session_like_any_other() {
    let world = World::new().await;
    let listed = world.app.send("GET /api/auth/providers", None, None).await.ok(200);
    assert_eq!(listed, json!({"items": [{"alias": "corp", "display_name": "Corp, Inc."}]}));
    world.corp.add_user("noor", Some("noor@corp.example"), "Noor").await;

    let login = world.begin().await;
    let place = world.at_provider(&mut Browser::new(), &login, "noor").await;
    let code = world.code(&place, &login.cookie).await;
    // Another browser has no use for it.
    let other = world.begin().await;
    for cookie in ["", "posthouse-login=x", &*other.cookie] {
        let refused = world.finish(&code, cookie).await;
        assert_eq!((refused.status, refused.code()), (401, "unauthenticated"), "{cookie}");
    }
    let Place::Elsewhere(url) = &place else { panic!("{place:?}") };
    assert_eq!(world.come_back(url, &other.cookie).await.code(), "unauthenticated", "of another state");
    assert_eq!(world.come_back(url, "").await.code(), "unauthenticated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_good_once_and_makes_a_profile() {
    let world = World::new().await;
    world.corp.add_user("noor", Some("noor@corp.example"), "Noor").await;
    let mut browser = Browser::new();
    let login = world.begin().await;
    let place = world.at_provider(&mut browser, &login, "noor").await;
    let code = world.code(&place, &login.cookie).await;
    let answer = world.finish(&code, &login.cookie).await;
    let ended = answer.headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(ended.starts_with("posthouse-login=; Path=/; Max-Age=0;"), "{ended}");
    let tokens = answer.ok(200);
    let (user_id, _) = session(&tokens);
    let ensured = world.peers.ensured.lock().expect("no panic").clone();
    let expected = EnsureUserRequest {
        user_id: user_id.to_string(),
        username: "noor".to_owned(),
        display_name: "Noor Test".to_owned(),
    };
    assert_eq!(ensured, [expected]);
    let sessions = world.app.send("GET /api/auth/sessions", Some(&tokens), None).await.ok(200);
    assert_eq!(sessions["items"].as_array().map(Vec::len), Some(1), "{sessions}");
    let body = json!({"refresh_token": tokens["refresh_token"]});
    let tokens = world.app.post("refresh", body).await.ok(200);
    assert_eq!(session(&tokens).0, user_id);

    // The next sign-in is of the same account.
    let again = world.tokens(&mut Browser::new(), "noor").await;
    assert_eq!(session(&again).0, user_id);
    assert_eq!(world.peers.ensured.lock().expect("no panic").len(), 1);

    let twice = world.finish(&code, &login.cookie).await;
    assert_eq!((twice.status, twice.code()), (401, "unauthenticated"));
}

/// Tries to get into an account that has what the provider's user has too. Returns the user who signed in at last.
async fn joins_with_the_password_only(world: &World, username: &str) -> String {
    let mut browser = Browser::new();
    let login = world.begin().await;
    let place = world.at_provider(&mut browser, &login, username).await;
    let Place::Page { html, .. } = &place else { panic!("in without a password: {place:?}") };
    assert!(html.contains("linkAccount"), "{html}");
    let asked = browser.submit(&place, &[("submitAction", "linkAccount")]).await;
    let refused = browser.submit(&asked, &[("username", "ann"), ("password", PROVIDER_PASSWORD)]).await;
    assert!(matches!(refused, Place::Page { .. }), "in with a wrong password: {refused:?}");
    let place = browser.submit(&refused, &[("username", "ann"), ("password", PASSWORD)]).await;
    let code = world.code(&place, &login.cookie).await;
    let tokens = world.finish(&code, &login.cookie).await.ok(200);
    session(&tokens).0.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_says_a_username_takes_no_account_over() {
    let world = World::new().await;
    let ann = world.realm.add_account("ann", None).await;
    world.corp.add_user("ann", Some("ann@evil.example"), "Mallory").await;
    assert_eq!(joins_with_the_password_only(&world, "ann").await, ann);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_says_an_email_address_takes_no_account_over() {
    let world = World::new().await;
    let ann = world.realm.add_account("ann", Some("ann@corp.example")).await;
    world.corp.add_user("mallory", Some("ann@corp.example"), "Mallory").await;
    assert_eq!(joins_with_the_password_only(&world, "mallory").await, ann);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_a_deleted_account_is_not_given_out_by_a_provider() {
    let world = World::new().await;
    world.corp.add_user("noor", None, "Noor").await;
    world.peers.names.lock().expect("no panic").insert("noor".to_owned());
    let mut browser = Browser::new();
    let login = world.begin().await;
    let place = world.at_provider(&mut browser, &login, "noor").await;
    let code = world.code(&place, &login.cookie).await;
    let refused = world.finish(&code, &login.cookie).await;
    assert_eq!((refused.status, refused.code()), (409, "conflict"), "{refused:?}");
    assert!(world.realm.has_account("noor").await, "it may be one that an administrator made");
}

#[tokio::test]
async fn what_is_unknown_or_leads_elsewhere_is_refused() {
    let app =
        App::on(&Log::memory(), Arc::new(memory_realm()), Registration::Open, Peers::default().start().await);
    assert_eq!(app.send("GET /api/auth/providers", None, None).await.ok(200), json!({"items": []}));
    let unknown = app.send("GET /api/auth/login/corp", None, None).await;
    assert_eq!((unknown.status, unknown.code()), (404, "not_found"));
    for to in ["//evil.example", "https://evil.example", "/%5Cevil.example", "app", "/%0a"] {
        let refused = app.send(&format!("GET /api/auth/login/corp?return_to={to}"), None, None).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_argument"), "{to}");
    }
    let begun_nowhere = app.send("GET /api/auth/callback?code=x&state=y", None, None).await;
    assert_eq!((begun_nowhere.status, begun_nowhere.code()), (401, "unauthenticated"));
    for (code, expected) in [("x", "unauthenticated"), ("", "invalid_argument"), ("a b", "invalid_argument")]
    {
        assert_eq!(app.post("login", json!({ "code": code })).await.code(), expected, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_the_provider_refuses_says_so() {
    let world = World::new().await;
    let login = world.begin().await;
    let state =
        login.location.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state");
    for (error, reason) in [("access_denied", "cancelled"), ("server_error", "failed")] {
        let back =
            world.come_back(&format!("{ORIGIN}{CALLBACK}?error={error}&state={state}"), &login.cookie).await;
        let expected = format!("{ORIGIN}/app?tab=1#login_error={reason}");
        assert_eq!(back.headers["location"].to_str().expect("text"), expected);
    }
}
