use contracts::{
    ChatId, MessageKey,
    wire::{Empty, History, Send, Watch},
};
use kit::testing::fuzz;

use super::*;

const READING: SocketState = SocketState { reading: true };

fn chat() -> &'static str {
    "00000000-0000-0000-0000-00000000000c"
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn device() -> DeviceId {
    DeviceId(Uuid::from_u128(77))
}

struct Story {
    session: Session,
    start: Instant,
}

impl Story {
    fn new() -> Self {
        Self::of(Encoding::Json)
    }

    fn of(encoding: Encoding) -> Self {
        let start = Instant::now();
        let limits = Limits { max_inflight: 2, ..Limits::default() };
        Self { session: Session::new(Uuid::from_u128(42), encoding, Arc::new(limits), start), start }
    }

    fn connected() -> Self {
        Self::connected_of(Encoding::Json)
    }

    fn connected_of(encoding: Encoding) -> Self {
        let mut story = Self::of(encoding);
        let connect = Connect { token: "t".to_owned(), device: device() };
        let action = story.frame(&ClientFrame { id: named(1), command: Command::Connect(connect) });
        assert!(matches!(&action, Action::Connect(id, _) if *id == named(1)), "{action:?}");
        let action = story.session.connected(story.start, named(1), device(), token(1, 300));
        let Action::Open(identity, of, frame) = action else { panic!("{action:?}") };
        assert_eq!((identity, of), (Identity { user: user(1), device: device() }, session(1)));
        assert!(matches!(frame.result, Some(Outcome::Connected(_))));
        story
    }

    fn text(&mut self, text: &str) -> Action {
        self.session.text(self.start, text)
    }

    fn binary(&mut self, bytes: &[u8]) -> Action {
        self.session.binary(self.start, bytes)
    }

    /// Reads a frame as a client of the connection's encoding writes it.
    fn frame(&mut self, frame: &ClientFrame) -> Action {
        let bytes = self.session.encoding.encode(frame);
        match self.session.encoding {
            Encoding::Json => self.text(str::from_utf8(&bytes).expect("JSON is text")),
            Encoding::Cbor => self.binary(&bytes),
        }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }
}

fn session(n: u128) -> SessionId {
    format!("session-{n}").parse().expect("an id")
}

fn token(n: u128, expires_in_seconds: i64) -> Result<VerifiedToken, TokenRefusal> {
    Ok(VerifiedToken { user: user(n), session: session(n), expires_in_seconds })
}

fn unverified(code: ErrorCode) -> Result<VerifiedToken, TokenRefusal> {
    Err(TokenRefusal::Unverified(code))
}

fn send(id: u32) -> String {
    let key = Uuid::from_u128(u128::from(id));
    format!(r#"{{"id":{id},"send":{{"chat":"{}","key":"{key}","body":"hi"}}}}"#, chat())
}

fn named(id: u32) -> Option<RequestId> {
    Some(id.into())
}

fn code(action: &Action) -> (Option<RequestId>, ErrorCode) {
    match action {
        Action::Answer(frame) | Action::Refuse(frame, _) => {
            (frame.id.clone(), frame.error.as_ref().expect("an error").code)
        }
        other => panic!("not an error: {other:?}"),
    }
}

fn closes(action: &Action) -> Option<CloseCode> {
    match action {
        Action::Close(code) | Action::Refuse(_, code) => Some(*code),
        _ => None,
    }
}

#[test]
fn a_connection_without_a_token_becomes_stale() {
    let mut story = Story::new();
    assert!(story.session.deadline(story.start) <= story.at(5.0));
    let action = story.session.deadline_passed(story.at(5.0), READING);
    assert_eq!(closes(&action), Some(CloseCode::Stale));
}

#[test]
fn a_strangers_first_mistake_is_the_last() {
    let check = |text: &str, expected_code, expected_close| {
        let action = Story::new().text(text);
        assert_eq!(code(&action).1, expected_code, "{text}");
        assert_eq!(closes(&action), Some(expected_close), "{text}");
    };
    check("not json", ErrorCode::Malformed, CloseCode::Malformed);
    check(r#"{"id":1}"#, ErrorCode::Malformed, CloseCode::Malformed);
    check(&send(1), ErrorCode::Unauthenticated, CloseCode::Malformed);
    check(&" ".repeat(MAX_FRAME_BYTES + 1), ErrorCode::TooLarge, CloseCode::TooLarge);
}

#[test]
fn each_kind_of_bad_token_has_its_close_code() {
    let check = |token, expected_code, expected_close| {
        let mut story = Story::new();
        let action = story.session.connected(story.start, named(1), device(), token);
        assert_eq!(code(&action), (named(1), expected_code));
        assert_eq!(closes(&action), Some(expected_close));
    };
    check(unverified(ErrorCode::Unauthenticated), ErrorCode::Unauthenticated, CloseCode::InvalidToken);
    check(unverified(ErrorCode::TokenExpired), ErrorCode::TokenExpired, CloseCode::TokenExpired);
    check(token(1, 0), ErrorCode::TokenExpired, CloseCode::TokenExpired);
    check(unverified(ErrorCode::Unavailable), ErrorCode::Unavailable, CloseCode::Drain);
    check(Err(TokenRefusal::SessionEnded), ErrorCode::Unauthenticated, CloseCode::SessionEnded);
}

#[test]
fn a_token_that_is_being_checked_is_not_stale_and_holds_up_reading() {
    let mut story = Story::new();
    story.text(&format!(r#"{{"id":1,"connect":{{"token":"t","device":"{}"}}}}"#, device()));
    assert!(!story.session.may_read(story.start));
    let action = story.session.deadline_passed(story.at(6.0), READING);
    assert!(matches!(action, Action::Nothing), "{action:?}");
}

#[test]
fn the_nil_device_is_refused_and_another_may_be_named() {
    let mut story = Story::new();
    let action = story.text(&format!(r#"{{"id":1,"connect":{{"token":"t","device":"{}"}}}}"#, Uuid::nil()));
    assert_eq!((code(&action), closes(&action)), ((named(1), ErrorCode::InvalidArgument), None));
}

#[test]
fn a_mistake_is_named_and_never_closes_a_user() {
    let mut story = Story::connected();
    let action = story.text(r#"{"id":9,"shout":{}}"#);
    assert_eq!((code(&action), closes(&action)), ((named(9), ErrorCode::Malformed), None));
    for _ in 0..1_000 {
        assert_eq!(closes(&story.text(r#"{"send":{}}"#)), None);
    }
    // They are read more slowly than frames that are right.
    assert!(!story.session.may_read(story.at(1.0)));
    let mut patient = Story::connected();
    for _ in 0..40 {
        assert!(patient.session.may_read(patient.start));
        patient.text(r#"{"id":9,"shout":{}}"#);
    }
}

#[test]
fn a_mistake_is_one_in_every_encoding() {
    // An unknown command, an id that is none, an array, nothing.
    let mistakes: [(&str, &[u8], Option<u32>); 4] = [
        (r#"{"id":9,"shout":{}}"#, b"\xa2\x00\x09\x65shout\xa0", Some(9)),
        (r#"{"id":9,"typing":{"chat":"c"}}"#, b"\xa2\x00\x09\x06\xa1\x0e\x41c", Some(9)),
        ("[9,null,{}]", b"\x83\x09\xf6\xa0", None),
        ("", b"", None),
    ];
    for (text, bytes, id) in mistakes {
        let answers = [Story::connected().text(text), Story::connected_of(Encoding::Cbor).binary(bytes)];
        for action in answers {
            assert_eq!(
                (code(&action), closes(&action)),
                ((id.map(RequestId::from), ErrorCode::Malformed), None)
            );
        }
    }
    let large = Send::text(ChatId(Uuid::nil()), MessageKey(Uuid::nil()), "x".repeat(MAX_FRAME_BYTES));
    let large = ClientFrame { id: named(9), command: Command::Send(large) };
    for encoding in Encoding::ALL {
        let action = Story::connected_of(encoding).frame(&large);
        assert_eq!((code(&action), closes(&action)), ((named(9), ErrorCode::TooLarge), None));
    }
}

#[test]
fn a_client_that_speaks_another_subprotocol_than_it_asked_for_is_closed() {
    let pong = ClientFrame { id: None, command: Command::Pong(Empty {}) };
    let [text, bytes] = Encoding::ALL.map(|encoding| encoding.encode(&pong));
    let text = str::from_utf8(&text).expect("JSON is text");
    let connected = [Story::connected, || Story::connected_of(Encoding::Cbor)];
    let strangers = [Story::new, || Story::of(Encoding::Cbor)];
    for [json, cbor] in [connected, strangers] {
        for action in [json().binary(&bytes), cbor().text(text)] {
            let expected = ((None, ErrorCode::Malformed), Some(CloseCode::Malformed));
            assert_eq!((code(&action), closes(&action)), expected);
        }
    }
}

#[test]
fn a_frame_of_two_commands_is_malformed() {
    let action = Story::connected().text(r#"{"id":9,"pong":{},"refresh":{"token":"t"}}"#);
    assert_eq!(code(&action), (named(9), ErrorCode::Malformed));
}

#[test]
fn a_command_that_is_refused_or_has_no_answer_leaves_nothing_open() {
    let mut story = Story::connected();
    assert!(matches!(story.text(r#"{"pong":{}}"#), Action::Run(None, _, Command::Pong(_))));
    story.session.passed();
    assert!(!story.session.is_busy());
    assert!(matches!(story.text(&send(2)), Action::Run(id, _, Command::Send(_)) if id == named(2)));
    let refusal = Refusal::new(ErrorCode::InvalidArgument, "a message has a body");
    let action = story.session.answered(story.start, named(2), Err(refusal));
    assert_eq!((code(&action), closes(&action)), ((named(2), ErrorCode::InvalidArgument), None));
    assert!(!story.session.is_busy() && story.session.may_read(story.start));
}

#[test]
fn a_pong_before_connect_is_nothing() {
    let mut story = Story::new();
    assert!(matches!(story.text(r#"{"pong":{}}"#), Action::Nothing));
    assert!(story.session.may_read(story.start));
}

#[test]
fn a_send_that_wants_no_second_answer_is_answered_by_a_refusal_alone() {
    let mut story = Story::connected();
    for id in 1..=2 {
        assert!(matches!(story.text(&send(id)), Action::Run(..)));
        story.session.started(Lane::QuietSends);
    }
    assert!(!story.session.may_read(story.start), "two sends are under way");
    let accepted = Ok(Outcome::Accepted(Empty {}));
    assert!(matches!(story.session.finished(Lane::QuietSends, named(1), accepted), Action::Nothing));
    assert!(story.session.may_read(story.start));
    let refusal = Refusal::new(ErrorCode::Unavailable, "down");
    let Action::Answer(frame) = story.session.finished(Lane::QuietSends, named(2), Err(refusal)) else {
        panic!("an answer")
    };
    assert_eq!(frame.id, named(2));
    assert!(frame.error.is_some());
}

#[test]
fn the_window_of_sends_closes_and_opens() {
    let mut story = Story::connected();
    for id in 1..=2 {
        assert!(story.session.may_read(story.start));
        assert!(matches!(story.text(&send(id)), Action::Run(..)));
        assert!(!story.session.may_read(story.start), "one decision at a time");
        story.session.started(Lane::Sends);
    }
    assert!(!story.session.may_read(story.start), "two sends are unanswered");
    let accepted = Ok(Outcome::Accepted(Empty {}));
    let Action::Answer(frame) = story.session.finished(Lane::Sends, named(1), accepted) else {
        panic!("an answer")
    };
    assert_eq!(frame.result.map(|outcome| matches!(outcome, Outcome::Accepted(_))), Some(true));
    assert!(story.session.may_read(story.start));
    let refusal = Refusal::new(ErrorCode::Unavailable, "down");
    let Action::Answer(frame) = story.session.finished(Lane::Sends, named(2), Err(refusal)) else {
        panic!("an answer")
    };
    let error = frame.error.expect("an error");
    assert!(error.temporary && error.retry_after_ms.is_some());
    assert!(!story.session.is_busy());
}

#[test]
fn queries_have_a_window_of_their_own() {
    let mut story = Story::connected();
    let query = format!(r#"{{"id":3,"history":{{"chat":"{}"}}}}"#, chat());
    for _ in 0..Limits::default().max_queries {
        assert!(story.session.may_read(story.start));
        assert!(matches!(story.text(&query), Action::Run(id, _, Command::History(_)) if id == named(3)));
        story.session.started(Lane::Queries);
    }
    assert!(!story.session.may_read(story.start));
    story.session.finished(Lane::Queries, named(3), Err(Refusal::new(ErrorCode::Unavailable, "down")));
    assert!(story.session.may_read(story.start));
}

#[test]
fn a_ping_wants_any_frame_in_time() {
    let mut story = Story::connected();
    let ping = story.session.deadline(story.start);
    assert!(ping > story.start && ping <= story.at(25.0));
    assert!(matches!(story.session.deadline_passed(ping, READING), Action::Ping));
    let due = story.session.deadline(ping);
    assert_eq!(due, ping + Duration::from_secs(8));
    story.session.text(due, r#"{"pong":{}}"#);
    story.session.passed();
    assert!(matches!(story.session.deadline_passed(due, READING), Action::Nothing));

    let ping = story.session.next_ping;
    assert!(matches!(story.session.deadline_passed(ping, READING), Action::Ping));
    let due = ping + Duration::from_secs(8);
    let action = story.session.deadline_passed(due, SocketState { reading: false });
    assert!(matches!(action, Action::Nothing), "what was not read is not missing");
    let action = story.session.deadline_passed(due + Duration::from_secs(8), READING);
    assert_eq!(closes(&action), Some(CloseCode::NoPong));
}

#[test]
fn a_stalled_write_is_slow_and_not_silent() {
    let mut story = Story::connected();
    story.session.write_blocked(story.at(1.0));
    story.session.write_blocked(story.at(15.0));
    assert!(matches!(story.session.deadline_passed(story.at(20.9), READING), Action::Nothing));
    let action = story.session.deadline_passed(story.at(21.0), READING);
    assert_eq!(closes(&action), Some(CloseCode::Slow));
    story.session.write_went_on();
    assert!(closes(&story.session.deadline_passed(story.at(21.0), READING)).is_none());
}

#[test]
fn an_expired_token_closes_unless_it_was_refreshed() {
    let mut story = Story::connected();
    let at = story.at(250.0);
    let refresh = story.session.text(at, r#"{"id":5,"refresh":{"token":"new"}}"#);
    assert!(matches!(refresh, Action::Run(id, _, Command::Refresh(_)) if id == named(5)));
    assert_eq!(
        code(&story.session.refreshed(at, named(5), token(2, 300))),
        (named(5), ErrorCode::PermissionDenied)
    );
    assert_eq!(
        code(&story.session.refreshed(at, named(6), unverified(ErrorCode::TokenExpired))),
        (named(6), ErrorCode::TokenExpired)
    );
    assert_eq!(
        code(&story.session.refreshed(at, named(6), Err(TokenRefusal::SessionEnded))),
        (named(6), ErrorCode::Unauthenticated)
    );
    let renewed = Ok(VerifiedToken { user: user(1), session: session(9), expires_in_seconds: 300 });
    let action = story.session.refreshed(at, named(7), renewed);
    let Action::Renew(identity, of, _) = action else { panic!("{action:?}") };
    assert_eq!((identity.user, of), (user(1), session(9)), "the connection goes on with another session");
    story.session.pong_due = None;
    assert!(closes(&story.session.deadline_passed(story.at(300.0), READING)).is_none());
    story.session.pong_due = None;
    let action = story.session.deadline_passed(story.at(550.0), READING);
    assert_eq!(closes(&action), Some(CloseCode::TokenExpired));
}

#[test]
fn a_flood_is_read_more_slowly() {
    let check = |flood: fn(&mut Story)| {
        let mut story = Story::connected();
        for _ in 0..Limits::default().frames_burst {
            flood(&mut story);
        }
        assert!(!story.session.may_read(story.start));
        let again = story.session.deadline(story.start);
        assert!(again <= story.at(0.1));
        assert!(story.session.may_read(again));
    };
    check(|story| {
        story.text(r#"{"pong":{}}"#);
        story.session.passed();
    });
    // Pings of the WebSocket, pongs that nobody asked for, and fragments as they are counted.
    check(|story| story.session.control(story.start));
}

#[test]
fn a_client_that_does_not_wait_after_a_refusal_is_read_more_slowly() {
    let Limits { frames_burst, fault_frames, .. } = Limits::default();
    let refused = |story: &mut Story, refusal: fn() -> Refusal| {
        story.text(&send(1));
        let now = story.start;
        story.session.answered(now, named(1), Err(refusal()));
    };
    let frames_read = |refusal: fn() -> Refusal| {
        let mut story = Story::connected();
        (0..=frames_burst).find(|_| {
            refused(&mut story, refusal);
            !story.session.may_read(story.start)
        })
    };
    let too_fast = || Refusal::rate_limited("you send too much", Duration::from_millis(40));
    assert_eq!(frames_read(too_fast), Some(frames_burst / (fault_frames + 1)));
    let crowded = || Refusal::new(ErrorCode::RateLimited, "too many histories are read");
    assert!(frames_read(crowded) > frames_read(too_fast), "the server has no room: no fault of the client");
}

#[test]
fn any_text_is_a_command_or_refused_under_its_id() {
    let connect = format!(r#"{{"id":"first","connect":{{"token":"t","device":"{}"}}}}"#, device());
    let history = format!(r#"{{"id":2,"history":{{"chat":"{}","after":3,"limit":4}}}}"#, chat());
    let refresh = r#"{"refresh":{"token":"t\u0041"},"id":-1.5}"#;
    let frames = [connect.as_str(), &send(1), &history, refresh, r#"{"pong":{}}"#];
    let inputs = frames.map(str::as_bytes);
    fuzz(&inputs, |bytes| {
        // What is not UTF-8 never comes this far.
        let text = String::from_utf8_lossy(bytes);
        let named = RequestId::find_in(Encoded::Json(&text));
        for mut story in [Story::new(), Story::connected()] {
            let is_open = matches!(story.session.phase, Phase::Open { .. });
            check_fuzzed(is_open, story.text(&text), named.clone());
        }
    });
}

#[test]
fn any_bytes_are_a_command_or_refused_under_their_id() {
    let id = |n| ChatId(Uuid::from_u128(n));
    let connect = Connect { token: "t".to_owned(), device: device() };
    let send = Send { mentions: vec![user(1), user(2)], ..Send::text(id(1), MessageKey(Uuid::nil()), "hi") };
    let commands = [
        (Some(RequestId::Text("first".to_owned())), Command::Connect(connect)),
        (named(7), Command::Send(send)),
        (named(300), Command::History(History::after(id(1), 3, Some(4)))),
        (named(8), Command::Watch(Watch { users: vec![user(1)], chats: vec![id(1), id(2)] })),
        (None, Command::Pong(Empty {})),
    ];
    let frames = commands.map(|(id, command)| Encoding::Cbor.encode(&ClientFrame { id, command }));
    // By its names, with numbers that are longer than they have to be.
    let by_name = b"\xa2\x62id\x19\x00\x09\x67refresh\xa1\x65token\x61t";
    let inputs: Vec<&[u8]> = frames.iter().map(Vec::as_slice).chain([&by_name[..]]).collect();
    fuzz(&inputs, |bytes| {
        let named = RequestId::find_in(Encoded::Cbor(bytes));
        for mut story in [Story::of(Encoding::Cbor), Story::connected_of(Encoding::Cbor)] {
            let is_open = matches!(story.session.phase, Phase::Open { .. });
            check_fuzzed(is_open, story.binary(bytes), named.clone());
        }
    });
}

/// Checks what a connection does with an input that may be a frame, in which this id is found.
fn check_fuzzed(is_open: bool, action: Action, named: Option<RequestId>) {
    match action {
        Action::Answer(frame) => {
            let code = frame.error.as_ref().expect("a refusal").code;
            // A `connect` that is not valid may be sent again.
            assert!(is_open || code == ErrorCode::InvalidArgument, "a stranger is answered: {frame:?}");
            assert_eq!(frame.id, named);
        }
        Action::Refuse(frame, close) => {
            assert!(!is_open, "a user is closed with {close:?}: {frame:?}");
            assert!(frame.error.is_some());
        }
        Action::Run(id, ..) | Action::Connect(id, _) => assert_eq!(id, named),
        Action::Nothing => assert!(!is_open, "a pong of a stranger"),
        action => panic!("{action:?}"),
    }
}
