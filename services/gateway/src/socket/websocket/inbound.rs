//! The byte stream of a client whose user is not known yet: bounded, because it may be anyone.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that fails once more was read than allowed, until the bound is lifted.
pub(super) struct Inbound<S> {
    stream: S,
    left: Option<usize>,
}

impl<S> Inbound<S> {
    pub(super) fn new(stream: S, most_bytes: usize) -> Self {
        Self { stream, left: Some(most_bytes) }
    }

    /// Lifts the bound.
    pub(super) fn lift(&mut self) {
        self.left = None;
    }
}

/// Returns whether reading failed because of the bound.
pub(super) fn is_too_much(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}

impl<S: AsyncRead + Unpin> AsyncRead for Inbound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == Some(0) {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        self.left = self.left.map(|left| left.saturating_sub(read));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inbound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stranger_sends_so_much_and_a_user_more() {
        let bytes = [7; 100];
        let mut stranger = Inbound::new(&bytes[..], 10);
        let mut read = Vec::new();
        let error = stranger.read_to_end(&mut read).await.expect_err("too much");
        assert!(is_too_much(&error));
        stranger.lift();
        stranger.read_to_end(&mut read).await.expect("the rest");
        assert_eq!(read, bytes);
    }
}
