//! How much of a tenant one user takes, and all of them together.
//!
//! Nothing that others do counts against a user: a membership counts for the user who added it, and a chat for the one who created
//! it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kit::{
    catalog::{CHATS_PER_USER, MEMBERSHIPS},
    config::{SendRates, positive},
};

use super::Refusal;

/// A user has added at most one in so many of the memberships that are left. The more of them are taken, the less one user may
/// have: a few accounts cannot take the room of all others.
const SHARE_OF_WHAT_IS_LEFT: u64 = 8;

/// A user creates no more chats in this time than they may have. Chats without members do not count for what a user has, and
/// without a rate there would be no end of them.
const CREATION_WINDOW: TimeDelta = TimeDelta::hours(24);

/// Chats and memberships that a tenant may have, and how fast scheduled messages are sent. What is beyond a limit that was lowered stays, and
/// nothing is added to it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Limits {
    /// Memberships of all users in all chats. Changes that are made at the same time may exceed it together, each by the members
    /// that it adds.
    #[arg(long, env, default_value_t = MEMBERSHIPS, value_parser = positive())]
    pub max_memberships: u32,
    /// Chats with members that one user has created, and chats that one user creates in 24 hours.
    #[arg(long, env, default_value_t = CHATS_PER_USER, value_parser = positive())]
    pub max_chats_per_user: u32,
    #[command(flatten)]
    pub sends: SendRates,
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Memberships that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memberships {
    /// Of the tenant.
    pub all: u64,
    /// Of all, those that the user added who is about to add more.
    pub added: u64,
}

/// Chats that a user has created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreatedChats {
    pub with_members: u64,
    /// Created after [`lately()`].
    pub lately: u64,
    /// When the first of these was created.
    pub first_lately: Option<DateTime<Utc>>,
}

/// Returns since when chats count for the rate.
pub fn lately(now: DateTime<Utc>) -> DateTime<Utc> {
    now - CREATION_WINDOW
}

impl Limits {
    /// Those of a tenant that says nothing else.
    pub const DEFAULT: Self =
        Self { max_memberships: MEMBERSHIPS, max_chats_per_user: CHATS_PER_USER, sends: SendRates::DEFAULT };

    /// Decides whether a user may add so many members.
    pub fn check_members(&self, memberships: Memberships, more: usize) -> Result<(), Refusal> {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        if more == 0 {
            return Ok(());
        }
        let left = u64::from(self.max_memberships).checked_sub(memberships.all.saturating_add(more));
        match left {
            None => Err(Refusal::TenantFull),
            Some(left) if memberships.added + more > left / SHARE_OF_WHAT_IS_LEFT => {
                Err(Refusal::TooManyAdded)
            }
            Some(_) => Ok(()),
        }
    }

    /// Decides whether a user may create a chat now.
    pub fn check_creation(&self, created: CreatedChats, now: DateTime<Utc>) -> Result<(), Refusal> {
        let most = u64::from(self.max_chats_per_user);
        if created.with_members >= most {
            return Err(Refusal::TooManyChats(self.max_chats_per_user));
        }
        match created.first_lately {
            Some(first) if created.lately >= most => {
                let wait = (first + CREATION_WINDOW - now).to_std().unwrap_or(Duration::ZERO);
                Err(Refusal::TooManyChatsLately { most: self.max_chats_per_user, wait })
            }
            _ => Ok(()),
        }
    }
}
