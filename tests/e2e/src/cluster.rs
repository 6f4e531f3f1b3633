//! The cluster: tenants, what the operator makes of them, and the pods.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use anyhow::{Context, bail, ensure};
use crds::{MessengerCell, MessengerTenant, Topology};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Event, Namespace, Pod, PodCondition, Secret, Service},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PropagationPolicy},
};
use operator::backend::Owner;
use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use url::Url;

use crate::{
    eventually,
    stack::{Account, Backend},
};

/// The cell of the local stack.
const CELL: &str = "local";
/// Field manager of everything a story writes.
const MANAGER: &str = "e2e";
/// A namespace ends some time after its tenant.
const NAMESPACE_END: Duration = Duration::from_secs(150);
/// A server of this machine takes a connection within this time.
const REACHED_WITHIN: Duration = Duration::from_secs(2);
/// The operator's own namespace.
pub const OPERATOR_NAMESPACE: &str = "posthouse-system";
/// Secret with the token of the operator's metrics.
const OPERATOR_METRICS: &str = "posthouse-operator-metrics";

pub struct Cluster {
    pub client: Client,
}

/// Returns `spec.services` with every service on that a tenant may be without, or off.
pub fn optional_services(is_enabled: bool) -> serde_json::Value {
    let optional = catalog::Service::ALL.iter().filter(|service| service.is_optional);
    optional.map(|service| (service.to_string(), json!({ "enabled": is_enabled }))).collect()
}

/// Returns `spec.limits` that hold up nothing of what stories and measurements send.
pub fn ample_limits() -> serde_json::Value {
    let much = json!({ "perSecond": 10_000, "burst": 20_000 });
    json!({ "userSends": much, "chatSends": much, "tenantSends": much, "userQueries": much })
}

impl Cluster {
    pub async fn connect() -> anyhow::Result<Self> {
        let client = Client::try_default().await?;
        client.apiserver_version().await?;
        Ok(Self { client })
    }

    /// Returns whether the cell `local` has a backend.
    pub async fn cell_has(&self, backend: Backend) -> anyhow::Result<bool> {
        let spec = Api::<MessengerCell>::all(self.client.clone()).get(CELL).await?.spec;
        Ok(match backend {
            Backend::S3 => spec.s3.is_some(),
            Backend::OpenSearch => spec.opensearch.is_some(),
            Backend::RabbitMq => spec.rabbitmq.is_some(),
            Backend::Kafka | Backend::Cassandra | Backend::Keycloak | Backend::Redis | Backend::Postgres => {
                true
            }
        })
    }

    /// Returns whether the cell `local` has a collector of traces that can be reached.
    pub async fn has_collector(&self) -> anyhow::Result<bool> {
        let spec = Api::<MessengerCell>::all(self.client.clone()).get(CELL).await?.spec;
        let Some(traces) = spec.observability.and_then(|observability| observability.traces) else {
            return Ok(false);
        };
        let addresses = Url::parse(&traces.endpoint)?.socket_addrs(|| None)?;
        let connected = timeout(REACHED_WITHIN, TcpStream::connect(&addresses[..])).await;
        Ok(matches!(connected, Ok(Ok(_))))
    }

    pub fn tenants(&self, namespace: &str) -> Api<MessengerTenant> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn services(&self, namespace: &str) -> Api<Service> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies a tenant on the cell `local` in a namespace of its own, which is created when needed. The name of the
    /// resource and of the namespace is the tenant id; `spec` is merged over the smallest one.
    pub async fn apply_tenant(&self, tenant_id: &str, spec: serde_json::Value) -> anyhow::Result<()> {
        self.apply_tenant_as(tenant_id, tenant_id, spec).await
    }

    /// Like [`Self::apply_tenant`], with another name of namespace and resource.
    pub async fn apply_tenant_as(
        &self,
        name: &str,
        tenant_id: &str,
        spec: serde_json::Value,
    ) -> anyhow::Result<()> {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels },
        });
        let params = PatchParams::apply(MANAGER).force();
        let namespaces = Api::<Namespace>::all(self.client.clone());
        eventually(&format!("namespace {name} is not ending"), NAMESPACE_END, || async {
            let found = namespaces.get_opt(name).await?;
            let is_ending = found.is_some_and(|found| found.metadata.deletion_timestamp.is_some());
            ensure!(!is_ending, "an earlier story's is still there");
            Ok(())
        })
        .await?;
        namespaces.patch(name, &params, &Patch::Apply(namespace)).await?;
        let mut full = json!({ "tenantId": tenant_id, "cellRef": { "name": CELL } });
        for (key, value) in spec.as_object().into_iter().flatten() {
            full[key] = value.clone();
        }
        let tenant = json!({
            "apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": { "name": name, "namespace": name },
            "spec": full,
        });
        self.tenants(name).patch(name, &params, &Patch::Apply(tenant)).await?;
        Ok(())
    }

    /// Deletes a tenant and waits until it is gone; its namespace goes too. Returns how long the tenant took.
    pub async fn delete_tenant(&self, name: &str, limit: Duration) -> anyhow::Result<Duration> {
        let took = self.delete_resource(name, limit).await?;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let _ = namespaces.delete(name, &DeleteParams::default()).await;
        Ok(took)
    }

    /// Deletes a tenant like [`Self::delete_tenant`], and leaves its namespace.
    pub async fn delete_resource(&self, name: &str, limit: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let api = self.tenants(name);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        eventually(&format!("tenant {name} is gone"), limit, || async {
            let left = api.get_opt(name).await?;
            ensure!(
                left.is_none(),
                "its finalizers are {:?}",
                left.map(|tenant| tenant.finalizers().to_vec())
            );
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Waits until nothing of a tenant is left in the namespace that it was in: what the operator made there goes with the tenant.
    pub async fn await_nothing_of(&self, name: &str, limit: Duration) -> anyhow::Result<()> {
        let all = ListParams::default();
        eventually(&format!("nothing of tenant {name} is left in its namespace"), limit, || async {
            let secrets = self.secrets(name).list(&all).await?.items;
            let services = self.services(name).list(&all).await?.items;
            let deployments = self.deployments(name).list(&all).await?.items;
            let secrets = secrets.iter().map(|left| format!("Secret {}", left.name_any()));
            let services = services.iter().map(|left| format!("Service {}", left.name_any()));
            let deployments = deployments.iter().map(|left| format!("Deployment {}", left.name_any()));
            let left: Vec<String> = secrets.chain(services).chain(deployments).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    }

    /// Returns the owner marker of everything that a tenant's resource owns.
    pub async fn owner(&self, name: &str) -> anyhow::Result<Owner> {
        let uid = self.tenants(name).get(name).await?.metadata.uid;
        Ok(Owner {
            uid: uid.context("an object of the server has a UID")?,
            namespace: name.to_owned(),
            name: name.to_owned(),
            heir_of: Vec::new(),
        })
    }

    /// Returns a tenant's condition.
    pub async fn condition(&self, name: &str, kind: &str) -> anyhow::Result<Condition> {
        let tenant = self.tenants(name).get(name).await?;
        let conditions = tenant.status.map(|status| status.conditions).unwrap_or_default();
        conditions
            .into_iter()
            .find(|c| c.type_ == kind)
            .with_context(|| format!("there is no condition {kind} yet"))
    }

    /// Waits until a tenant is ready as it is specified now; returns how long that took.
    pub async fn await_ready(&self, name: &str, limit: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        eventually(&format!("tenant {name} is Ready"), limit, || async {
            let tenant = self.tenants(name).get(name).await?;
            let status = tenant.status.context("there is no status yet")?;
            ensure!(
                status.observed_generation == tenant.metadata.generation,
                "the status is of an earlier spec"
            );
            let waiting: Vec<String> = status
                .conditions
                .iter()
                .filter(|condition| condition.status != "True")
                .map(|condition| format!("{} {}: {}", condition.type_, condition.reason, condition.message))
                .collect();
            ensure!(!status.conditions.is_empty() && waiting.is_empty(), "{}", waiting.join("; "));
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Waits until a tenant's condition has this reason; returns its message.
    pub async fn await_reason(
        &self,
        name: &str,
        kind: &str,
        reason: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        eventually(&format!("{name} shows {kind} {reason}"), limit, || async {
            let found = self.condition(name, kind).await?;
            ensure!(found.reason == reason, "it shows {} {}: {}", found.status, found.reason, found.message);
            Ok(found.message)
        })
        .await
    }

    /// Returns the account in a tenant's Secret `<name>-<backend>`.
    pub async fn account(&self, name: &str, backend: &str) -> anyhow::Result<Account> {
        let secret = self.secret(name, &format!("{name}-{backend}")).await?;
        let value = |keys: [&str; 3]| keys.iter().find_map(|key| secret.get(*key).cloned());
        Ok(Account {
            username: value(["username", "clientId", "accessKey"]).unwrap_or_default(),
            password: value(["password", "clientSecret", "secretKey"])
                .or_else(|| secret.get("token").cloned())
                .with_context(|| format!("Secret {name}-{backend} has no password"))?,
        })
    }

    pub async fn secret(&self, namespace: &str, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let secret =
            self.secrets(namespace).get(name).await.with_context(|| format!("Secret {namespace}/{name}"))?;
        let data = secret.data.unwrap_or_default();
        data.into_iter().map(|(key, value)| Ok((key, String::from_utf8(value.0)?))).collect()
    }

    /// Returns the workload that runs a service of a tenant: one of its own, or that of all services of a compact tenant.
    /// Both namespace and tenant have this name.
    pub async fn workload<'a>(&self, tenant: &str, service: &'a str) -> anyhow::Result<&'a str> {
        let topology = self.tenants(tenant).get(tenant).await?.spec.topology;
        Ok(if topology == Some(Topology::Compact) { "compact" } else { service })
    }

    /// Kills the pods of one service of a tenant without a grace period, as a lost node would, and waits until others are ready.
    pub async fn replace_pods(&self, namespace: &str, service: &str, limit: Duration) -> anyhow::Result<()> {
        let workload = self.workload(namespace, service).await?;
        let selector = format!("app.kubernetes.io/name={workload}");
        let params = ListParams::default().labels(&selector);
        let pods = self.pods(namespace);
        let killed: Vec<_> = pods.list(&params).await?.items.iter().filter_map(ResourceExt::uid).collect();
        ensure!(!killed.is_empty(), "there was no {service} pod to kill");
        self.kill_selected(namespace, &selector).await?;
        eventually(&format!("another pod of {service} is ready"), limit, || async {
            let ready = pods.list(&params).await?.items.into_iter().any(|pod| {
                let is_new = pod.uid().is_some_and(|uid| !killed.contains(&uid));
                let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
                is_new && conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True")
            });
            ensure!(ready, "not yet");
            Ok(())
        })
        .await
    }

    /// Kills the operator's pods without a grace period.
    pub async fn kill_operator(&self) -> anyhow::Result<usize> {
        let pods = self.pods(OPERATOR_NAMESPACE);
        let killed = pods.list(&ListParams::default()).await?.items.len();
        self.kill_selected(OPERATOR_NAMESPACE, "").await?;
        ensure!(killed > 0, "there is no operator pod");
        Ok(killed)
    }

    /// Kills all pods of a tenant without a grace period. Returns how many there were.
    pub async fn kill_all_pods(&self, namespace: &str) -> anyhow::Result<usize> {
        let killed = self.kill_selected(namespace, "").await?;
        ensure!(killed > 0, "there is no pod in {namespace}");
        Ok(killed)
    }

    async fn kill_selected(&self, namespace: &str, selector: &str) -> anyhow::Result<usize> {
        let pods = self.pods(namespace);
        let listed = pods.list(&ListParams::default().labels(selector)).await?;
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        for pod in &listed.items {
            match pods.delete(&pod.name_any(), &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(listed.items.len())
    }

    /// Returns the operator's counters whose name contains `name`, lease renewals apart, as its leader reports them.
    pub async fn operator_counters(&self, name: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut counters = BTreeMap::new();
        let token = self.secret(OPERATOR_NAMESPACE, OPERATOR_METRICS).await?;
        let token = token.get("token").map(String::as_str);
        let client = reqwest::Client::new();
        for pod in self.pods(OPERATOR_NAMESPACE).list(&ListParams::default()).await? {
            let Some(address) = pod.status.and_then(|status| status.pod_ip) else { continue };
            let metrics = management(&client, &address, "metrics", token).await?;
            let metrics = metrics.error_for_status()?.text().await?;
            for line in metrics.lines().filter(|line| !line.starts_with('#') && line.contains(name)) {
                let (series, value) = line.rsplit_once(' ').context("a sample has a value")?;
                if !series.contains("lease") {
                    *counters.entry(series.to_owned()).or_default() += value.parse::<f64>()? as u64;
                }
            }
        }
        Ok(counters)
    }

    /// Waits until a Deployment has all its replicas ready.
    pub async fn await_deployment(&self, namespace: &str, name: &str, limit: Duration) -> anyhow::Result<()> {
        let api = self.deployments(namespace);
        eventually(&format!("Deployment {namespace}/{name} is available"), limit, || async {
            let deployment = api.get(name).await?;
            let status = deployment.status.unwrap_or_default();
            let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
            ensure!(status.observed_generation == deployment.metadata.generation, "not yet observed");
            ensure!(
                status.ready_replicas.unwrap_or(0) == wanted
                    && status.updated_replicas.unwrap_or(0) == wanted,
                "{} of {wanted} replicas are ready",
                status.ready_replicas.unwrap_or(0)
            );
            Ok(())
        })
        .await
    }

    /// Returns the Events about a tenant as `<reason> <message>`, with how often each happened.
    pub async fn events(&self, name: &str) -> anyhow::Result<BTreeMap<String, i32>> {
        let events = Api::<Event>::namespaced(self.client.clone(), name);
        let selector = format!("involvedObject.kind=MessengerTenant,involvedObject.name={name}");
        let mut counted = BTreeMap::new();
        for event in events.list(&ListParams::default().fields(&selector)).await? {
            let times = event.series.and_then(|series| series.count).or(event.count).unwrap_or(1);
            let text = format!("{} {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default());
            *counted.entry(text).or_default() += times;
        }
        Ok(counted)
    }

    /// Waits for an Event about a tenant that begins with `reason`, contains all of `words`, and did not happen yet when
    /// `known` was taken.
    pub async fn await_event(
        &self,
        name: &str,
        reason: &str,
        words: &[&str],
        known: &BTreeMap<String, i32>,
        limit: Duration,
    ) -> anyhow::Result<String> {
        eventually(&format!("a new Event {reason} about {words:?}"), limit, || async {
            let events = self.events(name).await?;
            let found = events.iter().find(|(text, times)| {
                text.starts_with(reason)
                    && words.iter().all(|word| text.contains(word))
                    && known.get(*text).is_none_or(|before| before < times)
            });
            found.map(|(text, _)| text.clone()).with_context(|| format!("the Events are {events:#?}"))
        })
        .await
    }

    /// Returns the addresses of the pods of a service of a tenant that are ready, which this machine reaches as pods do.
    pub async fn pod_addresses(&self, namespace: &str, service: &str) -> anyhow::Result<Vec<String>> {
        let workload = self.workload(namespace, service).await?;
        let params = ListParams::default().labels(&format!("app.kubernetes.io/name={workload}"));
        let pods = self.pods(namespace).list(&params).await?;
        let address = |pod: Pod| {
            let status = pod.status?;
            let is_ready = |found: &PodCondition| found.type_ == "Ready" && found.status == "True";
            status.conditions?.iter().any(is_ready).then_some(status.pod_ip?)
        };
        Ok(pods.items.into_iter().filter_map(address).collect())
    }

    /// Returns the addresses of all pods in a namespace but those that are about to end.
    pub async fn running_addresses(&self, namespace: &str) -> anyhow::Result<Vec<String>> {
        let pods = self.pods(namespace).list(&ListParams::default()).await?;
        let running = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let addresses: Vec<_> = running.filter_map(|pod| pod.status?.pod_ip).collect();
        ensure!(!addresses.is_empty(), "no pod runs in {namespace}");
        Ok(addresses)
    }

    /// Returns the token of a tenant's metrics.
    pub async fn metrics_token(&self, name: &str) -> anyhow::Result<String> {
        let secret = self.secret(name, &format!("{name}-metrics")).await?;
        secret.get("token").cloned().context("the Secret has a token")
    }

    /// Returns the address of a Service of a tenant, which this machine reaches as pods do.
    pub async fn service_address(&self, namespace: &str, name: &str, port: &str) -> anyhow::Result<String> {
        let spec = self.services(namespace).get(name).await?.spec.context("a Service has a spec")?;
        let address = spec.cluster_ip.context("it has a cluster IP")?;
        let ports = spec.ports.unwrap_or_default();
        let number =
            ports.iter().find(|candidate| candidate.name.as_deref() == Some(port)).map(|found| found.port);
        Ok(format!(
            "http://{address}:{}",
            number.with_context(|| format!("Service {name} has no port {port}"))?
        ))
    }

    /// Returns the state of pods and tenants, and the end of the operator's log.
    pub async fn state_of_things(&self) -> String {
        let mut text = String::from("\n--- state of the cluster when the story failed\n");
        if let Err(error) = self.describe(&mut text).await {
            let _ = writeln!(text, "(the rest is not available: {error:#})");
        }
        text
    }

    async fn describe(&self, text: &mut String) -> anyhow::Result<()> {
        for tenant in Api::<MessengerTenant>::all(self.client.clone()).list(&ListParams::default()).await? {
            let status = tenant.status.clone().unwrap_or_default();
            writeln!(text, "tenant {} (observed {:?})", tenant.name_any(), status.observed_generation)?;
            for condition in status.conditions.iter().filter(|condition| condition.status != "True") {
                writeln!(text, "    {} {}: {}", condition.type_, condition.reason, condition.message)?;
            }
        }
        for pod in Api::<Pod>::all(self.client.clone()).list(&ListParams::default()).await? {
            let status = pod.status.clone().unwrap_or_default();
            let containers = status.container_statuses.unwrap_or_default();
            let ready = containers.iter().filter(|container| container.ready).count();
            let restarts: i32 = containers.iter().map(|container| container.restart_count).sum();
            let waiting: Vec<String> = containers
                .iter()
                .filter_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone())
                .collect();
            writeln!(
                text,
                "pod {}/{}: {} ready {ready}/{} restarts {restarts} {}",
                pod.namespace().unwrap_or_default(),
                pod.name_any(),
                status.phase.unwrap_or_default(),
                containers.len(),
                waiting.join(" "),
            )?;
        }
        let operators = self.pods(OPERATOR_NAMESPACE);
        for pod in operators.list(&ListParams::default()).await? {
            let lines = LogParams { tail_lines: Some(30), ..LogParams::default() };
            writeln!(
                text,
                "--- log of {}\n{}",
                pod.name_any(),
                operators.logs(&pod.name_any(), &lines).await?
            )?;
        }
        Ok(())
    }
}

/// Requests a page of a pod's management port, with a bearer token where there is one.
pub async fn management(
    client: &reqwest::Client,
    pod_address: &str,
    page: &str,
    token: Option<&str>,
) -> anyhow::Result<reqwest::Response> {
    let mut request = client.get(format!("http://{pod_address}:{}/{page}", catalog::MANAGEMENT_PORT));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Ok(request.send().await?)
}

/// Fails when a call to the API server was not refused; returns the refusal's message.
pub fn refusal<T>(outcome: Result<T, kube::Error>) -> anyhow::Result<String> {
    match outcome {
        Ok(_) => bail!("it was accepted"),
        Err(kube::Error::Api(status)) => Ok(status.message.clone()),
        Err(error) => Err(error.into()),
    }
}
