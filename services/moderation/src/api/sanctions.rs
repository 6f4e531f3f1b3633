//! `/api/moderation/sanctions`: warnings, mutes and bans.

#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use contracts::{
    ChatId, SanctionId, UserId,
    api::{
        CreateSanctionRequest, Decision, LiftRequest, Page, Problem, Sanction, SanctionKind, SanctionTerms,
    },
};
use kit::{
    clock::now_ms,
    error::ApiError,
    extract::{Json, Path, Query},
    idempotency::IdempotencyKey,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    MAX_NOTE_CHARS, PAGE_SIZES,
    callers::Moderator,
    check_text, noted, page,
    problems::{DoneBefore, NotAModerator, NotThere, QueryProblems, RequestProblems},
};
use crate::{
    carrying_out::Wake,
    domain::{Change, check_terms, derived_id},
    error::Error,
    store::{ModerationStore, Refusal, StoreError},
};

/// Warns, mutes or bans a user.
///
/// A mute lets a user write nothing, and a ban of a chat removes the user from it too. A ban everywhere closes the account: its connections are closed within
/// seconds, no session begins or goes on, and access tokens that were given out are good until they expire, in some minutes, for what is no connection.
#[utoipa::path(
    post,
    path = "/api/moderation/sanctions",
    operation_id = "create_sanction",
    tag = "sanctions",
    security(("access_token" = [])),
    params(
        ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
            description = "1 to 128 visible ASCII characters, chosen once for a sanction and repeated with every retry")
    ),
    request_body = CreateSanctionRequest,
    responses(
        (status = CREATED, description = "The sanction", body = Sanction),
        (status = OK, description = "The sanction that was created with this idempotency-key", body = Sanction),
        (status = UNPROCESSABLE_ENTITY, description = "idempotency_conflict (the idempotency-key was used for another sanction)",
            body = Problem, content_type = "application/problem+json"),
        NotAModerator,
        RequestProblems,
    )
)]
pub(super) async fn create(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(wake): State<Wake>,
    key: Option<IdempotencyKey>,
    Json(request): Json<CreateSanctionRequest>,
) -> Result<(StatusCode, Json<Sanction>), ApiError> {
    let CreateSanctionRequest { user, chat, kind, seconds, note } = request;
    check_text("note", &note, MAX_NOTE_CHARS)?;
    check_terms(Some(&SanctionTerms { kind, everywhere: chat.is_none(), seconds }))?;
    let derived = |key: &IdempotencyKey| derived_id(&format!("sanction/{by}/{}", key.as_str()));
    let id = key.as_ref().map_or_else(SanctionId::generate, |key| SanctionId(derived(key)));
    let terms = (user, chat, kind, seconds, note.as_str());
    if key.is_some()
        && let Some(found) = store.sanction(id).await.map_err(Error::from)?
    {
        return repeated(found, terms);
    }
    let at_ms = now_ms();
    let sanction = Sanction {
        id,
        user,
        chat,
        kind,
        until_ms: seconds.map(|seconds| at_ms + i64::from(seconds) * 1_000),
        note: note.clone(),
        by: Some(by),
        created_at_ms: at_ms,
        lifted: None,
    };
    let audit = noted("sanction_created", sanction.id, by, Some(user), at_ms);
    match store.act(&[Change::Sanctioned(sanction.clone()), audit]).await {
        Ok(()) => {
            wake.notify();
            Ok((StatusCode::CREATED, Json(sanction)))
        }
        // Another request with the key was first, in this moment.
        Err(StoreError::Refused(Refusal::Known)) => {
            let found = store.sanction(id).await.map_err(Error::from)?;
            repeated(found.ok_or(Error::KeyReused)?, terms)
        }
        Err(error) => Err(Error::from(error).into()),
    }
}

/// Returns the sanction that an idempotency-key has created, when the request is the same in all that it says.
fn repeated(
    found: Sanction,
    terms: (UserId, Option<ChatId>, SanctionKind, Option<u32>, &str),
) -> Result<(StatusCode, Json<Sanction>), ApiError> {
    let (user, chat, kind, seconds, note) = terms;
    let lasts_ms = found.until_ms.map(|until_ms| until_ms - found.created_at_ms);
    let is_same = (found.user, found.chat, found.kind, found.note.as_str()) == (user, chat, kind, note)
        && lasts_ms == seconds.map(|seconds| i64::from(seconds) * 1_000);
    if is_same { Ok((StatusCode::OK, Json(found))) } else { Err(Error::KeyReused.into()) }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Most items in the response.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(minimum = 1)]
    cursor: Option<i64>,
    /// Of this user only.
    #[param(inline)]
    user: Option<UserId>,
}

/// Lists sanctions, the newest first.
#[utoipa::path(
    get,
    path = "/api/moderation/sanctions",
    operation_id = "list_sanctions",
    tag = "sanctions",
    security(("access_token" = [])),
    params(ListParameters),
    responses((status = OK, description = "One page", body = Page<Sanction>), NotAModerator, QueryProblems)
)]
pub(super) async fn list(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Query(ListParameters { limit, cursor, user }): Query<ListParameters>,
) -> Result<Json<Page<Sanction>>, ApiError> {
    let size = PAGE_SIZES.of(limit)?;
    let before = cursor.unwrap_or(i64::MAX);
    let sanctions = store.sanctions(user, before, size.with_next()).await.map_err(Error::from)?;
    Ok(Json(page(size, sanctions)))
}

/// Takes a sanction back.
///
/// What others say of the user still holds: of two mutes, the other one. A user who was removed from a chat is not brought back.
#[utoipa::path(
    post,
    path = "/api/moderation/sanctions/{sanction}/lift",
    operation_id = "lift_sanction",
    tag = "sanctions",
    security(("access_token" = [])),
    params(("sanction" = SanctionId, Path, description = "Sanction id")),
    request_body = LiftRequest,
    responses(
        (status = OK, description = "The sanction", body = Sanction),
        NotAModerator,
        NotThere,
        DoneBefore,
        RequestProblems,
    )
)]
pub(super) async fn lift(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(wake): State<Wake>,
    Path(id): Path<SanctionId>,
    Json(LiftRequest { note }): Json<LiftRequest>,
) -> Result<Json<Sanction>, ApiError> {
    check_text("note", &note, MAX_NOTE_CHARS)?;
    let found = store.sanction(id).await.map_err(Error::from)?;
    let sanction = found.ok_or_else(|| Error::NotFound(format!("sanction {id}")))?;
    let at_ms = now_ms();
    let sanction = Sanction { lifted: Some(Decision { by: Some(by), at_ms, note }), ..sanction };
    let note = noted("sanction_lifted", id, by, Some(sanction.user), at_ms);
    store.act(&[Change::Lifted(sanction.clone()), note]).await.map_err(Error::from)?;
    wake.notify();
    Ok(Json(sanction))
}
