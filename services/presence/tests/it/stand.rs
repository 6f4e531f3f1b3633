//! Replicas of one tenant on the real Redis, with peers in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use contracts::{
    UserId,
    rpc::{
        CheckBlocksRequest, CheckBlocksResponse, CheckPresenceRequest, CheckPresenceResponse,
        ListAcquaintancesRequest, ListAcquaintancesResponse,
        chat_service_server::{ChatService, ChatServiceServer},
        presence_service_server::PresenceServiceServer,
        user_service_server::{UserService, UserServiceServer},
    },
};
use kit::{
    log::Log,
    rpc::InternalChannel,
    testing::{TestCache, serve_peer},
};
use presence::{
    Times, api::grpc::PresenceRpc, events::Channel, hub::Hub, keep_time, samples::Sampler, store::RedisStore,
    users::Visibility,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, service::Routes};
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(30);
/// Short, so that a story does not wait long, and long enough for a busy machine.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// Longer than the lease of a replica, as it is outside of tests.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const TIMES: Times = Times { heartbeat: HEARTBEAT, push_every: Duration::from_millis(100) };

pub fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(0x1000 + n))
}

/// A tenant's part of Redis, and its user and chat service.
pub struct Stand {
    pub tenant: String,
    pub redis: TestCache,
    pub peers: Peers,
}

impl Stand {
    pub async fn create() -> Self {
        let tenant = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
        Self { redis: TestCache::create(&tenant).await, tenant, peers: Peers::default() }
    }

    /// Starts a replica of the presence service.
    pub async fn replica(&self) -> Replica {
        self.start(None).await
    }

    /// Starts a replica that publishes samples to this log.
    pub async fn sampling_replica(&self, log: &Log) -> Replica {
        self.start(Some(log)).await
    }

    async fn start(&self, samples: Option<&Log>) -> Replica {
        let args = self.redis.args();
        let connection = || kit::redis::connection(&args).expect("settings of a connection");
        let store = Arc::new(RedisStore::new(connection(), &self.tenant));
        let (hub, news) = Hub::new(TIMES, store);
        let (channel, stop) = (Channel::new(args.clone(), &self.tenant), CancellationToken::new());
        tokio::spawn(Channel::publish(channel.name(), connection(), news, hub.clone(), stop.clone()));
        tokio::spawn(channel.follow(hub.clone(), stop.clone()));
        tokio::spawn(keep_time(hub.clone(), stop.clone()));
        if let Some(log) = samples {
            let users = self.peers.channel().await;
            let sampler = Sampler::new(hub.clone(), users, log, &self.tenant, SAMPLE_EVERY);
            tokio::spawn(sampler.expect("a producer").run(stop.clone()));
        }
        let visibility = self.peers.visibility().await;
        let rpc = PresenceRpc::new(hub, visibility, TaskTracker::new(), stop.clone());
        let api = serve_peer(Routes::new(PresenceServiceServer::new(rpc))).await;
        Replica { api, stop }
    }
}

/// A replica of the presence service; it ends when it is dropped.
pub struct Replica {
    pub api: InternalChannel,
    stop: CancellationToken,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The user and the chat service in memory.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// To whom users show their presence, as the user service says.
    shown: BTreeMap<String, String>,
    /// Pairs of users of whom one has blocked the other.
    blocked: BTreeSet<(String, String)>,
    /// Pairs of users who share a chat.
    met: BTreeSet<(String, String)>,
}

impl Peers {
    /// Serves both until the test ends.
    pub async fn channel(&self) -> InternalChannel {
        let routes = Routes::new(UserServiceServer::new(self.clone()))
            .add_service(ChatServiceServer::new(self.clone()));
        serve_peer(routes).await
    }

    pub async fn visibility(&self) -> Visibility {
        let channel = self.channel().await;
        Visibility::new(channel.clone(), channel)
    }

    /// Adds a user who shows their presence to these: "always", "shared_chats" or "never".
    pub fn add(&self, user: UserId, shown: &str) {
        self.0.lock().expect("no panic").shown.insert(user.to_string(), shown.to_owned());
    }

    /// Lets one of two users block the other.
    pub fn block(&self, one: UserId, other: UserId) {
        let (one, other) = (one.to_string(), other.to_string());
        self.0.lock().expect("no panic").blocked.extend([(one.clone(), other.clone()), (other, one)]);
    }

    /// Lets two users share a chat.
    pub fn meet(&self, one: UserId, other: UserId) {
        let (one, other) = (one.to_string(), other.to_string());
        self.0.lock().expect("no panic").met.extend([(one.clone(), other.clone()), (other, one)]);
    }
}

#[tonic::async_trait]
impl UserService for Peers {
    async fn check_presence(
        &self,
        request: Request<CheckPresenceRequest>,
    ) -> Result<Response<CheckPresenceResponse>, Status> {
        let known = self.0.lock().expect("no panic");
        let shown = |user| known.shown.get(user).map_or("never", String::as_str).to_owned();
        let shown = request.into_inner().user_ids.iter().map(shown).collect();
        Ok(Response::new(CheckPresenceResponse { shown }))
    }
}

#[tonic::async_trait]
impl ChatService for Peers {
    async fn list_acquaintances(
        &self,
        request: Request<ListAcquaintancesRequest>,
    ) -> Result<Response<ListAcquaintancesResponse>, Status> {
        let ListAcquaintancesRequest { user_id, other_ids } = request.into_inner();
        let known = self.0.lock().expect("no panic");
        let user_ids =
            other_ids.into_iter().filter(|other| known.met.contains(&(user_id.clone(), other.clone())));
        Ok(Response::new(ListAcquaintancesResponse { user_ids: user_ids.collect() }))
    }

    async fn check_blocks(
        &self,
        request: Request<CheckBlocksRequest>,
    ) -> Result<Response<CheckBlocksResponse>, Status> {
        let CheckBlocksRequest { user_id, other_ids } = request.into_inner();
        let known = self.0.lock().expect("no panic");
        let is_blocked = |other: String| known.blocked.contains(&(user_id.clone(), other));
        Ok(Response::new(CheckBlocksResponse { is_blocked: other_ids.into_iter().map(is_blocked).collect() }))
    }
}
