use crds::TenantId;
use operator::backend::redis::{RedisAdmin, RedisDesired};
use operator::backend::{Backend, Claim, Credentials, Marker, Owner};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, cmd};
use secrecy::{ExposeSecret, SecretString};

use super::conformance::{Fixture, suite};
use super::{admin_account, converge, env, operator_account, owner, password, story, tenant_id, timed};

fn port() -> u16 {
    env("REDIS_PORT").parse().unwrap()
}

fn admin(credentials: Credentials) -> RedisAdmin {
    Redis::connect(&Redis::address(), credentials)
}

fn desired() -> RedisDesired {
    Redis::desired(&tenant_id(), owner(), password())
}

fn claim(desired: &RedisDesired) -> Claim {
    Claim { name: desired.tenant.clone(), owner: desired.owner.clone() }
}

fn account(desired: &RedisDesired) -> Credentials {
    Credentials { username: desired.tenant.clone(), password: desired.password.clone() }
}

async fn connect(credentials: &Credentials) -> RedisResult<MultiplexedConnection> {
    let account = RedisConnectionInfo::default()
        .set_username(&credentials.username)
        .set_password(credentials.password.expose_secret());
    let address = ConnectionAddr::Tcp(env("REDIS_HOST"), port()).into_connection_info()?;
    Client::open(address.set_redis_settings(account))?.get_multiplexed_async_connection().await
}

async fn run(connection: &mut MultiplexedConnection, command: &[&str]) -> RedisResult<redis::Value> {
    cmd(command[0]).arg(&command[1..]).query_async(connection).await
}

async fn by_hand(command: &[&str]) {
    let mut connection = connect(&admin_account("REDIS")).await.unwrap();
    run(&mut connection, command).await.unwrap();
}

pub struct Redis;

impl Fixture for Redis {
    type Backend = RedisAdmin;

    fn address() -> String {
        format!("{}:{}", env("REDIS_HOST"), port())
    }

    fn account() -> Credentials {
        operator_account("REDIS")
    }

    fn connect(address: &str, account: Credentials) -> RedisAdmin {
        let (host, port) = address.split_once(':').unwrap();
        RedisAdmin::new(host, port.parse().unwrap(), None, account)
    }

    fn desired(id: &TenantId, owner: Owner, password: SecretString) -> RedisDesired {
        RedisDesired { tenant: RedisAdmin::name(id), owner, password }
    }

    async fn use_account(desired: &RedisDesired) -> Result<i64, String> {
        let uses = async {
            let prefix = format!("mt:{}:use-", desired.tenant);
            let mut session = connect(&account(desired)).await?;
            run(&mut session, &["SETEX", &format!("{prefix}{}", uuid::Uuid::new_v4()), "600", "x"]).await?;
            let mut admin = connect(&admin_account("REDIS")).await?;
            let keys: Vec<String> = cmd("KEYS").arg(format!("{prefix}*")).query_async(&mut admin).await?;
            Ok(i64::try_from(keys.len()).expect("a few"))
        };
        uses.await.map_err(|error: redis::RedisError| error.to_string())
    }

    async fn edit(RedisDesired { tenant, .. }: &RedisDesired) -> Vec<String> {
        by_hand(&["ACL", "SETUSER", tenant, "off", "~*", "(+@all ~*)"]).await;
        vec![format!("set state, keys, selectors of user {tenant}")]
    }

    async fn create_foreign(name: &str) {
        by_hand(&["ACL", "SETUSER", name, "on"]).await;
    }

    async fn foreign(name: &str) -> String {
        let mut connection = connect(&admin_account("REDIS")).await.unwrap();
        format!("{:?}", run(&mut connection, &["ACL", "GETUSER", name]).await.unwrap())
    }

    async fn mark(_: &RedisAdmin, RedisDesired { tenant, .. }: &RedisDesired, _: &Marker, to: &str) {
        by_hand(&["ACL", "SETUSER", tenant, "clearselectors", &format!("(~posthouse-owner:{to})")]).await;
    }

    async fn remove_foreign(name: &str) {
        by_hand(&["ACL", "DELUSER", name]).await;
    }
}

suite!(Redis);

#[tokio::test]
async fn tenant_is_made_kept_repaired_and_removed() {
    let (admin, desired) = (admin(operator_account("REDIS")), desired());
    let tenant = desired.tenant.clone();
    let body = async {
        assert_eq!(
            timed("redis create", converge(&admin, &desired)).await,
            [format!("create user {tenant}")]
        );
        assert_eq!(timed("redis steady", converge(&admin, &desired)).await, [""; 0]);

        by_hand(&["ACL", "SETUSER", &tenant, "~*", "&*", "+config", ">another"]).await;
        assert_eq!(
            timed("redis repair", converge(&admin, &desired)).await,
            [format!("set password, commands, keys, channels of user {tenant}")]
        );
        by_hand(&["ACL", "SETUSER", &tenant, "off", "(+@all ~*)"]).await;
        assert_eq!(converge(&admin, &desired).await, [format!("set state, selectors of user {tenant}")]);
        assert_eq!(converge(&admin, &desired).await, [""; 0]);

        let mut session = connect(&account(&desired)).await.unwrap();
        for number in 0..50 {
            run(&mut session, &["SETEX", &format!("mt:{tenant}:{number}"), "600", "x"]).await.unwrap();
        }
        let removed = timed("redis remove", admin.remove(&claim(&desired))).await.unwrap();
        assert_eq!(removed, [format!("50 keys mt:{tenant}:*"), format!("user {tenant}")]);
        assert_eq!(admin.remove(&claim(&desired)).await.unwrap(), [""; 0]);
        assert!(run(&mut session, &["PING"]).await.is_err(), "the open session ended");
        let mut connection = connect(&admin_account("REDIS")).await.unwrap();
        let keys: Vec<String> =
            cmd("KEYS").arg(format!("*{tenant}*")).query_async(&mut connection).await.unwrap();
        assert_eq!(keys, [""; 0]);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn one_tenant_gets_nothing_of_another() {
    let (admin, a, b) = (admin(operator_account("REDIS")), desired(), desired());
    let body = async {
        converge(&admin, &a).await;
        converge(&admin, &b).await;
        let (key, channel) = (format!("mt:{}:k", a.tenant), format!("mt:{}:c", a.tenant));
        let own = format!("mt:{}:k", b.tenant);
        let mut owner = connect(&account(&a)).await.unwrap();
        run(&mut owner, &["SETEX", &key, "600", "private"]).await.unwrap();
        run(&mut owner, &["PUBLISH", &channel, "x"]).await.unwrap();
        let mut intruder = connect(&account(&b)).await.unwrap();
        run(&mut intruder, &["SETEX", &own, "600", "x"]).await.unwrap();
        for attempt in [
            &["GET", &key][..],
            &["SET", &key, "x"],
            &["SETEX", &key, "600", "x"],
            &["DEL", &key],
            // What holds up or fills the server for all, with own keys too.
            &["EVAL", "while true do end", "0"],
            &["SETRANGE", &own, "125000000", "x"],
            &["APPEND", &own, "x"],
            &["BITFIELD", &own, "SET", "u8", "#125000000", "1"],
            &["SORT", &own],
            &["MULTI"],
            // What shows other tenants' keys.
            &["CLIENT", "TRACKING", "ON", "BCAST"],
            &["EXISTS", &key],
            &["COPY", &key, &own],
            &["EVAL", "return redis.call('get', ARGV[1])", "0", &key],
            &["PUBLISH", &channel, "x"],
            &["SUBSCRIBE", &channel],
            &["PUBSUB", "CHANNELS"],
            &["KEYS", "*"],
            &["SCAN", "0"],
            &["RANDOMKEY"],
            &["DBSIZE"],
            &["FLUSHALL"],
            &["CONFIG", "GET", "*"],
            &["CLIENT", "LIST"],
            &["MONITOR"],
            &["FUNCTION", "FLUSH"],
            &["SCRIPT", "FLUSH"],
            &["ACL", "LIST"],
            &["INFO"],
        ] {
            let refused = run(&mut intruder, attempt).await.expect_err(&attempt.join(" ")).to_string();
            let lower = refused.to_lowercase();
            assert!(lower.contains("permission") || lower.contains("can't access"), "{attempt:?}: {refused}");
        }
    };
    let clean_up = async {
        _ = admin.remove(&claim(&a)).await;
        _ = admin.remove(&claim(&b)).await;
    };
    story(body, clean_up).await;
}
