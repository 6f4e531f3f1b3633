use clap::Parser as _;
use kit::testing::FLAGS;
use user::config::{Command, Config};

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
