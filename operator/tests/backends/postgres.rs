use std::time::{Duration, Instant};

use operator::backend::Credentials;
use operator::backend::postgres::{PostgresAdmin, PostgresDesired, plan};
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Row, raw_sql};

use super::{
    admin_account, assert_reason, env, lines, operator_account, owner, password, story, stranger, tenant_id,
    timed,
};

fn port() -> u16 {
    env("PG_PORT").parse().unwrap()
}

pub fn admin(credentials: Credentials) -> PostgresAdmin {
    PostgresAdmin::new(env("PG_HOST"), port(), credentials)
}

pub fn desired() -> PostgresDesired {
    let name = format!("mt_{}", tenant_id());
    PostgresDesired { name, owner: owner(), password: password(), connection_limit: 20 }
}

async fn connect(credentials: &Credentials, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&env("PG_HOST"))
        .port(port())
        .username(&credentials.username)
        .password(credentials.password.expose_secret())
        .database(database);
    PgConnection::connect_with(&options).await
}

async fn by_hand(statement: String) {
    let mut connection = connect(&admin_account("PG"), "postgres").await.unwrap();
    raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
}

pub async fn converge(admin: &PostgresAdmin, desired: &PostgresDesired) -> Vec<String> {
    let changes = plan(desired, &admin.observe(desired).await.unwrap());
    for change in &changes {
        admin.apply(desired, change).await.unwrap();
    }
    lines(&changes)
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
        let tenant = Credentials { username: name.clone(), password: desired.password.clone() };
        let mut session = connect(&tenant, &name).await.unwrap();
        raw_sql("CREATE SCHEMA user_service; CREATE TABLE user_service.users (id int)")
            .execute(&mut session)
            .await
            .unwrap();
        let removed = timed("postgres remove", admin.remove(&desired.claim())).await.unwrap();
        assert_eq!(removed, [format!("database {name}"), format!("role {name}")]);
        assert_eq!(admin.remove(&desired.claim()).await.unwrap(), [""; 0]);
        assert!(raw_sql("SELECT 1").execute(&mut session).await.is_err());
        let mut connection = connect(&admin_account("PG"), "postgres").await.unwrap();
        let left = "SELECT count(*) FROM (SELECT rolname FROM pg_roles UNION ALL SELECT datname FROM pg_database) AS n
            WHERE rolname = $1";
        let left: i64 = sqlx::query(left).bind(&name).fetch_one(&mut connection).await.unwrap().get(0);
        assert_eq!(left, 0);
    };
    story(body, async { _ = admin.remove(&desired.claim()).await }).await;
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
        _ = admin.remove(&a.claim()).await;
        _ = admin.remove(&b.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn a_foreign_role_is_reported_and_left_alone() {
    let (admin, desired) = (admin(operator_account("PG")), desired());
    let name = desired.name.clone();
    let body = async {
        by_hand(format!("CREATE ROLE {name} LOGIN")).await;
        assert_reason(admin.observe(&desired).await, "ResourceConflict");
        assert_reason(admin.remove(&desired.claim()).await, "ResourceConflict");
        by_hand(format!("COMMENT ON ROLE {name} IS 'posthouse.owner=somebody-else'")).await;
        assert_reason(admin.observe(&desired).await, "ResourceConflict");
    };
    story(body, by_hand(format!("DROP ROLE IF EXISTS {name}"))).await;
}

#[tokio::test]
async fn a_retained_tenant_is_locked_and_taken_over_by_its_next_owner_in_its_namespace_only() {
    let (admin, first) = (admin(operator_account("PG")), desired());
    let next = PostgresDesired { owner: owner(), password: password(), ..first.clone() };
    let thief = PostgresDesired { owner: stranger(), ..next.clone() };
    let body = async {
        converge(&admin, &first).await;
        admin.release(&first.claim()).await.unwrap();
        let tenant = Credentials { username: first.name.clone(), password: first.password.clone() };
        assert!(connect(&tenant, &first.name).await.is_err());
        assert_reason(admin.observe(&thief).await, "ResourceConflict");
        let changes = converge(&admin, &next).await;
        assert_eq!(changes[0], format!("take over the retained role and database {}", first.name));
        assert_eq!(converge(&admin, &next).await, [""; 0]);
        assert_reason(admin.observe(&first).await, "ResourceConflict");
        let tenant = Credentials { username: next.name.clone(), password: next.password.clone() };
        assert!(connect(&tenant, &next.name).await.is_ok());
    };
    let clean_up = async {
        _ = admin.remove(&next.claim()).await;
        _ = admin.remove(&first.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn wrong_password_and_dead_port_are_told_apart() {
    let wrong = Credentials::new(operator_account("PG").username, "wrong");
    assert_reason(admin(wrong).observe(&desired()).await, "CredentialsRejected");
    let started = Instant::now();
    let dead = PostgresAdmin::new(env("PG_HOST"), 1, operator_account("PG"));
    assert_reason(dead.observe(&desired()).await, "BackendUnavailable");
    assert!(started.elapsed() < Duration::from_secs(4));
}
