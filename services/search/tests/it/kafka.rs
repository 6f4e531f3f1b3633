//! The index on the real log.

use contracts::ChatId;
use kit::{
    catalog::Topic,
    config::{KafkaArgs, TrustArgs},
    log::Log,
    testing::stack,
};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use uuid::Uuid;

use crate::stand::{PATIENCE, Stand, index_of, stored, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_index_follows_the_real_log_and_goes_on_where_it_was() {
    let tenant = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
    let args = KafkaArgs {
        kafka_bootstrap_servers: stack("KAFKA_BOOTSTRAP"),
        kafka_security_protocol: "sasl_plaintext".to_owned(),
        trust: TrustArgs::default(),
        kafka_username: stack("KAFKA_ADMIN_USERNAME"),
        kafka_password: stack("KAFKA_ADMIN_PASSWORD").into(),
        schema_ids: Vec::new(),
    };
    let admin: AdminClient<DefaultClientContext> =
        kit::kafka::producer_config(&args).create().expect("an admin client");
    let topic = Topic::MessageDelivered.of(&tenant);
    let new = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
    let made = admin.create_topics([&new], &AdminOptions::new()).await.expect("Kafka answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::with_log(Log::kafka(args), &tenant).await;
    let ann = stand.realm.user("ann");
    let chats: Vec<_> = (0..8).map(|_| ChatId::generate()).collect();
    for chat in &chats {
        stand.peers.join(*chat, &ann);
        stand.peers.store(*chat, vec![stored(text(*chat, ann.id, 1, "news of before"))]);
    }
    let service = stand.start(index_of(folder.path(), &tenant)).await;
    service.is_complete().await;
    let read = stand.peers.pages();
    stand.announce(chats.iter().map(|chat| text(*chat, ann.id, 2, "news of now"))).await;
    for chat in &chats {
        service.finds(&ann, &format!("news&chat={chat}"), &[2, 1]).await;
    }
    service.end().await;

    stand.announce(chats.iter().map(|chat| text(*chat, ann.id, 3, "news of meanwhile"))).await;
    let service = stand.start(index_of(folder.path(), &tenant)).await;
    service.is_complete().await;
    for chat in &chats {
        service.finds(&ann, &format!("news&chat={chat}"), &[3, 2, 1]).await;
    }
    assert_eq!(stand.peers.pages(), read, "no chat is read again");
    tokio::time::timeout(PATIENCE, service.end()).await.expect("it ends in time");

    // The log forgets all that is announced meanwhile, so that no record says of it.
    let last = |chat: &ChatId| text(*chat, ann.id, 4, "news of an outage");
    stand.announce(chats.iter().map(last)).await;
    for chat in &chats {
        let (chat, all) = (*chat, [text(*chat, ann.id, 1, "news of before"), last(chat)]);
        stand.peers.store(chat, all.map(stored).into());
    }
    let mut offsets = TopicPartitionList::new();
    for partition in 0..3 {
        offsets.add_partition_offset(&topic, partition, Offset::End).expect("an offset");
    }
    admin.delete_records(&offsets, &AdminOptions::new()).await.expect("Kafka forgets");
    let service = stand.start(index_of(folder.path(), &tenant)).await;
    service.is_complete().await;
    for chat in &chats {
        assert_eq!(service.seqs(&ann, &format!("outage&chat={chat}")).await, [4], "it is complete");
    }
    tokio::time::timeout(PATIENCE, service.end()).await.expect("it ends in time");
    drop(admin.delete_topics(&[&topic], &AdminOptions::new()).await);
}
