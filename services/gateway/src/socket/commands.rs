//! What the commands do: the part of a connection that asks others.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use contracts::{
    DeviceId, ErrorCode,
    event::{EntryKind, SendRecord, VERSION},
    rpc,
    wire::{Connect, History, HistoryPage, Message, Send},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use kit::{
    auth::{Claims, TokenError},
    error::ServiceError as _,
    kafka::Delivery,
};
use rdkafka::error::KafkaError;

use super::{End, Socket};
use crate::{
    domain::session::{Action, Identity, Pass},
    error::GatewayError,
    membership::Audience,
    state::Gateway,
};

/// A page of history carries about this much text; the client asks for the rest, as `head_seq` tells it.
const PAGE_BYTES: usize = 128 * 1024;
/// What a message costs in a page beside its body: ids, names, numbers.
const ENTRY_BYTES: usize = 320;
/// A full page of the largest bodies as gRPC carries it: 500 times 16 KiB, and room.
const MAX_ANSWER_BYTES: usize = 12 * 1024 * 1024;

/// The outcome of a command that holds up the next one.
pub(super) enum Decision {
    Connect { id: u32, device: DeviceId, pass: Result<Pass, ErrorCode> },
    Refresh { id: u32, pass: Result<Pass, ErrorCode> },
    Send { id: u32, send: Send, audience: Result<Audience, GatewayError> },
}

/// A command whose answer is on its way.
pub(super) enum Pending {
    Send { id: u32, since: Instant, delivery: Delivery },
    History { id: u32, page: BoxFuture<'static, Result<HistoryPage, GatewayError>> },
}

/// The outcome of a [`Pending`].
pub(super) enum Done {
    Sent { id: u32, took: Duration, outcome: Result<(), KafkaError> },
    Queried { id: u32, page: Result<HistoryPage, GatewayError> },
}

impl Future for Pending {
    type Output = Done;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        match self.get_mut() {
            Self::Send { id, since, delivery } => delivery.poll_unpin(cx).map(|delivery| {
                let outcome = match delivery {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err((error, _))) => Err(error),
                    Err(_) => Err(KafkaError::Canceled),
                };
                Done::Sent { id: *id, took: since.elapsed(), outcome }
            }),
            Self::History { id, page } => page.poll_unpin(cx).map(|page| Done::Queried { id: *id, page }),
        }
    }
}

pub(super) fn connect(gateway: &Arc<Gateway>, id: u32, connect: Connect) -> BoxFuture<'static, Decision> {
    let verifier = gateway.verifier.clone();
    Box::pin(async move {
        let pass = pass(verifier.verify(&connect.token).await);
        Decision::Connect { id, device: connect.device, pass }
    })
}

pub(super) fn refresh(gateway: &Arc<Gateway>, id: u32, token: String) -> BoxFuture<'static, Decision> {
    let verifier = gateway.verifier.clone();
    Box::pin(async move { Decision::Refresh { id, pass: pass(verifier.verify(&token).await) } })
}

fn pass(verified: Result<Claims, TokenError>) -> Result<Pass, ErrorCode> {
    let claims = verified.map_err(|error| error.code())?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    Ok(Pass { user: claims.user_id, expires_in_seconds: claims.expires_at.saturating_sub(now) })
}

pub(super) fn history(gateway: &Arc<Gateway>, caller: Identity, id: u32, query: History) -> Pending {
    let gateway = gateway.clone();
    Pending::History { id, page: Box::pin(async move { page(&gateway, caller, query).await }) }
}

async fn page(gateway: &Gateway, caller: Identity, query: History) -> Result<HistoryPage, GatewayError> {
    let chat = query.chat;
    // Who may read is who may write.
    gateway.membership.audience(chat, caller.user).await?;
    let request = rpc::HistoryRequest {
        chat_id: chat.to_string(),
        after_seq: query.after,
        limit: query.limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or_default(),
    };
    let mut client = gateway.history.clone().max_decoding_message_size(MAX_ANSWER_BYTES);
    let answer = client
        .history(request)
        .await
        .map_err(|status| GatewayError::History { chat, source: Arc::new(status) })?
        .into_inner();
    let mut messages = Vec::with_capacity(answer.messages.len());
    let mut bytes = 0;
    for message in answer.messages {
        bytes += ENTRY_BYTES + message.body.len();
        if bytes > PAGE_BYTES && !messages.is_empty() {
            break;
        }
        messages.push(entry(message).ok_or(GatewayError::Entry { chat })?);
    }
    Ok(HistoryPage { chat, messages, head_seq: answer.head_seq })
}

fn entry(message: rpc::Message) -> Option<Message> {
    Some(Message {
        chat: message.chat_id.parse().ok()?,
        seq: message.seq,
        sender: message.sender_id.parse().ok()?,
        key: message.key.parse().ok()?,
        kind: EntryKind::parse(&message.kind)?,
        body: message.body,
        subject: match message.subject_id.as_str() {
            "" => None,
            id => Some(id.parse().ok()?),
        },
        sent_at_ms: message.sent_at_ms,
    })
}

impl Socket {
    /// Decides a send at once when the cache knows the sender, else asks; reading waits for that.
    pub(super) fn send(&mut self, id: u32, send: Send) -> Option<End> {
        let identity = self.connection.identity().expect("only a connected client gets here");
        if let Some(audience) = self.gateway.membership.cached_audience(send.chat, identity.user) {
            return self.produce(id, send, audience);
        }
        let membership = self.gateway.membership.clone();
        self.decision = Some(Box::pin(async move {
            let audience = membership.audience(send.chat, identity.user).await;
            Decision::Send { id, send, audience }
        }));
        None
    }

    fn produce(&mut self, id: u32, send: Send, audience: Audience) -> Option<End> {
        let action = self.enqueue(id, send, audience);
        self.act(action)
    }

    fn enqueue(&mut self, id: u32, send: Send, audience: Audience) -> Action {
        self.session.enqueued();
        let identity = self.connection.identity().expect("only a connected client gets here");
        let record = SendRecord {
            v: VERSION,
            chat: send.chat,
            sender: identity.user,
            device: identity.device,
            key: send.key,
            kind: EntryKind::Text,
            body: send.body,
            subject: None,
            audience,
        };
        match self.gateway.log.enqueue(&record) {
            Ok(delivery) => {
                self.pending.push(Pending::Send { id, since: Instant::now(), delivery });
                Action::Nothing
            }
            Err(source) => {
                let error = GatewayError::Produce { chat: record.chat, source };
                self.gateway.troubles.log.failed("the log of sends", &error);
                self.session.sent(id, Err(error.code()))
            }
        }
    }

    pub(super) fn decided(&mut self, now: Instant, decision: Decision) -> Action {
        match decision {
            Decision::Connect { id, device, pass } => self.session.connected(now, id, device, pass),
            Decision::Refresh { id, pass } => self.session.refreshed(now, id, pass),
            Decision::Send { id, send, audience } => match audience {
                Ok(audience) => {
                    self.gateway.troubles.chat.worked("asking the chat service");
                    self.enqueue(id, send, audience)
                }
                Err(error) => {
                    self.note(&error);
                    self.session.enqueued();
                    self.session.sent(id, Err(error.code()))
                }
            },
        }
    }

    pub(super) fn done(&mut self, done: Done) -> Action {
        match done {
            Done::Sent { id, took, outcome } => {
                self.gateway.metrics.produce_seconds.observe(took.as_secs_f64());
                if let Err(error) = &outcome {
                    self.gateway.troubles.log.failed("the log of sends", error);
                } else {
                    self.gateway.troubles.log.worked("the log of sends");
                }
                self.session.sent(id, outcome.map_err(|_| ErrorCode::Unavailable))
            }
            Done::Queried { id, page } => {
                match &page {
                    Ok(_) => self.gateway.troubles.history.worked("asking the message service"),
                    Err(error) => self.note(error),
                }
                self.session.queried(id, page.map_err(|error| error.code()))
            }
        }
    }

    fn note(&self, error: &GatewayError) {
        let troubles = &self.gateway.troubles;
        match error {
            GatewayError::NotAMember { .. } => {}
            GatewayError::Membership { .. } => troubles.chat.failed("asking the chat service", error),
            GatewayError::History { .. } | GatewayError::Entry { .. } => {
                troubles.history.failed("asking the message service", error);
            }
            GatewayError::Produce { .. } => troubles.log.failed("the log of sends", error),
        }
    }
}
