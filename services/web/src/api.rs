//! The page, its files, and what it has to know.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing,
};
use contracts::ErrorCode;
use kit::{
    browser::PagePolicy,
    docs::{self, OpenApiRouter, routes},
    error::ApiError,
    extract::{Json, Path},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    assets::{Asset, Assets},
    policy::PERMISSIONS,
};

/// What the page has to know of the tenant, the same for every user.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PageConfig {
    /// What users read as the name of the messenger.
    pub name: String,
    /// The issuer of the realm on whose page users sign in. Absent where there is none: then with `POST /api/auth/sign-in`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The services that the tenant has.
    pub services: Vec<String>,
}

pub(crate) struct WebState {
    assets: Assets,
    page: Asset,
    config: PageConfig,
    policy: HeaderValue,
}

impl WebState {
    pub(crate) fn new(assets: Assets, config: PageConfig, policy: HeaderValue) -> anyhow::Result<Arc<Self>> {
        let page = assets.index().context("the build of the client has no page")?;
        Ok(Arc::new(Self { assets, page, config, policy }))
    }
}

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// Lets a service worker be in charge of pages that are not below its own folder.
const WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// A year, which is the most that caches are said to take (RFC 9111 has no limit).
const FOREVER: &str = "public, max-age=31536000, immutable";
/// It is asked for each time, and sent when it has changed.
const ASK: &str = "no-cache";

/// Returns the public surface with its state applied.
pub(crate) fn router(state: Arc<WebState>) -> OpenApiRouter {
    docs::router()
        .routes(routes!(config))
        .route("/", routing::get(page))
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
    let mut response = asset(&state.page, &headers);
    response.extensions_mut().insert(PagePolicy(state.policy.clone()));
    response.headers_mut().insert(PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS));
    // A page that this one opened, as by a link in a message, does not reach back.
    response.headers_mut().insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

async fn file(
    State(state): State<Arc<WebState>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = state.assets.get(&path);
    // A page that is older than the service asks for files of its own build.
    let found = found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "no such file of the client"))?;
    let mut response = asset(&found, &headers);
    if found.is_worker() {
        response.headers_mut().insert(WORKER_ALLOWED, HeaderValue::from_static("/"));
    }
    Ok(response)
}

fn asset(asset: &Asset, request: &HeaderMap) -> Response {
    let text = |name: HeaderName| request.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let caching = if asset.is_immutable() { FOREVER } else { ASK };
    let known = [
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
        (header::ETAG, HeaderValue::from_static(asset.tag)),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    let is_known =
        text(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.tag);
    if is_known {
        return (StatusCode::NOT_MODIFIED, known).into_response();
    }
    let (bytes, encoding) = asset.form(text(header::ACCEPT_ENCODING));
    let mut response = (known, [(header::CONTENT_TYPE, asset.media_type())], bytes).into_response();
    if let Some(encoding) = encoding {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    static FILES: [Asset; 3] = [
        Asset { path: "index.html", tag: "\"1\"", bytes: b"<!doctype html>", brotli: None, gzip: None },
        Asset { path: "assets/a-1.js", tag: "\"2\"", bytes: b"plain", brotli: Some(b"br"), gzip: None },
        Asset { path: "sw.js", tag: "\"3\"", bytes: b"worker", brotli: None, gzip: None },
    ];

    async fn get(path: &str, headers: &[(HeaderName, &str)]) -> Response {
        let config = PageConfig { name: "acme".to_owned(), realm: None, services: Vec::new() };
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
