//! The command line of a process: which services it runs, and the settings of each.

use std::{collections::BTreeMap, ffi::OsString, fmt::Debug};

use anyhow::Context as _;
use clap::{
    Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use crate::{
    Process, Service,
    config::{OidcArgs, ServiceArgs},
    process::ProcessConfig,
    service::Hosted,
    telemetry,
};

const COMMAND: &str = "command";
const SERVICES: &str = "services";

/// A binary that runs or migrates services.
///
/// Several services read one command line: an argument that more than one of them reads is given once.
pub struct Program {
    pub name: &'static str,
    pub about: &'static str,
    /// The services it can run. With more than one, `--services` chooses.
    pub services: Vec<Hosted>,
    /// Threads of the runtime; one for each processor when absent.
    pub worker_threads: Option<usize>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verb {
    /// Serves until SIGTERM.
    Run,
    /// Creates or updates the tables and ends.
    Migrate,
}

/// A command line that was read.
#[derive(Clone)]
pub struct Invocation {
    pub verb: Verb,
    pub process: ProcessConfig,
    services: Vec<Hosted>,
    matches: ArgMatches,
}

/// Defines `main` of a binary that runs one service.
#[macro_export]
macro_rules! main {
    ($service:ty) => {
        fn main() -> impl ::std::process::Termination {
            $crate::Program::of::<$service>().main()
        }
    };
}

impl Program {
    /// Returns the binary of one service.
    pub fn of<S: Service>() -> Self {
        Self::alone(Hosted::of::<S>())
    }

    /// Returns the binary of one service.
    pub fn alone(hosted: Hosted) -> Self {
        let service = hosted.service;
        Self { name: service.as_str(), about: service.about, services: vec![hosted], worker_threads: None }
    }

    /// Runs the command line of the process.
    pub fn main(&self) -> anyhow::Result<()> {
        let invocation = self.read(std::env::args_os()).unwrap_or_else(|error| error.exit());
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = self.worker_threads {
            runtime.worker_threads(threads);
        }
        let runtime = runtime.enable_all().build().context("failed to start the runtime")?;
        runtime.block_on(invocation.execute())
    }

    /// Reads a command line, its first word being the binary's name.
    pub fn read(
        &self,
        line: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Result<Invocation, clap::Error> {
        let line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        let services = self.chosen(&line)?;
        let matches = self.command(&services).try_get_matches_from(line)?;
        let names: Vec<_> = services.iter().map(|hosted| hosted.service).collect();
        let peers = self.services.iter().flat_map(|hosted| hosted.service.all_peers());
        let peers =
            peers.filter_map(|peer| Some((peer, matches.get_one::<String>(&argument_of(peer))?.to_owned())));
        for hosted in &services {
            (hosted.settings)(&matches)?;
        }
        Ok(Invocation {
            verb: *matches.get_one(COMMAND).expect("the command has a default"),
            process: ProcessConfig {
                service: ServiceArgs::from_arg_matches(&matches)?,
                oidc: OidcArgs::from_arg_matches(&matches)?,
                peers: peers.collect(),
                services: names,
            },
            services,
            matches,
        })
    }

    /// Returns the services that a command line selects.
    fn chosen(&self, line: &[OsString]) -> Result<Vec<Hosted>, clap::Error> {
        if self.services.len() == 1 {
            return Ok(self.services.clone());
        }
        // Nothing is required yet: what is depends on the services.
        let matches = self.command(&[]).try_get_matches_from(line)?;
        let names: Vec<String> = matches.get_many(SERVICES).unwrap_or_default().cloned().collect();
        let is_chosen = |hosted: &&Hosted| names.iter().any(|name| name == hosted.service.as_str());
        Ok(self.services.iter().filter(is_chosen).copied().collect())
    }

    /// Returns the parser. It knows the arguments of all services, and requires those of the chosen ones.
    fn command(&self, chosen: &[Hosted]) -> Command {
        let is_chosen = |service| chosen.iter().any(|hosted| hosted.service == service);
        let mut arguments: BTreeMap<String, (usize, Arg)> = BTreeMap::new();
        let mut add = |argument: Arg, is_required: bool| {
            let place = arguments.len();
            let id = argument.get_id().to_string();
            let (_, known) = arguments.entry(id).or_insert((place, argument.required(false)));
            if is_required {
                *known = known.clone().required(true);
            }
        };
        let common = ServiceArgs::augment_args(Command::new(self.name));
        for argument in OidcArgs::augment_args(common).get_arguments() {
            add(argument.clone(), argument.is_required_set() && !chosen.is_empty());
        }
        for Hosted { service, arguments, .. } in &self.services {
            for argument in arguments() {
                let is_required = argument.is_required_set() && is_chosen(*service);
                add(argument, is_required);
            }
            for peer in service.all_peers() {
                let is_needed = service.peers.contains(&peer);
                add(peer_argument(peer), is_needed && is_chosen(*service) && !is_chosen(peer));
            }
        }
        let mut arguments: Vec<(usize, Arg)> = arguments.into_values().collect();
        arguments.sort_by_key(|(place, _)| *place);
        // Every group numbers its own from 0: the help would mix them.
        let arguments = arguments.into_iter().map(|(place, argument)| argument.display_order(place + 1));
        Command::new(self.name)
            .about(self.about)
            .version(env!("CARGO_PKG_VERSION"))
            .arg(self.verb())
            .args(self.choice())
            .args(arguments)
    }

    /// A value rather than a subcommand: both commands take the same settings, before it or after it.
    fn verb(&self) -> Arg {
        let migrates = self.services.iter().any(|hosted| hosted.service.migrates);
        let verbs = Verb::value_variants().iter().filter(move |verb| **verb == Verb::Run || migrates);
        let values = verbs.filter_map(ValueEnum::to_possible_value);
        let parser = PossibleValuesParser::new(values).try_map(|text| Verb::from_str(&text, false));
        Arg::new(COMMAND).value_parser(parser).default_value("run").help("What the process does")
    }

    /// `--services`, where there is a choice.
    fn choice(&self) -> Option<Arg> {
        let names: Vec<&'static str> = self.services.iter().map(|hosted| hosted.service.as_str()).collect();
        let choice = Arg::new(SERVICES)
            .long(SERVICES)
            .display_order(0)
            .env("SERVICES")
            .action(ArgAction::Set)
            .num_args(1)
            .value_delimiter(',')
            .value_parser(PossibleValuesParser::new(&names))
            .default_values(names.clone())
            .help("Services to run in this process, separated by commas");
        (names.len() > 1).then_some(choice)
    }
}

impl Invocation {
    /// Returns the settings of one of the services.
    pub fn settings<S: Service>(&self) -> Result<S::Settings, clap::Error> {
        S::Settings::from_arg_matches(&self.matches)
    }

    /// Runs or migrates the services.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Run => self.run().await,
            Verb::Migrate => self.migrate().await,
        }
    }

    async fn run(self) -> anyhow::Result<()> {
        let process = Process::start(self.process)?;
        let mut surfaces = Vec::with_capacity(self.services.len());
        for Hosted { service, build, .. } in self.services {
            let surface = build(&self.matches, &process.scope(service)).await;
            surfaces.push((service, surface.with_context(|| format!("failed to start {service}"))?));
        }
        process.serve(surfaces).await
    }

    async fn migrate(self) -> anyhow::Result<()> {
        telemetry::init(self.process.service.log_format, false);
        for Hosted { service, migrate, .. } in self.services.iter().filter(|hosted| hosted.service.migrates) {
            migrate(&self.matches).await.with_context(|| format!("failed to migrate {service}"))?;
        }
        Ok(())
    }
}

/// Shows the settings as they were read; secrets do not print.
impl Debug for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Invocation");
        shown.field("verb", &self.verb).field("process", &self.process);
        for Hosted { service, settings, .. } in &self.services {
            shown.field(service.as_str(), &settings(&self.matches));
        }
        shown.finish()
    }
}

fn argument_of(peer: catalog::Service) -> String {
    peer.peer_flag().trim_start_matches('-').to_owned()
}

fn peer_argument(peer: catalog::Service) -> Arg {
    let name = argument_of(peer);
    Arg::new(name.clone())
        .env(name.replace('-', "_").to_ascii_uppercase())
        .long(name)
        .value_name("URL")
        .help(format!("URL of the {peer} service's gRPC API"))
}
