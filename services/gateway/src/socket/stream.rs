//! The event stream of a connection: a response that goes on, with the frames of the client beside it.

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream,
    future::{BoxFuture, poll_fn},
    stream,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::{
    End,
    transport::{Incoming, Transport, Writing},
};
use crate::domain::{frame::Frame, posted::Posted, send_queue::SendQueue};

/// Events between the connection and the response, which takes the next once it wrote the one before. What waits for the
/// client is in the send queue, where it is counted.
const EVENTS: usize = 1;
/// Frames that wait until the connection reads them.
const MAX_POSTED: usize = 32;

/// The server's side of an event stream.
pub(crate) struct EventStream {
    events: PollSender<Bytes>,
    posted: mpsc::Receiver<Posted>,
    /// Ends with the response.
    gone: BoxFuture<'static, ()>,
}

impl EventStream {
    /// Returns a stream, where the frames of its client go, and the body of its response.
    pub(crate) fn new()
    -> (Self, mpsc::Sender<Posted>, impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) {
        let (events, mut written) = mpsc::channel(EVENTS);
        let (post, posted) = mpsc::channel(MAX_POSTED);
        let response = events.clone();
        let gone = async move { response.closed().await }.boxed();
        let body = stream::poll_fn(move |cx| written.poll_recv(cx).map(|event| event.map(Ok)));
        (Self { events: PollSender::new(events), posted, gone }, post, body)
    }
}

impl Transport for EventStream {
    const ANSWERS_PINGS: bool = false;

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.gone.poll_unpin(cx).is_ready() {
            return Poll::Ready(Incoming::Ended(End::Gone));
        }
        match ready!(self.posted.poll_recv(cx)) {
            // It is read, and needs its room no more.
            Some(Posted { text, reply, .. }) => Poll::Ready(Incoming::Text(text.into(), Some(reply))),
            // The connection holds the other end.
            None => Poll::Ready(Incoming::Ended(End::Gone)),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, queue: &SendQueue) -> Result<Writing, End> {
        let mut has_moved = false;
        loop {
            // Also when nothing is queued: a client that has gone shows here.
            match self.events.poll_reserve(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(End::Gone),
                Poll::Pending => return Ok(Writing::Blocked { has_moved }),
            }
            let Some(frames) = queue.pop() else { return Ok(Writing::Done) };
            self.events.send_item(frames.into_bytes()).map_err(|_| End::Gone)?;
            has_moved = true;
        }
    }

    fn identified(&mut self) {}

    async fn say(&mut self, queue: &SendQueue, end: End) -> Result<(), End> {
        queue.end_with(None);
        let End::Close(code) = end else { return Ok(()) };
        poll_fn(|cx| self.events.poll_reserve(cx)).await.map_err(|_| End::Gone)?;
        let why = json!({"code": code.code(), "reason": code.reason()}).to_string();
        let event = Frame::event("close", why.as_bytes());
        self.events.send_item(event.into_bytes()).map_err(|_| End::Gone)
    }

    // The response ends behind the last event, whether its client sees it or not.
    async fn part(&mut self, _: Duration) {}
}
