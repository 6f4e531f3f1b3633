//! Where it is kept what files there are and what refers to them. Their bytes are in the object store.

mod memory;
mod postgres;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contracts::{ChatId, FileId, UserId};
use kit::deletions;
use tonic::async_trait;

pub use self::{
    memory::MemoryStore,
    postgres::{PostgresStore, SCHEMA},
};
use crate::domain::{Change, File, MAX_FREE_FILES, NewFile, Outcome, Quotas, Readers, WHOLE_BYTES};

/// A store of files. Its suite (`tests/it/store.rs`) runs on every implementation.
#[async_trait]
pub trait FileStore: Send + Sync + 'static {
    /// Creates a file that is pending, within the quotas. A repetition with the same idempotency key returns the file that is there.
    async fn create(
        &self,
        new: &NewFile,
        quotas: &Quotas,
        upload_until: DateTime<Utc>,
    ) -> Result<Created, StoreError>;

    /// Returns a file, whatever its state; `None` for one that is not there.
    async fn file(&self, file_id: FileId) -> Result<Option<File>, StoreError>;

    /// Notes the id of a file's upload in parts, unless there is one already. Returns the one that counts from here on; `None` for a
    /// file that is not pending.
    async fn set_multipart(&self, file_id: FileId, multipart_id: &str) -> Result<Option<String>, StoreError>;

    /// Notes that requests are about to be given out which are good until then. Returns whether the file is pending; of any other, none
    /// may be.
    async fn extend_upload(&self, file_id: FileId, until: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Lets a pending file be claimed from this moment on. Returns whether it was pending.
    async fn begin(&self, file_id: FileId, at: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Claims the file in processing that no process has at `now` and that waits for the longest time, and counts the attempt. Files of a
    /// user of whom processes have [`MAX_CLAIMS`](crate::domain::MAX_CLAIMS) wait for those; two claims at the same moment may each take the last one.
    async fn claim(&self, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<Claimed>, StoreError>;

    /// Gives a claim back: the file can be claimed again from this moment on. An attempt that is not counted was not.
    async fn give_claim_back(
        &self,
        file_id: FileId,
        again_at: DateTime<Utc>,
        is_counted: bool,
    ) -> Result<(), StoreError>;

    /// Notes what became of a file in processing, and what it takes from here on: no less than was declared, up to
    /// [`Self::forget_upload`], where the request of its upload may be used again. A file for a user takes the place of the one
    /// before it. Changes nothing when another process has noted it before.
    async fn finish(
        &self,
        file_id: FileId,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<Option<File>, StoreError>;

    /// Returns those who read a file at `now`: in each chat whose messages have it, and that it is offered to. At most so many, in the order of
    /// their chats.
    async fn readers(
        &self,
        file_id: FileId,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Readers>, StoreError>;

    /// Offers files to a chat until then: its members may fetch them. They are kept as if they were created `now`. Each must be ready and
    /// of this owner, uploaded for this chat, and not given up; otherwise none is offered.
    async fn offer(
        &self,
        file_ids: &[FileId],
        owner: UserId,
        chat_id: ChatId,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Offered, StoreError>;

    /// Returns the pictures of those of these users who have one.
    async fn avatars(&self, users: &[UserId]) -> Result<Vec<File>, StoreError>;

    /// Gives up a user's own file, if no message and no chat has it. The removal of one that no message may have begins; one that is ready
    /// may be in a message that was not read yet, and is left to [`Self::collect`]. Returns what became of it.
    async fn discard(
        &self,
        file_id: FileId,
        owner: UserId,
        now: DateTime<Utc>,
    ) -> Result<Discarded, StoreError>;

    /// Begins the removal of files that are free for so long that nothing keeps them, or were given up, and returns those, and all with
    /// objects to remove. Of files that are ready, none goes while the log is not read up to a moment that is late enough.
    async fn collect(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError>;

    /// Notes that the objects of a file were removed at `now` or later. If its upload can write no more, forgets it and gives back what it
    /// took. Otherwise [`Self::collect`] returns it once more, after that. Returns whether it is forgotten.
    async fn forget(&self, file_id: FileId, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Returns files past their upload, which can write no more at `now` and may have written meanwhile.
    async fn uploaded(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError>;

    /// Notes that what the requests of an upload wrote is removed, and gives back what only that took.
    async fn forget_upload(&self, file_id: FileId) -> Result<(), StoreError>;

    /// Removes what messages had that have disappeared by `now`, and offers that have ended. Returns whether there may be more.
    async fn expire(&self, now: DateTime<Utc>, limit: usize) -> Result<bool, StoreError>;

    /// Returns how far partitions of the log were read, and notes that they are read from here on.
    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError>;

    /// Carries out changes in their order, and notes how far the partition was read once all are. Some may be carried out when it fails.
    async fn apply(
        &self,
        partition: i32,
        next_offset: i64,
        changes: &[Change],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Notes that everything was read that was in a partition at that moment.
    async fn caught_up(&self, partition: i32, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Gives up a user's files that no message and no chat has, and their picture, as [`Self::discard`] does. Returns how many.
    async fn erase(&self, user_id: UserId, now: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Returns the place up to which deletions of accounts are carried out.
    fn deletions_position(&self) -> deletions::Position;

    /// Returns how many bytes all files take.
    async fn used_bytes(&self) -> Result<i64, StoreError>;
}

/// A file that a request created, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub file: File,
    pub is_new: bool,
}

/// A file that a process has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub file: File,
    /// How often its check was begun, this time included.
    pub attempts: i32,
}

/// What became of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The files, in the order of their ids in the request.
    Files(Vec<File>),
    /// There is no such file that the user may offer to the chat.
    NotFound(FileId),
}

/// What became of a removal that a user requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// It has begun, or had before, or does as soon as it is certain that no message has the file.
    Begun,
    /// A message or a chat has the file.
    InUse,
    /// There is no such file of the user.
    NotFound,
}

/// Why a file is not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a file may have {0} bytes at most")]
    FileTooLarge(i64),
    #[error(
        "a picture may have {} MiB at most; upload it as application/octet-stream to send it as it is",
        WHOLE_BYTES >> 20
    )]
    PictureTooLarge,
    /// Of a user or a chat, which has no other form.
    #[error("a picture of a user or a chat may have {} MiB at most", WHOLE_BYTES >> 20)]
    AvatarTooLarge,
    #[error(
        "your files, with uploads that you have begun, would take more than the {0} bytes that one user may have: remove some, or delete \
         messages that have files"
    )]
    UserFull(i64),
    #[error(
        "the files of all users, with uploads that they have begun, would take more than the messenger has room for: its administrators \
         can make room"
    )]
    TenantFull,
    #[error(
        "you have {MAX_FREE_FILES} files that no message has, with those that were removed in the last hour: send some, or wait until \
         they are gone"
    )]
    TooManyFree,
    #[error("the idempotency-key was used for another file")]
    KeyReused,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("failed to create file {file_id}")]
    Create { file_id: FileId, source: sqlx::Error },
    #[error("failed to change file {file_id}")]
    Change { file_id: FileId, source: sqlx::Error },
    #[error("failed to apply changes of partition {partition}")]
    Apply { partition: i32, source: sqlx::Error },
    #[error("failed to remove files")]
    Remove(#[source] sqlx::Error),
    #[error("failed to note how far a list was read")]
    Position(#[source] sqlx::Error),
    #[error("failed to read files")]
    Read(#[source] sqlx::Error),
}
