//! `posthouse`, also `kubectl posthouse`: the status of tenants and what explains it, a demo with two users, the way of a message, a chat in the
//! terminal, the export of an account, and a whole messenger for client developers.

mod args;
mod chat;
mod demo;
mod dev;
mod diagnose;
mod export;
mod failure;
mod lookup;
mod output;
mod password;
mod sides;
mod status;
mod tenants;
mod trace;

pub use args::Cli;
pub use failure::{Exit, Failure};
pub use output::note;

use args::Command;

/// Runs one command. Its result goes to standard output, and a failure names the next step.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Demo(args) => demo::run(args, cli.output).await,
        Command::Chat(args) => chat::run(args, cli.output).await,
        Command::Export(args) => export::run(args).await,
        Command::Dev(args) => Err(dev::run(&args)),
        Command::Status(args) => status::run(args, cli.output).await,
        Command::Trace(args) => trace::run(args, cli.output).await,
        Command::Diagnose(args) => diagnose::run(args, cli.output).await,
        Command::Completions { shell } => {
            output::line(args::completions(shell));
            Ok(())
        }
    }
}
