//! Pods of a workload.

use catalog::{
    Backend, DRAIN_SECONDS, Folder, GRPC_PORT, HTTP_PORT, MANAGEMENT_PORT, PRESENCE_SAMPLE_SECONDS, Service,
    Setting, TOKEN_AUDIENCE, Topic, UNREADY_SECONDS,
};
use crds::{CellClamav, CellSmtp, ResourceAmounts};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
            HTTPGetAction, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            SeccompProfile, SecretKeySelector, SecurityContext, ServiceAccount, Volume, VolumeMount,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use serde_json::{Value, json};

use super::{
    autoscaler,
    facts::Facts,
    object::{Kind, Object, literal, metadata, present, selector},
    template,
};
use crate::{
    amounts, backend,
    config::Images,
    providers::Provider,
    tenant::Tenant,
    workload::{COMPACT, DefaultResources, Workload},
};

/// Pods carry a digest of the Secrets they read: a new password starts new pods.
const SECRETS_ANNOTATION: &str = "messenger.posthouse.dev/secrets";
/// Pods carry the identity of what holds their data: in a database that was recreated they have to migrate again.
const DATA_ANNOTATION: &str = "messenger.posthouse.dev/data";
/// The user of distroless images that are made to run without root.
const NONROOT: i64 = 65532;
/// After this the kubelet kills: the time until routers have noticed, the drain, and as much again for a slow last response.
const TERMINATION_GRACE_SECONDS: i64 = (UNREADY_SECONDS + 2 * DRAIN_SECONDS) as i64;

pub(super) fn service_account(tenant: &Tenant, workload: &Workload) -> Object {
    let account = ServiceAccount {
        metadata: metadata(tenant, tenant.child(workload.name), Some(workload.name)),
        automount_service_account_token: Some(false),
        ..Default::default()
    };
    Object::new(Kind::ServiceAccount, &account)
}

/// Returns what keeps the pods of a workload from being evicted all at once, or nothing when there is never more than one: it may go, or no node
/// could be drained. A pod that does not work may always go.
pub(super) fn disruption_budget(tenant: &Tenant, workload: &Workload) -> Option<Object> {
    if workload.size.most() < 2 {
        return None;
    }
    let budget = PodDisruptionBudget {
        metadata: metadata(tenant, tenant.child(workload.name), Some(workload.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector(tenant, workload)),
                ..Default::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(Object::new(Kind::PodDisruptionBudget, &budget))
}

/// Returns the Deployment of a workload, or nothing while a setting or a Secret it needs is not known or cannot be used.
pub(super) fn deployment(
    tenant: &Tenant,
    workload: &Workload,
    facts: &Facts,
    images: &Images,
) -> Option<Object> {
    if tenant.unusable_env.contains_key(workload.name) {
        return None;
    }
    let arguments = arguments(tenant, workload, facts)?;
    let secrets = tenant.secrets.digest(&workload.secrets())?;
    let annotations = [(SECRETS_ANNOTATION, Some(secrets)), (DATA_ANNOTATION, data(workload, facts))];
    let annotations =
        annotations.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let init_containers =
        workload.migrates().then(|| vec![container(tenant, workload, images, "migrate", &arguments)]);
    let mut main = container(tenant, workload, images, "run", &arguments);
    main.ports = Some(
        [("http", HTTP_PORT), ("grpc", GRPC_PORT), ("management", MANAGEMENT_PORT)]
            .map(|(name, port)| ContainerPort {
                name: Some(name.to_owned()),
                container_port: port.into(),
                protocol: Some("TCP".to_owned()),
                ..Default::default()
            })
            .into(),
    );
    main.startup_probe = Some(probe("/livez", 1, 60));
    main.readiness_probe = Some(probe("/readyz", 2, 3));
    main.liveness_probe = Some(probe("/livez", 10, 3));
    let pod = PodSpec {
        service_account_name: Some(tenant.child(workload.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NONROOT),
            run_as_group: Some(NONROOT),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
        topology_spread_constraints: template::spread(tenant, workload),
        init_containers,
        containers: vec![main],
        volumes: present(workload.folders().iter().map(volume)),
        ..template::pod(&workload.size.template)
    };
    let deployment = Deployment {
        metadata: ObjectMeta {
            annotations: autoscaler::annotations(workload),
            ..metadata(tenant, tenant.child(workload.name), Some(workload.name))
        },
        spec: Some(DeploymentSpec {
            replicas: tenant.replicas(workload),
            revision_history_limit: Some(2),
            selector: LabelSelector { match_labels: Some(selector(tenant, workload)), ..Default::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(template::metadata(tenant, workload, annotations)),
                spec: Some(pod),
            },
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(Object::new(Kind::Deployment, &deployment))
}

/// Returns what holds the data of a workload, by backend, or nothing while none of it is known.
fn data(workload: &Workload, facts: &Facts) -> Option<String> {
    let used = workload.backends();
    let known = facts.generations.iter().filter(|(backend, _)| used.contains(backend));
    let known: Vec<_> = known.map(|(backend, generation)| format!("{backend}={generation}")).collect();
    (!known.is_empty()).then(|| known.join(","))
}

/// Returns the arguments of a workload: the plain settings of its services. Nothing in them is secret. `None` while one is
/// not known.
pub(crate) fn arguments(tenant: &Tenant, workload: &Workload, facts: &Facts) -> Option<Vec<String>> {
    let mut arguments = Vec::new();
    if workload.name == COMPACT {
        let names: Vec<_> = workload.services.iter().map(|service| service.as_str()).collect();
        arguments.push(("--services".to_owned(), names.join(",")));
    }
    arguments.extend(process_arguments(tenant));
    let ca_bundle = tenant.cell.spec.ca_bundle.iter();
    arguments.extend(ca_bundle.map(|bundle| ("--oidc-ca-bundle".to_owned(), bundle.clone())));
    arguments.extend(trace_arguments(tenant));
    let is_used = |backend: &&Backend| {
        let is_there = workload.optional_backends().contains(backend) && tenant.has_part(**backend);
        workload.backends().contains(backend) || is_there
    };
    for backend in Backend::ALL.iter().filter(is_used) {
        arguments.extend(named(backend::of(*backend).arguments(tenant)));
    }
    for peer in workload.peers(&tenant.workloads) {
        arguments.push((peer.peer_flag(), peer_url(tenant, peer)?));
    }
    for setting in workload.settings() {
        let value = setting_value(tenant, facts, setting)?;
        // An empty list is one without the flag.
        if !value.is_empty() {
            arguments.push((setting.flag().to_owned(), value));
        }
    }
    // One word for both: a value of its own that begins with a hyphen, as PEM does, would be read as a flag.
    Some(arguments.into_iter().map(|(flag, value)| format!("{flag}={value}")).collect())
}

/// Returns the settings of every process.
fn process_arguments(tenant: &Tenant) -> impl Iterator<Item = (String, String)> {
    named([
        ("--tenant", tenant.id.to_string()),
        ("--http-addr", format!("0.0.0.0:{HTTP_PORT}")),
        ("--grpc-addr", format!("0.0.0.0:{GRPC_PORT}")),
        ("--management-addr", format!("0.0.0.0:{MANAGEMENT_PORT}")),
        ("--log-format", "json".to_owned()),
        ("--drain-seconds", DRAIN_SECONDS.to_string()),
        ("--oidc-issuer", tenant.issuer()),
        ("--oidc-keys-url", tenant.keys_url()),
        ("--oidc-audience", TOKEN_AUDIENCE.to_owned()),
    ])
}

/// Returns where services send traces and of how many, or nothing where none is traced.
fn trace_arguments(tenant: &Tenant) -> impl Iterator<Item = (String, String)> {
    let traces = tenant.traces();
    let ratio = traces.as_ref().and_then(|traces| traces.ratio);
    let endpoint = traces.map(|traces| ("--otlp-endpoint", traces.endpoint));
    named(endpoint.into_iter().chain(ratio.map(|ratio| ("--trace-ratio", ratio.to_string()))))
}

/// Returns the value of a setting that follows from the tenant, or nothing while it is not known.
fn setting_value(tenant: &Tenant, facts: &Facts, setting: Setting) -> Option<String> {
    match setting {
        Setting::KeycloakUrl => Some(tenant.cell.keycloak_url.as_str().trim_end_matches('/').to_owned()),
        Setting::Realm => Some(tenant.id.realm().to_string()),
        Setting::Registration => Some(tenant.registration.as_str().to_owned()),
        Setting::IdentityProviders => Some(identity_providers(tenant)),
        // Where it is not needed, another host starts no pods.
        Setting::PublicOrigins if !names_own_address(tenant) => Some(String::new()),
        Setting::PublicOrigins => {
            let origins: Vec<_> = tenant.hosts.routed.iter().map(|host| tenant.origin(host)).collect();
            Some(origins.join(","))
        }
        Setting::SmtpUrl => Some(tenant.cell.spec.smtp.as_ref().map(CellSmtp::url).unwrap_or_default()),
        Setting::SmtpFrom => {
            Some(tenant.cell.spec.smtp.as_ref().map(|smtp| smtp.from.clone()).unwrap_or_default())
        }
        Setting::SmsUrl => Some(tenant.sms.as_ref().map(|sms| sms.url.clone()).unwrap_or_default()),
        Setting::SmsIntervalSeconds => {
            Some(tenant.sms.as_ref().map(|sms| sms.interval().as_secs().to_string()).unwrap_or_default())
        }
        Setting::Rate(limit) => Some(tenant.limits.rate(limit).to_string()),
        Setting::TenantConnections => Some(tenant.limits.connections().to_string()),
        Setting::ConnectionsPerUser => Some(tenant.limits.connections_per_user().to_string()),
        Setting::MaxMemberships => Some(tenant.limits.memberships().to_string()),
        Setting::MaxChatsPerUser => Some(tenant.limits.chats_per_user().to_string()),
        Setting::AllowedOrigins => Some(tenant.allowed_origins.join(",")),
        Setting::SampleSeconds if tenant.optional_topics.contains(&Topic::PresenceChanges) => {
            Some(PRESENCE_SAMPLE_SECONDS.to_string())
        }
        Setting::SampleSeconds => Some(String::new()),
        // Where they are, is the same for every tenant.
        Setting::IndexFolder | Setting::FilmFolder => {
            Some(setting.folder().map(|folder| folder.path.to_owned()).unwrap_or_default())
        }
        Setting::SendTopicGeneration => facts.send_topic_generation.clone(),
        Setting::SchemaIds => Some(schema_ids(facts)),
        Setting::TenantServices => Some(services(tenant)),
        Setting::MediaQuotaBytes => Some(tenant.media.quota_bytes().to_string()),
        Setting::MaxFileBytes => Some(tenant.media.max_file_bytes().to_string()),
        Setting::UploadOrigin => Some(upload_origin(tenant)),
        Setting::BrandName => Some(tenant.display_name().to_owned()),
        Setting::BrandColor => Some(tenant.branding.color.clone().unwrap_or_default()),
        Setting::BrandLogo => Some(tenant.branding.logo.clone().unwrap_or_default()),
        Setting::Clamd => Some(tenant.cell.spec.clamav.as_ref().map(CellClamav::address).unwrap_or_default()),
        Setting::Moderators => Some(tenant.moderators.join(",")),
        Setting::ClassifierUrl => Some(tenant.classifier_url.clone().unwrap_or_default()),
    }
}

/// Returns the ids of the schemas of records as producers read them.
fn schema_ids(facts: &Facts) -> String {
    let ids = facts.schema_ids.iter().map(|(topic, id)| format!("{topic}={id}"));
    ids.collect::<Vec<_>>().join(",")
}

/// Returns where browsers send files; nothing for a tenant that takes none.
fn upload_origin(tenant: &Tenant) -> String {
    let store = tenant.cell.spec.s3.as_ref().filter(|_| tenant.workload_of(Service::Media).is_some());
    store.map(|s3| s3.public_endpoint().to_owned()).unwrap_or_default()
}

/// Returns the services that the tenant has, in the order of the catalog.
fn services(tenant: &Tenant) -> String {
    let enabled = Service::ALL.iter().filter(|service| tenant.workload_of(**service).is_some());
    enabled.map(|service| service.as_str()).collect::<Vec<_>>().join(",")
}

/// Reports whether a service names the tenant's address: to the realm, in mails, or to push services.
fn names_own_address(tenant: &Tenant) -> bool {
    !tenant.providers.allowed.is_empty()
        || tenant.cell.spec.smtp.is_some()
        || tenant.services().any(|service| service == Service::Notification)
}

/// Returns the external identity providers as the auth service reads them. An empty list is no setting.
fn identity_providers(tenant: &Tenant) -> String {
    let providers = &tenant.providers.allowed;
    if providers.is_empty() {
        return String::new();
    }
    let provider =
        |provider: &Provider| json!({"alias": provider.alias, "display_name": provider.display_name});
    providers.iter().map(provider).collect::<Value>().to_string()
}

/// Returns where the gRPC API of a service is, or nothing when no workload runs it.
fn peer_url(tenant: &Tenant, peer: Service) -> Option<String> {
    let workload = tenant.workload_of(peer)?;
    Some(format!("http://{}:{GRPC_PORT}", tenant.child(workload.name)))
}

fn named(
    arguments: impl IntoIterator<Item = (&'static str, String)>,
) -> impl Iterator<Item = (String, String)> {
    arguments.into_iter().map(|(flag, value)| (flag.to_owned(), value))
}

/// One variable of the environment of a workload.
pub(crate) struct Variable {
    pub name: &'static str,
    /// The Secret that it comes from, and the key in it.
    pub secret: String,
    pub key: &'static str,
    /// A pod starts without it.
    pub is_optional: bool,
}

/// Returns the environment of a workload.
pub(crate) fn environment(tenant: &Tenant, workload: &Workload) -> Vec<Variable> {
    let secrets = workload.secrets().into_iter();
    secrets
        .flat_map(|secret| secret.entry().keys.iter().map(move |key| (secret, key)))
        .map(|(secret, key)| Variable {
            name: key.variable,
            secret: tenant.child(secret),
            key: key.key,
            is_optional: secret.is_copy(),
        })
        .collect()
}

fn container(
    tenant: &Tenant,
    workload: &Workload,
    images: &Images,
    verb: &str,
    arguments: &[String],
) -> Container {
    let env = environment(tenant, workload).into_iter().map(|variable| EnvVar {
        name: variable.name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: variable.secret,
                key: variable.key.to_owned(),
                optional: variable.is_optional.then_some(true),
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    let name = if verb == "run" { workload.name } else { verb };
    Container {
        name: name.to_owned(),
        image: Some(format!("{}/{}:{}", images.repository, workload.name, images.tag)),
        image_pull_policy: Some(images.pull_policy.as_str().to_owned()),
        args: Some([verb].into_iter().chain(arguments.iter().map(String::as_str)).map(literal).collect()),
        env: Some(env.chain(template::environment(&workload.size.template)).collect()),
        volume_mounts: present(workload.folders().iter().map(|folder| VolumeMount {
            name: folder.name.to_owned(),
            mount_path: folder.path.to_owned(),
            ..Default::default()
        })),
        resources: Some(resources(workload)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Returns a folder that is empty when a pod begins. What is in it can be had elsewhere, so no claim outlives the pod.
fn volume(folder: &Folder) -> Volume {
    let size_limit = Some(Quantity(format!("{}Gi", folder.size_limit_gib)));
    Volume {
        name: folder.name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit, ..Default::default() }),
        ..Default::default()
    }
}

/// Returns the tenant's amounts, and the workload's defaults where it names none. A default gives way to the other side of its
/// amount: the API server takes no request above its limit.
fn resources(workload: &Workload) -> ResourceRequirements {
    let DefaultResources { cpu_request, memory_request, memory_limit } = workload.default_resources();
    let wanted = &workload.size.resources;
    let named = |amounts: &Option<ResourceAmounts>| amounts.as_ref().map(ResourceAmounts::quantities);
    let (mut requests, mut limits) =
        (named(&wanted.requests).unwrap_or_default(), named(&wanted.limits).unwrap_or_default());
    for (name, request, limit) in [("cpu", cpu_request, None), ("memory", memory_request, Some(memory_limit))]
    {
        let default = |amount: &str| Quantity(amount.to_owned());
        let (request, limit) = match (requests.get(name).cloned(), limits.get(name).cloned()) {
            (Some(request), Some(limit)) => (request, Some(limit)),
            (Some(request), None) => (request.clone(), limit.map(|limit| larger(request, default(limit)))),
            (None, Some(limit)) => (smaller(default(request), limit.clone()), Some(limit)),
            (None, None) => (default(request), limit.map(default)),
        };
        requests.insert(name.to_owned(), request);
        limits.extend(limit.map(|limit| (name.to_owned(), limit)));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), ..Default::default() }
}

fn larger(one: Quantity, other: Quantity) -> Quantity {
    if amounts::thousandths(&one.0) > amounts::thousandths(&other.0) { one } else { other }
}

fn smaller(one: Quantity, other: Quantity) -> Quantity {
    if amounts::thousandths(&one.0) < amounts::thousandths(&other.0) { one } else { other }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(MANAGEMENT_PORT.into()),
            scheme: Some("HTTP".to_owned()),
            ..Default::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        // A pod that shares a busy core may need more than the default second to respond.
        timeout_seconds: Some(3),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crds::Tls;

    use super::*;
    use crate::rendered::testing::{cell, example};

    /// Returns the value of an argument.
    fn value<'a>(arguments: &'a [String], flag: &str) -> Option<&'a str> {
        arguments.iter().find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='))
    }

    #[test]
    fn those_who_write_records_know_the_ids_of_their_schemas() {
        let tenant = example("acme.yaml", |_| {});
        let ids = [("acme.chat.events".to_owned(), 5), ("acme.message.send".to_owned(), 3)];
        let send_topic_generation = Some("an id".to_owned());
        let known = Facts { send_topic_generation, schema_ids: ids.into(), ..Facts::default() };
        for workload in &tenant.workloads {
            let writes = workload.settings().contains(&Setting::SchemaIds);
            let arguments = arguments(&tenant, workload, &known).expect("all is known");
            let expected = writes.then_some("acme.chat.events=5,acme.message.send=3");
            assert_eq!(value(&arguments, "--schema-ids"), expected, "{}", workload.name);
            let unknown = Facts { schema_ids: BTreeMap::new(), ..known.clone() };
            let arguments = super::arguments(&tenant, workload, &unknown).expect("all is known");
            assert_eq!(value(&arguments, "--schema-ids"), None, "{}", workload.name);
        }
    }

    #[test]
    fn the_media_service_alone_knows_the_scanner_of_the_cell() {
        let mut tenant = example("acme.yaml", |_| {});
        let known = Facts { send_topic_generation: Some("an id".to_owned()), ..Facts::default() };
        for (scanner, expected) in [
            (json!(null), None),
            (json!({"host": "clamd.clamav.svc"}), Some("clamd.clamav.svc:3310")),
            (json!({"host": "10.90.0.1", "port": 13310}), Some("10.90.0.1:13310")),
        ] {
            tenant.cell = cell(|cell| {
                cell.spec.clamav = serde_json::from_value(scanner.clone()).expect("a scanner");
            });
            for workload in &tenant.workloads {
                let arguments = arguments(&tenant, workload, &known).expect("all is known");
                let expected = expected.filter(|_| workload.name == "media");
                assert_eq!(value(&arguments, "--clamd"), expected, "{} with {scanner}", workload.name);
            }
        }
    }

    #[test]
    fn services_know_which_servers_have_tls_and_whom_they_trust() {
        let known = Facts { send_topic_generation: Some("an id".to_owned()), ..Facts::default() };
        let mut tenant = example("acme.yaml", |_| {});
        for tls in [None, Some(Tls::Disabled), Some(Tls::VerifyFull)] {
            tenant.cell = cell(|cell| {
                let spec = &mut cell.spec;
                (spec.postgres.tls, spec.redis.tls, spec.cql.tls) = (tls, tls, tls);
            });
            tenant.cell.spec.ca_bundle = Some("-----BEGIN".to_owned());
            let expected = if tls == Some(Tls::VerifyFull) { "verify-full" } else { "disabled" };
            for workload in &tenant.workloads {
                let arguments = arguments(&tenant, workload, &known).expect("all is known");
                let value = |flag: &str| value(&arguments, flag);
                assert_eq!(value("--oidc-ca-bundle"), Some("-----BEGIN"), "{}", workload.name);
                for (backend, flag) in [
                    (Backend::Postgres, "--postgres-tls"),
                    (Backend::Redis, "--redis-tls"),
                    (Backend::Cql, "--cql-tls"),
                ] {
                    let is_used = workload.backends().contains(&backend);
                    assert_eq!(value(flag), is_used.then_some(expected), "{} {flag}", workload.name);
                }
            }
        }
    }

    #[test]
    fn every_process_knows_the_collector_of_the_cell_and_the_ratio_of_the_tenant_or_the_cell() {
        let known = Facts { send_topic_generation: Some("an id".to_owned()), ..Facts::default() };
        let endpoint = "http://collector.observability.svc:4317";
        let with = |ratio: Value| json!({"traces": {"endpoint": endpoint, "ratio": ratio}});
        let own = |ratio: Value| json!({"traces": {"ratio": ratio}});
        for (of_cell, of_tenant, expected) in [
            (json!(null), json!(null), [None, None]),
            (json!({}), json!({}), [None, None]),
            (json!({"traces": {"endpoint": endpoint}}), json!({"traces": {}}), [Some(endpoint), None]),
            (with(json!(0.25)), json!(null), [Some(endpoint), Some("0.25")]),
            (with(json!(1)), json!(null), [Some(endpoint), Some("1")]),
            // That of the tenant takes the place of the cell's, and brings no collector.
            (with(json!(0.25)), own(json!(0.5)), [Some(endpoint), Some("0.5")]),
            (with(json!(null)), own(json!(1)), [Some(endpoint), Some("1")]),
            (json!({}), own(json!(1)), [None, None]),
            // None is as without a collector.
            (with(json!(0.25)), own(json!(0)), [None, None]),
            (with(json!(0)), json!(null), [None, None]),
            (with(json!(0)), own(json!(0.5)), [Some(endpoint), Some("0.5")]),
        ] {
            let mut tenant = example("acme.yaml", |resource| {
                let observability = serde_json::from_value(of_tenant.clone());
                resource.spec.observability = observability.expect("what a tenant may say");
            });
            tenant.cell = cell(|cell| {
                let observability = serde_json::from_value(of_cell.clone());
                cell.spec.observability = observability.expect("what a cell may say");
            });
            for workload in &tenant.workloads {
                let arguments = arguments(&tenant, workload, &known).expect("all is known");
                let value = |flag: &str| value(&arguments, flag);
                let found = ["--otlp-endpoint", "--trace-ratio"].map(value);
                assert_eq!(found, expected, "{} with {of_cell} and {of_tenant}", workload.name);
            }
        }
    }

    #[test]
    fn the_web_service_knows_the_name_and_the_looks_of_the_tenant() {
        let flags = ["--brand-name", "--brand-color", "--brand-logo"];
        for (branding, expected) in [
            (json!(null), [Some("acme"), None, None]),
            (json!({"color": "#0a7B5c"}), [Some("acme"), Some("#0a7B5c"), None]),
            (
                json!({"displayName": "-Acme, Inc.", "logo": "data:"}),
                [Some("-Acme, Inc."), None, Some("data:")],
            ),
        ] {
            let tenant = example("acme.yaml", |resource| {
                resource.spec.branding = serde_json::from_value(branding.clone()).expect("a branding");
            });
            let known = Facts { send_topic_generation: Some("an id".to_owned()), ..Facts::default() };
            for workload in &tenant.workloads {
                let arguments = arguments(&tenant, workload, &known).expect("all is known");
                let value = |flag: &str| value(&arguments, flag);
                let expected = if workload.name == "web" { expected } else { [None; 3] };
                assert_eq!(flags.map(value), expected, "{} with {branding}", workload.name);
            }
        }
    }

    #[test]
    fn no_text_of_a_tenant_is_replaced_by_a_variable_of_its_pods() {
        let tenant = example("acme.yaml", |resource| {
            let branding = json!({"displayName": "$(INTERNAL_TOKEN) $$"});
            resource.spec.branding = serde_json::from_value(branding).expect("a branding");
        });
        let children = crate::rendered::testing::children(&tenant);
        let web = children.iter().find(|child| child.name == "acme-web" && child.kind == Kind::Deployment);
        let arguments = &web.expect("it runs").manifest["spec"]["template"]["spec"]["containers"][0]["args"];
        let arguments = arguments.as_array().expect("arguments");
        assert!(arguments.contains(&json!("--brand-name=$$(INTERNAL_TOKEN) $$$$")), "{arguments:?}");
    }

    #[test]
    fn a_default_gives_way_to_the_side_that_is_set() {
        for (set, expected) in [
            (json!({}), json!({"requests": {"cpu": "25m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}})),
            (
                json!({"requests": {"memory": "1Gi"}}),
                json!({"requests": {"cpu": "25m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
            ),
            (
                json!({"requests": {"memory": "64Mi"}}),
                json!({"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}),
            ),
            (
                json!({"limits": {"cpu": "20m", "memory": "32768Ki"}}),
                json!({"requests": {"cpu": "20m", "memory": "32768Ki"}, "limits": {"cpu": "20m", "memory": "32768Ki"}}),
            ),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}),
                json!({"requests": {"cpu": "2", "memory": "32Mi"}, "limits": {"cpu": "3", "memory": "512Mi"}}),
            ),
        ] {
            let tenant = example("acme.yaml", |resource| {
                let services = json!({"gateway": {"resources": set}});
                resource.spec.services = Some(serde_json::from_value(services).expect("a service"));
            });
            let gateway = tenant.workload_of(Service::Gateway).expect("it runs");
            let found = serde_json::to_value(resources(gateway)).expect("plain data");
            assert_eq!(found, expected, "{set}");
        }
    }
}
