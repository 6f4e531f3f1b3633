//! Messages that carry files.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use contracts::{
    ChatId, ErrorCode, FileId, MessageKey, UserId,
    rpc::{self, DescribeFilesRequest, DescribeFilesResponse, media_service_server::MediaService},
    wire::{Attachment, Command, Forward, Send},
};
use gateway::Limits;
use kit::catalog;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    client::Client,
    stand::{Running, Stand, chat, config, device, user, with_encodings, with_stand},
};

/// The media service of a tenant: files that users have uploaded for chats, and that are ready.
#[derive(Clone, Default)]
pub struct FakeMedia {
    files: Arc<Mutex<Vec<(ChatId, UserId, rpc::File)>>>,
    is_silent: Arc<AtomicBool>,
}

impl FakeMedia {
    /// Makes a picture that a user has uploaded for a chat.
    fn upload(&self, chat: ChatId, user: UserId, name: &str) -> FileId {
        let file = FileId(Uuid::new_v4());
        let facts = rpc::File {
            id: file.to_string(),
            name: name.to_owned(),
            r#type: "image/jpeg".to_owned(),
            size: 48_213,
            width: Some(1_600),
            height: Some(1_200),
            duration_ms: None,
            blur: "1QcSHQRnh493V4dIh4eXh1h4kJUI".to_owned(),
            has_thumbnail: true,
        };
        self.files.lock().expect("no panic").push((chat, user, facts));
        file
    }

    fn forget_all(&self) {
        self.files.lock().expect("no panic").clear();
    }
}

#[tonic::async_trait]
impl MediaService for FakeMedia {
    async fn describe_files(
        &self,
        request: Request<DescribeFilesRequest>,
    ) -> Result<Response<DescribeFilesResponse>, Status> {
        if self.is_silent.load(Ordering::SeqCst) {
            return Err(Status::unavailable("switched off"));
        }
        let DescribeFilesRequest { chat_id, user_id, file_ids } = request.into_inner();
        let known = self.files.lock().expect("no panic");
        let file = |id: &String| {
            let is_it = |(chat, user, file): &&(ChatId, UserId, rpc::File)| {
                chat.to_string() == chat_id && user.to_string() == user_id && file.id == *id
            };
            known.iter().find(is_it).map(|(_, _, file)| file.clone())
        };
        let files: Option<Vec<_>> = file_ids.iter().map(file).collect();
        let files = files.ok_or_else(|| Status::not_found("no such file"))?;
        Ok(Response::new(DescribeFilesResponse { files }))
    }
}

fn key() -> MessageKey {
    MessageKey(Uuid::new_v4())
}

fn send(key: MessageKey, body: &str, attachments: &[FileId]) -> Command {
    Command::Send(Send { attachments: attachments.to_vec(), ..Send::text(chat(), key, body) })
}

async fn two(stand: &Stand) -> (Client, Client) {
    stand.peers.join(chat(), &[user(1), user(2)]).await;
    (stand.connect(user(1), device(1)).await, stand.connect(user(2), device(1)).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_carries_files_with_what_is_known_of_them() {
    with_encodings(Limits::default(), async |stand| {
        let (mut ann, mut ben) = two(&stand).await;
        let media = &stand.peers.media;
        let files =
            [media.upload(chat(), user(1), "two cats.jpg"), media.upload(chat(), user(1), "a dog.jpg")];
        let pictures = key();
        ann.change(pictures, send(pictures, "", &files)).await.expect("a message");
        let pushed = ben.message().await;
        let expected = |file: FileId, name: &str| Attachment {
            name: name.to_owned(),
            media_type: "image/jpeg".to_owned(),
            size: 48_213,
            width: Some(1_600),
            height: Some(1_200),
            blur: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".to_owned()),
            has_thumbnail: true,
            ..Attachment::unknown(file)
        };
        let carried = [expected(files[0], "two cats.jpg"), expected(files[1], "a dog.jpg")];
        assert_eq!((pushed.body.as_str(), pushed.attachments.as_slice()), ("", carried.as_slice()));
        let record = stand.sent().await.pop().expect("a record");
        assert_eq!(record.attachments, carried, "the log alone decides");
        // Its sender fetches it.
        let page = ann.history(chat(), 0).await.expect("a history");
        assert_eq!(page.messages[0].attachments, carried);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_not_there_for_the_sender_and_the_chat_is_refused_before_the_log() {
    with_stand(Limits::default(), async |stand| {
        let (mut ann, _ben) = two(&stand).await;
        let media = &stand.peers.media;
        let elsewhere = ChatId(Uuid::from_u128(0x3001));
        let (own, others, other_chats) = (
            media.upload(chat(), user(1), "mine.jpg"),
            media.upload(chat(), user(2), "ben's.jpg"),
            media.upload(elsewhere, user(1), "another.jpg"),
        );
        let nowhere = FileId(Uuid::new_v4());
        for files in [&[others][..], &[other_chats], &[nowhere], &[own, others]] {
            let refused = ann.change(key(), send(key(), "look", files)).await;
            assert_eq!(refused, Err(ErrorCode::NoSuchFile), "{files:?}");
        }
        for files in [vec![own; 2], (0..11).map(|_| FileId(Uuid::new_v4())).collect()] {
            let refused = ann.change(key(), send(key(), "look", &files)).await;
            assert_eq!(refused, Err(ErrorCode::InvalidArgument), "{files:?}");
        }
        let nothing = ann.change(key(), send(key(), "", &[])).await;
        assert_eq!(nothing, Err(ErrorCode::InvalidArgument));
        assert!(stand.sent().await.is_empty(), "nothing of it is in the log");

        media.is_silent.store(true, Ordering::SeqCst);
        let refused = ann.change(key(), send(key(), "look", &[own])).await;
        assert_eq!(refused, Err(ErrorCode::Unavailable), "it may be sent later");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messengers_own_road_does_not_wait_for_the_media_service() {
    with_stand(Limits::default(), async |stand| {
        let (mut ann, mut ben) = two(&stand).await;
        stand.peers.media.is_silent.store(true, Ordering::SeqCst);
        ann.send_text(chat(), "hey").await;
        assert_eq!(ben.message().await.body, "hey");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_repeated_after_its_files_are_gone_is_the_same() {
    with_stand(Limits::default(), async |stand| {
        let (mut ann, _ben) = two(&stand).await;
        let media = &stand.peers.media;
        let (file, once) = (media.upload(chat(), user(1), "a.jpg"), key());
        let first = ann.change(once, send(once, "look", &[file])).await.expect("a message");
        media.forget_all();
        let again = ann.change(once, send(once, "look", &[file])).await.expect("a repetition");
        assert_eq!((again.seq, again.sent_at_ms), (first.seq, None));
        let ids = |record: &contracts::event::SendRecord| {
            record.attachments.iter().map(|of| of.file).collect::<Vec<_>>()
        };
        let sent = stand.sent().await;
        assert!(sent.iter().all(|record| ids(record) == [file]), "the log compares the ids");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forwarded_takes_its_files_along_and_asks_nobody() {
    with_stand(Limits::default(), async |stand| {
        let elsewhere = ChatId(Uuid::from_u128(0x3001));
        stand.peers.join(elsewhere, &[user(2), user(3)]).await;
        let (mut ann, mut ben) = two(&stand).await;
        let mut cid = stand.connect(user(3), device(1)).await;
        let (file, once) = (stand.peers.media.upload(chat(), user(1), "a.jpg"), key());
        ann.change(once, send(once, "look", &[file])).await.expect("a message");
        let original = ben.message().await;
        stand.peers.media.is_silent.store(true, Ordering::SeqCst);
        let again = key();
        let forward = Forward { chat: elsewhere, key: again, from_chat: chat(), from_seq: original.seq };
        ben.change(again, Command::Forward(forward)).await.expect("a forwarded message");
        let pushed = cid.message().await;
        assert_eq!((&pushed.body, &pushed.attachments), (&original.body, &original.attachments));
        assert!(pushed.forwarded.is_some_and(|of| of.sender == user(1)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_without_the_media_service_takes_no_files() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1)]).await;
        let (mut invocation, _) =
            config(&stand.tenant, &stand.kafka, &stand.redis.args(), &stand.realm, stand.peers_addr);
        invocation.process.peers.remove(&catalog::Service::Media);
        let without = Running::start(invocation, Limits::default()).await;
        let mut ann = Client::open(without.http).await;
        ann.connect(&stand.realm.token(user(1), "ann"), device(1)).await;
        let refused = ann.change(key(), send(key(), "look", &[FileId(Uuid::new_v4())])).await;
        assert_eq!(refused, Err(ErrorCode::NotConfigured));
        ann.send_text(chat(), "a text").await;
        drop(ann);
        without.end().await;
    })
    .await;
}
