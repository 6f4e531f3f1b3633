//! What a span belongs to, within a process and on the way to another one.

use std::{
    fmt::{self, Display, Formatter},
    str,
};

use futures_util::{FutureExt as _, future::Either};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{FutureExt as _, SpanContext, SpanKind, TraceContextExt as _, TraceState, WithContext},
};

use crate::{Span, is_on};

/// The header that names the span behind a request or a record, in the form of W3C Trace Context.
pub const HEADER: &str = "traceparent";

/// A span that is recorded, as what belongs to it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parent {
    pub trace: TraceId,
    pub span: SpanId,
    /// Another process has it.
    pub is_remote: bool,
}

impl Parent {
    /// Reads the header of a process of ours: nothing when that trace is not recorded, or this process records none.
    pub fn received(header: &[u8]) -> Option<Self> {
        if !is_on() {
            return None;
        }
        parse(header).filter(|(_, flags)| flags.is_sampled()).map(|(parent, _)| parent)
    }

    /// Returns what a stranger names. It says nothing about what is recorded here, and nothing of ours belongs to it.
    pub fn named_by_stranger(header: &[u8]) -> Option<Self> {
        parse(header).map(|(parent, _)| parent)
    }

    /// Lets what belongs to it begin in this thread until the guard is dropped.
    pub fn enter(self) -> opentelemetry::ContextGuard {
        self.context().attach()
    }

    pub(crate) fn span_context(self) -> SpanContext {
        let Self { trace, span, is_remote } = self;
        SpanContext::new(trace, span, TraceFlags::SAMPLED, is_remote, TraceState::NONE)
    }

    fn context(self) -> Context {
        Context::new().with_remote_span_context(self.span_context())
    }
}

/// Writes the value of [`HEADER`].
impl Display for Parent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.trace, self.span)
    }
}

/// Returns the span that what begins here and now belongs to.
pub fn current() -> Option<Parent> {
    if !is_on() {
        return None;
    }
    Context::map_current(|context| {
        if !context.has_active_span() {
            return None;
        }
        let span = context.span();
        let of = span.span_context();
        Some(Parent { trace: of.trace_id(), span: of.span_id(), is_remote: of.is_remote() })
    })
}

/// Runs a future as a part of a span, where there is one. It holds the future once, as an async function would not: those of passes and requests are large, and
/// what belongs to a span is often within what belongs to another one.
pub fn within<F: Future>(parent: Option<Parent>, future: F) -> Either<WithContext<F>, F> {
    match parent {
        Some(parent) => Either::Left(future.with_context(parent.context())),
        None => Either::Right(future),
    }
}

/// Runs a future as a part of what is traced here and now, if anything is. The part begins with the call.
pub fn step<F: Future>(name: &'static str, future: F) -> impl Future<Output = F::Output> {
    let span = Span::child(current(), name, SpanKind::Internal);
    within(span.parent(), future).map(move |output| {
        drop(span);
        output
    })
}

/// Reads a header. Later versions may say more behind what this one says.
fn parse(header: &[u8]) -> Option<(Parent, TraceFlags)> {
    let mut parts = str::from_utf8(header).ok()?.split('-');
    let version = hex::<2>(parts.next()?)?;
    let (trace, span, flags) =
        (hex::<32>(parts.next()?)?, hex::<16>(parts.next()?)?, hex::<2>(parts.next()?)?);
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let is_valid = trace != TraceId::INVALID && span != SpanId::INVALID;
    is_valid.then_some((Parent { trace, span, is_remote: true }, flags))
}

/// Returns a text that is a number in so many digits of base 16, in lower case as the form wants it.
fn hex<const DIGITS: usize>(text: &str) -> Option<&str> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == DIGITS && text.bytes().all(is_digit)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    /// As in a pass or a request, where the stack of a thread would end.
    #[test]
    fn parts_within_parts_are_as_large_as_what_they_do() {
        let work = async {
            let room = [0_u8; 10_000];
            tokio::task::yield_now().await;
            room.len()
        };
        let alone = size_of_val(&work);
        let traced = step("outer", within(None, step("inner", within(None, work))));
        assert!(size_of_val(&traced) < alone + 1_000, "{} for {alone}", size_of_val(&traced));
    }

    #[test]
    fn a_header_is_read_as_it_is_written_and_nothing_else_is_one() {
        let written = format!("00-{TRACE}-{SPAN}-01");
        let (parent, flags) = parse(written.as_bytes()).expect("a header");
        assert_eq!((parent.to_string(), flags), (written, TraceFlags::SAMPLED));
        assert!(parent.is_remote);

        let later = format!("cc-{TRACE}-{SPAN}-00-what-comes");
        assert_eq!(parse(later.as_bytes()), Some((parent, TraceFlags::NOT_SAMPLED)));
        for wrong in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01\n"),
            "x".repeat(1 << 20),
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:.80}");
        }
        assert_eq!(parse(b"00-\xff-\xff-01"), None);
    }

    #[test]
    fn a_process_that_traces_nothing_believes_no_header() {
        assert_eq!(Parent::received(format!("00-{TRACE}-{SPAN}-01").as_bytes()), None);
        assert_eq!(current(), None);
    }
}
