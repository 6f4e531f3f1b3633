//! The operator's own account on a backend.

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

/// An account on a backend.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub username: String,
    pub password: SecretString,
}

impl Credentials {
    pub fn new(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}

/// The operator's account, and the version of the Secret it came from. Both are empty where the cell names no Secret.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub account: Credentials,
    pub version: String,
}

impl Login {
    /// Returns the one of a backend that is called without an account.
    pub fn none() -> Self {
        Self { account: Credentials::new("", ""), version: String::new() }
    }

    /// Reads an admin Secret. The error names what is missing where.
    pub fn read(
        backend: catalog::Backend,
        namespace: &str,
        name: &str,
        secret: Option<&Secret>,
    ) -> Result<Self, String> {
        Self::keys(backend.admin_keys, "the operator's account", namespace, name, secret)
    }

    /// Reads one key of a Secret. The error names what is missing where.
    pub fn value(secret: &Secret, namespace: &str, name: &str, key: &str) -> Result<String, String> {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("Secret {namespace}/{name} has no key {key}; add it"))
    }

    /// Reads a Secret with these keys of an account.
    pub fn keys(
        [username, password]: [&str; 2],
        account: &str,
        namespace: &str,
        name: &str,
        secret: Option<&Secret>,
    ) -> Result<Self, String> {
        let Some(secret) = secret else {
            return Err(format!(
                "Secret {namespace}/{name} does not exist; create it with the keys {username} and {password} of {account}"
            ));
        };
        let value = |key: &str| Self::value(secret, namespace, name, key);
        Ok(Self {
            account: Credentials::new(value(username)?, value(password)?),
            version: secret.metadata.resource_version.clone().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use catalog::Backend;

    use super::*;

    fn admin_secret(keys: &[&str]) -> Secret {
        let data = keys.iter().map(|key| ((*key).to_owned(), k8s_openapi::ByteString(b"x".to_vec())));
        Secret { data: Some(data.collect()), ..Default::default() }
    }

    #[test]
    fn a_missing_admin_secret_or_key_is_named() {
        let missing = |backend, secret: Option<&Secret>| {
            Login::read(backend, "posthouse-system", "cell", secret).expect_err("incomplete")
        };
        assert!(
            missing(Backend::Kafka, None)
                .starts_with("Secret posthouse-system/cell does not exist; create it")
        );
        let half = admin_secret(&["username"]);
        assert_eq!(
            missing(Backend::Kafka, Some(&half)),
            "Secret posthouse-system/cell has no key password; add it"
        );
        assert_eq!(
            missing(Backend::Keycloak, Some(&half)),
            "Secret posthouse-system/cell has no key clientId; add it"
        );
        let whole = admin_secret(&["username", "password"]);
        assert!(Login::read(Backend::Redis, "posthouse-system", "cell", Some(&whole)).is_ok());
    }
}
