//! Objects in memory, for `posthouse dev` and for tests: a small server takes what users upload, and is as strict as S3 is.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::put,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;
use tower_http::cors::CorsLayer;
use uuid::Uuid;

use super::{CHECKSUM_HEADER, ObjectError, Objects, Pieces, SignedRequest, StoredPart, upload_headers};
use crate::domain::{ByteRange, Checksum, MediaType};

/// What is read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Keeps objects for as long as the process lives. Cheap to clone.
#[derive(Clone)]
pub struct MemoryObjects(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    /// Most bytes of all objects and parts together.
    room: usize,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Bytes>,
    uploads: HashMap<String, Upload>,
    /// What requests may write that were given out, by what their address has.
    grants: HashMap<Uuid, Grant>,
}

struct Upload {
    key: String,
    parts: BTreeMap<u16, Bytes>,
}

#[derive(Clone)]
struct Grant {
    key: String,
    part: Option<(String, u16)>,
    bytes: usize,
    media_type: Option<String>,
    checksum: Option<Checksum>,
    until: Instant,
}

impl Contents {
    fn bytes(&self) -> usize {
        let parts = self.uploads.values().flat_map(|upload| upload.parts.values());
        self.objects.values().chain(parts).map(Bytes::len).sum()
    }
}

impl MemoryObjects {
    /// Creates a store with room for so many bytes, and returns it with its server, which listens already and ends with `stop`.
    pub fn start(
        room: usize,
        stop: CancellationToken,
    ) -> anyhow::Result<(Self, impl Future<Output = ()> + Send + use<>)> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.context("failed to listen for uploads")?;
        listener.set_nonblocking(true).context("failed to prepare the listener for uploads")?;
        let address = listener.local_addr().context("a listener has no address")?;
        let objects = Self(Arc::new(Inner { address, room, contents: Mutex::default() }));
        let router = Router::new()
            .route("/{grant}", put(take))
            // As the bucket of a tenant says it for the tenant's addresses.
            .layer(CorsLayer::permissive())
            .with_state(objects.clone());
        let serving = async move {
            let served = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
            };
            if let Err(error) = served.await {
                tracing::error!(%error, "the server of uploads failed: {error}");
            }
        };
        Ok((objects, serving))
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an address for what a request may write.
    #[expect(clippy::disallowed_methods, reason = "an edge: an address that cannot be guessed")]
    fn grant(&self, grant: Grant) -> String {
        let id = Uuid::new_v4();
        let mut contents = self.contents();
        contents.grants.retain(|_, grant| Instant::now() < grant.until);
        contents.grants.insert(id, grant);
        format!("http://{}/{id}", self.0.address)
    }

    /// Returns the keys of all objects, for tests.
    pub fn keys(&self) -> Vec<String> {
        self.contents().objects.keys().cloned().collect()
    }

    fn full(key: &str) -> ObjectError {
        ObjectError::Full { key: key.to_owned() }
    }
}

/// Takes what a user uploads.
async fn take(
    State(objects): State<MemoryObjects>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let grant = objects.contents().grants.get(&id).filter(|grant| Instant::now() < grant.until).cloned();
    let Some(grant) = grant else { return StatusCode::FORBIDDEN.into_response() };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
    let signed = [
        length == Some(grant.bytes),
        grant.media_type.is_none() || text(header::CONTENT_TYPE.as_str()) == grant.media_type.as_deref(),
        grant.checksum.is_none_or(|checksum| {
            text(CHECKSUM_HEADER).is_some_and(|given| given == BASE64_STANDARD.encode(checksum))
        }),
    ];
    if signed.contains(&false) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if objects.contents().bytes() + grant.bytes > objects.0.room {
        return StatusCode::INSUFFICIENT_STORAGE.into_response();
    }
    let Ok(bytes) = to_bytes(body, grant.bytes).await else { return StatusCode::BAD_REQUEST.into_response() };
    let is_right = bytes.len() == grant.bytes
        && grant.checksum.is_none_or(|checksum| Sha256::digest(&bytes).as_slice() == checksum);
    if !is_right {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let etag = etag(&bytes);
    let mut contents = objects.contents();
    match grant.part {
        None => {
            contents.objects.insert(grant.key, bytes);
        }
        Some((upload, number)) => match contents.uploads.get_mut(&upload) {
            Some(upload) => {
                upload.parts.insert(number, bytes);
            }
            None => return StatusCode::NOT_FOUND.into_response(),
        },
    }
    [(header::ETAG, etag)].into_response()
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", BASE64_STANDARD.encode(Sha256::digest(bytes)))
}

#[async_trait]
impl Objects for MemoryObjects {
    fn upload(
        &self,
        key: &str,
        media_type: &MediaType,
        bytes: i64,
        checksum: Option<&Checksum>,
        valid_for: Duration,
    ) -> SignedRequest {
        let url = self.grant(Grant {
            key: key.to_owned(),
            part: None,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            media_type: Some(media_type.as_str().to_owned()),
            checksum: checksum.copied(),
            until: Instant::now() + valid_for,
        });
        SignedRequest { url, headers: upload_headers(media_type, checksum) }
    }

    fn upload_part(&self, key: &str, upload: &str, number: u16, bytes: i64, valid_for: Duration) -> String {
        self.grant(Grant {
            key: key.to_owned(),
            part: Some((upload.to_owned(), number)),
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            media_type: None,
            checksum: None,
            until: Instant::now() + valid_for,
        })
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: the id of an upload")]
    async fn begin_parts(&self, key: &str, _: &MediaType) -> Result<String, ObjectError> {
        let id = Uuid::new_v4().to_string();
        let upload = Upload { key: key.to_owned(), parts: BTreeMap::new() };
        self.contents().uploads.insert(id.clone(), upload);
        Ok(id)
    }

    async fn parts(&self, key: &str, upload: &str) -> Result<Option<Vec<StoredPart>>, ObjectError> {
        let contents = self.contents();
        let upload = contents.uploads.get(upload).filter(|upload| upload.key == key);
        let part = |(number, bytes): (&u16, &Bytes)| StoredPart {
            number: *number,
            bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            etag: etag(bytes),
        };
        Ok(upload.map(|upload| upload.parts.iter().map(part).collect()))
    }

    async fn complete_parts(&self, key: &str, upload: &str, parts: &[StoredPart]) -> Result<(), ObjectError> {
        let mut contents = self.contents();
        let found = contents.uploads.remove(upload).filter(|found| found.key == key);
        let invalid = |problem: &str| ObjectError::Response {
            action: "join the parts of",
            key: key.to_owned(),
            problem: problem.to_owned(),
        };
        let found = found.ok_or_else(|| invalid("there is no such upload"))?;
        let mut whole = Vec::new();
        for part in parts {
            let bytes = found.parts.get(&part.number).filter(|bytes| etag(bytes) == part.etag);
            whole.extend_from_slice(bytes.ok_or_else(|| invalid("there is no such part"))?);
        }
        contents.objects.insert(key.to_owned(), whole.into());
        Ok(())
    }

    async fn abort_parts(&self, _: &str, upload: &str) -> Result<(), ObjectError> {
        self.contents().uploads.remove(upload);
        Ok(())
    }

    async fn size(&self, key: &str) -> Result<Option<i64>, ObjectError> {
        let contents = self.contents();
        Ok(contents.objects.get(key).map(|bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX)))
    }

    async fn read(&self, key: &str, range: Option<ByteRange>) -> Result<Option<Pieces>, ObjectError> {
        let Some(bytes) = self.contents().objects.get(key).cloned() else { return Ok(None) };
        let bytes = match range {
            None => bytes,
            Some(ByteRange { first, last }) => {
                let place = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
                let (first, end) = (place(first), place(last.saturating_add(1)));
                bytes.slice(first.min(end)..end)
            }
        };
        let pieces = stream::iter(0..bytes.len().div_ceil(PIECE_BYTES)).map(move |piece| {
            let first = piece * PIECE_BYTES;
            Ok::<_, ObjectError>(bytes.slice(first..(first + PIECE_BYTES).min(bytes.len())))
        });
        Ok(Some(pieces.boxed()))
    }

    async fn write(&self, key: &str, _: &MediaType, bytes: Bytes) -> Result<(), ObjectError> {
        let mut contents = self.contents();
        if contents.bytes() + bytes.len() > self.0.room {
            return Err(Self::full(key));
        }
        contents.objects.insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn copy(&self, from: &str, to: &str) -> Result<bool, ObjectError> {
        let mut contents = self.contents();
        // The bytes are shared.
        let bytes = contents.objects.get(from).cloned();
        Ok(bytes.map(|bytes| contents.objects.insert(to.to_owned(), bytes)).is_some())
    }

    async fn remove(&self, key: &str) -> Result<(), ObjectError> {
        self.contents().objects.remove(key);
        Ok(())
    }

    async fn check(&self) -> Result<(), ObjectError> {
        Ok(())
    }
}
