//! Accounts and what may stand in them. Rules only: no I/O, no clock.

pub mod attempts;
pub mod email;
pub mod external;
mod session;

use contracts::{
    UserId,
    api::{ChangePasswordRequest, RegisterRequest, SignInRequest},
};
use kit::{
    catalog::USERNAME_RULE,
    error::InvalidField,
    text::{DisplayName, Password, Username},
};
use secrecy::{ExposeSecret as _, SecretString};

use self::email::Email;
pub use self::session::{AccountName, ListedSession, Session, TokenDigest};

/// Fields of requests.
const NEW_PASSWORD: &str = "new_password";
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
/// Shortest and longest username of a new account, in characters: of [`USERNAME_PATTERN`](kit::catalog::USERNAME_PATTERN).
const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 3..=32;
/// Shortest new password, in characters, as in the realms that the operator makes.
pub(crate) const MIN_PASSWORD_CHARS: usize = 8;
/// Longest refresh token in bytes: Keycloak reads no longer parameter. Its own have about a thousand.
const MAX_REFRESH_TOKEN_BYTES: usize = 4000;

/// An account about to be made. The realm has yet to agree to the password.
#[derive(Clone, Debug)]
pub struct NewAccount {
    pub username: Username,
    pub password: Password,
    /// The username when absent.
    pub display_name: Option<DisplayName>,
}

/// Who wants to sign in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Of any form that the realm allows: its administrators may have made the account.
    pub username: Username,
    pub password: Password,
}

/// An account that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub user_id: UserId,
    /// As the realm has it, whatever was typed.
    pub username: String,
}

/// A password that is to take the place of another one.
#[derive(Clone, Debug)]
pub struct NewPassword {
    /// What the account is opened with now.
    pub current: Credentials,
    /// The realm has yet to agree to it.
    pub new: Password,
}

/// What a sign-in gives.
#[derive(Clone, Debug)]
pub struct Grant {
    pub session: Session,
    pub access_token: SecretString,
    pub expires_in_seconds: i64,
    pub refresh_token: SecretString,
    pub refresh_expires_in_seconds: i64,
}

impl Grant {
    /// Returns what the account of the session is called.
    pub fn account_name(&self) -> Option<AccountName> {
        AccountName::of(self.access_token.expose_secret())
    }
}

/// Returns what may be a refresh token; `None` for what no realm issued, which the realm need not see.
pub fn refresh_token(text: String) -> Option<SecretString> {
    let is_one =
        (1..=MAX_REFRESH_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_one.then(|| text.into())
}

/// The e-mail address of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnEmail {
    pub email: Option<Email>,
    /// The user has shown that they read mail there.
    pub is_confirmed: bool,
}

/// Reads a password that an account is to have from now on. The realm has its own rules, which it states in its own words, and
/// takes spaces alone for a new account but not for an old one.
pub(crate) fn new_password(field: &'static str, text: &str) -> Result<Password, InvalidField> {
    let password = Password::parse(field, text)?;
    let invalid = |problem: String| Err(InvalidField { field, problem });
    if password.expose().chars().count() < MIN_PASSWORD_CHARS {
        return invalid(format!("must have at least {MIN_PASSWORD_CHARS} characters"));
    }
    if password.expose().chars().all(char::is_whitespace) {
        return invalid("must not be spaces alone".to_owned());
    }
    Ok(password)
}

/// Reports whether this may be the name of a new account. It is plain, so that no two look the same.
pub(crate) fn is_new_username(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    USERNAME_CHARS.contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(rest)
}

impl NewAccount {
    /// Reads a request.
    pub fn parse(request: RegisterRequest) -> Result<Self, InvalidField> {
        let username = Username::parse(USERNAME, &request.username)?;
        if !is_new_username(username.as_str()) {
            return Err(InvalidField { field: USERNAME, problem: USERNAME_RULE.to_owned() });
        }
        let password = new_password(PASSWORD, &request.password)?;
        let display_name = request.display_name.map(|name| DisplayName::parse("display_name", &name));
        Ok(Self { username, password, display_name: display_name.transpose()? })
    }
}

impl NewAccount {
    /// Returns what its owner signs in with.
    pub fn credentials(&self) -> Credentials {
        Credentials { username: self.username.clone(), password: self.password.clone() }
    }
}

impl Credentials {
    /// Reads a request.
    pub fn parse(request: SignInRequest) -> Result<Self, InvalidField> {
        Self::of(PASSWORD, &request.username, &request.password)
    }

    /// Reads the password, in `field` of a request, of a user with this name.
    pub fn of(field: &'static str, username: &str, password: &str) -> Result<Self, InvalidField> {
        let username = Username::parse(USERNAME, username)?;
        Ok(Self { username, password: Password::parse(field, password)? })
    }
}

impl NewPassword {
    /// Reads the request of a user with this name.
    pub fn parse(username: &str, request: ChangePasswordRequest) -> Result<Self, InvalidField> {
        let current = Credentials::of("current_password", username, &request.current_password)?;
        Ok(Self { current, new: new_password(NEW_PASSWORD, &request.new_password)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(username: &str, password: &str, name: Option<&str>) -> Result<NewAccount, &'static str> {
        let account = NewAccount::parse(RegisterRequest {
            username: username.to_owned(),
            password: password.to_owned(),
            display_name: name.map(str::to_owned),
        });
        account.map_err(|error| error.field)
    }

    #[test]
    fn a_new_username_is_short_and_plain_and_starts_with_a_letter() {
        let username = |name: &str| account(name, "correct horse", None).map(|account| account.username);
        for (typed, name) in
            [("ann", "ann"), ("a1.b_c-d", "a1.b_c-d"), ("Ann ", "ann"), (&"a".repeat(32), &"a".repeat(32))]
        {
            assert_eq!(username(typed).expect("a username").as_str(), name, "{typed}");
        }
        for bad in [
            "",
            "an",
            "1nn",
            ".nn",
            "a nn",
            "änn",
            "ann@b",
            "an\n",
            &"a".repeat(33),
            // What looks like another name, or like none.
            "\u{430}nn",
            "\u{131}nn",
            "ann\u{301}",
            "an\u{200d}n",
        ] {
            assert_eq!(username(bad), Err("username"), "{bad}");
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
    fn a_new_password_has_one_rule_and_an_old_one_none() {
        let change = |current: &str, new: &str| {
            let request =
                ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
            NewPassword::parse("ann", request).map(drop).map_err(|error| error.to_string())
        };
        for (new, problem) in [
            ("sh0rt!", "new_password: must have at least 8 characters"),
            ("        ", "new_password: must not be spaces alone"),
        ] {
            assert_eq!(change("correct horse", new), Err(problem.to_owned()));
            assert_eq!(change(new, "correct horse"), Ok(()), "an account has it already");
        }
    }

    #[test]
    fn a_field_that_cannot_be_taken_is_named() {
        let good = account("ann", "correct horse", Some(" Ann ")).expect("an account");
        assert_eq!(good.display_name.as_ref().map(DisplayName::as_str), Some("Ann"));
        assert!(!format!("{good:?}").contains("correct"));
        for (password, name, field) in [
            ("", None, "password"),
            (&*"x".repeat(257), None, "password"),
            ("sh0rt!", None, "password"),
            ("        ", None, "password"),
            (&*"\u{a0}".repeat(8), None, "password"),
            ("correct horse", Some(" "), "display_name"),
            ("correct horse", Some("\u{200b}"), "display_name"),
        ] {
            assert_eq!(account("ann", password, name).err(), Some(field));
        }
    }
}
