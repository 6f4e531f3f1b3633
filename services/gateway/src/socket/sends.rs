//! What members add to a chat's log: messages, and what changes them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    event::{EntryKind, SendRecord, SeqRange, VERSION},
    rpc,
    wire::{Changes, Forward, MAX_PINS, Message},
};
use futures_util::future::join;
use kit::{
    error::ServiceError as _,
    traces::{Parent, Span, SpanKind, current},
};
use tonic::Code;

use super::{
    refusals::{beyond, failed},
    sending::Sending,
    step::{Pending, Step, refused},
    turns,
};
use crate::{
    domain::{
        answer::Refusal,
        draft::{Blocker, Draft},
        session::Identity,
        slow_mode::Turn,
    },
    error::GatewayError,
    membership::{Called, Checking},
    registry::Connection,
    state::GatewayState,
};

/// Produces what a member sends. Who is not known to be one is checked before, everyone else meanwhile: what comes behind
/// the removal of its sender is refused by the log.
pub(super) fn send(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    draft: Draft,
) -> Step {
    if let Err(refusal) = draft.check() {
        return refused(refusal);
    }
    let now = Instant::now();
    if let Some((code, wait)) = connection.is_behind(draft.chat, draft.key, now) {
        let detail = "it comes behind a message of this chat that was refused; repeat that one first";
        return refused(Refusal::new(code, detail).after(wait));
    }
    // Before the look-up: one of a chat that the caller is not in costs as much as a message.
    if let Err(exceeded) = gateway.rates.take_user(caller.user, draft.bytes(), now) {
        return held(connection, (draft.chat, draft.key), beyond(gateway, exceeded));
    }
    if draft.stands_alone()
        && let Some((checking, wait)) = gateway.membership.begin_check(draft.chat, caller.user)
    {
        let (called, checking) = (Called::default(), Some(checking));
        let reviewed = Reviewed { draft, moderates: false, called, wait, checking };
        return produce(gateway, connection, caller, reviewed);
    }
    let (gateway, connection) = (gateway.clone(), connection.clone());
    let (chat, key) = (draft.chat, draft.key);
    Step::Undecided(Box::pin(async move {
        match review(&gateway, caller.user, draft).await {
            Ok(reviewed) => produce(&gateway, &connection, caller, reviewed),
            Err(error) => held(&connection, (chat, key), failed(&gateway, &error)),
        }
    }))
}

/// Refuses a send. When the client will repeat it, what comes behind it in the chat waits for that.
pub(super) fn held(connection: &Connection, send: (ChatId, MessageKey), refusal: Refusal) -> Step {
    if let Some(wait) = refusal.repeated_after() {
        connection.hold_back(send, refusal.code, wait, Instant::now());
    }
    refused(refusal)
}

/// Sends the text of a message that the caller reads, and the files that it carries: who may read the message may show them to others.
pub(super) fn forward(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    forward: Forward,
) -> Step {
    if forward.from_seq < 1 {
        return refused(Refusal::new(ErrorCode::InvalidArgument, "a message has a seq of 1 or more"));
    }
    let (gateway, connection) = (gateway.clone(), connection.clone());
    let (chat, key) = (forward.chat, forward.key);
    Step::Undecided(Box::pin(async move {
        match source(&gateway, caller.user, &forward).await {
            Ok(message) => send(&gateway, &connection, caller, Draft::forwarded(&forward, message)),
            Err(error) => held(&connection, (chat, key), failed(&gateway, &error)),
        }
    }))
}

/// Reads the message that is forwarded, as the caller does.
async fn source(gateway: &GatewayState, sender: UserId, forward: &Forward) -> Result<Message, GatewayError> {
    let Forward { chat, key, from_chat, from_seq: seq } = *forward;
    let no_source = GatewayError::NoSource { chat: from_chat, seq };
    let read = Read { chat: from_chat, seq, key: Some((chat, key)), count_pins: false };
    let found = read.entry(gateway, sender).await.map_err(|error| match error {
        GatewayError::NotAMember { .. } | GatewayError::NoTarget { .. } => no_source,
        error => error,
    })?;
    let Message { kind, expired, ref changes, .. } = found.message;
    if kind == EntryKind::Text && changes.deleted_seq.is_none() && !expired {
        return Ok(found.message);
    }
    // The log answers it as it did before, whatever became of the source since.
    let gone = Message {
        kind: EntryKind::Text,
        body: String::new(),
        attachments: Vec::new(),
        changes: Changes::default(),
        ..found.message
    };
    if found.is_key_known { Ok(gone) } else { Err(GatewayError::NoSource { chat: from_chat, seq }) }
}

/// An entry that may be produced.
struct Reviewed {
    draft: Draft,
    called: Called,
    /// Whether the sender may delete what others wrote, and does.
    moderates: bool,
    /// How long the sender waits between two texts.
    wait: Duration,
    /// The check of the sender, when it is not concluded.
    checking: Option<Checking>,
}

/// Checks the sender, and the message that the entry speaks of. What is refused for good and stored already passes: its sender is not to believe
/// that it is not, and the log answers with its seq, whatever became since of the sender and of what it speaks of.
async fn review(gateway: &GatewayState, sender: UserId, mut draft: Draft) -> Result<Reviewed, GatewayError> {
    let error = match decide(gateway, sender, &mut draft).await {
        Ok(decided) => {
            let Decided { moderates, called, wait } = decided;
            return Ok(Reviewed { draft, moderates, called, wait, checking: None });
        }
        Err(error) => error,
    };
    if error.code().is_temporary() || !is_repeated(gateway, sender, (draft.chat, draft.key)).await? {
        return Err(error);
    }
    // It changes nothing: the log takes the deletion of a range of others for one of who may do that, and compares it with what is stored.
    let moderates = draft.range.is_some() && draft.subject != Some(sender);
    // What is stored already needs no turn.
    Ok(Reviewed { draft, moderates, called: Called::default(), wait: Duration::ZERO, checking: None })
}

/// What is known of an entry that its sender may add.
struct Decided {
    moderates: bool,
    called: Called,
    wait: Duration,
}

/// Returns whether the sender may delete what others wrote, and does, whom the entry calls, and how long the sender waits between two
/// texts. Finds out what the files are that it carries.
async fn decide(gateway: &GatewayState, sender: UserId, draft: &mut Draft) -> Result<Decided, GatewayError> {
    let chat = draft.chat;
    let wait = gateway.membership.check(chat, sender, draft.kind).await?;
    gateway.outages.chat.worked("querying the chat service");
    let moderates = match (draft.target_seq, draft.range) {
        (Some(seq), _) => review_target(gateway, sender, draft, seq).await?,
        (None, Some(range)) => review_range(gateway, sender, draft, range).await?,
        (None, None) => false,
    };
    let called = if draft.calls() {
        gateway.membership.called(chat, sender, &draft.mentions, &draft.mention_roles).await?
    } else {
        Called::default()
    };
    if draft.brings_files() {
        draft.attachments = gateway.files.describe(chat, sender, &draft.attachments).await?;
        gateway.outages.media.worked("querying the media service");
    }
    Ok(Decided { moderates, called, wait })
}

/// Decides whose messages the deletion of a range is about. Returns whether it is about those of others, as its sender may. What
/// becomes of each message is decided by the log.
async fn review_range(
    gateway: &GatewayState,
    sender: UserId,
    draft: &mut Draft,
    range: SeqRange,
) -> Result<bool, GatewayError> {
    let (chat, seq) = (draft.chat, range.from_seq);
    // Behind an entry that the sender reads, they read all.
    let read = Read { chat, seq, key: None, count_pins: false };
    read.entry(gateway, sender).await.map_err(|error| match error {
        GatewayError::NoTarget { chat, seq } => GatewayError::NoEntry { chat, seq },
        error => error,
    })?;
    if draft.subject == Some(sender) {
        return Ok(false);
    }
    let moderates = gateway.membership.moderates(chat, sender).await?;
    match draft.subject {
        Some(_) if !moderates => Err(GatewayError::NotTheirs { chat, seq }),
        None if !moderates => {
            draft.subject = Some(sender);
            Ok(false)
        }
        Some(_) | None => Ok(true),
    }
}

/// Returns whether the entry changes what another user wrote, as its sender may.
async fn review_target(
    gateway: &GatewayState,
    sender: UserId,
    draft: &Draft,
    seq: i64,
) -> Result<bool, GatewayError> {
    let chat = draft.chat;
    let count_pins = draft.kind == EntryKind::Pin;
    let read = Read { chat, seq, key: None, count_pins };
    let Found { message: target, is_key_known: _, pins } = read.entry(gateway, sender).await?;
    match draft.blocker(sender, &target) {
        None if pins >= MAX_PINS => Err(GatewayError::TooManyPins { chat }),
        None => Ok(false),
        Some(Blocker::NoTarget) => Err(GatewayError::NoTarget { chat, seq }),
        Some(Blocker::NoChange) => Err(GatewayError::NoChange { chat, seq, kind: draft.kind }),
        Some(Blocker::TooManyChanges) => Err(GatewayError::TooManyChanges { chat, seq, kind: draft.kind }),
        Some(Blocker::NotTheirs) => {
            if draft.may_moderate() && gateway.membership.moderates(chat, sender).await? {
                Ok(true)
            } else {
                Err(GatewayError::NotTheirs { chat, seq })
            }
        }
    }
}

/// Returns whether an entry is known to be stored. While that cannot be asked, nothing is refused for good.
async fn is_repeated(
    gateway: &GatewayState,
    sender: UserId,
    (chat, key): (ChatId, MessageKey),
) -> Result<bool, GatewayError> {
    let request = rpc::EntryRequest {
        chat_id: chat.to_string(),
        user_id: sender.to_string(),
        seq: 0,
        key: key.to_string(),
        key_chat_id: String::new(),
        count_pins: false,
    };
    let response = gateway.history.clone().entry(request).await;
    let response = response.map_err(|status| GatewayError::History { chat, source: Arc::new(status) })?;
    Ok(response.into_inner().is_key_known)
}

/// A read of one entry, as the members of its chat read it, before another one is sent.
struct Read {
    chat: ChatId,
    seq: i64,
    /// The chat and the key of what is sent, to see whether it is stored already.
    key: Option<(ChatId, MessageKey)>,
    count_pins: bool,
}

/// An entry that was read.
struct Found {
    message: Message,
    /// Whether what is sent is stored already, when that was to be seen.
    is_key_known: bool,
    /// The number of pinned messages, when they were to be counted.
    pins: usize,
}

impl Read {
    async fn entry(self, gateway: &GatewayState, sender: UserId) -> Result<Found, GatewayError> {
        let Self { chat, seq, key, count_pins } = self;
        let (key_chat_id, key) =
            key.map(|(chat, key)| (chat.to_string(), key.to_string())).unwrap_or_default();
        let request = rpc::EntryRequest {
            chat_id: chat.to_string(),
            user_id: sender.to_string(),
            seq,
            key,
            key_chat_id,
            count_pins,
        };
        let response =
            gateway.history.clone().entry(request).await.map_err(|status| match status.code() {
                Code::PermissionDenied => GatewayError::NotAMember { chat },
                Code::NotFound => GatewayError::NoTarget { chat, seq },
                _ => GatewayError::History { chat, source: Arc::new(status) },
            })?;
        gateway.outages.history.worked("querying the message service");
        let rpc::EntryResponse { message, is_key_known, pins } = response.into_inner();
        let message = message.ok_or(GatewayError::NoTarget { chat, seq })?;
        let message = message.try_into().map_err(|source| GatewayError::Entry { chat, source })?;
        Ok(Found { message, is_key_known, pins: usize::try_from(pins).unwrap_or(usize::MAX) })
    }
}

/// Produces an entry. In a slow chat a text takes its sender's turn; one that is on its way or stored already needs none.
fn produce(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    reviewed: Reviewed,
) -> Step {
    let (chat, key, wait) = (reviewed.draft.chat, reviewed.draft.key, reviewed.wait);
    if reviewed.draft.kind != EntryKind::Text {
        return enqueue(gateway, connection, caller, reviewed, Turn::None);
    }
    let turn = gateway.membership.take_turn((chat, caller.user, key), wait);
    if let Ok(turn @ (Turn::Taken | Turn::None)) = turn {
        return enqueue(gateway, connection, caller, reviewed, turn);
    }
    let (gateway, connection) = (gateway.clone(), connection.clone());
    Step::Undecided(Box::pin(async move {
        let of = (chat, caller.user, key);
        let turn = if turn.is_ok() { recalled_turn(&gateway, of, wait).await } else { turn };
        let error = match turn {
            Ok(turn) => return enqueue(&gateway, &connection, caller, reviewed, turn),
            Err(error) => error,
        };
        let is_repeated = async { is_repeated(&gateway, caller.user, (chat, key)).await };
        match if connection.is_sending_text((chat, key)) { Ok(true) } else { is_repeated.await } {
            Ok(true) => enqueue(&gateway, &connection, caller, reviewed, Turn::None),
            Ok(false) => refused(failed(&gateway, &error)),
            Err(error) => held(&connection, (chat, key), failed(&gateway, &error)),
        }
    }))
}

/// Takes a turn when the chat's log has said when the sender sent last. While it does not, one message goes through, and the next one
/// waits for that.
async fn recalled_turn(
    gateway: &GatewayState,
    of: (ChatId, UserId, MessageKey),
    wait: Duration,
) -> Result<Turn, GatewayError> {
    let (chat, sender, _) = of;
    let last = match turns::last_sent(gateway, chat, sender, wait).await {
        Ok(last) => last,
        Err(error) => {
            // Noted in the log of this process.
            drop(failed(gateway, &error));
            None
        }
    };
    gateway.membership.slow_mode.recalled(chat, sender, last);
    gateway.membership.take_turn(of, wait)
}

fn enqueue(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    caller: Identity,
    reviewed: Reviewed,
    turn: Turn,
) -> Step {
    let Reviewed { draft, moderates, called, wait: _, checking } = reviewed;
    let Called { by_role, not_members } = called;
    let bytes = draft.bytes();
    let Draft { chat, key, kind, ack, mut mentions, .. } = draft;
    mentions.extend(&by_role);
    let since = Instant::now();
    let give_back = || {
        if turn == Turn::Taken {
            gateway.membership.slow_mode.give_back(chat, caller.user, key);
        }
    };
    if let Err(exceeded) = gateway.rates.take_chat(chat, bytes, since) {
        give_back();
        return held(connection, (chat, key), beyond(gateway, exceeded));
    }
    let record = SendRecord {
        v: VERSION,
        chat,
        sender: caller.user,
        device: caller.device,
        key,
        kind,
        body: draft.body,
        subject: draft.subject,
        target_seq: draft.target_seq,
        mentions,
        called_by_role: u32::try_from(by_role.len()).unwrap_or(u32::MAX),
        not_members,
        mention_roles: draft.mention_roles,
        mentions_all: draft.mentions_all,
        mentions_here: draft.mentions_here,
        silent: draft.silent,
        attachments: draft.attachments,
        forwarded: draft.forwarded,
        source: draft.source,
        range: draft.range,
        moderates,
        subject_only: false,
        reads_from: None,
    };
    // Noted first: what it comes to may be here before the next line.
    connection.sending((chat, key), (kind == EntryKind::Text).then_some(turn), since);
    let append = Span::child(current(), "append", SpanKind::Producer);
    let queued = {
        let _within = append.parent().map(Parent::enter);
        gateway.log.enqueue(&record)
    };
    match queued {
        Ok(delivery) => Step::Pending(Pending::Send(Sending {
            gateway: gateway.clone(),
            connection: connection.clone(),
            chat,
            sender: caller.user,
            key,
            ack,
            since,
            append,
            outcome: join(delivery, checking.into()),
        })),
        Err(source) => {
            connection.settled((chat, key));
            give_back();
            held(connection, (chat, key), failed(gateway, &GatewayError::Produce { chat, source }))
        }
    }
}
