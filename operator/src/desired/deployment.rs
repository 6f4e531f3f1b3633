//! Pods of a service.

use std::collections::BTreeMap;

use crds::ResourceAmounts;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, PodSecurityContext,
            PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretKeySelector,
            SecurityContext, ServiceAccount, TopologySpreadConstraint,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{Kind, Object, labels, metadata, selector};
use crate::{
    catalog::{
        DRAIN_SECONDS, GRPC_PORT, HTTP_PORT, MANAGEMENT_PORT, Needs, Part, Service, TERMINATION_GRACE_SECONDS,
    },
    config::Images,
    tenant::Tenant,
};

/// Pods carry a digest of the Secrets they read: a new password starts new pods.
const SECRETS_ANNOTATION: &str = "messenger.posthouse.dev/secrets";
/// The user of distroless images that are made to run without root.
const NONROOT: i64 = 65532;

pub(super) fn service_account(tenant: &Tenant, service: Service) -> Object {
    let account = ServiceAccount {
        metadata: metadata(tenant, tenant.child(service), Some(service)),
        automount_service_account_token: Some(false),
        ..Default::default()
    };
    Object::new(Kind::ServiceAccount, Some(service), &account)
}

/// Returns the Deployment of a service, or nothing while a setting it needs is not known.
pub(super) fn deployment(tenant: &Tenant, service: Service, images: &Images) -> Option<Object> {
    let arguments = arguments(tenant, service)?;
    let needs = service.needs();
    let size = &tenant.sizes[&service];
    let init_containers =
        needs.migrates.then(|| vec![container(tenant, service, images, "migrate", &arguments)]);
    let mut main = container(tenant, service, images, "run", &arguments);
    main.ports = Some(
        [("http", HTTP_PORT), ("grpc", GRPC_PORT), ("management", MANAGEMENT_PORT)]
            .map(|(name, port)| ContainerPort {
                name: Some(name.to_owned()),
                container_port: port,
                protocol: Some("TCP".to_owned()),
                ..Default::default()
            })
            .into(),
    );
    main.startup_probe = Some(probe("/livez", 1, 60));
    main.readiness_probe = Some(probe("/readyz", 2, 3));
    main.liveness_probe = Some(probe("/livez", 10, 3));
    let pod = PodSpec {
        service_account_name: Some(tenant.child(service)),
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
        topology_spread_constraints: (size.replicas > 1).then(|| vec![spread(tenant, service)]),
        init_containers,
        containers: vec![main],
        ..Default::default()
    };
    let deployment = Deployment {
        metadata: metadata(tenant, tenant.child(service), Some(service)),
        spec: Some(DeploymentSpec {
            replicas: Some(size.replicas),
            revision_history_limit: Some(2),
            selector: LabelSelector { match_labels: Some(selector(tenant, service)), ..Default::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(tenant, Some(service))),
                    annotations: Some(
                        [(SECRETS_ANNOTATION.to_owned(), tenant.secrets.digest(needs.secrets))].into(),
                    ),
                    ..Default::default()
                }),
                spec: Some(pod),
            },
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(Object::new(Kind::Deployment, Some(service), &deployment))
}

/// Returns the arguments of a service: its plain settings. Nothing in them is secret. `None` while one is not known.
pub fn arguments(tenant: &Tenant, service: Service) -> Option<Vec<String>> {
    let cell = &tenant.cell;
    let needs = service.needs();
    let mut arguments = vec![
        ("--tenant", tenant.id.to_string()),
        ("--http-addr", format!("0.0.0.0:{HTTP_PORT}")),
        ("--grpc-addr", format!("0.0.0.0:{GRPC_PORT}")),
        ("--management-addr", format!("0.0.0.0:{MANAGEMENT_PORT}")),
        ("--log-format", "json".to_owned()),
        ("--drain-seconds", DRAIN_SECONDS.to_string()),
        ("--oidc-issuer", tenant.issuer()),
        ("--oidc-audience", "messenger".to_owned()),
    ];
    if needs.parts.contains(&Part::Kafka) {
        arguments.push(("--kafka-bootstrap-servers", cell.kafka_bootstrap_servers.clone()));
        arguments.push(("--kafka-security-protocol", "sasl_plaintext".to_owned()));
    }
    if needs.parts.contains(&Part::Store) {
        let flavor = match cell.cql_flavor {
            crds::CqlFlavor::Scylla => "scylla",
            crds::CqlFlavor::Cassandra => "cassandra",
        };
        arguments.push(("--cql-contact-points", cell.cql_contact_points.join(",")));
        arguments.push(("--cql-keyspace", tenant.id.keyspace().to_string()));
        arguments.push(("--cql-flavor", flavor.to_owned()));
    }
    if needs.parts.contains(&Part::Database) {
        arguments.push(("--postgres-host", cell.postgres_host.clone()));
        arguments.push(("--postgres-port", cell.postgres_port.to_string()));
        arguments.push(("--postgres-database", tenant.id.database().to_string()));
    }
    if needs.parts.contains(&Part::Cache) {
        arguments.push(("--redis-addr", format!("{}:{}", cell.redis_host, cell.redis_port)));
    }
    for peer in needs.peers {
        let url = format!("http://{}:{GRPC_PORT}", tenant.child(peer));
        arguments.push((peer_flag(*peer), url));
    }
    match service {
        Service::Auth => {
            arguments.push(("--keycloak-url", cell.keycloak_url.as_str().trim_end_matches('/').to_owned()));
            arguments.push(("--realm", tenant.id.realm().to_string()));
            let registration = match tenant.registration {
                crds::Registration::Open => "open",
                crds::Registration::InviteOnly => "invite-only",
            };
            arguments.push(("--registration", registration.to_owned()));
        }
        Service::Message => {
            arguments.push(("--send-topic-generation", tenant.send_topic_generation()?.to_owned()));
        }
        Service::Gateway | Service::User | Service::Chat => {}
    }
    Some(arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect())
}

/// Returns the environment of a service: variable, then Secret and key it comes from.
pub fn environment(tenant: &Tenant, service: Service) -> Vec<(&'static str, String, &'static str)> {
    let secrets = service.needs().secrets.iter();
    secrets
        .flat_map(|kind| {
            kind.env().iter().map(|(variable, key)| (*variable, tenant.child(kind.suffix()), *key))
        })
        .collect()
}

fn peer_flag(peer: Service) -> &'static str {
    match peer {
        Service::Gateway => "--gateway-grpc",
        Service::Auth => "--auth-grpc",
        Service::User => "--user-grpc",
        Service::Chat => "--chat-grpc",
        Service::Message => "--message-grpc",
    }
}

fn container(
    tenant: &Tenant,
    service: Service,
    images: &Images,
    verb: &str,
    arguments: &[String],
) -> Container {
    let env = environment(tenant, service).into_iter().map(|(variable, secret, key)| EnvVar {
        name: variable.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret,
                key: key.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    });
    let name = if verb == "run" { service.as_str() } else { verb };
    Container {
        name: name.to_owned(),
        image: Some(format!("{}/{service}:{}", images.repository, images.tag)),
        image_pull_policy: Some(images.pull_policy.as_str().to_owned()),
        args: Some([&[verb.to_owned()], arguments].concat()),
        env: Some(env.collect()),
        resources: Some(resources(tenant, service)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The tenant's amounts, and the service's defaults where it names none.
fn resources(tenant: &Tenant, service: Service) -> ResourceRequirements {
    let Needs { cpu_request, memory_request, memory_limit, .. } = service.needs();
    let wanted = &tenant.sizes[&service].resources;
    let named = |amounts: &Option<ResourceAmounts>| amounts.as_ref().map(ResourceAmounts::quantities);
    let with_defaults = |amounts: Option<BTreeMap<String, Quantity>>, defaults: &[(&str, &str)]| {
        let mut amounts = amounts.unwrap_or_default();
        for (name, amount) in defaults {
            amounts.entry((*name).to_owned()).or_insert_with(|| Quantity((*amount).to_owned()));
        }
        Some(amounts)
    };
    ResourceRequirements {
        requests: with_defaults(named(&wanted.requests), &[("cpu", cpu_request), ("memory", memory_request)]),
        limits: with_defaults(named(&wanted.limits), &[("memory", memory_limit)]),
        ..Default::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(MANAGEMENT_PORT),
            scheme: Some("HTTP".to_owned()),
            ..Default::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        // A pod that shares a busy core may need more than the default second to answer.
        timeout_seconds: Some(3),
        ..Default::default()
    }
}

fn spread(tenant: &Tenant, service: Service) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(selector(tenant, service)),
            ..Default::default()
        }),
        ..Default::default()
    }
}
