//! Web Push: requests to push services (RFC 8030), with a payload that only the browser reads (RFC 8291, RFC 8188), from a sender that the push
//! service knows again (RFC 8292).

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey},
    digest::{SHA256, digest},
    error::Unspecified,
    hmac,
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use kit::{clock::now_ms, traces::Server};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tonic::async_trait;
use url::Url;

use super::{Channel, Content, Outside, SendError, misplaced};
use crate::domain::{Notice, Subscription, Target};

/// The push service keeps what a browser does not fetch for so long.
const TTL_SECONDS: u32 = 24 * 3600;
/// A token is made for each request; the limit of RFC 8292 is a day.
const TOKEN_SECONDS: i64 = 3600;
/// Push services take 4096 bytes of body; the rest is what encryption adds.
const MAX_PAYLOAD_BYTES: usize = 3_900;
/// The size of the one record, as its header says.
const RECORD_BYTES: u32 = 4_096;
/// The end of the last record (RFC 8188).
const LAST_RECORD: u8 = 2;
const KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const SALT_BYTES: usize = 16;

/// What push services know the tenant by. Its private half follows from a secret of the tenant.
pub struct VapidKey {
    pair: EcdsaKeyPair,
    public: String,
}

impl VapidKey {
    /// Returns the key of a secret: the same in every process.
    ///
    /// # Errors
    ///
    /// The library makes no keys.
    pub fn derive(secret: &SecretString) -> Result<Self, Unspecified> {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        // Of all numbers of 32 bytes one in 2^32 is no key.
        (0..u8::MAX).find_map(|n| Self::of(&secret, n)).ok_or(Unspecified)
    }

    fn of(secret: &hmac::Key, n: u8) -> Option<Self> {
        let private = hmac::sign(secret, &[b"posthouse vapid ".as_slice(), &[n]].concat());
        let public = PrivateKey::from_private_key(&ECDH_P256, private.as_ref()).ok()?;
        let public = public.compute_public_key().ok()?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            private.as_ref(),
            public.as_ref(),
        );
        Some(Self { pair: pair.ok()?, public: BASE64_URL_SAFE_NO_PAD.encode(public.as_ref()) })
    }

    /// Returns the public half in base64url, for browsers that subscribe.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Returns the value of `authorization` for a push service.
    fn authorization(
        &self,
        endpoint: &Url,
        contact: Option<&str>,
        at_seconds: i64,
    ) -> Result<String, Unspecified> {
        let mut claims = json!({
            "aud": endpoint.origin().ascii_serialization(),
            "exp": at_seconds + TOKEN_SECONDS,
        });
        if let Some(contact) = contact {
            claims["sub"] = contact.into();
        }
        let encode = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
        let header = json!({"typ": "JWT", "alg": "ES256"});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes())?;
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref());
        Ok(format!("vapid t={signed}.{signature}, k={}", self.public))
    }
}

/// The channel of Web Push.
pub struct WebPushChannel {
    outside: Outside,
    key: std::sync::Arc<VapidKey>,
    /// Whom a push service may write to: a URL.
    contact: Option<String>,
}

impl WebPushChannel {
    pub fn new(outside: Outside, key: std::sync::Arc<VapidKey>, contact: Option<String>) -> Self {
        Self { outside, key, contact }
    }
}

#[async_trait]
impl Channel for WebPushChannel {
    async fn send(&self, to: &Subscription, content: &Content) -> Result<(), SendError> {
        let (Target::WebPush { endpoint, public_key, auth, sender_key }, Content::Notice(notice)) =
            (&to.target, content)
        else {
            return Err(misplaced());
        };
        // The push service would refuse it for good: only the browser can subscribe again.
        if sender_key != self.key.public() {
            tracing::info!(subscription = %to.id, "subscription {} is of another key than the tenant has now", to.id);
            return Err(SendError::Gone);
        }
        let body = Sealing::generate()
            .and_then(|sealing| sealing.seal(public_key, auth, &payload(notice)))
            .map_err(|_| SendError::Refused("the keys of the browser are none".to_owned()))?;
        let authorization = self.key.authorization(endpoint, self.contact.as_deref(), now_ms() / 1000);
        let authorization = authorization.map_err(|_| misplaced())?;
        let text = |text: &str| HeaderValue::from_str(text).map_err(|_| misplaced());
        let urgency = if notice.mentions > 0 || notice.kind == "direct" { "high" } else { "normal" };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
        headers.insert(header::AUTHORIZATION, text(&authorization)?);
        headers.insert(HeaderName::from_static("ttl"), HeaderValue::from(TTL_SECONDS));
        headers.insert(HeaderName::from_static("urgency"), HeaderValue::from_static(urgency));
        // Of what waits at the push service, the later one of a chat takes the place of the one before.
        headers.insert(HeaderName::from_static("topic"), text(&topic(to, notice))?);
        self.outside.post(Server::WebPush, endpoint, headers, body).await
    }
}

/// Returns what is sent: without the text where that would be too long.
fn payload(notice: &Notice) -> Vec<u8> {
    let write = |notice: &Notice| serde_json::to_vec(notice).unwrap_or_default();
    let whole = write(notice);
    if whole.len() <= MAX_PAYLOAD_BYTES {
        return whole;
    }
    write(&Notice { message: None, ..notice.clone() })
}

/// Returns the collapse key of a chat: it tells the push service nothing, and is another one for each subscription.
fn topic(to: &Subscription, notice: &Notice) -> String {
    let name = digest(&SHA256, format!("{}/{}", to.id, notice.chat).as_bytes());
    // 32 characters, as many as there may be.
    BASE64_URL_SAFE_NO_PAD.encode(&name.as_ref()[..24])
}

/// What a payload is encrypted with, once.
struct Sealing {
    private: PrivateKey,
    salt: [u8; SALT_BYTES],
}

impl Sealing {
    fn generate() -> Result<Self, Unspecified> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt)?;
        Ok(Self { private: PrivateKey::generate(&ECDH_P256)?, salt })
    }

    /// Encrypts for a browser: salt, size of the record, own public key, and one record.
    fn seal(&self, browser_key: &[u8], auth: &[u8], payload: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let own_key = self.private.compute_public_key()?;
        let own_key = own_key.as_ref();
        let browser = UnparsedPublicKey::new(&ECDH_P256, browser_key);
        let shared = agreement::agree(&self.private, browser, Unspecified, |shared| Ok(shared.to_vec()))?;
        let info = [b"WebPush: info\0".as_slice(), browser_key, own_key].concat();
        let secret = expand(&extract(auth, &shared), &info);
        let secret = extract(&self.salt, &secret);
        let key = expand(&secret, b"Content-Encoding: aes128gcm\0");
        let nonce = expand(&secret, b"Content-Encoding: nonce\0");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..KEY_BYTES])?);
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..NONCE_BYTES])?;
        let mut record = [payload, &[LAST_RECORD]].concat();
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record)?;
        let key_bytes = u8::try_from(own_key.len()).map_err(|_| Unspecified)?;
        Ok([self.salt.as_slice(), RECORD_BYTES.to_be_bytes().as_slice(), &[key_bytes], own_key, &record]
            .concat())
    }
}

/// HKDF-Extract (RFC 5869).
fn extract(salt: &[u8], secret: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), secret).as_ref().to_vec()
}

/// HKDF-Expand of one block, which is as long as anything here.
fn expand(secret: &[u8], info: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, &[info, &[1]].concat()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// The example of RFC 8291, section 5.
    #[test]
    fn a_payload_is_encrypted_as_the_example_of_the_standard() {
        let private = bytes("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let sealing = Sealing {
            private: PrivateKey::from_private_key(&ECDH_P256, &private).unwrap(),
            salt: bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap(),
        };
        let browser_key =
            bytes("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4");
        let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg");
        let sealed = sealing.seal(&browser_key, &auth, b"When I grow up, I want to be a watermelon");
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(sealed.unwrap()), expected);
    }

    #[test]
    fn a_secret_gives_the_same_key_everywhere() {
        let derive = |secret: &str| VapidKey::derive(&secret.to_owned().into()).unwrap();
        let key = derive("one");
        assert_eq!(key.public(), derive("one").public());
        assert_ne!(key.public(), derive("two").public());
        assert_eq!(bytes(key.public()).len(), 65);
        let endpoint = "https://push.example:8443/send/1?x=y".parse().unwrap();
        let shown = key.authorization(&endpoint, Some("https://acme.example"), 1_700_000_000).unwrap();
        let token = shown.strip_prefix("vapid t=").unwrap().split(',').next().unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&bytes(token.split('.').nth(1).unwrap())).unwrap();
        let expected =
            json!({"aud": "https://push.example:8443", "exp": 1_700_003_600, "sub": "https://acme.example"});
        assert_eq!(claims, expected);
    }
}
