//! Ids as types, so that a chat is never passed where a user is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Returns a fresh, time-ordered id.
            #[expect(clippy::disallowed_methods, reason = "ids are made here and nowhere else")]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// A chat, direct or group. Also the Kafka record key, which keeps one chat on one partition.
    ChatId
}
uuid_id! {
    /// A user: the `sub` claim of the tenant's realm.
    UserId
}
uuid_id! {
    /// One installation of a client. Chosen by the client and kept for as long as it is installed.
    DeviceId
}
uuid_id! {
    /// The sender's idempotency key of a message. The same (chat, sender, key) is the same message forever.
    MessageKey
}

uuid_id! {
    /// An invite link of a chat. It names the link to those who manage it, and lets no one in.
    InviteId
}

uuid_id! {
    /// A file that a user uploaded. It is one file for as long as it lives: what is in it never changes.
    FileId
}

uuid_id! {
    /// Where a user is notified of messages that no device takes.
    SubscriptionId
}

uuid_id! {
    /// A set of rules by which messages are judged. What it says never changes.
    RuleSetId
}

uuid_id! {
    /// A message that was reported to the moderators.
    ReportId
}

uuid_id! {
    /// A warning, a mute or a ban of a user.
    SanctionId
}

uuid_id! {
    /// The appeal of a user against a sanction.
    AppealId
}

/// Longest id of a session in bytes. The realm's own have 36 or fewer.
const MAX_SESSION_ID_BYTES: usize = 128;

/// A session of a user: it begins with a sign-in, and all tokens that its refreshes give carry its id, the `sid` claim. The
/// realm chooses the form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String)]
pub struct SessionId(Box<str>);

/// The text is not the id of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a session has 1 to {MAX_SESSION_ID_BYTES} visible ASCII characters")]
pub struct InvalidSessionId;

impl SessionId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: String) -> Result<Self, InvalidSessionId> {
        text.parse()
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        let is_id =
            (1..=MAX_SESSION_ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_id { Ok(Self(text.into())) } else { Err(InvalidSessionId) }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_session_is_one_bounded_word() {
        let longest = "x".repeat(MAX_SESSION_ID_BYTES);
        for good in ["a", "0190f5a0-7b1e-7c3d-8f00-0123456789ab", "aB3_-", &longest] {
            let id: SessionId = good.parse().expect("an id");
            assert_eq!(serde_json::to_string(&id).expect("json"), format!("\"{good}\""));
        }
        for bad in ["", "a b", "a\n", "\u{e9}", &format!("{longest}x")] {
            assert_eq!(bad.parse::<SessionId>(), Err(InvalidSessionId), "{bad}");
            assert!(serde_json::from_value::<SessionId>(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_reads_and_prints_as_a_hyphenated_uuid() {
        let text = "0190f5a0-7b1e-7c3d-8f00-0123456789ab";
        let id: ChatId = text.parse().expect("a uuid");
        assert_eq!(id.to_string(), text);
        assert_eq!(serde_json::to_string(&id).expect("json"), format!("\"{text}\""));
    }
}
