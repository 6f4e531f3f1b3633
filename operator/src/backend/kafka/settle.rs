//! Waits until brokers show what was written.
//!
//! They respond from a copy of the controller's metadata. It is a few milliseconds old, on a busy machine more than fifty, so what was
//! just written may not be there yet.

use std::{collections::BTreeSet, time::Duration};

use super::{Acl, KafkaAdmin, KafkaChange, KafkaDesired, change::plan};
use crate::{
    backend::{contract::Backend as _, error::BackendError},
    time_limit,
};

/// Writes are followed by reads until they show them, at most this long.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
const SETTLE_EVERY: Duration = Duration::from_millis(10);

/// What reads should show after a write.
pub(super) enum Expected<'a> {
    Applied(&'a KafkaDesired, Vec<&'a KafkaChange>),
    Removed { user: &'a str },
    Released { user: &'a str, marker: Acl },
}

impl KafkaAdmin {
    /// Waits until reads show what was written. What is not seen in time is no failure: the next pass looks again.
    pub(super) async fn settle(&self, expected: Expected<'_>) {
        let polling = async {
            loop {
                match self.shows(&expected).await {
                    Ok(true) => return,
                    // The old owner's marker may still be all there is to see.
                    Ok(false) | Err(BackendError::Conflict { .. }) => tokio::time::sleep(SETTLE_EVERY).await,
                    Err(_) => return,
                }
            }
        };
        _ = time_limit::within(SETTLE_TIMEOUT, polling).await;
    }

    async fn shows(&self, expected: &Expected<'_>) -> Result<bool, BackendError> {
        match expected {
            Expected::Applied(desired, changes) => {
                if !self.shows_rights(desired, changes).await? {
                    return Ok(false);
                }
                let left = plan(desired, &self.observe(desired).await?);
                Ok(!changes.iter().any(|change| left.contains(change)))
            }
            Expected::Removed { user } => {
                let left = self.find(user).await?;
                let gone = left.acls.is_empty() && left.topics.is_empty() && !left.exists;
                Ok(gone && self.quotas(user).await?.is_empty())
            }
            Expected::Released { user, marker } => {
                Ok(self.acls(user).await? == BTreeSet::from([marker.clone()]))
            }
        }
    }

    /// Rights are looked for themselves, because a plan does not tell whether one that is not desired is there.
    async fn shows_rights(
        &self,
        desired: &KafkaDesired,
        changes: &[&KafkaChange],
    ) -> Result<bool, BackendError> {
        let expected = rights(desired, changes);
        if expected.is_empty() {
            return Ok(true);
        }
        let acls = self.acls(&desired.tenant).await?;
        Ok(expected.iter().all(|(acl, is_granted)| acls.contains(acl) == *is_granted))
    }
}

/// Returns each right that changes grant or revoke, with whether it is there after them.
fn rights(desired: &KafkaDesired, changes: &[&KafkaChange]) -> Vec<(Acl, bool)> {
    let of_change = |change: &&KafkaChange| match change {
        KafkaChange::Grant { acl, .. } => vec![(acl.clone(), true)],
        KafkaChange::Revoke { acl, .. } => vec![(acl.clone(), false)],
        KafkaChange::TakeOwnership { from, .. } => {
            let former = from.as_ref().map(|former| (Acl::marker(&former.marker()), false));
            former.into_iter().chain([(Acl::marker(&desired.owner.marker()), true)]).collect()
        }
        _ => Vec::new(),
    };
    changes.iter().flat_map(of_change).collect()
}
