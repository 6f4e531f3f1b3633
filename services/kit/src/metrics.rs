//! Prometheus metrics, served at `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    extract::{Request, State},
    http::header,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use contracts::ErrorCode;
use prometheus_client::{encoding::text, registry::Registry};
use secrecy::SecretString;

use crate::{bearer, error::ApiError};

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

    /// Registers metrics of the process, `posthouse_process_<name>`, whatever services run in it.
    pub(crate) fn register_process(&self, tenant: &str, add: impl FnOnce(&mut Registry)) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let labelled = registry.sub_registry_with_label(("tenant".into(), tenant.to_owned().into()));
        add(labelled.sub_registry_with_prefix("process"));
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

/// Returns `/metrics`, for clients with the token where there is one: the metrics tell how a tenant fares, and not every
/// network keeps the pods of others from the port.
pub(crate) fn router(metrics: Metrics, token: Option<SecretString>) -> Router {
    Router::new()
        .route("/metrics", get(encoded))
        .layer(middleware::from_fn_with_state(token, require_token))
        .with_state(metrics)
}

async fn encoded(State(metrics): State<Metrics>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.encode())
}

async fn require_token(
    State(token): State<Option<SecretString>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match token {
        Some(token) if !bearer::presents(request.headers(), &token) => Err(ApiError::new(
            ErrorCode::Unauthenticated,
            "the token of the Secret <tenant>-metrics is required",
        )),
        Some(_) | None => Ok(next.run(request).await),
    }
}
