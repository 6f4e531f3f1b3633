//! The time of day, for what is stored or shown. Durations are measured with `Instant`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: callers pass the time on to rules that read no clock"
)]
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
