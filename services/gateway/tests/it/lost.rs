//! Records of `chat.events` that are lost, with none behind them.

use std::time::Duration;

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

impl Stand {
    /// Waits until the gateway has noticed so many losses.
    async fn until_noticed(&self, losses: u64) {
        let noticed =
            || async { (self.gateway.metric("lost_memberships_total").await == losses).then_some(()) };
        wait_for("that the loss is noticed", PATIENCE, noticed).await;
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
    with_stand(often(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        let mut four = stand.connect(user(4), device(1)).await;
        one.send_text(chat(), "the three of us").await;
        assert_eq!(two.message().await.seq, 1);
        stand.remove_in_vain(chat(), user(2));
        stand.add_in_vain(chat(), user(4));
        stand.until_noticed(2).await;
        let lagged = four.push("lagged", |frame| frame.lagged.clone()).await;
        assert_eq!((lagged.chat, lagged.head_seq), (chat(), 1), "what was before");
        // The load of their chats is on its way.
        one.send_until_received(chat(), "who is here?", &mut four).await;
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
    with_stand(often(), async |stand| {
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

/// The topic is lost, and created again as the operator does when its loss is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_created_again_costs_no_change() {
    with_stand(often(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = stand.connect(user(1), device(1)).await;
        let mut two = stand.connect(user(2), device(1)).await;
        one.send_text(chat(), "the three of us").await;
        assert_eq!(two.message().await.seq, 1);
        let (admin, topic) = (kafka_admin(&stand.kafka), Topic::ChatEvents.of(&stand.tenant));
        let options = AdminOptions::new();
        admin.delete_topics(&[&topic], &options).await.expect("an answer")[0].clone().expect("it is deleted");
        // What was published to it just before is nowhere.
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
