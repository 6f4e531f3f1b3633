//! To whom pushes go: the destinations of a client, and the frames of the protocol as messages to them.
//!
//! A frame is written once for all clients of STOMP, but for what each client has of its own: the header `subscription`, which is in every
//! message, and the number of a message that has no name. They stand in front, so what is behind them is copied for each connection, when it is
//! queued.

use std::{borrow::Cow, cell::Cell, collections::BTreeMap, fmt};

use contracts::{ChatId, Encoding, ErrorCode, wire::ServerFrame};
use uuid::Uuid;

use super::codec::{Version, write_headers};
use crate::domain::{
    answer::Refusal,
    websocket_header::{TEXT, write_header},
};

/// Destinations of one connection. A client with more chats subscribes to all of them at once.
const MAX_SUBSCRIPTIONS: usize = 256;
/// Bytes of the id of a subscription, which is in each of its messages.
const MAX_ID_BYTES: usize = 128;

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    /// All chats of the user.
    Chats,
    Chat(ChatId),
    /// How those are whom the client watches, and who is typing.
    Presence,
    /// How far members have read, and how the user has their chats.
    States,
    /// What the client's own frames come to, where STOMP has no frame for it.
    Replies,
}

impl Destination {
    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "/chats" => Self::Chats,
            "/presence" => Self::Presence,
            "/states" => Self::States,
            "/replies" => Self::Replies,
            _ => Self::Chat(name.strip_prefix("/chats/")?.parse().ok()?),
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chats => f.write_str("/chats"),
            Self::Chat(chat) => write!(f, "/chats/{chat}"),
            Self::Presence => f.write_str("/presence"),
            Self::States => f.write_str("/states"),
            Self::Replies => f.write_str("/replies"),
        }
    }
}

/// What a frame is about, which decides where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// An entry of a chat, which has a name.
    Entry,
    /// A chat, beside its entries.
    Chat,
    Presence,
    States,
    Replies,
}

impl About {
    const ALL: [Self; 5] = [Self::Entry, Self::Chat, Self::Presence, Self::States, Self::Replies];

    /// Returns what it was said in.
    const fn destination(self, chat: ChatId) -> Destination {
        match self {
            Self::Entry | Self::Chat => Destination::Chat(chat),
            Self::Presence => Destination::Presence,
            Self::States => Destination::States,
            Self::Replies => Destination::Replies,
        }
    }

    /// Returns where it goes.
    fn destinations(self, chat: ChatId) -> impl Iterator<Item = Destination> {
        let all = matches!(self, Self::Entry | Self::Chat).then_some(Destination::Chats);
        all.into_iter().chain([self.destination(chat)])
    }
}

/// Stands for a chat where none matters.
const NO_CHAT: ChatId = ChatId(Uuid::nil());

/// Returns what a frame is about, its chat, and the name of its kind.
fn about(frame: &ServerFrame) -> (About, ChatId, &'static str) {
    match frame {
        ServerFrame { message: Some(message), .. } => (About::Entry, message.chat, "message"),
        ServerFrame { lagged: Some(lagged), .. } => (About::Chat, lagged.chat, "lagged"),
        ServerFrame { presence: Some(_), .. } => (About::Presence, NO_CHAT, "presence"),
        ServerFrame { typing: Some(_), .. } => (About::Presence, NO_CHAT, "typing"),
        ServerFrame { receipt: Some(_), .. } => (About::States, NO_CHAT, "receipt"),
        ServerFrame { own_state: Some(_), .. } => (About::States, NO_CHAT, "own_state"),
        ServerFrame { stored: Some(_), .. } => (About::Replies, NO_CHAT, "stored"),
        ServerFrame { rejected: Some(_), .. } => (About::Replies, NO_CHAT, "rejected"),
        ServerFrame { error: Some(_), .. } => (About::Replies, NO_CHAT, "error"),
        _ => (About::Replies, NO_CHAT, "result"),
    }
}

/// The first byte of a frame that has no addressee yet. No frame of a WebSocket begins with it.
const UNADDRESSED: u8 = 0;
/// It, what the frame is about, the chat, and the length of what is behind them.
const HEAD_BYTES: usize = 1 + 1 + 16 + 4;

/// Returns whether bytes are frames that have no addressee yet.
pub(crate) fn is_unaddressed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&UNADDRESSED)
}

/// Writes a frame behind others, without what each client has of its own.
pub(crate) fn write_unaddressed(frame: &ServerFrame, to: &mut Vec<u8>) {
    let (about, chat, kind) = about(frame);
    let destination = about.destination(chat).to_string();
    let name = frame.message.as_ref().map(|message| format!("{}.{}", message.chat, message.seq));
    let body = Encoding::Json.encode(frame);
    let length = body.len().to_string();
    let mut headers = vec![("destination", destination.as_str()), ("type", kind)];
    if let Some(name) = &name {
        headers.extend([("message-id", name.as_str()), ("ack", name.as_str())]);
    }
    headers.extend([("content-type", "application/json"), ("content-length", length.as_str())]);

    to.extend_from_slice(&[UNADDRESSED, about as u8]);
    to.extend_from_slice(chat.0.as_bytes());
    to.extend_from_slice(&[0; 4]);
    let start = to.len();
    // None of them has a byte that a version escapes.
    write_headers(Version::V10, &headers, to);
    to.push(b'\n');
    to.extend_from_slice(&body);
    to.push(0);
    let length = u32::try_from(to.len() - start).expect("a frame has less than 4 GiB");
    to[start - 4..start].copy_from_slice(&length.to_be_bytes());
}

/// Takes the first frame off such bytes: its subject, its chat, and the rest of the message.
fn next_unaddressed<'a>(bytes: &mut &'a [u8]) -> Option<(About, ChatId, &'a [u8])> {
    let (head, behind) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [_, about, chat @ .., a, b, c, d] = *head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let (rest, behind) = behind.split_at_checked(length)?;
    *bytes = behind;
    Some((*About::ALL.get(usize::from(about))?, ChatId(Uuid::from_bytes(chat)), rest))
}

/// A destination that a client has subscribed to.
#[derive(Debug)]
struct Subscription {
    /// In 1.0 there may be none.
    id: Option<String>,
    /// How its messages begin.
    opening: Vec<u8>,
    /// Whether the client acknowledges its messages.
    is_acked: bool,
}

/// The destinations that a client has subscribed to, each once: no message is copied as often as a client likes.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    by_destination: BTreeMap<Destination, Subscription>,
    /// Whether one has ended whose messages the client acknowledges: it may acknowledge some of them only now.
    has_ended_acked: bool,
    /// Messages without a name of their own so far.
    numbered: Cell<u64>,
}

impl Subscriptions {
    /// Adds a subscription of a client that speaks this version.
    pub(crate) fn add(
        &mut self,
        version: Version,
        id: Option<&str>,
        destination: Destination,
        is_acked: bool,
    ) -> Result<(), Refusal> {
        let refused = |code, detail: Cow<'static, str>| Err(Refusal::new(code, detail));
        if id.is_some_and(|id| id.is_empty() || id.len() > MAX_ID_BYTES) {
            let detail = format!("the id of a subscription has 1 to {MAX_ID_BYTES} bytes");
            return refused(ErrorCode::InvalidArgument, detail.into());
        }
        if id.is_some() && self.by_destination.values().any(|known| known.id.as_deref() == id) {
            return refused(ErrorCode::InvalidArgument, "this id is that of another subscription".into());
        }
        if self.by_destination.contains_key(&destination) {
            let detail = "this destination is subscribed to already: unsubscribe first";
            return refused(ErrorCode::InvalidArgument, detail.into());
        }
        if self.by_destination.len() >= MAX_SUBSCRIPTIONS {
            let detail =
                format!("a connection has at most {MAX_SUBSCRIPTIONS} subscriptions; /chats is all chats");
            return refused(ErrorCode::LimitReached, detail.into());
        }
        let mut opening = b"MESSAGE\n".to_vec();
        if let Some(id) = id {
            write_headers(version, &[("subscription", id)], &mut opening);
        }
        let subscription = Subscription { id: id.map(str::to_owned), opening, is_acked };
        self.by_destination.insert(destination, subscription);
        Ok(())
    }

    /// Ends the subscription with this id, or without one that to a destination, and returns what it was to.
    pub(crate) fn remove(
        &mut self,
        id: Option<&str>,
        destination: Option<Destination>,
    ) -> Option<Destination> {
        let destination = match id {
            Some(_) => *self.by_destination.iter().find(|(_, of)| of.id.as_deref() == id)?.0,
            None => destination?,
        };
        let ended = self.by_destination.remove(&destination)?;
        self.has_ended_acked |= ended.is_acked;
        Some(destination)
    }

    pub(crate) fn count(&self) -> usize {
        self.by_destination.len()
    }

    pub(crate) fn has(&self, destination: Destination) -> bool {
        self.by_destination.contains_key(&destination)
    }

    /// Returns whether the client receives the entries of a chat.
    pub(crate) fn has_entries_of(&self, chat: ChatId) -> bool {
        About::Entry.destinations(chat).any(|destination| self.has(destination))
    }

    /// Returns whether the client acknowledges entries of a chat, or without one any messages; where it names a subscription, those of that one.
    /// What a subscription brought before it ended may be acknowledged behind its end: which one it was is not known any more.
    pub(crate) fn is_acked(&self, chat: Option<ChatId>, id: Option<&str>) -> bool {
        let is_of =
            |of: Destination| chat.is_none_or(|chat| About::Entry.destinations(chat).any(|to| to == of));
        let is_named = |of: &Subscription| id.is_none() || of.id.as_deref() == id;
        let is_there = |(destination, of): (&Destination, &Subscription)| {
            of.is_acked && is_named(of) && is_of(*destination)
        };
        // A subscription that is there, and not acknowledged, is none that has ended.
        let is_ended = || id.is_none() || !self.by_destination.values().any(is_named);
        self.by_destination.iter().any(is_there) || (self.has_ended_acked && is_ended())
    }

    /// Returns frames without an addressee as messages of a WebSocket to all subscriptions that they concern: none when there is none.
    pub(crate) fn address(&self, mut unaddressed: &[u8]) -> Vec<u8> {
        let mut addressed = Vec::new();
        while let Some((about, chat, rest)) = next_unaddressed(&mut unaddressed) {
            for destination in about.destinations(chat) {
                let Some(Subscription { opening, is_acked, .. }) = self.by_destination.get(&destination)
                else {
                    continue;
                };
                let number = if about == About::Entry { String::new() } else { self.number(*is_acked) };
                write_header(TEXT, opening.len() + number.len() + rest.len(), &mut addressed);
                for part in [opening.as_slice(), number.as_bytes(), rest] {
                    addressed.extend_from_slice(part);
                }
            }
        }
        // Not what it grew by, which no queue counts.
        addressed.shrink_to_fit();
        addressed
    }

    /// Returns the headers that name a message which has no name. A client that acknowledges messages does so with all of a subscription, and finds
    /// in each what it is to say.
    fn number(&self, is_acked: bool) -> String {
        let number = self.numbered.get() + 1;
        self.numbered.set(number);
        let ack = if is_acked { format!("ack:{number}\n") } else { String::new() };
        format!("message-id:{number}\n{ack}")
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        MessageKey, UserId,
        wire::{Empty, Lagged, Presence, Rejected},
    };

    use super::*;
    use crate::domain::frame::payloads;

    fn chat(n: u128) -> ChatId {
        ChatId(Uuid::from_u128(n))
    }

    fn entry(n: u128, seq: i64) -> ServerFrame {
        let message = serde_json::json!({
            "chat": chat(n),
            "seq": seq,
            "sender": UserId(Uuid::from_u128(8)),
            "key": MessageKey(Uuid::from_u128(9)),
            "kind": "text",
            "body": "a:b\n\0\\",
            "sent_at_ms": 5,
        });
        let message = serde_json::from_value(message).expect("a message");
        ServerFrame { message: Some(message), ..ServerFrame::default() }
    }

    fn lagged(n: u128) -> ServerFrame {
        ServerFrame { lagged: Some(Lagged { chat: chat(n), head_seq: 7 }), ..ServerFrame::default() }
    }

    /// Returns the headers of the messages that a client receives, as far as they say where these come from.
    fn received(subscriptions: &Subscriptions, frames: &[ServerFrame]) -> Vec<String> {
        let mut unaddressed = Vec::new();
        frames.iter().for_each(|frame| write_unaddressed(frame, &mut unaddressed));
        assert!(is_unaddressed(&unaddressed));
        let messages = payloads(&subscriptions.address(&unaddressed));
        let texts = messages.into_iter().map(|message| String::from_utf8(message).expect("text"));
        texts
            .map(|text| {
                let (head, body) = text.split_once("\n\n").expect("a body");
                let body = body.strip_suffix('\0').expect("the end");
                assert!(head.contains(&format!("\ncontent-length:{}", body.len())), "{head}");
                serde_json::from_str::<ServerFrame>(body).expect("a frame of the protocol");
                let lines = head.lines().filter(|line| !line.starts_with("content-"));
                lines.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    #[test]
    fn a_message_goes_to_each_subscription_that_it_concerns() {
        let mut of = Subscriptions::default();
        let add = |of: &mut Subscriptions, id: &str, destination: &str, is_acked: bool| {
            of.add(Version::V12, Some(id), Destination::of(destination).expect("a destination"), is_acked)
        };
        let one = chat(1);
        let name = format!("{one}.3");
        let expected = |subscription: &str| {
            format!(
                "MESSAGE subscription:{subscription} destination:/chats/{one} type:message message-id:{name} ack:{name}"
            )
        };
        assert!(received(&of, &[entry(1, 3)]).is_empty());
        add(&mut of, "a:b", &format!("/chats/{one}"), true).expect("a subscription");
        assert_eq!(received(&of, &[entry(1, 3), entry(2, 3)]), [expected("a\\cb")]);
        add(&mut of, "all", "/chats", false).expect("a subscription");
        assert_eq!(received(&of, &[entry(1, 3)]), [expected("all"), expected("a\\cb")]);
        assert!(of.has_entries_of(chat(2)));
        assert!(of.is_acked(Some(one), None) && of.is_acked(Some(one), Some("a:b")));
        assert!(!of.is_acked(Some(one), Some("all")) && !of.is_acked(Some(chat(2)), None));

        for (id, destination) in [("all", "/replies"), ("new", "/chats"), ("", "/replies")] {
            let refusal = add(&mut of, id, destination, false).expect_err("refused");
            assert_eq!(refusal.code, ErrorCode::InvalidArgument, "{id} {destination}");
        }
        assert_eq!(of.remove(Some("all"), None), Some(Destination::Chats));
        assert_eq!(of.remove(Some("all"), None), None);
        assert_eq!(received(&of, &[entry(1, 3)]), [expected("a\\cb")]);
        assert!(!of.has_entries_of(chat(2)));
    }

    #[test]
    fn what_is_no_entry_is_numbered() {
        let mut of = Subscriptions::default();
        for (id, destination) in
            [("c", Destination::Chats), ("p", Destination::Presence), ("r", Destination::Replies)]
        {
            of.add(Version::V12, Some(id), destination, false).expect("a subscription");
        }
        let rejected = Rejected { chat: chat(1), key: MessageKey(Uuid::nil()), code: ErrorCode::NotAMember };
        let frames = [
            lagged(1),
            ServerFrame { rejected: Some(rejected), ..ServerFrame::default() },
            ServerFrame { presence: Some(Presence { users: vec![] }), ..ServerFrame::default() },
            // Nothing is subscribed to it.
            ServerFrame {
                receipt: serde_json::from_value(serde_json::json!({"chat": chat(1), "user": chat(2)})).ok(),
                ..ServerFrame::default()
            },
            ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() },
        ];
        assert!(frames[3].receipt.is_some());
        let destination = format!("/chats/{}", chat(1));
        assert_eq!(
            received(&of, &frames),
            [
                format!("MESSAGE subscription:c message-id:1 destination:{destination} type:lagged"),
                "MESSAGE subscription:r message-id:2 destination:/replies type:rejected".to_owned(),
                "MESSAGE subscription:p message-id:3 destination:/presence type:presence".to_owned(),
                "MESSAGE subscription:r message-id:4 destination:/replies type:result".to_owned(),
            ]
        );
    }

    /// A library acknowledges whatever a subscription brings, by the header that is for it.
    #[test]
    fn each_message_of_an_acknowledged_subscription_says_how_it_is_acknowledged() {
        let mut of = Subscriptions::default();
        assert!(!of.is_acked(None, None));
        of.add(Version::V12, Some("all"), Destination::Chats, true).expect("a subscription");
        of.add(Version::V12, Some("r"), Destination::Replies, false).expect("a subscription");
        let messages = received(&of, &[lagged(1), entry(1, 3)]);
        let [lagged, entry] = messages.as_slice() else { panic!("{messages:?}") };
        assert!(lagged.starts_with("MESSAGE subscription:all message-id:1 ack:1 "), "{lagged}");
        assert!(entry.ends_with(&format!(" ack:{}.3", chat(1))), "{entry}");
        assert!(of.is_acked(None, None) && of.is_acked(None, Some("all")));
        assert!(!of.is_acked(None, Some("r")));
    }

    #[test]
    fn what_a_subscription_brought_is_acknowledged_behind_its_end_too() {
        let mut of = Subscriptions::default();
        for (id, destination, is_acked) in [
            ("one", Destination::Chat(chat(1)), true),
            ("two", Destination::Chat(chat(2)), false),
            ("r", Destination::Replies, false),
        ] {
            of.add(Version::V12, Some(id), destination, is_acked).expect("a subscription");
        }
        // The end of one that is not acknowledged leaves nothing to be.
        assert_eq!(of.remove(Some("two"), None), Some(Destination::Chat(chat(2))));
        assert!(!of.is_acked(Some(chat(2)), Some("two")) && !of.is_acked(Some(chat(2)), None));

        assert_eq!(of.remove(Some("one"), None), Some(Destination::Chat(chat(1))));
        for id in [None, Some("one")] {
            assert!(of.is_acked(Some(chat(1)), id) && of.is_acked(None, id), "{id:?}");
        }
        assert!(!of.is_acked(None, Some("r")));
    }

    #[test]
    fn a_client_of_the_first_version_subscribes_without_an_id() {
        let mut of = Subscriptions::default();
        of.add(Version::V10, None, Destination::Chat(chat(1)), false).expect("a subscription");
        let messages = received(&of, &[lagged(1)]);
        let [message] = messages.as_slice() else { panic!("{messages:?}") };
        assert!(message.starts_with("MESSAGE message-id:1 "), "{message}");
        assert_eq!(of.remove(None, Some(Destination::Chat(chat(1)))), Some(Destination::Chat(chat(1))));
    }

    #[test]
    fn a_connection_has_so_many_subscriptions_and_no_more() {
        let mut of = Subscriptions::default();
        let mut add =
            |n: usize| of.add(Version::V12, Some(&n.to_string()), Destination::Chat(chat(n as u128)), false);
        (0..MAX_SUBSCRIPTIONS).for_each(|n| add(n).expect("room"));
        assert_eq!(add(MAX_SUBSCRIPTIONS).expect_err("refused").code, ErrorCode::LimitReached);
    }

    #[test]
    fn a_destination_has_one_name() {
        for (name, expected) in [
            ("/chats", Some(Destination::Chats)),
            ("/chats/00000000-0000-0000-0000-00000000000c", Some(Destination::Chat(chat(12)))),
            ("/presence", Some(Destination::Presence)),
            ("/states", Some(Destination::States)),
            ("/replies", Some(Destination::Replies)),
        ] {
            assert_eq!(Destination::of(name), expected, "{name}");
            assert_eq!(expected.map(|of| of.to_string()).as_deref(), Some(name));
        }
        for name in ["", "/", "chats", "/chats/", "/chats/x", "/topic/chats", "/presence/", "/commands"] {
            assert_eq!(Destination::of(name), None, "{name}");
        }
    }
}
