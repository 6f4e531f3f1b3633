//! From a batch of records to durable rows and the announcements of them. Knows the store, not Kafka.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use contracts::{ChatId, event::DeliveredRecord};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    domain::{self, Contradiction, Entry, Generation, Head, KeyId, KnownKey, Logged, Verdict},
    metrics::{Metrics, Outcome, Step},
    store::{Row, Store, StoreError},
};

/// Look-ups of one batch at once; the store bounds what is really in flight.
const LOOK_UPS: usize = 128;
/// Heads kept in memory by one owner, some 100 bytes each; beyond it those that are stored are forgotten.
const MAX_HEADS: usize = 20_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store contradicts the log")]
    Contradiction(#[from] Contradiction),
}

/// The chats of one partition, for as long as this process owns it.
pub(crate) struct Pipeline<S> {
    generation: Generation,
    store: Arc<S>,
    metrics: Metrics,
    heads: HashMap<ChatId, Tracked>,
}

struct Tracked {
    head: Head,
    /// The store has this head.
    stored: bool,
}

impl<S: Store> Pipeline<S> {
    pub(crate) fn new(generation: Generation, store: Arc<S>, metrics: Metrics) -> Self {
        Self { generation, store, metrics, heads: HashMap::new() }
    }

    /// Stores a batch and returns what is to be announced, in log order.
    ///
    /// After an error nothing has changed here; the same batch may be applied again. With `flush` the heads of
    /// the batches before are written on the way.
    pub(crate) async fn apply(
        &mut self,
        batch: &[Logged],
        flush: bool,
    ) -> Result<Vec<DeliveredRecord>, ApplyError> {
        let started = Instant::now();
        let entries: Vec<&Entry> = batch.iter().filter_map(Logged::entry).collect();
        let due = if flush { self.unstored() } else { Vec::new() };
        let looked_up = tokio::try_join!(self.heads_of(&entries), self.keys_of(&entries), self.put(&due));
        let (mut heads, known, ()) = match looked_up {
            Ok(looked_up) => looked_up,
            Err(error) => return Err(error.into()),
        };
        self.mark_stored(&due);
        self.metrics.step(Step::LookUp, started.elapsed());

        let verdicts = domain::sequence(&self.generation, &mut heads, known, entries.iter().copied())
            .inspect_err(|_| {
                // What is remembered may be what is wrong: the next try reads the heads again.
                self.heads.retain(|_, tracked| !tracked.stored);
            })?;

        let started = Instant::now();
        let rows: Vec<Row<'_>> = entries
            .iter()
            .zip(&verdicts)
            .filter_map(|(entry, verdict)| match *verdict {
                Verdict::Store { seq, stamp } => Some(Row { entry, seq, stamp }),
                Verdict::Announce { .. } | Verdict::Repeated { .. } | Verdict::Conflict => None,
            })
            .collect();
        self.store.append(&self.generation, &rows).await?;
        self.metrics.step(Step::Write, started.elapsed());

        self.remember(heads);
        Ok(self.announcements(batch, &verdicts))
    }

    /// Writes the heads that the store does not have.
    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        let due = self.unstored();
        self.put(&due).await?;
        self.mark_stored(&due);
        Ok(())
    }

    async fn put(&self, due: &[(ChatId, Head)]) -> Result<(), StoreError> {
        if due.is_empty() { Ok(()) } else { self.store.put_heads(due).await }
    }

    async fn heads_of(&self, entries: &[&Entry]) -> Result<HashMap<ChatId, Head>, StoreError> {
        let chats: HashSet<ChatId> = entries.iter().map(|entry| entry.chat).collect();
        let mut reads = Vec::with_capacity(chats.len());
        for chat in chats {
            reads.push(async move {
                match self.heads.get(&chat) {
                    Some(tracked) => Ok((chat, tracked.head.clone())),
                    None => Ok((chat, self.store.head(chat).await?)),
                }
            });
        }
        stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await
    }

    async fn keys_of(&self, entries: &[&Entry]) -> Result<HashMap<KeyId, KnownKey>, StoreError> {
        let ids: HashSet<KeyId> = entries.iter().map(|entry| entry.key_id()).collect();
        let mut reads = Vec::with_capacity(ids.len());
        for id in ids {
            reads.push(async move { Ok::<_, StoreError>((id, self.store.known_key(id).await?)) });
        }
        let found: Vec<_> = stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await?;
        Ok(found.into_iter().filter_map(|(id, known)| Some((id, known?))).collect())
    }

    fn unstored(&self) -> Vec<(ChatId, Head)> {
        let unstored = self.heads.iter().filter(|(_, tracked)| !tracked.stored);
        unstored.map(|(chat, tracked)| (*chat, tracked.head.clone())).collect()
    }

    fn mark_stored(&mut self, written: &[(ChatId, Head)]) {
        for (chat, head) in written {
            if let Some(tracked) = self.heads.get_mut(chat)
                && tracked.head == *head
            {
                tracked.stored = true;
            }
        }
    }

    fn remember(&mut self, heads: HashMap<ChatId, Head>) {
        if self.heads.len() + heads.len() > MAX_HEADS {
            self.heads.retain(|_, tracked| !tracked.stored);
        }
        for (chat, head) in heads {
            match self.heads.get_mut(&chat) {
                Some(tracked) if tracked.head == head => {}
                Some(tracked) => *tracked = Tracked { head, stored: false },
                // A head that was only read may be unchanged; writing it again is harmless.
                None => drop(self.heads.insert(chat, Tracked { head, stored: false })),
            }
        }
    }

    fn announcements(&self, batch: &[Logged], verdicts: &[Verdict]) -> Vec<DeliveredRecord> {
        let mut verdicts = verdicts.iter();
        let answer = |logged: &Logged| match logged {
            Logged::Refused(refused) => {
                self.metrics.count(Outcome::Refused);
                tracing::warn!(
                    offset = refused.offset,
                    reason = refused.reason,
                    answered = refused.answer.is_some(),
                    "refused the record at offset {}: {}",
                    refused.offset,
                    refused.reason
                );
                refused.answer.clone()
            }
            Logged::Entry(entry) => {
                let verdict = *verdicts.next().expect("every entry of a batch has a verdict");
                self.metrics.count(match verdict {
                    Verdict::Store { .. } => Outcome::Stored,
                    Verdict::Announce { .. } => Outcome::AnnouncedAgain,
                    Verdict::Repeated { .. } => Outcome::Repeated,
                    Verdict::Conflict => Outcome::Conflict,
                });
                Some(verdict.announcement(entry))
            }
        };
        batch.iter().filter_map(answer).collect()
    }
}
