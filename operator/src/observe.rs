//! Reads the state of the cluster and of Secrets. Nothing here writes.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::{join_all, try_join_all};
use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, ObjectMeta, PostParams},
    core::{DeserializeGuard, DynamicObject},
};
use secrecy::SecretString;

use catalog::Secret;
use crds::{MessengerTenant, Reason};

use crate::{
    api::{self, server_message},
    config::OPERATOR_NAME,
    desired::{self, ChildKey, Kind, Object},
    env_secrets, named_secrets, providers,
    referenced::{ReferencedSecret, ReferencedSecrets},
    secrets::{ObservedSecret, ObservedSecrets},
    tenant::{Cell, Tenant},
    text::one_line,
};

mod prometheus;
mod routes;

pub(crate) use prometheus::Prometheus;
#[cfg(test)]
pub(crate) use routes::ProbeError;
pub(crate) use routes::{Probe, Probed, Prober};

/// Something could not be read from the API server.
#[derive(Debug, thiserror::Error)]
#[error("failed to read {what}: {}", server_message(source))]
pub(crate) struct ReadError {
    what: String,
    #[source]
    source: kube::Error,
}

impl ReadError {
    pub fn new(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }

    /// Reports whether the API server refused the read, and will again.
    pub fn is_refusal(&self) -> bool {
        api::is_refusal(&self.source)
    }

    pub fn is_forbidden(&self) -> bool {
        matches!(&self.source, kube::Error::Api(status) if status.code == 403)
    }
}

/// The children that were found, by kind and name.
pub(crate) type Children = BTreeMap<ChildKey, DynamicObject>;

/// What was found in a tenant's namespace.
#[derive(Default)]
pub(crate) struct Observed {
    /// Its Secrets.
    pub secrets: Children,
    /// Its other children.
    pub children: Children,
    /// Names that the tenant needs and that objects of other owners have. They must not be touched.
    pub foreign: BTreeSet<ChildKey>,
    /// Names that the tenant needs and that objects of a resource have that is gone: Kubernetes removes them in a moment.
    pub outlived: BTreeSet<ChildKey>,
    /// Secrets that its manifest names. They are no children.
    pub referenced: ReferencedSecrets,
    /// Kinds the API server does not know: Traefik's or the Prometheus Operator's, where that is not installed.
    pub unknown_kinds: Vec<Kind>,
}

impl Observed {
    /// Returns a child.
    pub fn get(&self, key: &ChildKey) -> Option<&DynamicObject> {
        self.secrets.get(key).or_else(|| self.children.get(key))
    }

    /// Notes a child as the server has it now.
    pub fn insert(&mut self, key: ChildKey, object: DynamicObject) {
        let kept = if key.0 == Kind::Secret { &mut self.secrets } else { &mut self.children };
        kept.insert(key, object);
    }
}

/// Reports whether an object is the tenant's: owned by the resource, or without any owner and still as the operator labelled
/// it. The latter are what a restore from a backup or `kubectl delete --cascade=orphan` leaves. A Secret must also hold what
/// the operator wrote: a password that is not known to be the tenant's is never set in a backend.
pub(crate) fn is_ours(kind: Kind, object: &DynamicObject, resource: &MessengerTenant) -> bool {
    let is_left_alone = object.metadata.owner_references.iter().flatten().next().is_none();
    is_owned_by(object, &resource.uid().unwrap_or_default())
        || is_left_alone
            && desired::has_labels(object, resource)
            && (kind != Kind::Secret || desired::is_as_applied(object))
}

/// Reports whether an object belongs to a former resource of the same name and no other owner: there is one resource of a name at
/// a time, so its owner is gone, and the garbage collector is on its way.
pub(crate) fn is_outlived(object: &DynamicObject, resource: &MessengerTenant) -> bool {
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    let is_former = |owner: &OwnerReference| {
        owner.kind == MessengerTenant::kind(&())
            && owner.api_version == MessengerTenant::api_version(&())
            && Some(&owner.name) == resource.metadata.name.as_ref()
    };
    !owners.is_empty() && owners.iter().all(is_former)
}

/// Reports whether an object belongs to the resource with this UID.
pub(crate) fn is_owned_by(object: &DynamicObject, uid: &str) -> bool {
    object.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// Returns the label selector for all children of a tenant.
pub(crate) fn selector(tenant_id: &str) -> String {
    format!("{}={tenant_id},app.kubernetes.io/managed-by={OPERATOR_NAME}", crds::TENANT_LABEL)
}

/// Returns the label selector for the children of one resource, where another one in its namespace may declare the same id.
pub(crate) fn own_selector(resource: &MessengerTenant) -> String {
    format!("{},{}={}", selector(&resource.spec.tenant_id), desired::INSTANCE, resource.name_any())
}

/// Returns all resources that declare a tenant id, as the API server has them now. One that cannot be read is listed too.
pub(crate) async fn with_tenant_id(
    client: &Client,
    tenant_id: &str,
) -> Result<Vec<DeserializeGuard<MessengerTenant>>, ReadError> {
    tenants_with(client, &format!("spec.tenantId={tenant_id}")).await
}

/// Returns all resources that name a cell, like [`with_tenant_id`].
pub(crate) async fn on_cell(
    client: &Client,
    cell: &str,
) -> Result<Vec<DeserializeGuard<MessengerTenant>>, ReadError> {
    tenants_with(client, &format!("spec.cellRef.name={cell}")).await
}

async fn tenants_with(
    client: &Client,
    fields: &str,
) -> Result<Vec<DeserializeGuard<MessengerTenant>>, ReadError> {
    let api: Api<DeserializeGuard<MessengerTenant>> = Api::all(client.clone());
    let list = api.list(&ListParams::default().fields(fields)).await;
    Ok(list.map_err(ReadError::new("MessengerTenants"))?.items)
}

/// Reads the children of some kinds that carry our labels and are owned by the resource.
pub(crate) async fn owned_children(
    client: &Client,
    resource: &MessengerTenant,
    kinds: &[Kind],
) -> Result<Children, ReadError> {
    let mut observed = Observed::default();
    labelled(client, resource, kinds, &mut observed).await?;
    let uid = resource.uid().unwrap_or_default();
    observed.children.retain(|_, object| is_owned_by(object, &uid));
    Ok(observed.children)
}

/// Reads the children of a tenant on a cell: those that carry our labels, unless the watches show them, and by name those that are
/// missing among them. What carries our labels and belongs to another owner is foreign like anything else.
pub(crate) async fn children(
    client: &Client,
    resource: &MessengerTenant,
    cell: &Cell,
    watched: Option<Observed>,
) -> Result<Observed, ReadError> {
    let mut observed = match watched {
        Some(view) => view,
        None => {
            let mut listed = Observed::default();
            labelled(client, resource, &Kind::LISTED, &mut listed).await?;
            listed
        }
    };
    observed.children.retain(|(kind, _), object| is_ours(*kind, object, resource));
    let is_missing = |(kind, name): &ChildKey| {
        !observed.children.contains_key(&(*kind, name.clone())) && !observed.unknown_kinds.contains(kind)
    };
    let missing: Vec<_> = desired::names(resource, &cell.spec).into_iter().filter(is_missing).collect();
    for (key, object) in by_name(client, resource, missing).await? {
        if is_ours(key.0, &object, resource) {
            // A Secret, or a child that lost its labels.
            observed.insert(key, object);
        } else if is_outlived(&object, resource) {
            observed.outlived.insert(key);
        } else {
            observed.foreign.insert(key);
        }
    }
    observed.referenced = referenced(client, resource).await?;
    Ok(observed)
}

/// Reads the Secrets that the tenant's manifest names.
async fn referenced(client: &Client, resource: &MessengerTenant) -> Result<ReferencedSecrets, ReadError> {
    let spec = &resource.spec;
    let names = providers::secret_names(spec).chain(named_secrets::secret_names(spec)).map(str::to_owned);
    let names: BTreeSet<_> = names.chain(env_secrets::secret_names(spec)).collect();
    let names = names.into_iter().map(|name| (Kind::Secret, name)).collect();
    let found = by_name(client, resource, names).await?;
    let secret =
        |((_, name), secret): (ChildKey, DynamicObject)| (name, referenced_secret(&secret, resource));
    Ok(found.into_iter().map(secret).collect())
}

fn referenced_secret(secret: &DynamicObject, resource: &MessengerTenant) -> ReferencedSecret {
    ReferencedSecret {
        annotations: secret.metadata.annotations.clone().unwrap_or_default(),
        data: content(secret),
        is_of_another_tenant: is_of_another_tenant(secret, resource),
    }
}

/// Reports whether an object is a child of another tenant: owned by its resource, or without any owner and still as the operator labelled it.
fn is_of_another_tenant(object: &DynamicObject, resource: &MessengerTenant) -> bool {
    let mut owners = object.metadata.owner_references.iter().flatten();
    let is_tenant = |owner: &OwnerReference| {
        owner.kind == MessengerTenant::kind(&()) && owner.api_version == MessengerTenant::api_version(&())
    };
    if owners.any(is_tenant) {
        return !is_owned_by(object, &resource.uid().unwrap_or_default());
    }
    desired::is_labelled(object) && !desired::has_labels(object, resource)
}

/// Returns keys and values of a Secret. A value that is no text is missing.
fn content(secret: &DynamicObject) -> BTreeMap<String, Option<SecretString>> {
    let value = |value: &serde_json::Value| {
        let bytes = BASE64_STANDARD.decode(value.as_str()?).ok()?;
        Some(SecretString::from(String::from_utf8(bytes).ok()?))
    };
    let data = secret.data["data"].as_object().into_iter().flatten();
    data.map(|(key, encoded)| (key.clone(), value(encoded))).collect()
}

/// Lists the children of some kinds that carry our labels.
async fn labelled(
    client: &Client,
    resource: &MessengerTenant,
    kinds: &[Kind],
    observed: &mut Observed,
) -> Result<(), ReadError> {
    let namespace = resource.namespace().unwrap_or_default();
    let params = ListParams::default().labels(&selector(&resource.spec.tenant_id));
    let lists = kinds.iter().copied().map(|kind| {
        let (api, params) = (api::children(client, &namespace, kind), params.clone());
        async move { (kind, api.list(&params).await) }
    });
    for (kind, list) in join_all(lists).await {
        match list {
            Ok(list) => {
                let named = list.items.into_iter().map(|object| ((kind, object.name_any()), object));
                observed.children.extend(named);
            }
            Err(error) if api::is_unknown(&error) => observed.unknown_kinds.push(kind),
            Err(error) => return Err(ReadError::new(format!("{}s", kind.as_str()))(error)),
        }
    }
    Ok(())
}

/// Reports whether the API server knows a kind of children.
pub(crate) async fn knows(client: &Client, kind: Kind) -> Result<bool, ReadError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.api_resource());
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(true),
        Err(error) if api::is_unknown(&error) => Ok(false),
        Err(error) => Err(ReadError::new(format!("{}s", kind.as_str()))(error)),
    }
}

/// Reads objects by name. Those that do not exist are left out.
async fn by_name(
    client: &Client,
    resource: &MessengerTenant,
    names: Vec<ChildKey>,
) -> Result<Vec<(ChildKey, DynamicObject)>, ReadError> {
    let namespace = resource.namespace().unwrap_or_default();
    let reads = names.into_iter().map(|(kind, name)| {
        let api = api::children(client, &namespace, kind);
        async move {
            let found = api.get_opt(&name).await;
            let found = found.map_err(ReadError::new(format!("{} {name}", kind.as_str())))?;
            Ok::<_, ReadError>(found.map(|object| ((kind, name), object)))
        }
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}

/// Reads one object by name.
pub(crate) async fn object(
    client: &Client,
    namespace: &str,
    object: &Object,
) -> Result<Option<DynamicObject>, ReadError> {
    let found = api::children(client, namespace, object.kind).get_opt(&object.name).await;
    found.map_err(ReadError::new(format!("{object:?}")))
}

/// Returns what the tenant's Secrets hold.
pub(crate) fn credentials(resource_name: &str, observed: &Observed) -> ObservedSecrets {
    let read = |kind: &Secret| {
        let key = (Kind::Secret, format!("{resource_name}-{kind}"));
        if observed.foreign.contains(&key) {
            return Some((*kind, ObservedSecret::Foreign));
        }
        Some((*kind, ObservedSecret::Ours(content(observed.secrets.get(&key)?))))
    };
    Secret::ALL.iter().filter_map(read).collect()
}

/// Reports whether a Secret of a tenant is there, whatever it holds.
pub(crate) async fn has_secret(
    client: &Client,
    resource: &MessengerTenant,
    secret: Secret,
) -> Result<bool, ReadError> {
    let name = format!("{}-{secret}", resource.name_any());
    let api = api::children(client, &resource.namespace().unwrap_or_default(), Kind::Secret);
    let found = api.get_metadata_opt(&name).await.map_err(ReadError::new(format!("Secret {name}")))?;
    Ok(found.is_some())
}

/// Returns how many pods of a tenant still run or may come to run, but for those of the workload `beside`. One that was evicted stays in the list until it is
/// collected, and runs nothing.
pub(crate) async fn pod_count(
    client: &Client,
    resource: &MessengerTenant,
    beside: Option<&str>,
) -> Result<usize, ReadError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &resource.namespace().unwrap_or_default());
    let mut selector = own_selector(resource);
    if let Some(workload) = beside {
        selector.push_str(&format!(",{}!={workload}", desired::NAME));
    }
    let params =
        ListParams::default().labels(&selector).fields("status.phase!=Failed,status.phase!=Succeeded");
    let found = api.list_metadata(&params).await.map_err(ReadError::new("Pods"))?;
    Ok(found.items.len())
}

/// Reports whether the API server would take a Service with external IPs. It is asked, and nothing is written.
pub(crate) async fn takes_external_ips(client: &Client, namespace: &str) -> Result<bool, ReadError> {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = Service {
        metadata: ObjectMeta { generate_name: Some("external-ips-".to_owned()), ..ObjectMeta::default() },
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort { port: 80, ..ServicePort::default() }]),
            // Reserved for documentation.
            external_ips: Some(vec!["192.0.2.1".to_owned()]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&dry_run, &service).await {
        Ok(_) => Ok(true),
        Err(error) if api::is_refusal(&error) => Ok(false),
        Err(error) => Err(ReadError::new("whether Services may have external IPs")(error)),
    }
}

/// Why a pod does not run, as far as the API server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodProblem {
    pub reason: Reason,
    pub message: String,
}

/// Returns why pods of a tenant do not run. The first cause is enough: it usually holds for many pods.
pub(crate) async fn pod_problem(client: &Client, tenant: &Tenant) -> Result<Option<PodProblem>, ReadError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &tenant.namespace);
    let params = ListParams::default().labels(&selector(tenant.id.as_str()));
    let pods = api.list(&params).await.map_err(ReadError::new("Pods"))?;
    Ok(pods.items.iter().find_map(problem))
}

fn problem(pod: &Pod) -> Option<PodProblem> {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        let why = condition.message.as_deref().unwrap_or("no reason was given");
        return Some(PodProblem {
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
        let detail = waiting.message.as_deref().map(one_line).unwrap_or_default();
        let (reason, message) = match reason {
            // It is under way.
            "" | "ContainerCreating" | "PodInitializing" => continue,
            "CrashLoopBackOff" => (
                Reason::CrashLooping,
                format!(
                    "container {container} of pod {name} exits again and again; see `kubectl -n {namespace} logs {name} -c {container} --previous`"
                ),
            ),
            "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" | "InvalidImageName" => (
                Reason::ImagePullFailed,
                format!(
                    "the image of container {container} of pod {name} cannot be pulled ({reason}); check the operator's --image-repository and --image-tag"
                ),
            ),
            _ => (
                Reason::ContainerNotStarted,
                format!("container {container} of pod {name} cannot be started ({reason}: {detail})"),
            ),
        };
        return Some(PodProblem { reason, message });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lost_its_owner_is_ours_while_it_carries_our_labels() {
        let resource: MessengerTenant = serde_json::from_value(serde_json::json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": "shop", "namespace": "shop", "uid": "uid-1"},
            "spec": {"tenantId": "acme", "cellRef": {"name": "local"}},
        }))
        .expect("a tenant");
        let ours = |kind: Kind, owner: Option<&str>, instance: &str, tenant: Option<&str>| {
            let owner = owner
                .map(|uid| serde_json::json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid}));
            let mut labels = serde_json::json!({"app.kubernetes.io/instance": instance,
                "app.kubernetes.io/managed-by": OPERATOR_NAME});
            if let Some(tenant) = tenant {
                labels[crds::TENANT_LABEL] = tenant.into();
            }
            let owners: Vec<_> = owner.into_iter().collect();
            let object = serde_json::json!({"metadata": {"name": "shop-x", "labels": labels, "ownerReferences": owners}});
            is_ours(kind, &serde_json::from_value(object).expect("an object"), &resource)
        };
        assert!(ours(Kind::Service, Some("uid-1"), "other", None));
        assert!(ours(Kind::Service, None, "shop", Some("acme")));
        assert!(ours(Kind::RoleBinding, None, "shop", None));
        assert!(!ours(Kind::Service, Some("uid-2"), "shop", Some("acme")), "it has another owner");
        assert!(!ours(Kind::Service, None, "shop", Some("globex")), "it was another tenant's");
        assert!(!ours(Kind::Service, None, "other", Some("acme")), "it was another resource's");
        assert!(!ours(Kind::Secret, None, "shop", Some("acme")), "it has no digest");
    }

    #[test]
    fn what_the_operator_made_for_another_tenant_is_known_as_such() {
        let resource: MessengerTenant = serde_json::from_value(serde_json::json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": "shop", "namespace": "shop", "uid": "uid-1"},
            "spec": {"tenantId": "acme", "cellRef": {"name": "local"}},
        }))
        .expect("a tenant");
        let check = |owner: Option<(&str, &str)>, instance: Option<&str>, expected: bool| {
            let owner = owner.map(|(kind, uid)| {
                serde_json::json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": kind, "name": "x", "uid": uid})
            });
            let owners: Vec<_> = owner.into_iter().collect();
            let labels = instance.map(|instance| {
                serde_json::json!({"app.kubernetes.io/instance": instance, "app.kubernetes.io/managed-by": OPERATOR_NAME})
            });
            let secret = serde_json::json!({"metadata": {"name": "shop-x", "labels": labels, "ownerReferences": owners}});
            let secret = serde_json::from_value(secret).expect("an object");
            assert_eq!(referenced_secret(&secret, &resource).is_of_another_tenant, expected, "{secret:?}");
        };
        let tenant = "MessengerTenant";
        check(None, None, false);
        check(Some(("Certificate", "uid-2")), None, false);
        check(Some((tenant, "uid-1")), Some("shop"), false);
        check(None, Some("shop"), false);
        check(Some((tenant, "uid-2")), Some("other"), true);
        check(Some((tenant, "uid-2")), Some("shop"), true);
        check(Some((tenant, "uid-2")), None, true);
        check(None, Some("other"), true);
    }

    #[test]
    fn a_container_that_waits_says_what_for() {
        let check = |reason: &str, detail: &str, expected: Option<(Reason, &str)>| {
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "acme-chat-1", "namespace": "acme"},
                "status": {"initContainerStatuses": [{"name": "migrate", "image": "", "imageID": "", "ready": false,
                    "restartCount": 3, "state": {"waiting": {"reason": reason, "message": detail}}}]}
            }))
            .expect("a pod");
            let found = problem(&pod);
            assert_eq!(
                found.as_ref().map(|problem| problem.reason),
                expected.map(|(reason, _)| reason),
                "{reason}"
            );
            let text = expected.map_or("", |(_, text)| text);
            assert!(found.is_none_or(|problem| problem.message.contains(text)), "{reason}");
        };
        let logs = "kubectl -n acme logs acme-chat-1 -c migrate --previous";
        check("CrashLoopBackOff", "", Some((Reason::CrashLooping, logs)));
        check("ErrImagePull", "", Some((Reason::ImagePullFailed, "(ErrImagePull)")));
        let missing = "couldn't find key password in Secret acme/acme-postgres";
        let text = "(CreateContainerConfigError: couldn't find key password in Secret acme/acme-postgres)";
        check("CreateContainerConfigError", missing, Some((Reason::ContainerNotStarted, text)));
        check(
            "RunContainerError",
            "exec format error",
            Some((Reason::ContainerNotStarted, "exec format error")),
        );
        check("PodInitializing", "", None);
        check("ContainerCreating", "", None);
    }
}
