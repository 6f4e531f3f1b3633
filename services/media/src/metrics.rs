//! The figures of this process.

use std::sync::atomic::AtomicI64;

use contracts::api::FileState;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Default)]
pub struct Metrics {
    pub(crate) created: Counter,
    processed: Family<OutcomeLabels, Counter>,
    pub(crate) retried: Counter,
    pub(crate) in_processing: Gauge<i64, AtomicI64>,
    pub(crate) served: Counter,
    pub(crate) served_bytes: Counter,
    pub(crate) streams: Gauge<i64, AtomicI64>,
    pub(crate) changes: Counter,
    pub(crate) collected: Counter,
    pub(crate) used_bytes: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// Returns the metrics, added to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("uploads", "Files whose upload was begun", metrics.created.clone());
        registry.register(
            "processed",
            "Files that were checked, by what became of them",
            metrics.processed.clone(),
        );
        registry.register(
            "retried",
            "Checks of files that are repeated after a failure",
            metrics.retried.clone(),
        );
        registry.register("in_processing", "Files that are being checked", metrics.in_processing.clone());
        registry.register(
            "served",
            "Responses with the content of a file or a part of it",
            metrics.served.clone(),
        );
        registry.register(
            "served_bytes",
            "Bytes of files that were sent to users",
            metrics.served_bytes.clone(),
        );
        registry.register("streams", "Files that are being sent to users", metrics.streams.clone());
        registry.register(
            "changes",
            "Entries of chats that attached or detached files",
            metrics.changes.clone(),
        );
        registry.register("collected", "Files that were removed", metrics.collected.clone());
        registry.register("used_bytes", "What all files of the tenant take", metrics.used_bytes.clone());
        metrics
    }

    /// Counts a file that was checked.
    pub(crate) fn processed(&self, state: FileState) {
        self.processed.get_or_create(&OutcomeLabels { outcome: state.as_str() }).inc();
    }
}
