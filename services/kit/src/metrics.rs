//! Prometheus metrics, served at `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{encoding::text, registry::Registry};

/// The metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("posthouse"))) }
    }
}

impl Metrics {
    /// Registers metrics of a service. Their names start with `posthouse_<service>_`, so that no two services describe one
    /// metric; their labels name the service and the tenant.
    pub fn register<T>(
        &self,
        service: catalog::Service,
        tenant: &str,
        add: impl FnOnce(&mut Registry) -> T,
    ) -> T {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let labels =
            [("service".into(), service.as_str().into()), ("tenant".into(), tenant.to_owned().into())];
        let labelled = registry.sub_registry_with_labels(labels.into_iter());
        add(labelled.sub_registry_with_prefix(service.as_str()))
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
