//! How much the users of a tenant may do where it says nothing else.

use std::{fmt, str::FromStr, time::Duration};

/// So many in the long run, and so many at once after a pause. As text `25/100`, which are 25 a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// Returns the rate of so many a second.
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self { count, interval: Duration::from_secs(1), burst }
    }

    /// Returns the rate of one in each interval.
    pub const fn every(interval: Duration, burst: u32) -> Self {
        Self { count: 1, interval, burst }
    }

    /// Returns how many are allowed in an interval in the long run.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Returns how many are allowed at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Returns the same rate with so many bursts at once.
    #[must_use]
    pub const fn with_bursts(self, bursts: u32) -> Self {
        Self { burst: self.burst.saturating_mul(bursts), ..self }
    }

    /// Returns how many are allowed a second in the long run; less than one where the interval is longer.
    pub fn each_second(self) -> f64 {
        f64::from(self.count) / self.interval.as_secs_f64()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, interval, burst } = self;
        if *interval == Duration::from_secs(1) {
            write!(f, "{count}/{burst}")
        } else {
            write!(f, "{count} in {interval:?}/{burst}")
        }
    }
}

/// A text is not a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRate;

impl fmt::Display for NoRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate is two positive numbers, as in 25/100: so many a second, and so many at once")
    }
}

impl std::error::Error for NoRate {}

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (per_second, burst) = text.split_once('/').ok_or(NoRate)?;
        // With 0 a client would wait without end.
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or(NoRate);
        Ok(Self::per_second(number(per_second)?, number(burst)?))
    }
}

/// What users do at a limited rate, whichever of their connections and gateways they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Entries of one user: messages, edits, reactions.
    UserSends,
    /// Their bytes, with [`ENTRY_BYTES`] for each.
    UserBytes,
    /// Entries in one chat, of all members together.
    ChatSends,
    ChatBytes,
    /// Entries of all users of the tenant together.
    TenantSends,
    TenantBytes,
    /// What one user asks a gateway for: histories, syncs, marks. Each gateway counts for itself.
    UserQueries,
}

/// What an entry counts beside its text: what it takes on the log and in the store.
pub const ENTRY_BYTES: u32 = 256;

impl Limit {
    pub const ALL: [Self; 7] = [
        Self::UserSends,
        Self::UserBytes,
        Self::ChatSends,
        Self::ChatBytes,
        Self::TenantSends,
        Self::TenantBytes,
        Self::UserQueries,
    ];

    /// Returns the name as flags and metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserSends => "user-sends",
            Self::UserBytes => "user-bytes",
            Self::ChatSends => "chat-sends",
            Self::ChatBytes => "chat-bytes",
            Self::TenantSends => "tenant-sends",
            Self::TenantBytes => "tenant-bytes",
            Self::UserQueries => "user-queries",
        }
    }

    /// Returns the flag that sets it, of the gateway, and of the chat service for what is sent at a time.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::UserSends => "--user-sends",
            Self::UserBytes => "--user-bytes",
            Self::ChatSends => "--chat-sends",
            Self::ChatBytes => "--chat-bytes",
            Self::TenantSends => "--tenant-sends",
            Self::TenantBytes => "--tenant-bytes",
            Self::UserQueries => "--user-queries",
        }
    }

    /// Returns the rate where the tenant says nothing else.
    ///
    /// A whole tenant stores about 1,500 messages a second on two cores, so one user has little of it, and far more than can be typed.
    /// Bytes are for texts of 2 kB at the rate of messages; a text of the largest size counts eight of them.
    pub const fn default_rate(self) -> Rate {
        let (per_second, burst) = match self {
            Self::UserSends => (25, 100),
            Self::UserBytes => (64 * 1024, 1024 * 1024),
            Self::ChatSends => (100, 400),
            Self::ChatBytes => (256 * 1024, 4 * 1024 * 1024),
            Self::TenantSends => (1_000, 5_000),
            Self::TenantBytes => (4 * 1024 * 1024, 64 * 1024 * 1024),
            Self::UserQueries => (20, 500),
        };
        Rate::per_second(per_second, burst)
    }
}

/// Memberships of a tenant: one for each member of each chat.
pub const MEMBERSHIPS: u32 = 1_000_000;
/// Connections of a tenant, over all its gateways.
pub const CONNECTIONS: u32 = 100_000;
/// Connections of one user: windows and devices. One more closes the oldest.
pub const CONNECTIONS_PER_USER: u32 = 32;
/// Chats that one user creates. No user opens so many by hand.
pub const CHATS_PER_USER: u32 = 1000;
/// Bytes of all files of a tenant: a few thousand photos and some hundred videos.
pub const MEDIA_BYTES: u64 = 10 * 1024 * 1024 * 1024;
/// Bytes of one file: some minutes of video from a phone.
pub const FILE_BYTES: u64 = 100 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_back_and_is_never_zero() {
        for limit in Limit::ALL {
            let rate = limit.default_rate();
            assert_eq!(rate.to_string().parse(), Ok(rate));
            assert!(f64::from(rate.burst()) >= rate.each_second(), "{limit:?}");
            assert_eq!(limit.flag(), format!("--{}", limit.name()));
        }
        assert_eq!(Rate::every(Duration::from_secs(600), 3).to_string(), "1 in 600s/3");
        for text in ["", "25", "0/100", "25/0", "25/-1", "25/100/3", "a/b"] {
            assert_eq!(text.parse::<Rate>(), Err(NoRate), "{text}");
        }
    }
}
