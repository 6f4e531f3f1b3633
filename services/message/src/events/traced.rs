//! Spans of the records of a batch.
//!
//! The records of a batch are applied together, so each step of one that is traced takes as long as that step of all of them. The batch has a span of its own,
//! in a trace of its own, and links say which records were in it.

use std::time::SystemTime;

use kit::traces::{Parent, Span, SpanKind};

use crate::domain::Logged;

/// A batch, as far as it is traced: most are not at all.
pub(super) struct TracedBatch {
    /// Those that are traced, by their place in the batch, in its order.
    records: Vec<(usize, Span)>,
    /// It ends when the batch does.
    _batch: Span,
    /// When the step began that is under way. Without meaning where nothing is traced.
    since: SystemTime,
}

impl TracedBatch {
    /// Begins a batch of records, of which some belong to spans of who wrote them.
    pub(super) fn begin(partition: i32, records: &[Logged], traced: Vec<(usize, Parent)>) -> Self {
        if traced.is_empty() {
            return Self { records: Vec::new(), _batch: Span::NONE, since: SystemTime::UNIX_EPOCH };
        }
        let mut batch = Span::of_many("batch", SpanKind::Consumer, traced.iter().map(|(_, parent)| *parent));
        batch.set("partition", i64::from(partition));
        batch.set("records", i64::try_from(records.len()).unwrap_or(i64::MAX));
        let apply = |(at, parent): (usize, Parent)| {
            let mut span = Span::of_record(parent, "apply", partition, records[at].offset());
            if let Some(batch) = batch.parent() {
                span.link(batch);
            }
            (at, span)
        };
        let records = traced.into_iter().map(apply).collect();
        Self { records, _batch: batch, since: now() }
    }

    /// Says that a step ended. The next one begins.
    pub(super) fn step(&mut self, name: &'static str) {
        if self.records.is_empty() {
            return;
        }
        let now = now();
        for (_, span) in &self.records {
            Span::child(span.parent(), name, SpanKind::Internal).took_place(self.since, now);
        }
        self.since = now;
    }

    /// Returns the span that each announcement of the batch belongs to, in their order; an empty list where none does.
    pub(super) fn of_announcements(&self, records: &[Logged]) -> Vec<Option<Parent>> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let mut traced = self.records.iter().peekable();
        let of = |(at, logged): (usize, &Logged)| {
            let span = traced.next_if(|(of, _)| *of == at).and_then(|(_, span)| span.parent());
            logged.is_answered().then_some(span)
        };
        records.iter().enumerate().filter_map(of).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: when the step of a span began")]
fn now() -> SystemTime {
    SystemTime::now()
}
