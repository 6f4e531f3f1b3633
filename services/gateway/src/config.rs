//! Arguments of the process.

use kit::config::{KafkaArgs, RedisArgs};

pub use crate::domain::limits::{Limits, SendRates};

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Connections that this process takes; the next upgrade is answered with 503.
    #[arg(long, env, default_value_t = 50_000)]
    pub max_connections: usize,
    #[command(flatten)]
    pub sends: SendRates,
    /// Not for the command line: they are part of the documented protocol.
    #[arg(skip)]
    pub limits: Limits,
}
