//! A tenant's classifier of texts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::receivers::Received;

/// A classifier on a loopback port that finds whatever has the word "fool" toxic: `toxic` has the score 0.93 then, and 0.02 otherwise.
#[derive(Clone)]
pub struct TestClassifier {
    /// Where it is asked.
    pub url: String,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    status: Arc<AtomicU16>,
    asked: Arc<Mutex<Vec<Received>>>,
}

impl TestClassifier {
    /// Starts a classifier that answers with 200. It serves until the test ends.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}/classify", listener.local_addr().expect("an address"));
        let shared = Shared { status: Arc::new(AtomicU16::new(200)), asked: Arc::default() };
        let router = Router::new().route("/classify", post(classify)).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, shared }
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Returns all requests so far, in the order in which they came.
    pub fn asked(&self) -> Vec<Received> {
        self.shared.asked.lock().expect("no panic").clone()
    }
}

async fn classify(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let question: Value = serde_json::from_slice(&body).expect("JSON");
    let is_toxic = question["text"].as_str().expect("a text").contains("fool");
    let status = shared.status.load(Ordering::Relaxed);
    let received = Received { at: Instant::now(), headers, body, status };
    shared.asked.lock().expect("no panic").push(received);
    let labels = json!({ "toxic": if is_toxic { 0.93 } else { 0.02 } });
    (StatusCode::from_u16(status).expect("a status"), Json(json!({ "labels": labels })))
}
