//! SCRAM-SHA-512 from the client's side (RFC 5802 with the hash of RFC 7677's big brother), and the salted password a
//! credential upsert carries.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};

/// Rounds of the credentials we store. The passwords are 32 random bytes, so rounds add no strength; 4096 is the
/// smallest count Kafka takes and costs 3 ms per login.
pub(super) const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");
/// The most rounds we compute for a server: Kafka allows 16384, and a rogue one could demand billions.
const MAX_ROUNDS: u32 = 16_384;

/// One login in progress. `Display` of its errors holds no secret.
pub(super) struct Exchange<'a> {
    user: &'a str,
    password: &'a str,
    nonce: String,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(user: &'a str, password: &'a str) -> Self {
        Self::with_nonce(user, password, BASE64.encode(random::<24>()))
    }

    fn with_nonce(user: &'a str, password: &'a str, nonce: String) -> Self {
        Self { user, password, nonce }
    }

    fn first_bare(&self) -> String {
        let user = self.user.replace('=', "=3D").replace(',', "=2C");
        format!("n={user},r={}", self.nonce)
    }

    pub(super) fn client_first(&self) -> String {
        format!("n,,{}", self.first_bare())
    }

    /// Answers the server's challenge. Returns the message to send and the signature the server must prove itself with.
    pub(super) fn client_final(&self, server_first: &str) -> Result<(String, ServerSignature), &'static str> {
        let nonce = field(server_first, 'r').ok_or("challenge without nonce")?;
        let salt = field(server_first, 's').and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or("challenge without salt")?;
        let rounds = field(server_first, 'i').and_then(|rounds| rounds.parse::<NonZeroU32>().ok());
        let rounds =
            rounds.filter(|rounds| rounds.get() <= MAX_ROUNDS).ok_or("challenge with unusable rounds")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("challenge with a foreign nonce");
        }
        let salted = salted_password(self.password, &salt, rounds);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA512, client_key.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare());
        let signature = sign(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(k, s)| k ^ s).collect();
        let server_key = sign(&salted, b"Server Key");
        let expected = ServerSignature(sign(server_key.as_ref(), message.as_bytes()).as_ref().to_vec());
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)), expected))
    }
}

/// What the server returns when it knows the password too.
pub(super) struct ServerSignature(Vec<u8>);

impl ServerSignature {
    pub(super) fn matches(&self, server_final: &str) -> bool {
        field(server_final, 'v')
            .and_then(|value| BASE64.decode(value).ok())
            .is_some_and(|value| constant_time::verify_slices_are_equal(&value, &self.0).is_ok())
    }
}

/// Returns PBKDF2-HMAC-SHA-512 of the password: what Kafka stores keys of.
pub(super) fn salted_password(password: &str, salt: &[u8], rounds: NonZeroU32) -> [u8; 64] {
    let mut salted = [0; 64];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, salt, password.as_bytes(), &mut salted);
    salted
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source does not fail once it is seeded");
    bytes
}

fn sign(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), message)
}

fn field(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn exchange_agrees_with_an_independent_implementation() {
        let exchange = Exchange::with_nonce("user", "pencil", NONCE.into());
        assert_eq!(exchange.client_first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (answer, signature) = exchange.client_final(SERVER_FIRST).unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ=="
        );
        assert!(signature.matches(
            "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw=="
        ));
        assert!(!signature.matches("v=AAAA"));
    }

    #[test]
    fn a_server_that_plays_foul_is_refused() {
        let exchange = Exchange::with_nonce("user", "pencil", NONCE.into());
        for (challenge, why) in [
            ("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "foreign nonce"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "foreign nonce"),
            ("r=rOprNGfwEbeRWgbNEkqO1,i=4096", "salt"),
            ("r=rOprNGfwEbeRWgbNEkqO1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2000000000", "rounds"),
            ("e=other-error", "nonce"),
        ] {
            let refused = exchange.client_final(challenge).err().unwrap_or("accepted");
            assert!(refused.contains(why), "{challenge}: {refused}");
        }
    }

    #[test]
    fn separators_in_a_name_are_escaped() {
        let exchange = Exchange::with_nonce("a=b,c", "x", NONCE.into());
        assert_eq!(exchange.first_bare(), "n=a=3Db=2Cc,r=rOprNGfwEbeRWgbNEkqO");
    }
}
