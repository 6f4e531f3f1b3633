//! Jobs from the store: each process claims what is due, as many as it has places for.

use std::{sync::Arc, time::Duration};

use contracts::api::NotificationChannel;
use tokio::{sync::Notify, time::sleep};
use tonic::async_trait;

use super::{Carried, Carrier, LOOK_AGAIN, Receipt};
use crate::{
    domain::{Busy, pause_until},
    sending::{LEASE, now},
    store::{NotificationStore, StoreError},
};

/// Claims jobs of one channel.
pub struct Rows {
    store: Arc<dyn NotificationStore>,
    name: NotificationChannel,
    /// There are jobs.
    wake: Arc<Notify>,
    /// Until it is looked for the next ones.
    pause: Duration,
}

impl Rows {
    pub fn new(store: Arc<dyn NotificationStore>, name: NotificationChannel, wake: Arc<Notify>) -> Self {
        Self { store, name, wake, pause: Duration::ZERO }
    }
}

#[async_trait]
impl Carrier for Rows {
    async fn take(&mut self, limit: usize, busy: &Busy) -> Result<Vec<Carried>, StoreError> {
        // Unless it works.
        self.pause = LOOK_AGAIN;
        let now = now();
        let jobs = self.store.claim(self.name, now, now + LEASE, limit, busy).await?;
        let next = if jobs.is_empty() { self.store.next_job(self.name).await? } else { None };
        self.pause = pause_until(next, now);
        Ok(jobs.into_iter().map(|job| Carried { job, receipt: Receipt::default() }).collect())
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.wake.notified() => {}
            () = sleep(self.pause) => {}
        }
    }
}
