//! Records of `chat.events` that are lost, with none behind them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use contracts::{ChatId, UserId, event::Role};
use gateway::Limits;
use kit::{catalog::Topic, testing::wait_for};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use tokio::time::timeout;
use uuid::Uuid;

use crate::stand::{PARTITIONS, PATIENCE, Stand, chat, device, kafka_admin, user, with_stand};

const MOMENT: Duration = Duration::from_millis(300);

fn often() -> Limits {
    Limits { positions_every: Duration::from_millis(100), ..Limits::default() }
}

/// Runs a story on a gateway that has begun to read what is published, often.
async fn with_reader<F: Future<Output = ()> + Send + 'static>(
    story: impl FnOnce(Arc<Stand>) -> F + Send + 'static,
) {
    with_stand(often(), async move |stand: Arc<Stand>| {
        let begun = || async { stand.peers.is_reading_begun().then_some(()) };
        wait_for("the first reading", PATIENCE, begun).await;
        story(stand).await;
    })
    .await;
}

impl Stand {
    /// Waits until the gateway has noticed so many losses.
    async fn until_noticed(&self, losses: u64) {
        let noticed =
            || async { (self.gateway.metric("lost_memberships_total").await == losses).then_some(()) };
        wait_for("that the loss is noticed", PATIENCE, noticed).await;
    }

    /// Waits until the gateway has read what was published: what is lost from now on, it notices as a loss.
    async fn until_read(&self) {
        wait_for("that the list is read", PATIENCE, || async {
            self.peers.is_published_read().then_some(())
        })
        .await;
    }

    /// Removes a user from a chat, and the log loses the record of it.
    fn remove_in_vain(&self, chat: ChatId, user: UserId) {
        self.peers.leave_silently(chat, user);
        self.peers.tell_in_vain(chat, user, None);
    }

    fn add_in_vain(&self, chat: ChatId, user: UserId) {
        self.peers.join_silently(chat, user);
        self.peers.tell_in_vain(chat, user, Some(Role::Member));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_receives_nothing_more_and_who_is_added_everything() {
    with_reader(async |stand| {
        let [mut one, mut two, mut four] = stand.two_members_and_a_stranger().await;
        stand.until_read().await;
        stand.remove_in_vain(chat(), user(2));
        stand.add_in_vain(chat(), user(4));
        stand.until_noticed(2).await;
        let lagged = four.push("lagged", |frame| frame.lagged.clone()).await;
        assert_eq!((lagged.chat, lagged.head_seq), (chat(), 1), "what was before");
        one.send_text(chat(), "who is here?").await;
        assert_eq!(four.message().await.body, "who is here?", "they are in it before they know of it");
        one.send_text(chat(), "not for two").await;
        assert_eq!(four.message().await.body, "not for two");
        assert!(two.receives_nothing(MOMENT).await);
        // Records that follow count as before.
        stand.peers.join(chat(), &[user(5)]).await;
        stand.peers.leave(chat(), user(4)).await;
        let out = timeout(PATIENCE, async {
            loop {
                one.send_text(chat(), "is four out?").await;
                if four.receives_nothing(MOMENT).await {
                    break;
                }
            }
        });
        out.await.expect("the log goes on");
    })
    .await;
}

/// No entry tells of the founding members of a chat, and no other user here is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_chat_comes_to_its_members() {
    with_reader(async |stand| {
        let (fresh, gone) = (ChatId(Uuid::from_u128(77)), ChatId(Uuid::from_u128(78)));
        let mut one = stand.connect(user(1), device(1)).await;
        stand.add_in_vain(fresh, user(1));
        stand.add_in_vain(fresh, user(2));
        // Who was in a chat for a moment is not in it.
        stand.add_in_vain(gone, user(1));
        stand.remove_in_vain(gone, user(1));
        let lagged = one.push("lagged", |frame| frame.lagged.clone()).await;
        assert_eq!((lagged.chat, lagged.head_seq), (fresh, 0));
        let mut two = stand.connect(user(2), device(1)).await;
        two.send_text(fresh, "welcome").await;
        let received = timeout(PATIENCE, async {
            while timeout(MOMENT, one.message()).await.is_err() {
                two.send_text(fresh, "are you there?").await;
            }
        });
        received.await.expect("it is a chat of both");
        let held = || async { (stand.gateway.metric("memberships").await == 2).then_some(()) };
        wait_for("what is held of one chat", PATIENCE, held).await;
    })
    .await;
}

/// Nothing is known then of what was between, whatever it was that took it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_does_not_reach_back_costs_no_change() {
    for is_restored in [false, true] {
        with_reader(async move |stand: Arc<Stand>| {
            let [mut one, mut two, mut four] = stand.two_members_and_a_stranger().await;
            stand.until_read().await;
            // The list fails for a while, and records are forgotten that were not read, or others have their ids.
            stand.peers.answers_lists.store(false, Ordering::SeqCst);
            stand.remove_in_vain(chat(), user(2));
            stand.add_in_vain(chat(), user(4));
            stand.peers.tell_in_vain(ChatId(Uuid::from_u128(79)), user(9), Some(Role::Member));
            if is_restored {
                stand.peers.restore_published();
            } else {
                stand.peers.forget_published();
            }
            stand.peers.answers_lists.store(true, Ordering::SeqCst);
            let lagged = four.push("lagged", |frame| frame.lagged.clone()).await;
            assert_eq!((lagged.chat, lagged.head_seq), (chat(), 1), "what was before");
            one.send_text(chat(), "four is here").await;
            assert_eq!(four.message().await.body, "four is here");
            let out = timeout(PATIENCE, async {
                loop {
                    one.send_text(chat(), "is two out?").await;
                    four.message().await;
                    if two.receives_nothing(MOMENT).await {
                        break;
                    }
                }
            });
            out.await.expect("all chats are loaded");
            assert_eq!(
                stand.gateway.metric("lost_memberships_total").await,
                0,
                "which records, is not known"
            );
        })
        .await;
    }
}

/// The chats of all are loaded again then, and the list of each takes a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_does_not_wait_for_those_who_are_there() {
    const THERE: u128 = 48;
    with_reader(async |stand| {
        let mut there = Vec::new();
        for n in 1..=THERE {
            there.push(stand.connect(user(n), device(1)).await);
        }
        stand.until_read().await;
        let (newcomer, listed) = (user(THERE + 1), stand.peers.listed.clone());
        let listed = || listed.lock().expect("no panic").clone();
        let before = listed().len();
        stand.peers.listing_ms.store(500, Ordering::SeqCst);
        // Of what was published now, the gateway finds nothing.
        stand.peers.answers_lists.store(false, Ordering::SeqCst);
        for _ in 0..2 {
            stand.peers.tell_in_vain(ChatId(Uuid::from_u128(79)), user(999), Some(Role::Member));
        }
        stand.peers.forget_published();
        stand.peers.answers_lists.store(true, Ordering::SeqCst);
        let begun = || async { (listed().len() > before).then_some(()) };
        wait_for("that all are loaded again", PATIENCE, begun).await;
        let connected = stand.connect(newcomer, device(1)).await;
        let place = listed()[before..].iter().position(|listed| *listed == newcomer.to_string());
        let place = place.expect("their chats were asked for");
        assert!(place < 32, "they came behind {place} others");
        drop((there, connected));
    })
    .await;
}

/// A published record says what was, and the chat service what is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_user_learns_of_a_chat_that_they_are_not_in() {
    with_reader(async |stand| {
        let (past, fresh) = (ChatId(Uuid::from_u128(80)), ChatId(Uuid::from_u128(81)));
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        stand.until_read().await;
        // They are out of it again, which is not listed yet.
        stand.peers.tell_in_vain(past, user(1), Some(Role::Member));
        stand.until_noticed(1).await;
        // What is noticed later is in the chat that it says.
        stand.add_in_vain(fresh, user(1));
        let lagged = one.push("lagged", |frame| frame.lagged.clone()).await;
        assert_eq!(lagged.chat, fresh);
        stand.remove_in_vain(past, user(1));
        assert!(one.receives_nothing(MOMENT).await);
    })
    .await;
}

/// The topic is lost, and created again as the operator does when its loss is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_created_again_costs_no_change() {
    with_reader(async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "the three of us").await;
        assert_eq!(two.message().await.seq, 1);
        let (admin, topic) = (kafka_admin(&stand.kafka), Topic::ChatEvents.of(&stand.tenant));
        let options = AdminOptions::new();
        admin.delete_topics(&[&topic], &options).await.expect("an answer")[0].clone().expect("it is deleted");
        // What was published to it just before is nowhere.
        stand.until_read().await;
        stand.remove_in_vain(chat(), user(2));
        let create = || async {
            let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
            let made = admin.create_topics([&new], &options).await.expect("an answer");
            made[0].is_ok().then_some(())
        };
        wait_for("that the topic is created again", PATIENCE, create).await;
        stand.until_noticed(1).await;
        one.send_text(chat(), "not for two").await;
        assert!(two.receives_nothing(MOMENT).await);
        // What comes by the new topic arrives, by one way or the other.
        let mut four = stand.connect(user(4), device(1)).await;
        stand.peers.join(chat(), &[user(4)]).await;
        one.send_until_received(chat(), "hello four", &mut four).await;
    })
    .await;
}
