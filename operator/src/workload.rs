//! Pure: how the services of a tenant are spread over pods.

use catalog::{Backend, Folder, POSTGRES_POOL, Secret, Service, ServiceEntry, Setting};
use crds::{
    AutoscalingSpec, DEFAULT_REPLICAS, MessengerTenantSpec, ResourcesSpec, SizeSpec, TemplateSpec, Topology,
};

/// Name of the workload that runs every service, of its binary and of its image.
pub(crate) const COMPACT: &str = "compact";

/// One Deployment with its Service and ServiceAccount, and the services that run in each of its pods.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Name of binary and image, and the end of its children's names: a service's name, or [`COMPACT`].
    pub name: &'static str,
    /// The services it runs, in the order of the catalog.
    pub services: Vec<Service>,
    /// The backends that they need because the tenant chooses them.
    pub chosen: Vec<Backend>,
    pub size: Size,
}

/// How many pods a workload has, what each may use, and what else the tenant sets for them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Size {
    /// How many, where no autoscaler decides.
    pub replicas: i32,
    pub autoscaling: Option<AutoscalingSpec>,
    pub resources: ResourcesSpec,
    pub template: TemplateSpec,
}

/// Resources of a pod when the tenant sets none, as Kubernetes quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DefaultResources {
    pub cpu_request: &'static str,
    pub memory_request: &'static str,
    pub memory_limit: &'static str,
}

impl Workload {
    /// Returns the workloads that a tenant's resource requests. Together they run every enabled service once.
    pub fn of(spec: &MessengerTenantSpec) -> Vec<Self> {
        let services = spec.services.clone().unwrap_or_default();
        let enabled = Service::ALL.iter().copied().filter(|service| services.is_enabled(*service));
        match spec.topology.unwrap_or_default() {
            Topology::Distributed => enabled
                .map(|service| Self {
                    name: service.as_str(),
                    services: vec![service],
                    chosen: services.chosen(service).to_vec(),
                    size: Size::of(services.get(service).size),
                })
                .collect(),
            Topology::Compact => {
                let size = Size::of(spec.compact.clone().unwrap_or_default());
                let enabled: Vec<_> = enabled.collect();
                let chosen = enabled.iter().flat_map(|service| services.chosen(*service)).copied().collect();
                vec![Self { name: COMPACT, services: enabled, chosen, size }]
            }
        }
    }

    /// Returns where a manifest sets it.
    pub fn field(&self) -> String {
        if self.name == COMPACT { format!("spec.{COMPACT}") } else { format!("spec.services.{}", self.name) }
    }

    /// Returns the services that a workload of this name can run, whatever the tenant requests now.
    pub fn services_of(name: &str) -> Vec<Service> {
        if name == COMPACT { Service::ALL.to_vec() } else { Service::parse(name).into_iter().collect() }
    }

    /// Returns the backends that must have been set up before it can start.
    pub fn backends(&self) -> Vec<Backend> {
        let mut backends = self.union(|service| service.backends);
        backends.extend(&self.chosen);
        backends
    }

    /// Returns the backends that it uses where the cell has them.
    pub fn optional_backends(&self) -> Vec<Backend> {
        self.union(|service| service.optional_backends)
    }

    /// Returns the Secrets that its pods receive.
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets = self.union(|service| service.secrets);
        secrets.retain(|secret| !secret.backend().is_some_and(|backend| self.does_without(backend)));
        secrets
    }

    /// Reports whether the tenant may choose a backend for it, and does not.
    fn does_without(&self, backend: Backend) -> bool {
        let mut services = self.services.iter();
        services.any(|service| service.chosen_backends.contains(&backend)) && !self.chosen.contains(&backend)
    }

    /// Returns the services it calls that run in other pods of a tenant with these workloads. Of optional ones there may be
    /// none.
    pub fn peers(&self, workloads: &[Self]) -> Vec<Service> {
        let runs = |peer| workloads.iter().any(|workload| workload.services.contains(peer));
        let mut peers = self.union(|service| service.peers);
        peers.extend(self.union(|service| service.optional_peers).iter().filter(|peer| runs(peer)));
        peers.retain(|peer| !self.services.contains(peer));
        peers
    }

    /// Returns the settings that its services have for themselves.
    pub fn settings(&self) -> Vec<Setting> {
        let backends = self.backends();
        let mut settings = self.union(|service| service.settings);
        settings.retain(|setting| setting.is_spared_by().is_none_or(|backend| !backends.contains(&backend)));
        settings
    }

    /// Returns the folders that each of its pods has for itself.
    pub fn folders(&self) -> Vec<Folder> {
        self.settings().into_iter().filter_map(Setting::folder).collect()
    }

    /// Returns how many sessions of PostgreSQL its pods may have, with one more pod while they are replaced.
    pub fn postgres_sessions(&self) -> u32 {
        let users = self.services.iter().filter(|service| service.backends.contains(&Backend::Postgres));
        let sessions: u32 = users.map(|service| POSTGRES_POOL + service.postgres_sessions).sum();
        sessions * (u32::try_from(self.size.most()).unwrap_or(1) + 1)
    }

    /// Reports whether it has tables to migrate before it runs.
    pub fn migrates(&self) -> bool {
        self.services.iter().any(|service| service.migrates)
    }

    /// Returns the resources of its pods when the tenant sets none.
    pub fn default_resources(&self) -> DefaultResources {
        match self.services.as_slice() {
            [service] if self.name != COMPACT => DefaultResources {
                cpu_request: service.cpu_request,
                memory_request: service.memory_request,
                memory_limit: service.memory_limit,
            },
            // One process shares what each would hold alone: an idle one needs little more than the largest service.
            _ => DefaultResources { cpu_request: "50m", memory_request: "64Mi", memory_limit: "1Gi" },
        }
    }

    /// Returns what its services need, each thing once and in the order it is first needed.
    fn union<T: Copy + PartialEq + 'static>(&self, needs: impl Fn(&ServiceEntry) -> &'static [T]) -> Vec<T> {
        let mut union = Vec::new();
        for need in self.services.iter().flat_map(|service| needs(service)) {
            if !union.contains(need) {
                union.push(*need);
            }
        }
        union
    }
}

/// Reports whether a tenant with these workloads has a part of a backend, where its cell has it.
pub(crate) fn has_part(workloads: &[Workload], backend: Backend) -> bool {
    !backend.is_optional()
        || backend.comes_with_cell()
        || workloads.iter().any(|workload| {
            workload.backends().contains(&backend) || workload.optional_backends().contains(&backend)
        })
}

/// Reports whether a tenant with these workloads has a Secret.
pub(crate) fn has_secret(workloads: &[Workload], secret: Secret) -> bool {
    secret.backend().is_none_or(|backend| has_part(workloads, backend))
}

impl Size {
    fn of(spec: SizeSpec) -> Self {
        Self {
            replicas: spec.replicas.unwrap_or(DEFAULT_REPLICAS),
            autoscaling: spec.autoscaling,
            resources: spec.resources.unwrap_or_default(),
            template: spec.template.unwrap_or_default(),
        }
    }

    /// Returns the fewest pods that there may be.
    pub fn least(&self) -> i32 {
        self.autoscaling.map_or(self.replicas, |scaling| scaling.min_replicas())
    }

    /// Returns the most pods that there may be.
    pub fn most(&self) -> i32 {
        self.autoscaling.map_or(self.replicas, |scaling| scaling.max_replicas)
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::json;

    use super::*;

    fn workloads(spec: serde_json::Value) -> Vec<Workload> {
        let mut whole = json!({"tenantId": "acme", "cellRef": {"name": "local"}});
        whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        Workload::of(&serde_json::from_value(whole).expect("a spec"))
    }

    /// Returns `spec.services` of a tenant that has every service.
    fn all() -> serde_json::Value {
        let optional = Service::ALL.iter().filter(|service| service.is_optional);
        optional.map(|service| (service.to_string(), json!({"enabled": true}))).collect()
    }

    #[test]
    fn every_service_runs_once_in_either_topology() {
        for topology in ["Distributed", "Compact"] {
            let workloads = workloads(json!({"topology": topology, "services": all()}));
            let services: Vec<_> = workloads.iter().flat_map(|workload| workload.services.clone()).collect();
            assert_eq!(services, Service::ALL, "{topology}");
        }
    }

    #[test]
    fn distributed_is_the_default_and_names_a_workload_after_its_service() {
        let workloads = workloads(json!({"services": {"chat": {"replicas": 3}}}));
        let default = Service::ALL.iter().filter(|service| !service.is_on_request);
        assert_eq!(workloads.len(), default.count());
        for workload in &workloads {
            assert_eq!(Workload::services_of(workload.name), workload.services);
            let replicas = if workload.name == "chat" { 3 } else { 1 };
            assert_eq!(workload.size.replicas, replicas, "{}", workload.name);
        }
    }

    #[test]
    fn compact_calls_no_service_and_needs_what_all_need() {
        let spec = json!({"topology": "Compact", "compact": {"replicas": 2}, "services": all()});
        let [compact] = workloads(spec).try_into().expect("one workload");
        assert_eq!((compact.name, compact.size.replicas), (COMPACT, 2));
        assert_eq!(compact.peers(slice::from_ref(&compact)), []);
        let used = |backend: &&Backend| Service::ALL.iter().any(|service| service.backends.contains(backend));
        assert!(Backend::ALL.iter().filter(used).all(|backend| compact.backends().contains(backend)));
        let given = |secret: &&Secret| secret.backend().is_none_or(|backend| used(&&backend));
        assert!(Secret::ALL.iter().filter(given).all(|secret| compact.secrets().contains(secret)));
        assert!(compact.migrates());
    }

    #[test]
    fn a_tenant_has_an_optional_backend_with_a_service_that_needs_it_or_with_its_cell() {
        for backend in Backend::ALL {
            let least = workloads(json!({}));
            let is_always = !backend.is_optional() || backend.comes_with_cell();
            assert_eq!(has_part(&least, *backend), is_always, "{backend}");
            let users = Service::ALL.iter().filter(|service| {
                service.backends.contains(backend) || service.optional_backends.contains(backend)
            });
            for service in users {
                let with = workloads(json!({"services": {(service.as_str()): {"enabled": true}}}));
                let has_account = backend.secret.is_some_and(|secret| has_secret(&with, secret));
                assert!(has_part(&with, *backend) && has_account, "{service}");
            }
        }
    }

    #[test]
    fn a_tenant_that_chooses_a_backend_has_it_in_the_place_of_a_folder() {
        for topology in ["Distributed", "Compact"] {
            let of = |search: serde_json::Value| {
                workloads(json!({"topology": topology, "services": {"search": search}}))
            };
            let runs_search = |workload: &&Workload| workload.services.contains(&Service::Search);
            let embedded = of(json!({"enabled": true, "engine": "Embedded"}));
            let chosen = of(json!({"enabled": true, "engine": "OpenSearch"}));
            for (workloads, is_chosen) in [(&embedded, false), (&chosen, true)] {
                let workload = workloads.iter().find(runs_search).expect("it is enabled");
                assert_eq!(has_part(workloads, Backend::OpenSearch), is_chosen);
                assert_eq!(has_secret(workloads, Secret::OpenSearch), is_chosen);
                assert_eq!(workload.secrets().contains(&Secret::OpenSearch), is_chosen);
                assert_eq!(workload.folders().is_empty(), is_chosen);
            }
            let off = of(json!({"enabled": false, "engine": "OpenSearch"}));
            assert!(!has_part(&off, Backend::OpenSearch), "{topology}: it is switched off");
        }
    }

    #[test]
    fn pods_have_the_folders_of_their_services() {
        let of = |spec| {
            let workloads = workloads(spec);
            let with = workloads.into_iter().filter(|workload| !workload.folders().is_empty());
            with.map(|workload| workload.name).collect::<Vec<_>>()
        };
        let enabled = json!({"media": {"enabled": true}, "search": {"enabled": true}});
        assert_eq!(of(json!({"services": enabled})), ["media", "search"]);
        assert_eq!(of(json!({"services": enabled, "topology": "Compact"})), [COMPACT]);
        assert!(of(json!({})).is_empty(), "a tenant has it on request");
    }

    #[test]
    fn an_optional_peer_is_called_where_the_tenant_has_it() {
        for (enabled, expected) in [(true, true), (false, false)] {
            let workloads = workloads(json!({"services": {"presence": {"enabled": enabled}}}));
            assert_eq!(workloads.iter().any(|workload| workload.name == "presence"), expected);
            let gateway = workloads.iter().find(|workload| workload.name == "gateway").expect("a gateway");
            assert_eq!(gateway.peers(&workloads).contains(&Service::Presence), expected);
        }
    }

    #[test]
    fn no_service_is_named_like_the_workload_that_runs_all() {
        assert_eq!(Service::parse(COMPACT), None);
    }
}
