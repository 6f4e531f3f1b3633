//! What this service counts. Names get the prefix `posthouse_message_`.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use kit::traces::{Parent, TracedHistogram};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Stored,
    Repeated,
    /// The key was used before with other content.
    Conflict,
    /// Its sender was removed from the chat before it.
    SenderOut,
    /// There is no message that it may speak of.
    NoTarget,
    /// Not a record of this protocol.
    Refused,
    /// Stored by an earlier run, announced once more.
    AnnouncedAgain,
}

/// How a page of history came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Page {
    /// It was read from the store.
    Read,
    /// Another request for the same at the same time read it.
    Shared,
}

impl EncodeLabelValue for Page {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Read => "read",
            Self::Shared => "shared",
        })
    }
}

/// How the pipeline learned whether a key is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyLookUp {
    /// It was read from the store.
    Read,
    /// This owner has stored it.
    Remembered,
    /// It is behind all that are stored.
    New,
}

impl EncodeLabelValue for KeyLookUp {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Read => "read",
            Self::Remembered => "remembered",
            Self::New => "new",
        })
    }
}

/// Parts of the way of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// What decides is read, as far as it is not known.
    LookUp,
    /// Message and key rows are written, and heads that are due.
    Write,
    /// Announcements are handed to the producer.
    Announce,
}

/// Why the owner of a partition stopped: records that were accepted are not where they were, or are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Loss {
    /// The first records are gone, and none was ever applied.
    Headless,
    /// Records behind the position are gone.
    Gap,
    /// The log ends before the position: it has lost its end, or is another one.
    Rewound,
    /// There is another record before the position.
    Changed,
}

impl Loss {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::Headless, Self::Gap, Self::Rewound, Self::Changed];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Headless => "headless",
            Self::Gap => "gap",
            Self::Rewound => "rewound",
            Self::Changed => "changed",
        }
    }
}

impl EncodeLabelValue for Loss {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Stored => "stored",
            Self::Repeated => "repeated",
            Self::Conflict => "conflict",
            Self::SenderOut => "sender_out",
            Self::NoTarget => "no_target",
            Self::Refused => "refused",
            Self::AnnouncedAgain => "announced_again",
        })
    }
}

impl EncodeLabelValue for Step {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::LookUp => "look_up",
            Self::Write => "write",
            Self::Announce => "announce",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PageLabel {
    page: Page,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabel {
    found: KeyLookUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoppedLabel {
    partition: i32,
    loss: Loss,
}

/// A partition that is stopped, for as long as this lives.
pub(crate) struct StoppedPartition {
    metrics: Metrics,
    label: StoppedLabel,
}

impl Drop for StoppedPartition {
    fn drop(&mut self) {
        self.metrics.stopped.remove(&self.label);
    }
}

/// Returns 0.25 ms to 8 s, the request timeout of the store included.
fn seconds() -> impl Iterator<Item = f64> {
    exponential_buckets(0.000_25, 2.0, 16)
}

#[derive(Clone)]
pub(crate) struct Metrics {
    records: Family<OutcomeLabel, Counter>,
    retries: Counter,
    history_pages: Family<PageLabel, Counter>,
    keys: Family<KeyLabel, Counter>,
    batch_records: Histogram,
    step_seconds: Family<StepLabel, Histogram>,
    log_to_announced_seconds: TracedHistogram,
    lag: Family<PartitionLabel, Gauge>,
    owned_partitions: Gauge,
    stopped: Family<StoppedLabel, Gauge>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            records: Family::default(),
            retries: Counter::default(),
            history_pages: Family::default(),
            keys: Family::default(),
            // 1 to the largest batch, 512.
            batch_records: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            step_seconds: Family::new_with_constructor(|| Histogram::new(seconds())),
            log_to_announced_seconds: TracedHistogram::new(seconds()),
            lag: Family::default(),
            owned_partitions: Gauge::default(),
            stopped: Family::default(),
        };
        registry.register("records", "Records of message.send by what became of them", this.records.clone());
        registry.register("retries", "Steps repeated because a backend failed", this.retries.clone());
        registry.register(
            "history_pages",
            "Pages of history by whether they were read for the request or for another one",
            this.history_pages.clone(),
        );
        registry.register(
            "keys",
            "Keys of records by how it was found out whether they are stored",
            this.keys.clone(),
        );
        registry.register("batch_records", "Records in a batch", this.batch_records.clone());
        registry.register("step_seconds", "Duration of a step of a batch", this.step_seconds.clone());
        registry.register(
            "log_to_announced_seconds",
            "From the log's timestamp of a stored record to its announcement",
            this.log_to_announced_seconds.clone(),
        );
        registry.register("lag_records", "Records not yet applied", this.lag.clone());
        registry.register("owned_partitions", "Partitions owned here", this.owned_partitions.clone());
        registry.register(
            "stopped_partitions",
            "Partitions owned here whose log has lost what was accepted, by what happened; docs/runbook.md has a section for each",
            this.stopped.clone(),
        );
        this
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        self.records.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn count_page(&self, page: Page) {
        self.history_pages.get_or_create(&PageLabel { page }).inc();
    }

    pub(crate) fn count_key(&self, found: KeyLookUp) {
        self.keys.get_or_create(&KeyLabel { found }).inc();
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn batch(&self, records: usize) {
        self.batch_records.observe(records as f64);
    }

    pub(crate) fn step(&self, step: Step, took: Duration) {
        self.step_seconds.get_or_create(&StepLabel { step }).observe(took.as_secs_f64());
    }

    /// Counts an announcement. `of` is the span that it belongs to, where the message is traced.
    pub(crate) fn announced(&self, since_logged: Duration, of: Option<Parent>) {
        self.log_to_announced_seconds.observe(since_logged, of);
    }

    pub(crate) fn lag(&self, partition: i32, records: i64) {
        self.lag.get_or_create(&PartitionLabel { partition }).set(records);
    }

    /// Counts a partition as stopped until what is returned is dropped.
    pub(crate) fn stopped(&self, partition: i32, loss: Loss) -> StoppedPartition {
        let label = StoppedLabel { partition, loss };
        self.stopped.get_or_create(&label).set(1);
        StoppedPartition { metrics: self.clone(), label }
    }

    pub(crate) fn owns(&self, partition: i32) {
        self.owned_partitions.inc();
        self.lag(partition, 0);
    }

    pub(crate) fn owns_no_more(&self, partition: i32) {
        self.owned_partitions.dec();
        self.lag.remove(&PartitionLabel { partition });
    }
}
