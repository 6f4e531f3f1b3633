//! How long something took, and how it ended.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use crate::{Parent, current};

/// How something ended that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Who asked has what they wanted.
    Answered,
    /// Who asked is at fault.
    Refused,
    /// Who was asked is at fault.
    Failed,
    /// Nobody waited for the end.
    Abandoned,
}

impl Outcome {
    /// Returns the value of the label `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What is known of something that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub outcome: Outcome,
    pub took: Duration,
    /// The span that it was a part of, where it is traced.
    pub of: Option<Parent>,
}

/// Runs a future, and notes how it ended and how long that took from the call on. One that is dropped before its end is noted as abandoned.
pub fn timed<F: Future>(
    future: F,
    outcome_of: impl FnOnce(&F::Output) -> Outcome,
    note: impl FnOnce(Timing),
) -> impl Future<Output = F::Output> {
    let running = Running::begin(note);
    future.inspect(move |output| running.end(outcome_of(output)))
}

/// Something that has not ended yet, and notes its end.
pub struct Running<N: FnOnce(Timing)> {
    since: Instant,
    of: Option<Parent>,
    outcome: Outcome,
    note: Option<N>,
}

impl<N: FnOnce(Timing)> Running<N> {
    /// Begins something, as a part of what is traced here and now.
    pub fn begin(note: N) -> Self {
        Self { since: Instant::now(), of: current(), outcome: Outcome::Abandoned, note: Some(note) }
    }

    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl<N: FnOnce(Timing)> Drop for Running<N> {
    fn drop(&mut self) {
        if let Some(note) = self.note.take() {
            note(Timing { outcome: self.outcome, took: self.since.elapsed(), of: self.of });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use super::*;

    #[test]
    fn what_ends_and_what_is_given_up_are_noted_once() {
        let noted = RefCell::new(Vec::new());
        let run = |result: Option<Result<u8, u8>>| {
            let future = async move {
                match result {
                    Some(result) => result,
                    None => pending().await,
                }
            };
            let outcome_of = |result: &Result<u8, u8>| match result {
                Ok(_) => Outcome::Answered,
                Err(0) => Outcome::Refused,
                Err(_) => Outcome::Failed,
            };
            timed(future, outcome_of, |timing| noted.borrow_mut().push(timing.outcome)).now_or_never()
        };
        for result in [Ok(7), Err(0), Err(1)] {
            assert_eq!(run(Some(result)), Some(result), "it is handed through");
        }
        assert_eq!(run(None), None);
        let expected = [Outcome::Answered, Outcome::Refused, Outcome::Failed, Outcome::Abandoned];
        assert_eq!(*noted.borrow(), expected);
    }
}
