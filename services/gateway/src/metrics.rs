//! The figures of this process.

use std::{fmt, sync::Arc};

use kit::{
    catalog::Limit,
    traces::{self, Running, Timing, TracedHistogram},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::exponential_buckets,
    },
    registry::{Registry, Unit},
};

use crate::domain::send_queue::{Pushed, QueuedBytes};

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) queued_bytes: Arc<QueuedBytes>,
    /// Of users who are connected, or were until lately.
    pub(crate) memberships: Gauge,
    pub(crate) membership_loads: Counter,
    /// Losses of records of the members of a chat, as they were noticed.
    pub(crate) lost_memberships: Counter,
    /// Entries of whose announcement this gateway learned by the head of the chat.
    pub(crate) lost_announcements: Counter,
    /// 0.5 ms to 16 s: a healthy broker is in the first buckets, the produce timeout in the last.
    pub(crate) produce_seconds: TracedHistogram,
    sync_seconds: Family<SyncLabels, TracedHistogram>,
    upgrades: Family<UpgradeLabels, Counter>,
    frames: Family<FrameLabels, Counter>,
    errors: Family<CodeLabels, Counter>,
    pushes: Family<PushLabels, Counter>,
    closes: Family<CloseLabels, Counter>,
    limited: Family<LimitLabels, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Upgrade {
    Taken,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Push {
    Message,
    Stored,
    Rejected,
    Receipt,
    OwnState,
    Presence,
    Typing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpgradeLabels {
    outcome: Upgrade,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SyncLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FrameLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PushLabels {
    kind: Push,
    /// `lagged` stands for `Dropped` pushes; `Closed` ones met a closing connection.
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Queued,
    Dropped,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabels {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // 1 ms to 16 s, beyond the time that the message service has.
        let seconds = || TracedHistogram::new(exponential_buckets(0.001, 2.0, 15));
        let sync_seconds: Family<SyncLabels, TracedHistogram> = Family::new_with_constructor(seconds);
        // There from the start, so that the first one is an increase.
        drop(sync_seconds.get_or_create(&SyncLabels { outcome: traces::Outcome::Answered.as_str() }));
        Self {
            connections: Gauge::default(),
            queued_bytes: Arc::default(),
            memberships: Gauge::default(),
            membership_loads: Counter::default(),
            lost_memberships: Counter::default(),
            lost_announcements: Counter::default(),
            produce_seconds: TracedHistogram::new(exponential_buckets(0.0005, 2.0, 16)),
            sync_seconds,
            upgrades: Family::default(),
            frames: Family::default(),
            errors: Family::default(),
            pushes: Family::default(),
            closes: Family::default(),
            limited: Family::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Open WebSockets", self.connections.clone());
        registry.register_collector(Box::new(SendQueues(self.queued_bytes.clone())));
        registry.register(
            "memberships",
            "Memberships held, of users who are connected or were until lately",
            self.memberships.clone(),
        );
        registry.register(
            "membership_loads",
            "Requests to the chat service for the chats of a user",
            self.membership_loads.clone(),
        );
        registry.register(
            "lost_memberships",
            "Losses that were noticed of records of the members of a chat",
            self.lost_memberships.clone(),
        );
        registry.register(
            "lost_announcements",
            "Entries whose announcement did not arrive here",
            self.lost_announcements.clone(),
        );
        registry.register_with_unit(
            "produce",
            "Time from a send to the log's acknowledgement or refusal",
            Unit::Seconds,
            self.produce_seconds.clone(),
        );
        registry.register_with_unit(
            "sync",
            "Time from the command of a sync until its page of chats is queued for the client, by how that ended",
            Unit::Seconds,
            self.sync_seconds.clone(),
        );
        registry.register("upgrades", "Requested WebSocket upgrades", self.upgrades.clone());
        registry.register("frames", "Frames read from clients", self.frames.clone());
        registry.register("errors", "Errors sent to clients", self.errors.clone());
        registry.register("pushes", "Frames pushed to connections", self.pushes.clone());
        registry.register(
            "limited",
            "Commands refused with rate_limited, by the limit",
            self.limited.clone(),
        );
        registry.register("closes", "Ended WebSockets", self.closes.clone());
    }

    pub(crate) fn count_upgrade(&self, outcome: Upgrade) {
        self.upgrades.get_or_create(&UpgradeLabels { outcome }).inc();
    }

    pub(crate) fn count_frame(&self, kind: &'static str) {
        self.frames.get_or_create(&FrameLabels { kind }).inc();
    }

    pub(crate) fn count_error(&self, code: contracts::ErrorCode) {
        self.errors.get_or_create(&CodeLabels { code: code.as_str() }).inc();
    }

    pub(crate) fn count_push(&self, kind: Push, pushed: Pushed) {
        self.count_pushes(kind, pushed, 1);
    }

    /// Counts pushes of one kind that came to the same.
    pub(crate) fn count_pushes(&self, kind: Push, pushed: Pushed, count: u64) {
        let outcome = match pushed {
            Pushed::Queued => Outcome::Queued,
            Pushed::Dropped => Outcome::Dropped,
            Pushed::Closed => Outcome::Closed,
        };
        self.pushes.get_or_create(&PushLabels { kind, outcome }).inc_by(count);
    }

    /// Begins a sync, which is counted at its end.
    pub(crate) fn syncing(&self) -> Running<impl FnOnce(Timing) + Send + use<>> {
        let seconds = self.sync_seconds.clone();
        Running::begin(move |timing: Timing| {
            let labels = SyncLabels { outcome: timing.outcome.as_str() };
            seconds.get_or_create(&labels).observe(timing.took, timing.of);
        })
    }

    pub(crate) fn count_limited(&self, limit: Limit) {
        self.limited.get_or_create(&LimitLabels { limit: limit.name() }).inc();
    }

    pub(crate) fn count_close(&self, reason: &'static str) {
        self.closes.get_or_create(&CloseLabels { reason }).inc();
    }
}

/// Reads what waits in both directions at each scrape: a queue counts its bytes and knows no metrics.
#[derive(Debug)]
struct SendQueues(Arc<QueuedBytes>);

impl Collector for SendQueues {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Bytes of frames queued for clients.";
        let queued = encoder.encode_descriptor("send_queue", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(self.0.outbound_bytes()).encode(queued)?;
        let help = "Bytes of messages from clients that are not whole, or wait for their turn.";
        let waiting = encoder.encode_descriptor("inbound", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(self.0.inbound_bytes()).encode(waiting)?;
        Ok(())
    }
}
