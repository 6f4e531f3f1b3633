//! Accounts that are deleted, as the user service lists them.

use std::{sync::Arc, time::Duration};

use chat::{
    departures,
    domain::{Founding, Limits, NewChat, Scheduled, ScheduledText},
    store::{ChatStore, MemoryStore, PostgresStore, ScheduleStore as _},
};
use chrono::{TimeDelta, Utc};
use contracts::{
    ChatId, MessageKey, UserId,
    api::{HistoryAccess, Visibility},
    event::Role,
};
use kit::{catalog::Rate, config::SendRates, testing::wait_for};
use tokio_util::sync::CancellationToken;

use crate::{
    at, crew, database, new_user,
    users::{self, Peer},
};

/// Longer than a deletion is looked at again.
const LONG_AGO: i64 = 3_600;

async fn group(store: &dyn ChatStore, founder: UserId, others: &[UserId]) -> ChatId {
    let history = HistoryAccess::default();
    let founding = Founding::Group {
        is_channel: false,
        title: crew(),
        history,
        visibility: Visibility::Private,
        others: others.iter().copied().collect(),
    };
    let new = NewChat { chat_id: ChatId::generate(), founder, founding, key: None, created_at: at(0) };
    store.create(&new).await.expect("a chat").chat.chat_id
}

async fn members(store: &dyn ChatStore, chat: ChatId) -> Vec<(UserId, Role)> {
    let members = store.members(chat, None, None, usize::MAX).await.expect("members");
    members.into_iter().map(|member| (member.user_id, member.role)).collect()
}

#[tokio::test]
async fn deleted_accounts_leave_all_their_chats_and_the_place_moves_behind_what_is_settled() {
    let (store, peer) = (MemoryStore::default(), Peer::default());
    let users = peer.start().await;
    let (ann, ben, cleo, dora) = (new_user(), new_user(), new_user(), new_user());
    let mut chats = Vec::new();
    // More than are listed at once.
    for _ in 0..120 {
        chats.push(group(&store, ann, &[ben, cleo]).await);
    }
    departures::catch_up(&users, &store).await.expect("nothing to do");
    assert_eq!(store.deletions_position().get().await.expect("a read"), None);

    for (user, age) in [(ann, LONG_AGO), (cleo, LONG_AGO), (dora, 5), (new_user(), LONG_AGO)] {
        peer.delete(user, age);
    }
    departures::catch_up(&users, &store).await.expect("the list is carried out");
    for chat in &chats {
        assert_eq!(members(&store, *chat).await, [(ben, Role::Owner)]);
    }
    // Their receipts say so.
    let erased = |user: UserId| {
        let notes = peer.erased.lock().expect("no panic").clone();
        let own = notes.iter().filter(|note| note.user_id == user.to_string());
        own.map(|note| (note.chats_left, note.is_settled)).collect::<Vec<_>>()
    };
    assert_eq!((erased(ann), erased(cleo), erased(dora)), (vec![(120, true)], vec![(120, true)], vec![]));
    // A request that began before the deletion of dora may add her still.
    assert_eq!(store.deletions_position().get().await.expect("a read").as_deref(), Some("2"));
    let late = group(&store, ben, &[dora]).await;
    departures::catch_up(&users, &store).await.expect("the list is carried out again");
    assert_eq!(members(&store, late).await, [(ben, Role::Owner)]);
    assert_eq!(erased(dora), [(1, false)]);
    assert_eq!(store.deletions_position().get().await.expect("a read").as_deref(), Some("2"));
}

#[tokio::test]
async fn what_was_not_carried_out_when_the_process_ended_is_carried_out_by_the_next() {
    let (_database, pool) = database().await;
    let (store, peer) = (Arc::new(PostgresStore::new(pool, Limits::default())), Peer::default());
    let (ann, ben) = (new_user(), new_user());
    let chat = group(&*store, ann, &[ben]).await;
    peer.delete(ann, LONG_AGO);
    departures::catch_up(&users::unreachable(), &*store).await.expect_err("the user service is down");
    assert_eq!(members(&*store, chat).await.len(), 2);

    // Two processes at once do it once.
    let shutdown = CancellationToken::new();
    let client = peer.start().await;
    let following =
        [(); 2].map(|()| tokio::spawn(departures::follow(client.clone(), store.clone(), shutdown.clone())));
    wait_for("a departure", Duration::from_secs(20), || async {
        let position = store.deletions_position().get().await.expect("a read");
        (position.as_deref() == Some("1")).then_some(())
    })
    .await;
    assert_eq!(members(&*store, chat).await, [(ben, Role::Owner)]);
    shutdown.cancel();
    for task in following {
        task.await.expect("an end");
    }
    let entries = store.pending(100).await.expect("the outbox");
    let left = entries
        .iter()
        .filter(|record| record.payload.as_deref().is_some_and(|payload| payload.contains("member_removed")));
    assert_eq!(left.count(), 1);
}

#[tokio::test]
async fn blocks_of_a_deleted_account_and_against_it_go() {
    let (_database, pool) = database().await;
    let store = PostgresStore::new(pool, Limits::default());
    let peer = Peer::default();
    let users = peer.start().await;
    let (gone, ann, ben) = (new_user(), new_user(), new_user());
    for n in 0..130 {
        let other = new_user();
        let (user, blocked) = if n % 2 == 0 { (gone, other) } else { (other, gone) };
        store.block(user, blocked, at(0)).await.expect("a block");
    }
    store.block(ann, ben, at(0)).await.expect("a block");
    peer.delete(gone, LONG_AGO);
    departures::catch_up(&users, &store).await.expect("the list is carried out");
    assert_eq!(store.blocks_of_any(gone, 10).await.expect("a read"), []);
    assert_eq!(store.blocks_of_any(ann, 10).await.expect("a read"), [(ann, ben)]);
    // The receipt says nothing of those who had blocked the user.
    let notes = peer.erased.lock().expect("no panic").clone();
    assert_eq!(notes.iter().map(|note| note.blocks_lifted).sum::<u32>(), 65, "{notes:?}");
}

/// When and how much a user sent outlives their membership, for slow mode and for the rates, and not their account.
#[tokio::test]
async fn of_what_a_deleted_account_scheduled_no_row_is_left() {
    let (_database, pool) = database().await;
    // What one message takes of the rates comes in slowly, so that the row of it is there for a while.
    let sends = SendRates { user_sends: Rate::every(Duration::from_secs(3_600), 2), ..SendRates::DEFAULT };
    let store = PostgresStore::new(pool.clone(), Limits { sends, ..Limits::DEFAULT });
    let peer = Peer::default();
    let users = peer.start().await;
    let (ann, ben) = (new_user(), new_user());
    let chat_id = group(&store, ben, &[ann]).await;
    let schedule = async |user_id| {
        let (key, text) = (MessageKey::generate(), ScheduledText { body: "hi".into(), ..Default::default() });
        let send_at = Utc::now() + TimeDelta::hours(1);
        let new =
            Scheduled { chat_id, user_id, key, text, send_at, not_before: None, attempts: 0, refused: None };
        store.schedule(&new).await.expect("it is kept").expect("a member");
        key
    };
    for user in [ann, ben] {
        let key = schedule(user).await;
        store.send_now(chat_id, user, key).await.expect("it is sent").expect("it waited");
        schedule(user).await;
    }
    let rows_of = async |user: UserId| -> i64 {
        let sql = "SELECT (SELECT count(*) FROM scheduled WHERE user_id = $1)
                        + (SELECT count(*) FROM scheduled_sent WHERE user_id = $1)
                        + (SELECT count(*) FROM scheduled_turns WHERE user_id = $1)
                        + (SELECT count(*) FROM scheduled_spent WHERE payer_id = $1)";
        sqlx::query_scalar(sql).bind(user.0).fetch_one(&pool).await.expect("a count")
    };
    assert_eq!((rows_of(ann).await, rows_of(ben).await), (4, 4));
    peer.delete(ann, LONG_AGO);
    departures::catch_up(&users, &store).await.expect("the list is carried out");
    assert_eq!((rows_of(ann).await, rows_of(ben).await), (0, 4));
}
