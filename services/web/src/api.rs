//! The page, its files, and what it has to know.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing,
};
use contracts::ErrorCode;
use kit::{
    browser,
    docs::{self, OpenApiRouter, routes},
    error::ApiError,
    extract::{Json, Path},
};
use pages::assets::{ASK, Asset, Assets};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What the page has to know of the tenant, the same for every user.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PageConfig {
    /// What users read as the name of the messenger.
    pub name: String,
    /// The tenant's colour, as `#rrggbb`. The page makes it darker or lighter where it would not be seen. Absent where the tenant has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// A picture that is shown beside the name, as a `data:` URL. Absent where the tenant has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<String>,
    /// The issuer of the realm on whose page users sign in. Absent where there is none: then with `POST /api/auth/sign-in`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The services that the tenant has.
    pub services: Vec<String>,
}

pub(crate) struct WebState {
    assets: Assets,
    page: Asset,
    /// What an installed page is called. Absent where the client was not built.
    manifest: Option<String>,
    config: PageConfig,
    policy: HeaderValue,
}

impl WebState {
    pub(crate) fn new(assets: Assets, config: PageConfig, policy: HeaderValue) -> anyhow::Result<Arc<Self>> {
        let page = assets.index().context("the build of the client has no page")?;
        let manifest = assets.get(MANIFEST).map(|asset| manifest(asset.bytes, &config)).transpose()?;
        Ok(Arc::new(Self { assets, page, manifest, config, policy }))
    }
}

/// The service worker of the client.
const WORKER: &str = "sw.js";
/// Lets a service worker be in charge of pages that are not below its own folder.
const WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

const MANIFEST: &str = "manifest.webmanifest";

/// Returns the client's manifest with the name and the colour of the tenant.
fn manifest(built: &[u8], config: &PageConfig) -> anyhow::Result<String> {
    let mut manifest: Value =
        serde_json::from_slice(built).context("the manifest in the build of the client is no JSON")?;
    manifest["name"] = config.name.clone().into();
    manifest["short_name"] = config.name.clone().into();
    if let Some(color) = &config.color {
        manifest["theme_color"] = color.clone().into();
    }
    Ok(manifest.to_string())
}

/// Returns the public surface with its state applied.
pub(crate) fn router(state: Arc<WebState>) -> OpenApiRouter {
    docs::router()
        .routes(routes!(config))
        .route("/", routing::get(page))
        .route("/app/manifest.webmanifest", routing::get(installed))
        .route("/app/{*path}", routing::get(file))
        .with_state(state)
}

/// What the web client has to know of the tenant.
#[utoipa::path(
    get,
    path = "/app/config.json",
    operation_id = "page_config",
    tag = "web",
    responses((status = OK, description = "The same for every user", body = PageConfig))
)]
async fn config(State(state): State<Arc<WebState>>) -> ([(HeaderName, &'static str); 1], Json<PageConfig>) {
    ([(header::CACHE_CONTROL, ASK)], Json(state.config.clone()))
}

async fn page(State(state): State<Arc<WebState>>, headers: HeaderMap) -> Response {
    let mut response = state.page.response(&headers);
    browser::client_page(&mut response, state.policy.clone());
    response
}

/// What the page is called where it is installed.
async fn installed(State(state): State<Arc<WebState>>) -> Result<Response, ApiError> {
    let manifest = state.manifest.clone();
    let manifest = manifest.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "the client was not built"))?;
    let headers = [(header::CACHE_CONTROL, ASK), (header::CONTENT_TYPE, "application/manifest+json")];
    Ok((headers, manifest).into_response())
}

async fn file(
    State(state): State<Arc<WebState>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = state.assets.get(&path);
    // A page that is older than the service asks for files of its own build.
    let found = found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "no such file of the client"))?;
    let mut response = found.response(&headers);
    if path == WORKER {
        response.headers_mut().insert(WORKER_ALLOWED, HeaderValue::from_static("/"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, StatusCode},
    };
    use kit::browser::{PERMISSIONS_POLICY, PagePolicy};
    use pages::assets::FOREVER;
    use tower::ServiceExt as _;

    use super::*;

    static FILES: [Asset; 4] = [
        Asset {
            path: MANIFEST,
            tag: "\"3\"",
            bytes: br##"{"name": "Posthouse", "theme_color": "#1f5f8b", "display": "standalone"}"##,
            brotli: None,
            gzip: None,
        },
        Asset { path: "index.html", tag: "\"1\"", bytes: b"<!doctype html>", brotli: None, gzip: None },
        Asset { path: "assets/a-1.js", tag: "\"2\"", bytes: b"plain", brotli: Some(b"br"), gzip: None },
        Asset { path: WORKER, tag: "\"4\"", bytes: b"worker", brotli: None, gzip: None },
    ];

    async fn get(path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let config = PageConfig {
            name: "Acme".to_owned(),
            color: Some("#0a7b5c".to_owned()),
            logo: None,
            realm: None,
            services: Vec::new(),
        };
        let policy = crate::policy::policy(&[]).expect("a policy");
        let state = WebState::new(Assets::of(&FILES), config, policy).expect("it has a page");
        let (router, _) = router(state).split_for_parts();
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        router.oneshot(request.body(Body::empty()).expect("a request")).await.expect("it answers")
    }

    #[tokio::test]
    async fn a_file_with_a_hash_in_its_name_is_kept_and_the_page_is_asked_for() {
        let page = get("/", &[]).await;
        assert_eq!(page.headers()[header::CACHE_CONTROL], ASK);
        assert!(page.extensions().get::<PagePolicy>().is_some());
        assert!(page.headers().contains_key(PERMISSIONS_POLICY));
        let file = get("/app/assets/a-1.js", &[(header::ACCEPT_ENCODING, "gzip, br")]).await;
        assert_eq!(file.headers()[header::CACHE_CONTROL], FOREVER);
        assert_eq!(file.headers()[header::CONTENT_ENCODING], "br");
        assert!(file.extensions().get::<PagePolicy>().is_none());
    }

    #[tokio::test]
    async fn the_service_worker_is_in_charge_of_the_page_and_is_asked_for_each_time() {
        let worker = get("/app/sw.js", &[]).await;
        assert_eq!(worker.headers()[WORKER_ALLOWED], "/");
        assert_eq!(worker.headers()[header::CACHE_CONTROL], ASK);
        assert_eq!(worker.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert!(!get("/app/assets/a-1.js", &[]).await.headers().contains_key(WORKER_ALLOWED));
    }

    #[tokio::test]
    async fn an_installed_page_has_the_name_and_the_colour_of_its_tenant() {
        let response = get("/app/manifest.webmanifest", &[]).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/manifest+json");
        let body = axum::body::to_bytes(response.into_body(), 1024).await.expect("a body");
        let manifest: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&manifest["name"], &manifest["short_name"]), (&"Acme".into(), &"Acme".into()));
        assert_eq!(
            (&manifest["theme_color"], &manifest["display"]),
            (&"#0a7b5c".into(), &"standalone".into())
        );
    }

    #[tokio::test]
    async fn what_a_browser_has_is_not_sent_again() {
        for tag in ["\"1\"", "W/\"1\"", "\"0\", \"1\""] {
            assert_eq!(
                get("/", &[(header::IF_NONE_MATCH, tag)]).await.status(),
                StatusCode::NOT_MODIFIED,
                "{tag}"
            );
        }
        assert_eq!(get("/", &[(header::IF_NONE_MATCH, "\"0\"")]).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_found_and_a_sign_in_comes_back_to_the_page() {
        assert_eq!(get("/app/index.html", &[]).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(get("/app/config.json", &[]).await.status(), StatusCode::OK);
        assert_eq!(get("/?code=c&state=s&iss=i", &[]).await.status(), StatusCode::OK);
    }
}
