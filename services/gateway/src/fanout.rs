//! From a record of `message.delivered` to the sockets of this process.

use std::sync::Arc;

use contracts::{
    DeviceId, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind},
    wire::{Message, Rejected, ServerFrame, Stored},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    domain::outbox::{Pushed, encoded},
    membership::{
        Membership,
        members::{Entry, Members},
    },
    metrics::{Metrics, Push},
    registry::Registry,
};

/// Tells connections what became of sends. Each frame is encoded once and shared.
pub(crate) struct Fanout {
    registry: Arc<Registry>,
    membership: Arc<Membership>,
    metrics: Metrics,
}

impl Fanout {
    pub(crate) fn new(registry: Arc<Registry>, membership: Arc<Membership>, metrics: Metrics) -> Self {
        Self { registry, membership, metrics }
    }

    /// Pushes a record to the sending device and to the other connections of its audience.
    pub(crate) fn deliver(&self, record: DeliveredRecord) {
        deliver(&self.registry, &self.membership.members, &self.metrics, record);
    }
}

fn deliver(registry: &Registry, members: &Members, metrics: &Metrics, record: DeliveredRecord) {
    let DeliveredRecord { v: _, chat, sender, device, key, outcome } = record;
    match outcome {
        DeliveryOutcome::Stored { seq, kind, body, subject, sent_at_ms, audience } => {
            let entry = Entry { chat, seq, kind, subject };
            members.announced(entry);
            // No device sends membership entries: the sender's connections hear of them like everybody's.
            if kind == EntryKind::Text {
                let stored = Stored { chat, key, seq, sent_at_ms: Some(sent_at_ms) };
                let frame = ServerFrame { stored: Some(stored), ..ServerFrame::default() };
                tell_device(registry, metrics, sender, device, &encoded(&frame), Push::Stored);
            }
            let recipients = members.recipients(entry, audience.as_deref());
            let message = Message { chat, seq, sender, key, kind, body, subject, sent_at_ms };
            let mut frame: Option<Utf8Bytes> = None;
            for user in recipients {
                registry.for_user(user, |connection| {
                    let from_here = kind == EntryKind::Text
                        && user == sender
                        && connection.identity().is_some_and(|identity| identity.device == device);
                    if from_here {
                        return;
                    }
                    let frame = frame.get_or_insert_with(|| {
                        encoded(&ServerFrame { message: Some(message.clone()), ..ServerFrame::default() })
                    });
                    let pushed = connection.outbox.push_message(chat, seq, frame.clone());
                    metrics.count_push(Push::Message, pushed);
                });
            }
        }
        DeliveryOutcome::Repeated { seq } => {
            let stored = Stored { chat, key, seq, sent_at_ms: None };
            let frame = ServerFrame { stored: Some(stored), ..ServerFrame::default() };
            tell_device(registry, metrics, sender, device, &encoded(&frame), Push::Stored);
        }
        DeliveryOutcome::Rejected { code } => {
            let frame =
                ServerFrame { rejected: Some(Rejected { chat, key, code }), ..ServerFrame::default() };
            tell_device(registry, metrics, sender, device, &encoded(&frame), Push::Rejected);
        }
    }
}

fn tell_device(
    registry: &Registry,
    metrics: &Metrics,
    sender: UserId,
    device: DeviceId,
    frame: &Utf8Bytes,
    kind: Push,
) {
    registry.for_user(sender, |connection| {
        if connection.identity().is_some_and(|identity| identity.device == device) {
            let pushed: Pushed = connection.outbox.push(frame.clone());
            metrics.count_push(kind, pushed);
        }
    });
}

#[cfg(test)]
mod tests {
    use contracts::{ChatId, ErrorCode, MessageKey};
    use prometheus_client::metrics::gauge::Gauge;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{outbox::Outbox, session::Identity},
        registry::Connection,
    };

    #[derive(Default)]
    struct World {
        registry: Registry,
        members: Members,
        metrics: Metrics,
    }

    impl World {
        fn connection(&self, user: u128, device: u128) -> Arc<Connection> {
            let connection = Connection::new(Uuid::now_v7(), Outbox::new(10_000, Gauge::default()));
            assert!(self.registry.add(&connection, 100));
            let identity =
                Identity { user: UserId(Uuid::from_u128(user)), device: DeviceId(Uuid::from_u128(device)) };
            self.registry.identify(&connection, identity, 100);
            connection
        }

        fn deliver(&self, sender: u128, device: u128, outcome: DeliveryOutcome) {
            let record = DeliveredRecord {
                v: 1,
                chat: ChatId(Uuid::from_u128(100)),
                sender: UserId(Uuid::from_u128(sender)),
                device: DeviceId(Uuid::from_u128(device)),
                key: MessageKey(Uuid::from_u128(200)),
                outcome,
            };
            deliver(&self.registry, &self.members, &self.metrics, record);
        }
    }

    fn stored(seq: i64, kind: EntryKind, subject: Option<u128>, audience: &[u128]) -> DeliveryOutcome {
        DeliveryOutcome::Stored {
            seq,
            kind,
            body: "hi".into(),
            subject: subject.map(|n| UserId(Uuid::from_u128(n))),
            sent_at_ms: 5,
            audience: Some(audience.iter().map(|n| UserId(Uuid::from_u128(*n))).collect()),
        }
    }

    /// Returns the kinds of the frames that wait.
    fn kinds(connection: &Connection) -> Vec<&'static str> {
        std::iter::from_fn(|| connection.outbox.pop())
            .map(|frame| {
                let frame: ServerFrame = serde_json::from_str(&frame).expect("a frame");
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
    fn the_sending_device_hears_stored_and_everybody_else_the_message() {
        let world = World::default();
        let (phone, desk, other, stranger) =
            (world.connection(1, 1), world.connection(1, 2), world.connection(2, 1), world.connection(3, 1));
        world.deliver(1, 1, stored(1, EntryKind::Text, None, &[1, 2]));
        assert_eq!(kinds(&phone), ["stored"]);
        assert_eq!(kinds(&desk), ["message"]);
        assert_eq!(kinds(&other), ["message"], "the same device id of another person is another device");
        assert!(kinds(&stranger).is_empty());
    }

    #[test]
    fn only_the_sending_device_hears_of_resends_and_refusals() {
        let world = World::default();
        let (phone, desk) = (world.connection(1, 1), world.connection(1, 2));
        world.deliver(1, 1, DeliveryOutcome::Repeated { seq: 4 });
        world.deliver(1, 1, DeliveryOutcome::Rejected { code: ErrorCode::IdempotencyConflict });
        assert_eq!(kinds(&phone), ["repeated", "rejected"]);
        assert!(kinds(&desk).is_empty());
    }

    #[test]
    fn a_removed_person_hears_of_the_removal_and_of_nothing_after_it() {
        let world = World::default();
        let (admin, removed) = (world.connection(1, 1), world.connection(2, 1));
        world.deliver(1, 0, stored(3, EntryKind::MemberRemoved, Some(2), &[1, 2]));
        world.deliver(1, 1, stored(4, EntryKind::Text, None, &[1, 2]));
        assert_eq!(kinds(&removed), ["message"]);
        assert_eq!(kinds(&admin), ["message", "stored"]);
    }
}
