//! Tokens of links in mails: the id of a subscription, and a signature that says what the link is for. And what stands for codes and numbers of
//! text messages in the store.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::SubscriptionId;
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::PhoneNumber;

const CONFIRMING: &str = "confirm";
const ENDING: &str = "end";
const CODE: &str = "code";
const NUMBER: &str = "number";

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

    /// Returns what stands for a code of a subscription. There are few codes: without the secret it tells which one it is.
    pub fn code(&self, id: SubscriptionId, code: &str) -> Vec<u8> {
        self.sign(&format!("{CODE}/{id}/{code}"))
    }

    /// Returns what stands for a number when codes are counted.
    pub fn number(&self, number: &PhoneNumber) -> Vec<u8> {
        self.sign(&format!("{NUMBER}/{}", number.expose()))
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        hmac::sign(&self.0, text.as_bytes()).as_ref().to_vec()
    }

    fn token(&self, purpose: &str, id: SubscriptionId) -> String {
        let signature = self.sign(&signed(purpose, id));
        format!("{id}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
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

    #[test]
    fn a_code_is_of_one_subscription() {
        let tokens = |secret: &str| Tokens::new(&secret.to_owned().into());
        let (own, id) = (tokens("one"), SubscriptionId::generate());
        let code = own.code(id, "012345");
        assert_eq!(code, own.code(id, "012345"));
        for other in [own.code(id, "012346"), own.code(SubscriptionId::generate(), "012345")] {
            assert_ne!(code, other);
        }
        assert_ne!(code, tokens("two").code(id, "012345"));
    }
}
