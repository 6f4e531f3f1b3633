//! Arguments of the process.

use std::time::Duration;

use kit::config::{KafkaArgs, RedisArgs, positive};

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub redis: RedisArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Publishes to `presence.changes` how users are who show it to everyone, each at most once in so many seconds. Without it nothing
    /// is published.
    #[arg(long, env, value_parser = positive())]
    pub sample_seconds: Option<u32>,
    /// Not for the command line: tests shorten the times.
    #[arg(skip)]
    pub times: Times,
}

/// The times of the service.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Gateways and replicas say that they are there this often, and are gone after two without.
    pub heartbeat: Duration,
    /// How often a gateway receives the states of the users it watches, at most.
    pub push_every: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(10), push_every: Duration::from_secs(1) }
    }
}
