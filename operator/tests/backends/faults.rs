//! What a system that dies, hangs or drops connections does to its admin.

use std::time::{Duration, Instant};

use crds::Reason;
use operator::backend::Backend;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::conformance::Fixture;
use super::kafka::{self, Kafka};
use super::keycloak::Keycloak;
use super::postgres::Postgres;
use super::redis::Redis;
use super::{assert_reason, converge, owner, password, story, tenant_id};

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
async fn survives<F: Fixture>() {
    let mut door = Door::open(F::address()).await;
    let admin = F::connect(&format!("127.0.0.1:{}", door.port), F::account());
    let desired = F::desired(&tenant_id(), owner(), password());
    admin.observe(&desired).await.unwrap();
    door.slam().await;
    door.reopen().await;
    admin.observe(&desired).await.expect("a dropped connection is replaced within the call");
    door.slam().await;
    let started = Instant::now();
    assert_reason(admin.observe(&desired).await, Reason::BackendUnavailable);
    assert!(started.elapsed() < Duration::from_secs(1), "a shut door is noticed at once");
    door.reopen().await;
    admin.observe(&desired).await.expect("the system is back");
}

#[tokio::test]
async fn kafka_connections_are_replaced() {
    survives::<Kafka>().await;
}

#[tokio::test]
async fn keycloak_connections_are_replaced() {
    survives::<Keycloak>().await;
}

#[tokio::test]
async fn postgres_connections_are_replaced() {
    survives::<Postgres>().await;
}

#[tokio::test]
async fn redis_connections_are_replaced() {
    survives::<Redis>().await;
}

#[tokio::test]
async fn many_reconciles_share_one_admin() {
    let admin = Kafka::connect(&Kafka::address(), Kafka::account());
    let tenants: Vec<_> = (0..8).map(|_| kafka::desired()).collect();
    let body = async {
        let started = Instant::now();
        let made = tenants.iter().map(|tenant| converge(&admin, tenant));
        assert!(futures_util::future::join_all(made).await.iter().all(|changes| changes.len() == 12));
        println!("TIME kafka create, 8 tenants at once: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        let steady = tenants.iter().map(|tenant| converge(&admin, tenant));
        assert!(futures_util::future::join_all(steady).await.iter().all(Vec::is_empty));
    };
    let clean_up = async {
        futures_util::future::join_all(
            tenants.iter().map(async |tenant| admin.remove(&kafka::claim(tenant)).await),
        )
        .await;
    };
    story(body, clean_up).await;
}
