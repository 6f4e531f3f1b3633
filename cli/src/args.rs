//! The command line.

use std::path::Path;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use url::Url;

use crate::output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and everything was as it should be
  1  done, and something is wrong: a message missing, doubled or out of order; a tenant not ready
  2  the command line is not understood
  3  a messenger or the cluster does not answer
  4  it answers, and refuses: wrong password, missing right, unknown person

As a kubectl plugin: put a link named kubectl-posthouse to this program on the PATH, then `kubectl posthouse status`.";

/// Messengers on Kubernetes: see how tenants are, watch two people talk, chat in the terminal.
#[derive(Debug, Parser)]
#[command(name = "posthouse", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Text for people or JSON for programs.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Two people register, meet in a chat and talk; checks that nothing is lost, doubled or out of order.
    ///
    /// Runs in every tenant of the cluster, or at each --url. The people stay in the tenant's realm.
    Demo(DemoArgs),
    /// Chats in the terminal: lists chats, opens one, reads and writes live.
    ///
    /// The password is asked for without echo, or taken from POSTHOUSE_PASSWORD. Reads lines from a pipe as well:
    /// `echo hello | posthouse chat --url URL --user ann --to @ben` ends when the last line is stored.
    Chat(ChatArgs),
    /// Shows tenants: ready or not, part by part, why, and what to do.
    Status(StatusArgs),
    /// Prints the completions of a shell.
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Address of a messenger, for example http://acme.localhost:8000; may be repeated.
    ///
    /// Without it every tenant of the cluster that KUBECONFIG names takes part.
    #[arg(long = "url")]
    pub(crate) urls: Vec<Url>,
    /// How many messages the two exchange.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) messages: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// Address of the messenger, for example http://acme.localhost:8000.
    #[arg(long)]
    pub(crate) url: Url,
    /// User name to sign in with.
    #[arg(long)]
    pub(crate) user: String,
    /// Registers the person first.
    #[arg(long)]
    pub(crate) register: bool,
    /// Opens a chat at once: @name for a direct chat, a title, or a chat's id.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Goes on reading after the last line of a pipe.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One tenant by its resource name; all of the namespace when absent.
    pub(crate) tenant: Option<String>,
    /// The namespace; the kubeconfig's when absent.
    #[arg(long, short, conflicts_with = "all_namespaces")]
    pub(crate) namespace: Option<String>,
    /// Every namespace.
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
}

impl Cli {
    /// Reads the process's command line; ends the process with help or an explanation when it asks for no command.
    pub fn from_command_line() -> Self {
        let mut command = Self::command();
        let invoked = std::env::args_os().next().unwrap_or_default();
        if Path::new(&invoked).file_stem().is_some_and(|name| name == "kubectl-posthouse") {
            command = command.bin_name("kubectl posthouse");
        }
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

/// Returns the completions for a shell.
pub(crate) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "posthouse", &mut script);
    String::from_utf8(script).expect("completions are text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_addresses_may_be_given() {
        let cli = Cli::parse_from([
            "posthouse",
            "demo",
            "--url",
            "http://a.localhost",
            "--url",
            "http://b.localhost",
        ]);
        let Command::Demo(args) = cli.command else { panic!("not a demo: {cli:?}") };
        assert_eq!(args.urls.len(), 2);
    }
}
