//! The figures of this process.

use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Seconds from a message to what follows from it: the aim is two.
const LAG_SECONDS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

#[derive(Clone)]
pub struct Metrics {
    pub(crate) judged: Counter,
    pub(crate) verdicts: Counter,
    pub(crate) skipped: Counter,
    pub(crate) deletions: Counter,
    pub(crate) standings: Counter,
    pub(crate) reports: Counter,
    pub(crate) classified: Counter,
    pub(crate) unanswered: Counter,
    pub(crate) unclassified: Counter,
    pub(crate) lag: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            judged: Counter::default(),
            verdicts: Counter::default(),
            skipped: Counter::default(),
            deletions: Counter::default(),
            standings: Counter::default(),
            reports: Counter::default(),
            classified: Counter::default(),
            unanswered: Counter::default(),
            unclassified: Counter::default(),
            lag: Histogram::new(LAG_SECONDS),
        }
    }
}

impl Metrics {
    /// Returns the metrics, added to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("judged", "Messages and edits that were judged", metrics.judged.clone());
        registry.register("verdicts", "Messages and edits that a rule set caught", metrics.verdicts.clone());
        registry.register("skipped", "Records that could not be read", metrics.skipped.clone());
        registry.register("deletions", "Entries that delete messages", metrics.deletions.clone());
        registry.register(
            "standings",
            "Restrictions of users that the other services took",
            metrics.standings.clone(),
        );
        registry.register("reports", "Messages that users reported", metrics.reports.clone());
        registry.register(
            "classified",
            "Messages and edits that the classifier answered about",
            metrics.classified.clone(),
        );
        registry.register(
            "classifier_unanswered",
            "Requests that the classifier did not answer: they are made again",
            metrics.unanswered.clone(),
        );
        registry.register(
            "unclassified",
            "Messages and edits that rules with the classifier do not judge: it did not answer for too long, refused them, or is not there",
            metrics.unclassified.clone(),
        );
        registry.register_with_unit(
            "lag",
            "From when a message was sent until its verdict is written",
            Unit::Seconds,
            metrics.lag.clone(),
        );
        metrics
    }
}
