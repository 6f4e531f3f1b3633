//! gRPC between the services of one tenant.
//!
//! Every call carries the tenant's internal token, so that a pod of another tenant that can reach the port gets
//! nothing. Health and reflection are open.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::header::AUTHORIZATION,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A channel whose calls carry the internal token.
pub type InternalChannel = InterceptedService<Channel, InternalAuth>;

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("{url} is not the URL of a gRPC server")]
    Url { url: String, source: tonic::transport::Error },
    #[error("the internal token has characters that a header cannot carry")]
    Token,
}

/// Adds the internal token to a call.
#[derive(Clone)]
pub struct InternalAuth {
    bearer: MetadataValue<tonic::metadata::Ascii>,
}

impl Interceptor for InternalAuth {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.bearer.clone());
        Ok(request)
    }
}

/// Returns a channel that connects with the first call and again after a failure.
pub fn connect(url: &str, token: &SecretString) -> Result<InternalChannel, ChannelError> {
    let channel = Endpoint::from_shared(url.to_owned())
        .map_err(|source| ChannelError::Url { url: url.to_owned(), source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy();
    let mut bearer: MetadataValue<_> =
        format!("Bearer {}", token.expose_secret()).parse().map_err(|_| ChannelError::Token)?;
    bearer.set_sensitive(true);
    Ok(InterceptedService::new(channel, InternalAuth { bearer }))
}

/// Refuses calls without the internal token.
pub(crate) async fn require_internal_token(
    State(token): State<SecretString>,
    request: Request,
    next: Next,
) -> Response {
    let open = ["/grpc.health.v1.Health/", "/grpc.reflection."];
    let path = request.uri().path();
    if open.iter().any(|prefix| path.starts_with(prefix)) {
        return next.run(request).await;
    }
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if same(given, token.expose_secret().as_bytes()) {
        next.run(request).await
    } else {
        Status::unauthenticated("the internal token is required")
            .into_http::<axum::body::Body>()
            .into_response()
    }
}

/// Compares without telling by its time where the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secret", b"secreT"));
        assert!(!same(b"", b"secret"));
        assert!(!same(b"secret1", b"secret"));
    }
}
