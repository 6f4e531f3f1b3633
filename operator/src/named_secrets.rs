//! Pure: what the notification and the moderation service of a tenant get of Secrets that the manifest names.
//!
//! A key that signs requests to a URL of the manifest has to consent to it: a server that receives signatures may guess the key. A service account
//! consents by what it is: its key signs for its own `token_uri`, and is sent nowhere.

use std::collections::BTreeMap;

use aws_lc_rs::signature::RsaKeyPair;
use catalog::{Secret, Service};
use crds::MessengerTenantSpec;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use crate::{
    referenced::{Consent, Reference, ReferencedSecrets},
    secrets::{Copies, Unusable},
};

/// Those of Google have 2.5 KiB. It becomes a variable of the environment of a pod.
const MAX_ACCOUNT_BYTES: usize = 16 * 1024;
/// Shorter ones may be guessed from a signature.
const SIGNING_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

/// A Secret of the tenant, the name of the one that it copies, and the key there.
pub(crate) type Declared<'a> = (Secret, &'a str, &'a str);

/// Returns what a tenant declares. Without the service that reads it nothing of it has an effect.
pub(crate) fn declared(spec: &MessengerTenantSpec) -> Vec<Declared<'_>> {
    let is_enabled = |service| spec.services.as_ref().is_some_and(|all| all.is_enabled(service));
    let notifications = spec.notifications.as_ref().filter(|_| is_enabled(Service::Notification));
    let moderation = spec.moderation.as_ref().filter(|_| is_enabled(Service::Moderation));
    let fcm = notifications.and_then(|all| all.fcm.as_ref());
    let fcm = fcm.map(|fcm| (Secret::Fcm, fcm.service_account_secret_ref.name.as_str(), fcm.key()));
    let sms = notifications.and_then(|all| all.sms.as_ref());
    let sms = sms.map(|sms| (Secret::Sms, sms.signing_key_secret_ref.name.as_str(), sms.key()));
    let classifier = moderation.and_then(|all| all.classifier.as_ref());
    let classifier =
        classifier.map(|of| (Secret::Classifier, of.signing_key_secret_ref.name.as_str(), of.key()));
    fcm.into_iter().chain(sms).chain(classifier).collect()
}

/// Returns the URL of the manifest that a key signs for, with the annotation that consents to it.
fn signed_url(spec: &MessengerTenantSpec, secret: Secret) -> Option<(&'static str, &str)> {
    match secret {
        Secret::Sms => {
            let sms = spec.notifications.as_ref()?.sms.as_ref()?;
            Some((crds::SMS_URL_ANNOTATION, sms.url.as_str()))
        }
        Secret::Classifier => {
            let classifier = spec.moderation.as_ref()?.classifier.as_ref()?;
            Some((crds::CLASSIFIER_URL_ANNOTATION, classifier.url.as_str()))
        }
        _ => None,
    }
}

/// Returns the names of the Secrets that a tenant's services need.
pub(crate) fn secret_names(spec: &MessengerTenantSpec) -> impl Iterator<Item = &str> {
    declared(spec).into_iter().map(|(_, name, _)| name)
}

/// Returns what the tenant's own Secrets get of those that it names in this namespace.
pub(crate) fn copies(spec: &MessengerTenantSpec, namespace: &str, secrets: &ReferencedSecrets) -> Copies {
    let copy = |(secret, name, key): Declared<'_>| {
        let consent = signed_url(spec, secret).map(|(annotation, value)| Consent {
            annotation,
            value,
            to: "sign requests to this URL",
        });
        let read = Reference { namespace, name, key, consent }.read(secrets);
        let checked = read.and_then(|value| {
            let checked = match secret {
                Secret::Fcm => check_account(value.expose_secret()),
                _ => check_signing_key(value.expose_secret()),
            };
            let wrong = |why: String| format!("key {key} of Secret {namespace}/{name} {why}");
            checked.map(|()| value.clone()).map_err(wrong)
        });
        let data = checked.map(|value| BTreeMap::from([(secret.keys[0].key.to_owned(), value)]));
        let part = if secret == Secret::Classifier { "moderation" } else { "notifications" };
        let unusable = |why: String| Unusable::OfManifest(format!("spec.{part}.{secret}: {why}"));
        (secret, data.map_err(unusable))
    };
    declared(spec).into_iter().map(copy).collect()
}

/// The file of a service account, as far as it is used.
#[derive(Deserialize)]
struct Account {
    project_id: String,
    client_email: String,
    private_key: SecretString,
    token_uri: String,
}

/// Checks the file of a service account. Returns what is wrong, and the next step, and shows nothing of the file.
fn check_account(file: &str) -> Result<(), String> {
    let again = "download the file of the service account again";
    if file.len() > MAX_ACCOUNT_BYTES {
        return Err(format!("is longer than {MAX_ACCOUNT_BYTES} bytes; {again}"));
    }
    let Ok(Account { project_id, client_email, private_key, token_uri }) = serde_json::from_str(file) else {
        return Err(format!(
            "is no JSON object with project_id, client_email, private_key and token_uri; {again}"
        ));
    };
    let is_of_project =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".:-".contains(&byte);
    if !(1..=64).contains(&project_id.len()) || !project_id.bytes().all(is_of_project) {
        return Err(format!("has a project_id that is no project; {again}"));
    }
    if client_email.is_empty() {
        return Err(format!("has no client_email; {again}"));
    }
    let url = Url::parse(&token_uri).ok();
    let is_public = |url: &Url| {
        url.scheme() == "https"
            && url.port_or_known_default() == Some(443)
            && matches!(url.host(), Some(Host::Domain(name)) if name.contains('.'))
    };
    if !url.as_ref().is_some_and(is_public) {
        return Err(
            "has a token_uri that is no https URL on port 443 of a public host name; correct it".to_owned()
        );
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(private_key.expose_secret().as_bytes());
    let key = der.ok().and_then(|der| RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok());
    key.map(drop).ok_or_else(|| format!("has a private_key that is no RSA key in PEM; {again}"))
}

/// Checks a key that requests are signed with.
fn check_signing_key(key: &str) -> Result<(), String> {
    if SIGNING_KEY_BYTES.contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    Err(format!(
        "does not have {} to {} characters, or has a line break or another character that is not printable ASCII; correct it",
        SIGNING_KEY_BYTES.start(),
        SIGNING_KEY_BYTES.end()
    ))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer as _, Pkcs8V1Der},
        rsa::KeySize,
    };
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use crds::Reason;
    use serde_json::{Value, json};

    use super::*;
    use crate::referenced::ReferencedSecret;

    const URL: &str = "https://sms.acme.example/send";
    const CLASSIFIER_URL: &str = "https://labels.acme.example/classify";

    fn spec(is_enabled: bool) -> MessengerTenantSpec {
        let spec = json!({"tenantId": "acme", "cellRef": {"name": "local"},
        "services": {"notification": {"enabled": is_enabled}, "moderation": {"enabled": is_enabled}},
        "moderation": {"classifier": {"url": CLASSIFIER_URL, "signingKeySecretRef": {"name": "labels"}}},
        "notifications": {
            "fcm": {"serviceAccountSecretRef": {"name": "firebase"}},
            "sms": {"url": URL, "signingKeySecretRef": {"name": "sms-hook", "key": "word"}},
        }});
        serde_json::from_value(spec).expect("a spec")
    }

    fn account(changes: Value) -> String {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key has a DER form");
        let body = BASE64_STANDARD.encode(der.as_ref());
        let mut file = json!({
            "type": "service_account", "project_id": "acme-1", "client_email": "push@acme-1.example",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"),
            "token_uri": "https://oauth2.googleapis.com/token",
        });
        for (name, value) in changes.as_object().expect("an object") {
            file[name] = value.clone();
        }
        file.to_string()
    }

    fn secret(name: &str, url: Option<&str>, key: &str, value: &str) -> (String, ReferencedSecret) {
        let annotated =
            if name == "labels" { crds::CLASSIFIER_URL_ANNOTATION } else { crds::SMS_URL_ANNOTATION };
        let annotation = |url: &str| (annotated.to_owned(), url.to_owned());
        let secret = ReferencedSecret {
            annotations: url.map(annotation).into_iter().collect(),
            data: BTreeMap::from([(key.to_owned(), Some(value.into()))]),
            ..ReferencedSecret::default()
        };
        (name.to_owned(), secret)
    }

    /// Checks what one Secret of the tenant gets; an error names what is wrong.
    fn check(kind: Secret, found: (String, ReferencedSecret), expected: Option<&str>) {
        let secrets = ReferencedSecrets::from([found]);
        let copies = copies(&spec(true), "acme", &secrets);
        let message = copies[&kind].as_ref().err().map(|unusable| {
            assert_eq!(unusable.reason(), Reason::SecretInvalid);
            unusable.message("acme-copy")
        });
        assert_eq!(message.is_some(), expected.is_some(), "{message:?}");
        assert!(message.as_ref().is_none_or(|message| !message.contains("hunter2")), "{message:?}");
        let message = message.unwrap_or_default();
        assert!(message.contains(expected.unwrap_or_default()), "{message}");
    }

    #[test]
    fn what_the_operator_made_for_another_tenant_is_not_copied() {
        let of_another = |(name, secret): (String, ReferencedSecret)| {
            (name, ReferencedSecret { is_of_another_tenant: true, ..secret })
        };
        for (kind, found) in [
            (Secret::Fcm, secret("firebase", None, "serviceAccount", &account(json!({})))),
            (Secret::Sms, secret("sms-hook", Some(URL), "word", "a-key-that-is-long-enough")),
        ] {
            check(kind, found.clone(), None);
            check(kind, of_another(found), Some("belongs to another tenant"));
        }
    }

    #[test]
    fn a_service_account_is_whole_and_requests_its_tokens_at_a_public_host() {
        let fcm = |value: &str, expected: Option<&str>| {
            check(Secret::Fcm, secret("firebase", None, "serviceAccount", value), expected);
        };
        fcm(&account(json!({})), None);
        fcm(
            "hunter2",
            Some("spec.notifications.fcm: key serviceAccount of Secret acme/firebase is no JSON object"),
        );
        fcm(&account(json!({"client_email": ""})), Some("has no client_email"));
        fcm(&account(json!({"project_id": "../acme"})), Some("project_id that is no project"));
        fcm(
            &account(json!({"private_key": "hunter2"})),
            Some("private_key that is no RSA key in PEM; download"),
        );
        fcm(&account(json!({"padding": "x".repeat(MAX_ACCOUNT_BYTES)})), Some("is longer than 16384 bytes"));
        for uri in [
            "http://oauth2.googleapis.com/token",
            "https://oauth2.googleapis.com:8443/token",
            "https://10.0.0.1/token",
            "https://[::1]/token",
            "https://localhost/token",
            "nowhere",
        ] {
            fcm(&account(json!({"token_uri": uri})), Some("token_uri that is no https URL on port 443"));
        }
        check(
            Secret::Fcm,
            secret("another", None, "serviceAccount", "x"),
            Some("Secret acme/firebase does not exist; create it with the key serviceAccount"),
        );
        check(Secret::Fcm, secret("firebase", None, "other", "x"), Some("has no key serviceAccount; add it"));
    }

    #[test]
    fn a_key_signs_for_the_url_that_its_secret_consents_to() {
        let sms = |url: Option<&str>, value: &str, expected: Option<&str>| {
            check(Secret::Sms, secret("sms-hook", url, "word", value), expected);
        };
        let key = "sixteen bytes ok";
        sms(Some(URL), key, None);
        for other in [None, Some("https://evil.example/send")] {
            let step = "kubectl -n acme annotate --overwrite secret sms-hook messenger.posthouse.dev/sms-url=https://sms";
            sms(other, key, Some(step));
        }
        for value in ["", "hunter2", "sixteen bytes ok\n", "sixteen bytes ök"] {
            sms(
                Some(URL),
                value,
                Some("spec.notifications.sms: key word of Secret acme/sms-hook does not have"),
            );
        }
    }

    #[test]
    fn a_key_signs_for_the_classifier_that_its_secret_consents_to() {
        let classifier = |url: Option<&str>, value: &str, expected: Option<&str>| {
            check(Secret::Classifier, secret("labels", url, "signingKey", value), expected);
        };
        classifier(Some(CLASSIFIER_URL), "sixteen bytes ok", None);
        for other in [None, Some(URL)] {
            let step =
                "annotate --overwrite secret labels messenger.posthouse.dev/classifier-url=https://labels";
            classifier(other, "sixteen bytes ok", Some(step));
        }
        let short = Some("spec.moderation.classifier: key signingKey of Secret acme/labels does not have");
        classifier(Some(CLASSIFIER_URL), "hunter2", short);
    }

    #[test]
    fn without_the_service_nothing_is_needed() {
        assert_eq!(secret_names(&spec(true)).collect::<Vec<_>>(), ["firebase", "sms-hook", "labels"]);
        assert_eq!(secret_names(&spec(false)).count(), 0);
        assert!(copies(&spec(false), "acme", &ReferencedSecrets::new()).is_empty());
    }
}
