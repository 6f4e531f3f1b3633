use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use operator::backend::Credentials;
use operator::backend::cql::{CqlAdmin, CqlChange, CqlDesired, CqlFlavor, plan};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use secrecy::ExposeSecret;

use super::{
    admin_account, assert_reason, env, eventually, lines, operator_account, owner, password, story, stranger,
    tenant_id, timed,
};

fn flavor() -> CqlFlavor {
    if env("CQL_FLAVOR") == "scylla" { CqlFlavor::Scylla } else { CqlFlavor::Cassandra }
}

fn contact_points() -> Vec<String> {
    env("CQL_CONTACT_POINTS").split(',').map(str::to_owned).collect()
}

pub fn admin(credentials: Credentials) -> CqlAdmin {
    CqlAdmin::new(contact_points(), flavor(), credentials)
}

pub fn desired() -> CqlDesired {
    CqlDesired {
        name: format!("mt_{}", tenant_id()),
        owner: owner(),
        password: password(),
        replication: BTreeMap::from([("datacenter1".to_owned(), 1)]),
    }
}

async fn connect(name: &str, password: &str) -> Result<Session, scylla::errors::NewSessionError> {
    let builder = SessionBuilder::new().known_nodes(contact_points()).user(name, password);
    builder.fetch_schema_metadata(false).build().await
}

async fn connect_as(desired: &CqlDesired) -> Result<Session, scylla::errors::NewSessionError> {
    connect(&desired.name, desired.password.expose_secret()).await
}

async fn by_hand(statements: &[String]) {
    let account = admin_account("CQL");
    let session = connect(&account.username, account.password.expose_secret()).await.unwrap();
    for statement in statements {
        session.query_unpaged(statement.as_str(), &[]).await.unwrap();
    }
}

pub async fn converge(admin: &CqlAdmin, desired: &CqlDesired) -> Vec<String> {
    let changes = plan(desired, &admin.observe(desired).await.unwrap());
    for change in &changes {
        admin.apply(desired, change).await.unwrap();
    }
    lines(&changes)
}

#[tokio::test]
async fn tenant_is_made_kept_repaired_and_removed() {
    let (admin, desired) = (admin(operator_account("CQL")), desired());
    let name = desired.name.clone();
    let body = async {
        timed("cql connect", admin.observe(&desired)).await.unwrap();
        let made = timed("cql create", converge(&admin, &desired)).await;
        assert_eq!(made.len(), 1 + 1 + 1 + 5, "{made:#?}");
        assert_eq!(timed("cql steady", converge(&admin, &desired)).await, [""; 0]);

        // The tenant's services make and use their own tables; that is no drift.
        let session = timed("cql login as tenant", connect_as(&desired)).await.unwrap();
        for statement in [
            format!("CREATE TABLE {name}.messages (chat text PRIMARY KEY, body text)"),
            format!("INSERT INTO {name}.messages (chat, body) VALUES ('c', 'b')"),
            format!("SELECT body FROM {name}.messages WHERE chat = 'c'"),
            format!("ALTER TABLE {name}.messages ADD edited boolean"),
        ] {
            session.query_unpaged(statement, &[]).await.unwrap();
        }
        assert_eq!(converge(&admin, &desired).await, [""; 0]);

        by_hand(&[
            format!("REVOKE MODIFY ON KEYSPACE {name} FROM {name}"),
            format!("GRANT AUTHORIZE ON KEYSPACE {name} TO {name}"),
            format!("ALTER ROLE {name} WITH LOGIN = false"),
            format!("ALTER KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"),
        ])
        .await;
        assert_eq!(
            timed("cql repair", converge(&admin, &desired)).await,
            [
                format!("revoke AUTHORIZE on keyspace {name} from role {name}"),
                format!(
                    "set replication of {name}: class SimpleStrategy, replication_factor 1 -> \
                     class NetworkTopologyStrategy, datacenter1 1"
                ),
                format!("let role {name} log in"),
                format!("grant MODIFY on keyspace {name} to role {name}"),
            ]
        );
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        assert!(connect_as(&desired).await.is_ok());

        // A password changes at most every 5 s; until then the store answers Overloaded, and the next pass tries again.
        let edited = CqlDesired { password: password(), ..desired.clone() };
        let change = CqlChange::SetPassword { role: name.clone() };
        assert_eq!(plan(&edited, &admin.observe(&edited).await.unwrap()), std::slice::from_ref(&change));
        let deadline = Instant::now() + Duration::from_secs(15);
        while let Err(error) = admin.apply(&edited, &change).await {
            assert!(error.is_retryable() && Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(converge(&admin, &edited).await, [""; 0]);
        eventually("only the new password works", async || {
            connect_as(&edited).await.is_ok() && connect_as(&desired).await.is_err()
        })
        .await;

        let removed = timed("cql remove", admin.remove(&desired.claim())).await.unwrap();
        assert_eq!(removed, [format!("role {name}"), format!("keyspace {name}")]);
        assert_eq!(admin.remove(&desired.claim()).await.unwrap(), [""; 0]);
        assert_eq!(admin.observe(&desired).await.unwrap(), Default::default());
        eventually("nobody can log in", async || connect_as(&edited).await.is_err()).await;
    };
    story(body, async { _ = admin.remove(&desired.claim()).await }).await;
}

#[tokio::test]
async fn one_tenant_gets_nothing_of_another() {
    let (admin, a, b) = (admin(operator_account("CQL")), desired(), desired());
    let body = async {
        converge(&admin, &a).await;
        converge(&admin, &b).await;
        let (name, own) = (&a.name, &b.name);
        let owner = connect_as(&a).await.unwrap();
        let table = format!("CREATE TABLE {name}.messages (chat text PRIMARY KEY, body text)");
        owner.query_unpaged(table, &[]).await.unwrap();
        let intruder = connect_as(&b).await.unwrap();
        for attempt in [
            format!("SELECT * FROM {name}.messages"),
            format!("INSERT INTO {name}.messages (chat, body) VALUES ('c', 'b')"),
            format!("TRUNCATE {name}.messages"),
            format!("DROP TABLE {name}.messages"),
            format!("CREATE TABLE {name}.other (chat text PRIMARY KEY)"),
            format!("DROP KEYSPACE {name}"),
            format!("ALTER ROLE {name} WITH PASSWORD = 'x'"),
            format!("GRANT {name} TO {own}"),
            format!("GRANT SELECT ON KEYSPACE {name} TO {own}"),
            format!("GRANT SELECT ON KEYSPACE {own} TO {name}"),
            "CREATE ROLE intruder".to_owned(),
            "CREATE KEYSPACE intruder WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}".into(),
            "SELECT * FROM posthouse_operator.owners".to_owned(),
            "SELECT salted_hash FROM system_auth.roles".to_owned(),
        ] {
            let refused = intruder.query_unpaged(attempt.clone(), &[]).await.expect_err(&attempt).to_string();
            let lower = refused.to_lowercase();
            let known = ["permission", "privileges", "unauthorized"].iter().any(|text| lower.contains(text));
            assert!(known, "{attempt}: {refused}");
        }
    };
    let clean_up = async {
        _ = admin.remove(&a.claim()).await;
        _ = admin.remove(&b.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn a_foreign_keyspace_is_reported_and_left_alone() {
    let (admin, desired) = (admin(operator_account("CQL")), desired());
    let name = desired.name.clone();
    let body = async {
        let options = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}";
        by_hand(&[format!("CREATE KEYSPACE {name} WITH replication = {options}")]).await;
        assert_reason(admin.observe(&desired).await, "ResourceConflict");
        assert_reason(admin.remove(&desired.claim()).await, "ResourceConflict");
    };
    story(body, by_hand(&[format!("DROP KEYSPACE IF EXISTS {name}")])).await;
}

#[tokio::test]
async fn a_retained_tenant_is_locked_and_taken_over_by_its_next_owner_in_its_namespace_only() {
    let (admin, first) = (admin(operator_account("CQL")), desired());
    let next = CqlDesired { owner: owner(), password: password(), ..first.clone() };
    let thief = CqlDesired { owner: stranger(), ..next.clone() };
    let body = async {
        converge(&admin, &first).await;
        let table = format!("CREATE TABLE {}.kept (id int PRIMARY KEY)", first.name);
        connect_as(&first).await.unwrap().query_unpaged(table, &[]).await.unwrap();
        admin.release(&first.claim()).await.unwrap();
        eventually("nobody can log in", async || connect_as(&first).await.is_err()).await;
        assert_reason(admin.observe(&thief).await, "ResourceConflict");
        let changes = converge(&admin, &next).await;
        assert_eq!(changes[0], format!("take over the retained {}", first.name));
        assert_eq!(converge(&admin, &next).await, [""; 0]);
        assert_reason(admin.observe(&first).await, "ResourceConflict");
        let select = format!("SELECT id FROM {}.kept", next.name);
        connect_as(&next).await.unwrap().query_unpaged(select, &[]).await.unwrap();
    };
    let clean_up = async {
        _ = admin.remove(&next.claim()).await;
        _ = admin.remove(&first.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn wrong_password_and_dead_port_are_told_apart() {
    let wrong = Credentials::new(operator_account("CQL").username, "wrong");
    assert_reason(admin(wrong).observe(&desired()).await, "CredentialsRejected");
    let started = Instant::now();
    let host = contact_points()[0].split(':').next().unwrap().to_owned();
    let dead = CqlAdmin::new(vec![format!("{host}:1")], flavor(), operator_account("CQL"));
    assert_reason(dead.observe(&desired()).await, "BackendUnavailable");
    assert!(started.elapsed() < Duration::from_secs(5));
}
