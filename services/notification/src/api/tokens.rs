//! Tokens of links in mails: the id of a subscription, and a signature that says what the link is for.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::SubscriptionId;
use secrecy::{ExposeSecret as _, SecretString};

const CONFIRMING: &str = "confirm";
const ENDING: &str = "end";

/// Makes and reads tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(hmac::Key);

impl Tokens {
    /// Returns the tokens of a secret. A link in a mail is good for as long as the secret and the subscription are.
    pub fn new(secret: &SecretString) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        let key = hmac::sign(&secret, b"posthouse notification tokens");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// Returns the token that confirms a subscription.
    pub fn confirming(&self, id: SubscriptionId) -> String {
        self.token(CONFIRMING, id)
    }

    /// Returns the token that ends a subscription.
    pub fn ending(&self, id: SubscriptionId) -> String {
        self.token(ENDING, id)
    }

    /// Returns the subscription that a token confirms.
    pub fn read_confirming(&self, token: &str) -> Option<SubscriptionId> {
        self.read(CONFIRMING, token)
    }

    /// Returns the subscription that a token ends.
    pub fn read_ending(&self, token: &str) -> Option<SubscriptionId> {
        self.read(ENDING, token)
    }

    fn token(&self, purpose: &str, id: SubscriptionId) -> String {
        let signature = hmac::sign(&self.0, signed(purpose, id).as_bytes());
        format!("{id}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn read(&self, purpose: &str, token: &str) -> Option<SubscriptionId> {
        let (id, signature) = token.split_once('.')?;
        let id: SubscriptionId = id.parse().ok()?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, signed(purpose, id).as_bytes(), &signature).ok()?;
        Some(id)
    }
}

fn signed(purpose: &str, id: SubscriptionId) -> String {
    format!("{purpose}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_subscription_and_one_purpose() {
        let tokens = |secret: &str| Tokens::new(&secret.to_owned().into());
        let (own, other) = (tokens("one"), tokens("two"));
        let id = SubscriptionId::generate();
        let token = own.ending(id);
        assert_eq!(token.len(), 80);
        assert_eq!(own.read_ending(&token), Some(id));
        assert_eq!(own.read_confirming(&token), None);
        assert_eq!(other.read_ending(&token), None);
        let forged = token.replace(&id.to_string(), &SubscriptionId::generate().to_string());
        assert_eq!(own.read_ending(&forged), None);
        for bad in ["", ".", "x.y", &id.to_string()] {
            assert_eq!(own.read_ending(bad), None);
        }
    }
}
