//! Requests to servers that a user or a tenant named, signed so that the server knows who sent them and when.

use aws_lc_rs::hmac;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, InvalidHeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::now_ms;

/// The header with the time and the signature: `t=1700000000,v1=<hex>`. The signature is HMAC-SHA256 with the secret of the receiver over
/// `1700000000.` and the body. A server refuses a time that is minutes away, so that no request is worth anything later.
pub const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("posthouse-signature");
/// The same for every attempt at one request: a server that has seen it leaves it out, or answers as before.
pub const ID_HEADER: HeaderName = HeaderName::from_static("posthouse-id");

/// Returns the headers of a request with JSON whose receiver has the same secret.
///
/// # Errors
///
/// The id has a character that no header takes.
pub fn signed(secret: &SecretString, id: &str, body: &[u8]) -> Result<HeaderMap, InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SIGNATURE_HEADER, HeaderValue::from_str(&signature(secret, now_ms() / 1000, body))?);
    headers.insert(ID_HEADER, HeaderValue::from_str(id)?);
    Ok(headers)
}

fn signature(secret: &SecretString, at_seconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{at_seconds}.").as_bytes());
    context.update(body);
    let signature: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at_seconds},v1={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_time_and_the_body() {
        let sign = |at: i64, body: &[u8]| signature(&"a secret".to_owned().into(), at, body);
        let signed = sign(1_700_000_000, b"{}");
        let hex = signed.strip_prefix("t=1700000000,v1=").unwrap();
        assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(signed, sign(1_700_000_000, b"{ }"));
        assert_ne!(hex, sign(1_700_000_001, b"{}").rsplit('=').next().unwrap());
    }
}
