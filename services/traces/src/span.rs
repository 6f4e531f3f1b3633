//! A piece of work that is recorded.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceId, Value,
    trace::{Link, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::{Parent, traced};

/// Links of one span; what is beyond them is counted.
const MAX_LINKS: usize = 128;

/// A piece of work from its beginning until it is dropped. One that is not recorded is as small as a pointer, and all that is said about it is lost.
#[derive(Debug, Default)]
pub struct Span(Option<Box<SpanData>>);

impl Span {
    /// One that is not recorded.
    pub const NONE: Self = Self(None);

    /// Begins a trace, if this is one of those that are recorded.
    #[expect(
        clippy::disallowed_methods,
        reason = "an edge: which traces are recorded, and what they are called"
    )]
    pub fn root(name: &'static str, kind: SpanKind) -> Self {
        match traced() {
            Some(traced) if traced.ratio.takes(rand::random()) => {
                Self::begin(name.into(), kind, TraceId::from(rand::random::<u128>()), None)
            }
            Some(_) | None => Self::NONE,
        }
    }

    /// Begins a part of another span, if there is one.
    pub fn child(parent: Option<Parent>, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Self {
        match parent {
            Some(parent) => Self::begin(name.into(), kind, parent.trace, Some(parent)),
            None => Self::NONE,
        }
    }

    /// Begins what is done with a record of the log, as a part of the span that it was written in.
    pub fn of_record(parent: Parent, name: &'static str, partition: i32, offset: i64) -> Self {
        let mut span = Self::child(Some(parent), name, SpanKind::Consumer);
        span.set("partition", i64::from(partition));
        span.set("offset", offset);
        span
    }

    /// Begins a trace of what is done for several others at once, if one of them is recorded; it has links to them.
    #[expect(clippy::disallowed_methods, reason = "an edge: what a trace is called")]
    pub fn of_many(name: &'static str, kind: SpanKind, others: impl IntoIterator<Item = Parent>) -> Self {
        let mut others = others.into_iter().peekable();
        if others.peek().is_none() {
            return Self::NONE;
        }
        let mut span = Self::begin(name.into(), kind, TraceId::from(rand::random::<u128>()), None);
        others.for_each(|other| span.link(other));
        span
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: what a span is called, and when it began")]
    fn begin(name: Cow<'static, str>, kind: SpanKind, trace: TraceId, parent: Option<Parent>) -> Self {
        let (span, now) = (SpanId::from(rand::random::<u64>()), SystemTime::now());
        let of = Parent { trace, span, is_remote: false };
        Self(Some(Box::new(SpanData {
            span_context: of.span_context(),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.span),
            parent_span_is_remote: parent.is_some_and(|parent| parent.is_remote),
            span_kind: kind,
            name,
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("posthouse").build(),
        })))
    }

    /// Returns what parts of it begin with.
    pub fn parent(&self) -> Option<Parent> {
        let context = &self.0.as_ref()?.span_context;
        Some(Parent { trace: context.trace_id(), span: context.span_id(), is_remote: false })
    }

    /// Gives it a name that is known only now. The name is one of a few: no id is in it.
    pub fn rename(&mut self, name: impl FnOnce() -> Cow<'static, str>) {
        if let Some(span) = &mut self.0 {
            span.name = name();
        }
    }

    /// Says something about it. Nothing that a user wrote or is called, and no secret: traces have other readers.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.attributes.push(KeyValue::new(key, value));
        }
    }

    /// Says that it failed, and how: by a code, not by a message, which may say whose it was.
    pub fn fail(&mut self, code: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.0 {
            span.status = Status::error(code);
        }
    }

    /// Says that it has to do with another span, which it is not a part of.
    pub fn link(&mut self, to: Parent) {
        let Some(span) = &mut self.0 else { return };
        if span.links.links.len() < MAX_LINKS {
            span.links.links.push(Link::with_context(to.span_context()));
        } else {
            span.links.dropped_count += 1;
        }
    }

    /// Says that it began and ended at other times than it was made and dropped.
    pub fn took_place(mut self, from: SystemTime, to: SystemTime) {
        if let Some(mut span) = self.0.take() {
            (span.start_time, span.end_time) = (from, to);
            finish(*span);
        }
    }
}

impl Drop for Span {
    #[expect(clippy::disallowed_methods, reason = "an edge: when a span ended")]
    fn drop(&mut self) {
        if let Some(mut span) = self.0.take() {
            span.end_time = SystemTime::now();
            finish(*span);
        }
    }
}

/// Lets a span be sent. One that ends after the process stopped tracing is lost.
fn finish(span: SpanData) {
    if let Some(traced) = traced() {
        traced.queue.put(span);
    }
}
