//! From a record of `message.delivered` to the sockets of this process.

use std::{sync::Arc, time::Instant};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, LogPlace},
    wire::{Changes, MAX_RECEIPT_MEMBERS, Message, Receipt, Rejected, ServerFrame, Stored},
};

use kit::clock::now_ms;
use uuid::Uuid;

use crate::{
    domain::{draft::counted_bytes, frame::Shared, rates::Rates, slow_mode::SlowMode},
    membership::members::{Entry, Members, Way},
    metrics::{Metrics, Push},
    positions::Positions,
    registry::Registry,
};

/// What was sent longer ago by the log's clock is what an owner announces again that reads the log from an earlier place: no user sends it now.
/// What an owner repeats after a crash is younger, and little.
const SENT_LATELY_MS: i64 = 60 * 1_000;

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

/// Pushes the outcome of sends to connections. Each frame is encoded once for each encoding that one of them has, and shared.
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

    /// Pushes a record to the sending device and to the other connections of the chat's members here.
    pub(crate) fn deliver(&self, record: DeliveredRecord) {
        let DeliveredRecord { v: _, chat, sender, device, key, outcome } = record;
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
                self.stored(message, Origin { device, subject_only, place }, now_ms);
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
                self.marked(own, shown);
            }
            // No device waits for what no device sent.
            DeliveryOutcome::Repeated { .. } if device.0.is_nil() => {}
            DeliveryOutcome::Repeated { seq } => {
                let stored = Stored { chat, key, seq, sent_at_ms: None, expires_at_ms: None };
                self.push_stored(sender, device, stored);
            }
            DeliveryOutcome::Rejected { code } => {
                let rejected = Rejected { chat, key, code };
                let frame = ServerFrame { rejected: Some(rejected), ..ServerFrame::default() };
                let writers = self.push_to_device((sender, device), (chat, key), frame, Push::Rejected);
                // Nothing is stored under its key then. Of a conflict something is, which had the turn.
                let is_stored_nowhere = matches!(code, ErrorCode::NotFound | ErrorCode::NotAMember);
                if writers.has_turn && is_stored_nowhere {
                    self.slow_mode.give_back(chat, sender, key);
                }
            }
        }
    }

    fn stored(&self, message: Message, origin: Origin, now_ms: i64) {
        let Origin { device, subject_only, place } = origin;
        let Message { chat, seq, sender, key, kind, subject, target_seq, sent_at_ms, .. } = message;
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
        // No device sends membership entries: the sender's connections receive them like those of all others.
        let writers = if kind.is_from_device() && !device.0.is_nil() {
            let expires_at_ms = message.expires_at_ms;
            self.push_stored(
                sender,
                device,
                Stored { chat, key, seq, sent_at_ms: Some(sent_at_ms), expires_at_ms },
            )
        } else {
            Writers::default()
        };
        let push_of = |message| ServerFrame { message: Some(message), ..ServerFrame::default() };
        let mut frame = Shared::new(|| push_of(message.clone()));
        let mut without_text = Shared::new(|| push_of(Message { body: String::new(), ..message.clone() }));
        let mut push = |user, way| {
            self.registry.for_user(user, |connection| {
                // It has the body; another connection of the same device has not.
                if user == sender && writers.sessions.contains(&connection.session) {
                    return;
                }
                let encoding = connection.queue.encoding();
                let frame = match way {
                    Way::Push => frame.encoded(encoding),
                    Way::PushWithoutText => without_text.encoded(encoding),
                    Way::Ask => {
                        connection.queue.lag(chat, seq);
                        return;
                    }
                };
                let pushed = connection.queue.push_message(chat, seq, frame);
                self.metrics.count_push(Push::Message, pushed);
            });
        };
        if let Some(user) = removed {
            push(user, Way::Push);
        }
        let is_slow = !subject_only && self.members.for_recipients(entry, push);
        if kind == EntryKind::Text && !is_late(sent_at_ms, now_ms) {
            self.slow_mode.stored((chat, sender, key), is_slow, now);
        }
    }

    /// Pushes how far a user has come to their own connections, and what is shown of it to the other members of a chat that is
    /// not too large for it.
    fn marked(&self, own: Receipt, shown: Receipt) {
        self.push_receipt(own.user, own);
        let is_shown = shown.read_seq.is_some() || shown.delivered_seq.is_some();
        if is_shown && self.members.size(own.chat) <= MAX_RECEIPT_MEMBERS {
            self.members.for_present(own.chat, |user| {
                if user != own.user {
                    self.push_receipt(user, shown);
                }
            });
        }
    }

    fn push_receipt(&self, to: UserId, receipt: Receipt) {
        let mut frame = Shared::new(|| ServerFrame { receipt: Some(receipt), ..ServerFrame::default() });
        self.registry.for_user(to, |connection| {
            let pushed = connection.queue.push_fleeting(frame.encoded(connection.queue.encoding()));
            self.metrics.count_push(Push::Receipt, pushed);
        });
    }

    fn push_stored(&self, sender: UserId, device: DeviceId, stored: Stored) -> Writers {
        let send = (stored.chat, stored.key);
        let frame = ServerFrame { stored: Some(stored), ..ServerFrame::default() };
        self.push_to_device((sender, device), send, frame, Push::Stored)
    }

    /// Pushes what became of a send to its device, and returns the connections that sent it.
    fn push_to_device(
        &self,
        (user, device): (UserId, DeviceId),
        send: (ChatId, MessageKey),
        frame: ServerFrame,
        kind: Push,
    ) -> Writers {
        let mut frame = Shared::new(|| frame);
        let mut writers = Writers::default();
        self.registry.for_user(user, |connection| {
            // What no device sent concerns the user on all of them.
            if !device.0.is_nil() && !connection.is_of(device) {
                return;
            }
            if let Some(unstored) = connection.settled(send) {
                let now = Instant::now();
                self.rates.took(now.saturating_duration_since(unstored.sent_at), now);
                writers.sessions.push(connection.session);
                writers.has_turn |= unstored.has_turn;
            }
            let pushed = connection.queue.push(frame.encoded(connection.queue.encoding()));
            self.metrics.count_push(kind, pushed);
        });
        writers
    }
}

/// Returns whether an entry was sent so long ago that nothing follows from it for what its sender may send now.
const fn is_late(sent_at_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(sent_at_ms) > SENT_LATELY_MS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contracts::event::{ChatKind, Role};

    use super::*;
    use crate::{
        config::RateLimits,
        domain::{send_queue::SendQueue, session::Identity, slow_mode::Turn},
        membership::members::Listing,
        registry::Connection,
    };

    const CHAT: ChatId = ChatId(Uuid::from_u128(100));
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
            let queue = SendQueue::new(10_000, Arc::default());
            let connection = Connection::new(Uuid::from_u128(session), queue);
            assert!(self.fanout.registry.add(&connection, 100));
            let identity =
                Identity { user: UserId(Uuid::from_u128(user)), device: DeviceId(Uuid::from_u128(device)) };
            self.fanout.registry.identify(&connection, identity, 100);
            self.fanout.members.opened(identity.user);
            connection
        }

        /// Makes a user a founding member of the chat.
        fn join(&self, user: u128) {
            let listing = Listing {
                chat: CHAT,
                role: Role::Member,
                kind: Some(ChatKind::Group),
                version: 1,
                members: 3,
                from_entry_at_ms: None,
                is_closed: false,
                slow_mode_seconds: 0,
            };
            self.fanout.members.load(UserId(Uuid::from_u128(user)), &[listing]);
        }

        fn deliver(&self, sender: u128, device: u128, outcome: DeliveryOutcome) {
            let record = DeliveredRecord {
                v: 1,
                chat: CHAT,
                sender: UserId(Uuid::from_u128(sender)),
                device: DeviceId(Uuid::from_u128(device)),
                key: KEY,
                outcome,
            };
            self.fanout.deliver(record);
        }
    }

    fn stored(seq: i64, kind: EntryKind, subject: Option<u128>) -> DeliveryOutcome {
        let mut outcome = DeliveryOutcome::stored(seq, kind, "hi", 5);
        if let DeliveryOutcome::Stored { subject: said, .. } = &mut outcome {
            *said = subject.map(|n| UserId(Uuid::from_u128(n)));
        }
        outcome
    }

    /// Returns the kinds of the queued frames.
    fn kinds(connection: &Connection) -> Vec<&'static str> {
        std::iter::from_fn(|| connection.queue.pop())
            .map(|frame| {
                let frame: ServerFrame = serde_json::from_slice(&frame.into_bytes()).expect("a frame");
                match frame {
                    ServerFrame { stored: Some(stored), .. } if stored.sent_at_ms.is_none() => "repeated",
                    ServerFrame { stored: Some(_), .. } => "stored",
                    ServerFrame { message: Some(_), .. } => "message",
                    ServerFrame { rejected: Some(_), .. } => "rejected",
                    other => panic!("{other:?}"),
                }
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
            let frames = std::iter::from_fn(|| connection.queue.pop());
            let frames = frames.map(|frame| serde_json::from_slice(&frame.into_bytes()).expect("a frame"));
            let messages = frames.filter_map(|frame: ServerFrame| frame.message);
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
}
