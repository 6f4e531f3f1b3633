//! Things that are down: the log (a broker inside this process, to be switched off), and the cache.

use std::{net::SocketAddr, time::Duration};

use contracts::{ErrorCode, MessageKey, wire::Outcome};
use gateway::Limits;
use kit::{
    catalog::Topic,
    config::{KafkaArgs, RedisArgs, Tls, TrustArgs},
    testing::TestRealm,
};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    client::Client,
    peers::Peers,
    stand::{PARTITIONS, PATIENCE, Running, chat, config, device, user},
};

/// A gateway on a log in this process.
struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    peers: Peers,
    gateway: Running,
    client: Client,
}

impl World {
    /// Starts a gateway with one connected member of the chat. `before` is called when the gateway is about to start.
    async fn start(tenant: &str, before: impl FnOnce(&MockCluster<'static, DefaultProducerContext>)) -> Self {
        let cluster = MockCluster::new(1).expect("a broker");
        for topic in Topic::ALL {
            cluster.create_topic(&topic.of(tenant), PARTITIONS, 1).expect("a topic");
        }
        let kafka = KafkaArgs {
            kafka_bootstrap_servers: cluster.bootstrap_servers(),
            kafka_security_protocol: "plaintext".to_owned(),
            trust: TrustArgs::default(),
            kafka_username: "u".to_owned(),
            kafka_password: "p".into(),
            schema_ids: Vec::new(),
        };
        // Nothing listens there: no socket depends on the directory of connections.
        let redis = RedisArgs {
            redis_addr: SocketAddr::from(([127, 0, 0, 1], 9)).to_string(),
            redis_tls: Tls::Disabled,
            trust: TrustArgs::default(),
            redis_username: "u".to_owned(),
            redis_password: "p".into(),
        };
        let realm = TestRealm::start(tenant).await;
        let peers = Peers::new(tenant, &kafka);
        peers.join(chat(), &[user(1)]).await;
        let (invocation, _) = config(tenant, &kafka, &redis, &realm, peers.serve().await);
        let limits = Limits { produce_within: Duration::from_secs(1), ..Limits::default() };
        before(&cluster);
        let gateway = Running::start(invocation, limits).await;
        peers.number_messages(&kafka);
        let mut client = Client::open(gateway.http).await;
        client.connect(&realm.token(user(1), "one"), device(1)).await;
        Self { cluster, peers, gateway, client }
    }

    /// Sends until it is accepted, with one key.
    async fn send_until_accepted(&mut self, key: MessageKey) {
        loop {
            let id = self.client.send(chat(), key, "during").await;
            match self.client.answer(id).await {
                Ok(Outcome::Accepted(_)) => break,
                Err(ErrorCode::Unavailable) => {}
                Err(ErrorCode::RateLimited) => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_log_is_unavailable_and_comes_back() {
    let mut world = World::start("outage", |_| {}).await;
    assert_eq!(world.client.send_text(chat(), "before").await.seq, 1);

    world.cluster.broker_down(1).expect("a broker");
    let key = MessageKey(Uuid::new_v4());
    let id = world.client.send(chat(), key, "during").await;
    assert_eq!(world.client.answer(id).await.expect_err("no log"), ErrorCode::Unavailable);
    assert!(world.gateway.is_ready().await, "no gateway is better than another");

    world.cluster.broker_up(1).expect("a broker");
    // The outcome is unknown: the same key again, until it is accepted.
    world.send_until_accepted(key).await;
    let stored =
        world.client.push("stored", |frame| frame.stored.clone().filter(|stored| stored.key == key)).await;
    assert_eq!(stored.seq, 2);
    world.gateway.shutdown.cancel();
    world.gateway.task.await.expect("no panic").expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_lost_its_place_is_replaced() {
    // The right to write is missing for a moment, which is fatal to a producer that asks for its id then.
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    let mut world =
        World::start("fatal", |cluster| cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied]))
            .await;
    let key = MessageKey(Uuid::new_v4());
    let sent = timeout(PATIENCE, world.send_until_accepted(key)).await;
    sent.expect("another producer takes over");
    let stored = world.client.push("stored", |frame| frame.stored.clone()).await;
    assert_eq!((stored.key, stored.seq), (key, 1));
    drop(world.peers);
    world.gateway.shutdown.cancel();
    world.gateway.task.await.expect("no panic").expect("an orderly end");
}
