//! What a classifier adds: what is asked, what follows, and what an outage of it delays.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use contracts::{ChatId, RuleSetId, UserId, api::Figures};
use kit::{clock::now_ms, reach::Reach, testing::wait_for};
use moderation::{
    carrying_out::Wake,
    classifying::{Asking, Classifier, KEPT_MS, RoundError},
    metrics::Metrics,
    store::ModerationStore as _,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::stand::{PATIENCE, Stand, text};

/// Longer than a process claims a post.
const LATER_MS: i64 = 60_000;

/// A classifier on a loopback port that finds whatever has the word "fool" toxic.
#[derive(Clone)]
struct Server {
    status: Arc<AtomicU16>,
    /// The headers and the body of each request.
    asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl Server {
    /// Starts it, with what asks it about the posts of a stand.
    async fn start(stand: &Stand) -> (Self, Asking) {
        let server = Self { status: Arc::new(AtomicU16::new(200)), asked: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}/classify", listener.local_addr().expect("an address"));
        let router = Router::new().route("/classify", post(classify)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        let reach = Reach { address: |address| address.is_loopback(), port: |_| true, ..Reach::internet() };
        let (url, key) = (url.parse().expect("a URL"), "a key of some length".to_owned().into());
        let classifier = Classifier::within(reach, true, url, key).expect("a client");
        let (store, metrics, wake) = (stand.store.clone(), Metrics::default(), Wake::default());
        (server, Asking { store, classifier, metrics, wake })
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn asked(&self) -> Vec<(HeaderMap, Value)> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn classify(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let question: Value = serde_json::from_slice(&body).expect("JSON");
    let is_toxic = question["text"].as_str().expect("a text").contains("fool");
    server.asked.lock().expect("no panic").push((headers, question));
    let status = StatusCode::from_u16(server.status.load(Ordering::Relaxed)).expect("a status");
    let labels = BTreeMap::from([("toxic", if is_toxic { 0.93 } else { 0.02 })]);
    (status, Json(json!({"labels": labels})))
}

/// Returns a set with a word that is deleted and a label that is reported.
fn rules() -> Value {
    json!([
        {"name": "words", "test": {"words": {"words": ["scam"]}}, "action": {"delete": true}},
        {"name": "toxic", "test": {"classifier": {"label": "toxic", "percent": 80}}, "action": {"report": true}},
    ])
}

/// Asks until the figures are as they should be, and returns them.
async fn figures(stand: &Stand, asking: &Asking, id: RuleSetId, is_it: impl Fn(&Figures) -> bool) -> Figures {
    wait_for("figures", PATIENCE, || async {
        asking.ask(now_ms()).await.expect("it answers");
        let figures = stand.store.figures(id).await.expect("a read");
        is_it(&figures).then_some(figures)
    })
    .await
}

#[tokio::test]
async fn a_label_is_caught_beside_other_rules_and_each_post_is_asked_about_once() {
    let stand = Stand::with_classifier().await;
    let (server, asking) = Server::start(&stand).await;
    let id = stand.enforce(rules()).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    let records =
        || [text(chat, ann, 1, "scam, you fool"), text(chat, ann, 2, "fool"), text(chat, ann, 3, "hello")];
    stand.announce(records()).await;
    let caught = figures(&stand, &asking, id, |figures| figures.reports == 2).await;
    assert_eq!((caught.caught, caught.deletions), (2, 1), "a post that both caught is one");
    // Announced once more, and behind it what was not.
    stand.announce(records()).await;
    stand.announce([text(chat, ann, 4, "the last fool")]).await;
    figures(&stand, &asking, id, |figures| figures.reports == 3).await;
    let asked = server.asked();
    let mut texts: Vec<_> = asked.iter().map(|(_, question)| question["text"].to_string()).collect();
    texts.sort();
    assert_eq!(texts, [r#""fool""#, r#""hello""#, r#""scam, you fool""#, r#""the last fool""#]);
    for (headers, question) in &asked {
        let header = |name: &str| headers[name].to_str().expect("text");
        assert!(header("posthouse-signature").starts_with("t="));
        assert_eq!(question["id"], header("posthouse-id"));
        let question = question.to_string();
        assert!(!question.contains(&ann.to_string()) && !question.contains(&chat.to_string()), "{question}");
    }
}

#[tokio::test]
async fn an_outage_delays_the_label_alone_and_what_waits_is_judged_after_it() {
    let stand = Stand::with_classifier().await;
    let (server, asking) = Server::start(&stand).await;
    server.answer(503);
    let id = stand.enforce(rules()).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    stand.announce([text(chat, ann, 1, "scam, you fool")]).await;
    assert_eq!(stand.sent(1).await[0].target_seq, Some(1), "the word is deleted meanwhile");
    assert!(matches!(asking.ask(now_ms()).await, Err(RoundError::Ask(_))));
    // It is claimed still.
    assert_eq!(asking.ask(now_ms()).await.expect("nothing is asked"), 0);
    assert_eq!(stand.caught(id, 1).await.reports, 0);
    server.answer(200);
    assert_eq!(asking.ask(now_ms() + LATER_MS).await.expect("it answers"), 1);
    assert_eq!(stand.caught(id, 1).await.reports, 1);
    assert_eq!(asking.ask(now_ms() + 2 * LATER_MS).await.expect("nothing is left"), 0);
}

#[tokio::test]
async fn what_is_refused_or_waits_for_too_long_is_given_up() {
    let stand = Stand::with_classifier().await;
    let (server, asking) = Server::start(&stand).await;
    let id = stand.enforce(rules()).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    server.answer(422);
    stand.announce([text(chat, ann, 1, "scam fool")]).await;
    stand.caught(id, 1).await;
    assert_eq!(asking.ask(now_ms()).await.expect("it is no outage"), 1);
    stand.announce([text(chat, ann, 2, "scam fool")]).await;
    stand.caught(id, 2).await;
    server.answer(200);
    assert_eq!(asking.ask(now_ms() + KEPT_MS + LATER_MS).await.expect("nothing is asked"), 0);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(stand.caught(id, 2).await.reports, 0);
}

#[tokio::test]
async fn a_set_with_a_label_is_enforced_where_there_is_a_classifier() {
    for (stand, status) in [(Stand::start().await, 404), (Stand::with_classifier().await, 200)] {
        let moderator = stand.moderator();
        let draft = stand.post(&moderator, "rule-sets", json!({"name": "new", "rules": rules()}), 201).await;
        let path = format!("/api/moderation/rule-sets/{}/enforce", draft["id"].as_str().expect("an id"));
        let answer = stand.api.send(&format!("POST {path}"), Some(&moderator.token), None).await;
        let body = answer.ok(status);
        if status == 404 {
            assert_eq!(body["code"], "not_configured", "{body}");
        }
    }
}
