//! Requests to one OpenSearch.

use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use traces::Server;

use crate::backend::{error::BackendError, http, login::Credentials, tls};

const ENTRY: catalog::Backend = catalog::Backend::OpenSearch;
/// Where the security plugin is administered.
pub(super) const SECURITY: &str = "_plugins/_security";
/// What a server says of a path that none of its plugins has.
const NO_HANDLER: &str = "no handler found";

/// One server, and the account that the operator has there.
pub(super) struct Client {
    /// Without a slash at the end.
    url: String,
    account: Option<Credentials>,
    http: reqwest::Client,
}

/// What a server answered.
struct Answer {
    status: StatusCode,
    text: String,
}

impl Answer {
    /// Returns why a request was refused, in the words of the server or of its security plugin.
    fn why(&self) -> String {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let texts = [&body["error"]["reason"], &body["error"], &body["message"], &body["reason"]];
        texts.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn new(url: &str, account: Option<Credentials>, http: reqwest::Client) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), account, http }
    }

    /// Sends a request and reads the response. `action` is for an error.
    pub async fn send<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, BackendError> {
        let found = self.find(action, method, path, body, &[]).await?;
        found.ok_or_else(|| Self::refused(action, "its subject is gone", true))
    }

    /// Sends a request, and returns nothing where its subject does not exist. So it does where the error is of one of these `types`.
    pub async fn find<T: DeserializeOwned>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        types: &[&str],
    ) -> Result<Option<T>, BackendError> {
        let answer = self.call(self.account.as_ref(), method, path, body).await?;
        if answer.status.is_success() {
            let read = serde_json::from_str(&answer.text).map(Some);
            return read.map_err(|_| Self::refused(action, "the response is not understood", false));
        }
        let kind: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        let is_of_types = kind["error"]["type"].as_str().is_some_and(|kind| types.contains(&kind));
        if answer.status == StatusCode::NOT_FOUND || is_of_types {
            return Ok(None);
        }
        Err(self.failed(action, path, &answer))
    }

    /// Reports whether an account of the security plugin is let in.
    pub async fn lets_in(&self, account: &Credentials) -> Result<bool, BackendError> {
        let path = format!("{SECURITY}/authinfo");
        let answer = self.call(Some(account), Method::GET, &path, None).await?;
        match answer.status {
            status if status.is_success() => Ok(true),
            StatusCode::UNAUTHORIZED => Ok(false),
            _ => Err(self.failed(&format!("try the password of user {}", account.username), &path, &answer)),
        }
    }

    async fn call(
        &self,
        account: Option<&Credentials>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, BackendError> {
        let mut request = self.http.request(method.clone(), format!("{}/{path}", self.url));
        if let Some(Credentials { username, password }) = account {
            request = request.basic_auth(username, Some(password.expose_secret()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = http::read(Server::OpenSearch, &method, request.send()).await;
        let (status, text) = answer.map_err(|error| self.unavailable(tls::why(ENTRY, &error)))?;
        Ok(Answer { status, text })
    }

    /// Names why a request failed, and what to do about it.
    fn failed(&self, action: &str, path: &str, answer: &Answer) -> BackendError {
        let why = answer.why();
        match answer.status {
            StatusCode::UNAUTHORIZED => {
                BackendError::CredentialsRejected { backend: ENTRY, endpoint: self.url.clone() }
            }
            status if http::is_away(status) => self.unavailable(format!("it answers {status}")),
            _ if path.starts_with(SECURITY) && why.contains(NO_HANDLER) => {
                let detail = "it has no security plugin; install it, or set spec.opensearch.security of the cell to None if each of its \
                              tenants may read the messages of the others";
                Self::refused(action, detail, false)
            }
            status if why.is_empty() => {
                Self::refused(action, &format!("it answers {status}"), status.is_server_error())
            }
            status => {
                let detail = format!("{}: {why}", status.as_u16());
                let retryable = status.is_server_error()
                    || [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
                Self::refused(action, &detail, retryable)
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
