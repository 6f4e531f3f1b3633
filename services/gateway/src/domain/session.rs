//! The state of a connection: the response to each frame, and what happens at each moment.
//!
//! Nothing here waits or knows a socket. The connection's task feeds in frames, results and the time, and carries
//! out the returned [`Action`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    DeviceId, Encoded, Encoding, ErrorCode, SessionId, UserId, cbor,
    wire::{
        ClientFrame, CloseCode, Command, Connect, Connected, MAX_BODY_BYTES, MAX_FRAME_BYTES, Outcome,
        Refreshed, RequestId, ServerFrame,
    },
};
use kit::{bucket::Bucket, json};
use uuid::Uuid;

use super::{
    answer::{self, Answer, Refusal},
    limits::Limits,
};

/// What the connection's task does next.
#[derive(Debug)]
pub(crate) enum Action {
    Nothing,
    /// Queue this frame.
    Answer(Box<ServerFrame>),
    /// Check the token, then call [`Session::connected`].
    Connect(Option<RequestId>, Connect),
    /// Run the command. It ends with [`Session::passed`], [`Session::answered`], [`Session::refreshed`], or with
    /// [`Session::started`] and later [`Session::finished`].
    Run(Option<RequestId>, Identity, Command),
    /// The user is known: queue this frame, then list the connection under the user and the session of the token.
    Open(Identity, SessionId, Box<ServerFrame>),
    /// The connection goes on with a token of this session: queue this frame.
    Renew(Identity, SessionId, Box<ServerFrame>),
    Ping,
    Close(CloseCode),
    /// Queue this frame, then close.
    Refuse(Box<ServerFrame>, CloseCode),
}

/// The user and device that a connection stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
}

/// The claims of a valid token.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedToken {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) expires_in_seconds: i64,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRefusal {
    /// It is not good, or cannot be checked.
    Unverified(ErrorCode),
    /// It is good but for the end of its session.
    SessionEnded,
}

impl TokenRefusal {
    pub(crate) const fn code(self) -> ErrorCode {
        match self {
            Self::Unverified(code) => code,
            Self::SessionEnded => ErrorCode::Unauthenticated,
        }
    }
}

/// A kind of unanswered commands that has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Sends,
    /// They count with the others. Only a refusal answers them: what becomes of the others is pushed.
    QuietSends,
    Queries,
}

impl Lane {
    /// Returns the frame that answers a command of this lane; `None` where none does.
    pub(crate) fn frame(self, id: Option<RequestId>, answer: Answer) -> Option<Box<ServerFrame>> {
        let is_answered = self != Self::QuietSends || answer.is_err();
        is_answered.then(|| answer::frame(id, answer))
    }
}

/// How the socket is doing when a deadline comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketState {
    /// Whether frames of the client could have been seen.
    pub(crate) reading: bool,
}

pub(crate) struct Session {
    id: Uuid,
    encoding: Encoding,
    limits: Arc<Limits>,
    phase: Phase,
    /// A command is being decided; the next one waits, so that the order of commands is the order of their effects.
    deciding: bool,
    /// Unanswered commands of [`Lane::Sends`]; likewise the next.
    sends: usize,
    queries: usize,
    bucket: Bucket,
    next_ping: Instant,
    pong_due: Option<Instant>,
    stall_due: Option<Instant>,
    beats: u32,
}

enum Phase {
    Connecting { until: Instant },
    Open { identity: Identity, expires: Instant },
}

impl Session {
    /// Returns the session of a connection that was upgraded now, to a subprotocol of this encoding.
    pub(crate) fn new(id: Uuid, encoding: Encoding, limits: Arc<Limits>, now: Instant) -> Self {
        let mut session = Self {
            id,
            encoding,
            phase: Phase::Connecting { until: now + limits.connect_within },
            deciding: false,
            sends: 0,
            queries: 0,
            bucket: Bucket::new(limits.frames_per_second, limits.frames_burst, now),
            next_ping: now,
            pong_due: None,
            stall_due: None,
            beats: 0,
            limits,
        };
        session.next_ping = now + session.beat();
        session
    }

    /// Returns whether the next frame may be read.
    pub(crate) fn may_read(&self, now: Instant) -> bool {
        !self.deciding
            && self.sends < self.limits.max_inflight
            && self.queries < self.limits.max_queries
            && self.bucket.ready_at(1, now).is_none()
    }

    /// Returns whether a command is unanswered.
    pub(crate) fn is_busy(&self) -> bool {
        self.deciding || self.sends > 0 || self.queries > 0
    }

    /// Reads a text frame.
    pub(crate) fn text(&mut self, now: Instant, text: &str) -> Action {
        match self.encoding {
            Encoding::Json => self.encoded(now, Encoded::Json(text)),
            Encoding::Cbor => self.of_another_encoding(now, "frames of this subprotocol are binary"),
        }
    }

    /// Reads a binary frame.
    pub(crate) fn binary(&mut self, now: Instant, bytes: &[u8]) -> Action {
        match self.encoding {
            Encoding::Json => self.of_another_encoding(now, "frames of this subprotocol are text"),
            Encoding::Cbor => self.encoded(now, Encoded::Cbor(bytes)),
        }
    }

    fn encoded(&mut self, now: Instant, encoded: Encoded<'_>) -> Action {
        self.alive(now);
        if encoded.len() > MAX_FRAME_BYTES {
            let detail = format!("a frame has at most {MAX_FRAME_BYTES} bytes");
            return self.fault(now, RequestId::find_in(encoded), Refusal::new(ErrorCode::TooLarge, detail));
        }
        let frame = match encoded {
            Encoded::Json(text) => json::from_str::<ClientFrame>(text).map_err(|error| error.to_string()),
            Encoded::Cbor(bytes) => cbor::from_slice::<ClientFrame>(bytes).map_err(|error| error.to_string()),
        };
        match frame {
            Ok(frame) => self.frame(frame),
            Err(detail) => {
                self.fault(now, RequestId::find_in(encoded), Refusal::new(ErrorCode::Malformed, detail))
            }
        }
    }

    /// Closes: the client speaks a subprotocol that it did not ask for, and would with its next frame.
    fn of_another_encoding(&mut self, now: Instant, detail: &'static str) -> Action {
        self.alive(now);
        let refusal = Refusal::new(ErrorCode::Malformed, detail);
        Action::Refuse(answer::frame(None, Err(refusal)), CloseCode::Malformed)
    }

    /// Takes a command that the client has written in another protocol.
    pub(crate) fn command(&mut self, now: Instant, id: Option<RequestId>, command: Command) -> Action {
        self.alive(now);
        self.frame(ClientFrame { id, command })
    }

    /// Refuses what the client has asked for in another protocol, and what is no command here.
    pub(crate) fn refused(&mut self, now: Instant, id: Option<RequestId>, refusal: Refusal) -> Action {
        self.alive(now);
        self.fault(now, id, refusal)
    }

    /// Reads a control frame.
    pub(crate) fn control(&mut self, now: Instant) {
        self.alive(now);
    }

    fn alive(&mut self, now: Instant) {
        self.pong_due = None;
        self.bucket.take(1, now);
    }

    fn frame(&mut self, ClientFrame { id, command }: ClientFrame) -> Action {
        match (&self.phase, command) {
            (&Phase::Open { identity, .. }, command) => {
                self.deciding = true;
                Action::Run(id, identity, command)
            }
            (Phase::Connecting { .. }, Command::Connect(connect)) => self.connect(id, connect),
            (Phase::Connecting { .. }, Command::Pong(_)) => Action::Nothing,
            (Phase::Connecting { .. }, _) => {
                let refusal = Refusal::new(ErrorCode::Unauthenticated, "the first command is connect");
                Action::Refuse(answer::frame(id, Err(refusal)), CloseCode::Malformed)
            }
        }
    }

    fn connect(&mut self, id: Option<RequestId>, connect: Connect) -> Action {
        if let Err(refusal) = check_device(connect.device) {
            return Action::Answer(answer::frame(id, Err(refusal)));
        }
        self.deciding = true;
        Action::Connect(id, connect)
    }

    /// Ends `connect`.
    pub(crate) fn connected(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        device: DeviceId,
        token: Result<VerifiedToken, TokenRefusal>,
    ) -> Action {
        self.deciding = false;
        let refusal = match token {
            Ok(token) if token.expires_in_seconds > 0 => return self.open(now, id, device, token),
            Ok(_) => TokenRefusal::Unverified(ErrorCode::TokenExpired),
            Err(refusal) => refusal,
        };
        let (detail, close) = match refusal {
            TokenRefusal::SessionEnded => {
                ("the session of the token has ended; sign in again", CloseCode::SessionEnded)
            }
            TokenRefusal::Unverified(ErrorCode::TokenExpired) => {
                ("the token has expired", CloseCode::TokenExpired)
            }
            TokenRefusal::Unverified(ErrorCode::Unauthenticated) => {
                ("the token is not valid here", CloseCode::InvalidToken)
            }
            // Another gateway may have the keys.
            TokenRefusal::Unverified(_) => ("the token cannot be checked now", CloseCode::Drain),
        };
        Action::Refuse(answer::frame(id, Err(Refusal::new(refusal.code(), detail))), close)
    }

    fn open(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        device: DeviceId,
        token: VerifiedToken,
    ) -> Action {
        let identity = Identity { user: token.user, device };
        self.phase = Phase::Open { identity, expires: now + seconds(token.expires_in_seconds) };
        let connected = Connected {
            session: self.id.to_string(),
            user: token.user,
            ping_seconds: whole_seconds(self.limits.ping_every),
            pong_seconds: whole_seconds(self.limits.pong_within),
            max_inflight: u32::try_from(self.limits.max_inflight).unwrap_or(u32::MAX),
            max_frame_bytes: u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX),
            max_body_bytes: u32::try_from(MAX_BODY_BYTES).unwrap_or(u32::MAX),
            token_expires_in_seconds: token.expires_in_seconds,
        };
        Action::Open(identity, token.session, answer::frame(id, Ok(Outcome::Connected(connected))))
    }

    /// Ends `refresh`; whatever is wrong with the new token, the old one stays good.
    pub(crate) fn refreshed(
        &mut self,
        now: Instant,
        id: Option<RequestId>,
        token: Result<VerifiedToken, TokenRefusal>,
    ) -> Action {
        self.deciding = false;
        let Phase::Open { identity, expires } = &mut self.phase else {
            return Action::Nothing;
        };
        let token = match token {
            Ok(token) => token,
            Err(refusal) => return refuse(id, refusal.code(), "the token was not accepted"),
        };
        if token.user != identity.user {
            return refuse(id, ErrorCode::PermissionDenied, "the token is another user's");
        }
        *expires = now + seconds(token.expires_in_seconds);
        let outcome = Refreshed { token_expires_in_seconds: token.expires_in_seconds };
        Action::Renew(*identity, token.session, answer::frame(id, Ok(Outcome::Refreshed(outcome))))
    }

    /// Ends a command without an answer.
    pub(crate) fn passed(&mut self) {
        self.deciding = false;
    }

    /// Ends a command that is answered immediately.
    pub(crate) fn answered(&mut self, now: Instant, id: Option<RequestId>, answer: Answer) -> Action {
        self.deciding = false;
        if answer.as_ref().is_err_and(Refusal::is_for_its_rate) {
            self.bucket.take(self.limits.fault_frames, now);
        }
        Action::Answer(answer::frame(id, answer))
    }

    /// Notes that a command has taken effect as far as its order matters, and its answer comes later: the next command
    /// may be read.
    pub(crate) fn started(&mut self, lane: Lane) {
        self.deciding = false;
        *self.unanswered(lane) += 1;
    }

    /// Ends a command that was started.
    pub(crate) fn finished(&mut self, lane: Lane, id: Option<RequestId>, answer: Answer) -> Action {
        *self.unanswered(lane) -= 1;
        lane.frame(id, answer).map_or(Action::Nothing, Action::Answer)
    }

    fn unanswered(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Sends | Lane::QuietSends => &mut self.sends,
            Lane::Queries => &mut self.queries,
        }
    }

    /// Notes that the socket takes no more bytes now.
    pub(crate) fn write_blocked(&mut self, now: Instant) {
        self.stall_due.get_or_insert(now + self.limits.write_stall);
    }

    /// Notes that the socket took bytes.
    pub(crate) fn write_went_on(&mut self) {
        self.stall_due = None;
    }

    /// Returns when [`Self::deadline_passed`] should be called next.
    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        let phase = match self.phase {
            // A token that is being checked has the time of the check.
            Phase::Connecting { .. } if self.deciding => None,
            Phase::Connecting { until } => Some(until),
            Phase::Open { expires, .. } => Some(expires),
        };
        let read_again = self.bucket.ready_at(1, now);
        [phase, self.pong_due, self.stall_due, read_again]
            .into_iter()
            .flatten()
            .fold(self.next_ping, Instant::min)
    }

    /// Returns what this moment brings.
    pub(crate) fn deadline_passed(&mut self, now: Instant, socket: SocketState) -> Action {
        match self.phase {
            Phase::Connecting { until } if now >= until && !self.deciding => {
                return Action::Close(CloseCode::Stale);
            }
            Phase::Open { expires, .. } if now >= expires => return Action::Close(CloseCode::TokenExpired),
            Phase::Connecting { .. } | Phase::Open { .. } => {}
        }
        if self.stall_due.is_some_and(|due| now >= due) {
            return Action::Close(CloseCode::Slow);
        }
        if self.pong_due.is_some_and(|due| now >= due) {
            // A client that was not read, or whose ping is still on its way, is not to blame.
            if socket.reading && self.stall_due.is_none() {
                return Action::Close(CloseCode::NoPong);
            }
            self.pong_due = Some(now + self.limits.pong_within);
        }
        if now >= self.next_ping {
            self.next_ping = now + self.beat();
            let connected = matches!(self.phase, Phase::Open { .. });
            if connected && self.stall_due.is_none() {
                self.pong_due.get_or_insert(now + self.limits.pong_within);
                return Action::Ping;
            }
        }
        Action::Nothing
    }

    /// Returns the time to the next ping. The first one comes anywhere in the interval, so that connections that
    /// came together do not beat together; later ones are up to a tenth early.
    fn beat(&mut self) -> Duration {
        let random = (self.id.as_u128() as u64).wrapping_mul(u64::from(self.beats) * 2 + 1) >> 40;
        let share = random as f64 / (1_u64 << 24) as f64;
        self.beats = self.beats.wrapping_add(1);
        self.limits.ping_every.mul_f64(if self.beats == 1 { 0.2 + 0.8 * share } else { 0.9 + 0.1 * share })
    }

    /// Answers a frame that is not of the protocol. A stranger is closed; a user's client reads the refusal and goes on,
    /// or one bad habit of a program would keep its user out.
    fn fault(&mut self, now: Instant, id: Option<RequestId>, refusal: Refusal) -> Action {
        let code = refusal.code;
        let answer = answer::frame(id, Err(refusal));
        if matches!(self.phase, Phase::Open { .. }) {
            self.bucket.take(self.limits.fault_frames, now);
            return Action::Answer(answer);
        }
        let close = if code == ErrorCode::TooLarge { CloseCode::TooLarge } else { CloseCode::Malformed };
        Action::Refuse(answer, close)
    }
}

/// Refuses the nil id, with which the log marks entries that no device sent.
pub(crate) fn check_device(device: DeviceId) -> Result<(), Refusal> {
    if device.0.is_nil() {
        return Err(Refusal::new(ErrorCode::InvalidArgument, "the nil UUID is not a device"));
    }
    Ok(())
}

fn refuse(id: Option<RequestId>, code: ErrorCode, detail: &'static str) -> Action {
    Action::Answer(answer::frame(id, Err(Refusal::new(code, detail))))
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
