//! Profiles and what may stand in them. Rules only: no I/O, no clock.

mod erasure;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    UserId,
    api::{ContactableBy, PresenceVisibleTo, SetStatus, UpdateProfileRequest},
};
use kit::{
    error::InvalidField,
    text::{About, DisplayName, NameQuery, StatusText, Username, is_emoji, search_key},
};
use serde_json::{Map, Value};

pub use self::erasure::{ChatsErased, Erasure, RECEIPT_DAYS, ReceiptHash};

/// Longest prefix that is searched for, in characters.
const MAX_QUERY_CHARS: usize = 64;

/// Longest settings of a user as JSON, in bytes.
pub const MAX_SETTINGS_BYTES: usize = 64 * 1024;

/// Characters of the longest emoji of a status: a family of four has seven, the flag of a region as many.
const MAX_EMOJI_CHARS: usize = 16;

/// For how long a status is shown at most.
const MAX_STATUS_SECONDS: u32 = 365 * 24 * 3600;

/// Most users in the contacts of one user: they are counted with each new one.
pub const MAX_CONTACTS: usize = 5000;

/// A user in the contacts of another one, who may have an own name for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    pub profile: Profile,
    pub name: Option<String>,
    pub added_at: DateTime<Utc>,
}

/// Whether a user shows another one when they are online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceShown {
    Always,
    /// If the two are in a chat together, which the chat service knows.
    SharedChats,
    Never,
}

impl PresenceShown {
    /// Returns what a user shows. `has_viewer` says whether the viewer is in the user's contacts.
    pub const fn by(setting: PresenceVisibleTo, has_viewer: bool) -> Self {
        match setting {
            PresenceVisibleTo::Everyone => Self::Always,
            PresenceVisibleTo::SharedChats => Self::SharedChats,
            PresenceVisibleTo::Contacts if has_viewer => Self::Always,
            PresenceVisibleTo::Contacts | PresenceVisibleTo::Nobody => Self::Never,
        }
    }

    /// Returns it as it is sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::SharedChats => "shared_chats",
            Self::Never => "never",
        }
    }
}

/// A user. Others see all but the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub user_id: UserId,
    pub username: String,
    pub display_name: String,
    pub about: String,
    /// A setting: who may add the user to a group, or open a direct chat with them.
    pub contactable_by: ContactableBy,
    /// A setting: who sees when the user is online.
    pub presence_visible_to: PresenceVisibleTo,
    /// A setting: whether others learn what the user has read.
    pub read_receipts: bool,
    /// Perhaps one that has expired.
    pub status: Option<Status>,
    pub created_at: DateTime<Utc>,
    /// The account is deleted: the display name is the username, `about` is empty, and there is no status.
    pub is_deleted: bool,
    /// Grows with each change, from 1 on.
    pub version: i64,
}

/// What a user is doing at present: a text, an emoji, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub text: Option<String>,
    pub emoji: Option<String>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// What a user's clients share between their devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Counts the changes; 0 before the first one.
    pub version: i64,
    pub settings: Map<String, Value>,
}

impl Settings {
    /// Returns the settings as they are stored; refuses those that are too long.
    pub fn to_json(&self) -> Result<String, TooLong> {
        let json = serde_json::to_string(&self.settings).expect("a map with texts as keys is JSON");
        if json.len() > MAX_SETTINGS_BYTES { Err(TooLong) } else { Ok(json) }
    }
}

/// Settings are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("settings: must have at most {MAX_SETTINGS_BYTES} bytes as JSON")]
pub struct TooLong;

impl Profile {
    /// Returns the status, unless it has expired.
    pub fn status_at(&self, now: DateTime<Utc>) -> Option<&Status> {
        self.status.as_ref().filter(|status| status.expires_at.is_none_or(|at| at > now))
    }

    /// Returns what a deleted account is shown as: what is known of it to others anyway.
    pub fn deleted_name(username: &str) -> String {
        username.chars().take(DisplayName::MAX_CHARS).collect()
    }
}

/// A user whose deletion has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub user_id: UserId,
    pub began_at: DateTime<Utc>,
}

/// A place in the order of deletions: by their beginning, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeletionPosition {
    pub began_at: DateTime<Utc>,
    pub user_id: UserId,
}

/// A user the realm knows: the owner of a token, or a user who has just registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    pub user_id: UserId,
    pub username: Username,
    pub display_name: DisplayName,
}

/// Changes to one's own profile; absent fields stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileUpdate {
    pub display_name: Option<DisplayName>,
    pub about: Option<About>,
    pub contactable_by: Option<ContactableBy>,
    pub presence_visible_to: Option<PresenceVisibleTo>,
    pub read_receipts: Option<bool>,
    /// `Some(None)` removes it.
    pub status: Option<Option<Status>>,
}

/// What a profile is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    All,
    /// The start of the username or of the display name, as a search key.
    Prefix(String),
    /// Exactly this username.
    Username(Username),
    /// Words of the username and the display name by their beginnings, of all users or of these.
    Words {
        query: NameQuery,
        among: Option<Vec<UserId>>,
    },
    /// Exactly this username, be it of a deleted account. All others find no deleted accounts.
    Holder(Username),
}

/// Which profiles to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    pub find: Find,
    /// The last profile of the page before.
    pub after: Option<Cursor>,
    pub limit: usize,
}

/// A place in the order of a search: by username, then by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub username: String,
    pub user_id: UserId,
}

impl Newcomer {
    /// Reads what the realm reports. An empty display name is the username, cut to its limit.
    pub fn parse(user_id: UserId, username: &str, display_name: &str) -> Result<Self, InvalidField> {
        const FIELD: &str = "display_name";
        let username = Username::parse("username", username)?;
        let display_name = match display_name.trim() {
            "" => DisplayName::cut(FIELD, username.as_str())?,
            name => DisplayName::parse(FIELD, name)?,
        };
        Ok(Self { user_id, username, display_name })
    }
}

impl ProfileUpdate {
    /// Reads a request that is made now.
    pub fn parse(request: UpdateProfileRequest, now: DateTime<Utc>) -> Result<Self, InvalidField> {
        let display_name = request.display_name.map(|name| DisplayName::parse("display_name", &name));
        let about = request.about.map(|about| About::parse("about", &about));
        Ok(Self {
            display_name: display_name.transpose()?,
            about: about.transpose()?,
            contactable_by: request.contactable_by,
            presence_visible_to: request.presence_visible_to,
            read_receipts: request.read_receipts,
            status: request.status.map(|status| Status::parse(status, now)).transpose()?,
        })
    }
}

impl Status {
    /// Reads a status that is set now; `None` when it has nothing to show.
    fn parse(status: SetStatus, now: DateTime<Utc>) -> Result<Option<Self>, InvalidField> {
        const SECONDS: &str = "expires_in_seconds";
        let text = status.text.map(|text| StatusText::parse("text", &text)).transpose()?;
        let is_one = |emoji: &String| emoji.chars().count() <= MAX_EMOJI_CHARS && is_emoji(emoji);
        if status.emoji.as_ref().is_some_and(|emoji| !is_one(emoji)) {
            let problem = format!("must be one emoji of at most {MAX_EMOJI_CHARS} characters");
            return Err(InvalidField { field: "emoji", problem });
        }
        let seconds = status.expires_in_seconds;
        if seconds.is_some_and(|seconds| !(1..=MAX_STATUS_SECONDS).contains(&seconds)) {
            let problem = format!("must be 1 to {MAX_STATUS_SECONDS}");
            return Err(InvalidField { field: SECONDS, problem });
        }
        // As precise as it is sent.
        let now = DateTime::from_timestamp_millis(now.timestamp_millis()).expect("a moment");
        let expires_at = seconds.map(|seconds| now + TimeDelta::seconds(seconds.into()));
        let status =
            Self { text: text.map(|text| text.as_str().to_owned()), emoji: status.emoji, expires_at };
        Ok((status.text.is_some() || status.emoji.is_some()).then_some(status))
    }
}

impl Search {
    /// Reads what to find and a cursor of the page before.
    pub fn parse(
        query: Option<&str>,
        username: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Self, InvalidField> {
        let find = match (query, username) {
            (None, None) => Find::All,
            (Some(query), None) => Find::query(query)?,
            (_, Some(username)) => Find::Username(Username::parse("username", username)?),
        };
        let not_ours = || InvalidField { field: "cursor", problem: "must be one of this service".to_owned() };
        let after = cursor.map(|cursor| Cursor::parse(cursor).ok_or_else(not_ours)).transpose()?;
        Ok(Self { find, after, limit })
    }

    /// Returns the search for the holder of a username, of a deleted account too.
    pub fn holder(username: &str) -> Result<Self, InvalidField> {
        Ok(Self { find: Find::Holder(Username::parse("username", username)?), after: None, limit: 1 })
    }

    /// Returns the search for users by words of their names, of all users or of some.
    pub fn words(query: &str, among: Option<Vec<UserId>>, limit: usize) -> Result<Self, InvalidField> {
        let query = NameQuery::parse("query", query)?;
        Ok(Self { find: Find::Words { query, among }, after: None, limit })
    }

    /// Returns whether a profile is found, whatever the page.
    pub fn finds(&self, profile: &Profile) -> bool {
        match &self.find {
            Find::Holder(username) => profile.username == username.as_str(),
            _ if profile.is_deleted => false,
            Find::All => true,
            Find::Prefix(prefix) => {
                profile.username.starts_with(prefix) || search_key(&profile.display_name).starts_with(prefix)
            }
            Find::Words { query, among } => {
                among.as_ref().is_none_or(|among| among.contains(&profile.user_id))
                    && query.finds(&[&search_key(&profile.username), &search_key(&profile.display_name)])
            }
            Find::Username(username) => profile.username == username.as_str(),
        }
    }
}

impl Find {
    fn query(query: &str) -> Result<Self, InvalidField> {
        let query = query.trim();
        let prefix = search_key(query);
        if query.chars().count() > MAX_QUERY_CHARS || prefix.chars().any(char::is_control) {
            let problem =
                format!("must have at most {MAX_QUERY_CHARS} characters, and no control characters");
            return Err(InvalidField { field: "query", problem });
        }
        Ok(if prefix.is_empty() { Self::All } else { Self::Prefix(prefix) })
    }
}

impl Cursor {
    /// Returns the place of a profile.
    pub fn of(profile: &Profile) -> Self {
        Self { username: profile.username.clone(), user_id: profile.user_id }
    }

    fn parse(cursor: &str) -> Option<Self> {
        let (user_id, username) = cursor.split_once('.')?;
        // Any place in the order will do, as long as it can be compared.
        let is_comparable = !username.is_empty() && !username.chars().any(char::is_control);
        is_comparable.then_some(())?;
        Some(Self { username: username.to_owned(), user_id: user_id.parse().ok()? })
    }
}

impl DeletionPosition {
    /// Returns the place of a deletion.
    pub fn of(deletion: &Deletion) -> Self {
        Self { began_at: deletion.began_at, user_id: deletion.user_id }
    }

    /// Reads a place; an empty text is before all.
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidField> {
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = || {
            let (micros, user_id) = text.split_once('.')?;
            let began_at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
            Some(Self { began_at, user_id: user_id.parse().ok()? })
        };
        let not_ours = || InvalidField { field: "after", problem: "must be one of this service".to_owned() };
        parsed().map(Some).ok_or_else(not_ours)
    }
}

impl std::fmt::Display for DeletionPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.began_at.timestamp_micros(), self.user_id)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.user_id, self.username)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ANN: UserId = UserId(Uuid::from_u128(1));

    fn update(display_name: Option<&str>, about: Option<&str>) -> Result<ProfileUpdate, &'static str> {
        let request = UpdateProfileRequest {
            display_name: display_name.map(str::to_owned),
            about: about.map(str::to_owned),
            ..UpdateProfileRequest::default()
        };
        let update = ProfileUpdate::parse(request, DateTime::UNIX_EPOCH);
        update.map_err(|error| error.field)
    }

    #[test]
    fn a_newcomer_without_a_display_name_goes_by_the_username() {
        let newcomer = |username: &str, name: &str| {
            let newcomer = Newcomer::parse(ANN, username, name).map_err(|error| error.field)?;
            Ok(newcomer.display_name.as_str().to_owned())
        };
        assert_eq!(newcomer("ann", " "), Ok("ann".to_owned()));
        assert_eq!(newcomer("ann", " Ann A. "), Ok("Ann A.".to_owned()));
        assert_eq!(newcomer(&"x".repeat(255), ""), Ok("x".repeat(64)));
        assert_eq!(newcomer("", "Ann"), Err("username"));
        assert_eq!(newcomer("ann", "a\u{0}b"), Err("display_name"));
    }

    #[test]
    fn an_update_names_the_field_that_cannot_be_taken() {
        assert_eq!(update(None, None), Ok(ProfileUpdate::default()));
        let both = update(Some(" \u{c4}nn "), Some("one\r\ntwo")).expect("an update");
        assert_eq!(both.display_name.as_ref().map(DisplayName::as_str), Some("\u{c4}nn"));
        assert_eq!(both.about.as_ref().map(About::as_str), Some("one\ntwo"));
        assert_eq!(update(Some("  "), None), Err("display_name"));
        assert_eq!(update(None, Some("bell\u{7}")), Err("about"));
    }

    #[test]
    fn a_status_has_something_to_show_for_a_time() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a moment");
        let status = |text: Option<&str>, emoji: Option<&str>, expires_in_seconds| {
            let (text, emoji) = (text.map(str::to_owned), emoji.map(str::to_owned));
            Status::parse(SetStatus { text, emoji, expires_in_seconds }, now).map_err(|error| error.field)
        };
        let away =
            status(Some(" out  for lunch"), Some("\u{1f35d}"), Some(60)).expect("a status").expect("one");
        assert_eq!((away.text.as_deref(), away.emoji.as_deref()), (Some("out for lunch"), Some("\u{1f35d}")));
        let profile = Profile {
            user_id: ANN,
            username: "ann".to_owned(),
            display_name: "Ann".to_owned(),
            about: String::new(),
            contactable_by: ContactableBy::default(),
            presence_visible_to: PresenceVisibleTo::default(),
            read_receipts: true,
            status: Some(away),
            created_at: now,
            is_deleted: false,
            version: 1,
        };
        assert!(profile.status_at(now + TimeDelta::seconds(59)).is_some());
        assert_eq!(profile.status_at(now + TimeDelta::seconds(60)), None);
        assert_eq!(status(None, None, Some(60)), Ok(None));
        for (text, emoji, seconds, field) in [
            (Some(" "), None, None, "text"),
            (Some("\u{202e}up"), None, None, "text"),
            (Some("a\nb"), None, None, "text"),
            (Some("ok"), Some("a"), None, "emoji"),
            (Some("ok"), None, Some(0), "expires_in_seconds"),
            (Some("ok"), None, Some(MAX_STATUS_SECONDS + 1), "expires_in_seconds"),
        ] {
            assert_eq!(status(text, emoji, seconds), Err(field), "{text:?} {emoji:?} {seconds:?}");
        }
        assert_eq!(status(Some(&"x".repeat(101)), None, None), Err("text"));
    }

    #[test]
    fn presence_is_shown_to_those_who_are_set() {
        for (setting, has_viewer, expected) in [
            (PresenceVisibleTo::Everyone, false, PresenceShown::Always),
            (PresenceVisibleTo::SharedChats, true, PresenceShown::SharedChats),
            (PresenceVisibleTo::Contacts, true, PresenceShown::Always),
            (PresenceVisibleTo::Contacts, false, PresenceShown::Never),
            (PresenceVisibleTo::Nobody, true, PresenceShown::Never),
        ] {
            assert_eq!(PresenceShown::by(setting, has_viewer), expected, "{setting:?} {has_viewer}");
        }
    }

    #[test]
    fn settings_have_a_longest_form() {
        let of = |bytes: usize| {
            // {"a":""} are eight.
            let settings = Map::from_iter([("a".to_owned(), Value::from("x".repeat(bytes - 8)))]);
            Settings { version: 0, settings }.to_json().map(|json| json.len())
        };
        assert_eq!(of(MAX_SETTINGS_BYTES), Ok(MAX_SETTINGS_BYTES));
        assert_eq!(of(MAX_SETTINGS_BYTES + 1), Err(TooLong));
    }

    #[test]
    fn a_query_is_compared_in_the_form_of_the_keys() {
        let prefix = |query: &str| match Find::query(query) {
            Ok(Find::Prefix(prefix)) => Some(prefix),
            Ok(Find::All | Find::Username(_) | Find::Holder(_) | Find::Words { .. }) | Err(_) => None,
        };
        assert_eq!(prefix(" ANN "), Some("ann".to_owned()));
        assert_eq!(prefix("Zoe\u{308}"), Some("zo\u{eb}".to_owned()));
        assert_eq!(prefix(&"x".repeat(64)), Some("x".repeat(64)));
        assert_eq!(prefix(&"x".repeat(65)), None);
        assert_eq!(prefix("a\u{7}"), None);
        assert_eq!(Find::query(" "), Ok(Find::All));
    }

    #[test]
    fn a_place_among_deletions_reads_back() {
        let began_at = DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("a moment");
        let position = DeletionPosition { began_at, user_id: ANN };
        assert_eq!(DeletionPosition::parse(&position.to_string()), Ok(Some(position)));
        assert_eq!(DeletionPosition::parse(""), Ok(None));
        for bad in ["ann", "1", "1.ann", "x.00000000-0000-0000-0000-000000000001"] {
            assert_eq!(DeletionPosition::parse(bad).map_err(|error| error.field), Err("after"), "{bad}");
        }
    }

    #[test]
    fn a_cursor_reads_back_whatever_the_username() {
        let cursor = Cursor { username: "ann.b-c".to_owned(), user_id: ANN };
        let search = Search::parse(None, None, Some(&cursor.to_string()), 10).expect("a search");
        assert_eq!(search.after, Some(cursor));
        for bad in ["", "ann", "7.ann", "00000000-0000-0000-0000-000000000001.a\u{0}"] {
            let error = Search::parse(None, None, Some(bad), 10).expect_err("no cursor");
            assert_eq!(error.field, "cursor", "{bad}");
        }
    }
}
