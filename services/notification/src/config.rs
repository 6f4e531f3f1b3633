//! What the service reads from its command line.

use clap::Args;
use kit::config::{KafkaArgs, MailArgs, PostgresArgs, RabbitMqArgs, RedisArgs, TrustArgs, secret};
use secrecy::SecretString;
use url::Url;

/// Settings of the notification service.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub postgres: PostgresArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub redis: RedisArgs,
    #[command(flatten)]
    pub rabbitmq: RabbitMqArgs,
    #[command(flatten)]
    pub mail: MailArgs,
    /// The tenant's addresses, scheme, host and port, the main one first.
    #[arg(long, env, value_delimiter = ',')]
    pub public_origins: Vec<String>,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// What the key follows from that push services know the tenant by. With another one, browsers have to subscribe again.
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub vapid_secret: SecretString,
    /// The file of the tenant's service account at Google. With it apps are reached by Firebase Cloud Messaging.
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub fcm_service_account: Option<SecretString>,
    /// The tenant's hook for text messages, an https URL on a public address. Without it no text message is sent.
    #[arg(long, env, requires = "sms_signing_key")]
    pub sms_url: Option<Url>,
    /// What requests to the hook are signed with.
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub sms_signing_key: Option<SecretString>,
    /// A user is sent one text message in so many seconds, beside codes.
    #[arg(long, env, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(300..=86_400))]
    pub sms_interval_seconds: u32,
    /// A device has so many seconds to take a message before its user is notified.
    #[arg(long, env, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub notify_after_seconds: u32,
}
