//! Secrets beside a tenant, and how a pod receives them.

use crate::Backend;

/// One Secret beside the tenant.
#[derive(Debug)]
pub struct SecretEntry {
    /// The Secret is named `<resource>-<name>`.
    pub name: &'static str,
    /// What it holds, in the order of its environment variables.
    pub keys: &'static [SecretKey],
    /// Where that comes from.
    pub source: SecretSource,
}

/// Where the content of a Secret comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The operator makes it: what is secret is generated once.
    Operator,
    /// It is a copy of a Secret of the cell. Where the cell has none it is empty, and a pod receives no variable.
    Cell,
    /// It is a copy of a Secret that the tenant's manifest names. Where it names none it is empty, likewise.
    Manifest,
}

/// One key of a Secret.
#[derive(Debug)]
pub struct SecretKey {
    /// Key in the Secret's data.
    pub key: &'static str,
    /// Environment variable of a pod that receives it; a service reads the flag of the same name.
    pub variable: &'static str,
    /// The value is secret and generated. Of a Secret that the operator makes, the others are names that follow from the tenant id.
    pub is_generated: bool,
}

const fn name(key: &'static str, variable: &'static str) -> SecretKey {
    SecretKey { key, variable, is_generated: false }
}

const fn generated(key: &'static str, variable: &'static str) -> SecretKey {
    SecretKey { key, variable, is_generated: true }
}

table! {
    /// A Secret of every tenant.
    pub enum Secret: SecretEntry;

    /// The tenant's user of the event log.
    Kafka = SecretEntry {
        name: "kafka",
        keys: &[name("username", "KAFKA_USERNAME"), generated("password", "KAFKA_PASSWORD")],
        source: SecretSource::Operator,
    };
    /// The tenant's role in the message store.
    Cql = SecretEntry {
        name: "cql",
        keys: &[name("username", "CQL_USERNAME"), generated("password", "CQL_PASSWORD")],
        source: SecretSource::Operator,
    };
    /// The tenant's role in the relational store.
    Postgres = SecretEntry {
        name: "postgres",
        keys: &[name("username", "POSTGRES_USERNAME"), generated("password", "POSTGRES_PASSWORD")],
        source: SecretSource::Operator,
    };
    /// The tenant's user of the cache.
    Redis = SecretEntry {
        name: "redis",
        keys: &[name("username", "REDIS_USERNAME"), generated("password", "REDIS_PASSWORD")],
        source: SecretSource::Operator,
    };
    /// The tenant's account at the object store.
    S3 = SecretEntry {
        name: "s3",
        keys: &[name("accessKey", "S3_ACCESS_KEY"), generated("secretKey", "S3_SECRET_KEY")],
        source: SecretSource::Operator,
    };
    /// The tenant's account at the search engine.
    OpenSearch = SecretEntry {
        name: "opensearch",
        keys: &[name("username", "OPENSEARCH_USERNAME"), generated("password", "OPENSEARCH_PASSWORD")],
        source: SecretSource::Operator,
    };
    /// The tenant's user of the message broker. It is there with the services that use one, also where the cell has none: what is beside a
    /// tenant has its name before the cell is known.
    RabbitMq = SecretEntry {
        name: "rabbitmq",
        keys: &[name("username", "RABBITMQ_USERNAME"), generated("password", "RABBITMQ_PASSWORD")],
        source: SecretSource::Operator,
    };
    /// The auth service's client in the tenant's realm.
    Oidc = SecretEntry {
        name: "oidc",
        keys: &[name("clientId", "OIDC_CLIENT_ID"), generated("clientSecret", "OIDC_CLIENT_SECRET")],
        source: SecretSource::Operator,
    };
    /// The account at the cell's mail server.
    Smtp = SecretEntry {
        name: "smtp",
        keys: &[name("username", "SMTP_USERNAME"), name("password", "SMTP_PASSWORD")],
        source: SecretSource::Cell,
    };
    /// The service account by which Firebase Cloud Messaging knows the tenant: the file of Google's console.
    Fcm = SecretEntry {
        name: "fcm",
        keys: &[name("serviceAccount", "FCM_SERVICE_ACCOUNT")],
        source: SecretSource::Manifest,
    };
    /// What requests to the tenant's hook of text messages are signed with.
    Sms = SecretEntry { name: "sms", keys: &[name("signingKey", "SMS_SIGNING_KEY")], source: SecretSource::Manifest };
    /// What requests to the tenant's classifier of texts are signed with.
    Classifier = SecretEntry {
        name: "classifier",
        keys: &[name("signingKey", "CLASSIFIER_SIGNING_KEY")],
        source: SecretSource::Manifest,
    };
    /// What the key follows from that push services know the tenant by.
    Vapid = SecretEntry { name: "vapid", keys: &[generated("secret", "VAPID_SECRET")], source: SecretSource::Operator };
    /// The token of every gRPC call between the tenant's services.
    Internal = SecretEntry { name: "internal", keys: &[generated("token", "INTERNAL_TOKEN")], source: SecretSource::Operator };
    /// What a scraper of the metrics of the tenant's pods presents. The tenant's own pods only check it.
    Metrics = SecretEntry { name: "metrics", keys: &[generated("token", "METRICS_TOKEN")], source: SecretSource::Operator };
}

impl Secret {
    /// Returns whether it is a copy of another Secret, or empty where there is none.
    pub fn is_copy(self) -> bool {
        self.entry().source != SecretSource::Operator
    }

    /// Returns the key whose value is generated. Every Secret has one, except copies.
    pub fn generated_key(self) -> Option<&'static SecretKey> {
        self.entry().keys.iter().find(|key| key.is_generated)
    }

    /// Returns the backend that it holds the tenant's account of. Nothing for what no backend knows.
    pub fn backend(self) -> Option<Backend> {
        Backend::ALL.iter().copied().find(|backend| backend.secret == Some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_of_a_tenant_has_one_generated_key() {
        for secret in Secret::ALL {
            let generated = secret.keys.iter().filter(|key| key.is_generated).count();
            assert_eq!(generated, usize::from(!secret.is_copy()), "{secret}");
            assert_eq!(secret.generated_key().is_some(), !secret.is_copy());
        }
    }
}
