//! The store of `posthouse dev`, and of the tests of the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use contracts::{
    UserId,
    api::{ContactableBy, PresenceVisibleTo},
};
use tonic::async_trait;

use super::{ProfileStore, PutSettings, StoreError};
use crate::domain::{Cursor, Deletion, DeletionPosition, Newcomer, Profile, ProfileUpdate, Search, Settings};

/// Keeps profiles for as long as the process lives.
#[derive(Default)]
pub struct MemoryStore {
    profiles: Mutex<BTreeMap<UserId, Profile>>,
    deletions: Mutex<Deletions>,
    settings: Mutex<BTreeMap<UserId, Settings>>,
}

#[derive(Default)]
struct Deletions {
    /// In their order.
    all: BTreeMap<DeletionPosition, Deletion>,
    finished: BTreeSet<UserId>,
}

impl MemoryStore {
    fn profiles(&self) -> MutexGuard<'_, BTreeMap<UserId, Profile>> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_settings(&self) -> MutexGuard<'_, BTreeMap<UserId, Settings>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deletions(&self) -> MutexGuard<'_, Deletions> {
        self.deletions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ProfileStore for MemoryStore {
    async fn ensure(&self, newcomer: &Newcomer, at: DateTime<Utc>) -> Result<Profile, StoreError> {
        let mut profiles = self.profiles();
        let profile = profiles.entry(newcomer.user_id).or_insert_with(|| Profile {
            user_id: newcomer.user_id,
            username: newcomer.username.as_str().to_owned(),
            display_name: newcomer.display_name.as_str().to_owned(),
            about: String::new(),
            contactable_by: ContactableBy::default(),
            presence_visible_to: PresenceVisibleTo::default(),
            read_receipts: true,
            status: None,
            created_at: at,
            is_deleted: false,
        });
        newcomer.username.as_str().clone_into(&mut profile.username);
        Ok(profile.clone())
    }

    async fn profile(&self, user_id: UserId) -> Result<Option<Profile>, StoreError> {
        Ok(self.profiles().get(&user_id).cloned())
    }

    async fn profiles(&self, user_ids: &[UserId]) -> Result<Vec<Profile>, StoreError> {
        let profiles = self.profiles();
        Ok(profiles.values().filter(|profile| user_ids.contains(&profile.user_id)).cloned().collect())
    }

    async fn update(&self, user_id: UserId, update: &ProfileUpdate) -> Result<Option<Profile>, StoreError> {
        let mut profiles = self.profiles();
        let profile = profiles.get_mut(&user_id).filter(|profile| !profile.is_deleted);
        let Some(profile) = profile else { return Ok(None) };
        if let Some(display_name) = &update.display_name {
            display_name.as_str().clone_into(&mut profile.display_name);
        }
        if let Some(about) = &update.about {
            about.as_str().clone_into(&mut profile.about);
        }
        if let Some(contactable_by) = update.contactable_by {
            profile.contactable_by = contactable_by;
        }
        if let Some(presence_visible_to) = update.presence_visible_to {
            profile.presence_visible_to = presence_visible_to;
        }
        if let Some(read_receipts) = update.read_receipts {
            profile.read_receipts = read_receipts;
        }
        if let Some(status) = &update.status {
            profile.status.clone_from(status);
        }
        Ok(Some(profile.clone()))
    }

    async fn settings(&self, user_id: UserId) -> Result<Settings, StoreError> {
        Ok(self.all_settings().get(&user_id).cloned().unwrap_or_default())
    }

    async fn put_settings(&self, user_id: UserId, new: &Settings) -> Result<PutSettings, StoreError> {
        new.to_json()?;
        let profiles = self.profiles();
        if profiles.get(&user_id).is_none_or(|profile| profile.is_deleted) {
            return Ok(PutSettings::NoUser);
        }
        let mut settings = self.all_settings();
        let stored = settings.entry(user_id).or_default();
        let Some(put) = stored.after(new) else { return Ok(PutSettings::Conflict(stored.clone())) };
        stored.clone_from(&put);
        Ok(PutSettings::Put(put))
    }

    async fn search(&self, search: &Search) -> Result<Vec<Profile>, StoreError> {
        let profiles = self.profiles();
        let mut found: Vec<_> = profiles.values().filter(|profile| search.finds(profile)).cloned().collect();
        found.sort_by_key(Cursor::of);
        found.retain(|profile| search.after.as_ref().is_none_or(|after| Cursor::of(profile) > *after));
        found.truncate(search.limit);
        Ok(found)
    }

    async fn delete(&self, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        let mut profiles = self.profiles();
        let profile = profiles.get_mut(&user_id).filter(|profile| !profile.is_deleted);
        let Some(profile) = profile else { return Ok(()) };
        profile.is_deleted = true;
        profile.about.clear();
        profile.status = None;
        self.all_settings().remove(&user_id);
        profile.display_name = Profile::deleted_name(&profile.username);
        let deletion = Deletion { user_id, began_at: at };
        self.deletions().all.insert(DeletionPosition::of(&deletion), deletion);
        Ok(())
    }

    async fn finish_deletion(&self, user_id: UserId) -> Result<(), StoreError> {
        self.deletions().finished.insert(user_id);
        Ok(())
    }

    async fn deletions(
        &self,
        after: Option<DeletionPosition>,
        limit: usize,
    ) -> Result<Vec<Deletion>, StoreError> {
        let deletions = self.deletions();
        let behind =
            deletions.all.iter().filter(|(position, _)| after.is_none_or(|after| **position > after));
        Ok(behind.map(|(_, deletion)| *deletion).take(limit).collect())
    }

    async fn unfinished_deletions(&self, limit: usize) -> Result<Vec<Deletion>, StoreError> {
        let deletions = self.deletions();
        let is_unfinished = |deletion: &&Deletion| !deletions.finished.contains(&deletion.user_id);
        Ok(deletions.all.values().filter(is_unfinished).take(limit).copied().collect())
    }
}
