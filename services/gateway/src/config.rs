//! Arguments of the process.

use kit::config::{KafkaArgs, RedisArgs};

pub use crate::domain::limits::{ConnectionLimits, Limits, RateLimits};

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Connections that this process takes; the next upgrade is answered with 503.
    #[arg(long, env, default_value_t = 50_000)]
    pub max_connections: usize,
    /// Origins of pages and packaged apps that may open a WebSocket beside pages of the tenant's host, as the browser
    /// sends them and separated by commas: `capacitor://localhost,http://localhost:5173`.
    #[arg(long, env, value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
    #[command(flatten)]
    pub connections: ConnectionLimits,
    #[command(flatten)]
    pub rates: RateLimits,
    /// Not for the command line: they are part of the documented protocol.
    #[arg(skip)]
    pub limits: Limits,
}
