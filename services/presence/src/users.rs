//! Who may see whom, as the user and the chat service know.

use std::collections::{HashMap, HashSet};

use contracts::{
    UserId,
    rpc::{
        CheckBlocksRequest, CheckPresenceRequest, ListAcquaintancesRequest,
        chat_service_client::ChatServiceClient, user_service_client::UserServiceClient,
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kit::rpc::InternalChannel;
use tokio::try_join;

use crate::{
    domain::{VisibleTo, may_see},
    error::Error,
};

/// Views that are looked up concurrently for one call.
const VIEWS_AT_ONCE: usize = 16;

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

    /// Returns the users of each view whom the viewer may see.
    pub(crate) async fn visible(&self, views: &[View]) -> Result<Vec<Vec<UserId>>, Error> {
        let mut visible = Vec::with_capacity(views.len());
        for view in views {
            visible.push(self.visible_to(view));
        }
        stream::iter(visible).buffered(VIEWS_AT_ONCE).try_collect().await
    }

    async fn visible_to(&self, view: &View) -> Result<Vec<UserId>, Error> {
        let View { viewer, users } = view;
        let (shown, blocked) = try_join!(self.shown(view), self.blocked(view))?;
        let needs_chat = |user: &&UserId| shown.get(user) == Some(&VisibleTo::SharedChats) && *user != viewer;
        let by_chat: Vec<String> = users.iter().filter(needs_chat).map(UserId::to_string).collect();
        let met = if by_chat.is_empty() { HashSet::new() } else { self.met(*viewer, by_chat).await? };
        let is_visible = |user: &&UserId| {
            *user == viewer
                || shown
                    .get(user)
                    .is_some_and(|to| may_see(*to, met.contains(*user), blocked.contains(*user)))
        };
        Ok(users.iter().filter(is_visible).copied().collect())
    }

    /// Returns how each user of a view shows their presence to the viewer.
    async fn shown(&self, View { viewer, users }: &View) -> Result<HashMap<UserId, VisibleTo>, Error> {
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let user_ids = users.iter().map(UserId::to_string).collect();
        let request = CheckPresenceRequest { viewer_id: viewer.to_string(), user_ids };
        let shown = self.users.clone().check_presence(request).await;
        let shown = shown.map_err(|status| Error::Users(Box::new(status)))?.into_inner().shown;
        Ok(users.iter().copied().zip(shown.iter().map(|text| VisibleTo::parse(text))).collect())
    }

    /// Returns the users of a view whom a block is between and the viewer.
    async fn blocked(&self, View { viewer, users }: &View) -> Result<HashSet<UserId>, Error> {
        if users.is_empty() {
            return Ok(HashSet::new());
        }
        let other_ids = users.iter().map(UserId::to_string).collect();
        let request = CheckBlocksRequest { user_id: viewer.to_string(), other_ids };
        let blocked = self.chats.clone().check_blocks(request).await;
        let blocked = blocked.map_err(|status| Error::Chats(Box::new(status)))?.into_inner().is_blocked;
        Ok(users.iter().copied().zip(blocked).filter_map(|(user, is)| is.then_some(user)).collect())
    }

    async fn met(&self, viewer: UserId, other_ids: Vec<String>) -> Result<HashSet<UserId>, Error> {
        let request = ListAcquaintancesRequest { user_id: viewer.to_string(), other_ids };
        let met = self.chats.clone().list_acquaintances(request).await;
        let met = met.map_err(|status| Error::Chats(Box::new(status)))?.into_inner().user_ids;
        Ok(met.iter().filter_map(|id| id.parse().ok()).collect())
    }
}
