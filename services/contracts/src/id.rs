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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_and_prints_as_a_hyphenated_uuid() {
        let text = "0190f5a0-7b1e-7c3d-8f00-0123456789ab";
        let id: ChatId = text.parse().expect("a uuid");
        assert_eq!(id.to_string(), text);
        assert_eq!(serde_json::to_string(&id).expect("json"), format!("\"{text}\""));
    }
}
