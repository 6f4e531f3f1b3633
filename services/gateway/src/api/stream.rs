//! The same frames without a WebSocket: an event stream from the server, and a request for each command.

#![expect(unused_qualifications, reason = "the derived description names types in full")]

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse as _, Response},
    routing,
};
use contracts::{DeviceId, Encoding, ErrorCode, api::Problem, wire::ServerFrame};
use kit::{
    auth::Caller,
    docs::{self, BodyProblems, CallerProblems, OpenApiRouter, ParameterProblems, routes},
    error::ApiError,
    extract::{JsonText, Query},
};
use serde::Deserialize;
use tokio::{sync::mpsc::error::TrySendError, time::Instant};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    listed::Listed,
    origin::{check_origin, is_allowed_origin},
};
use crate::{
    domain::{
        frame::Form,
        posted::{Posted, Replied},
        session::{TokenRefusal, VerifiedToken, check_device},
    },
    metrics::Upgrade,
    registry::Connection,
    socket::{self, EventStream},
    state::GatewayState,
};

/// A browser asks again whether a page of another origin may send commands after this time.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3600);
/// Tells nginx and its kin to pass events on as they come.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Returns the routes. A page reads the responses if its origin may open a WebSocket.
pub(super) fn router(gateway: &Arc<GatewayState>) -> OpenApiRouter<Arc<GatewayState>> {
    let allowed = gateway.allowed_origins.clone();
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |_, parts| is_allowed_origin(&parts.headers, &allowed)))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER])
        .max_age(PREFLIGHT_AGE);
    // What the layer answers has to have a route, or it is a method that the path does not have.
    let preflight = || routing::options(|| async { StatusCode::NO_CONTENT });
    docs::router()
        .routes(routes!(events))
        .routes(routes!(command))
        .route("/events", preflight())
        .route("/commands", preflight())
        .layer(cors)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// The installation of the client, as in `connect`
    device: DeviceId,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CommandQuery {
    /// The event stream that the command belongs to: `session` of its `connected`
    session: Option<Uuid>,
    /// The installation of the client, when the command belongs to no stream
    device: Option<DeviceId>,
}

/// Opens an event stream.
///
/// Each event is a frame as a WebSocket has it, described at `/docs/gateway/protocol`; the first is `connected`. Before the end of the
/// stream an event named `close` has the code and reason of a WebSocket's close frame.
#[utoipa::path(
    get,
    path = "/events",
    tag = "gateway",
    params(EventsQuery),
    security(("access_token" = [])),
    responses(
        (status = 200, description = "Frames, until the stream ends", body = String, content_type = "text/event-stream",
         headers(("x-accel-buffering" = String, description = "`no`"))),
        (status = 403, description = "permission_denied: a page of an origin that is not allowed asked",
         body = Problem, content_type = "application/problem+json"),
        CallerProblems,
        ParameterProblems,
    )
)]
async fn events(
    State(gateway): State<Arc<GatewayState>>,
    headers: HeaderMap,
    caller: Caller,
    Query(query): Query<EventsQuery>,
) -> Result<Response, ApiError> {
    let opened = open(&gateway, &headers, caller, query.device);
    gateway.metrics.count_upgrade(if opened.is_ok() { Upgrade::Taken } else { Upgrade::Refused });
    opened
}

fn open(
    gateway: &Arc<GatewayState>,
    headers: &HeaderMap,
    caller: Caller,
    device: DeviceId,
) -> Result<Response, ApiError> {
    let token = admitted(gateway, headers, caller)?;
    check_device(device)?;
    let (stream, posts, body) = EventStream::new();
    let listed = Listed::new(gateway, Form::Event, Some(posts))?;
    gateway.tasks.spawn(async move {
        let (gateway, connection) = listed.parts();
        socket::serve_stream(gateway.clone(), connection.clone(), stream, device, token).await;
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Runs a command and returns its answer.
///
/// The body is a frame as a WebSocket has it, `connect` excepted, and so is the response, with the status of its error code. A command
/// of `session` acts on that stream, under its limits; `activity`, `watch` and `refresh` are for these only. One of `device` stands
/// alone.
#[utoipa::path(
    post,
    path = "/commands",
    tag = "gateway",
    params(CommandQuery),
    request_body(content = Value, description = "A frame from the client, of `/docs/gateway/asyncapi.json`"),
    security(("access_token" = [])),
    responses(
        (status = 200, description = "The answer, a frame from the server", body = Value),
        (status = 204, description = "The command has no answer"),
        (status = 403, description = "permission_denied, not_a_member: a frame; permission_denied: a page of an origin that is \
         not allowed asked", body = Problem, content_type = "application/problem+json"),
        CallerProblems,
        BodyProblems,
    )
)]
async fn command(
    State(gateway): State<Arc<GatewayState>>,
    headers: HeaderMap,
    caller: Caller,
    Query(query): Query<CommandQuery>,
    JsonText(text): JsonText,
) -> Result<Response, ApiError> {
    let token = admitted(&gateway, &headers, caller)?;
    let replied = match (query.session, query.device) {
        (Some(session), None) => of_stream(&gateway, session, &token, text).await?,
        (None, Some(device)) => alone(&gateway, device, token, &text).await?,
        _ => {
            let detail = "query string: name either the session of your event stream, or your device";
            return Err(ApiError::new(ErrorCode::InvalidArgument, detail));
        }
    };
    Ok(response(replied))
}

/// Checks who asks, and from where.
fn admitted(gateway: &GatewayState, headers: &HeaderMap, caller: Caller) -> Result<VerifiedToken, ApiError> {
    check_origin(headers, &gateway.allowed_origins)?;
    let Caller { user_id, session, expires_at, .. } = caller;
    socket::vouched(gateway, user_id, session, expires_at).map_err(|refusal| {
        let detail = match refusal {
            TokenRefusal::SessionEnded => "the session of the token has ended; sign in again",
            TokenRefusal::Unverified(_) => "the token was not accepted",
        };
        ApiError::new(refusal.code(), detail)
    })
}

/// Hands a frame to a stream of the user.
async fn of_stream(
    gateway: &GatewayState,
    session: Uuid,
    token: &VerifiedToken,
    text: String,
) -> Result<Replied, ApiError> {
    let is_theirs = |of: &Arc<Connection>| of.identity().is_some_and(|identity| identity.user == token.user);
    let connection = gateway.registry.get(session).filter(is_theirs);
    let posts = connection.as_ref().and_then(|connection| connection.posts.as_ref());
    let posts = posts.ok_or_else(|| {
        let detail = "no event stream of yours with this session is open here: keep the cookie of its response, or open another";
        ApiError::new(ErrorCode::NotFound, detail)
    })?;
    let ended = || {
        let detail = "the event stream ended before the answer; open another and repeat with the same key";
        ApiError::new(ErrorCode::Unavailable, detail)
    };
    let crowded = |detail: &str| ApiError::new(ErrorCode::RateLimited, detail);
    let posted = Posted::new(text, gateway.metrics.queued_bytes.inbound_room());
    let (posted, replied) = posted.ok_or_else(|| crowded("too many large commands wait for their turn"))?;
    posts.try_send(posted).map_err(|error| match error {
        TrySendError::Full(_) => crowded("too many commands of this stream wait for their turn"),
        TrySendError::Closed(_) => ended(),
    })?;
    replied.await.map_err(|_| ended())
}

/// Runs a command that belongs to no connection.
async fn alone(
    gateway: &Arc<GatewayState>,
    device: DeviceId,
    token: VerifiedToken,
    text: &str,
) -> Result<Replied, ApiError> {
    check_device(device)?;
    let exchange = gateway.exchanges.begin(token.user, Instant::now().into_std()).map_err(|wait| {
        ApiError::new(ErrorCode::RateLimited, "you send too many commands; wait before you send more")
            .after(wait)
    })?;
    // Listed for as long as it takes, so that the process waits for it at its end.
    let listed = Listed::new(gateway, Form::Text, None)?;
    gateway.metrics.count_frame("text");
    let (_, connection) = listed.parts();
    let replied = socket::exchange(gateway, connection, device, token, text).await;
    if let Some(error) = replied.as_ref().and_then(|frame| frame.error.as_ref()) {
        gateway.metrics.count_error(error.code);
        if matches!(error.code, ErrorCode::Malformed | ErrorCode::TooLarge | ErrorCode::RateLimited) {
            exchange.fault(Instant::now().into_std());
        }
    }
    Ok(replied)
}

fn response(replied: Replied) -> Response {
    let Some(frame) = replied else { return StatusCode::NO_CONTENT.into_response() };
    let mut response = status(&frame);
    *response.body_mut() = Encoding::Json.encode(&frame).into();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns status and headers for an answer: those of every response with its error code.
fn status(frame: &ServerFrame) -> Response {
    let Some(error) = &frame.error else { return StatusCode::OK.into_response() };
    let problem = ApiError::new(error.code, "");
    match error.retry_after_ms {
        Some(wait) => problem.after(Duration::from_millis(wait.into())),
        None => problem,
    }
    .into_response()
}
