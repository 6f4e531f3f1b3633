//! Kafka, Redis and the CQL store where they have TLS. RabbitMQ stands in for those that have none in the local stack: nothing is said to a server
//! before it is trusted.

use crds::{CqlFlavor, Reason};
use operator::backend::{Backend, Trust, cql::CqlAdmin, kafka::KafkaAdmin, redis::RedisAdmin};

use super::{
    assert_reason, authority,
    conformance::Fixture,
    converge,
    cql::Cql,
    env,
    faults::Proxy,
    kafka::{self, Kafka},
    operator_account, owner, password,
    redis::Redis,
    stand_in::without_tls,
    story, tenant_id,
};

/// Returns what the condition says of Redis at this address.
async fn redis(address: &str, ca_bundle: Option<String>) -> String {
    let (host, port) = address.split_once(':').unwrap();
    let (trust, account) = (Some(Trust { ca_bundle }), operator_account("REDIS"));
    let admin = RedisAdmin::new(host, port.parse().unwrap(), trust, account);
    let desired = Redis::desired(&tenant_id(), owner(), password());
    assert_reason(admin.observe(&desired).await, Reason::BackendUnavailable)
}

/// Likewise of the CQL store.
async fn cql(address: &str, ca_bundle: Option<String>) -> String {
    let (trust, account) = (Some(Trust { ca_bundle }), operator_account("CQL"));
    let admin = CqlAdmin::new(vec![address.to_owned()], CqlFlavor::Cassandra, trust, account);
    let desired = Cql::desired(&tenant_id(), owner(), password());
    assert_reason(admin.observe(&desired).await, Reason::BackendUnavailable)
}

/// Likewise of Kafka.
async fn kafka(address: &str, ca_bundle: Option<String>) -> String {
    let admin = KafkaAdmin::new(address, Some(Trust { ca_bundle }), operator_account("KAFKA"));
    let desired = Kafka::desired(&tenant_id(), owner(), password());
    assert_reason(admin.observe(&desired).await, Reason::BackendUnavailable)
}

/// Returns the address of a server without TLS.
async fn plain() -> String {
    let (port, _) = without_tls(b"-ERR unknown command\r\n").await;
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn what_is_wrong_with_a_server_comes_with_the_next_step() {
    let server = env("RABBITMQ_ADDRESS");
    // The certificate is for its own address.
    let proxy = Proxy::open(server.clone()).await;
    let elsewhere = format!("127.0.0.1:{}", proxy.port);
    for (address, bundle, expected) in [
        (&server, None, "add that authority to spec.caBundle of the cell ("),
        (&elsewhere, Some(authority("RABBITMQ")), "for another host: correct the address in spec."),
    ] {
        let bundle = || bundle.clone();
        for said in
            [kafka(address, bundle()).await, redis(address, bundle()).await, cql(address, bundle()).await]
        {
            assert!(said.contains(expected), "{said}");
        }
    }
    let said = [
        kafka(&plain().await, None).await,
        redis(&plain().await, None).await,
        cql(&plain().await, None).await,
    ];
    for (said, field) in said.iter().zip(["kafka", "redis", "cql"]) {
        let expected =
            format!("it does not speak TLS there: correct the address in spec.{field} of the cell, or ");
        assert!(said.contains(&expected), "{said}");
    }
}

#[tokio::test]
async fn a_tenant_is_made_in_kafka_by_tls() {
    let trust = Trust { ca_bundle: Some(authority("KAFKA")) };
    let admin = KafkaAdmin::new(env("KAFKA_TLS_BOOTSTRAP"), Some(trust), operator_account("KAFKA"));
    let desired = Kafka::desired(&tenant_id(), owner(), password());
    let body = async {
        assert_ne!(converge(&admin, &desired).await, [""; 0]);
        // A login as the tenant is part of it.
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
    };
    story(body, async { drop(admin.remove(&kafka::claim(&desired)).await.unwrap()) }).await;
}
