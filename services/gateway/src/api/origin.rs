//! Which pages may have a connection.

use axum::http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
};
use contracts::ErrorCode;
use kit::error::ApiError;

/// Refuses the request of a page whose origin is not allowed.
pub(super) fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    if is_allowed_origin(headers, allowed) {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::PermissionDenied, "the page's origin is not allowed here"))
}

/// Returns whether the request comes from no page at all, from a page of this host, or from an allowed origin.
///
/// A browser names the page's origin and cannot be made to lie about it. Scheme and port are not compared, because what
/// stands before us may end TLS and listen elsewhere; no page sends a user's token without having it.
pub(super) fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    allowed.iter().any(|allowed| allowed == origin) || is_same_host(headers, origin)
}

fn is_same_host(headers: &HeaderMap, origin: &str) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    if !matches!(origin.scheme_str(), Some("http" | "https")) {
        return false;
    }
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Uri>().ok()) else {
        return false;
    };
    let (Some(from), Some(to)) = (origin.authority(), host.authority()) else { return false };
    from.host().eq_ignore_ascii_case(to.host()) && !from.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_same_host_and_allowed_origins_may_open_a_socket() {
        let allowed = ["capacitor://localhost", "http://localhost:5173", "null"].map(str::to_owned);
        let check = |origin: Option<&str>, host: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a host"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("an origin"));
            }
            let allowed = if host == "packaged.example.com" { &allowed[..] } else { &[] };
            assert_eq!(is_allowed_origin(&headers, allowed), expected, "{origin:?} to {host}");
        };
        check(None, "acme.example.com", true);
        check(Some("https://acme.example.com"), "acme.example.com", true);
        check(Some("https://acme.example.com:443"), "acme.example.com", true);
        check(Some("https://ACME.example.com"), "acme.example.com", true);
        check(Some("http://acme.localhost:8000"), "acme.localhost:8000", true);
        check(Some("https://acme.example.com:8443"), "acme.example.com", true);
        check(Some("https://acme.example.com"), "acme.example.com:8000", true);
        check(Some("null"), "acme.example.com", false);
        check(Some("https://beta.example.com"), "acme.example.com", false);
        check(Some("https://acme.example.com.evil.test"), "acme.example.com", false);
        check(Some("https://evil-acme.example.com"), "acme.example.com", false);
        check(Some("https://acme.example.com@evil.test"), "acme.example.com", false);
        check(Some("file:///acme.example.com"), "acme.example.com", false);
        check(Some("app://acme.example.com"), "acme.example.com", false);
        check(Some(""), "acme.example.com", false);

        check(Some("capacitor://localhost"), "packaged.example.com", true);
        check(Some("http://localhost:5173"), "packaged.example.com", true);
        check(Some("null"), "packaged.example.com", true);
        check(Some("http://localhost"), "packaged.example.com", false);
        check(Some("http://localhost:5174"), "packaged.example.com", false);
        check(Some("capacitor://localhost"), "acme.example.com", false);
    }
}
