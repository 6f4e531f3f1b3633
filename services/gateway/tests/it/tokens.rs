//! Tokens that are not good here.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::{
    ErrorCode,
    wire::{CloseCode, Command, Connect, Outcome, Refresh},
};
use gateway::Limits;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use kit::testing::TestRealm;
use serde_json::{Value, json};

use crate::{
    client::Client,
    stand::{Stand, device, user, with_stand},
};

async fn refused(stand: &Stand, what: &str, token: String, code: ErrorCode, close: CloseCode) {
    let mut client = Client::open(stand.gateway.http).await;
    let connect = Connect { token, device: device(1) };
    let id = client.command(Command::Connect(connect)).await;
    assert_eq!(client.answer(id).await.expect_err(what), code, "{what}");
    assert_eq!(client.closed().await, Some(close.code()), "{what}");
}

/// Returns the claims of a good token.
fn claims(stand: &Stand) -> Value {
    json!({
        "iss": stand.realm.issuer, "aud": [stand.realm.audience], "sub": user(1), "typ": "Bearer",
        "iat": get_current_timestamp(), "exp": get_current_timestamp() + 300, "preferred_username": "one",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_can_have_no_profile_opens_no_connection() {
    with_stand(Limits::default(), async |stand| {
        let token = || stand.realm.token(user(1), "one");
        stand.peers.users.refuse(user(1));
        refused(&stand, "no profile", token(), ErrorCode::Unauthenticated, CloseCode::InvalidToken).await;
        // Of a user who is not known, while the user service does not answer.
        stand.peers.users.fail(Some(tonic::Code::Unavailable));
        let token = stand.realm.token(user(2), "two");
        refused(&stand, "an outage", token.clone(), ErrorCode::Unavailable, CloseCode::Drain).await;
        stand.peers.users.fail(None);
        stand.connect(user(2), device(2)).await;
        assert_eq!(stand.peers.users.name(user(2)).as_deref(), Some("someone"));
        // Who was here before is not held up.
        stand.peers.users.fail(Some(tonic::Code::Unavailable));
        stand.connect(user(2), device(3)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_token_of_this_realm_opens_a_connection() {
    with_stand(Limits::default(), async |stand| {
        let invalid = async |what: &str, token: String| {
            refused(&stand, what, token, ErrorCode::Unauthenticated, CloseCode::InvalidToken).await;
        };
        let changed = |changes: Value| stand.realm.token_with(user(1), "one", changes);
        let foreign = TestRealm::start("foreign").await;
        let good = stand.realm.token(user(1), "one");
        let (signed, signature) = good.rsplit_once('.').expect("three parts");

        invalid("no token", String::new()).await;
        invalid("not a token", "abc.def.ghi".into()).await;
        invalid("another realm's", foreign.token(user(1), "one")).await;
        invalid("another audience", changed(json!({"aud": ["account"]}))).await;
        invalid("no audience", changed(json!({"aud": null}))).await;
        invalid("an id token", changed(json!({"typ": "ID"}))).await;
        invalid("not yet valid", changed(json!({"nbf": get_current_timestamp() + 3600}))).await;
        invalid("no expiry", changed(json!({"exp": null}))).await;
        invalid("no user", changed(json!({"sub": null}))).await;
        invalid("a cut signature", format!("{signed}.{}", &signature[..signature.len() - 4])).await;

        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        for alg in ["none", "None", "NONE"] {
            let header = json!({"alg": alg, "typ": "JWT", "kid": "test"});
            invalid("alg none", format!("{}.{}.", part(&header), part(&claims(&stand)))).await;
            invalid("alg none, signed", format!("{}.{}.{signature}", part(&header), part(&claims(&stand))))
                .await;
        }
        // The public key as an HMAC secret: the classic confusion.
        let jwks = crate::stand::get(
            stand
                .realm
                .issuer
                .trim_start_matches("http://")
                .split('/')
                .next()
                .expect("a host")
                .parse()
                .expect("an address"),
            &format!("/realms/{}/protocol/openid-connect/certs", stand.tenant),
        )
        .await
        .expect("the key set");
        let body: Value = serde_json::from_str(jwks.split("\r\n\r\n").nth(1).expect("a body")).expect("json");
        let modulus = body["keys"][0]["n"].as_str().expect("a modulus");
        for secret in [modulus.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(modulus).expect("base64")] {
            for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let header = Header { kid: Some("test".into()), ..Header::new(alg) };
                let token =
                    encode(&header, &claims(&stand), &EncodingKey::from_secret(&secret)).expect("signed");
                invalid("HMAC by the public key", token).await;
            }
        }

        let expired = changed(json!({"exp": get_current_timestamp() - 60}));
        refused(&stand, "expired", expired, ErrorCode::TokenExpired, CloseCode::TokenExpired).await;

        // Nothing of this harmed the service.
        Client::open(stand.gateway.http).await.connect(&good, device(1)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_be_new_is_never_refused_for_good() {
    with_stand(Limits::default(), async |stand| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = |kid: &str| {
            let header = json!({"alg": "RS256", "typ": "JWT", "kid": kid});
            format!("{}.{}.{}", part(&header), part(&claims(&stand)), URL_SAFE_NO_PAD.encode([1; 256]))
        };
        let verdict = async |kid: &str| {
            let mut client = Client::open(stand.gateway.http).await;
            let id = client.command(Command::Connect(Connect { token: token(kid), device: device(1) })).await;
            (client.answer(id).await.expect_err("no key"), client.closed().await)
        };
        let invalid = (ErrorCode::Unauthenticated, Some(CloseCode::InvalidToken.code()));
        let withheld = (ErrorCode::Unavailable, Some(CloseCode::Drain.code()));
        // The realm is queried for one of them, and the others have to come back.
        let mut refused = None;
        let mut is_withheld = false;
        for n in 0..1_000 {
            let kid = n.to_string();
            let found = verdict(&kid).await;
            assert!(found == invalid || found == withheld, "{found:?}");
            is_withheld |= found == withheld;
            if found == invalid {
                refused.get_or_insert(kid);
            }
            if let (Some(kid), true) = (&refused, is_withheld) {
                assert_eq!(verdict(kid).await, invalid, "the realm does not have it");
                break;
            }
        }
        assert!(refused.is_some() && is_withheld);
        Client::open(stand.gateway.http).await.connect(&stand.realm.token(user(1), "one"), device(1)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lives_as_long_as_its_token_and_no_longer() {
    with_stand(Limits::default(), async |stand| {
        let short = json!({"exp": get_current_timestamp() + 3});
        let token = stand.realm.token_with(user(1), "one", short.clone());
        let mut ends = Client::open(stand.gateway.http).await;
        assert!(ends.connect(&token, device(1)).await.token_expires_in_seconds <= 3);
        let mut lives = Client::open(stand.gateway.http).await;
        lives.connect(&token, device(2)).await;

        let refresh = async |client: &mut Client, token: String| {
            let id = client.command(Command::Refresh(Refresh { token })).await;
            client.answer(id).await
        };
        let another = stand.realm.token(user(2), "two");
        let refused = refresh(&mut lives, another).await.expect_err("another user's");
        assert_eq!(refused, ErrorCode::PermissionDenied);
        let refused = refresh(&mut lives, "nonsense".into()).await.expect_err("no token");
        assert_eq!(refused, ErrorCode::Unauthenticated);
        match refresh(&mut lives, stand.realm.token(user(1), "one")).await.expect("a refresh") {
            Outcome::Refreshed(refreshed) => assert!(refreshed.token_expires_in_seconds > 200),
            other => panic!("{other:?}"),
        }

        assert_eq!(ends.closed().await, Some(CloseCode::TokenExpired.code()));
        assert!(lives.receives_nothing(std::time::Duration::from_millis(500)).await);
    })
    .await;
}
