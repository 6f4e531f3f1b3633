//! The shared systems of a cell.

use crate::{Secret, Service};

/// Sessions of PostgreSQL that a service keeps for its queries in one process, at most.
pub const POSTGRES_POOL: u32 = 4;

/// Every command of Redis that a tenant's services send, as its rules call them, and all that the tenant's account may run. Redis has
/// one thread and one memory for all tenants: what takes long, what makes large values of small requests, and what shows more than
/// own keys and channels is not in it.
pub const REDIS_COMMANDS: &[&str] = &[
    "set",
    "setex",
    "get",
    "del",
    "ping",
    "publish",
    "subscribe",
    "zadd",
    "zrange",
    "zrem",
    "zremrangebyscore",
    "pexpireat",
    "hset",
    "hgetall",
    "hdel",
];

/// The exchange of a tenant's virtual host at RabbitMQ to which jobs of notifications are handed, with the name of their channel as the
/// routing key.
pub const JOB_EXCHANGE: &str = "notify";

/// The channels of notifications, each of which has a queue there.
pub const JOB_CHANNELS: &[&str] = &["web_push", "fcm", "email", "sms", "webhook"];

/// Exchange and queue of what was given up there. No service reads it.
pub const DEAD_LETTERS: &str = "notify.dead";

/// Returns the queue of a channel of notifications.
pub fn job_queue(channel: &str) -> String {
    format!("{JOB_EXCHANGE}.{channel}")
}

/// One shared system of which every tenant has a part.
#[derive(Debug)]
pub struct BackendEntry {
    /// Name in metric labels, log fields and the names of admin Secrets.
    pub name: &'static str,
    /// Name in human-readable messages.
    pub title: &'static str,
    /// Type of the tenant's condition, and heading of its column in `kubectl get mt -o wide` without the `Ready`.
    pub condition: &'static str,
    /// What a tenant has there, as its condition documents it.
    pub about: &'static str,
    /// Field of the cell's `spec` that has its address.
    pub field: &'static str,
    /// The Secret with the tenant's own account on it. Nothing where a tenant has none, because no service of it connects there.
    pub secret: Option<Secret>,
    /// Keys of the operator's own account in the cell's admin Secret: the name, then the secret.
    pub admin_keys: [&'static str; 2],
}

table! {
    /// A shared system of a cell.
    pub enum Backend: BackendEntry;

    /// The event log.
    Kafka = BackendEntry {
        name: "kafka",
        title: "Kafka",
        condition: "KafkaReady",
        about: "Topics, user, ACLs and quotas in Kafka.",
        field: "kafka",
        secret: Some(Secret::Kafka),
        admin_keys: ["username", "password"],
    };
    /// The message store: ScyllaDB or Cassandra.
    Cql = BackendEntry {
        name: "cql",
        title: "CQL store",
        condition: "StoreReady",
        about: "Keyspace, role and grants in the CQL store.",
        field: "cql",
        secret: Some(Secret::Cql),
        admin_keys: ["username", "password"],
    };
    /// The relational store.
    Postgres = BackendEntry {
        name: "postgres",
        title: "PostgreSQL",
        condition: "DatabaseReady",
        about: "Database and role in PostgreSQL.",
        field: "postgres",
        secret: Some(Secret::Postgres),
        admin_keys: ["username", "password"],
    };
    /// The identity provider.
    Keycloak = BackendEntry {
        name: "keycloak",
        title: "Keycloak",
        condition: "IdentityReady",
        about: "Realm and clients in Keycloak.",
        field: "keycloak",
        secret: Some(Secret::Oidc),
        admin_keys: ["clientId", "clientSecret"],
    };
    /// The cache.
    Redis = BackendEntry {
        name: "redis",
        title: "Redis",
        condition: "CacheReady",
        about: "ACL user in Redis.",
        field: "redis",
        secret: Some(Secret::Redis),
        admin_keys: ["username", "password"],
    };
    /// The object store: files that users share.
    S3 = BackendEntry {
        name: "s3",
        title: "S3",
        condition: "MediaReady",
        about: "Bucket, account and policy in the object store.",
        field: "s3",
        secret: Some(Secret::S3),
        admin_keys: ["accessKey", "secretKey"],
    };
    /// The schema registry: the forms of the records in the event log.
    Registry = BackendEntry {
        name: "registry",
        title: "Schema registry",
        condition: "SchemasReady",
        about: "Schemas of the records of its topics in the schema registry.",
        field: "schemaRegistry",
        secret: None,
        admin_keys: ["username", "password"],
    };
    /// The search engine: an index of messages for those tenants that choose it.
    OpenSearch = BackendEntry {
        name: "opensearch",
        title: "OpenSearch",
        condition: "SearchReady",
        about: "Names of indices, role and user in OpenSearch.",
        field: "opensearch",
        secret: Some(Secret::OpenSearch),
        admin_keys: ["username", "password"],
    };
    /// The message broker: it carries what is to be sent to those who send it.
    RabbitMq = BackendEntry {
        name: "rabbitmq",
        title: "RabbitMQ",
        condition: "QueuesReady",
        about: "Virtual host, queues and user in RabbitMQ.",
        field: "rabbitmq",
        secret: Some(Secret::RabbitMq),
        admin_keys: ["username", "password"],
    };
}

impl Backend {
    /// Reports whether only optional services need it, or none. Then a cell may do without it, and a tenant has a part of it only
    /// while it has such a service, or as [`Self::comes_with_cell`] says.
    pub fn is_optional(self) -> bool {
        self.needed_by().all(|service| service.is_optional)
    }

    /// Reports whether no service connects to it. A tenant has a part of it because its cell has it, whatever services it runs.
    pub fn comes_with_cell(self) -> bool {
        self.needed_by().next().is_none() && !self.is_extra()
    }

    /// Reports whether a service uses it where the cell has it, and does its work without.
    pub fn is_extra(self) -> bool {
        Service::ALL.iter().any(|service| service.optional_backends.contains(&self))
    }

    fn needed_by(self) -> impl Iterator<Item = &'static Service> {
        Service::ALL.iter().filter(move |service| service.all_backends().any(|backend| backend == self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_of_the_messenger_itself_is_always_there() {
        let optional: Vec<_> = Backend::ALL.iter().filter(|backend| backend.is_optional()).collect();
        assert_eq!(optional, [&Backend::S3, &Backend::Registry, &Backend::OpenSearch, &Backend::RabbitMq]);
    }

    #[test]
    fn a_tenant_has_an_account_where_its_services_connect() {
        for backend in Backend::ALL {
            assert_eq!(backend.secret.is_none(), backend.comes_with_cell(), "{backend}");
        }
    }

    #[test]
    fn what_a_service_does_without_no_service_needs() {
        for backend in Backend::ALL {
            assert!(!backend.is_extra() || backend.needed_by().next().is_none(), "{backend}");
        }
    }

    #[test]
    fn the_queue_of_dead_letters_is_none_of_a_channel() {
        assert!(JOB_CHANNELS.iter().all(|channel| job_queue(channel) != DEAD_LETTERS));
    }
}
