//! Where the spans and log lines of `tracing` meet traces.

use std::{cell::RefCell, fmt};

use opentelemetry::ContextGuard;
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    fmt::{
        FmtContext,
        format::{FormatEvent, FormatFields, Writer},
    },
    layer::{Context, Layer},
    registry::LookupSpan,
};

use crate::{Span, SpanKind, current};

/// Makes a part of what is traced of each span of `tracing` that begins within it: the calls of stores are such spans. Only their names are kept, for their
/// fields say whose data it is.
#[derive(Clone, Copy, Debug)]
pub struct Steps;

thread_local! {
    /// The spans that this thread is in, the innermost one last.
    static ENTERED: RefCell<Vec<(Id, ContextGuard)>> = const { RefCell::new(Vec::new()) };
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Steps {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(parent) = current() else { return };
        if let Some(span) = context.span(id) {
            let step = Span::child(Some(parent), attributes.metadata().name(), SpanKind::Internal);
            span.extensions_mut().insert(step);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span.extensions().get::<Span>().and_then(Span::parent);
        if let Some(parent) = parent {
            ENTERED.with_borrow_mut(|entered| entered.push((id.clone(), parent.enter())));
        }
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        let left = ENTERED.with_borrow_mut(|entered| {
            let at = entered.iter().rposition(|(of, _)| of == id)?;
            Some(entered.remove(at))
        });
        drop(left);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(span) = context.span(&id) {
            drop(span.extensions_mut().remove::<Span>());
        }
    }
}

/// Writes lines of JSON, and says of those that are written within a span which one it is.
#[derive(Clone, Copy, Debug)]
pub struct Correlated<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for Correlated<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(parent) = current() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(fields) => {
                let (trace, span) = (parent.trace, parent.span);
                writeln!(writer, r#"{fields},"trace_id":"{trace}","span_id":"{span}"}}"#)
            }
            None => writer.write_str(&line),
        }
    }
}
