//! Settings of the user service.

use clap::{Parser, ValueEnum};
use kit::config::{OidcArgs, PostgresArgs, ServiceArgs};

/// Keeps the profiles of a tenant's people.
#[derive(Clone, Debug, Parser)]
#[command(name = "user", version)]
pub struct Config {
    /// A value rather than a subcommand: both commands take the same settings, before it or after it.
    #[arg(default_value = "run")]
    pub command: Command,
    #[command(flatten)]
    pub service: ServiceArgs,
    #[command(flatten)]
    pub oidc: OidcArgs,
    #[command(flatten)]
    pub postgres: PostgresArgs,
}

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Serves until SIGTERM.
    Run,
    /// Creates or updates the tables and ends.
    Migrate,
}
