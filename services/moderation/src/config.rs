//! What the service reads from its command line.

use clap::Args;
use kit::config::{KafkaArgs, PostgresArgs};

/// Settings of the moderation service.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub postgres: PostgresArgs,
    /// The usernames of those who moderate the messenger, or their ids behind `id:`, separated by commas. A username that no account has yet is that of the first
    /// user who registers it: name users who are there. Without any, rules that are in force are judged and reports are
    /// kept, and no user sees or decides them.
    #[arg(long, env, default_value = "")]
    pub moderators: String,
}
