//! What the page may load and run.

use anyhow::Context as _;
use axum::http::HeaderValue;
use url::Url;

/// Scripts and styles are files of this address alone, and no text becomes one: the client makes no HTML of strings, which
/// `require-trusted-types-for` holds it to. Its one policy of trusted types names its service worker (`clients/app/src/installed.ts`).
/// `blob:` and `data:` are pictures that the page made, before they are sent or while they load.
const FIXED: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; \
                     manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                     require-trusted-types-for 'script'; trusted-types posthouse-worker";

/// Returns the policy of a page that calls its own address and `elsewhere`: the realm for tokens, and the object store with files.
pub(crate) fn policy(elsewhere: &[String]) -> anyhow::Result<HeaderValue> {
    let sources = std::iter::once("'self'").chain(elsewhere.iter().map(String::as_str));
    let policy = format!("{FIXED}; connect-src {}", sources.collect::<Vec<_>>().join(" "));
    HeaderValue::from_str(&policy).with_context(|| format!("{policy} is not a header value"))
}

/// Returns the origin of an address as a source of a policy.
pub(crate) fn source(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_calls_its_realm_and_its_store_and_no_other_address() {
        let source = |url: &str| source(&url.parse().expect("an address"));
        let (realm, store) = (source("https://id.example/realms/acme"), source("http://files.example:7480"));
        for (elsewhere, expected) in [
            (vec![], "connect-src 'self'"),
            (vec![realm.clone()], "connect-src 'self' https://id.example"),
            (vec![realm, store], "connect-src 'self' https://id.example http://files.example:7480"),
        ] {
            let policy = policy(&elsewhere).expect("a policy");
            let text = policy.to_str().expect("text");
            assert!(text.ends_with(expected), "{text}");
            assert!(!text.contains("unsafe"), "{text}");
        }
    }
}
