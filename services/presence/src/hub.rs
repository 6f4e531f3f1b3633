//! What one replica knows and passes on: from gateways and replicas to the gateways that watch.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use contracts::{
    ChatId, UserId,
    convert::UnreadableField,
    event::SampledState,
    presence::{id, unpack},
    rpc::{self, replica_news::News},
    wire::{PresenceState, TypingUser, UserPresence},
};
use kit::clock::now_ms;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::{
    config::Times,
    domain::{Applied, Board, Changes, GatewayId, Samples, sampled, sampler},
    metrics::Metrics,
    store::LastSeen,
};

/// Messages to the other replicas that wait. What does not fit is missed by them, which they notice.
pub(crate) const PUBLISH_QUEUE: usize = 1_024;
/// Typing that waits for one gateway; of more, the newest is dropped.
const MAX_TYPING: usize = 1_000;

/// The presence of one tenant, as this replica knows it.
pub struct Hub {
    pub(crate) times: Times,
    pub(crate) metrics: Metrics,
    last_seen: Arc<dyn LastSeen>,
    /// Names this replica among the others.
    replica: Uuid,
    others: Option<mpsc::Sender<rpc::ReplicaNews>>,
    is_linked: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    board: Board,
    /// What absent users were when this was last looked at.
    absent: PresenceState,
    followers: HashMap<Uuid, Follower>,
    /// When the others were last asked for all they have.
    asked_at: Option<Instant>,
    /// When something of each of the other replicas was received last.
    replicas: HashMap<Uuid, Instant>,
    /// Where the tenant wants samples.
    samples: Option<Samples>,
}

/// What a gateway watches, and what it is to receive of that.
#[derive(Default)]
struct Follower {
    users: HashSet<UserId>,
    chats: HashSet<ChatId>,
    changed: HashSet<UserId>,
    typing: Vec<TypingUser>,
    /// What absent users are has changed.
    is_due: bool,
    wake: Arc<Notify>,
}

/// A gateway that follows what it watches, until it is dropped.
pub(crate) struct Following {
    hub: Arc<Hub>,
    gateway: GatewayId,
    /// Names the call.
    id: Uuid,
    wake: Arc<Notify>,
}

/// What a gateway is to receive.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) changed: Vec<UserId>,
    pub(crate) typing: Vec<TypingUser>,
    pub(crate) is_due: bool,
}

impl Hub {
    /// Returns the hub of a replica, and what it publishes to the others.
    #[expect(clippy::disallowed_methods, reason = "an edge: the name of this process")]
    pub fn new(times: Times, last_seen: Arc<dyn LastSeen>) -> (Arc<Self>, mpsc::Receiver<rpc::ReplicaNews>) {
        let (others, published) = mpsc::channel(PUBLISH_QUEUE);
        (Arc::new(Self::with(times, last_seen, Some(others), Uuid::new_v4())), published)
    }

    /// Returns the hub of the only replica.
    pub fn alone(times: Times, last_seen: Arc<dyn LastSeen>) -> Arc<Self> {
        let hub = Self::with(times, last_seen, None, Uuid::nil());
        hub.lock().board.linked(Instant::now());
        Arc::new(hub)
    }

    fn with(
        times: Times,
        last_seen: Arc<dyn LastSeen>,
        others: Option<mpsc::Sender<rpc::ReplicaNews>>,
        replica: Uuid,
    ) -> Self {
        let inner = Inner {
            board: Board::new(times.heartbeat),
            absent: PresenceState::Unknown,
            followers: HashMap::new(),
            asked_at: None,
            replicas: HashMap::new(),
            samples: None,
        };
        Self {
            times,
            metrics: Metrics::default(),
            last_seen,
            replica,
            others,
            is_linked: AtomicBool::new(false),
            inner: Mutex::new(inner),
        }
    }

    /// Returns whether a message is this replica's own.
    pub(crate) fn is_own(&self, news: &rpc::ReplicaNews) -> bool {
        news.replica_id == self.replica.as_bytes()
    }

    /// Notes that a gateway is attached.
    pub(crate) fn attach(self: &Arc<Self>, gateway: GatewayId) -> Following {
        // Later than what any replica has of the gateway, as far as their clocks agree; where not, all is asked for once more.
        let version = u64::try_from(now_ms()).unwrap_or_default();
        let wake = Arc::<Notify>::default();
        let (id, follower) = (fresh(), Follower { is_due: true, wake: wake.clone(), ..Follower::default() });
        let mut inner = self.lock();
        inner.board.attach(gateway, id, version, Instant::now());
        inner.followers.insert(id, follower);
        wake.notify_one();
        drop(inner);
        self.metrics.gateways.inc();
        Following { hub: self.clone(), gateway, id, wake }
    }

    /// Notes what a gateway reports of its users.
    pub(crate) async fn report(&self, gateway: GatewayId, changes: &Changes) {
        self.metrics.reports.inc();
        let Some((version, changed)) = self.lock().board.report(gateway, changes, Instant::now()) else {
            return;
        };
        // Before any gateway receives it, so that it comes with the moment.
        self.note_last_seen(&changed).await;
        self.pass_on(&changed);
        self.publish(users_of(gateway, version, changes));
    }

    /// Passes on that a user is typing.
    pub(crate) fn typing(&self, typing: TypingUser) {
        self.pass_on_typing(typing);
        self.publish(News::Typing(typing.into()));
    }

    /// Returns how absent users are, and how each of these users is.
    pub(crate) async fn states(&self, users: &[UserId]) -> (PresenceState, Vec<UserPresence>) {
        let now = Instant::now();
        let (absent, mut states) = {
            let inner = self.lock();
            let state = |user: &UserId| UserPresence {
                user: *user,
                state: inner.board.state(*user, now),
                last_seen_ms: None,
            };
            (inner.board.absent(now), users.iter().map(state).collect::<Vec<_>>())
        };
        let offline: Vec<UserId> =
            states.iter().filter(|of| of.state == PresenceState::Offline).map(|of| of.user).collect();
        if !offline.is_empty() {
            let seen = self.last_seen.last_seen(&offline).await;
            let offline = states.iter_mut().filter(|of| of.state == PresenceState::Offline);
            for (of, last_seen_ms) in offline.zip(seen) {
                of.last_seen_ms = last_seen_ms;
            }
        }
        (absent, states)
    }

    /// Does what the time brings: leases end, and absent users become known to be offline.
    pub(crate) async fn tick(&self) {
        let now = Instant::now();
        let expired = {
            let mut inner = self.lock();
            let expired = inner.board.expire(now);
            let absent = inner.board.absent(now);
            if absent != inner.absent {
                inner.absent = absent;
                inner.all_changed();
            }
            self.metrics.connected.set(i64::try_from(inner.board.connected()).unwrap_or(i64::MAX));
            expired
        };
        self.note_last_seen(&expired).await;
        self.pass_on(&expired);
    }

    /// Notes that this replica receives from the others: asks them for what they have, and publishes what it has.
    pub(crate) fn linked(&self) {
        let now = Instant::now();
        self.lock().board.linked(now + self.times.heartbeat);
        self.is_linked.store(true, Ordering::Release);
        self.ask(now);
        self.publish_all();
    }

    /// Notes that this replica does not receive from the others any more.
    pub(crate) fn unlinked(&self) {
        self.is_linked.store(false, Ordering::Release);
        let mut inner = self.lock();
        let changed = inner.board.unlinked();
        inner.absent = PresenceState::Unknown;
        inner.changed(&changed);
        inner.all_changed();
    }

    /// Publishes that this replica and its gateways are there.
    pub(crate) fn publish_heartbeat(&self) {
        let gateways = self.lock().board.attached().into_iter();
        let gateways = gateways
            .map(|(id, version)| rpc::GatewayVersion { gateway_id: id.0.as_bytes().to_vec(), version });
        self.publish(News::Heartbeat(rpc::ReplicaHeartbeat { gateways: gateways.collect() }));
    }

    /// Notes from now on who changes, for [`Self::samples`].
    pub(crate) fn take_samples(&self) {
        self.lock().samples.get_or_insert_default();
    }

    /// Ends an interval of sampling, and returns how those of the users who changed are whom this replica samples. Who is not known to
    /// be anything waits until that is known.
    pub(crate) fn samples(&self) -> Vec<(UserId, SampledState)> {
        let now = Instant::now();
        let mut inner = self.lock();
        let Inner { board, replicas, samples: Some(samples), .. } = &mut *inner else { return Vec::new() };
        let lease = 2 * self.times.heartbeat;
        replicas.retain(|_, received_at| now.duration_since(*received_at) < lease);
        let there: BTreeSet<Uuid> = replicas.keys().copied().chain([self.replica]).collect();
        let due = samples.due(|user| sampler(user, &there) == Some(self.replica));
        let mut known = Vec::with_capacity(due.len());
        for user in due {
            match sampled(board.state(user, now)) {
                Some(state) => known.push((user, state)),
                None => {
                    self.metrics.dropped_samples.inc_by(samples.note([&user]));
                }
            }
        }
        known
    }

    /// Notes what another replica published.
    pub(crate) fn receive(&self, replica_id: &[u8], news: News) -> Result<(), UnreadableField> {
        self.metrics.received.inc();
        let now = Instant::now();
        let replica = id("replica_id", replica_id)?;
        self.lock().replicas.insert(replica, now);
        match news {
            News::Hello(rpc::ReplicaHello {}) => self.publish_all(),
            News::Users(users) => {
                let gateway = GatewayId(id("gateway_id", &users.gateway_id)?);
                let changes = Changes::try_from(users.changes.unwrap_or_default())?;
                let applied = self.lock().board.published(gateway, users.version, &changes, now);
                match applied {
                    Applied::Changed(changed) => self.pass_on(&changed),
                    Applied::Gap => self.ask(now),
                }
            }
            News::Heartbeat(heartbeat) => {
                let mut is_all_known = true;
                for of in heartbeat.gateways {
                    let gateway = GatewayId(id("gateway_id", &of.gateway_id)?);
                    is_all_known &= self.lock().board.is_known(gateway, of.version, now);
                }
                if !is_all_known {
                    self.ask(now);
                }
            }
            News::Typing(typing) => self.pass_on_typing(typing.try_into()?),
        }
        Ok(())
    }

    /// Asks the others for all they have, once within the time that their answers take.
    fn ask(&self, now: Instant) {
        let mut inner = self.lock();
        let is_due = inner.asked_at.is_none_or(|at| now.duration_since(at) >= self.times.push_every);
        if is_due {
            inner.asked_at = Some(now);
            drop(inner);
            self.publish(News::Hello(rpc::ReplicaHello {}));
        }
    }

    fn publish_all(&self) {
        let all = self.lock().board.all_attached();
        for (gateway, version, changes) in all {
            self.publish(users_of(gateway, version, &changes));
        }
    }

    fn publish(&self, news: News) {
        let Some(others) = &self.others else { return };
        if self.is_linked.load(Ordering::Acquire) {
            let replica_id = self.replica.as_bytes().to_vec();
            // What does not fit is a gap, which the others notice.
            drop(others.try_send(rpc::ReplicaNews { replica_id, news: Some(news) }));
        }
    }

    /// Notes the moment for those of the users who are offline now.
    async fn note_last_seen(&self, changed: &BTreeSet<UserId>) {
        let now = Instant::now();
        let gone: Vec<UserId> = {
            let inner = self.lock();
            let is_gone = |user: &&UserId| inner.board.state(**user, now) == inner.board.absent(now);
            changed.iter().filter(is_gone).copied().collect()
        };
        if !gone.is_empty() {
            self.last_seen.note(&gone, now_ms()).await;
        }
    }

    fn pass_on(&self, changed: &BTreeSet<UserId>) {
        if !changed.is_empty() {
            let mut inner = self.lock();
            inner.changed(changed);
            if let Some(samples) = &mut inner.samples {
                self.metrics.dropped_samples.inc_by(samples.note(changed));
            }
        }
    }

    fn pass_on_typing(&self, typing: TypingUser) {
        let mut inner = self.lock();
        for follower in inner.followers.values_mut().filter(|follower| follower.chats.contains(&typing.chat))
        {
            if follower.typing.len() < MAX_TYPING && !follower.typing.contains(&typing) {
                follower.typing.push(typing);
                follower.wake.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn changed(&mut self, users: &BTreeSet<UserId>) {
        for follower in self.followers.values_mut() {
            let watched: Vec<UserId> =
                users.iter().filter(|user| follower.users.contains(user)).copied().collect();
            if !watched.is_empty() {
                follower.changed.extend(watched);
                follower.wake.notify_one();
            }
        }
    }

    fn all_changed(&mut self) {
        for follower in self.followers.values_mut() {
            follower.changed.clone_from(&follower.users);
            follower.is_due = true;
            follower.wake.notify_one();
        }
    }
}

impl Following {
    /// Notes that the gateway is there. Returns whether the call stands for it: not after its lease has ended.
    pub(crate) fn renew(&self) -> bool {
        self.hub.lock().board.renew(self.gateway, self.id, Instant::now())
    }

    /// Waits until there is something to receive.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Notes what the gateway watches from now on, and what no more. It is to receive how the added users are.
    pub(crate) fn watch(&self, changes: &rpc::WatchChanges) -> Result<(), UnreadableField> {
        let users = |field, bytes: &[u8]| Ok(unpack(field, bytes)?.into_iter().map(UserId));
        let chats = |field, bytes: &[u8]| Ok(unpack(field, bytes)?.into_iter().map(ChatId));
        let added: Vec<UserId> = users("added_users", &changes.added_users)?.collect();
        let removed = users("removed_users", &changes.removed_users)?;
        let added_chats = chats("added_chats", &changes.added_chats)?;
        let removed_chats = chats("removed_chats", &changes.removed_chats)?;
        let mut inner = self.hub.lock();
        let Some(follower) = inner.followers.get_mut(&self.id) else { return Ok(()) };
        follower.users.extend(&added);
        follower.changed.extend(&added);
        for user in removed {
            follower.users.remove(&user);
            follower.changed.remove(&user);
        }
        follower.chats.extend(added_chats);
        for chat in removed_chats {
            follower.chats.remove(&chat);
        }
        follower.wake.notify_one();
        Ok(())
    }

    /// Takes what the gateway is to receive: typing, and with `changes` also which users have changed.
    pub(crate) fn take(&self, with_changes: bool) -> Due {
        let mut inner = self.hub.lock();
        let Some(follower) = inner.followers.get_mut(&self.id) else { return Due::default() };
        let typing = std::mem::take(&mut follower.typing);
        if !with_changes {
            return Due { typing, ..Due::default() };
        }
        let is_due = std::mem::take(&mut follower.is_due);
        Due { changed: follower.changed.drain().collect(), typing, is_due }
    }

    /// Returns whether users have changed, or what absent users are has.
    pub(crate) fn has_changes(&self) -> bool {
        let inner = self.hub.lock();
        inner.followers.get(&self.id).is_some_and(|follower| follower.is_due || !follower.changed.is_empty())
    }

    /// Gives back what could not be sent.
    pub(crate) fn give_back(&self, changed: impl IntoIterator<Item = UserId>) {
        if let Some(follower) = self.hub.lock().followers.get_mut(&self.id) {
            follower.changed.extend(changed);
            follower.is_due = true;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut inner = self.hub.lock();
        inner.followers.remove(&self.id);
        inner.board.detach(self.gateway, self.id, Instant::now());
        drop(inner);
        self.hub.metrics.gateways.dec();
    }
}

fn users_of(gateway: GatewayId, version: u64, changes: &Changes) -> News {
    let gateway_id = gateway.0.as_bytes().to_vec();
    News::Users(rpc::GatewayUsers { gateway_id, version, changes: Some(changes.into()) })
}

#[expect(clippy::disallowed_methods, reason = "an edge: a name within this process")]
fn fresh() -> Uuid {
    Uuid::new_v4()
}
