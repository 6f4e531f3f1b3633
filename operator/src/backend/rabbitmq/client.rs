//! Requests to the management API of one broker.

use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use traces::Server;

use crate::backend::{error::BackendError, http, login::Credentials, tls};

const ENTRY: catalog::Backend = catalog::Backend::RabbitMq;
/// What a broker says of what is not there, also at another path than that of the API. Another server says something else.
const NOT_FOUND: &str = "Object Not Found";
/// What to do where there is no API.
const NO_API: &str =
    "there is no management API at this path; correct managementUrl in spec.rabbitmq of the cell";

/// One broker, and the operator's account there.
pub(super) struct Client {
    /// Where the API begins, without `/api`.
    url: String,
    account: Credentials,
    http: reqwest::Client,
}

/// Why a request was refused. The reason of some is no text.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    error: String,
    reason: Value,
}

impl Client {
    pub fn new(url: &str, account: Credentials, http: reqwest::Client) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), account, http }
    }

    /// Checks that the API is there: what it does not have, it does not have because it is not there.
    pub async fn check(&self) -> Result<(), BackendError> {
        let action = "read the operator's account";
        let found = self.find(action, Method::GET, "whoami", None).await?;
        found.map(drop).ok_or_else(|| refused(action, NO_API, false))
    }

    /// Reads an object, or nothing where there is none of that name.
    pub async fn read<T: DeserializeOwned>(
        &self,
        action: &str,
        path: &str,
    ) -> Result<Option<T>, BackendError> {
        let Some(text) = self.find(action, Method::GET, path, None).await? else { return Ok(None) };
        // The text is no part of an error: it may hold hashes of passwords.
        let read = serde_json::from_str(&text).map(Some);
        read.map_err(|_| refused(action, "the response is not understood", false))
    }

    /// Sends a request about something that is there.
    pub async fn send(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<(), BackendError> {
        let found = self.find(action, method, path, Some(body)).await?;
        found.map(drop).ok_or_else(|| refused(action, "its object is gone", true))
    }

    /// Deletes an object. Returns whether it was there.
    pub async fn delete(&self, action: &str, path: &str) -> Result<bool, BackendError> {
        Ok(self.find(action, Method::DELETE, path, None).await?.is_some())
    }

    /// Sends a request. Returns the text of the response, or nothing where its object is not there.
    async fn find(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<String>, BackendError> {
        let Credentials { username, password } = &self.account;
        let mut request = self.http.request(method.clone(), format!("{}/api/{path}", self.url));
        request = request.basic_auth(username, Some(password.expose_secret()));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = http::read(Server::RabbitMq, &method, request.send()).await;
        let (status, text) = answer.map_err(|error| self.unavailable(tls::why(ENTRY, &error)))?;
        if status.is_success() {
            return Ok(Some(text));
        }
        let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
        match status {
            StatusCode::NOT_FOUND if problem.error == NOT_FOUND => Ok(None),
            StatusCode::NOT_FOUND => Err(refused(action, NO_API, false)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(BackendError::CredentialsRejected { backend: ENTRY, endpoint: self.url.clone() })
            }
            status if http::is_away(status) => Err(self.unavailable(format!("it answers {status}"))),
            status => {
                let detail = match problem.reason.as_str() {
                    Some(reason) => format!("{}: {reason}", status.as_u16()),
                    None => format!("it answers {status}"),
                };
                Err(refused(action, &detail, status.is_server_error()))
            }
        }
    }

    fn unavailable(&self, why: impl std::fmt::Display) -> BackendError {
        BackendError::unavailable(ENTRY, &self.url, why)
    }
}

fn refused(action: &str, detail: &str, retryable: bool) -> BackendError {
    BackendError::refused(ENTRY, action, detail, retryable)
}
