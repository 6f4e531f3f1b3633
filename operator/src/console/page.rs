//! The page and its files, which are the same for every caller.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
    routing::get,
};
use pages::{
    assets::{Asset, Assets},
    browser,
};

/// What `build.rs` found.
static EMBEDDED: &[Asset] = include!(concat!(env!("OUT_DIR"), "/files.rs"));
static FILES: LazyLock<Assets> = LazyLock::new(|| Assets::of(EMBEDDED));

/// Scripts, styles and calls are of this address alone, and no text becomes a script: the page makes no HTML of strings.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

pub(super) fn router() -> Router {
    Router::new().route("/", get(page)).route("/{*path}", get(file))
}

async fn page(headers: HeaderMap) -> Response {
    let Some(page) = FILES.index() else { return not_found() };
    let mut response = page.response(&headers);
    browser::client_page(&mut response, HeaderValue::from_static(POLICY));
    response
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    FILES.get(&path).map_or_else(not_found, |file| file.response(&headers))
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such file of the console\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_whatever_was_built() {
        assert!(FILES.index().is_some());
        assert!(!POLICY.contains("unsafe"));
    }
}
