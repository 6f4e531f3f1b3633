//! Pure: the credentials of a tenant. Each is generated once into a Secret beside the tenant and read from there ever
//! after, so that a lost operator never changes a password.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use catalog::{Secret, SecretKey};
use crds::TenantId;
use rand::RngCore;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Length of a generated credential before encoding: beyond guessing, and short enough for every backend.
const RANDOM_BYTES: usize = 32;

/// The OpenID Connect client of the auth service in the tenant's realm.
pub const OIDC_CLIENT_ID: &str = "messenger-auth";

/// The content of Secrets as read: kind, then key, then value.
pub type ObservedSecrets = BTreeMap<Secret, BTreeMap<String, SecretString>>;

/// The complete credentials of a tenant.
#[derive(Clone, Debug)]
pub struct TenantSecrets {
    values: BTreeMap<Secret, BTreeMap<String, SecretString>>,
}

impl TenantSecrets {
    /// Completes what was observed. Names follow from the tenant id; what is secret is kept, and generated where it is
    /// missing or empty.
    pub fn complete(
        id: &TenantId,
        observed: &ObservedSecrets,
        mut generate: impl FnMut(Secret) -> String,
    ) -> Self {
        let values = Secret::ALL
            .iter()
            .map(|kind| {
                let kind = *kind;
                let value = |SecretKey { key, .. }: &SecretKey| {
                    let value = match name_in(kind, key, id) {
                        Some(name) => SecretString::from(name),
                        None => observed
                            .get(&kind)
                            .and_then(|data| data.get(*key))
                            .filter(|value| !value.expose_secret().is_empty())
                            .cloned()
                            .unwrap_or_else(|| SecretString::from(generate(kind))),
                    };
                    ((*key).to_owned(), value)
                };
                (kind, kind.keys.iter().map(value).collect())
            })
            .collect();
        Self { values }
    }

    /// Returns keys and values of one Secret.
    pub fn data(&self, kind: Secret) -> &BTreeMap<String, SecretString> {
        &self.values[&kind]
    }

    /// Returns what is secret in one Secret.
    pub fn password(&self, kind: Secret) -> &SecretString {
        let key = kind.generated_key().key;
        &self.values[&kind][key]
    }

    /// Returns a digest over some Secrets. It stands in a pod template, so that a new password starts new pods.
    pub fn digest(&self, kinds: &[Secret]) -> String {
        let mut sha = Sha256::new();
        for kind in kinds {
            for (key, value) in self.data(*kind) {
                sha.update(key);
                sha.update([0]);
                sha.update(value.expose_secret());
                sha.update([0]);
            }
        }
        hex(&sha.finalize()[..8])
    }
}

/// Returns a fresh credential.
pub fn random_credential() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the value of a key that is a name and no secret.
fn name_in(kind: Secret, key: &str, id: &TenantId) -> Option<String> {
    match (kind, key) {
        (Secret::Kafka, "username") => Some(id.kafka_user().to_string()),
        (Secret::Cql, "username") => Some(id.keyspace().to_string()),
        (Secret::Postgres, "username") => Some(id.database().to_string()),
        (Secret::Redis, "username") => Some(id.cache_user().to_string()),
        (Secret::Oidc, "clientId") => Some(OIDC_CLIENT_ID.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> TenantId {
        "acme".parse().expect("legal")
    }

    #[test]
    fn what_was_generated_once_is_kept() {
        let first =
            TenantSecrets::complete(&id(), &ObservedSecrets::new(), |kind| format!("secret-{kind:?}"));
        let again = TenantSecrets::complete(&id(), &first.values, |_| panic!("nothing is missing"));
        for kind in Secret::ALL {
            assert_eq!(first.digest(&[*kind]), again.digest(&[*kind]));
        }
    }

    #[test]
    fn names_follow_from_the_tenant_even_when_a_secret_says_otherwise() {
        let forged =
            [(Secret::Postgres, [("username".to_owned(), SecretString::from("mt_globex"))].into())].into();
        let secrets = TenantSecrets::complete(&id(), &forged, |_| "x".to_owned());
        assert_eq!(secrets.data(Secret::Postgres)["username"].expose_secret(), "mt_acme");
    }

    #[test]
    fn credentials_are_long_and_never_repeat_or_show() {
        let (one, two) = (random_credential(), random_credential());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        let secrets = TenantSecrets::complete(&id(), &ObservedSecrets::new(), |_| one.clone());
        assert!(!format!("{secrets:?}").contains(&one));
    }

    #[test]
    fn a_new_password_changes_the_digest() {
        let secrets =
            |text: &str| TenantSecrets::complete(&id(), &ObservedSecrets::new(), |_| text.to_owned());
        assert_ne!(secrets("a").digest(&[Secret::Kafka]), secrets("b").digest(&[Secret::Kafka]));
    }
}
