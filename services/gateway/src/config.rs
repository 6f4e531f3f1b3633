//! Arguments of the process.

use clap::{Parser, ValueEnum};
use kit::config::{KafkaArgs, OidcArgs, RedisArgs, ServiceArgs};

pub use crate::domain::limits::Limits;

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
