//! How sockets are opened and connections accepted, so that a burst of clients waits for nothing.
//!
//! A connection that does not fit into the listener's backlog is dropped by the kernel, and its client tries again after
//! 1, 3 and 7 s. The kernel bounds the backlog, so what helps is to empty it soon: a thread of its own accepts, however
//! busy the others are with those who are in already.

use std::{future, io, net, net::SocketAddr, thread, time::Duration};

use anyhow::Context as _;
use axum::{body::Bytes, serve::Listener};
use hyper::upgrade::Upgraded;
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    sync::mpsc,
};

use super::progress::Progressing;

/// What the kernel keeps of a connection's output, likewise of its input, and as much again for its own use. By default each
/// grows to megabytes, which a pod pays for when many clients read slowly, or send more than is read of them.
const KERNEL_BUFFER_BYTES: u32 = 64 * 1024;
/// Accepted connections that are not served yet; beyond it the backlog fills.
const MAX_WAITING: usize = 16 * 1024;
/// A client that takes nothing of a response for this long is given up. Longer than a service waits that has something to say
/// about it.
const MAX_STALL: Duration = Duration::from_secs(30);
/// After a failure to accept, which means that the process has no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens a listener.
pub(super) fn open(addr: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As for any listener of tokio: a process that starts again takes its address over at once.
    socket.set_reuseaddr(true)?;
    // Connections inherit what follows. Small frames would otherwise wait for the client's acknowledgement of the ones before:
    // 40 ms, seen in one message of two.
    socket.set_nodelay(true)?;
    socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)?;
    socket.bind(addr)?;
    socket.listen(backlog)
}

/// The connections of a listener that a thread accepts; dropped, it listens no more.
pub(super) struct Accepted {
    addr: SocketAddr,
    connections: mpsc::Receiver<(net::TcpStream, SocketAddr)>,
}

impl Accepted {
    /// Starts to accept.
    pub(super) fn from(listener: TcpListener) -> anyhow::Result<Self> {
        let addr = listener.local_addr().context("a listener has no address")?;
        let listener = listener.into_std().context("a listener cannot be moved to its thread")?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("failed to prepare the thread that accepts")?;
        let (accepted, connections) = mpsc::channel(MAX_WAITING);
        thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || runtime.block_on(accept(listener, accepted)))
            .context("failed to start the thread that accepts")?;
        Ok(Self { addr, connections })
    }
}

impl Listener for Accepted {
    type Io = Progressing<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Some((connection, from)) = self.connections.recv().await else {
                return future::pending().await;
            };
            match TcpStream::from_std(connection) {
                Ok(connection) => return (Progressing::new(connection, MAX_STALL), from),
                Err(error) => tracing::debug!(%error, "a connection cannot be served: {error}"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

/// Returns the socket of a connection that a process accepted and that speaks another protocol than HTTP from now on, with what was read of
/// it behind the request; nothing when it came in another way.
pub fn socket_of(upgraded: Upgraded) -> Option<(TcpStream, Bytes)> {
    let parts = auto::upgrade::downcast::<TokioIo<Progressing<TcpStream>>>(upgraded).ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}

async fn accept(listener: net::TcpListener, accepted: mpsc::Sender<(net::TcpStream, SocketAddr)>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "failed to accept connections: {error}"),
    };
    loop {
        let connection = tokio::select! {
            () = accepted.closed() => return,
            connection = listener.accept() => connection,
        };
        match connection.and_then(|(connection, from)| Ok((connection.into_std()?, from))) {
            Ok(connection) => {
                if accepted.send(connection).await.is_err() {
                    return;
                }
            }
            // The client has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKLOG: u32 = 8;
    const BURST: usize = 300;
    const PATIENCE: Duration = Duration::from_secs(20);

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn a_burst_is_accepted_while_the_process_is_busy() {
        let listener = open(loopback(), BACKLOG).expect("a listener");
        let mut accepted = Accepted::from(listener).expect("a thread");
        let addr = accepted.local_addr().expect("an address");
        // All tasks of this runtime wait for the clients, as if they were busy with others.
        let clients = thread::spawn(move || {
            let connect = |_| net::TcpStream::connect_timeout(&addr, PATIENCE);
            (0..BURST).map(connect).collect::<io::Result<Vec<_>>>()
        });
        let clients = clients.join().expect("no panic").expect("no connection is dropped");
        for _ in &clients {
            accepted.accept().await;
        }
        drop(accepted);
        // The thread ends with it, and with the thread the listener.
        while net::TcpStream::connect_timeout(&addr, PATIENCE).is_ok() {
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_connection_sends_at_once_and_the_kernel_keeps_little_of_it() {
        let listener = open(loopback(), BACKLOG).expect("a listener");
        let mut accepted = Accepted::from(listener).expect("a thread");
        let addr = accepted.local_addr().expect("an address");
        let (client, (connection, _)) = tokio::join!(TcpStream::connect(addr), accepted.accept());
        let connection = connection.into_inner();
        assert!(connection.nodelay().expect("an option"));
        let connection = TcpSocket::from_std_stream(connection.into_std().expect("a socket"));
        for bytes in [connection.send_buffer_size(), connection.recv_buffer_size()] {
            let bytes = bytes.expect("a size");
            assert!(bytes <= 2 * KERNEL_BUFFER_BYTES, "{bytes} bytes");
        }
        drop(client);
    }
}
