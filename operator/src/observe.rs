//! Reads the world. Nothing here writes.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams, core::DynamicObject};
use secrecy::SecretString;

use crds::Reason;

use crate::{
    apply::{Login, said},
    catalog::{Part, SecretKind},
    desired::{Kind, MANAGED_BY, Object},
    plan::{Children, is_owned_by},
    secrets::ObservedSecrets,
    tenant::Tenant,
};

mod routes;

pub use routes::{ProbeError, Prober};

/// Something could not be read from the API server.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {what}: {}", said(source))]
pub struct ReadError {
    what: String,
    #[source]
    source: kube::Error,
}

impl ReadError {
    fn new(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }

    pub fn is_forbidden(&self) -> bool {
        matches!(&self.source, kube::Error::Api(status) if status.code == 403)
    }
}

/// What stands in a tenant's namespace for it.
#[derive(Default)]
pub struct Observed {
    pub children: Children,
    /// Kinds the API server does not know: Traefik's, where Traefik is not installed.
    pub unknown_kinds: Vec<Kind>,
}

/// Label selector for all children of a tenant.
pub fn selector(tenant_id: &str) -> String {
    format!("{}={tenant_id},app.kubernetes.io/managed-by={MANAGED_BY}", crds::TENANT_LABEL)
}

/// Reads the children that carry our labels.
pub async fn children(client: &Client, namespace: &str, tenant_id: &str) -> Result<Observed, ReadError> {
    let params = ListParams::default().labels(&selector(tenant_id));
    let lists = Kind::LISTED.map(|kind| {
        let (api, params) = (api(client, namespace, kind), params.clone());
        async move { (kind, api.list(&params).await) }
    });
    let mut observed = Observed::default();
    for (kind, list) in join_all(lists).await {
        match list {
            Ok(list) => {
                let named = list.items.into_iter().map(|object| ((kind, object.name_any()), object));
                observed.children.extend(named);
            }
            Err(kube::Error::Api(status)) if status.code == 404 => observed.unknown_kinds.push(kind),
            Err(error) => return Err(ReadError::new(format!("{}s", kind.as_str()))(error)),
        }
    }
    Ok(observed)
}

/// Reads the Secrets of a tenant by name.
pub async fn secrets(
    client: &Client,
    namespace: &str,
    resource_name: &str,
    observed: &mut Observed,
) -> Result<(), ReadError> {
    let api = &api(client, namespace, Kind::Secret);
    let reads = SecretKind::ALL.map(|kind| async move {
        let name = secret_name(resource_name, kind);
        let found = api.get_opt(&name).await;
        found.map(|found| (name.clone(), found)).map_err(ReadError::new(format!("Secret {name}")))
    });
    let found = try_join_all(reads).await?;
    let found = found.into_iter().filter_map(|(name, found)| Some(((Kind::Secret, name), found?)));
    observed.children.extend(found);
    Ok(())
}

/// Looks by name for desired objects that were not found by label. One that is ours lost its labels and joins the
/// children; one that is not ours is answered, and must not be touched.
pub async fn unlabelled(
    client: &Client,
    namespace: &str,
    desired: &[Object],
    owner_uid: &str,
    observed: &mut Observed,
) -> Result<Vec<Object>, ReadError> {
    let mut foreign = Vec::new();
    for object in desired.iter().filter(|object| object.kind == Kind::Secret) {
        let key = (object.kind, object.name.clone());
        if observed.children.get(&key).is_some_and(|found| !is_owned_by(found, owner_uid)) {
            observed.children.remove(&key);
            foreign.push(object.clone());
        }
    }
    let missing = desired
        .iter()
        .filter(|object| object.kind != Kind::Secret)
        .filter(|object| !observed.children.contains_key(&(object.kind, object.name.clone())))
        .filter(|object| !observed.unknown_kinds.contains(&object.kind));
    let reads = missing.map(|object| {
        let api = api(client, namespace, object.kind);
        async move {
            let found = api.get_opt(&object.name).await;
            found.map(|found| (object, found)).map_err(ReadError::new(format!("{object:?}")))
        }
    });
    for (object, found) in try_join_all(reads).await? {
        match found {
            None => {}
            Some(found) if is_owned_by(&found, owner_uid) => {
                observed.children.insert((object.kind, object.name.clone()), found);
            }
            Some(_) => foreign.push(object.clone()),
        }
    }
    Ok(foreign)
}

/// Reads one object by name.
pub async fn object(
    client: &Client,
    namespace: &str,
    object: &Object,
) -> Result<Option<DynamicObject>, ReadError> {
    let found = api(client, namespace, object.kind).get_opt(&object.name).await;
    found.map_err(ReadError::new(format!("{object:?}")))
}

/// Takes the tenant's credentials out of its Secrets. One that belongs to somebody else tells us nothing.
pub fn credentials(resource_name: &str, owner_uid: &str, children: &Children) -> ObservedSecrets {
    let value = |value: &serde_json::Value| {
        let bytes = BASE64_STANDARD.decode(value.as_str()?).ok()?;
        Some(SecretString::from(String::from_utf8(bytes).ok()?))
    };
    SecretKind::ALL
        .into_iter()
        .filter_map(|kind| {
            let secret = children.get(&(Kind::Secret, secret_name(resource_name, kind)))?;
            if !is_owned_by(secret, owner_uid) {
                return None;
            }
            let data = secret.data["data"].as_object()?;
            let data = data.iter().filter_map(|(key, encoded)| Some((key.clone(), value(encoded)?)));
            Some((kind, data.collect::<BTreeMap<_, _>>()))
        })
        .collect()
}

fn secret_name(resource_name: &str, kind: SecretKind) -> String {
    format!("{resource_name}-{}", kind.suffix())
}

/// Takes the operator's account on one system out of an admin Secret. The error says what is missing where.
pub fn login(part: Part, namespace: &str, name: &str, secret: Option<&Secret>) -> Result<Login, String> {
    let (user_key, password_key) = match part {
        Part::Identity => ("clientId", "clientSecret"),
        Part::Kafka | Part::Store | Part::Database | Part::Cache => ("username", "password"),
    };
    let Some(secret) = secret else {
        return Err(format!(
            "Secret {namespace}/{name} does not exist; create it with the keys {user_key} and {password_key} of the operator's account"
        ));
    };
    let value = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("Secret {namespace}/{name} has no key {key}; add it"))
    };
    Ok(Login {
        username: value(user_key)?,
        password: SecretString::from(value(password_key)?),
        version: secret.metadata.resource_version.clone().unwrap_or_default(),
    })
}

/// Returns how many pods of a tenant there still are.
pub async fn pod_count(client: &Client, namespace: &str, tenant_id: &str) -> Result<usize, ReadError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&selector(tenant_id));
    let found = api.list_metadata(&params).await.map_err(ReadError::new("Pods"))?;
    Ok(found.items.len())
}

/// Why a pod does not run, as far as the API server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTrouble {
    pub reason: Reason,
    pub message: String,
}

/// Asks why pods of a tenant do not run. The first answer is enough: one cause usually has many pods.
pub async fn pod_trouble(client: &Client, tenant: &Tenant) -> Result<Option<PodTrouble>, ReadError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &tenant.namespace);
    let params = ListParams::default().labels(&selector(tenant.id.as_str()));
    let pods = api.list(&params).await.map_err(ReadError::new("Pods"))?;
    Ok(pods.items.iter().find_map(trouble))
}

fn trouble(pod: &Pod) -> Option<PodTrouble> {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        let why = condition.message.as_deref().unwrap_or("no reason was given");
        return Some(PodTrouble {
            reason: Reason::Unschedulable,
            message: format!("pod {name} fits on no node: {why}"),
        });
    }
    let containers =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else {
            continue;
        };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let container = &container.name;
        match reason {
            "CrashLoopBackOff" => {
                return Some(PodTrouble {
                    reason: Reason::CrashLooping,
                    message: format!(
                        "container {container} of pod {name} exits again and again; see `kubectl -n {namespace} logs {name} -c {container} --previous`"
                    ),
                });
            }
            "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName" => {
                return Some(PodTrouble {
                    reason: Reason::ImagePullFailed,
                    message: format!(
                        "the image of container {container} of pod {name} cannot be had ({reason}); check the operator's --image-repository and --image-tag"
                    ),
                });
            }
            _ => {}
        }
    }
    None
}

fn api(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.api_resource())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin_secret(keys: &[&str]) -> Secret {
        let data = keys.iter().map(|key| ((*key).to_owned(), k8s_openapi::ByteString(b"x".to_vec())));
        Secret { data: Some(data.collect()), ..Default::default() }
    }

    #[test]
    fn a_missing_admin_secret_or_key_is_named() {
        let said = |part, secret: Option<&Secret>| {
            login(part, "posthouse-system", "cell", secret).expect_err("incomplete")
        };
        assert!(
            said(Part::Kafka, None).starts_with("Secret posthouse-system/cell does not exist; create it")
        );
        let half = admin_secret(&["username"]);
        assert_eq!(
            said(Part::Kafka, Some(&half)),
            "Secret posthouse-system/cell has no key password; add it"
        );
        assert_eq!(
            said(Part::Identity, Some(&half)),
            "Secret posthouse-system/cell has no key clientId; add it"
        );
        let whole = admin_secret(&["username", "password"]);
        assert!(login(Part::Cache, "posthouse-system", "cell", Some(&whole)).is_ok());
    }

    #[test]
    fn a_crash_loop_says_where_to_look() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "acme-chat-1", "namespace": "acme"},
            "status": {"initContainerStatuses": [{"name": "migrate", "image": "", "imageID": "", "ready": false,
                "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
        }))
        .expect("a pod");
        let trouble = trouble(&pod).expect("trouble");
        assert_eq!(trouble.reason, Reason::CrashLooping);
        assert!(trouble.message.contains("kubectl -n acme logs acme-chat-1 -c migrate --previous"));
    }
}
