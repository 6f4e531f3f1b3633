//! Pure: a resource and what was observed beside it become a [`Tenant`], in which every name is checked and every
//! default is applied. What comes after this step cannot fail.

use std::collections::BTreeMap;

use catalog::{CHAT_SENDS, SendRate, Service, Topic, USER_SENDS};
use crds::{
    CqlFlavor, DEFAULT_ACCESS_TOKEN_LIFETIME, DEFAULT_PARTITIONS, DEFAULT_RATE_LIMIT, DEFAULT_RETENTION,
    Host, KafkaQuotas, MessengerCell, MessengerCellSpec, MessengerTenant, NameError, Period, RateLimit,
    Registration, Scheme, SendLimit, TenantId, TopicName,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use url::Url;

use crate::{placement::Hosts, secrets::TenantSecrets, workload::Workload};

/// One tenant, complete and checked.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: TenantId,
    /// Name of the resource; children are named after it.
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub owner: OwnerReference,
    pub cell: Cell,
    /// The hosts it gets, the main one first, and those it does not get.
    pub hosts: Hosts,
    pub partitions: i32,
    pub retention: Period,
    pub quotas: KafkaQuotas,
    pub registration: Registration,
    pub access_token_lifetime: Period,
    pub rate_limit: RateLimit,
    pub user_sends: SendRate,
    pub chat_sends: SendRate,
    /// What may open a WebSocket beside pages of its hosts.
    pub allowed_origins: Vec<String>,
    /// Together they run every enabled service once.
    pub(crate) workloads: Vec<Workload>,
    pub secrets: TenantSecrets,
    /// Ids of its topics as the status recorded them.
    pub recorded_topic_ids: BTreeMap<String, String>,
    /// The resource consents that lost topics are recreated.
    pub accepts_kafka_loss: bool,
}

/// A cell with its defaults applied.
#[derive(Clone, Debug)]
pub struct Cell {
    pub name: String,
    pub uid: String,
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
        let kafka_replication = i16::try_from(spec.kafka.replication_factor.unwrap_or(3))
            .map_err(|error| invalid("spec.kafka.replicationFactor", error.to_string()))?;
        let cql_replication = u32::try_from(spec.cql.replication_factor.unwrap_or(3))
            .map_err(|error| invalid("spec.cql.replicationFactor", error.to_string()))?;
        Ok(Self {
            uid: resource.metadata.uid.clone().unwrap_or_default(),
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

impl Tenant {
    /// Checks a resource against its cell. `secrets` are those beside it, completed; `hosts` are decided on.
    pub fn new(
        resource: &MessengerTenant,
        cell: Cell,
        secrets: TenantSecrets,
        hosts: Hosts,
    ) -> Result<Self, Invalid> {
        let spec = &resource.spec;
        let id = tenant_id(resource)?;
        let kafka = spec.kafka.clone().unwrap_or_default();
        let identity = spec.identity.clone().unwrap_or_default();
        let routing = spec.routing.clone().unwrap_or_default();
        let limits = spec.limits.clone().unwrap_or_default();
        let workloads = Workload::of(spec);
        check_peers(&workloads)?;
        let annotations = resource.metadata.annotations.clone().unwrap_or_default();
        let recorded_topic_ids = resource
            .status
            .as_ref()
            .and_then(|status| status.kafka.as_ref())
            .map(|kafka| kafka.topics.clone())
            .unwrap_or_default();
        Ok(Self {
            id,
            name: resource.metadata.name.clone().ok_or(Invalid::Incomplete("name"))?,
            namespace: resource.metadata.namespace.clone().ok_or(Invalid::Incomplete("namespace"))?,
            uid: resource.metadata.uid.clone().ok_or(Invalid::Incomplete("uid"))?,
            owner: resource.controller_owner_ref(&()).ok_or(Invalid::Incomplete("uid"))?,
            cell,
            hosts,
            partitions: kafka.partitions.unwrap_or(DEFAULT_PARTITIONS),
            retention: kafka.retention.unwrap_or(DEFAULT_RETENTION),
            quotas: kafka.quotas.unwrap_or_default(),
            registration: identity.registration.unwrap_or_default(),
            access_token_lifetime: identity.access_token_lifetime.unwrap_or(DEFAULT_ACCESS_TOKEN_LIFETIME),
            rate_limit: routing.rate_limit.unwrap_or(DEFAULT_RATE_LIMIT),
            user_sends: limits.user_sends.map_or(USER_SENDS, SendLimit::rate),
            chat_sends: limits.chat_sends.map_or(CHAT_SENDS, SendLimit::rate),
            allowed_origins: routing.allowed_origins.unwrap_or_default(),
            workloads,
            secrets,
            recorded_topic_ids,
            accepts_kafka_loss: annotations
                .get(crds::ACCEPT_LOSS_ANNOTATION)
                .is_some_and(|what| what == "kafka"),
        })
    }

    /// Returns `<name>-<suffix>`, the name of a child.
    pub fn child(&self, suffix: impl std::fmt::Display) -> String {
        format!("{}-{suffix}", self.name)
    }

    /// Returns the `iss` of the tenant's tokens.
    pub fn issuer(&self) -> String {
        format!("{}/realms/{}", self.cell.keycloak_public_url, self.id.realm())
    }

    /// Returns what users type before the path, for one host.
    pub fn origin(&self, host: &Host) -> String {
        let scheme = self.cell.scheme.as_str();
        match self.cell.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// Returns the topic that users send to.
    pub fn send_topic(&self) -> TopicName {
        self.id.topic(Topic::MessageSend.name)
    }

    /// Returns the services of the tenant, in the order of the catalog.
    pub fn services(&self) -> impl Iterator<Item = Service> {
        Service::ALL.iter().copied().filter(|service| self.workload_of(*service).is_some())
    }

    /// Returns the workload that runs a service, or nothing when it is switched off.
    pub(crate) fn workload_of(&self, service: Service) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.services.contains(&service))
    }
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
    fn a_service_that_lacks_one_it_calls_is_refused() {
        let spec = serde_json::json!({"tenantId": "acme", "cellRef": {"name": "local"}});
        let mut workloads = Workload::of(&serde_json::from_value(spec).expect("a spec"));
        check_peers(&workloads).expect("complete");
        workloads.retain(|workload| workload.name != Service::Chat.as_str());
        let missing = check_peers(&workloads).expect_err("chat is missing");
        assert!(missing.to_string().contains("needs chat, which is switched off"), "{missing}");
    }
}
