//! Sessions of a user on all devices, seen and ended from one of them.

use std::sync::Arc;

use auth::{
    config::Registration,
    store::{AccountStore, Keycloak, MemoryStore},
};
use contracts::{
    UserId,
    event::Ended,
    rpc::{EndSessionRequest, ListSessionsRequest, account_service_server::AccountService as _},
};
use kit::{auth::TokenVerifier, log::Log};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::{
    api::App,
    events::{Reader, refresh_token, session},
    issuer, memory_realm_and_issuer,
    peers::Peers,
    realm::Realm,
};

/// A process of the service on a realm, with the accounts of ann and bob.
async fn app(log: &Log, realm: Arc<dyn AccountStore>, verifier: Arc<TokenVerifier>) -> App {
    let app = App::on(log, realm, Registration::Open, Peers::default().start().await).verifying(verifier);
    for name in ["ann", "bob"] {
        app.register(name).await.ok(201);
    }
    app
}

async fn in_memory(log: &Log) -> App {
    let (realm, issuer) = memory_realm_and_issuer();
    app(log, Arc::new(realm), issuer.verifier().expect("a verifier")).await
}

/// Returns the ids of the sessions that a user sees, the last used one first, and which of them is the one of these tokens.
async fn listed(app: &App, tokens: &Value) -> (Vec<String>, Vec<bool>) {
    let page = app.send("GET /api/auth/sessions", Some(tokens), None).await.ok(200);
    assert!(page.get("next_cursor").is_none());
    let items = page["items"].as_array().expect("items");
    let id = |item: &Value| item["session_id"].as_str().expect("an id").to_owned();
    let is_current = |item: &Value| item["is_current"].as_bool().expect("yes or no");
    (items.iter().map(id).collect(), items.iter().map(is_current).collect())
}

fn id_of(tokens: &Value) -> String {
    let (_, Ended::Session(id)) = session(tokens) else { panic!("a session") };
    id.to_string()
}

/// The story of every realm.
async fn devices_are_seen_and_signed_out_from_another_one(app: &App, reader: &mut Reader) {
    let (phone, desk, bobs) = (app.sign_in("ann").await, app.sign_in("ann").await, app.sign_in("bob").await);
    let (mut ids, is_current) = listed(app, &phone).await;
    assert_eq!(is_current.iter().filter(|is_current| **is_current).count(), 1);
    assert_eq!(ids[is_current.iter().position(|is_current| *is_current).expect("one")], id_of(&phone));
    let mut both = vec![id_of(&phone), id_of(&desk)];
    ids.sort();
    both.sort();
    assert_eq!(ids, both, "and none of bob");

    // Bob neither ends it nor learns whether there is such a session.
    let end = format!("DELETE /api/auth/sessions/{}", id_of(&phone));
    let foreign = app.send(&end, Some(&bobs), None).await;
    assert_eq!((foreign.status, foreign.code()), (404, "not_found"));
    let unknown = app.send("DELETE /api/auth/sessions/no-such-session", Some(&bobs), None).await;
    assert_eq!(foreign, unknown);
    app.send("DELETE /api/auth/sessions", Some(&bobs), None).await.ok(204);
    assert_eq!(listed(app, &desk).await.0.len(), 2);

    app.send(&end, Some(&desk), None).await.ok(204);
    assert_eq!(reader.next().await, session(&phone), "nothing was published of what bob did");
    assert_eq!(app.post("refresh", refresh_token(&phone)).await.code(), "unauthenticated");
    // Its access token has time left, and is of no use here.
    for line in ["GET /api/auth/sessions", "DELETE /api/auth/sessions", &end] {
        assert_eq!(app.send(line, Some(&phone), None).await.code(), "unauthenticated", "{line}");
    }
    assert_eq!(app.send(&end, Some(&desk), None).await.code(), "not_found");

    let tablet = app.sign_in("ann").await;
    app.send("DELETE /api/auth/sessions", Some(&tablet), None).await.ok(204);
    // What was remembered of the refresh of the phone may be published once more.
    while reader.next().await != session(&desk) {}
    assert_eq!(listed(app, &tablet).await.0, [id_of(&tablet)]);
    app.send(&format!("DELETE /api/auth/sessions/{}", id_of(&tablet)), Some(&tablet), None).await.ok(204);
    assert_eq!(reader.next().await, session(&tablet));
    assert_eq!(app.post("refresh", refresh_token(&tablet)).await.code(), "unauthenticated");
    app.post("refresh", refresh_token(&bobs)).await.ok(200);
}

#[tokio::test]
async fn devices_are_seen_and_signed_out_from_another_one_in_memory() {
    let log = Log::memory();
    let (app, mut reader) = (in_memory(&log).await, Reader::start(&log).await);
    devices_are_seen_and_signed_out_from_another_one(&app, &mut reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_seen_and_signed_out_from_another_one_on_a_realm() {
    let (log, realm) = (Log::memory(), Realm::create().await);
    let store = Arc::new(Keycloak::new(&realm.args()).expect("a client"));
    let app = app(&log, store, TokenVerifier::new(&realm.oidc()).expect("a verifier")).await;
    devices_are_seen_and_signed_out_from_another_one(&app, &mut Reader::start(&log).await).await;
}

#[tokio::test]
async fn without_a_token_of_this_tenant_there_is_nothing() {
    let app = in_memory(&Log::memory()).await;
    let phone = app.sign_in("ann").await;
    // Another tenant's realm, in which another user has the same id.
    let (user_id, Ended::Session(id)) = session(&phone) else { panic!("a session") };
    let foreign = json!({"access_token": issuer().access_token(user_id, "ann", &id, 300)});
    let end = format!("DELETE /api/auth/sessions/{id}");
    for line in ["GET /api/auth/sessions", "DELETE /api/auth/sessions", &end] {
        for tokens in [None, Some(&foreign)] {
            let answer = app.send(line, tokens, None).await;
            assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{line}");
        }
    }
    assert_eq!(listed(&app, &phone).await.0, [id.to_string()]);
    let long = format!("DELETE /api/auth/sessions/{}", "x".repeat(129));
    assert_eq!(app.send(&long, Some(&phone), None).await.code(), "invalid_argument");
    let path = "GET /api/auth/sessions?limit=1";
    assert_eq!(app.send(path, Some(&phone), None).await.code(), "invalid_argument");
}

#[tokio::test]
async fn requests_about_sessions_have_a_rate() {
    let app = in_memory(&Log::memory()).await;
    let (phone, bobs) = (app.sign_in("ann").await, app.sign_in("bob").await);
    let mut answered = 0;
    let refused = loop {
        let answer = app.send("GET /api/auth/sessions", Some(&phone), None).await;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
    };
    assert!((60..120).contains(&answered), "{answered}");
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert!(refused.retry_after.is_some());
    listed(&app, &bobs).await;
}

/// A session that has ended at the realm only is ended at the gateways by the request that is repeated.
#[tokio::test]
async fn what_failed_half_way_is_done_by_the_repeated_request() {
    let (realm, issuer) = memory_realm_and_issuer();
    let (realm, verifier): (Arc<MemoryStore>, _) = (Arc::new(realm), issuer.verifier().expect("a verifier"));
    let (down, log) = (Log::kafka(nowhere()), Log::memory());
    let broken = app(&down, realm.clone(), verifier.clone()).await;
    let peers = Peers::default().start().await;
    let app = App::on(&log, realm, Registration::Open, peers).verifying(verifier);
    let mut reader = Reader::start(&log).await;
    let (phone, desk) = (app.sign_in("ann").await, app.sign_in("ann").await);
    let end = format!("DELETE /api/auth/sessions/{}", id_of(&phone));
    let answer = broken.send(&end, Some(&desk), None).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    assert_eq!(listed(&app, &desk).await.0.len(), 2, "it is listed until nothing of it is left");
    app.send(&end, Some(&desk), None).await.ok(204);
    assert_eq!(reader.next().await, session(&phone));
}

/// Returns a log that no one serves.
fn nowhere() -> kit::config::KafkaArgs {
    kit::config::KafkaArgs {
        kafka_bootstrap_servers: "127.0.0.1:9".to_owned(),
        kafka_security_protocol: "plaintext".to_owned(),
        trust: kit::config::TrustArgs::default(),
        kafka_username: "u".to_owned(),
        kafka_password: "p".into(),
        schema_ids: Vec::new(),
    }
}

/// Moderators see and end sessions of users by the moderation service, which calls this one.
#[tokio::test]
async fn a_session_of_a_user_is_seen_and_ended_by_another_service() {
    let log = Log::memory();
    let (app, mut reader) = (in_memory(&log).await, Reader::start(&log).await);
    let (phone, desk, bobs) = (app.sign_in("ann").await, app.sign_in("ann").await, app.sign_in("bob").await);
    let ((ann, _), (bob, _)) = (session(&phone), session(&bobs));
    let accounts = app.accounts();
    let listed_of = async |user_id: UserId, session_ids: Vec<String>| {
        let request = Request::new(ListSessionsRequest { user_id: user_id.to_string(), session_ids });
        let sessions = accounts.list_sessions(request).await.expect("a list").into_inner().sessions;
        let mut ids: Vec<_> = sessions.into_iter().map(|session| session.session_id).collect();
        ids.sort();
        ids
    };
    let listed = async |user_id: UserId| listed_of(user_id, Vec::new()).await;
    let end = async |user_id: UserId, session_id: &str| {
        let request = EndSessionRequest { user_id: user_id.to_string(), session_id: session_id.to_owned() };
        accounts.end_session(Request::new(request)).await.map(drop).map_err(|status| status.code())
    };
    let mut both = vec![id_of(&phone), id_of(&desk)];
    both.sort();
    assert_eq!(listed(ann).await, both, "and none of bob");
    assert!(listed(UserId::generate()).await.is_empty());
    let asked = vec![id_of(&desk), id_of(&bobs), "no-session".to_owned()];
    assert_eq!(listed_of(ann, asked).await, [id_of(&desk)], "which of these go on");

    assert_eq!(end(bob, &id_of(&phone)).await, Err(Code::NotFound), "it is not one of bob's");
    assert_eq!(end(ann, "no id").await, Err(Code::InvalidArgument));
    assert_eq!(end(ann, &id_of(&phone)).await, Ok(()));
    assert_eq!(reader.next().await, session(&phone), "nothing was published of what was refused");
    assert_eq!(app.post("refresh", refresh_token(&phone)).await.code(), "unauthenticated");
    assert_eq!(end(ann, &id_of(&phone)).await, Err(Code::NotFound), "it has ended");
    assert_eq!(listed(ann).await, [id_of(&desk)]);
    app.post("refresh", refresh_token(&desk)).await.ok(200);
}
