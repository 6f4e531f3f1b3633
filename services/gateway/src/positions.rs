//! Finds what this gateway did not push. A client sees a gap by the next entry of the chat; after the last one there is none.
//!
//! Now and then the heads that moved are compared with what was announced here. A head that is still ahead a round later is one
//! whose announcement was lost, and the connections of the chat's members receive `lagged`. A quiet chat costs nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    rpc::{MovedRequest, message_service_client::MessageServiceClient},
};
use kit::{backoff::Backoff, rounds, rpc::InternalChannel};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    membership::members::Members,
    metrics::Metrics,
    registry::{Connection, Registry},
};

/// Announcements are remembered for this long: some rounds.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Chats remembered, some 50 bytes each; of more, all are forgotten, and the comparison begins again.
const MAX_REMEMBERED: usize = 100_000;
/// The head of a chat follows an announcement within this time: what is younger may be missing in a sync.
const HEAD_FOLLOWS: Duration = Duration::from_secs(5);
/// Waits after a round that failed.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// What was announced lately.
#[derive(Default)]
pub(crate) struct Positions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    announced: HashMap<ChatId, (i64, Instant)>,
    /// Heads that were ahead in the last round.
    suspects: HashMap<ChatId, i64>,
    /// Where the next round goes on; empty to begin.
    cursor: String,
}

impl Positions {
    /// Notes that an entry was announced to this gateway.
    pub(crate) fn announced(&self, chat: ChatId, seq: i64, now: Instant) {
        let mut state = self.lock();
        if state.announced.len() >= MAX_REMEMBERED {
            *state = State::default();
        }
        let (announced, at) = state.announced.entry(chat).or_insert((seq, now));
        (*announced, *at) = (seq.max(*announced), now);
    }

    /// Sends a connection `lagged` for what was announced so lately that a sync from before may miss it. `has` says how far a chat is on the
    /// page that the client receives.
    pub(crate) fn complete(
        &self,
        members: &Members,
        connection: &Connection,
        user: UserId,
        now: Instant,
        has: impl Fn(ChatId) -> Option<i64>,
    ) {
        let is_late = |at: Instant| now.saturating_duration_since(at) < HEAD_FOLLOWS;
        let late: Vec<(ChatId, i64)> = {
            let state = self.lock();
            let announced = state.announced.iter().filter(|(_, (_, at))| is_late(*at));
            announced.map(|(chat, (seq, _))| (*chat, *seq)).collect()
        };
        for (chat, seq) in late {
            if has(chat).is_none_or(|head| head < seq) && members.size_for(chat, user).is_some() {
                connection.queue.lag(chat, seq);
            }
        }
    }

    /// Sends `lagged` to a user who receives from here on what is delivered to a chat. Some of it may have been announced before, and when
    /// there is nothing yet, no entry tells the user's devices of the chat.
    pub(crate) fn catch_up(&self, registry: &Registry, chat: ChatId, user: UserId) {
        let announced = self.lock().announced.get(&chat).map_or(0, |(seq, _)| *seq);
        registry.for_user(user, |connection| connection.queue.lag(chat, announced));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the heads that moved, and returns those whose announcement was lost.
    fn compare(&self, moved: Vec<(ChatId, i64)>, cursor: String, now: Instant) -> Vec<(ChatId, i64)> {
        let mut state = self.lock();
        let is_behind = |announced: &HashMap<ChatId, (i64, Instant)>, chat: ChatId, head: i64| {
            announced.get(&chat).is_none_or(|(seq, _)| *seq < head)
        };
        let suspects = std::mem::take(&mut state.suspects);
        let lost: Vec<(ChatId, i64)> =
            suspects.into_iter().filter(|(chat, head)| is_behind(&state.announced, *chat, *head)).collect();
        for &(chat, head) in &lost {
            state.announced.insert(chat, (head, now));
        }
        for (chat, head) in moved {
            if is_behind(&state.announced, chat, head) {
                state.suspects.insert(chat, head);
            }
        }
        state.announced.retain(|_, (_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        state.cursor = cursor;
        lost
    }

    fn begin_again(&self) {
        *self.lock() = State::default();
    }
}

/// Compares again and again, until stopped.
pub(crate) async fn keep(
    positions: Arc<Positions>,
    messages: MessageServiceClient<InternalChannel>,
    (registry, members): (Arc<Registry>, Arc<Members>),
    metrics: Metrics,
    every: Duration,
    stop: CancellationToken,
) {
    let round = || async {
        if registry.len() == 0 {
            // Nobody would receive it, and the services may rest.
            positions.begin_again();
            return Ok::<(), Status>(());
        }
        let cursor = positions.lock().cursor.clone();
        let answer = messages.clone().moved(MovedRequest { cursor }).await?.into_inner();
        let moved = answer.heads.iter().filter_map(|head| Some((head.chat_id.parse().ok()?, head.head_seq)));
        for (chat, seq) in positions.compare(moved.collect(), answer.cursor, Instant::now()) {
            metrics.lost_announcements.inc();
            tracing::warn!(%chat, seq, "the announcement of entry {seq} of chat {chat} was lost");
            members.forget_slow_mode(chat);
            members.for_present(chat, |user| {
                registry.for_user(user, |connection| connection.queue.lag(chat, seq));
            });
        }
        Ok(())
    };
    rounds::repeat("comparing positions", every, Backoff::new(BACKOFF), &stop, round).await;
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_head_that_stays_ahead_was_lost() {
        let positions = Positions::default();
        let [told, late, lost] = [1, 2, 3].map(|n| ChatId(Uuid::from_u128(n)));
        let now = Instant::now();
        let compare = |moved: &[(ChatId, i64)]| positions.compare(moved.to_vec(), "next".to_owned(), now);
        positions.announced(told, 5, now);
        assert_eq!(compare(&[(told, 5), (late, 3), (lost, 7)]), []);
        positions.announced(late, 3, now);
        assert_eq!(compare(&[]), [(lost, 7)], "the announcement of the other one was under way");
        assert_eq!(compare(&[(lost, 7)]), [], "once is enough");
        assert_eq!(compare(&[(lost, 8)]), []);
        assert_eq!(compare(&[]), [(lost, 8)]);
    }
}
