//! Presence in the two forms it has: as clients read it and as services pass it on.

use uuid::Uuid;

use crate::{ChatId, UserId, convert::UnreadableField, rpc, wire};

/// Bytes of an id.
const ID_BYTES: usize = 16;

/// Writes ids as their bytes, one after the other.
pub fn pack(ids: impl IntoIterator<Item = Uuid>) -> Vec<u8> {
    ids.into_iter().flat_map(Uuid::into_bytes).collect()
}

/// Reads what [`pack`] returned; `field` is named when it cannot be.
pub fn unpack(field: &'static str, bytes: &[u8]) -> Result<Vec<Uuid>, UnreadableField> {
    let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
    if rest.is_empty() {
        Ok(ids.iter().copied().map(Uuid::from_bytes).collect())
    } else {
        Err(UnreadableField(field))
    }
}

/// Reads one id.
pub fn id(field: &'static str, bytes: &[u8]) -> Result<Uuid, UnreadableField> {
    Uuid::from_slice(bytes).map_err(|_| UnreadableField(field))
}

impl From<wire::PresenceState> for rpc::Presence {
    fn from(state: wire::PresenceState) -> Self {
        match state {
            wire::PresenceState::Unknown => Self::Unknown,
            wire::PresenceState::Offline => Self::Offline,
            wire::PresenceState::Away => Self::Away,
            wire::PresenceState::Online => Self::Online,
        }
    }
}

impl From<rpc::Presence> for wire::PresenceState {
    fn from(presence: rpc::Presence) -> Self {
        match presence {
            rpc::Presence::Unknown => Self::Unknown,
            rpc::Presence::Offline => Self::Offline,
            rpc::Presence::Away => Self::Away,
            rpc::Presence::Online => Self::Online,
        }
    }
}

impl From<wire::UserPresence> for rpc::UserPresence {
    fn from(presence: wire::UserPresence) -> Self {
        Self {
            user_id: presence.user.0.as_bytes().to_vec(),
            presence: rpc::Presence::from(presence.state).into(),
            last_seen_ms: presence.last_seen_ms.unwrap_or_default(),
        }
    }
}

impl TryFrom<rpc::UserPresence> for wire::UserPresence {
    type Error = UnreadableField;

    fn try_from(presence: rpc::UserPresence) -> Result<Self, UnreadableField> {
        Ok(Self {
            user: UserId(id("user_id", &presence.user_id)?),
            state: presence.presence().into(),
            last_seen_ms: (presence.last_seen_ms != 0).then_some(presence.last_seen_ms),
        })
    }
}

impl From<wire::TypingUser> for rpc::TypingUser {
    fn from(typing: wire::TypingUser) -> Self {
        Self { chat_id: typing.chat.0.as_bytes().to_vec(), user_id: typing.user.0.as_bytes().to_vec() }
    }
}

impl TryFrom<rpc::TypingUser> for wire::TypingUser {
    type Error = UnreadableField;

    fn try_from(typing: rpc::TypingUser) -> Result<Self, UnreadableField> {
        Ok(Self {
            chat: ChatId(id("chat_id", &typing.chat_id)?),
            user: UserId(id("user_id", &typing.user_id)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PresenceState;

    #[test]
    fn ids_read_back_and_half_an_id_is_refused() {
        let ids = [1, 2, u128::MAX].map(Uuid::from_u128);
        let mut packed = pack(ids);
        assert_eq!(unpack("online", &packed), Ok(ids.to_vec()));
        packed.pop();
        assert_eq!(unpack("online", &packed), Err(UnreadableField("online")));
        assert_eq!(unpack("online", &[]), Ok(Vec::new()));
        assert_eq!(id("user_id", &[0; 15]), Err(UnreadableField("user_id")));
    }

    #[test]
    fn presence_and_typing_survive_the_way_between_services() {
        let user = UserId(Uuid::from_u128(7));
        for (state, last_seen_ms) in [
            (PresenceState::Unknown, None),
            (PresenceState::Offline, Some(5)),
            (PresenceState::Away, None),
            (PresenceState::Online, None),
        ] {
            let presence = wire::UserPresence { user, state, last_seen_ms };
            assert_eq!(wire::UserPresence::try_from(rpc::UserPresence::from(presence)), Ok(presence));
        }
        let typing = wire::TypingUser { chat: ChatId(Uuid::from_u128(8)), user };
        assert_eq!(wire::TypingUser::try_from(rpc::TypingUser::from(typing)), Ok(typing));
    }
}
