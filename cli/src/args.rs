//! The command line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use url::Url;

use crate::output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  a problem was found: a message is missing, duplicated or out of order; a tenant is not ready
  2  invalid command line
  3  a messenger or the cluster does not respond
  4  the request was refused: wrong password, missing permission, unknown user

As a kubectl plugin: with a link named kubectl-posthouse to this program on the PATH, `kubectl posthouse status` works.";

/// Messengers on Kubernetes: shows the status of tenants, runs a demo, and chats in the terminal.
#[derive(Debug, Parser)]
#[command(name = "posthouse", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Human-readable text, or JSON.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Registers two users who exchange messages; verifies that none is lost, duplicated or out of order.
    ///
    /// Runs in every ready tenant of the cluster, or at each --url. The users stay in the tenant's realm.
    Demo(DemoArgs),
    /// Chats in the terminal: lists and opens chats, sends and receives messages.
    ///
    /// The password is read from POSTHOUSE_PASSWORD, or from a prompt without echo. Lines may come from a pipe:
    /// `echo hello | posthouse chat --url URL --user ann --to @ben` ends when the last line is stored.
    Chat(ChatArgs),
    /// Prints what a messenger keeps about a user as JSON: profile, e-mail address, sessions, settings, contacts, blocks, memberships, and own
    /// messages, also of chats that the user has left.
    ///
    /// The password is read as by `chat`.
    Export(ExportArgs),
    /// Runs a whole messenger in one process, for client developers. It keeps nothing after it ends.
    ///
    /// The messenger has the APIs of a tenant and their documentation, and needs no backend. It is the program
    /// `compact`, beside this one or on the PATH.
    Dev(DevArgs),
    /// Shows the status of tenants: every condition, its reason, and the next step.
    Status(StatusArgs),
    /// Sends a message through a tenant, and prints step by step how long it takes until it is accepted, stored and delivered.
    ///
    /// With --traces, messages are sent until one of them was traced, and the spans of its trace are printed below: which part of the messages is
    /// traced is said by `spec.observability.traces.ratio` of the tenant, or of its cell. No text, token or name of a user is in them.
    Trace(TraceArgs),
    /// Gathers what explains the state of a tenant in a new folder: conditions, events, workloads, the last logs, metrics, versions.
    ///
    /// It reads what the kubeconfig lets its user read, and no Secret; what could not be read is listed with the reason. What looks like a token or
    /// a password is replaced everywhere, but look through the folder before you give it away.
    Diagnose(DiagnoseArgs),
    /// Prints shell completions.
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Address of a messenger, for example `http://acme.localhost:8000`; may be repeated.
    ///
    /// Without it, the demo runs in every ready tenant of the cluster in KUBECONFIG.
    #[arg(long = "url")]
    pub(crate) urls: Vec<Url>,
    /// Number of messages to exchange.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) messages: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Address of the APIs, of /ws and of /docs.
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub(crate) http_addr: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// Address of the messenger, for example `http://acme.localhost:8000`.
    #[arg(long)]
    pub(crate) url: Url,
    /// User name to sign in with.
    #[arg(long)]
    pub(crate) user: String,
    /// Registers the user first.
    #[arg(long)]
    pub(crate) register: bool,
    /// Opens this chat at the start: @name for a direct chat, a title, or a chat id.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Continues to receive messages after the end of the input.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Address of the messenger, for example `http://acme.localhost:8000`.
    #[arg(long)]
    pub(crate) url: Url,
    /// User name to sign in with.
    #[arg(long)]
    pub(crate) user: String,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Resource name of a tenant; all tenants of the namespace when absent.
    pub(crate) tenant: Option<String>,
    /// Namespace; the one of the kubeconfig when absent.
    #[arg(long, short, conflicts_with = "all_namespaces")]
    pub(crate) namespace: Option<String>,
    /// All namespaces.
    #[arg(long, short = 'A')]
    pub(crate) all_namespaces: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Resource name of a tenant in the cluster of KUBECONFIG.
    #[arg(required_unless_present = "url", conflicts_with = "url")]
    pub(crate) tenant: Option<String>,
    /// Namespace of the tenant; the one of the kubeconfig when absent.
    #[arg(long, short, conflicts_with = "url")]
    pub(crate) namespace: Option<String>,
    /// Address of a messenger, for example `http://acme.localhost:8000`, instead of a tenant.
    #[arg(long)]
    pub(crate) url: Option<Url>,
    /// User name to sign in with, with the password as by `chat`. Without it, two users register, who stay in the tenant's realm.
    #[arg(long, requires = "to")]
    pub(crate) user: Option<String>,
    /// Where the user sends: @name for a direct chat, or a chat id. Its members see the messages, which notify none of them.
    #[arg(long, requires = "user")]
    pub(crate) to: Option<String>,
    /// Address of a trace store with the API of Zipkin (v2); `http://127.0.0.1:17411` in the local stack with WITH=observability.
    #[arg(long)]
    pub(crate) traces: Option<Url>,
    /// With --traces: messages to send at most until one was traced.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) attempts: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    /// Resource name of a tenant.
    pub(crate) tenant: String,
    /// Namespace; the one of the kubeconfig when absent.
    #[arg(long, short)]
    pub(crate) namespace: Option<String>,
    /// The folder to make; `diagnose-NAMESPACE-TENANT` when absent. It must not exist.
    #[arg(long)]
    pub(crate) into: Option<PathBuf>,
    /// How many minutes of logs.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub(crate) minutes: u32,
}

impl Cli {
    /// Reads the command line of the process. Ends the process with a help or error text when there is no valid command.
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

    #[test]
    fn a_trace_goes_to_a_tenant_or_an_address_and_a_user_says_where() {
        let check = |arguments: &[&str], is_taken: bool| {
            let taken =
                Cli::try_parse_from(["posthouse", "trace"].into_iter().chain(arguments.iter().copied()));
            assert_eq!(taken.is_ok(), is_taken, "{arguments:?}");
        };
        check(&["acme"], true);
        check(&["acme", "-n", "tenants", "--traces", "http://127.0.0.1:17411"], true);
        check(&["--url", "http://a.localhost"], true);
        check(&["--url", "http://a.localhost", "--user", "ann", "--to", "@ben"], true);
        check(&[], false);
        check(&["acme", "--url", "http://a.localhost"], false);
        check(&["acme", "--user", "ann"], false);
        check(&["acme", "--to", "@ben"], false);
        check(&["acme", "--attempts", "0"], false);
    }
}
