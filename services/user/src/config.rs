//! Arguments of the process.

use kit::config::{PostgresArgs, RedisArgs};

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub postgres: PostgresArgs,
    #[command(flatten)]
    pub redis: RedisArgs,
}
