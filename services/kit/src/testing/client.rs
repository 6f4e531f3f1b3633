//! Requests to a REST API in the same process, as a client would send them.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, header},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use utoipa_axum::router::OpenApiRouter;

use super::{
    TestRealm, TestUser,
    description::{Description, Exchange},
};
use crate::{auth::TokenVerifier, docs, edge};

/// Larger than any response of ours.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A REST API under test. Every response is compared with the description of the API.
pub struct TestApi {
    router: Router,
    description: Description,
}

/// The response to a request.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub headers: HeaderMap,
    /// In seconds.
    pub retry_after: Option<u64>,
    /// Null for an empty body.
    pub body: Value,
}

impl TestApi {
    /// Returns an API that takes no tokens.
    pub fn open(api: OpenApiRouter) -> Self {
        let (router, mut description) = api.split_for_parts();
        let router = edge::guarded(router, [&description], catalog::Service::ALL);
        docs::complete(&mut description);
        Self { router, description: Description::new(&description) }
    }

    /// Returns an API that takes the realm's tokens.
    pub fn new(api: OpenApiRouter, realm: &TestRealm) -> Self {
        Self::open(api).verifying(realm.verifier())
    }

    /// Takes the tokens that this verifier takes.
    pub fn verifying(self, verifier: Arc<TokenVerifier>) -> Self {
        Self { router: self.router.layer(Extension(verifier)), ..self }
    }

    pub async fn get(&self, user: &TestUser, path: &str) -> Answer {
        self.send(&format!("GET {path}"), Some(&user.token), None).await
    }

    pub async fn post(&self, user: &TestUser, path: &str, body: Value) -> Answer {
        self.send(&format!("POST {path}"), Some(&user.token), Some(body)).await
    }

    /// Sends `GET /path` and the like, with a token and a JSON body where given.
    pub async fn send(&self, line: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        self.send_with(line, token, &[], body).await
    }

    /// Panics unless `GET /path` is refused without a token, and with one that is none, has expired, or is of another tenant.
    pub async fn refuses_strangers(&self, realm: &TestRealm, path: &str) {
        let other = TestRealm::start("globex").await;
        let ann = realm.user("ann");
        let expired = realm.token_with(ann.id, "ann", json!({"exp": 1_700_000_000}));
        let foreign = other.token(ann.id, "ann");
        let cases = [
            (None, "unauthenticated"),
            (Some("nonsense"), "unauthenticated"),
            (Some(foreign.as_str()), "unauthenticated"),
            (Some(expired.as_str()), "token_expired"),
        ];
        for (token, code) in cases {
            let answer = self.send(&format!("GET {path}"), token, None).await;
            assert_eq!((answer.status, answer.code()), (401, code));
        }
    }

    /// Sends like [`Self::send`], with headers.
    pub async fn send_with(
        &self,
        line: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let (method, uri) = line.split_once(' ').expect("a method and a path");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        // A header of the test's own may be what is wrong.
        let sent = body.clone().filter(|_| headers.is_empty());
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let request = request.body(body).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("a router answers");
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after =
            retry_after.map(|value| value.to_str().ok().and_then(|text| text.parse().ok()).expect("seconds"));
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.map(|value| value.to_str().expect("text").to_owned());
        let bytes = to_bytes(response.into_body(), MAX_ANSWER_BYTES).await.expect("a body");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let content_type = content_type.unwrap_or_default();
        let answer = Answer { status, content_type, headers, retry_after, body };
        self.description.check(&Exchange {
            method,
            uri,
            sent: sent.as_ref(),
            status,
            headers: &names,
            content_type: &answer.content_type,
            body: &answer.body,
        });
        answer
    }
}

impl Answer {
    /// Returns the code of a problem; panics when the response is none, or not a well-formed one.
    #[track_caller]
    pub fn code(&self) -> &str {
        assert_eq!(self.content_type, "application/problem+json", "not a problem: {self:?}");
        assert_eq!(self.body["status"], self.status, "the body names its status");
        let code = self.body["code"].as_str().expect("a code");
        assert_eq!(self.body["type"], format!("urn:posthouse:error:{code}"));
        code
    }

    /// Returns the body of a success; panics when the status is another one.
    #[track_caller]
    pub fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.body
    }
}
