//! Profiles and what may stand in them. Rules only: no I/O, no clock.

use chrono::{DateTime, Utc};
use contracts::{UserId, api::UpdateProfileRequest};

/// Longest display name in characters. Its lower-case form is stored as well and may be longer.
pub const MAX_DISPLAY_NAME_CHARS: usize = 64;
/// Longest text about oneself in characters.
pub const MAX_ABOUT_CHARS: usize = 500;
/// Longest prefix that is searched for, in characters.
pub const MAX_QUERY_CHARS: usize = 64;
/// Keycloak's own limit for usernames.
const MAX_USERNAME_CHARS: usize = 255;

/// A user as others see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub user_id: UserId,
    pub username: String,
    pub display_name: String,
    pub about: String,
    pub created_at: DateTime<Utc>,
}

/// A user the realm knows: the owner of a token, or a user who has just registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    pub user_id: UserId,
    pub username: String,
    pub display_name: String,
}

/// Changes to one's own profile; absent fields stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileUpdate {
    pub display_name: Option<String>,
    pub about: Option<String>,
}

/// Which profiles to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// In lower case; empty finds all users.
    pub prefix: String,
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

/// Why a field of a request cannot stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    #[error("username: 1 to {MAX_USERNAME_CHARS} characters without control characters")]
    Username,
    #[error("display_name: 1 to {MAX_DISPLAY_NAME_CHARS} characters without control characters")]
    DisplayName,
    #[error(
        "about: at most {MAX_ABOUT_CHARS} characters, with no control characters but line breaks and tabs"
    )]
    About,
    #[error("query: at most {MAX_QUERY_CHARS} characters without control characters")]
    Query,
    #[error("cursor: not one of this service")]
    Cursor,
}

impl Newcomer {
    /// Reads what the realm reports. An empty display name is the username, cut to its limit.
    pub fn parse(user_id: UserId, username: &str, display_name: &str) -> Result<Self, InvalidField> {
        let username = text(username, 1..=MAX_USERNAME_CHARS).ok_or(InvalidField::Username)?;
        let display_name = match display_name.trim() {
            "" => username.chars().take(MAX_DISPLAY_NAME_CHARS).collect(),
            name => text(name, 1..=MAX_DISPLAY_NAME_CHARS).ok_or(InvalidField::DisplayName)?,
        };
        Ok(Self { user_id, username, display_name })
    }
}

impl ProfileUpdate {
    /// Reads a request.
    pub fn parse(request: UpdateProfileRequest) -> Result<Self, InvalidField> {
        let display_name = request
            .display_name
            .map(|name| text(&name, 1..=MAX_DISPLAY_NAME_CHARS).ok_or(InvalidField::DisplayName))
            .transpose()?;
        if request.about.as_deref().is_some_and(|about| {
            about.chars().count() > MAX_ABOUT_CHARS
                || about.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
        }) {
            return Err(InvalidField::About);
        }
        Ok(Self { display_name, about: request.about })
    }
}

impl Search {
    /// Reads a query and a cursor of the page before.
    pub fn parse(query: &str, cursor: Option<&str>, limit: usize) -> Result<Self, InvalidField> {
        let prefix = text(query, 0..=MAX_QUERY_CHARS).ok_or(InvalidField::Query)?;
        let after = cursor.map(|cursor| Cursor::parse(cursor).ok_or(InvalidField::Cursor)).transpose()?;
        Ok(Self { prefix: search_key(&prefix), after, limit })
    }

    /// Returns whether a profile is found, whatever the page.
    pub fn finds(&self, profile: &Profile) -> bool {
        search_key(&profile.username).starts_with(&self.prefix)
            || search_key(&profile.display_name).starts_with(&self.prefix)
    }
}

impl Cursor {
    /// Returns the place of a profile.
    pub fn of(profile: &Profile) -> Self {
        Self { username: profile.username.clone(), user_id: profile.user_id }
    }

    fn parse(cursor: &str) -> Option<Self> {
        let (user_id, username) = cursor.split_once('.')?;
        Some(Self { username: text(username, 1..=MAX_USERNAME_CHARS)?, user_id: user_id.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.user_id, self.username)
    }
}

/// Returns a text as searches compare it.
pub fn search_key(text: &str) -> String {
    text.to_lowercase()
}

fn text(text: &str, chars: std::ops::RangeInclusive<usize>) -> Option<String> {
    let text = text.trim();
    let fits = chars.contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ANN: UserId = UserId(Uuid::from_u128(1));

    fn update(display_name: Option<&str>, about: Option<&str>) -> Result<ProfileUpdate, InvalidField> {
        ProfileUpdate::parse(UpdateProfileRequest {
            display_name: display_name.map(str::to_owned),
            about: about.map(str::to_owned),
        })
    }

    #[test]
    fn a_newcomer_without_a_display_name_goes_by_the_username() {
        let newcomer = |username: &str, name: &str| {
            Newcomer::parse(ANN, username, name).map(|newcomer| newcomer.display_name)
        };
        assert_eq!(newcomer("ann", " "), Ok("ann".to_owned()));
        assert_eq!(newcomer("ann", " Ann A. "), Ok("Ann A.".to_owned()));
        assert_eq!(newcomer(&"x".repeat(255), ""), Ok("x".repeat(64)));
        assert_eq!(newcomer("", "Ann"), Err(InvalidField::Username));
        assert_eq!(newcomer("ann", "a\u{0}b"), Err(InvalidField::DisplayName));
    }

    #[test]
    fn an_update_keeps_within_its_limits() {
        assert_eq!(update(None, None), Ok(ProfileUpdate::default()));
        assert!(update(Some("Änn"), Some("Line one\nline two")).is_ok());
        assert!(update(Some(&"ä".repeat(64)), Some(&"ä".repeat(500))).is_ok());
        assert_eq!(update(Some(&"ä".repeat(65)), None), Err(InvalidField::DisplayName));
        assert_eq!(update(Some("  "), None), Err(InvalidField::DisplayName));
        assert_eq!(update(None, Some(&"ä".repeat(501))), Err(InvalidField::About));
        assert_eq!(update(None, Some("bell\u{7}")), Err(InvalidField::About));
    }

    #[test]
    fn a_cursor_reads_back_whatever_the_username() {
        let cursor = Cursor { username: "ann.b-c".to_owned(), user_id: ANN };
        let search = Search::parse("A", Some(&cursor.to_string()), 10).expect("a search");
        assert_eq!((search.prefix.as_str(), search.after), ("a", Some(cursor)));
        for bad in ["", "ann", "7.ann", "00000000-0000-0000-0000-000000000001.a\u{0}"] {
            assert_eq!(Search::parse("", Some(bad), 10), Err(InvalidField::Cursor));
        }
    }
}
