//! Users who change what they and others wrote.

use contracts::{
    ErrorCode, MessageKey,
    event::EntryKind,
    wire::{Command, Delete, Edit, MAX_MENTIONS, Pin, React, Send},
};
use gateway::Limits;
use uuid::Uuid;

use crate::stand::{chat, device, user, with_stand};

const THUMB: &str = "\u{1f44d}";

fn key() -> MessageKey {
    MessageKey(Uuid::new_v4())
}

fn edit(key: MessageKey, seq: i64, body: &str) -> Command {
    Command::Edit(Edit { chat: chat(), key, seq, body: body.to_owned() })
}

fn delete(key: MessageKey, seq: i64) -> Command {
    Command::Delete(Delete { chat: chat(), key, seq })
}

fn react(key: MessageKey, seq: i64, emoji: &str) -> Command {
    Command::React(React { chat: chat(), key, seq, emoji: emoji.to_owned(), remove: false })
}

fn send(key: MessageKey, reply_to: Option<i64>) -> Send {
    Send { reply_to, mentions: vec![user(1)], mention_all: true, ..Send::text(chat(), key, "I agree") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_change_of_messages_reaches_all_of_them() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut ben = stand.connect(user(2), device(1)).await;
        ann.send_text(chat(), "hey").await;
        assert_eq!(ben.message().await.seq, 1);

        let (one, two, three, four) = (key(), key(), key(), key());
        let pin = Command::Pin(Pin { chat: chat(), key: four, seq: 1, remove: false });
        ann.change(one, edit(one, 1, "hello")).await.expect("an edit");
        let edited = ben.message().await;
        assert_eq!(
            (edited.kind, edited.target_seq, edited.body.as_str()),
            (EntryKind::Edit, Some(1), "hello")
        );
        ben.change(two, react(two, 1, THUMB)).await.expect("a reaction");
        ben.change(three, Command::Send(send(three, Some(1)))).await.expect("a reply");
        ben.change(four, pin).await.expect("a pin");
        let reaction = ann.message().await;
        assert_eq!((reaction.kind, reaction.body.as_str()), (EntryKind::Reaction, THUMB));
        let reply = ann.message().await;
        assert_eq!((reply.kind, reply.target_seq), (EntryKind::Text, Some(1)));
        assert_eq!((reply.mentions.as_slice(), reply.mentions_all), ([user(1)].as_slice(), true));
        assert_eq!(ann.message().await.kind, EntryKind::Pin);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_may_not_change_is_refused_before_the_log() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        stand.peers.promote(user(3));
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut ben = stand.connect(user(2), device(1)).await;
        let mut admin = stand.connect(user(3), device(1)).await;
        let mut stranger = stand.connect(user(4), device(1)).await;
        ann.send_text(chat(), "mine").await;
        ann.send_text(chat(), "mine, too").await;
        let sent = stand.sent().await.len();

        use ErrorCode::{InvalidArgument, LimitReached, NotAMember, NotFound, PermissionDenied};
        let many = Send { mentions: vec![user(1); MAX_MENTIONS + 1], ..send(key(), None) };
        for (command, expected) in [
            (edit(key(), 1, "yours"), PermissionDenied),
            (delete(key(), 1), PermissionDenied),
            (edit(key(), 9, "nothing"), NotFound),
            (react(key(), 9, THUMB), NotFound),
            (Command::Send(send(key(), Some(9))), NotFound),
            (react(key(), 1, "no emoji"), InvalidArgument),
            (delete(key(), 0), InvalidArgument),
            (Command::Send(many), InvalidArgument),
        ] {
            assert_eq!(ben.change(key(), command).await, Err(expected));
        }
        assert_eq!(admin.change(key(), edit(key(), 1, "yours")).await, Err(PermissionDenied));
        assert_eq!(stranger.change(key(), react(key(), 1, THUMB)).await, Err(NotAMember));
        stand.peers.change(chat(), 2, |changes| changes.edits = 100);
        assert_eq!(ann.change(key(), edit(key(), 2, "again")).await, Err(LimitReached));
        assert_eq!(stand.sent().await.len(), sent, "nothing of it is in the log");

        let removal = key();
        admin.change(removal, delete(removal, 1)).await.expect("admins delete what others wrote");
        assert!(stand.sent().await.last().expect("a record").moderates);
        stand.peers.change(chat(), 1, |changes| changes.deleted_seq = Some(3));
        assert_eq!(ann.change(key(), edit(key(), 1, "back")).await, Err(NotFound));
        // The same deletion again is the same, and no other.
        let again = admin.change(removal, delete(removal, 1)).await.expect("a repetition");
        assert_eq!((again.seq, again.sent_at_ms), (3, None));
    })
    .await;
}
