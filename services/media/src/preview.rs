//! Link previews, fetched by a worker that reaches no private address.
//!
//! A link is a request that a user makes from inside the network of the messenger, so it is followed to public addresses only.
//! The address that is checked is the one that is connected to: names are resolved once for each connection, by `Guard`, and
//! the client has no other way to an address. Redirects are followed here, not by the client, and each is checked like the link.

mod kept;
mod page;

use std::{error::Error, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use kit::{
    reach::{NotPublic, Reach},
    text::{Line, Lines},
    traces::{Server, sent},
};
use reqwest::{Client, Response};
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

pub(crate) use self::kept::NoPreview;
pub use self::kept::Previews;
use crate::{
    pictures::{Encoded, Pool},
    sniff::essence,
};

/// The longest link that is followed, in bytes. Browsers take 2,083 and more.
const MAX_URL_BYTES: usize = 2_048;
/// How often a link may lead to another: to TLS, to a host with `www`, to the language of the reader.
const MAX_REDIRECTS: usize = 4;
/// How much of a page is read. What describes a page stands in its head.
const PAGE_BYTES: usize = 512 * 1024;
/// The largest picture that is read.
const PICTURE_BYTES: usize = 8 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Of a page with its redirects, and again of its picture.
const FETCH_TIMEOUT: Duration = Duration::from_secs(8);
/// Previews that are fetched at a time, each with a picture of up to 8 MiB in memory.
const MAX_FETCHES: usize = 8;
/// What sites read of who fetches: it is no browser, and executes nothing.
const USER_AGENT: &str =
    concat!("Mozilla/5.0 (compatible; PosthousePreview/", env!("CARGO_PKG_VERSION"), "; bot)");
const ACCEPT: &str = "text/html,application/xhtml+xml,image/jpeg,image/png,image/webp,image/gif;q=0.9";

/// What a link leads to.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Where the page is, behind all redirects.
    pub url: Url,
    pub title: Option<Line<200>>,
    pub description: Option<Lines<500>>,
    /// The name of the site.
    pub site: Option<Line<100>>,
    pub picture: Option<PreviewPicture>,
}

/// A small picture of a page, without metadata.
#[derive(Clone, Debug)]
pub struct PreviewPicture {
    pub thumbnail: Encoded,
    /// A ThumbHash in Base64.
    pub blur: String,
    /// Of the picture that the page has, in pixels.
    pub width: u32,
    pub height: u32,
}

/// Why a link has no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    #[error(
        "the link must be an http or https URL of at most {} bytes, without a password, to port 80 or 443",
        MAX_URL_BYTES
    )]
    Link,
    #[error("the link leads to an address that is not public")]
    PrivateAddress,
    #[error("the link leads on more than {} times, or to nowhere", MAX_REDIRECTS)]
    Redirects,
    #[error("the page cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    #[error("the page is answered with status {0}")]
    Status(StatusCode),
    #[error("the link leads to a file of type {0}, which has no preview")]
    Type(String),
    #[error("the page took longer than {} s", FETCH_TIMEOUT.as_secs())]
    TookTooLong,
    #[error("too many previews are fetched at the moment")]
    Busy,
}

/// Fetches previews. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    reach: Reach,
    pool: Pool,
    fetches: Arc<Semaphore>,
    within: Duration,
}

impl Fetcher {
    /// Returns a fetcher with this reach, whose pictures are processed by `pool`.
    ///
    /// # Errors
    ///
    /// There is no TLS on this system.
    pub fn new(reach: Reach, pool: Pool) -> Result<Self, reqwest::Error> {
        let client = reach.client().user_agent(USER_AGENT).connect_timeout(CONNECT_TIMEOUT).build()?;
        let fetches = Arc::new(Semaphore::new(MAX_FETCHES));
        Ok(Self { client, reach, pool, fetches, within: FETCH_TIMEOUT })
    }

    /// Returns what a link leads to: a page with what it says of itself, or a picture. A page without a title and without a picture
    /// has an empty preview.
    ///
    /// # Errors
    ///
    /// The link is not followed, or leads to nothing that can be shown. A picture of a page that cannot be shown is left out.
    pub async fn fetch(&self, link: &str) -> Result<Preview, PreviewError> {
        let _fetch = self.fetches.try_acquire().map_err(|_| PreviewError::Busy)?;
        let (url, found) = self.bounded(self.fetch_page(link)).await?;
        let page = match found {
            Found::Picture(media_type, bytes) => {
                let picture = self.picture(&media_type, bytes).await.ok_or(PreviewError::Type(media_type))?;
                return Ok(Preview {
                    url,
                    title: None,
                    description: None,
                    site: None,
                    picture: Some(picture),
                });
            }
            Found::Page(page) => page,
        };
        let picture = match page.picture.and_then(|picture| url.join(&picture).ok()) {
            Some(picture) => self.fetch_picture(picture).await,
            None => None,
        };
        Ok(Preview {
            title: page.title.and_then(|text| Line::cut("title", &text).ok()),
            description: page.description.and_then(|text| lines(&text)),
            site: page.site.and_then(|text| Line::cut("site", &text).ok()),
            url,
            picture,
        })
    }

    async fn fetch_page(&self, link: &str) -> Result<(Url, Found), PreviewError> {
        let url = Url::parse(link.trim()).map_err(|_| PreviewError::Link)?;
        let (url, response) = self.follow(url).await?;
        let content_type = content_type(response.headers());
        let media_type = essence(&content_type);
        match media_type.as_str() {
            "text/html" | "application/xhtml+xml" => {
                let bytes = beginning(response, PAGE_BYTES).await?;
                Ok((url, Found::Page(page::read(&bytes, &content_type))))
            }
            _ if media_type.starts_with("image/") => {
                let bytes = whole(response, PICTURE_BYTES).await?;
                let bytes = bytes.ok_or_else(|| PreviewError::Type(media_type.clone()))?;
                Ok((url, Found::Picture(media_type, bytes)))
            }
            // It is shown to the user who sent the link.
            _ => {
                Err(PreviewError::Type(media_type.chars().filter(char::is_ascii_graphic).take(80).collect()))
            }
        }
    }

    /// Returns the picture of a page, which may be anywhere the page could be.
    async fn fetch_picture(&self, url: Url) -> Option<PreviewPicture> {
        let fetch = async {
            let (_, response) = self.follow(url).await?;
            let media_type = essence(&content_type(response.headers()));
            Ok(whole(response, PICTURE_BYTES).await?.map(|bytes| (media_type, bytes)))
        };
        let (media_type, bytes) = self.bounded(fetch).await.ok().flatten()?;
        self.picture(&media_type, bytes).await
    }

    async fn picture(&self, media_type: &str, bytes: Bytes) -> Option<PreviewPicture> {
        let picture = self.pool.process(bytes, media_type).await.ok()?;
        let (width, height) = (picture.width, picture.height);
        Some(PreviewPicture { thumbnail: picture.thumbnail, blur: picture.blur, width, height })
    }

    async fn bounded<T>(
        &self,
        fetch: impl Future<Output = Result<T, PreviewError>>,
    ) -> Result<T, PreviewError> {
        timeout(self.within, fetch).await.unwrap_or(Err(PreviewError::TookTooLong))
    }

    /// Follows a link to an answer that leads no further.
    async fn follow(&self, mut url: Url) -> Result<(Url, Response), PreviewError> {
        for _ in 0..=MAX_REDIRECTS {
            self.check(&url)?;
            let request = self.client.get(url.clone()).header(header::ACCEPT, ACCEPT);
            let response = sent(Server::Page, "GET", request.send()).await.map_err(unreachable)?;
            let status = response.status();
            if status.is_redirection() {
                let location = response.headers().get(header::LOCATION);
                let location = location.and_then(|value| str::from_utf8(value.as_bytes()).ok());
                url = location.and_then(|to| url.join(to).ok()).ok_or(PreviewError::Redirects)?;
                continue;
            }
            // What was not asked for is compressed, and may be a bomb.
            let is_plain = response
                .headers()
                .get_all(header::CONTENT_ENCODING)
                .iter()
                .all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
            return match status {
                _ if !status.is_success() => Err(PreviewError::Status(status)),
                _ if !is_plain => Err(PreviewError::Type("a compressed page".to_owned())),
                _ => Ok((url, response)),
            };
        }
        Err(PreviewError::Redirects)
    }

    /// Checks a link before anything is connected to. The addresses of a name are checked by [`kit::reach::Guard`].
    fn check(&self, url: &Url) -> Result<(), PreviewError> {
        let is_plain = url.as_str().len() <= MAX_URL_BYTES
            && matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.port_or_known_default().is_some_and(self.reach.port);
        if !is_plain {
            return Err(PreviewError::Link);
        }
        if url.host().is_none() {
            return Err(PreviewError::Link);
        }
        if self.reach.allows(url) { Ok(()) } else { Err(PreviewError::PrivateAddress) }
    }
}

/// What an answer is.
enum Found {
    Page(page::Page),
    /// With the media type that it is served as.
    Picture(String, Bytes),
}

fn unreachable(error: reqwest::Error) -> PreviewError {
    if NotPublic::caused(&error) {
        return PreviewError::PrivateAddress;
    }
    // The link is a user's, and does not belong into a log.
    PreviewError::Unreachable(error.without_url().into())
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Returns what an answer begins with, up to this many bytes.
async fn beginning(mut response: Response, most: usize) -> Result<Bytes, PreviewError> {
    let mut bytes = BytesMut::new();
    while bytes.len() < most
        && let Some(chunk) = response.chunk().await.map_err(unreachable)?
    {
        let left = most - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(left)]);
    }
    Ok(bytes.freeze())
}

/// Returns an answer; `None` for one of more bytes than this.
async fn whole(response: Response, most: usize) -> Result<Option<Bytes>, PreviewError> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Ok(None);
    }
    let bytes = beginning(response, most + 1).await?;
    Ok((bytes.len() <= most).then_some(bytes))
}

fn lines(text: &str) -> Option<Lines<500>> {
    Lines::cut("description", text).ok().filter(|lines| !lines.as_str().is_empty())
}

#[cfg(test)]
mod tests;
