//! gRPC between the services of one tenant.
//!
//! Every call over the network carries the tenant's internal token, so that a pod of another tenant that can reach the
//! port gets nothing. Health and reflection are open. Services of one process call each other without network and
//! token, through the same clients.

use std::{
    error::Error,
    pin::Pin,
    str::FromStr,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::{FutureExt as _, TryFutureExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Status,
    body::Body,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::{Service, ServiceExt as _};

use crate::{bearer, error::InvalidField, trace};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("{url} is not the URL of a gRPC server")]
    Url { url: String, source: tonic::transport::Error },
    #[error("the internal token has characters that a header cannot carry")]
    Token,
}

/// A channel to another service of the tenant, for the generated clients. Cheap to clone.
#[derive(Clone)]
pub struct InternalChannel(Way);

#[derive(Clone)]
enum Way {
    /// Over the network, with the internal token.
    Remote { channel: Channel, bearer: HeaderValue },
    /// In the same process: the same request meets the same routes, without network and token. Weak, because the
    /// routes hold services that hold channels.
    InProcess(Weak<OnceLock<Routes>>),
}

type CallError = Box<dyn Error + Send + Sync>;
type Call = Pin<Box<dyn Future<Output = Result<http::Response<Body>, CallError>> + Send>>;

impl Service<http::Request<Body>> for InternalChannel {
    type Response = http::Response<Body>;
    type Error = CallError;
    type Future = Call;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        match &mut self.0 {
            Way::Remote { channel, .. } => channel.poll_ready(context).map_err(CallError::from),
            Way::InProcess(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Call {
        let mut span = trace::calling(&mut request);
        let answer = match &mut self.0 {
            Way::Remote { channel, bearer } => {
                request.headers_mut().insert(AUTHORIZATION, bearer.clone());
                channel.call(request).map_err(CallError::from).left_future()
            }
            Way::InProcess(routes) => {
                let routes = routes.upgrade().and_then(|routes| routes.get().cloned());
                answer_in_process(routes, request).map(Ok).right_future()
            }
        };
        // The wait for a connection included: behind many others to a peer that is gone it has no end of its own.
        Box::pin(async move {
            let answer = tokio::time::timeout(CALL_TIMEOUT, answer).await;
            let answer = answer.unwrap_or_else(|_| Ok(too_late().into_http()));
            match &answer {
                Ok(response) => trace::answered(&mut span, response.headers()),
                Err(_) => span.fail("unreachable"),
            }
            answer
        })
    }
}

async fn answer_in_process(routes: Option<Routes>, request: http::Request<Body>) -> http::Response<Body> {
    let Some(routes) = routes else {
        return Status::unavailable("the services of this process are starting or stopping").into_http();
    };
    let answer = routes.oneshot(request).await;
    answer.unwrap_or_else(|error| Status::internal(error.to_string()).into_http())
}

/// Gives a call a limit of its own, below that of every call.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send,
) -> Result<T, Status> {
    let answer = tokio::time::timeout(limit, call).await;
    answer.unwrap_or_else(|_| Err(too_late())).map(tonic::Response::into_inner)
}

fn too_late() -> Status {
    Status::deadline_exceeded("no answer in time")
}

/// Returns a channel to the services of this process; it works from the moment the process serves.
pub(crate) fn in_process(routes: &Arc<OnceLock<Routes>>) -> InternalChannel {
    InternalChannel(Way::InProcess(Arc::downgrade(routes)))
}

/// Returns a channel that connects with the first call and again after a failure.
pub fn connect(url: &str, token: &SecretString) -> Result<InternalChannel, ChannelError> {
    let channel = Endpoint::from_shared(url.to_owned())
        .map_err(|source| ChannelError::Url { url: url.to_owned(), source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy();
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| ChannelError::Token)?;
    bearer.set_sensitive(true);
    Ok(InternalChannel(Way::Remote { channel, bearer }))
}

/// Reads an id out of a message.
pub fn id<T: FromStr>(field: &'static str, text: &str) -> Result<T, InvalidField> {
    text.parse().map_err(|_| InvalidField { field, problem: "must be a UUID".to_owned() })
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
    if bearer::presents(request.headers(), &token) {
        next.run(request).await
    } else {
        Status::unauthenticated("the internal token is required")
            .into_http::<axum::body::Body>()
            .into_response()
    }
}
