//! Arguments of the process, and the limits that a connection lives under.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use contracts::wire;
use kit::config::{KafkaArgs, OidcArgs, RedisArgs, ServiceArgs};

/// Keeps the WebSocket connections of one tenant's people.
#[derive(Clone, Debug, Parser)]
#[command(name = "gateway", version)]
pub struct Config {
    /// What to do.
    #[arg(value_enum, default_value = "run")]
    pub command: Command,
    #[command(flatten)]
    pub service: ServiceArgs,
    #[command(flatten)]
    pub oidc: OidcArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// URL of the chat service's gRPC API, which knows who is in which chat.
    #[arg(long, env)]
    pub chat_grpc: String,
    /// URL of the message service's gRPC API, which has the history.
    #[arg(long, env)]
    pub message_grpc: String,
    /// Connections that this process takes; the next upgrade is answered with 503.
    #[arg(long, env, default_value_t = 50_000)]
    pub max_connections: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Serves until SIGTERM, then moves the connections away.
    Run,
}

/// The limits of a connection. The defaults are what `/docs` promises; tests shorten the times.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The first frame, `connect`, comes within this time of the upgrade.
    pub connect_within: Duration,
    /// A ping is sent this often, up to a tenth earlier so that connections do not beat together.
    pub ping_every: Duration,
    /// Any frame has to come within this time of a ping.
    pub pong_within: Duration,
    /// A write that the client's side does not take for this long means that nobody reads.
    pub write_stall: Duration,
    /// What closing may take: the last frames, the close frame, the client's answer.
    pub close_within: Duration,
    /// Frames that wait for one connection. 1 MiB is a thousand large messages; beyond it pushes are dropped.
    pub outbox_bytes: usize,
    /// Sends without an answer; beyond it the socket is not read.
    pub max_inflight: usize,
    /// History queries without an answer; beyond it the socket is not read.
    pub max_histories: usize,
    /// Frames read per second in the long run, and at once after a pause; beyond it the socket is read more slowly.
    pub frames_per_second: u32,
    pub frames_burst: u32,
    /// Connections of one person; beyond it the oldest one is closed.
    pub connections_per_user: usize,
    /// Malformed or oversized frames that a signed-in connection survives.
    pub max_faults: u32,
    /// The log has this long to take a record before the client hears `unavailable`.
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
            outbox_bytes: 1024 * 1024,
            max_inflight: wire::MAX_INFLIGHT,
            max_histories: 2,
            frames_per_second: 200,
            frames_burst: 1000,
            connections_per_user: 32,
            max_faults: 16,
            produce_within: Duration::from_secs(10),
            session_refresh: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_a_pod_are_read_with_and_without_the_verb() {
        for verb in [None, Some("run")] {
            let mut line = vec!["gateway"];
            line.extend(verb);
            line.extend(
                "--tenant acme --oidc-issuer http://id/realms/acme --kafka-bootstrap-servers k:9092"
                    .split(' '),
            );
            line.extend(
                "--redis-addr r:6379 --chat-grpc http://c:9090 --message-grpc http://m:9090".split(' '),
            );
            // Secrets come by environment in a pod; clap takes either.
            line.extend("--internal-token t --kafka-username u --kafka-password p".split(' '));
            line.extend("--redis-username u --redis-password p".split(' '));
            let config = Config::try_parse_from(line).expect("the arguments of a pod");
            assert_eq!(config.command, Command::Run);
            assert!(!format!("{config:?}").contains("\"p\""), "secrets do not show in Debug output");
        }
    }
}
