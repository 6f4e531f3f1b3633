//! Presence: this gateway reports its users to the presence service, and follows what its connections watch.
//!
//! Nothing else depends on it. Without the service, or while it is down, chats go on, and users are unknown.

mod link;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{
    ChatId, ErrorCode, UserId,
    presence::pack,
    rpc::{self, LookRequest, presence_service_client::PresenceServiceClient},
    wire::{
        ActivityState, MAX_TYPING_MEMBERS, MAX_WATCHED_CHATS, MAX_WATCHED_USERS, Outcome, Presence as Shown,
        PresenceState, ServerFrame, TypingUser, UserPresence, Watch,
    },
};
use kit::{
    bucket::{Buckets, Rate},
    outage::Outage,
    rpc::{InternalChannel, within},
};
use tokio::sync::Notify;
use tonic::Status;
use uuid::Uuid;

pub(crate) use self::link::{follow, look_again};
use crate::{
    domain::{
        answer::{Answer, Refusal},
        frame::{Frame, Shared},
        reporter::Reporter,
        send_queue::Pushed,
        session::Identity,
        watches::{Pushes, Request, Watches},
    },
    membership::members::{Members, Standing},
    metrics::{Metrics, Push},
    registry::{Connection, Registry},
};

/// Requests to watch that a user may send: a screen changes when its user does something.
const WATCHES: Rate = Rate::every(Duration::from_millis(500), 20);
/// Typing that a user may report: a client repeats it every few seconds.
const TYPING: Rate = Rate::every(Duration::from_secs(1), 3);
/// A look that takes longer has failed.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Typing that waits for the presence service; of more, the newest is dropped.
const MAX_TYPING: usize = 1_000;

/// The presence of the users of this gateway, and of those whom they watch.
pub(crate) struct Presence {
    /// `None` when the tenant has no presence service.
    service: Option<PresenceServiceClient<InternalChannel>>,
    registry: Arc<Registry>,
    members: Arc<Members>,
    metrics: Metrics,
    outage: Outage,
    is_attached: AtomicBool,
    /// There is something to tell the presence service.
    changed: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    reporter: Reporter,
    /// Users of this gateway who may not be as they were.
    touched: HashSet<UserId>,
    watches: Watches,
    requests: u64,
    watch_rates: Buckets<UserId>,
    typing: Vec<TypingUser>,
    typing_rates: Buckets<UserId>,
    /// Connections that did not receive all changes: they read too slowly.
    behind: HashSet<Uuid>,
}

impl Presence {
    pub(crate) fn new(
        service: Option<InternalChannel>,
        registry: Arc<Registry>,
        members: Arc<Members>,
        metrics: Metrics,
    ) -> Self {
        let inner = Inner {
            reporter: Reporter::default(),
            touched: HashSet::new(),
            watches: Watches::default(),
            requests: 0,
            watch_rates: Buckets::new(WATCHES),
            typing: Vec::new(),
            typing_rates: Buckets::new(TYPING),
            behind: HashSet::new(),
        };
        Self {
            service: service.map(PresenceServiceClient::new),
            registry,
            members,
            metrics,
            outage: Outage::default(),
            is_attached: AtomicBool::new(false),
            changed: Notify::new(),
            inner: Mutex::new(inner),
        }
    }

    /// Notes that a user has one connection more.
    pub(crate) fn opened(&self, user: UserId) {
        self.touch(user);
    }

    /// Notes that a connection, which is not listed any more, is over.
    pub(crate) fn closed(&self, connection: &Connection) {
        let Some(Identity { user, .. }) = connection.identity() else { return };
        self.touch(user);
        if self.service.is_some() {
            let mut inner = self.lock();
            inner.watches.remove(connection.session);
            inner.behind.remove(&connection.session);
        }
    }

    /// Notes whether the user is at the device of a connection.
    pub(crate) fn activity(&self, connection: &Connection, user: UserId, state: ActivityState) {
        connection.set_activity(state);
        self.touch(user);
    }

    /// Replaces what a connection watches.
    pub(crate) fn watch(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        viewer: UserId,
        watch: Watch,
    ) -> Result<impl Future<Output = Answer> + Send + use<>, Refusal> {
        let Watch { users, chats } = watch;
        for (what, count, most) in
            [("users", users.len(), MAX_WATCHED_USERS), ("chats", chats.len(), MAX_WATCHED_CHATS)]
        {
            if count > most {
                let detail = format!("at most {most} {what} are watched by one connection");
                return Err(Refusal::new(ErrorCode::InvalidArgument, detail));
            }
        }
        let number = {
            let mut inner = self.lock();
            let wait = inner.watch_rates.try_take(viewer, Instant::now()).err();
            if let Some(wait) = wait {
                return Err(Refusal::rate_limited("you watch too often; wait before you do it again", wait));
            }
            inner.requests += 1;
            inner.requests
        };
        let request = Request { number, viewer, users, chats };
        let (this, connection) = (self.clone(), connection.clone());
        Ok(async move { this.answer(&connection, request).await })
    }

    async fn answer(&self, connection: &Connection, request: Request) -> Answer {
        if self.service.is_none() {
            let unknown = |user| UserPresence { user, state: PresenceState::Unknown, last_seen_ms: None };
            let users = request.users.into_iter().map(unknown).collect();
            return Ok(Outcome::Watching(Shown { users }));
        }
        let unavailable =
            || Refusal::new(ErrorCode::Unavailable, "presence is not available now; chats are: try again");
        if !self.is_attached.load(Ordering::Acquire) {
            return Err(unavailable());
        }
        let looked = self.look(&[(request.viewer, &request.users)]).await;
        let seen = looked.inspect_err(|error| self.failed(error)).map_err(|_| unavailable())?;
        let [visible] = seen.as_slice() else { return Err(unavailable()) };
        let mut inner = self.lock();
        let users = if self.registry.has(connection.session) {
            inner.watches.set(connection.session, request, visible)
        } else {
            Vec::new()
        };
        drop(inner);
        self.changed.notify_one();
        Ok(Outcome::Watching(Shown { users }))
    }

    /// Passes on that a member is typing, unless they do so too often or the chat has too many members.
    pub(crate) fn typing(&self, chat: ChatId, user: UserId) {
        if self.service.is_none() || !self.is_attached.load(Ordering::Acquire) {
            return;
        }
        if self.members.size_for(chat, user).is_none_or(|members| members > MAX_TYPING_MEMBERS) {
            return;
        }
        // A plain member of a channel writes nothing that others could wait for, nor does one whom moderators do not let.
        if matches!(self.members.standing(chat, user), Some(Standing::Reader | Standing::Restricted)) {
            return;
        }
        let mut inner = self.lock();
        let typing = TypingUser { chat, user };
        let is_taken = inner.typing_rates.try_take(user, Instant::now()).is_ok();
        if is_taken && inner.typing.len() < MAX_TYPING && !inner.typing.contains(&typing) {
            inner.typing.push(typing);
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Returns for each view how the users are whom the viewer may see.
    async fn look(&self, views: &[(UserId, &[UserId])]) -> Result<Vec<Vec<UserPresence>>, Status> {
        let Some(service) = &self.service else {
            return Err(Status::unavailable("there is no presence service"));
        };
        let view = |(viewer, users): &(UserId, &[UserId])| rpc::View {
            viewer_id: viewer.0.as_bytes().to_vec(),
            user_ids: pack(users.iter().map(|user| user.0)),
        };
        let request = LookRequest { views: views.iter().map(view).collect() };
        let response = within(LOOK_TIMEOUT, service.clone().look(request)).await?;
        let seen =
            response.seen.into_iter().map(|seen| readable(seen.users)).collect::<Result<Vec<_>, _>>()?;
        if seen.len() == views.len() {
            Ok(seen)
        } else {
            Err(Status::internal("the presence service answered another number of views"))
        }
    }

    /// Pushes changes to the connections that watch. A connection that reads too slowly receives them later.
    fn push(&self, pushes: Pushes) {
        for (session, users) in pushes {
            let Some(connection) = self.registry.get(session) else { continue };
            let frame = ServerFrame { presence: Some(Shown { users }), ..ServerFrame::default() };
            let frame = Frame::encode(connection.queue.form(), &frame);
            let pushed = connection.queue.push_fleeting(frame);
            self.metrics.count_push(Push::Presence, pushed);
            if pushed == Pushed::Dropped {
                self.lock().behind.insert(session);
            }
        }
    }

    /// Pushes all that it watches to every connection that missed something and reads again.
    fn catch_up(&self) {
        let behind = std::mem::take(&mut self.lock().behind);
        for session in behind {
            let Some(connection) = self.registry.get(session) else { continue };
            if connection.queue.is_crowded() {
                self.lock().behind.insert(session);
            } else {
                let users = self.lock().watches.all(session);
                self.push(Pushes::from([(session, users)]));
            }
        }
    }

    fn push_typing(&self, typing: TypingUser) {
        let sessions: Vec<Uuid> = self.lock().watches.of_chat(typing.chat).collect();
        let mut frame = Shared::new(|| ServerFrame { typing: Some(typing), ..ServerFrame::default() });
        for session in sessions {
            let Some(connection) = self.registry.get(session) else { continue };
            let Some(Identity { user, .. }) = connection.identity() else { continue };
            if user == typing.user || self.members.size_for(typing.chat, user).is_none() {
                continue;
            }
            let pushed = connection.queue.push_fleeting(frame.encoded(connection.queue.form()));
            self.metrics.count_push(Push::Typing, pushed);
        }
    }

    fn touch(&self, user: UserId) {
        if self.service.is_some() {
            self.lock().touched.insert(user);
            self.changed.notify_one();
        }
    }

    fn failed(&self, error: &Status) {
        self.outage.failed("following presence", error);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readable(users: Vec<rpc::UserPresence>) -> Result<Vec<UserPresence>, Status> {
    let users = users.into_iter().map(UserPresence::try_from).collect::<Result<_, _>>();
    users.map_err(|error| Status::internal(error.to_string()))
}
