//! `/api/moderation/appeals` and `/api/moderation/own`: what users see of moderation, and what they say against it.

#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::extract::State;
use contracts::{
    AppealId,
    api::{
        Appeal, AppealState, CreateAppealRequest, DecideAppealRequest, Decision, OwnModeration, Page,
        Problem, Sanction,
    },
};
use kit::{
    auth::Caller,
    clock::now_ms,
    error::{ApiError, InvalidField},
    extract::{Json, Path, Query},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    MAX_NOTE_CHARS, Moderators, PAGE_SIZES,
    callers::{Moderator, ReportingCaller},
    check_text, noted, page,
    problems::{DoneBefore, NotAModerator, NotThere, QueryProblems, RequestProblems},
    without_name,
};
use crate::{carrying_out::Wake, domain::Change, error::Error, store::ModerationStore};

/// Longest text of an appeal, in characters.
const MAX_TEXT_CHARS: usize = 2_000;
/// What a user sees of the own sanctions and appeals.
const OWN: usize = 100;

/// Returns what moderators decided about the caller.
#[utoipa::path(
    get,
    path = "/api/moderation/own",
    operation_id = "get_own_moderation",
    tag = "appeals",
    security(("access_token" = [])),
    responses((status = OK, description = "Sanctions and appeals", body = OwnModeration), QueryProblems)
)]
pub(super) async fn own(
    caller: Caller,
    State(store): State<Arc<dyn ModerationStore>>,
    State(moderators): State<Moderators>,
) -> Result<Json<OwnModeration>, ApiError> {
    let sanctions = store.sanctions(Some(caller.user_id), i64::MAX, OWN).await.map_err(Error::from)?;
    let appeals = store.appeals_of(caller.user_id, OWN).await.map_err(Error::from)?;
    Ok(Json(OwnModeration {
        moderates: moderators.includes(&caller),
        // Which moderator it was is for moderators.
        sanctions: sanctions.into_iter().map(|(_, sanction)| sanction_without_names(sanction)).collect(),
        appeals: appeals.into_iter().map(appeal_without_names).collect(),
    }))
}

fn sanction_without_names(sanction: Sanction) -> Sanction {
    let lifted = sanction.lifted.clone().map(without_name);
    Sanction { by: None, lifted, ..sanction }
}

fn appeal_without_names(appeal: Appeal) -> Appeal {
    let decision = appeal.decision.clone().map(without_name);
    Appeal { decision, ..appeal }
}

/// Appeals against a sanction of the caller's, once.
#[utoipa::path(
    post,
    path = "/api/moderation/appeals",
    operation_id = "create_appeal",
    tag = "appeals",
    security(("access_token" = [])),
    request_body = CreateAppealRequest,
    responses(
        (status = OK, description = "The appeal", body = Appeal),
        NotThere,
        DoneBefore,
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, or appeals of the caller)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn create(
    ReportingCaller(by): ReportingCaller,
    State(store): State<Arc<dyn ModerationStore>>,
    Json(CreateAppealRequest { sanction, text }): Json<CreateAppealRequest>,
) -> Result<Json<Appeal>, ApiError> {
    if text.is_empty() {
        return Err(InvalidField { field: "text", problem: "must say something".to_owned() }.into());
    }
    check_text("text", &text, MAX_TEXT_CHARS)?;
    let found = store.sanction(sanction).await.map_err(Error::from)?;
    // The same for that of another user.
    if found.is_none_or(|found| found.user != by) {
        return Err(Error::NotFound(format!("sanction {sanction}")).into());
    }
    let at_ms = now_ms();
    let appeal = Appeal {
        id: AppealId::generate(),
        sanction,
        user: by,
        text,
        state: AppealState::Open,
        created_at_ms: at_ms,
        decision: None,
    };
    let note = noted("appeal_created", appeal.id, by, Some(by), at_ms);
    store.act(&[Change::Appealed(appeal.clone()), note]).await.map_err(Error::from)?;
    Ok(Json(appeal))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Most items in the response.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(minimum = 0)]
    cursor: Option<i64>,
    /// Appeals in this state only.
    #[param(inline)]
    state: Option<AppealState>,
}

/// Lists appeals, the oldest first.
#[utoipa::path(
    get,
    path = "/api/moderation/appeals",
    operation_id = "list_appeals",
    tag = "appeals",
    security(("access_token" = [])),
    params(ListParameters),
    responses((status = OK, description = "One page", body = Page<Appeal>), NotAModerator, QueryProblems)
)]
pub(super) async fn list(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Query(ListParameters { limit, cursor, state }): Query<ListParameters>,
) -> Result<Json<Page<Appeal>>, ApiError> {
    let size = PAGE_SIZES.of(limit)?;
    let appeals = store.appeals(state, cursor.unwrap_or(0), size.with_next()).await.map_err(Error::from)?;
    Ok(Json(page(size, appeals)))
}

/// Decides about an appeal: with `accepted` the sanction is lifted.
#[utoipa::path(
    post,
    path = "/api/moderation/appeals/{appeal}/decision",
    operation_id = "decide_appeal",
    tag = "appeals",
    security(("access_token" = [])),
    params(("appeal" = AppealId, Path, description = "Appeal id")),
    request_body = DecideAppealRequest,
    responses(
        (status = OK, description = "The appeal", body = Appeal),
        NotAModerator,
        NotThere,
        DoneBefore,
        RequestProblems,
    )
)]
pub(super) async fn decide(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(wake): State<Wake>,
    Path(id): Path<AppealId>,
    Json(DecideAppealRequest { accepted, note }): Json<DecideAppealRequest>,
) -> Result<Json<Appeal>, ApiError> {
    check_text("note", &note, MAX_NOTE_CHARS)?;
    let not_found = || Error::NotFound(format!("appeal {id}"));
    let appeal = store.appeal(id).await.map_err(Error::from)?.ok_or_else(not_found)?;
    let sanction = store.sanction(appeal.sanction).await.map_err(Error::from)?.ok_or_else(not_found)?;
    let at_ms = now_ms();
    let state = if accepted { AppealState::Accepted } else { AppealState::Refused };
    let decision = Decision { by: Some(by), at_ms, note };
    let appeal = Appeal { state, decision: Some(decision.clone()), ..appeal };
    let action = if accepted { "appeal_accepted" } else { "appeal_refused" };
    let mut changes =
        vec![Change::AppealDecided(appeal.clone()), noted(action, id, by, Some(appeal.user), at_ms)];
    // A moderator may have lifted it meanwhile.
    if accepted && sanction.lifted.is_none() {
        let lifted = Sanction { lifted: Some(decision), ..sanction };
        changes.push(noted("sanction_lifted", lifted.id, by, Some(lifted.user), at_ms));
        changes.push(Change::Lifted(lifted));
    }
    store.act(&changes).await.map_err(Error::from)?;
    wake.notify();
    Ok(Json(appeal))
}
