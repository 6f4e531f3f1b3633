use contracts::{
    api::OwnChatState,
    event::{ChatKind, Role},
    wire::{self, Lagged, RequestId},
};
use uuid::Uuid;

use super::{marks::MARK_PAUSE, sync::MAX_RESYNCS, *};
use crate::timeline::tests::message;

const CHAT: ChatId = ChatId(Uuid::from_u128(1));
const KEY: MessageKey = MessageKey(Uuid::from_u128(77));

fn connected(max_inflight: u32) -> Connected {
    Connected {
        session: "s".into(),
        user: UserId(Uuid::from_u128(2)),
        ping_seconds: 25,
        pong_seconds: 8,
        max_inflight,
        max_frame_bytes: 65_536,
        max_body_bytes: 16_384,
        token_expires_in_seconds: 300,
    }
}

fn machine(now: Instant) -> Machine {
    let mut machine = Machine::new(UserId(Uuid::from_u128(2)), None);
    machine.connected(&connected(256), now);
    machine
}

fn number(id: Option<RequestId>) -> u32 {
    id.and_then(|id| id.as_u32()).expect("an id of ours")
}

/// Everything that came out, in short.
fn outputs(machine: &mut Machine) -> Vec<String> {
    std::iter::from_fn(|| machine.next_output())
        .filter_map(|output| match output {
            Output::Frame(ClientFrame { id, command: Command::Send(send) }) => {
                Some(format!("send #{} {}", number(id), send.body))
            }
            Output::Frame(ClientFrame { id, command: Command::History(history) }) => {
                Some(format!("history #{} after {}", number(id), history.after.unwrap_or_default()))
            }
            Output::RefreshLater => Some("refresh later".into()),
            // The first request of each connection.
            Output::Frame(ClientFrame { command: Command::Sync(_), .. })
            | Output::Event(Event::Synced(_)) => None,
            Output::Frame(ClientFrame { command: Command::Pong(_), .. }) => Some("pong".into()),
            Output::Frame(other) => Some(format!("{other:?}")),
            Output::Event(Event::Connected { .. } | Event::Disconnected { .. }) => None,
            Output::Event(Event::Entry { message, origin }) => Some(format!("{} {origin:?}", message.seq)),
            Output::Event(Event::Elsewhere(message)) => Some(format!("{} elsewhere", message.seq)),
            Output::Event(other) => Some(format!("{other:?}")),
            Output::Settled(_, Ok(receipt)) => {
                Some(format!("stored as {} after {} resends", receipt.seq, receipt.resends))
            }
            Output::Settled(_, Err(failure)) => Some(failure.to_string()),
            Output::Answered(query, Ok(_)) => Some(format!("answer {query}")),
            Output::Answered(query, Err(failure)) => Some(format!("answer {query}: {failure}")),
            Output::TokenRefused => Some("token refused".into()),
            Output::TokenRenewed(left) => Some(format!("token good for {} s", left.as_secs())),
        })
        .collect()
}

fn accepted(id: u32) -> ServerFrame {
    ServerFrame { id: Some(id.into()), result: Some(Outcome::Accepted(Empty {})), ..ServerFrame::default() }
}

fn stored(seq: i64, sent_at_ms: Option<i64>) -> ServerFrame {
    ServerFrame {
        stored: Some(Stored { chat: CHAT, key: KEY, seq, sent_at_ms, expires_at_ms: None }),
        ..ServerFrame::default()
    }
}

fn pushed(seq: i64) -> ServerFrame {
    ServerFrame { message: Some(message(seq)), ..ServerFrame::default() }
}

fn page(id: u32, seqs: &[i64], head_seq: i64) -> ServerFrame {
    page_from(1, id, seqs, head_seq)
}

/// A page for a member whose history begins at `from_seq`.
fn page_from(from_seq: i64, id: u32, seqs: &[i64], head_seq: i64) -> ServerFrame {
    let messages = seqs.iter().map(|&seq| message(seq)).collect();
    let result = Some(Outcome::History(HistoryPage { chat: CHAT, messages, head_seq, from_seq }));
    ServerFrame { id: Some(id.into()), result, ..ServerFrame::default() }
}

fn refused(id: u32, code: ErrorCode, retry_after_ms: Option<u32>) -> ServerFrame {
    let error = WireError { code, detail: "no".into(), temporary: code.is_temporary(), retry_after_ms };
    ServerFrame { id: Some(id.into()), error: Some(error), ..ServerFrame::default() }
}

#[test]
fn a_send_is_settled_by_its_seq() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.frame(synced(2, "one", &[0], false), now);
    machine.send(CHAT, KEY, "hi".into(), now);
    assert_eq!(outputs(&mut machine), ["send #3 hi"]);
    machine.frame(accepted(3), now);
    assert!(outputs(&mut machine).is_empty());
    machine.frame(stored(1, Some(5)), now);
    assert_eq!(outputs(&mut machine), ["1 elsewhere", "stored as 1 after 0 resends"]);
    machine.frame(stored(1, Some(5)), now);
    assert_eq!(outputs_and_syncs(&mut machine), 0, "a second announcement changes nothing");
}

#[test]
fn a_send_under_a_key_of_the_outbox_is_the_same_message() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.send(CHAT, KEY, "hi".into(), now);
    machine.send(CHAT, KEY, "hi".into(), now);
    assert_eq!(outputs(&mut machine), ["send #3 hi"]);
    machine.frame(stored(1, Some(5)), now);
    outputs(&mut machine);
    machine.disconnected("gone".into());
    machine.connected(&connected(256), now);
    assert!(outputs(&mut machine).is_empty(), "nothing is left in the outbox");
}

#[test]
fn an_entry_that_no_page_includes_ends_the_syncs() {
    let mut now = Instant::now();
    let mut machine = machine(now);
    machine.frame(synced(2, "one", &[], false), now);
    syncs(&mut machine);
    machine.frame(pushed(4), now);
    let mut asked = 0;
    let mut id = 3;
    for _ in 0..3 * MAX_RESYNCS {
        if !syncs(&mut machine).is_empty() {
            asked += 1;
            machine.frame(synced(id, "two", &[], false), now);
            id += 1;
        }
        now += RETRY_AFTER;
        machine.tick(now);
    }
    assert_eq!(asked, 1 + MAX_RESYNCS);
    machine.frame(pushed(5), now);
    assert_eq!(syncs(&mut machine).len(), 1, "another entry is asked for again");
}

#[test]
fn an_entry_that_the_messenger_completes_is_fetched() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 0, now);
    machine.frame(page(3, &[], 0), now);
    machine.send(CHAT, KEY, Post::Forward { from_chat: CHAT, from_seq: 9 }, now);
    outputs(&mut machine);
    machine.frame(stored(1, Some(5)), now);
    assert_eq!(outputs(&mut machine), ["stored as 1 after 0 resends", "history #5 after 0"]);
    machine.frame(page(5, &[1], 1), now);
    assert_eq!(outputs(&mut machine), ["1 Refetched"]);
}

#[test]
fn a_question_is_answered_once_on_its_connection() {
    let now = Instant::now();
    let mut machine = machine(now);
    let pins = || Command::Pins(wire::Pins { chat: CHAT, before: None, limit: None });
    for query in [1, 2, 3] {
        machine.query(query, pins());
    }
    assert_eq!(outputs(&mut machine).len(), 3);
    let listed = wire::ListPage { chat: CHAT, messages: Vec::new(), more: false };
    let result = Some(Outcome::Listed(listed));
    machine.frame(ServerFrame { id: Some(3.into()), result, ..ServerFrame::default() }, now);
    machine.frame(refused(5, ErrorCode::NotAMember, None), now);
    let refusal = "answer 3: the messenger refused the question: not_a_member: no";
    assert_eq!(outputs(&mut machine), ["answer 1", refusal]);
    machine.disconnected("gone".into());
    let offline = "there is no connection to the messenger";
    assert_eq!(outputs(&mut machine), [format!("answer 2: {offline}")]);
    machine.query(4, pins());
    assert_eq!(outputs(&mut machine), [format!("answer 4: {offline}")]);
}

#[test]
fn what_a_new_member_may_not_read_is_no_gap() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 0, now);
    assert_eq!(outputs(&mut machine), ["history #3 after 0"]);
    // The entry of the member comes as a push, and the page was read before it was stored.
    machine.frame(pushed(8), now);
    assert!(outputs(&mut machine).is_empty());
    machine.frame(page_from(7, 3, &[], 6), now);
    let later = now + Duration::from_secs(1);
    machine.tick(later);
    assert_eq!(outputs(&mut machine), ["history #4 after 6"]);
    machine.frame(page_from(8, 4, &[8], 8), later);
    assert_eq!(outputs(&mut machine), ["8 Pushed"]);
    machine.tick(later + Duration::from_secs(1));
    assert!(outputs(&mut machine).is_empty(), "nothing is missing");
}

#[test]
fn a_reconnect_repeats_what_is_not_stored_under_the_same_key() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.send(CHAT, KEY, "hi".into(), now);
    machine.frame(accepted(3), now);
    machine.disconnected("gone".into());
    outputs(&mut machine);
    machine.connected(&connected(256), now);
    assert_eq!(outputs(&mut machine), ["send #3 hi"]);
    machine.frame(stored(4, None), now);
    assert_eq!(outputs(&mut machine), ["stored as 4 after 1 resends"]);
}

#[test]
fn what_is_written_offline_goes_out_later() {
    let now = Instant::now();
    let mut machine = Machine::new(UserId(Uuid::from_u128(2)), None);
    machine.send(CHAT, KEY, "hi".into(), now);
    assert!(outputs(&mut machine).is_empty());
    machine.connected(&connected(256), now);
    assert_eq!(outputs(&mut machine), ["send #3 hi"]);
}

#[test]
fn an_accepted_message_that_is_not_announced_is_sent_again() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.send(CHAT, KEY, "hi".into(), now);
    machine.frame(accepted(3), now);
    outputs(&mut machine);
    machine.tick(now + STORED_PATIENCE / 2);
    assert!(outputs(&mut machine).is_empty());
    machine.tick(now + STORED_PATIENCE);
    assert_eq!(outputs(&mut machine), ["send #4 hi"]);
}

#[test]
fn unanswered_sends_stay_within_the_servers_limit() {
    let now = Instant::now();
    let mut machine = Machine::new(UserId(Uuid::from_u128(2)), None);
    machine.connected(&connected(2), now);
    for n in 1..=3 {
        machine.send(CHAT, MessageKey(Uuid::from_u128(n)), format!("m{n}").into(), now);
    }
    assert_eq!(outputs(&mut machine), ["send #3 m1", "send #4 m2"]);
    machine.frame(accepted(3), now);
    assert_eq!(outputs(&mut machine), ["send #5 m3"]);
}

#[test]
fn a_temporary_refusal_is_tried_again_and_another_is_final() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.send(CHAT, KEY, "hi".into(), now);
    outputs(&mut machine);
    machine.frame(refused(3, ErrorCode::RateLimited, Some(200)), now);
    assert!(outputs(&mut machine).is_empty());
    machine.tick(now + Duration::from_millis(200));
    assert_eq!(outputs(&mut machine), ["send #4 hi"]);
    machine.frame(refused(4, ErrorCode::NotAMember, None), now);
    assert_eq!(outputs(&mut machine), ["the messenger refused it: not_a_member: no"]);
}

#[test]
fn a_rate_limit_holds_every_send_back_and_narrows_the_window() {
    let now = Instant::now();
    let mut machine = machine(now);
    for n in 1..=4 {
        machine.send(CHAT, MessageKey(Uuid::from_u128(n)), format!("m{n}").into(), now);
    }
    machine.frame(accepted(3), now);
    outputs(&mut machine);
    for id in 4..=6 {
        machine.frame(refused(id, ErrorCode::RateLimited, Some(200)), now);
    }
    machine.send(CHAT, MessageKey(Uuid::from_u128(5)), "m5".into(), now);
    machine.tick(now + Duration::from_millis(199));
    assert!(outputs(&mut machine).is_empty(), "a later message waits as well");
    // 256 unanswered sends were allowed; refused again and again, it comes down to one.
    let mut now = now;
    let mut sent = Vec::new();
    for _ in 0..12 {
        now += Duration::from_millis(200);
        machine.tick(now);
        sent = outputs(&mut machine);
        for line in &sent {
            let id = line.split(['#', ' ']).nth(2).expect("an id").parse().expect("a number");
            machine.frame(refused(id, ErrorCode::RateLimited, Some(200)), now);
        }
    }
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].ends_with(" m2"), "the oldest goes first: {sent:?}");
    now += Duration::from_millis(200);
    machine.tick(now);
    let line = outputs(&mut machine).remove(0);
    let id = line.split(['#', ' ']).nth(2).expect("an id").parse().expect("a number");
    machine.frame(accepted(id), now);
    assert_eq!(outputs(&mut machine).len(), 2, "and wider again with each that is accepted");
}

#[test]
fn a_gap_is_filled_by_history_before_later_entries_are_handed_out() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 0, now);
    machine.frame(page(3, &[1], 1), now);
    assert_eq!(outputs(&mut machine), ["history #3 after 0", "1 Refetched"]);
    machine.frame(pushed(4), now);
    assert_eq!(outputs(&mut machine), ["history #4 after 1"]);
    machine.frame(pushed(5), now);
    assert!(outputs(&mut machine).is_empty(), "one request is under way");
    machine.frame(page(4, &[2, 3], 5), now);
    assert_eq!(outputs(&mut machine), ["2 Refetched", "3 Refetched", "4 Pushed", "5 Pushed"]);
}

#[test]
fn a_page_that_ends_below_the_head_fetches_the_next_one() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 0, now);
    outputs(&mut machine);
    machine.frame(page(3, &[1, 2], 4), now);
    assert_eq!(outputs(&mut machine), ["1 Refetched", "2 Refetched", "history #4 after 2"]);
}

#[test]
fn an_own_message_is_an_entry_like_any_other() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 0, now);
    machine.frame(page(3, &[], 0), now);
    machine.send(CHAT, KEY, "hi".into(), now);
    outputs(&mut machine);
    machine.frame(stored(1, Some(9)), now);
    assert_eq!(outputs(&mut machine), ["1 Own", "stored as 1 after 0 resends"]);
}

#[test]
fn dropped_pushes_and_a_reconnect_ask_for_history() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 3, now);
    machine.frame(page(3, &[], 3), now);
    outputs(&mut machine);
    let lagged = Some(Lagged { chat: CHAT, head_seq: 9 });
    machine.frame(ServerFrame { lagged, ..ServerFrame::default() }, now);
    assert_eq!(outputs(&mut machine), ["history #4 after 3"]);
    machine.disconnected("gone".into());
    machine.connected(&connected(256), now);
    assert_eq!(outputs(&mut machine), ["history #3 after 3"]);
}

/// What a sync says of the chat.
fn synced(id: u32, cursor: &str, heads: &[i64], more: bool) -> ServerFrame {
    let chats = heads.iter().map(|&head_seq| wire::ChatState {
        chat: CHAT,
        kind: ChatKind::Group,
        title: Some("Friends".into()),
        topic: None,
        avatar: None,
        slow_mode_seconds: 0,
        message_ttl_seconds: 0,
        other: None,
        role: Role::Member,
        own: OwnChatState::default(),
        member_count: 2,
        head_seq,
        from_seq: 1,
        watermarks: wire::Watermarks::default(),
        other_read_seq: None,
        other_delivered_seq: None,
        entries: Vec::new(),
        limited: true,
    });
    let (chats, cursor) = (chats.collect(), cursor.to_owned());
    let page = SyncPage { chats, cursor, more, all_chats: None, unread: 0, mentions: 0 };
    ServerFrame { id: Some(id.into()), result: Some(Outcome::Synced(page)), ..ServerFrame::default() }
}

/// How many things came out, syncs among them.
fn outputs_and_syncs(machine: &mut Machine) -> usize {
    std::iter::from_fn(|| machine.next_output()).count()
}

/// The cursors of the syncs that came out.
fn syncs(machine: &mut Machine) -> Vec<Option<String>> {
    std::iter::from_fn(|| machine.next_output())
        .filter_map(|output| match output {
            Output::Frame(ClientFrame { command: Command::Sync(query), .. }) => Some(query.cursor),
            _ => None,
        })
        .collect()
}

#[test]
fn nothing_is_sent_while_nothing_happens() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 3, now);
    machine.frame(synced(2, "one", &[3], false), now);
    machine.frame(page(3, &[], 3), now);
    outputs(&mut machine);
    for minute in 1..60 {
        machine.tick(now + Duration::from_secs(60 * minute));
    }
    assert!(outputs(&mut machine).is_empty());
}

#[test]
fn a_reconnect_asks_for_the_chats_that_have_grown_and_for_no_other() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 3, now);
    assert_eq!(syncs(&mut machine), [None]);
    machine.frame(synced(2, "one", &[], true), now);
    assert_eq!(syncs(&mut machine), [Some("one".to_owned())], "the next page");
    machine.frame(synced(4, "two", &[], false), now);
    machine.frame(page(3, &[], 3), now);
    assert!(syncs(&mut machine).is_empty());

    machine.disconnected("gone".into());
    machine.connected(&connected(256), now);
    assert_eq!(syncs(&mut machine), [Some("two".to_owned())]);
    outputs(&mut machine);
    machine.frame(synced(2, "three", &[5], false), now);
    let came = outputs(&mut machine);
    assert!(came.contains(&"history #3 after 3".to_owned()), "{came:?}");

    machine.frame(page(3, &[4, 5], 5), now);
    machine.disconnected("gone".into());
    machine.connected(&connected(256), now);
    outputs(&mut machine);
    machine.frame(refused(2, ErrorCode::CursorExpired, None), now);
    machine.tick(now + RETRY_AFTER);
    let mut came = Vec::new();
    while let Some(output) = machine.next_output() {
        if let Output::Frame(ClientFrame { command, .. }) = output {
            came.push(match command {
                Command::Sync(query) => format!("sync from {:?}", query.cursor),
                Command::History(history) => format!("history after {:?}", history.after),
                other => panic!("{other:?}"),
            });
        }
    }
    came.sort();
    assert_eq!(came, ["history after Some(5)", "sync from None"], "it begins again");
}

#[test]
fn marks_are_gathered_and_said_again_until_they_are_taken() {
    let now = Instant::now();
    let mut machine = machine(now);
    outputs(&mut machine);
    let marks = |machine: &mut Machine| {
        std::iter::from_fn(|| machine.next_output())
            .filter_map(|output| match output {
                Output::Frame(ClientFrame { command: Command::Read(mark), .. }) => {
                    Some(format!("read {}", mark.seq))
                }
                Output::Frame(ClientFrame { command: Command::Delivered(mark), .. }) => {
                    Some(format!("delivered {}", mark.seq))
                }
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    machine.read(CHAT, 3, now);
    for seq in 4..9 {
        machine.read(CHAT, seq, now);
        machine.delivered(CHAT, seq, now);
    }
    assert_eq!(marks(&mut machine), ["read 3"]);
    let later = now + MARK_PAUSE;
    machine.tick(later);
    assert_eq!(marks(&mut machine), ["read 8"], "what is read was received");
    machine.read(CHAT, 5, later + MARK_PAUSE);
    assert!(marks(&mut machine).is_empty(), "it never goes back");
    machine.frame(refused(4, ErrorCode::Unavailable, None), later);
    machine.tick(later + MARK_PAUSE);
    assert_eq!(marks(&mut machine), ["read 8"], "said again");
    machine.delivered(CHAT, 9, later + MARK_PAUSE * 2);
    assert_eq!(marks(&mut machine), ["delivered 9"]);
    machine.frame(refused(6, ErrorCode::NotFound, None), later);
    machine.tick(later + MARK_PAUSE * 9);
    assert!(marks(&mut machine).is_empty());

    machine.disconnected("gone".into());
    machine.read(CHAT, 10, later);
    assert!(marks(&mut machine).is_empty());
    machine.connected(&connected(256), later + MARK_PAUSE * 20);
    assert_eq!(marks(&mut machine), ["read 10"], "what was said offline is not lost");
}

#[test]
fn a_chat_that_cannot_be_read_any_more_is_left() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.follow(CHAT, 0, now);
    outputs(&mut machine);
    machine.frame(refused(3, ErrorCode::NotAMember, None), now);
    let expected = Event::Unreadable { chat: CHAT, code: ErrorCode::NotAMember };
    assert_eq!(outputs(&mut machine), [format!("{expected:?}")]);
    machine.tick(now + ANSWER_PATIENCE);
    assert!(outputs(&mut machine).is_empty());
}

#[test]
fn a_ping_is_answered_and_an_end_settles_everything() {
    let now = Instant::now();
    let mut machine = machine(now);
    machine.frame(ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() }, now);
    assert_eq!(outputs(&mut machine), ["pong"]);
    machine.send(CHAT, KEY, "hi".into(), now);
    outputs(&mut machine);
    machine.ended("invalid token".into());
    assert_eq!(outputs(&mut machine)[0], SendFailure::SessionEnded.to_string());
}

#[test]
fn what_is_watched_is_watched_again_on_every_connection() {
    let start = Instant::now();
    let mut machine = machine(start);
    let user = UserId(Uuid::from_u128(9));
    let watch = Watch { users: vec![user], chats: vec![CHAT] };
    let watched = |outputs: Vec<String>| outputs.iter().filter(|output| output.contains("Watch(")).count();
    machine.watch(watch, start);
    assert_eq!(watched(outputs(&mut machine)), 1);
    machine.tick(start);
    assert_eq!(watched(outputs(&mut machine)), 0, "nothing is sent while nothing happens");

    // Refused for the moment: again when the server says.
    let error = WireError {
        code: ErrorCode::Unavailable,
        detail: String::new(),
        temporary: true,
        retry_after_ms: Some(1_000),
    };
    machine.frame(ServerFrame { id: Some(3.into()), error: Some(error), ..ServerFrame::default() }, start);
    machine.tick(start + Duration::from_millis(900));
    assert_eq!(watched(outputs(&mut machine)), 0);
    machine.tick(start + Duration::from_millis(1_000));
    assert_eq!(watched(outputs(&mut machine)), 1);
    let presence = wire::Presence {
        users: vec![UserPresence { user, state: wire::PresenceState::Online, last_seen_ms: None }],
    };
    let answer = Some(Outcome::Watching(presence.clone()));
    machine.frame(ServerFrame { id: Some(4.into()), result: answer, ..ServerFrame::default() }, start);
    machine.frame(ServerFrame { presence: Some(presence), ..ServerFrame::default() }, start);
    let typing = TypingUser { chat: CHAT, user };
    machine.frame(ServerFrame { typing: Some(typing), ..ServerFrame::default() }, start);
    assert_eq!(outputs(&mut machine).len(), 3, "the answer, a change, and typing");

    machine.activity(ActivityState::Away);
    machine.typing(CHAT);
    assert_eq!(outputs(&mut machine).len(), 2);
    machine.disconnected("gone".into());
    machine.typing(CHAT);
    outputs(&mut machine);
    machine.connected(&connected(256), start);
    let again = outputs(&mut machine);
    assert_eq!(again.iter().filter(|output| output.contains("Activity(")).count(), 1);
    assert!(!again.iter().any(|output| output.contains("Typing(")), "{again:?}");
    assert_eq!(watched(again), 1);
}
