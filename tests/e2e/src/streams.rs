//! A client that a network lets have no WebSocket: an event stream, and a request for each command.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, bail, ensure};
use contracts::{
    DeviceId,
    wire::{ClientFrame, Connected, Outcome, ServerFrame},
};
use posthouse_client::Messenger;
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use tokio::time::timeout;

use crate::users::TestUser;

/// Longer than a response or a ping takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// An open event stream.
pub struct EventStream {
    messenger: Messenger,
    token: String,
    /// Names the replica that has the stream, where there are several.
    cookie: Option<String>,
    pub session: String,
    pub device: DeviceId,
    response: Response,
    /// What came and is not read: whole lines, and the beginning of one.
    text: String,
    frames: VecDeque<ServerFrame>,
    closed: Option<u16>,
}

impl EventStream {
    /// Opens a stream at this address.
    pub async fn open(messenger: &Messenger, user: &TestUser) -> anyhow::Result<Self> {
        let (token, device) = (user.token().await?, DeviceId::generate());
        let request = messenger.http().get(messenger.url(&format!("/events?device={device}")));
        let response = request.bearer_auth(&token).send().await?.error_for_status()?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        ensure!(kind == Some("text/event-stream"), "{kind:?}");
        let cookie = response.headers().get(header::SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        let mut stream = Self {
            messenger: messenger.clone(),
            token,
            cookie,
            session: String::new(),
            device,
            response,
            text: String::new(),
            frames: VecDeque::new(),
            closed: None,
        };
        let first = stream.next().await?.context("no event came")?;
        let Some(Outcome::Connected(Connected { session, .. })) = first.result else {
            bail!("the first event is {first:?}");
        };
        stream.session = session;
        Ok(stream)
    }

    /// Returns the next frame; `None` when the stream was closed.
    pub async fn next(&mut self) -> anyhow::Result<Option<ServerFrame>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.context("no event came")??;
            let Some(chunk) = chunk else { return Ok(None) };
            self.text.push_str(std::str::from_utf8(&chunk)?);
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                self.take(&event)?;
            }
        }
    }

    fn take(&mut self, event: &str) -> anyhow::Result<()> {
        ensure!(self.closed.is_none(), "an event came behind the last one: {event}");
        if let Some(data) = event.strip_prefix("data: ") {
            self.frames.push_back(serde_json::from_str(data)?);
            return Ok(());
        }
        let data =
            event.strip_prefix("event: close\ndata: ").with_context(|| format!("an event: {event}"))?;
        let why: Value = serde_json::from_str(data)?;
        self.closed = Some(why["code"].as_u64().and_then(|code| code.try_into().ok()).context("no code")?);
        Ok(())
    }

    /// Reads frames until one has what is looked for.
    pub async fn pushed<T>(&mut self, look: impl Fn(ServerFrame) -> Option<T>) -> anyhow::Result<T> {
        while let Some(frame) = self.next().await? {
            if let Some(found) = look(frame) {
                return Ok(found);
            }
        }
        bail!("the stream was closed with {:?}", self.closed)
    }

    /// Reads to the end and returns the code of the event that names it.
    pub async fn until_closed(&mut self) -> anyhow::Result<u16> {
        while self.next().await?.is_some() {}
        self.closed.context("the stream ended without a reason")
    }

    /// Sends a command of this stream.
    pub async fn post(&self, frame: &ClientFrame) -> anyhow::Result<Option<ServerFrame>> {
        let query = format!("session={}", self.session);
        let mut request = self.messenger.http().post(self.messenger.url(&format!("/commands?{query}")));
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        answer(request.bearer_auth(&self.token), frame).await
    }
}

/// Sends a command that belongs to no stream.
pub async fn post_alone(
    user: &TestUser,
    device: DeviceId,
    frame: &ClientFrame,
) -> anyhow::Result<Option<ServerFrame>> {
    let messenger = user.messenger();
    let request = messenger.http().post(messenger.url(&format!("/commands?device={device}")));
    answer(request.bearer_auth(user.token().await?), frame).await
}

async fn answer(request: RequestBuilder, frame: &ClientFrame) -> anyhow::Result<Option<ServerFrame>> {
    let response = request.json(frame).send().await?;
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    let body = response.text().await?;
    let answer: ServerFrame = serde_json::from_str(&body).with_context(|| format!("{status}: {body}"))?;
    ensure!(answer.id == frame.id, "{status}: {body}");
    let expected = answer.error.as_ref().map_or(200, |error| error.code.http_status());
    ensure!(status.as_u16() == expected, "{status}: {body}");
    Ok(Some(answer))
}
