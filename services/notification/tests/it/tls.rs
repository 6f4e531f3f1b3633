//! What stands where the broker should be, and gets nothing that it should not have.

use contracts::api::NotificationChannel;
use kit::{
    config::RabbitMqArgs,
    error::chain,
    testing::{TlsFront, without_tls},
    tls::Untrusted,
};
use notification::carrier::{Amqp, Broker as _, BrokerError};
use tokio::time::timeout;

use super::stand::PATIENCE;

/// Nothing is there: a broker that is not trusted is never passed on to.
const NOWHERE: &str = "127.0.0.1:9";
const PASSWORD: &str = "secret-word";
/// What a broker answers that does not understand how a connection begins.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// What a record of TLS begins with in which a handshake is.
const HANDSHAKE: u8 = 22;

/// Tries to connect to this `host:port` by TLS. Returns why it is not trusted.
async fn refused(address: &str, ca_bundle: Option<&str>) -> Untrusted {
    let settings = RabbitMqArgs {
        rabbitmq_url: Some(format!("amqps://{address}").parse().expect("a URL")),
        rabbitmq_virtual_host: Some("mt-acme".to_owned()),
        rabbitmq_username: Some("mt-acme".to_owned()),
        rabbitmq_password: Some(PASSWORD.to_owned().into()),
    };
    let broker = Amqp::new(settings, ca_bundle).expect("legal settings").expect("a broker");
    let error = broker.open(NotificationChannel::Webhook).await.err().expect("it is not trusted");
    // The log has all of it.
    let text = chain(&error);
    assert!(!text.contains(PASSWORD), "{text}");
    match error {
        BrokerError::Untrusted { why, .. } => {
            assert!(text.contains(&why.to_string()), "{text}");
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broker_of_an_unknown_authority_or_for_another_host_is_not_trusted() {
    let front = TlsFront::start(NOWHERE).await;
    let stranger = TlsFront::start(NOWHERE).await;
    for ca_bundle in [None, Some(stranger.ca_bundle.as_str())] {
        assert_eq!(refused(front.address(), ca_bundle).await, Untrusted::UnknownAuthority);
    }
    let elsewhere = TlsFront::named(NOWHERE, "DNS:elsewhere.example").await;
    assert_eq!(refused(elsewhere.address(), Some(&elsewhere.ca_bundle)).await, Untrusted::OtherHost);
}

/// One that was moved, or someone who stands before it.
#[tokio::test]
async fn a_broker_without_tls_gets_no_account_where_the_cell_has_tls() {
    let (address, receiving) = without_tls(HEADER).await;
    assert_eq!(refused(&address, None).await, Untrusted::Plain);
    let bytes = timeout(PATIENCE, receiving).await.expect("it ends").expect("all was received");
    assert_eq!(bytes.first(), Some(&HANDSHAKE));
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("AMQP") && !text.contains(PASSWORD), "{text}");
}
