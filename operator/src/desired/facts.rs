//! What a pass finds out before its children can be described.

use std::collections::BTreeMap;

use catalog::{Backend, Service};

/// What the children depend on beside the tenant: what was found out during the pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Generation of the topic that users send to. Unknown until the topic was seen once.
    pub send_topic_generation: Option<String>,
    /// What holds the tenant's data in each backend. Unknown until it was seen once.
    pub generations: BTreeMap<Backend, String>,
    /// Ids of the schemas of records, by topic. None where the cell has no schema registry, or until it was seen once.
    pub schema_ids: BTreeMap<String, i32>,
    /// Kubernetes Services that routes still lead to, where that is not the one of the service's workload.
    pub route_targets: BTreeMap<Service, String>,
    /// It slept until a short time ago, and not all of its workloads are available yet.
    pub is_opening: bool,
    /// Where Traefik finds the waker.
    pub waker_url: String,
}
