//! Changes of passwords.

use std::sync::Arc;

use auth::{
    config::Registration,
    store::{AccountStore, Keycloak},
};
use kit::{
    auth::TokenVerifier,
    log::Log,
    testing::{Answer, smtp::MailServer},
};
use serde_json::{Value, json};

use crate::{
    api::{App, PASSWORD},
    events::{Reader, refresh_token, session},
    issuer, memory_realm_and_issuer,
    peers::Peers,
    realm::Realm,
    recovery::{self, confirmed, forgot, set_email},
};

const NEW: &str = "staple battery";

async fn app(log: &Log, realm: Arc<dyn AccountStore>, verifier: Arc<TokenVerifier>) -> App {
    let app = App::on(log, realm, Registration::Open, Peers::default().start().await).verifying(verifier);
    app.register("ann").await.ok(201);
    app
}

async fn in_memory(log: &Log) -> App {
    let (realm, issuer) = memory_realm_and_issuer();
    app(log, Arc::new(realm), issuer.verifier().expect("a verifier")).await
}

async fn change(app: &App, tokens: &Value, current: &str, new: &str) -> Answer {
    let body = json!({"current_password": current, "new_password": new});
    app.send("POST /api/auth/change-password", Some(tokens), Some(body)).await
}

async fn sign_in(app: &App, password: &str) -> Answer {
    app.post("sign-in", json!({"username": "ann", "password": password})).await
}

/// The story of every realm.
async fn a_new_password_ends_all_other_sessions(app: &App, reader: &mut Reader) {
    let (phone, desk) = (app.sign_in("ann").await, app.sign_in("ann").await);
    let refused = change(app, &phone, "wrong horse", NEW).await;
    assert_eq!((refused.status, refused.code()), (403, "permission_denied"));
    for (new, problem) in [
        ("sh0rt!", "new_password: must have at least 8 characters"),
        ("        ", "new_password: must not be spaces alone"),
    ] {
        let refused = change(app, &phone, PASSWORD, new).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_argument"));
        assert_eq!(refused.body["detail"], problem);
    }
    // Nothing has changed, and the owner is not held up.
    let tablet = sign_in(app, PASSWORD).await.ok(200);
    let desk = app.post("refresh", refresh_token(&desk)).await.ok(200);

    let changed = change(app, &phone, PASSWORD, NEW).await.ok(200);
    assert_eq!(changed, json!({}), "no link is sent");
    let mut ended = [reader.next().await, reader.next().await];
    let mut others = [session(&desk), session(&tablet)];
    ended.sort_by_key(|end| format!("{end:?}"));
    others.sort_by_key(|end| format!("{end:?}"));
    assert_eq!(ended, others);
    for tokens in [&desk, &tablet] {
        assert_eq!(app.post("refresh", refresh_token(tokens)).await.code(), "unauthenticated");
        assert_eq!(change(app, tokens, NEW, PASSWORD).await.code(), "unauthenticated");
    }
    app.post("refresh", refresh_token(&phone)).await.ok(200);
    assert_eq!(sign_in(app, PASSWORD).await.code(), "unauthenticated");
    sign_in(app, NEW).await.ok(200);
    // What is repeated was done.
    assert_eq!(change(app, &phone, PASSWORD, NEW).await.code(), "permission_denied");
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions_in_memory() {
    let log = Log::memory();
    let (app, mut reader) = (in_memory(&log).await, Reader::start(&log).await);
    a_new_password_ends_all_other_sessions(&app, &mut reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_ends_all_other_sessions_on_a_realm() {
    let (log, realm) = (Log::memory(), Realm::create().await);
    let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
    let app = app(&log, store, TokenVerifier::new(&realm.oidc()).expect("a verifier")).await;
    a_new_password_ends_all_other_sessions(&app, &mut Reader::start(&log).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_had_the_account_before_keeps_no_way_in_after_a_change() {
    let (log, realm, corp) = (Log::memory(), Realm::create().await, Realm::create().await);
    realm.add_provider(&corp).await;
    let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
    let app = app(&log, store, TokenVerifier::new(&realm.oidc()).expect("a verifier")).await;
    let phone = app.sign_in("ann").await;
    let offline = realm.offline_token("ann").await;
    let offline = realm.refreshed(&offline).await.expect("an offline token is good at the realm");
    realm.add_link("ann").await;
    assert_eq!(realm.ways("ann").await, ["corp", "password"]);
    // What does not replace the password takes nothing from its owner.
    assert_eq!(change(&app, &phone, "wrong horse", NEW).await.code(), "permission_denied");
    assert_eq!(realm.ways("ann").await, ["corp", "password"]);

    change(&app, &phone, PASSWORD, NEW).await.ok(200);
    assert_eq!(realm.ways("ann").await, ["password"]);
    let refused = realm.refreshed(&offline).await.expect_err("good for nothing");
    assert!(refused.contains("invalid_grant"), "{refused}");
    app.post("refresh", refresh_token(&phone)).await.ok(200);
    sign_in(&app, NEW).await.ok(200);
}

#[tokio::test]
async fn an_owner_learns_with_the_change_where_links_for_another_password_go() {
    let server = MailServer::start().await;
    let app = recovery::in_memory(&Log::memory(), &server).await;
    let (thief, phone) = (app.sign_in("ann").await, app.sign_in("ann").await);
    confirmed(&app, &server, &thief, "mallory@evil.test").await;
    let changed = change(&app, &phone, PASSWORD, NEW).await.ok(200);
    assert_eq!(changed, json!({"email": "mallory@evil.test"}));

    set_email(&app, &phone, "ann@corp.test", NEW).await.ok(202);
    let token = server.next().await.token("email_confirmation");
    app.post("email/confirm", json!({ "token": token })).await.ok(204);
    assert_eq!(server.next().await.to, "mallory@evil.test", "another one took its place");
    forgot(&app, "mallory@evil.test").await.ok(202);
    forgot(&app, "ann@corp.test").await.ok(202);
    let next = server.next().await;
    assert_eq!(next.to, "ann@corp.test", "the thief is sent no link");
    next.token("password_reset");
    let changed = change(&app, &phone, NEW, PASSWORD).await.ok(200);
    assert_eq!(changed, json!({"email": "ann@corp.test"}));
}

#[tokio::test]
async fn who_found_a_device_guesses_in_vain_and_the_owner_signs_in() {
    let app = in_memory(&Log::memory()).await;
    let phone = app.sign_in("ann").await;
    for _ in 0..5 {
        assert_eq!(change(&app, &phone, "wrong horse", NEW).await.code(), "permission_denied");
    }
    // Not even the right one any more, from wherever it is tried.
    let desk = sign_in(&app, PASSWORD).await.ok(200);
    for tokens in [&phone, &desk] {
        let held_up = change(&app, tokens, PASSWORD, NEW).await;
        assert_eq!((held_up.status, held_up.code()), (429, "rate_limited"));
        assert!(held_up.retry_after.is_some_and(|seconds| seconds > 500), "{held_up:?}");
    }
    sign_in(&app, PASSWORD).await.ok(200);
}

#[tokio::test]
async fn bad_input_gets_a_code_and_changes_nothing() {
    let app = in_memory(&Log::memory()).await;
    let phone = app.sign_in("ann").await;
    for (current, new) in [
        ("", NEW),
        (PASSWORD, ""),
        (PASSWORD, "staple\u{7}battery"),
        ("correct\nhorse", NEW),
        (PASSWORD, &"x".repeat(257)),
        (&"x".repeat(257), NEW),
        (PASSWORD, "staple\u{0}battery"),
    ] {
        let answer = change(&app, &phone, current, new).await;
        assert_eq!(answer.code(), "invalid_argument", "{current:?} {new:?}");
        assert!(!answer.body.to_string().contains("staple"), "no password is repeated");
    }
    let line = "POST /api/auth/change-password";
    for body in [json!({}), json!({"current_password": PASSWORD}), json!([PASSWORD, NEW])] {
        assert_eq!(app.send(line, Some(&phone), Some(body)).await.code(), "invalid_argument");
    }
    // Without a token, and with one of another tenant's realm.
    let (user_id, _) = session(&phone);
    let id = "one".parse().expect("an id");
    let foreign = json!({"access_token": issuer().access_token(user_id, "ann", &id, 300)});
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    for tokens in [None, Some(&foreign)] {
        assert_eq!(app.send(line, tokens, Some(body.clone())).await.code(), "unauthenticated");
    }
    sign_in(&app, PASSWORD).await.ok(200);
}
