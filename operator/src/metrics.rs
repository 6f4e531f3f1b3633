//! What the operator counts. A steady tenant adds to reconciles and reads, and to nothing else.

use std::{
    fmt,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use traces::Traces;

use crate::{
    fleet::Fleet,
    locks::{lock, read},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    target: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    part: &'static str,
    reason: &'static str,
}

/// The operator's metrics, all named `posthouse_operator_...`.
pub struct Metrics {
    registry: Mutex<Registry>,
    reconcile: Family<ReconcileLabels, Histogram, fn() -> Histogram>,
    steps: Family<PartLabels, Histogram, fn() -> Histogram>,
    writes: Family<WriteLabels, Counter>,
    repairs: Family<PartLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    leftovers: Family<PartLabels, Counter>,
    tenants: Family<ReconcileLabels, Gauge>,
    leading: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // 5 ms (nothing to do) to 40 s (a realm on a busy machine).
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 14));
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("posthouse_operator")),
            reconcile: Family::new_with_constructor(histogram),
            steps: Family::new_with_constructor(histogram),
            writes: Family::default(),
            repairs: Family::default(),
            errors: Family::default(),
            leftovers: Family::default(),
            tenants: Family::default(),
            leading: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// Returns metrics with what becomes of spans among them.
    pub fn with(traces: &Traces) -> Self {
        let metrics = Self::default();
        traces.register(&mut lock(&metrics.registry));
        metrics
    }

    fn register(&self) {
        let mut registry = lock(&self.registry);
        registry.register_with_unit(
            "reconcile",
            "Time of one pass over a tenant",
            Unit::Seconds,
            self.reconcile.clone(),
        );
        registry.register_with_unit("part", "Time of one part of a pass", Unit::Seconds, self.steps.clone());
        registry.register("writes", "Changes sent to the API server and the backends", self.writes.clone());
        registry.register("drift_repairs", "Edits by others that were put back", self.repairs.clone());
        registry.register("errors", "Parts of a pass that failed", self.errors.clone());
        registry.register(
            "leftovers",
            "Parts of deleted tenants that could not be removed",
            self.leftovers.clone(),
        );
        registry.register("tenants", "Tenants by the status of their Ready condition", self.tenants.clone());
        registry.register("leading", "1 when this replica leads", self.leading.clone());
    }

    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconcile.get_or_create(&ReconcileLabels { result }).observe(took.as_secs_f64());
    }

    pub fn part_took(&self, part: &'static str, took: Duration) {
        self.steps.get_or_create(&PartLabels { part }).observe(took.as_secs_f64());
    }

    pub fn wrote(&self, target: &'static str, verb: &'static str) {
        self.writes.get_or_create(&WriteLabels { target, verb }).inc();
    }

    pub fn repaired(&self, part: &'static str) {
        self.repairs.get_or_create(&PartLabels { part }).inc();
    }

    pub fn failed(&self, part: &'static str, reason: &'static str) {
        self.errors.get_or_create(&ErrorLabels { part, reason }).inc();
    }

    pub fn left_behind(&self, part: &'static str) {
        self.leftovers.get_or_create(&PartLabels { part }).inc();
    }

    pub fn set_tenants(&self, ready: usize, not_ready: usize) {
        for (result, tenants) in [("ready", ready), ("not_ready", not_ready)] {
            let tenants = i64::try_from(tenants).unwrap_or(i64::MAX);
            self.tenants.get_or_create(&ReconcileLabels { result }).set(tenants);
        }
    }

    pub fn set_leading(&self, leading: bool) {
        self.leading.set(leading.into());
    }

    /// Shows which tenants have a place, and which of them are Ready, from now on.
    pub(crate) fn show(&self, fleet: Arc<RwLock<Fleet>>) {
        lock(&self.registry).register_collector(Box::new(Tenants(fleet)));
    }

    /// Returns all metrics in the OpenMetrics text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &lock(&self.registry)).expect("writing to a String cannot fail");
        text
    }
}

/// Reads the fleet at each scrape. It is what says on which cell a tenant is: services do not know theirs.
#[derive(Debug)]
struct Tenants(Arc<RwLock<Fleet>>);

impl Collector for Tenants {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 while a tenant that has a place on a cell is Ready, 0 while it is not.";
        let mut encoder = encoder.encode_descriptor("tenant_ready", help, None, MetricType::Gauge)?;
        for (tenant, cell, is_ready) in read(&self.0).placed() {
            let labels = [("tenant", tenant), ("cell", cell)];
            let labelled = encoder.encode_family(&labels)?;
            ConstGauge::new(i64::from(is_ready)).encode(labelled)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Member;

    #[test]
    fn names_say_what_they_count() {
        let metrics = Metrics::default();
        metrics.wrote("kafka", "change");
        metrics.reconciled("ready", Duration::from_millis(7));
        let text = metrics.text();
        assert!(
            text.contains("posthouse_operator_writes_total{target=\"kafka\",verb=\"change\"} 1"),
            "{text}"
        );
        assert!(text.contains("posthouse_operator_reconcile_seconds_bucket"), "{text}");
    }

    #[test]
    fn a_tenant_is_shown_with_its_cell() {
        let tenant = |uid: &str, ready: &str| {
            let resource = serde_json::json!({
                "apiVersion": "messenger.posthouse.dev/v1alpha1",
                "kind": "MessengerTenant",
                "metadata": {"name": uid, "namespace": "test", "uid": uid},
                "spec": {"tenantId": uid, "cellRef": {"name": "local"}},
                "status": {"cell": "local", "conditions": [{"type": "Ready", "status": ready, "reason": "Any",
                    "message": "", "lastTransitionTime": "2026-11-28T00:00:00Z"}]},
            });
            Member::of(&serde_json::from_value(resource).expect("a tenant"))
        };
        let fleet: Fleet = [tenant("acme", "True"), tenant("globex", "False")].into_iter().collect();
        let metrics = Metrics::default();
        metrics.show(Arc::new(RwLock::new(fleet)));
        let text = metrics.text();
        for line in [
            "posthouse_operator_tenant_ready{tenant=\"acme\",cell=\"local\"} 1",
            "posthouse_operator_tenant_ready{tenant=\"globex\",cell=\"local\"} 0",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
