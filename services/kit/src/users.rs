//! Users as others are shown them, which every process reads and the user service changes.
//!
//! They are kept in the tenant's cache for a minute. Who may do what is not among it: settings of a user and whether a caller's account is deleted are
//! read at the user service each time.

use std::{collections::HashMap, time::Duration};

use contracts::{
    UserId,
    api::{UserProfile, UserStatus},
    rpc::{GetUsersRequest, User, user_service_client::UserServiceClient},
};
use tonic::Status;

use crate::{
    cache::{Cache, Policy, Versioned},
    rpc::InternalChannel,
};

/// How users are kept. Of a user whom no one has there may be one in the next moment, so an absence is not kept.
pub const USERS: Policy =
    Policy { name: "users", format: 1, keep: Duration::from_secs(60), keep_absence: None };

/// Users as others are shown them, for services that show them. Cheap to clone.
#[derive(Clone)]
pub struct ShownUsers {
    users: UserServiceClient<InternalChannel>,
    cache: Cache<UserProfile, Status>,
}

impl ShownUsers {
    /// Returns the users whom the user service behind this channel has, by a cache of [`USERS`].
    pub fn new(users: InternalChannel, cache: Cache<UserProfile, Status>) -> Self {
        Self { users: UserServiceClient::new(users), cache }
    }

    /// Returns a user; `None` when no user has this id. A change is seen a minute later at the latest.
    ///
    /// # Errors
    ///
    /// The user is not kept, and the user service does not answer.
    pub async fn user(&self, user_id: UserId) -> Result<Option<UserProfile>, Status> {
        let users = self.users.clone();
        let load = move || async move {
            let found = read(users, &[user_id]).await?;
            Ok(found.into_iter().next().map(|(_, user)| user))
        };
        self.cache.get(user_id, load).await
    }

    /// Returns some users, at most a thousand, as [`Self::user`] does.
    ///
    /// # Errors
    ///
    /// Not all of them are kept, and the user service does not answer.
    pub async fn users(&self, user_ids: &[UserId]) -> Result<HashMap<UserId, UserProfile>, Status> {
        let users = self.users.clone();
        self.cache.get_many(user_ids, |missing| async move { read(users, &missing).await }).await
    }
}

async fn read(
    mut users: UserServiceClient<InternalChannel>,
    user_ids: &[UserId],
) -> Result<Vec<(UserId, Versioned<UserProfile>)>, Status> {
    let request = GetUsersRequest { user_ids: user_ids.iter().map(UserId::to_string).collect() };
    let found = users.get_users(request).await?.into_inner().users;
    found.into_iter().map(shown).collect()
}

/// Reads what the user service returned. One of the release before returns neither a version nor all of a profile: that is not kept.
fn shown(user: User) -> Result<(UserId, Versioned<UserProfile>), Status> {
    let User { user_id, username, display_name, deleted, about, status, version, .. } = user;
    let user_id = user_id
        .parse()
        .map_err(|_| Status::internal("the user service returned an id that is not a UUID"))?;
    let status = status.map(|status| UserStatus {
        text: Some(status.text).filter(|text| !text.is_empty()),
        emoji: Some(status.emoji).filter(|emoji| !emoji.is_empty()),
        expires_at_ms: status.expires_at_ms,
    });
    let value = UserProfile { user_id, username, display_name, about, status, deleted };
    Ok((user_id, Versioned { value, version }))
}

#[cfg(test)]
mod tests {
    use contracts::rpc;

    use super::*;

    #[test]
    fn what_the_user_service_returns_is_read_and_of_the_release_before_has_no_version() {
        let user_id = UserId::generate();
        let status =
            rpc::UserStatus { text: "away".to_owned(), emoji: String::new(), expires_at_ms: Some(7) };
        let user = User {
            user_id: user_id.to_string(),
            username: "ann".to_owned(),
            display_name: "Ann".to_owned(),
            about: "Baker".to_owned(),
            status: Some(status),
            version: 3,
            ..User::default()
        };
        let (id, Versioned { value, version }) = shown(user).expect("a user");
        assert_eq!((id, value.user_id, version), (user_id, user_id, 3));
        let expected = UserStatus { text: Some("away".to_owned()), emoji: None, expires_at_ms: Some(7) };
        assert_eq!((value.status, value.about.as_str()), (Some(expected), "Baker"));
        let of_before = User { user_id: user_id.to_string(), ..User::default() };
        assert_eq!(shown(of_before).expect("a user").1.version, 0);
        shown(User::default()).expect_err("it has no id");
    }
}
