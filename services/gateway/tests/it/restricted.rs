//! Users whom moderators let write nothing.

use std::{sync::atomic::Ordering, time::Duration};

use contracts::{ErrorCode, MessageKey};
use gateway::Limits;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    client::Client,
    peers::Peers,
    stand::{PARTITIONS, chat, device, user, with_stand},
};

/// A push that has begun would be here by then.
const MOMENT: Duration = Duration::from_millis(300);

/// Waits until the gateway has read all that is in `chat.events`, as a client of the second user shows.
async fn has_read(peers: &Peers, two: &mut Client) {
    peers.tell_in_each_partition(chat(), user(2)).await;
    for _ in 0..PARTITIONS {
        two.push("own_state", |frame| frame.own_state.clone()).await;
    }
}

async fn refusal(client: &mut Client, body: &str) -> ErrorCode {
    let id = client.send(chat(), MessageKey(Uuid::new_v4()), body).await;
    client.answer(id).await.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_holds_for_the_next_text_on_an_open_connection() {
    with_stand(Limits::default(), async |stand| {
        let [mut one, mut two, _] = stand.two_members_and_a_stranger().await;
        for place in [Some(chat()), None] {
            two.send_text(chat(), "before").await;
            stand.peers.restrict(place, user(2)).await;
            has_read(&stand.peers, &mut two).await;
            for _ in 0..2 {
                assert_eq!(refusal(&mut two, "muted").await, ErrorCode::PermissionDenied, "{place:?}");
            }
            one.send_text(chat(), "others write on").await;
            stand.peers.release(place, user(2)).await;
            has_read(&stand.peers, &mut two).await;
            two.send_text(chat(), "after").await;
        }
        assert!(stand.sent().await.iter().all(|record| record.body != "muted"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_of_which_nothing_was_read_holds_from_the_second_text_on() {
    with_stand(Limits::default(), async |stand| {
        let [_, mut two, _] = stand.two_members_and_a_stranger().await;
        stand.peers.restrict_silently(Some(chat()), user(2));
        // It is in the log when its check is concluded.
        two.send_text(chat(), "on its way").await;
        for _ in 0..2 {
            assert_eq!(refusal(&mut two, "muted").await, ErrorCode::PermissionDenied);
        }
        assert!(stand.sent().await.iter().all(|record| record.body != "muted"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_muted_writes_nothing_on_a_new_connection_and_in_a_chat_that_they_come_back_to() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        stand.peers.restrict_silently(Some(chat()), user(2));
        let mut two = stand.connect(user(2), device(1)).await;
        assert_eq!(refusal(&mut two, "muted").await, ErrorCode::PermissionDenied);
        // A ban removes them, and another member brings them back.
        stand.peers.leave(chat(), user(2)).await;
        stand.peers.join(chat(), &[user(2)]).await;
        has_read(&stand.peers, &mut two).await;
        assert_eq!(refusal(&mut two, "muted").await, ErrorCode::PermissionDenied);
        assert!(stand.sent().await.iter().all(|record| record.body != "muted"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_chat_service_who_is_muted_waits() {
    with_stand(Limits::default(), async |stand| {
        let [mut one, mut two, _] = stand.two_members_and_a_stranger().await;
        two.send_text(chat(), "before").await;
        stand.peers.restrict(None, user(2)).await;
        has_read(&stand.peers, &mut two).await;
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        one.send_text(chat(), "others go on").await;
        assert_eq!(refusal(&mut two, "muted").await, ErrorCode::Unavailable);
        assert!(stand.sent().await.iter().all(|record| record.body != "muted"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_of_a_muted_user_says_nothing_of_how_long_others_wait() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.slow_mode_seconds.store(600, Ordering::SeqCst);
        stand.peers.restrict_silently(None, user(2));
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        assert_eq!(refusal(&mut two, "muted").await, ErrorCode::PermissionDenied);
        one.send_text(chat(), "first").await;
        assert_eq!(refusal(&mut one, "second").await, ErrorCode::SlowMode);
    })
    .await;
}

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
