//! A media service in memory, and what its users do.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::{Bytes, to_bytes},
    http::{HeaderMap, Request},
};
use contracts::{ChatId, FileId};
use image::{DynamicImage, ImageFormat, RgbImage};
use kit::{
    browser::UserContent,
    reach::Reach,
    testing::{Answer, TestApi, TestRealm, TestUser, wait_for},
};
use media::{
    api::{self, AppState, Files, Signals, Uploads, grpc::MediaRpc},
    chats::Chats,
    collecting::Collector,
    domain::{LinkKey, Quotas},
    metrics::Metrics,
    objects::{MemoryObjects, Objects},
    pictures::{Limits, Pool, PoolSize},
    preview::{Fetcher, Previews},
    processing::Processor,
    scan::Scanner,
    store::MemoryStore,
    users::Users,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::peers::Peers;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const QUOTAS: Quotas = Quotas { tenant_bytes: 96 << 20, user_bytes: 64 << 20, file_bytes: 48 << 20 };

/// The service of a tenant. Its tasks end with it.
pub struct Stand {
    pub api: TestApi,
    pub rpc: MediaRpc,
    pub realm: TestRealm,
    pub peers: Peers,
    pub store: Arc<MemoryStore>,
    pub objects: MemoryObjects,
    pub collector: Collector,
    pub users: Users,
    pub http: reqwest::Client,
    /// The same API without its description: the content of files may be of any type.
    router: Router,
    stop: CancellationToken,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A response with the content of a file.
pub struct Content {
    pub status: u16,
    pub headers: HeaderMap,
    /// Whether it is marked for what a browser does with it.
    pub is_user_content: bool,
    pub body: Bytes,
}

impl Content {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Stand {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// Starts a service that has a scanner, or none.
    pub async fn with(scanner: Option<Scanner>) -> Self {
        let (realm, peers, stop) =
            (TestRealm::start("acme").await, Peers::default(), CancellationToken::new());
        let (objects, serving) = MemoryObjects::start(128 << 20, stop.clone()).expect("a store of objects");
        tokio::spawn(serving);
        let (store, signals) = (Arc::new(MemoryStore::default()), Signals::default());
        let channel = peers.channel().await;
        let users = Users::new(channel.clone());
        let shared: Arc<dyn Objects> = Arc::new(objects.clone());
        let files = Files {
            store: store.clone(),
            objects: shared.clone(),
            chats: Chats::new(channel.clone(), channel),
            quotas: QUOTAS,
            links: LinkKey::new(hmac::Key::new(hmac::HMAC_SHA256, b"a key")),
            metrics: Metrics::default(),
        };
        let processor = Processor {
            store: store.clone(),
            objects: shared.clone(),
            pool: Pool::new(PoolSize::default(), Limits::default()),
            scanner,
            films: None,
            metrics: Metrics::default(),
            wake: signals.uploaded.clone(),
            done: signals.checked.clone(),
        };
        tokio::spawn(processor.run(TaskTracker::new(), stop.clone()));
        let collector = Collector {
            store: store.clone(),
            objects: shared,
            metrics: Metrics::default(),
            wake: signals.discarded.clone(),
        };
        let rpc = MediaRpc::new(files.clone());
        let (uploads, streams) = (Uploads::default(), api::Streams::default());
        // Every name leads to this machine, which is the Internet.
        let reach = Reach {
            lookup: Arc::new(|_| Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })),
            address: |_| true,
            port: |_| true,
        };
        let fetcher = Fetcher::new(reach, Pool::new(PoolSize::default(), Limits::default()));
        let previews = Previews::new(Some(fetcher.expect("a client")));
        let state = AppState { files, uploads, streams, signals, users: users.clone(), previews };
        let (router, _) = api::router(state.clone()).split_for_parts();
        let api = TestApi::new(api::router(state), &realm);
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { api, rpc, realm, peers, store, objects, collector, users, http, router, stop }
    }

    /// Creates a chat of these users, the first of whom owns it.
    pub fn chat(&self, users: &[&TestUser]) -> ChatId {
        let chat = ChatId::generate();
        for (at, user) in users.iter().enumerate() {
            self.peers.join(chat, user.id, if at == 0 { "owner" } else { "member" });
        }
        chat
    }

    /// Requests the upload of these bytes.
    pub async fn create(&self, user: &TestUser, purpose: Value, media_type: &str, bytes: &[u8]) -> Answer {
        let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({
            "for": purpose, "name": "two cats.bin", "type": media_type, "size": bytes.len(), "sha256": sha256,
        });
        self.api.post(user, "/api/media/files", body).await
    }

    /// Sends bytes as the response to a request for an upload says, and returns the status.
    pub async fn put(&self, upload: &Value, bytes: &[u8]) -> u16 {
        let mut request = self.http.put(upload["url"].as_str().expect("an address")).body(bytes.to_vec());
        let headers: BTreeMap<String, String> =
            serde_json::from_value(upload["headers"].clone()).unwrap_or_default();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().await.expect("the store answers").status().as_u16()
    }

    pub async fn complete(&self, user: &TestUser, file: &Value) -> Answer {
        let path = format!("POST /api/media/files/{}/complete", id(file));
        self.api.send(&path, Some(&user.token), None).await
    }

    pub async fn get(&self, user: &TestUser, file: &Value) -> Answer {
        self.api.get(user, &format!("/api/media/files/{}", id(file))).await
    }

    pub async fn remove(&self, user: &TestUser, file: &Value) -> Answer {
        let line = format!("DELETE /api/media/files/{}", id(file));
        self.api.send(&line, Some(&user.token), None).await
    }

    /// Uploads a file from the request to the end of its check.
    pub async fn upload(&self, user: &TestUser, purpose: Value, media_type: &str, bytes: &[u8]) -> Value {
        let file = self.create(user, purpose, media_type, bytes).await.ok(201);
        assert_eq!(self.put(&file["upload"], bytes).await, 200);
        self.complete(user, &file).await.ok(200);
        self.checked(user, &file).await
    }

    /// Waits until a file is checked.
    pub async fn checked(&self, user: &TestUser, file: &Value) -> Value {
        wait_for("the check of a file", PATIENCE, || async {
            let file = self.get(user, file).await.ok(200);
            (file["state"] != "processing").then_some(file)
        })
        .await
    }

    /// Fetches a link as a browser does: without a token.
    pub async fn fetch(&self, link: &Value, headers: &[(&str, &str)]) -> Content {
        let mut request = Request::get(link.as_str().expect("a link"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("a router answers");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 30).await.expect("a body");
        let is_user_content = parts.extensions.get::<UserContent>().is_some();
        Content { status: parts.status.as_u16(), headers: parts.headers, is_user_content, body }
    }
}

pub fn id(file: &Value) -> FileId {
    file["id"].as_str().expect("an id").parse().expect("the id of a file")
}

/// Returns a picture as PNG.
pub fn picture(width: u32, height: u32) -> Vec<u8> {
    let pixels = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 120]));
    let mut png = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(pixels).write_to(&mut png, ImageFormat::Png).expect("a picture");
    png.into_inner()
}
