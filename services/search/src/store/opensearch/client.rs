//! Requests to OpenSearch.

use std::{fmt::Write as _, time::Duration};

use kit::{
    tls::{Untrusted, trusting},
    traces,
};
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::store::IndexError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest call forgets texts that have disappeared, a minute's worth of them.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// Where the index of a tenant is, and the tenant's account there.
#[derive(Clone, Debug)]
pub struct Server {
    /// URL of the server, without a path.
    pub url: String,
    /// What the names of all that is the tenant's begin with, such as `mt-acme`.
    pub index: String,
    /// Copies of the index beside the first one.
    pub replicas: u32,
    /// The account. A server without accounts does not look at it.
    pub username: String,
    pub password: SecretString,
    /// Certificates in PEM that are trusted beside the public ones.
    pub ca_bundle: Option<String>,
}

/// A request that was not answered as it was meant. What the server says of a document is no part of it: it may quote a message.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("a client cannot be made of the certificates that are trusted")]
    Certificates(#[source] reqwest::Error),
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("it is not trusted: {why}")]
    Untrusted { why: Untrusted, source: reqwest::Error },
    #[error("it answers {status}: {kind}")]
    Refused { status: u16, kind: String },
    #[error("an alias has the name of the index {0} and leads to another one: remove the alias")]
    Alias(String),
    #[error("its answer is not understood")]
    Unreadable(#[source] serde_json::Error),
}

impl RequestError {
    /// Returns whether it says that the subject of the request does not exist.
    pub(super) fn is_missing(&self) -> bool {
        self.is(StatusCode::NOT_FOUND)
    }

    /// Returns whether something else was written meanwhile.
    pub(super) fn is_conflict(&self) -> bool {
        self.is(StatusCode::CONFLICT)
    }

    /// Returns whether there is such an index already.
    fn is_present(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == "resource_already_exists_exception")
    }

    fn is(&self, expected: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == expected.as_u16())
    }

    /// Names the step that failed.
    pub(super) fn in_step(self, step: &'static str) -> IndexError {
        IndexError::Server { step, source: Box::new(self) }
    }
}

/// Names the step that failed, of a result.
pub(super) fn failed(step: &'static str) -> impl FnOnce(RequestError) -> IndexError {
    move |error| error.in_step(step)
}

/// What an error of OpenSearch is, as far as it is shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Value,
}

/// Calls one server as one account. Cheap to clone; it connects with the first call.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    username: String,
    password: SecretString,
}

impl Client {
    pub(super) fn new(server: &Server) -> Result<Self, RequestError> {
        // Bodies have texts of messages, and go nowhere else.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let http = http.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
        let http = trusting(http, server.ca_bundle.as_deref()).and_then(reqwest::ClientBuilder::build);
        Ok(Self {
            http: http.map_err(RequestError::Certificates)?,
            url: server.url.trim_end_matches('/').to_owned(),
            username: server.username.clone(),
            password: server.password.clone(),
        })
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, RequestError> {
        let body = body.map(|body| (JSON, body.to_string()));
        self.call(method, path, body).await
    }

    /// Sends lines of JSON and reads the answer.
    pub(super) async fn send_lines<T: DeserializeOwned>(
        &self,
        path: &str,
        lines: String,
    ) -> Result<T, RequestError> {
        self.call(Method::POST, path, Some((LINES, lines))).await
    }

    /// Sends a request and reads the answer, or returns nothing where its subject does not exist.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<T>, RequestError> {
        match self.send(method, path, body).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an index, if it is not there. The server refuses the name of an alias.
    pub(super) async fn create(&self, index: &str, form: &Value) -> Result<(), RequestError> {
        match self.send::<Value>(Method::PUT, index, Some(form)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_present() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, String)>,
    ) -> Result<T, RequestError> {
        let unreachable = |error: reqwest::Error| match Untrusted::of(&error) {
            Some(why) => RequestError::Untrusted { why, source: error.without_url() },
            None => RequestError::Unreachable(error.without_url()),
        };
        let step = traces::name_of(&method);
        let request = self.http.request(method, format!("{}/{path}", self.url));
        let mut request = request.basic_auth(&self.username, Some(self.password.expose_secret()));
        if let Some((media_type, body)) = body {
            request = request.header(CONTENT_TYPE, media_type).body(body);
        }
        let answer = traces::sent(traces::Server::OpenSearch, step, request.send());
        let answer = answer.await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(RequestError::Unreadable);
        }
        let Answer { error } = serde_json::from_str(&text).unwrap_or_default();
        Err(RequestError::Refused { status: status.as_u16(), kind: kind_of(&error).to_owned() })
    }
}

/// Returns the type of an error. Its reason may quote what was written.
pub(super) fn kind_of(error: &Value) -> &str {
    error["type"].as_str().unwrap_or("an error without a type")
}

/// Adds a line of JSON to others.
pub(super) fn add_line(lines: &mut String, line: &Value) {
    // Writing to a text does not fail.
    _ = writeln!(lines, "{line}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_shows_its_type_and_no_text_of_a_message() {
        let answer = json!({"error": {"type": "mapper_parsing_exception", "reason": "Preview of field's value: 'our secret'"}});
        let error = RequestError::Refused { status: 400, kind: kind_of(&answer["error"]).to_owned() };
        assert_eq!(error.to_string(), "it answers 400: mapper_parsing_exception");
        for other in [json!("no handler found for uri"), Value::Null] {
            assert_eq!(kind_of(&other), "an error without a type");
        }
    }

    #[test]
    fn what_an_answer_means_is_told_by_its_status_and_type() {
        let refused = |status, kind: &str| RequestError::Refused { status, kind: kind.to_owned() };
        assert!(refused(404, "index_not_found_exception").is_missing());
        assert!(refused(409, "version_conflict_engine_exception").is_conflict());
        assert!(refused(400, "resource_already_exists_exception").is_present());
        assert!(!refused(400, "mapper_parsing_exception").is_present());
    }
}
