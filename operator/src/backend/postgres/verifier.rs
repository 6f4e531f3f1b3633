//! The form in which PostgreSQL stores a password: sent ready-made, the password itself never reaches a statement, and
//! with it no server log.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};

/// PostgreSQL's own count. The passwords are 32 random bytes, so more would add no strength.
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");

/// Returns the SCRAM-SHA-256 verifier of `password` with a fresh salt.
pub(super) fn scram_verifier(password: &str) -> String {
    let mut salt = [0; 16];
    rand::fill(&mut salt).expect("the system's random source does not fail once it is seeded");
    with_salt(password, &salt)
}

fn with_salt(password: &str, salt: &[u8]) -> String {
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    let (salt, stored, server) = (BASE64.encode(salt), BASE64.encode(stored_key), BASE64.encode(server_key));
    format!("SCRAM-SHA-256${ROUNDS}:{salt}${stored}:{server}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn verifier_agrees_with_an_independent_implementation() {
        assert_eq!(
            super::with_salt("pencil", b"0123456789abcdef"),
            "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$nQpbZ77WudtqufPwikHXGRt6g2QJ4zns8bZLw273DRM=:jn2amWP1q1h+jgjy0YTO14S6/F02SV7taipOeB7ef20="
        );
    }
}
