//! Peers of the service under test.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use crate::rpc::{self, InternalChannel};

/// Serves the gRPC API of a peer on a loopback port until the test ends, and returns a channel to it.
pub async fn serve_peer(api: Routes) -> InternalChannel {
    channel(&serve_peer_at(api).await)
}

/// Serves like [`serve_peer`], and returns the URL.
pub async fn serve_peer_at(api: Routes) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a loopback port");
    let addr = listener.local_addr().expect("a bound listener has an address");
    // As the listener of a process does: each call would wait for 40 ms otherwise.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_routes(api).serve_with_incoming(incoming));
    format!("http://{addr}")
}

/// Returns a channel to a peer that is down.
pub fn unreachable_peer() -> InternalChannel {
    // Port 9 (discard) of loopback: nothing listens there.
    channel("http://127.0.0.1:9")
}

fn channel(url: &str) -> InternalChannel {
    rpc::connect(url, &"token".to_owned().into()).expect("a channel")
}
