use chat::config::{Command, Config};
use clap::Parser as _;

/// Secrets come by the environment in a pod; clap takes them as flags too, which keeps this test to itself.
const FLAGS: [&str; 22] = [
    "--tenant",
    "acme",
    "--log-format",
    "text",
    "--internal-token",
    "t",
    "--oidc-issuer",
    "http://id.example/realms/acme",
    "--kafka-bootstrap-servers",
    "kafka:9092",
    "--kafka-username",
    "acme",
    "--kafka-password",
    "k",
    "--postgres-host",
    "pg",
    "--postgres-database",
    "mt_acme",
    "--postgres-username",
    "mt_acme",
    "--postgres-password",
    "hunter2",
];

#[test]
fn the_command_stands_before_or_after_the_settings() {
    let parse = |args: Vec<&'static str>| Config::try_parse_from(args).expect("the settings").command;
    assert_eq!(parse([&["chat"], &FLAGS[..]].concat()), Command::Run);
    assert_eq!(parse([&["chat", "run"], &FLAGS[..]].concat()), Command::Run);
    assert_eq!(parse([&["chat", "migrate"], &FLAGS[..]].concat()), Command::Migrate);
    assert_eq!(parse([&["chat"], &FLAGS[..], &["migrate"]].concat()), Command::Migrate);
}

#[test]
fn settings_do_not_print_secrets() {
    let config = Config::try_parse_from([&["chat"], &FLAGS[..]].concat()).expect("the settings");
    assert!(!format!("{config:?}").contains("hunter2"));
}
