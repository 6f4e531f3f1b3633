//! A connection whose client speaks STOMP: its frames are commands of the session, and the answers to these are frames for it.
//!
//! STOMP has a frame for what was done (`RECEIPT`), and one for what was not (`ERROR`), behind which a server closes. So a client that wants to go on
//! when something is refused subscribes to its replies.

use std::time::Instant;

use contracts::{
    DeviceId, ErrorCode,
    wire::{
        CloseCode, Command, Connected, MAX_FRAME_BYTES, Outcome, Presence, RequestId, ServerFrame, Watch,
    },
};

use super::{End, ReplyTo, Serving, transport::Transport, websocket::POLICY_VIOLATION};
use crate::domain::{
    answer::{self, Refusal},
    frame::{Form, Frame},
    send_queue::SendQueue,
    stomp::{
        codec::{self, CONNECTED, Malformed, Version},
        request::{Fault, Request, receipt, request},
        subscriptions::Destination,
    },
};

/// How a connection ends whose client is refused something and cannot go on.
const REFUSED: End = End::Protocol(POLICY_VIOLATION, "refused");

/// What a connection of STOMP has beside its session.
#[derive(Default)]
pub(super) struct Stomp {
    /// Set when the client has said which versions it speaks. It is connected by the time of its next frame.
    version: Option<Version>,
    /// Whether the client wants heart-beats: our pings are for its WebSocket.
    wants_beats: bool,
    /// The receipt of its last frame.
    farewell: Option<String>,
}

/// What a client awaits for a frame that is being carried out.
#[derive(Default)]
pub(super) struct Awaited {
    receipt: Option<String>,
    what: What,
}

/// What was asked for, as far as it matters for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum What {
    /// Its receipt says all.
    #[default]
    Done,
    /// The result of a command of JSON.
    Result,
    /// How those are who are watched from now on.
    Presence,
    /// The end of what was watched, as far as the client sees.
    Unwatched,
    /// A mark that a later one replaces. What is too much for now is left to that one.
    Mark,
}

impl Awaited {
    /// Returns whether the client goes on as if nothing was when this is refused with a code: it does not ask what its mark comes to, and neither what
    /// is too much for now nor that it has left the chat is a mistake of it.
    pub(super) fn passes_over(&self, code: ErrorCode) -> bool {
        self.what == What::Mark
            && self.receipt.is_none()
            && (code.is_temporary() || code == ErrorCode::NotAMember)
    }
}

impl Stomp {
    /// Queues a sign of life, if the client wants any.
    pub(super) fn beat(&self, queue: &SendQueue) {
        if self.wants_beats {
            queue.push_own(Frame::around(Form::Stomp, b"\n"));
        }
    }
}

impl<T: Transport> Serving<T> {
    /// Reads a message that should be a frame of STOMP.
    pub(super) fn stomp_frame(&mut self, now: Instant, message: &[u8]) -> Option<End> {
        if message.len() > MAX_FRAME_BYTES {
            let refusal =
                Refusal::new(ErrorCode::TooLarge, format!("a frame has at most {MAX_FRAME_BYTES} bytes"));
            return Some(self.end_stomp(None, refusal, End::Close(CloseCode::TooLarge)));
        }
        let version = self.stomp.as_ref().and_then(|stomp| stomp.version);
        let frame = match codec::read(message, version) {
            Ok(Some(frame)) => frame,
            Ok(None) => return self.stomp_done(now, Awaited::default()),
            Err(Malformed(detail)) => return Some(self.malformed(None, detail)),
        };
        let (receipt, asked) = match receipt(&frame) {
            Ok(receipt) => (receipt, request(&frame, version, DeviceId(self.connection.session))),
            Err(fault) => (None, Err(fault)),
        };
        match asked {
            Ok(request) => self.stomp_request(now, receipt, request),
            Err(Fault::Refused(refusal)) => self.stomp_refused(now, receipt, refusal),
            Err(Fault::Malformed(detail)) => Some(self.malformed(receipt, detail)),
            Err(Fault::Version) => {
                let versions = Version::ALL.map(Version::as_str).join(",");
                let refusal = Refusal::new(ErrorCode::InvalidArgument, format!("spoken here are {versions}"));
                Some(self.end_stomp(None, refusal, End::Close(CloseCode::Malformed)))
            }
            Err(Fault::Transaction) => {
                let refusal = Refusal::new(ErrorCode::MethodNotAllowed, "there are no transactions");
                Some(self.end_stomp(receipt, refusal, REFUSED))
            }
        }
    }

    fn stomp_request(&mut self, now: Instant, receipt: Option<String>, request: Request) -> Option<End> {
        let awaited = |what| Awaited { receipt: receipt.clone(), what };
        let queue = &self.connection.queue;
        match request {
            Request::Connect { version, connect, wants_beats } => {
                let stomp = Stomp { version: Some(version), wants_beats, farewell: None };
                self.stomp = Some(Box::new(stomp));
                self.stomp_run(now, None, Awaited::default(), Command::Connect(connect))
            }
            Request::Run(command) => {
                let id = receipt.clone().map(RequestId::Text);
                self.stomp_run(now, id, awaited(What::Done), command)
            }
            Request::Exchange(id, command) => self.stomp_run(now, id, awaited(What::Result), command),
            Request::Subscribe { id, destination, is_acked, watch } => {
                let version = self.stomp_version();
                let added = queue.subscriptions(|of| of.add(version, id.as_deref(), destination, is_acked));
                match (added, watch) {
                    (Some(Err(refusal)), _) => self.stomp_refused(now, receipt, refusal),
                    (_, Some(watch)) => self.stomp_watch(now, awaited(What::Presence), watch),
                    (_, None) => self.stomp_done(now, awaited(What::Done)),
                }
            }
            Request::Unsubscribe { id, destination } => {
                let removed = queue.subscriptions(|of| of.remove(id.as_deref(), destination)).flatten();
                match removed {
                    Some(Destination::Presence) => {
                        self.stomp_watch(now, awaited(What::Unwatched), Watch::default())
                    }
                    Some(_) => self.stomp_done(now, awaited(What::Done)),
                    None => {
                        let refusal = Refusal::new(ErrorCode::NotFound, "there is no such subscription");
                        self.stomp_refused(now, receipt, refusal)
                    }
                }
            }
            Request::Ack { mark, subscription, is_taken } => {
                let chat = mark.map(|mark| mark.chat);
                let is_acked = queue.subscriptions(|of| of.is_acked(chat, subscription.as_deref()));
                match mark.filter(|_| is_taken) {
                    _ if is_acked != Some(true) => {
                        let detail = "no such subscription has messages of this kind to be acknowledged";
                        self.stomp_refused(now, receipt, Refusal::new(ErrorCode::InvalidArgument, detail))
                    }
                    Some(mark) => {
                        let id = receipt.clone().map(RequestId::Text);
                        self.stomp_run(now, id, awaited(What::Mark), Command::Delivered(mark))
                    }
                    // An entry that was not taken stays in the history, and is for no other client.
                    None => self.stomp_done(now, awaited(What::Done)),
                }
            }
            Request::Disconnect => {
                if let Some(stomp) = &mut self.stomp {
                    stomp.farewell = receipt;
                }
                Some(End::Done)
            }
        }
    }

    /// Watches users and chats in the place of those before.
    fn stomp_watch(&mut self, now: Instant, awaited: Awaited, watch: Watch) -> Option<End> {
        let id = awaited.receipt.clone().map(RequestId::Text);
        self.stomp_run(now, id, awaited, Command::Watch(watch))
    }

    /// Runs a command. `id` is what the client finds its refusal by.
    fn stomp_run(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        awaited: Awaited,
        command: Command,
    ) -> Option<End> {
        let action = self.session.command(now, id, command);
        self.act(now, Some(ReplyTo::Stomp(Box::new(awaited))), action)
    }

    /// Ends what is no command, or a heart-beat.
    fn stomp_done(&mut self, now: Instant, awaited: Awaited) -> Option<End> {
        self.session.control(now);
        self.stomp_receipt(awaited);
        None
    }

    fn stomp_refused(&mut self, now: Instant, receipt: Option<String>, refusal: Refusal) -> Option<End> {
        let action = self.session.refused(now, receipt.clone().map(RequestId::Text), refusal);
        let awaited = Awaited { receipt, what: What::Done };
        self.act(now, Some(ReplyTo::Stomp(Box::new(awaited))), action)
    }

    /// Answers a command. Returns how the connection ends when the client cannot go on behind the answer.
    pub(super) fn stomp_answer(&self, awaited: Awaited, frame: &ServerFrame) -> Option<End> {
        let queue = &self.connection.queue;
        if let Some(error) = &frame.error {
            if awaited.passes_over(error.code) {
                return None;
            }
            if awaited.what == What::Unwatched && error.temporary {
                // The subscription has ended. What is still watched brings nothing without it, and ends with the next watch or the connection.
                self.stomp_receipt(awaited);
                return None;
            }
            if queue.subscriptions(|of| of.has(Destination::Replies)) == Some(true) {
                queue.push_own(Frame::encode(Form::Stomp, frame));
                return None;
            }
            self.push_error(awaited.receipt.as_deref(), frame);
            return Some(REFUSED);
        }
        match (&frame.result, awaited.what) {
            (Some(Outcome::Connected(connected)), _) => self.push_connected(connected),
            (Some(_), What::Result) => {
                queue.push_own(Frame::encode(Form::Stomp, frame));
            }
            (Some(Outcome::Watching(Presence { users })), What::Presence) if !users.is_empty() => {
                let presence = Some(Presence { users: users.clone() });
                let frame = ServerFrame { presence, ..ServerFrame::default() };
                queue.push_own(Frame::encode(Form::Stomp, &frame));
            }
            _ => {}
        }
        self.stomp_receipt(awaited);
        None
    }

    /// Says that a frame was carried out, where its client wants to know.
    pub(super) fn stomp_receipt(&self, awaited: Awaited) {
        if let Some(receipt) = awaited.receipt {
            self.push_stomp("RECEIPT", &[("receipt-id", &receipt)], b"");
        }
    }

    /// Says that all frames of a client that is done were carried out, where it wants to know.
    pub(super) fn stomp_farewell(&mut self) {
        let receipt = self.stomp.as_mut().and_then(|stomp| stomp.farewell.take());
        self.stomp_receipt(Awaited { receipt, what: What::Done });
    }

    fn malformed(&self, receipt: Option<String>, detail: &'static str) -> End {
        let refusal = Refusal::new(ErrorCode::Malformed, detail);
        self.end_stomp(receipt, refusal, End::Close(CloseCode::Malformed))
    }

    /// Refuses a frame behind which the client cannot go on, whatever it has subscribed to.
    fn end_stomp(&self, receipt: Option<String>, refusal: Refusal, end: End) -> End {
        self.gateway.metrics.count_error(refusal.code);
        self.push_error(receipt.as_deref(), &answer::frame(None, Err(refusal)));
        end
    }

    fn push_error(&self, receipt: Option<&str>, frame: &ServerFrame) {
        let Some(error) = &frame.error else { return };
        let versions = Version::ALL.map(Version::as_str).join(",");
        let mut headers = vec![
            ("message", error.code.as_str()),
            ("version", versions.as_str()),
            ("content-type", "application/json"),
        ];
        headers.extend(receipt.map(|receipt| ("receipt-id", receipt)));
        self.push_stomp("ERROR", &headers, &Form::Stomp.encoding().encode(frame));
    }

    fn push_connected(&self, connected: &Connected) {
        let version = self.stomp_version();
        let (user, expires) = (connected.user.to_string(), connected.token_expires_in_seconds.to_string());
        // What a client waits for at most is the time between two pings, in both directions.
        let ping_ms = u64::from(connected.ping_seconds) * 1_000;
        let beats = format!("{ping_ms},{ping_ms}");
        let mut headers = vec![
            ("version", version.as_str()),
            ("session", connected.session.as_str()),
            ("server", "posthouse"),
            ("user", user.as_str()),
            ("token-expires-in-seconds", expires.as_str()),
        ];
        if version != Version::V10 {
            headers.push(("heart-beat", beats.as_str()));
        }
        self.push_stomp(CONNECTED, &headers, b"");
    }

    fn push_stomp(&self, command: &str, headers: &[(&str, &str)], body: &[u8]) {
        let frame = codec::write(self.stomp_version(), command, headers, body);
        self.connection.queue.push_own(Frame::around(Form::Stomp, &frame));
    }

    /// Returns the version that the client speaks. What is said before that is known has nothing to escape.
    fn stomp_version(&self) -> Version {
        self.stomp.as_ref().and_then(|stomp| stomp.version).unwrap_or(Version::V10)
    }
}
