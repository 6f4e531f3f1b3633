//! `posthouse diagnose`: what explains the state of a tenant, in a folder that may be given away.
//!
//! What is asked is what the caller's kubeconfig lets them see. Secrets are not: nothing here reads one. All that is written passes one place, which
//! replaces what looks like a secret and counts the bytes.

mod redact;

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GetParams, GroupVersionKind, ListParams, LogParams},
    client::Body,
    core::Request,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    args::DiagnoseArgs,
    failure::{Exit, Failure, chain},
    output::{self, Output},
    tenants,
};

/// One answer of the API server comes within this time, and all of them within the other.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(180);
/// The largest file, of which the end is kept, and all of them together.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
const MAX_TOTAL_BYTES: usize = 96 * 1024 * 1024;
/// Lines of the log of one container.
const MAX_LOG_LINES: i64 = 10_000;
/// Objects of one kind.
const MAX_OBJECTS: u32 = 200;
/// Events of the namespace that are looked through.
const MAX_EVENTS: u32 = 2_000;
/// The longest reason why something could not be read, in characters.
const MAX_REASON: usize = 400;
/// Where the pods of a tenant serve /readyz and /metrics.
const MANAGEMENT_PORT: u16 = 8081;

/// What the command says of the folder.
#[derive(Debug, Serialize)]
struct Report {
    folder: String,
    files: Vec<String>,
    missing: Vec<Missing>,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Missing {
    what: String,
    why: String,
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

/// The folder that is filled.
struct Bundle {
    folder: PathBuf,
    files: Vec<String>,
    missing: Vec<Missing>,
    written: usize,
    ends_at: Instant,
}

impl Bundle {
    /// Makes a folder that only its owner reads.
    fn create(folder: PathBuf) -> Result<Self, Failure> {
        DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            let what = format!("failed to make the folder {}: {error}", folder.display());
            Failure::new(Exit::Refused, what, "name another one with --into")
        })?;
        let ends_at = Instant::now() + TOTAL_TIMEOUT;
        Ok(Self { folder, files: Vec::new(), missing: Vec::new(), written: 0, ends_at })
    }

    /// Writes a file without what looks like a secret.
    fn put(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let text = redact::redacted(end_of(text, MAX_FILE_BYTES));
        if self.written + text.len() > MAX_TOTAL_BYTES {
            self.lacks(name, format!("the folder would be larger than {} MiB", MAX_TOTAL_BYTES >> 20));
            return Ok(());
        }
        self.write(name, &text)
    }

    fn write(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let name = file_name(name);
        let path = self.folder.join(&name);
        save(&path, text).map_err(|error| {
            let what = format!("failed to write {}: {error}", path.display());
            Failure::new(Exit::Refused, what, "make room there, or name another folder with --into")
        })?;
        self.written += text.len();
        self.files.push(name);
        Ok(())
    }

    fn document(&mut self, name: &str, value: &Value) -> Result<(), Failure> {
        self.put(name, &serde_json::to_string_pretty(value).expect("a JSON value is JSON"))
    }

    /// Notes what is not there, and why.
    fn lacks(&mut self, what: &str, why: impl Into<String>) {
        let why = redact::redacted(&why.into()).chars().take(MAX_REASON).collect();
        self.missing.push(Missing { what: what.to_owned(), why });
    }

    /// Returns what the API server answers, or notes why there is no answer.
    async fn ask<T>(&mut self, what: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Option<T> {
        match self.answer(call).await {
            Ok(answer) => Some(answer),
            Err(refused) => {
                self.lacks(what, refused.why());
                None
            }
        }
    }

    async fn answer<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Unanswered> {
        let left = self.ends_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unanswered::Late(TOTAL_TIMEOUT));
        }
        let limit = left.min(CALL_TIMEOUT);
        match timeout(limit, call).await {
            Ok(answer) => answer.map_err(Unanswered::Refused),
            Err(_) => Err(Unanswered::Late(limit)),
        }
    }

    /// Writes what is missing, as the last file.
    fn close(&mut self) -> Result<(), Failure> {
        let lines = self.missing.iter().map(|of| format!("{}: {}\n", of.what, of.why));
        let text = if self.missing.is_empty() { "nothing\n".to_owned() } else { lines.collect() };
        self.write("missing.txt", &text)
    }
}

/// Why there is no answer of the API server.
enum Unanswered {
    Refused(kube::Error),
    Late(Duration),
}

impl Unanswered {
    fn why(&self) -> String {
        match self {
            Self::Refused(kube::Error::Api(status)) => format!("{}: {}", status.code, status.message),
            Self::Refused(error) => chain(error),
            Self::Late(limit) => format!("no answer within {} s", limit.as_secs()),
        }
    }
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
        self.bundle.document("tenant.json", &resource(tenant))?;
        if let Some(cell) = tenant.data.pointer("/spec/cellRef/name").and_then(Value::as_str) {
            let cells: Api<DynamicObject> =
                Api::all_with(self.client.clone(), &tenants::resource("MessengerCell"));
            if let Some(cell) = self.bundle.ask("cell.json", cells.get(cell)).await {
                self.bundle.document("cell.json", &resource(&cell))?;
            }
        }
        let deployments = self.children("deployments.json", "apps", "Deployment").await;
        self.summaries("deployments.json", &deployments, deployment)?;
        let pods = self.children("pods.json", "", "Pod").await;
        self.summaries("pods.json", &pods, pod)?;
        self.events(&deployments, &pods).await?;
        self.versions(&deployments).await?;
        for of in &pods {
            self.logs(of, minutes).await?;
            self.process(&of.name_any()).await?;
        }
        self.bundle.close()
    }

    /// Returns the tenant's objects of a kind.
    async fn children(&mut self, what: &str, group: &str, kind: &str) -> Vec<DynamicObject> {
        let version = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &version);
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
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Event"));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        let first = ListParams::default().limit(MAX_EVENTS);
        let Some(listed) = self.bundle.ask("events.json", api.list(&first)).await else { return Ok(()) };
        if listed.metadata.continue_.is_some_and(|more| !more.is_empty()) {
            self.bundle
                .lacks("events.json", format!("of the namespace's events only {MAX_EVENTS} were read"));
        }
        let names = names(&self.tenant, deployments, pods);
        let is_ours = |of: &&DynamicObject| {
            of.data
                .pointer("/involvedObject/name")
                .and_then(Value::as_str)
                .is_some_and(|name| names.contains(name))
        };
        let mut events: Vec<Value> = listed.items.iter().filter(is_ours).map(event).collect();
        events.sort_by(|a, b| a["at"].as_str().cmp(&b["at"].as_str()));
        self.bundle.document("events.json", &Value::Array(events))
    }

    async fn versions(&mut self, deployments: &[DynamicObject]) -> Result<(), Failure> {
        let api_server = self.bundle.ask("the version of Kubernetes", self.client.apiserver_version()).await;
        let images: BTreeSet<String> = deployments.iter().flat_map(images).collect();
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
        for (container, has_previous) in containers(of) {
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

/// Returns a resource of ours without what Kubernetes keeps for itself.
fn resource(object: &DynamicObject) -> Value {
    json!({
        "name": object.name_any(),
        "namespace": object.namespace(),
        "generation": object.metadata.generation,
        "createdAt": object.metadata.creation_timestamp,
        "deletedAt": object.metadata.deletion_timestamp,
        "spec": object.data["spec"],
        "status": object.data["status"],
    })
}

fn deployment(object: &DynamicObject) -> Value {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    json!({
        "name": object.name_any(),
        "generation": object.metadata.generation,
        "observedGeneration": status["observedGeneration"],
        "replicas": spec["replicas"],
        "updated": status["updatedReplicas"],
        "ready": status["readyReplicas"],
        "available": status["availableReplicas"],
        "images": images(object),
        "conditions": status["conditions"],
    })
}

/// Returns the state of a pod. Its arguments and variables are left out.
fn pod(object: &DynamicObject) -> Value {
    let status = &object.data["status"];
    let containers = statuses(object).map(|of| {
        json!({
            "name": of["name"],
            "ready": of["ready"],
            "restarts": of["restartCount"],
            "state": of["state"],
            "lastState": of["lastState"],
            "image": of["image"],
            "imageID": of["imageID"],
        })
    });
    json!({
        "name": object.name_any(),
        "createdAt": object.metadata.creation_timestamp,
        "deletedAt": object.metadata.deletion_timestamp,
        "node": object.data["spec"]["nodeName"],
        "phase": status["phase"],
        "reason": status["reason"],
        "message": status["message"],
        "conditions": status["conditions"],
        "containers": containers.collect::<Vec<_>>(),
    })
}

fn event(object: &DynamicObject) -> Value {
    let data = &object.data;
    let at = ["/lastTimestamp", "/series/lastObservedTime", "/eventTime", "/firstTimestamp"];
    let at = at.into_iter().find_map(|at| data.pointer(at).and_then(Value::as_str));
    json!({
        "at": at,
        "type": data["type"],
        "of": [data["involvedObject"]["kind"], data["involvedObject"]["name"]],
        "reason": data["reason"],
        "message": data["message"],
        "count": data.pointer("/series/count").unwrap_or(&data["count"]),
        "by": data["reportingComponent"],
    })
}

/// Returns the names of the tenant, of its workloads, and of what is between these.
fn names(tenant: &str, deployments: &[DynamicObject], pods: &[DynamicObject]) -> BTreeSet<String> {
    let owners = pods.iter().flat_map(|pod| pod.owner_references()).map(|owner| owner.name.clone());
    let objects = deployments.iter().chain(pods).map(|object| object.name_any());
    [tenant.to_owned()].into_iter().chain(objects).chain(owners).collect()
}

/// Returns the statuses of a pod's containers, those that run first at the beginning.
fn statuses(pod: &DynamicObject) -> impl Iterator<Item = &Value> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    lists.into_iter().flat_map(move |list| pod.data["status"][list].as_array().into_iter().flatten())
}

/// Returns the containers of a pod that have a log, and whether there was another before each.
fn containers(pod: &DynamicObject) -> Vec<(String, bool)> {
    let has_begun = |of: &&Value| of["state"]["waiting"].is_null() || of["restartCount"].as_i64() > Some(0);
    let of = |of: &Value| Some((of["name"].as_str()?.to_owned(), of["restartCount"].as_i64() > Some(0)));
    statuses(pod).filter(has_begun).filter_map(of).collect()
}

fn images(deployment: &DynamicObject) -> Vec<String> {
    let containers = deployment.data.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let images = containers.into_iter().flatten().filter_map(|of| of["image"].as_str());
    images.map(str::to_owned).collect()
}

/// Returns the end of a text, from a line on where that is possible.
fn end_of(text: &str, most_bytes: usize) -> &str {
    if text.len() <= most_bytes {
        return text;
    }
    let mut from = text.len() - most_bytes;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = &text[from..];
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}

/// Returns a name that leads to no other folder, whatever the API server calls its objects.
fn file_name(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    name.chars().map(keep).collect()
}

/// Writes a file that only its owner reads.
fn save(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
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

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    fn a_pod() -> DynamicObject {
        object(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "acme-gateway-7d9f8b6c5-abcde",
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "acme-gateway-7d9f8b6c5", "uid": "1" }],
            },
            "spec": {
                "nodeName": "n1",
                "containers": [{ "name": "gateway", "args": ["--secret=hunter2"], "env": [{ "name": "X", "value": "hunter2" }] }],
            },
            "status": {
                "phase": "Running",
                "initContainerStatuses": [{ "name": "migrate", "restartCount": 0, "state": { "waiting": { "reason": "PodInitializing" } } }],
                "containerStatuses": [{
                    "name": "gateway", "ready": false, "restartCount": 3, "image": "posthouse/gateway:0.1.0",
                    "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                    "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
                }],
            },
        }))
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("posthouse-diagnose-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_pod_is_summed_up_by_its_state_and_not_by_its_settings() {
        let shown = pod(&a_pod());
        assert_eq!(shown["containers"][1]["restarts"], 3);
        assert_eq!(shown["containers"][1]["lastState"]["terminated"]["reason"], "OOMKilled");
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        // What has not begun has no log.
        assert_eq!(containers(&a_pod()), [("gateway".to_owned(), true)]);
    }

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

    #[test]
    fn events_are_those_of_the_tenant_and_its_workloads() {
        let deployment = object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "acme-gateway" },
            "spec": { "template": { "spec": { "containers": [{ "image": "posthouse/gateway:0.1.0" }] } } },
        }));
        assert_eq!(images(&deployment), ["posthouse/gateway:0.1.0"]);
        let names = names("acme", &[deployment], &[a_pod()]);
        let ours = ["acme", "acme-gateway", "acme-gateway-7d9f8b6c5", "acme-gateway-7d9f8b6c5-abcde"];
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ours);
        let shown = event(&object(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e" }, "type": "Warning", "reason": "BackOff",
            "involvedObject": { "kind": "Pod", "name": "acme-gateway-7d9f8b6c5-abcde" }, "count": 4,
            "lastTimestamp": null, "eventTime": "2026-11-30T12:00:00.000000Z", "message": "Back-off restarting",
        })));
        assert_eq!((&shown["at"], &shown["count"]), (&json!("2026-11-30T12:00:00.000000Z"), &json!(4)));
    }

    #[test]
    fn what_is_written_has_no_secret_and_stays_in_the_folder() {
        let folder = folder("written");
        let mut bundle = Bundle::create(folder.clone()).expect("a folder");
        assert!(Bundle::create(folder.clone()).is_err(), "it is not filled twice");
        bundle.put("log-a-b.txt", "password=hunter2 is refused\n").expect("written");
        bundle.put("../log", "x").expect("written");
        bundle.lacks("metrics-a.txt", "401: token=hunter2 is refused");
        bundle.close().expect("written");
        assert_eq!(bundle.files, ["log-a-b.txt", ".._log", "missing.txt"]);
        for file in &bundle.files {
            let text = std::fs::read_to_string(folder.join(file)).expect("a file");
            assert!(!text.contains("hunter2"), "{file}: {text}");
        }
        let missing = std::fs::read_to_string(folder.join("missing.txt")).expect("a file");
        assert!(missing.starts_with("metrics-a.txt: 401: token="), "{missing}");
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }

    #[test]
    fn a_folder_has_a_size_that_it_does_not_exceed() {
        let folder = folder("size");
        let mut bundle = Bundle::create(folder.clone()).expect("a folder");
        bundle.written = MAX_TOTAL_BYTES;
        bundle.put("log-a-b.txt", "more").expect("noted");
        assert_eq!(bundle.missing[0].what, "log-a-b.txt");
        assert!(bundle.files.is_empty());
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }

    #[test]
    fn of_a_long_text_the_last_lines_are_kept() {
        assert_eq!(end_of("a\nb\n", 10), "a\nb\n");
        assert_eq!(end_of("first\nsecond\nthird\n", 12), "third\n");
        assert_eq!(end_of("ééé", 3), "é");
    }

    #[test]
    fn a_refusal_of_the_api_server_is_the_reason() {
        let status =
            kube::core::Status { code: 403, message: "pods is forbidden".to_owned(), ..Default::default() };
        let refused = Unanswered::Refused(kube::Error::Api(status.boxed()));
        assert_eq!(refused.why(), "403: pods is forbidden");
        assert_eq!(Unanswered::Late(Duration::from_secs(20)).why(), "no answer within 20 s");
    }
}
