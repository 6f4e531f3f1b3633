//! Membership: who is in a chat is checked with the chat service for everything that is sent, so that a change which
//! it has answered holds for whatever begins later. Whom a message goes to comes from the chats of the users who are connected here.

mod checks;
mod loads;
pub(crate) mod members;
pub(crate) mod published;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{
    ChatId, MessageKey, UserId,
    event::{EntryKind, Role},
    rpc::{
        GetMembershipRequest, ListCalledRequest, ListCalledResponse, chat_service_client::ChatServiceClient,
    },
    wire::MAX_ROLE_MENTIONS,
};
use kit::rpc::{self, InternalChannel};
use tokio::time::timeout;
use tonic::Code;

use self::{
    checks::{Access, Checks, Rights},
    members::{Compared, Members, Standing},
};
pub(crate) use self::{
    checks::{Checked, Checker, Checking},
    loads::Loader,
};
use crate::{
    domain::{
        record::Place,
        slow_mode::{SlowMode, Turn},
    },
    error::GatewayError,
    metrics::Metrics,
    positions::Positions,
    registry::Registry,
};

/// A user who connects waits this long for their chats to be known. Pushes go to them from then on.
const LOAD_WITHIN: Duration = Duration::from_secs(2);
/// Beginnings of histories kept, some 100 bytes each: those of the chats that are read at one time.
const BEGINNING_CAPACITY: u64 = 20_000;

/// A look-up of whom a message calls has this long: the message waits for it.
const CALLED_WITHIN: Duration = Duration::from_secs(1);

/// Whom a message calls, beside those of its names who are in the chat.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Called {
    /// Those who have one of the roles, and are not named.
    pub(crate) by_role: Vec<UserId>,
    /// Those of the names who are not in the chat.
    pub(crate) not_members: Vec<UserId>,
}

impl Called {
    /// Reads what the chat service knows of those who are called.
    fn of(sender: UserId, names: &[UserId], members: &[UserId], with_role: Vec<UserId>) -> Self {
        let mut not_members: Vec<UserId> = Vec::new();
        for name in names {
            if !members.contains(name) && !not_members.contains(name) {
                not_members.push(*name);
            }
        }
        let by_role = with_role.into_iter().filter(|user| *user != sender && !names.contains(user));
        Self { by_role: by_role.collect(), not_members }
    }
}

pub(crate) struct Membership {
    pub(crate) members: Arc<Members>,
    following: AtomicBool,
    checks: Checks,
    named: loads::Named,
    /// Where the histories of members begin, for the time in which the chat service does not answer.
    beginnings: moka::sync::Cache<(ChatId, UserId), i64>,
    pub(crate) slow_mode: Arc<SlowMode>,
    chat: ChatServiceClient<InternalChannel>,
}

impl Membership {
    /// Returns the membership of the tenant's chats, and what makes its checks and loads its chats once they run.
    pub(crate) fn new(
        chat: ChatServiceClient<InternalChannel>,
        pushes: (Arc<Positions>, Arc<Registry>),
        metrics: Metrics,
    ) -> (Self, Checker, Loader) {
        let (checks, checker) = Checks::new(chat.clone());
        let members = Arc::<Members>::default();
        let (named, loader) = Loader::new(members.clone(), (checks.clone(), chat.clone()), pushes, metrics);
        let this = Self {
            members,
            following: AtomicBool::new(false),
            checks,
            named,
            beginnings: moka::sync::Cache::new(BEGINNING_CAPACITY),
            slow_mode: Arc::default(),
            chat,
        };
        (this, checker, loader)
    }

    /// Returns whether no record of `chat.events` can be missed any more. What is loaded before could miss a change, and never be corrected.
    pub(crate) fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    pub(crate) fn set_following(&self) {
        self.following.store(true, Ordering::Release);
    }

    /// Notes that a user has one connection more.
    pub(crate) fn opened(&self, user: UserId) {
        if self.members.opened(user) && self.named.new.send(user).is_err() {
            tracing::debug!("the process is stopping; no chats are loaded any more");
        }
    }

    /// Begins to load the chats once more of a user who is here already. Those who come wait for none of them.
    fn load_again(&self, user: UserId) {
        if self.named.again.send(user).is_err() {
            tracing::debug!("the process is stopping; no chats are loaded any more");
        }
    }

    /// Notes that a connection of a user has ended.
    pub(crate) fn closed(&self, user: UserId) {
        self.members.closed(user, Instant::now());
    }

    /// Waits until the chats of a user are known who connects. They may not be, while the chat service does not answer: then pushes
    /// begin later, and [`Self::is_ready`] says so.
    pub(crate) async fn prepare(&self, user: UserId) {
        self.opened(user);
        self.is_ready(user).await;
        self.closed(user);
    }

    /// Returns whether the chats of a connected user are known, for which it waits a moment.
    pub(crate) async fn is_ready(&self, user: UserId) -> bool {
        let Some(mut loaded) = self.members.loaded(user) else { return true };
        timeout(LOAD_WITHIN, loaded.wait_for(|loaded| *loaded)).await.is_ok_and(|loaded| loaded.is_ok())
    }

    /// Takes a record of `chat.events`; true when the user receives from here on what is delivered.
    pub(crate) fn changed(&self, chat: ChatId, user: UserId, place: Place) -> bool {
        if place.role.is_none() {
            // One who comes back reads from another entry on.
            self.beginnings.invalidate(&(chat, user));
        }
        self.members.changed(chat, user, place, Instant::now())
    }

    /// Takes the newest record that the chat service has published of a user in a chat. That they are out of it holds at once. Where the log
    /// has lost that they are in it, or as what, their chats are to be loaded: they may be out of it again, which is not listed yet.
    fn take_published(&self, chat: ChatId, user: UserId, place: Place) -> Compared {
        let compared = self.members.compared(chat, user, place);
        match compared {
            Compared::Known => {}
            Compared::Lost if place.role.is_some() => {}
            // What is on its way to be loaded stands where it is later.
            Compared::Lost | Compared::Unloaded => {
                self.changed(chat, user, place);
            }
        }
        compared
    }

    /// Notes where the history of a member begins.
    pub(crate) fn note_beginning(&self, chat: ChatId, user: UserId, from_seq: i64) {
        if self.members.standing(chat, user).is_some() {
            self.beginnings.insert((chat, user), from_seq);
        }
    }

    /// Returns where the history of a user begins who is known here to be in the chat; `None` when one of it is not known.
    pub(crate) fn known_beginning(&self, chat: ChatId, user: UserId) -> Option<i64> {
        self.members.standing(chat, user)?;
        self.beginnings.get(&(chat, user))
    }

    /// Refuses a user whom the check did not find in the chat. What was sent at the moment in which the other user left a
    /// direct chat, or in which moderators let the user write nothing, is in the log, and not refused any more.
    pub(crate) fn conclude(&self, chat: ChatId, user: UserId, checked: Checked) -> Result<(), GatewayError> {
        self.access(chat, user, checked).map(drop)
    }

    /// Returns what a member may do in the chat, and how long they wait between two texts; refuses all others. While the chat service
    /// does not answer, what is known here has to do: no change is answered then either, and those before are in `chat.events`. Of one whom
    /// moderators let write nothing, or did, that is not enough.
    fn access(
        &self,
        chat: ChatId,
        user: UserId,
        checked: Checked,
    ) -> Result<(Access, Duration), GatewayError> {
        match checked {
            Ok(Rights { access: Access::None, .. }) => Err(GatewayError::NotAMember { chat }),
            // It says nothing of how long others wait.
            Ok(Rights { access: Access::Restricted, .. }) => {
                self.members.found_restricted(chat, user);
                Ok((Access::Restricted, Duration::ZERO))
            }
            Ok(Rights { access, slow_mode_seconds }) => {
                self.members.waits(chat, user, slow_mode_seconds);
                Ok((access, Duration::from_secs(slow_mode_seconds.into())))
            }
            Err(source) => match (self.members.standing(chat, user), self.members.slow_mode(chat, user)) {
                (Some(Standing::Reader), _) => Ok((Access::ReadAndReact, Duration::ZERO)),
                (Some(Standing::Member | Standing::Direct | Standing::Writer), Some(wait)) => {
                    Ok((Access::ReadAndSend, wait))
                }
                (
                    Some(
                        Standing::Member
                        | Standing::Direct
                        | Standing::Writer
                        | Standing::Unknown
                        | Standing::Restricted,
                    )
                    | None,
                    _,
                ) => Err(GatewayError::Membership { chat, source }),
            },
        }
    }

    /// Begins the check of a sender who is known here to be a member of a group: it may be concluded when the log has the message, which
    /// refuses what comes behind a removal. Returns it with how long the member waits between two texts, as it is known here. `None` when
    /// that is not known or too many checks wait, and for all others: the log does not refuse text in
    /// a direct chat that the other has left or that a block has closed, nor in a channel, where the role decides, nor of one whom moderators
    /// let write nothing.
    pub(crate) fn begin_check(&self, chat: ChatId, sender: UserId) -> Option<(Checking, Duration)> {
        let standing = self.members.standing(chat, sender)?;
        let wait = self.members.slow_mode(chat, sender).filter(|_| standing == Standing::Member)?;
        Some((self.checks.begin(chat, sender)?, wait))
    }

    /// Checks that a user may add an entry of this kind to the chat, and returns how long they wait between two texts. It is what the chat
    /// service says, whether the user is connected here or not. Refuses one to a direct chat that the other user has left or that
    /// a block has closed, all of one whom moderators let write nothing, and all but reactions of plain members of a channel.
    pub(crate) async fn check(
        &self,
        chat: ChatId,
        sender: UserId,
        kind: EntryKind,
    ) -> Result<Duration, GatewayError> {
        let noted = self.members.noted();
        let checked = self.checks.rights(chat, sender).await;
        let (access, wait) = self.access(chat, sender, checked)?;
        if matches!(access, Access::ReadAndReact | Access::ReadAndSend) {
            self.members.found_free(chat, sender, noted);
        }
        match access {
            Access::ReadAndSend => Ok(wait),
            Access::ReadAndReact if matches!(kind, EntryKind::Reaction | EntryKind::ReactionRemoved) => {
                Ok(wait)
            }
            Access::ReadAndReact => Err(GatewayError::ReadsOnly { chat }),
            Access::Restricted => Err(GatewayError::Restricted { chat }),
            Access::Read | Access::None => Err(GatewayError::NoRecipient { chat }),
        }
    }

    /// Takes a text of a member on its way to the log, who waits `wait` between two of them.
    pub(crate) fn take_turn(
        &self,
        (chat, sender, key): (ChatId, UserId, MessageKey),
        wait: Duration,
    ) -> Result<Turn, GatewayError> {
        if wait.is_zero() {
            return Ok(Turn::None);
        }
        let taken = self.slow_mode.take((chat, sender, key), wait, Instant::now());
        taken.map_err(|wait| GatewayError::SlowMode { chat, wait })
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

    /// Returns whom a message calls by these names and roles.
    ///
    /// While the chat service does not answer, all names count as those of members: a message does not wait for them. Roles are
    /// not known then.
    pub(crate) async fn called(
        &self,
        chat: ChatId,
        sender: UserId,
        names: &[UserId],
        roles: &[Role],
    ) -> Result<Called, GatewayError> {
        let request = ListCalledRequest {
            chat_id: chat.to_string(),
            user_ids: names.iter().map(ToString::to_string).collect(),
            roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
        };
        let mut client = self.chat.clone();
        let called = match rpc::within(CALLED_WITHIN, client.list_called(request)).await {
            Ok(called) => called,
            // A chat service of before, during an update, does not know the question.
            Err(status)
                if roles.is_empty()
                    && matches!(
                        status.code(),
                        Code::Unavailable | Code::DeadlineExceeded | Code::Unimplemented
                    ) =>
            {
                tracing::debug!(%status, "all names of a message count as members: {status}");
                return Ok(Called::default());
            }
            Err(status) => return Err(GatewayError::Membership { chat, source: Arc::new(status) }),
        };
        let ListCalledResponse { member_ids, role_member_ids } = called;
        let users = |ids: Vec<String>| -> Result<Vec<UserId>, GatewayError> {
            let unreadable = |_| {
                let status = tonic::Status::internal("the chat service answered an id that cannot be read");
                GatewayError::Membership { chat, source: Arc::new(status) }
            };
            ids.iter().map(|id| id.parse().map_err(unreadable)).collect()
        };
        let (members, with_role) = (users(member_ids)?, users(role_member_ids)?);
        if with_role.len() > MAX_ROLE_MENTIONS {
            return Err(GatewayError::TooManyCalled { chat });
        }
        Ok(Called::of(sender, names, &members, with_role))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_role_calls_whom_no_name_calls_and_never_the_sender() {
        let [ann, ben, cid, dan, eve] = [1, 2, 3, 4, 5].map(|n| UserId(Uuid::from_u128(n)));
        let called = Called::of(ann, &[ben, cid, cid], &[ben], vec![ann, ben, dan, eve]);
        assert_eq!(called, Called { by_role: vec![dan, eve], not_members: vec![cid] });
        assert_eq!(Called::of(ann, &[], &[], vec![ann]), Called::default());
    }
}
