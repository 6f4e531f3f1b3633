//! Names that follow from a tenant id. Each is a type, made once at the edge, so that a keyspace is never passed where a
//! topic is meant and no statement is ever built from text that was not checked.

use std::{fmt, str::FromStr};

/// Why a text is not the name it was meant to be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("tenant id {0:?} must match ^[a-z][a-z0-9]{{2,19}}$")]
    TenantId(String),
    #[error("host {0:?} is not a DNS name in lower case")]
    Host(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The tenant's name in every outside system: `^[a-z][a-z0-9]{2,19}$`. No separator is in the alphabet, so no name
    /// built from it is ambiguous: `acme.` never is a prefix of another tenant's topics.
    TenantId
}
name! {
    /// A topic of one tenant: `acme.message.send`.
    TopicName
}
name! {
    /// The tenant's SCRAM user: the tenant id.
    KafkaUser
}
name! {
    /// Keyspace and CQL role: `mt_acme`. CQL takes 48 characters at most and no dash even when quoted.
    KeyspaceName
}
name! {
    /// PostgreSQL database and role: `mt_acme`.
    DatabaseName
}
name! {
    /// Keycloak realm: the tenant id.
    RealmName
}
name! {
    /// Redis ACL user: the tenant id. Its keys start with `mt:<tenantId>:`.
    CacheUser
}
name! {
    /// S3 bucket and account: `mt-acme`. A bucket's name is part of host names, so it has a dash and no underscore.
    BucketName
}
name! {
    /// OpenSearch role and user, and what the names of indices begin with: `mt-acme`. A tenant id has no dash, so `mt-acme-` begins no other tenant's.
    SearchName
}
name! {
    /// Virtual host and user at RabbitMQ: `mt-acme`, which is no user that a broker has by itself.
    VirtualHost
}
name! {
    /// A DNS name in lower case, 253 characters at most, no wildcard and no IP address.
    Host
}

/// A port in the pattern of a CEL expression, 1 to 65535. What reads an address refuses another one, so the pods that are given it do not start.
pub(crate) const PORT: &str =
    "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

/// What a label or an annotation of Kubernetes is called, as the pattern of a CEL expression: a word, and before it, if at all, a domain.
pub(crate) const LABEL_KEY: &str =
    "^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";

/// Returns the CEL expression that a variable is a DNS name in lower case; [`Host`] checks the same.
pub(crate) fn is_dns_name(variable: &str) -> String {
    const LABEL: &str = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
    format!("{variable}.matches('^{LABEL}([.]{LABEL})*$')")
}

/// Returns the CEL expression that a variable ends in a number, decimal or hexadecimal: then browsers read it as an IPv4 address.
pub(crate) fn is_address(variable: &str) -> String {
    format!("{variable}.matches('(^|[.])([0-9]+|0x[0-9a-f]*)$')")
}

/// What a tenant cannot be called, because in some system the name has another meaning: Keycloak's realm of administrators, the
/// default user of Redis, accounts that Kafka's brokers and administrators have by convention, which may be super users without
/// any object that shows it, and Kubernetes' own words.
pub(crate) const RESERVED: [&str; 18] = [
    "admin",
    "anonymous",
    "broker",
    "controller",
    "default",
    "kafka",
    "keycloak",
    "kubernetes",
    "master",
    "operator",
    "postgres",
    "posthouse",
    "redis",
    "replicator",
    "root",
    "superuser",
    "system",
    "zookeeper",
];

/// Returns the CEL expression that a variable is reserved; [`TenantId::is_reserved`] reports the same.
pub(crate) fn is_reserved(variable: &str) -> String {
    format!("{variable} in ['{}']", RESERVED.join("', '"))
}

impl TenantId {
    pub const MAX_LEN: usize = 20;

    /// Reports whether a backend or Kubernetes has something of this name that is no tenant's. No new tenant may be called so.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }

    /// What every topic and consumer group of the tenant starts with: `acme.`.
    pub fn kafka_prefix(&self) -> String {
        format!("{}.", self.0)
    }

    /// Returns the topic `acme.<topic>`. `topic` is one of our constants, never text from outside.
    pub fn topic(&self, topic: &'static str) -> TopicName {
        TopicName(format!("{}.{topic}", self.0))
    }

    pub fn kafka_user(&self) -> KafkaUser {
        KafkaUser(self.0.clone())
    }

    pub fn keyspace(&self) -> KeyspaceName {
        KeyspaceName(format!("mt_{}", self.0))
    }

    pub fn database(&self) -> DatabaseName {
        DatabaseName(format!("mt_{}", self.0))
    }

    pub fn realm(&self) -> RealmName {
        RealmName(self.0.clone())
    }

    pub fn cache_user(&self) -> CacheUser {
        CacheUser(self.0.clone())
    }

    pub fn bucket(&self) -> BucketName {
        BucketName(format!("mt-{}", self.0))
    }

    pub fn search(&self) -> SearchName {
        SearchName(format!("mt-{}", self.0))
    }

    pub fn virtual_host(&self) -> VirtualHost {
        VirtualHost(format!("mt-{}", self.0))
    }

    /// What every Redis key and channel of the tenant starts with: `mt:acme:`.
    pub fn cache_prefix(&self) -> String {
        format!("mt:{}:", self.0)
    }
}

impl FromStr for TenantId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let legal = (3..=Self::MAX_LEN).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if legal { Ok(Self(text.to_owned())) } else { Err(NameError::TenantId(text.to_owned())) }
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|b| b.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if text.len() <= 253 && text.split('.').all(label) && !is_number {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Host(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_tenant_id() {
        let id: TenantId = "acme".parse().expect("legal");
        assert_eq!(id.topic("message.send").as_str(), "acme.message.send");
        assert_eq!(id.keyspace().as_str(), "mt_acme");
        assert_eq!(id.database().as_str(), "mt_acme");
        assert_eq!(id.bucket().as_str(), "mt-acme");
        assert_eq!(id.search().as_str(), "mt-acme");
        assert_eq!(id.virtual_host().as_str(), "mt-acme");
        assert_eq!((id.realm().as_str(), id.kafka_user().as_str()), ("acme", "acme"));
        assert_eq!((id.kafka_prefix().as_str(), id.cache_prefix().as_str()), ("acme.", "mt:acme:"));
    }

    #[test]
    fn tenant_ids_hold_no_separator_and_fit_every_backend() {
        for id in ["abc", "acme", "a2345678901234567890"] {
            assert!(id.parse::<TenantId>().is_ok(), "{id} was refused");
        }
        for id in ["", "ab", "1abc", "Acme", "ac-me", "ac_me", "ac.me", "a23456789012345678901", "acmé"] {
            assert!(id.parse::<TenantId>().is_err(), "{id} was taken");
        }
    }

    #[test]
    fn hosts_are_dns_names_in_lower_case() {
        let label = "a".repeat(63);
        for host in ["acme.localhost", "chat.acme.example", "a", "1.a1", "127.0.0.1.example", &label] {
            assert!(host.parse::<Host>().is_ok(), "{host} was refused");
        }
        let refused = [
            "",
            ".acme",
            "acme.",
            "*.acme.example",
            "Acme.example",
            "a_b",
            "-a.b",
            "a`) || Host(`b",
            "127.0.0.1",
            "10",
            "acme.0x7f",
            "acme.0x",
        ];
        for host in refused.into_iter().chain([format!("{label}a.example").as_str()]) {
            assert!(host.parse::<Host>().is_err(), "{host} was taken");
        }
    }
}
