//! A tenant's part of each shared system.

use std::collections::BTreeMap;

use catalog::{Retention, Secret, Topic};
use crds::Registration;

use crate::{
    backend::{
        Owner,
        cql::CqlDesired,
        kafka::{KafkaDesired, TopicDesired},
        keycloak::KeycloakDesired,
        postgres::PostgresDesired,
        redis::RedisDesired,
    },
    tenant::Tenant,
};

/// Sessions of the tenant's role at once: five for each pod of the two services that use PostgreSQL, several times over.
const POSTGRES_CONNECTIONS: i32 = 60;

pub fn kafka(tenant: &Tenant) -> KafkaDesired {
    let topics = Topic::ALL.iter().map(|topic| {
        let mut configs = BTreeMap::new();
        if topic.retention == Retention::Age {
            let retention_ms = tenant.retention.as_secs() * 1000;
            configs.insert("cleanup.policy".to_owned(), "delete".to_owned());
            configs.insert("retention.ms".to_owned(), retention_ms.to_string());
        } else {
            configs.insert("cleanup.policy".to_owned(), "compact".to_owned());
        }
        if topic.log_append_time {
            configs.insert("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
        }
        TopicDesired {
            name: tenant.id.topic(topic.name).to_string(),
            partitions: tenant.partitions,
            replication: tenant.cell.kafka_replication,
            configs,
        }
    });
    let quotas = &tenant.quotas;
    // Kafka keeps quotas as doubles; every whole number up to 2^53 is exact in one.
    let named = [
        ("producer_byte_rate", quotas.producer_bytes_per_second.map(|bytes| bytes as f64)),
        ("consumer_byte_rate", quotas.consumer_bytes_per_second.map(|bytes| bytes as f64)),
        ("request_percentage", quotas.request_percentage.map(f64::from)),
    ];
    KafkaDesired {
        tenant: tenant.id.to_string(),
        owner: owner(tenant),
        password: tenant.secrets.password(Secret::Kafka).clone(),
        topics: topics.collect(),
        quotas: named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect(),
        recorded_topic_ids: if tenant.accepts_kafka_loss {
            BTreeMap::new()
        } else {
            tenant.recorded_topic_ids.clone()
        },
    }
}

pub fn cql(tenant: &Tenant) -> CqlDesired {
    CqlDesired {
        name: tenant.id.keyspace().to_string(),
        owner: owner(tenant),
        password: tenant.secrets.password(Secret::Cql).clone(),
        replication: [(tenant.cell.cql_datacenter.clone(), tenant.cell.cql_replication)].into(),
    }
}

pub fn keycloak(tenant: &Tenant) -> KeycloakDesired {
    let origins: Vec<_> = tenant.routed_hosts().map(|host| tenant.origin(host)).collect();
    KeycloakDesired {
        realm: tenant.id.realm().to_string(),
        owner: owner(tenant),
        display_name: tenant.name.clone(),
        registration_allowed: match tenant.registration {
            Registration::Open => true,
            Registration::InviteOnly => false,
        },
        access_token_seconds: i32::try_from(tenant.access_token_lifetime.as_secs())
            .expect("the schema bounds it to an hour"),
        redirect_uris: origins.iter().map(|origin| format!("{origin}/*")).collect(),
        web_origins: origins,
        roles: Vec::new(),
        auth_client_secret: tenant.secrets.password(Secret::Oidc).clone(),
    }
}

pub fn postgres(tenant: &Tenant) -> PostgresDesired {
    PostgresDesired {
        name: tenant.id.database().to_string(),
        owner: owner(tenant),
        password: tenant.secrets.password(Secret::Postgres).clone(),
        connection_limit: POSTGRES_CONNECTIONS,
    }
}

pub fn redis(tenant: &Tenant) -> RedisDesired {
    RedisDesired {
        tenant: tenant.id.to_string(),
        owner: owner(tenant),
        password: tenant.secrets.password(Secret::Redis).clone(),
    }
}

fn owner(tenant: &Tenant) -> Owner {
    Owner { uid: tenant.uid.clone(), namespace: tenant.namespace.clone() }
}
