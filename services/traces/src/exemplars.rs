//! Histograms that lead to traces.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use opentelemetry::TraceId;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder},
    metrics::{MetricType, TypedMetric, exemplar::HistogramWithExemplars},
};

use crate::Parent;

/// Durations in seconds. A bucket names the trace of the last one that fell into it and was traced, as an exemplar of OpenMetrics. What is not traced
/// leaves none, and costs what it would in a plain histogram and a lock.
#[derive(Clone, Debug)]
pub struct TracedHistogram(HistogramWithExemplars<Exemplar>);

impl TracedHistogram {
    pub fn new(buckets: impl IntoIterator<Item = f64>) -> Self {
        Self(HistogramWithExemplars::new(buckets.into_iter()))
    }

    /// Counts a duration. `of` is the span of what took so long, where that is traced.
    #[expect(clippy::disallowed_methods, reason = "an edge: when an exemplar was seen")]
    pub fn observe(&self, took: Duration, of: Option<Parent>) {
        let seen_at = of.map(|_| SystemTime::now());
        self.0.observe(took.as_secs_f64(), of.map(|of| Exemplar(of.trace)), seen_at);
    }
}

impl EncodeMetric for TracedHistogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

impl TypedMetric for TracedHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

/// A trace as a label. It becomes a text when it is scraped.
#[derive(Clone, Copy, Debug)]
struct Exemplar(TraceId);

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("trace_id", self.0.to_string())].encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::SpanId;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn a_bucket_leads_to_the_trace_of_what_fell_into_it_and_nowhere_when_that_is_not_traced() {
        let of = |trace: u128| {
            Some(Parent { trace: TraceId::from(trace), span: SpanId::from(1_u64), is_remote: false })
        };
        let histogram = TracedHistogram::new([0.5, 1.0]);
        let mut registry = Registry::default();
        registry.register("wait_seconds", "A wait", histogram.clone());
        histogram.observe(Duration::from_millis(250), None);
        histogram.observe(Duration::from_millis(750), of(6));
        histogram.observe(Duration::from_millis(625), of(7));
        histogram.observe(Duration::from_millis(625), None);
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        let buckets: Vec<_> = text.lines().filter(|line| line.contains("_bucket")).collect();
        let [fast, slow, all] = buckets[..] else { panic!("{text}") };
        assert_eq!(fast, r#"wait_seconds_bucket{le="0.5"} 1"#);
        let exemplar = format!(r#" # {{trace_id="{}7"}} 0.625 "#, "0".repeat(31));
        assert!(slow.starts_with(&format!(r#"wait_seconds_bucket{{le="1.0"}} 4{exemplar}"#)), "{slow}");
        assert_eq!(all, r#"wait_seconds_bucket{le="+Inf"} 4"#);
    }
}
