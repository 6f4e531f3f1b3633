//! Pure: Secrets beside a tenant that its manifest names.
//!
//! An author of tenants may not be one who may read Secrets. What is sent to a server, or proves to a server what it is, has to consent:
//! the Secret names that server in an annotation. What the operator made for another tenant is that tenant's alone, whatever it says.

use std::collections::BTreeMap;

use secrecy::SecretString;

/// Secrets as read by name. One that does not exist is not among them.
pub(crate) type ReferencedSecrets = BTreeMap<String, ReferencedSecret>;

/// One Secret as read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReferencedSecret {
    pub annotations: BTreeMap<String, String>,
    /// Keys and values. A value that is no text is missing.
    pub data: BTreeMap<String, Option<SecretString>>,
    /// The operator made it for another tenant.
    pub is_of_another_tenant: bool,
}

/// A key of a Secret that a manifest names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub key: &'a str,
    /// What the Secret has to consent to.
    pub consent: Option<Consent<'a>>,
}

/// By what a Secret consents to a use of its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consent<'a> {
    pub annotation: &'static str,
    pub value: &'a str,
    /// The use, as in "does not consent to be sent to this issuer".
    pub to: &'static str,
}

impl Reference<'_> {
    /// Returns the value. The error says what is missing, and the next step.
    pub fn read<'s>(&self, secrets: &'s ReferencedSecrets) -> Result<&'s SecretString, String> {
        let Self { namespace, name, key, consent } = *self;
        let Some(secret) = secrets.get(name) else {
            let annotation = consent
                .map(|Consent { annotation, value, .. }| format!(" and the annotation {annotation}={value}"));
            let annotation = annotation.unwrap_or_default();
            return Err(format!(
                "Secret {namespace}/{name} does not exist; create it with the key {key}{annotation}"
            ));
        };
        if secret.is_of_another_tenant {
            return Err(format!(
                "Secret {namespace}/{name} belongs to another tenant; name one that the operator did not make"
            ));
        }
        if let Some(Consent { annotation, value, to }) = consent
            && secret.annotations.get(annotation).is_none_or(|annotated| annotated != value)
        {
            return Err(format!(
                "Secret {namespace}/{name} does not consent to {to}; to consent, `kubectl -n {namespace} annotate --overwrite \
                 secret {name} {annotation}={value}`"
            ));
        }
        match secret.data.get(key) {
            Some(Some(value)) => Ok(value),
            Some(None) => Err(format!("key {key} of Secret {namespace}/{name} is not text; correct it")),
            None => Err(format!("Secret {namespace}/{name} has no key {key}; add it")),
        }
    }
}
