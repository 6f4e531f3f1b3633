//! Services in one process, with stand-ins for two of them.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use axum::{extract::State, routing::get};
use contracts::rpc::{
    GetMembershipRequest, GetMembershipResponse, ListMembershipsRequest, ListMembershipsResponse, Member,
    chat_service_client::ChatServiceClient,
    chat_service_server::{ChatService, ChatServiceServer},
};
use kit::{
    Memory, Process, Scope, Service, Surface,
    auth::Caller,
    catalog,
    config::{LogFormat, ServiceArgs},
    docs::OpenApiRouter,
    process::ProcessConfig,
    rpc,
    testing::{TestRealm, TestUsers, serve_peer_at, wait_for},
    traces::TracesArgs,
};
use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait, service::Routes};

const INTERNAL_TOKEN: &str = "internal";
const METRICS_TOKEN: &str = "metrics";
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, clap::Args)]
struct NoSettings {}

/// Reports every user as a member of every chat.
#[derive(Clone)]
struct Chat;

impl Service for Chat {
    const ENTRY: catalog::Service = catalog::Service::Chat;
    type Settings = NoSettings;

    async fn build(_: NoSettings, scope: &Scope) -> anyhow::Result<Surface> {
        scope.check("store").ok();
        scope.metrics(|registry| registry.register("calls", "Calls", <Counter>::default()));
        Ok(Surface { api: OpenApiRouter::new(), grpc: Routes::new(ChatServiceServer::new(Self)) })
    }

    fn in_memory(_: &Memory, _: &Scope) -> anyhow::Result<Surface> {
        anyhow::bail!("these services have no other way to run")
    }
}

#[async_trait]
impl ChatService for Chat {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let GetMembershipRequest { user_id, .. } = request.into_inner();
        let member = Some(Member { user_id, role: "member".to_owned(), reads_from: None });
        Ok(Response::new(GetMembershipResponse { member, ..GetMembershipResponse::default() }))
    }

    async fn list_memberships(
        &self,
        _: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        Err(Status::not_found("no user"))
    }
}

/// Queries the chat service for the caller's role, and fails its own check `store`.
struct Message;

impl Service for Message {
    const ENTRY: catalog::Service = catalog::Service::Message;
    type Settings = NoSettings;

    async fn build(_: NoSettings, scope: &Scope) -> anyhow::Result<Surface> {
        scope.check("store").failing("no store");
        scope.metrics(|registry| registry.register("calls", "Calls", <Counter>::default()));
        let chats = ChatServiceClient::new(scope.peer(catalog::Service::Chat)?);
        let role = async |caller: Caller, State(mut chats): State<ChatServiceClient<_>>| {
            let user_id = caller.user_id.to_string();
            let request = GetMembershipRequest { chat_id: "1".to_owned(), user_id };
            let member = chats.get_membership(request).await.expect("an answer").into_inner().member;
            let unknown = chats
                .list_memberships(ListMembershipsRequest {
                    user_id: "1".to_owned(),
                    ..ListMembershipsRequest::default()
                })
                .await;
            format!("{} {:?}", member.expect("a member").role, unknown.expect_err("a refusal").code())
        };
        let shutdown = scope.shutdown().clone();
        let fail = async move || shutdown.cancel();
        let own = scope.clone();
        let panic = async move || own.spawn(async { panic!("a fault in a task") });
        let api = OpenApiRouter::new().route("/role", get(role)).with_state(chats);
        let api = api.route("/fail", get(fail)).route("/panic", get(panic));
        Ok(Surface { api, grpc: Routes::default() })
    }

    fn in_memory(_: &Memory, _: &Scope) -> anyhow::Result<Surface> {
        anyhow::bail!("these services have no other way to run")
    }
}

/// A process with both.
struct Running {
    realm: TestRealm,
    http: SocketAddr,
    grpc: SocketAddr,
    management: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let realm = TestRealm::start("acme").await;
        // All three are held at once, or one could be given twice.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [http, grpc, management] = held.map(|listener| listener.local_addr().expect("an address"));
        let users = serve_peer_at(Routes::new(TestUsers::default().server())).await;
        let config = ProcessConfig {
            service: ServiceArgs {
                tenant: "acme".to_owned(),
                http_addr: http,
                grpc_addr: grpc,
                management_addr: management,
                tenant_services: vec![
                    catalog::Service::User,
                    catalog::Service::Chat,
                    catalog::Service::Message,
                ],
                log_format: LogFormat::Text,
                traces: TracesArgs::default(),
                unready_seconds: 0,
                drain_seconds: 5,
                internal_token: INTERNAL_TOKEN.into(),
                metrics_token: Some(METRICS_TOKEN.into()),
            },
            oidc: realm.args(),
            services: vec![catalog::Service::Chat, catalog::Service::Message],
            peers: [(catalog::Service::User, users)].into(),
        };
        let process = Process::start(config).expect("a process");
        let shutdown = process.shutdown().clone();
        let chat = Chat::build(NoSettings {}, &process.scope(catalog::Service::Chat)).await.expect("chat");
        let message = Message::build(NoSettings {}, &process.scope(catalog::Service::Message)).await;
        let surfaces =
            vec![(catalog::Service::Chat, chat), (catalog::Service::Message, message.expect("message"))];
        let task = tokio::spawn(process.serve(surfaces));
        let running = Self { realm, http, grpc, management, shutdown, task };
        wait_for("a live process", PATIENCE, || running.page("livez")).await;
        running
    }

    /// Returns the body of a management page, whatever its status.
    async fn page(&self, page: &str) -> Option<String> {
        self.page_as(page, None).await?.text().await.ok()
    }

    /// Returns a management page as a client with a token sees it.
    async fn page_as(&self, page: &str, token: Option<&str>) -> Option<reqwest::Response> {
        let mut request = reqwest::Client::new().get(format!("http://{}/{page}", self.management));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.ok()
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let token = self.realm.token(contracts::UserId::generate(), "ann");
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.http)).bearer_auth(token);
        request.send().await.expect("an answer")
    }

    async fn end(self) {
        wait_for("the end", PATIENCE, async || self.task.is_finished().then_some(())).await;
        self.task.await.expect("no panic").expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_one_process_call_each_other_without_network_and_token() {
    let running = Running::start().await;
    assert_eq!(running.get("/role").await.text().await.expect("text"), "member NotFound");
    // Over the network the token is required as ever.
    let url = format!("http://{}", running.grpc);
    let query = async |token: &str| {
        let mut chats = ChatServiceClient::new(rpc::connect(&url, &token.into()).expect("a channel"));
        let request = GetMembershipRequest { chat_id: "1".to_owned(), user_id: "2".to_owned() };
        chats.get_membership(request).await.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!(query(INTERNAL_TOKEN).await, Ok(()));
    assert_eq!(query("guess").await, Err(tonic::Code::Unauthenticated));
    running.shutdown.cancel();
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_answer_the_scraper_and_probes_answer_everybody() {
    let running = Running::start().await;
    for token in [None, Some("guess"), Some(INTERNAL_TOKEN), Some("")] {
        let refused = running.page_as("metrics", token).await.expect("an answer");
        assert_eq!(refused.status(), 401, "{token:?}");
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        let body = refused.text().await.expect("text");
        assert!(body.contains("<tenant>-metrics") && !body.contains("posthouse_"), "{body}");
    }
    let metrics = running.page_as("metrics", Some(METRICS_TOKEN)).await.expect("an answer");
    assert_eq!(metrics.status(), 200);
    assert_eq!(running.page("livez").await.as_deref(), Some("ok\n"));
    assert!(running.page("readyz").await.is_some_and(|page| page.contains("message/store")));
    running.shutdown.cancel();
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_metrics_and_documents_carry_the_name_of_their_service() {
    let running = Running::start().await;
    let failing = wait_for("the realm's keys", PATIENCE, async || {
        running.page("readyz").await.filter(|page| !page.contains("oidc"))
    });
    assert_eq!(failing.await, r#"{"message/store":"no store"}"#);
    let metrics = running.page_as("metrics", Some(METRICS_TOKEN)).await.expect("metrics");
    let metrics = metrics.text().await.expect("text");
    for service in ["chat", "message"] {
        let name = format!("posthouse_{service}_calls");
        assert_eq!(metrics.matches(&format!("# TYPE {name} ")).count(), 1, "{metrics}");
        let labels = format!("{name}_total{{service=\"{service}\",tenant=\"acme\"}} 0\n");
        assert!(metrics.contains(&labels), "{metrics}");
        let document = running.get(&format!("/docs/{service}/openapi.json")).await;
        assert_eq!(document.headers()[catalog::TENANT_HEADER], "acme");
        assert!(document.text().await.expect("text").contains(&format!("Posthouse {service}")));
    }
    assert_eq!(metrics.matches("# EOF").count(), 1);
    running.shutdown.cancel();
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_the_tenant_does_not_have_is_not_waited_for() {
    let running = Running::start().await;
    for (path, status) in [("/api/users/me", 503), ("/api/media/files", 404), ("/api/search/messages", 404)] {
        assert_eq!(running.get(path).await.status(), status, "{path}");
    }
    running.shutdown.cancel();
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_cannot_go_on_ends_the_process() {
    for why in ["/fail", "/panic"] {
        let running = Running::start().await;
        running.get(why).await;
        running.end().await;
    }
}
