//! Recovery of an account by mail.

use std::sync::Arc;

use auth::{
    config::Registration,
    store::{AccountStore, Keycloak, Tickets},
};
use kit::{
    auth::TokenVerifier,
    config::MailArgs,
    log::Log,
    mail::Mailer,
    testing::{
        Answer, TestCache, TlsFront,
        smtp::{self, MailServer},
    },
};
use serde_json::{Value, json};

use crate::{
    api::{App, PASSWORD},
    events::{Reader, refresh_token, session},
    memory_realm_and_issuer,
    peers::Peers,
    realm::{ORIGIN, Realm},
};

const NEW: &str = "staple battery";
const FROM: &str = "no-reply@messenger.test";

fn mailer(url: &str, password: &str, ca_bundle: Option<&str>) -> Mailer {
    let args = MailArgs {
        smtp_url: Some(url.parse().expect("a URL")),
        smtp_from: Some(FROM.to_owned()),
        smtp_username: Some(smtp::USERNAME.to_owned()),
        smtp_password: Some(password.into()),
    };
    Mailer::new(args, ca_bundle).expect("a mailer").expect("a mail server")
}

async fn app(
    log: &Log,
    realm: Arc<dyn AccountStore>,
    verifier: Arc<TokenVerifier>,
    server: &MailServer,
) -> App {
    let mail = mailer(&format!("smtp://{}", server.address), smtp::PASSWORD, None);
    let app = App::on(log, realm, Registration::Open, Peers::default().start().await);
    let app = app.with_mail(Some((mail, ORIGIN.to_owned())), Tickets::in_process()).verifying(verifier);
    app.register("ann").await.ok(201);
    app
}

pub async fn in_memory(log: &Log, server: &MailServer) -> App {
    let (realm, issuer) = memory_realm_and_issuer();
    app(log, Arc::new(realm), issuer.verifier().expect("a verifier"), server).await
}

pub async fn set_email(app: &App, tokens: &Value, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "current_password": password});
    app.send("PUT /api/auth/email", Some(tokens), Some(body)).await
}

pub async fn forgot(app: &App, email: &str) -> Answer {
    app.post("password/forgot", json!({ "email": email })).await
}

async fn reset(app: &App, token: &str, password: &str) -> Answer {
    app.post("password/reset", json!({"token": token, "password": password})).await
}

/// Gives the caller this address.
pub async fn confirmed(app: &App, server: &MailServer, tokens: &Value, email: &str) {
    set_email(app, tokens, email, PASSWORD).await.ok(202);
    let mail = server.next().await;
    assert_eq!((&*mail.from, &mail.to), (FROM, &email.to_lowercase()));
    let body = json!({"token": mail.token("email_confirmation")});
    app.post("email/confirm", body.clone()).await.ok(204);
    let again = app.post("email/confirm", body).await;
    assert_eq!((again.status, again.code()), (409, "conflict"));
}

/// The story of every realm.
async fn a_link_replaces_a_password_once_and_signs_all_devices_out(
    app: &App,
    server: &MailServer,
    reader: &mut Reader,
) {
    let (phone, desk) = (app.sign_in("ann").await, app.sign_in("ann").await);
    let none = app.send("GET /api/auth/email", Some(&phone), None).await.ok(200);
    assert_eq!(none, json!({"is_confirmed": false}));
    let refused = set_email(app, &phone, "ann@corp.test", "wrong horse").await;
    assert_eq!((refused.status, refused.code()), (403, "permission_denied"));
    confirmed(app, server, &phone, "Ann@Corp.test").await;
    let own = app.send("GET /api/auth/email", Some(&phone), None).await.ok(200);
    assert_eq!(own, json!({"email": "ann@corp.test", "is_confirmed": true}));

    // An unknown address is answered alike, and the next mail does not go there.
    let (unknown, known) = (forgot(app, "bob@corp.test").await, forgot(app, "ANN@corp.test").await);
    assert_eq!((unknown.status, unknown.body), (202, Value::Null));
    assert_eq!((known.status, known.body), (202, Value::Null));
    let first = server.next().await;
    assert_eq!(first.to, "ann@corp.test");
    let first = first.token("password_reset");
    forgot(app, "ann@corp.test").await.ok(202);
    let token = server.next().await.token("password_reset");
    let replaced = reset(app, &first, NEW).await;
    assert_eq!((replaced.status, replaced.code()), (404, "not_found"), "another link was sent after it");

    for (password, problem) in [("sh0rt!", "password: must have at least 8 characters")] {
        let refused = reset(app, &token, password).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_argument"));
        assert_eq!(refused.body["detail"], problem);
    }
    reset(app, &token, NEW).await.ok(204);
    let mut ended = [reader.next().await, reader.next().await];
    let mut all = [session(&phone), session(&desk)];
    ended.sort_by_key(|end| format!("{end:?}"));
    all.sort_by_key(|end| format!("{end:?}"));
    assert_eq!(ended, all);
    for tokens in [&phone, &desk] {
        assert_eq!(app.post("refresh", refresh_token(tokens)).await.code(), "unauthenticated");
    }
    let sign_in =
        async |password: &str| app.post("sign-in", json!({"username": "ann", "password": password})).await;
    assert_eq!(sign_in(PASSWORD).await.code(), "unauthenticated");
    sign_in(NEW).await.ok(200);
    let twice = reset(app, &token, "another password").await;
    assert_eq!((twice.status, twice.code()), (409, "conflict"));
    sign_in(NEW).await.ok(200);
}

#[tokio::test]
async fn a_link_replaces_a_password_once_and_signs_all_devices_out_in_memory() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let (app, mut reader) = (in_memory(&log, &server).await, Reader::start(&log).await);
    a_link_replaces_a_password_once_and_signs_all_devices_out(&app, &server, &mut reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_replaces_a_password_once_and_signs_all_devices_out_on_a_realm() {
    let (log, realm, server) = (Log::memory(), Realm::create().await, MailServer::start().await);
    let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
    let app = app(&log, store, TokenVerifier::new(&realm.oidc()).expect("a verifier"), &server).await;
    let mut reader = Reader::start(&log).await;
    a_link_replaces_a_password_once_and_signs_all_devices_out(&app, &server, &mut reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_had_the_account_before_keeps_no_way_in_after_a_reset() {
    let (log, realm, corp) = (Log::memory(), Realm::create().await, Realm::create().await);
    realm.add_provider(&corp).await;
    let server = MailServer::start().await;
    let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
    let app = app(&log, store, TokenVerifier::new(&realm.oidc()).expect("a verifier"), &server).await;
    let phone = app.sign_in("ann").await;
    confirmed(&app, &server, &phone, "ann@corp.test").await;
    let offline = realm.offline_token("ann").await;
    let offline = realm.refreshed(&offline).await.expect("an offline token is good at the realm");
    realm.add_ways("ann").await;
    let locked_out = app.post("sign-in", json!({"username": "ann", "password": PASSWORD})).await;
    assert_eq!(locked_out.code(), "unauthenticated", "without the second factor");

    forgot(&app, "ann@corp.test").await.ok(202);
    let token = server.next().await.token("password_reset");
    reset(&app, &token, NEW).await.ok(204);
    let refused = realm.refreshed(&offline).await.expect_err("good for nothing");
    assert!(refused.contains("invalid_grant"), "{refused}");
    assert_eq!(realm.ways("ann").await, ["password"]);
    app.post("sign-in", json!({"username": "ann", "password": NEW})).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_belongs_to_who_reads_mail_there() {
    let (log, realm, server) = (Log::memory(), Realm::create().await, MailServer::start().await);
    let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
    let app = app(&log, store, TokenVerifier::new(&realm.oidc()).expect("a verifier"), &server).await;
    // As an external provider says it: the user has not shown that they read mail there.
    realm.add_unconfirmed("mallory", "ann@corp.test").await;
    forgot(&app, "ann@corp.test").await.ok(202);
    let ann = app.sign_in("ann").await;
    // The first mail is hers: none was sent for the account of Mallory.
    confirmed(&app, &server, &ann, "ann@corp.test").await;
    assert_eq!(realm.email("mallory").await, None);
    // One that is confirmed is taken.
    app.register("bob").await.ok(201);
    let bob = app.sign_in("bob").await;
    set_email(&app, &bob, "ann@corp.test", PASSWORD).await.ok(202);
    let body = json!({"token": server.next().await.token("email_confirmation")});
    let taken = app.post("email/confirm", body).await;
    assert_eq!((taken.status, taken.code()), (409, "conflict"));
    assert_eq!(
        app.send("GET /api/auth/email", Some(&bob), None).await.ok(200),
        json!({"is_confirmed": false})
    );
}

#[tokio::test]
async fn who_reads_mail_at_an_address_learns_that_another_took_its_place() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let app = in_memory(&log, &server).await;
    let phone = app.sign_in("ann").await;
    confirmed(&app, &server, &phone, "ann@corp.test").await;
    confirmed(&app, &server, &phone, "ann@home.test").await;
    let mail = server.next().await;
    assert_eq!(mail.to, "ann@corp.test");
    assert!(mail.content.contains("took the place of this one"), "{}", mail.content);
    assert!(!mail.content.contains("ann@home.test"), "where to is for its owner");
    // The same address once more replaces none.
    confirmed(&app, &server, &phone, "ann@home.test").await;
    set_email(&app, &phone, "ann@away.test", PASSWORD).await.ok(202);
    assert_eq!(server.next().await.to, "ann@away.test");
}

#[tokio::test]
async fn a_change_of_the_password_ends_the_link() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let app = in_memory(&log, &server).await;
    let phone = app.sign_in("ann").await;
    confirmed(&app, &server, &phone, "ann@corp.test").await;
    forgot(&app, "ann@corp.test").await.ok(202);
    let token = server.next().await.token("password_reset");
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    app.send("POST /api/auth/change-password", Some(&phone), Some(body)).await.ok(200);
    assert_eq!(reset(&app, &token, "another password").await.code(), "not_found");
    // A link of one kind is none of the other.
    set_email(&app, &phone, "ann@other.test", NEW).await.ok(202);
    let token = server.next().await.token("email_confirmation");
    assert_eq!(reset(&app, &token, "another password").await.code(), "not_found");
}

#[tokio::test]
async fn mail_has_a_rate_that_says_nothing_of_accounts() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let app = in_memory(&log, &server).await;
    let phone = app.sign_in("ann").await;
    confirmed(&app, &server, &phone, "ann@corp.test").await;
    let mut answers = Vec::new();
    for email in ["ann@corp.test", "nobody@corp.test"] {
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(forgot(&app, email).await.status);
        }
        answers.push(statuses);
    }
    // The mail that confirmed the address counts, too.
    assert_eq!(answers, [[202, 202, 429, 429, 429], [202, 202, 202, 429, 429]]);
    for n in 0..40 {
        let answer = forgot(&app, &format!("user{n}@corp.test")).await;
        if answer.status == 429 {
            assert!(answer.retry_after.is_some_and(|seconds| seconds <= 31), "{answer:?}");
            return;
        }
    }
    panic!("one address of the network may send any number of mails");
}

#[tokio::test]
async fn a_messenger_without_a_mail_server_says_so() {
    let (realm, issuer) = memory_realm_and_issuer();
    let app = App::on(&Log::memory(), Arc::new(realm), Registration::Open, Peers::default().start().await);
    let app = app.verifying(issuer.verifier().expect("a verifier"));
    app.register("ann").await.ok(201);
    let tokens = app.sign_in("ann").await;
    let token = "x".repeat(43);
    for answer in [
        forgot(&app, "ann@corp.test").await,
        reset(&app, &token, NEW).await,
        set_email(&app, &tokens, "ann@corp.test", PASSWORD).await,
        app.post("email/confirm", json!({ "token": token })).await,
    ] {
        assert_eq!((answer.status, answer.code()), (404, "not_configured"), "{answer:?}");
    }
    app.send("GET /api/auth/email", Some(&tokens), None).await.ok(200);
}

#[tokio::test]
async fn bad_input_is_named_and_no_link_is_guessed() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let app = in_memory(&log, &server).await;
    for email in ["", "ann", "ann@corp.test\nbcc: x@y.test", "a@b"] {
        assert_eq!(forgot(&app, email).await.code(), "invalid_argument", "{email}");
    }
    let mut statuses = Vec::new();
    for n in 0..150 {
        statuses.push(reset(&app, &format!("{n:043}"), NEW).await.status);
    }
    assert!(statuses[..100].iter().all(|status| *status == 404) && statuses[149] == 429, "{statuses:?}");
}

#[tokio::test]
async fn an_address_that_the_mail_server_does_not_know_is_the_users_to_correct() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let app = in_memory(&log, &server).await;
    let ann = app.sign_in("ann").await;
    let refused = set_email(&app, &ann, "nobody@corp.test", PASSWORD).await;
    assert_eq!((refused.status, refused.code()), (409, "conflict"), "{refused:?}");
    let detail = "the mail server takes no mail for this address (550): see whether it is right";
    assert_eq!(refused.body["detail"], detail);
}

#[tokio::test]
async fn mails_have_the_headers_that_other_servers_look_for() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let app = in_memory(&log, &server).await;
    let ann = app.sign_in("ann").await;
    let mut ids = Vec::new();
    for email in ["ann@corp.test", "ann@home.test"] {
        set_email(&app, &ann, email, PASSWORD).await.ok(202);
        let mail = server.next().await.content;
        let header = |name: &str| {
            let found = mail.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            found.unwrap_or_else(|| panic!("no {name}: {mail}")).to_owned()
        };
        assert_eq!(header("MIME-Version"), "1.0");
        assert!(!header("Date").is_empty());
        ids.push(header("Message-ID"));
    }
    assert!(ids.iter().all(|id| id.starts_with('<') && id.ends_with("@messenger.test>")), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_link_is_good_for_its_own_purpose_and_while_there_is_an_account() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let app = in_memory(&log, &server).await;
    let ann = app.sign_in("ann").await;
    set_email(&app, &ann, "ann@corp.test", PASSWORD).await.ok(202);
    let token = server.next().await.token("email_confirmation");
    let elsewhere = reset(&app, &token, NEW).await;
    assert_eq!((elsewhere.status, elsewhere.code()), (404, "not_found"));
    app.post("email/confirm", json!({ "token": token })).await.ok(204);

    forgot(&app, "ann@corp.test").await.ok(202);
    let token = server.next().await.token("password_reset");
    let elsewhere = app.post("email/confirm", json!({ "token": token })).await;
    assert_eq!((elsewhere.status, elsewhere.code()), (404, "not_found"));
    app.post("delete-account", json!({"username": "ann", "password": PASSWORD})).await.ok(200);
    for code in ["not_found", "conflict"] {
        assert_eq!(reset(&app, &token, NEW).await.code(), code);
    }
}

#[tokio::test]
async fn a_mail_server_that_does_not_take_it_is_reported_and_named_by_no_address() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let (realm, issuer) = memory_realm_and_issuer();
    let mail = mailer(&format!("smtp://{}", server.address), "wrong", None);
    let app = App::on(&log, Arc::new(realm), Registration::Open, Peers::default().start().await);
    let app = app.with_mail(Some((mail, ORIGIN.to_owned())), Tickets::in_process());
    let app = app.verifying(issuer.verifier().expect("a verifier"));
    app.register("ann").await.ok(201);
    let refused = set_email(&app, &app.sign_in("ann").await, "ann@corp.test", PASSWORD).await;
    assert_eq!((refused.status, refused.code()), (503, "unavailable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_by_tls_to_a_server_that_is_trusted_and_to_no_other() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let front = TlsFront::start(&server.address).await;
    let url = front.url.replace("https://", "smtps://");
    for (ca_bundle, expected) in [(Some(&*front.ca_bundle), 202), (None, 503)] {
        let (realm, issuer) = memory_realm_and_issuer();
        let mail = mailer(&url, smtp::PASSWORD, ca_bundle);
        let app = App::on(&log, Arc::new(realm), Registration::Open, Peers::default().start().await);
        let app = app.with_mail(Some((mail, ORIGIN.to_owned())), Tickets::in_process());
        let app = app.verifying(issuer.verifier().expect("a verifier"));
        app.register("ann").await.ok(201);
        let answer = set_email(&app, &app.sign_in("ann").await, "ann@corp.test", PASSWORD).await;
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    assert_eq!(server.next().await.to, "ann@corp.test");
    // A server that offers no STARTTLS is not sent a password.
    let (realm, issuer) = memory_realm_and_issuer();
    let mail = mailer(&format!("smtp://{}?tls=required", server.address), smtp::PASSWORD, None);
    let app = App::on(&log, Arc::new(realm), Registration::Open, Peers::default().start().await);
    let app = app.with_mail(Some((mail, ORIGIN.to_owned())), Tickets::in_process());
    let app = app.verifying(issuer.verifier().expect("a verifier"));
    app.register("ann").await.ok(201);
    assert_eq!(set_email(&app, &app.sign_in("ann").await, "ann@corp.test", PASSWORD).await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_links_and_a_reader_of_the_cache_learns_none() {
    let (log, server) = (Log::memory(), MailServer::start().await);
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    let cache = TestCache::create(&name).await;
    let (realm, issuer) = memory_realm_and_issuer();
    let realm = Arc::new(realm);
    let replica = async || {
        let mail = mailer(&format!("smtp://{}", server.address), smtp::PASSWORD, None);
        let redis = kit::redis::connection(&cache.args()).expect("a connection");
        let app = App::on(&log, realm.clone(), Registration::Open, Peers::default().start().await);
        let app = app.with_mail(Some((mail, ORIGIN.to_owned())), Tickets::shared(redis, &name));
        app.verifying(issuer.verifier().expect("a verifier"))
    };
    let (one, other) = (replica().await, replica().await);
    one.register("ann").await.ok(201);
    let phone = one.sign_in("ann").await;
    confirmed(&one, &server, &phone, "ann@corp.test").await;
    forgot(&one, "ann@corp.test").await.ok(202);
    let token = server.next().await.token("password_reset");
    let keys = cache.keys("link").await;
    assert!(!keys.is_empty() && keys.iter().all(|key| !key.contains(&token)), "{keys:?}");
    let answers = tokio::join!(reset(&one, &token, NEW), reset(&other, &token, NEW));
    let mut statuses = [answers.0.status, answers.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409]);
}
