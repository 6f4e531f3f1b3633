//! Who is in which chat: a cache fed by `chat.events`, and the chat service where the cache knows nothing.

pub(crate) mod members;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contracts::{
    ChatId, UserId,
    event::MAX_LISTED_AUDIENCE,
    rpc::{GetMembershipRequest, ListMembersRequest, chat_service_client::ChatServiceClient},
};
use kit::rpc::InternalChannel;
use moka::future::Cache;

use self::members::Members;
use crate::{error::GatewayError, metrics::Metrics};

/// An answer of the chat service stands this long. A person who was just added is in the cache within milliseconds,
/// so a negative answer does harm for no longer than the log takes; a removal makes its answer void at once.
const ANSWER_STANDS: Duration = Duration::from_secs(1);
/// Answers kept: a client that asks for chats at random costs this much and no more.
const ANSWERS: u64 = 10_000;

/// The people a message goes to; `None` for more than a record lists.
pub(crate) type Audience = Option<Vec<UserId>>;

pub(crate) struct Membership {
    pub(crate) members: Members,
    caught_up: AtomicBool,
    answers: Cache<(ChatId, UserId), Option<Arc<Audience>>>,
    chat: ChatServiceClient<InternalChannel>,
    metrics: Metrics,
}

impl Membership {
    pub(crate) fn new(chat: ChatServiceClient<InternalChannel>, metrics: Metrics) -> Self {
        Self {
            members: Members::default(),
            caught_up: AtomicBool::new(false),
            answers: Cache::builder().max_capacity(ANSWERS).time_to_live(ANSWER_STANDS).build(),
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

    /// Notes a removal that the log of events told.
    pub(crate) async fn removed(&self, chat: ChatId, user: UserId) {
        self.members.removed(chat, user);
        self.answers.invalidate(&(chat, user)).await;
    }

    /// Returns whom a message of this sender goes to, as far as the cache knows; `None` means to ask.
    pub(crate) fn cached_audience(&self, chat: ChatId, sender: UserId) -> Option<Audience> {
        if self.is_caught_up() { self.members.audience(chat, sender) } else { None }
    }

    /// Returns whom a message of this sender goes to.
    pub(crate) async fn audience(&self, chat: ChatId, sender: UserId) -> Result<Audience, GatewayError> {
        if let Some(audience) = self.cached_audience(chat, sender) {
            return Ok(audience);
        }
        // Many may ask at once; one asks the chat service.
        let answer = self
            .answers
            .try_get_with((chat, sender), self.ask(chat, sender))
            .await
            .map_err(|error: Arc<tonic::Status>| GatewayError::Membership { chat, source: error })?;
        match answer {
            Some(audience) => Ok((*audience).clone()),
            None => Err(GatewayError::NotAMember { chat }),
        }
    }

    async fn ask(&self, chat: ChatId, user: UserId) -> Result<Option<Arc<Audience>>, tonic::Status> {
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
