//! Who may ask the realm with a refresh token or a code, and what one is worth that was used before.

use std::time::Duration;

use contracts::SessionId;
use moka::{future::Cache, policy::EvictionPolicy};
use secrecy::SecretString;
use tokio::time::{Instant, sleep};

use super::{MAX_REMEMBERED, REFRESH_GRACE};
use crate::{
    domain::{Grant, Session, TokenDigest, external::SIGN_IN_WITHIN},
    store::{Known, Once, Over, SharedRefreshes},
};

/// Between looks at what another replica is doing.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A refresh waits no longer for another replica. That one has its answer before, or has lost its claim.
const WAIT: Duration = Duration::from_secs(9);

/// What is remembered of refreshes: by this process, and by all replicas together where there are others.
pub struct Refreshes {
    /// How long a token gives the same again.
    grace: Duration,
    /// The token of each session that gave something last.
    used: Cache<SessionId, TokenDigest>,
    /// Codes that gave something, for as long as a browser can send them.
    redeemed: Cache<TokenDigest, ()>,
    shared: Option<SharedRefreshes>,
}

/// What becomes of a refresh.
pub(super) enum Claim {
    /// Another replica has the tokens.
    Given(Grant),
    /// The token gave something before, and the time in which it gives that again is over.
    Used,
    /// Another replica asks the realm, and takes too long.
    Late,
    /// This process asks the realm, and then calls [`Refreshes::settle`].
    Ask { is_shared: bool },
}

impl Refreshes {
    /// Returns the refreshes of a service with one process.
    pub fn in_process() -> Self {
        Self {
            grace: REFRESH_GRACE,
            used: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            redeemed: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(SIGN_IN_WITHIN)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            shared: None,
        }
    }

    /// Returns the refreshes of a service with several.
    pub fn shared(shared: SharedRefreshes) -> Self {
        Self { shared: Some(shared), ..Self::in_process() }
    }

    /// Sets how long a token gives the same again.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// Returns what becomes of a refresh token or a code, which this process gave nothing for in the grace period.
    pub(super) async fn claim(&self, token: &SecretString, once: Once<'_>) -> Claim {
        let digest = TokenDigest::of(token);
        let is_used = match once {
            Once::Refresh(session) => self.used.get(&session.id).await == Some(digest),
            Once::Code => self.redeemed.contains_key(&digest),
        };
        if is_used {
            return Claim::Used;
        }
        let Some(shared) = &self.shared else { return Claim::Ask { is_shared: false } };
        let give_up = Instant::now() + WAIT;
        loop {
            match shared.claim(token, once).await {
                Some(Known::Given(grant)) => return Claim::Given(grant),
                Some(Known::Used) => return Claim::Used,
                Some(Known::Nothing) => return Claim::Ask { is_shared: true },
                None => return Claim::Ask { is_shared: false },
                Some(Known::Asked) if Instant::now() < give_up => sleep(LOOK_AGAIN).await,
                Some(Known::Asked) => return Claim::Late,
            }
        }
    }

    /// Notes what the realm gave for a token, or that it gave nothing. `is_shared` is that of the claim.
    pub(super) async fn settle(
        &self,
        token: &SecretString,
        once: Once<'_>,
        grant: Option<&Grant>,
        is_shared: bool,
    ) {
        match (once, grant) {
            (Once::Refresh(session), Some(_)) => {
                self.used.insert(session.id.clone(), TokenDigest::of(token)).await;
            }
            (Once::Code, Some(_)) => self.redeemed.insert(TokenDigest::of(token), ()).await,
            (_, None) => {}
        }
        match (self.shared.as_ref().filter(|_| is_shared), grant) {
            (Some(shared), Some(grant)) => shared.note(token, once, grant, self.grace).await,
            (Some(shared), None) => shared.release(token).await,
            (None, _) => {}
        }
    }

    /// Notes for the other replicas what has ended.
    pub(super) async fn note_end(&self, ended: impl Into<Over<'_>>, time: Duration) {
        if let Some(shared) = &self.shared {
            shared.note_end(ended, time).await;
        }
    }

    /// Returns whether another replica has ended the session a short while ago.
    pub(super) async fn has_ended(&self, session: &Session) -> bool {
        match &self.shared {
            Some(shared) => shared.has_ended(session).await,
            None => false,
        }
    }
}
