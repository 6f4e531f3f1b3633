//! Requests to one registry.

use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use secrecy::ExposeSecret;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use traces::Server;

use crate::backend::{error::BackendError, http, login::Credentials, tls};

const ENTRY: catalog::Backend = catalog::Backend::Registry;
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// What a registry calls a subject, version, schema or setting that it does not have: 40401 and the like. Another server, or another
/// path of this one, answers 404 without such a number.
const NOT_FOUND: std::ops::RangeInclusive<i64> = 40401..=40499;

/// One registry, and the account that the operator has there.
pub(super) struct Client {
    /// Where the API begins, without a slash at the end.
    url: String,
    account: Option<Credentials>,
    http: reqwest::Client,
}

/// Why a request was refused.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    error_code: i64,
    message: String,
}

impl Client {
    pub fn new(url: &str, account: Option<Credentials>, http: reqwest::Client) -> Self {
        Self { url: url.to_owned(), account, http }
    }

    /// Sends a request and reads the response. `action` is for an error.
    pub async fn send<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, BackendError> {
        let found = self.find(action, method, path, body).await?;
        found.ok_or_else(|| Self::refused(action, "its subject is gone", true))
    }

    /// Sends a request, and returns nothing where the registry lacks its subject, version or schema.
    pub async fn find<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<T>, BackendError> {
        let mut request = self.http.request(method.clone(), format!("{}/{path}", self.url));
        if let Some(Credentials { username, password }) = &self.account {
            request = request.basic_auth(username, Some(password.expose_secret()));
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).body(body.to_string());
        }
        let answer = http::read(Server::Registry, &method, request.send()).await;
        let (status, text) = answer.map_err(|error| self.unavailable(tls::why(ENTRY, &error)))?;
        if status.is_success() {
            let read = serde_json::from_str(&text).map(Some);
            return read.map_err(|_| Self::refused(action, "the response is not understood", false));
        }
        let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
        match status {
            StatusCode::NOT_FOUND if NOT_FOUND.contains(&problem.error_code) => Ok(None),
            StatusCode::NOT_FOUND => {
                let detail = "there is no schema registry at this path; correct url in spec.schemaRegistry of the cell";
                Err(Self::refused(action, detail, false))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(BackendError::CredentialsRejected { backend: ENTRY, endpoint: self.url.clone() })
            }
            status if http::is_away(status) => Err(self.unavailable(format!("it answers {status}"))),
            status => {
                let detail = match problem.message.as_str() {
                    "" => format!("it answers {status}"),
                    message => format!("{}: {message}", status.as_u16()),
                };
                Err(Self::refused(action, &detail, status.is_server_error()))
            }
        }
    }

    fn unavailable(&self, why: impl std::fmt::Display) -> BackendError {
        BackendError::unavailable(ENTRY, &self.url, why)
    }

    fn refused(action: &str, detail: &str, retryable: bool) -> BackendError {
        BackendError::refused(ENTRY, action, detail, retryable)
    }
}
