//! How a process tells what it did for one request, message or pass: spans, sent to a collector by OTLP.
//!
//! Most requests are not traced, so it is decided first whether one is, by [`Span::root`], and everything else follows from that: what is not traced
//! has no [`Parent`], makes no span, and sends no header. Without a collector nothing is traced at all, which costs a relaxed load.
//!
//! What a process did is known from [`Span`]s, and from the spans of `tracing` that begin within one ([`Steps`]). A span says which kind of thing was done,
//! how long it took and how it ended, and never to whom: no text, token, name or id of a user or a chat is an attribute.

mod exemplars;
mod parent;
mod queue;
mod requests;
mod span;
mod subscriber;
#[cfg(feature = "testing")]
pub mod testing;
mod timed;

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{Resource, trace::SpanExporter};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig};
use url::Url;

use self::queue::{Outcomes, Queue};
pub use self::{
    exemplars::TracedHistogram,
    parent::{HEADER, Parent, current, step, within},
    requests::{Server, name_of, sent},
    span::Span,
    subscriber::{Correlated, Steps},
    timed::{Outcome, Running, Timing, timed},
};
pub use opentelemetry::trace::SpanKind;

/// A batch is tried again for so long. Only further batches wait for it.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);

/// What was traced last gets this long at the end of a process.
pub const LAST: Duration = Duration::from_secs(2);

/// Whether anything is traced. Apart from what is traced with, so that the most frequent question is a relaxed load.
static IS_ON: AtomicBool = AtomicBool::new(false);
static TRACED: OnceLock<Traced> = OnceLock::new();

/// What spans of this process are made with.
struct Traced {
    ratio: Ratio,
    queue: Queue,
}

/// Where spans go, and of how many traces.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct TracesArgs {
    /// URL of a collector that takes OTLP over gRPC, as `http://collector:4317`. Without it nothing is traced.
    #[arg(long, env, value_parser = endpoint)]
    pub otlp_endpoint: Option<String>,
    /// The part that is traced of what begins in this process, 0 to 1. What began elsewhere is traced where that was.
    #[arg(long, env, default_value_t = Ratio::default())]
    pub trace_ratio: Ratio,
}

/// A part of all, from none (0) to every one (1).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// Every one.
    pub const ALL: Self = Self(1.0);

    /// Returns whether one is of the part, by a number that was drawn for it from all there are.
    fn takes(self, drawn: u64) -> bool {
        // Rounding is of no matter here; but for the ends, which are exact.
        self.0 >= 1.0 || (drawn as f64) < self.0 * (u64::MAX as f64)
    }
}

/// One of a hundred.
impl Default for Ratio {
    fn default() -> Self {
        Self(0.01)
    }
}

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or("must be a number from 0 to 1")
    }
}

/// Who makes the spans of a process.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The kind of process, as `gateway`.
    pub service: &'a str,
    pub version: &'static str,
    /// The tenant that the process works for, if it is one.
    pub tenant: Option<&'a str>,
    /// This process among those of its kind: the name of its pod.
    pub instance: Option<&'a str>,
}

impl Origin<'_> {
    fn resource(self) -> Resource {
        let Self { service, version, tenant, instance } = self;
        let named = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
        let attributes = [named("service.namespace", "posthouse"), named("service.version", version)];
        // What its pod says in `OTEL_RESOURCE_ATTRIBUTES` is there, too.
        Resource::builder()
            .with_service_name(service.to_owned())
            .with_attributes(attributes)
            .with_attributes(tenant.map(|tenant| named("tenant", tenant)))
            .with_attributes(instance.map(|instance| named("service.instance.id", instance)))
            .build()
    }
}

/// Spans cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("the collector of traces cannot be called")]
pub struct StartError(#[from] opentelemetry_otlp::ExporterBuildError);

/// What traces of a process. Spans that were made are sent until [`Self::end`].
pub struct Traces {
    outcomes: Outcomes,
    sending: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Traces {
    /// Begins to trace where `args` name a collector; called within a runtime. Certificates in `ca_bundle` are trusted there beside the public ones. A
    /// process traces once: what a second call sets up is not used.
    pub fn start(args: &TracesArgs, ca_bundle: Option<&str>, origin: Origin<'_>) -> Result<Self, StartError> {
        let Some(endpoint) = &args.otlp_endpoint else { return Ok(Self::off()) };
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_WITHIN);
        if endpoint.starts_with("https:") {
            let roots = ClientTlsConfig::new().with_native_roots();
            let own = ca_bundle.map(Certificate::from_pem);
            exporter = exporter.with_tls_config(roots.ca_certificates(own));
        }
        Ok(Self::to(exporter.build()?, args.trace_ratio, origin))
    }

    fn off() -> Self {
        Self { outcomes: Outcomes::default(), sending: None }
    }

    /// Begins to send the spans of this process to an exporter.
    fn to(mut exporter: impl SpanExporter + 'static, ratio: Ratio, origin: Origin<'_>) -> Self {
        exporter.set_resource(&origin.resource());
        let (outcomes, stop) = (Outcomes::default(), CancellationToken::new());
        let (queue, spans) = Queue::new(outcomes.clone());
        if TRACED.set(Traced { ratio, queue }).is_err() {
            return Self::off();
        }
        // The exporter keeps to its own limit between attempts only.
        let limit = 2 * EXPORT_WITHIN;
        let sending = tokio::spawn(queue::send(spans, exporter, outcomes.clone(), stop.clone(), limit));
        IS_ON.store(true, Ordering::Relaxed);
        Self { outcomes, sending: Some((stop, sending)) }
    }

    /// Registers what becomes of spans, and what requests to others come to, whether any of it is traced or not.
    pub fn register(&self, registry: &mut Registry) {
        self.outcomes.register(registry);
        requests::register(registry);
    }

    /// Sends what was made, as far as that is possible in a time. Nothing is traced from then on.
    pub async fn end(self, limit: Duration) {
        let Some((stop, mut sending)) = self.sending else { return };
        IS_ON.store(false, Ordering::Relaxed);
        stop.cancel();
        if tokio::time::timeout(limit, &mut sending).await.is_err() {
            sending.abort();
        }
    }
}

/// Returns whether this process traces anything.
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Returns what spans are made with, in a process that traces.
fn traced() -> Option<&'static Traced> {
    if is_on() { TRACED.get() } else { None }
}

/// Checks the URL of a collector. It is kept as it was written.
fn endpoint(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must begin with http:// or https:// and name a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user or a password: every reader of the pod would see them".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_all_is_taken_and_the_ends_are_exact() {
        let ratio = |text: &str| text.parse::<Ratio>().expect("a ratio");
        for drawn in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(ratio("1").takes(drawn), "{drawn}");
            assert!(!ratio("0").takes(drawn), "{drawn}");
        }
        assert!(ratio("0.5").takes(u64::MAX / 4));
        assert!(!ratio("0.5").takes(u64::MAX / 4 * 3));
        assert!(Ratio::default().takes(u64::MAX / 200) && !Ratio::default().takes(u64::MAX / 50));
        for wrong in ["", "-0.1", "1.1", "NaN", "inf", "half"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_collector_is_a_url_without_a_secret() {
        for good in ["http://collector:4317", "https://otlp.example/"] {
            assert_eq!(endpoint(good).as_deref(), Ok(good));
        }
        for wrong in
            ["collector:4317", "http://", "grpc://collector:4317", "http://ann:secret@collector:4317"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
