//! Conversions between the two forms of a message: as clients read it and as services pass it on.

use std::{error, fmt};

use crate::{
    UserId,
    attachment::Attachment,
    event::{ChatKind, EntryKind, Forwarded, Role, SeqRange},
    own::{Draft, OwnChatState},
    rpc, wire,
};

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
            target_seq: message.target_seq,
            mention_ids: message.mentions.iter().map(ToString::to_string).collect(),
            mentions_all: message.mentions_all,
            mention_roles: message.mention_roles.iter().map(|role| role.as_str().to_owned()).collect(),
            mentions_here: message.mentions_here,
            silent: message.silent,
            forwarded: message.forwarded.map(|Forwarded { sender, sent_at_ms }| rpc::Forwarded {
                sender_id: sender.to_string(),
                sent_at_ms,
            }),
            range: message.range.map(|SeqRange { from_seq, to_seq }| rpc::SeqRange { from_seq, to_seq }),
            sent_at_ms: message.sent_at_ms,
            expires_at_ms: message.expires_at_ms,
            expired: message.expired,
            changes: (!message.changes.is_empty()).then(|| message.changes.into()),
            attachments: message.attachments.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Attachment> for rpc::File {
    fn from(of: Attachment) -> Self {
        let Attachment { file, name, media_type, size, width, height, duration_ms, blur, has_thumbnail } = of;
        let blur = blur.unwrap_or_default();
        Self {
            id: file.to_string(),
            name,
            r#type: media_type,
            size,
            width,
            height,
            duration_ms,
            blur,
            has_thumbnail,
        }
    }
}

impl TryFrom<rpc::File> for Attachment {
    type Error = UnreadableField;

    fn try_from(file: rpc::File) -> Result<Self, UnreadableField> {
        let attachment = Self {
            file: file.id.parse().map_err(|_| UnreadableField("file_id"))?,
            name: file.name,
            media_type: file.r#type,
            size: file.size,
            width: file.width,
            height: file.height,
            duration_ms: file.duration_ms,
            blur: Some(file.blur).filter(|blur| !blur.is_empty()),
            has_thumbnail: file.has_thumbnail,
        };
        attachment.too_long().map_or(Ok(attachment), |field| Err(UnreadableField(field)))
    }
}

impl From<wire::Changes> for rpc::Changes {
    fn from(changes: wire::Changes) -> Self {
        let wire::Changes {
            seq,
            edited_seq,
            edits,
            deleted_seq,
            pinned_seq,
            replies,
            last_reply_seq,
            reactions,
        } = changes;
        let reactions = reactions.into_iter().map(|of| rpc::Reactions {
            emoji: of.emoji,
            count: of.count,
            own: of.own,
            user_ids: of.users.iter().map(ToString::to_string).collect(),
        });
        Self {
            seq,
            edited_seq,
            edits,
            deleted_seq,
            pinned_seq,
            replies,
            last_reply_seq,
            reactions: reactions.collect(),
        }
    }
}

impl TryFrom<rpc::Changes> for wire::Changes {
    type Error = UnreadableField;

    fn try_from(changes: rpc::Changes) -> Result<Self, UnreadableField> {
        let rpc::Changes {
            seq,
            edited_seq,
            edits,
            deleted_seq,
            pinned_seq,
            replies,
            last_reply_seq,
            reactions,
        } = changes;
        let reactions = reactions.into_iter().map(|of| {
            let users = users("user_ids", &of.user_ids)?;
            Ok(wire::Reactions { emoji: of.emoji, count: of.count, own: of.own, users })
        });
        let reactions = reactions.collect::<Result<_, UnreadableField>>()?;
        Ok(Self { seq, edited_seq, edits, deleted_seq, pinned_seq, replies, last_reply_seq, reactions })
    }
}

fn users(field: &'static str, ids: &[String]) -> Result<Vec<UserId>, UnreadableField> {
    ids.iter().map(|id| id.parse().map_err(|_| UnreadableField(field))).collect()
}

fn roles(names: &[String]) -> Result<Vec<Role>, UnreadableField> {
    names.iter().map(|name| Role::parse(name).ok_or(UnreadableField("mention_roles"))).collect()
}

impl TryFrom<rpc::Forwarded> for Forwarded {
    type Error = UnreadableField;

    fn try_from(rpc::Forwarded { sender_id, sent_at_ms }: rpc::Forwarded) -> Result<Self, UnreadableField> {
        let sender = sender_id.parse().map_err(|_| UnreadableField("forwarded"))?;
        Ok(Self { sender, sent_at_ms })
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
            target_seq: message.target_seq,
            mentions: users("mention_ids", &message.mention_ids)?,
            mentions_all: message.mentions_all,
            mention_roles: roles(&message.mention_roles)?,
            mentions_here: message.mentions_here,
            silent: message.silent,
            forwarded: message.forwarded.map(TryInto::try_into).transpose()?,
            range: message.range.map(|rpc::SeqRange { from_seq, to_seq }| SeqRange { from_seq, to_seq }),
            sent_at_ms: message.sent_at_ms,
            expires_at_ms: message.expires_at_ms,
            expired: message.expired,
            changes: message.changes.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            attachments: message.attachments.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<wire::Watermarks> for rpc::Watermarks {
    fn from(of: wire::Watermarks) -> Self {
        let wire::Watermarks { read_seq, delivered_seq, unread, mentions, counted_seq } = of;
        Self { read_seq, delivered_seq, unread, mentions, counted_seq }
    }
}

impl From<rpc::Watermarks> for wire::Watermarks {
    fn from(of: rpc::Watermarks) -> Self {
        let rpc::Watermarks { read_seq, delivered_seq, unread, mentions, counted_seq } = of;
        Self { read_seq, delivered_seq, unread, mentions, counted_seq }
    }
}

impl From<OwnChatState> for rpc::OwnState {
    /// When it was changed is not in it.
    fn from(of: OwnChatState) -> Self {
        let OwnChatState {
            version,
            muted_until_ms,
            archived,
            favourite,
            draft,
            scheduled,
            scheduled_refused,
        } = of;
        let draft = draft.map(|Draft { body, reply_to }| rpc::Draft { body, reply_to });
        let muted_until_ms = muted_until_ms.unwrap_or_default();
        Self {
            version,
            muted_until_ms,
            archived,
            favourite,
            draft,
            changed_at_ms: 0,
            scheduled,
            scheduled_refused,
        }
    }
}

impl From<rpc::OwnState> for OwnChatState {
    fn from(of: rpc::OwnState) -> Self {
        let rpc::OwnState {
            version,
            muted_until_ms,
            archived,
            favourite,
            draft,
            changed_at_ms: _,
            scheduled,
            scheduled_refused,
        } = of;
        let draft = draft.map(|rpc::Draft { body, reply_to }| Draft { body, reply_to });
        let muted_until_ms = (muted_until_ms != 0).then_some(muted_until_ms);
        Self { version, muted_until_ms, archived, favourite, draft, scheduled, scheduled_refused }
    }
}

impl TryFrom<rpc::SyncResponse> for wire::SyncPage {
    type Error = UnreadableField;

    fn try_from(page: rpc::SyncResponse) -> Result<Self, UnreadableField> {
        let rpc::SyncResponse { chats, cursor, more, all_chats, unread, mentions, places: _ } = page;
        let all_chats = all_chats.map(|all| {
            let ids = all.chat_ids.iter().map(|id| id.parse().map_err(|_| UnreadableField("chat_ids")));
            ids.collect::<Result<_, UnreadableField>>()
        });
        Ok(Self {
            chats: chats.into_iter().map(TryInto::try_into).collect::<Result<_, UnreadableField>>()?,
            cursor,
            more,
            all_chats: all_chats.transpose()?,
            unread,
            mentions,
        })
    }
}

impl TryFrom<rpc::ChatState> for wire::ChatState {
    type Error = UnreadableField;

    fn try_from(state: rpc::ChatState) -> Result<Self, UnreadableField> {
        let membership = state.membership.ok_or(UnreadableField("membership"))?;
        let rpc::Membership {
            chat_id,
            kind,
            title,
            topic,
            avatar,
            slow_mode_seconds,
            message_ttl_seconds,
            other_id,
            role,
            member_count,
            own,
            ..
        } = membership;
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            chat: chat_id.parse().map_err(|_| UnreadableField("chat_id"))?,
            kind: ChatKind::parse(&kind).ok_or(UnreadableField("kind"))?,
            title: some(title),
            topic: some(topic),
            avatar: some(avatar),
            slow_mode_seconds,
            message_ttl_seconds,
            other: match other_id.as_str() {
                "" => None,
                id => Some(id.parse().map_err(|_| UnreadableField("other_id"))?),
            },
            role: Role::parse(&role).ok_or(UnreadableField("role"))?,
            own: own.map(Into::into).unwrap_or_default(),
            member_count,
            head_seq: state.head_seq,
            from_seq: state.from_seq,
            watermarks: state.watermarks.map(Into::into).unwrap_or_default(),
            other_read_seq: state.other_read_seq,
            other_delivered_seq: state.other_delivered_seq,
            entries: state
                .entries
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, UnreadableField>>()?,
            limited: state.limited,
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{ChatId, FileId, MessageKey};

    fn picture() -> Attachment {
        Attachment {
            name: "two cats.jpg".into(),
            media_type: "image/jpeg".into(),
            size: 48_213,
            width: Some(1_600),
            height: Some(1_200),
            duration_ms: Some(40),
            blur: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".into()),
            has_thumbnail: true,
            ..Attachment::unknown(FileId(Uuid::from_u128(7)))
        }
    }

    fn message(kind: EntryKind, subject: Option<u128>) -> wire::Message {
        wire::Message {
            chat: ChatId(Uuid::from_u128(1)),
            seq: 7,
            sender: UserId(Uuid::from_u128(2)),
            key: MessageKey(Uuid::from_u128(3)),
            kind,
            body: "hi".into(),
            subject: subject.map(|n| UserId(Uuid::from_u128(n))),
            target_seq: subject.map(|_| 3),
            mentions: vec![UserId(Uuid::from_u128(8))],
            mentions_all: true,
            mention_roles: vec![Role::Owner, Role::Admin],
            mentions_here: true,
            silent: true,
            attachments: vec![picture(), Attachment::unknown(FileId(Uuid::from_u128(8)))],
            forwarded: Some(Forwarded { sender: UserId(Uuid::from_u128(6)), sent_at_ms: 4 }),
            range: subject.map(|_| SeqRange { from_seq: 2, to_seq: 6 }),
            sent_at_ms: 5,
            expires_at_ms: Some(9),
            expired: subject.is_some(),
            changes: wire::Changes {
                seq: 9,
                edited_seq: Some(8),
                replies: 2,
                last_reply_seq: Some(9),
                reactions: vec![wire::Reactions {
                    emoji: "\u{1f44d}".into(),
                    count: 3,
                    own: true,
                    users: vec![UserId(Uuid::from_u128(9))],
                }],
                ..wire::Changes::default()
            },
        }
    }

    #[test]
    fn a_message_survives_the_way_between_services() {
        for message in [message(EntryKind::Text, None), message(EntryKind::MemberAdded, Some(4))] {
            assert_eq!(wire::Message::try_from(rpc::Message::from(message.clone())), Ok(message));
        }
    }

    #[test]
    fn how_a_member_has_a_chat_survives_the_way_between_services() {
        let draft = Some(Draft { body: "I wi".into(), reply_to: Some(7) });
        let own = OwnChatState {
            version: 5,
            muted_until_ms: Some(9),
            archived: true,
            favourite: true,
            draft,
            scheduled: 2,
            scheduled_refused: 1,
        };
        for own in [own, OwnChatState::default()] {
            assert_eq!(OwnChatState::from(rpc::OwnState::from(own.clone())), own);
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
        check("mention_roles", |message| message.mention_roles.push("guest".into()));
        check("forwarded", |message| {
            message.forwarded.as_mut().expect("a forwarded message").sender_id.clear();
        });
        check("file_id", |message| message.attachments[0].id.clear());
        check("name", |message| message.attachments[0].name = "n".repeat(256));
        check("mention_ids", |message| message.mention_ids.push("not an id".into()));
        check("user_ids", |message| {
            let changes = message.changes.as_mut().expect("changes");
            changes.reactions[0].user_ids.push("not an id".into());
        });
    }
}
