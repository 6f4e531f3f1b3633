//! The limits that connections, users and chats live under.

use std::time::Duration;

use contracts::wire;
use kit::{
    catalog::{CHAT_SENDS, USER_SENDS},
    config::positive,
};

/// The limits of a connection. The defaults are what `/docs` promises; tests shorten the times.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The first frame, `connect`, comes within this time of the upgrade.
    pub connect_within: Duration,
    /// A token is checked within this time, or cannot be checked now: nothing is read of a client meanwhile, not even
    /// that it left.
    pub check_within: Duration,
    /// A ping is sent this often, up to a tenth earlier so that connections do not beat together.
    pub ping_every: Duration,
    /// Any frame has to come within this time of a ping.
    pub pong_within: Duration,
    /// A write that makes no progress for this long means that the client does not read.
    pub write_stall: Duration,
    /// Closing takes no longer: the last frames, the close frame, the client's answer.
    pub close_within: Duration,
    /// Frames queued for one connection. 1 MiB is a thousand large messages; beyond it pushes are dropped.
    pub send_queue_bytes: usize,
    /// Sends without an answer; beyond it the socket is not read.
    pub max_inflight: usize,
    /// Queries without an answer; beyond it the socket is not read.
    pub max_queries: usize,
    /// Frames read per second in the long run, and at once after a pause; beyond it the socket is read more slowly.
    pub frames_per_second: u32,
    pub frames_burst: u32,
    /// Connections of one user; beyond it the oldest one is closed.
    pub connections_per_user: usize,
    /// A malformed or oversized frame counts as this many, and so does a command that is refused for its rate: a client that
    /// sends nothing else, or does not wait as long as the refusal says, is read slowly.
    pub fault_frames: u32,
    /// The log has this long to take a record before the client receives `unavailable`.
    pub produce_within: Duration,
    /// Session entries in Redis are written again this often and live three times as long.
    pub session_refresh: Duration,
    /// Heads that moved are compared with what was announced this often.
    pub positions_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(5),
            check_within: Duration::from_secs(8),
            ping_every: Duration::from_secs(25),
            pong_within: Duration::from_secs(8),
            write_stall: Duration::from_secs(20),
            close_within: Duration::from_secs(2),
            send_queue_bytes: 1024 * 1024,
            max_inflight: wire::MAX_INFLIGHT,
            max_queries: 2,
            frames_per_second: 200,
            frames_burst: 1000,
            connections_per_user: 32,
            fault_frames: 20,
            produce_within: Duration::from_secs(10),
            session_refresh: Duration::from_secs(30),
            positions_every: Duration::from_secs(10),
        }
    }
}

/// Messages that a user and a chat may send; beyond it a send is refused with `rate_limited`.
///
/// A user counts over all connections, and so does a chat over all members.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SendRates {
    /// Messages per second that a user may send in the long run.
    #[arg(long, env, default_value_t = Self::DEFAULT.user_sends_per_second, value_parser = positive())]
    pub user_sends_per_second: u32,
    /// Messages that a user may send at once after a pause.
    #[arg(long, env, default_value_t = Self::DEFAULT.user_sends_burst, value_parser = positive())]
    pub user_sends_burst: u32,
    /// Messages per second that may be sent to a chat in the long run.
    #[arg(long, env, default_value_t = Self::DEFAULT.chat_sends_per_second, value_parser = positive())]
    pub chat_sends_per_second: u32,
    /// Messages that may be sent to a chat at once after a pause.
    #[arg(long, env, default_value_t = Self::DEFAULT.chat_sends_burst, value_parser = positive())]
    pub chat_sends_burst: u32,
}

impl SendRates {
    const DEFAULT: Self = Self {
        user_sends_per_second: USER_SENDS.per_second,
        user_sends_burst: USER_SENDS.burst,
        chat_sends_per_second: CHAT_SENDS.per_second,
        chat_sends_burst: CHAT_SENDS.burst,
    };

    pub(crate) const fn user(&self) -> Rate {
        Rate { per_second: self.user_sends_per_second, burst: self.user_sends_burst }
    }

    pub(crate) const fn chat(&self) -> Rate {
        Rate { per_second: self.chat_sends_per_second, burst: self.chat_sends_burst }
    }
}

impl Default for SendRates {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// So many in the long run, and so many at once after a pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}
