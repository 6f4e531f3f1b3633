//! An account on the real Redis for one test.

use redis::{Cmd, FromRedisValue, Value, cmd};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::stack;
use crate::config::{RedisArgs, Tls, TrustArgs};

/// An account that may do what a tenant's may. Removed with the value, and with all keys.
pub struct TestCache {
    tenant: String,
    password: SecretString,
}

impl TestCache {
    /// Creates the account of a tenant that no other test uses.
    #[expect(clippy::disallowed_methods, reason = "an account of one test")]
    pub async fn create(tenant: &str) -> Self {
        let password = Uuid::new_v4().simple().to_string();
        let mut user = cmd("ACL");
        user.arg("SETUSER").arg(tenant).arg("reset").arg("on").arg(format!(">{password}"));
        user.arg(format!("~mt:{tenant}:*")).arg(format!("&mt:{tenant}:*")).arg("-@all");
        user.arg(catalog::REDIS_COMMANDS.iter().map(|command| format!("+{command}")).collect::<Vec<_>>());
        admin::<Value>(&user).await;
        Self { tenant: tenant.to_owned(), password: password.into() }
    }

    /// Returns the settings that a service reaches it with.
    pub fn args(&self) -> RedisArgs {
        let redis_password = self.password.expose_secret().into();
        RedisArgs { redis_username: self.tenant.clone(), redis_password, ..admin_args() }
    }

    /// Returns the tenant's keys that begin with `kind`, as the administrator sees them.
    pub async fn keys(&self, kind: &str) -> Vec<String> {
        admin(cmd("KEYS").arg(format!("mt:{}:{kind}*", self.tenant))).await
    }

    /// Returns the value of one of the tenant's keys; `None` when there is none.
    pub async fn value(&self, key: &str) -> Option<Vec<u8>> {
        admin(cmd("GET").arg(key)).await
    }

    /// Returns the members of a sorted set of the tenant, from the lowest score on.
    pub async fn members(&self, key: &str) -> Vec<String> {
        admin(cmd("ZRANGE").arg(key).arg(0).arg(-1)).await
    }

    /// Returns how many members a sorted set of the tenant has; 0 when there is none.
    pub async fn size(&self, key: &str) -> usize {
        admin(cmd("ZCARD").arg(key)).await
    }

    /// Removes all of the tenant's keys, as a flush does.
    pub async fn flush(&self) {
        let keys = self.keys("").await;
        if !keys.is_empty() {
            admin::<Value>(cmd("DEL").arg(keys)).await;
        }
    }

    /// Lets Redis refuse the tenant and end its connections, or take it again: what its services see of an outage.
    pub async fn set_down(&self, is_down: bool) {
        let state = if is_down { "off" } else { "on" };
        admin::<Value>(cmd("ACL").arg("SETUSER").arg(&self.tenant).arg(state)).await;
        if is_down {
            admin::<Value>(cmd("CLIENT").arg("KILL").arg("USER").arg(&self.tenant)).await;
        }
    }

    /// Replaces the value of one of the tenant's keys.
    pub async fn set(&self, key: &str, value: &str) {
        admin::<Value>(cmd("SET").arg(key).arg(value).arg("KEEPTTL")).await;
    }
}

impl Drop for TestCache {
    fn drop(&mut self) {
        let tenant = self.tenant.clone();
        // Dropping is synchronous and may happen inside a runtime, which cannot be blocked on: hence the thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                admin::<Value>(cmd("ACL").arg("DELUSER").arg(&tenant)).await;
                let keys: Vec<String> = admin(cmd("KEYS").arg(format!("mt:{tenant}:*"))).await;
                if !keys.is_empty() {
                    admin::<Value>(cmd("DEL").arg(keys)).await;
                }
            });
        });
        drop(dropped.join());
    }
}

fn admin_args() -> RedisArgs {
    RedisArgs {
        redis_addr: format!("{}:{}", stack("REDIS_HOST"), stack("REDIS_PORT")),
        redis_tls: Tls::Disabled,
        trust: TrustArgs::default(),
        redis_username: stack("REDIS_ADMIN_USERNAME"),
        redis_password: stack("REDIS_ADMIN_PASSWORD").into(),
    }
}

async fn admin<T: FromRedisValue>(command: &Cmd) -> T {
    let mut redis = crate::redis::connection(&admin_args()).expect("a connection");
    command.query_async(&mut redis).await.expect("Redis answers")
}
