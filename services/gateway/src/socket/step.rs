//! How commands go on, from one step to the next.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use contracts::{DeviceId, wire::Ack};
use futures_util::{FutureExt as _, future::BoxFuture};
use kit::traces::{Parent, within};

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

pub(super) fn refused(refusal: Refusal) -> Step {
    Step::Answer(Err(refusal))
}
