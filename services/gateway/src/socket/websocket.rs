//! The WebSocket of a connection. What goes to the client, also what answers its pings and its end, leaves by the send queue of the
//! connection and in no other way.

#[cfg(test)]
mod conformance;
mod inbound;

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use contracts::wire::CloseCode;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use self::inbound::{Fault, Inbound, Received};
use super::{
    End,
    transport::{Incoming, Transport, Writing},
};
use crate::domain::{
    frame::Frame,
    send_queue::{SendQueue, Wire},
};

/// What is read at a time.
const READ_BYTES: usize = 4 * 1024;
/// A message up to this size is read and answered with `too_large`; a larger one ends the connection.
const MAX_READ_MESSAGE_BYTES: usize = 256 * 1024;
/// What is read of a client before its user is known: `connect` with a large token.
const MAX_STRANGER_BYTES: usize = 8 * 1024;
/// What a client that is being closed may still send before it is cut off.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    /// Where the sockets of a thread are read into, one after another: none has a buffer of its own while its client says nothing.
    static BUFFER: RefCell<[u8; READ_BYTES]> = const { RefCell::new([0; READ_BYTES]) };
}

impl Wire for TcpStream {
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(bytes)
    }
}

/// The WebSocket of a client.
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    inbound: Inbound,
    /// Nothing of what comes can be read any more.
    is_broken: bool,
    /// The answer to the client's close frame.
    farewell: Option<Frame>,
}

impl Socket {
    /// Speaks the WebSocket protocol from now on, with a client that nothing is known of. `read` was read of it already.
    pub(super) fn open((stream, read): (TcpStream, Bytes), queue: &SendQueue) -> Self {
        Self::reading((stream, read), queue, MAX_READ_MESSAGE_BYTES)
    }

    fn reading((stream, read): (TcpStream, Bytes), queue: &SendQueue, most_message_bytes: usize) -> Self {
        let stream = Arc::new(stream);
        queue.attach(stream.clone());
        let mut inbound = Inbound::new(MAX_STRANGER_BYTES, most_message_bytes, queue.inbound_room());
        inbound.begin_with(&read);
        Self { stream, inbound, is_broken: false, farewell: None }
    }

    /// Reads what has come. Nothing is read any more at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { stream, inbound, .. } = self;
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                ready!(stream.poll_read_ready(cx))?;
                match inbound.fill(buffer, |buffer| stream.try_read(buffer)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read),
                }
            }
        })
    }

    fn incoming(&mut self, received: Received) -> Incoming {
        match received {
            Received::Text(text) => Incoming::Text(text, None),
            Received::Binary(bytes) => Incoming::Binary(bytes),
            Received::Ping(bytes) => Incoming::Ping(bytes),
            Received::Part | Received::Pong => Incoming::Control,
            Received::Close(why) => {
                let why = why.as_ref().map(|(code, reason)| (*code, reason.as_str()));
                self.farewell = Some(Frame::close(why));
                self.broken(End::Gone)
            }
        }
    }

    fn broken(&mut self, end: End) -> Incoming {
        self.is_broken = true;
        self.inbound.end();
        Incoming::Ended(end)
    }

    /// Waits until all that is queued is on its way.
    async fn written(&mut self, queue: &SendQueue) -> Result<(), End> {
        poll_fn(|cx| match self.write(cx, queue) {
            Ok(Writing::Done) => Poll::Ready(Ok(())),
            Ok(Writing::Blocked { .. }) => Poll::Pending,
            Err(end) => Poll::Ready(Err(end)),
        })
        .await
    }

    /// Reads what the client sends, until it closes or has sent too much.
    async fn discard(&mut self) {
        let mut rest = vec![0; READ_BYTES];
        let mut left = MAX_DISCARDED_BYTES;
        while left > 0 && self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut rest) {
                Ok(0) => return,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

impl Transport for Socket {
    const ANSWERS_PINGS: bool = true;

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.is_broken {
            return Poll::Ready(Incoming::Ended(End::Gone));
        }
        loop {
            match self.inbound.next() {
                Ok(Some(received)) => return Poll::Ready(self.incoming(received)),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(self.broken(end_of(fault))),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                // Without a close frame.
                Ok(0) => return Poll::Ready(self.broken(end_of(Fault::Protocol))),
                Err(error) if inbound::is_too_much(&error) => {
                    return Poll::Ready(self.broken(End::Close(CloseCode::TooLarge)));
                }
                Err(_) => return Poll::Ready(self.broken(End::Gone)),
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, queue: &SendQueue) -> Result<Writing, End> {
        let mut has_moved = false;
        loop {
            let written = queue.write().map_err(|_| End::Gone)?;
            has_moved |= written.bytes > 0;
            if written.is_all {
                return Ok(Writing::Done);
            }
            match self.stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(End::Gone),
                Poll::Pending => return Ok(Writing::Blocked { has_moved }),
            }
        }
    }

    fn identified(&mut self) {
        self.inbound.lift();
    }

    async fn say(&mut self, queue: &SendQueue, end: End) -> Result<(), End> {
        queue.end_with(match end {
            End::Close(code) => Some(Frame::close(Some((code.code(), code.reason())))),
            End::NoRoom => Some(Frame::close(Some((CloseCode::Slow.code(), CloseCode::Slow.reason())))),
            End::Protocol(code, reason) => Some(Frame::close(Some((code, reason)))),
            End::Done => Some(Frame::close(Some((NORMAL, end.reason())))),
            End::Gone => self.farewell.take(),
        });
        self.written(queue).await
    }

    /// Waits until the client has answered our close frame or has gone, reading what it sends meanwhile: a socket that is
    /// closed with unread input resets, and the client would never see why.
    async fn part(&mut self, within: Duration) {
        self.inbound.lift();
        let answered = async {
            while !self.is_broken {
                let incoming = poll_fn(|cx| self.poll_read(cx)).await;
                if matches!(incoming, Incoming::Ended(End::Gone)) {
                    // It answered, and waits for us to close now.
                    return;
                }
            }
            // Frames of this client cannot be read any more, its answer neither: it is to see now that we are done.
            if let Some(stream) = Arc::get_mut(&mut self.stream) {
                drop(stream.shutdown().await);
            }
            self.discard().await;
        };
        drop(timeout(within, answered).await);
    }
}

/// Of RFC 6455: all is said.
const NORMAL: u16 = 1000;
/// Close codes of RFC 6455 for a client that does not speak it.
pub(crate) const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const NOT_UTF_8: u16 = 1007;
/// Of one that speaks it, and says nothing in many frames, or is refused in a protocol that has no other way to go on.
pub(crate) const POLICY_VIOLATION: u16 = 1008;

fn end_of(fault: Fault) -> End {
    match fault {
        Fault::TooLarge => End::Close(CloseCode::TooLarge),
        Fault::NoRoom => End::NoRoom,
        Fault::Empty => End::Protocol(POLICY_VIOLATION, "too many frames without a byte"),
        Fault::NotUtf8 => End::Protocol(NOT_UTF_8, "a text frame is UTF-8"),
        Fault::Protocol => End::Protocol(PROTOCOL_ERROR, "not the WebSocket protocol"),
    }
}
