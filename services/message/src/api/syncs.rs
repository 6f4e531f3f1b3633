//! Sync and marks, for members as the chat service knows them.

use std::collections::HashMap;

use contracts::{
    ChatId, UserId,
    convert::UnreadableField,
    rpc::{self, ListMembershipsRequest},
    wire::Watermarks,
};
use kit::clock::now_ms;
use uuid::Uuid;

use super::{AppState, beginning};
use crate::{
    domain::{Base, Cursor, SeatId},
    error::Error,
    receipts::Shown,
    sync::{CURSOR_LIFETIME, Mark, Marked, Membership, SyncQuery, SyncedChat},
};

impl AppState {
    /// Returns what changed in a user's chats since a cursor, which is empty for none.
    pub(super) async fn sync(
        &self,
        user: UserId,
        cursor: &str,
        limit: usize,
        entries: usize,
    ) -> Result<rpc::SyncResponse, Error> {
        let now_ms = now_ms();
        let cursor = match cursor {
            "" => None,
            text => Some(current(text, user, now_ms).ok_or(Error::CursorExpired)?),
        };
        let seats = self.memberships(user, Vec::new()).await?;
        let memberships = seats.iter().map(membership).collect::<Result<_, _>>()?;
        let query = SyncQuery { user, cursor, limit, entries, now_ms };
        let page = self.syncing.sync(query, memberships).await.map_err(Error::Sync)?;
        // As they are after the heads were read: an older title beside a newer head would stand for good in a client, which has applied
        // the entry that changed it, or counts it as known.
        let on_page: Vec<String> = page.chats.iter().map(|synced| synced.chat.to_string()).collect();
        let described = if on_page.is_empty() { Vec::new() } else { self.memberships(user, on_page).await? };
        let mut named: HashMap<ChatId, rpc::Membership> = described
            .into_iter()
            .map(|of| Ok::<_, UnreadableField>((membership(&of)?.chat, of)))
            .collect::<Result<_, _>>()?;
        let others: Vec<SeatId> = page
            .chats
            .iter()
            .filter_map(|synced| {
                let user = named.get(&synced.chat)?.other_id.parse().ok()?;
                Some(SeatId { chat: synced.chat, user })
            })
            .collect();
        let shown: HashMap<ChatId, Shown> =
            others.iter().map(|seat| seat.chat).zip(self.shown(&others).await).collect();
        let chats = page.chats.into_iter().filter_map(|synced| {
            let membership = named.remove(&synced.chat)?;
            let shown = shown.get(&synced.chat).copied().unwrap_or(Shown::Nothing);
            Some(state(membership, synced, shown))
        });
        let places = page.cursor.base().map(places).unwrap_or_default();
        Ok(rpc::SyncResponse {
            places,
            chats: chats.collect(),
            more: page.cursor.page.is_some(),
            cursor: page.cursor.encode(),
            all_chats: page
                .all_chats
                .map(|all| rpc::ChatIds { chat_ids: all.iter().map(ToString::to_string).collect() }),
            unread: page.unread,
            mentions: page.mentions,
        })
    }

    /// Returns a user's memberships in some chats, or the seats in all of them when none is named.
    async fn memberships(&self, user: UserId, chat_ids: Vec<String>) -> Result<Vec<rpc::Membership>, Error> {
        let seats_only = chat_ids.is_empty();
        let request = ListMembershipsRequest { user_id: user.to_string(), chat_ids, seats_only };
        let answer = self.chats.clone().list_memberships(request).await;
        Ok(answer.map_err(|status| Error::Membership(Box::new(status)))?.into_inner().memberships)
    }

    /// Returns the heads that moved since a cursor of an earlier answer; none without one.
    pub(super) async fn moved(&self, cursor: &str) -> Result<rpc::MovedResponse, Error> {
        // One of before, or of no use any more, is a new beginning.
        let since = Cursor::decode(cursor).ok().and_then(|cursor| cursor.since);
        let (heads, next) = self.syncing.moved(since, now_ms()).await.map_err(Error::Sync)?;
        let places = places(&next);
        let cursor = Cursor { user: UserId(Uuid::nil()), since: Some(next), page: None }.encode();
        let heads =
            heads.into_iter().map(|(chat, head_seq)| rpc::Head { chat_id: chat.to_string(), head_seq });
        Ok(rpc::MovedResponse { cursor, heads: heads.collect(), places })
    }

    /// Moves the marks of a member, and announces it when that changes something.
    pub(super) async fn mark(
        &self,
        seat: SeatId,
        read_seq: i64,
        delivered_seq: i64,
    ) -> Result<Watermarks, Error> {
        let SeatId { chat, user } = seat;
        let (beginning, other) = self.membership(chat, user).await?;
        // One after the other, so that what is announced never goes back. What other replicas do at the same moment, clients tell by
        // the numbers.
        let _turn = self.turns.of(seat).await;
        // What the other user of a direct chat has of these marks is what they are shown, and so it is decided before.
        let shown = match other {
            Some(_) => self.shown(&[seat]).await.first().copied(),
            None => None,
        };
        let other = other.filter(|_| shown != Some(Shown::AsBefore));
        let mark = Mark { seat, read_seq, delivered_seq, now_ms: now_ms() };
        let marked = self.syncing.mark(mark, beginning, other).await;
        match marked.map_err(|source| Error::Mark { chat, source })? {
            Marked::NoEntry => Err(Error::NoEntry { chat, seq: read_seq.max(delivered_seq) }),
            Marked::Before(watermarks) => Ok(watermarks),
            Marked::Moved(watermarks) => {
                let shown = match shown {
                    Some(shown) => shown,
                    None => self.shown(&[seat]).await.first().copied().unwrap_or(Shown::Nothing),
                };
                self.receipts.announce(seat, watermarks, shown);
                Ok(watermarks)
            }
        }
    }
}

fn places(base: &Base) -> HashMap<i32, i64> {
    base.places().iter().map(|(partition, place)| (*partition, *place)).collect()
}

/// Reads the cursor of a user, unless it is too old.
fn current(text: &str, user: UserId, now_ms: i64) -> Option<Cursor> {
    let cursor = Cursor::decode(text).ok()?;
    let lifetime = i64::try_from(CURSOR_LIFETIME.as_millis()).unwrap_or(i64::MAX);
    let oldest = now_ms.saturating_sub(lifetime);
    let is_young = |at_ms: i64| at_ms >= oldest;
    let is_current = cursor.user == user
        && cursor.since.as_ref().is_none_or(|since| is_young(since.at_ms))
        && cursor.page.as_ref().is_none_or(|(next, _)| is_young(next.at_ms));
    is_current.then_some(cursor)
}

fn membership(of: &rpc::Membership) -> Result<Membership, UnreadableField> {
    let chat = of.chat_id.parse().map_err(|_| UnreadableField("chat_id"))?;
    let beginning = beginning(chat, of.reads_from.clone())?;
    let own_changed_at_ms = of.own.as_ref().map_or(0, |own| own.changed_at_ms);
    Ok(Membership { chat, beginning, joined_at_ms: of.joined_at_ms, own_changed_at_ms })
}

fn state(membership: rpc::Membership, synced: SyncedChat, shown: Shown) -> rpc::ChatState {
    let SyncedChat { head_seq, from_seq, watermarks, entries, limited, .. } = synced;
    let (other_read_seq, other_delivered_seq) =
        shown.of_other(synced.other_read_seq, synced.other_delivered_seq);
    rpc::ChatState {
        membership: Some(membership),
        head_seq,
        from_seq,
        watermarks: Some(watermarks.into()),
        other_read_seq,
        other_delivered_seq,
        entries: entries.into_iter().map(Into::into).collect(),
        limited,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::domain::Generation;

    #[test]
    fn a_cursor_of_another_user_or_an_old_one_does_not_count() {
        let user = UserId(Uuid::from_u128(1));
        let lifetime = i64::try_from(CURSOR_LIFETIME.as_millis()).expect("small");
        let base = Base::new(1_000, &Generation::new("g1"), 0, BTreeMap::new());
        let text = Cursor { user, since: Some(base), page: None }.encode();
        assert!(current(&text, user, 1_000 + lifetime).is_some());
        assert!(current(&text, user, 1_001 + lifetime).is_none(), "too old");
        assert!(current(&text, UserId(Uuid::from_u128(2)), 1_000).is_none(), "another user's");
        assert!(current("nonsense", user, 1_000).is_none());
    }
}
