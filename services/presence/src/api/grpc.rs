//! `posthouse.v1.PresenceService`, for the tenant's gateways.

use std::sync::Arc;

use contracts::{
    UserId,
    convert::UnreadableField,
    presence::{id, unpack},
    rpc::{
        self, GatewayNews, LookRequest, LookResponse, PresenceNews, Seen, gateway_news::News,
        presence_service_server::PresenceService,
    },
};
use futures_util::stream;
use kit::error::{InvalidField, status};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, async_trait, codegen::BoxStream};

use crate::{
    domain::{Changes, GatewayId},
    error::Error,
    hub::{Due, Following, Hub},
    users::{View, Visibility},
};

/// Most users of one call of `Look`.
const MAX_LOOKED_AT: usize = 1000;
/// Messages that wait for one gateway. While it is full, what changes is kept and sent later.
const SEND_QUEUE: usize = 64;

/// Serves from the hub.
pub struct PresenceRpc {
    hub: Arc<Hub>,
    visibility: Visibility,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

type Outgoing = Result<PresenceNews, Status>;

impl PresenceRpc {
    pub fn new(
        hub: Arc<Hub>,
        visibility: Visibility,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self { hub, visibility, tasks, shutdown }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
impl PresenceService for PresenceRpc {
    async fn attach(
        &self,
        request: Request<Streaming<GatewayNews>>,
    ) -> Result<Response<BoxStream<PresenceNews>>, Status> {
        let (sender, receiver) = mpsc::channel(SEND_QUEUE);
        let attached = serve(self.hub.clone(), request.into_inner(), sender, self.shutdown.clone());
        self.tasks.spawn(attached);
        let news =
            stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        Ok(Response::new(Box::pin(news)))
    }

    async fn look(&self, request: Request<LookRequest>) -> Result<Response<LookResponse>, Status> {
        let views = views(request.into_inner()).map_err(status)?;
        let visible = self.visibility.visible(&views).await.map_err(status)?;
        let users: Vec<UserId> = visible.iter().flatten().copied().collect();
        let (absent, states) = self.hub.states(&users).await;
        let mut states = states.into_iter().map(rpc::UserPresence::from);
        let seen = visible.iter().map(|users| Seen { users: states.by_ref().take(users.len()).collect() });
        Ok(Response::new(LookResponse { absent: rpc::Presence::from(absent).into(), seen: seen.collect() }))
    }
}

fn views(request: LookRequest) -> Result<Vec<View>, Error> {
    let view = |view: rpc::View| {
        let users = unpack("user_ids", &view.user_ids)?.into_iter().map(UserId).collect();
        Ok(View { viewer: UserId(id("viewer_id", &view.viewer_id)?), users })
    };
    let views: Vec<View> = request.views.into_iter().map(view).collect::<Result<_, UnreadableField>>()?;
    if views.iter().map(|view| view.users.len()).sum::<usize>() > MAX_LOOKED_AT {
        return Err(InvalidField { field: "views", problem: format!("at most {MAX_LOOKED_AT} users") }.into());
    }
    Ok(views)
}

/// Serves a gateway until it goes or is silent for the time of a lease.
async fn serve(
    hub: Arc<Hub>,
    mut inbound: Streaming<GatewayNews>,
    sender: mpsc::Sender<Outgoing>,
    shutdown: CancellationToken,
) {
    let hello = tokio::select! {
        () = shutdown.cancelled() => return,
        hello = inbound.message() => hello,
    };
    let gateway = match hello {
        Ok(Some(GatewayNews { news: Some(News::Hello(hello)) })) => match id("gateway_id", &hello.gateway_id)
        {
            Ok(gateway) => GatewayId(gateway),
            Err(error) => return refuse(&sender, error.into()),
        },
        Ok(_) => {
            let problem = "the first message is a hello".to_owned();
            return refuse(&sender, InvalidField { field: "news", problem }.into());
        }
        Err(_) => return,
    };
    let following = hub.attach(gateway);
    let mut attached = Attached { hub, gateway, following, sender, next_push: Instant::now() };
    if let Err(error) = attached.run(inbound, &shutdown).await {
        refuse(&attached.sender, error);
    }
}

fn refuse(sender: &mpsc::Sender<Outgoing>, error: Error) {
    // A gateway that does not read learns nothing.
    drop(sender.try_send(Err(status(error))));
}

struct Attached {
    hub: Arc<Hub>,
    gateway: GatewayId,
    following: Following,
    sender: mpsc::Sender<Outgoing>,
    /// When the gateway may receive changed users again.
    next_push: Instant,
}

impl Attached {
    async fn run(
        &mut self,
        mut inbound: Streaming<GatewayNews>,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        let times = self.hub.times;
        let mut silent_at = Instant::now() + 2 * times.heartbeat;
        loop {
            let waits = self.following.has_changes();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep_until(silent_at) => return Ok(()),
                news = inbound.message() => match news {
                    Ok(Some(GatewayNews { news })) => {
                        silent_at = Instant::now() + 2 * times.heartbeat;
                        // The gateway attaches again, with all its users.
                        if !self.following.renew() {
                            return Ok(());
                        }
                        self.take(news).await?;
                    }
                    // It ended, or its connection did.
                    Ok(None) | Err(_) => return Ok(()),
                },
                () = self.following.woken() => {}
                () = sleep_until(self.next_push), if waits => {}
            }
            self.push().await;
        }
    }

    async fn take(&self, news: Option<News>) -> Result<(), Error> {
        match news {
            Some(News::Users(changes)) => self.hub.report(self.gateway, &Changes::try_from(changes)?).await,
            Some(News::Watch(changes)) => self.following.watch(&changes)?,
            Some(News::Typing(typing)) => self.hub.typing(typing.try_into()?),
            // What a newer gateway sends beside is of no concern here.
            Some(News::Heartbeat(_) | News::Hello(_)) | None => {}
        }
        Ok(())
    }

    /// Sends what the gateway is to receive: typing now, changed users when they were not sent just now.
    async fn push(&mut self) {
        let now = Instant::now();
        let Due { changed, typing, is_due } = self.following.take(now >= self.next_push);
        if changed.is_empty() && typing.is_empty() && !is_due {
            return;
        }
        if is_due || !changed.is_empty() {
            self.next_push = now + self.hub.times.push_every;
        }
        let (absent, users) = self.hub.states(&changed).await;
        let news = PresenceNews {
            absent: rpc::Presence::from(absent).into(),
            users: users.into_iter().map(rpc::UserPresence::from).collect(),
            typing: typing.into_iter().map(rpc::TypingUser::from).collect(),
            heartbeat_ms: u32::try_from(self.hub.times.heartbeat.as_millis()).unwrap_or(u32::MAX),
        };
        match self.sender.try_send(Ok(news)) {
            Ok(()) => {
                self.hub.metrics.pushes.inc();
            }
            // A gateway that does not read: typing is worth nothing later.
            Err(_) => self.following.give_back(changed),
        }
    }
}
