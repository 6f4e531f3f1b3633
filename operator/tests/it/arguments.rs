//! What the operator renders is what each service reads: a flag that one side renames breaks here, not in a pod.

use clap::Parser;

use crate::examples;

/// Parses what every example's container of this service gets, with the service's own parser.
fn check<C: Parser>(service: &str) {
    let examples = examples("tenants");
    assert!(!examples.is_empty());
    for path in examples {
        let (arguments, secrets) = operator::rendered_args(&path, service);
        // A pod gets secrets by the environment; the flag of the same name keeps this test to itself.
        let secrets = secrets.into_iter().flat_map(|name| {
            [format!("--{}", name.to_ascii_lowercase().replace('_', "-")), "secret".to_owned()]
        });
        let line = [service.to_owned()].into_iter().chain(arguments).chain(secrets);
        if let Err(error) = C::try_parse_from(line) {
            panic!("{service} does not read what {} renders: {error}", path.display());
        }
    }
}

#[test]
fn every_service_reads_what_is_rendered_for_it() {
    check::<gateway::Config>("gateway");
    check::<auth::config::Config>("auth");
    check::<user::config::Config>("user");
    check::<chat::config::Config>("chat");
    check::<message::Config>("message");
}
