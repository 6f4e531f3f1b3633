//! The form in which the store keeps a password.

use aws_lc_rs::hmac;
use bcrypt::Version;

/// bcrypt's smallest work factor. The passwords are 32 random bytes, which no work factor protects better, and the store
/// pays for it at each login: 2 ms instead of 140.
const COST: u32 = 4;

/// Returns the bcrypt hash of a role's password: always the same for the same role and password. The salt reveals nothing
/// about the password, as it is a one-way function of all its random bits.
///
/// The prefix is `$2a$`, the only one the stores take; for passwords under 255 bytes the variants compute alike.
pub(super) fn bcrypt_hash(role: &str, password: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.as_bytes());
    let tag = hmac::sign(&key, format!("posthouse salt of {role}").as_bytes());
    let salt: [u8; 16] = tag.as_ref()[..16].try_into().expect("a SHA-256 tag has 32 bytes");
    let hash = bcrypt::hash_with_salt(password, COST, salt);
    hash.expect("cost 4 is allowed and a salt was given").format_for_version(Version::TwoA)
}

#[cfg(test)]
mod tests {
    use super::bcrypt_hash;

    #[test]
    fn a_hash_is_stable_verifies_and_differs_between_roles() {
        let hash = bcrypt_hash("mt_acme", "secret-word");
        assert!(hash.starts_with("$2a$04$") && hash.len() == 60, "{hash}");
        assert_eq!(hash, bcrypt_hash("mt_acme", "secret-word"));
        assert_ne!(hash, bcrypt_hash("mt_beta", "secret-word"));
        assert!(bcrypt::verify("secret-word", &hash).unwrap());
        assert!(!bcrypt::verify("secret-work", &hash).unwrap());
    }
}
