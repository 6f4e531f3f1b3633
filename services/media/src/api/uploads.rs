//! What is left to do for the upload of a file, and how often one user begins one.

use std::time::{Duration, Instant};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use chrono::{DateTime, Utc};
use contracts::{
    UserId,
    api::{FileUpload, PartsUpload, UploadPart, WholeUpload},
};
use kit::{
    auth::Caller,
    bucket::{Rate, SharedBuckets},
    error::ApiError,
};

use super::{Files, UPLOAD_VALIDITY};
use crate::{
    domain::{File, Part, PartPlan, Variant},
    error::Error,
    objects::has_part,
};

/// A user who sends an album of pictures is not held up.
const RATE: Rate = Rate::every(Duration::from_secs(1), 60);
/// Parts whose requests are given out at once: a gibibyte.
const REQUESTED_PARTS: usize = 64;

/// The uploads that users began lately through this process. Cheap to clone.
#[derive(Clone)]
pub struct Uploads(SharedBuckets<UserId>);

impl Uploads {
    /// Returns uploads of which none was begun.
    pub fn new(rate: Rate) -> Self {
        Self(SharedBuckets::new(rate))
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self::new(RATE)
    }
}

/// The caller of a request that begins an upload, which was counted.
pub(super) struct UploadingCaller(pub(super) Caller);

impl<S> FromRequestParts<S> for UploadingCaller
where
    Uploads: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Uploads(buckets) = Uploads::from_ref(state);
        let counted = buckets.try_take(caller.user_id, Instant::now());
        counted.map_err(|wait| Error::TooManyUploads { wait })?;
        Ok(Self(caller))
    }
}

/// Returns until when a request is good that is signed now.
pub(super) fn valid_until(now: DateTime<Utc>) -> DateTime<Utc> {
    now + UPLOAD_VALIDITY
}

/// Returns what is left to do for the upload of a pending file; `None` for one that is pending no longer. Until when its requests are good
/// is noted first: whatever they write is removed after that.
pub(super) async fn upload(
    files: &Files,
    file: &File,
    now: DateTime<Utc>,
) -> Result<Option<FileUpload>, Error> {
    let expires_at = valid_until(now);
    let expires_at_ms = expires_at.timestamp_millis();
    if !files.store.extend_upload(file.file_id, expires_at).await? {
        return Ok(None);
    }
    if !file.is_in_parts() {
        let declared = &file.declared;
        let request = files.objects.upload(
            &file.upload_key(),
            &declared.media_type,
            declared.bytes,
            declared.checksum.as_ref(),
            UPLOAD_VALIDITY,
        );
        let (url, headers) = (request.url, request.headers);
        let method = "PUT".to_owned();
        return Ok(Some(FileUpload::Whole(WholeUpload { method, url, headers, expires_at_ms })));
    }
    let key = file.key(Variant::Content);
    let Some(id) = multipart_id(files, file).await? else { return Ok(None) };
    let stored = files.objects.parts(&key, &id).await?.unwrap_or_default();
    let mut requests = 0;
    let part = |part: Part| {
        let uploaded = has_part(&stored, part);
        let url = (!uploaded && requests < REQUESTED_PARTS).then(|| {
            requests += 1;
            files.objects.upload_part(&key, &id, part.number, part.bytes, UPLOAD_VALIDITY)
        });
        UploadPart { number: part.number, offset: part.offset, size: part.bytes, uploaded, url }
    };
    let parts = PartPlan::of(file.declared.bytes).parts().map(part).collect();
    Ok(Some(FileUpload::Parts(PartsUpload { parts, expires_at_ms })))
}

/// Returns the id of a file's upload in parts, which begins with the first request for it; `None` for a file that is pending no longer.
async fn multipart_id(files: &Files, file: &File) -> Result<Option<String>, Error> {
    if let Some(id) = &file.multipart_id {
        return Ok(Some(id.clone()));
    }
    let key = file.key(Variant::Content);
    let begun = files.objects.begin_parts(&key, &file.declared.media_type).await?;
    let counts = files.store.set_multipart(file.file_id, &begun).await?;
    // Another request has begun one meanwhile.
    if counts.as_ref() != Some(&begun) {
        files.objects.abort_parts(&key, &begun).await?;
    }
    Ok(counts)
}
