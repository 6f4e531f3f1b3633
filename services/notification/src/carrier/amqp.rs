//! The queues of RabbitMQ, over AMQP 0-9-1. The operator makes them; the tenant's user may publish to one exchange and consume from the queues of jobs.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contracts::api::NotificationChannel;
use futures_util::StreamExt as _;
use kit::{
    catalog::{JOB_EXCHANGE, job_queue},
    config::RabbitMqArgs,
    tls::Untrusted,
};
use lapin::{
    Acker, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    auth::AuthProvider,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    tcp::OwnedTLSConfig,
    types::{FieldTable, LongString, ShortString},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Mutex, time::timeout};
use tonic::async_trait;

use super::{
    Acknowledge, Receipt,
    queues::{Broker, BrokerError, Delivery, Session},
};
use crate::domain::{MAX_AT_ONCE, Ticket};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A call to a quorum queue waits for the disks of most of its nodes.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A broker that says nothing for twice as long is away.
const HEARTBEAT_SECONDS: u16 = 10;
/// A message is on the disks of the broker before it is confirmed.
const PERSISTENT: u8 = 2;
/// The key of what is published to see whether the broker confirms it. No queue is bound by it.
const CHECK: &str = "check";
/// Where the broker notes that a message was a dead letter.
const DEATHS: &str = "x-death";

/// The tenant's virtual host. Two connections carry all channels of a process; they are made when they are needed. With `amqps` they have TLS or are not
/// made: certificate and host are verified before the account is presented, and nothing is tried without TLS. While the broker has an alarm for memory
/// or disk it reads nothing from a connection that publishes: what is consumed has another one, and is acknowledged all the same.
pub struct Amqp {
    /// Without the password: the library shows it in its log.
    uri: AMQPUri,
    password: SecretString,
    /// Certificates in PEM that are trusted beside the public ones.
    ca_bundle: Option<String>,
    publishing: Mutex<Option<Arc<Connection>>>,
    consuming: Mutex<Option<Arc<Connection>>>,
}

impl Amqp {
    /// Returns the broker of these settings, or nothing where they name none.
    ///
    /// # Errors
    ///
    /// A setting is missing or is not what it should be.
    pub fn new(settings: RabbitMqArgs, ca_bundle: Option<&str>) -> anyhow::Result<Option<Self>> {
        let RabbitMqArgs { rabbitmq_url, rabbitmq_virtual_host, rabbitmq_username, rabbitmq_password } =
            settings;
        let Some(url) = rabbitmq_url else { return Ok(None) };
        let (scheme, port) = match url.scheme() {
            "amqp" => (AMQPScheme::AMQP, 5672),
            "amqps" => (AMQPScheme::AMQPS, 5671),
            other => anyhow::bail!("--rabbitmq-url begins with {other}, which is neither amqp nor amqps"),
        };
        let host = url.host_str().context("--rabbitmq-url has no host")?.to_owned();
        let username = rabbitmq_username.context("RabbitMQ needs --rabbitmq-username")?;
        let userinfo = AMQPUserInfo { username, password: String::new() };
        let query = AMQPQueryString { heartbeat: Some(HEARTBEAT_SECONDS), ..AMQPQueryString::default() };
        let uri = AMQPUri {
            scheme,
            authority: AMQPAuthority { userinfo, host, port: url.port().unwrap_or(port) },
            vhost: rabbitmq_virtual_host.context("RabbitMQ needs --rabbitmq-virtual-host")?,
            query,
        };
        Ok(Some(Self {
            uri,
            password: rabbitmq_password.context("RabbitMQ needs RABBITMQ_PASSWORD")?,
            ca_bundle: ca_bundle.map(str::to_owned),
            publishing: Mutex::default(),
            consuming: Mutex::default(),
        }))
    }

    /// Returns one of the connections of the process, another one where the last is gone.
    async fn connection(
        &self,
        connection: &Mutex<Option<Arc<Connection>>>,
    ) -> Result<Arc<Connection>, BrokerError> {
        // Held meanwhile: the channels of a process wait for one connection.
        let mut connection = connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|connection| connection.status().connected()) {
            return Ok(open.clone());
        }
        *connection = None;
        let failed = |error: lapin::Error| match Untrusted::of(&error) {
            Some(why) => BrokerError::Untrusted { why, source: Box::new(error) },
            None => BrokerError::Connect(Box::new(error)),
        };
        let username = self.uri.authority.userinfo.username.clone();
        let login = Login { username, password: self.password.clone() };
        let properties = ConnectionProperties::default()
            .with_connection_name("posthouse notification".into())
            .with_auth_provider(login);
        let trust = OwnedTLSConfig { identity: None, cert_chain: self.ca_bundle.clone() };
        let runtime = lapin::runtime::default_runtime().map_err(failed)?;
        let opening = Connection::connect_uri_with_config(self.uri.clone(), properties, trust, runtime);
        let opened = timeout(CONNECT_LIMIT, opening).await.map_err(|_| BrokerError::Late(CONNECT_LIMIT))?;
        let opened = Arc::new(opened.map_err(failed)?);
        *connection = Some(opened.clone());
        Ok(opened)
    }
}

/// The account of the tenant (RFC 4616).
struct Login {
    username: String,
    password: SecretString,
}

impl AuthProvider for Login {
    fn mechanism(&self) -> ShortString {
        "PLAIN".into()
    }

    fn auth_starter(&self) -> Result<LongString, String> {
        Ok(format!("\0{}\0{}", self.username, self.password.expose_secret()).into())
    }
}

#[async_trait]
impl Broker for Amqp {
    async fn open(&self, channel: NotificationChannel) -> Result<Box<dyn Session>, BrokerError> {
        let consumes = self.connection(&self.consuming).await?;
        let publishes = self.connection(&self.publishing).await?;
        let queue = job_queue(channel.as_str());
        let opening = async {
            let publishing = publishes.create_channel().await?;
            publishing.confirm_select(ConfirmSelectOptions::default()).await?;
            check(&publishing).await?;
            let consuming = consumes.create_channel().await?;
            let prefetch = u16::try_from(MAX_AT_ONCE).unwrap_or(u16::MAX);
            consuming.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer =
                consuming.basic_consume(queue.as_str().into(), "".into(), options, arguments).await?;
            Ok::<_, lapin::Error>((publishing, consuming, consumer))
        };
        let (publishing, consuming, consumer) = within(&queue, opening).await?;
        Ok(Box::new(AmqpSession {
            _connections: [publishes, consumes],
            publishing,
            _consuming: consuming,
            consumer,
            channel,
            queue,
        }))
    }
}

/// Two channels, one of each connection: an error in one of them ends the session.
struct AmqpSession {
    publishing: Channel,
    consumer: Consumer,
    channel: NotificationChannel,
    queue: String,
    /// Both are closed when the last who has them is gone.
    _consuming: Channel,
    _connections: [Arc<Connection>; 2],
}

#[async_trait]
impl Session for AmqpSession {
    async fn consumers(&mut self) -> Result<usize, BrokerError> {
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let asked = self.publishing.queue_declare(self.queue.as_str().into(), options, FieldTable::default());
        let found = within(&self.queue, asked).await?;
        Ok(usize::try_from(found.consumer_count()).unwrap_or(usize::MAX))
    }

    async fn publish(&mut self, tickets: &[Ticket]) -> Result<Vec<Ticket>, BrokerError> {
        let publishing = async {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let mut confirms = Vec::with_capacity(tickets.len());
            for ticket in tickets {
                let properties = BasicProperties::default()
                    .with_delivery_mode(PERSISTENT)
                    .with_content_type("application/json".into())
                    .with_message_id(ticket.number.to_string().into());
                let (exchange, key) = (JOB_EXCHANGE.into(), self.channel.as_str().into());
                let body = ticket.write();
                let confirm =
                    self.publishing.basic_publish(exchange, key, options, &body, properties).await?;
                confirms.push((*ticket, confirm));
            }
            let mut confirmed = Vec::with_capacity(confirms.len());
            for (ticket, confirm) in confirms {
                confirmed.push((ticket, confirm.await?));
            }
            Ok::<_, lapin::Error>(confirmed)
        };
        let mut refused = Vec::new();
        for (ticket, confirmation) in within(&self.queue, publishing).await? {
            match confirmation {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => {
                    return Err(BrokerError::Unroutable { queue: self.queue.clone() });
                }
                Confirmation::Nack(_) | Confirmation::NotRequested => refused.push(ticket),
            }
        }
        Ok(refused)
    }

    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let queue = || self.queue.clone();
        match self.consumer.next().await {
            Some(Ok(message)) => {
                let headers = message.properties.headers().as_ref();
                Ok(Delivery {
                    has_died: headers.is_some_and(|headers| headers.contains_key(DEATHS)),
                    body: message.data,
                    receipt: Receipt::of(Message(message.acker)),
                })
            }
            Some(Err(error)) => Err(BrokerError::Use { queue: queue(), source: Box::new(error) }),
            None => Err(BrokerError::Cancelled { queue: queue() }),
        }
    }
}

/// Waits until the broker confirms what is published. Nothing has the key of these messages: they reach no queue. A broker with an alarm may take the first
/// one, and stops reading behind it.
async fn check(publishing: &Channel) -> lapin::Result<()> {
    for _ in 0..2 {
        let (exchange, key) = (JOB_EXCHANGE.into(), CHECK.into());
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        publishing.basic_publish(exchange, key, options, &[], properties).await?.await?;
    }
    Ok(())
}

/// A message that is not acknowledged yet.
struct Message(Acker);

#[async_trait]
impl Acknowledge for Message {
    async fn ack(&self) {
        note(self.0.ack(BasicAckOptions::default())).await;
    }

    async fn reject(&self) {
        note(self.0.reject(BasicRejectOptions { requeue: false })).await;
    }
}

/// Waits until the broker has it. One that is away puts the message back, and it stands for nothing then.
async fn note(told: impl Future<Output = lapin::Result<bool>>) {
    if !matches!(timeout(CALL_LIMIT, told).await, Ok(Ok(true))) {
        tracing::debug!("a message is not acknowledged: the broker is away");
    }
}

/// Waits for the response of the broker.
async fn within<T>(queue: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    let done = timeout(CALL_LIMIT, call).await.map_err(|_| BrokerError::Late(CALL_LIMIT))?;
    done.map_err(|error| BrokerError::Use { queue: queue.to_owned(), source: Box::new(error) })
}

#[cfg(test)]
mod tests {
    use kit::catalog::JOB_CHANNELS;

    use super::*;

    fn settings(url: &str) -> RabbitMqArgs {
        RabbitMqArgs {
            rabbitmq_url: Some(url.parse().expect("a URL")),
            rabbitmq_virtual_host: Some("mt-acme".to_owned()),
            rabbitmq_username: Some("mt-acme".to_owned()),
            rabbitmq_password: Some("secret-word".to_owned().into()),
        }
    }

    #[test]
    fn every_channel_has_a_queue() {
        let channels: Vec<_> = NotificationChannel::ALL.into_iter().map(|channel| channel.as_str()).collect();
        for channel in &channels {
            assert!(JOB_CHANNELS.contains(channel), "{channel}: name it in JOB_CHANNELS of the catalog");
            assert_ne!(*channel, CHECK, "what is checked by reaches no queue");
        }
        assert_eq!(channels.len(), JOB_CHANNELS.len());
    }

    #[test]
    fn a_broker_has_the_port_of_its_scheme_and_shows_no_password() {
        for (url, port) in
            [("amqp://rabbitmq", 5672), ("amqps://rabbitmq", 5671), ("amqp://rabbitmq:15670", 15_670)]
        {
            let broker = Amqp::new(settings(url), None).expect("it is legal").expect("it is there");
            assert_eq!((broker.uri.authority.port, broker.uri.vhost.as_str()), (port, "mt-acme"));
            assert!(!format!("{:?}", broker.uri).contains("secret-word"));
        }
        assert!(Amqp::new(settings("http://rabbitmq"), None).is_err());
        assert!(Amqp::new(RabbitMqArgs::default(), None).expect("it is legal").is_none());
        let bare = RabbitMqArgs { rabbitmq_password: None, ..settings("amqp://rabbitmq") };
        assert!(Amqp::new(bare, None).is_err());
    }

    #[test]
    fn the_account_is_presented_in_plain() {
        let login = Login { username: "mt-acme".to_owned(), password: "secret-word".to_owned().into() };
        assert_eq!(login.mechanism().as_str(), "PLAIN");
        assert_eq!(login.auth_starter().expect("a text").as_bytes(), b"\0mt-acme\0secret-word");
    }
}
