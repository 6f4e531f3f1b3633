//! The frames of STOMP 1.0, 1.1 and 1.2: those of a client as they are read, and ours as they are written.
//!
//! A message of a WebSocket has one frame, or line ends alone, which are a heart-beat.

use std::borrow::Cow;

/// Headers of one frame.
const MAX_HEADERS: usize = 64;
/// Digits of a length that any frame could have.
const MAX_DIGITS: usize = 9;

/// The answer to `CONNECT`. Its headers are not escaped in any version, like those of the request.
pub(crate) const CONNECTED: &str = "CONNECTED";

/// A version of the protocol; a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V10,
    V11,
    V12,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::V10, Self::V11, Self::V12];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
        }
    }

    /// Returns the latest version of a list that is spoken here. A client without one speaks 1.0.
    pub(crate) fn agreed(accepted: Option<&str>) -> Option<Self> {
        let Some(accepted) = accepted else { return Some(Self::V10) };
        let is_accepted = |of: &Self| accepted.split(',').any(|version| version.trim() == of.as_str());
        Self::ALL.into_iter().rev().find(is_accepted)
    }

    /// Returns a name or a value as it stands in a header. 1.0 has no escapes.
    fn escaped(self, text: &str) -> Cow<'_, str> {
        let is_special = |c: char| matches!(c, '\\' | ':' | '\n') || (c == '\r' && self == Self::V12);
        if self == Self::V10 || !text.contains(is_special) {
            return text.into();
        }
        let mut escaped = String::with_capacity(text.len() + 8);
        for character in text.chars() {
            match character {
                '\\' => escaped.push_str(r"\\"),
                ':' => escaped.push_str(r"\c"),
                '\n' => escaped.push_str(r"\n"),
                '\r' if self == Self::V12 => escaped.push_str(r"\r"),
                character => escaped.push(character),
            }
        }
        escaped.into()
    }

    /// Returns what a name or a value says.
    fn unescaped(self, text: &str) -> Result<Cow<'_, str>, Malformed> {
        let is_special = |c: char| matches!(c, '\\' | ':') || (c == '\r' && self == Self::V12);
        if self == Self::V10 || !text.contains(is_special) {
            return Ok(text.into());
        }
        let mut said = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            said.push(match character {
                '\\' => match characters.next() {
                    Some('\\') => '\\',
                    Some('c') => ':',
                    Some('n') => '\n',
                    Some('r') if self == Self::V12 => '\r',
                    _ => return Err(Malformed("a header has an escape that this version does not have")),
                },
                ':' => return Err(Malformed("a colon in the value of a header is escaped")),
                '\r' if self == Self::V12 => {
                    return Err(Malformed("a carriage return in a header is escaped"));
                }
                character => character,
            });
        }
        Ok(said.into())
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Also `STOMP`, which is the same.
    Connect,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
}

impl Command {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"CONNECT" | b"STOMP" => Self::Connect,
            b"SEND" => Self::Send,
            b"SUBSCRIBE" => Self::Subscribe,
            b"UNSUBSCRIBE" => Self::Unsubscribe,
            b"ACK" => Self::Ack,
            b"NACK" => Self::Nack,
            b"BEGIN" => Self::Begin,
            b"COMMIT" => Self::Commit,
            b"ABORT" => Self::Abort,
            b"DISCONNECT" => Self::Disconnect,
            _ => return None,
        })
    }
}

/// Why bytes are not a frame. It has nothing of what the client wrote, which may be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) command: Command,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(crate) body: &'a [u8],
}

impl Frame<'_> {
    /// Returns the value of a header. Of several with one name, the first counts.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| &**value)
    }
}

/// Reads a message of a client; nothing from a heart-beat. There is no version before `CONNECT`.
pub(crate) fn read(message: &[u8], version: Option<Version>) -> Result<Option<Frame<'_>>, Malformed> {
    // A client of 1.2 may end lines so before it knows that 1.2 is spoken.
    let takes_returns = version.is_none_or(|version| version == Version::V12);
    let message = behind_ends(message);
    if message.is_empty() {
        return Ok(None);
    }
    let (name, mut rest) = line(message, takes_returns)?;
    let command = Command::of(name).ok_or(Malformed("a frame begins with a command that clients have"))?;
    let escapes = match (command, version) {
        (Command::Connect, _) | (_, None) => Version::V10,
        (_, Some(version)) => version,
    };
    let mut headers = Vec::new();
    loop {
        let (header, behind) = line(rest, takes_returns)?;
        rest = behind;
        if header.is_empty() {
            break;
        }
        if headers.len() == MAX_HEADERS {
            return Err(Malformed("a frame has too many headers"));
        }
        let header = str::from_utf8(header).map_err(|_| Malformed("a header is UTF-8"))?;
        let (name, value) =
            header.split_once(':').ok_or(Malformed("a header has a colon behind its name"))?;
        if name.is_empty() {
            return Err(Malformed("a header has a name"));
        }
        headers.push((escapes.unescaped(name)?, escapes.unescaped(value)?));
    }
    let mut frame = Frame { command, headers, body: &[] };
    let end = match frame.header("content-length") {
        Some(length) => number(length).ok_or(Malformed("content-length is a number of bytes"))?,
        None => rest.iter().position(|byte| *byte == 0).ok_or(NO_NUL)?,
    };
    if rest.get(end) != Some(&0) {
        return Err(NO_NUL);
    }
    if !behind_ends(&rest[end + 1..]).is_empty() {
        return Err(Malformed("a message has one frame and nothing behind it"));
    }
    frame.body = &rest[..end];
    if command != Command::Send && !frame.body.is_empty() {
        return Err(Malformed("of a client's frames only SEND has a body"));
    }
    Ok(Some(frame))
}

const NO_NUL: Malformed = Malformed("a frame ends with a NUL byte, behind as many bytes as it says");

/// Returns what is behind the line ends that a client may put around frames.
fn behind_ends(mut bytes: &[u8]) -> &[u8] {
    while let [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] = bytes {
        bytes = behind;
    }
    bytes
}

/// Returns the first line, and what is behind it.
fn line(bytes: &[u8], takes_returns: bool) -> Result<(&[u8], &[u8]), Malformed> {
    const NO_EMPTY_LINE: Malformed = Malformed("a frame has an empty line behind its headers");
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(NO_EMPTY_LINE)?;
    let line = match &bytes[..end] {
        [line @ .., b'\r'] if takes_returns => line,
        line => line,
    };
    if line.contains(&0) {
        return Err(NO_EMPTY_LINE);
    }
    Ok((line, &bytes[end + 1..]))
}

/// Returns a number as headers have it: digits alone.
pub(crate) fn number(digits: &str) -> Option<usize> {
    let is_number = digits.len() <= MAX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// Returns a frame as it is written.
pub(crate) fn write(version: Version, command: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(128 + body.len());
    written.extend_from_slice(command.as_bytes());
    written.push(b'\n');
    write_headers(if command == CONNECTED { Version::V10 } else { version }, headers, &mut written);
    if !body.is_empty() {
        write_headers(version, &[("content-length", &body.len().to_string())], &mut written);
    }
    written.push(b'\n');
    written.extend_from_slice(body);
    written.push(0);
    written
}

/// Writes headers behind others.
pub(crate) fn write_headers(version: Version, headers: &[(&str, &str)], to: &mut Vec<u8>) {
    for (name, value) in headers {
        to.extend_from_slice(version.escaped(name).as_bytes());
        to.push(b':');
        to.extend_from_slice(version.escaped(value).as_bytes());
        to.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kit::testing::fuzz;

    use super::*;

    /// A frame with its command, headers and body.
    type Read<'a> = (Command, Vec<(&'a str, &'a str)>, &'a [u8]);

    fn parts<'a>(frame: &'a Frame<'a>) -> Read<'a> {
        let headers = frame.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        (frame.command, headers, frame.body)
    }

    #[test]
    fn the_latest_version_that_both_speak_is_spoken() {
        let check = |accepted, expected| assert_eq!(Version::agreed(accepted), expected, "{accepted:?}");
        check(None, Some(Version::V10));
        check(Some("1.2,1.1,1.0"), Some(Version::V12));
        check(Some("1.0, 1.1"), Some(Version::V11));
        check(Some("1.0,2.0"), Some(Version::V10));
        for accepted in ["", "2.0", "1", "1.2.0", "1.3,0.9"] {
            check(Some(accepted), None);
        }
    }

    #[test]
    fn a_frame_is_read_as_its_version_writes_it() {
        use Version::{V10, V11, V12};
        let check = |versions: &[Option<Version>], message: &[u8], expected: Read<'_>| {
            for version in versions {
                let frame = read(message, *version).expect("a frame").expect("no heart-beat");
                assert_eq!(parts(&frame), expected, "{version:?}: {}", message.escape_ascii());
            }
        };
        let all = [None, Some(V10), Some(V11), Some(V12)];
        check(&all, b"DISCONNECT\n\n\0", (Command::Disconnect, vec![], b""));
        check(&all, b"STOMP\nhost:a\n\n\0", (Command::Connect, vec![("host", "a")], b""));
        // Line ends around it, and both kinds of them where 1.2 may be spoken.
        check(&all, b"\n\r\n\nSEND\na:b\n\nhi\0\n\r\n", (Command::Send, vec![("a", "b")], b"hi"));
        check(&[None, Some(V12)], b"SEND\r\na:b\r\n\r\nhi\0", (Command::Send, vec![("a", "b")], b"hi"));
        // A space is a part of a name or a value, and a value may be empty.
        check(&all, b"SEND\n a : b \nc:\n\n\0", (Command::Send, vec![(" a ", " b "), ("c", "")], b""));
        // With its length a body has any bytes.
        let counted = b"SEND\ncontent-length:4\n\na\0\n\0\0\n";
        check(&all, counted, (Command::Send, vec![("content-length", "4")], b"a\0\n\0"));
        check(&all, b"ACK\ncontent-length:0\n\n\0", (Command::Ack, vec![("content-length", "0")], b""));
        // Escapes, which CONNECT and 1.0 do not have.
        let escaped = br"a\cb\nc\\d";
        let of = |command: &[u8]| [command, b"\nk\\c:", escaped, b"\n\n\0"].concat();
        let said = (Command::Send, vec![("k:", "a:b\nc\\d")], &b""[..]);
        check(&[Some(V11), Some(V12)], &of(b"SEND"), said);
        check(&[Some(V10)], &of(b"SEND"), (Command::Send, vec![("k\\c", r"a\cb\nc\\d")], b""));
        check(&all, &of(b"CONNECT"), (Command::Connect, vec![("k\\c", r"a\cb\nc\\d")], b""));
        check(&all, b"CONNECT\nhost:a:1\n\n\0", (Command::Connect, vec![("host", "a:1")], b""));
        check(&[Some(V12)], b"SEND\na:\\r\n\n\0", (Command::Send, vec![("a", "\r")], b""));
        // Where it ends no line, a carriage return is a byte like others.
        check(&[Some(V11)], b"SEND\na:b\r\n\n\0", (Command::Send, vec![("a", "b\r")], b""));
    }

    #[test]
    fn of_headers_with_one_name_the_first_counts() {
        let frame = read(b"SEND\na:1\na:2\n\n\0", Some(Version::V12)).expect("a frame").expect("a frame");
        assert_eq!((frame.header("a"), frame.header("b")), (Some("1"), None));
    }

    #[test]
    fn line_ends_alone_are_a_heart_beat() {
        for message in [&b""[..], b"\n", b"\r\n", b"\n\n\r\n"] {
            assert_eq!(read(message, Some(Version::V12)), Ok(None), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        use Version::{V10, V11, V12};
        let check = |versions: &[Option<Version>], messages: &[&[u8]]| {
            for (version, message) in versions.iter().flat_map(|of| messages.iter().map(move |m| (of, m))) {
                assert!(read(message, *version).is_err(), "{version:?}: {}", message.escape_ascii());
            }
        };
        let too_many = [b"SEND\n".to_vec(), b"a:b\n".repeat(MAX_HEADERS + 1), b"\n\0".to_vec()].concat();
        check(
            &[None, Some(V10), Some(V11), Some(V12)],
            &[
                // No command of a client.
                b"\0",
                b"send\n\n\0",
                b"SENDS\n\n\0",
                b" SEND\n\n\0",
                b"MESSAGE\n\n\0",
                b"CONNECTED\n\n\0",
                b"\nRECEIPT\n\n\0",
                // No end of the headers, or of the frame.
                b"SEND",
                b"SEND\0",
                b"SEND\n",
                b"SEND\n\0",
                b"SEND\na:b\0\n\n\0",
                b"SEND\na:b\n",
                b"SEND\n\n",
                b"SEND\n\nhi",
                b"\r",
                // No header.
                b"SEND\na\n\n\0",
                b"SEND\n:a\n\n\0",
                b"SEND\na:\xff\n\n\0",
                &too_many,
                // Another length.
                b"SEND\ncontent-length:1\n\n\0",
                b"SEND\ncontent-length:1\n\nhi\0",
                b"SEND\ncontent-length:3\n\nhi\0",
                b"SEND\ncontent-length:\n\nhi\0",
                b"SEND\ncontent-length:+2\n\nhi\0",
                b"SEND\ncontent-length:-2\n\nhi\0",
                b"SEND\ncontent-length: 2\n\nhi\0",
                b"SEND\ncontent-length:99999999999999999999\n\nhi\0",
                // Something behind the frame.
                b"SEND\n\nhi\0\0",
                b"SEND\n\nhi\0SEND\n\n\0",
                // A body that it may not have.
                b"CONNECT\n\nhi\0",
                b"SUBSCRIBE\n\nhi\0",
                b"ACK\ncontent-length:1\n\n\0\0",
            ],
        );
        // Escapes of no version, and half of one.
        for escape in [r"\t", r"\0", r"\C", r"\", r"\ n"] {
            let [name, value] = [format!("SEND\n{escape}:b\n\n\0"), format!("SEND\na:{escape}\n\n\0")];
            check(&[Some(V11), Some(V12)], &[name.as_bytes(), value.as_bytes()]);
        }
        check(&[Some(V11)], &[b"SEND\na:\\r\n\n\0", b"SEND\r\na:b\r\n\r\n\0"]);
        check(&[Some(V11), Some(V12)], &[b"SEND\na:b:c\n\n\0"]);
        check(&[Some(V12)], &[b"SEND\na:b\rc\n\n\0", b"SEND\na:b\r\r\n\n\0"]);
        check(&[Some(V10)], &[b"SEND\r\n\r\n\0"]);
    }

    #[test]
    fn a_frame_that_is_written_is_read_as_it_was_meant() {
        let values = ["", "plain", ":", "\\", "\n", "a:b\\c\nd", "\\n", "\\c", "é\u{1f600}", " padded "];
        let bodies = [&b""[..], b"hi", b"\0", b"a\0b\n\0", "é".as_bytes()];
        for (value, body) in values.iter().flat_map(|value| bodies.map(|body| (*value, body))) {
            for version in [Version::V11, Version::V12] {
                let written = write(version, "SEND", &[("k:\n", value)], body);
                let frame = read(&written, Some(version)).expect("a frame").expect("a frame");
                assert_eq!((frame.header("k:\n"), frame.body), (Some(value), body), "{version:?}");
            }
        }
        let written = write(Version::V12, "SEND", &[("a", "\r")], b"");
        assert_eq!(
            read(&written, Some(Version::V12)).expect("a frame").expect("a frame").header("a"),
            Some("\r")
        );
    }

    #[test]
    fn the_answer_to_connect_is_not_escaped() {
        let headers = [("version", "1.2"), ("session", "a:b")];
        assert_eq!(
            write(Version::V12, CONNECTED, &headers, b""),
            b"CONNECTED\nversion:1.2\nsession:a:b\n\n\0"
        );
        assert_eq!(
            write(Version::V12, "RECEIPT", &[("receipt-id", "a:b")], b""),
            b"RECEIPT\nreceipt-id:a\\cb\n\n\0"
        );
    }

    /// Whatever is read as a frame says the same when it is written again.
    #[test]
    fn any_bytes_are_refused_or_read_as_a_frame_that_can_be_written() {
        let said = [
            &b"SEND\ndestination:/chats/1\ncontent-length:3\n\na\0b\0"[..],
            b"\nSUBSCRIBE\r\nid:a\\c\\\\b\r\nack:client\r\n\r\n\0\n",
            b"CONNECT\naccept-version:1.2\nhost:a:b\n\n\0",
        ];
        let (read_count, refused_count) = (Cell::new(0), Cell::new(0));
        fuzz(&said, |bytes| {
            for version in [None].into_iter().chain(Version::ALL.map(Some)) {
                let Ok(Some(frame)) = read(bytes, version) else {
                    refused_count.set(refused_count.get() + 1);
                    continue;
                };
                read_count.set(read_count.get() + 1);
                // CONNECT has no escapes, whatever was agreed on.
                let version = version.filter(|_| frame.command != Command::Connect);
                let name = format!("{:?}", frame.command).to_uppercase();
                let (_, mut headers, body) = parts(&frame);
                headers.retain(|(name, _)| *name != "content-length");
                // It would be a part of the line end; and a length may be one header too many.
                let ends_a_line = version.is_none() && headers.iter().any(|(_, value)| value.ends_with('\r'));
                if ends_a_line || headers.len() == MAX_HEADERS {
                    continue;
                }
                let written = write(version.unwrap_or(Version::V10), &name, &headers, body);
                let again = read(&written, version).expect("a frame").expect("a frame");
                let (command, mut again_headers, again_body) = parts(&again);
                again_headers.retain(|(name, _)| *name != "content-length");
                assert_eq!((command, again_headers, again_body), (frame.command, headers, body));
            }
        });
        assert!(read_count.get() > 100 && refused_count.get() > 100);
    }
}
