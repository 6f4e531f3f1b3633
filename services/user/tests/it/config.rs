use clap::Parser as _;
use user::config::{Command, Config};

/// Secrets come by the environment in a pod; clap takes them as flags too, which keeps this test to itself.
const FLAGS: [&str; 16] = [
    "--tenant",
    "acme",
    "--log-format",
    "text",
    "--internal-token",
    "t",
    "--oidc-issuer",
    "http://id.example/realms/acme",
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
    assert_eq!(parse([&["user"], &FLAGS[..]].concat()), Command::Run);
    assert_eq!(parse([&["user", "run"], &FLAGS[..]].concat()), Command::Run);
    assert_eq!(parse([&["user", "migrate"], &FLAGS[..]].concat()), Command::Migrate);
    assert_eq!(parse([&["user"], &FLAGS[..], &["migrate"]].concat()), Command::Migrate);
}

#[test]
fn settings_do_not_print_secrets() {
    let config = Config::try_parse_from([&["user"], &FLAGS[..]].concat()).expect("the settings");
    assert!(!format!("{config:?}").contains("hunter2"));
}
