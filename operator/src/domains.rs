//! Pure: which hosts a cell lets a tenant have.

use std::collections::BTreeSet;

use crds::{Host, MessengerCellSpec, TenantId};
use url::Url;

use crate::endpoints;

/// Hosts that belong to the installation and never to a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Installation {
    /// Domains of cells: below each one, a tenant has the host that is called after its id.
    domains: BTreeSet<String>,
    /// Where the systems of cells are reached.
    systems: BTreeSet<String>,
}

/// Why a host is not for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    #[error("it belongs to the installation")]
    Installation,
    #[error("it is the address of tenant id {0}")]
    OtherTenant(String),
    #[error("MessengerCell {0} does not allow it in spec.routing.allowedDomains")]
    Domain(String),
}

impl Installation {
    /// Reads all cells.
    pub fn of<'a>(cells: impl IntoIterator<Item = &'a MessengerCellSpec>) -> Self {
        let mut installation = Self::default();
        for cell in cells {
            installation.domains.insert(cell.routing.domain.clone());
            installation.systems.extend(systems(cell));
        }
        installation
    }

    /// Checks a host that the tenant `id` requests. `cell` is called `name`, and is the tenant's.
    pub fn check(
        &self,
        host: &Host,
        id: &TenantId,
        name: &str,
        cell: &MessengerCellSpec,
    ) -> Result<(), NotAllowed> {
        let host = host.as_str();
        if self.domains.contains(host) || self.systems.contains(host) {
            return Err(NotAllowed::Installation);
        }
        // The domain of one cell may lie below that of another one.
        let domain =
            self.domains.iter().filter(|domain| is_below(host, domain)).max_by_key(|domain| domain.len());
        if let Some(domain) = domain {
            let below = host.len() - domain.len() - 1;
            let label = host[..below].rsplit('.').next().unwrap_or_default();
            if label == id.as_str() && *domain == cell.routing.domain {
                return Ok(());
            }
            if label != id.as_str() && label.parse::<TenantId>().is_ok() {
                return Err(NotAllowed::OtherTenant(label.to_owned()));
            }
        }
        let mut allowed = cell.routing.allowed_domains.iter().flatten();
        if allowed.any(|domain| host == domain || is_below(host, domain)) {
            Ok(())
        } else {
            Err(NotAllowed::Domain(name.to_owned()))
        }
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Returns the hosts in the addresses of a cell.
fn systems(cell: &MessengerCellSpec) -> impl Iterator<Item = String> {
    let optional = endpoints::optional(cell).map(|(_, url)| url);
    let keycloak = [Some(&cell.keycloak.url), cell.keycloak.public_url.as_ref()].into_iter().flatten();
    let urls = keycloak.map(String::as_str).chain(optional);
    let urls = urls.filter_map(|url| Some(Url::parse(url).ok()?.host_str()?.to_owned()));
    let addresses =
        cell.kafka.bootstrap_servers.split(',').chain(cell.cql.contact_points.iter().map(String::as_str));
    let addresses = addresses.chain([
        cell.redis.address.as_str(),
        cell.postgres.host.as_str(),
        cell.routing.probe_address.as_str(),
    ]);
    let addresses = addresses.chain(cell.clamav.iter().map(|clamav| clamav.host.as_str()));
    urls.chain(addresses.map(|address| address.split(':').next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use crds::MessengerCell;

    use super::*;

    fn cell(domain: &str, allowed: &[&str]) -> MessengerCellSpec {
        let local = include_str!("../../examples/cells/local.yaml");
        let mut spec = serde_saphyr::from_str::<MessengerCell>(local).expect("the local cell").spec;
        spec.keycloak.url = "https://auth.corp.example:8443/base".to_owned();
        spec.keycloak.public_url = None;
        let s3 = spec.s3.as_mut().expect("it has an object store");
        s3.public_endpoint = Some("https://files.corp.example".to_owned());
        let registry = serde_json::json!({"url": "http://registry.corp.example:8081/apis/ccompat/v7"});
        spec.schema_registry = Some(serde_json::from_value(registry).expect("a registry"));
        let search = serde_json::json!({"url": "https://search.corp.example:9200", "security": "None"});
        spec.opensearch = Some(serde_json::from_value(search).expect("OpenSearch"));
        let rabbitmq = serde_json::json!({"amqpUrl": "amqp://rabbitmq.corp.example:5672",
            "managementUrl": "https://queues.corp.example:15671", "adminSecretRef": {"name": "rabbitmq"}});
        spec.rabbitmq = Some(serde_json::from_value(rabbitmq).expect("a broker"));
        let traces = serde_json::json!({"traces": {"endpoint": "http://traces.corp.example:4317"}});
        spec.observability = Some(serde_json::from_value(traces).expect("a collector"));
        let monitoring =
            serde_json::json!({"prometheus": {"url": "https://metrics.corp.example/prometheus"}});
        spec.monitoring = Some(serde_json::from_value(monitoring).expect("a Prometheus"));
        spec.kafka.bootstrap_servers = "kafka0.corp.example:9092,kafka1.corp.example:9092".to_owned();
        domain.clone_into(&mut spec.routing.domain);
        spec.routing.allowed_domains = Some(allowed.iter().map(|domain| (*domain).to_owned()).collect());
        spec
    }

    fn check(cell: &MessengerCellSpec, host: &str, expected: &str) {
        let other = self::cell("eu.apps.example", &[]);
        let installation = Installation::of([cell, &other]);
        let id = "acme".parse().expect("a tenant id");
        let checked = installation.check(&host.parse().expect("a host"), &id, "local", cell);
        assert_eq!(checked.map_or_else(|why| why.to_string(), |()| "allowed".to_owned()), expected, "{host}");
    }

    #[test]
    fn a_tenant_has_the_host_of_its_id_and_what_its_cell_allows() {
        let cell = cell("apps.example", &["acme.example", "corp.example", "apps.example"]);
        let foreign = "MessengerCell local does not allow it in spec.routing.allowedDomains";
        for (host, expected) in [
            ("acme.apps.example", "allowed"),
            ("chat.acme.apps.example", "allowed"),
            ("acme.example", "allowed"),
            ("chat.acme.example", "allowed"),
            ("notacme.example", foreign),
            ("other.example", foreign),
            ("apps.example", "it belongs to the installation"),
            ("globex.apps.example", "it is the address of tenant id globex"),
            ("chat.globex.apps.example", "it is the address of tenant id globex"),
            // No tenant id can be called so.
            ("our-chat.apps.example", "allowed"),
            ("auth.corp.example", "it belongs to the installation"),
            ("kafka1.corp.example", "it belongs to the installation"),
            ("files.corp.example", "it belongs to the installation"),
            ("registry.corp.example", "it belongs to the installation"),
            ("search.corp.example", "it belongs to the installation"),
            ("rabbitmq.corp.example", "it belongs to the installation"),
            ("queues.corp.example", "it belongs to the installation"),
            ("traces.corp.example", "it belongs to the installation"),
            ("metrics.corp.example", "it belongs to the installation"),
            ("grafana.corp.example", "allowed"),
            // Another cell.
            ("eu.apps.example", "it belongs to the installation"),
            ("acme.eu.apps.example", "allowed"),
            ("globex.eu.apps.example", "it is the address of tenant id globex"),
        ] {
            check(&cell, host, expected);
        }
    }

    #[test]
    fn without_allowed_domains_a_tenant_has_its_own_hosts_only() {
        let cell = MessengerCellSpec { ..cell("localhost", &[]) };
        for (host, expected) in [
            ("acme.localhost", "allowed"),
            ("chat.acme.localhost", "allowed"),
            ("localhost", "it belongs to the installation"),
            ("globex.localhost", "it is the address of tenant id globex"),
            ("our-chat.localhost", "MessengerCell local does not allow it in spec.routing.allowedDomains"),
        ] {
            check(&cell, host, expected);
        }
    }
}
