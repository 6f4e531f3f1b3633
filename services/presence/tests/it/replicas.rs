//! Two replicas, and what becomes of presence when a part of it fails.

use std::time::{Duration, Instant};

use contracts::{
    ChatId,
    rpc::{GatewayHello, LookRequest, gateway_news::News, presence_service_client::PresenceServiceClient},
    wire::{PresenceState, TypingUser},
};
use kit::testing::wait_for;
use tonic::Code;
use uuid::Uuid;

use crate::{
    gateway::Gateway,
    stand::{HEARTBEAT, PATIENCE, Stand, user},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_learns_all_gateways_see() {
    let stand = Stand::create().await;
    let (one, two) = (stand.replica().await, stand.replica().await);
    let here = Gateway::attach(&one, &[user(1)]).await;
    let there = Gateway::attach(&two, &[user(2)]).await;
    let chat = ChatId(Uuid::new_v4());
    there.watch(&[user(1), user(3)], &[chat]).await;
    here.watch(&[user(2)], &[]).await;
    there.sees(user(1), PresenceState::Online).await;
    here.sees(user(2), PresenceState::Online).await;
    there.settles().await;
    assert_eq!(there.sees(user(3), PresenceState::Offline).await.last_seen_ms, None);

    here.report(user(1), PresenceState::Away).await;
    there.sees(user(1), PresenceState::Away).await;
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    here.report(user(1), PresenceState::Offline).await;
    let seen = there.sees(user(1), PresenceState::Offline).await.last_seen_ms.expect("a moment");
    assert!(u128::try_from(seen).expect("after 1970").abs_diff(before.as_millis()) < 30_000, "{seen}");

    let typing = TypingUser { chat, user: user(2) };
    here.send(News::Typing(typing.into())).await;
    wait_for("typing", PATIENCE, async || there.received(|of| of.typing.contains(&typing).then_some(())))
        .await;
    assert!(here.received(|of| of.typing.is_empty()), "it does not watch the chat");
    // A replica that starts later knows all.
    let three = stand.replica().await;
    let late = Gateway::attach(&three, &[]).await;
    late.watch(&[user(2)], &[]).await;
    late.sees(user(2), PresenceState::Online).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_killed_gateway_are_offline_within_two_heartbeats() {
    let stand = Stand::create().await;
    let (one, two) = (stand.replica().await, stand.replica().await);
    let killed = Gateway::attach(&one, &[user(1), user(2)]).await;
    let other = Gateway::attach(&two, &[user(2)]).await;
    other.watch(&[user(1), user(2), user(3)], &[]).await;
    other.sees(user(1), PresenceState::Online).await;
    other.settles().await;
    let began = Instant::now();
    killed.kill().await;
    assert!(other.sees(user(1), PresenceState::Offline).await.last_seen_ms.is_some());
    assert!(began.elapsed() < 3 * HEARTBEAT, "{:?}", began.elapsed());
    assert_eq!(other.sees(user(2), PresenceState::Online).await.last_seen_ms, None, "connected to another");

    // One that hangs keeps its connection.
    let began = Instant::now();
    let silent = Gateway::attach_as(Uuid::new_v4(), &one, &[user(3)]).await;
    other.sees(user(3), PresenceState::Online).await;
    other.sees(user(3), PresenceState::Offline).await;
    assert!(began.elapsed() < 5 * HEARTBEAT, "{:?}", began.elapsed());
    wait_for("the end of the call", PATIENCE, async || silent.received(|of| of.is_over.then_some(()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_moves_to_another_replica_takes_no_user_offline() {
    let stand = Stand::create().await;
    let (one, two) = (stand.replica().await, stand.replica().await);
    let moving = Gateway::attach(&one, &[user(1)]).await;
    let other = Gateway::attach(&two, &[]).await;
    other.watch(&[user(1)], &[]).await;
    other.settles().await;
    other.sees(user(1), PresenceState::Online).await;
    drop(one);
    wait_for("the end of the call", PATIENCE, async || moving.received(|of| of.is_over.then_some(()))).await;
    let moved = Gateway::attach_as(moving.id(), &two, &[user(1)]).await;
    // Longer than the old lease.
    let until = Instant::now() + 3 * HEARTBEAT;
    while Instant::now() < until {
        moved.all(&[user(1)]).await;
        tokio::time::sleep(HEARTBEAT / 4).await;
    }
    let states = other.received(|of| of.history.clone());
    assert!(states.iter().all(|of| of.state != PresenceState::Offline), "{states:?}");
    moved.all(&[]).await;
    other.sees(user(1), PresenceState::Offline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_takes_nothing_but_the_moments_of_the_past() {
    let stand = Stand::create().await;
    let (one, two) = (stand.replica().await, stand.replica().await);
    let here = Gateway::attach(&one, &[user(1), user(2)]).await;
    let there = Gateway::attach(&two, &[]).await;
    there.watch(&[user(1), user(2)], &[]).await;
    there.settles().await;
    here.report(user(2), PresenceState::Offline).await;
    assert!(there.sees(user(2), PresenceState::Offline).await.last_seen_ms.is_some());
    assert_eq!(stand.redis.keys("seen:").await.len(), 1, "all that is kept");
    stand.redis.flush().await;
    here.report(user(1), PresenceState::Away).await;
    there.sees(user(1), PresenceState::Away).await;
    let states = there.received(|of| of.history.clone());
    assert!(states.iter().all(|of| of.user != user(1) || of.state != PresenceState::Offline), "{states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_is_back_within_a_heartbeat_after_redis_was_away() {
    let stand = Stand::create().await;
    let (one, two) = (stand.replica().await, stand.replica().await);
    let here = Gateway::attach(&one, &[user(1)]).await;
    let there = Gateway::attach(&two, &[user(2)]).await;
    there.watch(&[user(1), user(2), user(3)], &[]).await;
    there.settles().await;
    there.sees(user(1), PresenceState::Online).await;

    stand.redis.set_down(true).await;
    // What only the other replica knows is unknown, and not offline.
    there.sees(user(1), PresenceState::Unknown).await;
    there.sees(user(3), PresenceState::Unknown).await;
    assert_eq!(there.sees(user(2), PresenceState::Online).await.last_seen_ms, None);
    here.report(user(1), PresenceState::Away).await;
    there.report(user(2), PresenceState::Away).await;
    there.sees(user(2), PresenceState::Away).await;

    stand.redis.flush().await;
    stand.redis.set_down(false).await;
    let began = Instant::now();
    there.sees(user(1), PresenceState::Away).await;
    // The wait before the next attempt to connect comes on top.
    assert!(began.elapsed() < HEARTBEAT + Duration::from_secs(3), "{:?}", began.elapsed());
    there.sees(user(3), PresenceState::Offline).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_its_tenants_own() {
    let (acme, globex) = (Stand::create().await, Stand::create().await);
    let channel = format!("mt:{}:presence", acme.tenant);
    let own = kit::redis::subscribe(&acme.redis.args(), &channel).await;
    assert!(own.is_ok(), "{:?}", own.err());
    let foreign = kit::redis::subscribe(&globex.redis.args(), &channel).await;
    let refused = foreign.err().expect("another tenant's channel");
    assert!(refused.to_string().to_lowercase().contains("permission"), "{refused}");
    let mut connection = kit::redis::connection(&globex.redis.args()).expect("settings");
    let published = redis::cmd("PUBLISH").arg(&channel).arg("x").query_async::<()>(&mut connection).await;
    let refused = published.expect_err("another tenant's channel");
    assert!(refused.to_string().to_lowercase().contains("permission"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_of_the_protocol_is_refused() {
    let stand = Stand::create().await;
    let replica = stand.replica().await;
    let mut client = PresenceServiceClient::new(replica.api.clone());
    let hello = contracts::rpc::GatewayNews { news: Some(News::Hello(GatewayHello { gateway_id: vec![1] })) };
    for first in [hello, contracts::rpc::GatewayNews { news: None }] {
        let sent = futures_util::stream::iter([first]);
        let mut news = client.attach(sent).await.expect("a call").into_inner();
        let refused = news.message().await.expect_err("no hello of ours");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let view =
        contracts::rpc::View { viewer_id: user(1).0.as_bytes().to_vec(), user_ids: vec![0; 1001 * 16] };
    let refused = client.look(LookRequest { views: vec![view] }).await.expect_err("too many users");
    assert_eq!(refused.code(), Code::InvalidArgument);
}
