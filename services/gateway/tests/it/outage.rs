//! Things that are down: the log (a broker inside this process, to be switched off), and the cache.

use std::{net::SocketAddr, time::Duration};

use contracts::{ErrorCode, MessageKey, wire::Outcome};
use gateway::Limits;
use kit::{
    catalog::Topic,
    config::{KafkaArgs, RedisArgs},
    testing::TestRealm,
};
use rdkafka::mocking::MockCluster;
use uuid::Uuid;

use crate::{
    client::Client,
    peers::Peers,
    stand::{PARTITIONS, Running, chat, config, device, user},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_log_is_unavailable_and_comes_back() {
    let tenant = "outage";
    let cluster = MockCluster::new(1).expect("a broker");
    for topic in [Topic::MessageSend, Topic::MessageDelivered, Topic::ChatEvents] {
        cluster.create_topic(&topic.of(tenant), PARTITIONS, 1).expect("a topic");
    }
    let kafka = KafkaArgs {
        kafka_bootstrap_servers: cluster.bootstrap_servers(),
        kafka_security_protocol: "plaintext".to_owned(),
        kafka_username: "u".to_owned(),
        kafka_password: "p".into(),
    };
    // Nothing listens there: no socket depends on the session directory.
    let redis = RedisArgs {
        redis_addr: SocketAddr::from(([127, 0, 0, 1], 9)).to_string(),
        redis_username: "u".to_owned(),
        redis_password: "p".into(),
    };
    let realm = TestRealm::start(tenant).await;
    let peers = Peers::new(tenant, &kafka);
    let (invocation, _) = config(tenant, &kafka, &redis, &realm, peers.serve().await);
    let limits = Limits { produce_within: Duration::from_secs(1), ..Limits::default() };
    let gateway = Running::start(invocation, limits).await;
    peers.number_messages(&kafka);
    peers.join(chat(), &[user(1)]).await;
    let mut client = Client::open(gateway.http).await;
    client.connect(&realm.token(user(1), "one"), device(1)).await;
    assert_eq!(client.send_text(chat(), "before").await.seq, 1);

    cluster.broker_down(1).expect("a broker");
    let key = MessageKey(Uuid::new_v4());
    let id = client.send(chat(), key, "during").await;
    assert_eq!(client.answer(id).await.expect_err("no log"), ErrorCode::Unavailable);
    assert!(gateway.is_ready().await, "no gateway is better than another");

    cluster.broker_up(1).expect("a broker");
    // The outcome is unknown: the same key again, until it is accepted.
    loop {
        let id = client.send(chat(), key, "during").await;
        match client.answer(id).await {
            Ok(Outcome::Accepted(_)) => break,
            Err(ErrorCode::Unavailable) => {}
            other => panic!("{other:?}"),
        }
    }
    let stored = client.push("stored", |frame| frame.stored.clone().filter(|stored| stored.key == key)).await;
    assert_eq!(stored.seq, 2);
    gateway.shutdown.cancel();
    gateway.task.await.expect("no panic").expect("an orderly end");
}
