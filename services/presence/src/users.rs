//! Who may see whom, as the user and the chat service know.

use std::collections::{HashMap, HashSet};

use contracts::{
    UserId,
    api::ContactableBy,
    rpc::{
        GetUsersRequest, ListAcquaintancesRequest, User, chat_service_client::ChatServiceClient,
        user_service_client::UserServiceClient,
    },
};
use futures_util::future::try_join_all;
use kit::rpc::InternalChannel;

use crate::{
    domain::{VisibleTo, may_see},
    error::Error,
};

/// A viewer, and the users to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub viewer: UserId,
    pub users: Vec<UserId>,
}

/// The user and the chat service of the tenant. Cheap to clone.
#[derive(Clone)]
pub struct Visibility {
    users: UserServiceClient<InternalChannel>,
    chats: ChatServiceClient<InternalChannel>,
}

impl Visibility {
    /// Returns the services behind these channels.
    pub fn new(users: InternalChannel, chats: InternalChannel) -> Self {
        Self { users: UserServiceClient::new(users), chats: ChatServiceClient::new(chats) }
    }

    /// Returns the users of each view whom the viewer may see. One call to the user service, whatever their number.
    pub(crate) async fn visible(&self, views: &[View]) -> Result<Vec<Vec<UserId>>, Error> {
        let shown = self.shown(views).await?;
        try_join_all(views.iter().map(|view| self.visible_to(view, &shown))).await
    }

    async fn visible_to(
        &self,
        View { viewer, users }: &View,
        shown: &HashMap<UserId, VisibleTo>,
    ) -> Result<Vec<UserId>, Error> {
        let needs_chat = |user: &&UserId| shown.get(user) == Some(&VisibleTo::SharedChats) && *user != viewer;
        let by_chat: Vec<String> = users.iter().filter(needs_chat).map(UserId::to_string).collect();
        let met = if by_chat.is_empty() { HashSet::new() } else { self.met(*viewer, by_chat).await? };
        let is_visible = |user: &&UserId| {
            // No user can block another yet.
            let is_blocked = false;
            *user == viewer || shown.get(user).is_some_and(|to| may_see(*to, met.contains(*user), is_blocked))
        };
        Ok(users.iter().filter(is_visible).copied().collect())
    }

    /// Returns to whom each user of the views shows their presence. Deleted and unknown users are not among them.
    async fn shown(&self, views: &[View]) -> Result<HashMap<UserId, VisibleTo>, Error> {
        let users: HashSet<UserId> = views.iter().flat_map(|view| view.users.iter().copied()).collect();
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let user_ids = users.iter().map(UserId::to_string).collect();
        let found = self.users.clone().get_users(GetUsersRequest { user_ids }).await;
        let found = found.map_err(|status| Error::Users(Box::new(status)))?.into_inner().users;
        let found = found.into_iter().filter(|user| !user.deleted);
        Ok(found.filter_map(|user| Some((user.user_id.parse().ok()?, visible_to(&user)))).collect())
    }

    async fn met(&self, viewer: UserId, other_ids: Vec<String>) -> Result<HashSet<UserId>, Error> {
        let request = ListAcquaintancesRequest { user_id: viewer.to_string(), other_ids };
        let met = self.chats.clone().list_acquaintances(request).await;
        let met = met.map_err(|status| Error::Chats(Box::new(status)))?.into_inner().user_ids;
        Ok(met.iter().filter_map(|id| id.parse().ok()).collect())
    }
}

/// Reads to whom a user shows their presence. A setting that is not known here is of a newer version, and may be as strict as
/// the strictest.
fn visible_to(user: &User) -> VisibleTo {
    match user.contactable_by.as_str() {
        "" => VisibleTo::of(ContactableBy::default()),
        text => ContactableBy::parse(text).map_or(VisibleTo::NoOne, VisibleTo::of),
    }
}
