//! Access tokens, validated locally against the tenant's realm.
//!
//! Issuer, audience, client, algorithm, expiry and token type are pinned. Keys come only from the configured issuer's key
//! set; key URLs or keys inside a token are never looked at. The user of a token has a profile, or it is not taken by any service.

mod profiles;

use std::{
    ops::RangeInclusive,
    sync::{Arc, OnceLock, RwLock},
    time::Duration,
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};
use contracts::{ErrorCode, SessionId, UserId};
pub use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use serde::{Deserialize, de::IgnoredAny};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;
use traces::{Server, sent};

use self::profiles::Profiles;
use crate::{
    backoff::Backoff,
    config::OidcArgs,
    error::{ApiError, ServiceError},
    health::Check,
    identity::IdentityError,
    rpc::InternalChannel,
    tls::trusting,
};

/// Tokens are signed with RSA by Keycloak's default; anything else is refused, `none` and HMAC included.
const ALGORITHM: Algorithm = Algorithm::RS256;
/// Seconds by which clocks may differ.
const LEEWAY_SECONDS: u64 = 10;
/// A key id that the realm did not have is refused without a query for this long.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Key ids that are remembered as unknown.
const MAX_UNKNOWN: usize = 64;
/// Unknown key ids and failures query the realm at most this often, so that forged tokens cannot flood it.
const FETCH_INTERVAL: Duration = Duration::from_secs(1);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts at the first fetch.
const KEYS_BACKOFF: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(5);
/// Keys of a realm are few: current, previous, and room for a rotation in progress.
const MAX_KEYS: usize = 16;

/// The user of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub user_id: UserId,
    pub username: String,
    /// The session that the token was issued in.
    pub session: SessionId,
    /// Seconds since the epoch.
    pub expires_at: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("an access token is required")]
    Missing,
    #[error("there is more than one authorization header")]
    Repeated,
    #[error("the access token is not valid here")]
    Invalid,
    #[error("the access token has expired")]
    Expired,
    #[error("failed to fetch the realm's keys")]
    Keys(#[source] IdentityError),
    #[error("the realm's keys were queried a moment ago")]
    KeysWithheld,
    /// In the words of the user service.
    #[error("your account cannot be used here: {0}")]
    NoProfile(String),
    #[error("your account is deleted")]
    Deleted,
    #[error("failed to query the user service for the user of a token")]
    Users(#[source] Box<tonic::Status>),
}

impl ServiceError for TokenError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Missing | Self::Repeated | Self::Invalid | Self::NoProfile(_) | Self::Deleted => {
                ErrorCode::Unauthenticated
            }
            Self::Expired => ErrorCode::TokenExpired,
            Self::Keys(_) | Self::KeysWithheld | Self::Users(_) => ErrorCode::Unavailable,
        }
    }
}

/// Validates access tokens of one realm.
pub struct TokenVerifier {
    /// Where the keys are; absent when they were given.
    jwks_url: Option<String>,
    validation: Validation,
    clients: Vec<String>,
    http: reqwest::Client,
    keys: RwLock<Vec<(String, DecodingKey)>>,
    fetches: Mutex<Fetches>,
    /// Every process has them; an API that is tested alone has none.
    profiles: OnceLock<Profiles>,
}

/// What the realm was queried for.
#[derive(Default)]
struct Fetches {
    last: Option<Instant>,
    /// Key ids that it did not have, and when.
    unknown: Vec<(String, Instant)>,
}

#[derive(Deserialize)]
struct TokenClaims {
    sub: UserId,
    exp: i64,
    preferred_username: String,
    /// A token without a session could not be ended before its time.
    sid: SessionId,
    /// Keycloak's token type; an id or refresh token is not an access token.
    typ: String,
    /// The client that the token was issued to.
    azp: String,
    /// Present in the tokens of service accounts, which are no users.
    client_id: Option<IgnoredAny>,
}

impl TokenVerifier {
    /// Returns a verifier without keys; they are fetched when the first token comes, or by [`Self::keep_keys`].
    pub fn new(args: &OidcArgs) -> Result<Arc<Self>, reqwest::Error> {
        let below_issuer = || format!("{}/protocol/openid-connect/certs", args.oidc_issuer);
        Self::of(args, Some(args.oidc_keys_url.clone().unwrap_or_else(below_issuer)), Vec::new())
    }

    /// Returns a verifier that knows these keys and never fetches others.
    pub fn with_keys(args: &OidcArgs, keys: &JwkSet) -> Result<Arc<Self>, reqwest::Error> {
        Self::of(args, None, decoding_keys(keys))
    }

    fn of(
        args: &OidcArgs,
        jwks_url: Option<String>,
        keys: Vec<(String, DecodingKey)>,
    ) -> Result<Arc<Self>, reqwest::Error> {
        // Both TLS and token code want one process-wide provider; a second install is harmless.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[&args.oidc_issuer]);
        validation.set_audience(&[&args.oidc_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        let http =
            reqwest::Client::builder().timeout(FETCH_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let http = trusting(http, args.trust.oidc_ca_bundle.as_deref())?.build()?;
        let clients = args.oidc_clients.clone();
        let (keys, fetches, profiles) = (RwLock::new(keys), Mutex::default(), OnceLock::new());
        Ok(Arc::new(Self { jwks_url, validation, clients, http, keys, fetches, profiles }))
    }

    /// Takes from now on no token of a user who has no profile in the user service behind this channel and can have none.
    pub fn require_profiles(&self, users: InternalChannel) {
        drop(self.profiles.set(Profiles::of(users)));
    }

    /// Fetches the keys until it succeeds once, so that a service is ready only when it can check a token.
    pub async fn keep_keys(self: Arc<Self>, check: Check, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(KEYS_BACKOFF);
        while let Err(error) = self.fetch(&mut *self.fetches.lock().await).await {
            check.failing(crate::error::chain(&error));
            if backoff.pause(&shutdown).await.is_break() {
                return;
            }
        }
        check.ok();
    }

    /// Returns whom the token stands for.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        // The key decides the algorithm, never the token.
        if header.alg != ALGORITHM {
            return Err(TokenError::Invalid);
        }
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let key = match self.key(&kid) {
            Some(key) => key,
            None => self.fetched_key(kid).await?,
        };
        let claims = decode::<TokenClaims>(token, &key, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?
            .claims;
        let is_of_client = self.clients.contains(&claims.azp);
        if claims.typ != "Bearer" || !is_of_client || claims.client_id.is_some() {
            return Err(TokenError::Invalid);
        }
        if let Some(profiles) = self.profiles.get() {
            profiles.require(claims.sub, &claims.preferred_username).await?;
        }
        Ok(Claims {
            user_id: claims.sub,
            username: claims.preferred_username,
            session: claims.sid,
            expires_at: claims.exp,
        })
    }

    fn key(&self, kid: &str) -> Option<DecodingKey> {
        let keys = self.keys.read().expect("no panic while the lock is held");
        keys.iter().find(|(id, _)| id == kid).map(|(_, key)| key.clone())
    }

    /// Queries the realm for a key. It is invalid only when the realm itself did not have it: when it may not be
    /// queried now, a key that is new may be good.
    async fn fetched_key(&self, kid: String) -> Result<DecodingKey, TokenError> {
        // Held over the fetch on purpose: one fetch at a time, the others wait for its result.
        let mut fetches = self.fetches.lock().await;
        if let Some(key) = self.key(&kid) {
            return Ok(key);
        }
        fetches.unknown.retain(|(_, at)| at.elapsed() < UNKNOWN_FOR);
        if fetches.unknown.iter().any(|(unknown, _)| *unknown == kid) {
            return Err(TokenError::Invalid);
        }
        if fetches.last.is_some_and(|at| at.elapsed() < FETCH_INTERVAL) {
            return Err(TokenError::KeysWithheld);
        }
        self.fetch(&mut fetches).await?;
        if let Some(key) = self.key(&kid) {
            return Ok(key);
        }
        if fetches.unknown.len() == MAX_UNKNOWN {
            fetches.unknown.remove(0);
        }
        fetches.unknown.push((kid, Instant::now()));
        Err(TokenError::Invalid)
    }

    async fn fetch(&self, fetches: &mut Fetches) -> Result<(), TokenError> {
        let Some(jwks_url) = &self.jwks_url else { return Ok(()) };
        let set = self.query(jwks_url).await;
        // A failure counts too, or all who wait would repeat it one after another.
        fetches.last = Some(Instant::now());
        *self.keys.write().expect("no panic while the lock is held") =
            decoding_keys(&set.map_err(|error| TokenError::Keys(error.into()))?);
        Ok(())
    }

    async fn query(&self, jwks_url: &str) -> Result<JwkSet, reqwest::Error> {
        let sent = sent(Server::Keycloak, "read the keys", self.http.get(jwks_url).send());
        sent.await?.error_for_status()?.json().await
    }
}

fn decoding_keys(set: &JwkSet) -> Vec<(String, DecodingKey)> {
    let keys = set.keys.iter().take(MAX_KEYS);
    keys.filter_map(|jwk| Some((jwk.common.key_id.clone()?, DecodingKey::from_jwk(jwk).ok()?))).collect()
}

/// Returns the token of a request. The scheme is compared without regard to case (RFC 9110, section 11.1). Of two
/// headers none counts: which one does must not depend on the reader.
fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenError::Missing)?;
    if values.next().is_some() {
        return Err(TokenError::Repeated);
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(TokenError::Missing)?;
    if scheme.eq_ignore_ascii_case("Bearer") {
        Ok(token.trim_start_matches(' '))
    } else {
        Err(TokenError::Missing)
    }
}

/// The authenticated caller of a REST request. The process puts its verifier into every public request.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user_id: UserId,
    pub username: String,
    /// The session that the token was issued in; it may have ended.
    pub session: SessionId,
    /// When the token expires, in seconds since the epoch.
    pub expires_at: i64,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let verifier: Arc<TokenVerifier> =
            parts.extensions.get().cloned().expect("a public request carries the verifier");
        let claims = verifier.verify(bearer(&parts.headers)?).await?;
        let Claims { user_id, username, session, expires_at } = claims;
        Ok(Self { user_id, username, session, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_token_of_a_request_is_in_its_one_authorization_header() {
        let check = |values: &[&'static str], expected: Result<&str, &str>| {
            let headers = values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            let headers: HeaderMap = headers.collect();
            let token = bearer(&headers).map_err(|error| error.to_string());
            assert_eq!(token.as_deref().map_err(String::as_str), expected, "{values:?}");
        };
        for value in ["Bearer a.b", "bearer a.b", "BEARER a.b", "Bearer  a.b"] {
            check(&[value], Ok("a.b"));
        }
        for values in [&[] as &[_], &[""], &["Bearer"], &["Basic a.b"], &["Bearera.b"], &["a.b"]] {
            check(values, Err("an access token is required"));
        }
        for values in
            [&["Bearer a.b", "Bearer c.d"], &["Bearer a.b", "Basic c"], &["Bearer a.b", "Bearer a.b"]]
        {
            check(values, Err("there is more than one authorization header"));
        }
    }
}
