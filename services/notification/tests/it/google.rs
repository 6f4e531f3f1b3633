//! A project of Google that grants tokens and takes messages with them.

use std::{
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::Instant,
};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, get_current_timestamp};
use kit::testing::{receivers::Received, wait_for};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::form_urlencoded;

use super::stand::PATIENCE;

const PROJECT: &str = "acme-1";
const ACCOUNT: &str = "push@acme-1.iam.example";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// One key for all projects of a process.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).expect("an RSA key"));

/// A project of Google on a loopback port: it grants access tokens to its service account, and takes messages with them.
#[derive(Clone)]
pub struct Google {
    pub url: String,
    project: Arc<Mutex<Project>>,
}

struct Project {
    /// Where tokens are granted: the audience of an assertion.
    token_uri: String,
    /// Tokens that are good.
    good: Vec<String>,
    /// How many were granted.
    granted: usize,
    expires_in: u64,
    /// What the token server answers with, where it grants none.
    denial: Option<(u16, Value)>,
    /// What a message is answered with, where it is not taken.
    refusal: Option<(u16, Value)>,
    received: Vec<Received>,
}

impl Google {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let project = Project {
            token_uri: format!("{url}/token"),
            good: Vec::new(),
            granted: 0,
            expires_in: 3600,
            denial: None,
            refusal: None,
            received: Vec::new(),
        };
        let google = Self { url, project: Arc::new(Mutex::new(project)) };
        let router = Router::new()
            .route("/token", post(grant))
            .route(&format!("/v1/projects/{PROJECT}/messages:send"), post(take))
            .with_state(google.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        google
    }

    fn project(&self) -> MutexGuard<'_, Project> {
        self.project.lock().expect("no panic")
    }

    /// Returns the file of the service account.
    pub fn account(&self) -> SecretString {
        account(&format!("{}/token", self.url))
    }

    /// Answers messages with this from now on, or takes them.
    pub fn refuse(&self, refusal: Option<(u16, Value)>) {
        self.project().refusal = refusal;
    }

    /// Grants no tokens from now on, or grants them.
    pub fn deny(&self, denial: Option<(u16, Value)>) {
        self.project().denial = denial;
    }

    /// Grants tokens for so many seconds from now on.
    pub fn grant_for(&self, seconds: u64) {
        self.project().expires_in = seconds;
    }

    /// Takes no token any more that was granted before.
    pub fn revoke(&self) {
        self.project().good.clear();
    }

    pub fn granted(&self) -> usize {
        self.project().granted
    }

    pub fn all(&self) -> Vec<Received> {
        self.project().received.clone()
    }

    /// Returns the messages that were taken.
    pub fn taken(&self) -> Vec<Value> {
        let taken = self.all().into_iter().filter(|one| one.status == 200);
        taken.map(|one| serde_json::from_slice(&one.body).expect("JSON")).collect()
    }

    /// Waits until so many requests have come, whatever they were answered with.
    pub async fn wait(&self, count: usize) {
        wait_for("messages", PATIENCE, || async { (self.all().len() >= count).then_some(()) }).await;
    }

    /// Waits until so many messages were taken.
    pub async fn wait_taken(&self, count: usize) -> Vec<Value> {
        wait_for("messages that are taken", PATIENCE, || async {
            let taken = self.taken();
            (taken.len() >= count).then_some(taken)
        })
        .await
    }
}

/// Returns the file of a service account that requests its tokens there.
pub fn account(token_uri: &str) -> SecretString {
    let der: Pkcs8V1Der<'_> = KEY.as_der().expect("a private key has a DER form");
    let body = BASE64_STANDARD.encode(der.as_ref());
    let file = json!({
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "one",
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"),
        "client_email": ACCOUNT,
        "token_uri": token_uri,
    });
    file.to_string().into()
}

/// Returns what Firebase says in an error.
pub fn firebase_error(status: &str, code: &str) -> Value {
    let detail = json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code});
    json!({"error": {"status": status, "message": "words", "details": [detail]}})
}

fn answer(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
}

/// Checks an assertion as RFC 7523 says, and returns what is wrong with it.
fn check_assertion(body: &[u8], token_uri: &str) -> Result<(), String> {
    let fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if field("grant_type") != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
        return Err("it is another grant".to_owned());
    }
    let assertion = field("assertion").ok_or("there is no assertion")?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = 0;
    validation.set_audience(&[token_uri]);
    validation.set_issuer(&[ACCOUNT]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let key = DecodingKey::from_rsa_der(KEY.public_key().as_ref());
    let claims = decode::<Value>(assertion, &key, &validation).map_err(|error| error.to_string())?.claims;
    let time = |name: &str| claims[name].as_u64().ok_or_else(|| format!("{name} is no time"));
    let (from, to) = (time("iat")?, time("exp")?);
    if from > get_current_timestamp() || to.saturating_sub(from) > 3600 {
        return Err("it is good for longer than an hour, or not yet".to_owned());
    }
    if claims["scope"] != SCOPE {
        return Err("it is of another scope".to_owned());
    }
    Ok(())
}

async fn grant(State(google): State<Google>, headers: HeaderMap, body: Bytes) -> Response {
    let mut project = google.project();
    if let Some((status, body)) = &project.denial {
        return answer(*status, body.clone());
    }
    let is_form =
        headers.get(header::CONTENT_TYPE).is_some_and(|it| it == "application/x-www-form-urlencoded");
    let checked =
        if is_form { check_assertion(&body, &project.token_uri) } else { Err("no form".to_owned()) };
    if let Err(why) = checked {
        return answer(400, json!({"error": "invalid_grant", "error_description": why}));
    }
    project.granted += 1;
    let token = format!("ya29.token-{}", project.granted);
    project.good.push(token.clone());
    let expires_in = project.expires_in;
    answer(200, json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"}))
}

async fn take(State(google): State<Google>, headers: HeaderMap, body: Bytes) -> Response {
    let mut project = google.project();
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or_default();
    let (status, answered) = if project.good.iter().all(|good| good != token) {
        (401, json!({"error": {"status": "UNAUTHENTICATED", "message": "words"}}))
    } else {
        let taken = || (200, json!({"name": format!("projects/{PROJECT}/messages/1")}));
        project.refusal.clone().unwrap_or_else(taken)
    };
    project.received.push(Received { at: Instant::now(), headers, body, status });
    answer(status, answered)
}
