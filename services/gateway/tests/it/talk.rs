//! Users who exchange messages.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, VERSION},
    wire::{Ack, Command, Outcome, Send, Sync},
};
use gateway::Limits;
use kit::{catalog::Topic, testing::wait_for};
use tokio::time::timeout;
use uuid::Uuid;

use crate::stand::{PATIENCE, UNLIMITED, chat, device, user, with_encodings, with_rates, with_stand};

/// A push that should not come would be here by then: those that should take milliseconds.
const MOMENT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_talk() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut phone = stand.connect(user(1), device(1)).await;
        let mut desk = stand.connect(user(1), device(2)).await;
        let mut other = stand.connect(user(2), device(1)).await;
        let mut stranger = stand.connect(user(3), device(1)).await;

        let stored = phone.send_text(chat(), "hello").await;
        assert_eq!(stored.seq, 1);
        for listener in [&mut desk, &mut other] {
            let message = listener.message().await;
            assert_eq!((message.seq, message.sender, message.body.as_str()), (1, user(1), "hello"));
        }
        assert_eq!(other.send_text(chat(), "hi \u{202e}\u{0}\"").await.seq, 2);
        assert_eq!(phone.message().await.body, "hi \u{202e}\u{0}\"");
        assert!(stranger.receives_nothing(MOMENT).await);

        let page = phone.history(chat(), 0).await.expect("a page");
        assert_eq!(page.head_seq, 2);
        assert_eq!(page.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(phone.history(chat(), 1).await.expect("a page").messages.len(), 1);

        // The same key again: the original seq, no second message.
        let id = phone.send(chat(), stored.key, "hello").await;
        assert!(matches!(phone.answer(id).await, Ok(Outcome::Accepted(_))));
        let repeated = phone.push("stored", |frame| frame.stored.clone()).await;
        assert_eq!((repeated.seq, repeated.sent_at_ms), (1, None));
        assert!(other.receives_nothing(MOMENT).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_may_be_answered_by_its_seq_alone() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut phone = stand.connect(user(1), device(1)).await;
        let mut other = stand.connect(user(2), device(1)).await;
        let key = MessageKey(Uuid::new_v4());
        let send = |chat| Command::Send(Send { ack: Ack::Stored, ..Send::text(chat, key, "hello") });
        phone.command(send(chat())).await;
        let stored = phone.push("stored", |frame| frame.stored.clone()).await;
        assert_eq!((stored.key, stored.seq), (key, 1));
        assert_eq!(other.message().await.seq, 1);
        assert!(phone.receives_nothing(MOMENT).await, "a second answer");

        let id = phone.command(send(ChatId(Uuid::new_v4()))).await;
        assert_eq!(phone.answer(id).await.expect_err("refused"), ErrorCode::NotAMember);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_message_of_a_new_chat_reaches_all_its_members() {
    with_stand(Limits::default(), async |stand| {
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        for _ in 0..20 {
            // Of the two records of this chat, the second comes behind the first message.
            let fresh = ChatId(Uuid::new_v4());
            stand.peers.join_silently(fresh, user(2));
            stand.peers.join(fresh, &[user(1)]).await;
            one.send_text(fresh, "welcome").await;
            stand.peers.join(fresh, &[user(2)]).await;
            let lagged = two.push("lagged", |frame| frame.lagged.clone()).await;
            assert_eq!((lagged.chat, lagged.head_seq), (fresh, 1));
            one.send_text(fresh, "all here?").await;
            assert_eq!(two.message().await.chat, fresh);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_non_member_writes_and_reads_nothing() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let mut stranger = stand.connect(user(2), device(1)).await;
        for chat in [chat(), ChatId(Uuid::new_v4())] {
            let id = stranger.send(chat, MessageKey(Uuid::new_v4()), "let me in").await;
            assert_eq!(stranger.answer(id).await.expect_err("refused"), ErrorCode::NotAMember);
            assert_eq!(stranger.history(chat, 0).await.expect_err("refused"), ErrorCode::NotAMember);
        }
        assert_eq!(stand.sent().await, []);

        // The event log of the chat service is late: the chat service itself is queried.
        let fresh = ChatId(Uuid::new_v4());
        stand.peers.join_silently(fresh, user(2));
        assert_eq!(stranger.send_text(fresh, "I am").await.seq, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_receives_and_sends_nothing_more() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "both of us").await;
        assert_eq!(two.message().await.seq, 1);
        assert_eq!(two.history(chat(), 0).await.expect("a page").head_seq, 1);

        stand.peers.leave(chat(), user(2)).await;
        let id = two.send(chat(), MessageKey(Uuid::new_v4()), "still here?").await;
        assert_eq!(two.answer(id).await.expect_err("refused"), ErrorCode::NotAMember);
        assert_eq!(two.history(chat(), 0).await.expect_err("refused"), ErrorCode::NotAMember);
        // The log of events is followed in its own time; without the chat service a history shows when it has arrived.
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        let read = async { while two.history(chat(), 0).await != Err(ErrorCode::Unavailable) {} };
        timeout(PATIENCE, read).await.expect("the gateway reads the removal");

        // Not even a record that was written for both before the removal.
        let outcome = DeliveryOutcome::stored(1000, EntryKind::Text, "late", 1);
        let key = MessageKey(Uuid::new_v4());
        let record =
            DeliveredRecord { v: VERSION, chat: chat(), sender: user(9), device: device(9), key, outcome };
        stand.peers.announce(&record).await;
        while one.message().await.seq != 1000 {}
        let late = timeout(MOMENT, async { while two.message().await.seq != 1000 {} }).await;
        assert!(late.is_err(), "the removed member received it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_a_direct_chat_that_the_other_has_left() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "both of us").await;
        assert_eq!(two.history(chat(), 0).await.expect("a page").head_seq, 1);
        stand.peers.leave_direct(chat(), user(2)).await;
        // Without the chat service a history shows when the gateway has read of it.
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        let read = async { while two.history(chat(), 0).await != Err(ErrorCode::Unavailable) {} };
        timeout(PATIENCE, read).await.expect("the gateway reads the removal");
        stand.peers.answers_checks.store(true, Ordering::SeqCst);

        assert_eq!(one.history(chat(), 0).await.expect("who stayed reads").head_seq, 1);
        // Also when the gateway relies on what it has read, which it does two seconds after a change.
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(3) {
            let id = one.send(chat(), MessageKey(Uuid::new_v4()), "still there?").await;
            assert_eq!(one.answer(id).await.expect_err("refused"), ErrorCode::PermissionDenied);
        }
        assert!(stand.sent().await.iter().all(|record| record.body != "still there?"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_holds_for_every_send_that_begins_later() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        // The gateway relies on what it has read, which it does two seconds after a change.
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(3) {
            one.send_text(chat(), "before").await;
        }
        // The log of events has nothing of the block, as in the moment after its answer.
        for round in 0..20 {
            stand.peers.close_silently(chat());
            for _ in 0..2 {
                let id = one.send(chat(), MessageKey(Uuid::new_v4()), "blocked").await;
                assert_eq!(
                    one.answer(id).await.expect_err("refused"),
                    ErrorCode::PermissionDenied,
                    "{round}"
                );
            }
            stand.peers.open_silently(chat());
            one.send_text(chat(), "after").await;
        }
        assert!(stand.sent().await.iter().all(|record| record.body != "blocked"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_holds_while_the_chat_service_does_not_answer() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        one.send_text(chat(), "before").await;
        assert_eq!(one.history(chat(), 0).await.expect("a page").head_seq, 1);
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        one.send_text(chat(), "the gateway relies on what it has read").await;
        stand.peers.close(chat(), &[user(1), user(2)]).await;
        // A history shows when it has read of the block.
        let read = async { while one.history(chat(), 0).await != Err(ErrorCode::Unavailable) {} };
        timeout(PATIENCE, read).await.expect("the gateway reads the block");
        let id = one.send(chat(), MessageKey(Uuid::new_v4()), "blocked").await;
        assert_eq!(one.answer(id).await.expect_err("refused"), ErrorCode::Unavailable);
        stand.peers.answers_checks.store(true, Ordering::SeqCst);
        assert_eq!(one.history(chat(), 0).await.expect("who is blocked reads").head_seq, 2);
        assert!(stand.sent().await.iter().all(|record| record.body != "blocked"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_members_holds_for_whatever_begins_later() {
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut guest = stand.connect(user(2), device(1)).await;
        guest.send_text(chat(), "hello").await;
        // The log of events has none of these changes, as in the moment after an answer.
        for round in 0..20 {
            stand.peers.leave_silently(chat(), user(2));
            for _ in 0..2 {
                let id = guest.send(chat(), MessageKey(Uuid::new_v4()), "out").await;
                assert_eq!(guest.answer(id).await.expect_err("refused"), ErrorCode::NotAMember, "{round}");
                assert_eq!(guest.history(chat(), 0).await.expect_err("refused"), ErrorCode::NotAMember);
            }
            stand.peers.join_silently(chat(), user(2));
            guest.history(chat(), 0).await.expect("a member reads");
            guest.send_text(chat(), "back").await;
        }
        // What is produced while its sender is checked lies behind the removal in the log, and the message service refuses it.
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_chat_service_members_go_on_and_others_wait() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut stranger = stand.connect(user(3), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "before").await;
        assert_eq!(one.history(chat(), 0).await.expect("a page").head_seq, 1);
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        one.send_text(chat(), "during").await;
        assert_eq!(one.history(chat(), 0).await.expect("a page").head_seq, 2);
        // Where the history of this member begins is not known to the gateway.
        assert_eq!(two.history(chat(), 0).await.expect_err("unknown"), ErrorCode::Unavailable);
        assert_eq!(stranger.history(chat(), 0).await.expect_err("unknown"), ErrorCode::Unavailable);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_has_read_of_their_removal_sends_nothing_more() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "both of us").await;
        two.message().await;

        // The chat's own log has the removal; the log of events will have it later.
        stand.peers.leave_silently(chat(), user(2));
        let mut outcome = DeliveryOutcome::stored(2, EntryKind::MemberRemoved, "", 1);
        if let DeliveryOutcome::Stored { subject, .. } = &mut outcome {
            *subject = Some(user(2));
        }
        let (device, key) = (DeviceId(Uuid::nil()), MessageKey(Uuid::new_v4()));
        let record = DeliveredRecord { v: VERSION, chat: chat(), sender: user(1), device, key, outcome };
        stand.peers.announce(&record).await;
        assert_eq!(two.message().await.kind, EntryKind::MemberRemoved);
        let id = two.send(chat(), MessageKey(Uuid::new_v4()), "still here?").await;
        assert_eq!(two.answer(id).await.expect_err("refused"), ErrorCode::NotAMember);
        assert_eq!(two.history(chat(), 0).await.expect_err("refused"), ErrorCode::NotAMember);
        one.send_text(chat(), "without them").await;
        assert!(two.receives_nothing(MOMENT).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_of_a_connection_reach_the_log_in_their_order() {
    const SENDS: usize = 600;
    with_rates(Limits::default(), UNLIMITED, async |stand| {
        let fresh = ChatId(Uuid::new_v4());
        stand.peers.join(chat(), &[user(1)]).await;
        stand.peers.join_silently(fresh, user(1));
        let mut client = stand.connect(user(1), device(1)).await;
        let mut last = 0;
        // One chat is in the cache, the other has to be queried.
        for n in 0..SENDS {
            let chat = if n % 2 == 0 { chat() } else { fresh };
            last = client.send(chat, MessageKey(Uuid::new_v4()), &n.to_string()).await;
        }
        let mut accepted = 0;
        while accepted < SENDS {
            let frame = client.frame().await.expect("an answer");
            assert!(
                frame.error.is_none() && frame.id.is_none_or(|id| id.as_u32().is_some_and(|id| id <= last))
            );
            accepted += usize::from(frame.result.is_some());
        }
        let sent = stand.sent().await;
        assert_eq!(sent.len(), SENDS);
        for (chat, first) in [(chat(), 0), (fresh, 1)] {
            let bodies: Vec<usize> = sent
                .iter()
                .filter(|record| record.chat == chat)
                .map(|record| record.body.parse().expect("a number"))
                .collect();
            assert_eq!(bodies, (first..SENDS).step_by(2).collect::<Vec<_>>());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_holds_the_chats_of_its_own_users() {
    with_stand(Limits::default(), async |stand| {
        let everyone: Vec<_> = (1..=300).map(user).collect();
        everyone.iter().for_each(|user| stand.peers.join_silently(chat(), *user));
        for n in 1..=100 {
            let elsewhere = ChatId(Uuid::from_u128(0x4000 + n));
            stand.peers.join(elsewhere, &[user(n + 1), user(n + 2), user(n + 3)]).await;
        }
        let mut one = stand.connect(user(1), device(1)).await;
        let mut last = stand.connect(user(300), device(1)).await;
        one.send_text(chat(), "everyone?").await;
        assert_eq!(last.message().await.body, "everyone?");
        let held = || async { (stand.gateway.metric("memberships").await == 2).then_some(()) };
        wait_for("what is held of 300 members", PATIENCE, held).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_members_that_was_lost_is_asked_for() {
    with_stand(Limits::default(), async |stand| {
        let [mut one, mut two, mut four] = stand.two_members_and_a_stranger().await;
        // One leaves and one comes, and no gateway reads of it.
        stand.peers.leave_silently(chat(), user(2));
        stand.peers.join_silently(chat(), user(4));
        for _ in 0..2 {
            stand.peers.count_record(chat());
        }
        stand.peers.join(chat(), &[user(5)]).await;
        let noticed = || async { (stand.gateway.metric("lost_memberships_total").await == 1).then_some(()) };
        wait_for("that the records are missed", PATIENCE, noticed).await;
        one.send_until_received(chat(), "who is here?", &mut four).await;
        while timeout(MOMENT, two.message()).await.is_ok() {}
        one.send_text(chat(), "not for two").await;
        assert_eq!(four.message().await.body, "not for two");
        assert!(two.receives_nothing(MOMENT).await);
    })
    .await;
}

/// Both logs speak of a user, and while it is to be found out which is right, the chat service does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_whom_the_logs_disagree_is_asked_about_until_there_is_an_answer() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "before").await;
        assert_eq!(two.message().await.body, "before");
        // An old removal that is announced late.
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        stand.peers.announce_removal(chat(), user(2), 2).await;
        assert_eq!(two.message().await.kind, EntryKind::MemberRemoved);
        one.send_text(chat(), "two does not receive it").await;
        assert!(two.receives_nothing(MOMENT).await);
        // Longer than until it is asked about first.
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(12) {
            one.send_text(chat(), "nor this").await;
            assert!(two.receives_nothing(MOMENT).await);
        }
        stand.peers.answers_checks.store(true, Ordering::SeqCst);
        let back = timeout(PATIENCE, async {
            while timeout(MOMENT, two.message()).await.is_err() {
                one.send_text(chat(), "is two here?").await;
            }
        });
        back.await.expect("two is a member");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_while_the_chat_service_is_down_receives_once_it_is_back() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        let mut two = stand.connect(user(2), device(1)).await;
        let unavailable = two.sync(Sync::default()).await.expect_err("pushes behind it would be missed");
        assert_eq!(unavailable, ErrorCode::Unavailable);
        one.send_text(chat(), "during").await;
        stand.peers.answers_checks.store(true, Ordering::SeqCst);
        let synced = async {
            loop {
                if let Ok(page) = two.sync(Sync::default()).await {
                    return page;
                }
            }
        };
        let page = timeout(PATIENCE, synced).await.expect("a page");
        assert_eq!(page.chats[0].head_seq, 1);
        one.send_text(chat(), "after").await;
        assert_eq!(two.message().await.body, "after");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_are_passed_over() {
    with_stand(Limits::default(), async |stand| {
        for payload in [&b"not json"[..], br#"{"v":9}"#, b""] {
            stand.peers.produce(Topic::MessageDelivered, &chat().to_string(), Some(payload)).await;
            stand.peers.produce(Topic::ChatEvents, "not a key", Some(payload)).await;
        }
        stand.peers.join(chat(), &[user(1)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        assert_eq!(one.send_text(chat(), "still here").await.seq, 1);
    })
    .await;
}
