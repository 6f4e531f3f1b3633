//! Requests to a REST API for which the client has no method.

use anyhow::{Context, ensure};
use posthouse_client::Messenger;
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// The response to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Null for an empty body.
    pub body: Value,
}

impl Answer {
    /// Returns the body of a success.
    pub fn ok(self) -> anyhow::Result<Value> {
        ensure!(self.status.is_success(), "{}: {}", self.status, self.body);
        Ok(self.body)
    }

    /// Fails when the request was not refused with this status.
    pub fn refused(&self, status: StatusCode) -> anyhow::Result<()> {
        ensure!(self.status == status, "{} where {status} belongs: {}", self.status, self.body);
        Ok(())
    }
}

/// Sends a request: `line` is its method and path, such as `GET /api/chats`.
pub async fn request(
    messenger: &Messenger,
    line: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> anyhow::Result<Answer> {
    let (method, path) = line.split_once(' ').context("a line has a method and a path")?;
    let mut request = messenger.http().request(Method::from_bytes(method.as_bytes())?, messenger.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.with_context(|| line.to_owned())?;
    let status = response.status();
    let text = response.text().await.with_context(|| line.to_owned())?;
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Ok(Answer { status, body })
}
