//! Requests over HTTP to servers that are none of ours: backends of a cell, and servers that tenants, users or the Internet have.
//!
//! Each is counted, and is a span where its sender is traced. No header says so: a trace is the tenant's, and servers of others are not told that there is one.

use std::{
    fmt::{self, Write as _},
    sync::LazyLock,
};

use futures_util::FutureExt as _;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, histogram::exponential_buckets},
    registry::{Registry, Unit},
};
use reqwest::{Method, Response};

use crate::{Outcome, Running, Span, SpanKind, Timing, TracedHistogram, current, within};

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    Keycloak,
    S3,
    OpenSearch,
    /// Its management API.
    RabbitMq,
    /// The schema registry.
    Registry,
    Fcm,
    /// The push services of browsers, whichever they are.
    WebPush,
    /// Servers of bots and users that are notified.
    Webhook,
    /// The hook of a tenant for text messages.
    Sms,
    /// The classifier of a tenant.
    Classifier,
    /// Pages whose links are previewed.
    Page,
}

impl Server {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Keycloak => "keycloak",
            Self::S3 => "s3",
            Self::OpenSearch => "opensearch",
            Self::RabbitMq => "rabbitmq",
            Self::Registry => "registry",
            Self::Fcm => "fcm",
            Self::WebPush => "web_push",
            Self::Webhook => "webhook",
            Self::Sms => "sms",
            Self::Classifier => "classifier",
            Self::Page => "page",
        }
    }
}

impl EncodeLabelValue for Server {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    backend: Server,
    outcome: &'static str,
}

/// The figures of all requests of a process. They are apart from what registers them, because clients are made far from there.
struct Metrics {
    requests: Family<RequestLabels, TracedHistogram>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    // 1 ms to 16 s, beyond most time limits.
    let seconds = || TracedHistogram::new(exponential_buckets(0.001, 2.0, 15));
    Metrics { requests: Family::new_with_constructor(seconds) }
});

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "backend_request",
            "Time until a server that is none of ours answers a request over HTTP, by what it is and how that ended: answered, refused (4xx), failed (5xx or no answer), or abandoned, also at a time limit",
            Unit::Seconds,
            self.requests.clone(),
        );
    }

    fn count(&self, backend: Server, Timing { outcome, took, of }: Timing) {
        let labels = RequestLabels { backend, outcome: outcome.as_str() };
        self.requests.get_or_create(&labels).observe(took, of);
    }
}

pub(crate) fn register(registry: &mut Registry) {
    METRICS.register(registry);
}

/// Waits for the head of a response to a request, which the future sends. `step` is one of a few texts, as [`name_of`] its method: no address, no id and no
/// name of a user is in it.
pub fn sent<F: Future<Output = reqwest::Result<Response>>>(
    to: Server,
    step: &'static str,
    request: F,
) -> impl Future<Output = reqwest::Result<Response>> {
    let parent = current();
    let mut span = match parent {
        Some(_) => Span::child(parent, format!("{} {step}", to.as_str()), SpanKind::Client),
        None => Span::NONE,
    };
    let running = Running::begin(move |timing| METRICS.count(to, timing));
    within(span.parent(), request).inspect(move |result| running.end(conclude(&mut span, result)))
}

/// Says in a span what a request came to.
fn conclude(span: &mut Span, result: &reqwest::Result<Response>) -> Outcome {
    match result {
        Ok(response) => {
            let status = response.status();
            span.set("http.response.status_code", i64::from(status.as_u16()));
            if status.is_server_error() {
                span.fail("5xx");
                Outcome::Failed
            } else if status.is_client_error() {
                Outcome::Refused
            } else {
                Outcome::Answered
            }
        }
        Err(error) => {
            span.fail(kind_of(error));
            Outcome::Failed
        }
    }
}

/// Returns what failed, without the address that the error names.
fn kind_of(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else {
        "request"
    }
}

/// Returns a name for a method, of which a client may send any.
pub fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
