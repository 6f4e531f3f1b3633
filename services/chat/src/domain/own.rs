//! How a member has a chat. It concerns no other member: it is no entry, and needs no role.

use chrono::{DateTime, Utc};
use contracts::api::{MUTED_FOR_GOOD_MS, OwnChatState, UpdateOwnChatStateRequest};
use kit::error::InvalidField;

/// How a member has a chat. It begins and ends with the membership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnState {
    /// Counts the changes.
    pub version: i64,
    pub muted_until: Option<DateTime<Utc>>,
    pub is_archived: bool,
    pub is_favourite: bool,
}

/// What a member changes of it; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnUpdate {
    /// `Some(None)` ends it.
    pub muted_until: Option<Option<DateTime<Utc>>>,
    pub is_archived: Option<bool>,
    pub is_favourite: Option<bool>,
}

impl OwnUpdate {
    /// Reads a request.
    pub fn parse(request: &UpdateOwnChatStateRequest) -> Result<Self, InvalidField> {
        let muted_until = match request.muted_until_ms {
            None => None,
            Some(0) => Some(None),
            Some(ms) if (1..=MUTED_FOR_GOOD_MS).contains(&ms) => Some(DateTime::from_timestamp_millis(ms)),
            Some(_) => {
                let problem = format!("must be 0 to {MUTED_FOR_GOOD_MS}");
                return Err(InvalidField { field: "muted_until_ms", problem });
            }
        };
        Ok(Self { muted_until, is_archived: request.archived, is_favourite: request.favourite })
    }
}

impl OwnState {
    /// Returns the state after an update. One that changes nothing is no new version.
    pub fn after(self, update: &OwnUpdate) -> Self {
        let changed = Self {
            version: self.version,
            muted_until: update.muted_until.unwrap_or(self.muted_until),
            is_archived: update.is_archived.unwrap_or(self.is_archived),
            is_favourite: update.is_favourite.unwrap_or(self.is_favourite),
        };
        if changed == self { self } else { Self { version: self.version + 1, ..changed } }
    }
}

impl From<OwnState> for OwnChatState {
    fn from(own: OwnState) -> Self {
        Self {
            version: own.version,
            muted_until_ms: own.muted_until.map(|until| until.timestamp_millis()),
            archived: own.is_archived,
            favourite: own.is_favourite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_changes_by_itself_and_what_is_so_is_no_new_version() {
        let parse = |muted_until_ms, archived, favourite| {
            OwnUpdate::parse(&UpdateOwnChatStateRequest { muted_until_ms, archived, favourite })
        };
        let after = |own: OwnState, muted_until_ms, archived, favourite| {
            own.after(&parse(muted_until_ms, archived, favourite).expect("an update"))
        };
        let until = DateTime::from_timestamp_millis(5_000);
        let muted = after(OwnState::default(), Some(5_000), None, None);
        assert_eq!(muted, OwnState { version: 1, muted_until: until, ..OwnState::default() });
        assert_eq!(after(muted, Some(5_000), Some(false), None), muted);
        assert_eq!(after(muted, None, None, None), muted);
        let both = after(muted, None, Some(true), Some(true));
        let expected = OwnState { version: 2, muted_until: until, is_archived: true, is_favourite: true };
        assert_eq!(both, expected);
        let unmuted = after(both, Some(0), None, Some(false));
        assert_eq!((unmuted.version, unmuted.muted_until, unmuted.is_favourite), (3, None, false));
        assert!(after(unmuted, Some(MUTED_FOR_GOOD_MS), None, None).muted_until.is_some());
        for ms in [-1, MUTED_FOR_GOOD_MS + 1, i64::MAX] {
            assert_eq!(parse(Some(ms), None, None).map_err(|invalid| invalid.field), Err("muted_until_ms"));
        }
    }
}
