//! Moments that end a connection.

use std::time::Duration;

use contracts::wire::CloseCode;
use gateway::Limits;

use crate::{
    client::Client,
    stand::{chat, device, user, with_settings, with_stand},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_token_is_closed() {
    let limits = Limits { connect_within: Duration::from_millis(300), ..Limits::default() };
    with_stand(limits, async |stand| {
        let mut silent = Client::open(stand.gateway.http).await;
        let mut known = stand.connect(user(1), device(1)).await;
        assert_eq!(silent.closed().await, Some(CloseCode::Stale.code()));
        assert!(known.receives_nothing(Duration::from_millis(300)).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_pong_is_closed() {
    let limits = Limits {
        ping_every: Duration::from_millis(200),
        pong_within: Duration::from_millis(400),
        ..Limits::default()
    };
    with_stand(limits, async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let mut gone = stand.connect(user(1), device(1)).await;
        gone.answers_pings = false;
        let mut here = stand.connect(user(1), device(2)).await;
        let code = tokio::select! {
            code = gone.closed() => code,
            _ = here.closed() => panic!("the one that answers was closed"),
        };
        assert_eq!(code, Some(CloseCode::NoPong.code()));
        assert_eq!(here.send_text(chat(), "here").await.seq, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_closes_the_oldest() {
    with_settings(
        |settings| settings.connections.connections_per_user = 2,
        async |stand| {
            stand.peers.join(chat(), &[user(1)]).await;
            let mut oldest = stand.connect(user(1), device(1)).await;
            let mut second = stand.connect(user(1), device(2)).await;
            let mut third = stand.connect(user(1), device(3)).await;
            assert_eq!(oldest.closed().await, Some(CloseCode::Superseded.code()));
            third.send_text(chat(), "two of us").await;
            assert_eq!(second.message().await.body, "two of us");
        },
    )
    .await;
}
