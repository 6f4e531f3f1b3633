//! Structured logs on standard output; the level comes from `RUST_LOG` (default `info`). Lines in JSON that are written within a traced span name it.

use traces::{Correlated, Steps};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogFormat;

/// Installs the global subscriber; a second call in the same process changes nothing. With `is_traced` calls of stores are parts of what is traced.
pub fn init(format: LogFormat, is_traced: bool) {
    // The Kafka client logs every broken connection once more than we do.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,rdkafka=warn,librdkafka=error"));
    let registry = tracing_subscriber::registry().with(filter).with(is_traced.then_some(Steps));
    let installed = match format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_current_span(false);
            registry.with(lines.map_event_format(Correlated)).try_init()
        }
        LogFormat::Text => registry.with(fmt::layer()).try_init(),
    };
    drop(installed);
}
