//! A sign-in with an external identity provider, between its beginning and its end. The browser keeps it meanwhile, encrypted, so
//! that any replica goes on with it and no other browser can.

use std::{str::FromStr, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use kit::error::InvalidField;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A user has this long between the beginning and the end.
pub const SIGN_IN_WITHIN: Duration = Duration::from_secs(600);
/// Longest path that a sign-in returns to, in bytes.
const MAX_RETURN_BYTES: usize = 512;
/// Longest code of a realm in bytes. Its own have about a hundred.
const MAX_CODE_BYTES: usize = 512;
/// Longest code that a page is given for it, which is encrypted: longer by a third.
const MAX_LOGIN_CODE_BYTES: usize = 1024;

/// An external identity provider of the realm.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub alias: String,
    pub display_name: String,
}

/// The external identity providers of the realm, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers(pub Vec<Provider>);

impl FromStr for Providers {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text).map(Self)
    }
}

/// A place on the tenant's own address that a sign-in returns to: a path, perhaps with a query. A whole URL is none, so a link to a
/// sign-in leads nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnPath(String);

impl ReturnPath {
    /// Reads a path; the start page when absent.
    pub fn parse(text: Option<String>) -> Result<Self, InvalidField> {
        let text = text.unwrap_or_else(|| "/".to_owned());
        let is_one = (1..=MAX_RETURN_BYTES).contains(&text.len())
            && text.starts_with('/')
            && !text.starts_with("//")
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\'));
        if is_one {
            return Ok(Self(text));
        }
        let problem = format!(
            "must be a path on this address that starts with one /, in at most {MAX_RETURN_BYTES} visible ASCII characters without # and \\"
        );
        Err(InvalidField { field: "return_to", problem })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A sign-in that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Comes back with the answer of the realm.
    pub state: String,
    /// Shows the realm that the code is taken by who requested it (PKCE, RFC 7636).
    pub verifier: String,
    /// Scheme, host and port that the browser came to.
    pub origin: String,
    pub return_to: ReturnPath,
    /// In milliseconds since the epoch.
    pub begun_at_ms: i64,
}

impl Begun {
    /// Returns the `code_challenge` of the verifier.
    pub fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier))
    }

    /// Returns whether the sign-in may still end.
    pub fn is_open(&self, now_ms: i64) -> bool {
        let age = Duration::from_millis((now_ms - self.begun_at_ms).max(0).unsigned_abs());
        age <= SIGN_IN_WITHIN
    }

    /// Returns where the browser goes at the end, with what the page there learns. A fragment is sent to no server.
    pub fn returned(&self, name: &str, value: &str) -> String {
        format!("{}{}#{name}={value}", self.origin, self.return_to.as_str())
    }
}

/// Returns which of the tenant's origins a request came to, by its `host`; the main one when none of them is it.
pub fn origin<'a>(origins: &'a [String], host: Option<&str>) -> Option<&'a str> {
    let is_it = |origin: &&String| origin.split_once("://").is_some_and(|(_, place)| Some(place) == host);
    origins.iter().find(is_it).or(origins.first()).map(String::as_str)
}

/// Returns what may be a code of a realm; `None` for what the realm need not see.
pub fn code(text: &str) -> Option<&str> {
    is_code(text, MAX_CODE_BYTES).then_some(text)
}

/// Returns what may be the code that a page was given.
pub fn login_code(text: &str) -> Option<&str> {
    is_code(text, MAX_LOGIN_CODE_BYTES).then_some(text)
}

fn is_code(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_returns_to_no_other_address() {
        let path = |text: &str| ReturnPath::parse(Some(text.to_owned())).map(|path| path.as_str().to_owned());
        for good in ["/", "/app", "/app?tab=1&x=%2f", "/a//b"] {
            assert_eq!(path(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "app",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a b",
            "/a\n",
            "/a#b",
            "/\u{e4}",
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(path(&format!("/{}", "x".repeat(512))).is_err());
        assert_eq!(ReturnPath::parse(None).map(|path| path.as_str().to_owned()).as_deref(), Ok("/"));
    }

    #[test]
    fn the_origin_is_the_host_that_was_visited_and_never_a_strange_one() {
        let origins = ["https://acme.example".to_owned(), "https://chat.acme.example:8443".to_owned()];
        for (host, expected) in [
            (Some("chat.acme.example:8443"), "https://chat.acme.example:8443"),
            (Some("acme.example"), "https://acme.example"),
            (Some("evil.example"), "https://acme.example"),
            (None, "https://acme.example"),
        ] {
            assert_eq!(origin(&origins, host), Some(expected));
        }
        assert_eq!(origin(&[], Some("acme.example")), None);
    }

    #[test]
    fn a_sign_in_has_its_time() {
        let begun = Begun {
            state: "s".to_owned(),
            // From RFC 7636, appendix B.
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
            origin: "https://acme.example".to_owned(),
            return_to: ReturnPath::parse(None).expect("a path"),
            begun_at_ms: 1_000,
        };
        assert_eq!(begun.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(begun.is_open(0) && begun.is_open(601_000));
        assert!(!begun.is_open(601_001));
        assert_eq!(begun.returned("login_code", "abc"), "https://acme.example/#login_code=abc");
    }

    #[test]
    fn a_code_is_bounded_and_fits_into_a_fragment() {
        for (text, expected) in
            [("a-b.c_d~e", true), ("", false), ("a b", false), ("a#b", false), (&*"x".repeat(1025), false)]
        {
            assert_eq!(code(text).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn providers_are_read_as_they_are_rendered() {
        let text = r#"[{"alias":"corp","display_name":"Corp, Inc."}]"#;
        let Providers(providers) = text.parse().expect("providers");
        assert_eq!(providers[0].display_name, "Corp, Inc.");
        assert!("corp".parse::<Providers>().is_err());
    }
}
