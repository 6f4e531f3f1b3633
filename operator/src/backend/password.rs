//! Which tenants' passwords are known to work.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use secrecy::{ExposeSecret, SecretString};

use crate::locks::lock;

/// TTL of a password that was verified. A password changed by hand is found after at most this time; verifying on each pass
/// would cost a login per tenant and pass.
const VERIFIED_TTL: Duration = Duration::from_secs(10 * 60);

/// Remembers which passwords were verified, by hash. Lost at restart, which costs one login per tenant.
#[derive(Debug, Default)]
pub(super) struct PasswordMemo {
    verified: Mutex<HashMap<String, ([u8; 32], Instant)>>,
}

impl PasswordMemo {
    pub fn knows(&self, user: &str, password: &SecretString) -> bool {
        let verified = lock(&self.verified);
        verified.get(user).is_some_and(|(hash, at)| *hash == sha256(password) && at.elapsed() < VERIFIED_TTL)
    }

    pub fn verified(&self, user: &str, password: &SecretString) {
        lock(&self.verified).insert(user.to_owned(), (sha256(password), Instant::now()));
    }

    pub fn forget(&self, user: &str) {
        lock(&self.verified).remove(user);
    }
}

/// Returns the SHA-256 of a secret.
pub(super) fn sha256(secret: &SecretString) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.expose_secret().as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memo_knows_only_the_password_that_was_verified() {
        let memo = PasswordMemo::default();
        let (right, wrong) = (SecretString::from("right"), SecretString::from("wrong"));
        assert!(!memo.knows("acme", &right));
        memo.verified("acme", &right);
        assert!(memo.knows("acme", &right));
        assert!(!memo.knows("acme", &wrong));
        assert!(!memo.knows("beta", &right));
        memo.forget("acme");
        assert!(!memo.knows("acme", &right));
    }
}
