//! A virtual host at the real RabbitMQ, with the queues that the operator makes for a tenant.

use contracts::api::NotificationChannel;
use kit::{
    catalog::{DEAD_LETTERS, JOB_CHANNELS, JOB_EXCHANGE, job_queue},
    config::RabbitMqArgs,
    testing::wait_for,
    tls::trusting,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::stand::PATIENCE;

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make up-backends WITH=rabbitmq` and `source .local/stack.env`, then the tests again")
    })
}

/// A virtual host and a user of the same name.
pub struct RealBroker {
    name: String,
    password: String,
}

impl RealBroker {
    pub async fn start() -> Self {
        let name = format!("test-{}", uuid::Uuid::new_v4().simple());
        let broker = Self { password: uuid::Uuid::new_v4().simple().to_string(), name };
        let name = &broker.name;
        broker.call(Method::PUT, &format!("vhosts/{name}"), json!({})).await;
        let jobs = json!({"x-queue-type": "quorum", "x-dead-letter-exchange": DEAD_LETTERS,
            "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"});
        let queue = |name: &str, arguments: &Value| json!({"vhost": broker.name, "name": name, "durable": true, "auto_delete": false, "arguments": arguments});
        let binding = |exchange: &str, queue: &str, key: &str| {
            json!({"vhost": broker.name, "source": exchange, "destination": queue, "destination_type": "queue", "routing_key": key,
                "arguments": {}})
        };
        let exchange = |name: &str, kind: &str| {
            json!({"vhost": broker.name, "name": name, "type": kind, "durable": true, "auto_delete": false, "internal": false,
                "arguments": {}})
        };
        let mut queues: Vec<_> = JOB_CHANNELS.iter().map(|one| queue(&job_queue(one), &jobs)).collect();
        queues.push(queue(DEAD_LETTERS, &json!({"x-queue-type": "quorum"})));
        let mut bindings: Vec<_> =
            JOB_CHANNELS.iter().map(|one| binding(JOB_EXCHANGE, &job_queue(one), one)).collect();
        bindings.push(binding(DEAD_LETTERS, DEAD_LETTERS, ""));
        let exchanges = [exchange(JOB_EXCHANGE, "direct"), exchange(DEAD_LETTERS, "fanout")];
        let definitions = json!({"exchanges": exchanges, "queues": queues, "bindings": bindings});
        broker.call(Method::POST, "definitions", definitions).await;
        let user = json!({"password": broker.password, "tags": ""});
        broker.call(Method::PUT, &format!("users/{name}"), user).await;
        // What the operator gives a tenant.
        let permission = json!({"configure": "^$", "write": format!("^{JOB_EXCHANGE}$"),
            "read": format!("^{JOB_EXCHANGE}\\.({})$", JOB_CHANNELS.join("|"))});
        broker.call(Method::PUT, &format!("permissions/{name}/{name}"), permission).await;
        // The administrator moves messages below.
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        broker
            .call(Method::PUT, &format!("permissions/{name}/{}", env("RABBITMQ_ADMIN_USERNAME")), all)
            .await;
        broker
    }

    pub fn settings(&self) -> RabbitMqArgs {
        let url = format!("amqps://{}", env("RABBITMQ_AMQP_ADDRESS"));
        RabbitMqArgs {
            rabbitmq_url: Some(url.parse().expect("a URL")),
            rabbitmq_virtual_host: Some(self.name.clone()),
            rabbitmq_username: Some(self.name.clone()),
            rabbitmq_password: Some(self.password.clone().into()),
        }
    }

    /// Returns the authority of its certificate, in PEM.
    pub fn ca_bundle() -> String {
        std::fs::read_to_string(env("RABBITMQ_CA")).expect("the authority of RabbitMQ's certificate")
    }

    /// Sends a request as an administrator.
    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("https://{}/api/{path}", env("RABBITMQ_ADDRESS"));
        let (user, password) = (env("RABBITMQ_ADMIN_USERNAME"), env("RABBITMQ_ADMIN_PASSWORD"));
        let http = trusting(reqwest::Client::builder(), Some(&Self::ca_bundle()));
        let http = http.and_then(reqwest::ClientBuilder::build).expect("a client");
        let mut request = http.request(method.clone(), url).basic_auth(user, Some(password));
        if method != Method::GET {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap_or_else(|error| {
            panic!("{error}: the test needs RabbitMQ, which `make up-backends WITH=rabbitmq` starts")
        });
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Returns how many consume from the queue of a channel.
    pub async fn consumers(&self, channel: NotificationChannel) -> u64 {
        let consumers = self.call(Method::GET, &format!("consumers/{}", self.name), Value::Null).await;
        let queue = job_queue(channel.as_str());
        let consumers = consumers.as_array().cloned().unwrap_or_default();
        consumers.iter().map(|one| u64::from(one["queue"]["name"] == queue.as_str())).sum()
    }

    /// Waits until so many dead letters can be read, and puts them back among them.
    pub async fn wait_for_dead(&self, count: usize) {
        let path = format!("queues/{}/{DEAD_LETTERS}/get", self.name);
        wait_for("dead letters", PATIENCE, || async {
            let body = json!({"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"});
            let letters = self.call(Method::POST, &path, body).await;
            (letters.as_array().map(Vec::len) == Some(count)).then_some(())
        })
        .await;
    }

    /// Moves one dead letter back to the queue of a channel, with its headers, as a shovel does.
    pub async fn put_dead_back(&self, channel: NotificationChannel) {
        let path = format!("queues/{}/{DEAD_LETTERS}/get", self.name);
        let body = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let letters = self.call(Method::POST, &path, body).await;
        let letter = &letters[0];
        let body = json!({"properties": letter["properties"], "routing_key": channel.as_str(),
            "payload": letter["payload"], "payload_encoding": letter["payload_encoding"]});
        let path = format!("exchanges/{}/{JOB_EXCHANGE}/publish", self.name);
        assert_eq!(self.call(Method::POST, &path, body).await["routed"], true);
    }

    /// Ends every connection of the tenant's user.
    pub async fn end_connections(&self) {
        let own = || async {
            let all = self.call(Method::GET, "connections", Value::Null).await;
            let all = all.as_array().cloned().unwrap_or_default();
            let own = all.iter().filter(|one| one["user"] == self.name.as_str());
            own.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        // The statistics of a connection come a few seconds behind it.
        let names = wait_for("the connection", PATIENCE, || async {
            let names = own().await;
            (!names.is_empty()).then_some(names)
        })
        .await;
        for name in names {
            let name = name.replace(' ', "%20").replace('>', "%3E").replace(':', "%3A");
            self.call(Method::DELETE, &format!("connections/{name}"), json!({})).await;
        }
        wait_for("the end of the connection", PATIENCE, || async { own().await.is_empty().then_some(()) })
            .await;
    }

    /// Waits until no queue has a message.
    pub async fn is_at_rest(&self) {
        wait_for("empty queues", PATIENCE, || async {
            let queues = self.call(Method::GET, &format!("queues/{}", self.name), Value::Null).await;
            let queues = queues.as_array().cloned().unwrap_or_default();
            queues.iter().all(|queue| queue["messages"] == 0).then_some(())
        })
        .await;
    }

    pub async fn remove(&self) {
        self.call(Method::DELETE, &format!("users/{}", self.name), json!({})).await;
        self.call(Method::DELETE, &format!("vhosts/{}", self.name), json!({})).await;
    }
}
