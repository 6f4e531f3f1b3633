//! `/content`: the bytes of files, by links.
//!
//! They come from the address that clients come from, and must never run there: whatever they are, a browser gives them no origin, runs no
//! script of theirs and guesses no type (see [`UserContent`]).

#![expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]

use std::fmt::Write as _;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use contracts::api::Problem;
use kit::{
    browser::UserContent,
    docs::{FaultProblems, ParameterProblems},
    error::ApiError,
    extract::Path,
};

use super::{Files, Streams};
use crate::{
    domain::{File, FileName, Link, Variant, Wanted},
    error::Error,
};

/// Returns the content of a file, or a part of it, by a link of `GET /api/media/files/{file}`.
///
/// The link stands for its user and takes no token, so that a page can show it. Whether the user may read the file is checked each time. A picture, film or
/// sound is shown; anything else is a download.
#[utoipa::path(
    get,
    path = "/content/{token}",
    operation_id = "get_content",
    tag = "content",
    params(
        ("token" = String, Path, description = "From a link"),
        ("range" = Option<String>, Header, description = "One part of the file, as `bytes=0-1023`. The whole answers several"),
        ("if-none-match" = Option<String>, Header, description = "The `etag` of what the client has")
    ),
    responses(
        (status = OK, description = "The file", body = Vec<u8>, content_type = "application/octet-stream", headers(
            ("accept-ranges" = String, description = "`bytes`"),
            ("content-disposition" = String, description = "Whether it is shown or a download, and its name"),
            ("etag" = String, description = "Names the content, which never changes"),
        )),
        (status = 206, description = "A part of the file", body = Vec<u8>, content_type = "application/octet-stream", headers(
            ("accept-ranges" = String, description = "`bytes`"),
            ("content-disposition" = String, description = "Whether it is shown or a download, and its name"),
            ("content-range" = String, description = "Which part it is"),
            ("etag" = String, description = "Names the content, which never changes"),
        )),
        (status = 304, description = "The client has it", headers(("etag" = String, description = "Names the content"))),
        (status = NOT_FOUND, description = "not_found (the link is not good, or not any more, or its user may not read the file)", body = Problem,
            content_type = "application/problem+json"),
        (status = 416, description = "The part begins behind the end",
            headers(("content-range" = String, description = "How long the file is"))),
        ParameterProblems,
        FaultProblems,
    )
)]
pub(super) async fn get(
    State(files): State<Files>,
    State(streams): State<Streams>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let now = Utc::now();
    let link = files.links.read(&token, now).ok_or(Error::NoLink)?;
    let file = files.store.file(link.file_id).await.map_err(Error::from)?.ok_or(Error::NoLink)?;
    if !files.is_readable(&file, link.user_id, now).await? {
        return Err(Error::NoLink.into());
    }
    let content = Content::of(&file, link.variant).ok_or(Error::NoLink)?;
    let etag = content.etag();
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    // A part of another content would not fit to what the client has.
    let if_range = headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let range = headers.get(header::RANGE).filter(|_| if_range).and_then(|value| value.to_str().ok());
    let (status, range) = match Wanted::parse(range, content.bytes) {
        Wanted::Whole => (StatusCode::OK, None),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Wanted::Nothing => {
            let length = format!("bytes */{}", content.bytes);
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, length)]).into_response());
        }
    };
    let place = streams.begin(link.user_id)?;
    let pieces = files.objects.read(&file.key(link.variant), range).await.map_err(Error::from)?;
    let pieces = pieces.ok_or(Error::ContentMissing(file.file_id))?;
    files.metrics.served.inc();
    let body = Body::from_stream(place.send(pieces, files.metrics.clone()));
    let mut response = (status, Extension(UserContent), body).into_response();
    content.describe(response.headers_mut(), &etag, &link, now);
    let length = range.map_or(content.bytes, |range| range.bytes());
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(range) = range {
        let place = format!("bytes {}-{}/{}", range.first, range.last, content.bytes);
        response.headers_mut().insert(header::CONTENT_RANGE, value(&place));
    }
    Ok(response)
}

/// Reports whether the client has the content already.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag
    })
}

/// What a link leads to.
struct Content<'a> {
    file: &'a File,
    variant: Variant,
    media_type: &'a str,
    bytes: u64,
    /// Whether a browser shows it. Everything else it saves.
    is_shown: bool,
}

impl<'a> Content<'a> {
    /// Returns a variant of a file; `None` for one that is not there.
    fn of(file: &'a File, variant: Variant) -> Option<Self> {
        let facts = file.facts()?;
        let (media_type, bytes) = match variant {
            Variant::Content => (&facts.media_type, facts.bytes),
            Variant::Thumbnail => {
                let thumbnail = facts.thumbnail.as_ref()?;
                (&thumbnail.media_type, thumbnail.bytes)
            }
        };
        // What was declared as a medium is checked to be one. A picture that was not is as it was uploaded.
        let is_shown = variant == Variant::Thumbnail || file.declared.media_type.is_medium();
        let bytes = u64::try_from(bytes).ok()?;
        Some(Self { file, variant, media_type: media_type.as_str(), bytes, is_shown })
    }

    /// Names the content: of one file and variant it never changes.
    fn etag(&self) -> String {
        let variant = match self.variant {
            Variant::Content => "content",
            Variant::Thumbnail => "thumbnail",
        };
        format!("\"{}-{variant}\"", self.file.file_id)
    }

    fn describe(&self, headers: &mut HeaderMap, etag: &str, link: &Link, now: DateTime<Utc>) {
        let seconds = (link.expires_at - now).num_seconds().max(0);
        // The only encoding that is taken for text.
        let charset = if self.media_type == "text/plain" { "; charset=utf-8" } else { "" };
        let described: [(HeaderName, String); 5] = [
            (header::CONTENT_TYPE, format!("{}{charset}", self.media_type)),
            (header::CONTENT_DISPOSITION, disposition(self.is_shown, &self.file.name)),
            (header::ETAG, etag.to_owned()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            // No cache between keeps it, and the client's own no longer than the link.
            (header::CACHE_CONTROL, format!("private, max-age={seconds}")),
        ];
        for (name, text) in described {
            headers.insert(name, value(&text));
        }
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it is made of visible ASCII characters")
}

/// Returns how a browser handles a file, with its name in two forms: for those that read ASCII only, and for all others (RFC 6266).
fn disposition(is_shown: bool, name: &FileName) -> String {
    let plain = |character: char| {
        let is_plain = character.is_ascii_alphanumeric() || " .-_".contains(character);
        if is_plain { character } else { '_' }
    };
    let ascii: String = name.as_str().chars().map(plain).collect();
    let mut encoded = String::new();
    for byte in name.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    let kind = if is_shown { "inline" } else { "attachment" };
    format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_header_of_its_own() {
        for (name, expected) in [
            ("cats.jpg", r#"attachment; filename="cats.jpg"; filename*=UTF-8''cats.jpg"#),
            (
                r#"a"; x="b.txt"#,
                r#"attachment; filename="a__ x__b.txt"; filename*=UTF-8''a%22%3B%20x%3D%22b.txt"#,
            ),
            (
                "a\r\nset-cookie: b",
                r#"attachment; filename="aset-cookie_ b"; filename*=UTF-8''aset-cookie%3A%20b"#,
            ),
            ("é.txt", r#"attachment; filename="_.txt"; filename*=UTF-8''%C3%A9.txt"#),
            ("100%.txt", r#"attachment; filename="100_.txt"; filename*=UTF-8''100%25.txt"#),
        ] {
            let disposition = disposition(false, &FileName::of(name));
            assert_eq!(disposition, expected);
            assert!(HeaderValue::from_str(&disposition).is_ok());
        }
        assert!(disposition(true, &FileName::of("cats.jpg")).starts_with("inline; "));
    }

    #[test]
    fn a_client_that_has_the_content_is_known_by_its_etag() {
        let known = |values: &[&str]| {
            let value =
                |value: &&str| (header::IF_NONE_MATCH, HeaderValue::from_str(value).expect("a header"));
            is_known(&values.iter().map(value).collect(), "\"1-content\"")
        };
        for values in [&["\"1-content\""] as &[_], &["W/\"1-content\""], &["\"x\", \"1-content\""], &["*"]] {
            assert!(known(values), "{values:?}");
        }
        for values in [&[] as &[_], &["\"1-thumbnail\""], &["1-content"], &[""]] {
            assert!(!known(values), "{values:?}");
        }
    }
}
