//! The backends themselves, queried directly: as their administrator, or with a tenant's own account.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use catalog::Topic;
use operator::backend::{
    Backend, Credentials, Owner, Ownership,
    kafka::{KafkaAdmin, KafkaDesired, KafkaObserved, TopicDesired},
    s3::S3Admin,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use redis::{Client as RedisClient, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use serde_json::{Value, json};
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::stack::{Account, Stack};

const TIMEOUT: Duration = Duration::from_secs(10);

impl Stack {
    /// Returns Kafka client settings for an account.
    pub fn kafka_config(&self, account: &Account) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.kafka_bootstrap)
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "SCRAM-SHA-512")
            .set("sasl.username", &account.username)
            .set("sasl.password", &account.password)
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", "8000");
        config
    }

    /// Returns the topics an account is shown.
    pub async fn kafka_topics(&self, account: &Account) -> anyhow::Result<Vec<String>> {
        let consumer: BaseConsumer = self.kafka_config(account).create()?;
        let metadata = tokio::task::spawn_blocking(move || consumer.fetch_metadata(None, TIMEOUT)).await??;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// Returns the consumer groups of a tenant, in order.
    pub async fn kafka_groups(&self, tenant_id: &str) -> anyhow::Result<Vec<String>> {
        let consumer: BaseConsumer = self.kafka_config(&self.kafka_admin).create()?;
        let prefix = format!("{tenant_id}.");
        // The list itself does not leave its thread.
        let read = move || -> Result<Vec<String>, KafkaError> {
            let listed = consumer.fetch_group_list(None, TIMEOUT)?;
            let names = listed.groups().iter().map(|group| group.name().to_owned());
            Ok(names.filter(|name| name.starts_with(&prefix)).collect())
        };
        let mut names = tokio::task::spawn_blocking(read).await??;
        names.sort();
        Ok(names)
    }

    /// Returns the end of each partition of a topic: the offset of the next record.
    pub async fn topic_ends(&self, topic: &str) -> anyhow::Result<BTreeMap<i32, i64>> {
        let consumer: BaseConsumer = self.kafka_config(&self.kafka_admin).create()?;
        let topic = topic.to_owned();
        let read = move || -> Result<BTreeMap<i32, i64>, KafkaError> {
            let metadata = consumer.fetch_metadata(Some(&topic), TIMEOUT)?;
            let mut ends = BTreeMap::new();
            for partition in metadata.topics().iter().flat_map(|of| of.partitions()) {
                let (_, end) = consumer.fetch_watermarks(&topic, partition.id(), TIMEOUT)?;
                ends.insert(partition.id(), end);
            }
            Ok(ends)
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }

    pub async fn topic_setting(&self, topic: &str, setting: &str) -> anyhow::Result<String> {
        let admin: AdminClient<DefaultClientContext> = self.kafka_config(&self.kafka_admin).create()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let mut described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await?;
        let resource = described.pop().context("a result for one topic")?.map_err(anyhow::Error::from)?;
        let entry = resource
            .entries
            .into_iter()
            .find(|e| e.name == setting && e.source == ConfigSource::DynamicTopic);
        entry.and_then(|entry| entry.value).with_context(|| format!("{topic} does not set {setting}"))
    }

    /// Sets one topic setting by hand, as an administrator would who does not know the operator: the others are lost.
    pub async fn set_topic_setting(&self, topic: &str, setting: &str, value: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.kafka_config(&self.kafka_admin).create()?;
        let alter = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(setting, value);
        let mut altered =
            admin.alter_configs([&alter], &AdminOptions::new().request_timeout(Some(TIMEOUT))).await?;
        altered.pop().context("a result for one topic")?.map_err(|(_, code)| code)?;
        Ok(())
    }

    /// Deletes a topic by hand, with what is in it.
    pub async fn delete_topic(&self, topic: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.kafka_config(&self.kafka_admin).create()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let mut deleted = admin.delete_topics(&[topic], &options).await?;
        deleted.pop().context("a result for one topic")?.map_err(|(_, code)| code)?;
        Ok(())
    }

    /// Returns everything of a tenant in Kafka: topics, user, ACLs, quotas. What another owner's marker is on is an
    /// error.
    pub async fn kafka_of(&self, tenant_id: &str, owner: &Owner) -> anyhow::Result<KafkaObserved> {
        let credentials = Credentials::new(&self.kafka_admin.username, self.kafka_admin.password.as_str());
        let desired = KafkaDesired {
            tenant: tenant_id.into(),
            owner: owner.clone(),
            password: "none".into(),
            // Only their names are looked at.
            topics: Topic::ALL
                .iter()
                .map(|topic| TopicDesired {
                    name: topic.of(tenant_id),
                    partitions: 0,
                    replication: 0,
                    outlives_a_process: false,
                    is_optional: false,
                    configs: BTreeMap::new(),
                })
                .collect(),
            quotas: BTreeMap::new(),
            recorded_topic_ids: BTreeMap::new(),
            accepts_loss: false,
        };
        Ok(KafkaAdmin::new(&self.kafka_bootstrap, None, credentials).observe(&desired).await?)
    }

    /// Returns whose a tenant's bucket and account are. What another owner's marker is on is an error.
    pub async fn s3_of(&self, tenant_id: &str, owner: Owner) -> anyhow::Result<Ownership> {
        let credentials = Credentials::new(&self.s3_admin.username, self.s3_admin.password.as_str());
        let url = |address: &str| format!("http://{address}");
        let (store, accounts) = (url(&self.s3_addr), url(&self.s3_accounts_addr));
        let admin = S3Admin::new(&store, &accounts, "us-east-1", credentials);
        Ok(admin.ownership(&S3Admin::claim(&tenant_id.parse()?, owner)).await?)
    }

    pub async fn cql(&self, account: &Account) -> anyhow::Result<Session> {
        Ok(SessionBuilder::new()
            .known_node(&self.cql_contact_point)
            .user(&account.username, &account.password)
            .connection_timeout(TIMEOUT)
            .build()
            .await?)
    }

    pub async fn postgres(&self, account: &Account, database: &str) -> anyhow::Result<PgConnection> {
        let options = PgConnectOptions::new()
            .host(&self.pg_host)
            .port(self.pg_port)
            .username(&account.username)
            .password(&account.password)
            .database(database)
            .ssl_mode(PgSslMode::Disable);
        Ok(tokio::time::timeout(TIMEOUT, PgConnection::connect_with(&options)).await??)
    }

    pub async fn redis(&self, account: &Account) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        let login = RedisConnectionInfo::default()
            .set_username(account.username.as_str())
            .set_password(account.password.as_str());
        let info: ConnectionInfo = format!("redis://{}", self.redis_addr).into_connection_info()?;
        let client = RedisClient::open(info.set_redis_settings(login))?;
        Ok(tokio::time::timeout(TIMEOUT, client.get_multiplexed_async_connection()).await??)
    }

    /// Returns how many consumers the queues of a tenant have at RabbitMQ.
    pub async fn queue_consumers(&self, tenant_id: &str) -> anyhow::Result<usize> {
        let Account { username, password } = &self.rabbitmq_admin;
        let url = format!("https://{}/api/consumers/mt-{tenant_id}", self.rabbitmq_addr);
        // Not there in a stack without RabbitMQ.
        let authority = std::fs::read_to_string(&self.rabbitmq_ca)?;
        let http = kit::tls::trusting(reqwest::Client::builder(), Some(&authority))?.build()?;
        let request = http.get(url).basic_auth(username, Some(password)).timeout(TIMEOUT);
        let consumers: Vec<Value> = request.send().await?.error_for_status()?.json().await?;
        Ok(consumers.len())
    }

    /// Returns an administrator of all realms.
    pub async fn keycloak(&self) -> anyhow::Result<Keycloak> {
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", &self.keycloak_admin.username),
            ("password", &self.keycloak_admin.password),
        ];
        Keycloak::with(&self.keycloak_url, "master", &form).await
    }

    /// Returns a realm's client with its own rights.
    pub async fn keycloak_as(&self, realm: &str, client: &Account) -> anyhow::Result<Keycloak> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client.username.as_str()),
            ("client_secret", client.password.as_str()),
        ];
        Keycloak::with(&self.keycloak_url, realm, &form).await
    }

    /// Returns what is left of a tenant in any backend, in words; empty when nothing is.
    pub async fn remains(&self, tenant_id: &str) -> anyhow::Result<Vec<String>> {
        let mut remains = Vec::new();
        let no_owner =
            Owner { uid: "none".into(), namespace: "none".into(), name: "none".into(), heir_of: Vec::new() };
        match self.kafka_of(tenant_id, &no_owner).await {
            Ok(found) if found == KafkaObserved::default() => {}
            Ok(found) => remains.push(format!("Kafka: {found:?}")),
            // Something is there that is not marked as ours, which is all that matters here.
            Err(error) => remains.push(format!("Kafka: {error}")),
        }
        let topics = self.kafka_topics(&self.kafka_admin).await?;
        let prefix = format!("{tenant_id}.");
        remains.extend(
            topics
                .into_iter()
                .filter(|topic| topic.starts_with(&prefix))
                .map(|topic| format!("topic {topic}")),
        );

        let object = format!("mt_{tenant_id}");
        let cql = self.cql(&self.cql_admin).await?;
        let keyspaces = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        if count(&cql, keyspaces, &object).await? > 0 {
            remains.push(format!("keyspace {object}"));
        }
        if count(&cql, "SELECT role FROM system_auth.roles WHERE role = ?", &object).await? > 0 {
            remains.push(format!("CQL role {object}"));
        }

        let mut postgres = self.postgres(&self.pg_admin, "postgres").await?;
        let databases = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1")
            .bind(&object)
            .fetch_all(&mut postgres);
        if !databases.await?.is_empty() {
            remains.push(format!("database {object}"));
        }
        let roles =
            sqlx::query("SELECT 1 FROM pg_roles WHERE rolname = $1").bind(&object).fetch_all(&mut postgres);
        if !roles.await?.is_empty() {
            remains.push(format!("database role {object}"));
        }

        let mut redis = self.redis(&self.redis_admin).await?;
        let users: Vec<String> = redis::cmd("ACL").arg("USERS").query_async(&mut redis).await?;
        if users.iter().any(|user| user == tenant_id) {
            remains.push(format!("Redis user {tenant_id}"));
        }
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(format!("mt:{tenant_id}:*")).query_async(&mut redis).await?;
        remains.extend(keys.into_iter().map(|key| format!("Redis key {key}")));

        match self.s3_of(tenant_id, no_owner).await {
            Ok(Ownership::Absent) => {}
            Ok(found) => remains.push(format!("S3: {found:?}")),
            Err(error) => remains.push(format!("S3: {error}")),
        }

        if self.keycloak().await?.status(&format!("/admin/realms/{tenant_id}")).await? != 404 {
            remains.push(format!("realm {tenant_id}"));
        }
        Ok(remains)
    }
}

async fn count(session: &Session, statement: &str, name: &str) -> anyhow::Result<usize> {
    let rows = session.query_unpaged(statement, (name,)).await?.into_rows_result()?;
    Ok(rows.rows_num())
}

/// How much was written to the backends, as far as they report it.
#[derive(Debug, PartialEq, Eq)]
pub struct Writes {
    /// Changes with every statement that defines something.
    pub cql_schema: String,
    /// Changes of ACL users since Redis started.
    pub redis_users: u64,
    /// Everything of each tenant in Kafka and Keycloak, as it is.
    pub kafka: String,
    pub realms: String,
}

impl Stack {
    /// Returns what shows a write by comparison with itself later, for tenants by their id and their resource.
    pub async fn writes(&self, tenants: &[(&str, Owner)]) -> anyhow::Result<Writes> {
        let cql = self.cql(&self.cql_admin).await?;
        let rows =
            cql.query_unpaged("SELECT schema_version FROM system.local", ()).await?.into_rows_result()?;
        let (cql_schema,): (uuid::Uuid,) = rows.single_row()?;
        let mut redis = self.redis(&self.redis_admin).await?;
        let statistics: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await?;
        let redis_users = statistics
            .lines()
            .filter(|line| line.starts_with("cmdstat_acl|setuser") || line.starts_with("cmdstat_acl|deluser"))
            .filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok())
            .sum();
        let keycloak = self.keycloak().await?;
        let (mut kafka, mut realms) = (String::new(), String::new());
        for (tenant, owner) in tenants {
            kafka += &format!("{:?}", self.kafka_of(tenant, owner).await?);
            realms += &keycloak.get(&format!("/admin/realms/{tenant}")).await?.to_string();
        }
        Ok(Writes {
            cql_schema: cql_schema.to_string(),
            redis_users,
            kafka: digest(&kafka),
            realms: digest(&realms),
        })
    }
}

/// Returns a short stand-in for a long text.
fn digest(text: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A client of Keycloak's admin API with the rights of one account.
pub struct Keycloak {
    http: Arc<reqwest::Client>,
    url: String,
    token: String,
}

impl Keycloak {
    async fn with(url: &str, realm: &str, form: &[(&str, &str)]) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let endpoint = format!("{url}/realms/{realm}/protocol/openid-connect/token");
        let response =
            http.post(endpoint).form(form).send().await?.error_for_status()?.json::<Value>().await?;
        let token = response["access_token"].as_str().context("a token")?.to_owned();
        Ok(Self { http: Arc::new(http), url: url.to_owned(), token })
    }

    /// Returns the HTTP status of a path.
    pub async fn status(&self, path: &str) -> anyhow::Result<u16> {
        let response = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await?;
        Ok(response.status().as_u16())
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let response =
            self.http.delete(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await?;
        ensure!(response.status().is_success() || response.status() == 404, "{path}: {}", response.status());
        Ok(())
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let call = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        Ok(call.send().await?.error_for_status()?.json().await?)
    }

    /// Returns a client of a realm by its client id.
    pub async fn client(&self, realm: &str, client_id: &str) -> anyhow::Result<Value> {
        let found = self.get(&format!("/admin/realms/{realm}/clients?clientId={client_id}")).await?;
        found.get(0).cloned().with_context(|| format!("realm {realm} has no client {client_id}"))
    }

    /// Edits a client of a realm by hand.
    pub async fn edit_client(
        &self,
        realm: &str,
        client_id: &str,
        field: &str,
        value: Value,
    ) -> anyhow::Result<()> {
        let id =
            self.client(realm, client_id).await?["id"].as_str().context("a client has an id")?.to_owned();
        let call = self
            .http
            .put(format!("{}/admin/realms/{realm}/clients/{id}", self.url))
            .bearer_auth(&self.token)
            .json(&json!({ "clientId": client_id, field: value }));
        let response = call.send().await?;
        ensure!(response.status().is_success(), "Keycloak refused the edit: {}", response.status());
        Ok(())
    }
}
