//! `GET /api/moderation/usage`: how much there is.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use contracts::api::TenantUsage;
use kit::{clock::now_ms, error::ApiError, extract::Json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    callers::Moderator,
    problems::{NotAModerator, QueryProblems},
};
use crate::{
    error::Error,
    peers::Peers,
    store::{Counts, ModerationStore},
};

/// Figures are as old as this at most: to count them is to read much of what a large tenant has.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// What was counted last by this process. Cheap to clone.
#[derive(Clone)]
pub struct KeptUsage {
    last: Arc<Mutex<Option<(Instant, TenantUsage)>>>,
    kept_for: Duration,
}

impl KeptUsage {
    /// Returns one that counts again after so long.
    pub fn new(kept_for: Duration) -> Self {
        Self { last: Arc::default(), kept_for }
    }

    /// Returns what was counted lately, or counts. Those who ask meanwhile wait for it.
    async fn get(
        &self,
        count: impl Future<Output = Result<TenantUsage, Error>>,
    ) -> Result<TenantUsage, Error> {
        let mut last = self.last.lock().await;
        if let Some((at, usage)) = *last
            && at.elapsed() < self.kept_for
        {
            return Ok(usage);
        }
        let usage = count.await?;
        *last = Some((Instant::now(), usage));
        Ok(usage)
    }
}

impl Default for KeptUsage {
    fn default() -> Self {
        Self::new(KEPT_FOR)
    }
}

/// Returns how many users there are, and how much of what moderators have to do with, as it was half a minute ago at most.
#[utoipa::path(
    get,
    path = "/api/moderation/usage",
    operation_id = "get_usage",
    tag = "usage",
    security(("access_token" = [])),
    responses((status = OK, description = "The figures", body = TenantUsage), NotAModerator, QueryProblems)
)]
pub(super) async fn get(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(peers): State<Peers>,
    State(kept): State<KeptUsage>,
) -> Result<Json<TenantUsage>, ApiError> {
    Ok(Json(kept.get(count(&*store, &peers)).await?))
}

async fn count(store: &dyn ModerationStore, peers: &Peers) -> Result<TenantUsage, Error> {
    let users = peers.count_users().await?;
    let counts = store.counts(now_ms()).await?;
    let Counts { open_reports, open_appeals, muted_users, banned_users, enforced_rule_sets, caught } = counts;
    Ok(TenantUsage {
        users,
        open_reports,
        open_appeals,
        muted_users,
        banned_users,
        enforced_rule_sets,
        caught,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(users: i64) -> TenantUsage {
        TenantUsage {
            users,
            open_reports: 0,
            open_appeals: 0,
            muted_users: 0,
            banned_users: 0,
            enforced_rule_sets: 0,
            caught: 0,
        }
    }

    #[tokio::test]
    async fn what_was_counted_lately_is_not_counted_again() {
        let (kept, always) = (KeptUsage::default(), KeptUsage::new(Duration::ZERO));
        let refused = async { Err(Error::NotAModerator) };
        assert!(kept.get(refused).await.is_err());
        for (users, expected) in [(1, 1), (2, 1)] {
            assert_eq!(kept.get(async { Ok(usage(users)) }).await.expect("figures"), usage(expected));
            assert_eq!(always.get(async { Ok(usage(users)) }).await.expect("figures"), usage(users));
        }
    }
}
