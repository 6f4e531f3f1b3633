//! What the service reads from its command line.

use clap::Args;
use kit::config::{KafkaArgs, PostgresArgs, secret};
use secrecy::SecretString;
use url::Url;

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
    /// The tenant's classifier, an https URL on a public address. Without it no rule set is enforced that names a label of it.
    #[arg(long, env, requires = "classifier_signing_key")]
    pub classifier_url: Option<Url>,
    /// What requests to it are signed with.
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub classifier_signing_key: Option<SecretString>,
}
