//! Example plus snapshot is the specification: everything the operator would create, for every example.

use std::{collections::BTreeSet, fmt::Write};

use catalog::{Backend, Secret, Service};
use operator::{rendered_args, rendered_backends, rendered_objects};

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
    for example in examples("tenants") {
        let mut yaml = String::new();
        for object in rendered_objects(&example) {
            let document = serde_saphyr::to_string(&object.manifest).expect("plain data");
            write!(yaml, "---\n{document}").expect("a String");
        }
        settings(&example).bind(|| insta::assert_snapshot!("objects", yaml));
    }
}

#[test]
fn backend_changes_of_a_new_tenant() {
    for example in examples("tenants") {
        let mut text = String::new();
        for backend in rendered_backends(&example) {
            writeln!(text, "{}", backend.name).expect("a String");
            for line in backend.changes {
                writeln!(text, "  {line}").expect("a String");
            }
        }
        settings(&example).bind(|| insta::assert_snapshot!("backends", text));
    }
}

#[test]
fn backend_settings() {
    for example in examples("tenants") {
        let settings_of = |text: String, backend: operator::RenderedBackend| text + &backend.settings + "\n";
        let text = rendered_backends(&example).into_iter().fold(String::new(), settings_of);
        assert!(!text.contains("generated-"), "a secret shows in Debug output");
        settings(&example).bind(|| insta::assert_snapshot!("settings", text));
    }
}

#[test]
fn no_secret_is_an_argument() {
    let workloads = || Service::ALL.iter().map(|service| service.as_str()).chain(["compact"]);
    for example in examples("tenants") {
        for workload in workloads() {
            let (arguments, environment) = rendered_args(&example, workload);
            assert!(arguments.iter().all(|argument| !argument.contains("generated-")), "{arguments:?}");
            assert!(environment.contains(&"INTERNAL_TOKEN".to_owned()));
        }
    }
}

/// Nothing is rendered from a list of its own: a service, a Secret or a backend that the catalog gains is in every tenant, but for
/// what only optional services need.
#[test]
fn everything_in_the_catalog_is_rendered() {
    for example in examples("tenants") {
        let objects = rendered_objects(&example);
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object.kind == kind);
        let routes: Vec<_> = of_kind("IngressRoute").map(|route| route.manifest.to_string()).collect();
        let run: BTreeSet<_> =
            of_kind("Deployment").flat_map(|object| services_in(&object.manifest)).collect();
        for service in Service::ALL.iter().filter(|service| !service.is_optional) {
            assert!(run.contains(service.as_str()), "{}: nothing runs {service}", example.display());
            let paths = service.prefixes().map(|prefix| format!("PathPrefix(`{prefix}`)"));
            let whole = service.paths.iter().chain(service.sticky_paths);
            for path in paths.chain(whole.map(|path| format!("Path(`{path}`)"))) {
                assert_eq!(routes.iter().filter(|route| route.contains(&path)).count(), 1, "{path}");
            }
        }
        let is_run = |service: &&Service| run.contains(service.as_str());
        let chooses = std::fs::read_to_string(&example).expect("an example").contains("engine: OpenSearch");
        let is_had = |backend: &Backend| {
            let mut services = Service::ALL.iter().filter(is_run);
            let needs = |service: &Service| {
                service.backends.contains(backend) || (chooses && service.chosen_backends.contains(backend))
            };
            !backend.is_optional() || services.any(needs)
        };
        // The account on what a service does without is there with the service. The cell of the examples has no such backend.
        let is_used = |backend: Backend| {
            let mut services = Service::ALL.iter().filter(is_run);
            is_had(&backend) || services.any(|service| service.optional_backends.contains(&backend))
        };
        let secrets = Secret::ALL.iter().filter(|secret| secret.backend().is_none_or(is_used));
        assert_eq!(of_kind("Secret").count(), secrets.count());
        let backends: Vec<_> = rendered_backends(&example).iter().map(|backend| backend.name).collect();
        let catalog = Backend::ALL.iter().filter(|backend| is_had(backend));
        assert_eq!(backends, catalog.map(|backend| backend.as_str()).collect::<Vec<_>>());
    }
}

/// Returns the services that a Deployment's pods run: what it is called after, or those in its arguments.
fn services_in(deployment: &serde_json::Value) -> Vec<String> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let arguments = container["args"].as_array().expect("arguments");
    let named = arguments.iter().find_map(|argument| argument.as_str()?.strip_prefix("--services="));
    let names = named.unwrap_or_else(|| container["name"].as_str().expect("a name"));
    names.split(',').map(str::to_owned).collect()
}

/// One process serves all: it is called over no network, and every route leads to it.
#[test]
fn a_compact_tenant_has_one_workload_with_every_route() {
    let example = crate::repository().join("examples/tenants/compact.yaml");
    let objects = rendered_objects(&example);
    for kind in ["Deployment", "Service", "ServiceAccount"] {
        let names: Vec<_> =
            objects.iter().filter(|object| object.kind == kind).map(|object| &object.name).collect();
        assert_eq!(names, ["wonka-compact"], "{kind}");
    }
    let routes: Vec<_> = objects.iter().filter(|object| object.kind == "IngressRoute").collect();
    assert_eq!(routes.len(), Service::ALL.iter().filter(|service| !service.is_on_request).count());
    for route in routes {
        assert_eq!(route.manifest["spec"]["routes"][0]["services"][0]["name"], "wonka-compact");
    }
    let (arguments, _) = rendered_args(&example, "compact");
    for service in Service::ALL {
        let is_peer = |argument: &String| argument.starts_with(&format!("{}=", service.peer_flag()));
        assert!(!arguments.iter().any(is_peer), "{service} is in the same process");
    }
}

/// Nothing of one tenant mentions another one: the same example under another id shares no name with the first.
#[test]
fn two_tenants_share_no_name() {
    let names = |file: &str| {
        let path = crate::repository().join("examples/tenants").join(file);
        let objects = rendered_objects(&path);
        let mut names: Vec<_> =
            objects.iter().map(|object| format!("{} {}", object.kind, object.name)).collect();
        // Every change names what it changes.
        names.extend(rendered_backends(&path).into_iter().flat_map(|backend| backend.changes));
        names
    };
    let (acme, globex) = (names("acme.yaml"), names("globex.yaml"));
    assert!(acme.len() > Secret::ALL.len() + Backend::ALL.len());
    assert!(acme.iter().all(|name| !globex.contains(name)));
}
