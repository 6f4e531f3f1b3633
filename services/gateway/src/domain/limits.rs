//! The limits that a connection lives under.

use std::time::Duration;

use contracts::wire;

/// The limits of a connection. The defaults are what `/docs` promises; tests shorten the times.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The first frame, `connect`, comes within this time of the upgrade.
    pub connect_within: Duration,
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
    /// Malformed or oversized frames that a signed-in connection survives.
    pub max_faults: u32,
    /// The log has this long to take a record before the client receives `unavailable`.
    pub produce_within: Duration,
    /// Session entries in Redis are written again this often and live three times as long.
    pub session_refresh: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_within: Duration::from_secs(5),
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
            max_faults: 16,
            produce_within: Duration::from_secs(10),
            session_refresh: Duration::from_secs(30),
        }
    }
}
