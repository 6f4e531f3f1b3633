//! From records of `message.delivered` to the sockets of this process.
//!
//! Records that are there together make a round: each connection is queued what they bring, and flushed once. Entries of a chat that follow each
//! other are a run, encoded once for all who receive the same of it. Nothing is said of the order of different chats, which the log does not
//! keep either.

use std::{collections::HashMap, mem, ops::Range, sync::Arc, time::Instant};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, LogPlace},
    wire::{Changes, MAX_RECEIPT_MEMBERS, Message, Receipt, Rejected, ServerFrame, Stored},
};

use kit::clock::now_ms;
use uuid::Uuid;

use crate::{
    domain::{
        draft::counted_bytes,
        frame::{Form, Frame, Run, Shared},
        rates::Rates,
        send_queue::{Pushed, Queued},
        slow_mode::SlowMode,
    },
    flush::flush,
    membership::members::{Entry, Members, Way},
    metrics::{Metrics, Push},
    positions::Positions,
    registry::{Connection, Registry},
};

/// What was sent longer ago by the log's clock is what an owner announces again that reads the log from an earlier place: no user sends it now.
/// What an owner repeats after a crash is younger, and little.
const SENT_LATELY_MS: i64 = 60 * 1_000;
/// Records of one run, in bytes as the log has them, which are more than those of their frames. A run is dropped as a whole, and written as
/// a whole once its beginning is.
const RUN_BYTES: usize = 32 * 1024;

/// Records of one round, in bytes.
const ROUND_BYTES: usize = 512 * 1024;
/// Recipients of all that one round brings, a run counting once. What the log brings of other chats waits until all of them are written to: some tens of
/// milliseconds of a core.
const ROUND_RECIPIENTS: usize = 16 * 1024;

/// Who sent what came to its outcome.
#[derive(Default)]
struct Writers {
    /// One connection, or more when it was repeated on another.
    sessions: Vec<Uuid>,
    /// It is a text that took its sender's turn here.
    has_turn: bool,
}

/// What is announced of an entry beside what its recipients receive.
struct Origin {
    device: DeviceId,
    subject_only: bool,
    place: Option<LogPlace>,
}

/// What some records bring to connections. To be [ended](Fanout::end): its connections wait for it.
#[derive(Default)]
pub(crate) struct Round {
    /// At most one of each chat, in the order in which they began; nothing in the place of one that is queued already.
    groups: Vec<Option<Group>>,
    /// Where the group of each chat is.
    places: HashMap<ChatId, usize>,
    /// A list of recipients for the next record, so that none is allocated for each.
    spare: Vec<(UserId, Way)>,
    /// Connections to flush, each once.
    filled: Vec<Arc<Connection>>,
    /// Pushes, by what they were and what became of them.
    pushes: Vec<(Push, Pushed, u64)>,
    bytes: usize,
    recipients: usize,
    /// A chat has as much as a run holds.
    has_full_run: bool,
}

impl Round {
    /// Returns whether it should end: what it brings to a connection should fit into the buffer of its socket, and the next one should not wait for
    /// too many connections.
    pub(crate) const fn is_full(&self) -> bool {
        self.has_full_run || self.bytes >= ROUND_BYTES || self.recipients >= ROUND_RECIPIENTS
    }

    /// Queues something for a connection that counts as so many pushes of this kind.
    fn push(&mut self, connection: &Arc<Connection>, (kind, count): (Push, u64), queued: Queued) {
        let (pushed, is_to_flush) = connection.queue.put(queued);
        if is_to_flush {
            self.filled.push(connection.clone());
        }
        match self.pushes.iter_mut().find(|(of, came_to, _)| (*of, *came_to) == (kind, pushed)) {
            Some((.., known)) => *known += count,
            None => self.pushes.push((kind, pushed, count)),
        }
    }

    fn lag(&mut self, connection: &Arc<Connection>, chat: ChatId, seq: i64) {
        if connection.queue.put_lag(chat, seq) {
            self.filled.push(connection.clone());
        }
    }

    /// Returns the group of a chat that is not queued yet.
    fn group(&mut self, chat: ChatId) -> Option<&mut Group> {
        self.groups[*self.places.get(&chat)?].as_mut()
    }

    /// Begins the group of a chat that has none which is not queued.
    fn begin(&mut self, chat: ChatId, recipients: Vec<(UserId, Way)>) {
        self.recipients += recipients.len();
        self.places.insert(chat, self.groups.len());
        self.groups.push(Some(Group::new(chat, recipients)));
    }
}

/// Entries of a chat that follow each other there and have the same recipients, not yet queued.
struct Group {
    chat: ChatId,
    recipients: Vec<(UserId, Way)>,
    entries: Vec<ServerFrame>,
    seqs: Vec<i64>,
    sends: Vec<Sent>,
    bytes: usize,
}

impl Group {
    fn new(chat: ChatId, recipients: Vec<(UserId, Way)>) -> Self {
        let (entries, seqs, sends) = (Vec::new(), Vec::new(), Vec::new());
        Self { chat, recipients, entries, seqs, sends, bytes: 0 }
    }

    /// Returns whether an entry with these recipients, of a record of so many bytes, goes with the others.
    fn takes(&self, recipients: &[(UserId, Way)], record_bytes: usize) -> bool {
        self.bytes + record_bytes <= RUN_BYTES && self.recipients == recipients
    }
}

/// What a device receives of an entry of a group that it sent.
struct Sent {
    /// The place of the entry in the group.
    at: usize,
    user: UserId,
    device: DeviceId,
    stored: Stored,
    /// Connections that have the body.
    writers: Vec<Uuid>,
}

/// The runs of a group, each encoded when the first connection wants it.
#[derive(Default)]
struct Runs {
    whole: [Option<Run>; Form::ALL.len()],
    without_text: [Option<Run>; Form::ALL.len()],
}

impl Runs {
    /// Returns a part of the entries as they are pushed in this way.
    fn part(
        &mut self,
        entries: &[ServerFrame],
        is_whole: bool,
        form: Form,
        part: Range<usize>,
    ) -> Option<Frame> {
        let run = if is_whole {
            self.whole[form as usize].get_or_insert_with(|| Run::encode(form, entries))
        } else {
            self.without_text[form as usize].get_or_insert_with(|| {
                let entries: Vec<ServerFrame> = entries.iter().map(without_text).collect();
                Run::encode(form, &entries)
            })
        };
        run.part(part)
    }
}

fn without_text(entry: &ServerFrame) -> ServerFrame {
    let message = entry.message.clone().map(|message| Message { body: String::new(), ..message });
    ServerFrame { message, ..ServerFrame::default() }
}

/// Pushes the outcome of sends to connections. Each frame is encoded once for each form that one of them has, and shared.
pub(crate) struct Fanout {
    registry: Arc<Registry>,
    members: Arc<Members>,
    rates: Arc<Rates>,
    slow_mode: Arc<SlowMode>,
    positions: Arc<Positions>,
    metrics: Metrics,
}

impl Fanout {
    pub(crate) fn new(
        registry: Arc<Registry>,
        members: Arc<Members>,
        (rates, slow_mode): (Arc<Rates>, Arc<SlowMode>),
        positions: Arc<Positions>,
        metrics: Metrics,
    ) -> Self {
        Self { registry, members, rates, slow_mode, positions, metrics }
    }

    /// Writes what the records of a round came to.
    pub(crate) async fn end(&self, mut round: Round) {
        self.queue_all(&mut round);
        for (kind, pushed, count) in round.pushes {
            self.metrics.count_pushes(kind, pushed, count);
        }
        flush(round.filled).await;
    }

    /// Takes a record of so many bytes, for the sending device and the other connections of the chat's members here.
    pub(crate) fn deliver(&self, round: &mut Round, record: DeliveredRecord, record_bytes: usize) {
        let DeliveredRecord { v: _, chat, sender, device, key, outcome } = record;
        round.bytes += record_bytes;
        let now_ms = now_ms();
        // No device sends membership entries, and no rate applies to them. No device sends a scheduled text either, and it counts.
        let is_text = matches!(&outcome, DeliveryOutcome::Stored { kind: EntryKind::Text, .. });
        let is_late = match &outcome {
            DeliveryOutcome::Stored { sent_at_ms, .. } => is_late(*sent_at_ms, now_ms),
            _ => false,
        };
        if (!device.0.is_nil() || is_text) && !is_late {
            let body = match &outcome {
                DeliveryOutcome::Stored { body, attachments, range, .. } => {
                    counted_bytes(body, attachments.len(), *range)
                }
                // What is not stored now has no text here.
                _ => 0,
            };
            self.rates.returned(chat, sender, body, Instant::now());
        }
        if !matches!(outcome, DeliveryOutcome::Stored { .. }) {
            // What comes behind entries of the chat is behind them at each connection.
            self.queue_chat(round, chat);
        }
        match outcome {
            DeliveryOutcome::Stored {
                seq,
                kind,
                body,
                subject,
                target_seq,
                mentions,
                mention_roles,
                mentions_all,
                mentions_here,
                silent,
                attachments,
                forwarded,
                range,
                sent_at_ms,
                subject_only,
                expires_at_ms,
                place,
            } => {
                let mut message = Message {
                    chat,
                    seq,
                    sender,
                    key,
                    kind,
                    body,
                    subject,
                    target_seq,
                    mentions,
                    mention_roles,
                    mentions_all,
                    mentions_here,
                    silent,
                    attachments,
                    forwarded,
                    range,
                    sent_at_ms,
                    expires_at_ms,
                    expired: false,
                    changes: Changes::default(),
                };
                // It may be announced again, long after.
                message.expire(now_ms);
                let origin = Origin { device, subject_only, place };
                self.stored(round, (message, record_bytes), origin, now_ms);
            }
            DeliveryOutcome::Marked {
                read_seq,
                delivered_seq,
                unread,
                mentions,
                counted_seq,
                shown_read_seq,
                shown_delivered_seq,
            } => {
                let shown = Receipt {
                    chat,
                    user: sender,
                    read_seq: shown_read_seq,
                    delivered_seq: shown_delivered_seq,
                    unread: None,
                    mentions: None,
                    counted_seq: None,
                };
                let own = Receipt {
                    read_seq: Some(read_seq),
                    delivered_seq: Some(delivered_seq),
                    unread: Some(unread),
                    mentions: Some(mentions),
                    counted_seq: Some(counted_seq).filter(|seq| *seq > 0),
                    ..shown
                };
                self.marked(round, own, shown);
            }
            // No device waits for what no device sent.
            DeliveryOutcome::Repeated { .. } if device.0.is_nil() => {}
            DeliveryOutcome::Repeated { seq } => {
                let stored = Stored { chat, key, seq, sent_at_ms: None, expires_at_ms: None };
                let send = (stored.chat, stored.key);
                let frame = ServerFrame { stored: Some(stored), ..ServerFrame::default() };
                self.push_to_device(round, (sender, device), send, frame, Push::Stored);
            }
            DeliveryOutcome::Rejected { code } => {
                let rejected = Rejected { chat, key, code };
                let frame = ServerFrame { rejected: Some(rejected), ..ServerFrame::default() };
                let writers =
                    self.push_to_device(round, (sender, device), (chat, key), frame, Push::Rejected);
                // Nothing is stored under its key then. Of a conflict something is, which had the turn.
                let is_stored_nowhere = matches!(code, ErrorCode::NotFound | ErrorCode::NotAMember);
                if writers.has_turn && is_stored_nowhere {
                    self.slow_mode.give_back(chat, sender, key);
                }
            }
        }
    }

    fn stored(
        &self,
        round: &mut Round,
        (message, record_bytes): (Message, usize),
        origin: Origin,
        now_ms: i64,
    ) {
        let Origin { device, subject_only, place } = origin;
        let Message { chat, seq, sender, key, kind, subject, target_seq, sent_at_ms, expires_at_ms, .. } =
            message;
        let edited_seq = target_seq.filter(|_| kind == EntryKind::Edit);
        let entry = Entry { chat, seq, kind, subject, edited_seq, sent_at_ms };
        let now = Instant::now();
        let removed = self.members.announced(entry, now);
        self.positions.announced(chat, seq, place, now);
        if kind == EntryKind::SlowModeChanged
            && let Some(seconds) = message.body.parse().ok()
        {
            self.members.slowed(chat, seq, seconds);
        }

        let mut recipients = mem::take(&mut round.spare);
        recipients.clear();
        recipients.extend(removed.map(|user| (user, Way::Push)));
        let is_slow =
            !subject_only && self.members.for_recipients(entry, |user, way| recipients.push((user, way)));
        if kind == EntryKind::Text && !is_late(sent_at_ms, now_ms) {
            self.slow_mode.stored((chat, sender, key), is_slow, now);
        }
        if round.group(chat).is_some_and(|group| group.takes(&recipients, record_bytes)) {
            round.spare = recipients;
        } else {
            self.queue_chat(round, chat);
            round.begin(chat, recipients);
        }
        let group = round.group(chat).expect("it was begun");
        // No device sends membership entries: the sender's connections receive them like those of all others.
        if kind.is_from_device() && !device.0.is_nil() {
            let writers = self.settled((sender, device), (chat, key)).sessions;
            let stored = Stored { chat, key, seq, sent_at_ms: Some(sent_at_ms), expires_at_ms };
            group.sends.push(Sent { at: group.entries.len(), user: sender, device, stored, writers });
        }
        group.entries.push(ServerFrame { message: Some(message), ..ServerFrame::default() });
        group.seqs.push(seq);
        group.bytes += record_bytes;
        // Another one like it does not fit.
        let is_full = group.bytes + record_bytes > RUN_BYTES;
        round.has_full_run |= is_full;
    }

    /// Queues what the round has of all chats.
    fn queue_all(&self, round: &mut Round) {
        round.places.clear();
        for group in mem::take(&mut round.groups).into_iter().flatten() {
            self.queue_group(round, group);
        }
    }

    /// Queues what the round has of a chat.
    fn queue_chat(&self, round: &mut Round, chat: ChatId) {
        if let Some(group) = round.places.remove(&chat).and_then(|at| round.groups[at].take()) {
            self.queue_group(round, group);
        }
    }

    /// Queues the entries of a group for the connections of their recipients, and for the devices that sent them that they are stored.
    fn queue_group(&self, round: &mut Round, group: Group) {
        let mut runs = Runs::default();
        let mut senders: Vec<UserId> = group.sends.iter().map(|sent| sent.user).collect();
        senders.sort_unstable();
        senders.dedup();
        let mut are_recipients = vec![false; senders.len()];
        for (user, way) in &group.recipients {
            if let Ok(at) = senders.binary_search(user) {
                are_recipients[at] = true;
                self.registry.for_user(*user, |connection| {
                    queue_sent(round, connection, &group, &mut runs, (*user, Some(*way)));
                });
            } else {
                let all = 0..group.entries.len();
                self.registry.for_user(*user, |connection| {
                    queue_part(round, connection, &group, &mut runs, (*way, all.clone()));
                });
            }
        }
        for (user, is_recipient) in senders.into_iter().zip(are_recipients) {
            if !is_recipient {
                self.registry.for_user(user, |connection| {
                    queue_sent(round, connection, &group, &mut runs, (user, None));
                });
            }
        }
        round.spare = group.recipients;
    }

    /// Pushes how far a user has come to their own connections, and what is shown of it to the other members of a chat that is
    /// not too large for it.
    fn marked(&self, round: &mut Round, own: Receipt, shown: Receipt) {
        let frame_of = |receipt: Receipt| {
            Shared::new(move || ServerFrame { receipt: Some(receipt), ..ServerFrame::default() })
        };
        self.push_receipt(round, own.user, &mut frame_of(own));
        let is_shown = shown.read_seq.is_some() || shown.delivered_seq.is_some();
        if is_shown && self.members.size(own.chat) <= MAX_RECEIPT_MEMBERS {
            let mut frame = frame_of(shown);
            self.members.for_present(own.chat, |user| {
                if user != own.user {
                    round.recipients += 1;
                    self.push_receipt(round, user, &mut frame);
                }
            });
        }
    }

    fn push_receipt<F: FnOnce() -> ServerFrame>(&self, round: &mut Round, to: UserId, frame: &mut Shared<F>) {
        self.registry.for_user(to, |connection| {
            let frame = frame.encoded(connection.queue.form());
            round.push(connection, (Push::Receipt, 1), Queued::fleeting(frame));
        });
    }

    /// Notes that a send of a device has its outcome, and returns the connections that sent it.
    fn settled(&self, (user, device): (UserId, DeviceId), send: (ChatId, MessageKey)) -> Writers {
        let mut writers = Writers::default();
        self.registry.for_user(user, |connection| {
            if is_of(connection, device) {
                self.settle(connection, send, &mut writers);
            }
        });
        writers
    }

    fn settle(&self, connection: &Connection, send: (ChatId, MessageKey), writers: &mut Writers) {
        if let Some(unstored) = connection.settled(send) {
            let now = Instant::now();
            self.rates.took(now.saturating_duration_since(unstored.sent_at), now);
            writers.sessions.push(connection.session);
            writers.has_turn |= unstored.has_turn;
        }
    }

    /// Pushes what became of a send to its device, and returns the connections that sent it.
    fn push_to_device(
        &self,
        round: &mut Round,
        (user, device): (UserId, DeviceId),
        send: (ChatId, MessageKey),
        frame: ServerFrame,
        kind: Push,
    ) -> Writers {
        let mut frame = Shared::new(|| frame);
        let mut writers = Writers::default();
        self.registry.for_user(user, |connection| {
            if is_of(connection, device) {
                self.settle(connection, send, &mut writers);
                let frame = frame.encoded(connection.queue.form());
                round.push(connection, (kind, 1), Queued::answer(frame));
            }
        });
        writers
    }
}

/// Returns whether what a device sent concerns a connection of its user. What no device sent concerns the user on all of them.
fn is_of(connection: &Connection, device: DeviceId) -> bool {
    device.0.is_nil() || connection.is_of(device)
}

/// Queues a part of the entries of a group for a connection of a recipient.
fn queue_part(
    round: &mut Round,
    connection: &Arc<Connection>,
    group: &Group,
    runs: &mut Runs,
    (way, part): (Way, Range<usize>),
) {
    // One that is announced again may come behind later ones.
    let Some(newest) = group.seqs[part.clone()].iter().copied().max() else { return };
    let is_whole = match way {
        Way::Push => true,
        Way::PushWithoutText => false,
        Way::Ask => return round.lag(connection, group.chat, newest),
    };
    let count = part.len() as u64;
    if let Some(frame) = runs.part(&group.entries, is_whole, connection.queue.form(), part) {
        round.push(connection, (Push::Message, count), Queued::messages(group.chat, newest, frame));
    }
}

/// Queues the entries of a group for a connection of a user who sent some of them: those between its own, each of these as stored, and the rest.
/// Without a way the user receives no other.
fn queue_sent(
    round: &mut Round,
    connection: &Arc<Connection>,
    group: &Group,
    runs: &mut Runs,
    (user, way): (UserId, Option<Way>),
) {
    let mut next = 0;
    let mut queue_to = |round: &mut Round, part: Range<usize>| {
        if let Some(way) = way {
            queue_part(round, connection, group, runs, (way, part));
        }
    };
    for sent in group.sends.iter().filter(|sent| sent.user == user) {
        queue_to(round, next..sent.at);
        next = sent.at;
        if is_of(connection, sent.device) {
            let stored = ServerFrame { stored: Some(sent.stored.clone()), ..ServerFrame::default() };
            let frame = Frame::encode(connection.queue.form(), &stored);
            round.push(connection, (Push::Stored, 1), Queued::answer(frame));
        }
        // It has the body; another connection of the same device has not.
        if sent.writers.contains(&connection.session) && !connection.queue.form().echoes() {
            next += 1;
        }
    }
    queue_to(round, next..group.entries.len());
}

/// Returns whether an entry was sent so long ago that nothing follows from it for what its sender may send now.
const fn is_late(sent_at_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(sent_at_ms) > SENT_LATELY_MS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::RateLimits,
        domain::{
            frame::payloads,
            send_queue::SendQueue,
            session::Identity,
            slow_mode::Turn,
            stomp::{codec::Version, subscriptions::Destination},
        },
        membership::members::Listing,
    };

    const CHAT: ChatId = ChatId(Uuid::from_u128(100));
    const BESIDE: ChatId = ChatId(Uuid::from_u128(101));
    const KEY: MessageKey = MessageKey(Uuid::from_u128(200));
    const LONG: Duration = Duration::from_secs(3_600);

    struct World {
        fanout: Fanout,
    }

    impl World {
        fn new() -> Self {
            let rates = Arc::new(Rates::new(&RateLimits::default(), Instant::now()));
            Self {
                fanout: Fanout::new(
                    Arc::default(),
                    Arc::default(),
                    (rates, Arc::default()),
                    Arc::default(),
                    Metrics::default(),
                ),
            }
        }

        fn connection(&self, user: u128, device: u128) -> Arc<Connection> {
            self.connection_named(user << 64 | device, user, device)
        }

        fn connection_named(&self, session: u128, user: u128, device: u128) -> Arc<Connection> {
            self.connection_of(Form::Text, session, user, device)
        }

        fn connection_of(&self, form: Form, session: u128, user: u128, device: u128) -> Arc<Connection> {
            let queue = SendQueue::new(100_000, Arc::default()).of(form);
            let connection = Connection::new(Uuid::from_u128(session), queue);
            assert!(self.fanout.registry.add(&connection, 100));
            let identity =
                Identity { user: UserId(Uuid::from_u128(user)), device: DeviceId(Uuid::from_u128(device)) };
            self.fanout.registry.identify(&connection, identity, 100);
            self.fanout.members.opened(identity.user);
            connection
        }

        /// Makes a user a founding member of the chats.
        fn join(&self, user: u128) {
            let listings = [CHAT, BESIDE].map(|chat| Listing::of_group(chat, 1, 3));
            self.fanout.members.load(UserId(Uuid::from_u128(user)), &listings);
        }

        fn deliver(&self, sender: u128, device: u128, outcome: DeliveryOutcome) {
            self.deliver_all([record(sender, device, KEY, outcome)]);
        }

        /// Delivers records that are there together.
        fn deliver_all(&self, records: impl IntoIterator<Item = DeliveredRecord>) {
            let mut round = Round::default();
            for record in records {
                let bytes = serde_json::to_vec(&record).expect("JSON").len();
                self.fanout.deliver(&mut round, record, bytes);
            }
            self.fanout.queue_all(&mut round);
            assert!(round.filled.is_empty(), "connections without a socket are woken");
        }
    }

    fn record(sender: u128, device: u128, key: MessageKey, outcome: DeliveryOutcome) -> DeliveredRecord {
        let (sender, device) = (UserId(Uuid::from_u128(sender)), DeviceId(Uuid::from_u128(device)));
        DeliveredRecord { v: 1, chat: CHAT, sender, device, key, outcome }
    }

    fn stored(seq: i64, kind: EntryKind, subject: Option<u128>) -> DeliveryOutcome {
        let mut outcome = DeliveryOutcome::stored(seq, kind, "hi", 5);
        if let DeliveryOutcome::Stored { subject: said, .. } = &mut outcome {
            *said = subject.map(|n| UserId(Uuid::from_u128(n)));
        }
        outcome
    }

    /// Takes the queued frames.
    fn texts(connection: &Connection) -> Vec<String> {
        std::iter::from_fn(|| connection.queue.pop())
            .flat_map(|frame| payloads(frame.as_bytes()))
            .map(|payload| String::from_utf8(payload).expect("text"))
            .collect()
    }

    fn frames(connection: &Connection) -> Vec<ServerFrame> {
        texts(connection).iter().map(|text| serde_json::from_str(text).expect("a frame")).collect()
    }

    /// Returns the kinds of the queued frames.
    fn kinds(connection: &Connection) -> Vec<&'static str> {
        frames(connection)
            .into_iter()
            .map(|frame| match frame {
                ServerFrame { stored: Some(stored), .. } if stored.sent_at_ms.is_none() => "repeated",
                ServerFrame { stored: Some(_), .. } => "stored",
                ServerFrame { message: Some(_), .. } => "message",
                ServerFrame { rejected: Some(_), .. } => "rejected",
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_sender_receives_stored_and_every_other_connection_the_message() {
        let world = World::new();
        let (phone, desk, other, stranger) =
            (world.connection(1, 1), world.connection(1, 2), world.connection(2, 1), world.connection(3, 1));
        // A second connection of the phone did not send it, so it has no body yet.
        let window = world.connection_named(9, 1, 1);
        for user in [1, 2] {
            world.join(user);
        }
        phone.sending((CHAT, KEY), Some(Turn::None), Instant::now());
        world.deliver(1, 1, stored(1, EntryKind::Text, None));
        assert_eq!(kinds(&phone), ["stored"]);
        assert_eq!(kinds(&window), ["stored", "message"]);
        assert_eq!(kinds(&desk), ["message"]);
        assert_eq!(kinds(&other), ["message"], "the same device id of another user is another device");
        assert!(kinds(&stranger).is_empty());
    }

    #[test]
    fn a_subscriber_of_stomp_receives_what_it_sent_itself_too() {
        let world = World::new();
        let [phone, idle] = [8, 9].map(|session| world.connection_of(Form::Stomp, session, 1, session));
        world.join(1);
        for (id, destination) in [("r", Destination::Replies), ("c", Destination::Chats)] {
            let added = phone.queue.subscriptions(|of| of.add(Version::V12, Some(id), destination, false));
            assert_eq!(added, Some(Ok(())));
        }
        phone.sending((CHAT, KEY), Some(Turn::None), Instant::now());
        world.deliver(1, 8, stored(1, EntryKind::Text, None));
        let received: Vec<String> =
            texts(&phone).iter().map(|text| text.lines().take(4).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            received,
            [
                "MESSAGE subscription:r message-id:1 destination:/replies".to_owned(),
                format!("MESSAGE subscription:c destination:/chats/{CHAT} type:message"),
            ]
        );
        assert_eq!(idle.queue.bytes(), 0, "it has subscribed to nothing");
    }

    #[test]
    fn an_edit_of_what_was_before_a_member_came_has_no_text_for_them() {
        let world = World::new();
        let (founder, late) = (world.connection(1, 1), world.connection(2, 1));
        world.join(1);
        world.deliver(1, 0, stored(3, EntryKind::MemberAdded, Some(2)));
        let edit = |seq, target| {
            let mut outcome = stored(seq, EntryKind::Edit, None);
            if let DeliveryOutcome::Stored { target_seq, .. } = &mut outcome {
                *target_seq = Some(target);
            }
            outcome
        };
        world.deliver(9, 1, edit(4, 2));
        world.deliver(9, 1, edit(5, 3));
        let bodies = |connection: &Connection| {
            let messages = frames(connection).into_iter().filter_map(|frame| frame.message);
            messages.filter(|of| of.kind == EntryKind::Edit).map(|of| of.body).collect::<Vec<_>>()
        };
        assert_eq!(bodies(&founder), ["hi", "hi"]);
        assert_eq!(bodies(&late), ["", "hi"]);
    }

    #[test]
    fn only_the_sending_device_receives_resends_and_refusals() {
        let world = World::new();
        let (phone, desk) = (world.connection(1, 1), world.connection(1, 2));
        world.deliver(1, 1, DeliveryOutcome::Repeated { seq: 4 });
        world.deliver(1, 1, DeliveryOutcome::Rejected { code: ErrorCode::IdempotencyConflict });
        assert_eq!(kinds(&phone), ["repeated", "rejected"]);
        assert!(kinds(&desk).is_empty());
    }

    #[test]
    fn what_a_replay_announces_again_counts_for_nobody() {
        let world = World::new();
        let user = UserId(Uuid::from_u128(1));
        let announce = |sent_at: i64| {
            let mut outcome = stored(1, EntryKind::Text, None);
            if let DeliveryOutcome::Stored { sent_at_ms, .. } = &mut outcome {
                *sent_at_ms = sent_at;
            }
            // More than a user has at once, in both counts.
            (0..300).for_each(|_| world.deliver(1, 1, outcome.clone()));
            world.fanout.rates.take_user(user, 2, Instant::now()).is_ok()
        };
        assert!(announce(now_ms() - SENT_LATELY_MS - 1), "a replay");
        assert!(!announce(now_ms()), "what is sent through another gateway");
    }

    /// Without a connection a member sends to a chat that this process does not know, and so through whichever gateway.
    #[test]
    fn slow_mode_counts_what_another_gateway_took_in_a_chat_that_is_not_known_here() {
        let world = World::new();
        let (chat, user) = (CHAT, UserId(Uuid::from_u128(1)));
        let slow_mode = &world.fanout.slow_mode;
        let take = || slow_mode.take((chat, user, MessageKey(Uuid::from_u128(201))), LONG, Instant::now());
        assert_eq!(take(), Ok(Turn::Unknown));
        slow_mode.recalled(chat, user, None);
        let mut outcome = stored(1, EntryKind::Text, None);
        if let DeliveryOutcome::Stored { sent_at_ms, .. } = &mut outcome {
            *sent_at_ms = now_ms();
        }
        world.deliver(1, 1, outcome);
        assert!(take().is_err());
    }

    /// Sends texts of a member under one key, of which the first takes the turn, and returns whether the next one has to wait when the log
    /// has rejected one of them.
    fn waits_after(code: ErrorCode, texts: usize) -> bool {
        let world = World::new();
        let phone = world.connection(1, 1);
        let user = UserId(Uuid::from_u128(1));
        let slow_mode = &world.fanout.slow_mode;
        slow_mode.recalled(CHAT, user, None);
        for _ in 0..texts {
            let turn = slow_mode.take((CHAT, user, KEY), LONG, Instant::now()).expect("it is the first");
            phone.sending((CHAT, KEY), Some(turn), Instant::now());
        }
        world.deliver(1, 1, DeliveryOutcome::Rejected { code });
        slow_mode.take((CHAT, user, MessageKey(Uuid::from_u128(201))), LONG, Instant::now()).is_err()
    }

    /// Such as a reply to a message that was deleted at that moment.
    #[test]
    fn a_text_that_the_log_rejects_leaves_its_sender_the_turn() {
        assert!(!waits_after(ErrorCode::NotFound, 1));
        assert!(!waits_after(ErrorCode::NotAMember, 1));
    }

    #[test]
    fn a_text_whose_key_names_another_one_keeps_the_turn_of_that() {
        assert!(waits_after(ErrorCode::IdempotencyConflict, 1));
        // The other one may be stored behind it.
        assert!(waits_after(ErrorCode::NotFound, 2));
        // Its turn was taken by a text of before, and not by this one.
        let world = World::new();
        let (phone, user) = (world.connection(1, 1), UserId(Uuid::from_u128(1)));
        let slow_mode = &world.fanout.slow_mode;
        slow_mode.recalled(CHAT, user, Some((Instant::now(), KEY)));
        phone.sending((CHAT, KEY), None, Instant::now());
        world.deliver(1, 1, DeliveryOutcome::Rejected { code: ErrorCode::NotFound });
        let other = MessageKey(Uuid::from_u128(201));
        assert!(slow_mode.take((CHAT, user, other), LONG, Instant::now()).is_err());
    }

    #[test]
    fn a_scheduled_text_comes_to_all_devices_of_its_sender_and_so_does_its_refusal() {
        let world = World::new();
        let (phone, desk, other) = (world.connection(1, 1), world.connection(1, 2), world.connection(2, 1));
        for user in [1, 2] {
            world.join(user);
        }
        world.deliver(1, 0, stored(1, EntryKind::Text, None));
        world.deliver(1, 0, DeliveryOutcome::Rejected { code: ErrorCode::NotFound });
        assert_eq!(kinds(&phone), ["message", "rejected"]);
        assert_eq!(kinds(&desk), ["message", "rejected"]);
        assert_eq!(kinds(&other), ["message"]);
    }

    #[test]
    fn a_removed_user_receives_the_removal_and_nothing_after_it() {
        let world = World::new();
        let (admin, removed) = (world.connection(1, 1), world.connection(2, 1));
        for user in [1, 2] {
            world.join(user);
        }
        world.deliver(1, 0, stored(3, EntryKind::MemberRemoved, Some(2)));
        admin.sending((CHAT, KEY), Some(Turn::None), Instant::now());
        world.deliver(1, 1, stored(4, EntryKind::Text, None));
        assert_eq!(kinds(&removed), ["message"]);
        assert_eq!(kinds(&admin), ["message", "stored"]);
    }

    #[test]
    fn texts_that_follow_each_other_are_one_piece_for_all_who_receive_the_same() {
        let world = World::new();
        let [one, two] = [1, 2].map(|user| {
            let connection = world.connection(user, 1);
            world.join(user);
            connection
        });
        let text = |seq: i64| {
            record(9, 1, MessageKey(Uuid::from_u128(seq as u128)), stored(seq, EntryKind::Text, None))
        };
        world.deliver_all((1..=10).map(text));
        let pieces = [&one, &two].map(|connection| connection.queue.pop().expect("a run"));
        assert_eq!(pieces[0].as_bytes().as_ptr(), pieces[1].as_bytes().as_ptr(), "encoded once");
        assert_eq!(payloads(pieces[0].as_bytes()).len(), 10);
        assert!([&one, &two].iter().all(|connection| connection.queue.pop().is_none()));

        // However many there are, a piece stays small: it is dropped and written as a whole.
        let long = |seq: i64| {
            let mut outcome = stored(seq, EntryKind::Text, None);
            if let DeliveryOutcome::Stored { body, .. } = &mut outcome {
                *body = "x".repeat(400);
            }
            record(9, 1, MessageKey(Uuid::from_u128(seq as u128)), outcome)
        };
        world.deliver_all((11..=20).map(long));
        let sizes: Vec<usize> = std::iter::from_fn(|| one.queue.pop()).map(|piece| piece.len()).collect();
        assert!(sizes.len() == 1 && sizes[0] > 4_000, "{sizes:?}");
        let mut round = Round::default();
        for seq in 21..=30 {
            world.fanout.deliver(&mut round, long(seq), RUN_BYTES / 2);
        }
        world.fanout.queue_all(&mut round);
        assert_eq!(std::iter::from_fn(|| one.queue.pop()).count(), 5, "two in each");
    }

    #[test]
    fn a_round_ends_at_a_number_of_recipients_whatever_they_receive() {
        let world = World::new();
        for n in 0..=ROUND_RECIPIENTS as u128 / 2 {
            world.fanout.members.opened(UserId(Uuid::from_u128(n)));
            world.join(n);
        }
        let text = |chat| DeliveredRecord { chat, ..record(1, 1, KEY, stored(1, EntryKind::Text, None)) };
        let mut round = Round::default();
        for (chat, is_full) in [(CHAT, false), (CHAT, false), (BESIDE, true)] {
            world.fanout.deliver(&mut round, text(chat), 100);
            assert_eq!(round.is_full(), is_full, "entries of one chat are a run");
        }

        let receipt = DeliveryOutcome::Marked {
            read_seq: 1,
            delivered_seq: 1,
            unread: 0,
            mentions: 0,
            counted_seq: 1,
            shown_read_seq: Some(1),
            shown_delivered_seq: Some(1),
        };
        let world = World::new();
        for n in 0..64 {
            world.fanout.members.opened(UserId(Uuid::from_u128(n)));
            world.join(n);
        }
        let mut round = Round::default();
        let mut receipts = 0;
        while !round.is_full() {
            world.fanout.deliver(&mut round, record(1, 1, KEY, receipt.clone()), 100);
            receipts += 1;
        }
        assert_eq!(receipts, ROUND_RECIPIENTS.div_ceil(63));
    }

    #[test]
    fn a_receipt_is_encoded_once_for_all_who_are_shown_it() {
        let world = World::new();
        let [own, one, two] = [1, 2, 3].map(|user| {
            let connection = world.connection(user, 1);
            world.join(user);
            connection
        });
        world.deliver(
            1,
            1,
            DeliveryOutcome::Marked {
                read_seq: 7,
                delivered_seq: 9,
                unread: 2,
                mentions: 1,
                counted_seq: 11,
                shown_read_seq: None,
                shown_delivered_seq: Some(9),
            },
        );
        let pieces = [&one, &two].map(|connection| connection.queue.pop().expect("a receipt"));
        assert_eq!(pieces[0].as_bytes().as_ptr(), pieces[1].as_bytes().as_ptr());
        let receipt = frames(&own).pop().and_then(|frame| frame.receipt).expect("a receipt");
        assert_eq!((receipt.read_seq, receipt.unread), (Some(7), Some(2)), "their own has all of it");
    }

    /// A conversation with everything in it that is not the same for all, in rounds of every size.
    #[test]
    fn records_that_are_there_together_come_to_what_they_do_one_by_one() {
        let key = |n: u128| MessageKey(Uuid::from_u128(1_000 + n));
        let text = |seq| stored(seq, EntryKind::Text, None);
        let edit = |seq, target| {
            let mut outcome = stored(seq, EntryKind::Edit, None);
            if let DeliveryOutcome::Stored { target_seq, .. } = &mut outcome {
                *target_seq = Some(target);
            }
            outcome
        };
        let records = vec![
            record(1, 1, key(1), text(1)),
            record(1, 1, key(2), text(2)),
            record(2, 1, key(3), text(3)),
            record(9, 1, key(4), text(4)),
            record(1, 1, key(5), DeliveryOutcome::Repeated { seq: 1 }),
            record(1, 0, key(6), stored(5, EntryKind::MemberAdded, Some(3))),
            record(9, 1, key(7), edit(6, 2)),
            record(2, 1, key(8), edit(7, 5)),
            record(1, 2, key(9), text(8)),
            record(2, 1, key(10), DeliveryOutcome::Rejected { code: ErrorCode::IdempotencyConflict }),
            record(1, 0, key(11), stored(9, EntryKind::MemberRemoved, Some(2))),
            record(2, 1, key(12), text(10)),
            record(9, 1, key(13), text(11)),
            record(1, 0, key(14), text(12)),
        ];
        // And the same in a chat beside it, which alternates with this one.
        let beside = records.iter().cloned().map(|record| DeliveredRecord { chat: BESIDE, ..record });
        let records: Vec<_> = records.iter().cloned().zip(beside).flat_map(<[_; 2]>::from).collect();
        let received = |size: usize| {
            let world = World::new();
            let connections =
                [(1, 1), (1, 2), (2, 1), (3, 1), (4, 1)].map(|(user, device)| world.connection(user, device));
            let window = world.connection_named(77, 1, 1);
            for user in [1, 2] {
                world.join(user);
            }
            let now = Instant::now();
            for n in [1, 2, 5] {
                connections[0].sending((CHAT, key(n)), Some(Turn::None), now);
            }
            connections[1].sending((CHAT, key(9)), Some(Turn::None), now);
            for n in [3, 8, 10, 12] {
                for chat in [CHAT, BESIDE] {
                    connections[2].sending((chat, key(n)), Some(Turn::None), now);
                }
            }
            for round in records.chunks(size) {
                world.deliver_all(round.iter().cloned());
            }
            let of_each_chat = |connection: &Connection| {
                let texts = texts(connection);
                [CHAT, BESIDE].map(|chat| {
                    let chat = format!("\"chat\":\"{chat}\"");
                    texts.iter().filter(|text| text.contains(&chat)).cloned().collect::<Vec<_>>()
                })
            };
            connections.iter().chain([&window]).map(|connection| of_each_chat(connection)).collect::<Vec<_>>()
        };
        let one_by_one = received(1);
        let is_empty = |of_chats: &[Vec<String>; 2]| of_chats.each_ref().map(|frames| frames.is_empty());
        assert!(one_by_one[..4].iter().all(|of_chats| is_empty(of_chats) == [false; 2]));
        assert_eq!(is_empty(&one_by_one[4]), [true; 2]);
        for size in 2..=records.len() {
            assert_eq!(received(size), one_by_one, "{size} at a time");
        }
    }
}
