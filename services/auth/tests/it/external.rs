//! Sign-in with external identity providers: a second realm is the provider, and a browser goes through the pages of both.

use std::{sync::Arc, time::Duration};

use auth::{
    config::{ExternalArgs, Registration},
    domain::external::{Provider, Providers},
    external::External,
    guard::Refreshes,
    store::{Keycloak, SharedRefreshes},
};
use contracts::rpc::EnsureUserRequest;
use kit::{
    auth::TokenVerifier,
    log::Log,
    testing::{Answer, TestCache, wait_for},
};
use serde_json::{Value, json};

use crate::{
    api::{App, PASSWORD},
    browser::{Browser, Place},
    events::session,
    memory_realm,
    peers::Peers,
    realm::{CALLBACK, ORIGIN, PROVIDER_PASSWORD, Realm},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shorter than in production, and longer than a busy machine needs for requests at once.
const GRACE: Duration = Duration::from_secs(3);

/// The service, a realm with the provider `corp`, and the provider's realm.
struct World {
    app: App,
    peers: Peers,
    realm: Realm,
    corp: Realm,
}

/// Lets users of a realm sign in with the provider `corp`.
fn providing(app: App, realm: &Realm) -> App {
    let args = ExternalArgs {
        identity_providers: Providers(vec![Provider {
            alias: "corp".to_owned(),
            display_name: "Corp, Inc.".to_owned(),
        }]),
        public_origins: vec![ORIGIN.to_owned()],
        oidc_issuer: realm.oidc().oidc_issuer,
    };
    let app = app.with_providers(External::new(args, &realm.args()).expect("providers"));
    app.verifying(TokenVerifier::new(&realm.oidc()).expect("a verifier"))
}

/// A sign-in that a browser has begun.
struct Login {
    location: String,
    cookie: String,
}

impl World {
    async fn new() -> Self {
        Self::remembering(Refreshes::in_process()).await
    }

    /// Remembers what codes gave like this.
    async fn remembering(refreshes: Refreshes) -> Self {
        let (realm, corp) = (Realm::create().await, Realm::create().await);
        realm.add_provider(&corp).await;
        let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
        let peers = Peers::default();
        let users = peers.start().await;
        let app = App::with(&Log::memory(), store, refreshes, Registration::InviteOnly, users);
        let app = providing(app, &realm);
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
    // Nor has another browser used it up.
    world.finish(&code, &login.cookie).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_is_sent_again_gives_the_same_and_signs_nobody_out() {
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let cache = TestCache::create(&name).await;
    let refreshes = || {
        let redis = kit::redis::connection(&cache.args()).expect("a connection");
        Refreshes::shared(SharedRefreshes::new(redis, &name)).with_grace(GRACE)
    };
    let world = World::remembering(refreshes()).await;
    world.corp.add_user("noor", None, "Noor").await;
    // Another replica.
    let store = Arc::new(Keycloak::new(&world.realm.args()).expect("a client"));
    let users = world.peers.start().await;
    let other = App::with(&Log::memory(), store, refreshes(), Registration::InviteOnly, users);
    let other = providing(other, &world.realm);

    let login = world.begin().await;
    let place = world.at_provider(&mut Browser::new(), &login, "noor").await;
    let code = world.code(&place, &login.cookie).await;
    let one = async |app: &App| {
        let (cookie, body) = ([("cookie", &*login.cookie)], json!({ "code": code }));
        app.send_with("POST /api/auth/login", &cookie, Some(body)).await
    };
    let (a, b, c, d) = tokio::join!(one(&world.app), one(&other), one(&world.app), one(&other));
    let tokens = a.ok(200);
    for again in [b, c, d] {
        assert_eq!(again.ok(200), tokens);
    }
    // Later it is refused, and the realm does not learn of it: it would end the session.
    for app in [&world.app, &other] {
        let over = || async { (one(app).await.status == 401).then_some(()) };
        wait_for("the end of the grace period", PATIENCE, over).await;
    }
    let body = json!({"refresh_token": tokens["refresh_token"]});
    other.post("refresh", body).await.ok(200);
    let keys = cache.keys("redeemed").await;
    assert!(!keys.is_empty() && keys.iter().all(|key| !key.contains(&code)), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_a_provider_gives_have_the_rule_of_all_names() {
    let world = World::new().await;
    world.corp.add_user("noor@corp.example", Some("noor@corp.example"), "Noor").await;
    // The realm asks for another one.
    let login = world.begin().await;
    let mut browser = Browser::new();
    let page = world.at_provider(&mut browser, &login, "noor@corp.example").await;
    let Place::Page { html, .. } = &page else { panic!("in with an address as a name: {page:?}") };
    assert!(html.contains("username"), "{html}");
    let long = "n".repeat(33);
    let mut page = page;
    for name in ["noor@corp.example", "n\u{fc}r", "no", &long] {
        page = browser.submit(&page, &[("username", name)]).await;
        let Place::Page { html, .. } = &page else { panic!("in as {name}: {page:?}") };
        assert!(html.contains("must be 3 to 32"), "{html}");
    }
    let place = browser.submit(&page, &[("username", "noor")]).await;
    let code = world.code(&place, &login.cookie).await;
    world.finish(&code, &login.cookie).await.ok(200);
    let ensured = world.peers.ensured.lock().expect("no panic").clone();
    assert_eq!(ensured[0].username, "noor");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_an_older_name_of_another_form_is_told_so() {
    let world = World::new().await;
    world.realm.set_profile(None).await;
    world.corp.add_user("noor@corp.example", None, "Noor").await;
    let login = world.begin().await;
    let place = world.at_provider(&mut Browser::new(), &login, "noor@corp.example").await;
    let code = world.code(&place, &login.cookie).await;
    let refused = world.finish(&code, &login.cookie).await;
    assert_eq!((refused.status, refused.code()), (409, "conflict"), "{refused:?}");
    let detail = refused.body["detail"].as_str().expect("a detail");
    assert!(detail.contains("\"noor@corp.example\", and a username must be 3 to 32"), "{detail}");
    assert!(world.peers.ensured.lock().expect("no panic").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_is_signed_in_changes_no_account_at_the_realm() {
    let world = World::new().await;
    world.corp.add_user("noor", None, "Noor").await;
    let mut browser = Browser::new();
    world.tokens(&mut browser, "noor").await;
    for action in ["UPDATE_PASSWORD", "idp_link:corp", "CONFIGURE_TOTP", "UPDATE_PROFILE"] {
        let location = format!("{}&kc_action={action}", world.begin().await.location);
        let Place::Elsewhere(url) = browser.open(&location).await else { panic!("a page for {action}") };
        assert!(url.contains("kc_action_status=error"), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_a_password_is_told_that_it_has_none() {
    let world = World::new().await;
    world.corp.add_user("noor", None, "Noor").await;
    let tokens = world.tokens(&mut Browser::new(), "noor").await;
    let body = json!({"current_password": PASSWORD, "new_password": "staple battery"});
    let refused = world.app.send("POST /api/auth/change-password", Some(&tokens), Some(body)).await;
    assert_eq!((refused.status, refused.code()), (403, "permission_denied"));
    let detail = refused.body["detail"].as_str().expect("a detail");
    assert!(detail.starts_with("this account has no password"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_good_once_and_makes_a_profile() {
    let world = World::remembering(Refreshes::in_process().with_grace(Duration::from_millis(1))).await;
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
    // Keycloak notes a failure after it has answered, and refuses who comes meanwhile: a busy one for a moment longer.
    let mut place = refused;
    for _ in 0..5 {
        place = browser.submit(&place, &[("username", "ann"), ("password", PASSWORD)]).await;
        if matches!(place, Place::Elsewhere(_)) {
            break;
        }
    }
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

/// A page that differs for an address that an account has would say so, and with the username of that account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_says_an_email_address_learns_of_no_account_and_takes_none_over() {
    let world = World::new().await;
    let ann = world.realm.add_account("ann", Some("ann@corp.example")).await;
    let mut users = Vec::new();
    for (username, email) in [("mallory", "ann@corp.example"), ("trudy", "nobody@corp.example")] {
        world.corp.add_user(username, Some(email), "Mallory").await;
        // No page of the realm comes between the provider and the code.
        let tokens = world.tokens(&mut Browser::new(), username).await;
        users.push(session(&tokens).0.to_string());
        let own = world.app.send("GET /api/auth/email", Some(&tokens), None).await.ok(200);
        assert_eq!(own, json!({"email": email, "is_confirmed": false}));
    }
    assert!(!users.contains(&ann), "in without a password");
    assert_eq!(world.realm.email("ann").await.as_deref(), Some("ann@corp.example"));
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
