//! Pure: the credentials of a tenant. Each is generated once into a Secret beside the tenant and read from there ever
//! after, so that a lost operator never changes a password.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use catalog::{Secret, SecretKey};
use rand::RngCore;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::text::hex;

/// Length of a generated credential before encoding: beyond guessing, and short enough for every backend.
const RANDOM_BYTES: usize = 32;

/// The content of Secrets as read: kind, then key, then value.
pub type ObservedSecrets = BTreeMap<Secret, BTreeMap<String, SecretString>>;

/// The complete credentials of a tenant.
#[derive(Clone, Debug)]
pub struct TenantSecrets {
    values: BTreeMap<Secret, BTreeMap<String, SecretString>>,
}

impl TenantSecrets {
    /// Completes what was observed: a name is the one in `usernames`, whatever was found; what is generated is kept, and
    /// generated where it is missing or empty.
    pub fn complete(
        usernames: &BTreeMap<Secret, String>,
        observed: &ObservedSecrets,
        mut generate: impl FnMut(Secret) -> String,
    ) -> Self {
        let mut value = |kind: Secret, key: &SecretKey| {
            if !key.is_generated {
                return SecretString::from(usernames.get(&kind).cloned().unwrap_or_default());
            }
            let found = observed.get(&kind).and_then(|data| data.get(key.key));
            let found = found.filter(|value| !value.expose_secret().is_empty()).cloned();
            found.unwrap_or_else(|| SecretString::from(generate(kind)))
        };
        let mut values = BTreeMap::new();
        for kind in Secret::ALL {
            let data = kind.keys.iter().map(|key| (key.key.to_owned(), value(*kind, key))).collect();
            values.insert(*kind, data);
        }
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
#[expect(clippy::disallowed_methods, reason = "an edge: all credentials come from here")]
pub fn random_credential() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usernames() -> BTreeMap<Secret, String> {
        Secret::ALL.iter().map(|secret| (*secret, format!("{secret}-of-acme"))).collect()
    }

    #[test]
    fn what_was_generated_once_is_kept() {
        let first =
            TenantSecrets::complete(&usernames(), &ObservedSecrets::new(), |kind| format!("secret-{kind:?}"));
        let again = TenantSecrets::complete(&usernames(), &first.values, |_| panic!("nothing is missing"));
        for kind in Secret::ALL {
            assert_eq!(first.digest(&[*kind]), again.digest(&[*kind]));
        }
    }

    #[test]
    fn names_follow_from_the_tenant_even_when_a_secret_differs() {
        let forged =
            [(Secret::Postgres, [("username".to_owned(), SecretString::from("mt_globex"))].into())].into();
        let secrets = TenantSecrets::complete(&usernames(), &forged, |_| "x".to_owned());
        assert_eq!(secrets.data(Secret::Postgres)["username"].expose_secret(), "postgres-of-acme");
    }

    #[test]
    fn credentials_are_long_and_never_repeat_or_show() {
        let (one, two) = (random_credential(), random_credential());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        let secrets = TenantSecrets::complete(&usernames(), &ObservedSecrets::new(), |_| one.clone());
        assert!(!format!("{secrets:?}").contains(&one));
    }

    #[test]
    fn a_new_password_changes_the_digest() {
        let secrets =
            |text: &str| TenantSecrets::complete(&usernames(), &ObservedSecrets::new(), |_| text.to_owned());
        assert_ne!(secrets("a").digest(&[Secret::Kafka]), secrets("b").digest(&[Secret::Kafka]));
    }
}
