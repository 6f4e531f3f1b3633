//! An outage in the log: two lines, one at its start and one at its end, however many calls fail between them.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::tls::explained;

/// Whether something that is used often fails at present.
#[derive(Debug, Default)]
pub struct Outage(AtomicBool);

impl Outage {
    /// Notes a failure; the first of a row is logged as a warning.
    pub fn failed(&self, what: &str, error: &(dyn Error + 'static)) {
        let cause = explained(error);
        if self.0.swap(true, Ordering::Relaxed) {
            tracing::debug!(what, cause, "{what} still fails: {cause}");
        } else {
            tracing::warn!(what, cause, "{what} fails: {cause}");
        }
    }

    /// Notes a success; the first after failures is logged.
    pub fn worked(&self, what: &str) {
        // Successes are the rule: they only read.
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            tracing::info!(what, "{what} works again");
        }
    }

    /// Returns whether the last call failed.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_a_failure_to_a_success() {
        let outage = Outage::default();
        assert!(!outage.is_on());
        outage.failed("the cache", &std::io::Error::other("refused"));
        assert!(outage.is_on());
        outage.worked("the cache");
        assert!(!outage.is_on());
    }
}
