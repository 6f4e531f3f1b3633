use clap::Parser as _;
use kit::testing::{DATABASE_FLAGS, FLAGS};
use user::config::{Command, Config};

#[test]
fn the_command_stands_before_or_after_the_settings() {
    let parse = |args: Vec<&'static str>| Config::try_parse_from(args).expect("the settings").command;
    assert_eq!(parse([&["user"], &FLAGS[..], &DATABASE_FLAGS].concat()), Command::Run);
    assert_eq!(parse([&["user", "run"], &FLAGS[..], &DATABASE_FLAGS].concat()), Command::Run);
    assert_eq!(parse([&["user", "migrate"], &FLAGS[..], &DATABASE_FLAGS].concat()), Command::Migrate);
    assert_eq!(parse([&["user"], &FLAGS[..], &DATABASE_FLAGS, &["migrate"]].concat()), Command::Migrate);
}

#[test]
fn settings_do_not_print_secrets() {
    let config =
        Config::try_parse_from([&["user"], &FLAGS[..], &DATABASE_FLAGS].concat()).expect("the settings");
    assert!(!format!("{config:?}").contains("hunter2"));
}
