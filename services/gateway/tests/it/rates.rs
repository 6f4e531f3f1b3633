//! Users who send more than their share.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use contracts::{
    ChatId, ErrorCode, MessageKey,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, VERSION},
    wire::Outcome,
};
use gateway::{Limits, RateLimits};
use kit::{catalog::Rate, clock::now_ms, config::SendRates};
use uuid::Uuid;

use crate::{
    client::Client,
    stand::{UNLIMITED, chat, device, user, with_rates},
};

/// So slow that no token is added while a story runs.
const BURST_ONLY: RateLimits = RateLimits {
    sends: SendRates {
        user_sends: Rate::per_second(1, 20),
        chat_sends: Rate::per_second(1, 30),
        ..UNLIMITED.sends
    },
    ..UNLIMITED
};
/// Tokens that may be added nevertheless, on a machine that is very busy.
const SLACK: usize = 15;

/// Sends this many messages at once and returns how many were accepted; all others were refused with a time to wait.
async fn send_many(client: &mut Client, chat: ChatId, count: usize) -> usize {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.send(chat, MessageKey(Uuid::new_v4()), "more").await);
    }
    let mut accepted = 0;
    for id in ids {
        match client.outcome(id).await {
            Ok(Outcome::Accepted(_)) => accepted += 1,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::RateLimited, "{}", error.detail);
                assert!(
                    error.temporary && error.retry_after_ms.is_some_and(|wait| (1..=1_001).contains(&wait))
                );
            }
            other => panic!("{other:?}"),
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_one_limit_over_all_connections() {
    with_rates(Limits::default(), BURST_ONLY, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut accepted = 0;
        let mut clients = Vec::new();
        for n in 1..=4 {
            let mut client = stand.connect(user(1), device(n)).await;
            accepted += send_many(&mut client, chat(), 20).await;
            clients.push(client);
        }
        assert!((20..20 + SLACK).contains(&accepted), "{accepted} of 80 were accepted");
        let mut other = stand.connect(user(2), device(1)).await;
        other.send_text(chat(), "may I?").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_has_one_limit_over_all_members_and_strangers_use_none_of_it() {
    with_rates(Limits::default(), BURST_ONLY, async |stand| {
        let (busy, quiet) = (chat(), ChatId(Uuid::new_v4()));
        stand.peers.join(busy, &[user(1), user(2), user(3)]).await;
        stand.peers.join(quiet, &[user(3)]).await;
        let mut stranger = stand.connect(user(9), device(1)).await;
        for _ in 0..20 {
            let id = stranger.send(busy, MessageKey(Uuid::new_v4()), "let me in").await;
            assert_eq!(stranger.answer(id).await.expect_err("refused"), ErrorCode::NotAMember);
        }
        let mut accepted = 0;
        let mut clients = Vec::new();
        for n in 1..=3 {
            let mut client = stand.connect(user(n), device(1)).await;
            accepted += send_many(&mut client, busy, 15).await;
            clients.push(client);
        }
        assert!((30..30 + SLACK).contains(&accepted), "{accepted} of 45 were accepted");
        clients[2].send_text(quiet, "somewhere else").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_sends_through_another_gateway_counts() {
    const ELSEWHERE: i64 = 60;
    with_rates(Limits::default(), BURST_ONLY, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let quiet = ChatId(Uuid::new_v4());
        stand.peers.join(quiet, &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        for seq in 1..=ELSEWHERE {
            let outcome = DeliveryOutcome::stored(seq, EntryKind::Text, "from elsewhere", now_ms());
            let (sender, device, key) = (user(1), device(9), MessageKey(Uuid::new_v4()));
            let record = DeliveredRecord { v: VERSION, chat: chat(), sender, device, key, outcome };
            stand.peers.announce(&record).await;
        }
        while two.message().await.seq != ELSEWHERE {}
        let id = one.send(quiet, MessageKey(Uuid::new_v4()), "and here").await;
        let error = one.outcome(id).await.expect_err("one too many");
        assert_eq!(error.code, ErrorCode::RateLimited);
        two.send_text(quiet, "I sent nothing").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_behind_a_refused_message_is_refused_until_that_one_has_come_again() {
    let sends = SendRates { user_sends: Rate::per_second(20, 5), ..UNLIMITED.sends };
    let limits = RateLimits { sends, ..UNLIMITED };
    with_rates(Limits::default(), limits, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut client = stand.connect(user(1), device(1)).await;
        let mut left: VecDeque<(usize, MessageKey)> =
            (0..40).map(|number| (number, MessageKey(Uuid::new_v4()))).collect();
        // As a client does that repeats what was refused, in its order, beside what is on its way.
        while !left.is_empty() {
            let mut sent = Vec::new();
            for (number, key) in left.drain(..) {
                sent.push((number, key, client.send(chat(), key, &number.to_string()).await));
            }
            let mut wait = Duration::ZERO;
            for (number, key, id) in sent {
                if let Err(error) = client.outcome(id).await {
                    assert_eq!(error.code, ErrorCode::RateLimited);
                    wait =
                        wait.max(Duration::from_millis(error.retry_after_ms.expect("a time to wait").into()));
                    left.push_back((number, key));
                }
            }
            tokio::time::sleep(wait).await;
        }
        let bodies: Vec<usize> =
            stand.sent().await.iter().map(|record| record.body.parse().expect("a number")).collect();
        assert_eq!(bodies, (0..40).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_in_slow_mode_takes_one_message_of_a_member() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        let quick = ChatId(Uuid::from_u128(77));
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        stand.peers.join(quick, &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "quick").await;
        one.send_text(chat(), "as before").await;
        stand.peers.slow(chat(), 3_600).await;
        while one.message().await.kind != EntryKind::SlowModeChanged {}
        let key = MessageKey(Uuid::new_v4());
        let id = one.send(chat(), key, "the last for an hour").await;
        assert!(matches!(one.outcome(id).await, Ok(Outcome::Accepted(_))));
        let id = one.send(chat(), MessageKey(Uuid::new_v4()), "too soon").await;
        let error = one.outcome(id).await.expect_err("too soon");
        assert_eq!((error.code, error.temporary), (ErrorCode::SlowMode, false));
        assert!(error.retry_after_ms.is_some_and(|wait| wait > 3_000_000), "{error:?}");
        // A key is of one chat: what is on its way under it in another one is another message.
        let reused = MessageKey(Uuid::new_v4());
        let elsewhere = one.send(quick, reused, "nothing else waits").await;
        let here = one.send(chat(), reused, "too soon, under a key that is on its way").await;
        let error = one.outcome(here).await.expect_err("too soon");
        assert_eq!(error.code, ErrorCode::SlowMode);
        assert!(matches!(one.outcome(elsewhere).await, Ok(Outcome::Accepted(_))));
        let id = one.send(chat(), key, "the last for an hour").await;
        let repeated = one.outcome(id).await;
        assert!(matches!(repeated, Ok(Outcome::Accepted(_))), "it is the same message: {repeated:?}");
        two.send_text(chat(), "each for themselves").await;
        stand.peers.slow(chat(), 0).await;
        while one.message().await.body != "0" {}
        one.send_text(chat(), "it is over").await;
    })
    .await;
}

/// A gateway that begins knows nothing of what was sent before, and the chat's log does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_mode_holds_on_a_gateway_that_was_not_there() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        stand.peers.clock_ms.store(now_ms(), Ordering::SeqCst);
        stand.peers.slow_mode_seconds.store(3_600, Ordering::SeqCst);
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        let key = MessageKey(Uuid::new_v4());
        // The check says that the chat is slow.
        let id = one.send(chat(), key, "the last for an hour").await;
        assert!(matches!(one.outcome(id).await, Ok(Outcome::Accepted(_))));
        assert_eq!(two.message().await.body, "the last for an hour");
        let other = stand.another_gateway().await;
        let mut one = Client::open(other.http).await;
        one.connect(&stand.realm.token(user(1), "someone"), device(1)).await;
        let id = one.send(chat(), MessageKey(Uuid::new_v4()), "too soon").await;
        let error = one.outcome(id).await.expect_err("too soon");
        assert_eq!(error.code, ErrorCode::SlowMode);
        assert!(error.retry_after_ms.is_some_and(|wait| wait > 3_000_000), "{error:?}");
        let id = one.send(chat(), key, "the last for an hour").await;
        assert!(matches!(one.outcome(id).await, Ok(Outcome::Accepted(_))), "it is the same message");
        let mut three = Client::open(other.http).await;
        three.connect(&stand.realm.token(user(3), "someone"), device(1)).await;
        let id = three.send(chat(), MessageKey(Uuid::new_v4()), "the first of mine").await;
        assert!(matches!(three.outcome(id).await, Ok(Outcome::Accepted(_))));
        let id = three.send(chat(), MessageKey(Uuid::new_v4()), "and the second").await;
        assert_eq!(three.outcome(id).await.expect_err("too soon").code, ErrorCode::SlowMode);
        other.end().await;
    })
    .await;
}
