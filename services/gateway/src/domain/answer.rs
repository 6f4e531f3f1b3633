//! Answers to commands.

use std::{borrow::Cow, time::Duration};

use contracts::{
    ErrorCode,
    wire::{self, RequestId, ServerFrame, WireError},
};
use kit::{error::ApiError, traces::Outcome};

/// The time that a client waits after a temporary refusal that names no other.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a command comes to.
pub(crate) type Answer = Result<wire::Outcome, Refusal>;

/// Why a command is refused, as the client reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    detail: Cow<'static, str>,
    /// Set when the time to wait is known.
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), retry_after: None }
    }

    /// Returns the refusal of one request too many; there is room for it after this time.
    pub(crate) fn rate_limited(detail: &'static str, retry_after: Duration) -> Self {
        Self { code: ErrorCode::RateLimited, detail: detail.into(), retry_after: Some(retry_after) }
    }

    /// Returns the refusal of what may be repeated after this time.
    pub(crate) fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Returns how long a client waits that repeats it by itself; nothing for what stays refused.
    pub(crate) fn repeated_after(&self) -> Option<Duration> {
        self.code.is_temporary().then(|| self.retry_after.unwrap_or(RETRY_AFTER))
    }

    /// Returns how what was asked for has ended. What the server has no room for is no fault of the client.
    pub(crate) fn outcome(&self) -> Outcome {
        let has_no_room = self.code == ErrorCode::RateLimited && !self.is_for_its_rate();
        if self.code.is_fault() || has_no_room { Outcome::Failed } else { Outcome::Refused }
    }

    /// Returns whether the client sent more than it may. What the server has no room for is no fault of the client.
    pub(crate) fn is_for_its_rate(&self) -> bool {
        self.code == ErrorCode::RateLimited && self.retry_after.is_some()
    }
}

impl From<Refusal> for ApiError {
    fn from(Refusal { code, detail, retry_after }: Refusal) -> Self {
        let error = Self::new(code, detail);
        match retry_after {
            Some(wait) => error.after(wait),
            None => error,
        }
    }
}

/// Returns the frame that carries an answer to the command with this id.
pub(crate) fn frame(id: Option<RequestId>, answer: Answer) -> Box<ServerFrame> {
    Box::new(match answer {
        Ok(outcome) => ServerFrame { id, result: Some(outcome), ..ServerFrame::default() },
        Err(refusal) => ServerFrame { id, error: Some(error(refusal)), ..ServerFrame::default() },
    })
}

fn error(Refusal { code, detail, retry_after }: Refusal) -> WireError {
    let temporary = code.is_temporary();
    let retry_after = retry_after.or_else(|| temporary.then_some(RETRY_AFTER));
    // Rounded up: a client that is a millisecond early would be refused again.
    let milliseconds = retry_after.map(|wait| wait.as_nanos().div_ceil(1_000_000));
    WireError {
        code,
        detail: detail.into_owned(),
        temporary,
        retry_after_ms: milliseconds.map(|wait| u32::try_from(wait).unwrap_or(u32::MAX)),
    }
}
