//! Tenant isolation: one test for each boundary, attacked with the credentials of another tenant.

use std::time::Duration;

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use catalog::Topic;
use contracts::{
    ChatId, DeviceId, ErrorCode, SubscriptionId, UserId,
    api::FilePurpose,
    rpc::{
        GetMembershipRequest, HistoryRequest, chat_service_client::ChatServiceClient,
        message_service_client::MessageServiceClient,
    },
    wire::{ClientFrame, Command, Connect, ServerFrame},
};
use e2e::{
    World,
    cluster::{OPERATOR_NAMESPACE, management},
    eventually,
    rest::request,
    stack::Account,
    stories::search,
    story,
    users::{TestUser, unused},
    witnesses::photo,
};
use futures_util::{SinkExt, StreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kit::testing::receivers::Browser;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use notification::api::Tokens;
use posthouse_client::{ClientError, Messenger, Post};
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord},
};
use redis::AsyncCommands;
use reqwest::StatusCode;
use serde_json::json;
use sqlx::{Executor, Row};
use tokio_tungstenite::tungstenite::Message as Raw;
use tonic::{Code, Request, metadata::MetadataValue};

const LIMIT: Duration = Duration::from_secs(120);
const MOMENT: Duration = Duration::from_secs(15);
const OURS: &str = "acme";
const THEIRS: &str = "globex";

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_gets_no_host_of_another_one_or_of_the_installation() {
    story(LIMIT * 3, async |world: &World| {
        let name = "e2ehosts";
        world.cluster.delete_tenant(name, LIMIT).await?;
        let hosts = [name, OURS, "e2elater"].map(|id| format!("{id}.localhost"));
        let wanted = [hosts.as_slice(), &["localhost".to_owned()]].concat();
        let spec = json!({ "deletionPolicy": "Delete", "hosts": wanted });
        world.cluster.apply_tenant(name, spec).await?;
        let message = world.cluster.await_reason(name, "RoutesReady", "HostNotAllowed", LIMIT).await?;
        for host in &wanted[1..] {
            ensure!(message.contains(&format!("{host}: it ")), "{host} is not named: {message}");
        }
        let status = world.cluster.tenants(name).get(name).await?.status.context("a status")?;
        ensure!(status.hosts.as_deref() == Some(&wanted[..1]), "it holds {:?}", status.hosts);
        // An account is created at the tenant whose host it is.
        let ann = TestUser::register(&world.stack.messenger(OURS), "ann").await?;
        world.stack.messenger(OURS).me(&ann.token().await?).await?;
        world.cluster.delete_tenant(name, LIMIT).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_nothing_of_another_tenant() {
    story(LIMIT, async |world: &World| {
        let ann = TestUser::register(&world.stack.messenger(OURS), "ann").await?;
        let theirs = world.stack.messenger(THEIRS);
        let (token, chat) = (ann.token().await?, ChatId::generate());
        unauthenticated(theirs.me(&token).await)?;
        unauthenticated(theirs.user(&token, ann.id()).await)?;
        unauthenticated(theirs.search_users(&token, "a").await)?;
        unauthenticated(theirs.chats(&token).await)?;
        unauthenticated(theirs.members(&token, chat).await)?;
        unauthenticated(theirs.history(&token, chat, 0, 10).await)?;
        unauthenticated(theirs.refresh(&ann.identity.refresh_token().await).await)?;
        unauthenticated(theirs.sign_in(ann.identity.username(), &ann.password).await)?;

        let mut socket = theirs.upgrade().await?;
        let connect = Connect { token: token.clone(), device: DeviceId::generate() };
        let frame = ClientFrame { id: Some(1.into()), command: Command::Connect(connect) };
        socket.send(Raw::text(serde_json::to_string(&frame)?)).await?;
        let mut closed = None;
        while let Some(raw) = socket.next().await {
            match raw? {
                Raw::Text(text) => {
                    let frame: ServerFrame = serde_json::from_str(&text)?;
                    ensure!(frame.result.is_none(), "the gateway accepted the token");
                    let code = frame.error.map(|error| error.code);
                    ensure!(code.is_none_or(|code| code == ErrorCode::Unauthenticated), "{code:?}");
                }
                Raw::Close(close) => {
                    closed = close.map(|close| u16::from(close.code));
                    break;
                }
                _ => {}
            }
        }
        ensure!(closed == Some(3500), "the connection was closed with {closed:?}");

        // The same claims without a signature are not a token either.
        let mut parts: Vec<&str> = token.split('.').collect();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        parts[0] = &header;
        parts[2] = "";
        unauthenticated(ann.messenger().me(&parts.join(".")).await)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_another_tenant_are_not_found() {
    story(LIMIT, async |world: &World| {
        let theirs = world.stack.messenger(THEIRS);
        let (their_ann, _their_ben, their_chat) = TestUser::two(&theirs).await?;
        let online = their_ann.online(&[their_chat]).await;
        online.send(their_chat, "only for globex").await?;

        let ours = world.stack.messenger(OURS);
        let cleo = TestUser::register(&ours, "cleo").await?;
        let token = cleo.token().await?;
        let outcome = ours.history(&token, their_chat, 0, 10).await;
        ensure!(code(&outcome) == Some(ErrorCode::NotAMember), "their chat returned {outcome:?}");
        let outcome = ours.user(&token, their_ann.id()).await;
        ensure!(code(&outcome) == Some(ErrorCode::NotFound), "their user returned {outcome:?}");
        let found = ours.user_named(&token, their_ann.identity.username()).await?;
        ensure!(found.is_none(), "their user is found by name");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_user_reads_writes_and_sees_no_topic_of_another_tenant() {
    story(LIMIT, async |world: &World| {
        let account = world.cluster.account(OURS, "kafka").await?;
        let topics = world.stack.kafka_topics(&account).await?;
        ensure!(!topics.is_empty(), "its own topics are shown");
        ensure!(topics.iter().all(|topic| topic.starts_with("acme.")), "it is shown {topics:?}");

        let mut config = world.stack.kafka_config(&account);
        let consumer: BaseConsumer = config.set("group.id", "acme.isolation-test").create()?;
        let read = tokio::task::spawn_blocking(move || -> Result<(), KafkaError> {
            consumer.fetch_metadata(Some("globex.message.send"), MOMENT)?;
            let mut assignment = rdkafka::TopicPartitionList::new();
            assignment.add_partition("globex.message.send", 0);
            consumer.assign(&assignment)?;
            match consumer.poll(MOMENT) {
                Some(outcome) => outcome.map(drop),
                None => Ok(()),
            }
        })
        .await?;
        ensure!(
            read.as_ref().err().and_then(KafkaError::rdkafka_error_code)
                == Some(RDKafkaErrorCode::TopicAuthorizationFailed),
            "reading their log returned {read:?}"
        );

        for topic in Topic::ALL.iter().map(|topic| topic.of("globex")) {
            let producer: FutureProducer = world.stack.kafka_config(&account).create()?;
            let record = FutureRecord::to(&topic).key("k").payload("p");
            let written = producer.send(record, MOMENT).await.map(drop).map_err(|(error, _)| error);
            let denied = written.as_ref().err().and_then(KafkaError::rdkafka_error_code);
            ensure!(
                matches!(
                    denied,
                    Some(
                        RDKafkaErrorCode::TopicAuthorizationFailed
                            | RDKafkaErrorCode::UnknownTopicOrPartition
                            | RDKafkaErrorCode::UnknownTopic
                    )
                ),
                "writing to {topic} returned {written:?}"
            );
        }
        // The consumer group of another tenant is as inaccessible as its topics.
        let mut config = world.stack.kafka_config(&account);
        let consumer: BaseConsumer = config.set("group.id", "globex.message").create()?;
        let joined = tokio::task::spawn_blocking(move || -> Result<(), KafkaError> {
            consumer.subscribe(&["acme.message.send"])?;
            consumer.poll(MOMENT).map_or(Ok(()), |outcome| outcome.map(drop))
        })
        .await?;
        ensure!(
            joined.as_ref().err().and_then(KafkaError::rdkafka_error_code)
                == Some(RDKafkaErrorCode::GroupAuthorizationFailed),
            "their consumer group returned {joined:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cql_role_reads_and_changes_nothing_of_another_tenant() {
    story(LIMIT, async |world: &World| {
        let account = world.cluster.account(OURS, "cql").await?;
        let session = world.stack.cql(&account).await?;
        let tables = session
            .query_unpaged(
                "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'mt_globex'",
                (),
            )
            .await?
            .into_rows_result()?;
        let tables: Vec<String> =
            tables.rows::<(String,)>()?.map(|row| row.map(|(name,)| name)).collect::<Result<_, _>>()?;
        ensure!(!tables.is_empty(), "globex has tables");
        for table in tables {
            for statement in
                [format!("SELECT * FROM mt_globex.{table} LIMIT 1"), format!("TRUNCATE mt_globex.{table}")]
            {
                denied(&statement, session.query_unpaged(statement.as_str(), ()).await)?;
            }
        }
        for statement in [
            "CREATE TABLE mt_globex.spy (id int PRIMARY KEY)",
            "DROP KEYSPACE mt_globex",
            "CREATE KEYSPACE spy WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
            "CREATE ROLE spy WITH PASSWORD = 'spy' AND LOGIN = true",
            "ALTER ROLE mt_globex WITH PASSWORD = 'spy'",
            "GRANT SELECT ON KEYSPACE mt_globex TO mt_acme",
            "SELECT * FROM system_auth.roles",
        ] {
            denied(statement, session.query_unpaged(statement, ()).await)?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_role_enters_no_other_database() {
    story(LIMIT, async |world: &World| {
        let account = world.cluster.account(OURS, "postgres").await?;
        for database in ["mt_globex", "postgres", "keycloak", "template1"] {
            let entered = world.stack.postgres(&account, database).await;
            ensure!(entered.is_err(), "role {} enters database {database}", account.username);
        }
        let mut own = world.stack.postgres(&account, "mt_acme").await?;
        for statement in ["CREATE DATABASE spy", "CREATE ROLE spy", "SET ROLE mt_globex", "SELECT rolpassword FROM pg_authid"] {
            let outcome = own.execute(statement).await;
            ensure!(outcome.is_err(), "{statement} is allowed");
        }
        let row = sqlx::query("SELECT rolsuper OR rolcreaterole OR rolcreatedb AS power FROM pg_roles WHERE rolname = current_user");
        let row = row.fetch_one(&mut own).await?;
        ensure!(!row.try_get::<bool, _>("power")?, "the role has powers beyond its database");
        Ok(())
    })
    .await;
}

/// The cell says `VerifyFull`. What a server gets that is not the right one, tests of the operator and of the services show.
#[tokio::test(flavor = "multi_thread")]
async fn services_reach_the_database_by_tls_alone() {
    story(LIMIT, async |world: &World| {
        // The user service writes a profile.
        TestUser::register(&world.stack.messenger(OURS), "ann").await?;
        let mut admin = world.stack.postgres(&world.stack.pg_admin, "postgres").await?;
        // Sessions of services have a name, those of tests none.
        let query =
            "SELECT application_name, bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE usename = 'mt_acme' AND application_name <> '' GROUP BY application_name";
        let sessions: Vec<(String, bool)> = sqlx::query_as(query).fetch_all(&mut admin).await?;
        ensure!(
            sessions.iter().any(|(service, _)| service == "user_service"),
            "who has a session: {sessions:?}"
        );
        ensure!(sessions.iter().all(|(_, has_tls)| *has_tls), "who has TLS: {sessions:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_keys_subscriptions_and_reports_are_a_tenants_own() {
    story(LIMIT * 3, async |world: &World| {
        let (name, limit) = ("e2eowned", LIMIT + MOMENT);
        world.cluster.delete_tenant(name, limit).await?;
        let services = json!({ "notification": { "enabled": true }, "moderation": { "enabled": true } });
        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Delete", "services": services })).await?;
        world.cluster.await_ready(name, limit).await?;
        let theirs = world.stack.messenger(name);
        let ann = TestUser::register(&theirs, "ann").await?;
        let token = ann.token().await?;
        let body = Browser::new().subscription("https://push.example/1");
        let line = "POST /api/notifications/subscriptions";
        let subscription = request(&theirs, line, Some(&token), Some(&body)).await?.ok()?;

        // What their push key follows from is in a Secret of theirs, which no account of our namespace reads.
        let secret = async |tenant: &str| {
            let secret = world.cluster.secret(tenant, &format!("{tenant}-vapid")).await?;
            secret.get("secret").cloned().context("the Secret has a secret")
        };
        let (our_secret, their_secret) = (secret(OURS).await?, secret(name).await?);
        ensure!(our_secret != their_secret, "two tenants have one push key");
        for deployment in world.cluster.deployments(OURS).list(&ListParams::default()).await? {
            let pod = deployment.spec.and_then(|spec| spec.template.spec).context("a Deployment has pods")?;
            let account = pod.service_account_name.context("pods have an account of their own")?;
            for namespace in [name, OURS] {
                let may = may_read_secrets(world, OURS, &account, namespace).await?;
                ensure!(!may, "account {account} of {OURS} reads Secrets of {namespace}");
            }
        }

        // A link that is signed with our secret confirms and ends nothing of theirs; one with theirs does.
        let id: SubscriptionId = serde_json::from_value(subscription["id"].clone())?;
        let (ours_made, theirs_made) = (Tokens::new(&our_secret.into()), Tokens::new(&their_secret.into()));
        let end = async |tokens: &Tokens| {
            let line = format!("POST /api/notifications/unsubscriptions/{}", tokens.ending(id));
            request(&theirs, &line, None, None).await
        };
        end(&ours_made).await?.refused(StatusCode::NOT_FOUND)?;
        let confirm = json!({ "token": ours_made.confirming(id) });
        let line = "POST /api/notifications/confirmations";
        request(&theirs, line, None, Some(&confirm)).await?.refused(StatusCode::NOT_FOUND)?;
        let listed = async || {
            let line = "GET /api/notifications/subscriptions";
            let listed = request(&theirs, line, Some(&token), None).await?.ok()?;
            listed["items"].as_array().map(Vec::len).context("a list")
        };
        ensure!(listed().await? == 1, "a link of another tenant ended a subscription");
        end(&theirs_made).await?.ok()?;
        ensure!(listed().await? == 0, "the link of a mail ends nothing");

        // A user of ours is none of theirs.
        let eve = TestUser::register(&world.stack.messenger(OURS), "eve").await?;
        let token = eve.token().await?;
        for line in [
            "GET /api/notifications/channels",
            "GET /api/notifications/subscriptions",
            "GET /api/notifications/preferences",
            "GET /api/moderation/own",
            "GET /api/moderation/reports",
        ] {
            request(&theirs, line, Some(&token), None).await?.refused(StatusCode::UNAUTHORIZED)?;
        }

        // Their schemas are in their database, which our role does not enter.
        let mut admin = world.stack.postgres(&world.stack.pg_admin, &format!("mt_{name}")).await?;
        let query = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('notification_service', 'moderation_service')";
        let schemas: i64 = sqlx::query_scalar(query).fetch_one(&mut admin).await?;
        ensure!(schemas == 2, "{schemas} schemas are there");
        let account = world.cluster.account(OURS, "postgres").await?;
        let entered = world.stack.postgres(&account, &format!("mt_{name}")).await;
        ensure!(entered.is_err(), "role {} enters the database of {name}", account.username);
        drop(admin);
        world.cluster.delete_tenant(name, limit).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_tenants_search_for_is_found_in_their_own() {
    story(LIMIT * 4, async |world: &World| {
        let (name, limit) = ("e2efound", LIMIT + MOMENT);
        world.cluster.delete_tenant(name, limit).await?;
        let services = json!({ "media": { "enabled": true }, "search": { "enabled": true } });
        world.cluster.apply_tenant(name, json!({ "deletionPolicy": "Delete", "services": services })).await?;
        world.cluster.await_ready(name, limit).await?;
        let (theirs, ours) = (world.stack.messenger(name), world.stack.messenger(OURS));

        // Both tenants have users of the same names, with the same words in chats of the same names.
        let (ann, ben) = (unused("ann"), unused("ben"));
        let word = unused("tide").replace('-', "");
        let sides = (
            Side::begin(&theirs, [&ann, &ben], &word).await?,
            Side::begin(&ours, [&ann, &ben], &word).await?,
        );
        for (side, other) in [(&sides.0, &sides.1), (&sides.1, &sides.0)] {
            for query in [word.as_str(), "has:image", "has:file"] {
                search::finds(&side.ben, query, &[(side.chat, side.seq)]).await?;
            }
            let (chats, users) =
                (search::chats(&side.ben, &word).await?, search::users(&side.ben, &ann).await?);
            ensure!(chats == [side.chat] && users == [side.ann.id()], "found: {chats:?} and {users:?}");

            // By its id, a chat of the other tenant is one that the user is not in.
            let (own, messenger) = (side.ben.token().await?, side.ben.messenger());
            let line = format!("GET /api/search/messages?q={word}&chat={}", other.chat);
            eventually("it is refused, once searches of before are not too many", MOMENT, || async {
                request(messenger, &line, Some(&own), None).await?.refused(StatusCode::FORBIDDEN)
            })
            .await?;
            // A token of the other tenant opens no search.
            let foreign = other.ben.token().await?;
            for path in ["messages?q=has:file", "chats?q=a", "users?q=a", "status"] {
                let line = format!("GET /api/search/{path}");
                request(messenger, &line, Some(&foreign), None).await?.refused(StatusCode::UNAUTHORIZED)?;
            }
        }
        world.cluster.delete_tenant(name, limit).await?;
        Ok(())
    })
    .await;
}

/// Two users of a tenant, and a message with a picture in their chat.
struct Side {
    ann: TestUser,
    ben: TestUser,
    chat: ChatId,
    seq: i64,
}

impl Side {
    async fn begin(messenger: &Messenger, names: [&str; 2], word: &str) -> anyhow::Result<Self> {
        let [ann, ben] = names.map(|name| TestUser::register_as(messenger, name.to_owned()));
        let (ann, ben) = (ann.await?, ben.await?);
        let chat = ann.group(&format!("Harbour {word}"), &[ben.id()]).await?;
        let picture = ann.identity.upload(FilePurpose::Chat(chat), &photo()).await?;
        let seq = ann.online(&[chat]).await.post(chat, Post::files(word, vec![picture.id])).await?;
        Ok(Self { ann, ben, chat, seq })
    }
}

/// Returns whether a service account of a namespace may read the Secrets of one.
async fn may_read_secrets(world: &World, of: &str, account: &str, namespace: &str) -> anyhow::Result<bool> {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("get".to_owned()),
        resource: Some("secrets".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{of}:{account}")),
            groups: Some(vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{of}")]),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(world.cluster.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("a review has an answer")?.allowed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_user_reaches_no_key_or_channel_of_another_tenant() {
    story(LIMIT, async |world: &World| {
        let mut admin = world.stack.redis(&world.stack.redis_admin).await?;
        admin.set_ex::<_, _, ()>("mt:globex:secret", "theirs", 60).await?;
        let account = world.cluster.account(OURS, "redis").await?;
        let mut connection = world.stack.redis(&account).await?;
        let mut refuse = async |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            let outcome: redis::RedisResult<redis::Value> = command.query_async(&mut connection).await;
            match outcome {
                Err(error) if error.code() == Some("NOPERM") => Ok(()),
                other => Err(anyhow::anyhow!("{words:?} returned {other:?}")),
            }
        };
        for words in [
            ["GET", "mt:globex:secret"].as_slice(),
            &["SET", "mt:globex:secret", "ours"],
            &["SETEX", "mt:globex:secret", "60", "ours"],
            &["DEL", "mt:globex:secret"],
            // What is kept of their users, and in its place something of ours.
            &["ZRANGE", "mt:globex:cache:users.1:ann", "0", "0", "REV"],
            &["ZADD", "mt:globex:cache:users.1:ann", "9", "ours"],
            &["ZREMRANGEBYSCORE", "mt:globex:cache:users.1:ann", "-inf", "9"],
            &["PEXPIREAT", "mt:globex:cache:users.1:ann", "1"],
            &["EVAL", "return redis.call('GET', ARGV[1])", "0", "mt:globex:secret"],
            &["SETRANGE", "mt:acme:large", "125000000", "x"],
            &["CLIENT", "TRACKING", "ON", "BCAST"],
            &["PUBLISH", "mt:globex:x", "hello"],
            &["SUBSCRIBE", "mt:globex:x"],
            &["PSUBSCRIBE", "*"],
            &["KEYS", "*"],
            &["SCAN", "0"],
            &["RANDOMKEY"],
            &["DBSIZE"],
            &["FLUSHALL"],
            &["ACL", "LIST"],
            &["CONFIG", "GET", "*"],
            &["MONITOR"],
        ] {
            refuse(words).await?;
        }
        let untouched: String = admin.get("mt:globex:secret").await?;
        ensure!(untouched == "theirs", "their key was changed");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_token_is_refused_by_another_tenants_services() {
    story(LIMIT, async |world: &World| {
        let address = async |service: &str| {
            let name = format!("{THEIRS}-{}", world.cluster.workload(THEIRS, service).await?);
            world.cluster.service_address(THEIRS, &name, "grpc").await
        };
        let (chat, message) = (address("chat").await?, address("message").await?);
        let our_token = world.cluster.secret(OURS, "acme-internal").await?;
        let our_token = our_token.get("token").context("Secret acme-internal has a token")?;
        let mut chat = ChatServiceClient::connect(chat).await?;
        let mut message = MessageServiceClient::connect(message).await?;
        let id = ChatId::generate().to_string();
        for token in [None, Some("guess"), Some(our_token.as_str())] {
            let membership =
                GetMembershipRequest { chat_id: id.clone(), user_id: UserId::generate().to_string() };
            let outcome = chat.get_membership(bearing(membership, token)?).await;
            ensure!(
                outcome.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated),
                "chat returned {outcome:?}"
            );
            let history = HistoryRequest { chat_id: id.clone(), limit: 1, ..HistoryRequest::default() };
            let outcome = message.history(bearing(history, token)?).await;
            ensure!(
                outcome.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated),
                "message returned {outcome:?}"
            );
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_answer_the_scraper_with_the_tenants_own_token() {
    story(LIMIT, async |world: &World| {
        let cluster = &world.cluster;
        let (ours, theirs) = (cluster.metrics_token(OURS).await?, cluster.metrics_token(THEIRS).await?);
        let client = reqwest::Client::new();
        // Any pod of the cluster reaches this port, where no policy is enforced.
        let status = async |address: &str, page: &str, token: Option<&str>| {
            anyhow::Ok(management(&client, address, page, token).await?.status().as_u16())
        };
        let tenants = cluster.running_addresses(THEIRS).await?;
        let operators = cluster.running_addresses(OPERATOR_NAMESPACE).await?;
        for address in tenants.iter().chain(&operators) {
            for (whose, token) in
                [("no", None), ("a wrong", Some("guess")), ("another tenant's", Some(&*ours))]
            {
                let found = status(address, "metrics", token).await?;
                ensure!(found == 401, "{address} returned {found} for {whose} token");
            }
            // The kubelet has no token.
            ensure!(status(address, "livez", None).await? == 200, "{address} fails the probe");
        }
        for address in &tenants {
            let found = status(address, "metrics", Some(&theirs)).await?;
            ensure!(found == 200, "{address} returned {found} for its own token");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realms_service_account_administers_no_other_realm() {
    story(LIMIT, async |world: &World| {
        let account: Account = world.cluster.account(OURS, "oidc").await?;
        let ours = world.stack.keycloak_as(OURS, &account).await?;
        ensure!(ours.status("/admin/realms/acme/users?max=1").await? == 200, "it manages its own users");
        for path in [
            "/admin/realms/globex/users",
            "/admin/realms/globex",
            "/admin/realms/master/users",
            "/admin/realms/acme/clients/none/client-secret",
        ] {
            let status = ours.status(path).await?;
            ensure!(status == 401 || status == 403, "{path} returned {status}");
        }
        let foreign = world.stack.keycloak_as(THEIRS, &account).await;
        ensure!(foreign.is_err(), "its secret signs in at another realm");
        Ok(())
    })
    .await;
}

fn bearing<T>(message: T, token: Option<&str>) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}"))?);
    }
    Ok(request)
}

fn code<T>(outcome: &Result<T, ClientError>) -> Option<ErrorCode> {
    outcome.as_ref().err().and_then(ClientError::code)
}

fn unauthenticated<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> anyhow::Result<()> {
    ensure!(
        code(&outcome) == Some(ErrorCode::Unauthenticated),
        "the call is not refused as unauthenticated: {outcome:?}"
    );
    Ok(())
}

fn denied<T>(statement: &str, outcome: Result<T, scylla::errors::ExecutionError>) -> anyhow::Result<()> {
    match outcome {
        Ok(_) => anyhow::bail!("{statement} is allowed"),
        Err(error) => {
            let text = format!("{error:?}");
            ensure!(text.contains("Unauthorized"), "{statement} fails for another reason: {error}");
            Ok(())
        }
    }
}
