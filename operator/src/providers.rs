//! Pure: which external identity providers a tenant gets.
//!
//! Keycloak sends a client secret to the server that the issuer names, and calls that server from inside the cell. So two others
//! have to agree with an author of tenants: the cell to the host, and those who write the Secret to the issuer.

use crds::{IdentityProvider, MessengerTenantSpec, Reason, Scheme};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::referenced::{Consent, Reference, ReferencedSecrets};

/// What is requested of a provider that names no scopes, beside `openid`.
const DEFAULT_SCOPES: [&str; 2] = ["profile", "email"];
/// Longest client secret in bytes.
const MAX_SECRET_BYTES: usize = 1024;

/// An external identity provider that the realm is to have.
#[derive(Clone, Debug)]
pub struct Provider {
    pub alias: String,
    pub display_name: String,
    pub issuer: String,
    pub client_id: String,
    /// Absent while the Secret cannot be used: what the realm has is left as it is then.
    pub client_secret: Option<SecretString>,
    /// With `openid`.
    pub scopes: Vec<String>,
}

/// Why a provider is not as declared, with the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub reason: Reason,
    pub message: String,
}

/// The external identity providers of a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Providers {
    /// Those that the realm is to have.
    pub allowed: Vec<Provider>,
    pub problems: Vec<Problem>,
}

/// Returns the names of the Secrets that a tenant's providers need.
pub(crate) fn secret_names(spec: &MessengerTenantSpec) -> impl Iterator<Item = &str> {
    declared(spec).iter().map(|provider| provider.client_secret_ref.name.as_str())
}

/// What a cell says of providers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellRules<'a> {
    pub name: &'a str,
    pub scheme: Scheme,
    /// The hosts that Keycloak may call, each with those below it.
    pub hosts: &'a [String],
}

/// Decides on the providers of a tenant in this namespace.
pub(crate) fn providers(
    spec: &MessengerTenantSpec,
    namespace: &str,
    cell: CellRules<'_>,
    secrets: &ReferencedSecrets,
) -> Providers {
    let mut providers = Providers::default();
    for declared in declared(spec) {
        if let Err(why) = allowed(declared, cell) {
            let message = format!("spec.identity.providers: {}: {why}", declared.alias);
            providers.problems.push(Problem { reason: Reason::ProviderNotAllowed, message });
            continue;
        }
        let client_secret = client_secret(declared, namespace, secrets);
        if let Err(why) = &client_secret {
            let message = format!("spec.identity.providers: {}: {why}", declared.alias);
            providers.problems.push(Problem { reason: Reason::ProviderSecretInvalid, message });
        }
        providers.allowed.push(Provider {
            alias: declared.alias.clone(),
            display_name: declared.display_name.clone().unwrap_or_else(|| declared.alias.clone()),
            issuer: declared.issuer.clone(),
            client_id: declared.client_id.clone(),
            client_secret: client_secret.ok(),
            scopes: scopes(declared),
        });
    }
    providers
}

fn declared(spec: &MessengerTenantSpec) -> &[IdentityProvider] {
    spec.identity.as_ref().and_then(|identity| identity.providers.as_deref()).unwrap_or_default()
}

fn scopes(declared: &IdentityProvider) -> Vec<String> {
    let default = || DEFAULT_SCOPES.map(str::to_owned).into();
    let mut scopes = declared.scopes.clone().unwrap_or_else(default);
    scopes.retain(|scope| scope != "openid");
    scopes.insert(0, "openid".to_owned());
    scopes
}

/// Checks that the cell lets Keycloak call the issuer.
fn allowed(declared: &IdentityProvider, cell: CellRules<'_>) -> Result<(), String> {
    let issuer = &declared.issuer;
    let url = Url::parse(issuer).map_err(|error| format!("issuer {issuer} is no URL: {error}"))?;
    if url.scheme() != "https" && cell.scheme == Scheme::Https {
        return Err(format!("issuer {issuer} must start with https://; a client secret is sent there"));
    }
    let host = url.host_str().unwrap_or_default();
    if is_host_allowed(host, cell.hosts) {
        return Ok(());
    }
    Err(format!(
        "MessengerCell {} does not allow {host} in spec.keycloak.providerHosts; have it added, or remove the provider",
        cell.name
    ))
}

/// Reports whether Keycloak may call a host, where it may call these and what is below them.
pub(crate) fn is_host_allowed(host: &str, allowed: &[String]) -> bool {
    let is_it = |name: &String| {
        host == name || host.strip_suffix(name.as_str()).is_some_and(|below| below.ends_with('.'))
    };
    allowed.iter().any(is_it)
}

/// Checks that the cell lets Keycloak call what an issuer says of itself: its discovery document may name any address, one inside the
/// cell too. Returns what is wrong.
pub(crate) fn check_endpoint(
    name: &str,
    endpoint: &str,
    issuer: &str,
    allowed: &[String],
) -> Result<(), String> {
    let url = Url::parse(endpoint).map_err(|error| format!("its {name} {endpoint} is no URL: {error}"))?;
    if url.scheme() != "https" && (url.scheme() != "http" || issuer.starts_with("https://")) {
        return Err(format!("its {name} {endpoint} must start with https://, like the issuer"));
    }
    let host = url.host_str().unwrap_or_default();
    if is_host_allowed(host, allowed) {
        return Ok(());
    }
    Err(format!(
        "its {name} is on {host}, which the cell does not allow in spec.keycloak.providerHosts; have it added, or remove the provider"
    ))
}

fn client_secret(
    declared: &IdentityProvider,
    namespace: &str,
    secrets: &ReferencedSecrets,
) -> Result<SecretString, String> {
    let (name, key) = (&declared.client_secret_ref.name, declared.client_secret_ref.key());
    let consent = Consent {
        annotation: crds::ISSUER_ANNOTATION,
        value: &declared.issuer,
        to: "be sent to this issuer",
    };
    let value = Reference { namespace, name, key, consent: Some(consent) }.read(secrets)?;
    let is_usable = |text: &str| {
        (1..=MAX_SECRET_BYTES).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    if is_usable(value.expose_secret()) {
        return Ok(value.clone());
    }
    Err(format!(
        "key {key} of Secret {namespace}/{name} is empty, longer than {MAX_SECRET_BYTES} bytes, or has a line break or another \
         character that is not printable ASCII; correct it"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::referenced::ReferencedSecret;

    fn check(
        issuer: &str,
        annotated: Option<&str>,
        value: Option<&str>,
        scheme: Scheme,
        expected: Option<(Reason, &str)>,
    ) {
        let hosts = ["corp.example".to_owned()];
        let cell = CellRules { name: "local", scheme, hosts: &hosts };
        let provider = json!({"alias": "corp", "issuer": issuer, "clientId": "posthouse",
            "clientSecretRef": {"name": "corp-client"}});
        let spec =
            json!({"tenantId": "acme", "cellRef": {"name": "local"}, "identity": {"providers": [provider]}});
        let spec: MessengerTenantSpec = serde_json::from_value(spec).expect("a spec");
        let annotation = |issuer: &str| (crds::ISSUER_ANNOTATION.to_owned(), issuer.to_owned());
        let secret = value.map(|value| ReferencedSecret {
            annotations: annotated.map(annotation).into_iter().collect(),
            data: BTreeMap::from([("clientSecret".to_owned(), Some(value.into()))]),
            ..ReferencedSecret::default()
        });
        let secrets = secret.map(|secret| ("corp-client".to_owned(), secret)).into_iter().collect();
        let found = providers(&spec, "acme", cell, &secrets);
        assert!(!format!("{found:?}").contains("secret-word"));
        let problem = found.problems.first();
        assert_eq!(problem.map(|problem| problem.reason), expected.map(|(reason, _)| reason), "{found:?}");
        if let Some((_, text)) = expected {
            assert!(problem.is_some_and(|problem| problem.message.contains(text)), "{found:?}");
        }
        let is_usable = found.allowed.iter().any(|provider| provider.client_secret.is_some());
        assert_eq!(is_usable, expected.is_none());
        let is_allowed = expected.is_none_or(|(reason, _)| reason == Reason::ProviderSecretInvalid);
        assert_eq!(!found.allowed.is_empty(), is_allowed);
    }

    #[test]
    fn the_cell_decides_on_the_host_and_the_holder_of_the_secret_on_the_issuer() {
        use Reason::{ProviderNotAllowed, ProviderSecretInvalid};
        let (https, issuer, word) =
            (Scheme::Https, "https://id.corp.example/realms/staff", Some("secret-word"));
        check(issuer, Some(issuer), word, https, None);
        check("https://corp.example", Some("https://corp.example"), word, https, None);
        for other in ["https://evilcorp.example", "https://corp.example.evil", "https://10.0.0.1"] {
            check(other, Some(other), word, https, Some((ProviderNotAllowed, "spec.keycloak.providerHosts")));
        }
        let plain = "http://id.corp.example";
        check(plain, Some(plain), word, https, Some((ProviderNotAllowed, "must start with https://")));
        check(plain, Some(plain), word, Scheme::Http, None);
        check(
            issuer,
            None,
            None,
            https,
            Some((ProviderSecretInvalid, "Secret acme/corp-client does not exist; create it")),
        );
        for annotated in [None, Some("https://corp.example")] {
            let step = "kubectl -n acme annotate --overwrite secret corp-client messenger.posthouse.dev/issuer=https://id.corp";
            check(issuer, annotated, word, https, Some((ProviderSecretInvalid, step)));
        }
        for value in ["", "new\n", "pässword"] {
            check(
                issuer,
                Some(issuer),
                Some(value),
                https,
                Some((ProviderSecretInvalid, "key clientSecret of Secret acme/corp")),
            );
        }
    }

    #[test]
    fn an_issuer_names_no_endpoint_on_another_host() {
        let check = |endpoint: &str, issuer: &str, expected: Option<&str>| {
            let found = check_endpoint("tokenUrl", endpoint, issuer, &["corp.example".to_owned()]);
            let found = found.err();
            assert_eq!(found.is_some(), expected.is_some(), "{endpoint}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{endpoint}");
        };
        let (secure, plain) = ("https://id.corp.example", "http://id.corp.example");
        check("https://corp.example/token", secure, None);
        check("https://tokens.corp.example:8443/token", secure, None);
        check("http://corp.example/token", plain, None);
        check("http://corp.example/token", secure, Some("must start with https://"));
        check("file:///etc/passwd", plain, Some("must start with https://"));
        for inside in
            ["https://169.254.169.254/latest", "https://keycloak.svc/admin", "https://evilcorp.example"]
        {
            check(inside, secure, Some("spec.keycloak.providerHosts"));
        }
        check("nowhere", secure, Some("is no URL"));
    }

    #[test]
    fn openid_is_requested_first_and_once() {
        let requested = |declared: serde_json::Value| {
            let provider = json!({"alias": "corp", "issuer": "https://corp.example", "clientId": "x",
                "clientSecretRef": {"name": "x", "key": "word"}, "scopes": declared});
            scopes(&serde_json::from_value(provider).expect("a provider")).join(" ")
        };
        assert_eq!(requested(json!(null)), "openid profile email");
        assert_eq!(requested(json!(["groups", "openid"])), "openid groups");
        assert_eq!(requested(json!([])), "openid");
    }
}
