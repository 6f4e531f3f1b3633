//! The single calls: one request, its response turned into our own types.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request as alter_quotas;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterUserScramCredentialsRequest, CreateAclsRequest, CreateTopicsRequest,
    DeleteAclsRequest, DeleteGroupsRequest, DeleteTopicsRequest, DescribeAclsRequest,
    DescribeClientQuotasRequest, DescribeConfigsRequest, DescribeUserScramCredentialsRequest, GroupId,
    IncrementalAlterConfigsRequest, ListGroupsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use secrecy::{ExposeSecret, SecretString};

use super::admin::{KafkaAdmin, Topics};
use super::wire::Connection;
use super::{Acl, TopicDesired, TopicObserved, scram};
use crate::backend::error::BackendError;

/// How long the controller itself may take for topics; shorter than our own limit, so that its response still arrives.
const TOPICS_TIMEOUT_MS: i32 = 8_000;
const SCRAM_SHA_512: i8 = 2;
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_GROUP: i8 = 3;
/// "Any" in every ACL filter: resource type, pattern type, operation, permission.
const ANY: i8 = 1;
const CONFIG_SET: i8 = 0;
const CONFIG_DELETE: i8 = 1;
/// `config_source` of an override on the topic itself; everything else is inherited.
const SOURCE_TOPIC: i8 = 1;
const QUOTA_EXACT: i8 = 0;

type Verdicts = Vec<Result<(), BackendError>>;

impl KafkaAdmin {
    /// Returns the topics of `names` that exist, with their overrides.
    pub(super) async fn topics(&self, names: &BTreeSet<&str>) -> Result<Topics, BackendError> {
        let asked =
            names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let answer = self.metadata(Some(asked.collect())).await?;
        let mut topics = Topics::new();
        for topic in answer.topics {
            let Some(name) = topic.name.map(|name| name.0.to_string()) else { continue };
            match ResponseError::try_from_code(topic.error_code) {
                Some(ResponseError::UnknownTopicOrPartition) => continue,
                // A topic just made has no leader for a moment; it exists.
                None | Some(ResponseError::LeaderNotAvailable) => {}
                Some(error) => {
                    return Err(self.refused(&format!("describe topic {name}"), error, error.is_retriable()));
                }
            }
            let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            let id = topic.topic_id.to_string();
            let copies = topic.partitions.iter().map(|partition| partition.replica_nodes.len()).min();
            let replication = copies.and_then(|copies| i32::try_from(copies).ok()).unwrap_or_default();
            let configs = BTreeMap::new();
            topics.insert(name, TopicObserved { id, partitions, replication, configs });
        }
        if !topics.is_empty() {
            self.read_configs(&mut topics).await?;
        }
        Ok(topics)
    }

    async fn read_configs(&self, topics: &mut Topics) -> Result<(), BackendError> {
        let resource = |name: &String| {
            DescribeConfigsResource::default()
                .with_resource_type(RESOURCE_TOPIC)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let request = DescribeConfigsRequest::default().with_resources(topics.keys().map(resource).collect());
        for result in self.call(&request).await?.results {
            let name = result.resource_name.to_string();
            self.verdict(result.error_code, &[], &format!("describe topic {name}"))?;
            let Some(topic) = topics.get_mut(&name) else { continue };
            let overrides = result.configs.into_iter().filter(|config| config.config_source == SOURCE_TOPIC);
            topic.configs = overrides
                .map(|config| {
                    (config.name.to_string(), config.value.map(|v| v.to_string()).unwrap_or_default())
                })
                .collect();
        }
        Ok(())
    }

    /// Returns the names of all topics that start with `prefix`.
    pub(super) async fn topic_names(&self, prefix: &str) -> Result<Vec<String>, BackendError> {
        let answer = self.metadata(None).await?;
        let names = answer.topics.into_iter().filter_map(|topic| topic.name.map(|name| name.0.to_string()));
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    async fn metadata(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
    ) -> Result<MetadataResponse, BackendError> {
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let answer = self.call(&request).await?;
        self.verdict(answer.error_code, &[], "describe topics")?;
        Ok(answer)
    }

    pub(super) async fn create_topics(&self, topics: &[TopicDesired]) -> Result<Verdicts, BackendError> {
        let config = |(key, value): (&String, &String)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        };
        let topic = |topic: &TopicDesired| {
            CreatableTopic::default()
                .with_name(topic_name(&topic.name))
                .with_num_partitions(topic.partitions)
                .with_replication_factor(topic.replication)
                .with_configs(topic.configs.iter().map(config).collect())
        };
        let request = CreateTopicsRequest::default()
            .with_topics(topics.iter().map(topic).collect())
            .with_timeout_ms(TOPICS_TIMEOUT_MS);
        let answer = self.call(&request).await?;
        let verdict = |topic: &TopicDesired| {
            let action = format!("create topic {}", topic.name);
            let result = answer.topics.iter().find(|result| result.name.0.as_str() == topic.name);
            let result = result.ok_or_else(|| self.refused(&action, "no answer for it", true))?;
            self.verdict(result.error_code, &[ResponseError::TopicAlreadyExists], &action)
        };
        Ok(topics.iter().map(verdict).collect())
    }

    /// Deletes topics; one that is gone already is fine.
    pub(super) async fn delete_topics(&self, names: &[String]) -> Result<(), BackendError> {
        if names.is_empty() {
            return Ok(());
        }
        let state = |name: &String| DeleteTopicState::default().with_name(Some(topic_name(name)));
        let request = DeleteTopicsRequest::default()
            .with_topics(names.iter().map(state).collect())
            .with_topic_names(names.iter().map(|name| topic_name(name)).collect())
            .with_timeout_ms(TOPICS_TIMEOUT_MS);
        for result in self.call(&request).await?.responses {
            let name = result.name.map(|name| name.0.to_string()).unwrap_or_default();
            let fine = [ResponseError::UnknownTopicOrPartition];
            self.verdict(result.error_code, &fine, &format!("delete topic {name}"))?;
        }
        Ok(())
    }

    /// Sets (`Some`) and takes away (`None`) overrides, and leaves all others alone.
    pub(super) async fn alter_topic_configs(
        &self,
        edits: &[(String, String, Option<String>)],
    ) -> Result<Verdicts, BackendError> {
        let mut by_topic: BTreeMap<&str, Vec<AlterableConfig>> = BTreeMap::new();
        for (topic, key, value) in edits {
            let operation = if value.is_some() { CONFIG_SET } else { CONFIG_DELETE };
            let config = AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(operation)
                .with_value(value.as_deref().map(text));
            by_topic.entry(topic).or_default().push(config);
        }
        let resource = |(topic, configs): (&str, Vec<AlterableConfig>)| {
            AlterConfigsResource::default()
                .with_resource_type(RESOURCE_TOPIC)
                .with_resource_name(text(topic))
                .with_configs(configs)
        };
        let resources = by_topic.into_iter().map(resource).collect();
        let answer = self.call(&IncrementalAlterConfigsRequest::default().with_resources(resources)).await?;
        let verdict = |(topic, key, _): &(String, String, Option<String>)| {
            let action = format!("set {key} of topic {topic}");
            let result = answer.responses.iter().find(|result| result.resource_name.as_str() == topic);
            let result = result.ok_or_else(|| self.refused(&action, "no answer for it", true))?;
            self.verdict(result.error_code, &[], &action)
        };
        Ok(edits.iter().map(verdict).collect())
    }

    /// Returns every ACL of the user, owner markers included.
    pub(super) async fn acls(&self, user: &str) -> Result<BTreeSet<Acl>, BackendError> {
        let all = self.acls_of(Some(principal(user))).await?;
        Ok(all.into_iter().map(|(_, acl)| acl).collect())
    }

    /// Returns an ACL of another account on a topic or group that starts with `prefix`, and the account.
    pub(super) async fn foreign_acl(
        &self,
        user: &str,
        prefix: &str,
    ) -> Result<Option<(String, Acl)>, BackendError> {
        let own = principal(user);
        let is_foreign = |(account, acl): &(StrBytes, Acl)| {
            *account != own
                && [RESOURCE_TOPIC, RESOURCE_GROUP].contains(&acl.resource_type)
                && acl.resource.starts_with(prefix)
        };
        let found = self.acls_of(None).await?.into_iter().find(is_foreign);
        Ok(found.map(|(account, acl)| (account.to_string(), acl)))
    }

    /// Returns the ACLs of one account or of all, each with the account.
    async fn acls_of(&self, account: Option<StrBytes>) -> Result<Vec<(StrBytes, Acl)>, BackendError> {
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(ANY)
            .with_resource_name_filter(None)
            .with_pattern_type_filter(ANY)
            .with_principal_filter(account)
            .with_host_filter(None)
            .with_operation(ANY)
            .with_permission_type(ANY);
        let answer = self.call(&request).await?;
        self.verdict(answer.error_code, &[], "describe ACLs")?;
        let mut acls = Vec::new();
        for resource in answer.resources {
            acls.extend(resource.acls.into_iter().map(|acl| {
                let own = Acl {
                    resource_type: resource.resource_type,
                    resource: resource.resource_name.to_string(),
                    pattern_type: resource.pattern_type,
                    operation: acl.operation,
                    permission: acl.permission_type,
                    host: acl.host.to_string(),
                };
                (acl.principal, own)
            }));
        }
        Ok(acls)
    }

    pub(super) async fn create_acls(&self, user: &str, acls: &[Acl]) -> Result<Verdicts, BackendError> {
        let creation = |acl: &Acl| {
            AclCreation::default()
                .with_resource_type(acl.resource_type)
                .with_resource_name(text(&acl.resource))
                .with_resource_pattern_type(acl.pattern_type)
                .with_principal(principal(user))
                .with_host(text(&acl.host))
                .with_operation(acl.operation)
                .with_permission_type(acl.permission)
        };
        let request = CreateAclsRequest::default().with_creations(acls.iter().map(creation).collect());
        let results = self.call(&request).await?.results;
        // Results come in the order of the request.
        let codes = results.iter().map(|result| result.error_code).zip(acls);
        Ok(codes.map(|(code, acl)| self.verdict(code, &[], &acl.to_string())).collect())
    }

    pub(super) async fn delete_acls(&self, user: &str, acls: &[Acl]) -> Result<Verdicts, BackendError> {
        if acls.is_empty() {
            return Ok(Vec::new());
        }
        let filter = |acl: &Acl| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(acl.resource_type)
                .with_resource_name_filter(Some(text(&acl.resource)))
                .with_pattern_type_filter(acl.pattern_type)
                .with_principal_filter(Some(principal(user)))
                .with_host_filter(Some(text(&acl.host)))
                .with_operation(acl.operation)
                .with_permission_type(acl.permission)
        };
        let request = DeleteAclsRequest::default().with_filters(acls.iter().map(filter).collect());
        let results = self.call(&request).await?.filter_results;
        let codes = results.iter().map(|result| result.error_code).zip(acls);
        Ok(codes.map(|(code, acl)| self.verdict(code, &[], &format!("revoke: {acl}"))).collect())
    }

    /// Reports whether the user has a SCRAM-SHA-512 credential.
    pub(super) async fn has_user(&self, user: &str) -> Result<bool, BackendError> {
        let users = Some(vec![UserName::default().with_name(text(user))]);
        let answer = self.call(&DescribeUserScramCredentialsRequest::default().with_users(users)).await?;
        self.verdict(answer.error_code, &[], "describe users")?;
        let Some(result) = answer.results.first() else { return Ok(false) };
        self.verdict(
            result.error_code,
            &[ResponseError::ResourceNotFound],
            &format!("describe user {user}"),
        )?;
        Ok(result.credential_infos.iter().any(|info| info.mechanism == SCRAM_SHA_512))
    }

    pub(super) async fn upsert_user(&self, user: &str, password: &SecretString) -> Result<(), BackendError> {
        let salt = scram::random::<16>();
        let salted = scram::salted_password(password.expose_secret(), &salt, scram::ROUNDS);
        let upsertion = ScramCredentialUpsertion::default()
            .with_name(text(user))
            .with_mechanism(SCRAM_SHA_512)
            .with_iterations(i32::try_from(scram::ROUNDS.get()).expect("4096 fits"))
            .with_salt(salt.to_vec().into())
            .with_salted_password(salted.to_vec().into());
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
        self.alter_user(request, &[], &format!("set the password of user {user}")).await
    }

    pub(super) async fn delete_user(&self, user: &str) -> Result<(), BackendError> {
        let deletion = ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(SCRAM_SHA_512);
        let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]);
        self.alter_user(request, &[ResponseError::ResourceNotFound], &format!("delete user {user}")).await
    }

    async fn alter_user(
        &self,
        request: AlterUserScramCredentialsRequest,
        fine: &[ResponseError],
        action: &str,
    ) -> Result<(), BackendError> {
        let results = self.call(&request).await?.results;
        results.iter().try_for_each(|result| self.verdict(result.error_code, fine, action))
    }

    pub(super) async fn quotas(&self, user: &str) -> Result<BTreeMap<String, f64>, BackendError> {
        let component = ComponentData::default()
            .with_entity_type(StrBytes::from_static_str("user"))
            .with_match_type(QUOTA_EXACT)
            .with_match(Some(text(user)));
        let request =
            DescribeClientQuotasRequest::default().with_components(vec![component]).with_strict(true);
        let answer = self.call(&request).await?;
        self.verdict(answer.error_code, &[], "describe quotas")?;
        let values = answer.entries.unwrap_or_default().into_iter().flat_map(|entry| entry.values);
        Ok(values.map(|value| (value.key.to_string(), value.value)).collect())
    }

    /// Sets (`Some`) and takes away (`None`) quotas of a user.
    pub(super) async fn alter_quotas(
        &self,
        user: &str,
        edits: &[(String, Option<f64>)],
    ) -> Result<(), BackendError> {
        let op = |(key, value): &(String, Option<f64>)| {
            alter_quotas::OpData::default()
                .with_key(text(key))
                .with_value(value.unwrap_or_default())
                .with_remove(value.is_none())
        };
        let entity = alter_quotas::EntityData::default()
            .with_entity_type(StrBytes::from_static_str("user"))
            .with_entity_name(Some(text(user)));
        let entry = alter_quotas::EntryData::default()
            .with_entity(vec![entity])
            .with_ops(edits.iter().map(op).collect());
        let answer = self.call(&AlterClientQuotasRequest::default().with_entries(vec![entry])).await?;
        let action = format!("set quotas of user {user}");
        answer.entries.iter().try_for_each(|entry| self.verdict(entry.error_code, &[], &action))
    }

    /// Returns every broker with the consumer groups that it coordinates: a broker lists and deletes no others.
    async fn groups(&self) -> Result<Vec<(Connection, Vec<GroupId>)>, BackendError> {
        let mut all = Vec::new();
        for broker in self.metadata(Some(Vec::new())).await?.brokers {
            let address = format!("{}:{}", broker.host, broker.port);
            let mut connection = self.open_at(&address, self.own_credentials()).await?;
            let answer = self.call_on(&mut connection, &ListGroupsRequest::default()).await?;
            self.verdict(answer.error_code, &[], "list groups")?;
            all.push((connection, answer.groups.into_iter().map(|group| group.group_id).collect()));
        }
        Ok(all)
    }

    /// Returns the names of all consumer groups that start with `prefix`.
    pub(super) async fn group_names(&self, prefix: &str) -> Result<Vec<String>, BackendError> {
        let groups = self.groups().await?.into_iter().flat_map(|(_, groups)| groups);
        let names = groups.map(|group| group.0.to_string());
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    /// Deletes consumer groups, and returns those that existed. A group with members left refuses, which a later try finds gone.
    pub(super) async fn delete_groups(&self, names: &BTreeSet<String>) -> Result<Vec<String>, BackendError> {
        let mut deleted = Vec::new();
        for (mut connection, ids) in self.groups().await? {
            let ids: Vec<_> = ids.into_iter().filter(|id| names.contains(id.0.as_str())).collect();
            if ids.is_empty() {
                continue;
            }
            let request = DeleteGroupsRequest::default().with_groups_names(ids);
            for result in self.call_on(&mut connection, &request).await?.results {
                let group = result.group_id.0.to_string();
                let action = format!("delete group {group}");
                match ResponseError::try_from_code(result.error_code) {
                    Some(error @ ResponseError::NonEmptyGroup) => {
                        return Err(self.refused(&action, error, true));
                    }
                    _ => self.verdict(result.error_code, &[ResponseError::GroupIdNotFound], &action)?,
                }
                deleted.push(group);
            }
        }
        Ok(deleted)
    }
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn principal(user: &str) -> StrBytes {
    StrBytes::from_string(format!("User:{user}"))
}
