//! Takes from the chat service what `chat.events` did not bring.
//!
//! A record that is lost shows by the number of the next one of its chat, and the last one has none behind it: the topic may have been created
//! again, or cut off before this gateway read it. So every gateway reads now and then what was published lately, which is nothing in a
//! quiet tenant, and compares it with what it knows of its own users.
//!
//! The chat service says whether its list reaches back to where this gateway has read. Where it does not, nothing is known of what was between,
//! and the chats of all users are loaded again. No clock takes part in that, nor how long the process or the list was away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    rpc::{
        ListPublishedRequest, ListPublishedResponse, PublishedPlace, PublishedRecord,
        chat_service_client::ChatServiceClient,
    },
};
use kit::{
    backoff::Backoff,
    rounds,
    rpc::{self, InternalChannel},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{Membership, members::Compared};
use crate::{
    domain::record::{self, News, Place},
    metrics::Metrics,
    registry::Registry,
};

/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits after a round that failed.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// How far this gateway has read.
#[derive(Default)]
struct Reading {
    /// The list was read since the start.
    has_begun: bool,
    /// Where the next round goes on; nothing before the first record is listed. Whatever was published behind it is in no round yet, and what
    /// was before is in the chats of the users, which were loaded later.
    place: Option<PublishedPlace>,
}

/// What a round has read.
struct Round {
    /// In their order.
    records: Vec<(ChatId, UserId, Place)>,
    /// Where what moderators let users write has changed.
    restrictions: Vec<(Option<ChatId>, UserId)>,
    /// Whether nothing was published since the round before that is not among them.
    is_whole: bool,
}

/// Reads again and again, until stopped.
pub(crate) async fn keep(
    membership: Arc<Membership>,
    registry: Arc<Registry>,
    metrics: Metrics,
    every: Duration,
    stop: CancellationToken,
) {
    let reading = tokio::sync::Mutex::new(Reading::default());
    let round = || async {
        let mut reading = reading.lock().await;
        // The first round is for a place before any user is loaded. Then the chat service may rest until there are some.
        if registry.len() == 0 && reading.has_begun {
            return Ok::<(), Status>(());
        }
        let had_place = reading.place.is_some();
        let Round { records, restrictions, is_whole } = read(&membership.chat, &mut reading).await?;
        let mut incomplete = BTreeSet::new();
        if !is_whole {
            incomplete.extend(membership.members.users());
            if had_place {
                tracing::warn!(
                    users = incomplete.len(),
                    "the list of what was published of chats does not reach back to where it was read; loading the chats of all users"
                );
            }
        }
        for (chat, user) in restrictions {
            membership.members.restricted(chat, user);
        }
        for (chat, _, place) in &records {
            membership.members.counted(*chat, *place, Instant::now());
        }
        for ((chat, user), place) in newest(records) {
            if membership.take_published(chat, user, place) == Compared::Lost {
                metrics.lost_memberships.inc();
                tracing::warn!(%chat, version = place.version, "record {} of the members of chat {chat} was lost", place.version);
                if place.role.is_some() {
                    incomplete.insert(user);
                }
            }
        }
        incomplete.into_iter().for_each(|user| membership.load_again(user));
        Ok(())
    };
    rounds::repeat("reading what was published of chats", every, Backoff::new(BACKOFF), &stop, round).await;
}

/// Returns the newest record of each user in a chat.
fn newest(records: Vec<(ChatId, UserId, Place)>) -> BTreeMap<(ChatId, UserId), Place> {
    let mut newest: BTreeMap<(ChatId, UserId), Place> = BTreeMap::new();
    for (chat, user, place) in records {
        let known = newest.entry((chat, user)).or_insert(place);
        if place.version >= known.version {
            *known = place;
        }
    }
    newest
}

/// Reads what is listed, to its end.
async fn read(chat: &ChatServiceClient<InternalChannel>, reading: &mut Reading) -> Result<Round, Status> {
    let mut round = Round { records: Vec::new(), restrictions: Vec::new(), is_whole: true };
    let mut from = reading.place;
    let mut after = from.map_or(0, |place| place.id);
    loop {
        let page = match page(chat.clone(), ListPublishedRequest { after, from }).await {
            Ok(page) => page,
            // A chat service of before, during an update.
            Err(status) if status.code() == Code::Unimplemented => return Ok(round),
            Err(status) => return Err(status),
        };
        let ListPublishedResponse { records, last, more, place, follows } = page;
        for PublishedRecord { key, payload } in records {
            match record::news(Some(key.as_bytes()), Some(payload.as_bytes())) {
                Ok(News::Place(chat, user, place)) => round.records.push((chat, user, place)),
                Ok(News::Restriction(chat, user)) => round.restrictions.push((chat, user)),
                Ok(News::Own(..) | News::Forgotten) => {}
                Err(why) => tracing::warn!(%why, "skipped a record that was published: {why}"),
            }
        }
        after = last;
        // Without a place, nothing is listed, or the chat service is of before and knows none: this gateway has come no further by it.
        if place.is_some() {
            from = place;
            round.is_whole &= follows;
        }
        if !more {
            *reading = Reading { has_begun: true, place: from };
            return Ok(round);
        }
    }
}

async fn page(
    mut chat: ChatServiceClient<InternalChannel>,
    request: ListPublishedRequest,
) -> Result<ListPublishedResponse, Status> {
    rpc::within(CALL_TIMEOUT, chat.list_published(request)).await
}
