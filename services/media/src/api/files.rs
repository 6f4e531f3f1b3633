//! `/api/media/files`: uploads, and what is known of files.

#![expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]

use std::{pin::pin, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use contracts::{
    FileId, UserId,
    api::{self, CreateFileRequest, FilePurpose, Problem},
};
use kit::{
    auth::Caller,
    error::ApiError,
    extract::{Json, Path},
    idempotency::IdempotencyKey,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Files, Signals, Users,
    problems::{NoSuchFile, QueryProblems, RequestProblems},
    uploads::{UploadingCaller, upload, valid_until},
};
use crate::{
    domain::{self, Declared, File, NewFile, Quotas, Variant, WHOLE_BYTES},
    error::Error,
    processing::missing_parts,
    store::{Discarded, Refusal},
};

/// How long the response to a completion waits for the check. Most files are checked by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Begins the upload of a file.
///
/// The response has the requests by which the file is sent to the object store; `complete` follows. A file for a chat may be uploaded by those who may
/// write there, and a picture of a chat by its owner and admins. What no message and no chat has is removed after a day.
///
/// A picture of up to 24 MiB is encoded again: without what the camera wrote into it, such as the place, and turned as it was taken. A picture
/// that is to stay as it is has the type `application/octet-stream`, and is a download then.
#[utoipa::path(
    post,
    path = "/api/media/files",
    operation_id = "create_file",
    tag = "files",
    security(("access_token" = [])),
    params(
        ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
            description = "1 to 128 visible ASCII characters, chosen once for a file and repeated with every retry")
    ),
    request_body = CreateFileRequest,
    responses(
        (status = CREATED, description = "The file, with the requests of its upload", body = api::File),
        (status = OK, description = "The file that was created with this idempotency-key, however far it is", body = api::File),
        (status = FORBIDDEN, description = "not_a_member, permission_denied (the caller may not write there, or may not change the picture)",
            body = Problem, content_type = "application/problem+json"),
        (status = CONFLICT, description = "limit_reached (the file is too large, or there is no room for it; `detail` says which and what makes \
            room)", body = Problem, content_type = "application/problem+json"),
        (status = UNPROCESSABLE_ENTITY, description = "idempotency_conflict (the idempotency-key was used for another file)",
            body = Problem, content_type = "application/problem+json"),
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, or uploads of the caller)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn create(
    UploadingCaller(caller): UploadingCaller,
    State(files): State<Files>,
    State(users): State<Users>,
    key: Option<IdempotencyKey>,
    Json(request): Json<CreateFileRequest>,
) -> Result<Response, ApiError> {
    let (owner, now) = (caller.user_id, Utc::now());
    let new = NewFile::parse(FileId::generate(), owner, &request, key, now).map_err(Error::from)?;
    match new.purpose {
        FilePurpose::Chat(chat) => files.chats.require_sender(owner, chat).await?,
        FilePurpose::ChatPicture(chat) => files.chats.require_manager(owner, chat).await?,
        FilePurpose::Avatar => users.require_account(owner).await?,
    }
    require_whole_picture(&files.quotas, &new).map_err(Error::from)?;
    let created = files.store.create(&new, &files.quotas, valid_until(now)).await.map_err(Error::from)?;
    if created.is_new {
        files.metrics.created.inc();
    }
    let status = if created.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let shown = shown(&files, &created.file, owner, now).await?;
    Ok((status, Json(shown)).into_response())
}

/// A picture is read into memory as a whole. One that is too large for any file is left to the store, because no other type helps it.
fn require_whole_picture(quotas: &Quotas, new: &NewFile) -> Result<(), Refusal> {
    let Declared { media_type, bytes, .. } = &new.declared;
    if !media_type.is_picture() || *bytes <= WHOLE_BYTES || *bytes > quotas.file_bytes {
        return Ok(());
    }
    Err(match new.purpose {
        FilePurpose::Chat(_) => Refusal::PictureTooLarge,
        FilePurpose::ChatPicture(_) | FilePurpose::Avatar => Refusal::AvatarTooLarge,
    })
}

/// Returns a file: how far it is, what is left to do for its upload, and where it is fetched.
///
/// The one who uploaded it sees it in any state; others once it is ready, and while they are in a chat with a message that has it. Links are good for
/// five minutes, and for the caller only.
#[utoipa::path(
    get,
    path = "/api/media/files/{file}",
    operation_id = "get_file",
    tag = "files",
    security(("access_token" = [])),
    params(("file" = FileId, Path, description = "File id")),
    responses(
        (status = OK, description = "The file", body = api::File),
        NoSuchFile,
        QueryProblems,
    )
)]
pub(super) async fn get(
    caller: Caller,
    State(files): State<Files>,
    Path(file_id): Path<FileId>,
) -> Result<Json<api::File>, ApiError> {
    let now = Utc::now();
    let file = files.store.file(file_id).await.map_err(Error::from)?.ok_or(Error::NotFound(file_id))?;
    if file.owner != caller.user_id && !files.is_readable(&file, caller.user_id, now).await? {
        return Err(Error::NotFound(file_id).into());
    }
    Ok(Json(shown(&files, &file, caller.user_id, now).await?))
}

/// Completes the upload of a file, which is checked then.
///
/// The response waits for the check for a moment. With the state `processing`, `GET` of the file says later what became of it. A file that was completed
/// before is answered as it is.
#[utoipa::path(
    post,
    path = "/api/media/files/{file}/complete",
    operation_id = "complete_file",
    tag = "files",
    security(("access_token" = [])),
    params(("file" = FileId, Path, description = "File id")),
    responses(
        (status = OK, description = "The file", body = api::File),
        NoSuchFile,
        (status = CONFLICT, description = "conflict (not everything was uploaded yet; `detail` says what is missing)", body = Problem,
            content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn complete(
    caller: Caller,
    State(files): State<Files>,
    State(signals): State<Signals>,
    Path(file_id): Path<FileId>,
) -> Result<Json<api::File>, ApiError> {
    let owner = caller.user_id;
    let file = own(&files, file_id, owner).await?;
    if file.state == domain::State::Pending {
        require_uploaded(&files, &file).await?;
        // Any process may take it, so that none has more than it can do.
        files.store.begin(file_id, Utc::now()).await.map_err(Error::from)?;
        signals.uploaded.notify_one();
    }
    let file = checked(&files, &signals, file_id, owner).await?;
    Ok(Json(shown(&files, &file, owner, Utc::now()).await?))
}

/// Removes a file of the caller that no message and no chat has, uploaded or not, or the caller's own picture.
///
/// A file that is ready may be in a message that is on its way: from here on none can be sent with it, and it is removed as soon as it is certain
/// that no message has it.
#[utoipa::path(
    delete,
    path = "/api/media/files/{file}",
    operation_id = "remove_file",
    tag = "files",
    security(("access_token" = [])),
    params(("file" = FileId, Path, description = "File id")),
    responses(
        (status = NO_CONTENT, description = "The file is removed, or is going to be"),
        NoSuchFile,
        (status = CONFLICT, description = "conflict (a message or a chat has it)", body = Problem,
            content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn remove(
    caller: Caller,
    State(files): State<Files>,
    State(signals): State<Signals>,
    Path(file_id): Path<FileId>,
) -> Result<StatusCode, ApiError> {
    match files.store.discard(file_id, caller.user_id, Utc::now()).await.map_err(Error::from)? {
        Discarded::Begun => {
            signals.discarded.notify_one();
            Ok(StatusCode::NO_CONTENT)
        }
        Discarded::InUse => Err(Error::InUse.into()),
        Discarded::NotFound => Err(Error::NotFound(file_id).into()),
    }
}

/// Returns a file with what is left to do for it.
async fn shown(files: &Files, file: &File, viewer: UserId, now: DateTime<Utc>) -> Result<api::File, Error> {
    if file.state != domain::State::Pending || file.owner != viewer {
        return files.shown(file, viewer, now);
    }
    match upload(files, file, now).await? {
        Some(upload) => Ok(api::File { upload: Some(upload), ..files.shown(file, viewer, now)? }),
        // It was completed or removed since it was read.
        None => files.shown(&own(files, file.file_id, viewer).await?, viewer, now),
    }
}

async fn own(files: &Files, file_id: FileId, owner: UserId) -> Result<File, Error> {
    let file = files.store.file(file_id).await?;
    file.filter(|file| file.owner == owner).ok_or(Error::NotFound(file_id))
}

/// Refuses an upload that is not complete, so that it can be.
async fn require_uploaded(files: &Files, file: &File) -> Result<(), Error> {
    if !file.is_in_parts() {
        let size = files.objects.size(&file.upload_key()).await?;
        return size.map(drop).ok_or(Error::NotUploaded);
    }
    let id = file.multipart_id.as_deref().ok_or(Error::NotUploaded)?;
    let stored = files.objects.parts(&file.key(Variant::Content), id).await?;
    let missing = missing_parts(file, &stored.ok_or(Error::NotUploaded)?);
    match missing.split_first() {
        None => Ok(()),
        Some((first, others)) => Err(Error::PartsMissing { first: *first, others: others.len() }),
    }
}

/// Returns a file once it is checked, or as it is after a while.
async fn checked(files: &Files, signals: &Signals, file_id: FileId, owner: UserId) -> Result<File, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut checked = pin!(signals.checked.notified());
        // From here on a notification counts, also one that comes before the wait.
        checked.as_mut().enable();
        let file = own(files, file_id, owner).await?;
        let is_late = file.state != domain::State::Processing || timeout_at(deadline, checked).await.is_err();
        if is_late {
            return Ok(file);
        }
    }
}
