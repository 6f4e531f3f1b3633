//! What links lead to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/media/previews`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// As it is in a message: `http` or `https`.
    #[schema(min_length = 1, max_length = 2048, example = "https://example.com/cats")]
    pub url: String,
}

/// What a page says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkPreview {
    /// Where the page is, behind all redirects.
    #[schema(example = "https://www.example.com/cats")]
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The name of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<LinkPicture>,
}

/// A small picture of a page, encoded again. A client shows it without asking the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkPicture {
    #[schema(example = "image/jpeg")]
    #[serde(rename = "type")]
    pub media_type: String,
    /// Its bytes in base64.
    pub data: String,
    /// Of the picture that the page has, in pixels.
    pub width: u32,
    /// Likewise.
    pub height: u32,
    /// A thumbhash in base64.
    pub blur: String,
}
