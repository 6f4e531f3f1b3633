//! Accounts and what may stand in them. Rules only: no I/O, no clock.

use std::fmt;

use contracts::api::RegisterRequest;
use secrecy::SecretString;

/// Shortest and longest username in characters.
const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=32;
/// Longest password in bytes. Hashing a longer one is work for nothing; the realm's policy has the other rules.
const MAX_PASSWORD_BYTES: usize = 256;
/// Longest refresh token in bytes: Keycloak reads no longer parameter. Its own have about a thousand.
const MAX_REFRESH_TOKEN_BYTES: usize = 4000;
/// Longest display name in characters; the user service has the same limit.
const MAX_DISPLAY_NAME_CHARS: usize = 64;

/// A name to sign in with: `^[a-z][a-z0-9._-]{2,31}$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

/// An account about to be made. The realm has yet to agree to the password.
#[derive(Clone, Debug)]
pub struct NewAccount {
    pub username: Username,
    pub password: SecretString,
    /// The username when absent.
    pub display_name: Option<String>,
}

/// What a sign-in gives.
#[derive(Clone, Debug)]
pub struct Grant {
    pub access_token: SecretString,
    pub expires_in_seconds: i64,
    pub refresh_token: SecretString,
    pub refresh_expires_in_seconds: i64,
}

/// Returns what may be a refresh token; `None` for what no realm issued, which the realm need not see.
pub fn refresh_token(text: String) -> Option<SecretString> {
    let is_one =
        (1..=MAX_REFRESH_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_one.then(|| text.into())
}

/// Why a registration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    #[error("username: 3 to 32 of a-z 0-9 . _ - starting with a letter")]
    Username,
    #[error("password: at most {MAX_PASSWORD_BYTES} bytes, and not empty")]
    Password,
    #[error("display_name: 1 to {MAX_DISPLAY_NAME_CHARS} characters without control characters")]
    DisplayName,
}

impl Username {
    /// Reads a username; upper case is refused rather than changed, so that users know what they sign in with.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let valid = USERNAME_CHARS.contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(rest);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidField::Username) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NewAccount {
    /// Reads a request.
    pub fn parse(request: RegisterRequest) -> Result<Self, InvalidField> {
        let username = Username::parse(&request.username)?;
        if !(1..=MAX_PASSWORD_BYTES).contains(&request.password.len()) {
            return Err(InvalidField::Password);
        }
        let display_name = request.display_name.map(|name| name.trim().to_owned());
        if display_name.as_deref().is_some_and(|name| {
            !(1..=MAX_DISPLAY_NAME_CHARS).contains(&name.chars().count())
                || name.chars().any(char::is_control)
        }) {
            return Err(InvalidField::DisplayName);
        }
        Ok(Self { username, password: request.password.into(), display_name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(username: &str, password: &str, name: Option<&str>) -> Result<NewAccount, InvalidField> {
        NewAccount::parse(RegisterRequest {
            username: username.to_owned(),
            password: password.to_owned(),
            display_name: name.map(str::to_owned),
        })
    }

    #[test]
    fn a_username_is_short_lower_case_and_starts_with_a_letter() {
        for good in ["ann", "a1.b_c-d", &"a".repeat(32)] {
            assert!(Username::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "an", "Ann", "1nn", ".nn", "a nn", "änn", "ann@b", "an\n", &"a".repeat(33)] {
            assert_eq!(Username::parse(bad), Err(InvalidField::Username), "{bad}");
        }
    }

    #[test]
    fn a_refresh_token_is_bounded_and_one_word() {
        for (text, expected) in [
            ("a.b-c_d".to_owned(), true),
            ("x".repeat(4000), true),
            ("x".repeat(4001), false),
            (String::new(), false),
            ("a b".to_owned(), false),
            ("a\0b".to_owned(), false),
            ("ä".to_owned(), false),
        ] {
            assert_eq!(refresh_token(text.clone()).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn a_password_is_bounded_and_never_printed() {
        let good = account("ann", "correct horse", Some(" Ann ")).expect("an account");
        assert_eq!(good.display_name.as_deref(), Some("Ann"));
        assert!(!format!("{good:?}").contains("correct"));
        assert_eq!(account("ann", "", None).err(), Some(InvalidField::Password));
        assert_eq!(account("ann", &"x".repeat(257), None).err(), Some(InvalidField::Password));
        assert_eq!(account("ann", "correct horse", Some(" ")).err(), Some(InvalidField::DisplayName));
    }
}
