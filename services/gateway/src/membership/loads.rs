//! Loads the chats of users who connect, and asks again where records were lost. What was lost counts as read when the chat service has
//! answered, and not before.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use contracts::{
    ChatId, UserId,
    event::{ChatKind, Role},
    rpc::{self, ListMembershipsRequest, chat_service_client::ChatServiceClient},
};
use futures_util::StreamExt as _;
use kit::{backoff::Backoff, outage::Outage, rpc::InternalChannel, tasks::joined};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    checks::{Access, Checks},
    members::{AsOf, Listing, Members},
};
use crate::{metrics::Metrics, positions::Positions, registry::Registry};

/// Users whose chats are loaded at one time: after a restart all come back at once.
const AT_ONCE: usize = 32;
/// Of those who are here already, fewer: all of them may be named at one moment, and who comes waits for the chat service too.
const AGAIN_AT_ONCE: usize = 8;
/// A call that takes longer has failed. A user may be in thousands of chats.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits after a call that failed.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often the users are forgotten who left, and lost records are asked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Users of one chat who are asked about at one time.
const ASKED_AT_ONCE: usize = 500;

/// Where to name users whose chats are to be loaded. Not bounded: a user is named once for each time that they come, and once for each loss.
pub(super) struct Named {
    /// Users who come, and wait for it.
    pub(super) new: mpsc::UnboundedSender<UserId>,
    /// Users whose chats are known, and perhaps not all of them any more.
    pub(super) again: mpsc::UnboundedSender<UserId>,
}

/// Makes the calls.
pub(crate) struct Loader {
    new: mpsc::UnboundedReceiver<UserId>,
    again: mpsc::UnboundedReceiver<UserId>,
    calls: Arc<Calls>,
}

struct Calls {
    members: Arc<Members>,
    checks: Checks,
    chat: ChatServiceClient<InternalChannel>,
    positions: Arc<Positions>,
    registry: Arc<Registry>,
    outage: Outage,
    metrics: Metrics,
}

impl Loader {
    /// Returns where to name users, and what loads their chats once it runs.
    pub(super) fn new(
        members: Arc<Members>,
        (checks, chat): (Checks, ChatServiceClient<InternalChannel>),
        (positions, registry): (Arc<Positions>, Arc<Registry>),
        metrics: Metrics,
    ) -> (Named, Self) {
        let ((new, new_users), (again, known_users)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let outage = Outage::default();
        let calls = Calls { members, checks, chat, positions, registry, outage, metrics };
        (Named { new, again }, Self { new: new_users, again: known_users, calls: Arc::new(calls) })
    }

    /// Loads, forgets who left and asks for what was lost, until stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        // Tasks of their own: answers of many users who come at once are read on all cores.
        let mut loads = JoinSet::new();
        let mut reloads = JoinSet::new();
        // Users who connect do not wait for what is asked here.
        let mut questions = JoinSet::new();
        let mut sweeps = interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(loaded) = loads.join_next() => { joined(loaded); }
                Some(loaded) = reloads.join_next() => { joined(loaded); }
                Some(asked) = questions.join_next() => { joined(asked); }
                user = self.new.recv(), if loads.len() < AT_ONCE => {
                    let Some(user) = user else { return };
                    let calls = self.calls.clone();
                    loads.spawn(async move { calls.load(user).await });
                }
                user = self.again.recv(), if reloads.len() < AGAIN_AT_ONCE => {
                    let Some(user) = user else { return };
                    let calls = self.calls.clone();
                    reloads.spawn(async move { calls.load(user).await });
                }
                now = sweeps.tick() => {
                    let members = &self.calls.members;
                    members.forget_departed(now.into_std());
                    self.calls.metrics.memberships.set(members.seats());
                    for (chat, user) in members.doubtful(now.into_std()) {
                        let calls = self.calls.clone();
                        questions.spawn(async move { calls.settle(chat, user).await });
                    }
                    for chat in members.lost_records(now.into_std()) {
                        let calls = self.calls.clone();
                        questions.spawn(async move { calls.ask(chat).await });
                    }
                }
            }
        }
    }
}

impl Calls {
    /// Loads the chats of a user, unless they leave before the chat service answers. Their connections receive `lagged` for those from which
    /// they receive more than before: that they are in them is known by then.
    async fn load(&self, user: UserId) {
        let mut backoff = Backoff::new(BACKOFF);
        while self.members.has(user) {
            self.metrics.membership_loads.inc();
            match self.listings(user).await {
                Ok((listings, restrictions)) => {
                    self.outage.worked("loading the chats of users from the chat service");
                    for chat in restrictions {
                        self.members.restricted(chat, user);
                    }
                    for chat in self.members.load(user, &listings) {
                        self.positions.catch_up(&self.registry, chat, user);
                    }
                    self.review(user, &listings).await;
                    return;
                }
                Err(status) => {
                    self.outage.failed("loading the chats of users from the chat service", &status);
                    sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Asks about chats in which the log has a user whom the chat service did not name: they came meanwhile, or their removal was lost.
    async fn review(&self, user: UserId, listings: &[Listing]) {
        for chat in self.members.unnamed(user, listings) {
            if let Some((Access::None, as_of)) = self.access(chat, user).await {
                self.members.found_out(chat, user, as_of);
            }
        }
    }

    /// Asks what a user may do in a chat until the chat service answers; nothing for one who leaves before. What is asked here is known in no
    /// other way, so a failure is no answer.
    async fn access(&self, chat: ChatId, user: UserId) -> Option<(Access, AsOf)> {
        let mut backoff = Backoff::new(BACKOFF);
        while self.members.has(user) {
            let as_of = self.members.as_of(chat, user);
            if let Ok(rights) = self.checks.rights(chat, user).await {
                return Some((rights.access, as_of));
            }
            sleep(backoff.next_wait()).await;
        }
        None
    }

    /// Returns the chats of a user, and where moderators let them write nothing.
    async fn listings(&self, user: UserId) -> Result<(Vec<Listing>, Vec<Option<ChatId>>), Status> {
        let request =
            ListMembershipsRequest { user_id: user.to_string(), ..ListMembershipsRequest::default() };
        let response = kit::rpc::within(CALL_TIMEOUT, self.chat.clone().list_memberships(request)).await?;
        let listings = response.memberships.iter().map(listing).collect::<Option<_>>();
        let restricted = response.restrictions.iter().map(|of| match of.chat_id.as_str() {
            "" => Some(None),
            chat => chat.parse().ok().map(Some),
        });
        listings
            .zip(restricted.collect::<Option<_>>())
            .ok_or_else(|| Status::internal("the chat service answered a chat or a role that is none"))
    }

    /// Asks whether a user is in a chat, of whom the logs say both. They receive nothing meanwhile, and `lagged` when they are.
    async fn settle(&self, chat: ChatId, user: UserId) {
        match self.access(chat, user).await {
            Some((Access::None, as_of)) => self.members.found_out(chat, user, as_of),
            Some(_) => {
                self.members.came_back(chat, user);
                self.load(user).await;
                if self.members.standing(chat, user).is_some() {
                    self.positions.catch_up(&self.registry, chat, user);
                }
            }
            None => {}
        }
    }

    /// Asks who of all users here is in a chat.
    async fn ask(&self, chat: ChatId) {
        tracing::warn!(%chat, "records of the members of chat {chat} were lost; querying the chat service");
        self.metrics.lost_memberships.inc();
        let asked = futures_util::stream::iter(self.members.users())
            .map(|user| async move { (user, self.access(chat, user).await) })
            .buffer_unordered(ASKED_AT_ONCE);
        let mut asked = std::pin::pin!(asked);
        let mut unknown = Vec::new();
        while let Some((user, answer)) = asked.next().await {
            match answer {
                // Of a direct chat that a block has closed, or that the other user has left, nothing is delivered.
                Some((Access::None | Access::Read, as_of)) => self.members.found_out(chat, user, as_of),
                Some((Access::Restricted | Access::ReadAndReact | Access::ReadAndSend, as_of)) => {
                    let is_applied = self.members.found_in(chat, user, as_of);
                    if !is_applied {
                        unknown.push(user);
                    }
                }
                None => {}
            }
        }
        for user in unknown {
            self.load(user).await;
        }
    }
}

fn listing(of: &rpc::Membership) -> Option<Listing> {
    Some(Listing {
        chat: of.chat_id.parse().ok()?,
        role: Role::parse(&of.role)?,
        kind: ChatKind::parse(&of.kind),
        version: of.version,
        members: u32::try_from(of.member_count).unwrap_or(u32::MAX),
        from_entry_at_ms: of.reads_from.as_ref().map(|_| of.joined_at_ms),
        is_closed: of.is_closed,
        slow_mode_seconds: of.slow_mode_seconds,
    })
}
