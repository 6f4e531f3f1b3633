//! What a system that dies, hangs or drops connections does to its admin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use operator::backend::BackendError;
use operator::backend::cql::{CqlAdmin, CqlFlavor};
use operator::backend::kafka::KafkaAdmin;
use operator::backend::keycloak::KeycloakAdmin;
use operator::backend::postgres::PostgresAdmin;
use operator::backend::redis::RedisAdmin;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::{assert_reason, env, operator_account};

/// A door to a system that can be slammed: everything that went through it breaks.
struct Door {
    port: u16,
    target: String,
    listening: Option<AbortHandle>,
    tasks: JoinSet<()>,
}

impl Door {
    async fn open(target: String) -> Self {
        let mut door = Self { port: 0, target, listening: None, tasks: JoinSet::new() };
        door.reopen().await;
        door
    }

    async fn reopen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let target = self.target.clone();
        self.listening = Some(self.tasks.spawn(async move {
            // Dropped with this task, so that slamming the door ends what went through it.
            let mut sessions = JoinSet::new();
            while let Ok((mut inside, _)) = listener.accept().await {
                let target = target.clone();
                sessions.spawn(async move {
                    let mut outside = TcpStream::connect(target).await.unwrap();
                    _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                });
            }
        }));
    }

    async fn slam(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Observes, drops every connection, observes again; shuts the door for good, finds it shut; opens it, observes again.
async fn survives<T>(mut door: Door, observe: impl AsyncFn() -> Result<T, BackendError>) {
    observe().await.unwrap();
    door.slam().await;
    door.reopen().await;
    observe().await.expect("a dropped connection is replaced within the call");
    door.slam().await;
    let started = Instant::now();
    assert_reason(observe().await, "BackendUnavailable");
    assert!(started.elapsed() < Duration::from_secs(1), "a shut door is noticed at once");
    door.reopen().await;
    observe().await.expect("the system is back");
}

fn port(door: &Door) -> u16 {
    door.port
}

#[tokio::test]
async fn kafka_connections_are_replaced() {
    let door = Door::open(env("KAFKA_BOOTSTRAP")).await;
    let admin = KafkaAdmin::new(format!("127.0.0.1:{}", port(&door)), operator_account("KAFKA"));
    let desired = super::kafka::desired();
    survives(door, async || admin.observe(&desired).await).await;
}

#[tokio::test]
async fn keycloak_connections_are_replaced() {
    let url = env("KEYCLOAK_URL");
    let door = Door::open(url.trim_start_matches("http://").to_owned()).await;
    let admin =
        KeycloakAdmin::new(format!("http://127.0.0.1:{}", port(&door)), super::keycloak::operator_account());
    let desired = super::keycloak::desired();
    survives(door, async || admin.observe(&desired).await).await;
}

#[tokio::test]
async fn postgres_connections_are_replaced() {
    let door = Door::open(format!("{}:{}", env("PG_HOST"), env("PG_PORT"))).await;
    let admin = PostgresAdmin::new("127.0.0.1", port(&door), operator_account("PG"));
    let desired = super::postgres::desired();
    survives(door, async || admin.observe(&desired).await).await;
}

#[tokio::test]
async fn redis_connections_are_replaced() {
    let door = Door::open(format!("{}:{}", env("REDIS_HOST"), env("REDIS_PORT"))).await;
    let admin = RedisAdmin::new("127.0.0.1", port(&door), operator_account("REDIS"));
    let desired = super::redis::desired();
    survives(door, async || admin.observe(&desired).await).await;
}

/// Accepts connections and never says a word.
async fn hung_system() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_hung_system_is_given_up_in_time() {
    let (_listener, port) = hung_system().await;
    let started = Instant::now();
    let address = format!("127.0.0.1:{port}");
    let kafka = KafkaAdmin::new(address.clone(), operator_account("KAFKA"));
    let cql = CqlAdmin::new(vec![address.clone()], CqlFlavor::Cassandra, operator_account("CQL"));
    let keycloak = KeycloakAdmin::new(format!("http://{address}"), super::keycloak::operator_account());
    let postgres = PostgresAdmin::new("127.0.0.1", port, operator_account("PG"));
    let redis = RedisAdmin::new("127.0.0.1", port, operator_account("REDIS"));
    tokio::join!(
        async { assert_reason(kafka.observe(&super::kafka::desired()).await, "BackendUnavailable") },
        async { assert_reason(cql.observe(&super::cql::desired()).await, "BackendUnavailable") },
        async { assert_reason(keycloak.observe(&super::keycloak::desired()).await, "BackendUnavailable") },
        async { assert_reason(postgres.observe(&super::postgres::desired()).await, "BackendUnavailable") },
        async { assert_reason(redis.observe(&super::redis::desired()).await, "BackendUnavailable") },
    );
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn many_reconciles_share_one_admin() {
    let admin = Arc::new(super::kafka::admin(operator_account("KAFKA")));
    let tenants: Vec<_> = (0..8).map(|_| super::kafka::desired()).collect();
    let body = async {
        let started = Instant::now();
        let made = tenants.iter().map(|tenant| super::kafka::converge(&admin, tenant));
        assert!(futures_util::future::join_all(made).await.iter().all(|changes| changes.len() == 12));
        println!("TIME kafka create, 8 tenants at once: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        let steady = tenants.iter().map(|tenant| super::kafka::converge(&admin, tenant));
        assert!(futures_util::future::join_all(steady).await.iter().all(Vec::is_empty));
    };
    let clean_up = async {
        futures_util::future::join_all(
            tenants.iter().map(async |tenant| admin.remove(&tenant.claim()).await),
        )
        .await;
    };
    super::story(body, clean_up).await;
}
