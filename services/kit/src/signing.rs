//! A key that signs access tokens, for realms that live in a process: those of tests and of `posthouse dev`.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use contracts::{SessionId, UserId};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::JwkSet};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{auth::TokenVerifier, config::OidcArgs};

/// A realm's tokens without the realm: they carry its name and are signed with a key of the process.
pub struct Issuer {
    oidc: OidcArgs,
    key: SigningKey,
}

impl Issuer {
    /// Creates an issuer whose tokens these settings accept.
    pub fn new(oidc: OidcArgs) -> Self {
        Self { oidc, key: SigningKey::generate("memory") }
    }

    /// Returns a verifier of the issuer's tokens.
    pub fn verifier(&self) -> Result<Arc<TokenVerifier>, reqwest::Error> {
        TokenVerifier::with_keys(&self.oidc, &self.key.key_set())
    }

    /// Returns an access token of a session that is valid for a number of seconds from now.
    #[expect(clippy::disallowed_methods, reason = "the id of a token")]
    pub fn access_token(&self, user: UserId, username: &str, session: &SessionId, seconds: u64) -> String {
        let mut claims = claims(&self.oidc, user, username, seconds);
        claims["sid"] = json!(session);
        claims["jti"] = json!(Uuid::new_v4());
        self.key.sign(&claims)
    }
}

/// Returns the claims of an access token that these settings accept, for a number of seconds from now. All of a user are of
/// one session.
pub(crate) fn claims(oidc: &OidcArgs, user: UserId, username: &str, seconds: u64) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({
        "iss": oidc.oidc_issuer, "aud": [oidc.oidc_audience], "sub": user, "sid": user, "typ": "Bearer",
        "azp": oidc.oidc_clients.first(),
        "iat": now, "exp": now + seconds, "preferred_username": username,
    })
}

/// An RSA key, with the id under which the key set has it.
pub struct SigningKey {
    id: &'static str,
    pair: KeyPair,
    encoding: EncodingKey,
}

impl SigningKey {
    /// Creates a new key.
    ///
    /// # Panics
    ///
    /// When the system has no randomness.
    pub fn generate(id: &'static str) -> Self {
        // See TokenVerifier: a realm may be there before any verifier.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("a private key has a DER form");
        let body = BASE64_STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let encoding = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("a private key in PEM form");
        Self { id, pair, encoding }
    }

    /// Returns a token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::RS256) };
        encode(&header, claims, &self.encoding).expect("claims can be signed")
    }

    /// Returns what the key's tokens are checked with.
    pub fn key_set(&self) -> JwkSet {
        let modulus = self.pair.public_key().modulus();
        let n = BASE64_URL_SAFE_NO_PAD.encode(modulus.big_endian_without_leading_zero());
        let key = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": n, "e": "AQAB"});
        serde_json::from_value(json!({"keys": [key]})).expect("a key set")
    }
}
