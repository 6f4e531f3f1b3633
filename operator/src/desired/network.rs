//! How pods of a tenant are reached.

use catalog::{GRPC_PORT, HTTP_PORT, MANAGEMENT_PORT};
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        networking::v1::{
            NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::object::{Kind, Object, metadata, selector};
use crate::{tenant::Tenant, workload::Workload};

/// End of the policy's name.
pub(super) const POLICY: &str = "default-deny";

/// A namespace with this label may read the metrics of a tenant's pods.
const SCRAPER_LABEL: &str = "messenger.posthouse.dev/metrics";

pub(super) fn service(tenant: &Tenant, workload: &Workload) -> Object {
    let port = |name: &str, port: u16, target: u16| ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::Int(target.into())),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    let object = Service {
        metadata: metadata(tenant, tenant.child(workload.name), Some(workload.name)),
        spec: Some(ServiceSpec {
            selector: Some(selector(tenant, workload)),
            ports: Some(vec![port("http", 80, HTTP_PORT), port("grpc", GRPC_PORT, GRPC_PORT)]),
            type_: Some("ClusterIP".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    Object::new(Kind::Service, &object)
}

/// Returns the policy that closes the tenant's pods to all but the tenant's own pods. Two ports stay open: public
/// HTTP, for Traefik in whatever namespace it runs, and metrics, for namespaces that carry the label above. It needs a
/// network plug-in that enforces policies; the bridge plug-in of the local cluster does not.
pub(super) fn policy(tenant: &Tenant) -> Object {
    let own_pods = LabelSelector {
        match_labels: Some([(crds::TENANT_LABEL.to_owned(), tenant.id.to_string())].into()),
        ..Default::default()
    };
    let port = |port: u16| NetworkPolicyPort {
        port: Some(IntOrString::Int(port.into())),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    };
    let scrapers = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some([(SCRAPER_LABEL.to_owned(), "allowed".to_owned())].into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let policy = NetworkPolicy {
        metadata: metadata(tenant, tenant.child(POLICY), None),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(own_pods.clone()),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: Some(vec![NetworkPolicyPeer {
                        pod_selector: Some(own_pods),
                        ..Default::default()
                    }]),
                    ports: None,
                },
                NetworkPolicyIngressRule { from: None, ports: Some(vec![port(HTTP_PORT)]) },
                NetworkPolicyIngressRule {
                    from: Some(vec![scrapers]),
                    ports: Some(vec![port(MANAGEMENT_PORT)]),
                },
            ]),
            ..Default::default()
        }),
    };
    Object::new(Kind::NetworkPolicy, &policy)
}
