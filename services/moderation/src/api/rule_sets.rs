//! `/api/moderation/rule-sets`: rules, what they would do, and what they do.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use contracts::{
    RuleSetId,
    api::{
        CreateRuleSetRequest, Figures, Page, Problem, Rule, RuleSet, RuleSetState, ShadowRequest, ShadowRun,
    },
};
use kit::{
    clock::now_ms,
    error::{ApiError, InvalidField},
    extract::{Json, Path},
    idempotency::IdempotencyKey,
};
use tokio::task::spawn_blocking;

use super::{
    HasClassifier,
    callers::Moderator,
    noted,
    problems::{DoneBefore, NotAModerator, NotThere, QueryProblems, RequestProblems},
};
use crate::{
    DAY_MS,
    domain::{Change, asks, check, derived_id, fit_together},
    error::Error,
    shadowing::Shadows,
    store::{ModerationStore, Refusal, StoreError},
};

/// Rule sets of a tenant.
const MAX_RULE_SETS: usize = 100;
const ANY_STATE: [RuleSetState; 3] = [RuleSetState::Draft, RuleSetState::Enforced, RuleSetState::Retired];
/// Of them, those that are enforced: every message is judged by each.
const MAX_ENFORCED: usize = 10;
/// A set is in force, or no more, from so long after the request: what is judged by it then was read from the log after it was written.
const IN_FORCE_AFTER_MS: i64 = 5_000;
/// A set that is retired may be removed so long after: what was sent before is judged by then.
const REMOVED_AFTER_MS: i64 = DAY_MS;
/// Days of a shadow run.
const MAX_DAYS: u32 = 90;

async fn found(store: &dyn ModerationStore, id: RuleSetId) -> Result<RuleSet, Error> {
    store.rule_set(id).await?.ok_or_else(|| Error::NotFound(format!("rule set {id}")))
}

/// Creates a rule set, as a draft.
///
/// It catches nothing until it is enforced. A set never changes: other rules are another set.
#[utoipa::path(
    post,
    path = "/api/moderation/rule-sets",
    operation_id = "create_rule_set",
    tag = "rule sets",
    security(("access_token" = [])),
    params(
        ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
            description = "1 to 128 visible ASCII characters, chosen once for a rule set and repeated with every retry")
    ),
    request_body = CreateRuleSetRequest,
    responses(
        (status = CREATED, description = "The rule set", body = RuleSet),
        (status = OK, description = "The rule set that was created with this idempotency-key", body = RuleSet),
        (status = UNPROCESSABLE_ENTITY, description = "idempotency_conflict (the idempotency-key was used for another rule set)",
            body = Problem, content_type = "application/problem+json"),
        NotAModerator,
        DoneBefore,
        RequestProblems,
    )
)]
pub(super) async fn create(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    key: Option<IdempotencyKey>,
    Json(CreateRuleSetRequest { name, rules }): Json<CreateRuleSetRequest>,
) -> Result<(StatusCode, Json<RuleSet>), ApiError> {
    check(&name, &rules)?;
    let derived = |key: &IdempotencyKey| derived_id(&format!("rule-set/{by}/{}", key.as_str()));
    let id = key.as_ref().map_or_else(RuleSetId::generate, |key| RuleSetId(derived(key)));
    if key.is_some()
        && let Some(found) = store.rule_set(id).await.map_err(Error::from)?
    {
        return repeated(found, &name, &rules);
    }
    if store.rule_sets(&ANY_STATE).await.map_err(Error::from)?.len() >= MAX_RULE_SETS {
        return Err(Error::TooManyRuleSets(MAX_RULE_SETS).into());
    }
    let at_ms = now_ms();
    let set = RuleSet {
        id,
        name,
        rules,
        state: RuleSetState::Draft,
        created_by: by,
        created_at_ms: at_ms,
        enforced_from_ms: None,
        retired_from_ms: None,
    };
    let changes = [Change::RuleSetCreated(set.clone()), noted("rule_set_created", set.id, by, None, at_ms)];
    match store.act(&changes).await {
        Ok(()) => Ok((StatusCode::CREATED, Json(set))),
        // Another request with the key was first, in this moment.
        Err(StoreError::Refused(Refusal::Known)) => {
            repeated(found(&*store, id).await?, &set.name, &set.rules)
        }
        Err(error) => Err(Error::from(error).into()),
    }
}

/// Returns the rule set that an idempotency-key has created, when the request is the same in all that it says.
fn repeated(found: RuleSet, name: &str, rules: &[Rule]) -> Result<(StatusCode, Json<RuleSet>), ApiError> {
    let is_same = found.name == name && found.rules == rules;
    if is_same { Ok((StatusCode::OK, Json(found))) } else { Err(Error::KeyReused.into()) }
}

/// Lists all rule sets, the oldest first.
#[utoipa::path(
    get,
    path = "/api/moderation/rule-sets",
    operation_id = "list_rule_sets",
    tag = "rule sets",
    security(("access_token" = [])),
    responses((status = OK, description = "All of them", body = Page<RuleSet>), NotAModerator, QueryProblems)
)]
pub(super) async fn list(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
) -> Result<Json<Page<RuleSet>>, ApiError> {
    let items = store.rule_sets(&ANY_STATE).await.map_err(Error::from)?;
    Ok(Json(Page { items, next_cursor: None }))
}

/// Returns a rule set.
#[utoipa::path(
    get,
    path = "/api/moderation/rule-sets/{rule_set}",
    operation_id = "get_rule_set",
    tag = "rule sets",
    security(("access_token" = [])),
    params(("rule_set" = RuleSetId, Path, description = "Rule set id")),
    responses((status = OK, description = "The rule set", body = RuleSet), NotAModerator, NotThere, QueryProblems)
)]
pub(super) async fn get(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Path(id): Path<RuleSetId>,
) -> Result<Json<RuleSet>, ApiError> {
    Ok(Json(found(&*store, id).await?))
}

/// Removes a rule set that is not in force.
///
/// It is a draft, or was retired a day ago or more: until then it judges what was sent before. Its figures and its shadow run go with it, and what it did stays.
#[utoipa::path(
    delete,
    path = "/api/moderation/rule-sets/{rule_set}",
    operation_id = "remove_rule_set",
    tag = "rule sets",
    security(("access_token" = [])),
    params(("rule_set" = RuleSetId, Path, description = "Rule set id")),
    responses(
        (status = NO_CONTENT, description = "There is no such rule set any more"),
        NotAModerator,
        NotThere,
        DoneBefore,
        QueryProblems,
    )
)]
pub(super) async fn remove(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Path(id): Path<RuleSetId>,
) -> Result<StatusCode, ApiError> {
    found(&*store, id).await?;
    let at_ms = now_ms();
    let removed = Change::RuleSetRemoved { id, retired_before_ms: at_ms - REMOVED_AFTER_MS };
    store.act(&[removed, noted("rule_set_removed", id, by, None, at_ms)]).await.map_err(Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Enforces a draft.
///
/// It judges what is sent from `enforced_from_ms` on, some seconds after the request. At most 10 sets are enforced, with 100 patterns that are not too
/// large together. The patterns of a set that was retired count for a day: until then it judges what was sent before. A set with a rule that names a label
/// of a classifier is `not_configured` where the messenger has none.
#[utoipa::path(
    post,
    path = "/api/moderation/rule-sets/{rule_set}/enforce",
    operation_id = "enforce_rule_set",
    tag = "rule sets",
    security(("access_token" = [])),
    params(("rule_set" = RuleSetId, Path, description = "Rule set id")),
    responses(
        (status = OK, description = "The rule set", body = RuleSet),
        NotAModerator,
        (status = NOT_FOUND, description = "not_found, not_configured (a rule names a label of a classifier, and the messenger has none)",
            body = Problem, content_type = "application/problem+json"),
        DoneBefore,
        QueryProblems,
    )
)]
pub(super) async fn enforce(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(HasClassifier(has_classifier)): State<HasClassifier>,
    Path(id): Path<RuleSetId>,
) -> Result<Json<RuleSet>, ApiError> {
    let set = found(&*store, id).await?;
    if asks(&set) && !has_classifier {
        return Err(Error::NoClassifier.into());
    }
    // What was retired lately judges what is read late.
    let retired_after_ms = now_ms() - REMOVED_AFTER_MS;
    let mut counted = store.rule_sets_from(retired_after_ms).await.map_err(Error::from)?;
    if counted.iter().filter(|set| set.state == RuleSetState::Enforced).count() >= MAX_ENFORCED {
        return Err(Error::TooManyEnforced(MAX_ENFORCED).into());
    }
    let among = counted.iter().map(|set| set.id).collect();
    if set.state == RuleSetState::Draft {
        counted.push(set.clone());
        let fit = spawn_blocking(move || fit_together(&counted)).await.map_err(Error::Check)?;
        if !fit {
            return Err(Error::TooLargeTogether.into());
        }
    }
    let at_ms = now_ms();
    let enforced_from_ms = Some(at_ms + IN_FORCE_AFTER_MS);
    let set = RuleSet { state: RuleSetState::Enforced, enforced_from_ms, ..set };
    let changes = [
        Change::RuleSetsCounted { among, retired_after_ms },
        Change::RuleSetEnforced(set.clone()),
        noted("rule_set_enforced", id, by, None, at_ms),
    ];
    store.act(&changes).await.map_err(Error::from)?;
    Ok(Json(set))
}

/// Takes a rule set out of force.
///
/// What is sent from `retired_from_ms` on is not judged by it. What it did stays.
#[utoipa::path(
    post,
    path = "/api/moderation/rule-sets/{rule_set}/retire",
    operation_id = "retire_rule_set",
    tag = "rule sets",
    security(("access_token" = [])),
    params(("rule_set" = RuleSetId, Path, description = "Rule set id")),
    responses(
        (status = OK, description = "The rule set", body = RuleSet),
        NotAModerator,
        NotThere,
        DoneBefore,
        QueryProblems,
    )
)]
pub(super) async fn retire(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Path(id): Path<RuleSetId>,
) -> Result<Json<RuleSet>, ApiError> {
    let set = found(&*store, id).await?;
    let at_ms = now_ms();
    let retired_from_ms = Some(at_ms + IN_FORCE_AFTER_MS);
    let set = RuleSet { state: RuleSetState::Retired, retired_from_ms, ..set };
    let changes = [Change::RuleSetRetired(set.clone()), noted("rule_set_retired", id, by, None, at_ms)];
    store.act(&changes).await.map_err(Error::from)?;
    Ok(Json(set))
}

/// Returns what a rule set did in the last 90 days.
#[utoipa::path(
    get,
    path = "/api/moderation/rule-sets/{rule_set}/figures",
    operation_id = "get_rule_set_figures",
    tag = "rule sets",
    security(("access_token" = [])),
    params(("rule_set" = RuleSetId, Path, description = "Rule set id")),
    responses((status = OK, description = "The figures", body = Figures), NotAModerator, NotThere, QueryProblems)
)]
pub(super) async fn figures(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Path(id): Path<RuleSetId>,
) -> Result<Json<Figures>, ApiError> {
    found(&*store, id).await?;
    Ok(Json(store.figures(id).await.map_err(Error::from)?))
}

/// Begins a shadow run: what the rule set would have done with what was sent in the last days.
///
/// It reads the log as enforcement does, decides with the same function, and does nothing. The log is kept for some days only; `from_ms` of the
/// result says how far it reached back. A process has one run at a time.
#[utoipa::path(
    post,
    path = "/api/moderation/rule-sets/{rule_set}/shadow",
    operation_id = "begin_shadow_run",
    tag = "rule sets",
    security(("access_token" = [])),
    params(("rule_set" = RuleSetId, Path, description = "Rule set id")),
    request_body = ShadowRequest,
    responses(
        (status = ACCEPTED, description = "The run, which takes the place of the last one", body = ShadowRun),
        NotAModerator,
        NotThere,
        DoneBefore,
        RequestProblems,
    )
)]
pub(super) async fn begin_shadow(
    Moderator(by): Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(shadows): State<Shadows>,
    Path(id): Path<RuleSetId>,
    Json(ShadowRequest { days }): Json<ShadowRequest>,
) -> Result<(StatusCode, Json<ShadowRun>), ApiError> {
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(InvalidField { field: "days", problem: format!("must be 1 to {MAX_DAYS}") }.into());
    }
    let set = found(&*store, id).await?;
    let run = shadows.begin(&set, days, by).await?;
    Ok((StatusCode::ACCEPTED, Json(run)))
}

/// Returns the last shadow run of a rule set.
#[utoipa::path(
    get,
    path = "/api/moderation/rule-sets/{rule_set}/shadow",
    operation_id = "get_shadow_run",
    tag = "rule sets",
    security(("access_token" = [])),
    params(("rule_set" = RuleSetId, Path, description = "Rule set id")),
    responses((status = OK, description = "The run", body = ShadowRun), NotAModerator, NotThere, QueryProblems)
)]
pub(super) async fn get_shadow(
    _: Moderator,
    State(shadows): State<Shadows>,
    Path(id): Path<RuleSetId>,
) -> Result<Json<ShadowRun>, ApiError> {
    let run = shadows.last(id).await?;
    Ok(Json(run.ok_or_else(|| Error::NotFound(format!("a shadow run of rule set {id}")))?))
}
