//! What a pass and a deletion do with one backend.

use super::{
    change::ChangeKind,
    contract::{Backend, BackendFacts, DataExpected},
    error::BackendError,
    ownership::Claim,
};
use crate::{leader::Fence, metrics::Metrics, mode::Mode};

/// What one pass did to a tenant's part of a backend.
#[derive(Debug)]
pub struct Settled {
    /// What was found out, as it is after the pass.
    pub facts: BackendFacts,
    /// What was done, or in [`Mode::DryRun`] would be.
    pub changes: Vec<(ChangeKind, String)>,
    /// Changes that lose data and were not made.
    pub blocked: Vec<String>,
}

/// Brings a tenant's part of a backend to what is desired. Data that is `expected` and missing is not recreated.
pub async fn settle<B: Backend>(
    backend: &B,
    desired: &B::Desired,
    expected: DataExpected,
    mode: Mode,
    fence: &Fence,
    metrics: &Metrics,
) -> Result<Settled, BackendError> {
    let observed = backend.observe(desired).await?;
    let facts = B::facts(&observed);
    let is_expected = match expected {
        DataExpected::Recorded => true,
        DataExpected::IfInherited => facts.is_inherited,
        DataExpected::No => false,
    };
    if is_expected
        && facts.generation.is_none()
        && let Some(object) = B::data(desired)
    {
        return Err(BackendError::DataLoss { backend: B::ENTRY, object });
    }
    let plan = B::plan(desired, &observed);
    let lines = plan.iter().map(|change| (B::kind(change), change.to_string()));
    let (blocked, changes): (Vec<_>, Vec<_>) = lines.partition(|(kind, _)| *kind == ChangeKind::Blocked);
    let blocked = blocked.into_iter().map(|(_, line)| line).collect();
    if mode == Mode::DryRun || plan.is_empty() {
        return Ok(Settled { facts: B::facts(&observed), changes, blocked });
    }
    let mut failure = None;
    let results = backend.apply_all(desired, &plan, fence).await;
    // Without a failure nothing but the fence ends a plan early.
    let is_cut_short = results.len() < plan.len() && results.iter().all(Result::is_ok);
    for (change, result) in plan.iter().zip(results) {
        match result {
            Ok(()) => metrics.wrote(B::ENTRY.as_str(), "change"),
            Err(BackendError::Refused { .. }) if B::kind(change) == ChangeKind::Blocked => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    if is_cut_short {
        return Err(BackendError::NotLeading { backend: B::ENTRY });
    }
    let observed = backend.observe(desired).await?;
    Ok(Settled { facts: B::facts(&observed), changes, blocked })
}

/// Removes a tenant's part of a backend, or releases it with its data. Returns what was removed.
pub(super) async fn clean_up<B: Backend>(
    backend: &B,
    claim: &Claim,
    policy: crds::DeletionPolicy,
    fence: &Fence,
    metrics: &Metrics,
) -> Result<Vec<String>, BackendError> {
    if fence.check().is_err() {
        return Err(BackendError::NotLeading { backend: B::ENTRY });
    }
    match policy {
        crds::DeletionPolicy::Delete => {
            let removed = backend.remove(claim).await?;
            if !removed.is_empty() {
                metrics.wrote(B::ENTRY.as_str(), "remove");
            }
            Ok(removed)
        }
        crds::DeletionPolicy::Retain => {
            backend.release(claim).await?;
            metrics.wrote(B::ENTRY.as_str(), "release");
            Ok(Vec::new())
        }
    }
}
