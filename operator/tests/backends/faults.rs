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

/// A TCP proxy to a system that can be cut: every connection through it breaks.
pub struct Proxy {
    pub port: u16,
    target: String,
    listening: Option<AbortHandle>,
    tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn open(target: String) -> Self {
        let mut proxy = Self { port: 0, target, listening: None, tasks: JoinSet::new() };
        proxy.reopen().await;
        proxy
    }

    async fn reopen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let target = self.target.clone();
        self.listening = Some(self.tasks.spawn(async move {
            // Dropped with this task, so that cutting the proxy ends what went through it.
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

    async fn cut(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Observes, drops every connection, observes again; cuts the proxy for good, finds it closed; reopens it, observes again.
async fn survives<F: Fixture>() {
    let mut proxy = Proxy::open(F::address()).await;
    let admin = F::connect(&format!("127.0.0.1:{}", proxy.port), F::account());
    let desired = F::desired(&tenant_id(), owner(), password());
    admin.observe(&desired).await.unwrap();
    proxy.cut().await;
    proxy.reopen().await;
    admin.observe(&desired).await.expect("a dropped connection is replaced within the call");
    proxy.cut().await;
    let started = Instant::now();
    assert_reason(admin.observe(&desired).await, Reason::BackendUnavailable);
    assert!(started.elapsed() < Duration::from_secs(1), "a closed port is noticed immediately");
    proxy.reopen().await;
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
