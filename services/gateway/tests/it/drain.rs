//! A gateway that goes away.

use contracts::{MessageKey, wire::CloseCode};
use gateway::Limits;
use kit::testing::wait_for;
use uuid::Uuid;

use crate::{
    client::Client,
    stand::{PATIENCE, chat, device, get, user, with_stand},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_moved_away_with_their_answers() {
    const SENDS: usize = 100;
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let mut client = stand.connect(user(1), device(1)).await;
        let mut idle = Vec::new();
        for n in 0..30 {
            idle.push(stand.connect(user(2), device(n)).await);
        }
        for n in 0..SENDS {
            client.send(chat(), MessageKey(Uuid::new_v4()), &n.to_string()).await;
        }
        stand.gateway.shutdown.cancel();
        let mut accepted = 0;
        let code = loop {
            match client.frame().await {
                Ok(frame) => accepted += usize::from(frame.result.is_some()),
                Err(code) => break code,
            }
        };
        assert_eq!(code, Some(CloseCode::Drain.code()));
        // What was read is answered, and only what is in the log is accepted.
        let sent = stand.sent().await.len();
        assert_eq!(sent, accepted);
        for client in &mut idle {
            assert_eq!(client.closed().await, Some(CloseCode::Drain.code()));
        }
        wait_for("the end", PATIENCE, || async { stand.gateway.task.is_finished().then_some(()) }).await;
        assert!(Client::try_open(stand.gateway.http, None).await.is_err());
        assert!(get(stand.gateway.management, "/livez").await.is_err());
    })
    .await;
}
