//! Whether the user of a token has a profile: what others see of a user, find them by, and block.
//!
//! A realm makes accounts past the auth service: by its administrators, and for apps that sign in there with an identity provider. Their
//! first token makes their profile, in whichever service it comes to. An account that can have none acts nowhere: that with the name of a
//! deleted one would be taken for that user.

use std::time::Duration;

use contracts::{
    UserId,
    rpc::{EnsureUserRequest, user_service_client::UserServiceClient},
};
use moka::sync::Cache;
use tonic::Code;

use super::TokenError;
use crate::rpc::{self, InternalChannel};

/// Users who are remembered to have a profile, which stays for good. More than connect to one process; about 10 MB.
const MAX_KNOWN: u64 = 50_000;
/// A request waits no longer for the user service.
const WITHIN: Duration = Duration::from_secs(2);

/// The profiles of a tenant's users, as far as they are known to be there.
pub(super) struct Profiles {
    users: UserServiceClient<InternalChannel>,
    known: Cache<UserId, ()>,
}

impl Profiles {
    /// Returns the profiles that the user service behind this channel has.
    pub(super) fn of(users: InternalChannel) -> Self {
        Self { users: UserServiceClient::new(users), known: Cache::new(MAX_KNOWN) }
    }

    /// Makes the profile of a user of this name, if it is missing. Users who are known need no user service.
    pub(super) async fn require(&self, user_id: UserId, username: &str) -> Result<(), TokenError> {
        if self.known.contains_key(&user_id) {
            return Ok(());
        }
        let request = EnsureUserRequest {
            user_id: user_id.to_string(),
            username: username.to_owned(),
            display_name: String::new(),
        };
        let ensured = rpc::within(WITHIN, self.users.clone().ensure_user(request)).await;
        let user = ensured.map_err(|status| match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument => {
                TokenError::NoProfile(status.message().to_owned())
            }
            // Also `unauthenticated`: that is about this process, and not about its user.
            _ => TokenError::Users(Box::new(status)),
        })?;
        if user.deleted {
            return Err(TokenError::Deleted);
        }
        self.known.insert(user_id, ());
        Ok(())
    }
}
