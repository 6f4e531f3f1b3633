//! Conversions between the two forms of a message: as clients read it and as services pass it on.

use std::{error, fmt};

use crate::{event::EntryKind, rpc, wire};

/// A message came over gRPC with a field that cannot be read: its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableField(pub &'static str);

impl fmt::Display for UnreadableField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the field {} cannot be read", self.0)
    }
}

impl error::Error for UnreadableField {}

impl From<wire::Message> for rpc::Message {
    fn from(message: wire::Message) -> Self {
        Self {
            chat_id: message.chat.to_string(),
            seq: message.seq,
            sender_id: message.sender.to_string(),
            key: message.key.to_string(),
            kind: message.kind.as_str().to_owned(),
            body: message.body,
            subject_id: message.subject.map(|subject| subject.to_string()).unwrap_or_default(),
            sent_at_ms: message.sent_at_ms,
        }
    }
}

impl TryFrom<rpc::Message> for wire::Message {
    type Error = UnreadableField;

    fn try_from(message: rpc::Message) -> Result<Self, UnreadableField> {
        Ok(Self {
            chat: message.chat_id.parse().map_err(|_| UnreadableField("chat_id"))?,
            seq: message.seq,
            sender: message.sender_id.parse().map_err(|_| UnreadableField("sender_id"))?,
            key: message.key.parse().map_err(|_| UnreadableField("key"))?,
            kind: EntryKind::parse(&message.kind).ok_or(UnreadableField("kind"))?,
            body: message.body,
            subject: match message.subject_id.as_str() {
                "" => None,
                id => Some(id.parse().map_err(|_| UnreadableField("subject_id"))?),
            },
            sent_at_ms: message.sent_at_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{ChatId, MessageKey, UserId};

    fn message(kind: EntryKind, subject: Option<u128>) -> wire::Message {
        wire::Message {
            chat: ChatId(Uuid::from_u128(1)),
            seq: 7,
            sender: UserId(Uuid::from_u128(2)),
            key: MessageKey(Uuid::from_u128(3)),
            kind,
            body: "hi".into(),
            subject: subject.map(|n| UserId(Uuid::from_u128(n))),
            sent_at_ms: 5,
        }
    }

    #[test]
    fn a_message_survives_the_way_between_services() {
        for message in [message(EntryKind::Text, None), message(EntryKind::MemberAdded, Some(4))] {
            assert_eq!(wire::Message::try_from(rpc::Message::from(message.clone())), Ok(message));
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        let check = |field: &'static str, spoil: fn(&mut rpc::Message)| {
            let mut message = rpc::Message::from(message(EntryKind::Text, None));
            spoil(&mut message);
            assert_eq!(wire::Message::try_from(message), Err(UnreadableField(field)));
        };
        check("chat_id", |message| message.chat_id.clear());
        check("sender_id", |message| message.sender_id = "not an id".into());
        check("key", |message| message.key.clear());
        check("kind", |message| message.kind = "poem".into());
        check("subject_id", |message| message.subject_id = "not an id".into());
    }
}
