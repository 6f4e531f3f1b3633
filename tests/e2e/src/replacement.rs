//! A service of a tenant of the cluster, in the process of a story and in the place of its pod.
//!
//! A service requests what users and tenants name from inside the network, so its way leads to public addresses alone, and no setting gives it another one: what a
//! test could set, an operator could be made to render. A story has no public address. It therefore runs the service itself: the same code, with the arguments and
//! the Secrets that the operator gave the pod, on the Kafka, the PostgreSQL and the services of the tenant. What differs is its way outside, which leads to
//! loopback, and what the story sets. The tenant is paused meanwhile, so that the pod does not come back.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use catalog::Service;
use kit::{Process, Program, Scope, Surface, reach::Reach};
use kube::api::{ListParams, Patch, PatchParams};
use posthouse_client::Messenger;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{World, eventually};

/// A pod ends, or a pass of the operator is over, within this time, also where another story kills the operator on the way.
const CONVERGENCE: Duration = Duration::from_secs(150);

/// The service. It ends with [`Self::stop`], or with the runtime.
pub struct Replacement {
    /// Its REST API, without the router of the tenant.
    pub messenger: Messenger,
    service: Service,
    tenant: String,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Replacement {
    /// Takes the place of the pods of a tenant that is ready, distributed, and has the service. `settings` are flags with values, which take the place of the pod's.
    pub async fn start<S: kit::Service>(
        world: &World,
        tenant: &str,
        settings: Vec<(&str, String)>,
        build: impl FnOnce(S::Settings, &Scope) -> anyhow::Result<Surface>,
    ) -> anyhow::Result<Self> {
        let service = S::ENTRY;
        let line = command_line(world, tenant, service, settings).await?;
        pause(world, tenant, service).await?;
        let invocation = Program::of::<S>().read(line)?;
        let process = Process::start(invocation.process.clone())?;
        let surface = build(invocation.settings::<S>()?, &process.scope(service))?;
        let (listeners, shutdown) = (process.listen()?, process.shutdown().clone());
        let messenger = Messenger::new(&format!("http://{}", listeners.http_addr()?).parse()?)?;
        let served = tokio::spawn(process.serve_on(listeners, vec![(service, surface)]));
        Ok(Self { messenger, service, tenant: tenant.to_owned(), shutdown, served })
    }

    /// Ends the service and gives the tenant back to the operator.
    pub async fn stop(self, world: &World) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.served.await?.with_context(|| format!("the {} service of the story", self.service))?;
        set_paused(world, &self.tenant, false).await
    }
}

/// Returns the way to what a story serves.
pub fn loopback() -> Reach {
    Reach { address: |address| address.is_loopback(), port: |_| true, ..Reach::internet() }
}

/// Returns the command line of the pod, with the story's addresses in place of those that only a pod has.
async fn command_line(
    world: &World,
    tenant: &str,
    service: Service,
    own: Vec<(&str, String)>,
) -> anyhow::Result<Vec<String>> {
    let deployment = world.cluster.deployments(tenant).get(&format!("{tenant}-{service}")).await?;
    let pod = deployment.spec.and_then(|spec| spec.template.spec).context("a Deployment has a pod")?;
    let container = pod.containers.into_iter().next().context("a pod has a container")?;
    let words = container.args.unwrap_or_default();
    let settings = words.get(1..).context("the first argument is the command")?;
    let settings = settings.iter().filter_map(|argument| argument.split_once('='));
    let mut settings: BTreeMap<String, String> =
        settings.map(|(flag, value)| (flag.to_owned(), value.to_owned())).collect();
    for variable in container.env.unwrap_or_default() {
        let Some(source) = variable.value_from.and_then(|from| from.secret_key_ref) else { continue };
        match world.cluster.secret(tenant, &source.name).await {
            Ok(mut secret) => {
                let flag = format!("--{}", variable.name.to_lowercase().replace('_', "-"));
                settings.extend(secret.remove(&source.key).map(|value| (flag, value)));
            }
            Err(_) if source.optional == Some(true) => {}
            Err(error) => return Err(error),
        }
    }
    for peer in service.all_peers() {
        let url = world.cluster.service_address(tenant, &format!("{tenant}-{peer}"), "grpc").await?;
        settings.insert(peer.peer_flag(), url);
    }
    let story = [
        ("--http-addr", "127.0.0.1:0"),
        ("--grpc-addr", "127.0.0.1:0"),
        ("--management-addr", "127.0.0.1:0"),
        ("--unready-seconds", "0"),
        ("--log-format", "text"),
    ];
    let story = story.map(|(flag, value)| (flag, value.to_owned()));
    settings.extend(story.into_iter().chain(own).map(|(flag, value)| (flag.to_owned(), value)));
    // A value may begin with a hyphen.
    let settings = settings.into_iter().map(|(flag, value)| format!("{flag}={value}"));
    Ok([service.to_string(), "run".to_owned()].into_iter().chain(settings).collect())
}

/// Pauses a tenant and ends the pods of a service.
async fn pause(world: &World, tenant: &str, service: Service) -> anyhow::Result<()> {
    set_paused(world, tenant, true).await?;
    world.cluster.await_reason(tenant, "Ready", "Paused", CONVERGENCE).await?;
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    let name = format!("{tenant}-{service}");
    world.cluster.deployments(tenant).patch(&name, &PatchParams::default(), &none).await?;
    let selector = format!("app.kubernetes.io/name={service}");
    eventually("the pods of the service are gone", CONVERGENCE, || async {
        let pods = world.cluster.pods(tenant).list(&ListParams::default().labels(&selector)).await?;
        ensure!(pods.items.is_empty(), "{} are there", pods.items.len());
        Ok(())
    })
    .await
}

async fn set_paused(world: &World, tenant: &str, is_paused: bool) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({ "spec": { "paused": is_paused } }));
    world.cluster.tenants(tenant).patch(tenant, &PatchParams::default(), &patch).await?;
    Ok(())
}
