//! What a client fetches when it comes back, and what it receives while it is there.

use std::time::Duration;

use contracts::{
    DeviceId, ErrorCode, MessageKey,
    api::{Draft, OwnChatState},
    event::{DeliveredRecord, DeliveryOutcome, VERSION},
    rpc::Message,
    wire::{Command, Mark, Outcome, Sync, SyncPage, Watermarks},
};
use gateway::Limits;
use uuid::Uuid;

use crate::{
    client::Client,
    stand::{chat, device, user, with_encodings, with_stand},
};

const MOMENT: Duration = Duration::from_millis(300);

impl Client {
    pub async fn sync(&mut self, query: Sync) -> Result<SyncPage, ErrorCode> {
        let id = self.command(Command::Sync(query)).await;
        match self.answer(id).await? {
            Outcome::Synced(page) => Ok(page),
            other => panic!("sync was answered by {other:?}"),
        }
    }

    async fn mark(&mut self, command: Command) -> Result<Watermarks, ErrorCode> {
        let id = self.command(command).await;
        match self.answer(id).await? {
            Outcome::Marked(watermarks) => Ok(watermarks),
            other => panic!("a mark was answered by {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_syncs_its_own_chats() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut stranger = stand.connect(user(3), device(1)).await;
        ann.send_text(chat(), "hello").await;

        let page = ann.sync(Sync::default()).await.expect("a page");
        let [of] = page.chats.as_slice() else { panic!("{page:?}") };
        assert_eq!((of.chat, of.head_seq, of.title.as_deref()), (chat(), 1, Some("Friends")));
        assert_eq!(stranger.sync(Sync::default()).await.expect("a page").chats, []);

        let query = |cursor: &str, limit, entries| Sync { cursor: Some(cursor.to_owned()), limit, entries };
        assert!(ann.sync(query("a cursor", Some(200), Some(50))).await.is_ok());
        use ErrorCode::{CursorExpired, InvalidArgument};
        for (refused, code) in [
            (query("another one", None, None), CursorExpired),
            (query(&"x".repeat(5_000), None, None), InvalidArgument),
            (query("a cursor", Some(0), None), InvalidArgument),
            (query("a cursor", Some(201), None), InvalidArgument),
            (query("a cursor", None, Some(51)), InvalidArgument),
        ] {
            assert_eq!(ann.sync(refused).await, Err(code));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watermarks_are_answered_and_refused() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut stranger = stand.connect(user(3), device(1)).await;
        ann.send_text(chat(), "hello").await;
        let at = |seq| Mark { chat: chat(), seq };
        let read = Watermarks { read_seq: 1, delivered_seq: 1, unread: 0, mentions: 0, counted_seq: 1 };
        assert_eq!(ann.mark(Command::Read(at(1))).await, Ok(read));
        let delivered = Watermarks { read_seq: 0, unread: 1, ..read };
        assert_eq!(ann.mark(Command::Delivered(at(1))).await, Ok(delivered));
        assert_eq!(ann.mark(Command::Read(at(2))).await, Err(ErrorCode::NotFound));
        for seq in [0, -1, i64::MIN] {
            assert_eq!(ann.mark(Command::Read(at(seq))).await, Err(ErrorCode::InvalidArgument));
            assert_eq!(ann.mark(Command::Delivered(at(seq))).await, Err(ErrorCode::InvalidArgument));
        }
        assert_eq!(stranger.mark(Command::Read(at(1))).await, Err(ErrorCode::NotAMember));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_goes_to_the_users_devices_and_what_is_shown_to_the_others() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut phone = stand.connect(user(1), device(1)).await;
        let mut bob = stand.connect(user(2), device(1)).await;
        let mut stranger = stand.connect(user(3), device(1)).await;
        let marked = |shown_read_seq, shown_delivered_seq| DeliveredRecord {
            v: VERSION,
            chat: chat(),
            sender: user(1),
            device: DeviceId(Uuid::nil()),
            key: MessageKey(Uuid::nil()),
            outcome: DeliveryOutcome::Marked {
                read_seq: 4,
                delivered_seq: 5,
                unread: 2,
                mentions: 1,
                counted_seq: 9,
                shown_read_seq,
                shown_delivered_seq,
            },
        };
        for (read, delivered) in [(Some(4), Some(5)), (None, Some(5))] {
            stand.peers.announce(&marked(read, delivered)).await;
            let own = phone.push("receipt", |frame| frame.receipt).await;
            assert_eq!((own.user, own.read_seq, own.delivered_seq), (user(1), Some(4), Some(5)));
            assert_eq!((own.unread, own.mentions), (Some(2), Some(1)));
            let shown = bob.push("receipt", |frame| frame.receipt).await;
            assert_eq!((shown.user, shown.read_seq, shown.delivered_seq), (user(1), read, delivered));
            assert_eq!((shown.unread, shown.mentions), (None, None), "what is unread is the user's own");
        }
        stand.peers.announce(&marked(None, None)).await;
        assert!(phone.push("receipt", |frame| frame.receipt).await.unread.is_some());
        assert!(bob.receives_nothing(MOMENT).await);
        assert!(stranger.receives_nothing(MOMENT).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_a_user_has_a_chat_goes_to_the_users_devices_and_nobody_else() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut phone = stand.connect(user(1), device(1)).await;
        let mut desk = stand.connect(user(1), device(2)).await;
        let mut bob = stand.connect(user(2), device(1)).await;
        let draft = Some(Draft { body: "I wi".to_owned(), reply_to: Some(7) });
        let own = OwnChatState { version: 3, archived: true, draft, ..OwnChatState::default() };
        stand.peers.own(chat(), user(1), own.clone()).await;
        for device in [&mut phone, &mut desk] {
            let pushed = device.push("own_state", |frame| frame.own_state.clone()).await;
            assert_eq!((pushed.chat, &pushed.own), (chat(), &own));
        }
        assert!(bob.receives_nothing(MOMENT).await);
        // The record behind it, by which the log forgets it, says nothing of the membership.
        bob.send_text(chat(), "still here?").await;
        assert_eq!(phone.message().await.body, "still here?");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_entry_of_a_chat_is_noticed_when_its_announcement_was_lost() {
    let limits = Limits { positions_every: Duration::from_millis(100), ..Limits::default() };
    with_stand(limits, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut stranger = stand.connect(user(3), device(1)).await;
        ann.send_text(chat(), "hello").await;
        stand.peers.store_silently(chat(), Message { seq: 2, ..Message::default() });
        let lagged = ann.push("lagged", |frame| frame.lagged.clone()).await;
        assert_eq!((lagged.chat, lagged.head_seq), (chat(), 2));
        assert!(stranger.receives_nothing(MOMENT).await);
        assert!(ann.receives_nothing(MOMENT).await, "once is enough");
        assert_eq!(stand.gateway.metric("lost_announcements_total").await, 1);
    })
    .await;
}
