//! What is encrypted with a key that is derived from a secret: it is given out, or kept where others read, and means nothing there.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, Salt},
    rand,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};

/// What a key is derived for, so that no other purpose has the same key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose(pub &'static str);

fn key(secret: &SecretString, Purpose(purpose): Purpose) -> RandomizedNonceKey {
    let mut key = [0; 32];
    let secret = Salt::none(HKDF_SHA256).extract(secret.expose_secret().as_bytes());
    let derived =
        secret.expand(&[purpose.as_bytes()], HKDF_SHA256).and_then(|derived| derived.fill(&mut key));
    derived.expect("HKDF with SHA-256 gives 32 bytes");
    RandomizedNonceKey::new(&AES_256_GCM, &key).expect("AES-256 takes 32 bytes")
}

/// Encrypts: nonce, ciphertext, tag. `place` is where it is kept, and it is worth nothing anywhere else.
pub(crate) fn seal<T: Serialize>(
    secret: &SecretString,
    purpose: Purpose,
    place: &str,
    content: &T,
) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(content).expect("it is plain data");
    let nonce = key(secret, purpose).seal_in_place_append_tag(Aad::from(place), &mut bytes);
    let nonce = nonce.expect("AES-GCM takes a few kilobytes");
    [nonce.as_ref().as_slice(), &bytes].concat()
}

/// Returns a word of 43 characters that cannot be guessed.
pub(crate) fn random_word() -> SecretString {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system has random numbers");
    BASE64_URL_SAFE_NO_PAD.encode(bytes).into()
}

/// Decrypts what [`seal`] returned for the same secret, purpose and place; `None` for anything else.
pub(crate) fn open<T: DeserializeOwned>(
    secret: &SecretString,
    purpose: Purpose,
    place: &str,
    mut sealed: Vec<u8>,
) -> Option<T> {
    let (nonce, bytes) = sealed.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let content = key(secret, purpose).open_in_place(nonce, Aad::from(place), bytes).ok()?;
    serde_json::from_slice(content).ok()
}
