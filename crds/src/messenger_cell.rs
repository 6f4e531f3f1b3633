//! `MessengerCell`: one set of shared backends.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    DeletionPolicy, Period,
    names::{LABEL_KEY, PORT, is_address, is_dns_name},
};

/// The backends of a cell and how many tenants they carry.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "messenger.posthouse.dev",
    version = "v1alpha1",
    kind = "MessengerCell",
    plural = "messengercells",
    shortname = "mcell",
    category = "messenger",
    status = "CellStatus",
    derive = "PartialEq",
    doc = "A MessengerCell is one set of shared backends (Kafka, CQL store, Keycloak, PostgreSQL, Redis, S3 where its tenants \
           share files, and perhaps a schema registry, OpenSearch and RabbitMQ) that many tenants live on. \
           A tenant names its cell in spec.cellRef and is placed there while the cell has room. \
           A cell that is deleted stays until no tenant lives on it. Its addresses may change as long as the same data is found there: \
           a tenant whose data is missing is reported and keeps its pods as they are. \
           Realms and keyspaces are what a cell runs out of first: a large installation has several cells.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(
        name = "Tenants",
        type_ = "integer",
        json_path = ".status.tenants",
        description = "Tenants placed on this cell"
    ),
    printcolumn(name = "Capacity", type_ = "integer", json_path = ".spec.capacity.tenants"),
    printcolumn(name = "Domain", type_ = "string", json_path = ".spec.routing.domain"),
    printcolumn(name = "Kafka", type_ = "string", json_path = ".spec.kafka.bootstrapServers", priority = 1),
    printcolumn(name = "Keycloak", type_ = "string", json_path = ".spec.keycloak.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MessengerCellSpec {
    /// How much this cell carries. May change at any time; tenants already placed stay when it shrinks.
    pub capacity: CellCapacity,
    /// Namespaces whose tenants may be placed here. Default: all. May change at any time; tenants already placed stay.
    #[x_kube(validation = Rule::new(r"self.all(name, name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'))").message("allowedNamespaces must be names of namespaces"))]
    #[schemars(length(max = 1024), inner(length(max = 63)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<Vec<String>>,
    /// While true every deletion of this cell is refused, with the command that switches it off. A deletion cannot be taken back: a cell that is deleted while
    /// tenants live on it takes no other, and goes with the last of them. Default false. May change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,

    /// What each tenant may request at most. A tenant that requests more is refused with reason `LimitExceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<CellLimits>,
    /// The event log. Every tenant gets its own topics, user, ACLs and quotas there.
    pub kafka: CellKafka,
    /// The message store: ScyllaDB, or Cassandra, which speaks the same protocol. Every tenant gets its own keyspace
    /// and role.
    pub cql: CellCql,
    /// Sign-in. Every tenant gets its own realm.
    pub keycloak: CellKeycloak,
    /// Profiles and chats. Every tenant gets its own database and role.
    pub postgres: CellPostgres,
    /// Sessions and rate limits. Every tenant gets its own ACL user and key prefix.
    pub redis: CellRedis,
    /// Files that users share. Every tenant with the media service gets its own bucket and account. Without it a tenant that
    /// enables the media service is refused with reason `BackendMissing`. May be added at any time; it stays for as long as a
    /// tenant has a bucket there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<CellS3>,
    /// The scanner of files: a daemon that speaks the protocol of ClamAV. With it the files of every tenant are scanned before a user reads
    /// them, and while it does not answer, new files wait. May be added, changed and removed at any time: pods of the media service are
    /// replaced, and files that are there are not scanned again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamav: Option<CellClamav>,
    /// The schemas of the records in the event log, for readers outside of Posthouse. With it the operator registers the schema of each
    /// topic of every tenant, and records carry the id of theirs. May be added and removed at any time; pods that write records are
    /// replaced. What was registered stays when it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<CellSchemaRegistry>,
    /// The search engine. Every tenant whose `services.search.engine` is `OpenSearch` gets its own indices, role and user there, unless `security` says that
    /// there are none. Without it such a tenant is refused with reason `BackendMissing`. May be added at any time; it stays for as long as a
    /// tenant has an index there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opensearch: Option<CellOpenSearch>,
    /// The message broker that carries jobs of notifications to the pods that send them. Every tenant with the notification service gets
    /// its own virtual host and user. Without it, and while it is away, the pods take their jobs from the database. May be added and
    /// removed at any time; pods of the notification service are replaced. What was made there stays when it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<CellRabbitMq>,
    /// Where mail to users goes. Without it no user gets a link for a new password. May change at any time; pods of the auth service
    /// are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<CellSmtp>,
    /// What the services of the cell's tenants report about their work. Without it they report metrics and logs alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observability: Option<CellObservability>,
    /// How the tenants of the cell are watched over. No tenant is less Ready for anything of it that fails; the conditions `PodsScraped` and
    /// `ObjectivesKnown` of the cell say what does. May be added, changed and removed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<CellMonitoring>,
    /// How users reach the tenants of this cell, through Traefik.
    pub routing: CellRouting,
    /// Certificates in PEM that are trusted beside the public ones, by the operator and by the services, wherever a URL of this cell
    /// starts with `https` or `amqps`: at Keycloak, at the object store, at the schema registry, at OpenSearch, at RabbitMQ, at the collector of traces, at Prometheus, and at Traefik's entry point;
    /// at PostgreSQL, the CQL store and Redis with `tls: VerifyFull`; at Kafka with `securityProtocol: SaslSsl`; and at the mail server. The scanner is
    /// reached without it.
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')").message("caBundle must be certificates in PEM"))]
    #[schemars(length(max = 65536))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// How much a cell carries.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellCapacity {
    /// How many tenants may be placed here. The next one stays `Placed=False` with reason `CapacityExhausted`.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000").message("capacity.tenants must lie between 1 and 1000"))]
    pub tenants: i32,
}

/// Ceilings for each tenant of a cell; what is absent is bounded by the schema of the tenant alone. A tenant that requests more is
/// refused with reason `LimitExceeded`: nothing is made for it, and what runs is left as it is. May change at any time.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellLimits {
    /// Partitions of each topic of a tenant that has no topics yet.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 96").message("limits.partitions must lie between 1 and 96"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Replicas of each workload, of an autoscaled one the most that there may be.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 50").message("limits.replicas must lie between 1 and 50"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How long the log keeps records.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('8760h')").message("limits.retention must lie between 1h and 8760h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Period>,
    /// Requests a second and client address.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("limits.requestsPerSecond must lie between 1 and 100000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<i32>,
    /// Host names.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 8").message("limits.hosts must lie between 1 and 8"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<i32>,
    /// Members of all chats of a tenant together.
    #[x_kube(validation = Rule::new("self >= 10000 && self <= 10000000").message("limits.memberships must lie between 10000 and 10000000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memberships: Option<i32>,
    /// Bytes of all files of a tenant together: the most that its `media.quotaBytes` may be, whose default of 10 GiB counts like one
    /// that is written. Without it a tenant may request any quota, whatever room the store has: the store itself bounds no tenant.
    #[x_kube(validation = Rule::new("self >= 1048576 && self <= 1125899906842624").message("limits.mediaBytes must lie between 1048576 (1 MiB) and 1125899906842624 (1 PiB)"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_bytes: Option<i64>,
}

/// Kafka of a cell.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.minInsyncReplicas) || self.minInsyncReplicas <= (has(self.replicationFactor) ? self.replicationFactor : 3)").message("kafka.minInsyncReplicas must not be above kafka.replicationFactor"))]
#[serde(rename_all = "camelCase")]
pub struct CellKafka {
    /// `host:port`, comma separated. Operator and services use the same addresses.
    #[x_kube(validation = Rule::new(are_hosts_and_ports("self")).message("kafka.bootstrapServers must be host:port, comma separated"))]
    #[schemars(length(max = 1024))]
    pub bootstrap_servers: String,
    /// How clients sign in; see [`SecurityProtocol`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_protocol: Option<SecurityProtocol>,
    /// Copies of every partition of every tenant topic made from now on. Default 3; a single broker needs 1.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 5").message("kafka.replicationFactor must lie between 1 and 5"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// Copies of a record that must exist before its sender receives `accepted`. Default: one less than `replicationFactor`, so
    /// that one broker may be down. A topic on which an administrator sets more keeps it.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 5").message("kafka.minInsyncReplicas must lie between 1 and 5"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_insync_replicas: Option<i32>,
    /// Secret in the operator's own namespace with the keys `username` and `password` of the operator's Kafka account.
    pub admin_secret_ref: SecretName,
}

/// How Kafka clients sign in, with SCRAM-SHA-512 in either case. `SaslPlaintext` (default) has no TLS, for networks that are trusted or encrypted below.
/// `SaslSsl` has TLS, or there is no connection: the certificate of each broker names the host by which `bootstrapServers` and the other brokers
/// call it. It is of an authority in `caBundle`, or of a public one in a cell without. May change at any time; pods are replaced.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProtocol {
    /// SCRAM-SHA-512 over plain TCP, for networks that are trusted or encrypted below.
    #[default]
    SaslPlaintext,
    /// SCRAM-SHA-512 over TLS, with the authority and the host verified.
    SaslSsl,
}

impl SecurityProtocol {
    /// Returns the value of the services' `--kafka-security-protocol`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
}

impl CellKafka {
    /// Returns how connections are protected.
    pub fn tls(&self) -> Option<Tls> {
        match self.security_protocol.unwrap_or_default() {
            SecurityProtocol::SaslPlaintext => None,
            SecurityProtocol::SaslSsl => Some(Tls::VerifyFull),
        }
    }
}

/// The CQL store of a cell.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellCql {
    /// `host:port` of some nodes; the driver finds the others. It connects to each by its IP address, which the certificate of the node names where `tls`
    /// is `VerifyFull`.
    #[x_kube(validation = Rule::new(are_contact_points("self")).message("cql.contactPoints needs at least one host:port"))]
    #[schemars(length(max = 16), inner(length(max = 260)))]
    pub contact_points: Vec<String>,
    /// How connections of the operator and of the services are protected; see [`Tls`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The server there; see [`CqlFlavor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<CqlFlavor>,
    /// The datacenter that keyspaces are created in, as `nodetool status` prints it. The replication of a keyspace that exists is
    /// never altered, because that moves data: a difference is reported with reason `ChangeBlocked`.
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9_-]{1,48}$')").message("cql.datacenter must be a datacenter name as nodetool status prints it"))]
    #[schemars(length(max = 48))]
    pub datacenter: String,
    /// Copies of every row in that datacenter, for keyspaces made from now on. Default 3; a single node needs 1.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 7").message("cql.replicationFactor must lie between 1 and 7"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// Secret in the operator's own namespace with the keys `username` and `password` of the operator's CQL role.
    pub admin_secret_ref: SecretName,
}

/// The server of the CQL protocol. `Scylla` is the default; `Cassandra` leaves out the table and keyspace options that
/// only ScyllaDB knows.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CqlFlavor {
    /// ScyllaDB, the store Posthouse is made for.
    #[default]
    Scylla,
    /// Apache Cassandra 5.
    Cassandra,
}

impl CqlFlavor {
    /// Returns the value of the services' `--cql-flavor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scylla => "scylla",
            Self::Cassandra => "cassandra",
        }
    }
}

/// Keycloak of a cell.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellKeycloak {
    /// Where the operator and the services reach Keycloak, for the keys of tokens too. It may be an address that only the cluster has.
    #[x_kube(validation = Rule::new(is_base_url("self")).message("keycloak.url must be an http(s) URL without a trailing slash"))]
    #[schemars(length(max = 512))]
    pub url: String,
    /// The URL that browsers use, and the start of every token's `iss`. Defaults to `url`. Changing it invalidates every
    /// token that was issued before.
    #[x_kube(validation = Rule::new(is_base_url("self")).message("keycloak.publicUrl must be an http(s) URL without a trailing slash"))]
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Hosts of external identity providers that tenants may name in `identity.providers`: each one itself and every host below
    /// it. The endpoints that an issuer names must be on such hosts, too. Keycloak calls them, so they are none that only the cell
    /// should reach. Default: none. May change at any time; a provider that is no longer allowed is disabled in the realm.
    #[x_kube(validation = Rule::new("self.all(host, host.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$'))").message("keycloak.providerHosts must be host names in lower case"))]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_hosts: Option<Vec<String>>,
    /// The theme of the pages on which users sign in, which is installed in Keycloak by who runs it. `posthouse` is the one of
    /// `deploy/keycloak-theme`, which shows the colour and the logo of each tenant (`branding`). Default: Keycloak's own. May change at any
    /// time. A theme that Keycloak does not have is as none.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$')").message("keycloak.loginTheme must be the name of a theme: lower-case letters, digits, dots, dashes and underscores"))]
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_theme: Option<String>,
    /// Secret in the operator's own namespace with the keys `clientId` and `clientSecret` of a client of the master
    /// realm. It needs the role `create-realm` and no other.
    pub admin_secret_ref: SecretName,
}

/// PostgreSQL of a cell.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellPostgres {
    /// Host name or address.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9.-]{1,253}$')").message("postgres.host must be a host name or an address"))]
    #[schemars(length(max = 253))]
    pub host: String,
    /// Default 5432.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("postgres.port must be a port"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// How connections of the operator and of the services are protected; see [`Tls`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Sessions that one tenant may have, so that all of them fit: `capacity.tenants` times this is to stay below `max_connections` of
    /// the server. A tenant with one pod of each service needs 24, and 32 with media; one whose replicas need more is refused with
    /// reason `LimitExceeded`. Absent means what the replicas need. In either case a tenant for which the server has too few sessions
    /// beside those of the others is `BackendRefused`.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 10000").message("postgres.sessionsPerTenant must lie between 1 and 10000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_per_tenant: Option<i32>,
    /// Secret in the operator's own namespace with the keys `username` and `password` of a role with CREATEDB and
    /// CREATEROLE.
    pub admin_secret_ref: SecretName,
}

/// How connections to a server are protected whose address has no scheme that says so. `Disabled` (default): not at all, for networks that are
/// trusted or encrypted below. It is the default because a server has a certificate only where an administrator gave it one. `VerifyFull`: with TLS,
/// or there is no connection. The certificate is checked against the public authorities and `caBundle`, and names the host. Nothing is between
/// these two: TLS that checks nothing, or is left out when the server has none, keeps no one out who stands in the way. May change at any time; pods are
/// replaced.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tls {
    /// Plain TCP.
    #[default]
    Disabled,
    /// TLS, with the authority and the host verified.
    VerifyFull,
}

impl Tls {
    /// Returns the value of the services' flags, such as `--postgres-tls`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Redis of a cell.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellRedis {
    /// `host:port`. Where `tls` is `VerifyFull` and the cell has a `caBundle`, its certificate is of an authority in that: the public ones do not count here.
    #[x_kube(validation = Rule::new(is_host_and_port("self")).message("redis.address must be host:port"))]
    #[schemars(length(max = 260))]
    pub address: String,
    /// How connections of the operator and of the services are protected; see [`Tls`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Secret in the operator's own namespace with the keys `username` and `password` of a user that may manage ACLs.
    pub admin_secret_ref: SecretName,
}

/// The object store of a cell: versitygw, in front of a file system or of another store. What it has to offer beside S3 are
/// accounts that the operator manages; the one of a tenant may read and write the objects of the tenant's bucket and nothing else.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellS3 {
    /// Where the operator and the services reach the S3 API. It may be an address that only the cluster has. Buckets are named in
    /// the path.
    #[x_kube(validation = Rule::new(is_endpoint("self")).message("s3.endpoint must be an http(s) URL of a host, perhaps a port, and no path"))]
    #[schemars(length(max = 512))]
    pub endpoint: String,
    /// Where browsers and apps reach it: they send files there, by requests that the media service signed for this very address.
    /// They fetch files at the address of the tenant, under `/content`, and never here. Defaults to `endpoint`, which must be one that
    /// they reach then. May change at any time; requests that were signed before end with it, and clients get others.
    #[x_kube(validation = Rule::new(is_endpoint("self")).message("s3.publicEndpoint must be an http(s) URL of a host, perhaps a port, and no path"))]
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_endpoint: Option<String>,
    /// The region that requests are signed for. Default `us-east-1`.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9-]+$')").message("s3.region must be lower-case letters, digits and dashes"))]
    #[schemars(length(min = 1, max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where the operator manages accounts: the `--admin-port` of versitygw, which no tenant should reach. Defaults to `endpoint`,
    /// where versitygw offers it when it has no port of its own for it.
    #[x_kube(validation = Rule::new(is_endpoint("self")).message("s3.accountsEndpoint must be an http(s) URL of a host, perhaps a port, and no path"))]
    #[schemars(length(max = 512))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts_endpoint: Option<String>,
    /// Secret in the operator's own namespace with the keys `accessKey` and `secretKey` of an account with the role `admin`.
    pub admin_secret_ref: SecretName,
}

/// Returns the CEL expression that a variable is `host:port`.
fn is_host_and_port(variable: &str) -> String {
    format!("{variable}.matches('^[a-z0-9.-]+:{PORT}$')")
}

/// Returns the CEL expression that a variable is one `host:port` or more, with a comma between two.
fn are_hosts_and_ports(variable: &str) -> String {
    format!("{variable}.matches('^[a-z0-9.-]+:{PORT}(,[a-z0-9.-]+:{PORT})*$')")
}

/// Returns the CEL expression that a variable is a list with a `host:port`.
fn are_contact_points(variable: &str) -> String {
    format!("{variable}.size() >= 1 && {variable}.all(point, {})", is_host_and_port("point"))
}

/// Returns the CEL expression that a variable is the address of an AMQP server.
fn is_broker(variable: &str) -> String {
    format!("{variable}.matches('^amqps?://[a-z0-9.-]+(:{PORT})?$')")
}

/// Returns the CEL expression that a variable is the address of an HTTP server without a path.
fn is_endpoint(variable: &str) -> String {
    format!("{variable}.matches('^https?://[a-z0-9.-]+(:{PORT})?$')")
}

/// Returns the CEL expression that a variable is where the API of an HTTP server begins, perhaps below a path.
fn is_base_url(variable: &str) -> String {
    let form = format!("{variable}.matches('^https?://[a-z0-9.-]+(:{PORT})?(/[A-Za-z0-9._/-]*)?$')");
    format!("{form} && !{variable}.endsWith('/')")
}

impl CellS3 {
    /// Returns where browsers and apps reach it.
    pub fn public_endpoint(&self) -> &str {
        self.public_endpoint.as_deref().unwrap_or(&self.endpoint)
    }

    /// Returns where accounts are managed.
    pub fn accounts_endpoint(&self) -> &str {
        self.accounts_endpoint.as_deref().unwrap_or(&self.endpoint)
    }

    /// Returns the region that requests are signed for.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }
}

/// The scanner of a cell: `clamd`, which has no accounts. Pods of the media service send files to it in the clear. Its `StreamMaxLength` is to be
/// the largest file of a tenant at least (`spec.media.maxFileBytes`): a file that is larger than the scanner takes is refused.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellClamav {
    /// Host name or address, as the pods of tenants reach it.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9.-]+$')").message("clamav.host must be a host name or an address"))]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Default 3310.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("clamav.port must be a port"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

impl CellClamav {
    /// Returns the value of the media service's `--clamd`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(3310))
    }
}

/// The schema registry of a cell: what has the API of Confluent's, as Apicurio does. Only the operator calls it. The subject of a topic
/// is `<topic>-value`; beside these there is one subject for each tenant that says whose they are.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellSchemaRegistry {
    /// Where the API begins, as `http://registry:8081`, or `http://apicurio:8080/apis/ccompat/v7` for Apicurio.
    #[x_kube(validation = Rule::new(is_base_url("self")).message("schemaRegistry.url must be an http(s) URL without a trailing slash"))]
    #[schemars(length(max = 512))]
    pub url: String,
    /// Secret in the operator's own namespace with the keys `username` and `password` of an account that may read, register and
    /// delete subjects and set their compatibility. Without it the operator calls the registry without an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
}

/// OpenSearch of a cell. A tenant's indices are called `mt-<tenantId>-...`, and the one with the owner markers `posthouse-owners`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(has(self.security) && self.security == 'None') || has(self.credentialsSecretRef)").message("opensearch.credentialsSecretRef is needed where opensearch.security is Plugin"))]
#[serde(rename_all = "camelCase")]
pub struct CellOpenSearch {
    /// Where the operator and the services reach it. No user needs to.
    #[x_kube(validation = Rule::new(is_endpoint("self")).message("opensearch.url must be an http(s) URL of a host, perhaps a port, and no path"))]
    #[schemars(length(max = 512))]
    pub url: String,
    /// What keeps tenants apart there; see [`OpenSearchSecurity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<OpenSearchSecurity>,
    /// Copies of an index beside the first one, for indices that are made from now on. Default 1; a single node needs 0. May change at any time.
    #[x_kube(validation = Rule::new("self >= 0 && self <= 5").message("opensearch.replicas must lie between 0 and 5"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Secret in the operator's own namespace with the keys `username` and `password` of a user that may manage users, roles and role
    /// mappings by REST (`restapi:admin/internalusers`, `restapi:admin/roles`, `restapi:admin/rolesmapping`) and the indices `mt-*` and
    /// `posthouse-owners`. Only with `security: None` it may be left out; then the operator calls OpenSearch without an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
}

/// What keeps the tenants of an OpenSearch apart. `Plugin` (default): its security plugin, with a role and a user for each tenant. `None`: nothing. Every
/// client that reaches the server then reads and changes the messages of all tenants in it, so it is for a cell with one tenant, or with tenants that trust each
/// other, and the condition `SearchReady` of each says so.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenSearchSecurity {
    /// A role and a user for each tenant.
    #[default]
    Plugin,
    /// The server knows no accounts.
    None,
}

impl CellOpenSearch {
    /// Returns copies of an index beside the first one.
    pub fn replicas(&self) -> u32 {
        self.replicas.map_or(1, i32::unsigned_abs)
    }

    /// Reports whether tenants have accounts there.
    pub fn has_accounts(&self) -> bool {
        self.security.unwrap_or_default() == OpenSearchSecurity::Plugin
    }
}

/// The message broker of a cell: RabbitMQ 3.10 or later. A virtual host and a user `mt-<tenantId>` belong to each tenant; the queues are
/// the operator's, and the user may publish to one exchange and consume from these queues. With TLS its certificates are checked against the
/// public authorities and `caBundle`, and name the hosts of both addresses.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!self.amqpUrl.startsWith('amqps:') || self.managementUrl.startsWith('https:')").message("rabbitmq.managementUrl must begin with https where rabbitmq.amqpUrl begins with amqps: it carries the administrator's password"))]
#[serde(rename_all = "camelCase")]
pub struct CellRabbitMq {
    /// Where services connect: `amqps://host:port`, or `amqp://host:port` without TLS, for networks that are trusted or encrypted below. With
    /// `amqps` nothing is tried without TLS. Without a port it is 5671, or 5672 without TLS.
    #[x_kube(validation = Rule::new(is_broker("self")).message("rabbitmq.amqpUrl must be amqp(s)://host:port without a user and without a path"))]
    #[schemars(length(max = 512))]
    pub amqp_url: String,
    /// Where the management API begins, without the `/api`: `https://rabbitmq:15671`, or `http://rabbitmq:15672`. Only the operator calls it.
    #[x_kube(validation = Rule::new(is_base_url("self")).message("rabbitmq.managementUrl must be an http(s) URL without a trailing slash"))]
    #[schemars(length(max = 512))]
    pub management_url: String,
    /// Connections that one tenant may have. Default 64: each pod with the notification service has two. May change at any time.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 10000").message("rabbitmq.connectionsPerTenant must lie between 1 and 10000"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_tenant: Option<i32>,
    /// Secret in the operator's own namespace with the keys `username` and `password` of a user with the tag `administrator`.
    pub admin_secret_ref: SecretName,
}

impl CellRabbitMq {
    /// Returns how many connections one tenant may have.
    pub fn connections_per_tenant(&self) -> u32 {
        self.connections_per_tenant.map_or(64, i32::unsigned_abs)
    }
}

/// The mail server of a cell. The auth service of each tenant sends through it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(r"!(has(self.tls) && self.tls == 'Plain' && has(self.credentialsSecretRef)) || self.host.matches('^(localhost|127([.][0-9]{1,3}){3})$')").message("smtp.credentialsSecretRef would be sent in the clear with smtp.tls Plain: let smtp.tls be StartTls or Tls, or leave the account out"))]
#[serde(rename_all = "camelCase")]
pub struct CellSmtp {
    /// Host name or address.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9.-]+$')").message("smtp.host must be a host name or an address"))]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Default 465 with `Tls`, 587 otherwise.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("smtp.port must be a port"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// The address that mail comes from, as in `no-reply@messenger.example`.
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9._+-]+@[a-z0-9-]+([.][a-z0-9-]+)*$')").message("smtp.from must be an e-mail address without a name"))]
    #[schemars(length(max = 254))]
    pub from: String,
    /// How the connection is protected; see [`SmtpTls`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SmtpTls>,
    /// Secret in the operator's own namespace with the keys `username` and `password` of an account that may send as `from` and do
    /// nothing else: the operator copies it into the namespace of each tenant, where the tenant's administrators can read it. Without
    /// it the server takes mail from the pods as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
}

/// How connections to the mail server are protected. `StartTls` (default) begins in the clear and goes on with TLS, or not at all;
/// `Tls` begins with it. Certificates are checked against the public authorities and `caBundle`.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmtpTls {
    /// STARTTLS, required.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None, for a relay that wants no account. With one, only where `host` is the machine itself (`localhost` or `127.x.x.x`).
    Plain,
}

impl CellSmtp {
    /// Returns the value of the auth service's `--smtp-url`.
    pub fn url(&self) -> String {
        let host = &self.host;
        let port = |default: i32| self.port.unwrap_or(default);
        match self.tls.unwrap_or_default() {
            SmtpTls::StartTls => format!("smtp://{host}:{}?tls=required", port(587)),
            SmtpTls::Tls => format!("smtps://{host}:{}", port(465)),
            SmtpTls::Plain => format!("smtp://{host}:{}", port(587)),
        }
    }
}

/// What the services of a cell's tenants report about their work.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellObservability {
    /// Traces of requests and messages, which say where their time goes, and nothing of who they are of or what they say. May be added, changed and
    /// removed at any time; pods of all services are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<CellTraces>,
}

/// Where traces go, and how many.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellTraces {
    /// A collector that takes OTLP over gRPC, as the pods of tenants reach it: `http://collector.observability.svc:4317`. While it does not answer, traces
    /// are lost and nothing else.
    #[x_kube(validation = Rule::new(is_endpoint("self")).message("observability.traces.endpoint must be an http(s) URL of a host, perhaps a port, and no path"))]
    #[schemars(length(max = 512))]
    pub endpoint: String,
    /// The part of all requests and messages that is traced, from 0 to 1. Default 0.01. Which of these are kept, such as all that failed, is for the
    /// collector to decide; it sees those that are traced. A tenant that has a ratio of its own is traced by that.
    #[x_kube(validation = Rule::new("self >= 0.0 && self <= 1.0").message("observability.traces.ratio must lie between 0 and 1"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// How the tenants of a cell are watched over.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellMonitoring {
    /// With it, even when it is empty, each tenant has a PodMonitor `<name>-metrics` (`monitoring.coreos.com/v1`) beside it, by which a Prometheus of the
    /// Prometheus Operator scrapes its pods with the token in the Secret `<name>-metrics`. Where the cluster does not know that kind, none is made until it
    /// does. The namespace of the Prometheus needs the label `messenger.posthouse.dev/metrics: allowed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_monitors: Option<CellPodMonitors>,
    /// The Prometheus that has the recording rules of the operator's chart. With it `status.objectives` of each tenant says how well its objectives are met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<CellPrometheus>,
}

/// What the PodMonitors of a cell's tenants are like.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellPodMonitors {
    /// Labels by which a Prometheus selects PodMonitors, such as `release: kube-prometheus-stack`. Those of the operator are always there.
    #[x_kube(validation = Rule::new(format!("self.all(label, label.matches('{LABEL_KEY}'))")).message("monitoring.podMonitors.labels must be labels of Kubernetes"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<MonitorLabels>,
    /// How often pods are scraped. Default `15s`, at least `5s`, at most `5m`: the rules of the chart look back for five minutes.
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('5m')").message("monitoring.podMonitors.interval must lie between 5s and 5m"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Period>,
}

/// Labels of PodMonitors: at most eight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MonitorLabels(BTreeMap<String, String>);

impl JsonSchema for MonitorLabels {
    fn schema_name() -> Cow<'static, str> {
        "MonitorLabels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = "^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$";
        json_schema!({
            "type": "object",
            "maxProperties": 8,
            "additionalProperties": {"type": "string", "maxLength": 63, "pattern": value},
        })
    }
}

impl CellPodMonitors {
    /// Returns the labels that they have beside those of the operator.
    pub fn labels(&self) -> impl Iterator<Item = (&String, &String)> {
        self.labels.iter().flat_map(|labels| &labels.0)
    }

    /// Returns how often pods are scraped.
    pub fn interval(&self) -> Period {
        self.interval.unwrap_or(Period::seconds(15))
    }
}

/// A Prometheus, or what has its API: Thanos, Mimir, VictoriaMetrics. The operator asks it once a minute for the objectives of all tenants of the cell, and
/// nothing waits for the answer. Figures that are older than a quarter of an hour are left out of the status of tenants.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellPrometheus {
    /// Where its pages begin, as the operator reaches them: `http://prometheus.monitoring.svc:9090`, or `https://mimir.example/prometheus`.
    #[x_kube(validation = Rule::new(is_base_url("self")).message("monitoring.prometheus.url must be an http(s) URL without a trailing slash"))]
    #[schemars(length(max = 512))]
    pub url: String,
    /// Secret in the operator's own namespace with the key `token`, which the operator presents as its bearer token. Without it Prometheus is asked without an
    /// account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretName>,
}

impl MessengerCellSpec {
    /// Returns what the PodMonitors of its tenants are like, or nothing where they have none.
    pub fn pod_monitors(&self) -> Option<&CellPodMonitors> {
        self.monitoring.as_ref()?.pod_monitors.as_ref()
    }

    /// Returns the Prometheus that knows the objectives of its tenants, where there is one.
    pub fn prometheus(&self) -> Option<&CellPrometheus> {
        self.monitoring.as_ref()?.prometheus.as_ref()
    }
}

/// How users reach the tenants of a cell.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellRouting {
    /// A tenant that names no hosts is found at `<tenantId>.<domain>`. That host and those below it are the tenant's, whatever
    /// other tenants request.
    #[x_kube(validation = Rule::new(format!("{} && !{}", is_dns_name("self"), is_address("self"))).message("routing.domain must be a DNS name in lower case, in labels of at most 63 characters"))]
    #[schemars(length(max = 230))]
    pub domain: String,
    /// Domains, besides `domain`, whose hosts the tenants of this cell may have: each one itself and every host below it. None by
    /// default. Hosts of the cells themselves are never a tenant's: their domains, the addresses of their systems, and
    /// `<tenantId>.<domain>` of another tenant id. May change at any time; a host that is no longer allowed is not routed.
    #[x_kube(validation = Rule::new(format!("self.all(name, {} && !{})", is_dns_name("name"), is_address("name"))).message("routing.allowedDomains must be DNS names in lower case, in labels of at most 63 characters"))]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_domains: Option<Vec<String>>,
    /// What browsers speak; see [`Scheme`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The port of users' URLs. Absent means the scheme's own.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("routing.port must be a port"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// `host:port` where the operator reaches Traefik to prove a tenant's routes. It connects in the cell's scheme for the
    /// tenant's first host.
    #[x_kube(validation = Rule::new(is_host_and_port("self")).message("routing.probeAddress must be host:port"))]
    #[schemars(length(max = 260))]
    pub probe_address: String,
}

/// The scheme of browsers. Default `Https`. It decides the URLs in status, and whether routes require TLS of Traefik.
/// They name no entry point, so Traefik serves them on its default ones.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// Plain HTTP, for a machine of one's own.
    Http,
    /// TLS, ended by Traefik.
    #[default]
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A Secret, by name. It is always looked for in the operator's own namespace: the operator may read Secrets nowhere
/// else until it made a tenant's namespace its own.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Name of the Secret.
    #[x_kube(validation = Rule::new(r"self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("name must be the name of a Secret"))]
    #[schemars(length(max = 253))]
    pub name: String,
}

/// What a deleted tenant left behind in a cell, because a backend did not respond in time. It is tried again until it is gone.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// The tenant's id.
    pub tenant_id: String,
    /// Namespace of the tenant's resource.
    pub namespace: String,
    /// Name of the tenant's resource.
    #[serde(default)]
    pub name: String,
    /// UID of the tenant's resource, which the owner markers name.
    pub uid: String,
    /// What the resource declared for its data.
    pub deletion_policy: DeletionPolicy,
    /// The backends that still have something of the tenant.
    pub backends: Vec<String>,
}

/// What the operator found.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellStatus {
    /// The generation of the spec this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many tenants are placed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<i32>,
    /// What deleted tenants left behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leftovers: Vec<Leftover>,
    /// `Ready`: the admin Secrets are complete and the cell takes tenants. `ExternalIPsRefused`: no Service of any namespace can take
    /// the traffic to an address of the cell. `PodsScraped`: tenants have the PodMonitors that `monitoring.podMonitors` asks for.
    /// `ObjectivesKnown`: `monitoring.prometheus` says how well tenants meet their objectives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
