//! What a browser has to know of every response, of any handler or layer.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

/// Pages run the scripts of this address and no text of theirs, load nothing from elsewhere, and stand in no frame. `data:` is
/// for the icons in the style of Swagger UI.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ALWAYS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // For browsers that do not read `frame-ancestors`.
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// What users uploaded runs nothing, loads nothing and has no origin, whatever it is.
const CONTENT_POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

/// Marks a response, as an extension, whose body is what a user uploaded.
#[derive(Clone, Copy, Debug)]
pub struct UserContent;

/// The policy of a page that runs scripts of its own, as an extension of its response. Without it, a page has the one of the documents.
#[derive(Clone, Debug)]
pub struct PagePolicy(pub HeaderValue);

/// What a page may use of the device.
pub const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// Nothing. Notifications and the clipboard ask by themselves.
const PERMISSIONS: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), \
                           microphone=(), midi=(), payment=(), serial=(), usb=(), xr-spatial-tracking=()";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Makes a response the page of a client, which runs scripts of its own by `policy`. It uses nothing of the device, and a page that it opened, as by a link in a
/// message, does not reach back.
pub fn client_page(response: &mut Response, policy: HeaderValue) {
    response.extensions_mut().insert(PagePolicy(policy));
    let headers = response.headers_mut();
    headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
}

/// For a year after a visit, the address is asked for by TLS only. Not for the hosts below it, which may be of others.
const TLS_ONLY: &str = "max-age=31536000";
/// How the client speaks to Traefik, which sets it.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Adds the headers to every response.
pub async fn protect(request: Request, next: Next) -> Response {
    let is_by_tls = is_by_tls(request.headers());
    let mut response = next.run(request).await;
    let is_content = response.extensions().get::<UserContent>().is_some();
    let page = response.extensions_mut().remove::<PagePolicy>();
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(PagePolicy(policy)) = page {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    // Last: no mark of a page lets a file of a user run.
    if is_content {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    }
    if is_by_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TLS_ONLY));
    }
    response
}

fn is_by_tls(headers: &HeaderMap) -> bool {
    headers.get(FORWARDED_PROTO).is_some_and(|value| value == "https" || value == "wss")
}

#[cfg(test)]
mod tests {
    use axum::{Extension, Router, body::Body, middleware, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn headers(path: &str, proto: Option<&str>) -> HeaderMap {
        let page = ([(header::CONTENT_SECURITY_POLICY, "default-src *")], "a page");
        let content = (Extension(UserContent), page.clone());
        let router = Router::new()
            .route("/", get(|| async { page }))
            .route("/content", get(|| async { content }))
            .layer(middleware::from_fn(protect));
        let mut request = Request::get(path);
        if let Some(proto) = proto {
            request = request.header(FORWARDED_PROTO, proto);
        }
        let request = request.body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("a router answers").headers().clone()
    }

    #[tokio::test]
    async fn every_response_has_the_policy_whatever_a_handler_sets() {
        for path in ["/", "/nothing"] {
            let headers = headers(path, None).await;
            for (name, value) in ALWAYS {
                assert_eq!(headers[&name], value, "{path}");
            }
        }
    }

    #[tokio::test]
    async fn what_users_uploaded_runs_nothing() {
        let headers = headers("/content", None).await;
        for (name, value) in ALWAYS.into_iter().skip(1) {
            assert_eq!(headers[&name], value);
        }
        assert_eq!(ALWAYS[0].0, header::CONTENT_SECURITY_POLICY);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], CONTENT_POLICY);
    }

    #[tokio::test]
    async fn a_page_has_its_own_policy_and_stands_in_no_frame() {
        let policy = HeaderValue::from_static("default-src 'none'; script-src 'self'");
        let page = (Extension(PagePolicy(policy.clone())), "a page");
        let content = (Extension(PagePolicy(policy.clone())), Extension(UserContent), "a file");
        let router = Router::new()
            .route("/page", get(|| async { page }))
            .route("/content", get(|| async { content }))
            .layer(middleware::from_fn(protect));
        let response = |path: &str| {
            let request = Request::get(path).body(Body::empty()).expect("a request");
            router.clone().oneshot(request)
        };
        let page = response("/page").await.expect("a router answers");
        assert_eq!(page.headers()[header::CONTENT_SECURITY_POLICY], policy);
        assert_eq!(page.headers()[header::X_FRAME_OPTIONS], "DENY");
        let content = response("/content").await.expect("a router answers");
        assert_eq!(content.headers()[header::CONTENT_SECURITY_POLICY], CONTENT_POLICY);
    }

    #[tokio::test]
    async fn tls_is_required_where_it_was_used() {
        for (proto, expected) in [
            (None, false),
            (Some("http"), false),
            (Some("ws"), false),
            (Some("https"), true),
            (Some("wss"), true),
        ] {
            let headers = headers("/", proto).await;
            assert_eq!(headers.contains_key(header::STRICT_TRANSPORT_SECURITY), expected, "{proto:?}");
        }
    }
}
