//! From spans that ended to a collector.
//!
//! The end of a span waits for nothing. What a slow collector does not take in time fills the queue, and what does not fit into the queue is
//! dropped and counted.

use std::{fmt::Display, mem, time::Duration};

use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Spans that wait, of some 500 bytes each with what they say: 2 MB.
const MAX_WAITING: usize = 4_096;
/// Spans of one request to the collector.
const MAX_BATCH: usize = 512;
/// What ends within this goes together.
const GATHER: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// What becomes of spans.
#[derive(Clone)]
pub(crate) struct Outcomes {
    spans: Family<OutcomeLabels, Counter>,
    exported: Counter,
    dropped: Counter,
    failed: Counter,
}

impl Default for Outcomes {
    fn default() -> Self {
        let spans = Family::<OutcomeLabels, Counter>::default();
        let counter = |outcome| spans.get_or_create(&OutcomeLabels { outcome }).clone();
        let (exported, dropped, failed) = (counter("exported"), counter("dropped"), counter("failed"));
        Self { spans, exported, dropped, failed }
    }
}

impl Outcomes {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Spans by what became of them: exported, dropped because too many waited, or failed because the collector did not take them";
        registry.register("trace_spans", help, self.spans.clone());
    }
}

/// Takes spans that ended.
pub(crate) struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Counter,
}

impl Queue {
    /// Returns the queue and its other end, for [`send`].
    pub(crate) fn new(outcomes: Outcomes) -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, receiver) = mpsc::channel(MAX_WAITING);
        (Self { spans, dropped: outcomes.dropped }, receiver)
    }

    pub(crate) fn put(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

/// Sends spans until stopped, and then what is left of them. A batch that is not taken within `limit` is given up.
pub(crate) async fn send(
    mut spans: mpsc::Receiver<SpanData>,
    exporter: impl SpanExporter,
    outcomes: Outcomes,
    stop: CancellationToken,
    limit: Duration,
) {
    let (mut batch, mut is_refused) = (Vec::with_capacity(MAX_BATCH), false);
    loop {
        let taken = tokio::select! {
            taken = spans.recv_many(&mut batch, MAX_BATCH) => taken,
            () = stop.cancelled(), if !spans.is_closed() => {
                spans.close();
                continue;
            }
        };
        if taken == 0 {
            return;
        }
        if taken < MAX_BATCH {
            tokio::select! {
                () = sleep(GATHER) => {}
                () = stop.cancelled() => {}
            }
            while batch.len() < MAX_BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
        }
        let count = batch.len() as u64;
        let batch = mem::replace(&mut batch, Vec::with_capacity(MAX_BATCH));
        let refusal = match timeout(limit, exporter.export(batch)).await {
            Ok(Ok(())) => {
                outcomes.exported.inc_by(count);
                if mem::take(&mut is_refused) {
                    tracing::info!("the collector takes spans again");
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        outcomes.failed.inc_by(count);
        if !mem::replace(&mut is_refused, true) {
            warn(&refusal);
        }
    }
}

/// Says once for each outage that spans are lost.
fn warn(refusal: &impl Display) {
    tracing::warn!(%refusal, "the collector takes no spans: {refusal}; they are lost, and counted");
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering},
        },
        time::UNIX_EPOCH,
    };

    use opentelemetry::{
        InstrumentationScope, SpanId,
        trace::{SpanContext, SpanKind, Status},
    };
    use opentelemetry_sdk::{
        error::{OTelSdkError, OTelSdkResult},
        trace::{SpanEvents, SpanLinks},
    };
    use tokio::sync::Semaphore;

    use super::*;

    /// Longer than anything takes here.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A collector that answers once for each permit.
    #[derive(Clone, Debug)]
    struct Collector {
        permits: Arc<Semaphore>,
        refuses: Arc<AtomicBool>,
        /// Has a permit for each batch that was refused.
        asked: Arc<Semaphore>,
        /// Sizes of those that were taken.
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl Collector {
        fn new() -> Self {
            let none = || Arc::new(Semaphore::new(0));
            Self { permits: none(), refuses: Arc::default(), asked: none(), batches: Arc::default() }
        }

        fn refuses(&self, refuses: bool) {
            self.refuses.store(refuses, Ordering::Relaxed);
        }
    }

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.permits.acquire().await.expect("it stays open").forget();
            if self.refuses.load(Ordering::Relaxed) {
                self.asked.add_permits(1);
                return Err(OTelSdkError::InternalFailure("it is full".to_owned()));
            }
            self.batches.lock().expect("no panic").push(batch.len());
            Ok(())
        }
    }

    fn span() -> SpanData {
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "test".into(),
            start_time: UNIX_EPOCH,
            end_time: UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    fn counts(outcomes: &Outcomes) -> [u64; 3] {
        [&outcomes.exported, &outcomes.dropped, &outcomes.failed].map(Counter::get)
    }

    #[tokio::test]
    async fn a_collector_that_hangs_holds_nobody_up_and_what_it_costs_is_counted() {
        let (outcomes, stop, collector) = (Outcomes::default(), CancellationToken::new(), Collector::new());
        let (queue, spans) = Queue::new(outcomes.clone());
        for _ in 0..MAX_WAITING + 7 {
            queue.put(span());
        }
        assert_eq!(counts(&outcomes), [0, 7, 0], "no span waited for room");
        stop.cancel();
        send(spans, collector.clone(), outcomes.clone(), stop, Duration::from_millis(1)).await;
        assert_eq!(counts(&outcomes), [0, 7, MAX_WAITING as u64], "each batch was given up in its time");
        queue.put(span());
        assert_eq!(counts(&outcomes), [0, 8, MAX_WAITING as u64], "there is no sender");
    }

    #[tokio::test]
    async fn a_collector_that_refuses_costs_a_batch_and_what_comes_later_arrives() {
        let (outcomes, stop, collector) = (Outcomes::default(), CancellationToken::new(), Collector::new());
        let (queue, spans) = Queue::new(outcomes.clone());
        collector.refuses(true);
        let sending = send(spans, collector.clone(), outcomes.clone(), stop.clone(), PATIENCE);
        let sending = tokio::spawn(sending);
        queue.put(span());
        collector.permits.add_permits(1);
        collector.asked.acquire().await.expect("it stays open").forget();
        collector.refuses(false);
        collector.permits.add_permits(100);
        for _ in 0..=MAX_BATCH {
            queue.put(span());
        }
        stop.cancel();
        sending.await.expect("no panic");
        assert_eq!(counts(&outcomes), [MAX_BATCH as u64 + 1, 0, 1], "none is lost at the end");
        let batches = collector.batches.lock().expect("no panic").clone();
        assert!(batches.iter().all(|batch| *batch <= MAX_BATCH), "{batches:?}");
    }
}
