//! The receipt of an erasure: what of an account is gone, and when. It names no user.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use contracts::api::{ErasedPart, ErasurePart, ErasureReceipt, ErasureState};

/// How long a receipt is shown.
pub const RECEIPT_DAYS: i64 = 90;
/// How long the cache remembers when a user was last seen, which no user is shown of a deleted account.
const LAST_SEEN_DAYS: i64 = 30;

/// The SHA-256 of a receipt, which is kept in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiptHash(pub [u8; 32]);

/// How far an erasure has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub began_at: DateTime<Utc>,
    /// When the realm had no such account any more.
    pub account_at: Option<DateTime<Utc>>,
    /// When nothing could bring the account into a chat any more.
    pub chats_at: Option<DateTime<Utc>>,
    pub chats_left: i64,
    pub blocks_lifted: i64,
}

/// What the chat service has done for a deleted account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatsErased {
    /// Since it said so last.
    pub left: i64,
    pub blocks_lifted: i64,
    /// No request that began before the deletion can bring the account into a chat any more.
    pub is_settled: bool,
}

impl Erasure {
    /// Returns one that has just begun.
    pub fn begun(began_at: DateTime<Utc>) -> Self {
        Self { began_at, account_at: None, chats_at: None, chats_left: 0, blocks_lifted: 0 }
    }

    /// Keeps the days of its times, by UTC. To the moment they would name the user of a deletion at that moment.
    pub fn forget_time(&mut self) {
        self.began_at = day(self.began_at);
        self.account_at = self.account_at.map(day);
        self.chats_at = self.chats_at.map(day);
    }

    /// Returns what the user is shown. The profile is erased in the transaction that begins it.
    pub fn receipt(&self) -> ErasureReceipt {
        let part = |part, at: Option<DateTime<Utc>>, count| ErasurePart {
            part,
            state: if at.is_some() { ErasureState::Erased } else { ErasureState::Pending },
            at_ms: at.map(|at| at.timestamp_millis()),
            count,
        };
        let last_seen = ErasurePart {
            state: ErasureState::Expires,
            ..part(ErasedPart::LastSeen, Some(self.began_at + TimeDelta::days(LAST_SEEN_DAYS)), None)
        };
        let messages = ErasurePart { state: ErasureState::Kept, ..part(ErasedPart::Messages, None, None) };
        ErasureReceipt {
            began_at_ms: self.began_at.timestamp_millis(),
            finished_at_ms: self.account_at.zip(self.chats_at).map(|(a, b)| a.max(b).timestamp_millis()),
            shown_until_ms: (self.began_at + TimeDelta::days(RECEIPT_DAYS)).timestamp_millis(),
            parts: vec![
                part(ErasedPart::Profile, Some(self.began_at), None),
                part(ErasedPart::Account, self.account_at, None),
                part(ErasedPart::Sessions, self.account_at, None),
                part(ErasedPart::Chats, self.chats_at, Some(self.chats_left)),
                part(ErasedPart::Blocks, self.chats_at, Some(self.blocks_lifted)),
                last_seen,
                messages,
            ],
        }
    }
}

/// Returns the beginning of a day.
fn day(at: DateTime<Utc>) -> DateTime<Utc> {
    at.date_naive().and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_finished_with_its_last_part() {
        let at = |second| DateTime::from_timestamp(second, 0).expect("a moment");
        let mut erasure = Erasure::begun(at(1_000));
        let states = |erasure: &Erasure| {
            erasure.receipt().parts.iter().map(|part| (part.part, part.state, part.at_ms)).collect::<Vec<_>>()
        };
        assert_eq!(erasure.receipt().finished_at_ms, None);
        assert_eq!(states(&erasure)[0], (ErasedPart::Profile, ErasureState::Erased, Some(1_000_000)));
        assert_eq!(states(&erasure)[1], (ErasedPart::Account, ErasureState::Pending, None));
        erasure.account_at = Some(at(1_001));
        assert_eq!(erasure.receipt().finished_at_ms, None);
        erasure.chats_at = Some(at(1_060));
        assert_eq!(erasure.receipt().finished_at_ms, Some(1_060_000));
        assert!(states(&erasure).contains(&(ErasedPart::Messages, ErasureState::Kept, None)));
        erasure.forget_time();
        assert_eq!(
            erasure,
            Erasure { account_at: Some(at(0)), chats_at: Some(at(0)), ..Erasure::begun(at(0)) }
        );
    }
}
