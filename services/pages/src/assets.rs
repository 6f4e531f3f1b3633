//! The files of a page, and which form of one a browser is sent. No I/O.

use std::collections::BTreeMap;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// A file of a built client.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Below the folder of the build, with `/` between its parts.
    pub path: &'static str,
    /// Entity tag of the file, whatever its form is: it is compared weakly.
    pub tag: &'static str,
    pub bytes: &'static [u8],
    /// The same, compressed. Absent where that is no smaller.
    pub brotli: Option<&'static [u8]>,
    pub gzip: Option<&'static [u8]>,
}

/// The page.
const INDEX: &str = "index.html";
/// Files below it have a hash of what is in them in their names, and never change.
const IMMUTABLE: &str = "assets/";
/// Of a file that never changes: a year, which is the most that caches are said to take (RFC 9111 has no limit).
pub const FOREVER: &str = "public, max-age=31536000, immutable";
/// Of what may change: it is asked for each time, and sent when it has changed.
pub const ASK: &str = "no-cache";

/// The files by their paths.
#[derive(Debug)]
pub struct Assets(BTreeMap<&'static str, Asset>);

impl Assets {
    /// Takes what `embed.rs` found.
    pub fn of(assets: &[Asset]) -> Self {
        Self(assets.iter().map(|asset| (asset.path, *asset)).collect())
    }

    /// Returns the page.
    pub fn index(&self) -> Option<Asset> {
        self.0.get(INDEX).copied()
    }

    /// Returns a file beside the page.
    pub fn get(&self, path: &str) -> Option<Asset> {
        self.0.get(path).copied().filter(|asset| asset.path != INDEX)
    }
}

impl Asset {
    /// Returns it as a response to a request with these headers: its smallest form that the browser takes, or that it has not changed.
    pub fn response(&self, request: &HeaderMap) -> Response {
        let text =
            |name: HeaderName| request.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let caching = if self.is_immutable() { FOREVER } else { ASK };
        let known = [
            (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
            (header::ETAG, HeaderValue::from_static(self.tag)),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ];
        let is_known =
            text(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim().trim_start_matches("W/") == self.tag);
        if is_known {
            return (StatusCode::NOT_MODIFIED, known).into_response();
        }
        let (bytes, encoding) = self.form(text(header::ACCEPT_ENCODING));
        let mut response = (known, [(header::CONTENT_TYPE, self.media_type())], bytes).into_response();
        if let Some(encoding) = encoding {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }

    /// Returns the smallest form that a browser takes by its `accept-encoding`, and the name of that form.
    fn form(&self, accept_encoding: &str) -> (&'static [u8], Option<&'static str>) {
        let takes = |name: &str| {
            accept_encoding.split(',').any(|coding| {
                let (coding, weight) = coding.split_once(';').unwrap_or((coding, ""));
                let is_refused = matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
                coding.trim().eq_ignore_ascii_case(name) && !is_refused
            })
        };
        let forms = [("br", self.brotli), ("gzip", self.gzip)];
        let found =
            forms.into_iter().find_map(|(name, bytes)| Some((bytes?, Some(name))).filter(|_| takes(name)));
        found.unwrap_or((self.bytes, None))
    }

    /// Whether it is the same forever under its name.
    fn is_immutable(&self) -> bool {
        self.path.starts_with(IMMUTABLE)
    }

    /// Returns the media type, by the end of the name.
    fn media_type(&self) -> &'static str {
        match self.path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("json") => "application/json",
            Some("webmanifest") => "application/manifest+json",
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("woff2") => "font/woff2",
            _ => "application/octet-stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSET: Asset = Asset {
        path: "assets/index-1a2b.js",
        tag: "\"1\"",
        bytes: b"plain",
        brotli: Some(b"br"),
        gzip: Some(b"gz"),
    };

    #[test]
    fn a_browser_is_sent_the_smallest_form_that_it_takes() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip;q=1.0, br;q=0", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("deflate", None),
            ("", None),
        ] {
            assert_eq!(ASSET.form(accepted).1, expected, "{accepted}");
        }
        let small = Asset { brotli: None, gzip: None, ..ASSET };
        assert_eq!(small.form("br"), (&b"plain"[..], None));
    }

    #[test]
    fn the_page_is_no_file_beside_itself() {
        let page = Asset { path: INDEX, ..ASSET };
        let assets = Assets::of(&[page, ASSET]);
        assert!(assets.get(INDEX).is_none() && assets.index().is_some());
        assert!(assets.get(ASSET.path).is_some_and(|asset| asset.is_immutable()));
    }
}
