//! What the operator would render for an example, without any cluster: services parse it in their tests, and the snapshots
//! of the examples are made from it.

use std::{fs, path::Path};

use crds::{MessengerCell, MessengerTenant};

use crate::{
    catalog::{SEND_TOPIC, Service},
    desired,
    secrets::{ObservedSecrets, TenantSecrets},
    tenant::{Cell, Tenant, tenant_id},
};

/// The cell of tenants whose own cell is no example.
const ANY_CELL: &str = include_str!("../../examples/cells/local.yaml");

/// Returns the arguments of a service as its container gets them (without the program's name), and the names of its secret
/// environment variables. `service` is the binary's name.
///
/// # Panics
///
/// When the file is no valid example, or no service has that name: it is for tests.
pub fn rendered_args(example_path: impl AsRef<Path>, service: &str) -> (Vec<String>, Vec<String>) {
    let tenant = example_tenant(example_path.as_ref());
    let service = Service::ALL
        .into_iter()
        .find(|known| known.as_str() == service)
        .unwrap_or_else(|| panic!("no service is named {service}"));
    let arguments = desired::arguments(&tenant, service).expect("the example's topics have ids");
    let arguments = [vec!["run".to_owned()], arguments].concat();
    let names = desired::environment(&tenant, service).into_iter().map(|(name, _, _)| name.to_owned());
    (arguments, names.collect())
}

/// Returns the tenant of an example as if it had been applied: with an owner, credentials that name themselves, and topics
/// that were seen once.
///
/// # Panics
///
/// When the file is no valid example.
pub fn example_tenant(path: &Path) -> Tenant {
    let yaml = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document = yaml
        .split("\n---\n")
        .find(|document| document.contains("kind: MessengerTenant"))
        .unwrap_or_else(|| panic!("{} holds no MessengerTenant", path.display()));
    let mut resource: MessengerTenant = serde_saphyr::from_str(document).expect("a MessengerTenant");
    resource.metadata.uid = Some("00000000-0000-4000-8000-000000000001".to_owned());
    let cell: MessengerCell = serde_saphyr::from_str(ANY_CELL).expect("the local cell");
    let id = tenant_id(&resource).expect("a legal tenant id");
    let secrets =
        TenantSecrets::complete(&id, &ObservedSecrets::new(), |kind| format!("generated-{}", kind.suffix()));
    let cell = Cell::new(&cell).expect("a valid cell");
    let mut tenant = Tenant::new(&resource, cell, secrets, Vec::new()).expect("a valid tenant");
    tenant.topic_ids.insert(tenant.id.topic(SEND_TOPIC).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ".to_owned());
    tenant
}
