//! Where profiles are kept.

mod memory;
mod postgres;

use chrono::{DateTime, Utc};
use contracts::UserId;
use kit::text::{DisplayName, Username};
use tonic::async_trait;

pub use self::{
    memory::MemoryStore,
    postgres::{PostgresStore, SCHEMA},
};
use crate::domain::{
    ChatsErased, Contact, Deletion, DeletionPosition, Erasure, Newcomer, PresenceShown, Profile,
    ProfileUpdate, ReceiptHash, Search, Settings, TooLong,
};

/// A store of profiles. Its suite (`tests/it/store.rs`) runs on every implementation.
#[async_trait]
pub trait ProfileStore: Send + Sync + 'static {
    /// Returns the profile of a user the realm knows, and creates it when it is missing. The realm's username
    /// replaces the one that is stored, a display name that is stored stays. [`StoreError::NameOfDeleted`] where another user with
    /// this name has deleted their account.
    async fn ensure(&self, newcomer: &Newcomer, at: DateTime<Utc>) -> Result<Profile, StoreError>;

    /// Returns a profile; `None` when no user has this id.
    async fn profile(&self, user_id: UserId) -> Result<Option<Profile>, StoreError>;

    /// Returns the profiles that exist, in no particular order.
    async fn profiles(&self, user_ids: &[UserId]) -> Result<Vec<Profile>, StoreError>;

    /// Changes a profile and returns it; `None` when no user has this id, or the account is deleted.
    async fn update(&self, user_id: UserId, update: &ProfileUpdate) -> Result<Option<Profile>, StoreError>;

    /// Returns what a user's clients share; version 0 before the first change.
    async fn settings(&self, user_id: UserId) -> Result<Settings, StoreError>;

    /// Replaces the settings of a user whose account is not deleted, if they are still of the version that `new` was made from,
    /// and returns them with their new version. A repetition of the last change returns what that returned.
    async fn put_settings(&self, user_id: UserId, new: &Settings) -> Result<PutSettings, StoreError>;

    /// Puts a user into the contacts of another one, with the name that they have for them. One who is there already gets the
    /// name, and stays whatever the limit is.
    async fn put_contact(
        &self,
        user_id: UserId,
        contact: UserId,
        name: Option<&DisplayName>,
        at: DateTime<Utc>,
    ) -> Result<PutContact, StoreError>;

    /// Removes a user from the contacts of another one, if they are there.
    async fn remove_contact(&self, user_id: UserId, contact: UserId) -> Result<(), StoreError>;

    /// Returns the contacts of a user by id, behind `after`.
    async fn contacts(
        &self,
        user_id: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Contact>, StoreError>;

    /// Returns for each of these users whether they show the viewer when they are online.
    async fn presence_shown(
        &self,
        viewer: UserId,
        user_ids: &[UserId],
    ) -> Result<Vec<PresenceShown>, StoreError>;

    /// Returns the profiles that the search finds, by username and id.
    async fn search(&self, search: &Search) -> Result<Vec<Profile>, StoreError>;

    /// Returns the profile of each of these usernames that has one, in no particular order. Of several with a username, that of an account which is not deleted,
    /// and of those the newest.
    async fn named(&self, usernames: &[Username]) -> Result<Vec<Profile>, StoreError>;

    /// Returns how many users there are whose accounts are not deleted.
    async fn count(&self) -> Result<i64, StoreError>;

    /// Begins the deletion of a user who exists. One that has begun already stays as it is, and gets another receipt beside those that
    /// were given for it.
    async fn delete(
        &self,
        user_id: UserId,
        receipt: Option<ReceiptHash>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Notes that a deletion is finished at the realm.
    async fn finish_deletion(&self, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Notes what the chat service has done for a deleted account.
    async fn note_chats_erased(
        &self,
        user_id: UserId,
        erased: ChatsErased,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Returns how far an erasure has come; `None` for an unknown receipt.
    async fn erasure(&self, receipt: ReceiptHash) -> Result<Option<Erasure>, StoreError>;

    /// Returns the deletions behind a place in their order, finished or not.
    async fn deletions(
        &self,
        after: Option<DeletionPosition>,
        limit: usize,
    ) -> Result<Vec<Deletion>, StoreError>;

    /// Returns deletions that are not finished, those that began first.
    async fn unfinished_deletions(&self, limit: usize) -> Result<Vec<Deletion>, StoreError>;
}

/// What became of new settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutSettings {
    Put(Settings),
    /// They were made from another version than this one.
    Conflict(Settings),
    /// No user has this id, or the account is deleted.
    NoUser,
}

/// What became of a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutContact {
    Put(Box<Contact>),
    /// The account of the user who puts it is deleted.
    NoUser,
    /// There is no such contact, or the account is deleted.
    NoContact,
    /// There are [`crate::domain::MAX_CONTACTS`] already.
    Full,
}

impl Settings {
    /// Returns what the settings are after a change, `None` when it was made from another version.
    fn after(&self, new: &Self) -> Option<Self> {
        let is_repeated =
            new.version >= 0 && self.version - 1 == new.version && self.settings == new.settings;
        match self.version == new.version {
            true => Some(Self { version: self.version + 1, settings: new.settings.clone() }),
            false => is_repeated.then(|| self.clone()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("failed to change the contacts of {user_id}")]
    Contacts { user_id: UserId, source: sqlx::Error },
    #[error("failed to put the settings of {user_id}")]
    Settings { user_id: UserId, source: sqlx::Error },
    /// An app may reach the realm past the auth service, which refuses the name there.
    #[error(
        "the name of your account was that of an account which is deleted: have an administrator give it another one"
    )]
    NameOfDeleted,
    #[error("failed to ensure the profile of {user_id}")]
    Ensure { user_id: UserId, source: sqlx::Error },
    #[error("failed to update the profile of {user_id}")]
    Update { user_id: UserId, source: sqlx::Error },
    #[error("failed to delete the profile of {user_id}")]
    Delete { user_id: UserId, source: sqlx::Error },
    #[error("more searches by words of names than the process can answer wait already")]
    TooManySearches,
    #[error("failed to write the words of names")]
    Words(#[source] sqlx::Error),
    #[error("failed to read profiles")]
    Read(#[source] sqlx::Error),
}
