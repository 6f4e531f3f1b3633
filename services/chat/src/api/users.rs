//! Which users exist and let others add them, as the user service knows.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{
    UserId,
    api::ContactableBy,
    rpc::{GetUsersRequest, NoteChatsErasedRequest, user_service_client::UserServiceClient},
};
use kit::rpc::InternalChannel;

use crate::{domain::Refusal, error::Error, store::ChatStore};

/// The user service of the tenant. Cheap to clone.
#[derive(Clone)]
pub struct Users(UserServiceClient<InternalChannel>);

impl Users {
    /// Returns the user service behind a channel.
    pub fn new(channel: InternalChannel) -> Self {
        Self(UserServiceClient::new(channel))
    }

    /// Refuses a user who does not exist. Deleted accounts do not exist; a caller may still have a token of one.
    pub(super) async fn require_exists(&self, caller: UserId, user: UserId) -> Result<(), Error> {
        let found = self.settings(caller, &BTreeSet::from([user])).await?;
        found.get(&user).map(drop).ok_or(Error::UnknownUser(user))
    }

    /// Refuses a user who does not exist, unless they are in a chat with the caller: a user who is reached can block, whatever
    /// the user service knows of the other.
    pub(super) async fn require_blockable(
        &self,
        store: &dyn ChatStore,
        caller: UserId,
        user: UserId,
    ) -> Result<(), Error> {
        let exists = self.require_exists(caller, user).await;
        let is_unknown = matches!(exists, Err(Error::UnknownUser(_)));
        if is_unknown && store.acquaintances(caller, &[user]).await?.contains(&user) {
            return Ok(());
        }
        exists
    }

    /// Refuses a caller who has deleted the account and has a token still.
    pub(super) async fn require_account(&self, caller: UserId) -> Result<(), Error> {
        self.settings(caller, &BTreeSet::new()).await.map(drop)
    }

    /// The same where no other user is concerned: while the user service does not answer, the caller is taken for a user.
    pub(super) async fn refuse_deleted(&self, caller: UserId) -> Result<(), Error> {
        match self.require_account(caller).await {
            Err(Error::CallerDeleted) => Err(Error::CallerDeleted),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Refuses users whom [`Self::unwilling`] returns.
    pub(super) async fn require_consent(
        &self,
        store: &dyn ChatStore,
        caller: UserId,
        users: BTreeSet<UserId>,
    ) -> Result<(), Error> {
        let mut unwilling = self.unwilling(store, caller, users).await?;
        // Who does not exist is named first.
        let unknown = unwilling.iter().position(|(_, error)| matches!(error, Error::UnknownUser(_)));
        if unwilling.is_empty() { Ok(()) } else { Err(unwilling.swap_remove(unknown.unwrap_or(0)).1) }
    }

    /// Returns users who do not exist, and users who do not let the caller add them, by their setting or for a block, each with the
    /// reason, by id. One call, whatever their number.
    pub(super) async fn unwilling(
        &self,
        store: &dyn ChatStore,
        caller: UserId,
        users: BTreeSet<UserId>,
    ) -> Result<Vec<(UserId, Error)>, Error> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let settings = self.settings(caller, &users).await?;
        let of = |setting| settings.iter().filter(move |(_, of)| **of == setting).map(|(user, _)| *user);
        let by_shared_chats: Vec<_> = of(ContactableBy::SharedChats).collect();
        let mut unwilling: BTreeSet<_> = of(ContactableBy::Nobody).collect();
        if !by_shared_chats.is_empty() {
            let met = store.acquaintances(caller, &by_shared_chats).await?;
            unwilling.extend(by_shared_chats.into_iter().filter(|user| !met.contains(user)));
        }
        // Whatever the settings are, so that the time of the response does not tell them from a block.
        unwilling.extend(store.blocked(caller, &users.iter().copied().collect::<Vec<_>>()).await?);
        let reason = |user: UserId| match settings.contains_key(&user) {
            false => Some((user, Error::UnknownUser(user))),
            true => unwilling.contains(&user).then(|| (user, Refusal::Unwanted(user).into())),
        };
        Ok(users.into_iter().filter_map(reason).collect())
    }

    /// Returns who may contact each of these users, of those who exist.
    async fn settings(
        &self,
        caller: UserId,
        users: &BTreeSet<UserId>,
    ) -> Result<BTreeMap<UserId, ContactableBy>, Error> {
        let user_ids = users.iter().chain([&caller]).map(UserId::to_string).collect();
        let answer = self.0.clone().get_users(GetUsersRequest { user_ids }).await;
        let found = answer.map_err(|status| Error::Users(Box::new(status)))?.into_inner().users;
        // That a caller has a profile was seen when the token was taken.
        if found.iter().any(|user| user.deleted && user.user_id == caller.to_string()) {
            return Err(Error::CallerDeleted);
        }
        let found: BTreeMap<_, _> = found
            .into_iter()
            .filter(|user| !user.deleted)
            .map(|user| (user.user_id, contactable_by(&user.contactable_by)))
            .collect();
        let setting = |user: &UserId| Some((*user, *found.get(&user.to_string())?));
        Ok(users.iter().filter_map(setting).collect())
    }

    pub(crate) const fn client(&self) -> &UserServiceClient<InternalChannel> {
        &self.0
    }

    /// Notes what was done for a deleted account, for the receipt of its user. Receipts are unknown to a user service of the version
    /// before.
    pub(crate) async fn note_erased(
        &self,
        user_id: UserId,
        chats_left: u32,
        blocks_lifted: u32,
        is_settled: bool,
    ) -> Result<(), Error> {
        let user_id = user_id.to_string();
        let request = NoteChatsErasedRequest { user_id, chats_left, blocks_lifted, is_settled };
        match self.0.clone().note_chats_erased(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(()),
            Err(status) => Err(Error::Users(Box::new(status))),
        }
    }
}

/// Reads a setting. One that is not known here is of a newer version, and may be as strict as the strictest.
fn contactable_by(text: &str) -> ContactableBy {
    match text {
        "" => ContactableBy::default(),
        text => ContactableBy::parse(text).unwrap_or(ContactableBy::Nobody),
    }
}
