//! Pure: the credentials of a tenant. Each is generated once into a Secret beside the tenant and read from there ever
//! after, so that a lost operator never changes a password.
//!
//! Invariant: a credential is generated for a Secret that does not exist, and for no other. One that is there and cannot be
//! used has no credential at all, so nothing can be set in a backend, and no pod can be described.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use catalog::{Secret, SecretKey};
use crds::Reason;
use rand::RngCore;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::text::hex;

/// Length of a generated credential before encoding: beyond guessing, and short enough for every backend.
const RANDOM_BYTES: usize = 32;

/// Longest credential in bytes: the CQL store compares no more of a password.
const MAX_BYTES: usize = 72;

/// What Secrets of the cell and those of the manifest hold that a tenant gets a copy of. One that there is not is not in it.
pub type Copies = BTreeMap<Secret, Result<BTreeMap<String, SecretString>, Unusable>>;

/// The Secrets that were found.
pub type ObservedSecrets = BTreeMap<Secret, ObservedSecret>;

/// One Secret as read.
#[derive(Clone, Debug)]
pub enum ObservedSecret {
    /// Keys and values of a Secret of the tenant. A value that is no text is missing.
    Ours(BTreeMap<String, Option<SecretString>>),
    /// It belongs to another owner.
    Foreign,
}

/// Why a Secret cannot be used. It is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It belongs to another owner.
    Foreign,
    /// The value of a key cannot be a credential.
    Key { key: &'static str, problem: &'static str },
    /// The cell's Secret, which it copies, is not complete.
    OfCell,
    /// The Secret that the manifest names, which it copies, cannot be used: why, and the next step.
    OfManifest(String),
}

impl Unusable {
    /// Returns the reason used in conditions and metric labels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Foreign => Reason::ResourceConflict,
            Self::Key { .. } | Self::OfManifest(_) => Reason::SecretInvalid,
            Self::OfCell => Reason::AdminSecretMissing,
        }
    }

    /// Returns what is wrong with the Secret of this name, and the next step.
    pub fn message(&self, name: &str) -> String {
        match self {
            Self::Foreign => {
                format!("Secret {name} exists and does not belong to this tenant; delete or rename it")
            }
            Self::OfCell => {
                format!(
                    "Secret {name} is a copy of one of the cell, which is not complete; see the condition Ready of the cell"
                )
            }
            Self::OfManifest(why) => why.clone(),
            Self::Key { key, problem } => format!(
                "key {key} of Secret {name} {problem}; correct it, or delete the Secret to have a new credential generated"
            ),
        }
    }
}

/// The credentials of a tenant, as far as its Secrets can be used.
#[derive(Clone, Debug)]
pub struct TenantSecrets {
    values: BTreeMap<Secret, Result<BTreeMap<String, SecretString>, Unusable>>,
}

impl TenantSecrets {
    /// Completes what was observed: a name is the one in `usernames`, whatever was found; what is generated is kept, and
    /// generated where the Secret does not exist; a copy is as what it is copied from. The Secret of a backend that has no
    /// name in `usernames` is none of the tenant's.
    pub fn complete(
        usernames: &BTreeMap<Secret, String>,
        observed: &ObservedSecrets,
        copies: &Copies,
        mut generate: impl FnMut(Secret) -> String,
    ) -> Self {
        let mut value = |kind: Secret, key: &'static SecretKey| {
            if !key.is_generated {
                return Ok(SecretString::from(usernames.get(&kind).cloned().unwrap_or_default()));
            }
            match observed.get(&kind) {
                None => Ok(SecretString::from(generate(kind))),
                Some(ObservedSecret::Foreign) => Err(Unusable::Foreign),
                Some(ObservedSecret::Ours(data)) => credential(data, key.key),
            }
        };
        let mut values = BTreeMap::new();
        let is_had = |kind: &&Secret| kind.backend().is_none() || usernames.contains_key(*kind);
        for kind in Secret::ALL.iter().filter(is_had) {
            if kind.is_copy() {
                let is_foreign = matches!(observed.get(kind), Some(ObservedSecret::Foreign));
                let data = copies.get(kind).cloned().unwrap_or_else(|| Ok(BTreeMap::new()));
                values.insert(*kind, if is_foreign { Err(Unusable::Foreign) } else { data });
                continue;
            }
            let data = kind.keys.iter().map(|key| Ok((key.key.to_owned(), value(*kind, key)?))).collect();
            values.insert(*kind, data);
        }
        Self { values }
    }

    /// Returns the Secrets of the tenant.
    pub fn kinds(&self) -> impl Iterator<Item = Secret> {
        self.values.keys().copied()
    }

    /// Returns keys and values of one Secret of the tenant.
    pub fn data(&self, kind: Secret) -> Result<&BTreeMap<String, SecretString>, Unusable> {
        self.values[&kind].as_ref().map_err(Clone::clone)
    }

    /// Returns what is secret in one Secret.
    pub fn password(&self, kind: Secret) -> Result<&SecretString, Unusable> {
        let data = self.data(kind)?;
        let key = kind.generated_key().expect("only Secrets of the tenant itself have a password");
        Ok(&data[key.key])
    }

    /// Returns the Secrets that cannot be used.
    pub fn unusable(&self) -> impl Iterator<Item = (Secret, Unusable)> {
        self.values.iter().filter_map(|(kind, data)| Some((*kind, data.as_ref().err()?.clone())))
    }

    /// Returns a digest over some Secrets, or nothing when one of them cannot be used. It stands in a pod template, so that
    /// a new password starts new pods.
    pub fn digest(&self, kinds: &[Secret]) -> Option<String> {
        let mut sha = Sha256::new();
        for kind in kinds {
            for (key, value) in self.data(*kind).ok()? {
                sha.update(key);
                sha.update([0]);
                sha.update(value.expose_secret());
                sha.update([0]);
            }
        }
        Some(hex(&sha.finalize()[..8]))
    }
}

/// Returns the value of a key when every backend and every pod reads it alike: what a manual edit leaves behind, a line break
/// above all, is kept by some of them and cut off or refused by others.
fn credential(
    data: &BTreeMap<String, Option<SecretString>>,
    key: &'static str,
) -> Result<SecretString, Unusable> {
    let unusable = |problem| Unusable::Key { key, problem };
    let value = data.get(key).ok_or(unusable("is missing"))?;
    let value = value.as_ref().ok_or(unusable("is not text"))?;
    let text = value.expose_secret();
    match text.len() {
        0 => Err(unusable("is empty")),
        1..=MAX_BYTES if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => Ok(value.clone()),
        1..=MAX_BYTES => Err(unusable("has a line break or another character that is not printable ASCII")),
        _ => Err(unusable("is longer than 72 bytes")),
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
        let first = TenantSecrets::complete(&usernames(), &ObservedSecrets::new(), &Copies::new(), |kind| {
            format!("secret-{kind:?}")
        });
        let stored = Secret::ALL.iter().map(|kind| (*kind, ours(first.data(*kind).expect("complete"))));
        let again = TenantSecrets::complete(&usernames(), &stored.collect(), &Copies::new(), |_| {
            panic!("nothing is missing")
        });
        for kind in Secret::ALL {
            assert_eq!(first.digest(&[*kind]), again.digest(&[*kind]));
        }
        assert_eq!(again.unusable().count(), 0);
    }

    fn ours(data: &BTreeMap<String, SecretString>) -> ObservedSecret {
        ObservedSecret::Ours(data.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect())
    }

    #[test]
    fn nothing_is_generated_beside_a_secret_that_cannot_be_used() {
        let with = |value: Option<Option<&str>>| {
            let value = value.map(|value| ("password".to_owned(), value.map(SecretString::from)));
            ObservedSecret::Ours(value.into_iter().collect())
        };
        for (found, expected) in [
            (ObservedSecret::Foreign, "Secret acme-cql exists and does not belong to this tenant"),
            (with(None), "key password of Secret acme-cql is missing; correct it, or delete the Secret"),
            (with(Some(None)), "is not text"),
            (with(Some(Some(""))), "is empty"),
            (with(Some(Some("new\n"))), "has a line break"),
            (with(Some(Some("pässword"))), "is not printable ASCII"),
            (with(Some(Some(&"x".repeat(73)))), "is longer than 72 bytes"),
        ] {
            let mut generated = Vec::new();
            let observed = [(Secret::Cql, found)].into();
            let secrets = TenantSecrets::complete(&usernames(), &observed, &Copies::new(), |kind| {
                generated.push(kind);
                "x".to_owned()
            });
            let made = Secret::ALL.iter().filter(|kind| !kind.is_copy()).count();
            assert!(!generated.contains(&Secret::Cql) && generated.len() == made - 1);
            let unusable = secrets.password(Secret::Cql).expect_err("unusable");
            assert!(unusable.message("acme-cql").contains(expected), "{}", unusable.message("acme-cql"));
            assert_eq!(secrets.unusable().collect::<Vec<_>>(), [(Secret::Cql, unusable)]);
            assert_eq!(secrets.digest(&[Secret::Kafka, Secret::Cql]), None);
            assert!(secrets.digest(&[Secret::Kafka]).is_some());
        }
    }

    #[test]
    fn no_credential_is_made_for_a_backend_that_the_tenant_has_no_part_of() {
        let mut usernames = usernames();
        usernames.remove(&Secret::S3);
        let data = [("secretKey".to_owned(), SecretString::from("of before"))].into();
        for observed in [ObservedSecrets::new(), [(Secret::S3, ours(&data))].into()] {
            let secrets = TenantSecrets::complete(&usernames, &observed, &Copies::new(), |kind| {
                assert_ne!(kind, Secret::S3);
                "x".to_owned()
            });
            assert_eq!(secrets.kinds().count(), Secret::ALL.len() - 1);
        }
    }

    #[test]
    fn a_password_that_was_chosen_by_hand_is_kept() {
        let chosen = r#"it"s, a = 'new' one;"#;
        let data = [("password".to_owned(), SecretString::from(chosen))].into();
        let observed = [(Secret::Kafka, ours(&data))].into();
        let secrets = TenantSecrets::complete(&usernames(), &observed, &Copies::new(), |_| "x".to_owned());
        assert_eq!(secrets.password(Secret::Kafka).expect("usable").expose_secret(), chosen);
    }

    #[test]
    fn names_follow_from_the_tenant_even_when_a_secret_differs() {
        let text = |key: &str, value: &str| (key.to_owned(), SecretString::from(value));
        let data = [text("username", "mt_globex"), text("password", "x")].into();
        let forged = [(Secret::Postgres, ours(&data))].into();
        let secrets = TenantSecrets::complete(&usernames(), &forged, &Copies::new(), |_| "x".to_owned());
        let data = secrets.data(Secret::Postgres).expect("usable");
        assert_eq!(data["username"].expose_secret(), "postgres-of-acme");
    }

    #[test]
    fn credentials_are_long_and_never_repeat_or_show() {
        let (one, two) = (random_credential(), random_credential());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        let secrets =
            TenantSecrets::complete(&usernames(), &ObservedSecrets::new(), &Copies::new(), |_| one.clone());
        assert!(!format!("{secrets:?}").contains(&one));
    }

    #[test]
    fn what_the_cell_has_is_copied_and_nothing_is_made_up_for_it() {
        let complete = |copies: Copies| {
            TenantSecrets::complete(&usernames(), &ObservedSecrets::new(), &copies, |_| "x".to_owned())
        };
        assert!(complete(Copies::new()).data(Secret::Smtp).expect("nothing").is_empty());
        let data = BTreeMap::from([("password".to_owned(), SecretString::from("of the cell"))]);
        let secrets = complete([(Secret::Smtp, Ok(data))].into());
        assert_eq!(secrets.data(Secret::Smtp).expect("a copy")["password"].expose_secret(), "of the cell");
        let secrets = complete([(Secret::Smtp, Err(Unusable::OfCell))].into());
        assert_eq!(secrets.unusable().collect::<Vec<_>>(), [(Secret::Smtp, Unusable::OfCell)]);
        assert_eq!(secrets.digest(&[Secret::Smtp]), None, "no pod is replaced");
        let why = "spec.notifications.fcm: Secret acme/firebase does not exist".to_owned();
        let secrets = complete([(Secret::Fcm, Err(Unusable::OfManifest(why.clone())))].into());
        let (kind, unusable) = secrets.unusable().next().expect("it cannot be used");
        assert_eq!(
            (kind, unusable.reason(), unusable.message("acme-fcm")),
            (Secret::Fcm, Reason::SecretInvalid, why)
        );
        assert!(secrets.digest(&[Secret::Sms]).is_some());
    }

    #[test]
    fn a_new_password_changes_the_digest() {
        let secrets = |text: &str| {
            TenantSecrets::complete(&usernames(), &ObservedSecrets::new(), &Copies::new(), |_| {
                text.to_owned()
            })
        };
        assert_ne!(secrets("a").digest(&[Secret::Kafka]), secrets("b").digest(&[Secret::Kafka]));
    }
}
