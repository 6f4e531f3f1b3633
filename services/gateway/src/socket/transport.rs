//! What carries the frames of a connection.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::End;
use crate::domain::{frame::Frame, posted::Reply};

/// What comes from the client.
pub(super) enum Incoming {
    /// A text that should be a frame. Its answer goes to the reply if there is one, and is a frame to the client otherwise.
    Text(Utf8Bytes, Option<Reply>),
    /// Bytes that should be a frame.
    Binary(Bytes),
    /// A sign of life.
    Control,
    /// Nothing comes any more.
    Ended(End),
}

/// What carries the frames of a connection. It knows nothing of what they mean.
pub(super) trait Transport: Unpin + Send {
    /// Whether a client answers a ping. Otherwise one that has gone shows when it takes no more bytes.
    const ANSWERS_PINGS: bool;

    /// Takes in what comes next. Called only while the client may send.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming>;

    /// Waits until a frame can be sent.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>>;

    /// Sends a frame, after [`Self::poll_ready`].
    fn start_send(&mut self, frame: Frame) -> Result<(), End>;

    /// Waits until all that was sent is on its way.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>>;

    /// Notes that the client is a user's.
    fn identified(&mut self);

    /// Tells the client why the connection ends; one that ended it itself receives what is on its way.
    fn say(&mut self, end: End) -> impl Future<Output = Result<(), End>> + Send;

    /// Waits until the client has seen the end, at most for this time.
    fn part(&mut self, within: Duration) -> impl Future<Output = ()> + Send;
}
