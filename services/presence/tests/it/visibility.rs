//! Who may see whom.

use contracts::{
    UserId,
    presence::pack,
    rpc::{LookRequest, View, presence_service_client::PresenceServiceClient},
    wire::UserPresence,
};
use kit::testing::unreachable_peer;
use presence::{Times, api::grpc::PresenceRpc, hub::Hub, store::MemoryStore, users::Visibility};
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request, Status};

use crate::{
    gateway::Gateway,
    stand::{Peers, Stand, user},
};
use contracts::rpc::presence_service_server::PresenceService as _;

fn view(viewer: UserId, users: &[UserId]) -> View {
    let user_ids = pack(users.iter().map(|user| user.0));
    View { viewer_id: viewer.0.as_bytes().to_vec(), user_ids }
}

/// Returns the users of each view whom the viewer sees, without the network.
async fn seen(visibility: Visibility, views: Vec<View>) -> Result<Vec<Vec<UserId>>, Status> {
    let hub = Hub::alone(Times::default(), Arc::new(MemoryStore::default()));
    let rpc = PresenceRpc::new(hub, visibility, TaskTracker::new(), CancellationToken::new());
    let response = rpc.look(Request::new(LookRequest { views })).await?.into_inner();
    let user = |of| UserPresence::try_from(of).expect("a presence").user;
    Ok(response.seen.into_iter().map(|seen| seen.users.into_iter().map(user).collect()).collect())
}

#[tokio::test]
async fn a_viewer_sees_whom_their_profile_or_a_chat_shows() {
    let peers = Peers::default();
    let (always, by_chat, never, blocked) = (user(2), user(3), user(4), user(5));
    peers.add(user(1), "shared_chats");
    peers.add(always, "always");
    peers.add(by_chat, "shared_chats");
    peers.add(never, "never");
    peers.add(blocked, "always");
    peers.add(user(6), "a setting of tomorrow");
    peers.block(blocked, user(1));
    for other in [by_chat, never, blocked, user(6)] {
        peers.meet(user(1), other);
    }
    let all = [user(1), always, by_chat, never, blocked, user(6), user(99)];
    let views = vec![view(user(1), &all), view(user(9), &all), view(user(9), &[])];
    let seen = seen(peers.visibility().await, views).await.expect("an answer");
    assert_eq!(seen, [vec![user(1), always, by_chat], vec![always, blocked], vec![]]);
}

#[tokio::test]
async fn who_cannot_be_checked_is_not_shown() {
    let visibility = Visibility::new(unreachable_peer(), unreachable_peer());
    let refused = seen(visibility, vec![view(user(1), &[user(2)])]).await.expect_err("no user service");
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_says_how_the_visible_are_and_nothing_of_others() {
    let stand = Stand::create().await;
    let replica = stand.replica().await;
    stand.peers.add(user(1), "always");
    stand.peers.add(user(2), "shared_chats");
    let gateway = Gateway::attach(&replica, &[user(1), user(2)]).await;
    gateway.watch(&[user(1)], &[]).await;
    gateway.sees(user(1), contracts::wire::PresenceState::Online).await;
    let request = LookRequest { views: vec![view(user(9), &[user(1), user(2)])] };
    let response = PresenceServiceClient::new(replica.api.clone()).look(request).await.expect("an answer");
    let [seen] = response.into_inner().seen.try_into().expect("one view");
    let [shown] = seen.users.try_into().expect("one user");
    let shown = UserPresence::try_from(shown).expect("a presence");
    assert_eq!((shown.user, shown.state), (user(1), contracts::wire::PresenceState::Online));
}
