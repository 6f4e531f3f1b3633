//! The call that joins this gateway and a replica of the presence service.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use contracts::{
    rpc::{
        GatewayHello, GatewayNews, Heartbeat, PresenceNews, gateway_news::News,
        presence_service_client::PresenceServiceClient,
    },
    wire::{ActivityState, TypingUser},
};
use futures_util::stream;
use kit::{backoff::Backoff, rpc::InternalChannel};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::{Inner, Presence, readable};
use crate::domain::watches::View;

/// Waits between attempts to attach.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Messages to the presence service that wait; one that takes none for a heartbeat is left.
const SEND_QUEUE: usize = 16;
/// The users of this gateway are reported this often, at most.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// The heartbeat, before the presence service has said what it is; and how long states are good without the service.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Whether connections may still see whom they watch is looked at this often.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(60);
/// Most users of one call.
const LOOK_BATCH: usize = 1_000;

/// Keeps this gateway attached to the presence service, until stopped.
#[expect(clippy::disallowed_methods, reason = "an edge: the name of this process")]
pub(crate) async fn follow(presence: Arc<Presence>, stop: CancellationToken) {
    let Some(service) = presence.service.clone() else { return };
    let gateway = Uuid::new_v4();
    let mut backoff = Backoff::new(FIRST_WAIT..=LAST_WAIT);
    let mut known_until = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = attach(&presence, service.clone(), gateway, &mut backoff) => {
                if presence.is_attached.swap(false, Ordering::AcqRel) {
                    known_until = Instant::now() + HEARTBEAT;
                }
                let Err(error) = outcome;
                presence.failed(&error);
            }
        }
        if known_until <= Instant::now() {
            let pushes = presence.lock().watches.lost();
            presence.push(pushes);
        }
        if backoff.pause(&stop).await.is_break() {
            return;
        }
    }
}

async fn attach(
    presence: &Presence,
    mut service: PresenceServiceClient<InternalChannel>,
    gateway: Uuid,
    backoff: &mut Backoff,
) -> Result<Infallible, Status> {
    let (sender, receiver) = mpsc::channel(SEND_QUEUE);
    let hello = News::Hello(GatewayHello { gateway_id: gateway.as_bytes().to_vec() });
    let mut outgoing = Outgoing { sender, heartbeat: HEARTBEAT, sent_at: Instant::now() };
    outgoing.send(hello).await?;
    let sent =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut received = service.attach(sent).await?.into_inner();
    let all = {
        let mut inner = presence.lock();
        inner.watches.follow_again();
        presence.look_at_touched(&mut inner);
        inner.reporter.take_all()
    };
    outgoing.send(News::Users(all)).await?;
    outgoing.send_changes(presence).await?;
    let mut ticks = interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let heartbeat_at = outgoing.sent_at + outgoing.heartbeat / 2;
        tokio::select! {
            news = received.message() => {
                let news = news?.ok_or_else(|| Status::unavailable("the presence service ended the call"))?;
                if news.heartbeat_ms > 0 {
                    outgoing.heartbeat = Duration::from_millis(news.heartbeat_ms.into());
                }
                presence.receive(news)?;
                if !presence.is_attached.swap(true, Ordering::AcqRel) {
                    presence.outage.worked("following presence");
                    backoff.reset();
                }
            }
            () = presence.changed.notified() => outgoing.send_changes(presence).await?,
            _ = ticks.tick() => {
                outgoing.send_users(presence).await?;
                presence.catch_up();
            }
            () = sleep_until(heartbeat_at.into()) => outgoing.send(News::Heartbeat(Heartbeat {})).await?,
        }
    }
}

/// The sending side of the call.
struct Outgoing {
    sender: mpsc::Sender<GatewayNews>,
    heartbeat: Duration,
    sent_at: Instant,
}

impl Outgoing {
    async fn send(&mut self, news: News) -> Result<(), Status> {
        let sent = timeout(self.heartbeat, self.sender.send(GatewayNews { news: Some(news) })).await;
        self.sent_at = Instant::now();
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::unavailable("the presence service ended the call")),
            Err(_) => Err(Status::deadline_exceeded("the presence service does not read")),
        }
    }

    /// Sends what is watched, and who is typing.
    async fn send_changes(&mut self, presence: &Presence) -> Result<(), Status> {
        let (watch, typing) = {
            let mut inner = presence.lock();
            (inner.watches.take_changes(), std::mem::take(&mut inner.typing))
        };
        if let Some(watch) = watch {
            self.send(News::Watch(watch)).await?;
        }
        for typing in typing {
            self.send(News::Typing(typing.into())).await?;
        }
        Ok(())
    }

    /// Sends which users of this gateway have changed.
    async fn send_users(&mut self, presence: &Presence) -> Result<(), Status> {
        let changes = {
            let mut inner = presence.lock();
            presence.look_at_touched(&mut inner);
            inner.reporter.take(Instant::now())
        };
        match changes {
            Some(changes) => self.send(News::Users(changes)).await,
            None => Ok(()),
        }
    }
}

impl Presence {
    /// Notes how the users are who may not be as they were: as the most active of their connections.
    fn look_at_touched(&self, inner: &mut Inner) {
        let now = Instant::now();
        for user in std::mem::take(&mut inner.touched) {
            let mut state = None;
            self.registry.for_user(user, |connection| match (state, connection.activity()) {
                (Some(ActivityState::Online), _) => {}
                (_, activity) => state = Some(activity),
            });
            inner.reporter.note(user, state, now);
        }
    }

    fn receive(&self, news: PresenceNews) -> Result<(), Status> {
        let absent = news.absent().into();
        let users = readable(news.users)?;
        let pushes = self.lock().watches.update(absent, &users);
        self.push(pushes);
        for typing in news.typing {
            let typing = TypingUser::try_from(typing).map_err(|error| Status::internal(error.to_string()))?;
            self.push_typing(typing);
        }
        Ok(())
    }

    /// Looks again at whom connections may see; what cannot be looked at stays as it is.
    async fn look_at(&self, views: &[View]) {
        let asked: Vec<_> = views.iter().map(|view| (view.viewer, view.users.as_slice())).collect();
        match self.look(&asked).await {
            Ok(seen) => {
                for (view, visible) in views.iter().zip(seen) {
                    let changed = self.lock().watches.look_again(view, &visible);
                    if !changed.is_empty() {
                        self.push([(view.session, changed)].into());
                    }
                }
                self.changed.notify_one();
            }
            Err(error) => self.failed(&error),
        }
    }
}

/// Looks now and then whether connections may still see whom they watch, until stopped.
pub(crate) async fn look_again(presence: Arc<Presence>, stop: CancellationToken) {
    if presence.service.is_none() {
        return;
    }
    let mut rounds = interval(LOOK_AGAIN_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let views = presence.lock().watches.views();
        for batch in batches(&views) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = presence.look_at(batch) => {}
            }
        }
    }
}

/// Returns the views in calls of so many users as one may have.
fn batches(views: &[View]) -> Vec<&[View]> {
    let (mut batches, mut start, mut users) = (Vec::new(), 0, 0);
    for (at, view) in views.iter().enumerate() {
        if users + view.users.len() > LOOK_BATCH && at > start {
            batches.push(&views[start..at]);
            (start, users) = (at, 0);
        }
        users += view.users.len();
    }
    if start < views.len() {
        batches.push(&views[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use contracts::UserId;

    use super::*;

    #[test]
    fn a_call_has_so_many_users_and_every_view_is_in_one() {
        let view = |users: usize| View {
            session: Uuid::nil(),
            number: 0,
            viewer: UserId(Uuid::nil()),
            users: vec![UserId(Uuid::nil()); users],
        };
        let check = |sizes: &[usize], expected: &[usize]| {
            let views: Vec<View> = sizes.iter().map(|size| view(*size)).collect();
            assert_eq!(batches(&views).iter().map(|batch| batch.len()).collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(&[200], &[1]);
        check(&[200; 12], &[5, 5, 2]);
        check(&[LOOK_BATCH, 1, LOOK_BATCH], &[1, 1, 1]);
    }
}
