//! The figures of this process.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) gateways: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) reports: Counter,
    pub(crate) pushes: Counter,
    pub(crate) published: Counter,
    pub(crate) received: Counter,
    pub(crate) samples: Counter,
    pub(crate) dropped_samples: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("gateways", "Gateways attached to this replica", self.gateways.clone());
        registry.register(
            "connected_users",
            "Users known to be connected to any gateway",
            self.connected.clone(),
        );
        registry.register("reports", "Changes of users that gateways reported", self.reports.clone());
        registry.register("pushes", "Messages to gateways about the users they watch", self.pushes.clone());
        registry.register("published", "Messages to the other replicas", self.published.clone());
        registry.register("received", "Messages of the other replicas", self.received.clone());
        registry.register("samples", "Samples published to presence.changes", self.samples.clone());
        registry.register(
            "dropped_samples",
            "Samples that could not be published in their interval",
            self.dropped_samples.clone(),
        );
    }
}
