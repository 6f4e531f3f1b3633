//! Heads of chats, kept in memory for as long as they are known to be right.
//!
//! A user may be in thousands of chats, and a read of each head would be most of a sync. The owners of partitions note which
//! chats they moved the heads of, so a replica that read a head once reads it again only when it is among them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::ChatId;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    domain::Generation,
    store::{Partition, PlacedHead, Result, Store, StoreError},
};

/// Heads read concurrently for one call; the store bounds what is really in flight.
const HEADS_AT_ONCE: usize = 128;
/// Heads kept in memory, some 150 bytes each; beyond it all are forgotten.
const MAX_KEPT: usize = 200_000;
/// What was not brought up to date for so long is forgotten: the store keeps what moved for a day.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Partitions that something is stored of for the first time are noticed within this time.
const PARTITIONS_EVERY: Duration = Duration::from_secs(60);
/// So is what more records than this have passed: to read the heads again is cheaper.
const MAX_BEHIND: i64 = 500_000;

/// For each partition, the first offset whose effects may be missing.
pub(super) type Places = BTreeMap<Partition, i64>;

/// Heads that were read before.
#[derive(Default)]
pub(super) struct Heads {
    kept: Mutex<Kept>,
    /// Held while the places are moved: two that did so at once could set an older one.
    moving: AsyncMutex<()>,
}

#[derive(Default)]
struct Kept {
    /// The partitions that chats are known to be in.
    partitions: BTreeMap<Partition, Known>,
    /// When the store was asked for the partitions.
    partitions_at: Option<Instant>,
    heads: HashMap<ChatId, PlacedHead>,
}

/// Up to where the heads of a partition are right.
#[derive(Clone, Copy)]
struct Known {
    place: i64,
    /// Counts how often the place was moved: a head that was read meanwhile may be older than the new place.
    version: u64,
    at: Instant,
}

impl Heads {
    /// Returns the heads of chats, and how far the log of each partition was applied at a moment before they were read.
    pub(super) async fn of<S: Store>(
        &self,
        store: &S,
        generation: &Generation,
        chats: &[ChatId],
    ) -> Result<(HashMap<ChatId, PlacedHead>, Places)> {
        loop {
            self.bring_up_to_date(store, generation).await?;
            let (mut heads, versions, places) = self.known(chats);
            let missing = chats.iter().copied().filter(|chat| !heads.contains_key(chat)).collect::<Vec<_>>();
            let read = stream::iter(missing)
                .map(|chat| async move { Ok::<_, StoreError>((chat, store.placed_head(chat).await?)) })
                .buffer_unordered(HEADS_AT_ONCE)
                .try_collect::<Vec<_>>()
                .await?;
            let is_known = |partition: &Partition| versions.contains_key(partition);
            let strange: Vec<_> = read
                .iter()
                .filter_map(|(_, placed)| placed.partition.filter(|partition| !is_known(partition)))
                .collect();
            if strange.is_empty() {
                self.keep(&read, &versions);
                heads.extend(read);
                return Ok((heads, places));
            }
            // Their places have to be known before the heads are read.
            self.note(strange);
        }
    }

    /// Returns the chats whose heads moved since some places, with the heads, and the places of now.
    pub(super) async fn moved<S: Store>(
        &self,
        store: &S,
        generation: &Generation,
        since: &BTreeMap<i32, i64>,
    ) -> Result<(Vec<(ChatId, PlacedHead)>, Places)> {
        self.bring_up_to_date(store, generation).await?;
        let (_, _, places) = self.known(&[]);
        let mut chats = HashSet::new();
        for (partition, place) in &places {
            // Of a partition that was not there, and one that went too far, nothing is said.
            let Some(before) = since.get(&partition.0) else { continue };
            if before < place && place - before < MAX_BEHIND {
                chats.extend(store.moved(generation, *partition, *before, *place).await?);
            }
        }
        let chats: Vec<ChatId> = chats.into_iter().collect();
        let (heads, _) = self.of(store, generation, &chats).await?;
        Ok((heads.into_iter().collect(), places))
    }

    /// Forgets the heads that were moved since the places were read last, and reads the places.
    async fn bring_up_to_date<S: Store>(&self, store: &S, generation: &Generation) -> Result<()> {
        let _moving = self.moving.lock().await;
        let asked = self.lock().partitions_at;
        if asked.is_none_or(|at| at.elapsed() > PARTITIONS_EVERY) {
            let partitions = store.partitions(generation).await?;
            self.note(partitions);
            self.lock().partitions_at = Some(Instant::now());
        }
        let before: Vec<_> =
            self.lock().partitions.iter().map(|(partition, known)| (*partition, *known)).collect();
        let now = Instant::now();
        let moved = stream::iter(before)
            .map(|(partition, known)| async move {
                let place = store.next_offset(generation, partition).await?.unwrap_or_default();
                let is_fresh = now.saturating_duration_since(known.at) < MAX_AGE;
                let moved = if place == known.place {
                    Some(HashSet::new())
                } else if is_fresh && place - known.place < MAX_BEHIND {
                    Some(store.moved(generation, partition, known.place, place).await?)
                } else {
                    None
                };
                Ok::<_, StoreError>((partition, place, moved))
            })
            .buffer_unordered(HEADS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let mut kept = self.lock();
        for (partition, place, moved) in moved {
            match moved {
                Some(moved) => moved.iter().for_each(|chat| drop(kept.heads.remove(chat))),
                None => kept.heads.retain(|_, placed| placed.partition != Some(partition)),
            }
            if let Some(known) = kept.partitions.get_mut(&partition) {
                if known.place != place {
                    known.version += 1;
                }
                known.place = place;
                known.at = now;
            }
        }
        Ok(())
    }

    fn known(&self, chats: &[ChatId]) -> (HashMap<ChatId, PlacedHead>, HashMap<Partition, u64>, Places) {
        let kept = self.lock();
        let heads = chats.iter().filter_map(|chat| Some((*chat, kept.heads.get(chat)?.clone())));
        let versions = kept.partitions.iter().map(|(partition, known)| (*partition, known.version));
        let places = kept.partitions.iter().map(|(partition, known)| (*partition, known.place));
        (heads.collect(), versions.collect(), places.collect())
    }

    /// Keeps heads that were read while the places were at these versions.
    fn keep(&self, read: &[(ChatId, PlacedHead)], versions: &HashMap<Partition, u64>) {
        let mut kept = self.lock();
        if kept.heads.len() + read.len() > MAX_KEPT {
            kept.heads.clear();
        }
        for (chat, placed) in read {
            // A chat without a head is in no partition that would say that it moved.
            let Some(partition) = placed.partition else { continue };
            let version = kept.partitions.get(&partition).map(|known| known.version);
            if version == versions.get(&partition).copied() {
                kept.heads.insert(*chat, placed.clone());
            }
        }
    }

    fn note(&self, partitions: Vec<Partition>) {
        let mut kept = self.lock();
        for partition in partitions {
            let new = Known { place: 0, version: 0, at: Instant::now() };
            kept.partitions.entry(partition).or_insert(new);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
