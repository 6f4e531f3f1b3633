//! The limits that connections, users and chats live under.

use std::time::Duration;

use contracts::wire;
use kit::{
    catalog::{CONNECTIONS, CONNECTIONS_PER_USER, Limit, Rate},
    config::SendRates,
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
    /// Commands of one user without a connection that are unanswered; one more waits.
    pub commands_per_user: usize,
    /// A malformed or oversized frame counts as this many, and so does a command that is refused for its rate: a client that
    /// sends nothing else, or does not wait as long as the refusal says, is read slowly.
    pub fault_frames: u32,
    /// The log has this long to take a record before the client receives `unavailable`.
    pub produce_within: Duration,
    /// Session entries in Redis are written again this often and live three times as long.
    pub session_refresh: Duration,
    /// Heads that moved are compared with what was announced this often, and what was published of chats with what was read.
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
            commands_per_user: 32,
            fault_frames: 20,
            produce_within: Duration::from_secs(10),
            session_refresh: Duration::from_secs(30),
            positions_every: Duration::from_secs(10),
        }
    }
}

/// How many connections there may be, over all gateways of the tenant.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ConnectionLimits {
    /// Connections of one user; beyond it the oldest one is closed.
    #[arg(long, env, default_value_t = CONNECTIONS_PER_USER as usize)]
    pub connections_per_user: usize,
    /// Connections of all users; the next upgrade is answered with 503.
    #[arg(long, env, default_value_t = CONNECTIONS as usize)]
    pub tenant_connections: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections_per_user: CONNECTIONS_PER_USER as usize, tenant_connections: CONNECTIONS as usize }
    }
}

/// How much users may do; beyond it a command is refused with `rate_limited`. Each is a [`Limit`], which says what it counts.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RateLimits {
    #[command(flatten)]
    pub sends: SendRates,
    /// Histories, syncs and marks of one user.
    #[arg(long, env, default_value_t = Limit::UserQueries.default_rate())]
    pub user_queries: Rate,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { sends: SendRates::DEFAULT, user_queries: Limit::UserQueries.default_rate() }
    }
}
