//! What every server that stands in for a real one needs.

use std::{net::Ipv4Addr, sync::mpsc, thread};

use axum::{
    Router,
    http::{HeaderMap, header::AUTHORIZATION},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// Serves these routes, beside the runtime of a test, which ends with the test. Returns the `host:port`.
pub fn serve(routes: Router) -> String {
    let (bound, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            bound.send(listener.local_addr().unwrap().to_string()).unwrap();
            axum::serve(listener, routes).await.unwrap();
        });
    });
    address.recv().unwrap()
}

/// Listens for one connection and answers its first eight bytes, as a server that does not know how TLS begins. Returns its port,
/// and all that the client sends.
pub async fn without_tls(answer: &'static [u8]) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 8];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(answer).await.unwrap();
        // The client ends it.
        drop(stream.read_to_end(&mut bytes).await);
        bytes
    });
    (port, receiving)
}

/// Returns the name and the password that a request brings.
pub fn account(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}
