//! `/api/media/previews`: what links lead to.

use std::time::Instant;

use axum::extract::State;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use contracts::api::{LinkPicture, LinkPreview, PreviewRequest, Problem};
use kit::{auth::Caller, error::ApiError, extract::Json};

use super::problems::RequestProblems;
use crate::{
    error::Error,
    preview::{NoPreview, Preview, Previews},
};

/// Returns what the page behind a link says of itself.
///
/// The messenger fetches it, so the site learns neither who asks nor from where. Links lead to public addresses only. What was fetched is kept for a few
/// minutes.
#[utoipa::path(
    post,
    path = "/api/media/previews",
    operation_id = "preview_link",
    tag = "previews",
    security(("access_token" = [])),
    request_body = PreviewRequest,
    responses(
        (status = OK, description = "What the page says", body = LinkPreview),
        (status = NOT_FOUND, description = "not_found (the link is not followed, or leads to nothing that can be shown)", body = Problem,
            content_type = "application/problem+json"),
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, or links of the caller)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn create(
    caller: Caller,
    State(previews): State<Previews>,
    Json(request): Json<PreviewRequest>,
) -> Result<Json<LinkPreview>, ApiError> {
    let now = Instant::now();
    previews.count(caller.user_id, now).map_err(|wait| Error::TooManyPreviews { wait })?;
    let shown = previews.get(&request.url, now, shown).await;
    let shown = shown.map_err(|error| match error {
        NoPreview::None => Error::NoPreview,
        NoPreview::Busy => Error::PreviewsBusy,
    });
    Ok(Json(shown?))
}

fn shown(preview: &Preview) -> LinkPreview {
    LinkPreview {
        url: preview.url.to_string(),
        title: preview.title.as_ref().map(|title| title.as_str().to_owned()),
        description: preview.description.as_ref().map(|description| description.as_str().to_owned()),
        site: preview.site.as_ref().map(|site| site.as_str().to_owned()),
        picture: preview.picture.as_ref().map(|picture| LinkPicture {
            media_type: picture.thumbnail.content_type.to_owned(),
            data: BASE64_STANDARD.encode(&picture.thumbnail.bytes),
            width: picture.width,
            height: picture.height,
            blur: picture.blur.clone(),
        }),
    }
}
