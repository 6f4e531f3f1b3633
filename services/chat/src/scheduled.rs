//! Sends messages at their time.
//!
//! Every process looks for messages that are due, when the next one is, and now and then because another process may have taken one. Of
//! those that look at the same time one takes a chat, and the others leave it. While nothing is due, it costs one look at an index.
//!
//! The messages of a member in a chat are sent in order. When one cannot be sent, they wait for it, and for some time no other member does. They
//! are sent at the rate of their user, and so that those who write by hand find room ([why](../../../docs/adr/0052-pace-of-scheduled-messages.md)).

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use contracts::ErrorCode;
use kit::{backoff::Backoff, error::chain, outage::Outage};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::store::{ChatStore, Hindrance, Sent, StoreError};

/// What another process was asked to schedule is noticed so soon when that process ends before its time.
const INTERVAL: Duration = Duration::from_secs(5);
/// A chat that is being changed at the moment is looked at again after this time.
const AGAIN: Duration = Duration::from_millis(100);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(10);
/// Members whose messages are looked at in one round.
const SENDERS: usize = 100;
const WHAT: &str = "sending scheduled messages";

/// Wakes what sends scheduled messages, when the time of one has changed. Cheap to clone.
#[derive(Clone, Default)]
pub struct Alarm(Arc<Notify>);

impl Alarm {
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }
}

/// Sends what is due, until the shutdown.
pub async fn follow(store: Arc<dyn ChatStore>, alarm: Alarm, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(BACKOFF);
    let outage = Outage::default();
    loop {
        let pause = match round(&*store).await {
            Ok(next) => {
                outage.worked(WHAT);
                backoff.reset();
                next
            }
            Err(error) => {
                outage.failed(WHAT, &error);
                backoff.next_wait()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = alarm.0.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Sends what is due, and returns when to look again. When the tenant has no room for more, what is due stays due, the longest first.
pub async fn round(store: &dyn ChatStore) -> Result<Duration, StoreError> {
    let Some(next) = store.until_next().await? else { return Ok(INTERVAL) };
    if !next.is_zero() {
        return Ok(next.min(INTERVAL));
    }
    for (chat_id, user_id) in store.due_senders(SENDERS).await? {
        match store.send_due(chat_id, user_id).await {
            Ok(Sent { changed, resumes_after }) => {
                tracing::debug!(chat = %chat_id, changed, "{changed} scheduled messages of chat {chat_id} were due");
                if let Some(wait) = resumes_after {
                    return Ok(wait.clamp(AGAIN, INTERVAL));
                }
            }
            Err(error) => {
                // Without the database this fails too. What it was too busy for says nothing of a message.
                let is_busy = error.code() == Some(ErrorCode::Unavailable);
                let hindrance = if is_busy { Hindrance::Database } else { Hindrance::Message };
                store.put_off(chat_id, user_id, hindrance).await?;
                let cause = chain(&error);
                tracing::warn!(chat = %chat_id, user = %user_id, cause, "scheduled messages of chat {chat_id} wait: {cause}");
            }
        }
    }
    Ok(AGAIN)
}
