//! What each service needs, as data: the operator renders it and has no other knowledge of a service.

use std::fmt;

use crds::ConditionType;

/// A service of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Gateway,
    Auth,
    User,
    Chat,
    Message,
}

impl Service {
    pub const ALL: [Self; 5] = [Self::Gateway, Self::Auth, Self::User, Self::Chat, Self::Message];

    /// Name of the binary, the image, the path under `/docs` and the end of every child's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Auth => "auth",
            Self::User => "user",
            Self::Chat => "chat",
            Self::Message => "message",
        }
    }

    pub const fn needs(self) -> &'static Needs {
        match self {
            Self::Gateway => &GATEWAY,
            Self::Auth => &AUTH,
            Self::User => &USER,
            Self::Chat => &CHAT,
            Self::Message => &MESSAGE,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A shared system a tenant has a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Kafka,
    Store,
    Database,
    Identity,
    Cache,
}

impl Part {
    pub const ALL: [Self; 5] = [Self::Kafka, Self::Store, Self::Database, Self::Identity, Self::Cache];

    pub const fn condition(self) -> ConditionType {
        match self {
            Self::Kafka => ConditionType::KafkaReady,
            Self::Store => ConditionType::StoreReady,
            Self::Database => ConditionType::DatabaseReady,
            Self::Identity => ConditionType::IdentityReady,
            Self::Cache => ConditionType::CacheReady,
        }
    }

    /// The system as people call it, in metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Store => "cql",
            Self::Database => "postgres",
            Self::Identity => "keycloak",
            Self::Cache => "redis",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A Secret beside the tenant. Its name is `<resource>-<suffix>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretKind {
    Kafka,
    Cql,
    Postgres,
    Redis,
    Oidc,
    Internal,
}

impl SecretKind {
    pub const ALL: [Self; 6] =
        [Self::Kafka, Self::Cql, Self::Postgres, Self::Redis, Self::Oidc, Self::Internal];

    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cql => "cql",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Oidc => "oidc",
            Self::Internal => "internal",
        }
    }

    /// Environment variables of a pod and the key each comes from.
    pub const fn env(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Kafka => &[("KAFKA_USERNAME", "username"), ("KAFKA_PASSWORD", "password")],
            Self::Cql => &[("CQL_USERNAME", "username"), ("CQL_PASSWORD", "password")],
            Self::Postgres => &[("POSTGRES_USERNAME", "username"), ("POSTGRES_PASSWORD", "password")],
            Self::Redis => &[("REDIS_USERNAME", "username"), ("REDIS_PASSWORD", "password")],
            Self::Oidc => &[("OIDC_CLIENT_ID", "clientId"), ("OIDC_CLIENT_SECRET", "clientSecret")],
            Self::Internal => &[("INTERNAL_TOKEN", "token")],
        }
    }
}

/// What one service needs.
#[derive(Debug)]
pub struct Needs {
    /// Systems that must have been set up before the service can start. Once it runs it is updated whatever they do.
    pub parts: &'static [Part],
    pub secrets: &'static [SecretKind],
    /// Services it calls over gRPC.
    pub peers: &'static [Service],
    /// Path prefixes that Traefik sends here.
    pub path_prefixes: &'static [&'static str],
    /// Paths that Traefik sends here when they match whole.
    pub paths: &'static [&'static str],
    /// What the route probe asks for.
    pub probe_path: &'static str,
    /// It has tables of its own, made by `<binary> migrate` before `run`.
    pub migrates: bool,
    pub cpu_request: &'static str,
    pub memory_request: &'static str,
    pub memory_limit: &'static str,
}

/// Every Deployment's ports. Services map `http` from 80.
pub const HTTP_PORT: i32 = 8080;
pub const GRPC_PORT: i32 = 9090;
pub const MANAGEMENT_PORT: i32 = 8081;

/// How long a service may take to end its work after SIGTERM.
pub const DRAIN_SECONDS: i64 = 20;
/// After this the kubelet kills: the drain, and as much again for a slow last answer.
pub const TERMINATION_GRACE_SECONDS: i64 = 40;

/// Topics of every tenant. `retained` ones are cut by age; the other is compacted.
pub const TOPICS: [Topic; 3] = [
    // The broker's clock decides, because retention and replay go by the log and no client may set its time.
    Topic { name: "message.send", retained: true, log_append_time: true },
    Topic { name: "message.delivered", retained: true, log_append_time: false },
    Topic { name: "chat.events", retained: false, log_append_time: false },
];
/// The topic whose generation the message service compares its offsets with.
pub const SEND_TOPIC: &str = TOPICS[0].name;

/// One topic of a tenant, without its prefix.
#[derive(Debug)]
pub struct Topic {
    pub name: &'static str,
    pub retained: bool,
    pub log_append_time: bool,
}

static GATEWAY: Needs = Needs {
    parts: &[Part::Kafka, Part::Identity, Part::Cache],
    secrets: &[SecretKind::Kafka, SecretKind::Redis, SecretKind::Internal],
    peers: &[Service::Chat, Service::Message],
    path_prefixes: &["/docs/gateway"],
    paths: &["/ws", "/docs", "/docs/"],
    probe_path: "/docs/gateway/asyncapi.json",
    migrates: false,
    cpu_request: "25m",
    memory_request: "32Mi",
    memory_limit: "512Mi",
};

static AUTH: Needs = Needs {
    parts: &[Part::Identity],
    secrets: &[SecretKind::Oidc, SecretKind::Internal],
    peers: &[Service::User],
    path_prefixes: &["/api/auth", "/docs/auth"],
    paths: &[],
    probe_path: "/docs/auth/openapi.json",
    migrates: false,
    cpu_request: "20m",
    memory_request: "32Mi",
    memory_limit: "256Mi",
};

static USER: Needs = Needs {
    parts: &[Part::Database, Part::Identity],
    secrets: &[SecretKind::Postgres, SecretKind::Internal],
    peers: &[],
    path_prefixes: &["/api/users", "/docs/user"],
    paths: &[],
    probe_path: "/docs/user/openapi.json",
    migrates: true,
    cpu_request: "20m",
    memory_request: "32Mi",
    memory_limit: "256Mi",
};

static CHAT: Needs = Needs {
    parts: &[Part::Database, Part::Kafka, Part::Identity],
    secrets: &[SecretKind::Postgres, SecretKind::Kafka, SecretKind::Internal],
    peers: &[],
    path_prefixes: &["/api/chats", "/docs/chat"],
    paths: &[],
    probe_path: "/docs/chat/openapi.json",
    migrates: true,
    cpu_request: "20m",
    memory_request: "32Mi",
    memory_limit: "256Mi",
};

static MESSAGE: Needs = Needs {
    parts: &[Part::Store, Part::Kafka, Part::Identity],
    secrets: &[SecretKind::Cql, SecretKind::Kafka, SecretKind::Internal],
    peers: &[Service::Chat],
    path_prefixes: &["/api/messages", "/docs/message"],
    paths: &[],
    probe_path: "/docs/message/openapi.json",
    migrates: true,
    cpu_request: "25m",
    memory_request: "32Mi",
    memory_limit: "512Mi",
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_services_claim_one_path() {
        let mut seen = BTreeSet::new();
        for service in Service::ALL {
            for path in service.needs().path_prefixes.iter().chain(service.needs().paths) {
                assert!(seen.insert(*path), "{path} is claimed twice");
            }
        }
    }

    #[test]
    fn a_probe_asks_for_a_path_that_is_routed_to_its_service() {
        for service in Service::ALL {
            let needs = service.needs();
            assert!(
                needs.path_prefixes.iter().any(|prefix| needs.probe_path.starts_with(prefix)),
                "{service}"
            );
        }
    }
}
