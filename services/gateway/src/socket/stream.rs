//! The event stream of a connection: a response that goes on, with the frames of the client beside it.

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
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
    transport::{Incoming, Transport},
};
use crate::domain::{frame::Frame, posted::Posted};

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
            Some(Posted { text, reply }) => Poll::Ready(Incoming::Text(text.into(), Some(reply))),
            // The connection holds the other end.
            None => Poll::Ready(Incoming::Ended(End::Gone)),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.events.poll_reserve(cx).map_err(|_| End::Gone)
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), End> {
        self.events.send_item(event(None, &frame.into_bytes())).map_err(|_| End::Gone)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), End>> {
        Poll::Ready(Ok(()))
    }

    fn identified(&mut self) {}

    async fn say(&mut self, end: End) -> Result<(), End> {
        let End::Close(code) = end else { return Ok(()) };
        poll_fn(|cx| self.poll_ready(cx)).await?;
        let why = json!({"code": code.code(), "reason": code.reason()}).to_string();
        self.events.send_item(event(Some("close"), why.as_bytes())).map_err(|_| End::Gone)
    }

    // The response ends behind the last event, whether its client sees it or not.
    async fn part(&mut self, _: Duration) {}
}

/// Returns an event as it is written. JSON as it is encoded here has no line break.
fn event(name: Option<&str>, data: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(data.len() + 32);
    if let Some(name) = name {
        event.put_slice(b"event: ");
        event.put_slice(name.as_bytes());
        event.put_slice(b"\n");
    }
    event.put_slice(b"data: ");
    event.put_slice(data);
    event.put_slice(b"\n\n");
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_the_format_has_it() {
        assert_eq!(event(None, b"{\"ping\":{}}"), "data: {\"ping\":{}}\n\n");
        assert_eq!(event(Some("close"), b"{}"), "event: close\ndata: {}\n\n");
    }
}
