//! `/api/users/me/contacts`: whom the caller has in their contacts.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use chrono::Utc;
use contracts::{
    UserId,
    api::{self, Page, Problem, PutContactRequest},
};
use kit::{
    auth::Caller,
    docs::{QueryProblems, RequestProblems},
    error::ApiError,
    extract::{Json, Path, Query},
    page::PageSizes,
    text::DisplayName,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::ensured;
use crate::{
    domain::Contact,
    error::Error,
    store::{ProfileStore, PutContact},
};

const PAGE_SIZES: PageSizes = PageSizes { default: 100, max: 500 };

/// Puts a user into the caller's contacts, or changes the caller's own name for them.
///
/// The user is not notified. With `presence_visible_to: contacts`, the caller shows them when they are online. At most 5000 users are
/// contacts.
#[utoipa::path(
    put,
    path = "/api/users/me/contacts/{user}",
    operation_id = "put_contact",
    tag = "contacts",
    security(("access_token" = [])),
    params(("user" = UserId, Path, description = "User id")),
    request_body = PutContactRequest,
    responses(
        (status = OK, description = "The contact", body = api::Contact),
        (status = NOT_FOUND, description = "not_found (there is no such user, or the account is deleted)", body = Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (the caller themselves), limit_reached (there are 5000)", body = Problem,
            content_type = "application/problem+json"),
        RequestProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
pub(super) async fn put(
    caller: Caller,
    State(store): State<Arc<dyn ProfileStore>>,
    Path(user_id): Path<UserId>,
    Json(PutContactRequest { name }): Json<PutContactRequest>,
) -> Result<Json<api::Contact>, ApiError> {
    let name = name.map(|name| DisplayName::parse("name", &name)).transpose().map_err(Error::from)?;
    if user_id == caller.user_id {
        return Err(Error::ContactOfOneself.into());
    }
    ensured(&store, &caller).await?;
    let put = store.put_contact(caller.user_id, user_id, name.as_ref(), Utc::now());
    match put.await.map_err(Error::from)? {
        PutContact::Put(contact) => Ok(Json((*contact).into())),
        PutContact::NoUser => Err(Error::Deleted.into()),
        PutContact::NoContact => Err(Error::NotFound(user_id).into()),
        PutContact::Full => Err(Error::TooManyContacts.into()),
    }
}

/// Removes a user from the caller's contacts; one who is not there is answered the same way.
#[utoipa::path(
    delete,
    path = "/api/users/me/contacts/{user}",
    operation_id = "remove_contact",
    tag = "contacts",
    security(("access_token" = [])),
    params(("user" = UserId, Path, description = "User id")),
    responses(
        (status = NO_CONTENT, description = "The user is not in the contacts"),
        QueryProblems,
    )
)]
pub(super) async fn remove(
    caller: Caller,
    State(store): State<Arc<dyn ProfileStore>>,
    Path(user_id): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    ensured(&store, &caller).await?;
    store.remove_contact(caller.user_id, user_id).await.map_err(Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Most contacts in the response.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<UserId>,
}

/// Lists the caller's contacts with their profiles, by id.
///
/// One whose account was deleted stays until it is removed; its profile says `deleted`.
#[utoipa::path(
    get,
    path = "/api/users/me/contacts",
    operation_id = "list_contacts",
    tag = "contacts",
    security(("access_token" = [])),
    params(ListParameters),
    responses(
        (status = OK, description = "One page", body = Page<api::Contact>),
        QueryProblems,
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(store): State<Arc<dyn ProfileStore>>,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<Page<api::Contact>>, ApiError> {
    let size = PAGE_SIZES.of(parameters.limit)?;
    ensured(&store, &caller).await?;
    let contacts = store.contacts(caller.user_id, parameters.cursor, size.with_next());
    let contacts = contacts.await.map_err(Error::from)?;
    Ok(Json(size.page(contacts, |contact| contact.profile.user_id.to_string())))
}

impl From<Contact> for api::Contact {
    fn from(contact: Contact) -> Self {
        Self {
            profile: contact.profile.into(),
            name: contact.name,
            added_at_ms: contact.added_at.timestamp_millis(),
        }
    }
}
