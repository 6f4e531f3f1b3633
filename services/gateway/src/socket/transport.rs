//! What carries the frames of a connection.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::End;
use crate::domain::{posted::Reply, send_queue::SendQueue};

/// What comes from the client.
pub(super) enum Incoming {
    /// A text that should be a frame. Its answer goes to the reply if there is one, and is a frame to the client otherwise.
    Text(Utf8Bytes, Option<Reply>),
    /// Bytes that should be a frame.
    Binary(Bytes),
    /// The client wants these bytes back.
    Ping(Bytes),
    /// A sign of life.
    Control,
    /// Nothing comes any more.
    Ended(End),
}

/// How far a transport came with what is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// It took all.
    Done,
    /// It takes no more now; the task is woken when it does.
    Blocked { has_moved: bool },
}

/// What carries the frames of a connection. It knows nothing of what they mean.
pub(super) trait Transport: Unpin + Send {
    /// Whether a client answers a ping. Otherwise one that has gone shows when it takes no more bytes.
    const ANSWERS_PINGS: bool;

    /// Takes in what comes next. Called only while the client may send.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming>;

    /// Sends what is queued, as far as it goes.
    fn write(&mut self, cx: &mut Context<'_>, queue: &SendQueue) -> Result<Writing, End>;

    /// Notes that the client is a user's.
    fn identified(&mut self);

    /// Tells the client why the connection ends, as the last thing that leaves its queue; one that ended it itself receives what is on its way.
    fn say(&mut self, queue: &SendQueue, end: End) -> impl Future<Output = Result<(), End>> + Send;

    /// Waits until the client has seen the end, at most for this time. Nothing leaves its queue any more.
    fn part(&mut self, within: Duration) -> impl Future<Output = ()> + Send;
}
