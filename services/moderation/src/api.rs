//! REST: what moderators do, and what users report and appeal.

mod appeals;
mod audit;
mod callers;
mod moderators;
mod problems;
mod reports;
mod rule_sets;
mod sanctions;
mod usage;
mod users;

use std::sync::Arc;

use axum::extract::FromRef;
use contracts::{
    UserId,
    api::{Decision, Page},
};
use kit::{
    docs::{self, OpenApiRouter, routes},
    error::InvalidField,
    page::{PageSize, PageSizes},
};

pub use self::{
    callers::{Moderators, Pace, SessionPace},
    usage::KeptUsage,
};
use crate::{
    carrying_out::Wake,
    domain::{Audit, Change},
    metrics::Metrics,
    peers::Peers,
    shadowing::Shadows,
    store::ModerationStore,
};

const PAGE_SIZES: PageSizes = PageSizes { default: 50, max: 100 };
/// Longest note of a moderator, and comment of a user, in characters.
const MAX_NOTE_CHARS: usize = 1_000;

/// What a request handler holds.
#[derive(Clone, FromRef)]
pub struct AppState {
    pub store: Arc<dyn ModerationStore>,
    pub moderators: Moderators,
    pub pace: Pace,
    pub session_pace: SessionPace,
    pub peers: Peers,
    pub shadows: Shadows,
    pub usage: KeptUsage,
    pub metrics: Metrics,
    /// Notified of what is to be carried out.
    pub wake: Wake,
    pub has_classifier: HasClassifier,
}

/// Whether the tenant has a classifier, which rules may name labels of.
#[derive(Clone, Copy, Debug)]
pub struct HasClassifier(pub bool);

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    docs::router()
        .routes(routes!(rule_sets::create, rule_sets::list))
        .routes(routes!(rule_sets::get, rule_sets::remove))
        .routes(routes!(rule_sets::enforce))
        .routes(routes!(rule_sets::retire))
        .routes(routes!(rule_sets::figures))
        .routes(routes!(rule_sets::begin_shadow, rule_sets::get_shadow))
        .routes(routes!(reports::create, reports::list))
        .routes(routes!(reports::decide))
        .routes(routes!(sanctions::create, sanctions::list))
        .routes(routes!(sanctions::lift))
        .routes(routes!(appeals::create, appeals::list))
        .routes(routes!(appeals::decide))
        .routes(routes!(appeals::own))
        .routes(routes!(audit::list))
        .routes(routes!(users::list_sessions))
        .routes(routes!(users::end_session))
        .routes(routes!(moderators::list))
        .routes(routes!(usage::get))
        .with_state(state)
}

/// Returns a page of items that were read with their places, one more than it has.
fn page<T>(size: PageSize, items: Vec<(i64, T)>) -> Page<T> {
    let Page { items, next_cursor }: Page<(i64, T)> = size.page(items, |(place, _)| place.to_string());
    Page { items: items.into_iter().map(|(_, item)| item).collect(), next_cursor }
}

/// Returns a decision as one sees it who is no moderator.
fn without_name(decision: Decision) -> Decision {
    Decision { by: None, ..decision }
}

/// Refuses a text that is too long.
fn check_text(field: &'static str, text: &str, max_chars: usize) -> Result<(), InvalidField> {
    if text.chars().count() > max_chars {
        return Err(InvalidField { field, problem: format!("must have at most {max_chars} characters") });
    }
    Ok(())
}

/// Returns an entry of the audit log about what a user does.
fn noted(
    action: &'static str,
    subject: impl ToString,
    by: UserId,
    user: Option<UserId>,
    at_ms: i64,
) -> Change {
    Change::Noted(Audit { at_ms, by: Some(by), action, subject: subject.to_string(), user })
}
