//! Sessions of users, as the realm's tokens name them.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::{SessionId, UserId};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// One session of one user: it begins with a sign-in, and its refreshes go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub user_id: UserId,
    pub id: SessionId,
}

/// A session that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSession {
    pub id: SessionId,
    /// When it was signed in, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// When it was signed in or refreshed last, likewise.
    pub last_used_at_ms: i64,
}

/// What a token is known by where it is not kept: its SHA-256. A token has more randomness than can be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub fn of(token: &SecretString) -> Self {
        Self(Sha256::digest(token.expose_secret()).into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What an account is called.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AccountName {
    #[serde(rename = "preferred_username")]
    pub username: String,
    /// What the user is called, where the realm knows it.
    #[serde(rename = "name")]
    pub display_name: Option<String>,
}

impl AccountName {
    /// Reads the account that an access token names. The signature is not checked: the realm has just given it.
    pub(super) fn of(token: &str) -> Option<Self> {
        claims(token)
    }
}

/// Reads claims of a token without a check of its signature.
fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[derive(Deserialize)]
struct Claims {
    sub: UserId,
    sid: SessionId,
}

impl Session {
    /// Reads the session that a token names; `None` for what is no token of a session. The signature is not checked: the
    /// realm gave the token, or has just confirmed it.
    pub fn of(token: &str) -> Option<Self> {
        let Claims { sub, sid } = claims(token)?;
        Some(Self { user_id: sub, id: sid })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_names_its_session() {
        let user_id = UserId::generate();
        let token = |claims: serde_json::Value| {
            format!("header.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
        };
        let session = Session { user_id, id: "one".parse().expect("an id") };
        assert_eq!(
            Session::of(&token(json!({"sub": user_id, "sid": "one", "typ": "Refresh"}))),
            Some(session)
        );
        for other in
            [json!({"sub": user_id}), json!({"sid": "one"}), json!({"sub": user_id, "sid": ""}), json!([])]
        {
            assert_eq!(Session::of(&token(other)), None);
        }
        for other in ["", "a", "a.b", "a.?.c"] {
            assert_eq!(Session::of(other), None, "{other}");
        }
    }
}
