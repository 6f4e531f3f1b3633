use std::time::{Duration, Instant};

use operator::backend::Credentials;
use operator::backend::redis::{RedisAdmin, RedisDesired, plan};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, cmd};
use secrecy::ExposeSecret;

use super::{
    admin_account, assert_reason, env, lines, operator_account, owner, password, story, stranger, tenant_id,
    timed,
};

fn port() -> u16 {
    env("REDIS_PORT").parse().unwrap()
}

pub fn admin(credentials: Credentials) -> RedisAdmin {
    RedisAdmin::new(env("REDIS_HOST"), port(), credentials)
}

pub fn desired() -> RedisDesired {
    RedisDesired { tenant: tenant_id(), owner: owner(), password: password() }
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

pub async fn converge(admin: &RedisAdmin, desired: &RedisDesired) -> Vec<String> {
    let changes = plan(desired, &admin.observe(desired).await.unwrap());
    for change in &changes {
        admin.apply(desired, change).await.unwrap();
    }
    lines(&changes)
}

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
            run(&mut session, &["SET", &format!("mt:{tenant}:{number}"), "x"]).await.unwrap();
        }
        let removed = timed("redis remove", admin.remove(&desired.claim())).await.unwrap();
        assert_eq!(removed, [format!("50 keys mt:{tenant}:*"), format!("user {tenant}")]);
        assert_eq!(admin.remove(&desired.claim()).await.unwrap(), [""; 0]);
        assert!(run(&mut session, &["PING"]).await.is_err(), "the open session ended");
        let mut connection = connect(&admin_account("REDIS")).await.unwrap();
        let keys: Vec<String> =
            cmd("KEYS").arg(format!("*{tenant}*")).query_async(&mut connection).await.unwrap();
        assert_eq!(keys, [""; 0]);
    };
    story(body, async { _ = admin.remove(&desired.claim()).await }).await;
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
        run(&mut owner, &["SET", &key, "private"]).await.unwrap();
        let mut intruder = connect(&account(&b)).await.unwrap();
        run(&mut intruder, &["SET", &own, "x"]).await.unwrap();
        run(&mut intruder, &["EVAL", "return redis.call('get', KEYS[1])", "1", &own]).await.unwrap();
        for attempt in [
            &["GET", &key][..],
            &["SET", &key, "x"],
            &["DEL", &key],
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
        _ = admin.remove(&a.claim()).await;
        _ = admin.remove(&b.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn a_foreign_user_is_reported_and_left_alone() {
    let (admin, desired) = (admin(operator_account("REDIS")), desired());
    let tenant = desired.tenant.clone();
    let body = async {
        by_hand(&["ACL", "SETUSER", &tenant, "on"]).await;
        assert_reason(admin.observe(&desired).await, "ResourceConflict");
        assert_reason(admin.remove(&desired.claim()).await, "ResourceConflict");
    };
    story(body, by_hand(&["ACL", "DELUSER", &tenant])).await;
}

#[tokio::test]
async fn a_retained_tenant_is_locked_and_taken_over_by_its_next_owner_in_its_namespace_only() {
    let (admin, first) = (admin(operator_account("REDIS")), desired());
    let next = RedisDesired { owner: owner(), password: password(), ..first.clone() };
    let thief = RedisDesired { owner: stranger(), ..next.clone() };
    let body = async {
        converge(&admin, &first).await;
        let key = format!("mt:{}:k", first.tenant);
        run(&mut connect(&account(&first)).await.unwrap(), &["SET", &key, "kept"]).await.unwrap();
        admin.release(&first.claim()).await.unwrap();
        assert!(connect(&account(&first)).await.is_err());
        assert_reason(admin.observe(&thief).await, "ResourceConflict");
        assert_eq!(converge(&admin, &next).await, [format!("take over the retained user {}", first.tenant)]);
        assert_eq!(converge(&admin, &next).await, [""; 0]);
        assert_reason(admin.observe(&first).await, "ResourceConflict");
        let kept = run(&mut connect(&account(&next)).await.unwrap(), &["GET", &key]).await.unwrap();
        assert_eq!(kept, redis::Value::BulkString(b"kept".to_vec()));
    };
    let clean_up = async {
        _ = admin.remove(&next.claim()).await;
        _ = admin.remove(&first.claim()).await;
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn wrong_password_and_dead_port_are_told_apart() {
    let wrong = Credentials::new(operator_account("REDIS").username, "wrong");
    assert_reason(admin(wrong).observe(&desired()).await, "CredentialsRejected");
    let started = Instant::now();
    let dead = RedisAdmin::new(env("REDIS_HOST"), 1, operator_account("REDIS"));
    assert_reason(dead.observe(&desired()).await, "BackendUnavailable");
    assert!(started.elapsed() < Duration::from_secs(4));
}
