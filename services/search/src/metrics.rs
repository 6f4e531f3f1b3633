//! The figures of this process.

use std::fmt::{self, Write as _};

use kit::{error::ServiceError as _, traces::TracedHistogram};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::error::Error;

/// Seconds of a search: the aim is a tenth.
const SEARCH_SECONDS: [f64; 8] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2.0];
/// Seconds from a message to its place in the index: the aim is five.
const LAG_SECONDS: [f64; 8] = [0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0];

#[derive(Clone)]
pub struct Metrics {
    pub(crate) entries: Counter,
    pub(crate) documents: Counter,
    pub(crate) skipped: Counter,
    pub(crate) builds: Counter,
    pub(crate) chats_read: Gauge,
    pub(crate) chats: Gauge,
    pub(crate) complete: Gauge,
    pub(crate) rebuilding: Gauge,
    pub(crate) rebuild_chats_read: Gauge,
    pub(crate) rebuild_chats: Gauge,
    pub(crate) rebuilt: Counter,
    pub(crate) names: Family<Outcome, Counter>,
    pub(crate) lag: Histogram,
    pub(crate) searches: Family<Outcome, Counter>,
    pub(crate) search: TracedHistogram,
}

/// What became of a search.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) outcome: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Answered,
    Refused,
    Failed,
}

impl Outcome {
    fn of<T>(found: &Result<T, Error>) -> Self {
        let outcome = match found {
            Ok(_) => Answer::Answered,
            Err(error) if error.code().http_status() < 500 => Answer::Refused,
            Err(_) => Answer::Failed,
        };
        Self { outcome }
    }
}

impl EncodeLabelValue for Answer {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            entries: Counter::default(),
            documents: Counter::default(),
            skipped: Counter::default(),
            builds: Counter::default(),
            chats_read: Gauge::default(),
            chats: Gauge::default(),
            complete: Gauge::default(),
            rebuilding: Gauge::default(),
            rebuild_chats_read: Gauge::default(),
            rebuild_chats: Gauge::default(),
            rebuilt: Counter::default(),
            names: Family::default(),
            lag: Histogram::new(LAG_SECONDS),
            searches: Family::default(),
            search: TracedHistogram::new(SEARCH_SECONDS),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "entries",
            "Entries of message.delivered that concern the index",
            self.entries.clone(),
        );
        registry.register("documents", "Documents written to the index", self.documents.clone());
        registry.register("skipped", "Records that could not be read", self.skipped.clone());
        registry.register("builds", "Times that all chats began to be read", self.builds.clone());
        registry.register(
            "chats_read",
            "Chats of the tenant that are read into the index",
            self.chats_read.clone(),
        );
        registry.register("chats", "Chats of the tenant, as of the last list", self.chats.clone());
        registry.register("complete", "1 while every message can be found", self.complete.clone());
        registry.register(
            "rebuilding",
            "1 while the index is built again, beside the one that searches use",
            self.rebuilding.clone(),
        );
        registry.register(
            "rebuild_chats_read",
            "Chats of the tenant that are read into the index that is built again",
            self.rebuild_chats_read.clone(),
        );
        registry.register(
            "rebuild_chats",
            "Chats of the tenant, as of the last list for the index that is built again",
            self.rebuild_chats.clone(),
        );
        registry.register(
            "rebuilt",
            "Indexes that were built again and took the place of the one before",
            self.rebuilt.clone(),
        );
        registry.register("name_searches", "Searches for names of chats and users", self.names.clone());
        registry.register_with_unit(
            "lag",
            "From when a message was sent until searches find it",
            Unit::Seconds,
            self.lag.clone(),
        );
        registry.register("searches", "Searches", self.searches.clone());
        registry.register_with_unit("search", "How long a search takes", Unit::Seconds, self.search.clone());
    }

    pub(crate) fn count_search<T>(&self, found: &Result<T, Error>) {
        self.searches.get_or_create(&Outcome::of(found)).inc();
    }

    pub(crate) fn count_names<T>(&self, found: &Result<T, Error>) {
        self.names.get_or_create(&Outcome::of(found)).inc();
    }
}
