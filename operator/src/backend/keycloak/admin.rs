//! Reads and writes a tenant's part of Keycloak over its admin REST API.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crds::{Reason, TenantId};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use traces::Server;

use super::representation::{
    AS_DISCOVERED, DISABLED, DISCOVERED, ENDPOINTS, NOT_ALLOWED, OWNER, REGISTRATION_POLICY, REMOVED_SCOPES,
    SECRET, client_fields, endpoints_hash, is_registration_limit, no_registration, profile_attribute,
    profile_differences, provider_fields, realm_fields, whole_provider, whole_realm,
};
use super::{
    AUTH_CLIENT, KeycloakChange, KeycloakDesired, KeycloakObserved, MANAGEMENT_CLIENT,
    PROVIDER_RETENTION_DAYS, diff, plan,
};
use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::{BackendError, Holder},
        http,
        login::Credentials,
        ownership::{Claim, Owner, Ownership},
        statement::identifier,
        tls,
    },
    providers::check_endpoint,
    tenant::{Cell, Tenant},
    text::one_line,
};

/// Where a realm has its client scopes.
const SCOPES: &str = "client-scopes";
/// Where a realm has what may be asked of users at a sign-in.
const ACTIONS: &str = "authentication/required-actions";
/// Where a realm has the rules for what it knows of users.
const PROFILE: &str = "users/profile";
/// Where a realm has its identity providers.
const PROVIDERS: &str = "identity-provider/instances";
/// Of writes, instead of the client's own: a realm takes 1-2 s to make on a quiet machine, 6 s on a busy one.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A token is replaced this long before it ends; those of the master realm live 60 s.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// Administers tenants in one Keycloak. Created without I/O; fetches a token on first use and keeps it.
pub struct KeycloakAdmin {
    url: String,
    credentials: Credentials,
    http: reqwest::Client,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    value: SecretString,
    ends_at: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

impl Backend for KeycloakAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::Keycloak;

    type Desired = KeycloakDesired;
    type Observed = KeycloakObserved;
    type Change = KeycloakChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> KeycloakDesired {
        KeycloakDesired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.realm().to_string()
    }

    fn username(_: &TenantId) -> String {
        AUTH_CLIENT.to_owned()
    }

    /// Services find its public keys through the issuer of a token.
    fn arguments(_: &Tenant) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn in_sync(tenant: &Tenant) -> String {
        format!("realm {}", Self::name(&tenant.id))
    }

    fn problem(tenant: &Tenant) -> Option<(Reason, String)> {
        let (first, others) = tenant.providers.problems.split_first()?;
        let more = others.iter().map(|problem| format!("; {}", problem.message)).collect::<String>();
        Some((first.reason, format!("{}{more}", first.message)))
    }

    fn data(desired: &KeycloakDesired) -> Option<String> {
        Some(format!("realm {}", desired.realm))
    }

    fn facts(observed: &KeycloakObserved) -> BackendFacts {
        BackendFacts { generation: observed.realm_id.clone(), ..BackendFacts::default() }
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        Some(&cell.spec.keycloak.admin_secret_ref.name)
    }

    fn endpoint(cell: &Cell) -> String {
        format!("{} {}", cell.keycloak_url, cell.trust())
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        Self::trusting(cell.keycloak_url.as_str(), account, &cell.certificates)
    }

    /// Reads what the tenant has. Writes nothing.
    async fn observe(&self, desired: &KeycloakDesired) -> Result<KeycloakObserved, BackendError> {
        let realm = identifier(Self::ENTRY, &desired.realm)?;
        let Some((found, ownership)) = self.realm(realm, &desired.owner).await? else {
            return Ok(KeycloakObserved::default());
        };
        let ids = self.clients(realm).await?;
        let mut clients = BTreeMap::new();
        for (client, fields) in client_fields(desired) {
            if let Some(found) = ids.get(&client) {
                clients.insert(client, diff::hide_secret(diff::pick(&fields, found)));
            }
        }
        let roles = self.get(realm, "roles").await?.unwrap_or_default();
        let scopes = self.get(realm, SCOPES).await?.unwrap_or_default();
        let scopes = items(&scopes).iter().filter_map(name);
        let granted = self.get(realm, &default_roles(&found)).await?.unwrap_or_default();
        let actions = self.get(realm, ACTIONS).await?.unwrap_or_default();
        let profile = self.get(realm, PROFILE).await?.unwrap_or_default();
        let limit = self.registration_limit(realm).await?;
        let (service_roles, scope_roles) = self.service_roles(realm, &ids).await?;
        let (providers, outdated_providers) = self.providers(realm, desired).await?;
        Ok(KeycloakObserved {
            ownership,
            realm_id: found["id"].as_str().map(str::to_owned),
            realm: Some(diff::pick(&realm_fields(desired), &found)),
            clients,
            roles: items(&roles).iter().filter_map(name).collect(),
            service_roles,
            scope_roles,
            scopes: scopes.filter(|scope| REMOVED_SCOPES.contains(&scope.as_str())).collect(),
            default_roles: items(&granted).iter().filter_map(name).collect(),
            actions: items(&actions).iter().filter(is_on).filter_map(alias).collect(),
            profile: profile_differences(&profile).into_iter().collect(),
            takes_clients: limit.is_none_or(|found| found["config"] != no_registration()["config"]),
            providers,
            outdated_providers,
        })
    }

    fn plan(desired: &KeycloakDesired, observed: &KeycloakObserved) -> Vec<KeycloakChange> {
        plan(desired, observed)
    }

    fn kind(change: &KeycloakChange) -> ChangeKind {
        change.kind()
    }

    /// Makes one change of a plan.
    async fn apply(&self, desired: &KeycloakDesired, change: &KeycloakChange) -> Result<(), BackendError> {
        let realm = identifier(Self::ENTRY, &desired.realm)?;
        let action = change.to_string();
        match change {
            KeycloakChange::CreateRealm { .. } => {
                self.write(Method::POST, "", &whole_realm(desired), &action).await
            }
            KeycloakChange::TakeOver { .. } | KeycloakChange::SetRealm { .. } => {
                self.set_realm(realm, realm_fields(desired), &action).await
            }
            KeycloakChange::CreateClient { client, .. } => {
                self.write(Method::POST, &format!("{realm}/clients"), &declared(desired, client), &action)
                    .await
            }
            KeycloakChange::SetClient { client, .. } => {
                let id = self.client_id(realm, client, &action).await?;
                let path = format!("{realm}/clients/{id}");
                self.write(Method::PUT, &path, &declared(desired, client), &action).await
            }
            KeycloakChange::CreateRole { role, .. } => {
                self.write(Method::POST, &format!("{realm}/roles"), &json!({ "name": role }), &action).await
            }
            KeycloakChange::GrantServiceRole { role, .. } => {
                self.map_service_role(Method::POST, realm, role, &action).await
            }
            KeycloakChange::RevokeServiceRole { role, .. } => {
                self.map_service_role(Method::DELETE, realm, role, &action).await
            }
            KeycloakChange::CreateProvider { provider, .. } => {
                let whole = self.provider(realm, desired, provider, &action).await?;
                self.write(Method::POST, &format!("{realm}/{PROVIDERS}"), &whole, &action).await
            }
            KeycloakChange::SetProvider { provider, .. } => {
                let path = format!("{realm}/{PROVIDERS}/{provider}");
                let found = self.get(realm, &format!("{PROVIDERS}/{provider}")).await?;
                let mut whole = self.provider(realm, desired, provider, &action).await?;
                // Without its id Keycloak takes it for another one of the same name.
                whole["internalId"] = found.unwrap_or_default()["internalId"].clone();
                self.write(Method::PUT, &path, &whole, &action).await
            }
            KeycloakChange::DisableProvider { provider, .. } => {
                let found = self.get(realm, &format!("{PROVIDERS}/{provider}")).await?;
                let Some(mut whole) = found else { return Ok(()) };
                whole["enabled"] = false.into();
                whole["config"][DISABLED] = now_ms().to_string().into();
                self.write(Method::PUT, &format!("{realm}/{PROVIDERS}/{provider}"), &whole, &action).await
            }
            KeycloakChange::RemoveProvider { provider, .. } => {
                self.remove(&format!("{realm}/{PROVIDERS}/{provider}"), None, &action).await
            }
            KeycloakChange::RemoveScopes { .. } => {
                let found = self.get(realm, SCOPES).await?.unwrap_or_default();
                for scope in items(&found) {
                    if !name(scope).is_some_and(|name| REMOVED_SCOPES.contains(&name.as_str())) {
                        continue;
                    }
                    let path = format!("{realm}/{SCOPES}/{}", scope["id"].as_str().unwrap_or_default());
                    self.remove(&path, None, &action).await?;
                }
                Ok(())
            }
            KeycloakChange::RemoveDefaultRoles { .. } => {
                let found = self.get(realm, "").await?.unwrap_or_default();
                let path = default_roles(&found);
                let roles = self.get(realm, &path).await?.unwrap_or_default();
                self.remove(&format!("{realm}/{path}"), Some(&roles), &action).await
            }
            KeycloakChange::DisableActions { .. } => {
                let found = self.get(realm, ACTIONS).await?.unwrap_or_default();
                for required in items(&found).iter().filter(is_on) {
                    let mut off = required.clone();
                    off["enabled"] = false.into();
                    off["defaultAction"] = false.into();
                    let path = format!("{realm}/{ACTIONS}/{}", alias(required).unwrap_or_default());
                    self.write(Method::PUT, &path, &off, &action).await?;
                }
                Ok(())
            }
            KeycloakChange::SetProfile { .. } => {
                let mut profile = self.get(realm, PROFILE).await?.unwrap_or_default();
                for attribute in profile["attributes"].as_array_mut().into_iter().flatten() {
                    *attribute = profile_attribute(attribute);
                }
                self.write(Method::PUT, &format!("{realm}/{PROFILE}"), &profile, &action).await
            }
            KeycloakChange::CloseRegistration { .. } => {
                let path = format!("{realm}/components");
                let Some(mut found) = self.registration_limit(realm).await? else {
                    return self.write(Method::POST, &path, &no_registration(), &action).await;
                };
                found["config"] = no_registration()["config"].clone();
                let path = format!("{path}/{}", found["id"].as_str().unwrap_or_default());
                self.write(Method::PUT, &path, &found, &action).await
            }
        }
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        let realm = identifier(Self::ENTRY, &claim.name)?;
        Ok(self.realm(realm, &claim.owner).await?.map(|(_, ownership)| ownership).unwrap_or_default())
    }

    /// Removes the tenant's realm with all its users. Returns what was there.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let realm = identifier(Self::ENTRY, &claim.name)?;
        if self.realm(realm, &claim.owner).await?.is_none() {
            return Ok(Vec::new());
        }
        let action = format!("delete realm {realm}");
        let (status, text) = self.send(Method::DELETE, realm, None).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(vec![format!("realm {realm}")]);
        }
        Err(self.refused(&action, status, &text))
    }

    /// Releases a retained tenant: its users stay, none can sign in, and the next owner may re-adopt it.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let realm = identifier(Self::ENTRY, &claim.name)?;
        match self.realm(realm, &claim.owner).await? {
            Some((_, ownership)) if ownership.is_in_use() => {}
            _ => return Ok(()),
        }
        let fields = json!({ "enabled": false, "attributes": { OWNER: claim.owner.released().to_string() } });
        self.set_realm(realm, fields, &format!("release realm {realm}")).await
    }
}

impl KeycloakAdmin {
    /// `credentials` are the id and the secret of a client of the master realm with the role `create-realm`.
    pub fn new(url: impl Into<String>, credentials: Credentials) -> Self {
        Self::trusting(url, credentials, &[])
    }

    /// Returns one that trusts certificates beside the public ones.
    fn trusting(
        url: impl Into<String>,
        credentials: Credentials,
        certificates: &[reqwest::Certificate],
    ) -> Self {
        let url = url.into().trim_end_matches('/').to_owned();
        Self { url, credentials, http: http::client(certificates), token: Mutex::default() }
    }

    /// Returns the realm, `None` when there is none. A realm the operator did not create returns 403.
    async fn realm(&self, realm: &str, owner: &Owner) -> Result<Option<(Value, Ownership)>, BackendError> {
        let (status, text) = self.send(Method::GET, realm, None).await?;
        match status {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::FORBIDDEN => {
                let object = format!("realm {realm}");
                return Err(BackendError::Conflict { backend: Self::ENTRY, object, holder: Holder::Unknown });
            }
            _ => {}
        }
        let found = self.read(&format!("read realm {realm}"), status, &text)?;
        let marker = found["attributes"][OWNER].as_str();
        let ownership = Ownership::of(Self::ENTRY, &format!("realm {realm}"), marker, owner)?;
        Ok(Some((found, ownership)))
    }

    /// PUTs declared fields. Attributes are replaced as a whole, so those that are there are sent along.
    async fn set_realm(&self, realm: &str, mut fields: Value, action: &str) -> Result<(), BackendError> {
        let found = self.get(realm, "").await?.unwrap_or_default();
        let mut attributes = found["attributes"].as_object().cloned().unwrap_or_default();
        attributes.extend(fields["attributes"].as_object().cloned().unwrap_or_default());
        fields["attributes"] = Value::Object(attributes);
        self.write(Method::PUT, realm, &fields, action).await
    }

    /// Returns all clients of the realm by client id.
    async fn clients(&self, realm: &str) -> Result<BTreeMap<String, Value>, BackendError> {
        let clients = self.get(realm, "clients").await?.unwrap_or_default();
        let keyed = |client: &Value| Some((client["clientId"].as_str()?.to_owned(), client.clone()));
        Ok(items(&clients).iter().filter_map(keyed).collect())
    }

    async fn client_id(&self, realm: &str, client: &str, action: &str) -> Result<String, BackendError> {
        let found = self.get(realm, &format!("clients?clientId={client}")).await?.unwrap_or_default();
        let id = found[0]["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| self.gone(action, &format!("client {client}")))
    }

    /// Returns the rights of the service account, and those that tokens of its client carry.
    async fn service_roles(
        &self,
        realm: &str,
        clients: &BTreeMap<String, Value>,
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), BackendError> {
        let id = |client: &str| clients.get(client).and_then(|client| client["id"].as_str());
        let (Some(auth), Some(management)) = (id(AUTH_CLIENT), id(MANAGEMENT_CLIENT)) else {
            return Ok(Default::default());
        };
        let Some(user) = self.get(realm, &format!("clients/{auth}/service-account-user")).await? else {
            return Ok(Default::default());
        };
        let user = user["id"].as_str().unwrap_or_default();
        let roles = self.get(realm, &format!("users/{user}/role-mappings/clients/{management}")).await?;
        let scope = self.get(realm, &format!("clients/{auth}/scope-mappings/clients/{management}")).await?;
        let names =
            |roles: Option<Value>| items(&roles.unwrap_or_default()).iter().filter_map(name).collect();
        Ok((names(roles), names(scope)))
    }

    /// Returns the policy that limits how many clients register themselves.
    async fn registration_limit(&self, realm: &str) -> Result<Option<Value>, BackendError> {
        let policies = self.get(realm, &format!("components?type={REGISTRATION_POLICY}")).await?;
        Ok(items(&policies.unwrap_or_default()).iter().find(|policy| is_registration_limit(policy)).cloned())
    }

    /// Returns the identity providers that are declared or that the operator made, and which of them were disabled long ago. Those that
    /// others made are not ours.
    async fn providers(
        &self,
        realm: &str,
        desired: &KeycloakDesired,
    ) -> Result<(BTreeMap<String, Value>, BTreeSet<String>), BackendError> {
        let found = self.get(realm, PROVIDERS).await?.unwrap_or_default();
        let (mut providers, mut outdated) = (BTreeMap::new(), BTreeSet::new());
        let outdated_ms = now_ms() - PROVIDER_RETENTION_DAYS * 24 * 3600 * 1000;
        for mut found in items(&found).iter().cloned() {
            let alias = found["alias"].as_str().unwrap_or_default().to_owned();
            let declared = desired.providers.iter().find(|provider| provider.alias == alias);
            if declared.is_none() && found["config"][SECRET].is_null() {
                continue;
            }
            let config = &found["config"];
            let hash = endpoints_hash(|name| config[name].as_str().map(str::to_owned));
            let is_allowed = |name: &&str| {
                let issuer = declared.map_or("", |provider| provider.issuer.as_str());
                let check = |url| check_endpoint(name, url, issuer, &desired.provider_hosts).is_ok();
                config[*name].as_str().is_none_or(check)
            };
            let endpoints = match config[ENDPOINTS].as_str() == Some(&hash) {
                // The cell has taken a host back, or an earlier release asked for none.
                _ if declared.is_some() && !DISCOVERED.iter().all(is_allowed) => NOT_ALLOWED,
                true => AS_DISCOVERED,
                false => "changed",
            };
            let disabled_ms = config[DISABLED].as_str().and_then(|text| text.parse::<i64>().ok());
            if disabled_ms.is_some_and(|at| at < outdated_ms) {
                outdated.insert(alias.clone());
            }
            found["config"][ENDPOINTS] = endpoints.into();
            // Of one that is not declared it matters whether it can be used.
            let fields = match declared {
                None => Some(json!({ "enabled": false, "config": { DISABLED: "" } })),
                Some(provider) => provider_fields(desired, provider),
            };
            providers.insert(alias, diff::pick(&fields.unwrap_or_else(|| json!({})), &found));
        }
        Ok((providers, outdated))
    }

    /// Returns a declared identity provider as Keycloak takes it. Keycloak reads the discovery document of the issuer: it is the one
    /// that has to reach it.
    async fn provider(
        &self,
        realm: &str,
        desired: &KeycloakDesired,
        alias: &str,
        action: &str,
    ) -> Result<Value, BackendError> {
        let declared = desired.providers.iter().find(|provider| provider.alias == alias);
        let declared = declared.ok_or_else(|| self.gone(action, "the declared provider"))?;
        let document = format!("{}/.well-known/openid-configuration", declared.issuer);
        let unusable = |why: &str| {
            let detail = format!(
                "{document} is not usable ({why}); correct spec.identity.providers, or see to that server"
            );
            BackendError::Refused { backend: Self::ENTRY, action: action.into(), detail, retryable: true }
        };
        let path = format!("{realm}/identity-provider/import-config");
        let request = json!({ "providerId": "oidc", "fromUrl": document });
        let (status, text) = self.send(Method::POST, &path, Some(&request)).await?;
        if !status.is_success() {
            return Err(unusable(&format!("Keycloak cannot read it: {status}")));
        }
        let discovered: HashMap<String, Value> =
            serde_json::from_str(&text).map_err(|_| unusable("Keycloak does not understand it"))?;
        let discovered: HashMap<String, String> = discovered
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
            .collect();
        if discovered.get("issuer") != Some(&declared.issuer) {
            return Err(unusable("it is of another issuer"));
        }
        for required in ["authorizationUrl", "tokenUrl", "jwksUrl"] {
            if !discovered.contains_key(required) {
                return Err(unusable(&format!("it has no {required}")));
            }
        }
        for name in DISCOVERED {
            let Some(url) = discovered.get(name) else { continue };
            check_endpoint(name, url, &declared.issuer, &desired.provider_hosts)
                .map_err(|why| unusable(&why))?;
        }
        let whole = whole_provider(desired, declared, &discovered);
        let whole = whole.ok_or_else(|| self.gone(action, "the secret of the provider"))?;
        Ok(serde_json::to_value(whole).expect("Keycloak's types are plain data"))
    }

    async fn map_service_role(
        &self,
        method: Method,
        realm: &str,
        role: &str,
        action: &str,
    ) -> Result<(), BackendError> {
        let auth = self.client_id(realm, AUTH_CLIENT, action).await?;
        let management = self.client_id(realm, MANAGEMENT_CLIENT, action).await?;
        let user = self.get(realm, &format!("clients/{auth}/service-account-user")).await?;
        let user = user.and_then(|user| user["id"].as_str().map(str::to_owned));
        let user = user.ok_or_else(|| self.gone(action, "the service account"))?;
        let role = self.get(realm, &format!("clients/{management}/roles/{role}")).await?;
        let role = role.ok_or_else(|| self.gone(action, "the role"))?;
        let role = json!([role]);
        for of in [format!("users/{user}/role-mappings"), format!("clients/{auth}/scope-mappings")] {
            self.write(method.clone(), &format!("{realm}/{of}/clients/{management}"), &role, action).await?;
        }
        Ok(())
    }

    /// GETs something within a realm; `None` when it is not there.
    async fn get(&self, realm: &str, path: &str) -> Result<Option<Value>, BackendError> {
        let path = if path.is_empty() { realm.to_owned() } else { format!("{realm}/{path}") };
        let (status, text) = self.send(Method::GET, &path, None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(&format!("read {path}"), status, &text).map(Some)
    }

    async fn write(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        action: &str,
    ) -> Result<(), BackendError> {
        let (status, text) = self.send(method, path, Some(body)).await?;
        if status.is_success() { Ok(()) } else { Err(self.refused(action, status, &text)) }
    }

    /// Removes something; what is not there is gone already.
    async fn remove(&self, path: &str, body: Option<&Value>, action: &str) -> Result<(), BackendError> {
        let (status, text) = self.send(Method::DELETE, path, body).await?;
        let is_gone = status.is_success() || status == StatusCode::NOT_FOUND;
        if is_gone { Ok(()) } else { Err(self.refused(action, status, &text)) }
    }

    fn read(&self, action: &str, status: StatusCode, text: &str) -> Result<Value, BackendError> {
        if !status.is_success() {
            return Err(self.refused(action, status, text));
        }
        serde_json::from_str(text).map_err(|_| self.refused(action, status, "the answer is no JSON"))
    }

    /// Sends one request under `/admin/realms`. A token that Keycloak no longer knows is replaced once.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, String), BackendError> {
        let url = format!("{}/admin/realms/{path}", self.url);
        let url = url.trim_end_matches('/');
        for attempt in 0..2 {
            let token = self.token().await?;
            let mut request = self.http.request(method.clone(), url).bearer_auth(token.expose_secret());
            if method != Method::GET {
                request = request.timeout(WRITE_TIMEOUT);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = http::read(Server::Keycloak, &method, request.send()).await;
            let (status, text) = answer.map_err(|error| self.unavailable(error))?;
            if status == StatusCode::UNAUTHORIZED {
                *self.token.lock().await = None;
                if attempt == 0 {
                    continue;
                }
                return Err(self.rejected());
            }
            if http::is_away(status) {
                let detail = format!("it answers {status}");
                let (backend, endpoint) = (Self::ENTRY, self.url.clone());
                return Err(BackendError::Unavailable { backend, endpoint, detail });
            }
            return Ok((status, text));
        }
        Err(self.rejected())
    }

    async fn token(&self) -> Result<SecretString, BackendError> {
        // Held across the request on purpose: a caller that comes meanwhile needs the same token.
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| Instant::now() < token.ends_at) {
            return Ok(token.value.clone());
        }
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.credentials.username),
            ("client_secret", self.credentials.password.expose_secret()),
        ];
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.url);
        let sent = traces::sent(Server::Keycloak, "POST", self.http.post(url).form(&form).send());
        let answer = sent.await.map_err(|error| self.unavailable(error))?;
        match answer.status() {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.rejected());
            }
            status if !status.is_success() => {
                let detail = format!("it answers {status} when asked for a token");
                let (backend, endpoint) = (Self::ENTRY, self.url.clone());
                return Err(BackendError::Unavailable { backend, endpoint, detail });
            }
            _ => {}
        }
        let answer: TokenAnswer = answer.json().await.map_err(|error| self.unavailable(error))?;
        let lifetime = Duration::from_secs(answer.expires_in).saturating_sub(TOKEN_MARGIN);
        let value = SecretString::from(answer.access_token);
        *kept = Some(Token { value: value.clone(), ends_at: Instant::now() + lifetime });
        Ok(value)
    }

    fn rejected(&self) -> BackendError {
        BackendError::CredentialsRejected { backend: Self::ENTRY, endpoint: self.url.clone() }
    }

    fn unavailable(&self, error: reqwest::Error) -> BackendError {
        BackendError::unavailable(Self::ENTRY, &self.url, tls::why(Self::ENTRY, &error))
    }

    fn refused(&self, action: &str, status: StatusCode, text: &str) -> BackendError {
        let body = serde_json::from_str::<Value>(text).ok();
        let body = body.as_ref().and_then(|body| body["errorMessage"].as_str().or(body["error"].as_str()));
        let detail = one_line(format!("{status}: {}", body.unwrap_or("no reason given")));
        // 409: another writer was faster, the next pass sees it.
        let retryable = [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
            || status.is_server_error();
        BackendError::Refused { backend: Self::ENTRY, action: action.into(), detail, retryable }
    }

    fn gone(&self, action: &str, what: &str) -> BackendError {
        let detail = format!("{what} no longer exists");
        BackendError::Refused { backend: Self::ENTRY, action: action.into(), detail, retryable: true }
    }
}

/// Returns the declared fields of one client.
fn declared(desired: &KeycloakDesired, client: &str) -> Value {
    let fields = client_fields(desired).into_iter().find(|(name, _)| name == client);
    fields.map(|(_, fields)| fields).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "an edge: since when a provider is declared no more")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns where a realm has the roles that every user has.
fn default_roles(realm: &Value) -> String {
    format!("roles-by-id/{}/composites", realm["defaultRole"]["id"].as_str().unwrap_or_default())
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(item: &Value) -> Option<String> {
    item["name"].as_str().map(str::to_owned)
}

fn alias(item: &Value) -> Option<String> {
    item["alias"].as_str().map(str::to_owned)
}

fn is_on(item: &&Value) -> bool {
    item["enabled"] == true
}
