//! Structured logs on standard output; the level comes from `RUST_LOG` (default `info`).

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogFormat;

/// Installs the global subscriber; a second call in the same process changes nothing.
pub fn init(format: LogFormat) {
    // The Kafka client logs every broken connection once more than we do.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,rdkafka=warn,librdkafka=error"));
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match format {
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_current_span(false)).try_init()
        }
        LogFormat::Text => registry.with(fmt::layer()).try_init(),
    };
    drop(installed);
}
