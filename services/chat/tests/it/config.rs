use chat::config::{Command, Config};
use clap::Parser as _;
use kit::testing::{DATABASE_FLAGS, FLAGS};

const KAFKA: [&str; 6] =
    ["--kafka-bootstrap-servers", "kafka:9092", "--kafka-username", "acme", "--kafka-password", "k"];

#[test]
fn the_command_stands_before_or_after_the_settings() {
    let parse = |args: Vec<&'static str>| Config::try_parse_from(args).expect("the settings").command;
    assert_eq!(parse([&["chat"], &FLAGS[..], &DATABASE_FLAGS, &KAFKA].concat()), Command::Run);
    assert_eq!(parse([&["chat", "run"], &FLAGS[..], &DATABASE_FLAGS, &KAFKA].concat()), Command::Run);
    assert_eq!(parse([&["chat", "migrate"], &FLAGS[..], &DATABASE_FLAGS, &KAFKA].concat()), Command::Migrate);
    assert_eq!(
        parse([&["chat"], &FLAGS[..], &DATABASE_FLAGS, &KAFKA, &["migrate"]].concat()),
        Command::Migrate
    );
}

#[test]
fn settings_do_not_print_secrets() {
    let config = Config::try_parse_from([&["chat"], &FLAGS[..], &DATABASE_FLAGS, &KAFKA].concat())
        .expect("the settings");
    assert!(!format!("{config:?}").contains("hunter2"));
}
