//! What the operator would render for an example, without any cluster: services parse it in their tests, and the snapshots
//! of the examples are made from it.
//!
//! Everything here panics when the file is no valid example: it is for tests.

use std::{collections::BTreeMap, fs, path::Path};

use catalog::{Secret, SecretKey, Service};
use crds::{
    CellMonitoring, CellOpenSearch, CellPodMonitors, IdentityProvider, MessengerCell, MessengerTenant,
    MessengerTenantSpec, SecretName, Topology,
};
use secrecy::SecretString;

use crate::{
    backend,
    config::{Images, PullPolicy},
    desired::{self, Facts},
    named_secrets,
    placement::Hosts,
    referenced::{ReferencedSecret, ReferencedSecrets},
    secrets::{Copies, ObservedSecrets, TenantSecrets},
    tenant::{Cell, Tenant, hosts, tenant_id},
    workload::{COMPACT, Workload},
};

/// The cell of tenants whose own cell is no example.
const ANY_CELL: &str = include_str!("../../examples/cells/local.yaml");

/// Where the operator runs, unless it is configured otherwise.
const OPERATOR_NAMESPACE: &str = "posthouse-system";

/// Id of a topic that was seen.
const TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// One Kubernetes object as the operator applies it.
pub struct RenderedObject {
    pub kind: &'static str,
    pub name: String,
    pub manifest: serde_json::Value,
}

/// A tenant's part of one backend.
pub struct RenderedBackend {
    pub name: &'static str,
    /// What is declared, as `{:#?}` shows it.
    pub settings: String,
    /// What is done for a tenant that has nothing yet.
    pub changes: Vec<String>,
}

/// Returns the arguments of a workload as its container gets them (without the program's name), and the names of its secret
/// environment variables. `workload` is the binary's name: a service, or `compact`, for which the example is rendered in
/// that topology. A service that is there on request is rendered as if the example requested it.
///
/// # Panics
///
/// When the file is no valid example, or no workload has that name.
pub fn rendered_args(example_path: impl AsRef<Path>, workload: &str) -> (Vec<String>, Vec<String>) {
    let topology = if workload == COMPACT { Topology::Compact } else { Topology::Distributed };
    let requested = Service::parse(workload).filter(|service| service.is_on_request);
    let tenant = tenant(example_path.as_ref(), |resource| {
        resource.spec.topology = Some(topology);
        if let Some(service) = requested {
            resource.spec.services.get_or_insert_default().enable(service);
        }
    });
    let workload = tenant
        .workloads
        .iter()
        .find(|known| known.name == workload)
        .unwrap_or_else(|| panic!("no workload is named {workload}"));
    let arguments = desired::arguments(&tenant, workload, &facts()).expect("the example's topics have ids");
    let arguments = [vec!["run".to_owned()], arguments].concat();
    let names = desired::environment(&tenant, workload).into_iter().map(|variable| variable.name.to_owned());
    (arguments, names.collect())
}

/// Returns every Kubernetes object of an example, in the order they are applied, with images of the tag `1.2.3` and the operator in its
/// usual namespace.
///
/// # Panics
///
/// When the file is no valid example.
pub fn rendered_objects(example_path: impl AsRef<Path>) -> Vec<RenderedObject> {
    let mut objects = Vec::new();
    let tenant = tenant(example_path.as_ref(), |resource| {
        objects.push(desired::secret_access(resource, OPERATOR_NAMESPACE));
    });
    objects.extend(desired::secrets(&tenant));
    objects.extend(desired::children(&tenant, &facts(), &images()));
    objects.sort_by_key(|object| object.kind);
    let rendered = objects.into_iter().map(|object| RenderedObject {
        kind: object.kind.as_str(),
        name: object.name,
        manifest: object.manifest,
    });
    rendered.collect()
}

/// Returns an example's part of every backend that it has one of.
///
/// # Panics
///
/// When the file is no valid example.
pub fn rendered_backends(example_path: impl AsRef<Path>) -> Vec<RenderedBackend> {
    let tenant = tenant(example_path.as_ref(), |_| {});
    let mut new = tenant.clone();
    new.recorded_topic_ids.clear();
    let had = backend::ALL.iter().filter(|backend| tenant.has_part(backend.entry()));
    let rendered = had.map(|backend| RenderedBackend {
        name: backend.entry().as_str(),
        settings: format!("{:#?}", backend.desired(&tenant)),
        changes: backend.first_changes(&new),
    });
    rendered.collect()
}

/// Returns what the cell's account at its mail server is called.
fn cell_copies() -> Copies {
    let value =
        |key: &SecretKey| (key.key.to_owned(), SecretString::from(format!("{}-of-the-cell", key.key)));
    [(Secret::Smtp, Ok(Secret::Smtp.keys.iter().map(value).collect()))].into()
}

/// Returns what the Secrets hold that an example names for its services.
fn notification_copies(spec: &MessengerTenantSpec) -> Copies {
    let declared = named_secrets::declared(spec);
    let copy = |(secret, _, _): named_secrets::Declared<'_>| {
        let key = secret.keys[0].key;
        (secret, Ok(BTreeMap::from([(key.to_owned(), SecretString::from(format!("{key}-of-the-manifest")))])))
    };
    declared.into_iter().map(copy).collect()
}

/// Returns Secrets as the providers of an example need them.
fn provider_secrets(spec: &MessengerTenantSpec) -> ReferencedSecrets {
    let providers = spec.identity.iter().flat_map(|identity| identity.providers.iter().flatten());
    let secret = |provider: &IdentityProvider| {
        let reference = &provider.client_secret_ref;
        let value = format!("{}-of-{}", reference.key(), provider.alias).into();
        let secret = ReferencedSecret {
            annotations: BTreeMap::from([(crds::ISSUER_ANNOTATION.to_owned(), provider.issuer.clone())]),
            data: BTreeMap::from([(reference.key().to_owned(), Some(value))]),
            is_of_another_tenant: false,
        };
        (reference.name.clone(), secret)
    };
    providers.map(secret).collect()
}

/// Returns the tenant of an example as if it had been applied and then edited: with an owner, credentials that name
/// themselves, and topics that were seen once.
fn tenant(path: &Path, edit: impl FnOnce(&mut MessengerTenant)) -> Tenant {
    let yaml = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document = yaml
        .split("\n---\n")
        .find(|document| document.contains("kind: MessengerTenant"))
        .unwrap_or_else(|| panic!("{} holds no MessengerTenant", path.display()));
    let mut resource: MessengerTenant = serde_saphyr::from_str(document).expect("a MessengerTenant");
    resource.metadata.uid = Some("00000000-0000-4000-8000-000000000001".to_owned());
    edit(&mut resource);
    let mut cell: MessengerCell = serde_saphyr::from_str(ANY_CELL).expect("the local cell");
    // The local stack has it on request.
    cell.spec.opensearch.get_or_insert_with(opensearch);
    cell.spec.monitoring.get_or_insert_with(monitoring);
    let id = tenant_id(&resource).expect("a legal tenant id");
    let usernames = backend::usernames(&id, &Workload::of(&resource.spec));
    let mut copies = cell_copies();
    copies.extend(notification_copies(&resource.spec));
    let secrets = TenantSecrets::complete(&usernames, &ObservedSecrets::new(), &copies, |kind| {
        format!("generated-{kind}")
    });
    let cell = Cell::new(&cell).expect("a valid cell");
    let hosts = Hosts { routed: hosts(&resource, &cell.domain).expect("valid hosts"), ..Hosts::default() };
    let mut tenant = Tenant::new(&resource, cell, secrets, hosts, &provider_secrets(&resource.spec))
        .expect("a valid tenant");
    tenant.recorded_topic_ids.insert(tenant.send_topic().to_string(), TOPIC_ID.to_owned());
    tenant
}

/// Returns what a cell has for the examples that choose it.
fn opensearch() -> CellOpenSearch {
    CellOpenSearch {
        url: "https://opensearch.opensearch.svc:9200".to_owned(),
        security: None,
        replicas: None,
        credentials_secret_ref: Some(SecretName { name: "cell-local-opensearch".to_owned() }),
    }
}

/// Returns what a cell asks for whose tenants are scraped.
fn monitoring() -> CellMonitoring {
    CellMonitoring { pod_monitors: Some(CellPodMonitors::default()), prometheus: None }
}

/// Returns what is known once the topics were seen.
fn facts() -> Facts {
    use catalog::Backend::{Cql, Keycloak, OpenSearch, Postgres, S3};

    let generations = [Cql, Postgres, Keycloak, S3, OpenSearch];
    Facts {
        send_topic_generation: Some(TOPIC_ID.to_owned()),
        generations: generations.map(|backend| (backend, format!("generation-of-{backend}"))).into(),
        schema_ids: BTreeMap::new(),
        route_targets: BTreeMap::new(),
        is_opening: false,
        waker_url: "http://posthouse-waker.posthouse-system.svc/".to_owned(),
    }
}

pub(crate) fn images() -> Images {
    Images {
        repository: "posthouse".to_owned(),
        tag: "1.2.3".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Tenants for the tests of pure modules.

    use super::*;

    /// Returns the tenant of an example after an edit.
    pub(crate) fn example(file: &str, edit: impl FnOnce(&mut MessengerTenant)) -> Tenant {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tenants");
        tenant(&folder.join(file), edit)
    }

    /// Returns the cell of the examples.
    pub(crate) fn cell_resource() -> MessengerCell {
        serde_saphyr::from_str(ANY_CELL).expect("the local cell")
    }

    /// Returns the cell of the examples after an edit.
    pub(crate) fn cell(edit: impl FnOnce(&mut MessengerCell)) -> Cell {
        let mut cell = cell_resource();
        edit(&mut cell);
        Cell::new(&cell).expect("a valid cell")
    }

    /// Returns every child of a tenant but its Secrets.
    pub(crate) fn children(tenant: &Tenant) -> Vec<desired::Object> {
        desired::children(tenant, &facts(), &images())
    }
}
