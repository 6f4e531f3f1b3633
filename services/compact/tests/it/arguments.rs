//! What the operator renders is what each service reads: a flag that one side renames breaks here, not in a pod.

use std::{collections::BTreeMap, fs, path::PathBuf};

use auth::config::Registration;
use kit::{
    Hosted, Program,
    catalog::{EXTRA_VARIABLES, Secret, Service},
    program::Verb,
};

const SECRET: &str = "hunter2";

/// Returns the files of `examples/tenants`.
fn examples() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tenants");
    let entries =
        fs::read_dir(folder).expect("the folder of examples").map(|entry| entry.expect("an entry").path());
    let examples: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    assert!(!examples.is_empty());
    examples
}

/// Returns the flags that an example's container of a service gets, with their values.
fn rendered(example: &PathBuf, service: Service) -> BTreeMap<String, String> {
    let (arguments, secrets) = operator::rendered_args(example, service.as_str());
    let (command, flags) = arguments.split_first().expect("a command");
    assert_eq!(command, "run");
    let flags = flags.iter().map(|argument| argument.split_once('=').expect("a flag and its value"));
    let flags = flags.map(|(flag, value)| (flag.to_owned(), value.to_owned()));
    // A pod gets secrets by the environment; the flag of the same name keeps a test to itself.
    let secrets = secrets
        .into_iter()
        .map(|name| (format!("--{}", name.to_ascii_lowercase().replace('_', "-")), SECRET.to_owned()));
    flags.chain(secrets).collect()
}

/// Returns a command line: the binary's name, what stands before the flags, the flags, and what stands behind them.
fn line(before: &[&str], flags: &BTreeMap<String, String>, behind: &[&str]) -> Vec<String> {
    let flags = flags.iter().map(|(flag, value)| format!("{flag}={value}"));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    [words(&["binary"]), words(before), flags.collect(), words(behind)].concat()
}

fn each_alone(mut check: impl FnMut(Program, Service, BTreeMap<String, String>)) {
    for example in examples() {
        for hosted in compact::services() {
            let service = hosted.service();
            check(Program::alone(hosted), service, rendered(&example, service));
        }
    }
}

#[test]
fn every_service_of_the_catalog_is_here_once() {
    let here: Vec<Service> = compact::services().iter().map(Hosted::service).collect();
    assert_eq!(here, Service::ALL);
}

#[test]
fn every_service_reads_what_is_rendered_for_it() {
    each_alone(|program, service, flags| {
        if let Err(error) = program.read(line(&["run"], &flags, &[])) {
            panic!("{service} does not read what is rendered for it: {error}");
        }
    });
}

#[test]
fn the_command_stands_before_or_after_the_settings() {
    each_alone(|program, service, flags| {
        let verb = |before: &[&str], behind: &[&str]| {
            program.read(line(before, &flags, behind)).map(|invocation| invocation.verb).ok()
        };
        assert_eq!(verb(&[], &[]), Some(Verb::Run), "{service}");
        assert_eq!(verb(&["run"], &[]), Some(Verb::Run), "{service}");
        assert_eq!(verb(&[], &["run"]), Some(Verb::Run), "{service}");
        let migrate = service.migrates.then_some(Verb::Migrate);
        assert_eq!(verb(&["migrate"], &[]), migrate, "{service}");
        assert_eq!(verb(&[], &["migrate"]), migrate, "{service}");
    });
}

#[test]
fn settings_print_no_secret() {
    each_alone(|program, service, mut flags| {
        // Names come from Secrets too, and may show.
        let is_name = |flag: &str| flag.ends_with("username") || flag == "--s3-access-key";
        for (_, value) in flags.iter_mut().filter(|(flag, value)| is_name(flag) && *value == SECRET) {
            "acme".clone_into(value);
        }
        if let Some(id) = flags.get_mut("--oidc-client-id") {
            "acme".clone_into(id);
        }
        let printed = format!("{:?}", program.read(line(&[], &flags, &[])).expect("the settings"));
        assert!(printed.contains(&flags["--tenant"]), "{service}: {printed}");
        assert!(!printed.contains(SECRET), "{service}: {printed}");
    });
}

#[test]
fn registration_is_open_by_default() {
    let mut flags = rendered(&examples()[0], Service::Auth);
    flags.remove("--registration");
    let registration = |behind: &[&str]| {
        let invocation = Program::of::<auth::Auth>().read(line(&[], &flags, behind)).expect("the settings");
        invocation.settings::<auth::Auth>().expect("the settings of auth").registration
    };
    assert_eq!(registration(&[]), Registration::Open);
    assert_eq!(registration(&["--registration", "invite-only"]), Registration::InviteOnly);
}

#[test]
fn a_gateway_knows_the_services_of_its_tenant() {
    for example in examples() {
        let mut flags = rendered(&example, Service::Gateway);
        let services = |flags: &BTreeMap<String, String>| {
            let read = Program::of::<gateway::Gateway>().read(line(&[], flags, &[]));
            read.map(|invocation| invocation.process.service.tenant_services)
        };
        let has = services(&flags).expect("the settings");
        assert!(has.contains(&Service::Gateway), "{has:?}");
        for peer in Service::Gateway.all_peers() {
            assert_eq!(has.contains(&peer), flags.contains_key(&peer.peer_flag()), "{peer}: {has:?}");
        }
        flags.insert("--tenant-services".to_owned(), "gateway,stranger".to_owned());
        assert!(services(&flags).is_err_and(|refused| refused.to_string().contains("stranger")));
        flags.remove("--tenant-services");
        assert_eq!(services(&flags).expect("the settings"), Service::ALL);
    }
}

#[test]
fn contact_points_are_split() {
    let mut flags = rendered(&examples()[0], Service::Message);
    flags.insert("--cql-contact-points".to_owned(), "a:9042,b:9042".to_owned());
    let invocation = Program::of::<message::Message>().read(line(&[], &flags, &[])).expect("the settings");
    let settings = invocation.settings::<message::Message>().expect("the settings of message");
    assert_eq!(settings.cql.cql_contact_points, ["a:9042", "b:9042"]);
}

/// Returns the flags of several services in one process.
fn together(example: &PathBuf, services: &[Service]) -> BTreeMap<String, String> {
    let mut flags: BTreeMap<_, _> = services.iter().flat_map(|service| rendered(example, *service)).collect();
    flags.retain(|flag, _| !services.iter().any(|service| *flag == service.peer_flag()));
    let names: Vec<&str> = services.iter().map(|service| service.as_str()).collect();
    flags.insert("--services".to_owned(), names.join(","));
    flags
}

#[test]
fn all_services_read_one_command_line() {
    for example in examples() {
        let flags = together(&example, Service::ALL);
        let invocation = compact::program().read(line(&["run"], &flags, &[])).expect("the settings");
        assert_eq!(invocation.process.services, Service::ALL);
        let alone = rendered(&example, Service::Chat);
        let settings = invocation.settings::<chat::Chat>().expect("the settings of chat");
        assert_eq!(settings.postgres.postgres_database, alone["--postgres-database"]);
        assert_eq!(settings.kafka.kafka_bootstrap_servers, alone["--kafka-bootstrap-servers"]);
    }
}

#[test]
fn only_the_services_of_a_process_want_their_settings() {
    let example = &examples()[0];
    let missing = |services: &[Service], without: &str| {
        let mut flags = together(example, services);
        flags.remove(without);
        compact::program().read(line(&[], &flags, &[])).err().map(|error| error.to_string())
    };
    let two = [Service::User, Service::Chat];
    assert_eq!(missing(&two, ""), None);
    for flag in ["--kafka-password", "--tenant", "--oidc-issuer"] {
        let refused = missing(&two, flag).expect("a refusal");
        assert!(refused.contains(flag), "{refused}");
    }
    // A peer elsewhere is named by its URL, a peer in the same process is not.
    let refused = missing(&[Service::Message], "--chat-grpc").expect("a refusal");
    assert!(refused.contains("--chat-grpc"), "{refused}");
    assert_eq!(missing(&[Service::Message, Service::Chat], "--chat-grpc"), None);
}

#[test]
fn no_setting_is_read_from_a_variable_that_a_tenant_may_add() {
    let help = compact::program().read(["compact", "--help"]).expect_err("the help").to_string();
    let variable = |text: &str| text.split(['=', ']']).next().map(str::to_owned);
    let shown: Vec<_> = help.split("[env: ").skip(1).filter_map(variable).collect();
    assert!(shown.iter().any(|name| name == "TENANT"), "{help}");
    // The help shows no setting that is secret.
    let secret = Secret::ALL.iter().flat_map(|secret| secret.keys).map(|key| key.variable.to_owned());
    for name in shown.into_iter().chain(secret) {
        assert!(!EXTRA_VARIABLES.iter().any(|start| name.starts_with(start)), "{name}");
    }
}

#[test]
fn unknown_services_and_flags_are_refused() {
    let flags = together(&examples()[0], Service::ALL);
    let refused = |behind: &[&str]| {
        let error = compact::program().read(line(&[], &flags, behind)).expect_err("a refusal");
        error.to_string()
    };
    assert!(refused(&["--stranger", "x"]).contains("--stranger"));
    let mut flags = flags.clone();
    flags.insert("--services".to_owned(), "chat,stranger".to_owned());
    let error = compact::program().read(line(&[], &flags, &[])).expect_err("a refusal").to_string();
    assert!(error.contains("stranger") && error.contains("gateway"), "{error}");
}
