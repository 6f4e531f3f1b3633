//! How a member has a chat. It concerns no other member: it is no entry, and needs no role.

use chrono::{DateTime, Utc};
use contracts::api::{
    Draft, MAX_DRAFT_BYTES, MUTED_FOR_GOOD_MS, OwnChatState, SetDraft, UpdateOwnChatStateRequest,
};
use kit::error::InvalidField;

use super::ScheduledCounts;

/// How a member has a chat. It begins and ends with the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnState {
    /// Counts the changes.
    pub version: i64,
    /// When the last of them was made.
    pub changed_at: Option<DateTime<Utc>>,
    pub muted_until: Option<DateTime<Utc>>,
    pub is_archived: bool,
    pub is_favourite: bool,
    pub draft: Option<Draft>,
    pub scheduled: ScheduledCounts,
}

/// What a member changes of it; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnUpdate {
    /// `Some(None)` ends it.
    pub muted_until: Option<Option<DateTime<Utc>>>,
    pub is_archived: Option<bool>,
    pub is_favourite: Option<bool>,
    /// `Some(None)` removes it.
    pub draft: Option<Option<Draft>>,
}

impl OwnUpdate {
    /// Reads a request.
    pub fn parse(request: UpdateOwnChatStateRequest) -> Result<Self, InvalidField> {
        let muted_until = match request.muted_until_ms {
            None => None,
            Some(0) => Some(None),
            Some(ms) if (1..=MUTED_FOR_GOOD_MS).contains(&ms) => Some(DateTime::from_timestamp_millis(ms)),
            Some(_) => {
                let problem = format!("must be 0 to {MUTED_FOR_GOOD_MS}");
                return Err(InvalidField { field: "muted_until_ms", problem });
            }
        };
        let draft = request.draft.map(parse_draft).transpose()?;
        Ok(Self { muted_until, is_archived: request.archived, is_favourite: request.favourite, draft })
    }
}

fn parse_draft(SetDraft { body, reply_to }: SetDraft) -> Result<Option<Draft>, InvalidField> {
    if body.len() > MAX_DRAFT_BYTES || body.contains('\0') {
        let problem = format!("must be at most {MAX_DRAFT_BYTES} bytes without U+0000");
        return Err(InvalidField { field: "draft.body", problem });
    }
    if reply_to.is_some_and(|seq| seq < 1) {
        return Err(InvalidField { field: "draft.reply_to", problem: "must be 1 or more".to_owned() });
    }
    Ok((!body.is_empty()).then_some(Draft { body, reply_to }))
}

impl OwnState {
    /// Returns the state after an update. One that changes nothing is no new version.
    pub fn after(&self, update: &OwnUpdate, at: DateTime<Utc>) -> Self {
        let changed = Self {
            version: self.version,
            changed_at: self.changed_at,
            muted_until: update.muted_until.unwrap_or(self.muted_until),
            is_archived: update.is_archived.unwrap_or(self.is_archived),
            is_favourite: update.is_favourite.unwrap_or(self.is_favourite),
            draft: update.draft.clone().unwrap_or_else(|| self.draft.clone()),
            scheduled: self.scheduled,
        };
        if changed == *self {
            return changed;
        }
        Self { version: self.version + 1, changed_at: Some(at), ..changed }
    }

    /// Returns the state after a change of what the member has scheduled. It is always a new version: a message that was changed counts
    /// as before, and the member's devices have to look again.
    pub fn with_scheduled(&self, scheduled: ScheduledCounts, at: DateTime<Utc>) -> Self {
        Self { version: self.version + 1, changed_at: Some(at), scheduled, ..self.clone() }
    }
}

impl From<OwnState> for OwnChatState {
    fn from(own: OwnState) -> Self {
        Self {
            version: own.version,
            muted_until_ms: own.muted_until.map(|until| until.timestamp_millis()),
            archived: own.is_archived,
            favourite: own.is_favourite,
            draft: own.draft,
            scheduled: own.scheduled.waiting,
            scheduled_refused: own.scheduled.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_000).expect("a moment")
    }

    #[test]
    fn each_field_changes_by_itself_and_what_is_so_is_no_new_version() {
        let parse = |muted_until_ms, archived, favourite| {
            let request =
                UpdateOwnChatStateRequest { muted_until_ms, archived, favourite, ..Default::default() };
            OwnUpdate::parse(request)
        };
        let after = |own: &OwnState, muted_until_ms, archived, favourite| {
            own.after(&parse(muted_until_ms, archived, favourite).expect("an update"), now())
        };
        let until = DateTime::from_timestamp_millis(5_000);
        let changed_at = Some(now());
        let muted = after(&OwnState::default(), Some(5_000), None, None);
        assert_eq!(muted, OwnState { version: 1, changed_at, muted_until: until, ..OwnState::default() });
        assert_eq!(after(&muted, Some(5_000), Some(false), None), muted);
        assert_eq!(after(&muted, None, None, None), muted);
        let both = after(&muted, None, Some(true), Some(true));
        let expected = OwnState { version: 2, is_archived: true, is_favourite: true, ..muted };
        assert_eq!(both, expected);
        let unmuted = after(&both, Some(0), None, Some(false));
        assert_eq!((unmuted.version, unmuted.muted_until, unmuted.is_favourite), (3, None, false));
        assert!(after(&unmuted, Some(MUTED_FOR_GOOD_MS), None, None).muted_until.is_some());
        for ms in [-1, MUTED_FOR_GOOD_MS + 1, i64::MAX] {
            assert_eq!(parse(Some(ms), None, None).map_err(|invalid| invalid.field), Err("muted_until_ms"));
        }
    }

    #[test]
    fn a_draft_is_replaced_as_a_whole_and_an_empty_one_removes_it() {
        let parse = |body: &str, reply_to| {
            let draft = Some(SetDraft { body: body.to_owned(), reply_to });
            OwnUpdate::parse(UpdateOwnChatStateRequest { draft, ..Default::default() })
        };
        let after =
            |own: &OwnState, body, reply_to| own.after(&parse(body, reply_to).expect("an update"), now());
        let draft = |body: &str, reply_to| Some(Draft { body: body.to_owned(), reply_to });
        let reply = after(&OwnState::default(), "I wi", Some(7));
        assert_eq!((reply.version, reply.draft.clone()), (1, draft("I wi", Some(7))));
        let muted = reply.after(&OwnUpdate { is_archived: Some(true), ..OwnUpdate::default() }, now());
        assert_eq!(muted.draft, reply.draft, "what is absent stays");
        let plain = after(&reply, "I will", None);
        assert_eq!((plain.version, plain.draft.clone()), (2, draft("I will", None)));
        let removed = after(&plain, "", Some(3));
        assert_eq!((removed.version, removed.draft.clone()), (3, None));
        assert_eq!(after(&removed, "", None), removed);

        let longest = "\u{20ac}".repeat(MAX_DRAFT_BYTES / 3);
        assert!(parse(&longest, None).is_ok());
        for (body, reply_to, field) in [
            (&*(longest + "xx"), None, "draft.body"),
            ("a\0b", None, "draft.body"),
            ("a", Some(0), "draft.reply_to"),
        ] {
            assert_eq!(parse(body, reply_to).map_err(|invalid| invalid.field), Err(field));
        }
    }
}
