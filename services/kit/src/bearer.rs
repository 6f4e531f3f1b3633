//! Secrets of the tenant that a client of a process presents: of its other services, and of what scrapes its metrics.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// Reports whether a request carries the token. How long that takes does not reveal where the first difference is.
pub(crate) fn presents(headers: &HeaderMap, token: &SecretString) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Some((scheme, given)) = value.as_bytes().split_at_checked("Bearer ".len()) else { return false };
    let expected = token.expose_secret().as_bytes();
    scheme.eq_ignore_ascii_case(b"Bearer ") && !expected.is_empty() && bool::from(given.ct_eq(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(values: &[&str], token: &str) -> bool {
        let headers = values.iter().map(|value| (AUTHORIZATION, value.parse().expect("a header value")));
        presents(&headers.collect(), &token.into())
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(outcome(&["Bearer secret"], "secret"));
        assert!(outcome(&["bearer secret"], "secret"));
        for values in [
            &["Bearer secreT"] as &[_],
            &["Bearer secret1"],
            &["Bearer secre"],
            &["Bearer "],
            &["Bearer"],
            &["Basic secret"],
            &["secret"],
            &[],
            &["Bearer secret", "Bearer secret"],
        ] {
            assert!(!outcome(values, "secret"), "{values:?}");
        }
        assert!(!outcome(&["Bearer "], ""), "a token that was left empty is none");
    }
}
