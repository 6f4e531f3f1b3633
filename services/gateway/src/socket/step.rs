//! How commands go on, from one step to the next.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use contracts::{DeviceId, wire::Ack};
use futures_util::{FutureExt as _, future::BoxFuture};
use kit::traces::{Outcome, Parent, Running, Timing, within};

use super::sending::Sending;
use crate::domain::{
    answer::{Answer, Refusal},
    session::{Lane, TokenRefusal, VerifiedToken},
};

/// How a command goes on.
pub(super) enum Step {
    /// It is over and has no answer.
    Nothing,
    Answer(Answer),
    /// `connect` is over: the session decides.
    Connected(DeviceId, Result<VerifiedToken, TokenRefusal>),
    /// `refresh` is over: the session decides.
    Refreshed(Result<VerifiedToken, TokenRefusal>),
    /// The next step is not known yet. No further command is read, so that the order of commands is the order of their
    /// effects.
    Undecided(BoxFuture<'static, Step>),
    /// The answer comes later; further commands are read meanwhile.
    Pending(Pending),
}

impl Step {
    /// Notes how the command ends, and when. It is one that is answered at once or asks others.
    pub(super) fn timed(self, running: Running<impl FnOnce(Timing) + Send + 'static>) -> Self {
        match self {
            Self::Answer(answer) => {
                running.end(outcome_of(&answer));
                Self::Answer(answer)
            }
            Self::Pending(Pending::Query(answer)) => {
                let answer = answer.inspect(|answer| running.end(outcome_of(answer)));
                Self::Pending(Pending::Query(Box::pin(answer)))
            }
            step => step,
        }
    }

    /// Lets what the command goes on with be a part of a span.
    pub(super) fn within(self, parent: Parent) -> Self {
        match self {
            Self::Undecided(step) => {
                Self::Undecided(Box::pin(async move { within(Some(parent), step).await.within(parent) }))
            }
            Self::Pending(Pending::Query(answer)) => {
                Self::Pending(Pending::Query(Box::pin(within(Some(parent), answer))))
            }
            // It is in the log's hands.
            step => step,
        }
    }
}

/// An answer that comes later.
pub(super) enum Pending {
    /// Not boxed like the others: this is the way of every message.
    Send(Sending),
    Query(BoxFuture<'static, Answer>),
}

impl Pending {
    pub(super) const fn lane(&self) -> Lane {
        match self {
            Self::Send(Sending { ack: Ack::Accepted, .. }) => Lane::Sends,
            Self::Send(Sending { ack: Ack::Stored, .. }) => Lane::QuietSends,
            Self::Query(_) => Lane::Queries,
        }
    }
}

impl Future for Pending {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.get_mut() {
            Self::Send(sending) => sending.poll_unpin(cx),
            Self::Query(answer) => answer.poll_unpin(cx),
        }
    }
}

fn outcome_of(answer: &Answer) -> Outcome {
    answer.as_ref().map_or_else(Refusal::outcome, |_| Outcome::Answered)
}

pub(super) fn refused(refusal: Refusal) -> Step {
    Step::Answer(Err(refusal))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use contracts::{
        ErrorCode,
        wire::{self, Empty},
    };
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_sync_counts_as_what_it_comes_to() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let run = |step: Step| {
            if let Step::Pending(pending) = step.timed(metrics.syncing()) {
                drop(pending.now_or_never());
            }
        };
        let query = |answer: Answer| Step::Pending(Pending::Query(Box::pin(ready(answer))));
        run(query(Ok(wire::Outcome::Accepted(Empty {}))));
        run(query(Err(Refusal::new(ErrorCode::CursorExpired, ""))));
        run(query(Err(Refusal::new(ErrorCode::Unavailable, ""))));
        run(refused(Refusal::new(ErrorCode::InvalidArgument, "")));
        // The process has no room for another page.
        run(refused(Refusal::new(ErrorCode::RateLimited, "")));
        // Its client is gone.
        run(Step::Pending(Pending::Query(Box::pin(pending()))));

        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        for (outcome, count) in [("answered", 1), ("refused", 2), ("failed", 2), ("abandoned", 1)] {
            let line = format!("sync_seconds_count{{outcome=\"{outcome}\"}} {count}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
}
