//! What Google knows the tenant by: a service account, and access tokens that are granted to it (RFC 7523).

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use kit::{clock::now_ms, traces::Server};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};
use url::{Url, form_urlencoded};

use super::super::{Outside, SendError, beginning, outcome};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What the access token may be used for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// An assertion is used at once. Google takes an hour at most.
const ASSERTION_SECONDS: i64 = 600;
/// An access token is renewed so long before its end.
const MARGIN: Duration = Duration::from_secs(60);
/// Whatever the server says: Google's are good for an hour.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// After a failure the server is left alone for so long, however many messages wait; and so is it after a token that was refused was replaced.
const PAUSE: Duration = Duration::from_secs(5);

/// What it means that a token is refused which took the place of one that was.
const REFUSED_AGAIN: &str =
    "Firebase refuses the tokens that the service account of spec.notifications.fcm is granted";

/// A service account of a project of Google, as the file that its console makes.
pub struct ServiceAccount {
    project: String,
    email: String,
    /// Where tokens are granted, as the file has it: that text is the audience.
    audience: String,
    token_url: Url,
    key: EncodingKey,
    key_id: Option<String>,
}

/// It holds a private key.
impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceAccount({})", self.project)
    }
}

/// Why a text is no service account. Shows nothing of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    #[error("it is no JSON object with project_id, client_email, private_key and token_uri")]
    Unreadable,
    #[error("its project_id is no project: 1 to 64 of a-z 0-9 . : -")]
    Project,
    #[error("its token_uri is no URL")]
    TokenUri,
    #[error("its private_key is no RSA key in PEM")]
    Key,
}

#[derive(Deserialize)]
struct AccountFile {
    project_id: String,
    client_email: String,
    private_key: SecretString,
    private_key_id: Option<String>,
    token_uri: String,
}

impl ServiceAccount {
    /// Reads the file of a service account.
    pub fn parse(file: &SecretString) -> Result<Self, AccountError> {
        let AccountFile { project_id, client_email, private_key, private_key_id, token_uri } =
            serde_json::from_str(file.expose_secret()).map_err(|_| AccountError::Unreadable)?;
        let is_of_project =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".:-".contains(&byte);
        if !(1..=64).contains(&project_id.len()) || !project_id.bytes().all(is_of_project) {
            return Err(AccountError::Project);
        }
        let key = EncodingKey::from_rsa_pem(private_key.expose_secret().as_bytes());
        let account = Self {
            project: project_id,
            email: client_email,
            token_url: Url::parse(&token_uri).map_err(|_| AccountError::TokenUri)?,
            audience: token_uri,
            key: key.map_err(|_| AccountError::Key)?,
            key_id: private_key_id,
        };
        // What is shaped like a key shows whether it is one when it signs.
        account.assertion(0).ok_or(AccountError::Key)?;
        Ok(account)
    }

    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// Returns the signed claims by which the account requests a token.
    fn assertion(&self, at_seconds: i64) -> Option<String> {
        let header = Header { kid: self.key_id.clone(), ..Header::new(Algorithm::RS256) };
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.audience,
            "iat": at_seconds,
            "exp": at_seconds + ASSERTION_SECONDS,
        });
        encode(&header, &claims, &self.key).ok()
    }
}

/// The access token of a service account. All messages that need one wait for one request.
pub(super) struct Grant {
    outside: Outside,
    account: ServiceAccount,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// The last failure, and until when it stands.
    failure: Option<(SendError, Instant)>,
    /// Until when no other token that is refused is replaced.
    replaces_from: Option<Instant>,
}

struct Token {
    /// The value of `authorization`.
    bearer: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    expires_in: u64,
}

/// What OAuth says of a request that failed (RFC 6749, section 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Denied {
    error: String,
}

impl Grant {
    pub(super) fn new(outside: Outside, account: ServiceAccount) -> Self {
        Self { outside, account, held: Mutex::default() }
    }

    /// Returns the value of `authorization`, and another one than that which was refused. Where tokens are granted and refused all the time, that is no
    /// request for each message.
    pub(super) async fn bearer(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, SendError> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some(Token { bearer, until }) = &held.token
            && *until > now
        {
            if refused != Some(bearer) {
                return Ok(bearer.clone());
            }
            if held.replaces_from.is_some_and(|from| from > now) {
                return Err(SendError::Misconfigured(REFUSED_AGAIN.to_owned()));
            }
        }
        if let Some((failure, until)) = &held.failure
            && *until > now
        {
            return Err(failure.clone());
        }
        let requested = self.request().await;
        if refused.is_some() {
            held.replaces_from = Some(Instant::now() + PAUSE);
        }
        held.failure = requested.as_ref().err().map(|failure| (failure.clone(), Instant::now() + PAUSE));
        let token = requested?;
        let bearer = token.bearer.clone();
        held.token = Some(token);
        Ok(bearer)
    }

    async fn request(&self) -> Result<Token, SendError> {
        let misconfigured = |why: String| {
            SendError::Misconfigured(format!("the service account of spec.notifications.fcm: {why}"))
        };
        let assertion = self.account.assertion(now_ms() / 1000);
        let assertion = assertion.ok_or_else(|| misconfigured("its key does not sign".to_owned()))?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT_TYPE)
            .append_pair("assertion", &assertion)
            .finish();
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form_type);
        let (url, form) = (&self.account.token_url, form.into_bytes());
        let sent = self.outside.request(Server::Fcm, url, headers, form).await;
        let what = "token_uri of the service account of spec.notifications.fcm";
        let response = sent.map_err(|unanswered| unanswered.of_tenant(what))?;
        let (status, outcome) = (response.status(), outcome(&response));
        let body = beginning(response).await;
        match outcome {
            Ok(()) => token(&body),
            Err(later @ SendError::Later { .. }) => Err(later),
            // The service account is that of all users.
            Err(SendError::Limited { why, after }) => Err(SendError::Later { why, after }),
            Err(_) => Err(misconfigured(denial(status, &body))),
        }
    }
}

/// Reads a token that was granted.
fn token(body: &[u8]) -> Result<Token, SendError> {
    let unusable = || {
        let why = "the token server granted no usable token".to_owned();
        SendError::Later { why, after: None }
    };
    let Granted { access_token, expires_in } = serde_json::from_slice(body).map_err(|_| unusable())?;
    let bearer = format!("Bearer {}", access_token.expose_secret());
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| unusable())?;
    bearer.set_sensitive(true);
    let lifetime = Duration::from_secs(expires_in).min(MAX_LIFETIME).saturating_sub(MARGIN);
    Ok(Token { bearer, until: Instant::now() + lifetime })
}

/// Returns why no token was granted: the status, and the word of OAuth for it.
fn denial(status: StatusCode, body: &[u8]) -> String {
    let Denied { error } = serde_json::from_slice(body).unwrap_or_default();
    let is_word = (1..=40).contains(&error.len())
        && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let word = if is_word { format!(" {error}") } else { String::new() };
    format!("the token server answers with status {}{word}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer as _, Pkcs8V1Der},
        rsa::{KeyPair, KeySize},
    };
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    fn parse(file: serde_json::Value) -> Result<ServiceAccount, AccountError> {
        ServiceAccount::parse(&file.to_string().into())
    }

    #[test]
    fn a_service_account_is_read_whole_and_shows_no_key() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = |body: &str| format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let key = BASE64_STANDARD.encode(der.as_ref());
        let file = |changes: serde_json::Value| {
            let mut file = json!({
                "type": "service_account", "project_id": "acme-1", "client_email": "push@acme-1.example",
                "private_key": pem(&key), "private_key_id": "1", "token_uri": "https://oauth2.example/token",
            });
            for (name, value) in changes.as_object().unwrap() {
                file[name] = value.clone();
            }
            file
        };
        let account = parse(file(json!({}))).unwrap();
        assert_eq!(account.project(), "acme-1");
        assert_eq!(format!("{account:?}"), "ServiceAccount(acme-1)");
        for (changes, expected) in [
            (json!({"private_key": null}), AccountError::Unreadable),
            (json!({"project_id": "a/../b"}), AccountError::Project),
            (json!({"project_id": ""}), AccountError::Project),
            (json!({"token_uri": "nowhere"}), AccountError::TokenUri),
            (json!({"private_key": "hunter2"}), AccountError::Key),
            (json!({"private_key": pem(&key[..key.len() / 2])}), AccountError::Key),
        ] {
            assert_eq!(parse(file(changes.clone())).unwrap_err(), expected, "{changes}");
        }
        assert_eq!(ServiceAccount::parse(&"hunter2".into()).unwrap_err(), AccountError::Unreadable);
    }

    #[test]
    fn a_denial_is_named_by_a_word_and_nothing_else() {
        let denial = |body: &str| denial(StatusCode::BAD_REQUEST, body.as_bytes());
        let plain = "the token server answers with status 400";
        assert_eq!(denial(r#"{"error": "invalid_grant"}"#), format!("{plain} invalid_grant"));
        for other in ["", "<html>", r#"{"error": "ey A secret"}"#, r#"{"error": {"code": 1}}"#] {
            assert_eq!(denial(other), plain);
        }
    }
}
