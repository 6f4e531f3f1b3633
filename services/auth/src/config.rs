//! Settings of the auth service.

use clap::{Parser, ValueEnum};
use kit::config::{OidcArgs, ServiceArgs, secret};
use secrecy::SecretString;
use url::Url;

/// Registers a tenant's people and signs them in over the tenant's realm.
#[derive(Clone, Debug, Parser)]
#[command(name = "auth", version)]
pub struct Config {
    /// The only command: this service has no tables to migrate.
    #[arg(default_value = "run")]
    pub command: Command,
    #[command(flatten)]
    pub service: ServiceArgs,
    #[command(flatten)]
    pub oidc: OidcArgs,
    #[command(flatten)]
    pub realm: RealmArgs,
    /// Who may register.
    #[arg(long, env, default_value = "open")]
    pub registration: Registration,
    /// The chat service, asked for memberships.
    #[arg(long, env)]
    pub chat_grpc: String,
    /// The user service, told of registrations.
    #[arg(long, env)]
    pub user_grpc: String,
}

/// The tenant's realm and this service's account in it.
#[derive(Clone, Debug, clap::Args)]
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
}

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Serves until SIGTERM.
    Run,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Whoever reaches the service.
    Open,
    /// Nobody here: the tenant's administrators make the accounts in the realm.
    InviteOnly,
}
