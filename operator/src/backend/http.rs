//! The HTTP client of the backends that are administered over HTTP.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode, redirect::Policy};
use traces::{Server, name_of};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Reads of a realm take 0.1 s at most when all is well, and a thousand objects are removed in 0.2 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Returns a client that trusts certificates beside the public ones.
pub(super) fn client(certificates: &[reqwest::Certificate]) -> reqwest::Client {
    // The operator's account goes where the cell says, and nowhere a server leads to, perhaps without TLS.
    let http = reqwest::Client::builder().redirect(Policy::none());
    let http = http.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
    let http = http.tls_certs_merge(certificates.iter().cloned()).build();
    http.expect("a client with certificates that were read can be made")
}

/// Waits for a response to a request with this method and reads all of it: its status, and its text.
pub(super) async fn read(
    from: Server,
    method: &Method,
    sent: impl Future<Output = reqwest::Result<Response>>,
) -> reqwest::Result<(StatusCode, String)> {
    let response = traces::sent(from, name_of(method), sent).await?;
    let status = response.status();
    Ok((status, response.text().await?))
}

/// Reports whether a status says that what stands behind the server is away. Any other server error may be about the one request, and
/// says nothing of the others.
pub(super) fn is_away(status: StatusCode) -> bool {
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT].contains(&status)
}
