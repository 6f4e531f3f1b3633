//! Profiles as others are shown them, in the cache that the tenant's processes share.

use std::sync::Arc;

use axum::extract::FromRef;
use contracts::{
    UserId,
    api::{UserProfile, UserStatus},
};
use kit::{
    cache::{Cache, Metrics, Shelf, Versioned},
    clock::now_ms,
    users::USERS,
};

use crate::{
    domain::Profile,
    error::Error,
    store::{ProfileStore, StoreError},
};

/// The store, and what is kept of it to be shown. Cheap to clone.
#[derive(Clone)]
pub struct Shown {
    store: Arc<dyn ProfileStore>,
    cache: Cache<UserProfile, Arc<StoreError>>,
}

impl FromRef<Shown> for Arc<dyn ProfileStore> {
    fn from_ref(shown: &Shown) -> Self {
        shown.store.clone()
    }
}

impl Shown {
    /// Returns the profiles of a store, kept on a shelf.
    pub fn new(store: Arc<dyn ProfileStore>, shelf: Shelf, metrics: Metrics) -> Self {
        Self { store, cache: Cache::new(USERS, shelf, metrics) }
    }

    /// Returns the store: whether an account is deleted, and what users have set, is read there.
    pub(crate) fn store(&self) -> &Arc<dyn ProfileStore> {
        &self.store
    }

    /// Returns a profile as it is shown; `None` when no user has this id.
    ///
    /// # Errors
    ///
    /// The profile is not kept, and the store cannot be read.
    pub async fn profile(&self, user_id: UserId) -> Result<Option<UserProfile>, Error> {
        let store = self.store.clone();
        let load = move || async move {
            let found = store.profile(user_id).await;
            found.map(|profile| profile.map(versioned)).map_err(Arc::new)
        };
        let found = self.cache.get(user_id, load).await?;
        Ok(found.map(|mut profile| {
            // One may be kept that expires meanwhile.
            let is_over =
                |status: &UserStatus| status.expires_at_ms.is_some_and(|expires_at| expires_at <= now_ms());
            profile.status = profile.status.filter(|status| !is_over(status));
            profile
        }))
    }

    /// Shows a profile that was changed.
    pub(crate) async fn changed(&self, profile: &Profile) {
        self.cache.put(profile.user_id, &versioned(profile.clone())).await;
    }

    /// Removes what is kept of a user whose account is deleted.
    pub(crate) async fn erased(&self, user_id: UserId) -> Result<(), Error> {
        if let Some(profile) = self.store.profile(user_id).await? {
            self.cache.forget(user_id, profile.version).await;
        }
        Ok(())
    }
}

/// Returns a profile as it is kept, with a status that may have expired.
fn versioned(profile: Profile) -> Versioned<UserProfile> {
    let (version, status) = (profile.version, profile.status.clone().map(UserStatus::from));
    Versioned { value: UserProfile { status, ..profile.into() }, version }
}
