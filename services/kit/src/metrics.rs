//! Prometheus metrics, served at `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{encoding::text, registry::Registry};

/// The metrics of a process. Names get the prefix `posthouse_`. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Returns an empty registry whose metrics carry `service` and `tenant` labels.
    pub fn new(service: &'static str, tenant: &str) -> Self {
        let labels = [("service".into(), service.into()), ("tenant".into(), tenant.to_owned().into())];
        let registry = Registry::with_prefix_and_labels("posthouse", labels.into_iter());
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Registers metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = text::encode(&mut out, &registry) {
            tracing::error!(%error, "failed to encode metrics");
        }
        out
    }
}
