//! Spans that stay in memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::{error::OTelSdkResult, trace::SpanExporter};

use crate::{Origin, Ratio, Traces};

/// The spans of a process, for as long as it runs.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl Kept {
    /// Begins to trace everything in this process, where nothing traces yet; called within a runtime.
    pub fn start(service: &str) -> (Self, Traces) {
        Self::start_with(service, Ratio::ALL)
    }

    /// Likewise, of a part of what begins here.
    pub fn start_with(service: &str, ratio: Ratio) -> (Self, Traces) {
        let kept = Self::default();
        let origin = Origin { service, version: "test", tenant: None, instance: None };
        let traces = Traces::to(kept.clone(), ratio, origin);
        assert!(crate::is_on(), "another test of this process traces: each is to have a process of its own");
        (kept, traces)
    }

    /// Returns the spans that ended.
    pub fn spans(&self) -> Vec<SpanData> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends tracing, and returns all spans.
    pub async fn end(self, traces: Traces) -> Vec<SpanData> {
        traces.end(Duration::from_secs(10)).await;
        self.spans()
    }
}

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
        Ok(())
    }
}
