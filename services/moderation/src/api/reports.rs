//! `/api/moderation/reports`: what users report, and what moderators decide about it.

#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::extract::State;
use contracts::{
    ReportId, SanctionId,
    api::{CreateReportRequest, DecideReportRequest, Decision, Page, Problem, Report, ReportState},
};
use kit::{
    clock::now_ms,
    error::{ApiError, InvalidField},
    extract::{Json, Path, Query},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    MAX_NOTE_CHARS, PAGE_SIZES,
    callers::{Moderator, ReportingCaller},
    check_text, noted, page,
    problems::{DoneBefore, NotAModerator, NotThere, QueryProblems, RequestProblems},
    without_name,
};
use crate::{
    carrying_out::Wake,
    domain::{Change, Deletion, check_terms, sanction},
    error::Error,
    metrics::Metrics,
    peers::Peers,
    store::{ModerationStore, Refusal, StoreError},
};

/// Reports a message to the moderators.
///
/// They see it as it is at this moment, also when it is edited or deleted later. The sender does not learn of it. A message that the caller has reported before
/// gives the report that there is.
#[utoipa::path(
    post,
    path = "/api/moderation/reports",
    operation_id = "report_message",
    tag = "reports",
    security(("access_token" = [])),
    request_body = CreateReportRequest,
    responses(
        (status = OK, description = "The report, of this request or of before", body = Report),
        (status = FORBIDDEN, description = "not_a_member", body = Problem, content_type = "application/problem+json"),
        NotThere,
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, or reports of the caller)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn create(
    ReportingCaller(by): ReportingCaller,
    State(store): State<Arc<dyn ModerationStore>>,
    State(peers): State<Peers>,
    State(metrics): State<Metrics>,
    Json(CreateReportRequest { chat, seq, reason, comment }): Json<CreateReportRequest>,
) -> Result<Json<Report>, ApiError> {
    if seq < 1 {
        return Err(InvalidField { field: "seq", problem: "must be 1 or more".to_owned() }.into());
    }
    check_text("comment", comment.as_deref().unwrap_or_default(), MAX_NOTE_CHARS)?;
    // One of before stays when the message is gone, or the caller is out of the chat.
    if let Some(report) = store.report_of(by, chat, seq).await.map_err(Error::from)? {
        let decision = report.decision.clone().map(without_name);
        return Ok(Json(Report { decision, ..report }));
    }
    let seen = peers.message(by, chat, seq).await?;
    let at_ms = now_ms();
    let report = Report {
        id: ReportId::generate(),
        chat,
        seq,
        sender: seen.sender,
        by: Some(by),
        reason: Some(reason),
        comment,
        evidence: seen.evidence,
        state: ReportState::Open,
        created_at_ms: at_ms,
        decision: None,
    };
    let note = noted("report_created", report.id, by, Some(report.sender), at_ms);
    match store.act(&[Change::Reported(report.clone()), note]).await {
        Ok(()) => {
            metrics.reports.inc();
            Ok(Json(report))
        }
        // Another request of the caller was first, in this moment.
        Err(StoreError::Refused(Refusal::Known)) => {
            let known = store.report_of(by, chat, seq).await.map_err(Error::from)?;
            Ok(Json(known.ok_or(Error::Store(Refusal::Known.into()))?))
        }
        Err(error) => Err(Error::from(error).into()),
    }
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
    /// Reports in this state only.
    #[param(inline)]
    state: Option<ReportState>,
}

/// Lists reports, the oldest first.
#[utoipa::path(
    get,
    path = "/api/moderation/reports",
    operation_id = "list_reports",
    tag = "reports",
    security(("access_token" = [])),
    params(ListParameters),
    responses((status = OK, description = "One page", body = Page<Report>), NotAModerator, QueryProblems)
)]
pub(super) async fn list(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Query(ListParameters { limit, cursor, state }): Query<ListParameters>,
) -> Result<Json<Page<Report>>, ApiError> {
    let size = PAGE_SIZES.of(limit)?;
    let reports = store.reports(state, cursor.unwrap_or(0), size.with_next()).await.map_err(Error::from)?;
    Ok(Json(page(size, reports)))
}

/// Decides about a report.
///
/// With `upheld` the message is deleted where `delete` says so, and its sender gets the sanction. A report is decided once.
#[utoipa::path(
    post,
    path = "/api/moderation/reports/{report}/decision",
    operation_id = "decide_report",
    tag = "reports",
    security(("access_token" = [])),
    params(("report" = ReportId, Path, description = "Report id")),
    request_body = DecideReportRequest,
    responses(
        (status = OK, description = "The report", body = Report),
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
    Path(id): Path<ReportId>,
    Json(request): Json<DecideReportRequest>,
) -> Result<Json<Report>, ApiError> {
    let DecideReportRequest { upheld, delete, sanction: terms, note } = request;
    check_text("note", &note, MAX_NOTE_CHARS)?;
    check_terms(terms.as_ref())?;
    let found = store.report(id).await.map_err(Error::from)?;
    let report = found.ok_or_else(|| Error::NotFound(format!("report {id}")))?;
    let (at_ms, user, chat, seq) = (now_ms(), report.sender, report.chat, report.seq);
    let state = if upheld { ReportState::Upheld } else { ReportState::Dismissed };
    let decision = Some(Decision { by: Some(by), at_ms, note: note.clone() });
    let report = Report { state, decision, ..report };
    let action = if upheld { "report_upheld" } else { "report_dismissed" };
    let mut changes = vec![Change::ReportDecided(report.clone()), noted(action, id, by, Some(user), at_ms)];
    if upheld && delete {
        changes.push(Change::Deleted(Deletion { chat, seq }));
        changes.push(noted("message_deleted", format!("{chat}/{seq}"), by, Some(user), at_ms));
    }
    if let Some(terms) = terms.filter(|_| upheld) {
        let id = SanctionId::generate();
        changes.push(Change::Sanctioned(sanction(id, user, chat, &terms, (Some(by), &note), at_ms)));
        changes.push(noted("sanction_created", id, by, Some(user), at_ms));
    }
    store.act(&changes).await.map_err(Error::from)?;
    wake.notify();
    Ok(Json(report))
}
