//! Accounts and sessions in a Keycloak realm.

use std::time::{Duration, Instant};

use contracts::{SessionId, UserId};
use kit::{
    text::Password,
    traces::{Server, sent},
};
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, LOCATION},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::Mutex;
use tonic::async_trait;

use super::{AccountStore, StoreError};
use crate::{
    config::RealmArgs,
    domain::{Account, Credentials, Grant, ListedSession, NewAccount, OwnEmail, Session, email::Email},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Checking a password is hashing, which a busy Keycloak queues; a user waits no longer than this anyway.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The service account's token is renewed this long before it expires: longer than any call that uses it takes.
const RENEW_BEFORE: Duration = Duration::from_secs(15);
/// What the realm says of a refresh token that it has given and does not take any more. It has checked the signature by
/// then; what it did not give it calls invalid.
const OVER: [&str; 4] = [
    "Maximum allowed refresh token reuse exceeded",
    // Used again after more than one other, or revoked by an administrator.
    "Stale token",
    "Session not active",
    "Session doesn't have required client",
];
/// How the realm says that it has no such user, session or link. Another 404 comes from something on the way to it, or is of a realm that is gone: on its word,
/// accounts would count as deleted and sessions as over.
const NOT_THERE: &str = " not found";
/// The kind of credential that is a password.
const PASSWORD: &str = "password";
/// Longest text of the realm that is passed on.
const MAX_WORDS: usize = 200;

/// One realm, seen through a client of it that has a service account.
pub struct Keycloak {
    http: reqwest::Client,
    token_url: String,
    logout_url: String,
    users_url: String,
    sessions_url: String,
    client_id: String,
    client_secret: SecretString,
    service_token: Mutex<Option<ServiceToken>>,
}

struct ServiceToken {
    token: SecretString,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: SecretString,
    expires_in: i64,
    #[serde(default)]
    refresh_token: SecretString,
    #[serde(default)]
    refresh_expires_in: i64,
}

/// A session, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserSession {
    id: SessionId,
    /// Milliseconds since the epoch.
    start: i64,
    last_access: i64,
}

/// An account, as far as its address matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Addressee {
    id: UserId,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default)]
    enabled: bool,
}

/// What a user has beside a session: a link to an account of an identity provider, a credential, a consent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    identity_provider: String,
}

#[derive(Deserialize)]
struct Credential {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consent {
    client_id: String,
}

/// The fields in which Keycloak's parts report what is wrong.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
    #[serde(default, rename = "errorMessage")]
    error_message: String,
}

impl Keycloak {
    /// Returns the realm; it is not called yet.
    pub fn new(args: &RealmArgs) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let http = kit::tls::trusting(http, args.trust.oidc_ca_bundle.as_deref())?.build()?;
        let base = args.keycloak_url.as_str().trim_end_matches('/');
        let (realm, openid) = (&args.realm, format!("{base}/realms/{}/protocol/openid-connect", args.realm));
        Ok(Self {
            http,
            token_url: format!("{openid}/token"),
            logout_url: format!("{openid}/logout"),
            users_url: format!("{base}/admin/realms/{realm}/users"),
            sessions_url: format!("{base}/admin/realms/{realm}/sessions"),
            client_id: args.oidc_client_id.clone(),
            client_secret: args.oidc_client_secret.clone(),
            service_token: Mutex::default(),
        })
    }

    /// Posts a form with the credentials of our client.
    async fn post<T: Serialize + ?Sized + Sync>(
        &self,
        step: &'static str,
        url: &str,
        form: &T,
    ) -> Result<Response, StoreError> {
        let request = self
            .http
            .post(url)
            .basic_auth(&self.client_id, Some(self.client_secret.expose_secret()))
            .form(form);
        sent(Server::Keycloak, step, request.send()).await.map_err(|source| unreachable(step, source))
    }

    /// Returns a token of the service account, and a fresh one on request.
    async fn service_token(&self, fresh: bool) -> Result<SecretString, StoreError> {
        // Held over the request on purpose: one renewal at a time, the others wait for its result.
        let mut cached = self.service_token.lock().await;
        if let Some(held) = cached.as_ref().filter(|held| !fresh && Instant::now() < held.renew_at) {
            return Ok(held.token.clone());
        }
        let step = "sign in with its service account";
        let response = self.post(step, &self.token_url, &[("grant_type", "client_credentials")]).await?;
        if !response.status().is_success() {
            return Err(fault(step, response.status(), &refusal(response).await));
        }
        let answer: TokenAnswer = read(step, response).await?;
        let lifetime = Duration::from_secs(answer.expires_in.max(0).unsigned_abs());
        let renew_at = Instant::now() + lifetime.saturating_sub(RENEW_BEFORE);
        *cached = Some(ServiceToken { token: answer.access_token.clone(), renew_at });
        Ok(answer.access_token)
    }

    /// Sends a request about users with the service account.
    async fn administer(
        &self,
        step: &'static str,
        request: impl Fn(&reqwest::Client) -> RequestBuilder + Sync,
    ) -> Result<Response, StoreError> {
        let send = async |token: SecretString| {
            let request =
                request(&self.http).header(AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
            sent(Server::Keycloak, step, request.send()).await.map_err(|source| unreachable(step, source))
        };
        let response = send(self.service_token(false).await?).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // The realm has forgotten a token that has not expired: its keys were rotated, or it was recreated.
        send(self.service_token(true).await?).await
    }

    /// Returns the accounts with an address, whether they have confirmed it or not.
    async fn addressees(&self, email: &Email) -> Result<Vec<Addressee>, StoreError> {
        let step = "find an account by its e-mail address";
        let query = [("email", email.expose()), ("exact", "true"), ("briefRepresentation", "true")];
        let response = self.administer(step, |http| http.get(&self.users_url).query(&query)).await?;
        match response.status() {
            status if status.is_success() => {
                let found: Vec<Addressee> = read(step, response).await?;
                let has_it = |user: &Addressee| {
                    user.email.as_deref().is_some_and(|other| other.eq_ignore_ascii_case(email.expose()))
                };
                Ok(found.into_iter().filter(has_it).collect())
            }
            status => Err(fault(step, status, &refusal(response).await)),
        }
    }

    /// Changes the address of an account, which is there.
    async fn put_email(&self, user_id: UserId, email: &str, is_confirmed: bool) -> Result<(), StoreError> {
        let step = "set the e-mail address of an account";
        let url = self.user_url(user_id);
        // What a user has and the request has not, Keycloak takes away.
        let user: Option<serde_json::Value> = self.get(step, &url).await?;
        // The account was deleted at this moment.
        let mut user = user.ok_or(StoreError::Rejected)?;
        user["email"] = email.into();
        user["emailVerified"] = is_confirmed.into();
        let response = self.administer(step, |http| http.put(&url).json(&user)).await?;
        match response.status() {
            StatusCode::CONFLICT => Err(StoreError::EmailTaken),
            StatusCode::BAD_REQUEST => Err(StoreError::Refused(words(&refusal(response).await))),
            _ => found(step, response).await?.map(drop).ok_or(StoreError::Rejected),
        }
    }

    /// Reads what the realm has at an address; `None` where it says that it has nothing there.
    async fn get<T: DeserializeOwned>(&self, step: &'static str, url: &str) -> Result<Option<T>, StoreError> {
        let response = self.administer(step, |http| http.get(url)).await?;
        match found(step, response).await? {
            Some(response) => read(step, response).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns a list that belongs to an account; an empty one for an unknown user.
    async fn listed<T: DeserializeOwned>(
        &self,
        step: &'static str,
        user_id: UserId,
        list: &str,
    ) -> Result<Vec<T>, StoreError> {
        let url = format!("{}/{list}", self.user_url(user_id));
        self.get(step, &url).await.map(Option::unwrap_or_default)
    }

    /// Removes one item of such a list; one that is not there is removed already.
    async fn remove(
        &self,
        step: &'static str,
        user_id: UserId,
        list: &str,
        item: &str,
    ) -> Result<(), StoreError> {
        let mut url =
            reqwest::Url::parse(&self.user_url(user_id)).map_err(|_| StoreError::Unreadable { step })?;
        // Names of clients and providers are of any characters.
        url.path_segments_mut().map_err(|()| StoreError::Unreadable { step })?.extend([list, item]);
        let response = self.administer(step, |http| http.delete(url.clone())).await?;
        found(step, response).await.map(drop)
    }

    fn user_url(&self, user_id: UserId) -> String {
        format!("{}/{user_id}", self.users_url)
    }
}

#[async_trait]
impl AccountStore for Keycloak {
    #[tracing::instrument(name = "auth.store.register", skip_all)]
    async fn register(&self, account: &NewAccount) -> Result<UserId, StoreError> {
        let step = "make an account";
        let user = json!({
            "username": account.username.as_str(),
            "enabled": true,
            "credentials": [
                {"type": "password", "value": account.password.expose(), "temporary": false}
            ],
        });
        let response = self.administer(step, |http| http.post(&self.users_url).json(&user)).await?;
        match response.status() {
            StatusCode::CREATED => {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let id = location.and_then(|location| location.rsplit('/').next());
                id.and_then(|id| id.parse().ok()).ok_or(StoreError::Unreadable { step })
            }
            StatusCode::CONFLICT => Err(StoreError::Taken(account.username.as_str().to_owned())),
            StatusCode::BAD_REQUEST => Err(StoreError::Refused(words(&refusal(response).await))),
            status => Err(fault(step, status, &refusal(response).await)),
        }
    }

    #[tracing::instrument(name = "auth.store.account", skip_all)]
    async fn account(&self, credentials: &Credentials) -> Result<Account, StoreError> {
        // The realm checks a password by a sign-in only; what it counts and blocks is the same.
        let grant = self.sign_in(credentials).await?;
        self.sign_out(&grant.refresh_token).await?;
        let name = grant.account_name().ok_or(StoreError::Unreadable { step: "sign a user in" })?;
        Ok(Account { user_id: grant.session.user_id, username: name.username })
    }

    #[tracing::instrument(name = "auth.store.has_password", skip_all, fields(user = %user_id))]
    async fn has_password(&self, user_id: UserId) -> Result<bool, StoreError> {
        let step = "list the credentials of an account";
        let credentials: Vec<Credential> = self.listed(step, user_id, "credentials").await?;
        Ok(credentials.iter().any(|credential| credential.kind == PASSWORD))
    }

    #[tracing::instrument(name = "auth.store.delete", skip_all, fields(user = %user_id))]
    async fn delete(&self, user_id: UserId) -> Result<(), StoreError> {
        let step = "delete an account";
        let response = self.administer(step, |http| http.delete(self.user_url(user_id))).await?;
        found(step, response).await.map(drop)
    }

    #[tracing::instrument(name = "auth.store.exists", skip_all, fields(user = %user_id))]
    async fn exists(&self, user_id: UserId) -> Result<bool, StoreError> {
        let step = "find an account";
        let response = self.administer(step, |http| http.get(self.user_url(user_id))).await?;
        Ok(found(step, response).await?.is_some())
    }

    #[tracing::instrument(name = "auth.store.sign_in", skip_all)]
    async fn sign_in(&self, credentials: &Credentials) -> Result<Grant, StoreError> {
        let Credentials { username, password } = credentials;
        let form =
            [("grant_type", "password"), ("username", username.as_str()), ("password", password.expose())];
        let step = "sign a user in";
        grant(step, self.post(step, &self.token_url, &form).await?, |_| StoreError::Rejected).await
    }

    #[tracing::instrument(name = "auth.store.redeem", skip_all)]
    async fn redeem(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Grant, StoreError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ];
        let step = "end a sign-in with an identity provider";
        grant(step, self.post(step, &self.token_url, &form).await?, |_| StoreError::InvalidCode).await
    }

    #[tracing::instrument(name = "auth.store.refresh", skip_all)]
    async fn refresh(&self, refresh_token: &SecretString) -> Result<Grant, StoreError> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose_secret())];
        let step = "go on with a session";
        let response = self.post(step, &self.token_url, &form).await?;
        let refused = |refusal: &Refusal| {
            if OVER.contains(&refusal.error_description.as_str()) {
                StoreError::SessionOver
            } else {
                StoreError::InvalidRefreshToken
            }
        };
        grant(step, response, refused).await
    }

    #[tracing::instrument(name = "auth.store.sign_out", skip_all)]
    async fn sign_out(&self, refresh_token: &SecretString) -> Result<Session, StoreError> {
        let step = "end a session";
        let form = [("refresh_token", refresh_token.expose_secret())];
        let response = self.post(step, &self.logout_url, &form).await?;
        if response.status().is_success() {
            // The realm has checked the signature, of a session that has ended too.
            return Session::of(refresh_token.expose_secret()).ok_or(StoreError::Unreadable { step });
        }
        let (status, refusal) = (response.status(), refusal(response).await);
        if refusal.error == "invalid_grant" {
            return Err(StoreError::InvalidRefreshToken);
        }
        Err(fault(step, status, &refusal))
    }

    #[tracing::instrument(name = "auth.store.sessions", skip_all, fields(user = %user_id))]
    async fn sessions(&self, user_id: UserId) -> Result<Vec<ListedSession>, StoreError> {
        let sessions: Vec<UserSession> =
            self.listed("list the sessions of a user", user_id, "sessions").await?;
        let listed = |session: UserSession| ListedSession {
            id: session.id,
            started_at_ms: session.start,
            last_used_at_ms: session.last_access,
        };
        Ok(sessions.into_iter().map(listed).collect())
    }

    #[tracing::instrument(name = "auth.store.end", skip_all, fields(user = %session.user_id))]
    async fn end(&self, session: &Session) -> Result<(), StoreError> {
        let step = "end a session of a user";
        let mut url = reqwest::Url::parse(&self.sessions_url).map_err(|_| StoreError::Unreadable { step })?;
        // The id is of any visible characters.
        url.path_segments_mut().map_err(|()| StoreError::Unreadable { step })?.push(session.id.as_str());
        let response = self.administer(step, |http| http.delete(url.clone())).await?;
        found(step, response).await.map(drop)
    }

    #[tracing::instrument(name = "auth.store.account_of", skip_all)]
    async fn account_of(&self, email: &Email) -> Result<Option<UserId>, StoreError> {
        let found = self.addressees(email).await?;
        Ok(found.into_iter().find(|user| user.email_verified && user.enabled).map(|user| user.id))
    }

    #[tracing::instrument(name = "auth.store.email", skip_all, fields(user = %user_id))]
    async fn email(&self, user_id: UserId) -> Result<OwnEmail, StoreError> {
        let step = "read the e-mail address of an account";
        let user: Option<Addressee> = self.get(step, &self.user_url(user_id)).await?;
        let Some(user) = user else { return Ok(OwnEmail::default()) };
        let email = user.email.and_then(|email| Email::parse("email", &email).ok());
        Ok(OwnEmail { is_confirmed: user.email_verified && email.is_some(), email })
    }

    #[tracing::instrument(name = "auth.store.set_email", skip_all, fields(user = %user_id))]
    async fn set_email(&self, user_id: UserId, email: &Email) -> Result<(), StoreError> {
        for other in self.addressees(email).await?.into_iter().filter(|other| other.id != user_id) {
            if other.email_verified {
                return Err(StoreError::EmailTaken);
            }
            self.put_email(other.id, "", false).await?;
        }
        self.put_email(user_id, email.expose(), true).await?;
        // The realm takes an address twice, so that it need not say who has it. Of two that are confirmed at one moment, perhaps none is.
        let found = self.addressees(email).await?;
        if found.iter().any(|other| other.id != user_id && other.email_verified) {
            self.put_email(user_id, "", false).await?;
            return Err(StoreError::EmailTaken);
        }
        Ok(())
    }

    #[tracing::instrument(name = "auth.store.set_password", skip_all, fields(user = %user_id))]
    async fn set_password(&self, user_id: UserId, password: &Password) -> Result<(), StoreError> {
        let step = "set a password";
        let url = format!("{}/reset-password", self.user_url(user_id));
        let credential = json!({"type": "password", "value": password.expose(), "temporary": false});
        let response = self.administer(step, |http| http.put(&url).json(&credential)).await?;
        match response.status() {
            StatusCode::BAD_REQUEST => Err(StoreError::Refused(words(&refusal(response).await))),
            // Without it the account was deleted at this moment.
            _ => found(step, response).await?.map(drop).ok_or(StoreError::Rejected),
        }
    }

    #[tracing::instrument(name = "auth.store.close_other_ways", skip_all, fields(user = %user_id))]
    async fn close_other_ways(&self, user_id: UserId) -> Result<(), StoreError> {
        let step = "remove the links of an account to identity providers";
        for Link { identity_provider } in self.listed(step, user_id, "federated-identity").await? {
            self.remove(step, user_id, "federated-identity", &identity_provider).await?;
        }
        let step = "remove the credentials of an account beside its password";
        let credentials: Vec<Credential> = self.listed(step, user_id, "credentials").await?;
        for credential in credentials.into_iter().filter(|credential| credential.kind != PASSWORD) {
            self.remove(step, user_id, "credentials", &credential.id).await?;
        }
        // Offline tokens stand in the same list, and go with what is removed of it.
        let step = "remove the offline tokens of an account";
        for Consent { client_id } in self.listed(step, user_id, "consents").await? {
            self.remove(step, user_id, "consents", &client_id).await?;
        }
        Ok(())
    }

    #[tracing::instrument(name = "auth.store.set_closed", skip_all, fields(user = %user_id))]
    async fn set_closed(&self, user_id: UserId, is_closed: bool) -> Result<(), StoreError> {
        let step = "close or open an account";
        let url = self.user_url(user_id);
        // What a user has and the request has not, Keycloak takes away.
        let user: Option<serde_json::Value> = self.get(step, &url).await?;
        let Some(mut user) = user else { return Ok(()) };
        user["enabled"] = (!is_closed).into();
        let response = self.administer(step, |http| http.put(&url).json(&user)).await?;
        found(step, response).await.map(drop)
    }

    #[tracing::instrument(name = "auth.store.is_closed", skip_all, fields(user = %user_id))]
    async fn is_closed(&self, user_id: UserId) -> Result<bool, StoreError> {
        let step = "look whether an account is closed";
        let user: Option<Addressee> = self.get(step, &self.user_url(user_id)).await?;
        Ok(user.is_some_and(|user| !user.enabled))
    }

    #[tracing::instrument(name = "auth.store.revoke_tokens", skip_all, fields(user = %user_id))]
    async fn revoke_tokens(&self, user_id: UserId) -> Result<(), StoreError> {
        let step = "revoke the tokens of an account";
        let url = format!("{}/logout", self.user_url(user_id));
        let response = self.administer(step, |http| http.post(&url)).await?;
        found(step, response).await.map(drop)
    }
}

/// Reads the response of the token endpoint. `rejected` gives the error for what the user got wrong.
async fn grant(
    step: &'static str,
    response: Response,
    rejected: impl FnOnce(&Refusal) -> StoreError + Send,
) -> Result<Grant, StoreError> {
    let status = response.status();
    if !status.is_success() {
        let refusal = refusal(response).await;
        if refusal.error != "invalid_grant" {
            return Err(fault(step, status, &refusal));
        }
        // Such as "Account is not fully set up": for the tenant's administrators, and not for the user who signs in.
        tracing::debug!(reason = words(&refusal), "the realm did not {step}");
        return Err(rejected(&refusal));
    }
    let answer: TokenAnswer = read(step, response).await?;
    let session = Session::of(answer.access_token.expose_secret());
    Ok(Grant {
        session: session.ok_or(StoreError::Unreadable { step })?,
        access_token: answer.access_token,
        expires_in_seconds: answer.expires_in,
        refresh_token: answer.refresh_token,
        refresh_expires_in_seconds: answer.refresh_expires_in,
    })
}

fn unreachable(step: &'static str, source: reqwest::Error) -> StoreError {
    // Its address may have an e-mail address in the query.
    StoreError::Unreachable { step, source: source.without_url().into() }
}

async fn read<T: DeserializeOwned>(step: &'static str, response: Response) -> Result<T, StoreError> {
    response.json().await.map_err(|source| {
        if source.is_decode() { StoreError::Unreadable { step } } else { unreachable(step, source) }
    })
}

/// Reads the refusal; a response that is no JSON holds none.
async fn refusal(response: Response) -> Refusal {
    response.json().await.unwrap_or_default()
}

/// Returns a response that is a success; `None` where the realm says that it does not have what the request names.
async fn found(step: &'static str, response: Response) -> Result<Option<Response>, StoreError> {
    let status = response.status();
    if status.is_success() {
        return Ok(Some(response));
    }
    let refusal = refusal(response).await;
    let says_so = [&refusal.error, &refusal.error_description].iter().any(|text| text.ends_with(NOT_THERE));
    if status == StatusCode::NOT_FOUND && says_so { Ok(None) } else { Err(fault(step, status, &refusal)) }
}

/// Returns the error for a response that is no fault of the user.
fn fault(step: &'static str, status: StatusCode, refusal: &Refusal) -> StoreError {
    // Whatever is on the way to the realm has no such fields.
    let is_on_the_way = status == StatusCode::NOT_FOUND && refusal.error.is_empty();
    if is_on_the_way || status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return StoreError::Unable { step, status: status.as_u16() };
    }
    StoreError::Misconfigured { step, status: status.as_u16(), error: words(refusal) }
}

/// Returns the realm's own words. They name a rule or a field, never a value.
fn words(refusal: &Refusal) -> String {
    let words = [&refusal.error_description, &refusal.error_message, &refusal.error];
    let words = words.into_iter().find(|words| !words.is_empty());
    let words = words.map_or("the realm refused it without a reason", |words| words);
    words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_words_are_passed_on() {
        let check = |json: &str, expected: &str| {
            assert_eq!(words(&serde_json::from_str(json).expect("a refusal")), expected);
        };
        check(
            r#"{"error":"invalidPasswordMinLengthMessage","error_description":"Invalid password: minimum length 8."}"#,
            "Invalid password: minimum length 8.",
        );
        check(
            r#"{"field":"username","errorMessage":"error-invalid-length","params":["username",3]}"#,
            "error-invalid-length",
        );
        check("{}", "the realm refused it without a reason");
    }
}
