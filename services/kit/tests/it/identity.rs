//! An identity provider over HTTPS, with a certificate of an authority of its own.

use contracts::{ErrorCode, UserId};
use kit::{
    auth::{TokenError, TokenVerifier},
    config::{OidcArgs, TrustArgs},
    error::{ServiceError as _, chain},
    health::Health,
    testing::{TestRealm, TlsFront, wait_for},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Starts a realm whose keys are served over HTTPS too, and returns the settings that read them there.
async fn realm() -> (TestRealm, OidcArgs) {
    let realm = TestRealm::start("acme").await;
    let path = realm.issuer.strip_prefix("http://").expect("a URL");
    let (server, path) = path.split_once('/').expect("a path");
    let front = TlsFront::start(server).await;
    let keys = format!("{}/{path}/protocol/openid-connect/certs", front.url);
    let trust = TrustArgs { oidc_ca_bundle: Some(front.ca_bundle) };
    let args = OidcArgs { oidc_keys_url: Some(keys), trust, ..realm.args() };
    (realm, args)
}

#[tokio::test]
async fn tokens_are_checked_with_keys_of_a_realm_whose_authority_is_in_the_bundle() {
    let (realm, args) = realm().await;
    let user = UserId::generate();
    let verifier = TokenVerifier::new(&args).expect("a verifier");
    assert_eq!(verifier.verify(&realm.token(user, "ann")).await.expect("a good token").user_id, user);
}

#[tokio::test]
async fn a_realm_of_an_unknown_authority_is_not_trusted_and_the_log_says_what_to_do() {
    let (realm, args) = realm().await;
    let other = TlsFront::start("127.0.0.1:9").await.ca_bundle;
    for oidc_ca_bundle in [None, Some(other)] {
        let trust = TrustArgs { oidc_ca_bundle };
        let verifier = TokenVerifier::new(&OidcArgs { trust, ..args.clone() }).expect("a verifier");
        let error = verifier.verify(&realm.token(UserId::generate(), "ann")).await.expect_err("no keys");
        assert!(matches!(error, TokenError::Keys(_)), "{error:?}");
        assert_eq!(error.code(), ErrorCode::Unavailable);
        let text = chain(&error);
        assert!(
            text.contains("authority that is not trusted") && text.contains("--oidc-ca-bundle"),
            "{text}"
        );

        // What a pod that does not become ready shows.
        let (health, stop) = (Health::default(), CancellationToken::new());
        let check = health.check("keys");
        let keeping = tokio::spawn(verifier.keep_keys(check, stop.clone()));
        wait_for("the reason", Duration::from_secs(30), || async {
            health.failing().iter().any(|(_, why)| why.contains("--oidc-ca-bundle")).then_some(())
        })
        .await;
        stop.cancel();
        keeping.await.expect("it ends");
    }
}
