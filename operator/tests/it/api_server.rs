//! A real API server of its own for these tests: kube-apiserver and etcd, as `make up-cluster` builds them, on free ports. The
//! cluster in use is left alone, and so is the operator that runs in it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret},
        rbac::v1::{ClusterRole, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

/// A busy machine takes 20 s; a quiet one 3 s.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Token of an administrator.
pub const TOKEN: &str = "operator-tests";
/// Token of the operator's ServiceAccount.
const OPERATOR_TOKEN: &str = "operator-tests-operator";

/// Token of a user who has only what a test gives it.
pub const USER_TOKEN: &str = "operator-tests-user";

/// The API group of the Prometheus Operator.
pub const MONITORING: &str = "monitoring.coreos.com";

/// The operator's own namespace.
pub const SYSTEM: &str = "posthouse-system";

/// Runs until it is dropped.
pub struct ApiServer {
    pub client: Client,
    /// Has exactly the rights that the chart gives the operator.
    pub operator: Client,
    /// Has no identity: each of its requests brings one, or is anonymous.
    pub anonymous: Client,
    user: Client,
    folder: PathBuf,
    processes: Vec<Child>,
}

impl ApiServer {
    /// Starts an API server that knows our CRDs and Traefik's.
    pub async fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("posthouse-it-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        let programs = programs();
        let [etcd, peer, api] = free_ports();
        let etcd_url = format!("http://127.0.0.1:{etcd}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let started = |program: &str, arguments: &[String]| {
            let log = fs::File::create(folder.join(format!("{program}.log"))).expect("a log");
            Command::new(programs.join(program))
                .args(arguments)
                .current_dir(&folder)
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a second handle"))
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}"))
        };
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let processes = vec![
            started(
                "etcd",
                &text(&[
                    "--data-dir=data",
                    &format!("--listen-client-urls={etcd_url}"),
                    &format!("--advertise-client-urls={etcd_url}"),
                    &format!("--listen-peer-urls={peer_url}"),
                    &format!("--initial-advertise-peer-urls={peer_url}"),
                    &format!("--initial-cluster=default={peer_url}"),
                    "--unsafe-no-fsync",
                ]),
            ),
            {
                let account = format!("system:serviceaccount:{SYSTEM}:posthouse-operator");
                let tokens = format!(
                    "{TOKEN},admin,1,\"system:masters\"\n{OPERATOR_TOKEN},{account},2,\"system:serviceaccounts\"\n{USER_TOKEN},user,3\n"
                );
                fs::write(folder.join("tokens"), tokens).expect("a file");
                keys(&folder);
                started(
                    "kube-apiserver",
                    &text(&[
                        &format!("--etcd-servers={etcd_url}"),
                        &format!("--secure-port={api}"),
                        "--bind-address=127.0.0.1",
                        // Loopback is refused here; the address is never published.
                        "--advertise-address=192.0.2.1",
                        "--endpoint-reconciler-type=none",
                        "--cert-dir=certs",
                        "--token-auth-file=tokens",
                        "--authorization-mode=RBAC",
                        "--service-account-issuer=https://kubernetes.default.svc",
                        "--service-account-key-file=sa.key",
                        "--service-account-signing-key-file=sa.key",
                        "--service-cluster-ip-range=10.97.0.0/24",
                        "--disable-admission-plugins=ServiceAccount",
                    ]),
                )
            },
        ];
        let operator = client(api, Some(OPERATOR_TOKEN)).await;
        let anonymous = client(api, None).await;
        let user = client(api, Some(USER_TOKEN)).await;
        let client = client(api, Some(TOKEN)).await;
        let server = Self { client, operator, anonymous, user, folder, processes };
        server.wait_until_ready().await;
        server.install_crds().await;
        server.namespace(SYSTEM).await;
        server.grant_rights().await;
        server
    }

    /// Applies the chart's roles and admission policies, and waits until the server knows them.
    async fn grant_rights(&self) {
        let templates = ["templates/rbac.yaml", "templates/admission.yaml", "templates/users.yaml"];
        let arguments: Vec<_> = templates.iter().flat_map(|template| ["--show-only", *template]).collect();
        for object in rendered("posthouse", SYSTEM, &arguments) {
            let object: DynamicObject = serde_json::from_value(object).expect("a Kubernetes object");
            let types = object.types.clone().expect("an object names its kind");
            let kind = GroupVersionKind::try_from(&types).expect("a kind");
            let plural = match kind.kind.as_str() {
                // English has no rule for it.
                "ValidatingAdmissionPolicy" => "validatingadmissionpolicies".to_owned(),
                _ => ApiResource::from_gvk(&kind).plural,
            };
            let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
            let api: Api<DynamicObject> = match object.namespace() {
                Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
                None => Api::all_with(self.client.clone(), &resource),
            };
            api.create(&PostParams::default(), &object).await.expect("it is taken");
        }
        let began = Instant::now();
        let tenants: Api<crds::MessengerTenant> = Api::all(self.operator.clone());
        let secrets: Api<Secret> = Api::namespaced(self.operator.clone(), SYSTEM);
        let all = ListParams::default();
        while tenants.list(&all).await.is_err() || secrets.list(&all).await.is_err() {
            assert!(began.elapsed() < START_TIMEOUT, "the operator's roles have no effect");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn wait_until_ready(&self) {
        let began = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
            match self.client.request_text(request).await {
                Ok(answer) if answer == "ok" => return,
                other if began.elapsed() > START_TIMEOUT => {
                    panic!("the API server is not ready ({other:?}): see {}", self.folder.display())
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn install_crds(&self) {
        for crd in crds::yaml::crds() {
            self.install(crd).await;
        }
        for (kind, plural) in [
            ("IngressRoute", "ingressroutes"),
            ("IngressRouteTCP", "ingressroutetcps"),
            ("Middleware", "middlewares"),
        ] {
            self.install(open_crd("traefik.io", "v1alpha1", kind, plural)).await;
        }
    }

    async fn install(&self, crd: CustomResourceDefinition) {
        let api = self.crds();
        let name = crd.metadata.name.clone().expect("a name");
        let apply = PatchParams::apply("posthouse-tests").force();
        api.patch(&name, &apply, &Patch::Apply(crd)).await.expect("the CRD is taken");
        let established = kube::runtime::conditions::is_crd_established();
        let established = kube::runtime::wait::await_condition(api, &name, established);
        tokio::time::timeout(Duration::from_secs(30), established)
            .await
            .expect("in time")
            .expect("established");
    }

    fn crds(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.client.clone())
    }

    /// Makes the server know PodMonitors, as who installs the Prometheus Operator does.
    pub async fn install_pod_monitors(&self) {
        self.install(open_crd(MONITORING, "v1", "PodMonitor", "podmonitors")).await;
    }

    /// Removes the kind again, with all PodMonitors that there are.
    pub async fn remove_pod_monitors(&self) {
        let name = format!("podmonitors.{MONITORING}");
        self.crds().delete(&name, &DeleteParams::default()).await.expect("deleted");
    }

    /// Returns a client that administers a namespace, Traefik's objects in it included, and has no other right.
    pub async fn namespace_admin(&self, namespace: &str) -> Client {
        let traefik = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "traefik-editor"},
            "rules": [{"apiGroups": ["traefik.io"], "resources": ["*"], "verbs": ["*"]}]});
        let traefik: ClusterRole = serde_json::from_value(traefik).expect("a role");
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        roles.create(&PostParams::default(), &traefik).await.expect("the role is taken");
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        for role in ["admin", "traefik-editor"] {
            let binding = json!({"metadata": {"name": role}, "subjects": [{"kind": "User", "name": "user"}],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
            let binding: RoleBinding = serde_json::from_value(binding).expect("a binding");
            bindings.create(&PostParams::default(), &binding).await.expect("the binding is taken");
        }
        let routes = ApiResource::from_gvk(&GroupVersionKind::gvk("traefik.io", "v1alpha1", "IngressRoute"));
        let routes: Api<DynamicObject> = Api::namespaced_with(self.user.clone(), namespace, &routes);
        let began = Instant::now();
        while routes.list(&ListParams::default()).await.is_err() {
            assert!(began.elapsed() < START_TIMEOUT, "the user's roles have no effect");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.user.clone()
    }

    /// Gives the user the chart's role for those who look after tenants, in one namespace, and waits until it has an effect.
    pub async fn tenant_editor(&self, namespace: &str) {
        let binding = json!({"metadata": {"name": "editor"}, "subjects": [{"kind": "User", "name": "user"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "posthouse-tenant-editor"}});
        let binding: RoleBinding = serde_json::from_value(binding).expect("a binding");
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        bindings.create(&PostParams::default(), &binding).await.expect("the binding is taken");
        let tenants: Api<crds::MessengerTenant> = Api::namespaced(self.user.clone(), namespace);
        let began = Instant::now();
        while tenants.list(&ListParams::default()).await.is_err() {
            assert!(began.elapsed() < START_TIMEOUT, "the user's role has no effect");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes that role from the user again, and waits until it has no effect any more.
    pub async fn take_role_back(&self, namespace: &str) {
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        bindings.delete("editor", &DeleteParams::default()).await.expect("the binding is deleted");
        let tenants: Api<crds::MessengerTenant> = Api::namespaced(self.user.clone(), namespace);
        let began = Instant::now();
        while tenants.list(&ListParams::default()).await.is_ok() {
            assert!(began.elapsed() < START_TIMEOUT, "the user's role still has an effect");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn namespace(&self, name: &str) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let namespace: Namespace = serde_json::from_value(namespace).expect("a namespace");
        let api: Api<Namespace> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &namespace).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("namespace {name}: {error}"),
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            // It is a test's server without data: nothing is lost.
            _ = process.kill();
            _ = process.wait();
        }
        if !std::thread::panicking() {
            _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Returns the objects that `helm template` makes of a chart, which is released under its own name.
pub fn rendered(chart: &str, namespace: &str, arguments: &[&str]) -> Vec<Value> {
    let rendered = Command::new(programs().join("helm"))
        .args(["template", chart, "--namespace", namespace])
        .args(arguments)
        .arg(crate::repository().join("charts").join(chart))
        .output()
        .expect("helm");
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    let yaml = String::from_utf8(rendered.stdout).expect("text");
    let documents = yaml.split("---\n").filter(|document| document.contains("kind:"));
    documents.map(|document| serde_saphyr::from_str(document).expect("a Kubernetes object")).collect()
}

/// Returns the folder of the newest Kubernetes that `make up-cluster` built.
fn programs() -> PathBuf {
    let cache = std::env::var_os("POSTHOUSE_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/posthouse"),
        PathBuf::from,
    );
    let builds = fs::read_dir(cache.join("k8s")).into_iter().flatten().flatten().map(|entry| entry.path());
    builds
        .filter(|path| path.join("kube-apiserver").exists() && path.join("etcd").exists())
        .max_by_key(|path| fs::metadata(path.join("kube-apiserver")).and_then(|data| data.modified()).ok())
        .expect("no kube-apiserver in the cache: run `make up-cluster` once")
}

/// An RSA key for service-account tokens, which are not used here.
fn keys(folder: &Path) {
    let made = Command::new("openssl")
        .args(["genrsa", "-out", "sa.key", "2048"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()
        .expect("openssl");
    assert!(made.success(), "openssl made no key");
}

fn free_ports() -> [u16; 3] {
    // All three are held until all are known, so that they differ.
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

async fn client(port: u16, token: Option<&str>) -> Client {
    _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig: Kubeconfig = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        // It signed its own certificate a moment ago.
        "clusters": [{"name": "it", "cluster": {"server": format!("https://127.0.0.1:{port}"),
            "insecure-skip-tls-verify": true}}],
        "users": [{"name": "it", "user": token.map_or_else(|| json!({}), |token| json!({"token": token}))}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }))
    .expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a client's configuration");
    Client::try_from(config).expect("a client")
}

/// A CRD of another project's name that takes anything: what we send to the real ones is checked by the local stack and by
/// `scripts/kind-check`.
fn open_crd(group: &str, version: &str, kind: &str, plural: &str) -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    }))
    .expect("a CRD")
}
