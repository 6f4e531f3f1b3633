use auth::config::{Command, Config, Registration};
use clap::Parser as _;
use kit::testing::FLAGS;

const OWN: [&str; 12] = [
    "--keycloak-url",
    "http://id.example",
    "--realm",
    "acme",
    "--oidc-client-id",
    "messenger-auth",
    "--oidc-client-secret",
    "hunter2",
    "--chat-grpc",
    "http://acme-chat:9090",
    "--user-grpc",
    "http://acme-user:9090",
];

#[test]
fn registration_is_open_unless_told_otherwise() {
    let parse = |more: &[&'static str]| {
        Config::try_parse_from([&["auth"], &FLAGS[..], &OWN, more].concat()).expect("the settings")
    };
    let config = parse(&["run"]);
    assert_eq!((config.command, config.registration), (Command::Run, Registration::Open));
    assert_eq!(parse(&["--registration", "invite-only"]).registration, Registration::InviteOnly);
}

#[test]
fn settings_do_not_print_secrets() {
    let config = Config::try_parse_from([&["auth"], &FLAGS[..], &OWN].concat()).expect("the settings");
    assert!(!format!("{config:?}").contains("hunter2"));
}
