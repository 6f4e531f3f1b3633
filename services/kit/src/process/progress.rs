//! A byte stream that ends when its client takes nothing for long.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream whose writes fail once they made no progress for the limit. HTTP has no limit for a response that its client does
/// not read: it would be kept, with its connection, for as long as the client likes.
pub(super) struct Progressing<S> {
    stream: S,
    limit: Duration,
    /// Set while the stream takes nothing.
    due: Option<Pin<Box<Sleep>>>,
}

impl<S> Progressing<S> {
    pub(super) const fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, due: None }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn watched<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.due = None;
            return outcome;
        }
        let limit = self.limit;
        let due = self.due.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(due.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progressing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progressing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watched(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.watched(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);
    const ROOM_BYTES: usize = 64;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (_unread, stream) = duplex(ROOM_BYTES);
        let mut stream = Progressing::new(stream, LIMIT);
        let error = stream.write_all(&[7; 10 * ROOM_BYTES]).await.expect_err("nothing is read");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        // It takes longer than the limit for the whole, and less for each part.
        let (mut reader, stream) = duplex(ROOM_BYTES);
        let mut stream = Progressing::new(stream, LIMIT);
        let reading = tokio::spawn(async move {
            let mut part = [0; ROOM_BYTES];
            for _ in 0..8 {
                sleep(LIMIT / 4).await;
                reader.read_exact(&mut part).await.expect("a part");
            }
        });
        stream.write_all(&[7; 8 * ROOM_BYTES]).await.expect("all of it");
        reading.await.expect("no panic");
    }
}
