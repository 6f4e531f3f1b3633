//! What the operator renders is what this service reads.

use clap::Parser as _;
use gateway::{Command, Config};

#[test]
fn what_the_operator_renders_for_every_example_is_read() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tenants");
    let mut read = 0;
    for entry in std::fs::read_dir(examples).expect("the examples") {
        let path = entry.expect("an example").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let (arguments, secrets) = operator::rendered_args(&path, "gateway");
        // A pod gets secrets by the environment; the flag of the same name keeps this test to itself.
        let secrets = secrets.into_iter().flat_map(|name| {
            [format!("--{}", name.to_ascii_lowercase().replace('_', "-")), "secret".to_owned()]
        });
        let line = ["gateway".to_owned()].into_iter().chain(arguments).chain(secrets);
        let config =
            Config::try_parse_from(line).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(config.command, Command::Run);
        assert!(config.chat_grpc.contains("-chat:9090") && config.message_grpc.contains("-message:9090"));
        read += 1;
    }
    assert!(read > 0, "no examples at {examples}");
}
