//! Pure: a resource and what was observed beside it become a [`Tenant`], in which every name is checked and every
//! default is applied. What comes after this step cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{Backend, Service, Topic};
use crds::{
    BrandingSpec, CellTraces, CqlFlavor, DEFAULT_ACCESS_TOKEN_LIFETIME, DEFAULT_PARTITIONS,
    DEFAULT_RATE_LIMIT, DEFAULT_RETENTION, Host, KafkaQuotas, LimitsSpec, MediaSpec, MessengerCell,
    MessengerCellSpec, MessengerTenant, NameError, OptionalTopic, Period, RateLimit, Registration, Scheme,
    SmsSpec, TenantId, TopicName,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    backend::{self, DataExpected},
    consent, endpoints, env_secrets, isolation,
    placement::Hosts,
    providers::{self, CellRules, Providers},
    referenced::ReferencedSecrets,
    secrets::{TenantSecrets, Unusable},
    text::hex,
    wake,
    workload::{Workload, has_part},
};

/// One tenant, complete and checked.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: TenantId,
    /// Name of the resource; children are named after it.
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// UIDs of former owners of its objects in the backends, which no longer exist and whose heir it is.
    pub heir_of: Vec<String>,
    pub owner: OwnerReference,
    /// It has no pods for now.
    pub is_suspended: bool,
    /// It is suspended, and a request wakes it or has woken it.
    pub wakes: bool,
    pub cell: Cell,
    /// The hosts it gets, the main one first, and those it does not get.
    pub hosts: Hosts,
    pub partitions: i32,
    pub retention: Period,
    pub quotas: KafkaQuotas,
    /// Topics that it has beside those of every tenant.
    pub optional_topics: BTreeSet<Topic>,
    pub registration: Registration,
    pub access_token_lifetime: Period,
    /// External identity providers.
    pub(crate) providers: Providers,
    /// What users know it by.
    pub branding: BrandingSpec,
    pub rate_limit: RateLimit,
    /// How much its users may do.
    pub limits: LimitsSpec,
    /// How much their files may take.
    pub media: MediaSpec,
    /// Usernames of those who moderate it.
    pub moderators: Vec<String>,
    /// Where its classifier of texts is.
    pub classifier_url: Option<String>,
    /// Its hook of text messages.
    pub sms: Option<SmsSpec>,
    /// Its own part of requests and messages that is traced, in place of its cell's.
    pub trace_ratio: Option<f64>,
    /// What may open a WebSocket beside pages of its hosts.
    pub allowed_origins: Vec<String>,
    /// Together they run every enabled service once.
    pub(crate) workloads: Vec<Workload>,
    pub secrets: TenantSecrets,
    /// Ids of its topics as the status recorded them.
    pub recorded_topic_ids: BTreeMap<String, String>,
    /// What held its data in each backend, as the status recorded it.
    pub recorded_generations: BTreeMap<Backend, String>,
    /// Ids of the schemas of its records by topic, as the status recorded them.
    pub recorded_schema_ids: BTreeMap<String, i32>,
    /// Backends in which the resource consents that what was lost is recreated.
    pub accepts_loss: BTreeSet<Backend>,
    /// Why the variables that templates take from Secrets are not available, by workload.
    pub unusable_env: BTreeMap<&'static str, String>,
}

/// A cell with its defaults applied.
#[derive(Clone, Debug)]
pub struct Cell {
    pub name: String,
    pub uid: String,
    /// It takes no tenant any more.
    pub is_deleted: bool,
    /// As declared. What has to be checked or has a default stands in the fields below.
    pub spec: MessengerCellSpec,
    pub capacity: usize,
    pub kafka_replication: i16,
    /// Nothing where there is one copy of everything, and nothing is declared.
    pub kafka_min_insync: Option<i32>,
    pub cql_flavor: CqlFlavor,
    pub cql_replication: u32,
    pub keycloak_url: Url,
    /// Without a slash at the end, as it stands in tokens.
    pub keycloak_public_url: String,
    pub postgres_port: u16,
    pub redis_host: String,
    pub redis_port: u16,
    pub domain: String,
    pub scheme: Scheme,
    pub port: Option<u16>,
    pub probe_address: String,
    /// Certificates that are trusted beside the public ones.
    pub certificates: Vec<reqwest::Certificate>,
}

/// What a resource declares and is not valid. The API server refuses most of it; what it let pass, or let pass before a rule
/// was added, is named here.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    #[error("spec.tenantId: {0}")]
    TenantId(#[source] NameError),
    #[error("spec.hosts: {0}")]
    Host(#[source] NameError),
    #[error("MessengerCell {cell}: {field} is not valid: {problem}")]
    Cell { cell: String, field: &'static str, problem: String },
    #[error(
        "spec.services: {service} needs {peer}, which is switched off; enable {peer}, or switch {service} off too"
    )]
    MissingPeer { service: Service, peer: Service },
    #[error(transparent)]
    Template(#[from] isolation::Refused),
    #[error("the resource has no {0}; it was not read from an API server")]
    Incomplete(&'static str),
}

impl Cell {
    /// Reads a cell.
    pub fn new(resource: &MessengerCell) -> Result<Self, Invalid> {
        let spec = &resource.spec;
        let name = resource.metadata.name.clone().ok_or(Invalid::Incomplete("name"))?;
        let invalid =
            |field: &'static str, problem: String| Invalid::Cell { cell: name.clone(), field, problem };
        let port = |field, port: i32| {
            u16::try_from(port).map_err(|_| invalid(field, format!("{port} is not a valid port")))
        };
        let keycloak_url = Url::parse(&spec.keycloak.url)
            .map_err(|error| invalid("spec.keycloak.url", error.to_string()))?;
        let public_url = spec.keycloak.public_url.as_deref().unwrap_or(&spec.keycloak.url);
        let (redis_host, redis_port) = spec
            .redis
            .address
            .rsplit_once(':')
            .ok_or_else(|| invalid("spec.redis.address", "it is not host:port".to_owned()))?;
        let redis_port = redis_port
            .parse()
            .map_err(|_| invalid("spec.redis.address", "it has no valid port".to_owned()))?;
        for (field, endpoint) in endpoints::optional(spec) {
            Url::parse(endpoint).map_err(|error| invalid(field, error.to_string()))?;
        }
        let kafka_replication = i16::try_from(spec.kafka.replication_factor.unwrap_or(3))
            .map_err(|error| invalid("spec.kafka.replicationFactor", error.to_string()))?;
        let cql_replication = u32::try_from(spec.cql.replication_factor.unwrap_or(3))
            .map_err(|error| invalid("spec.cql.replicationFactor", error.to_string()))?;
        let ca_bundle = spec.ca_bundle.as_deref().unwrap_or_default();
        let certificates = reqwest::Certificate::from_pem_bundle(ca_bundle.as_bytes())
            .map_err(|error| invalid("spec.caBundle", error.to_string()))?;
        if certificates.is_empty() && spec.ca_bundle.is_some() {
            return Err(invalid("spec.caBundle", "it holds no certificate in PEM".to_owned()));
        }
        Ok(Self {
            certificates,
            uid: resource.metadata.uid.clone().unwrap_or_default(),
            is_deleted: resource.metadata.deletion_timestamp.is_some(),
            capacity: usize::try_from(spec.capacity.tenants).unwrap_or_default(),
            kafka_min_insync: spec
                .kafka
                .min_insync_replicas
                .or_else(|| (kafka_replication > 1).then(|| i32::from(kafka_replication) - 1)),
            kafka_replication,
            cql_flavor: spec.cql.flavor.unwrap_or_default(),
            cql_replication,
            keycloak_url,
            keycloak_public_url: public_url.trim_end_matches('/').to_owned(),
            postgres_port: port("spec.postgres.port", spec.postgres.port.unwrap_or(5432))?,
            redis_host: redis_host.to_owned(),
            redis_port,
            domain: spec.routing.domain.clone(),
            scheme: spec.routing.scheme.unwrap_or_default(),
            port: spec.routing.port.map(|number| port("spec.routing.port", number)).transpose()?,
            probe_address: spec.routing.probe_address.clone(),
            spec: spec.clone(),
            name,
        })
    }
}

impl Cell {
    /// Reports whether tenants of a namespace may be placed here.
    pub fn takes(&self, namespace: &str) -> bool {
        let allowed = self.spec.allowed_namespaces.as_ref();
        allowed.is_none_or(|allowed| allowed.iter().any(|name| name == namespace))
    }

    /// Returns a short text that changes with the certificates that are trusted beside the public ones.
    pub(crate) fn trust(&self) -> String {
        let ca_bundle = self.spec.ca_bundle.as_deref().unwrap_or_default();
        hex(&Sha256::digest(ca_bundle)[..4])
    }
}

impl Tenant {
    /// Checks a resource against its cell. `secrets` are those beside it, completed; `hosts` are decided on;
    /// `referenced` are those that it names.
    pub(crate) fn new(
        resource: &MessengerTenant,
        cell: Cell,
        secrets: TenantSecrets,
        hosts: Hosts,
        referenced: &ReferencedSecrets,
    ) -> Result<Self, Invalid> {
        let spec = &resource.spec;
        let id = tenant_id(resource)?;
        let namespace = resource.metadata.namespace.clone().ok_or(Invalid::Incomplete("namespace"))?;
        let kafka = spec.kafka.clone().unwrap_or_default();
        let identity = spec.identity.clone().unwrap_or_default();
        let routing = spec.routing.clone().unwrap_or_default();
        let workloads = Workload::of(spec);
        check_peers(&workloads)?;
        isolation::check(&workloads)?;
        let name = resource.metadata.name.clone().ok_or(Invalid::Incomplete("name"))?;
        Ok(Self {
            id,
            unusable_env: env_secrets::unusable(&workloads, &name, &namespace, referenced),
            name,
            providers: {
                let hosts = cell.spec.keycloak.provider_hosts.as_deref().unwrap_or_default();
                let rules = CellRules { name: &cell.name, scheme: cell.scheme, hosts };
                providers::providers(spec, &namespace, rules, referenced)
            },
            namespace,
            uid: resource.metadata.uid.clone().ok_or(Invalid::Incomplete("uid"))?,
            heir_of: Vec::new(),
            owner: resource.controller_owner_ref(&()).ok_or(Invalid::Incomplete("uid"))?,
            is_suspended: wake::is_suspended(resource),
            wakes: wake::wakes(resource),
            cell,
            hosts,
            partitions: kafka.partitions.unwrap_or(DEFAULT_PARTITIONS),
            retention: kafka.retention.unwrap_or(DEFAULT_RETENTION),
            quotas: kafka.quotas.unwrap_or_default(),
            optional_topics: kafka
                .optional_topics
                .iter()
                .flatten()
                .filter_map(OptionalTopic::topic)
                .collect(),
            registration: identity.registration.unwrap_or_default(),
            access_token_lifetime: identity.access_token_lifetime.unwrap_or(DEFAULT_ACCESS_TOKEN_LIFETIME),
            branding: spec.branding.clone().unwrap_or_default(),
            rate_limit: routing.rate_limit.unwrap_or(DEFAULT_RATE_LIMIT),
            limits: spec.limits.clone().unwrap_or_default(),
            media: spec.media.clone().unwrap_or_default(),
            classifier_url: spec
                .moderation
                .as_ref()
                .and_then(|moderation| moderation.classifier.as_ref())
                .map(|classifier| classifier.url.clone()),
            moderators: spec.moderation.clone().unwrap_or_default().moderators.unwrap_or_default(),
            sms: spec.notifications.clone().unwrap_or_default().sms,
            trace_ratio: spec
                .observability
                .as_ref()
                .and_then(|observability| observability.traces.as_ref())
                .and_then(|traces| traces.ratio),
            allowed_origins: routing.allowed_origins.unwrap_or_default(),
            workloads,
            secrets,
            recorded_topic_ids: recorded_data(resource, Backend::Kafka),
            recorded_generations: recorded_generations(resource),
            recorded_schema_ids: resource
                .status
                .as_ref()
                .map(|status| status.schema_ids.clone())
                .unwrap_or_default(),
            accepts_loss: accepted_losses(resource),
        })
    }

    /// Returns whether the tenant is expected to have data in a backend.
    pub fn expected_data(&self, backend: Backend) -> DataExpected {
        if self.accepts_loss.contains(&backend) {
            DataExpected::No
        } else if self.recorded_generations.contains_key(&backend) {
            DataExpected::Recorded
        } else {
            DataExpected::IfInherited
        }
    }

    /// Returns `<name>-<suffix>`, the name of a child.
    pub fn child(&self, suffix: impl std::fmt::Display) -> String {
        format!("{}-{suffix}", self.name)
    }

    /// Returns what users read as its name.
    pub fn display_name(&self) -> &str {
        self.branding.display_name.as_deref().unwrap_or(&self.name)
    }

    /// Returns the `iss` of the tenant's tokens.
    pub fn issuer(&self) -> String {
        format!("{}/realms/{}", self.cell.keycloak_public_url, self.id.realm())
    }

    /// Returns where services read the keys of the tenant's tokens: in the cell, wherever users find the issuer.
    pub fn keys_url(&self) -> String {
        let keycloak = self.cell.keycloak_url.as_str().trim_end_matches('/');
        format!("{keycloak}/realms/{}/protocol/openid-connect/certs", self.id.realm())
    }

    /// Returns what users type before the path, for one host.
    pub fn origin(&self, host: &Host) -> String {
        let scheme = self.cell.scheme.as_str();
        match self.cell.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// Returns where its services send traces, and of how many requests and messages, or nothing where none is traced.
    pub(crate) fn traces(&self) -> Option<CellTraces> {
        let of_cell = self.cell.spec.observability.as_ref()?.traces.as_ref()?;
        let ratio = self.trace_ratio.or(of_cell.ratio);
        ratio.is_none_or(|ratio| ratio > 0.0).then(|| CellTraces { ratio, ..of_cell.clone() })
    }

    /// Reports whether it has a part of a backend: each has one of what the messenger needs and of what comes with the cell, and
    /// those with an optional service have one of what that needs, or uses where the cell has it.
    pub(crate) fn has_part(&self, backend: Backend) -> bool {
        has_part(&self.workloads, backend) && backend::of(backend).is_of(&self.cell)
    }

    /// Returns the password of its account on a backend, which is empty where it has no account.
    pub(crate) fn password(&self, backend: Backend) -> Result<SecretString, Unusable> {
        backend
            .secret
            .map_or_else(|| Ok(SecretString::default()), |secret| self.secrets.password(secret).cloned())
    }

    /// Returns how many sessions of PostgreSQL its services need.
    pub(crate) fn postgres_sessions(&self) -> u32 {
        postgres_sessions(&self.workloads)
    }

    /// Returns the topics of the tenant, in the order of the catalog.
    pub(crate) fn topics(&self) -> impl Iterator<Item = Topic> {
        Topic::ALL.iter().copied().filter(|topic| !topic.is_optional || self.optional_topics.contains(topic))
    }

    /// Returns the topic that users send to.
    pub fn send_topic(&self) -> TopicName {
        self.id.topic(Topic::MessageSend.name)
    }

    /// Returns the services of the tenant, in the order of the catalog.
    pub fn services(&self) -> impl Iterator<Item = Service> {
        Service::ALL.iter().copied().filter(|service| self.workload_of(*service).is_some())
    }

    /// Returns how many pods a workload is to have, or nothing where an autoscaler decides.
    pub(crate) fn replicas(&self, workload: &Workload) -> Option<i32> {
        if self.is_suspended {
            return Some(0);
        }
        workload.size.autoscaling.is_none().then_some(workload.size.replicas)
    }

    /// Returns the workload that runs a service, or nothing when it is switched off.
    pub(crate) fn workload_of(&self, service: Service) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.services.contains(&service))
    }
}

fn recorded_generations(resource: &MessengerTenant) -> BTreeMap<Backend, String> {
    let recorded = resource.status.iter().flat_map(|status| &status.generations);
    recorded.filter_map(|(name, id)| Some((Backend::parse(name)?, id.clone()))).collect()
}

/// Returns the identity of what held the data of a resource in a backend, as its status recorded it.
pub(crate) fn recorded_data(resource: &MessengerTenant, backend: Backend) -> BTreeMap<String, String> {
    let Some(status) = &resource.status else { return BTreeMap::new() };
    match backend {
        Backend::Kafka => status.kafka.as_ref().map(|kafka| kafka.topics.clone()).unwrap_or_default(),
        _ => status.generations.get_key_value(backend.as_str()).map(owned).into_iter().collect(),
    }
}

fn owned((name, id): (&String, &String)) -> (String, String) {
    (name.clone(), id.clone())
}

/// Returns the backends in which a resource accepts the loss of what is recorded.
fn accepted_losses(resource: &MessengerTenant) -> BTreeSet<Backend> {
    let annotations = resource.metadata.annotations.as_ref();
    let Some(value) = annotations.and_then(|all| all.get(crds::ACCEPT_LOSS_ANNOTATION)) else {
        return BTreeSet::new();
    };
    let is_accepted = |backend: &Backend| {
        consent::accepts(value, *backend, &consent::loss(&recorded_data(resource, *backend)))
    };
    Backend::ALL.iter().copied().filter(is_accepted).collect()
}

/// Returns how many sessions of PostgreSQL workloads need.
pub(crate) fn postgres_sessions(workloads: &[Workload]) -> u32 {
    workloads.iter().map(Workload::postgres_sessions).sum()
}

/// Returns a service of a tenant with these workloads that needs what the cell does not have, and the backend that it needs.
pub(crate) fn missing_backend(workloads: &[Workload], cell: &Cell) -> Option<(Service, Backend)> {
    let missing: Vec<_> =
        backend::ALL.iter().filter(|backend| !backend.is_of(cell)).map(|backend| backend.entry()).collect();
    workloads.iter().find_map(|workload| {
        let needed = missing.iter().find(|backend| workload.backends().contains(backend))?;
        let service =
            workload.services.iter().find(|service| service.all_backends().any(|one| one == *needed))?;
        Some((*service, *needed))
    })
}

/// Checks that no service lacks one that it calls.
fn check_peers(workloads: &[Workload]) -> Result<(), Invalid> {
    let runs = |service| workloads.iter().any(|workload| workload.services.contains(&service));
    for service in workloads.iter().flat_map(|workload| &workload.services) {
        if let Some(peer) = service.peers.iter().find(|peer| !runs(**peer)) {
            return Err(Invalid::MissingPeer { service: *service, peer: *peer });
        }
    }
    Ok(())
}

/// Reads the tenant id of a resource.
pub fn tenant_id(resource: &MessengerTenant) -> Result<TenantId, Invalid> {
    resource.spec.tenant_id.parse().map_err(Invalid::TenantId)
}

/// Returns the hosts a resource requests: what it names, or one below the cell's domain.
pub fn hosts(resource: &MessengerTenant, domain: &str) -> Result<Vec<Host>, Invalid> {
    let default = || vec![format!("{}.{domain}", resource.spec.tenant_id)];
    let texts = resource.spec.hosts.clone().filter(|hosts| !hosts.is_empty()).unwrap_or_else(default);
    texts.iter().map(|text| text.parse().map_err(Invalid::Host)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_without_a_backend_lacks_it_for_those_who_need_it() {
        use crate::rendered::testing::cell;

        let (whole, bare) = (cell(|_| {}), cell(|cell| cell.spec.s3 = None));
        for (enabled, topology) in [(false, "Distributed"), (true, "Distributed"), (true, "Compact")] {
            let spec = serde_json::json!({"tenantId": "acme", "cellRef": {"name": "local"}, "topology": topology,
                "services": {"media": {"enabled": enabled}}});
            let workloads = Workload::of(&serde_json::from_value(spec).expect("a spec"));
            assert_eq!(missing_backend(&workloads, &whole), None);
            let lacking = enabled.then_some((Service::Media, Backend::S3));
            assert_eq!(missing_backend(&workloads, &bare), lacking);
        }
    }

    #[test]
    fn a_cell_without_opensearch_lacks_it_for_those_who_choose_it() {
        use crate::rendered::testing::cell;

        let (bare, whole) = (cell(|cell| cell.spec.opensearch = None), cell(with_opensearch));
        for topology in ["Distributed", "Compact"] {
            for (engine, lacking) in
                [("Embedded", None), ("OpenSearch", Some((Service::Search, Backend::OpenSearch)))]
            {
                let spec = serde_json::json!({"tenantId": "acme", "cellRef": {"name": "local"}, "topology": topology,
                    "services": {"search": {"enabled": true, "engine": engine}}});
                let workloads = Workload::of(&serde_json::from_value(spec).expect("a spec"));
                assert_eq!(missing_backend(&workloads, &whole), None);
                assert_eq!(missing_backend(&workloads, &bare), lacking, "{topology}");
            }
        }
    }

    fn with_opensearch(cell: &mut MessengerCell) {
        let search = serde_json::json!({"url": "http://search:9200", "security": "None"});
        cell.spec.opensearch = Some(serde_json::from_value(search).expect("OpenSearch"));
    }

    #[test]
    fn a_tenant_has_a_part_of_the_schema_registry_where_its_cell_has_one() {
        use crate::rendered::testing::{cell, example};

        let mut tenant = example("acme.yaml", |_| {});
        assert!(!tenant.has_part(Backend::Registry));
        tenant.cell = cell(|cell| {
            let registry = serde_json::json!({"url": "http://registry:8081"});
            cell.spec.schema_registry = Some(serde_json::from_value(registry).expect("a registry"));
        });
        assert!(tenant.has_part(Backend::Registry));
        assert_eq!(missing_backend(&tenant.workloads, &cell(|_| {})), None, "no service needs it");
    }

    #[test]
    fn a_tenant_uses_the_message_broker_of_its_cell_with_the_notification_service() {
        use crate::rendered::testing::{cell, example};

        let broker = serde_json::json!({"amqpUrl": "amqp://rabbitmq:5672", "managementUrl": "http://rabbitmq:15672",
            "adminSecretRef": {"name": "cell-rabbitmq"}});
        let with_broker = || {
            cell(|cell| cell.spec.rabbitmq = Some(serde_json::from_value(broker.clone()).expect("a broker")))
        };
        for enabled in [false, true] {
            let mut tenant = example("acme.yaml", |_| {});
            let spec = serde_json::json!({"tenantId": "acme", "cellRef": {"name": "local"},
                "services": {"notification": {"enabled": enabled}}});
            tenant.workloads = Workload::of(&serde_json::from_value(spec).expect("a spec"));
            assert!(!tenant.has_part(Backend::RabbitMq), "its cell has none");
            assert_eq!(missing_backend(&tenant.workloads, &tenant.cell), None, "it does without");
            tenant.cell = with_broker();
            assert_eq!(tenant.has_part(Backend::RabbitMq), enabled);
        }
    }

    #[test]
    fn a_service_that_lacks_one_it_calls_is_refused() {
        let spec = serde_json::json!({"tenantId": "acme", "cellRef": {"name": "local"}});
        let mut workloads = Workload::of(&serde_json::from_value(spec).expect("a spec"));
        check_peers(&workloads).expect("complete");
        workloads.retain(|workload| workload.name != Service::Chat.as_str());
        let missing = check_peers(&workloads).expect_err("chat is missing");
        assert!(missing.to_string().contains("needs chat, which is switched off"), "{missing}");
    }
}
