//! RabbitMQ, and a stand-in for its management API.

use std::marker::PhantomData;

use catalog::{DEAD_LETTERS, JOB_CHANNELS, JOB_EXCHANGE, job_queue};
use crds::TenantId;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueDeclareOptions,
    },
    tcp::OwnedTLSConfig,
    types::FieldTable,
};
use operator::backend::{
    Backend, Claim, Credentials, Marker, Owner,
    rabbitmq::{RabbitMqAdmin, RabbitMqDesired},
};
use reqwest::{Certificate, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    admin_account, authority,
    conformance::{Fixture, suite},
    converge, env, operator_account, owner, password, story, tenant_id,
};

mod fake;

/// One broker.
pub trait Broker: 'static {
    /// `host:port` of the management API.
    fn address() -> String;

    /// Its scheme.
    fn scheme() -> &'static str;

    /// The authority of its certificate, if it has one.
    fn authority() -> Vec<Certificate>;

    /// The operator's account.
    fn account() -> Credentials;

    /// The account of what is done without the operator.
    fn administrator() -> Credentials;

    /// Publishes a job with the tenant's account. Returns how many wait.
    async fn publish(desired: &RabbitMqDesired) -> Result<i64, String>;
}

pub struct Real;

impl Broker for Real {
    fn address() -> String {
        env("RABBITMQ_ADDRESS")
    }

    fn scheme() -> &'static str {
        "https"
    }

    fn authority() -> Vec<Certificate> {
        Certificate::from_pem_bundle(authority("RABBITMQ").as_bytes()).unwrap()
    }

    fn account() -> Credentials {
        operator_account("RABBITMQ")
    }

    fn administrator() -> Credentials {
        admin_account("RABBITMQ")
    }

    async fn publish(desired: &RabbitMqDesired) -> Result<i64, String> {
        let connection = connect(desired, &desired.name).await.map_err(|error| error.to_string())?;
        let published = publish(&connection).await.map_err(|error| error.to_string());
        drop(connection.close(200, "OK".into()).await);
        published
    }
}

pub struct Fake;

impl Broker for Fake {
    fn address() -> String {
        fake::address()
    }

    fn scheme() -> &'static str {
        "http"
    }

    fn authority() -> Vec<Certificate> {
        Vec::new()
    }

    fn account() -> Credentials {
        Credentials::new(fake::USERNAME, fake::PASSWORD)
    }

    fn administrator() -> Credentials {
        Self::account()
    }

    async fn publish(desired: &RabbitMqDesired) -> Result<i64, String> {
        let account = Credentials::new(desired.name.as_str(), desired.password.clone());
        let path = format!("publish/{}", desired.name);
        let (status, count) = request::<Self>(&account, Method::POST, &path, json!({})).await;
        if status.is_success() { Ok(count.as_i64().unwrap()) } else { Err(format!("{status} {count}")) }
    }
}

/// Connects with the account of a tenant to a virtual host.
async fn connect(desired: &RabbitMqDesired, virtual_host: &str) -> lapin::Result<Connection> {
    let RabbitMqDesired { name, password, .. } = desired;
    let (password, address) = (password.expose_secret(), env("RABBITMQ_AMQP_ADDRESS"));
    let uri = format!("amqps://{name}:{password}@{address}/{virtual_host}");
    let trust = OwnedTLSConfig { identity: None, cert_chain: Some(authority("RABBITMQ")) };
    let runtime = lapin::runtime::default_runtime()?;
    Connection::connect_with_config(&uri, ConnectionProperties::default(), trust, runtime).await
}

/// Publishes a job. Returns how many wait in its queue.
async fn publish(connection: &Connection) -> lapin::Result<i64> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel.basic_publish(JOB_EXCHANGE.into(), "webhook".into(), options, b"a job", properties);
    let confirmation = confirm.await?.await?;
    assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "it has a queue");
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(job_queue("webhook").into(), options, FieldTable::default()).await?;
    Ok(queue.message_count().into())
}

/// Sends a request without the operator.
async fn request<B: Broker>(
    account: &Credentials,
    method: Method,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let url = format!("{}://{}/api/{path}", B::scheme(), B::address());
    let http = reqwest::Client::builder().tls_certs_merge(B::authority()).build().unwrap();
    let mut request = http.request(method.clone(), url);
    request = request.basic_auth(&account.username, Some(account.password.expose_secret()));
    if method != Method::GET {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap_or_else(|error| {
        panic!("{error}: the suite needs RabbitMQ, which `make up-backends WITH=rabbitmq` starts")
    });
    let status = answer.status();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

/// Does something as an administrator, which has to succeed.
async fn by_hand<B: Broker>(method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = request::<B>(&B::administrator(), method.clone(), path, body).await;
    assert!(status.is_success(), "{method} {path}: {status} {answer}");
    answer
}

pub struct At<B>(PhantomData<B>);

impl<B: Broker> Fixture for At<B> {
    type Backend = RabbitMqAdmin;

    fn address() -> String {
        B::address()
    }

    fn account() -> Credentials {
        B::account()
    }

    fn connect(address: &str, account: Credentials) -> RabbitMqAdmin {
        RabbitMqAdmin::new(&format!("{}://{address}", B::scheme()), account, &B::authority())
    }

    fn desired(id: &TenantId, owner: Owner, password: SecretString) -> RabbitMqDesired {
        RabbitMqDesired { name: RabbitMqAdmin::name(id), owner, password, max_connections: 4 }
    }

    async fn use_account(desired: &RabbitMqDesired) -> Result<i64, String> {
        B::publish(desired).await
    }

    async fn edit(RabbitMqDesired { name, .. }: &RabbitMqDesired) -> Vec<String> {
        by_hand::<B>(Method::DELETE, &format!("vhost-limits/{name}/max-queues"), json!({})).await;
        by_hand::<B>(Method::DELETE, &format!("user-limits/{name}/max-channels"), json!({})).await;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        by_hand::<B>(Method::PUT, &format!("permissions/{name}/{name}"), all).await;
        let user = json!({"password": "another", "tags": "monitoring"});
        by_hand::<B>(Method::PUT, &format!("users/{name}"), user).await;
        vec![
            format!("set limits of virtual host {name}"),
            format!("set password, tags, permissions, limits of user {name}"),
        ]
    }

    async fn create_foreign(name: &str) {
        by_hand::<B>(Method::PUT, &format!("vhosts/{name}"), json!({})).await;
    }

    async fn foreign(name: &str) -> String {
        let definitions = by_hand::<B>(Method::GET, &format!("definitions/{name}"), json!({})).await;
        let limits = by_hand::<B>(Method::GET, &format!("vhost-limits/{name}"), json!({})).await;
        let user = request::<B>(&B::administrator(), Method::GET, &format!("users/{name}"), json!({})).await;
        let (queues, exchanges) = (&definitions["queues"], &definitions["exchanges"]);
        format!("{queues} {exchanges} {limits} {}", user.0)
    }

    async fn remove_foreign(name: &str) {
        request::<B>(&B::administrator(), Method::DELETE, &format!("vhosts/{name}"), json!({})).await;
    }

    async fn mark(_: &RabbitMqAdmin, RabbitMqDesired { name, .. }: &RabbitMqDesired, _: &Marker, to: &str) {
        let path = format!("global-parameters/posthouse-owner-{name}");
        by_hand::<B>(Method::PUT, &path, json!({"value": to})).await;
    }
}

fn admin<B: Broker>() -> RabbitMqAdmin {
    At::<B>::connect(&B::address(), B::account())
}

fn desired<B: Broker>() -> RabbitMqDesired {
    At::<B>::desired(&tenant_id(), owner(), password())
}

fn claim(desired: &RabbitMqDesired) -> Claim {
    Claim { name: desired.name.clone(), owner: desired.owner.clone() }
}

/// A queue of other arguments cannot be changed, and what was in it comes from the service again.
async fn a_queue_that_is_another_one_is_made_again<B: Broker>() {
    let (admin, desired) = (admin::<B>(), desired::<B>());
    let name = &desired.name;
    let body = async {
        converge(&admin, &desired).await;
        by_hand::<B>(Method::DELETE, &format!("vhosts/{name}"), json!({})).await;
        by_hand::<B>(Method::PUT, &format!("vhosts/{name}"), json!({})).await;
        let classic =
            json!({"name": job_queue("email"), "durable": true, "auto_delete": false, "arguments": {}});
        let body = json!({"queues": [classic]});
        by_hand::<B>(Method::POST, &format!("definitions/{name}"), body).await;
        let changes = converge(&admin, &desired).await;
        let expected = [
            format!("recreate virtual host {name}, whose queue notify.email is another one"),
            format!("set permissions of user {name}"),
        ];
        assert_eq!(changes, expected);
        assert_eq!(B::publish(&desired).await, Ok(1));
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

/// What an administrator gives a tenant's user elsewhere is taken back, and what is missing is made.
async fn a_user_has_nothing_in_another_virtual_host<B: Broker>() {
    let (admin, desired, other) = (admin::<B>(), desired::<B>(), desired::<B>());
    let body = async {
        converge(&admin, &desired).await;
        converge(&admin, &other).await;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let path = format!("permissions/{}/{}", other.name, desired.name);
        by_hand::<B>(Method::PUT, &path, all).await;
        assert_eq!(converge(&admin, &desired).await, [format!("set permissions of user {}", desired.name)]);
        let path = format!("users/{}/permissions", desired.name);
        let left = by_hand::<B>(Method::GET, &path, json!({})).await;
        assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
        assert_eq!(converge(&admin, &other).await, [""; 0]);
    };
    let clean_up = async {
        _ = admin.remove(&claim(&desired)).await;
        _ = admin.remove(&claim(&other)).await;
    };
    story(body, clean_up).await;
}

/// Fails unless the broker refuses it.
async fn refused<T>(what: &str, attempt: impl AsyncFnOnce(Channel) -> lapin::Result<T>, at: &Connection) {
    // A refusal closes the channel.
    let channel = at.create_channel().await.unwrap();
    let Err(error) = attempt(channel).await else { panic!("{what} is allowed") };
    assert!(error.to_string().contains("ACCESS_REFUSED"), "{what}: {error}");
}

#[tokio::test]
async fn one_tenant_gets_nothing_of_another_and_cannot_change_its_own_queues() {
    let (admin, victim, intruder) = (admin::<Real>(), desired::<Real>(), desired::<Real>());
    let body = async {
        converge(&admin, &victim).await;
        converge(&admin, &intruder).await;
        assert_eq!(Real::publish(&victim).await, Ok(1));
        assert!(connect(&intruder, &victim.name).await.is_err(), "a virtual host of others");
        assert!(connect(&intruder, "%2f").await.is_err(), "that of the broker");
        let own = connect(&intruder, &intruder.name).await.unwrap();
        let durable = QueueDeclareOptions::durable();
        let declare = async |channel: Channel| {
            channel.queue_declare("another".into(), durable, FieldTable::default()).await
        };
        refused("another queue", declare, &own).await;
        let declare = async |channel: Channel| {
            let (kind, options) = (lapin::ExchangeKind::Fanout, ExchangeDeclareOptions::default());
            channel.exchange_declare("another".into(), kind, options, FieldTable::default()).await
        };
        refused("another exchange", declare, &own).await;
        let purge = async |channel: Channel| {
            channel.queue_delete(job_queue("webhook").into(), Default::default()).await
        };
        refused("removal of a queue", purge, &own).await;
        let read =
            async |channel: Channel| channel.basic_get(DEAD_LETTERS.into(), BasicGetOptions::default()).await;
        refused("dead letters", read, &own).await;
        let publish = async |channel: Channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            channel.basic_publish("".into(), DEAD_LETTERS.into(), options, b"x", properties).await?.await
        };
        refused("the default exchange", publish, &own).await;
        // What the services do.
        let channel = own.create_channel().await.unwrap();
        for name in JOB_CHANNELS {
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            channel.basic_consume(job_queue(name).into(), "".into(), options, arguments).await.unwrap();
        }
        drop(own.close(200, "OK".into()).await);
        let account = Credentials::new(intruder.name.as_str(), intruder.password.clone());
        for path in ["whoami".to_owned(), "vhosts".to_owned(), format!("queues/{}", intruder.name)] {
            let (status, answer) = request::<Real>(&account, Method::GET, &path, json!({})).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}: {answer}");
        }
        assert_eq!(Real::publish(&victim).await, Ok(2), "nothing was taken");
    };
    let clean_up = async {
        _ = admin.remove(&claim(&victim)).await;
        _ = admin.remove(&claim(&intruder)).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn a_tenant_has_no_more_connections_than_its_cell_lets_it() {
    let (admin, desired) = (admin::<Real>(), desired::<Real>());
    let body = async {
        converge(&admin, &desired).await;
        let mut open = Vec::new();
        for _ in 0..desired.max_connections {
            open.push(connect(&desired, &desired.name).await.unwrap());
        }
        assert!(connect(&desired, &desired.name).await.is_err(), "one more");
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

mod real {
    use super::*;

    suite!(At<Real>);

    #[tokio::test]
    async fn a_queue_that_is_another_one_is_made_again() {
        super::a_queue_that_is_another_one_is_made_again::<Real>().await;
    }

    #[tokio::test]
    async fn a_user_has_nothing_in_another_virtual_host() {
        super::a_user_has_nothing_in_another_virtual_host::<Real>().await;
    }
}

mod stand_in {
    use super::*;

    suite!(At<Fake>);

    #[tokio::test]
    async fn a_queue_that_is_another_one_is_made_again() {
        super::a_queue_that_is_another_one_is_made_again::<Fake>().await;
    }

    #[tokio::test]
    async fn a_user_has_nothing_in_another_virtual_host() {
        super::a_user_has_nothing_in_another_virtual_host::<Fake>().await;
    }
}
