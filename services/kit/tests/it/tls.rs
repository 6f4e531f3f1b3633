//! PostgreSQL, Redis and the CQL store with TLS, what stands where they should be, and servers without.

use kit::{
    config::{CqlArgs, CqlFlavor, PostgresArgs, RedisArgs, Tls, TrustArgs},
    cql::{self, SessionError},
    error::chain,
    postgres::{MigrateError, Schema},
    redis::{connection, subscribe},
    testing::{TestCache, TestDatabase, TlsFront, stack, without_tls},
    tls::{Untrusted, explained},
};

/// Nothing is there: a server that is not trusted is never passed on to.
const NOWHERE: &str = "127.0.0.1:9";
const HERE: &str = "IP:127.0.0.1";
const PASSWORD: &str = "secret-word";
/// What asks for TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// What begins a session without any, behind its length: the version of the protocol.
const VERSION: [u8; 4] = [0, 3, 0, 0];

const SCHEMA: Schema =
    Schema { name: "things", migrations: &[("0001_create_things", "CREATE TABLE things (id BIGINT)")] };

fn trust(ca_bundle: Option<&str>) -> TrustArgs {
    TrustArgs { oidc_ca_bundle: ca_bundle.map(str::to_owned) }
}

fn at(address: &str, postgres_tls: Tls, ca_bundle: Option<&str>, args: PostgresArgs) -> PostgresArgs {
    let (host, port) = address.split_once(':').expect("host:port");
    PostgresArgs {
        postgres_host: host.to_owned(),
        postgres_port: port.parse().expect("a port"),
        postgres_tls,
        trust: trust(ca_bundle),
        ..args
    }
}

fn account() -> PostgresArgs {
    PostgresArgs {
        postgres_host: String::new(),
        postgres_port: 0,
        postgres_tls: Tls::Disabled,
        trust: TrustArgs::default(),
        postgres_database: "mt_acme".to_owned(),
        postgres_username: "mt_acme".to_owned(),
        postgres_password: PASSWORD.to_owned().into(),
    }
}

/// Tries to connect with TLS. Returns why the server is not trusted.
async fn refused(address: &str, ca_bundle: Option<&str>) -> Untrusted {
    let args = at(address, Tls::VerifyFull, ca_bundle, account());
    let error = SCHEMA.migrate(&args).await.expect_err("it is not trusted");
    let text = chain(&error);
    assert!(!text.contains(PASSWORD), "{text}");
    match error {
        MigrateError::Untrusted { why, .. } => {
            assert!(text.contains(&why.to_string()), "{text}");
            why
        }
        other => panic!("{other:?}"),
    }
}

/// Tries a server of an unknown authority, one whose certificate is for this name, and one without TLS that gives this answer.
/// `refused` returns why each is not trusted. None gets the password.
async fn get_no_account(
    refused: impl AsyncFn(&str, Option<&str>) -> Untrusted,
    name: &str,
    answer: &'static [u8],
) {
    let front = TlsFront::start(NOWHERE).await;
    let stranger = TlsFront::start(NOWHERE).await;
    for ca_bundle in [None, Some(stranger.ca_bundle.as_str())] {
        assert_eq!(refused(front.address(), ca_bundle).await, Untrusted::UnknownAuthority);
    }
    let elsewhere = TlsFront::named(NOWHERE, name).await;
    assert_eq!(refused(elsewhere.address(), Some(elsewhere.ca_bundle.as_str())).await, Untrusted::OtherHost);
    let (plain, receiving) = without_tls(answer).await;
    assert_eq!(refused(&plain, None).await, Untrusted::Plain);
    let bytes = receiving.await.expect("all was received");
    assert!(!String::from_utf8_lossy(&bytes).contains(PASSWORD), "{bytes:?}");
}

#[tokio::test]
async fn a_server_is_used_whose_authority_is_in_the_bundle_and_whose_certificate_is_for_its_host() {
    let database = TestDatabase::create().await;
    let server = format!("{}:{}", stack("PG_HOST"), stack("PG_PORT"));
    let front = TlsFront::postgres(&server, HERE).await;
    let args = at(front.address(), Tls::VerifyFull, Some(&front.ca_bundle), database.args());
    SCHEMA.migrate(&args).await.expect("the tables are made");
    let pool = SCHEMA.pool(&args);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(&pool).await.expect("rows");
    assert_eq!(count, 0);
    pool.close().await;
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_or_for_another_host_is_not_trusted() {
    let front = TlsFront::postgres(NOWHERE, HERE).await;
    let stranger = TlsFront::postgres(NOWHERE, HERE).await;
    for ca_bundle in [None, Some(stranger.ca_bundle.as_str())] {
        assert_eq!(refused(front.address(), ca_bundle).await, Untrusted::UnknownAuthority);
    }
    let elsewhere = TlsFront::postgres(NOWHERE, "DNS:elsewhere.example").await;
    assert_eq!(refused(elsewhere.address(), Some(&elsewhere.ca_bundle)).await, Untrusted::OtherHost);
}

/// One that was moved, or someone who stands before it.
#[tokio::test]
async fn a_server_without_tls_gets_no_account_where_the_cell_has_tls() {
    let (address, receiving) = without_tls(b"N").await;
    assert_eq!(refused(&address, None).await, Untrusted::Plain);
    assert_eq!(
        receiving.await.expect("all was received"),
        SSL_REQUEST,
        "it asks for TLS, and says nothing else"
    );
}

/// TLS that verifies nothing, where a server happens to have it, would look like more than it is.
#[tokio::test]
async fn no_tls_is_asked_for_where_the_cell_has_none() {
    let (address, receiving) = without_tls(b"").await;
    let args = at(&address, Tls::Disabled, None, account());
    SCHEMA.migrate(&args).await.expect_err("it says nothing");
    let bytes = receiving.await.expect("all was received");
    assert_eq!(bytes[4..8], VERSION, "{bytes:?}");
}

fn cache(address: &str, ca_bundle: Option<&str>, args: RedisArgs) -> RedisArgs {
    RedisArgs { redis_addr: address.to_owned(), redis_tls: Tls::VerifyFull, trust: trust(ca_bundle), ..args }
}

/// Tries to subscribe with TLS. Returns why the server is not trusted.
async fn refused_by_cache(address: &str, ca_bundle: Option<&str>) -> Untrusted {
    let account = RedisArgs {
        redis_addr: String::new(),
        redis_tls: Tls::Disabled,
        trust: TrustArgs::default(),
        redis_username: "acme".to_owned(),
        redis_password: PASSWORD.to_owned().into(),
    };
    let subscribed = subscribe(&cache(address, ca_bundle, account), "mt:acme:presence").await;
    let error = subscribed.err().expect("it is not trusted");
    let (why, text) = (Untrusted::of(&error), explained(&error));
    let why = why.unwrap_or_else(|| panic!("{text}"));
    assert!(text.starts_with(&why.to_string()) && !text.contains(PASSWORD), "{text}");
    why
}

#[tokio::test]
async fn a_cache_is_used_whose_authority_is_in_the_bundle_and_whose_certificate_is_for_its_host() {
    let tenant = TestCache::create("kit-tls").await;
    let front = TlsFront::start(&format!("{}:{}", stack("REDIS_HOST"), stack("REDIS_PORT"))).await;
    let args = cache(front.address(), Some(&front.ca_bundle), tenant.args());
    let mut redis = connection(&args).expect("settings");
    let set = redis::cmd("SET").arg("mt:kit-tls:here").arg("yes").query_async::<()>(&mut redis).await;
    set.expect("it is written");
    assert_eq!(tenant.value("mt:kit-tls:here").await.as_deref(), Some(&b"yes"[..]));
}

#[tokio::test]
async fn a_cache_that_is_another_one_or_has_no_tls_gets_no_account() {
    get_no_account(refused_by_cache, "DNS:elsewhere.example", b"-ERR unknown command\r\n").await;
}

fn node(address: &str, ca_bundle: Option<&str>, username: &str, password: &str) -> CqlArgs {
    CqlArgs {
        cql_contact_points: vec![address.to_owned()],
        cql_tls: Tls::VerifyFull,
        trust: trust(ca_bundle),
        cql_keyspace: "system".to_owned(),
        cql_flavor: CqlFlavor::Cassandra,
        cql_username: username.to_owned(),
        cql_password: password.to_owned().into(),
    }
}

/// Tries to open a session with TLS. Returns why the node is not trusted.
async fn refused_by_node(address: &str, ca_bundle: Option<&str>) -> Untrusted {
    let opened = cql::connect(&node(address, ca_bundle, "mt_acme", PASSWORD)).await;
    let error = opened.expect_err("it is not trusted");
    let text = chain(&error);
    assert!(!text.contains(PASSWORD), "{text}");
    match error {
        SessionError::Untrusted { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_is_used_whose_authority_is_in_the_bundle_and_whose_certificate_is_for_its_address() {
    let points = stack("CQL_CONTACT_POINTS");
    // The driver goes on to the address that the node says it has, at the port that it was given.
    let front = TlsFront::beside(points.split(',').next().expect("a node")).await;
    let (username, password) = (stack("CQL_ADMIN_USERNAME"), stack("CQL_ADMIN_PASSWORD"));
    let args = node(front.address(), Some(&front.ca_bundle), &username, &password);
    let session = cql::connect(&args).await.expect("a session");
    session.query_unpaged("SELECT release_version FROM local", &[]).await.expect("an answer");
}

#[tokio::test]
async fn a_node_that_is_another_one_or_has_no_tls_gets_no_account() {
    // The driver knows addresses alone.
    get_no_account(refused_by_node, "DNS:localhost", b"\x84\0\0\0\0\0\0\0\x04").await;
}
