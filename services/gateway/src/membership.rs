//! Membership: a cache fed by `chat.events`, and look-ups at the chat service where the cache knows nothing.

pub(crate) mod members;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    event::MAX_LISTED_AUDIENCE,
    rpc::{GetMembershipRequest, ListMembersRequest, chat_service_client::ChatServiceClient},
};
use kit::rpc::InternalChannel;
use moka::future::Cache;

use self::members::{Audience, Known, Members};
use crate::{error::GatewayError, metrics::Metrics};

/// The result of a look-up is used for this long, or until the next record about the chat. A user who was just added is
/// in `chat.events` within milliseconds, so a negative result does harm for no longer than that.
const LOOKUP_TTL: Duration = Duration::from_secs(1);
/// Results kept: a client that names chats at random costs this much and no more.
const LOOKUP_CAPACITY: u64 = 10_000;

pub(crate) struct Membership {
    pub(crate) members: Arc<Members>,
    caught_up: AtomicBool,
    /// By chat, user, and version of the cache's chat.
    lookups: Cache<(ChatId, UserId, u64), Option<Arc<Audience>>>,
    chat: ChatServiceClient<InternalChannel>,
    metrics: Metrics,
}

impl Membership {
    pub(crate) fn new(chat: ChatServiceClient<InternalChannel>, metrics: Metrics) -> Self {
        Self {
            members: Arc::default(),
            caught_up: AtomicBool::new(false),
            lookups: Cache::builder().max_capacity(LOOKUP_CAPACITY).time_to_live(LOOKUP_TTL).build(),
            chat,
            metrics,
        }
    }

    /// Returns whether the cache has read all that was in `chat.events` when the process started.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }

    /// Notes that `chat.events` has this user in the chat.
    pub(crate) fn added(&self, chat: ChatId, user: UserId) {
        self.members.added(chat, user, self.moment());
    }

    /// Notes that `chat.events` has this user out of the chat.
    pub(crate) fn removed(&self, chat: ChatId, user: UserId) {
        self.members.removed(chat, user, self.moment());
    }

    /// Changes before the process started are complete.
    fn moment(&self) -> Option<Instant> {
        self.is_caught_up().then(Instant::now)
    }

    /// Returns whom a message of this sender goes to, as far as the cache is sure; `None` means to look it up.
    pub(crate) fn cached_audience(&self, chat: ChatId, sender: UserId) -> Option<Audience> {
        self.is_caught_up().then(|| self.members.audience(chat, sender, Instant::now()).settled).flatten()
    }

    /// Returns whom a message of this sender goes to.
    pub(crate) async fn audience(&self, chat: ChatId, sender: UserId) -> Result<Audience, GatewayError> {
        let Known { version, settled, likely } = self.members.audience(chat, sender, Instant::now());
        if let Some(audience) = settled
            && self.is_caught_up()
        {
            return Ok(audience);
        }
        // Concurrent look-ups of one sender become one request.
        let found = self.lookups.try_get_with((chat, sender, version), self.look_up(chat, sender)).await;
        match (found, likely) {
            (Ok(Some(audience)), _) => Ok((*audience).clone()),
            (Ok(None), _) => Err(GatewayError::NotAMember { chat }),
            // Some may miss a push and find the message in the history; no one could send otherwise.
            (Err(_), Some(likely)) => Ok(likely),
            (Err(source), None) => Err(GatewayError::Membership { chat, source }),
        }
    }

    async fn look_up(&self, chat: ChatId, user: UserId) -> Result<Option<Arc<Audience>>, tonic::Status> {
        self.metrics.membership_questions.inc();
        let mut client = self.chat.clone();
        let request = GetMembershipRequest { chat_id: chat.to_string(), user_id: user.to_string() };
        if client.get_membership(request).await?.into_inner().member.is_none() {
            return Ok(None);
        }
        let request = ListMembersRequest { chat_id: chat.to_string() };
        let members = client.list_members(request).await?.into_inner().members;
        if members.len() > MAX_LISTED_AUDIENCE {
            return Ok(Some(Arc::new(None)));
        }
        let ids: Result<Vec<UserId>, _> = members.iter().map(|member| member.user_id.parse()).collect();
        let ids = ids.map_err(|_| tonic::Status::internal("the chat service answered an id that is none"))?;
        Ok(Some(Arc::new(Some(ids))))
    }
}
