//! What 5,000 connected users cost.

use std::time::Instant;

use contracts::{UserId, rpc::ReplicaNews, wire::PresenceState};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::time::timeout;

use crate::{
    gateway::Gateway,
    stand::{HEARTBEAT, Stand, user},
};

const USERS: u128 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_of_5_000_users_is_one_small_message() {
    let stand = Stand::create().await;
    let (one, two) = (stand.replica().await, stand.replica().await);
    let users: Vec<UserId> = (0..USERS).map(user).collect();
    let channel = format!("mt:{}:presence", stand.tenant);
    let mut messages = kit::redis::subscribe(&stand.redis.args(), &channel).await.expect("a subscription");

    let began = Instant::now();
    let gateway = Gateway::attach(&one, &users).await;
    let other = Gateway::attach(&two, &[]).await;
    other.watch(&[user(0), user(USERS - 1)], &[]).await;
    other.sees(user(USERS - 1), PresenceState::Online).await;
    report(format!("{USERS} users known to the other replica after {:?}", began.elapsed()));
    other.settles().await;

    // What goes over Redis while no user comes or goes.
    while timeout(HEARTBEAT / 8, messages.next()).await.is_ok() {}
    let (mut count, mut bytes) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < 3 * HEARTBEAT {
        let Ok(Some(message)) = timeout(HEARTBEAT, messages.next()).await else { continue };
        count += 1;
        bytes += message.get_payload_bytes().len();
    }
    report(format!("{count} messages of {bytes} bytes over Redis in three heartbeats of two replicas"));
    assert!(count <= 8 && bytes <= 100 * count, "{count} messages of {bytes} bytes");
    assert!(stand.redis.keys("").await.is_empty(), "nothing is kept of who is connected");

    // All of them go at once.
    let began = Instant::now();
    gateway.all(&[]).await;
    other.sees(user(0), PresenceState::Offline).await;
    report(format!("{USERS} users offline for the other replica after {:?}", began.elapsed()));
    let mut largest = 0;
    while let Ok(Some(message)) = timeout(HEARTBEAT / 8, messages.next()).await {
        largest = largest.max(message.get_payload_bytes().len());
        assert!(ReplicaNews::decode(message.get_payload_bytes()).is_ok());
    }
    assert!(largest < 1_000, "{largest} bytes");
    assert_eq!(stand.redis.keys("seen:").await.len() as u128, USERS);
}

#[expect(clippy::print_stdout, reason = "figures for the reader of the test's output")]
fn report(figure: String) {
    println!("{figure}");
}
