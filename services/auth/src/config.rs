//! Settings of the auth service.

use clap::{Args, ValueEnum};
use kit::config::{KafkaArgs, MailArgs, RedisArgs, TrustArgs, secret};
use secrecy::SecretString;
use url::Url;

use crate::domain::external::Providers;

#[derive(Clone, Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub realm: RealmArgs,
    #[command(flatten)]
    pub external: ExternalArgs,
    #[command(flatten)]
    pub mail: MailArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Whether users may register.
    #[arg(long, env, default_value = "open")]
    pub registration: Registration,
}

/// The tenant's realm and this service's account in it.
#[derive(Clone, Debug, Args)]
pub struct RealmArgs {
    /// URL of Keycloak.
    #[arg(long, env)]
    pub keycloak_url: Url,
    /// Name of the tenant's realm.
    #[arg(long, env)]
    pub realm: String,
    /// A confidential client of the realm with direct grants and a service account that manages its users.
    #[arg(long, env, hide = true)]
    pub oidc_client_id: String,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub oidc_client_secret: SecretString,
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// External identity providers of the realm.
#[derive(Clone, Debug, Args)]
pub struct ExternalArgs {
    /// The providers as a JSON list of objects with `alias` and `display_name`.
    #[arg(long, env, default_value = "[]")]
    pub identity_providers: Providers,
    /// The tenant's addresses, scheme, host and port, the main one first. Browsers come back to them from the realm.
    #[arg(long, env, value_delimiter = ',')]
    pub public_origins: Vec<String>,
    /// Where browsers find the realm. The process reads the same argument.
    #[arg(long, env)]
    pub oidc_issuer: String,
}

/// Which users may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Every user who reaches the service.
    Open,
    /// The tenant's administrators only, who create the accounts in the realm.
    InviteOnly,
}
