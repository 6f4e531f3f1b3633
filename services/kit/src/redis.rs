//! Connections to the cache. Nothing durable lives there.

use std::time::Duration;

use redis::{
    ConnectionAddr, IntoConnectionInfo as _, RedisError, TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig, PubSubStream},
};
use secrecy::ExposeSecret as _;

use crate::config::{RedisArgs, Tls};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Returns a multiplexed connection that reconnects by itself.
pub fn connection(args: &RedisArgs) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    ConnectionManager::new_lazy_with_config(client(args)?, config)
}

/// Subscribes to a channel, over a connection of its own. It has no end of its own when Redis is gone without a word.
pub async fn subscribe(args: &RedisArgs, channel: &str) -> Result<PubSubStream, RedisError> {
    let client = client(args)?;
    let subscribed = async {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok(subscription.into_on_message())
    };
    let late = || RedisError::from((redis::ErrorKind::Io, "Redis did not answer in time"));
    tokio::time::timeout(TIMEOUT, subscribed).await.unwrap_or_else(|_| Err(late()))
}

fn client(args: &RedisArgs) -> Result<redis::Client, RedisError> {
    let (host, port) = args.redis_addr.rsplit_once(':').unwrap_or((&args.redis_addr, "6379"));
    let port = port.parse().map_err(|_| {
        RedisError::from((redis::ErrorKind::InvalidClientConfig, "the Redis address has no valid port"))
    })?;
    let settings = redis::RedisConnectionInfo::default()
        .set_username(&args.redis_username)
        .set_password(args.redis_password.expose_secret())
        // CLIENT SETINFO is not among a tenant's rights.
        .set_skip_set_lib_name();
    let host = host.to_owned();
    let (address, bundle) = match args.redis_tls {
        Tls::Disabled => (ConnectionAddr::Tcp(host, port), None),
        Tls::VerifyFull => {
            let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            (address, args.trust.oidc_ca_bundle.as_deref())
        }
    };
    let info = address.into_connection_info()?.set_redis_settings(settings);
    match bundle {
        None => redis::Client::open(info),
        // In place of the public authorities: the library has no room for both.
        Some(bundle) => {
            let root_cert = Some(bundle.as_bytes().to_vec());
            redis::Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        }
    }
}
