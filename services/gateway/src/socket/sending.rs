//! An entry in the producer's queue.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use contracts::{
    ChatId, MessageKey, UserId,
    wire::{Ack, Empty, Outcome},
};
use futures_util::{
    FutureExt as _,
    future::{Join, OptionFuture},
};
use kit::{
    log::{Delivery, Undelivered},
    traces::Span,
};

use super::refusals::failed;
use crate::{
    domain::answer::Answer,
    error::GatewayError,
    membership::{Checked, Checking},
    registry::Connection,
    state::GatewayState,
};

/// An entry in the producer's queue. It is accepted when the log has it and its sender was in the chat.
pub(super) struct Sending {
    pub(super) gateway: Arc<GatewayState>,
    pub(super) connection: Arc<Connection>,
    pub(super) chat: ChatId,
    pub(super) sender: UserId,
    pub(super) key: MessageKey,
    pub(super) ack: Ack,
    pub(super) since: Instant,
    /// From the queue to the answer.
    pub(super) append: Span,
    pub(super) outcome: Join<Delivery, OptionFuture<Checking>>,
}

impl Future for Sending {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.outcome.poll_unpin(cx).map(|(delivered, checked)| self.answer(delivered, checked))
    }
}

impl Sending {
    fn answer(&self, delivered: Result<(), Undelivered>, checked: Option<Checked>) -> Answer {
        let Self { gateway, chat, .. } = self;
        gateway.metrics.produce_seconds.observe(self.since.elapsed(), self.append.parent());
        let outcome = match delivered {
            Err(Undelivered { error: source, .. }) => Err(GatewayError::Produce { chat: *chat, source }),
            Ok(()) => {
                gateway.outages.log.worked("the log of sends");
                match checked {
                    Some(checked) => gateway
                        .membership
                        .conclude(*chat, self.sender, checked)
                        .inspect(|()| gateway.outages.chat.worked("querying the chat service")),
                    None => Ok(()),
                }
            }
        };
        outcome.map(|()| Outcome::Accepted(Empty {})).map_err(|error| {
            self.connection.settled((*chat, self.key));
            let refusal = failed(gateway, &error);
            if let Some(wait) = refusal.repeated_after() {
                self.connection.hold_back((*chat, self.key), refusal.code, wait, Instant::now());
            }
            refusal
        })
    }
}
