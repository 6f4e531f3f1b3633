//! Readiness as a set of named checks. Liveness never looks at them: a restart does not mend a dead backend.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The checks of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<Arc<str>, Option<String>>>>,
}

/// Why a check fails that has not been made yet.
const STARTING: &str = "starting";

/// One named check. It fails until [`Check::ok`] is called.
#[derive(Clone)]
pub struct Check {
    name: Arc<str>,
    health: Health,
}

impl Health {
    /// Adds a check, failing with "starting".
    pub fn check(&self, name: impl Into<Arc<str>>) -> Check {
        let check = Check { name: name.into(), health: self.clone() };
        check.failing(STARTING);
        check
    }

    /// Returns what keeps the process from being ready, by check; empty means ready.
    pub fn failing(&self) -> BTreeMap<String, String> {
        let checks = self.lock();
        checks.iter().filter_map(|(name, why)| Some((name.to_string(), why.clone()?))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Option<String>>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    /// Marks the check as passing.
    pub fn ok(&self) {
        if let Some(why) = self.health.lock().insert(self.name.clone(), None).flatten() {
            tracing::info!(check = &*self.name, was = why, "check {} passes", self.name);
        }
    }

    /// Marks the check as failing. `why` names the thing that is missing, never a secret. The first failure is logged: after the
    /// start, and after the check has passed.
    pub fn failing(&self, why: impl Into<String>) {
        let why = why.into();
        let before = self.health.lock().insert(self.name.clone(), Some(why.clone())).flatten();
        if before.is_none_or(|before| before == STARTING) && why != STARTING {
            tracing::warn!(check = &*self.name, why, "check {} fails", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_check_passes() {
        let health = Health::default();
        let (kafka, cql) = (health.check("kafka"), health.check("cql"));
        assert_eq!(health.failing().len(), 2);
        kafka.ok();
        cql.ok();
        assert!(health.failing().is_empty());
        cql.failing("no connection");
        assert_eq!(health.failing().get("cql").map(String::as_str), Some("no connection"));
    }
}
