//! What is followed of the log of messages.

use std::sync::Arc;

use chrono::Utc;
use contracts::{
    ChatId, DeviceId, FileId, MessageKey, UserId,
    api::{CreateFileRequest, FilePurpose},
    attachment::Attachment,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind},
};
use kit::{catalog::Topic, log::Log, testing::wait_for};
use media::{
    domain::NewFile,
    events::Follower,
    metrics::Metrics,
    store::{FileStore as _, MemoryStore},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::stand::{PATIENCE, QUOTAS};

const TENANT: &str = "acme";

/// Returns a record of an entry of a chat.
fn record(chat: ChatId, seq: i64, kind: EntryKind, target_seq: Option<i64>, files: &[FileId]) -> Vec<u8> {
    let mut outcome = DeliveryOutcome::stored(seq, kind, "", 7);
    if let DeliveryOutcome::Stored { target_seq: of, attachments, .. } = &mut outcome {
        *of = target_seq;
        attachments.extend(files.iter().map(|file| Attachment::unknown(*file)));
    }
    let (sender, device, key) = (UserId(Uuid::nil()), DeviceId(Uuid::nil()), MessageKey(Uuid::nil()));
    serde_json::to_vec(&DeliveredRecord { v: 1, chat, sender, device, key, outcome }).expect("json")
}

#[tokio::test]
async fn a_follower_goes_on_where_the_one_before_it_was() {
    let (log, store) = (Log::memory(), Arc::new(MemoryStore::default()));
    let producer = log.producer(None).expect("a producer");
    let (chat, topic) = (ChatId::generate(), Topic::MessageDelivered.of(TENANT));
    let request = CreateFileRequest {
        purpose: FilePurpose::Chat(chat),
        name: "cats".to_owned(),
        media_type: "text/plain".to_owned(),
        size: 1,
        sha256: None,
    };
    let (file, now) = (FileId::generate(), Utc::now());
    let new = NewFile::parse(file, UserId::generate(), &request, None, now).expect("a new file");
    store.create(&new, &QUOTAS, now).await.expect("it is created");

    let send = |payload: Option<&[u8]>| {
        drop(producer.send(&topic, &chat.to_string(), payload).expect("it is sent"));
    };
    let follow = || {
        let stop = CancellationToken::new();
        let follower = Follower {
            store: store.clone(),
            log: log.clone(),
            tenant: TENANT.to_owned(),
            metrics: Metrics::default(),
            shutdown: stop.clone(),
        };
        (tokio::spawn(follower.start().expect("it joins the group")), stop)
    };
    let has_readers = async |expected: bool| {
        wait_for("the readers of the file", PATIENCE, || async {
            let readers = store.readers(file, now, 10).await.expect("a read");
            let chats: Vec<_> = readers.into_iter().map(|readers| readers.chat).collect();
            (chats == if expected { vec![chat] } else { Vec::new() }).then_some(())
        })
        .await;
    };

    send(Some(&record(chat, 1, EntryKind::Text, None, &[file])));
    send(Some(b"of a newer version"));
    send(None);
    let (first, stop) = follow();
    has_readers(true).await;
    stop.cancel();
    first.await.expect("it ends");
    send(Some(&record(chat, 2, EntryKind::Delete, Some(1), &[])));
    let (second, stop) = follow();
    has_readers(false).await;
    // The log comes again from its beginning, as after a loss of the position.
    send(Some(&record(chat, 1, EntryKind::Text, None, &[file])));
    send(Some(&record(chat, 2, EntryKind::Delete, Some(1), &[])));
    send(Some(&record(chat, 3, EntryKind::Text, None, &[file])));
    wait_for("every record to be read", PATIENCE, || async {
        let starts = store.positions(&[0, 1, 2, 3]).await.expect("positions");
        starts.values().flatten().eq([&7]).then_some(())
    })
    .await;
    has_readers(true).await;
    stop.cancel();
    second.await.expect("it ends");
}
