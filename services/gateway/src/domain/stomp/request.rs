//! What the frames of a client ask for, in the words of the protocol that all clients speak.

use std::{borrow::Cow, str::FromStr};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    wire::{self, ClientFrame, Connect, MAX_REQUEST_ID_BYTES, Mark, RequestId, Send, Watch},
};
use kit::json;

use super::{
    codec::{Command, Frame, Version, number},
    subscriptions::Destination,
};
use crate::domain::answer::Refusal;

/// Where a client sends frames of JSON, which have all commands.
const COMMANDS: &str = "/commands";

/// What a frame asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Authenticates the connection, which speaks this version from now on.
    Connect {
        version: Version,
        connect: Connect,
        wants_beats: bool,
    },
    /// Runs a command whose result a receipt says.
    Run(wire::Command),
    /// Runs the command of a frame of JSON, whose result goes to the destination for replies.
    Exchange(Option<RequestId>, wire::Command),
    /// Presence comes with whom to watch.
    Subscribe {
        id: Option<String>,
        destination: Destination,
        is_acked: bool,
        watch: Option<Watch>,
    },
    /// By its id, or in 1.0 by its destination.
    Unsubscribe {
        id: Option<String>,
        destination: Option<Destination>,
    },
    /// Says that a message was taken, or was not. One that is no entry has no mark.
    Ack {
        mark: Option<Mark>,
        subscription: Option<String>,
        is_taken: bool,
    },
    Disconnect,
}

/// Why a frame asks for nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not as STOMP has it: the client cannot be understood any more.
    Malformed(&'static str),
    /// No version that the client speaks is spoken here.
    Version,
    /// It is for a transaction. A client that goes on would take for one what is none.
    Transaction,
    Refused(Refusal),
}

fn refused<T>(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
    Err(Fault::Refused(Refusal::new(code, detail)))
}

/// Returns what a client finds the receipt of a frame by. It is kept until that is written, and is the id of a refusal, so it is as long as one.
pub(crate) fn receipt(frame: &Frame<'_>) -> Result<Option<String>, Fault> {
    match frame.header("receipt") {
        Some(receipt) if receipt.len() > MAX_REQUEST_ID_BYTES => {
            refused(ErrorCode::InvalidArgument, format!("a receipt has at most {MAX_REQUEST_ID_BYTES} bytes"))
        }
        receipt => Ok(receipt.map(str::to_owned)),
    }
}

/// Returns what a frame asks for. There is no version before the client has connected; `device` stands for one that names no device.
pub(crate) fn request(
    frame: &Frame<'_>,
    version: Option<Version>,
    device: DeviceId,
) -> Result<Request, Fault> {
    let Some(version) = version else { return connect(frame, device) };
    match frame.command {
        Command::Connect => Err(Fault::Malformed("this connection is connected already")),
        Command::Begin | Command::Commit | Command::Abort => {
            required(frame, "transaction")?;
            Err(Fault::Transaction)
        }
        Command::Send | Command::Ack | Command::Nack if frame.header("transaction").is_some() => {
            Err(Fault::Transaction)
        }
        Command::Send => send(frame),
        Command::Subscribe => subscribe(frame, version),
        Command::Unsubscribe => unsubscribe(frame, version),
        Command::Ack => ack(frame, version, true),
        Command::Nack if version == Version::V10 => Err(Fault::Malformed("STOMP 1.0 has no NACK")),
        Command::Nack => ack(frame, version, false),
        Command::Disconnect => Ok(Request::Disconnect),
    }
}

fn required<'a>(frame: &'a Frame<'_>, name: &'static str) -> Result<&'a str, Fault> {
    frame.header(name).ok_or(Fault::Malformed(match name {
        "destination" => "the frame has no header destination",
        "id" => "the frame has no header id",
        "message-id" => "the frame has no header message-id",
        "subscription" => "the frame has no header subscription",
        _ => "the frame has no header transaction",
    }))
}

fn connect(frame: &Frame<'_>, device: DeviceId) -> Result<Request, Fault> {
    if frame.command != Command::Connect {
        return refused(ErrorCode::Unauthenticated, "the first frame is CONNECT");
    }
    let version = Version::agreed(frame.header("accept-version")).ok_or(Fault::Version)?;
    let wants_beats = match frame.header("heart-beat") {
        Some(beats) if version != Version::V10 => {
            let (_, wanted) = beats
                .split_once(',')
                .and_then(|(sent, wanted)| Some((number(sent)?, number(wanted)?)))
                .ok_or(Fault::Malformed(
                    "heart-beat is two numbers of milliseconds with a comma between them",
                ))?;
            wanted > 0
        }
        _ => false,
    };
    let device = match frame.header("device") {
        Some(device) => match device.parse::<DeviceId>() {
            Ok(device) => device,
            Err(_) => return refused(ErrorCode::InvalidArgument, "device is a UUID"),
        },
        None => device,
    };
    let authorization = frame.header("Authorization").or_else(|| frame.header("authorization"));
    let token = authorization.and_then(bearer).or_else(|| frame.header("passcode")).unwrap_or_default();
    let connect = Connect { token: token.trim().to_owned(), device };
    Ok(Request::Connect { version, connect, wants_beats })
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim_start().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn send(frame: &Frame<'_>) -> Result<Request, Fault> {
    let destination = required(frame, "destination")?;
    let content_type = frame.header("content-type").map(essence);
    if destination == COMMANDS {
        if content_type.is_some_and(|of| !of.eq_ignore_ascii_case("application/json")) {
            return refused(ErrorCode::UnsupportedMediaType, "a command is application/json");
        }
        return match json::from_slice::<ClientFrame>(frame.body) {
            Ok(ClientFrame { id, command }) => Ok(Request::Exchange(id, command)),
            Err(error) => refused(ErrorCode::Malformed, error.to_string()),
        };
    }
    let Some(Destination::Chat(chat)) = Destination::of(destination) else {
        return refused(
            ErrorCode::NotFound,
            "nothing is sent to this destination: /chats/{chat} and /commands are there",
        );
    };
    if content_type.is_some_and(|of| !of.eq_ignore_ascii_case("text/plain")) {
        return refused(
            ErrorCode::UnsupportedMediaType,
            "a message is text/plain; what has more goes to /commands",
        );
    }
    let Some(key) = frame.header("key").and_then(|key| key.parse::<MessageKey>().ok()) else {
        return refused(
            ErrorCode::InvalidArgument,
            "key is a UUID that a repetition of the message has, too",
        );
    };
    let Ok(body) = str::from_utf8(frame.body) else {
        return refused(ErrorCode::InvalidArgument, "a message is UTF-8");
    };
    Ok(Request::Run(wire::Command::Send(Send::text(chat, key, body))))
}

/// Returns a media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn subscribe(frame: &Frame<'_>, version: Version) -> Result<Request, Fault> {
    let name = required(frame, "destination")?;
    let id = id(frame, version)?;
    let is_acked = match frame.header("ack") {
        None | Some("auto") => false,
        Some("client" | "client-individual") => true,
        Some(_) => return Err(Fault::Malformed("ack is auto, client or client-individual")),
    };
    let Some(destination) = Destination::of(name) else {
        return refused(ErrorCode::NotFound, "there is no such destination");
    };
    let watch = match destination {
        Destination::Presence => {
            Some(Watch { users: ids::<UserId>(frame, "users")?, chats: ids::<ChatId>(frame, "chats")? })
        }
        _ => None,
    };
    Ok(Request::Subscribe { id, destination, is_acked, watch })
}

/// Returns the id of a subscription, which 1.0 does not require.
fn id(frame: &Frame<'_>, version: Version) -> Result<Option<String>, Fault> {
    let id = if version == Version::V10 { frame.header("id") } else { Some(required(frame, "id")?) };
    Ok(id.map(str::to_owned))
}

/// Returns the ids of a header that is a list.
fn ids<T: FromStr>(frame: &Frame<'_>, name: &'static str) -> Result<Vec<T>, Fault> {
    let list = frame.header(name).unwrap_or_default();
    let ids = list.split(',').map(str::trim).filter(|id| !id.is_empty());
    match ids.map(str::parse::<T>).collect::<Result<Vec<T>, _>>() {
        Ok(ids) => Ok(ids),
        Err(_) => refused(ErrorCode::InvalidArgument, format!("{name} is a list of UUIDs")),
    }
}

fn unsubscribe(frame: &Frame<'_>, version: Version) -> Result<Request, Fault> {
    let id = id(frame, version)?;
    let destination = match id {
        Some(_) => None,
        None => Destination::of(required(frame, "destination")?),
    };
    Ok(Request::Unsubscribe { id, destination })
}

fn ack(frame: &Frame<'_>, version: Version, is_taken: bool) -> Result<Request, Fault> {
    let name = required(frame, if version == Version::V12 { "id" } else { "message-id" })?;
    let subscription = match version {
        Version::V10 | Version::V12 => frame.header("subscription"),
        Version::V11 => Some(required(frame, "subscription")?),
    };
    // What is no entry has a number.
    let mark = if name.parse::<u64>().is_ok() { None } else { Some(entry(name)?) };
    let subscription = subscription.map(str::to_owned);
    Ok(Request::Ack { mark, subscription, is_taken })
}

/// Returns the entry that has this name.
fn entry(name: &str) -> Result<Mark, Fault> {
    let parts = name.split_once('.');
    let entry = parts.and_then(|(chat, seq)| chat.parse::<ChatId>().ok().zip(seq.parse::<i64>().ok()));
    match entry {
        Some((chat, seq)) => Ok(Mark { chat, seq }),
        None => refused(ErrorCode::InvalidArgument, "a message is acknowledged by its header ack"),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::stomp::codec::read;

    const CHAT: &str = "00000000-0000-0000-0000-00000000000c";
    const KEY: &str = "00000000-0000-0000-0000-0000000000ee";
    const DEVICE: DeviceId = DeviceId(Uuid::from_u128(77));

    fn asked(version: Option<Version>, text: &str) -> Result<Request, Fault> {
        let message = format!("{text}\0");
        let frame = read(message.as_bytes(), version).expect("a frame").expect("no heart-beat");
        request(&frame, version, DEVICE)
    }

    /// Returns what a frame of 1.2 asks for.
    fn asked_12(text: &str) -> Result<Request, Fault> {
        asked(Some(Version::V12), text)
    }

    fn code(asked: Result<Request, Fault>) -> ErrorCode {
        match asked {
            Err(Fault::Refused(refusal)) => refusal.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn connect_brings_a_token_a_device_and_a_version() {
        let check = |headers: &str, expected: (Version, &str, DeviceId, bool)| {
            for command in ["CONNECT", "STOMP"] {
                let asked = asked(None, &format!("{command}\n{headers}\n\n"));
                let Ok(Request::Connect { version, connect, wants_beats }) = asked else {
                    panic!("{headers}: {asked:?}")
                };
                let (version_of, token, device, beats) = expected;
                assert_eq!((version, connect.token.as_str()), (version_of, token), "{headers}");
                assert_eq!((connect.device, wants_beats), (device, beats), "{headers}");
            }
        };
        check("passcode:t", (Version::V10, "t", DEVICE, false));
        check("accept-version:1.0,1.1,1.2\nhost:h\npasscode:t", (Version::V12, "t", DEVICE, false));
        check("accept-version:1.1\nAuthorization:Bearer t\npasscode:x", (Version::V11, "t", DEVICE, false));
        check("accept-version:1.1\nauthorization:bearer t", (Version::V11, "t", DEVICE, false));
        check("accept-version:1.2\nAuthorization:Basic x\npasscode:t", (Version::V12, "t", DEVICE, false));
        check("accept-version:1.2\nheart-beat:0,1000", (Version::V12, "", DEVICE, true));
        check("accept-version:1.2\nheart-beat:1000,0", (Version::V12, "", DEVICE, false));
        let device = DeviceId(Uuid::from_u128(0xc));
        check(&format!("passcode:t\ndevice:{CHAT}"), (Version::V10, "t", device, false));
    }

    #[test]
    fn what_cannot_connect_is_refused() {
        let versions = asked(None, "CONNECT\naccept-version:3.0\n\n");
        assert_eq!(versions.expect_err("refused"), Fault::Version);
        for beats in ["", "1", "1,", ",1", "a,b", "1,2,3", "-1,0", "1, 2", "1.5,0"] {
            let asked = asked(None, &format!("CONNECT\naccept-version:1.2\nheart-beat:{beats}\n\n"));
            assert!(matches!(asked, Err(Fault::Malformed(_))), "{beats}: {asked:?}");
        }
        assert_eq!(code(asked(None, "CONNECT\ndevice:x\n\n")), ErrorCode::InvalidArgument);
        assert_eq!(code(asked(None, "SEND\ndestination:/commands\n\n")), ErrorCode::Unauthenticated);
        assert!(matches!(asked_12("CONNECT\npasscode:t\n\n"), Err(Fault::Malformed(_))));
    }

    #[test]
    fn a_receipt_is_as_long_as_the_id_of_a_command() {
        let receipt = |text: &str| {
            let message = format!("DISCONNECT\n{text}\n\0");
            let frame =
                read(message.as_bytes(), Some(Version::V12)).expect("a frame").expect("no heart-beat");
            receipt(&frame)
        };
        assert_eq!(receipt(""), Ok(None));
        let longest = "r".repeat(MAX_REQUEST_ID_BYTES);
        assert_eq!(receipt(&format!("receipt:{longest}\n")), Ok(Some(longest.clone())));
        let Err(Fault::Refused(refusal)) = receipt(&format!("receipt:{longest}r\n")) else {
            panic!("it would be kept")
        };
        assert_eq!(refusal.code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn a_message_to_a_chat_is_a_send() {
        for kind in ["", "content-type:text/plain\n", "content-type:text/plain;charset=utf-8\n"] {
            let asked = asked_12(&format!("SEND\ndestination:/chats/{CHAT}\nkey:{KEY}\n{kind}\nhi"));
            let Ok(Request::Run(wire::Command::Send(send))) = asked else { panic!("{asked:?}") };
            assert_eq!(
                (send.chat.to_string(), send.key.to_string(), send.body.as_str()),
                (CHAT.into(), KEY.into(), "hi")
            );
        }
        let counted =
            asked_12(&format!("SEND\ndestination:/chats/{CHAT}\nkey:{KEY}\ncontent-length:3\n\na\0b"));
        let Ok(Request::Run(wire::Command::Send(send))) = counted else { panic!("{counted:?}") };
        assert_eq!(send.body, "a\0b");
    }

    #[test]
    fn a_command_of_json_is_taken_as_it_is() {
        let asked = asked_12(&format!(
            "SEND\ndestination:/commands\n\n{{\"id\":7,\"typing\":{{\"chat\":\"{CHAT}\"}}}}"
        ));
        assert!(
            matches!(&asked, Ok(Request::Exchange(Some(id), wire::Command::Typing(_))) if *id == 7.into())
        );
        for (body, kind, expected) in [
            ("[]", "", ErrorCode::Malformed),
            ("{}", "content-type:application/json\n", ErrorCode::Malformed),
            ("{\"id\":7,\"shout\":{}}", "", ErrorCode::Malformed),
            ("{\"pong\":{}}", "content-type:text/plain\n", ErrorCode::UnsupportedMediaType),
        ] {
            let asked = asked_12(&format!("SEND\ndestination:/commands\n{kind}\n{body}"));
            assert_eq!(code(asked), expected, "{body}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let chat = format!("/chats/{CHAT}");
        for (destination, headers, expected) in [
            ("/chats", format!("key:{KEY}\n"), ErrorCode::NotFound),
            ("/queue/a", format!("key:{KEY}\n"), ErrorCode::NotFound),
            (chat.as_str(), String::new(), ErrorCode::InvalidArgument),
            (chat.as_str(), "key:one\n".to_owned(), ErrorCode::InvalidArgument),
            (chat.as_str(), format!("key:{KEY}\ncontent-type:image/png\n"), ErrorCode::UnsupportedMediaType),
        ] {
            let asked = asked_12(&format!("SEND\ndestination:{destination}\n{headers}\nhi"));
            assert_eq!(code(asked), expected, "{destination} {headers}");
        }
        let message = [format!("SEND\ndestination:{chat}\nkey:{KEY}\n\n").as_bytes(), b"\xff\0"].concat();
        let frame = read(&message, Some(Version::V12)).expect("a frame").expect("a frame");
        assert_eq!(code(request(&frame, Some(Version::V12), DEVICE)), ErrorCode::InvalidArgument);
    }

    #[test]
    fn a_subscription_names_what_it_is_to() {
        let check = |version, headers: &str, expected: (Option<&str>, Destination, bool)| {
            let asked = asked(Some(version), &format!("SUBSCRIBE\n{headers}\n\n"));
            let Ok(Request::Subscribe { id, destination, is_acked, watch }) = asked else {
                panic!("{headers}: {asked:?}")
            };
            assert_eq!((id.as_deref(), destination, is_acked), expected, "{headers}");
            assert_eq!(watch.is_some(), destination == Destination::Presence);
        };
        let chat = Destination::of(&format!("/chats/{CHAT}")).expect("a destination");
        check(Version::V12, "id:0\ndestination:/chats", (Some("0"), Destination::Chats, false));
        check(Version::V11, "id:0\ndestination:/chats\nack:auto", (Some("0"), Destination::Chats, false));
        check(Version::V12, "id:0\ndestination:/chats\nack:client", (Some("0"), Destination::Chats, true));
        let headers = format!("id:0\ndestination:/chats/{CHAT}\nack:client-individual");
        check(Version::V12, &headers, (Some("0"), chat, true));
        check(Version::V10, "destination:/replies", (None, Destination::Replies, false));
        check(Version::V12, "id:0\ndestination:/presence", (Some("0"), Destination::Presence, false));

        let asked = asked_12(&format!(
            "SUBSCRIBE\nid:0\ndestination:/presence\nusers:{CHAT}, {KEY}\nchats:{CHAT}\n\n"
        ));
        let Ok(Request::Subscribe { watch: Some(Watch { users, chats }), .. }) = asked else {
            panic!("{asked:?}")
        };
        assert_eq!((users.len(), chats.len()), (2, 1));
    }

    #[test]
    fn what_is_no_subscription_is_refused() {
        for headers in ["id:0", "destination:/chats", "id:0\ndestination:/chats\nack:maybe"] {
            let asked = asked_12(&format!("SUBSCRIBE\n{headers}\n\n"));
            assert!(matches!(asked, Err(Fault::Malformed(_))), "{headers}: {asked:?}");
        }
        assert_eq!(code(asked_12("SUBSCRIBE\nid:0\ndestination:/topic/a\n\n")), ErrorCode::NotFound);
        let strangers = asked_12("SUBSCRIBE\nid:0\ndestination:/presence\nusers:ann\n\n");
        assert_eq!(code(strangers), ErrorCode::InvalidArgument);
        for (version, frame) in [
            (Version::V12, "UNSUBSCRIBE\ndestination:/chats\n\n"),
            (Version::V11, "UNSUBSCRIBE\n\n"),
            (Version::V10, "UNSUBSCRIBE\n\n"),
        ] {
            assert!(matches!(asked(Some(version), frame), Err(Fault::Malformed(_))), "{frame}");
        }
        let by_destination = asked(Some(Version::V10), "UNSUBSCRIBE\ndestination:/chats\n\n");
        let expected = Some(Destination::Chats);
        assert!(
            matches!(by_destination, Ok(Request::Unsubscribe { id: None, destination }) if destination == expected)
        );
    }

    #[test]
    fn an_entry_is_acknowledged_as_each_version_names_it() {
        let check = |version, text: String, expected: (Option<&str>, bool)| {
            let asked = asked(Some(version), &text);
            let Ok(Request::Ack { mark: Some(mark), subscription, is_taken }) = asked else {
                panic!("{text}: {asked:?}")
            };
            assert_eq!((mark.chat.to_string(), mark.seq), (CHAT.to_owned(), 3), "{text}");
            assert_eq!((subscription.as_deref(), is_taken), expected, "{text}");
        };
        check(Version::V12, format!("ACK\nid:{CHAT}.3\n\n"), (None, true));
        check(Version::V12, format!("NACK\nid:{CHAT}.3\n\n"), (None, false));
        check(Version::V11, format!("ACK\nmessage-id:{CHAT}.3\nsubscription:0\n\n"), (Some("0"), true));
        check(Version::V10, format!("ACK\nmessage-id:{CHAT}.3\n\n"), (None, true));
        for (version, frame) in [
            (Version::V12, "ACK\nmessage-id:a\n\n"),
            (Version::V11, "ACK\nmessage-id:a\n\n"),
            (Version::V11, "ACK\nsubscription:0\n\n"),
            (Version::V10, "ACK\n\n"),
            (Version::V10, "NACK\nmessage-id:a\n\n"),
        ] {
            assert!(matches!(asked(Some(version), frame), Err(Fault::Malformed(_))), "{frame}");
        }
        for name in ["a.b", "undefined", CHAT, ""] {
            assert_eq!(code(asked_12(&format!("ACK\nid:{name}\n\n"))), ErrorCode::InvalidArgument, "{name}");
        }
    }

    #[test]
    fn what_is_no_entry_is_acknowledged_by_its_number() {
        for (version, text) in [
            (Version::V12, "ACK\nid:7\nsubscription:0\n\n"),
            (Version::V11, "ACK\nmessage-id:7\nsubscription:0\n\n"),
        ] {
            let asked = asked(Some(version), text);
            let Ok(Request::Ack { mark: None, subscription, is_taken: true }) = asked else {
                panic!("{text}: {asked:?}")
            };
            assert_eq!(subscription.as_deref(), Some("0"), "{text}");
        }
    }

    #[test]
    fn a_transaction_is_refused_and_named() {
        for frame in [
            "BEGIN\ntransaction:a\n\n",
            "COMMIT\ntransaction:a\n\n",
            "ABORT\ntransaction:a\n\n",
            "SEND\ndestination:/commands\ntransaction:a\n\n",
            "ACK\nid:1\ntransaction:a\n\n",
            "NACK\nid:1\ntransaction:a\n\n",
        ] {
            assert_eq!(asked_12(frame).expect_err("refused"), Fault::Transaction, "{frame}");
        }
        assert!(matches!(asked_12("BEGIN\n\n"), Err(Fault::Malformed(_))));
    }
}
