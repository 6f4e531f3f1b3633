//! The figures of this process.

use std::sync::atomic::AtomicI64;

use contracts::api::NotificationChannel;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Seconds of a request to a provider.
const SEND_SECONDS: [f64; 7] = [0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    channel: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelLabels {
    channel: &'static str,
}

#[derive(Clone)]
pub struct Metrics {
    pub(crate) records: Counter,
    pub(crate) skipped: Counter,
    jobs: Family<OutcomeLabels, Counter>,
    waiting: Family<ChannelLabels, Gauge<i64, AtomicI64>>,
    dead: Family<ChannelLabels, Gauge<i64, AtomicI64>>,
    broker: Family<ChannelLabels, Gauge<i64, AtomicI64>>,
    looks: Family<LookLabels, Counter>,
    unbound: Gauge<i64, AtomicI64>,
    pub(crate) send: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            records: Counter::default(),
            skipped: Counter::default(),
            jobs: Family::default(),
            waiting: Family::default(),
            dead: Family::default(),
            broker: Family::default(),
            looks: Family::default(),
            unbound: Gauge::default(),
            send: Histogram::new(SEND_SECONDS),
        }
    }
}

impl Metrics {
    /// Returns the metrics, added to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("records", "Records that were read", metrics.records.clone());
        registry.register("skipped", "Records that could not be read", metrics.skipped.clone());
        registry.register("jobs", "Jobs, by channel and what became of them", metrics.jobs.clone());
        registry.register("waiting", "Jobs of the tenant that wait, by channel", metrics.waiting.clone());
        registry.register(
            "dead",
            "Jobs of the tenant that were given up in the last days, by channel",
            metrics.dead.clone(),
        );
        registry.register(
            "broker_up",
            "1 where jobs of a channel come through RabbitMQ, 0 while it is away, nothing in a cell without it",
            metrics.broker.clone(),
        );
        registry.register(
            "looks",
            "Users for whose sessions the auth service was asked, by what became of it",
            metrics.looks.clone(),
        );
        registry.register(
            "unbound",
            "Browsers and apps of the tenant that are bound to no session, as an earlier release subscribed them",
            metrics.unbound.clone(),
        );
        registry.register_with_unit(
            "send",
            "How long a provider takes for what is sent",
            Unit::Seconds,
            metrics.send.clone(),
        );
        metrics
    }

    /// Counts a job.
    pub(crate) fn job(&self, channel: NotificationChannel, outcome: &'static str) {
        self.jobs.get_or_create(&OutcomeLabels { channel: channel.as_str(), outcome }).inc();
    }

    /// Counts a user for whose sessions was asked.
    pub(crate) fn look(&self, outcome: &'static str) {
        self.looks.get_or_create(&LookLabels { outcome }).inc();
    }

    /// Notes how many devices are bound to no session. Returns whether there are some, and not as many as before.
    pub(crate) fn unbound(&self, count: i64) -> bool {
        self.unbound.set(count) != count && count > 0
    }

    /// Notes whether jobs come through the broker.
    pub(crate) fn broker_up(&self, channel: NotificationChannel, is_up: bool) {
        let labels = ChannelLabels { channel: channel.as_str() };
        self.broker.get_or_create(&labels).set(is_up.into());
    }

    /// Notes how many jobs there are.
    pub(crate) fn counts(&self, channel: NotificationChannel, (waiting, dead): (i64, i64)) {
        let labels = ChannelLabels { channel: channel.as_str() };
        self.waiting.get_or_create(&labels).set(waiting);
        self.dead.get_or_create(&labels).set(dead);
    }
}
