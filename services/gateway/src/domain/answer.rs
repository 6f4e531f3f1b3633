//! Answers to commands.

use std::borrow::Cow;

use contracts::{
    ErrorCode,
    wire::{Outcome, ServerFrame, WireError},
};

/// The time that a client waits after a temporary refusal.
const RETRY_AFTER_MS: u32 = 1_000;

/// What a command comes to.
pub(crate) type Answer = Result<Outcome, Refusal>;

/// Why a command is refused, as the client reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    detail: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Returns the frame that carries an answer to the command with this id.
pub(crate) fn frame(id: Option<u32>, answer: Answer) -> Box<ServerFrame> {
    Box::new(match answer {
        Ok(outcome) => ServerFrame { id, result: Some(outcome), ..ServerFrame::default() },
        Err(refusal) => ServerFrame { id, error: Some(error(refusal)), ..ServerFrame::default() },
    })
}

fn error(Refusal { code, detail }: Refusal) -> WireError {
    let temporary = code.is_temporary();
    WireError {
        code,
        detail: detail.into_owned(),
        temporary,
        retry_after_ms: temporary.then_some(RETRY_AFTER_MS),
    }
}
