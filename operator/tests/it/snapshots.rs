//! Example plus snapshot is the specification: everything the operator would create, for every example.

use std::fmt::Write;

use clap::Parser;
use operator::{
    backend::{cql, kafka, keycloak, postgres, redis},
    catalog::Service,
    config::Config,
    desired,
};

use crate::examples;

fn settings(example: &std::path::Path) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    let name = example.file_stem().and_then(|name| name.to_str()).expect("a plain name");
    settings.set_snapshot_suffix(name);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

#[test]
fn kubernetes_objects() {
    let config = Config::try_parse_from(["operator", "--image-tag", "1.2.3"]).expect("arguments");
    for example in examples("tenants") {
        let tenant = operator::example_tenant(&example);
        let mut yaml = String::new();
        for object in desired::objects(&tenant, &config.images) {
            let document = serde_saphyr::to_string(&object.manifest).expect("plain data");
            write!(yaml, "---\n{document}").expect("a String");
        }
        settings(&example).bind(|| insta::assert_snapshot!("objects", yaml));
    }
}

#[test]
fn backend_changes_of_a_new_tenant() {
    for example in examples("tenants") {
        let tenant = operator::example_tenant(&example);
        let mut tenant_before = tenant.clone();
        tenant_before.topic_ids.clear();
        let mut text = String::new();
        let mut part = |name: &str, lines: Vec<String>| {
            writeln!(text, "{name}").expect("a String");
            for line in lines {
                writeln!(text, "  {line}").expect("a String");
            }
        };
        fn lines<C: std::fmt::Display>(changes: Vec<C>) -> Vec<String> {
            changes.iter().map(ToString::to_string).collect()
        }
        part("kafka", lines(kafka::plan(&desired::kafka(&tenant_before), &Default::default())));
        part("cql", lines(cql::plan(&desired::cql(&tenant), &Default::default())));
        part("postgres", lines(postgres::plan(&desired::postgres(&tenant), &Default::default())));
        part("keycloak", lines(keycloak::plan(&desired::keycloak(&tenant), &Default::default())));
        part("redis", lines(redis::plan(&desired::redis(&tenant), &Default::default())));
        settings(&example).bind(|| insta::assert_snapshot!("backends", text));
    }
}

#[test]
fn backend_settings() {
    for example in examples("tenants") {
        let tenant = operator::example_tenant(&example);
        let text = format!(
            "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n",
            desired::kafka(&tenant),
            desired::cql(&tenant),
            desired::postgres(&tenant),
            desired::keycloak(&tenant),
            desired::redis(&tenant)
        );
        assert!(!text.contains("generated-"), "a secret shows in Debug output");
        settings(&example).bind(|| insta::assert_snapshot!("settings", text));
    }
}

#[test]
fn no_secret_is_an_argument() {
    for example in examples("tenants") {
        for service in Service::ALL {
            let (arguments, environment) = operator::rendered_args(&example, service.as_str());
            assert!(arguments.iter().all(|argument| !argument.contains("generated-")), "{arguments:?}");
            assert!(environment.contains(&"INTERNAL_TOKEN".to_owned()));
        }
    }
}

/// Nothing of one tenant mentions another one: the same example under another id shares no name with the first.
#[test]
fn two_tenants_share_no_name() {
    let config = Config::try_parse_from(["operator"]).expect("arguments");
    let names = |file: &str| {
        let path = crate::repository().join("examples/tenants").join(file);
        let tenant = operator::example_tenant(&path);
        let objects = desired::objects(&tenant, &config.images);
        let mut names: Vec<_> = objects.iter().map(|object| format!("{object:?}")).collect();
        names.extend(desired::kafka(&tenant).topics.into_iter().map(|topic| topic.name));
        names.push(desired::cql(&tenant).name);
        names.push(desired::keycloak(&tenant).realm);
        names
    };
    let (acme, globex) = (names("acme.yaml"), names("globex.yaml"));
    assert!(acme.iter().all(|name| !globex.contains(name)));
}
