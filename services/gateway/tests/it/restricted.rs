//! Users whom moderators let write nothing.

use std::time::Duration;

use contracts::{ErrorCode, MessageKey};
use gateway::Limits;
use tokio::time::timeout;
use uuid::Uuid;

use crate::stand::{chat, device, user, with_stand};

/// A push that has begun would be here by then.
const MOMENT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_that_it_is_of_moderators() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        for place in [Some(chat()), None] {
            stand.peers.restrict_silently(place, user(1));
            let id = one.send(chat(), MessageKey(Uuid::new_v4()), "muted").await;
            let refusal = one.outcome(id).await.expect_err("refused");
            assert_eq!(refusal.code, ErrorCode::PermissionDenied);
            assert!(refusal.detail.starts_with("moderators let you write nothing"), "{}", refusal.detail);
            stand.peers.release_silently(place, user(1));
            one.send_text(chat(), "again").await;
        }
        assert!(stand.sent().await.iter().all(|record| record.body != "muted"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_muted_user_receives_on_when_a_record_was_lost() {
    with_stand(Limits::default(), async |stand| {
        let [mut one, mut two, mut four] = stand.two_members_and_a_stranger().await;
        stand.peers.restrict_silently(Some(chat()), user(2));
        // One comes of whom the log has lost the record, as the one behind it shows: the gateway queries who is in the chat.
        stand.peers.join_silently(chat(), user(4));
        stand.peers.count_record(chat());
        stand.peers.join(chat(), &[user(5)]).await;
        // They are loaded behind the answers about all others.
        one.send_until_received(chat(), "who is here?", &mut four).await;
        while timeout(MOMENT, two.message()).await.is_ok() {}
        one.send_text(chat(), "and again").await;
        assert_eq!(two.message().await.body, "and again");
    })
    .await;
}
