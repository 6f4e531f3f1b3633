//! Where the bytes of files are kept: S3, and a stand-in for it in memory.
//!
//! Users send their bytes there themselves, with requests that are signed here. Nothing here holds a whole file but what a caller
//! hands over.

mod memory;
mod s3;

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use contracts::ErrorCode;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::header;
use kit::tls::Untrusted;
use tonic::async_trait;

pub use self::{memory::MemoryObjects, s3::S3Objects};
use crate::domain::{ByteRange, Checksum, MediaType, Part};

/// What a request carries of a file whose checksum was declared: that, in Base64.
const CHECKSUM_HEADER: &str = "x-amz-checksum-sha256";

/// A store of objects. Its suite (`tests/it/objects.rs`) runs on every implementation.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// Returns the request that writes an object of exactly this size and type, and of this checksum where there is one.
    fn upload(
        &self,
        key: &str,
        media_type: &MediaType,
        bytes: i64,
        checksum: Option<&Checksum>,
        valid_for: Duration,
    ) -> SignedRequest;

    /// Returns the address at which one part of an upload is written with `PUT`, of exactly this size.
    fn upload_part(&self, key: &str, upload: &str, number: u16, bytes: i64, valid_for: Duration) -> String;

    /// Begins an upload in parts and returns its id.
    async fn begin_parts(&self, key: &str, media_type: &MediaType) -> Result<String, ObjectError>;

    /// Returns the parts that are there, by their numbers; `None` for an upload that is unknown, completed or aborted.
    async fn parts(&self, key: &str, upload: &str) -> Result<Option<Vec<StoredPart>>, ObjectError>;

    /// Makes one object of parts, which are all there are.
    async fn complete_parts(&self, key: &str, upload: &str, parts: &[StoredPart]) -> Result<(), ObjectError>;

    /// Forgets an upload in parts. One that is unknown is none.
    async fn abort_parts(&self, key: &str, upload: &str) -> Result<(), ObjectError>;

    /// Returns the size of an object in bytes; `None` when there is none.
    async fn size(&self, key: &str) -> Result<Option<i64>, ObjectError>;

    /// Returns an object or a part of it, piece by piece; `None` when there is none.
    async fn read(&self, key: &str, range: Option<ByteRange>) -> Result<Option<Pieces>, ObjectError>;

    /// Writes an object.
    async fn write(&self, key: &str, media_type: &MediaType, bytes: Bytes) -> Result<(), ObjectError>;

    /// Copies an object within the store. Returns whether there was one.
    async fn copy(&self, from: &str, to: &str) -> Result<bool, ObjectError>;

    /// Removes an object. One that is not there is removed.
    async fn remove(&self, key: &str) -> Result<(), ObjectError>;

    /// Fails while the store does not answer, or does not take the tenant's account.
    async fn check(&self) -> Result<(), ObjectError>;
}

/// The bytes of an object. It ends with the first error.
pub type Pieces = BoxStream<'static, Result<Bytes, ObjectError>>;

/// A request that a user sends to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    pub url: String,
    /// What it must carry as it is here.
    pub headers: BTreeMap<String, String>,
}

/// A part that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    pub number: u16,
    pub bytes: i64,
    /// What names its content when the parts are joined.
    pub etag: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("failed to reach the object store to {action} {key}")]
    Reach { action: &'static str, key: String, source: reqwest::Error },
    #[error("the object store is not trusted to {action} {key}: {why}")]
    Untrusted { action: &'static str, key: String, why: Untrusted, source: reqwest::Error },
    #[error("the object store refuses to {action} {key}: {status}, {code}")]
    Refused { action: &'static str, key: String, status: u16, code: String },
    #[error("the response of the object store to {action} {key} is not valid: {problem}")]
    Response { action: &'static str, key: String, problem: String },
    #[error("the object store did not {action} {key} within {limit:?}")]
    Late { action: &'static str, key: String, limit: Duration },
    #[error("there is no room in memory for {key}")]
    Full { key: String },
}

impl ObjectError {
    /// Returns the code that a caller meets.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Reach { .. } | Self::Untrusted { .. } | Self::Late { .. } | Self::Full { .. } => {
                ErrorCode::Unavailable
            }
            // Busy, restarting, or without the account for a moment.
            Self::Refused { status, .. } if *status >= 500 || *status == 429 => ErrorCode::Unavailable,
            Self::Refused { .. } | Self::Response { .. } => ErrorCode::Internal,
        }
    }
}

/// Returns what the request carries that writes an object of this type and checksum.
fn upload_headers(media_type: &MediaType, checksum: Option<&Checksum>) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::from([(header::CONTENT_TYPE.to_string(), media_type.as_str().to_owned())]);
    if let Some(checksum) = checksum {
        headers.insert(CHECKSUM_HEADER.to_owned(), BASE64_STANDARD.encode(checksum));
    }
    headers
}

/// Returns whether a part is there as it must be.
pub(crate) fn has_part(stored: &[StoredPart], part: Part) -> bool {
    stored.iter().any(|stored| stored.number == part.number && stored.bytes == part.bytes)
}

/// Reads an object of at most so many bytes into memory, where there is room for all of them at once; `None` when there is none, or a
/// larger one.
pub async fn read_whole(objects: &dyn Objects, key: &str, most: usize) -> Result<Option<Bytes>, ObjectError> {
    let Some(mut pieces) = objects.read(key, None).await? else { return Ok(None) };
    let mut whole = Vec::with_capacity(most);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if whole.len() + piece.len() > most {
            return Ok(None);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Some(whole.into()))
}
