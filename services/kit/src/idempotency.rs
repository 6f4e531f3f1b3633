//! The key by which a request that creates something is repeated without creating it twice.

use axum::{
    extract::OptionalFromRequestParts,
    http::{HeaderMap, HeaderName, request::Parts},
};
use contracts::ErrorCode;

use crate::error::ApiError;

/// The header that carries the key.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key in characters: room for a UUID with words of the client's own.
const MAX_CHARS: usize = 128;

/// The header `idempotency-key`: chosen by the client once for what it wants to create, and sent again with every retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads a key; `None` for what is not 1 to 128 visible ASCII characters.
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = (1..=MAX_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        is_key.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let key = value.to_str().ok().filter(|_| values.next().is_none()).and_then(Self::parse);
        let refused = || {
            let detail = format!("{HEADER}: must be one of 1 to {MAX_CHARS} visible ASCII characters");
            ApiError::new(ErrorCode::InvalidArgument, detail)
        };
        key.map(Some).ok_or_else(refused)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, ApiError> {
        Self::of(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_one_word_in_one_header() {
        let key = |values: &[&str]| {
            let value = |value: &&str| (HEADER, HeaderValue::from_str(value).expect("a header value"));
            let key = IdempotencyKey::of(&values.iter().map(value).collect());
            key.map(|key| key.map(|key| key.0)).map_err(|error| error.code())
        };
        assert_eq!(key(&[]), Ok(None));
        let longest = "x".repeat(MAX_CHARS);
        for good in ["5f0c", "0190f5a0-7b1e-7c3d-8f00-0123456789ab", &longest] {
            assert_eq!(key(&[good]), Ok(Some(good.to_owned())));
        }
        for bad in [&["" as &str] as &[_], &["a b"], &["\u{e9}"], &["a", "a"], &[&"x".repeat(MAX_CHARS + 1)]]
        {
            assert_eq!(key(bad), Err(ErrorCode::InvalidArgument), "{bad:?}");
        }
    }
}
