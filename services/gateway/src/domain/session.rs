//! The state of a connection: which frame is answered how, and which moment brings what.
//!
//! Nothing here waits or knows a socket. The connection's task feeds in frames, results and the time, and does what
//! the returned [`Action`] says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    DeviceId, ErrorCode, UserId,
    wire::{
        self, ClientFrame, CloseCode, Connect, Connected, Empty, History, HistoryPage, MAX_BODY_BYTES,
        MAX_FRAME_BYTES, Outcome, Refreshed, Send, ServerFrame, WireError,
    },
};
use serde::Deserialize;
use uuid::Uuid;

use super::bucket::Bucket;
use crate::config::Limits;

/// What a temporary refusal asks the client to wait.
const RETRY_AFTER_MS: u32 = 1_000;

/// What the connection's task does next.
#[derive(Debug)]
pub(crate) enum Action {
    Nothing,
    /// Queue this frame.
    Answer(Box<ServerFrame>),
    /// Check the token, then call [`Session::connected`].
    Connect(u32, Connect),
    /// Check the token, then call [`Session::refreshed`].
    Refresh(u32, String),
    /// Decide and produce, then call [`Session::sent`].
    Send(u32, Send),
    /// Query, then call [`Session::queried`].
    History(u32, History),
    /// The person is known: list the connection, then queue this frame.
    Open(Identity, Box<ServerFrame>),
    Ping,
    Close(CloseCode),
    /// Queue this frame, then close.
    Refuse(Box<ServerFrame>, CloseCode),
}

/// Whom a checked token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
}

/// A checked token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) user: UserId,
    pub(crate) expires_in_seconds: i64,
}

/// How the socket is doing when a deadline comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketState {
    /// Whether frames of the client could have been seen.
    pub(crate) reading: bool,
}

pub(crate) struct Session {
    id: Uuid,
    limits: Arc<Limits>,
    phase: Phase,
    /// A command is being decided; the next one waits, so that the order of commands is the order of their effects.
    deciding: bool,
    sends: usize,
    histories: usize,
    faults: u32,
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
    /// Returns the session of a connection that was upgraded now.
    pub(crate) fn new(id: Uuid, limits: Arc<Limits>, now: Instant) -> Self {
        let mut session = Self {
            id,
            phase: Phase::Connecting { until: now + limits.connect_within },
            deciding: false,
            sends: 0,
            histories: 0,
            faults: 0,
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
            && self.histories < self.limits.max_histories
            && self.bucket.empty_until(now).is_none()
    }

    /// Returns whether sends or queries are unanswered.
    pub(crate) fn is_busy(&self) -> bool {
        self.deciding || self.sends > 0 || self.histories > 0
    }

    /// Reads a text frame.
    pub(crate) fn text(&mut self, now: Instant, text: &str) -> Action {
        self.alive(now);
        if text.len() > MAX_FRAME_BYTES {
            let detail = format!("a frame has at most {MAX_FRAME_BYTES} bytes");
            return self.fault(id_of(text), ErrorCode::TooLarge, detail);
        }
        match serde_json::from_str::<ClientFrame>(text) {
            Ok(frame) => self.frame(frame),
            Err(error) => self.fault(id_of(text), ErrorCode::Malformed, error.to_string()),
        }
    }

    /// Reads a binary frame.
    pub(crate) fn binary(&mut self, now: Instant) -> Action {
        self.alive(now);
        self.fault(None, ErrorCode::Malformed, "frames of this subprotocol are text".to_owned())
    }

    /// Reads a control frame.
    pub(crate) fn control(&mut self, now: Instant) {
        self.alive(now);
    }

    fn alive(&mut self, now: Instant) {
        self.pong_due = None;
        self.bucket.take(now);
    }

    fn frame(&mut self, frame: ClientFrame) -> Action {
        let ClientFrame { id, connect, send, history, refresh, pong } = frame;
        let commands = usize::from(connect.is_some())
            + usize::from(send.is_some())
            + usize::from(history.is_some())
            + usize::from(refresh.is_some())
            + usize::from(pong.is_some());
        if commands != 1 {
            return self.fault(id, ErrorCode::Malformed, format!("a frame has one command, not {commands}"));
        }
        if pong.is_some() {
            return Action::Nothing;
        }
        let Some(id) = id else {
            return self.fault(None, ErrorCode::Malformed, "a command has an id".to_owned());
        };
        let Phase::Open { .. } = self.phase else {
            return match connect {
                Some(connect) => self.connect(id, connect),
                None => Action::Refuse(
                    error(Some(id), ErrorCode::Unauthenticated, "the first command is connect"),
                    CloseCode::Malformed,
                ),
            };
        };
        if let Some(send) = send {
            return self.send(id, send);
        }
        if let Some(history) = history {
            return self.history(id, history);
        }
        if let Some(refresh) = refresh {
            self.deciding = true;
            return Action::Refresh(id, refresh.token);
        }
        Action::Answer(error(Some(id), ErrorCode::InvalidArgument, "this connection is connected already"))
    }

    fn connect(&mut self, id: u32, connect: Connect) -> Action {
        // The log marks entries that no device sent with the nil id.
        if connect.device.0.is_nil() {
            let detail = "the nil UUID is not a device";
            return Action::Answer(error(Some(id), ErrorCode::InvalidArgument, detail));
        }
        self.deciding = true;
        Action::Connect(id, connect)
    }

    fn send(&mut self, id: u32, send: Send) -> Action {
        if send.body.is_empty() {
            return Action::Answer(error(Some(id), ErrorCode::InvalidArgument, "a message has a body"));
        }
        if send.body.len() > MAX_BODY_BYTES {
            let detail = format!("a body has at most {MAX_BODY_BYTES} bytes");
            return Action::Answer(error(Some(id), ErrorCode::TooLarge, &detail));
        }
        self.sends += 1;
        self.deciding = true;
        Action::Send(id, send)
    }

    fn history(&mut self, id: u32, mut history: History) -> Action {
        if history.after < 0 {
            return Action::Answer(error(Some(id), ErrorCode::InvalidArgument, "after is 0 or more"));
        }
        let limit = history.limit.unwrap_or(wire::DEFAULT_HISTORY_LIMIT);
        if limit == 0 {
            return Action::Answer(error(Some(id), ErrorCode::InvalidArgument, "limit is 1 or more"));
        }
        history.limit = Some(limit.min(wire::MAX_HISTORY_LIMIT));
        self.histories += 1;
        Action::History(id, history)
    }

    /// Ends the decision about `connect`.
    pub(crate) fn connected(
        &mut self,
        now: Instant,
        id: u32,
        device: DeviceId,
        pass: Result<Pass, ErrorCode>,
    ) -> Action {
        self.deciding = false;
        let pass = match pass {
            Ok(pass) if pass.expires_in_seconds > 0 => pass,
            Ok(_) | Err(ErrorCode::TokenExpired) => {
                let detail = "the token has expired";
                return Action::Refuse(
                    error(Some(id), ErrorCode::TokenExpired, detail),
                    CloseCode::TokenExpired,
                );
            }
            Err(ErrorCode::Unauthenticated) => {
                let detail = "the token is not valid here";
                return Action::Refuse(
                    error(Some(id), ErrorCode::Unauthenticated, detail),
                    CloseCode::InvalidToken,
                );
            }
            // Another gateway may have the keys.
            Err(code) => {
                let detail = "the token cannot be checked now";
                return Action::Refuse(error(Some(id), code, detail), CloseCode::Drain);
            }
        };
        let identity = Identity { user: pass.user, device };
        self.phase = Phase::Open { identity, expires: now + seconds(pass.expires_in_seconds) };
        let connected = Connected {
            session: self.id.to_string(),
            user: pass.user,
            ping_seconds: whole_seconds(self.limits.ping_every),
            pong_seconds: whole_seconds(self.limits.pong_within),
            max_inflight: u32::try_from(self.limits.max_inflight).unwrap_or(u32::MAX),
            max_frame_bytes: u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX),
            max_body_bytes: u32::try_from(MAX_BODY_BYTES).unwrap_or(u32::MAX),
            token_expires_in_seconds: pass.expires_in_seconds,
        };
        Action::Open(identity, result(id, Outcome::Connected(connected)))
    }

    /// Ends the decision about `refresh`; whatever is wrong with the new token, the old one stays good.
    pub(crate) fn refreshed(&mut self, now: Instant, id: u32, pass: Result<Pass, ErrorCode>) -> Action {
        self.deciding = false;
        let Phase::Open { identity, expires } = &mut self.phase else {
            return Action::Nothing;
        };
        let pass = match pass {
            Ok(pass) => pass,
            Err(code) => return Action::Answer(error(Some(id), code, "the token was not accepted")),
        };
        if pass.user != identity.user {
            let detail = "the token is another person's";
            return Action::Answer(error(Some(id), ErrorCode::PermissionDenied, detail));
        }
        *expires = now + seconds(pass.expires_in_seconds);
        let outcome = Refreshed { token_expires_in_seconds: pass.expires_in_seconds };
        Action::Answer(result(id, Outcome::Refreshed(outcome)))
    }

    /// Notes that the record is in the producer's queue: the next command may be read.
    pub(crate) fn enqueued(&mut self) {
        self.deciding = false;
    }

    /// Ends a send. `enqueued` was called before unless it was refused.
    pub(crate) fn sent(&mut self, id: u32, outcome: Result<(), ErrorCode>) -> Action {
        self.sends -= 1;
        Action::Answer(match outcome {
            Ok(()) => result(id, Outcome::Accepted(Empty {})),
            Err(code) => error(Some(id), code, detail_of(code)),
        })
    }

    /// Ends a query.
    pub(crate) fn queried(&mut self, id: u32, page: Result<HistoryPage, ErrorCode>) -> Action {
        self.histories -= 1;
        Action::Answer(match page {
            Ok(page) => result(id, Outcome::History(page)),
            Err(code) => error(Some(id), code, detail_of(code)),
        })
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
        let read_again = self.bucket.empty_until(now);
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

    /// Answers a frame that is not of the protocol; strangers and repeaters are closed.
    fn fault(&mut self, id: Option<u32>, code: ErrorCode, detail: String) -> Action {
        self.faults += 1;
        let answer = error(id, code, &detail);
        let connected = matches!(self.phase, Phase::Open { .. });
        if connected && self.faults <= self.limits.max_faults {
            return Action::Answer(answer);
        }
        Action::Refuse(
            answer,
            if code == ErrorCode::TooLarge { CloseCode::TooLarge } else { CloseCode::Malformed },
        )
    }
}

/// Returns the id of a frame that may be wrong in all else.
fn id_of(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Id {
        id: Option<u32>,
    }
    serde_json::from_str::<Id>(text).ok()?.id
}

fn result(id: u32, outcome: Outcome) -> Box<ServerFrame> {
    Box::new(ServerFrame { id: Some(id), result: Some(outcome), ..ServerFrame::default() })
}

fn error(id: Option<u32>, code: ErrorCode, detail: &str) -> Box<ServerFrame> {
    let temporary = code.is_temporary();
    let error = WireError {
        code,
        detail: detail.to_owned(),
        temporary,
        retry_after_ms: temporary.then_some(RETRY_AFTER_MS),
    };
    Box::new(ServerFrame { id, error: Some(error), ..ServerFrame::default() })
}

/// Returns what a client reads about a refused send or query; causes stay in the log.
const fn detail_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NotAMember => "you are not in this chat, or there is no such chat",
        ErrorCode::Unavailable => "something needed for this is down; repeat it with the same key",
        ErrorCode::Malformed
        | ErrorCode::InvalidArgument
        | ErrorCode::Unauthenticated
        | ErrorCode::TokenExpired
        | ErrorCode::PermissionDenied
        | ErrorCode::NotFound
        | ErrorCode::Conflict
        | ErrorCode::IdempotencyConflict
        | ErrorCode::TooLarge
        | ErrorCode::RateLimited => "refused",
        ErrorCode::Internal => "a fault on our side",
    }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
