//! What the operator counts. A steady tenant adds to reconciles and reads, and to nothing else.

use std::{
    collections::HashMap,
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
        histogram::exponential_buckets,
    },
    registry::{Registry, Unit},
};
use traces::{Parent, TracedHistogram, Traces};

use crate::{
    certificates::Expiries,
    fleet::{Counts, Fleet, Readiness},
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    answer: &'static str,
}

/// The operator's metrics, all named `posthouse_operator_...`.
pub struct Metrics {
    registry: Mutex<Registry>,
    reconcile: Family<ReconcileLabels, TracedHistogram>,
    steps: Family<PartLabels, TracedHistogram>,
    writes: Family<WriteLabels, Counter>,
    repairs: Family<PartLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    leftovers: Family<PartLabels, Counter>,
    wake_requests: Family<AnswerLabels, Counter>,
    wakes: Counter,
    tenants: Family<ReconcileLabels, Gauge>,
    leading: Gauge,
    expiries: Arc<Mutex<Expiries>>,
}

impl Default for Metrics {
    fn default() -> Self {
        // 5 ms (nothing to do) to 40 s (a realm on a busy machine).
        let histogram: fn() -> TracedHistogram = || TracedHistogram::new(exponential_buckets(0.005, 2.0, 14));
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("posthouse_operator")),
            reconcile: Family::new_with_constructor(histogram),
            steps: Family::new_with_constructor(histogram),
            writes: Family::default(),
            repairs: Family::default(),
            errors: Family::default(),
            leftovers: Family::default(),
            wake_requests: Family::default(),
            wakes: Counter::default(),
            tenants: Family::default(),
            leading: Gauge::default(),
            expiries: Arc::default(),
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
        registry.register(
            "wake_requests",
            "Requests for tenants that sleep or wake, by what they were answered",
            self.wake_requests.clone(),
        );
        registry.register("wakes", "Suspended tenants that a request woke", self.wakes.clone());
        registry.register("tenants", "Tenants by the status of their Ready condition", self.tenants.clone());
        registry.register("leading", "1 when this replica leads", self.leading.clone());
    }

    /// Counts a pass. `of` is its span, where it is traced.
    pub fn reconciled(&self, result: &'static str, took: Duration, of: Option<Parent>) {
        self.reconcile.get_or_create(&ReconcileLabels { result }).observe(took, of);
    }

    /// Counts a part of a pass. `of` is the span that it belongs to, where the pass is traced.
    pub fn part_took(&self, part: &'static str, took: Duration, of: Option<Parent>) {
        self.steps.get_or_create(&PartLabels { part }).observe(took, of);
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

    pub fn asked_to_wake(&self, answer: &'static str) {
        self.wake_requests.get_or_create(&AnswerLabels { answer }).inc();
    }

    pub fn woken(&self) {
        self.wakes.inc();
    }

    pub(crate) fn set_tenants(&self, counts: Counts) {
        let Counts { ready, not_ready, suspended } = counts;
        for (result, tenants) in [("ready", ready), ("not_ready", not_ready), ("suspended", suspended)] {
            let tenants = i64::try_from(tenants).unwrap_or(i64::MAX);
            self.tenants.get_or_create(&ReconcileLabels { result }).set(tenants);
        }
    }

    pub fn set_leading(&self, leading: bool) {
        self.leading.set(leading.into());
    }

    /// Notes when the first certificate of a tenant's hosts ends, in seconds since the epoch; `None` for hosts without one.
    pub(crate) fn hosts_expire(&self, tenant: &str, at: Option<i64>) {
        note(&mut lock(&self.expiries).hosts, tenant, at);
    }

    /// Notes when the first certificate ends that a cell trusts; `None` for a cell that names none, or is gone.
    pub(crate) fn trusted_expire(&self, cell: &str, at: Option<i64>) {
        note(&mut lock(&self.expiries).trusted, cell, at);
    }

    /// Shows which tenants have a place, which of them are Ready, and when their certificates end, from now on.
    pub(crate) fn show(&self, fleet: Arc<RwLock<Fleet>>) {
        let tenants = Tenants { fleet, expiries: self.expiries.clone() };
        lock(&self.registry).register_collector(Box::new(tenants));
    }

    /// Returns all metrics in the OpenMetrics text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &lock(&self.registry)).expect("writing to a String cannot fail");
        text
    }
}

fn note(expiries: &mut HashMap<String, i64>, of: &str, at: Option<i64>) {
    match at {
        Some(at) => expiries.insert(of.to_owned(), at),
        None => expiries.remove(of),
    };
}

/// Reads the fleet at each scrape. It is what says on which cell a tenant is: services do not know theirs.
#[derive(Debug)]
struct Tenants {
    fleet: Arc<RwLock<Fleet>>,
    expiries: Arc<Mutex<Expiries>>,
}

impl Collector for Tenants {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 while a tenant that has a place on a cell is Ready, 0 while it is not; none while it is suspended.";
        let mut ready = encoder.encode_descriptor("tenant_ready", help, None, MetricType::Gauge)?;
        let fleet = read(&self.fleet);
        for (tenant, cell, readiness) in fleet.placed() {
            let is_ready: i64 = match readiness {
                Readiness::Ready => 1,
                Readiness::NotReady => 0,
                // It is as it should be: no alert is about it.
                Readiness::Suspended => continue,
            };
            let labels = [("tenant", tenant), ("cell", cell)];
            let labelled = ready.encode_family(&labels)?;
            ConstGauge::new(is_ready).encode(labelled)?;
        }
        let expiries = lock(&self.expiries);
        let help = "When the first certificate ends that the hosts of a tenant were last seen with, as a Unix timestamp.";
        let mut hosts = encoder.encode_descriptor(
            "certificate_expiry_timestamp",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (tenant, cell, _) in fleet.placed() {
            // A tenant that is gone is in no fleet.
            if let Some(at) = expiries.hosts.get(tenant) {
                let labels = [("tenant", tenant), ("cell", cell)];
                ConstGauge::new(*at).encode(hosts.encode_family(&labels)?)?;
            }
        }
        let help = "When the first certificate ends that a cell trusts, as a Unix timestamp.";
        let mut trusted = encoder.encode_descriptor(
            "trusted_expiry_timestamp",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (cell, at) in &expiries.trusted {
            let labels = [("cell", cell.as_str())];
            ConstGauge::new(*at).encode(trusted.encode_family(&labels)?)?;
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
        metrics.reconciled("ready", Duration::from_millis(7), None);
        let text = metrics.text();
        assert!(
            text.contains("posthouse_operator_writes_total{target=\"kafka\",verb=\"change\"} 1"),
            "{text}"
        );
        assert!(text.contains("posthouse_operator_reconcile_seconds_bucket"), "{text}");
    }

    fn tenant(uid: &str, ready: &str) -> Member {
        tenant_because(uid, ready, "Any")
    }

    fn tenant_because(uid: &str, ready: &str, reason: &str) -> Member {
        let resource = serde_json::json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1",
            "kind": "MessengerTenant",
            "metadata": {"name": uid, "namespace": "test", "uid": uid},
            "spec": {"tenantId": uid, "cellRef": {"name": "local"}},
            "status": {"cell": "local", "conditions": [{"type": "Ready", "status": ready, "reason": reason,
                "message": "", "lastTransitionTime": "2026-11-28T00:00:00Z"}]},
        });
        Member::of(&serde_json::from_value(resource).expect("a tenant"))
    }

    #[test]
    fn an_end_of_a_certificate_is_shown_while_its_tenant_or_cell_is_there() {
        let fleet: Fleet = [tenant("acme", "True"), tenant("globex", "True")].into_iter().collect();
        let metrics = Metrics::default();
        metrics.show(Arc::new(RwLock::new(fleet)));
        for gone in ["globex", "initech"] {
            metrics.hosts_expire(gone, Some(1));
        }
        metrics.hosts_expire("globex", None);
        metrics.hosts_expire("acme", Some(1));
        metrics.hosts_expire("acme", Some(1_893_553_445));
        metrics.trusted_expire("local", Some(2_840_238_245));
        metrics.trusted_expire("other", Some(1));
        metrics.trusted_expire("other", None);
        let text = metrics.text();
        let ends: Vec<_> = text.lines().filter(|line| line.contains("_expiry_timestamp_seconds{")).collect();
        assert_eq!(
            ends,
            [
                r#"posthouse_operator_certificate_expiry_timestamp_seconds{tenant="acme",cell="local"} 1893553445"#,
                r#"posthouse_operator_trusted_expiry_timestamp_seconds{cell="local"} 2840238245"#,
            ]
        );
    }

    #[test]
    fn a_tenant_is_shown_with_its_cell() {
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

    #[test]
    fn a_suspended_tenant_is_neither_ready_nor_the_matter_of_an_alert() {
        let fleet: Fleet = [tenant_because("acme", "False", "Suspended")].into_iter().collect();
        let metrics = Metrics::default();
        metrics.set_tenants(fleet.counts());
        metrics.show(Arc::new(RwLock::new(fleet)));
        let text = metrics.text();
        for (result, expected) in [("ready", 0), ("not_ready", 0), ("suspended", 1)] {
            let line = format!("posthouse_operator_tenants{{result=\"{result}\"}} {expected}");
            assert!(text.contains(&line), "{text}");
        }
        assert!(!text.contains("posthouse_operator_tenant_ready{"), "{text}");
    }
}
