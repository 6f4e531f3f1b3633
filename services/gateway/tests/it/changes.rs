//! Users who change what they and others wrote.

use std::sync::atomic::Ordering;

use contracts::{
    ChatId, ErrorCode, MessageKey,
    event::{EntryKind, Forwarded, Role, SeqRange, Source},
    wire::{
        Command, Delete, DeleteRange, Edit, Forward, History, MAX_MENTIONS, Outcome, Pin, Pins, React,
        Replies, Send,
    },
};
use gateway::Limits;
use uuid::Uuid;

use crate::stand::{chat, device, user, with_encodings, with_stand};

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
    with_encodings(Limits::default(), async |stand| {
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
        // Its sender is not to believe that it is not stored while nothing says whether it is.
        stand.peers.answers_keys.store(false, Ordering::SeqCst);
        assert_eq!(admin.change(removal, delete(removal, 1)).await, Err(ErrorCode::Unavailable));
        stand.peers.answers_keys.store(true, Ordering::SeqCst);
        // The same deletion again is the same, and no other.
        let again = admin.change(removal, delete(removal, 1)).await.expect("a repetition");
        assert_eq!((again.seq, again.sent_at_ms), (3, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_says_whom_it_calls_and_whether_it_is_silent() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        stand.peers.promote(user(3));
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut ben = stand.connect(user(2), device(1)).await;
        let call = key();
        let send = Send {
            mentions: vec![user(2), user(7)],
            mention_roles: vec![Role::Admin],
            mention_here: true,
            silent: true,
            ..Send::text(chat(), call, "who has a minute?")
        };
        ann.change(call, Command::Send(send)).await.expect("a text");
        let pushed = ben.message().await;
        assert_eq!((pushed.mentions_here, pushed.silent), (true, true));
        assert_eq!(pushed.mention_roles, [Role::Admin]);
        let record = stand.sent().await.pop().expect("a record");
        assert_eq!(record.mentions, [user(2), user(7), user(3)], "by name, and then by role");
        assert_eq!((record.called_by_role, record.not_members.as_slice()), (1, [user(7)].as_slice()));

        // A message does not wait for the chat service to know the names of it. Roles it does not know by itself.
        stand.peers.answers_checks.store(false, Ordering::SeqCst);
        let named = key();
        let send = Send { mentions: vec![user(2)], ..Send::text(chat(), named, "ben?") };
        ann.change(named, Command::Send(send)).await.expect("a text");
        let send = Send { mention_roles: vec![Role::Owner], ..Send::text(chat(), key(), "an owner, please") };
        assert_eq!(ann.change(key(), Command::Send(send)).await, Err(ErrorCode::Unavailable));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_deleted_of_whom_the_caller_may() {
    with_stand(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        stand.peers.promote(user(3));
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut admin = stand.connect(user(3), device(1)).await;
        ann.send_text(chat(), "mine").await;
        let range = |key, from_seq, to_seq, sender| {
            Command::DeleteRange(DeleteRange { chat: chat(), key, from_seq, to_seq, sender })
        };
        use ErrorCode::{InvalidArgument, NotFound, PermissionDenied};
        for (command, expected) in [
            (range(key(), 1, 101, None), InvalidArgument),
            (range(key(), 2, 1, None), InvalidArgument),
            (range(key(), 0, 1, None), InvalidArgument),
            (range(key(), 9, 10, None), NotFound),
            (range(key(), 1, 2, Some(user(2))), PermissionDenied),
        ] {
            assert_eq!(ann.change(key(), command).await, Err(expected));
        }
        for (sender, decided) in [(None, Some(user(1))), (Some(user(1)), Some(user(1)))] {
            let deletion = key();
            ann.change(deletion, range(deletion, 1, 50, sender)).await.expect("a deletion");
            let record = stand.sent().await.pop().expect("a record");
            assert_eq!((record.subject, record.moderates), (decided, false));
            assert_eq!(record.range, Some(SeqRange { from_seq: 1, to_seq: 50 }));
        }
        let pushed = admin.push("a deletion", |frame| {
            frame.message.clone().filter(|message| message.kind == EntryKind::DeleteRange)
        });
        let pushed = pushed.await;
        assert_eq!(
            (pushed.subject, pushed.range),
            (Some(user(1)), Some(SeqRange { from_seq: 1, to_seq: 50 }))
        );
        let mut deletions = Vec::new();
        for (sender, moderates) in [(None, true), (Some(user(2)), true), (Some(user(3)), false)] {
            let deletion = key();
            let stored = admin.change(deletion, range(deletion, 1, 2, sender)).await.expect("a deletion");
            let record = stand.sent().await.pop().expect("a record");
            assert_eq!((record.subject, record.moderates), (sender, moderates));
            deletions.push((deletion, sender, stored.seq));
        }
        // What is stored stays so for who is no admin any more, and then no member.
        stand.peers.demote(user(3));
        for out in [false, true] {
            if out {
                stand.peers.leave_silently(chat(), user(3));
            }
            for &(deletion, sender, seq) in &deletions {
                let again =
                    admin.change(deletion, range(deletion, 1, 2, sender)).await.expect("a repetition");
                assert_eq!((again.seq, again.sent_at_ms), (seq, None));
            }
        }
        assert_eq!(admin.change(key(), range(key(), 1, 2, Some(user(2)))).await, Err(ErrorCode::NotAMember));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_forwarded_by_whom_reads_it_and_without_its_chat() {
    with_encodings(Limits::default(), async |stand| {
        let other = ChatId(Uuid::from_u128(77));
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        stand.peers.join(other, &[user(2), user(3)]).await;
        let mut ann = stand.connect(user(1), device(1)).await;
        let mut ben = stand.connect(user(2), device(1)).await;
        let mut cid = stand.connect(user(3), device(1)).await;
        ann.send_text(chat(), "see you at four").await;
        let edition = key();
        ann.change(edition, edit(edition, 1, "see you at five")).await.expect("an edit");
        let forward =
            |key, to, from_chat, from_seq| Command::Forward(Forward { chat: to, key, from_chat, from_seq });
        let first = key();
        let stored = ben.change(first, forward(first, other, chat(), 1)).await.expect("a forwarded text");
        let pushed = cid.message().await;
        let sent_at_ms = 1_767_225_600_001;
        assert_eq!((pushed.seq, pushed.sender, pushed.kind), (stored.seq, user(2), EntryKind::Text));
        assert_eq!(pushed.forwarded, Some(Forwarded { sender: user(1), sent_at_ms }));
        assert_eq!(pushed.body, "see you at four", "as the stand keeps it");
        let record = stand.sent().await.pop().expect("a record");
        assert_eq!(record.source, Some(Source { chat: chat(), seq: 1 }));
        // Who wrote it first stays known.
        let second = key();
        cid.change(second, forward(second, other, other, 1)).await.expect("a forwarded text");
        let again = ben.push("it", |frame| frame.message.clone().filter(|of| of.chat == other)).await;
        assert_eq!(again.forwarded, pushed.forwarded);

        use ErrorCode::{InvalidArgument, NotAMember, NotFound};
        for (command, expected) in [
            (forward(key(), other, chat(), 0), InvalidArgument),
            (forward(key(), other, chat(), 9), NotFound),
            (forward(key(), other, chat(), 2), NotFound),
            (forward(key(), other, ChatId(Uuid::from_u128(78)), 1), NotFound),
        ] {
            assert_eq!(ben.change(key(), command).await, Err(expected));
        }
        assert_eq!(ann.change(key(), forward(key(), other, chat(), 1)).await, Err(NotAMember));
        // Deleted since: not again, and the same forward is the same.
        stand.peers.change(chat(), 1, |changes| changes.deleted_seq = Some(3));
        assert_eq!(ben.change(key(), forward(key(), other, chat(), 1)).await, Err(NotFound));
        let repeated = ben.change(first, forward(first, other, chat(), 1)).await.expect("a repetition");
        assert_eq!((repeated.seq, repeated.sent_at_ms), (stored.seq, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pins_and_replies_are_listed_and_a_chat_is_opened_at_a_time() {
    with_encodings(Limits::default(), async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut ann = stand.connect(user(1), device(1)).await;
        ann.send_text(chat(), "hello").await;
        let reply = key();
        ann.change(reply, Command::Send(send(reply, Some(1)))).await.expect("a reply");
        stand.peers.change(chat(), 1, |changes| (changes.seq, changes.pinned_seq) = (7, Some(7)));
        let mut list = async |command| {
            let id = ann.command(command).await;
            match ann.answer(id).await? {
                Outcome::Listed(page) => {
                    Ok((page.messages.iter().map(|of| of.seq).collect::<Vec<_>>(), page.more))
                }
                Outcome::History(page) => Ok((page.messages.iter().map(|of| of.seq).collect(), false)),
                other => panic!("not a list: {other:?}"),
            }
        };
        let pins = |before, limit| Command::Pins(Pins { chat: chat(), before, limit });
        let replies = |seq, after, limit| Command::Replies(Replies { chat: chat(), seq, after, limit });
        assert_eq!(list(pins(None, None)).await, Ok((vec![1], false)));
        assert_eq!(list(pins(Some(7), Some(100))).await, Ok((vec![], false)));
        assert_eq!(list(replies(1, None, None)).await, Ok((vec![2], false)));
        assert_eq!(list(replies(1, Some(2), Some(1))).await, Ok((vec![], false)));
        let since = |from_ms| {
            let from_ms = Some(from_ms);
            Command::History(History { after: None, from_ms, ..History::after(chat(), 0, None) })
        };
        assert_eq!(list(since(1_767_225_600_002)).await, Ok((vec![2], false)));
        use ErrorCode::{InvalidArgument, NotAMember, NotFound};
        let elsewhere = Pins { chat: ChatId(Uuid::from_u128(78)), before: None, limit: None };
        for (command, expected) in [
            (pins(None, Some(0)), InvalidArgument),
            (pins(None, Some(101)), InvalidArgument),
            (pins(Some(0), None), InvalidArgument),
            (replies(0, None, None), InvalidArgument),
            (replies(1, Some(-1), None), InvalidArgument),
            (replies(9, None, None), NotFound),
            (since(-1), InvalidArgument),
            (Command::Pins(elsewhere), NotAMember),
        ] {
            assert_eq!(list(command).await, Err(expected));
        }
        // As many as a chat may have.
        stand.peers.pins.store(1_000, Ordering::SeqCst);
        let pin = Command::Pin(Pin { chat: chat(), key: key(), seq: 2, remove: false });
        assert_eq!(ann.change(key(), pin).await, Err(ErrorCode::LimitReached));
    })
    .await;
}
