use std::num::NonZeroU16;

use contracts::{UserId, wire::Stored};
use uuid::Uuid;

use super::*;
use crate::Messenger;

const CHAT: ChatId = ChatId(Uuid::from_u128(1));
const KEY: MessageKey = MessageKey(Uuid::from_u128(77));

/// A user of a messenger that does not answer.
fn identity() -> Identity {
    let messenger = Messenger::new(&"http://127.0.0.1:1".parse().expect("a URL")).expect("a messenger");
    Identity::without_tokens(messenger, UserId(Uuid::from_u128(2)))
}

fn run() -> (Run, mpsc::Receiver<Event>) {
    let identity = identity();
    let (events, receiver) = mpsc::channel(EVENT_QUEUE);
    let machine = Machine::new(identity.user(), None);
    let incoming = mpsc::channel(1).1;
    let device = DeviceId::generate();
    (
        Run {
            identity,
            device,
            machine,
            incoming,
            events,
            settles: HashMap::new(),
            answers: HashMap::new(),
            queries: 0,
        },
        receiver,
    )
}

fn send(run: &mut Run) -> oneshot::Receiver<Result<Receipt, SendFailure>> {
    let (outcome, settled) = oneshot::channel();
    run.take(Command::Send { chat: CHAT, key: KEY, post: "hi".into(), outcome });
    settled
}

#[tokio::test]
async fn two_sends_with_one_key_have_one_outcome() {
    let (mut run, _events) = run();
    let settled = [send(&mut run), send(&mut run)];
    let stored = Some(Stored { chat: CHAT, key: KEY, seq: 4, sent_at_ms: None, expires_at_ms: None });
    run.machine.frame(ServerFrame { stored, ..ServerFrame::default() }, Instant::now());
    run.deliver(None).await.expect("no socket");
    for settled in settled {
        assert_eq!(settled.await.expect("it is settled").map(|receipt| receipt.seq), Ok(4));
    }
}

#[tokio::test]
async fn a_send_that_comes_while_the_session_ends_ends_with_it() {
    let (commands, incoming) = mpsc::channel(1);
    let place = commands.reserve().await.expect("the session is there");
    drop(incoming);
    let (outcome, settled) = oneshot::channel();
    place.send(Command::Send { chat: CHAT, key: KEY, post: "hi".into(), outcome });
    let answered = timeout(Duration::from_secs(5), answer(&commands, settled)).await;
    assert_eq!(answered.expect("it does not wait for what cannot come"), None);
}

#[tokio::test]
async fn an_attempt_to_connect_that_fails_is_reported() {
    let (_session, mut events) = Session::open(identity(), DeviceId::generate());
    let first = events.recv().await;
    assert!(matches!(&first, Some(Event::Disconnected { why }) if !why.is_empty()), "{first:?}");
}

#[test]
fn waits_double_to_a_bound_and_are_short_again_after_a_good_connection() {
    let mut back_off = BackOff::default();
    let waits: Vec<u64> = (0..7).map(|_| back_off.next(Duration::ZERO).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(back_off.next(GOOD_AFTER - Duration::from_millis(1)), LAST_WAIT);
    assert_eq!(back_off.next(GOOD_AFTER), FIRST_WAIT);
}

#[test]
fn a_server_that_says_when_to_come_back_is_asked_then_and_not_much_later() {
    let seconds = Duration::from_secs;
    for (bound, said, earliest, latest) in [
        (seconds(1), None, 0, 1),
        (seconds(30), None, 0, 30),
        (seconds(1), Some(seconds(1)), 1, 2),
        // A tenant that wakes says a second, however many attempts there were.
        (seconds(30), Some(seconds(1)), 1, 5),
        (seconds(1), Some(seconds(60)), 60, 61),
        (seconds(30), Some(seconds(60)), 60, 90),
        (seconds(30), Some(seconds(3600)), 300, 330),
    ] {
        let found = (wait(bound, said, 0.0), wait(bound, said, 1.0));
        assert_eq!(found, (seconds(earliest), seconds(latest)), "{bound:?} {said:?}");
    }
}

#[test]
fn what_the_server_says_of_the_next_attempt_is_taken_from_its_refusal() {
    let refused = |status: u16, said: u16| {
        let (action, url) = ("open the WebSocket", "http://acme.localhost/".to_owned());
        let retry_after_seconds = NonZeroU16::new(said);
        unusable(&ClientError::Refused { action, url, status, retry_after_seconds, problem: None })
    };
    assert!(matches!(refused(503, 7), End::Later(_, wait) if wait == Duration::from_secs(7)));
    assert!(matches!(refused(503, 0), End::Broken(_)));
    assert!(matches!(refused(401, 7), End::Expired), "another token is what helps");
}
