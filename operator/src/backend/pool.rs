//! Connections to the backends of all cells, and a circuit breaker for each.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{contract::Backend, error::BackendError, login::Login};
use crate::{locks::lock, tenant::Cell};

/// How long the circuit of a backend stays open after it did not respond: no tenant's pass waits for it meanwhile.
const BREAK_TIME: Duration = Duration::from_secs(5);

/// A backend of a cell, by the cell's name.
type Key = (String, catalog::Backend);

/// Keeps one administration for each backend of each cell, for as long as the cell, its address and its Secret stay the
/// same.
#[derive(Default)]
pub(crate) struct Pool {
    kept: Mutex<HashMap<Key, Kept>>,
    broken: Mutex<HashMap<Key, (Instant, BackendError)>>,
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

    /// Returns the error of a backend that did not respond a moment ago.
    pub fn broken(&self, cell: &str, backend: catalog::Backend) -> Option<BackendError> {
        let broken = lock(&self.broken);
        let (since, error) = broken.get(&(cell.to_owned(), backend))?;
        (since.elapsed() < BREAK_TIME).then(|| error.clone())
    }

    /// Notes that a backend did not respond.
    pub fn break_circuit(&self, cell: &str, backend: catalog::Backend, error: &BackendError) {
        lock(&self.broken).insert((cell.to_owned(), backend), (Instant::now(), error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use catalog::Backend::{Kafka, Redis};

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

    #[test]
    fn a_circuit_breaks_for_one_backend_of_one_cell() {
        let pool = Pool::default();
        pool.break_circuit("local", Kafka, &BackendError::unavailable(Kafka, "kafka:9092", "refused"));
        assert!(pool.broken("local", Kafka).is_some_and(|error| error.is_retryable()));
        assert!(pool.broken("local", Redis).is_none());
        assert!(pool.broken("other", Kafka).is_none());
    }
}
