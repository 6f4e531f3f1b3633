//! The client's side of the protocol as a state machine apart from the socket.
//!
//! ```text
//! commands --\                          /--> frames to the socket
//! frames   ----> Machine (no I/O, no clock) --> events for the program
//! the time --/                          \--> what became of each send
//! ```

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    event::EntryKind,
    wire::{
        self, Ack, Activity, ActivityState, ClientFrame, Command, Connected, Empty, History, HistoryPage,
        MAX_HISTORY_LIMIT, Message, Outcome, Refresh, Refreshed, ServerFrame, Stored, SyncPage, Typing,
        TypingUser, UserPresence, Watch, WireError,
    },
};

use self::{
    marks::{Marks, Said},
    sync::{Fetch, Sync},
};
use crate::{Post, Timeline};

mod marks;
mod sync;

/// An accepted message whose seq was not announced in this time is sent again, which returns its seq.
const STORED_PATIENCE: Duration = Duration::from_secs(10);
/// That time doubles to this one with each repetition, each of which is a record more in the log while nothing is announced.
const MAX_STORED_PATIENCE: Duration = Duration::from_mins(5);
/// Marks and histories without an answer: the server answers two queries at a time, and a send is behind what was sent before it.
const MAX_UNANSWERED_MARKS: usize = 4;
const MAX_UNANSWERED_HISTORIES: usize = 4;
/// A send, a mark or a history request without any answer is repeated after this time.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// Wait before a temporary refusal is tried again, when the server names none.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// What a session reports to its program.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The connection is up (again).
    Connected { session: String },
    /// The connection is down, or an attempt to connect failed; the session connects again by itself.
    Disconnected { why: String },
    /// The next entry of a followed chat: each one once, and in order.
    Entry { message: Message, origin: Origin },
    /// An entry of a chat that is not followed, as it came: neither complete nor in order.
    Elsewhere(Message),
    /// A followed chat is not readable any more.
    Unreadable { chat: ChatId, code: ErrorCode },
    /// How users are who are watched: all of them after [`crate::Session::watch`] and after connecting, then who is not as
    /// before.
    Presence(Vec<UserPresence>),
    /// A user is typing in a watched chat.
    Typing(TypingUser),
    /// Chats that changed since the session was connected before: all of them at first, in pages.
    Synced(SyncPage),
    /// A member has read or received a chat further than before: the user themselves, or another one.
    Marked(wire::Receipt),
    /// The user has a chat in another way, by this device or another one. Of two states, also of one that was synced, the one with the
    /// greater version counts.
    OwnState(wire::OwnState),
    /// The session is over and does not connect again.
    Ended { why: String },
}

/// How an entry came to this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Pushed,
    /// It was written by this session.
    Own,
    Refetched,
}

/// A message that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub key: MessageKey,
    pub seq: i64,
    /// From the call to `send`.
    pub accepted_after: Duration,
    /// From the call to `send`.
    pub stored_after: Duration,
    /// How often it was sent again, under the same key.
    pub resends: u32,
}

/// Why a message is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// `detail` is what the server says of it; the log says nothing.
    #[error("the messenger refused it: {code}{}", detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused { code: ErrorCode, detail: Option<String> },
    /// Whether it is stored is not known; a resend with the same key finds out.
    #[error("the session ended before the message was known to be stored")]
    SessionEnded,
}

impl SendFailure {
    /// Returns the code of a refusal.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::SessionEnded => None,
        }
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryFailure {
    #[error("the messenger refused the question: {code}: {detail}")]
    Refused { code: ErrorCode, detail: String },
    /// It may be asked again on the next connection.
    #[error("there is no connection to the messenger")]
    Offline,
}

impl QueryFailure {
    /// Returns the code of a refusal.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Offline => None,
        }
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are events, and each is moved once")]
pub(super) enum Output {
    Frame(ClientFrame),
    Event(Event),
    Settled(MessageKey, Result<Receipt, SendFailure>),
    /// What came of a question.
    Answered(u64, Result<Outcome, QueryFailure>),
    /// The server does not take the token any more.
    TokenRefused,
    /// The server cannot check a new token now; the one of this connection is as good as before.
    RefreshLater,
    /// The token of this connection is good for this long.
    TokenRenewed(Duration),
}

pub(super) struct Machine {
    user: UserId,
    online: Option<Online>,
    outbox: BTreeMap<u64, Outgoing>,
    next_order: u64,
    by_key: HashMap<MessageKey, u64>,
    chats: HashMap<ChatId, Followed>,
    watch: Watch,
    /// When what is watched is to be sent.
    watch_at: Option<Instant>,
    activity: ActivityState,
    sync: Sync,
    marks: Marks,
    ack: Ack,
    outputs: VecDeque<Output>,
}

/// What is forgotten with a connection.
struct Online {
    next_id: u32,
    pending: HashMap<u32, Pending>,
    max_inflight: usize,
    unanswered_sends: usize,
    /// Sends that may be unanswered now: halved by each `rate_limited`, one more with each `accepted`, so that a client
    /// with much to send settles at its rate and is not refused most of the time.
    window: usize,
    /// No send before this: the server refused one as too many.
    held_until: Option<Instant>,
}

enum Pending {
    Send(u64),
    History(ChatId),
    Refresh,
    Watch,
    Sync,
    Mark(Said),
    Query(u64),
}

struct Outgoing {
    chat: ChatId,
    key: MessageKey,
    post: Post,
    queued_at: Instant,
    accepted_at: Option<Instant>,
    /// How long it waits for its seq once it is accepted.
    patience: Duration,
    transmissions: u32,
    state: Transmission,
}

#[derive(Clone, Copy)]
enum Transmission {
    Due(Instant),
    Unanswered(Instant),
    Accepted(Instant),
}

impl Outgoing {
    /// Returns whether its seq or its rejection is its only answer.
    fn has_one_answer(&self, ack: Ack) -> bool {
        ack == Ack::Stored && self.post.takes_ack()
    }
}

struct Followed {
    timeline: Timeline,
    history: Fetch,
}

impl Machine {
    /// Returns a machine that goes on at a cursor of an earlier one, or begins with all chats.
    pub(super) fn new(user: UserId, cursor: Option<String>) -> Self {
        Self {
            user,
            online: None,
            outbox: BTreeMap::new(),
            next_order: 0,
            by_key: HashMap::new(),
            chats: HashMap::new(),
            watch: Watch::default(),
            watch_at: None,
            activity: ActivityState::Online,
            sync: Sync::from(cursor),
            marks: Marks::default(),
            ack: Ack::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Returns the machine with sends that are answered so.
    pub(super) fn answered_by(self, ack: Ack) -> Self {
        Self { ack, ..self }
    }

    pub(super) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Sends an entry until it is known to be stored or refused; the same key is the same message.
    pub(super) fn send(&mut self, chat: ChatId, key: MessageKey, post: Post, now: Instant) {
        if self.by_key.contains_key(&key) {
            return;
        }
        self.by_key.insert(key, self.next_order);
        let outgoing = Outgoing {
            chat,
            key,
            post,
            queued_at: now,
            accepted_at: None,
            patience: STORED_PATIENCE,
            transmissions: 0,
            state: Transmission::Due(now),
        };
        self.outbox.insert(self.next_order, outgoing);
        self.next_order += 1;
        self.pump(now);
    }

    /// Hands out every entry of `chat` with a greater seq than `after`, those already stored first.
    pub(super) fn follow(&mut self, chat: ChatId, after: i64, now: Instant) {
        let followed = Followed { timeline: Timeline::after(after), history: Fetch::Due(now) };
        self.chats.insert(chat, followed);
        self.pump(now);
    }

    /// Replaces what is watched, on this connection and on later ones.
    pub(super) fn watch(&mut self, watch: Watch, now: Instant) {
        self.watch = watch;
        self.watch_at = Some(now);
        self.pump(now);
    }

    /// Asks which chats changed.
    pub(super) fn sync(&mut self, now: Instant) {
        self.sync.ask(now);
        self.pump(now);
    }

    /// Says whether the user is at this device, on this connection and on later ones.
    pub(super) fn activity(&mut self, state: ActivityState) {
        self.activity = state;
        self.send_activity();
    }

    /// Says that the user is typing; without a connection it is worth nothing.
    pub(super) fn typing(&mut self, chat: ChatId) {
        if self.online.is_some() {
            let command = Command::Typing(Typing { chat });
            self.outputs.push_back(Output::Frame(ClientFrame { id: None, command }));
        }
    }

    /// Says that the user has read a chat up to `seq`.
    pub(super) fn read(&mut self, chat: ChatId, seq: i64, now: Instant) {
        self.marks.read(chat, seq);
        self.pump(now);
    }

    /// Says that this device has received a chat up to `seq`.
    pub(super) fn delivered(&mut self, chat: ChatId, seq: i64, now: Instant) {
        self.marks.delivered(chat, seq);
        self.pump(now);
    }

    /// Asks once, on the connection that there is.
    pub(super) fn query(&mut self, query: u64, command: Command) {
        let Some(online) = &mut self.online else {
            self.outputs.push_back(Output::Answered(query, Err(QueryFailure::Offline)));
            return;
        };
        let id = online.request(Pending::Query(query));
        self.outputs.push_back(Output::Frame(ClientFrame { id: Some(id.into()), command }));
    }

    /// Ends the connection. What was asked on it has no answer.
    fn offline(&mut self) -> bool {
        let Some(online) = self.online.take() else { return false };
        for pending in online.pending.into_values() {
            if let Pending::Query(query) = pending {
                self.outputs.push_back(Output::Answered(query, Err(QueryFailure::Offline)));
            }
        }
        true
    }

    fn send_activity(&mut self) {
        if self.online.is_some() {
            let command = Command::Activity(Activity { state: self.activity });
            self.outputs.push_back(Output::Frame(ClientFrame { id: None, command }));
        }
    }

    pub(super) fn refresh(&mut self, token: String) {
        let Some(online) = &mut self.online else { return };
        let id = online.request(Pending::Refresh);
        let command = Command::Refresh(Refresh { token });
        self.outputs.push_back(Output::Frame(ClientFrame { id: Some(id.into()), command }));
    }

    pub(super) fn connected(&mut self, connected: &Connected, now: Instant) {
        let max_inflight = usize::try_from(connected.max_inflight).unwrap_or(1).max(1);
        self.online = Some(Online {
            next_id: 2,
            pending: HashMap::new(),
            max_inflight,
            unanswered_sends: 0,
            window: max_inflight,
            held_until: None,
        });
        // What was announced without a connection is lost. The sync names the chats that have grown.
        for outgoing in self.outbox.values_mut() {
            outgoing.state = Transmission::Due(now);
        }
        for followed in self.chats.values_mut() {
            let is_unanswered = matches!(followed.history, Fetch::Unanswered(_));
            if is_unanswered || self.sync.begins() {
                followed.history = Fetch::Due(now);
            }
        }
        self.sync.begin(now);
        self.marks.connected();
        // A connection begins as online and watches nothing.
        if self.activity != ActivityState::Online {
            self.send_activity();
        }
        self.watch_at = (self.watch != Watch::default()).then_some(now);
        self.event(Event::Connected { session: connected.session.clone() });
        self.pump(now);
    }

    /// Notes that the connection is down, or that it could not be made.
    pub(super) fn disconnected(&mut self, why: String) {
        self.offline();
        self.event(Event::Disconnected { why });
    }

    /// Ends the session: what is not known to be stored fails.
    pub(super) fn ended(&mut self, why: String) {
        self.offline();
        for outgoing in std::mem::take(&mut self.outbox).into_values() {
            self.outputs.push_back(Output::Settled(outgoing.key, Err(SendFailure::SessionEnded)));
        }
        self.by_key.clear();
        self.event(Event::Ended { why });
    }

    pub(super) fn frame(&mut self, frame: ServerFrame, now: Instant) {
        if frame.ping.is_some() {
            let pong = ClientFrame { id: None, command: Command::Pong(Empty {}) };
            self.outputs.push_back(Output::Frame(pong));
        }
        if let Some(message) = frame.message {
            self.entry(message, Origin::Pushed, now);
        }
        if let Some(stored) = frame.stored {
            self.stored(&stored, now);
        }
        if let Some(rejected) = frame.rejected {
            self.settle(rejected.key, Err(SendFailure::Refused { code: rejected.code, detail: None }));
        }
        if let Some(lagged) = frame.lagged {
            self.note_head(lagged.chat, lagged.head_seq, now);
            // It may be a new chat, which nothing else tells of.
            if !self.chats.contains_key(&lagged.chat) || !self.sync.names(lagged.chat) {
                self.sync.miss(lagged.chat, lagged.head_seq, now);
            }
        }
        if let Some(receipt) = frame.receipt
            && self.marks.receipt(&receipt)
        {
            self.event(Event::Marked(receipt));
        }
        if let Some(own_state) = frame.own_state {
            self.event(Event::OwnState(own_state));
        }
        if let Some(presence) = frame.presence {
            self.event(Event::Presence(presence.users));
        }
        if let Some(typing) = frame.typing {
            self.event(Event::Typing(typing));
        }
        let pending = frame.id.and_then(|id| self.online.as_mut()?.answered(id.as_u32()?));
        match (pending, frame.result, frame.error) {
            (Some(Pending::Send(order)), Some(Outcome::Accepted(_)), _) => self.accepted(order, now),
            (Some(Pending::Send(order)), _, Some(error)) => self.send_refused(order, &error, now),
            (Some(Pending::History(chat)), Some(Outcome::History(page)), _) => self.history(chat, page, now),
            (Some(Pending::History(chat)), _, Some(error)) => self.history_refused(chat, &error, now),
            (Some(Pending::Refresh), Some(Outcome::Refreshed(refreshed)), _) => self.refreshed(&refreshed),
            (Some(Pending::Refresh), _, Some(error)) if error.temporary => {
                self.outputs.push_back(Output::RefreshLater);
            }
            (Some(Pending::Refresh), _, Some(_)) => self.outputs.push_back(Output::TokenRefused),
            (Some(Pending::Watch), Some(Outcome::Watching(presence)), _) => {
                self.event(Event::Presence(presence.users));
            }
            (Some(Pending::Sync), Some(Outcome::Synced(page)), _) => self.synced(page, now),
            (Some(Pending::Sync), _, Some(error)) => self.sync_refused(&error, now),
            (Some(Pending::Query(query)), Some(outcome), _) => {
                self.outputs.push_back(Output::Answered(query, Ok(outcome)));
            }
            (Some(Pending::Query(query)), _, Some(WireError { code, detail, .. })) => {
                let failure = QueryFailure::Refused { code, detail };
                self.outputs.push_back(Output::Answered(query, Err(failure)));
            }
            (Some(Pending::Mark(said)), _, Some(error)) => self.marks.refused(said, &error, now),
            (Some(Pending::Mark(said)), Some(_), _) => self.marks.taken(said),
            // What may not be watched stays unknown.
            (Some(Pending::Watch), _, Some(error)) if error.temporary => {
                self.watch_at = self.watch_at.or(Some(now + wait(&error)));
            }
            // An answer to nothing that is still pending, or a push.
            _ => {}
        }
        self.pump(now);
    }

    /// Repeats what stayed without an answer.
    pub(super) fn tick(&mut self, now: Instant) {
        let ack = self.ack;
        for (order, outgoing) in &mut self.outbox {
            let is_overdue = match outgoing.state {
                Transmission::Due(_) => continue,
                Transmission::Unanswered(at) if outgoing.has_one_answer(ack) => {
                    let is_overdue = now.duration_since(at) >= ANSWER_PATIENCE.max(outgoing.patience);
                    if is_overdue {
                        outgoing.patience = (outgoing.patience * 2).min(MAX_STORED_PATIENCE);
                    }
                    is_overdue
                }
                Transmission::Unanswered(at) => now.duration_since(at) >= ANSWER_PATIENCE,
                Transmission::Accepted(at) => {
                    let is_overdue = now.duration_since(at) >= outgoing.patience;
                    if is_overdue {
                        outgoing.patience = (outgoing.patience * 2).min(MAX_STORED_PATIENCE);
                    }
                    is_overdue
                }
            };
            if is_overdue {
                outgoing.state = Transmission::Due(now);
                if let Some(online) = &mut self.online {
                    online.forget_send(*order);
                }
            }
        }
        for (&chat, followed) in self.chats.iter_mut().filter(|(_, of)| of.history.is_lost(now)) {
            followed.history = Fetch::Due(now);
            if let Some(online) = &mut self.online {
                online.forget(|pending| matches!(pending, Pending::History(of) if *of == chat));
            }
        }
        self.sync.tick(now);
        let overdue = self.online.as_mut().map(|online| online.overdue_marks(now)).unwrap_or_default();
        for said in overdue {
            self.marks.lost(said);
        }
        self.pump(now);
    }

    /// Sends what is due, within the server's limits.
    fn pump(&mut self, now: Instant) {
        let Some(online) = &mut self.online else { return };
        if self.watch_at.is_some_and(|at| at <= now) {
            self.watch_at = None;
            let id = Some(online.request(Pending::Watch).into());
            let command = Command::Watch(self.watch.clone());
            self.outputs.push_back(Output::Frame(ClientFrame { id, command }));
        }
        if let Some(query) = self.sync.request(now) {
            let id = Some(online.request(Pending::Sync).into());
            self.outputs.push_back(Output::Frame(ClientFrame { id, command: Command::Sync(query) }));
        }
        let unanswered = online.unanswered(|pending| matches!(pending, Pending::Mark(_)));
        for said in self.marks.due(MAX_UNANSWERED_MARKS.saturating_sub(unanswered), now) {
            let id = Some(online.request(Pending::Mark(said)).into());
            self.outputs.push_back(Output::Frame(ClientFrame { id, command: said.command() }));
        }
        let mut unanswered = online.unanswered(|pending| matches!(pending, Pending::History(_)));
        for (&chat, followed) in &mut self.chats {
            if unanswered >= MAX_UNANSWERED_HISTORIES {
                break;
            }
            if !followed.history.is_due(now) {
                continue;
            }
            unanswered += 1;
            followed.history = Fetch::Unanswered(now);
            let after = followed.timeline.applied();
            let command = Command::History(History::after(chat, after, Some(MAX_HISTORY_LIMIT)));
            let id = Some(online.request(Pending::History(chat)).into());
            self.outputs.push_back(Output::Frame(ClientFrame { id, command }));
        }
        if online.held_until.is_some_and(|until| now < until) {
            return;
        }
        for (&order, outgoing) in &mut self.outbox {
            if online.unanswered_sends >= online.window {
                break;
            }
            if !matches!(outgoing.state, Transmission::Due(at) if at <= now) {
                continue;
            }
            outgoing.state = Transmission::Unanswered(now);
            outgoing.transmissions += 1;
            online.unanswered_sends += 1;
            let command = outgoing.post.command(outgoing.chat, outgoing.key, self.ack);
            let id = Some(online.request(Pending::Send(order)).into());
            self.outputs.push_back(Output::Frame(ClientFrame { id, command }));
        }
    }

    fn accepted(&mut self, order: u64, now: Instant) {
        if let Some(online) = &mut self.online {
            online.widen();
        }
        // It may be stored already: pushes and answers of one connection come by different ways.
        if let Some(outgoing) = self.outbox.get_mut(&order) {
            outgoing.accepted_at.get_or_insert(now);
            outgoing.state = Transmission::Accepted(now);
        }
    }

    fn send_refused(&mut self, order: u64, error: &WireError, now: Instant) {
        if error.code == ErrorCode::RateLimited
            && let Some(online) = &mut self.online
        {
            online.window = (online.window / 2).max(1);
            online.held_until = online.held_until.max(Some(now + wait(error)));
        }
        let Some(outgoing) = self.outbox.get_mut(&order) else { return };
        if error.code == ErrorCode::TokenExpired || error.code == ErrorCode::Unauthenticated {
            outgoing.state = Transmission::Due(now + RETRY_AFTER);
            self.outputs.push_back(Output::TokenRefused);
        } else if error.temporary {
            outgoing.state = Transmission::Due(now + wait(error));
        } else {
            let key = outgoing.key;
            let detail = Some(error.detail.clone());
            self.settle(key, Err(SendFailure::Refused { code: error.code, detail }));
        }
    }

    fn stored(&mut self, stored: &Stored, now: Instant) {
        let outgoing = self.by_key.get(&stored.key).and_then(|order| self.outbox.get(order));
        match (outgoing, stored.sent_at_ms) {
            (Some(outgoing), Some(sent_at_ms)) => match outgoing.post.entry(self.user, stored, sent_at_ms) {
                Some(message) => self.entry(message, Origin::Own, now),
                None => self.note_stored(stored, now),
            },
            (None, _) | (_, None) => self.note_stored(stored, now),
        }
        self.settle_stored(stored.key, stored.seq, now);
    }

    /// Notes an entry of which no more is known than that it is there.
    fn note_stored(&mut self, stored: &Stored, now: Instant) {
        self.note_head(stored.chat, stored.seq, now);
        if !self.chats.contains_key(&stored.chat) {
            self.sync.miss(stored.chat, stored.seq, now);
        }
    }

    /// Returns the key of an entry that is a message of the outbox: its announcement may be lost.
    fn key_of_own(&self, message: &Message) -> Option<MessageKey> {
        let outgoing = self.by_key.get(&message.key).and_then(|order| self.outbox.get(order))?;
        (message.sender == self.user && message.chat == outgoing.chat).then_some(message.key)
    }

    fn settle_stored(&mut self, key: MessageKey, seq: i64, now: Instant) {
        let Some(outgoing) = self.by_key.get(&key).and_then(|order| self.outbox.get(order)) else { return };
        let stored_after = now.duration_since(outgoing.queued_at);
        let receipt = Receipt {
            key,
            seq,
            accepted_after: outgoing
                .accepted_at
                .map_or(stored_after, |accepted_at| accepted_at.duration_since(outgoing.queued_at)),
            stored_after,
            resends: outgoing.transmissions.saturating_sub(1),
        };
        self.settle(key, Ok(receipt));
    }

    fn settle(&mut self, key: MessageKey, outcome: Result<Receipt, SendFailure>) {
        if let Some(order) = self.by_key.remove(&key) {
            if let Some(outgoing) = self.outbox.remove(&order)
                && outgoing.has_one_answer(self.ack)
                && let Some(online) = &mut self.online
            {
                // This was it.
                online.forget_send(order);
                online.widen();
            }
            self.outputs.push_back(Output::Settled(key, outcome));
        }
    }

    fn entry(&mut self, message: Message, origin: Origin, now: Instant) {
        let chat = message.chat;
        if self.chats.contains_key(&chat) {
            self.apply(message, origin, now);
            self.fetch_gap(chat, now);
            return;
        }
        if self.is_own_removal(&message) {
            self.sync.forget(chat);
        } else {
            self.sync.note(chat, message.seq, now);
        }
        let (own, seq) = (self.key_of_own(&message), message.seq);
        self.event(Event::Elsewhere(message));
        if let Some(key) = own {
            self.settle_stored(key, seq, now);
        }
    }

    fn is_own_addition(&self, message: &Message) -> bool {
        message.kind == EntryKind::MemberAdded && message.subject == Some(self.user)
    }

    fn is_own_removal(&self, message: &Message) -> bool {
        message.kind == EntryKind::MemberRemoved && message.subject == Some(self.user)
    }

    fn apply(&mut self, message: Message, origin: Origin, now: Instant) {
        let own = self.key_of_own(&message);
        let Some(followed) = self.chats.get_mut(&message.chat) else { return };
        let offered = message.seq;
        for message in followed.timeline.offer(message) {
            // What waited beyond a gap came by a push, whichever way the gap was filled.
            let origin = if message.seq == offered { origin } else { Origin::Pushed };
            self.hand_out(message, origin, now);
        }
        if let Some(key) = own {
            self.settle_stored(key, offered, now);
        }
    }

    /// Hands out the next entry of a followed chat.
    fn hand_out(&mut self, message: Message, origin: Origin, now: Instant) {
        let chat = message.chat;
        if self.is_own_removal(&message) {
            self.sync.forget(chat);
        } else if self.sync.names(chat) || self.is_own_addition(&message) {
            // It may not follow the last one that is known: the history of the user may begin with it.
            self.sync.note(chat, message.seq, now);
        }
        self.event(Event::Entry { message, origin });
    }

    fn fetch_gap(&mut self, chat: ChatId, now: Instant) {
        if let Some(followed) = self.chats.get_mut(&chat)
            && followed.timeline.has_gap()
            && followed.history.is_idle()
        {
            followed.history = Fetch::Due(now);
        }
    }

    fn note_head(&mut self, chat: ChatId, seq: i64, now: Instant) {
        if let Some(followed) = self.chats.get_mut(&chat) {
            followed.timeline.note_head(seq);
            self.fetch_gap(chat, now);
        }
    }

    fn history(&mut self, chat: ChatId, page: HistoryPage, now: Instant) {
        let Some(followed) = self.chats.get_mut(&chat) else { return };
        followed.history = Fetch::Idle;
        followed.timeline.note_head(page.head_seq);
        for message in followed.timeline.begin_at(page.from_seq) {
            self.hand_out(message, Origin::Pushed, now);
        }
        let moved = !page.messages.is_empty();
        for message in page.messages {
            self.apply(message, Origin::Refetched, now);
        }
        // An empty page below the head would be fetched in a tight loop.
        self.fetch_gap(chat, if moved { now } else { now + RETRY_AFTER });
    }

    fn history_refused(&mut self, chat: ChatId, error: &WireError, now: Instant) {
        if error.temporary || error.code == ErrorCode::TokenExpired {
            if let Some(followed) = self.chats.get_mut(&chat) {
                followed.history = Fetch::Due(now + wait(error));
            }
        } else {
            let followed = self.chats.remove(&chat);
            self.event(Event::Unreadable { chat, code: error.code });
            // The gap before it stays, and it says why.
            let held = followed.into_iter().flat_map(|followed| followed.timeline.into_held());
            let removal = held.filter(|message| self.is_own_removal(message)).last();
            if let Some(removal) = removal {
                self.entry(removal, Origin::Pushed, now);
            }
        }
    }

    /// Fetches what the followed chats have more, and hands the page on.
    fn synced(&mut self, page: SyncPage, now: Instant) {
        self.sync.take(&page, now);
        for of in &page.chats {
            self.note_head(of.chat, of.head_seq, now);
        }
        if let Some(all) = &page.all_chats {
            // The server says why a chat that is not among them cannot be read.
            for (chat, followed) in &mut self.chats {
                if !all.contains(chat) && followed.history.is_idle() {
                    followed.history = Fetch::Due(now);
                }
            }
        }
        self.event(Event::Synced(page));
    }

    fn sync_refused(&mut self, error: &WireError, now: Instant) {
        if self.sync.refused(error, now) {
            // Nothing is known of what happened since: each chat is compared.
            for followed in self.chats.values_mut().filter(|of| of.history.is_idle()) {
                followed.history = Fetch::Due(now);
            }
        }
    }

    fn refreshed(&mut self, refreshed: &Refreshed) {
        let seconds = u64::try_from(refreshed.token_expires_in_seconds).unwrap_or(0);
        self.outputs.push_back(Output::TokenRenewed(Duration::from_secs(seconds)));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

impl Online {
    fn request(&mut self, pending: Pending) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.pending.insert(id, pending);
        id
    }

    /// Returns how many answers of a kind are awaited.
    fn unanswered(&self, is_such: impl Fn(&Pending) -> bool) -> usize {
        self.pending.values().filter(|pending| is_such(pending)).count()
    }

    /// Waits no more for answers to marks that have not come, and returns those.
    fn overdue_marks(&mut self, now: Instant) -> Vec<Said> {
        let is_overdue = |pending: &Pending| match pending {
            Pending::Mark(said) if said.is_overdue(now) => Some(*said),
            _ => None,
        };
        let overdue = self.pending.values().filter_map(is_overdue).collect();
        self.pending.retain(|_, pending| is_overdue(pending).is_none());
        overdue
    }

    /// Lets one send more be unanswered.
    fn widen(&mut self) {
        self.window = (self.window + 1).min(self.max_inflight);
    }

    /// Waits no more for the answer to a send that is repeated, or that has none.
    fn forget_send(&mut self, order: u64) {
        self.unanswered_sends -= self.forget(|pending| matches!(pending, Pending::Send(of) if *of == order));
    }

    /// Waits no more for answers to what is repeated: they would take a place of those that may be unanswered. Returns how many these are.
    fn forget(&mut self, is_repeated: impl Fn(&Pending) -> bool) -> usize {
        let before = self.pending.len();
        self.pending.retain(|_, pending| !is_repeated(pending));
        before - self.pending.len()
    }

    fn answered(&mut self, id: u32) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if matches!(pending, Pending::Send(_)) {
            self.unanswered_sends -= 1;
        }
        Some(pending)
    }
}

fn wait(error: &WireError) -> Duration {
    error.retry_after_ms.map_or(RETRY_AFTER, |ms| Duration::from_millis(ms.into()))
}

#[cfg(test)]
mod tests;
