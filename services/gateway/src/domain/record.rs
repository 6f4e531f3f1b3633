//! From the bytes of a log record to what it says, or to the reason why it is set aside.

use contracts::{
    ChatId, UserId,
    event::{
        self, ChatKind, DeliveredRecord, MembershipRecord, OwnStateRecord, RestrictionRecord, Role,
        SessionEndRecord, known,
    },
    wire::OwnState,
};

/// What a record of `chat.events` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Place(ChatId, UserId, Place),
    /// How a user has a chat.
    Own(UserId, OwnState),
    /// What moderators let a user write has changed, in a chat or, without one, everywhere.
    Restriction(Option<ChatId>, UserId),
    /// The log forgets how a user had a chat, or that what moderators let them write has changed.
    Forgotten,
}

/// A membership as a record of `chat.events` has it; by default the one of a record without a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Nothing for one who is out of the chat.
    pub(crate) role: Option<Role>,
    pub(crate) kind: Option<ChatKind>,
    /// The number of the record in its chat; 0 of one that has none.
    pub(crate) version: i64,
    pub(crate) members: u32,
    pub(crate) from_entry: bool,
}

/// Why a record says nothing here. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Record(#[from] event::Unreadable),
    #[error("its key is not a chat and a user")]
    Key,
    #[error("its ids are not those of its key")]
    Ids,
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Record(error.into())
    }
}

/// Reads a record of `message.delivered`.
pub(crate) fn delivered(payload: Option<&[u8]>) -> Result<DeliveredRecord, Unreadable> {
    Ok(DeliveredRecord::read(payload)?)
}

/// Reads a record of `chat.events`.
pub(crate) fn news(key: Option<&[u8]>, payload: Option<&[u8]>) -> Result<News, Unreadable> {
    if let Some(of) = key.and_then(RestrictionRecord::parse_key) {
        return restriction(of, payload);
    }
    let Some(seat) = key.and_then(OwnStateRecord::parse_key) else { return place(key, payload) };
    let Some(payload) = payload else { return Ok(News::Forgotten) };
    let OwnStateRecord { v, chat, user, own } = serde_json::from_slice(payload)?;
    known(v)?;
    if (chat, user) == seat { Ok(News::Own(user, OwnState { chat, own })) } else { Err(Unreadable::Ids) }
}

fn restriction(of: (Option<ChatId>, UserId), payload: Option<&[u8]>) -> Result<News, Unreadable> {
    let Some(payload) = payload else { return Ok(News::Forgotten) };
    let record: RestrictionRecord = serde_json::from_slice(payload)?;
    known(record.v)?;
    let (chat, user) = (record.place(), record.user);
    if (chat, user) == of { Ok(News::Restriction(chat, user)) } else { Err(Unreadable::Ids) }
}

/// Reads a record of a membership; without a payload it is a removal.
fn place(key: Option<&[u8]>, payload: Option<&[u8]>) -> Result<News, Unreadable> {
    let (chat, user) = key.and_then(MembershipRecord::parse_key).ok_or(Unreadable::Key)?;
    let Some(payload) = payload else { return Ok(News::Place(chat, user, Place::default())) };
    let record = MembershipRecord::read(payload)?;
    if (record.chat, record.user) != (chat, user) {
        return Err(Unreadable::Ids);
    }
    let MembershipRecord { role, kind, version, members, from_entry, .. } = record;
    Ok(News::Place(chat, user, Place { role, kind, version, members, from_entry }))
}

/// Reads a record of `session.events`.
pub(crate) fn session_end(payload: Option<&[u8]>) -> Result<SessionEndRecord, Unreadable> {
    Ok(SessionEndRecord::read(payload)?)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use contracts::api::OwnChatState;
    use contracts::event::Unreadable::{Empty, Form, Version};
    use contracts::event::{DeliveryOutcome, Ended, EntryKind, VERSION};
    use contracts::{DeviceId, ErrorCode, MessageKey};
    use kit::testing::fuzz;
    use uuid::Uuid;

    use super::*;

    fn chat() -> ChatId {
        ChatId(Uuid::from_u128(1))
    }

    fn user() -> UserId {
        UserId(Uuid::from_u128(2))
    }

    fn deliveries() -> Vec<DeliveredRecord> {
        let body = "häi \u{1f600} \\ \"";
        let mut stored = DeliveryOutcome::stored(7, EntryKind::MemberAdded, body, 1_700_000_000_000);
        if let DeliveryOutcome::Stored { subject, subject_only, expires_at_ms, .. } = &mut stored {
            (*subject, *subject_only, *expires_at_ms) = (Some(user()), true, Some(1_700_000_060_000));
        }
        let repeated = DeliveryOutcome::Repeated { seq: i64::MAX };
        let rejected = DeliveryOutcome::Rejected { code: ErrorCode::TooLarge };
        let (device, key) = (DeviceId(Uuid::from_u128(3)), MessageKey(Uuid::from_u128(4)));
        let record =
            |outcome| DeliveredRecord { v: VERSION, chat: chat(), sender: user(), device, key, outcome };
        [stored, repeated, rejected].map(record).into()
    }

    fn member(v: u8) -> Vec<u8> {
        let record = MembershipRecord {
            v,
            chat: chat(),
            user: user(),
            role: Some(Role::Admin),
            kind: Some(ChatKind::Group),
            version: 7,
            members: 3,
            from_entry: true,
        };
        serde_json::to_vec(&record).expect("JSON")
    }

    fn own(v: u8) -> Vec<u8> {
        let own = OwnChatState { version: 3, archived: true, ..OwnChatState::default() };
        let record = OwnStateRecord { v, chat: chat(), user: user(), own };
        serde_json::to_vec(&record).expect("JSON")
    }

    fn admin() -> Place {
        Place {
            role: Some(Role::Admin),
            kind: Some(ChatKind::Group),
            version: 7,
            members: 3,
            from_entry: true,
        }
    }

    #[test]
    fn a_record_is_read_or_set_aside_with_the_reason() {
        for record in deliveries() {
            let payload = serde_json::to_vec(&record).expect("JSON");
            assert_eq!(delivered(Some(&payload)), Ok(record.clone()));
            let later = serde_json::to_vec(&DeliveredRecord { v: 2, ..record }).expect("JSON");
            assert_eq!(delivered(Some(&later)), Err(Version(2).into()));
        }
        assert_eq!(delivered(None), Err(Empty.into()));
        assert_eq!(delivered(Some(b"[")), Err(Form(1).into()));

        let ends = [Ended::Account, Ended::Session("one".parse().expect("an id"))];
        for end in ends.map(|ended| SessionEndRecord { v: VERSION, user: user(), ended }) {
            let payload = serde_json::to_vec(&end).expect("JSON");
            assert_eq!(session_end(Some(&payload)), Ok(end.clone()));
            let later = serde_json::to_vec(&SessionEndRecord { v: 2, ..end }).expect("JSON");
            assert_eq!(session_end(Some(&later)), Err(Version(2).into()));
        }
        assert_eq!(session_end(None), Err(Empty.into()));
        assert_eq!(session_end(Some(b"[")), Err(Form(1).into()));

        let key = MembershipRecord::key(chat(), user());
        let key = Some(key.as_bytes());
        let other = MembershipRecord::key(chat(), UserId(Uuid::from_u128(9)));
        assert_eq!(news(key, Some(&member(VERSION))), Ok(News::Place(chat(), user(), admin())));
        assert_eq!(news(key, None), Ok(News::Place(chat(), user(), Place::default())));
        assert_eq!(news(key, Some(&member(2))), Err(Version(2).into()));
        assert_eq!(news(key, Some(b"")), Err(Form(0).into()));
        assert_eq!(news(Some(other.as_bytes()), Some(&member(VERSION))), Err(Unreadable::Ids));
        for key in [None, Some(&b"\xff/\xff"[..]), Some(b"a/b"), Some(b"")] {
            assert_eq!(news(key, Some(&member(VERSION))), Err(Unreadable::Key));
        }
    }

    #[test]
    fn how_a_user_has_a_chat_is_read_beside_the_memberships() {
        let key = OwnStateRecord::key(chat(), user());
        let key = Some(key.as_bytes());
        let state = OwnChatState { version: 3, archived: true, ..OwnChatState::default() };
        let expected = News::Own(user(), OwnState { chat: chat(), own: state });
        assert_eq!(news(key, Some(&own(VERSION))), Ok(expected));
        assert_eq!(news(key, None), Ok(News::Forgotten), "no removal");
        assert_eq!(news(key, Some(&own(2))), Err(Version(2).into()));
        assert_eq!(news(key, Some(b"")), Err(Form(0).into()));
        let other = OwnStateRecord::key(chat(), UserId(Uuid::from_u128(9)));
        assert_eq!(news(Some(other.as_bytes()), Some(&own(VERSION))), Err(Unreadable::Ids));
    }

    #[test]
    fn a_restriction_is_read_beside_the_memberships() {
        for chat in [Some(chat()), None] {
            let key = RestrictionRecord::key(chat, user());
            let key = Some(key.as_bytes());
            let payload = |v: u8| {
                serde_json::to_vec(&RestrictionRecord { v, ..RestrictionRecord::of(chat, user()) })
                    .expect("JSON")
            };
            assert_eq!(news(key, Some(&payload(VERSION))), Ok(News::Restriction(chat, user())));
            assert_eq!(news(key, None), Ok(News::Forgotten));
            assert_eq!(news(key, Some(&payload(2))), Err(Version(2).into()));
            let other = RestrictionRecord::key(chat, UserId(Uuid::from_u128(9)));
            assert_eq!(news(Some(other.as_bytes()), Some(&payload(VERSION))), Err(Unreadable::Ids));
        }
    }

    #[test]
    fn any_bytes_are_read_or_set_aside() {
        let records =
            deliveries().iter().map(|record| serde_json::to_vec(record).expect("JSON")).collect::<Vec<_>>();
        let (read, aside) = (Cell::new(0), Cell::new(0));
        fuzz(&records.iter().map(Vec::as_slice).collect::<Vec<_>>(), |bytes| match delivered(Some(bytes)) {
            Ok(record) => {
                let again = serde_json::to_vec(&record).expect("JSON");
                assert_eq!(delivered(Some(&again)), Ok(record));
                read.set(read.get() + 1);
            }
            Err(_) => aside.set(aside.get() + 1),
        });
        assert!(read.get() > 0 && aside.get() > 0, "{read:?} {aside:?}");

        let (key, payload) = (MembershipRecord::key(chat(), user()), member(VERSION));
        fuzz(&[key.as_bytes(), &payload], |bytes| {
            for found in [news(Some(key.as_bytes()), Some(bytes)), news(Some(bytes), Some(&payload))] {
                match found {
                    Ok(News::Place(of, member, _)) => assert_eq!((of, member), (chat(), user())),
                    Ok(News::Own(member, of)) => assert_eq!((of.chat, member), (chat(), user())),
                    Ok(News::Restriction(of, member)) => assert_eq!((of, member), (Some(chat()), user())),
                    Ok(News::Forgotten) | Err(_) => {}
                }
            }
        });
        let (key, payload) = (OwnStateRecord::key(chat(), user()), own(VERSION));
        fuzz(&[&payload], |bytes| {
            if let Ok(found) = news(Some(key.as_bytes()), Some(bytes)) {
                assert!(
                    matches!(found, News::Own(of, OwnState { chat: at, .. }) if (of, at) == (user(), chat()))
                );
            }
        });
    }
}
