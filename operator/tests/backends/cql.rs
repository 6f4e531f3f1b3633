use std::collections::BTreeMap;
use std::time::Duration;

use crds::{CqlFlavor, TenantId};
use operator::backend::cql::{CqlAdmin, CqlChange, CqlDesired};
use operator::backend::{Backend, Claim, Credentials, DataExpected, Marker, Mode, Owner, settle};
use operator::{leader::Fence, metrics::Metrics};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use secrecy::{ExposeSecret, SecretString};

use super::conformance::{Fixture, suite};
use super::{
    admin_account, converge, env, eventually, operator_account, owner, password, story, tenant_id, timed,
};

fn flavor() -> CqlFlavor {
    if env("CQL_FLAVOR") == "scylla" { CqlFlavor::Scylla } else { CqlFlavor::Cassandra }
}

fn contact_points() -> Vec<String> {
    env("CQL_CONTACT_POINTS").split(',').map(str::to_owned).collect()
}

fn admin(credentials: Credentials) -> CqlAdmin {
    Cql::connect(&Cql::address(), credentials)
}

fn desired() -> CqlDesired {
    Cql::desired(&tenant_id(), owner(), password())
}

fn claim(desired: &CqlDesired) -> Claim {
    Claim { name: desired.name.clone(), owner: desired.owner.clone() }
}

async fn connect(name: &str, password: &str) -> Result<Session, scylla::errors::NewSessionError> {
    let builder = SessionBuilder::new().known_nodes(contact_points()).user(name, password);
    Box::pin(builder.fetch_schema_metadata(false).build()).await
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

pub struct Cql;

impl Fixture for Cql {
    type Backend = CqlAdmin;

    const REFUSED_WITHIN: Duration = Duration::from_secs(5);
    const CACHES_LOGINS: bool = true;

    fn address() -> String {
        env("CQL_CONTACT_POINTS")
    }

    fn account() -> Credentials {
        operator_account("CQL")
    }

    fn connect(address: &str, account: Credentials) -> CqlAdmin {
        CqlAdmin::new(address.split(',').map(str::to_owned).collect(), flavor(), None, account)
    }

    fn desired(id: &TenantId, owner: Owner, password: SecretString) -> CqlDesired {
        let replication = BTreeMap::from([("datacenter1".to_owned(), 1)]);
        CqlDesired { name: CqlAdmin::name(id), owner, password, replication }
    }

    async fn use_account(desired: &CqlDesired) -> Result<i64, String> {
        let session = connect_as(desired).await.map_err(|error| error.to_string())?;
        let table = format!("{}.uses", desired.name);
        for statement in [
            format!("CREATE TABLE IF NOT EXISTS {table} (id uuid PRIMARY KEY)"),
            format!("INSERT INTO {table} (id) VALUES (uuid())"),
        ] {
            session.query_unpaged(statement, &[]).await.map_err(|error| error.to_string())?;
        }
        let count = session.query_unpaged(format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
        Ok(count.into_rows_result().unwrap().single_row::<(i64,)>().unwrap().0)
    }

    async fn edit(CqlDesired { name, .. }: &CqlDesired) -> Vec<String> {
        by_hand(&[
            format!("REVOKE MODIFY ON KEYSPACE {name} FROM {name}"),
            format!("ALTER ROLE {name} WITH LOGIN = false"),
        ])
        .await;
        vec![format!("let role {name} log in"), format!("grant MODIFY on keyspace {name} to role {name}")]
    }

    async fn create_foreign(name: &str) {
        let options = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}";
        by_hand(&[format!("CREATE KEYSPACE {name} WITH replication = {options}")]).await;
    }

    async fn foreign(name: &str) -> String {
        let account = admin_account("CQL");
        let session = connect(&account.username, account.password.expose_secret()).await.unwrap();
        let select =
            format!("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{name}'");
        let found = session.query_unpaged(select, &[]).await.unwrap().into_rows_result().unwrap();
        let (replication,) = found.single_row::<(BTreeMap<String, String>,)>().unwrap();
        format!("{replication:?}")
    }

    async fn mark(_: &CqlAdmin, CqlDesired { name, .. }: &CqlDesired, _: &Marker, to: &str) {
        by_hand(&[format!("UPDATE posthouse_operator.owners SET owner_uid = '{to}' WHERE name = '{name}'")])
            .await;
    }

    async fn lose(CqlDesired { name, .. }: &CqlDesired) -> bool {
        by_hand(&[format!("DROP KEYSPACE {name}")]).await;
        true
    }

    async fn remove_foreign(name: &str) {
        by_hand(&[format!("DROP KEYSPACE IF EXISTS {name}")]).await;
    }
}

suite!(Cql);

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
        ])
        .await;
        assert_eq!(
            timed("cql repair", converge(&admin, &desired)).await,
            [
                format!("revoke AUTHORIZE on keyspace {name} from role {name}"),
                format!("let role {name} log in"),
                format!("grant MODIFY on keyspace {name} to role {name}"),
            ]
        );
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        assert!(connect_as(&desired).await.is_ok());

        // Another replication would move data: it is reported and left alone, whichever side changed.
        let replicated = |copies| CqlDesired {
            replication: BTreeMap::from([("datacenter1".to_owned(), copies)]),
            ..desired.clone()
        };
        let settled = settle(
            &admin,
            &replicated(3),
            DataExpected::Recorded,
            Mode::Apply,
            &Fence::always_open(),
            &Metrics::default(),
        )
        .await;
        let settled = settled.unwrap();
        assert_eq!(settled.changes, []);
        assert_eq!(settled.blocked.len(), 1);
        assert!(
            settled.blocked[0]
                .contains("datacenter1 1, class NetworkTopologyStrategy, datacenter1 3 is declared")
        );
        assert!(Cql::foreign(&name).await.contains("\"datacenter1\": \"1\""));

        // A password changes at most every 5 s; until then the store returns Overloaded, and the next pass tries again.
        let edited = CqlDesired { password: password(), ..desired.clone() };
        let change = CqlChange::SetPassword { role: name.clone() };
        assert_eq!(
            CqlAdmin::plan(&edited, &admin.observe(&edited).await.unwrap()),
            std::slice::from_ref(&change)
        );
        eventually("the store takes the password", async || match admin.apply(&edited, &change).await {
            Ok(()) => true,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                false
            }
        })
        .await;
        assert_eq!(converge(&admin, &edited).await, [""; 0]);
        eventually("only the new password works", async || {
            connect_as(&edited).await.is_ok() && connect_as(&desired).await.is_err()
        })
        .await;

        let removed = timed("cql remove", admin.remove(&claim(&desired))).await.unwrap();
        assert_eq!(removed, [format!("role {name}"), format!("keyspace {name}")]);
        assert_eq!(admin.remove(&claim(&desired)).await.unwrap(), [""; 0]);
        assert_eq!(admin.observe(&desired).await.unwrap(), Default::default());
        eventually("no client can log in", async || connect_as(&edited).await.is_err()).await;
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
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
        _ = admin.remove(&claim(&a)).await;
        _ = admin.remove(&claim(&b)).await;
    };
    story(body, clean_up).await;
}
