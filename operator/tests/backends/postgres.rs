use crds::{Reason, TenantId};
use operator::backend::postgres::{PostgresAdmin, PostgresDesired};
use operator::backend::{
    Backend, BackendError, Claim, Credentials, DataExpected, Marker, Mode, Owner, Ownership, Trust, settle,
};
use operator::{leader::Fence, metrics::Metrics};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection, Row, raw_sql};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::conformance::{Fixture, suite};
use super::faults::Proxy;
use super::stand_in::without_tls;
use super::{
    admin_account, assert_reason, authority, converge, env, operator_account, owner, password, story,
    tenant_id, timed,
};

fn port() -> u16 {
    env("PG_PORT").parse().unwrap()
}

fn admin(credentials: Credentials) -> PostgresAdmin {
    Postgres::connect(&Postgres::address(), credentials)
}

fn desired() -> PostgresDesired {
    Postgres::desired(&tenant_id(), owner(), password())
}

fn claim(desired: &PostgresDesired) -> Claim {
    Claim { name: desired.name.clone(), owner: desired.owner.clone() }
}

async fn connect(credentials: &Credentials, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&env("PG_HOST"))
        .port(port())
        .username(&credentials.username)
        .password(credentials.password.expose_secret())
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    PgConnection::connect_with(&options).await
}

async fn by_hand(statement: String) {
    let mut connection = connect(&admin_account("PG"), "postgres").await.unwrap();
    raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
}

fn account_of(desired: &PostgresDesired) -> Credentials {
    Credentials { username: desired.name.clone(), password: desired.password.clone() }
}

pub struct Postgres;

impl Fixture for Postgres {
    type Backend = PostgresAdmin;

    fn address() -> String {
        format!("{}:{}", env("PG_HOST"), port())
    }

    fn account() -> Credentials {
        operator_account("PG")
    }

    fn connect(address: &str, account: Credentials) -> PostgresAdmin {
        let (host, port) = address.split_once(':').unwrap();
        PostgresAdmin::new(host, port.parse().unwrap(), None, account)
    }

    fn desired(id: &TenantId, owner: Owner, password: SecretString) -> PostgresDesired {
        PostgresDesired { name: PostgresAdmin::name(id), owner, password, connection_limit: 20 }
    }

    async fn use_account(desired: &PostgresDesired) -> Result<i64, String> {
        let opened = connect(&account_of(desired), &desired.name).await;
        let mut session = opened.map_err(|error| error.to_string())?;
        raw_sql("CREATE SCHEMA IF NOT EXISTS uses; CREATE TABLE IF NOT EXISTS uses.uses (id int); INSERT INTO uses.uses VALUES (1)")
            .execute(&mut session)
            .await
            .map_err(|error| error.to_string())?;
        let count =
            sqlx::query("SELECT count(*) FROM uses.uses").fetch_one(&mut session).await.unwrap().get(0);
        session.close().await.unwrap();
        Ok(count)
    }

    async fn edit(PostgresDesired { name, .. }: &PostgresDesired) -> Vec<String> {
        by_hand(format!("ALTER ROLE {name} CREATEDB NOLOGIN")).await;
        vec![format!("take CREATEDB from role {name}"), format!("let role {name} log in")]
    }

    async fn create_foreign(name: &str) {
        by_hand(format!("CREATE ROLE {name} LOGIN")).await;
    }

    async fn foreign(name: &str) -> String {
        let mut connection = connect(&admin_account("PG"), "postgres").await.unwrap();
        let role = "SELECT concat_ws(' ', r.*, shobj_description(oid, 'pg_authid')) FROM pg_roles r WHERE rolname = $1";
        sqlx::query(role).bind(name).fetch_one(&mut connection).await.unwrap().get(0)
    }

    async fn mark(_: &PostgresAdmin, PostgresDesired { name, .. }: &PostgresDesired, _: &Marker, to: &str) {
        by_hand(format!("COMMENT ON ROLE {name} IS 'posthouse.owner={to}'")).await;
    }

    async fn lose(PostgresDesired { name, .. }: &PostgresDesired) -> bool {
        by_hand(format!("DROP DATABASE {name} WITH (FORCE)")).await;
        true
    }

    async fn remove_foreign(name: &str) {
        by_hand(format!("DROP ROLE IF EXISTS {name}")).await;
    }
}

suite!(Postgres);

/// Connects with TLS and the operator's account.
fn with_tls(host: &str, port: u16, ca_bundle: Option<String>) -> PostgresAdmin {
    PostgresAdmin::new(host, port, Some(Trust { ca_bundle }), operator_account("PG"))
}

#[tokio::test]
async fn a_server_is_verified_and_what_is_wrong_comes_with_the_next_step() {
    let (desired, host) = (desired(), env("PG_HOST"));
    let observed = with_tls(&host, port(), Some(authority("PG"))).observe(&desired).await.unwrap();
    assert_eq!(observed.ownership, Ownership::Absent);

    let refused =
        assert_reason(with_tls(&host, port(), None).observe(&desired).await, Reason::BackendUnavailable);
    assert!(refused.contains("add that authority to spec.caBundle of the cell ("), "{refused}");

    // Its certificate is for its own address.
    let proxy = Proxy::open(Postgres::address()).await;
    let elsewhere = with_tls("127.0.0.1", proxy.port, Some(authority("PG")));
    let refused = assert_reason(elsewhere.observe(&desired).await, Reason::BackendUnavailable);
    assert!(
        refused.contains("for another host: correct the address in spec.postgres of the cell"),
        "{refused}"
    );
}

/// One that was moved, or someone who stands before it.
#[tokio::test]
async fn a_server_without_tls_gets_no_account_where_the_cell_has_tls() {
    let (port, receiving) = without_tls(b"N").await;
    let admin = with_tls("127.0.0.1", port, None);
    let refused = assert_reason(admin.observe(&desired()).await, Reason::BackendUnavailable);
    assert!(
        refused
            .contains("it does not speak TLS there: correct the address in spec.postgres of the cell, or "),
        "{refused}"
    );
    assert_eq!(receiving.await.unwrap().len(), 8, "it asks for TLS, and says nothing else");
}

/// As `hostssl` in `pg_hba.conf` alone: the account has nothing to do with it.
#[tokio::test]
async fn a_server_that_takes_no_session_without_tls_names_the_field_of_the_cell() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap() - 4]).await.unwrap();
        let message = "no pg_hba.conf entry for host \"10.0.0.1\", user \"operator\", database \"postgres\", no encryption";
        let fields = format!("SFATAL\0VFATAL\0C28000\0M{message}\0\0");
        stream.write_u8(b'E').await.unwrap();
        stream.write_u32(u32::try_from(fields.len()).unwrap() + 4).await.unwrap();
        stream.write_all(fields.as_bytes()).await.unwrap();
    });
    let admin = PostgresAdmin::new("127.0.0.1", port, None, operator_account("PG"));
    let refused = assert_reason(admin.observe(&desired()).await, Reason::BackendRefused);
    assert!(refused.contains("set spec.postgres.tls of the cell to VerifyFull"), "{refused}");
    answering.await.unwrap();
}

#[tokio::test]
async fn a_marker_that_names_another_owner_is_a_conflict() {
    let (admin, desired) = (admin(operator_account("PG")), desired());
    let name = desired.name.clone();
    let body = async {
        by_hand(format!("CREATE ROLE {name} LOGIN")).await;
        by_hand(format!("COMMENT ON ROLE {name} IS 'posthouse.owner=another-owner'")).await;
        assert_reason(admin.observe(&desired).await, Reason::ResourceConflict);
    };
    story(body, by_hand(format!("DROP ROLE IF EXISTS {name}"))).await;
}

#[tokio::test]
async fn tenant_is_made_kept_repaired_and_removed() {
    let (admin, desired) = (admin(operator_account("PG")), desired());
    let name = desired.name.clone();
    let body = async {
        let made = timed("postgres create", converge(&admin, &desired)).await;
        assert_eq!(made, [format!("create role {name}"), format!("create database {name}")]);
        let steady = timed("postgres steady", converge(&admin, &desired)).await;
        assert_eq!(steady, [""; 0]);

        by_hand(format!("ALTER ROLE {name} CREATEDB NOLOGIN CONNECTION LIMIT 3")).await;
        by_hand(format!("GRANT CONNECT ON DATABASE {name} TO PUBLIC")).await;
        assert_eq!(
            timed("postgres repair", converge(&admin, &desired)).await,
            [
                format!("take CREATEDB from role {name}"),
                format!("set the connection limit of role {name}: 3 -> 20"),
                format!("let role {name} log in"),
                format!("close database {name} to other roles"),
            ]
        );
        by_hand(format!("ALTER ROLE {name} PASSWORD 'by hand'")).await;
        assert_eq!(
            converge(&admin, &desired).await,
            [""; 0],
            "a password that worked is believed for a while"
        );
        admin.distrust_password(&name);
        assert_eq!(converge(&admin, &desired).await, [format!("set the password of role {name}")]);
        assert_eq!(converge(&admin, &desired).await, [""; 0]);

        // A busy session must not hold up the removal.
        let tenant = account_of(&desired);
        let mut session = connect(&tenant, &name).await.unwrap();
        raw_sql("CREATE SCHEMA user_service; CREATE TABLE user_service.users (id int)")
            .execute(&mut session)
            .await
            .unwrap();
        let removed = timed("postgres remove", admin.remove(&claim(&desired))).await.unwrap();
        assert_eq!(removed, [format!("database {name}"), format!("role {name}")]);
        assert_eq!(admin.remove(&claim(&desired)).await.unwrap(), [""; 0]);
        assert!(raw_sql("SELECT 1").execute(&mut session).await.is_err());
        let mut connection = connect(&admin_account("PG"), "postgres").await.unwrap();
        let left = "SELECT count(*) FROM (SELECT rolname FROM pg_roles UNION ALL SELECT datname FROM pg_database) AS n
            WHERE rolname = $1";
        let left: i64 = sqlx::query(left).bind(&name).fetch_one(&mut connection).await.unwrap().get(0);
        assert_eq!(left, 0);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn no_tenant_is_given_sessions_that_the_server_does_not_have() {
    let (admin, mut desired) = (admin(operator_account("PG")), desired());
    let claim = claim(&desired);
    let fits = desired.connection_limit;
    let name = desired.name.clone();
    let refusal = async |desired: &PostgresDesired| {
        let (fence, metrics) = (Fence::always_open(), Metrics::default());
        let settled = settle(&admin, desired, DataExpected::No, Mode::Apply, &fence, &metrics).await;
        assert!(settled.as_ref().is_err_and(BackendError::is_retryable), "others may go");
        assert_reason(settled, Reason::BackendRefused)
    };
    let body = async {
        desired.connection_limit = 100_000;
        let refused = refusal(&desired).await;
        assert!(refused.contains("the tenant needs 100000 sessions, and of the "), "{refused}");
        assert!(refused.contains("raise max_connections of the server"), "{refused}");
        assert_eq!(admin.ownership(&claim).await.unwrap(), Ownership::Absent);

        desired.connection_limit = fits;
        converge(&admin, &desired).await;
        desired.connection_limit = 100_000;
        let refused = refusal(&desired).await;
        let action = format!("set the connection limit of role {name}: {fits} -> 100000");
        assert!(refused.contains(&action), "{refused}");
        desired.connection_limit = fits;
        assert_eq!(converge(&admin, &desired).await, [""; 0], "it has what it had");

        // Sessions that an administrator allowed by hand are taken back, however many others have. A role that may not log in counts for no
        // other one, such as those of the tests beside this one.
        by_hand(format!("ALTER ROLE {name} NOLOGIN CONNECTION LIMIT 100000")).await;
        assert_eq!(
            converge(&admin, &desired).await,
            [
                format!("set the connection limit of role {name}: 100000 -> {fits}"),
                format!("let role {name} log in"),
            ]
        );
        admin.release(&claim).await.unwrap();
        desired.connection_limit = 100_000;
        let refused = refusal(&desired).await;
        assert!(refused.contains("the tenant needs 100000 sessions"), "{refused}");
    };
    story(body, async { _ = admin.remove(&claim).await }).await;
}

#[tokio::test]
async fn one_tenant_gets_nothing_of_another() {
    let (admin, a, b) = (admin(operator_account("PG")), desired(), desired());
    let body = async {
        converge(&admin, &a).await;
        converge(&admin, &b).await;
        let intruder = Credentials { username: b.name.clone(), password: b.password.clone() };
        let refused = connect(&intruder, &a.name).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{refused}");
        let mut own = connect(&intruder, &b.name).await.unwrap();
        for attempt in [
            format!("SET ROLE {}", a.name),
            format!("DROP DATABASE {}", a.name),
            format!("ALTER ROLE {} PASSWORD 'x'", a.name),
            format!("GRANT {} TO {}", a.name, b.name),
            "CREATE DATABASE intruders".to_owned(),
            "CREATE ROLE intruder".to_owned(),
        ] {
            let result = raw_sql(AssertSqlSafe(attempt.clone())).execute(&mut own).await;
            let code = result.unwrap_err().as_database_error().unwrap().code().unwrap().into_owned();
            assert_eq!(code, "42501", "{attempt}");
        }
    };
    let clean_up = async {
        _ = admin.remove(&claim(&a)).await;
        _ = admin.remove(&claim(&b)).await;
    };
    story(body, clean_up).await;
}
