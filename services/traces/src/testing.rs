//! Spans and log lines that stay in memory.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::{error::OTelSdkResult, trace::SpanExporter};
use serde_json::Value;
use tracing::Subscriber;
use tracing_subscriber::{fmt, layer::Layer, registry::LookupSpan};

use crate::{Correlated, Origin, Ratio, Traces};

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

/// What was logged, in the lines of JSON that a process writes.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Returns what writes them.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let lines = self.clone();
        let json = fmt::layer().json().flatten_event(true).with_current_span(false);
        json.with_writer(move || lines.clone()).map_event_format(Correlated)
    }

    /// Returns the lines with this message.
    pub fn of(&self, message: &str) -> Vec<Value> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(text).expect("text");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        lines.filter(|line| line["message"] == message).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
