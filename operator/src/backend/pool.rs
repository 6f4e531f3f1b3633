//! Connections to the backends of all cells, and a circuit breaker for each.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use traces::{Span, SpanKind};

use super::{contract::Backend, error::BackendError, login::Login};
use crate::{locks::lock, tenant::Cell, time_limit::within};

/// How long the circuit of a backend stays open after it did not respond: no tenant's pass waits for it meanwhile.
const BREAK_TIME: Duration = Duration::from_secs(5);

/// A backend of a cell, by the cell's name.
type Key = (String, catalog::Backend);

/// Keeps one administration for each backend of each cell, for as long as the cell, its address and its Secret stay the
/// same.
#[derive(Default)]
pub(crate) struct Pool {
    kept: Mutex<HashMap<Key, Kept>>,
    broken: Mutex<HashMap<Key, Broken>>,
}

/// A backend that did not respond.
struct Broken {
    since: Instant,
    /// Where it was called: another address may respond.
    endpoint: String,
    error: BackendError,
}

struct Kept {
    /// What it was connected with.
    from: String,
    admin: Arc<dyn Any + Send + Sync>,
}

impl Pool {
    /// Returns the administration of a cell's backend.
    pub fn get<B: Backend>(&self, cell: &Cell, login: &Login) -> Arc<B> {
        let from = format!("{} {} {}", cell.uid, B::endpoint(cell), login.version);
        let key = (cell.name.clone(), B::ENTRY);
        let mut kept = lock(&self.kept);
        let known = kept.get(&key).filter(|kept| kept.from == from);
        if let Some(admin) = known.and_then(|kept| kept.admin.clone().downcast().ok()) {
            return admin;
        }
        let admin = Arc::new(B::connect(cell, login.account.clone()));
        kept.insert(key, Kept { from, admin: admin.clone() });
        admin
    }

    /// Calls a cell's backend for at most `limit`. One that did not respond a moment ago is not called. What opens its circuit is
    /// a call of its own that had no answer, and nothing else: a tenant that ran out of time may have waited for others.
    pub async fn call<T>(
        &self,
        cell: &str,
        backend: catalog::Backend,
        endpoint: String,
        limit: Duration,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        if let Some(error) = self.broken(cell, backend, &endpoint) {
            return Err(error);
        }
        let mut span = Span::child(traces::current(), backend.as_str(), SpanKind::Client);
        let call = traces::within(span.parent(), within(limit, call));
        let result = call.await.unwrap_or(Err(BackendError::Busy { backend, limit }));
        if let Err(error) = &result {
            span.fail(error.reason().as_str());
        }
        if let Err(error @ BackendError::Unavailable { .. }) = &result {
            self.break_circuit(cell, backend, endpoint, error);
        }
        result
    }

    /// Returns the error of a backend that did not respond a moment ago.
    fn broken(&self, cell: &str, backend: catalog::Backend, endpoint: &str) -> Option<BackendError> {
        let broken = lock(&self.broken);
        let broken = broken.get(&(cell.to_owned(), backend)).filter(|broken| broken.endpoint == endpoint)?;
        (broken.since.elapsed() < BREAK_TIME).then(|| broken.error.clone())
    }

    /// Notes that a backend did not respond.
    fn break_circuit(&self, cell: &str, backend: catalog::Backend, endpoint: String, error: &BackendError) {
        let broken = Broken { since: Instant::now(), endpoint, error: error.clone() };
        lock(&self.broken).insert((cell.to_owned(), backend), broken);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use catalog::Backend::{Cql, Redis};

    use super::*;
    use crate::{
        backend::{login::Credentials, redis::RedisAdmin},
        rendered::testing::example,
    };

    #[test]
    fn a_connection_is_kept_until_its_cell_its_address_or_its_secret_changes() {
        let pool = Pool::default();
        let login = |version: &str| Login {
            account: Credentials::new("operator", "password"),
            version: version.to_owned(),
        };
        let cell = example("acme.yaml", |_| {}).cell;
        let first: Arc<RedisAdmin> = pool.get(&cell, &login("1"));
        assert!(Arc::ptr_eq(&first, &pool.get(&cell, &login("1"))));
        let moved = Cell { redis_port: cell.redis_port + 1, ..cell.clone() };
        let recreated = Cell { uid: "another".to_owned(), ..cell.clone() };
        for (cell, version) in [(&cell, "2"), (&moved, "1"), (&recreated, "1")] {
            let same: Arc<RedisAdmin> = pool.get(cell, &login(version));
            assert!(!Arc::ptr_eq(&first, &same), "{} {version}", cell.uid);
        }
    }

    #[tokio::test]
    async fn a_call_without_an_answer_opens_the_circuit_and_one_that_waited_for_others_does_not() {
        let (pool, at) = (Pool::default(), || "cql:9042".to_owned());
        let limit = Duration::from_millis(10);
        let late = pool.call("local", Cql, at(), limit, std::future::pending::<Result<(), _>>()).await;
        assert_eq!(late.expect_err("it is late").reason(), crds::Reason::BackendBusy);
        pool.call("local", Cql, at(), limit, async { Ok(()) }).await.expect("it is called");

        let away = || async { Err::<(), _>(BackendError::unavailable(Cql, "cql:9042", "refused")) };
        pool.call("local", Cql, at(), limit, away()).await.expect_err("it is away");
        let called = AtomicBool::new(false);
        let next = async {
            called.store(true, Ordering::Relaxed);
            Ok(())
        };
        let error = pool.call("local", Cql, at(), limit, next).await.expect_err("its circuit is open");
        assert_eq!(error.reason(), crds::Reason::BackendUnavailable);
        assert!(!called.into_inner());

        // Another backend, another cell, and another address of this one are called.
        for (cell, backend, at) in
            [("local", Redis, at()), ("other", Cql, at()), ("local", Cql, "elsewhere:9042".to_owned())]
        {
            pool.call(cell, backend, at, limit, async { Ok(()) }).await.expect("it is called");
        }
    }
}
