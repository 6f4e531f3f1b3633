//! Membership: who is in a chat is checked with the chat service for everything that is sent, so that a change which
//! it has answered holds for whatever begins later. Whom a message goes to comes from a cache fed by `chat.events`.

mod checks;
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
    event::{EntryKind, MAX_LISTED_AUDIENCE, Role},
    rpc::{GetMembershipRequest, ListMembersRequest, chat_service_client::ChatServiceClient},
};
use kit::rpc::InternalChannel;
use moka::future::Cache;

pub(crate) use self::checks::{Checked, Checker, Checking};
use self::{
    checks::{Access, Checks},
    members::{Audience, Known, Members},
};
use crate::{domain::record::Seat, error::GatewayError, metrics::Metrics};

/// A list of members is used for this long, or until the next record about the chat.
const LOOKUP_TTL: Duration = Duration::from_secs(1);
/// Lists kept: the chats that change at one time.
const LOOKUP_CAPACITY: u64 = 10_000;
/// Beginnings of histories kept, some 100 bytes each: those of the chats that are read at one time.
const BEGINNING_CAPACITY: u64 = 20_000;

pub(crate) struct Membership {
    pub(crate) members: Arc<Members>,
    caught_up: AtomicBool,
    checks: Checks,
    /// By chat, and version of the cache's chat.
    lookups: Cache<(ChatId, u64), Arc<Audience>>,
    /// Where the histories of members begin, for the time in which the chat service does not answer.
    beginnings: moka::sync::Cache<(ChatId, UserId), i64>,
    chat: ChatServiceClient<InternalChannel>,
    metrics: Metrics,
}

impl Membership {
    /// Returns the membership of the tenant's chats, and what makes its checks once it runs.
    pub(crate) fn new(chat: ChatServiceClient<InternalChannel>, metrics: Metrics) -> (Self, Checker) {
        let (checks, checker) = Checks::new(chat.clone());
        let this = Self {
            members: Arc::default(),
            caught_up: AtomicBool::new(false),
            checks,
            lookups: Cache::builder().max_capacity(LOOKUP_CAPACITY).time_to_live(LOOKUP_TTL).build(),
            beginnings: moka::sync::Cache::new(BEGINNING_CAPACITY),
            chat,
            metrics,
        };
        (this, checker)
    }

    /// Returns whether the cache has read all that was in `chat.events` when the process started.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }

    /// Notes that `chat.events` has this user in the chat.
    pub(crate) fn added(&self, chat: ChatId, user: UserId, seat: Seat) {
        self.members.added(chat, user, seat, self.moment());
    }

    /// Notes that `chat.events` has this user out of the chat.
    pub(crate) fn removed(&self, chat: ChatId, user: UserId) {
        self.members.removed(chat, user, self.moment());
        // One who comes back reads from another entry on.
        self.beginnings.invalidate(&(chat, user));
    }

    /// Notes where the history of a member begins.
    pub(crate) fn note_beginning(&self, chat: ChatId, user: UserId, from_seq: i64) {
        if self.known(chat, user).likely.is_some() {
            self.beginnings.insert((chat, user), from_seq);
        }
    }

    /// Returns where the history of a user begins whom the cache has in the chat; `None` when one of it is not known.
    pub(crate) fn known_beginning(&self, chat: ChatId, user: UserId) -> Option<i64> {
        self.known(chat, user).likely?;
        self.beginnings.get(&(chat, user))
    }

    /// Changes before the process started are complete.
    fn moment(&self) -> Option<Instant> {
        self.is_caught_up().then(Instant::now)
    }

    /// Refuses a user whom the check did not find in the chat. What was sent at the moment in which the other user left a
    /// direct chat is in the log, and not refused any more.
    pub(crate) fn conclude(&self, chat: ChatId, user: UserId, checked: Checked) -> Result<(), GatewayError> {
        self.access(chat, user, checked).map(drop)
    }

    /// Returns what a member may do in the chat; refuses all others. Of whom the cache alone knows may do what it says.
    fn access(&self, chat: ChatId, user: UserId, checked: Checked) -> Result<Access, GatewayError> {
        match checked {
            Ok(Access::None) => Err(GatewayError::NotAMember { chat }),
            Ok(access) => Ok(access),
            Err(source) => match self.known(chat, user) {
                Known { likely: Some(_), seat: Seat::Reader, .. } => Ok(Access::ReadAndReact),
                Known { likely: Some(_), .. } => Ok(Access::ReadAndSend),
                Known { likely: None, .. } => Err(GatewayError::Membership { chat, source }),
            },
        }
    }

    /// Returns whom a message of this sender goes to as the cache has it, and the check that has begun, to be concluded.
    /// `None` when the cache is not certain, when too many checks wait, in a channel, where the role decides, and in a chat of two: it may be a direct one, where being
    /// in the chat is not all that decides about a send.
    pub(crate) fn likely_audience(&self, chat: ChatId, sender: UserId) -> Option<(Audience, Checking)> {
        match self.known(chat, sender) {
            // It may be a direct chat, which the other has left, or which a block has closed: the log does not refuse their text.
            Known { likely: Some(Some(few)), .. } if few.len() <= 2 => None,
            Known { seat: Seat::Reader | Seat::Writer, .. } => None,
            Known { likely: Some(audience), is_settled: true, .. } => {
                Some((audience, self.checks.begin(chat, sender)?))
            }
            Known { .. } => None,
        }
    }

    /// Returns whom an entry of this sender goes to, once it is certain that they are in the chat. Refuses one to a direct
    /// chat that the other user has left or that a block has closed, and all but reactions of plain members of a channel.
    pub(crate) async fn audience(
        &self,
        chat: ChatId,
        sender: UserId,
        kind: EntryKind,
    ) -> Result<Audience, GatewayError> {
        let checked = self.checks.access(chat, sender).await;
        match self.access(chat, sender, checked)? {
            Access::ReadAndSend => {}
            Access::ReadAndReact if matches!(kind, EntryKind::Reaction | EntryKind::ReactionRemoved) => {}
            Access::ReadAndReact => return Err(GatewayError::ReadsOnly { chat }),
            Access::Read | Access::None => return Err(GatewayError::NoRecipient { chat }),
        }
        let Known { version, likely, is_settled, .. } = self.known(chat, sender);
        match likely {
            Some(audience) if is_settled => return Ok(audience),
            Some(_) | None => {}
        }
        // Concurrent look-ups of one chat become one request.
        match (self.lookups.try_get_with((chat, version), self.look_up(chat)).await, likely) {
            (Ok(audience), _) => Ok((*audience).clone()),
            // Some may miss a push and find the message in the history; no one could send otherwise.
            (Err(_), Some(likely)) => Ok(likely),
            (Err(source), None) => Err(GatewayError::Membership { chat, source }),
        }
    }

    /// Returns whether a user may delete what others wrote in a chat: as its owner or an admin. Asked each time, it is seldom.
    pub(crate) async fn moderates(&self, chat: ChatId, user: UserId) -> Result<bool, GatewayError> {
        let request = GetMembershipRequest { chat_id: chat.to_string(), user_id: user.to_string() };
        let response = self.chat.clone().get_membership(request).await;
        let response =
            response.map_err(|status| GatewayError::Membership { chat, source: Arc::new(status) })?;
        let member = response.into_inner().member.ok_or(GatewayError::NotAMember { chat })?;
        Ok(matches!(Role::parse(&member.role), Some(Role::Owner | Role::Admin)))
    }

    /// Returns what the cache knows. While the chat service does not answer, it has to do: no change is answered then
    /// either, and those before are in `chat.events`.
    fn known(&self, chat: ChatId, user: UserId) -> Known {
        let known = self.members.audience(chat, user, Instant::now());
        Known { is_settled: known.is_settled && self.is_caught_up(), ..known }
    }

    async fn look_up(&self, chat: ChatId) -> Result<Arc<Audience>, tonic::Status> {
        self.metrics.membership_questions.inc();
        let request = ListMembersRequest { chat_id: chat.to_string() };
        let members = self.chat.clone().list_members(request).await?.into_inner().members;
        if members.len() > MAX_LISTED_AUDIENCE {
            return Ok(Arc::new(None));
        }
        let ids: Result<Vec<UserId>, _> = members.iter().map(|member| member.user_id.parse()).collect();
        let ids = ids.map_err(|_| tonic::Status::internal("the chat service answered an id that is none"))?;
        Ok(Arc::new(Some(ids)))
    }
}
