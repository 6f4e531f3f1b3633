//! `posthouse diagnose`: what explains the state of a tenant, in a folder that may be given away.
//!
//! What is asked is what the caller's kubeconfig lets them see. Secrets are not: nothing here reads one. All that is written passes one place, which
//! replaces what looks like a secret and counts the bytes.

mod bundle;
mod objects;
mod redact;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GetParams, GroupVersionKind, ListParams, LogParams},
    client::Body,
    core::Request,
};
use serde::Serialize;
use serde_json::{Value, json};

use self::bundle::{Bundle, MAX_FILE_BYTES, Missing};
use crate::{
    args::DiagnoseArgs,
    failure::Failure,
    output::{self, Output},
    tenants,
};

/// Lines of the log of one container.
const MAX_LOG_LINES: i64 = 10_000;
/// Objects of one kind.
const MAX_OBJECTS: u32 = 200;
/// Events of the namespace that are looked through.
const MAX_EVENTS: u32 = 2_000;
/// Where the pods of a tenant serve /readyz and /metrics.
const MANAGEMENT_PORT: u16 = 8081;

/// What the command says of the folder.
#[derive(Debug, Serialize)]
struct Report {
    folder: String,
    files: Vec<String>,
    missing: Vec<Missing>,
}

pub(crate) async fn run(args: DiagnoseArgs, output: Output) -> Result<(), Failure> {
    let client = tenants::client().await?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let tenant = tenants::get(&client, &namespace, &args.tenant).await?;
    let folder = args.into.unwrap_or_else(|| format!("diagnose-{namespace}-{}", args.tenant).into());
    let bundle = Bundle::create(folder)?;
    let mut survey = Survey { client, namespace, tenant: args.tenant, bundle };
    survey.everything(&tenant, args.minutes).await?;
    let Bundle { folder, files, missing, .. } = survey.bundle;
    let report = Report { folder: folder.display().to_string(), files, missing };
    match output {
        Output::Json => output::document(&report),
        Output::Text => output::line(text(&report)),
    }
    Ok(())
}

/// What is asked, for one tenant.
struct Survey {
    client: Client,
    namespace: String,
    tenant: String,
    bundle: Bundle,
}

impl Survey {
    async fn everything(&mut self, tenant: &DynamicObject, minutes: u32) -> Result<(), Failure> {
        self.bundle.document("tenant.json", &objects::resource(tenant))?;
        if let Some(cell) = tenant.data.pointer("/spec/cellRef/name").and_then(Value::as_str) {
            let cells: Api<DynamicObject> =
                Api::all_with(self.client.clone(), &tenants::resource("MessengerCell"));
            if let Some(cell) = self.bundle.ask("cell.json", cells.get(cell)).await {
                self.bundle.document("cell.json", &objects::resource(&cell))?;
            }
        }
        let deployments = self.children("deployments.json", "apps", "Deployment").await;
        self.summaries("deployments.json", &deployments, objects::deployment)?;
        let pods = self.children("pods.json", "", "Pod").await;
        self.summaries("pods.json", &pods, objects::pod)?;
        self.events(&deployments, &pods).await?;
        self.versions(&deployments).await?;
        for of in &pods {
            self.logs(of, minutes).await?;
            self.process(&of.name_any()).await?;
        }
        self.bundle.close()
    }

    /// Returns what asks for objects of a kind in the tenant's namespace.
    fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// Returns the tenant's objects of a kind.
    async fn children(&mut self, what: &str, group: &str, kind: &str) -> Vec<DynamicObject> {
        let api = self.api(group, kind);
        let selected = format!(
            "app.kubernetes.io/instance={},app.kubernetes.io/managed-by=posthouse-operator",
            self.tenant
        );
        let of_tenant = ListParams::default().labels(&selected).limit(MAX_OBJECTS);
        let listed = self.bundle.ask(what, api.list(&of_tenant)).await;
        listed.map(|listed| listed.items).unwrap_or_default()
    }

    fn summaries(
        &mut self,
        name: &str,
        objects: &[DynamicObject],
        summary: fn(&DynamicObject) -> Value,
    ) -> Result<(), Failure> {
        if objects.is_empty() {
            return Ok(());
        }
        let summaries: Vec<Value> = objects.iter().map(summary).collect();
        self.bundle.document(name, &Value::Array(summaries))
    }

    /// Writes the events of the tenant and of its workloads.
    async fn events(&mut self, deployments: &[DynamicObject], pods: &[DynamicObject]) -> Result<(), Failure> {
        let api = self.api("", "Event");
        let first = ListParams::default().limit(MAX_EVENTS);
        let Some(listed) = self.bundle.ask("events.json", api.list(&first)).await else { return Ok(()) };
        if listed.metadata.continue_.is_some_and(|more| !more.is_empty()) {
            self.bundle
                .lacks("events.json", format!("of the namespace's events only {MAX_EVENTS} were read"));
        }
        let names = objects::names(&self.tenant, deployments, pods);
        let is_ours = |of: &&DynamicObject| {
            of.data
                .pointer("/involvedObject/name")
                .and_then(Value::as_str)
                .is_some_and(|name| names.contains(name))
        };
        let mut events: Vec<Value> = listed.items.iter().filter(is_ours).map(objects::event).collect();
        events.sort_by(|a, b| a["at"].as_str().cmp(&b["at"].as_str()));
        self.bundle.document("events.json", &Value::Array(events))
    }

    async fn versions(&mut self, deployments: &[DynamicObject]) -> Result<(), Failure> {
        let api_server = self.bundle.ask("the version of Kubernetes", self.client.apiserver_version()).await;
        let images: BTreeSet<String> = deployments.iter().flat_map(objects::images).collect();
        let versions = json!({
            "posthouse": env!("CARGO_PKG_VERSION"),
            "kubernetes": api_server.map(|version| version.git_version),
            "images": images,
        });
        self.bundle.document("versions.json", &versions)
    }

    /// Writes the last logs of a pod's containers, and how the containers before them ended.
    async fn logs(&mut self, of: &DynamicObject, minutes: u32) -> Result<(), Failure> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pod = of.name_any();
        for (container, has_previous) in objects::containers(of) {
            for previous in [false, true] {
                if previous && !has_previous {
                    continue;
                }
                let name = format!("log-{pod}-{container}{}.txt", if previous { "-previous" } else { "" });
                let limits = LogParams {
                    container: Some(container.clone()),
                    previous,
                    // The end of one that is gone may be older, and is what one looks for.
                    since_seconds: (!previous).then_some(i64::from(minutes) * 60),
                    tail_lines: Some(MAX_LOG_LINES),
                    // What is cut is cut at the end, so it is more than is kept.
                    limit_bytes: Some(4 * MAX_FILE_BYTES as i64),
                    ..LogParams::default()
                };
                if let Some(log) = self.bundle.ask(&name, pods.logs(&pod, &limits)).await {
                    self.bundle.put(&name, &log)?;
                }
            }
        }
        Ok(())
    }

    /// Writes what a process says of itself, by the API server's way to the pod.
    async fn process(&mut self, pod: &str) -> Result<(), Failure> {
        for page in [Page::Readyz, Page::Metrics] {
            let name = format!("{}-{pod}.txt", page.name());
            let called = fetched(&self.client, &self.namespace, pod, page);
            let Some((status, text)) = self.bundle.ask(&name, called).await else { continue };
            match said(page, status, &text) {
                Said::Content => self.bundle.put(&name, &text)?,
                Said::Nothing(why) => self.bundle.lacks(&name, why),
            }
        }
        Ok(())
    }
}

/// A page that the processes of tenants serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Readyz,
    Metrics,
}

impl Page {
    const fn name(self) -> &'static str {
        match self {
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
        }
    }
}

/// What came instead of a page, or the page.
#[derive(Debug, PartialEq)]
enum Said {
    Content,
    Nothing(String),
}

/// Fetches a page of a pod. What it returns is not what the API server says of itself, so it is read as it comes.
async fn fetched(
    client: &Client,
    namespace: &str,
    pod: &str,
    page: Page,
) -> Result<(u16, String), kube::Error> {
    let target = format!("http:{pod}:{MANAGEMENT_PORT}/proxy/{}", page.name());
    let pods = Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
    let request = pods.get(&target, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    let response = client.send(request.map(Body::from)).await?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn said(page: Page, status: u16, text: &str) -> Said {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let is_of_api_server = answer["kind"] == "Status";
    match (page, status) {
        (_, 200) => Said::Content,
        // A process that is not ready says what it waits for.
        (Page::Readyz, 503) if !is_of_api_server => Said::Content,
        (Page::Metrics, 401) if !is_of_api_server => Said::Nothing(
            "401: it wants the token of the tenant's Secret for scrapers, and Secrets are not read"
                .to_owned(),
        ),
        _ => Said::Nothing(format!("{status}: {}", answer["message"].as_str().unwrap_or(text.trim()))),
    }
}

fn text(report: &Report) -> String {
    let Report { folder, files, missing } = report;
    let mut text = format!("{} files in {folder}", files.len());
    if !missing.is_empty() {
        text.push_str("\nnot there, as missing.txt says:");
    }
    for Missing { what, why } in missing {
        text = format!("{text}\n  {what}: {}", output::quoted(why));
    }
    format!(
        "{text}\nSecrets were not read, and what looks like one is replaced. Look through it before you give it away."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_ready_says_why_and_one_that_cannot_be_reached_says_nothing() {
        let unreachable =
            json!({ "kind": "Status", "message": "error trying to reach service", "code": 503 }).to_string();
        let nothing = |why: &str| Said::Nothing(why.to_owned());
        assert_eq!(said(Page::Readyz, 200, "ok\n"), Said::Content);
        assert_eq!(said(Page::Readyz, 503, r#"{"cql":"no connection"}"#), Said::Content);
        assert_eq!(said(Page::Readyz, 503, &unreachable), nothing("503: error trying to reach service"));
        assert_eq!(said(Page::Metrics, 503, "down\n"), nothing("503: down"));
        let Said::Nothing(why) = said(Page::Metrics, 401, r#"{"code":"unauthenticated"}"#) else {
            panic!("it is no page");
        };
        assert!(why.contains("Secrets are not read"), "{why}");
    }
}
