//! What every server that stands in for a real one needs.

use std::{net::Ipv4Addr, sync::mpsc, thread};

use axum::{
    Router,
    http::{HeaderMap, header::AUTHORIZATION},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::net::TcpListener;

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

/// Returns the name and the password that a request brings.
pub fn account(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}
