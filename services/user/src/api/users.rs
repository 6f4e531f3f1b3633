//! `/api/users`: the profiles of others.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::extract::State;
use contracts::{
    UserId,
    api::{Page, Problem, TypedUsername, UserProfile},
};
use kit::{
    auth::Caller,
    docs::QueryProblems,
    error::ApiError,
    extract::{Json, Path, Query},
    page::PageSizes,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::ensured;
use crate::{
    domain::{Cursor, Search},
    error::Error,
    shown::Shown,
    store::ProfileStore,
};

const PAGE_SIZES: PageSizes = PageSizes { default: 20, max: 100 };

/// Returns one profile, that of a deleted account too.
#[utoipa::path(
    get,
    path = "/api/users/{user}",
    operation_id = "get_user",
    tag = "users",
    security(("access_token" = [])),
    params(("user" = UserId, Path, description = "User id")),
    responses(
        (status = OK, description = "The profile", body = UserProfile),
        (status = NOT_FOUND, description = "not_found", body = Problem,
            content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn get(
    caller: Caller,
    State(shown): State<Shown>,
    Path(user_id): Path<UserId>,
) -> Result<Json<UserProfile>, ApiError> {
    let own = ensured(shown.store(), &caller).await?;
    if own.user_id == user_id {
        return Ok(Json(own.into()));
    }
    let profile = shown.profile(user_id).await?;
    Ok(Json(profile.ok_or(Error::NotFound(user_id))?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchParameters {
    /// What the username or the display name starts with, in any case, width and composition; all users when absent.
    #[param(max_length = 64, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    query: Option<String>,
    /// Exactly this username, in any case: the page has the user, or none. Beside it `query` has no effect.
    #[param(value_type = Option<TypedUsername>, inline)]
    username: Option<String>,
    /// Most profiles in the response.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\.[!-~]+$")]
    cursor: Option<String>,
}

/// Finds users by the start of their username or display name, or one by the username, in the order of their usernames.
///
/// Deleted accounts are not found.
#[utoipa::path(
    get,
    path = "/api/users",
    operation_id = "search_users",
    tag = "users",
    security(("access_token" = [])),
    params(SearchParameters),
    responses(
        (status = OK, description = "One page", body = Page<UserProfile>),
        QueryProblems,
    )
)]
pub(super) async fn search(
    caller: Caller,
    State(store): State<Arc<dyn ProfileStore>>,
    Query(parameters): Query<SearchParameters>,
) -> Result<Json<Page<UserProfile>>, ApiError> {
    let size = PAGE_SIZES.of(parameters.limit)?;
    let SearchParameters { query, username, cursor, .. } = &parameters;
    let search = Search::parse(query.as_deref(), username.as_deref(), cursor.as_deref(), size.with_next());
    let search = search.map_err(Error::from)?;
    ensured(&store, &caller).await?;
    let profiles = store.search(&search).await.map_err(Error::from)?;
    Ok(Json(size.page(profiles, |profile| Cursor::of(profile).to_string())))
}
