//! The store of `posthouse dev`, and of the tests of the API.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use contracts::{
    UserId,
    api::{ContactableBy, PresenceVisibleTo},
};
use kit::text::{DisplayName, Username};
use tonic::async_trait;

use super::{ProfileStore, PutContact, PutSettings, StoreError};
use crate::domain::{
    ChatsErased, Contact, Cursor, Deletion, DeletionPosition, Erasure, MAX_CONTACTS, Newcomer, PresenceShown,
    Profile, ProfileUpdate, ReceiptHash, Search, Settings,
};

/// Keeps profiles for as long as the process lives.
#[derive(Default)]
pub struct MemoryStore {
    profiles: Mutex<BTreeMap<UserId, Profile>>,
    deletions: Mutex<Deletions>,
    settings: Mutex<BTreeMap<UserId, Settings>>,
    /// By the user who has it, and whom it is of.
    contacts: Mutex<BTreeMap<(UserId, UserId), Named>>,
    /// By receipt, with the user while something is left to do.
    erasures: Mutex<BTreeMap<ReceiptHash, (Option<UserId>, Erasure)>>,
}

/// The own name for a contact, and since when they are one.
#[derive(Clone)]
struct Named {
    name: Option<String>,
    added_at: DateTime<Utc>,
}

#[derive(Default)]
struct Deletions {
    /// In their order.
    all: BTreeMap<DeletionPosition, Deletion>,
    finished: BTreeSet<UserId>,
}

impl Named {
    fn of(&self, profile: &Profile) -> Contact {
        Contact { profile: profile.clone(), name: self.name.clone(), added_at: self.added_at }
    }
}

impl MemoryStore {
    fn profiles(&self) -> MutexGuard<'_, BTreeMap<UserId, Profile>> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_settings(&self) -> MutexGuard<'_, BTreeMap<UserId, Settings>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_contacts(&self) -> MutexGuard<'_, BTreeMap<(UserId, UserId), Named>> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the erasures of a user, and forgets whose they are once they are finished.
    fn note(&self, user_id: UserId, change: impl Fn(&mut Erasure)) {
        let mut erasures = self.erasures.lock().unwrap_or_else(PoisonError::into_inner);
        for (user, erasure) in erasures.values_mut().filter(|(user, _)| *user == Some(user_id)) {
            change(erasure);
            if erasure.account_at.is_some() && erasure.chats_at.is_some() {
                *user = None;
                erasure.forget_time();
            }
        }
    }

    fn deletions(&self) -> MutexGuard<'_, Deletions> {
        self.deletions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ProfileStore for MemoryStore {
    async fn ensure(&self, newcomer: &Newcomer, at: DateTime<Utc>) -> Result<Profile, StoreError> {
        let mut profiles = self.profiles();
        let name = newcomer.username.as_str();
        let has_deleted =
            |other: &Profile| other.is_deleted && other.username == name && other.user_id != newcomer.user_id;
        let is_current = profiles.get(&newcomer.user_id).is_some_and(|profile| profile.username == name);
        if !is_current && profiles.values().any(has_deleted) {
            return Err(StoreError::NameOfDeleted);
        }
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
            version: 1,
        });
        if profile.username != name {
            name.clone_into(&mut profile.username);
            profile.version += 1;
        }
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
        profile.version += 1;
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

    async fn put_contact(
        &self,
        user_id: UserId,
        contact: UserId,
        name: Option<&DisplayName>,
        at: DateTime<Utc>,
    ) -> Result<PutContact, StoreError> {
        let profiles = self.profiles();
        let present = |id| profiles.get(&id).filter(|profile| !profile.is_deleted);
        if present(user_id).is_none() {
            return Ok(PutContact::NoUser);
        }
        let Some(profile) = present(contact) else { return Ok(PutContact::NoContact) };
        let mut contacts = self.all_contacts();
        let own = contacts.keys().filter(|(owner, _)| *owner == user_id).count();
        let name = name.map(|name| name.as_str().to_owned());
        let named = match contacts.get(&(user_id, contact)) {
            Some(named) => Named { name, added_at: named.added_at },
            None if own >= MAX_CONTACTS => return Ok(PutContact::Full),
            None => Named { name, added_at: at },
        };
        contacts.insert((user_id, contact), named.clone());
        Ok(PutContact::Put(Box::new(named.of(profile))))
    }

    async fn remove_contact(&self, user_id: UserId, contact: UserId) -> Result<(), StoreError> {
        self.all_contacts().remove(&(user_id, contact));
        Ok(())
    }

    async fn contacts(
        &self,
        user_id: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Contact>, StoreError> {
        let (profiles, contacts) = (self.profiles(), self.all_contacts());
        let own = contacts.iter().filter(|((owner, _), _)| *owner == user_id);
        let behind = own.filter(|((_, contact), _)| after.is_none_or(|after| *contact > after));
        Ok(behind
            .filter_map(|((_, contact), named)| Some(named.of(profiles.get(contact)?)))
            .take(limit)
            .collect())
    }

    async fn presence_shown(
        &self,
        viewer: UserId,
        user_ids: &[UserId],
    ) -> Result<Vec<PresenceShown>, StoreError> {
        let (profiles, contacts) = (self.profiles(), self.all_contacts());
        let shown = |id: &UserId| match profiles.get(id).filter(|profile| !profile.is_deleted) {
            None => PresenceShown::Never,
            Some(profile) => {
                PresenceShown::by(profile.presence_visible_to, contacts.contains_key(&(*id, viewer)))
            }
        };
        Ok(user_ids.iter().map(shown).collect())
    }

    async fn search(&self, search: &Search) -> Result<Vec<Profile>, StoreError> {
        let profiles = self.profiles();
        let mut found: Vec<_> = profiles.values().filter(|profile| search.finds(profile)).cloned().collect();
        found.sort_by_key(Cursor::of);
        found.retain(|profile| search.after.as_ref().is_none_or(|after| Cursor::of(profile) > *after));
        found.truncate(search.limit);
        Ok(found)
    }

    async fn delete(
        &self,
        user_id: UserId,
        receipt: Option<ReceiptHash>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut profiles = self.profiles();
        if let Some(receipt) = receipt.filter(|_| profiles.contains_key(&user_id)) {
            let mut erasures = self.erasures.lock().unwrap_or_else(PoisonError::into_inner);
            erasures.insert(receipt, (Some(user_id), Erasure::begun(at)));
        }
        let profile = profiles.get_mut(&user_id).filter(|profile| !profile.is_deleted);
        let Some(profile) = profile else { return Ok(()) };
        profile.is_deleted = true;
        profile.version += 1;
        profile.about.clear();
        profile.status = None;
        self.all_settings().remove(&user_id);
        self.all_contacts().retain(|(owner, _), _| *owner != user_id);
        profile.display_name = Profile::deleted_name(&profile.username);
        let deletion = Deletion { user_id, began_at: at };
        self.deletions().all.insert(DeletionPosition::of(&deletion), deletion);
        Ok(())
    }

    async fn named(&self, usernames: &[Username]) -> Result<Vec<Profile>, StoreError> {
        let profiles = self.profiles();
        let of_name = |username: &str| {
            let having = profiles.values().filter(|profile| profile.username == username);
            let rank =
                |profile: &&Profile| (profile.is_deleted, Reverse(profile.created_at), profile.user_id);
            having.min_by_key(rank).cloned()
        };
        let names: BTreeSet<_> = usernames.iter().map(Username::as_str).collect();
        Ok(names.into_iter().filter_map(of_name).collect())
    }

    async fn count(&self) -> Result<i64, StoreError> {
        let count = self.profiles().values().filter(|profile| !profile.is_deleted).count();
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    async fn finish_deletion(&self, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.deletions().finished.insert(user_id);
        self.note(user_id, |erasure| erasure.account_at = erasure.account_at.or(Some(at)));
        Ok(())
    }

    async fn note_chats_erased(
        &self,
        user_id: UserId,
        erased: ChatsErased,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.note(user_id, |erasure| {
            erasure.chats_left += erased.left;
            erasure.blocks_lifted += erased.blocks_lifted;
            erasure.chats_at = erasure.chats_at.or(erased.is_settled.then_some(at));
        });
        Ok(())
    }

    async fn erasure(&self, receipt: ReceiptHash) -> Result<Option<Erasure>, StoreError> {
        let erasures = self.erasures.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(erasures.get(&receipt).map(|(_, erasure)| erasure.clone()))
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
