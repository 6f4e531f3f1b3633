//! What is on the other side of notifications: a server that takes pushes and webhooks, and a browser that decrypts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac,
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey as VerifyingKey},
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::wait_for;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it came.
    pub at: Instant,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What it was answered with.
    pub status: u16,
}

impl Received {
    /// Returns a header as text; an absent one is empty.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// A server on a loopback port.
#[derive(Clone)]
pub struct Receiver {
    /// Where it takes requests, whatever their query is.
    pub url: String,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    status: Arc<AtomicU16>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Starts a server that answers with 201. It serves until the test ends.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}/send", listener.local_addr().expect("an address"));
        let shared = Shared { status: Arc::new(AtomicU16::new(201)), received: Arc::default() };
        let router = Router::new().route("/send", post(receive)).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, shared }
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Returns all requests so far, in the order in which they came.
    pub fn all(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no panic").clone()
    }

    /// Returns what was answered with success.
    pub fn taken(&self) -> Vec<Received> {
        self.all().into_iter().filter(|one| one.status < 300).collect()
    }

    /// Waits until so many requests have come, whatever they were answered with.
    pub async fn wait(&self, count: usize) -> Vec<Received> {
        wait_for("requests", PATIENCE, || async {
            let all = self.all();
            (all.len() >= count).then_some(all)
        })
        .await
    }

    /// Waits until so many requests were answered with success.
    pub async fn wait_taken(&self, count: usize) -> Vec<Received> {
        wait_for("requests that are taken", PATIENCE, || async {
            let taken = self.taken();
            (taken.len() >= count).then_some(taken)
        })
        .await
    }
}

async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = shared.status.load(Ordering::Relaxed);
    let received = Received { at: Instant::now(), headers, body, status };
    shared.received.lock().expect("no panic").push(received);
    StatusCode::from_u16(status).expect("a status")
}

/// A browser that has subscribed.
pub struct Browser {
    private: PrivateKey,
    auth: [u8; 16],
}

/// So many bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(salt: &[u8], secret: &[u8], info: &[u8], length: usize) -> Vec<u8> {
    let mut derived = vec![0; length];
    let secret = Salt::new(HKDF_SHA256, salt).extract(secret);
    let filled = secret.expand(&[info], Length(length)).and_then(|okm| okm.fill(&mut derived));
    filled.expect("a key");
    derived
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Browser {
    /// Returns a browser with a key of its own.
    pub fn new() -> Self {
        Self { private: PrivateKey::generate(&ECDH_P256).expect("a key"), auth: *b"sixteen bytes ok" }
    }

    /// Returns the public key: a point of P-256.
    pub fn public(&self) -> Vec<u8> {
        self.private.compute_public_key().expect("a key").as_ref().to_vec()
    }

    /// Returns what a page sends of its subscription.
    pub fn subscription(&self, endpoint: &str) -> Value {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let keys = json!({"p256dh": encode(&self.public()), "auth": encode(&self.auth)});
        json!({"web_push": {"endpoint": endpoint, "keys": keys}})
    }

    /// Decrypts a push, as the receiver of RFC 8291 does.
    pub fn open(&self, received: &Received) -> Value {
        assert_eq!(received.header("content-encoding"), "aes128gcm");
        let (salt, rest) = received.body.split_at(16);
        let (size, rest) = rest.split_at(4);
        assert_eq!(size, 4096_u32.to_be_bytes());
        let (sender, record) = rest[1..].split_at(rest[0].into());
        let key = UnparsedPublicKey::new(&ECDH_P256, sender);
        let shared =
            agreement::agree(&self.private, key, (), |shared| Ok(shared.to_vec())).expect("agreement");
        let info = [b"WebPush: info\0".as_slice(), &self.public(), sender].concat();
        let secret = derive(&self.auth, &shared, &info, 32);
        let key = derive(salt, &secret, b"Content-Encoding: aes128gcm\0", 16);
        let nonce = derive(salt, &secret, b"Content-Encoding: nonce\0", 12);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).expect("a key"));
        let nonce = Nonce::try_assume_unique_for_key(&nonce).expect("a nonce");
        let mut record = record.to_vec();
        let plain = key.open_in_place(nonce, Aad::empty(), &mut record).expect("what this browser can read");
        let (end, payload) = plain.split_last().expect("a payload");
        assert_eq!(*end, 2, "the last record");
        serde_json::from_slice(payload).expect("JSON")
    }
}

/// Checks who sent a push, as a push service does (RFC 8292), and returns the claims.
pub fn verify_sender(received: &Received, public_key: &str) -> Value {
    let value = received.header("authorization").strip_prefix("vapid t=").expect("a token");
    let (token, key) = value.split_once(", k=").expect("a key");
    assert_eq!(key, public_key);
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let verified = VerifyingKey::new(&ECDSA_P256_SHA256_FIXED, decode(key))
        .verify(signed.as_bytes(), &decode(signature));
    verified.expect("the signature is good");
    let (_, claims) = signed.split_once('.').expect("claims");
    serde_json::from_slice(&decode(claims)).expect("JSON")
}

/// Checks the signature of a webhook, and returns its body.
pub fn verify_webhook(received: &Received, secret: &str) -> Value {
    let (at, signature) = received.header("posthouse-signature").split_once(",v1=").expect("a signature");
    let at = at.strip_prefix("t=").expect("a time");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [at.as_bytes(), b".", &received.body].concat();
    let expected: String =
        hmac::sign(&key, &signed).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signature, expected);
    serde_json::from_slice(&received.body).expect("JSON")
}
