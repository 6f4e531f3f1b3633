//! What stands between the API and the realm: limits on what is tried, a bound on what the realm works on at once, and one
//! refresh for all that ask with one token at one moment.
//!
//! Keycloak serves all tenants of a cell and hashes every password. What one tenant's strangers send must not be what
//! another tenant's users wait for.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::{SessionId, UserId, event::Ended};
use moka::{future::Cache, policy::EvictionPolicy};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    domain::{
        Credentials, Grant, NewAccount, Session,
        attempts::{AttemptRates, Attempts},
    },
    error::Error,
    events::SessionEvents,
    store::{AccountStore, StoreError},
};

/// Passwords that the realm hashes at once for this process.
const HASHES: usize = 4;
/// Other requests to the realm at once: a flood of sign-ins does not hold them up.
const SESSIONS: usize = 8;
/// A request that waits longer for its turn is refused.
const TURN: Duration = Duration::from_secs(2);
/// What a refresh token gave is given again for this long: windows of one client refresh at the same moment, and a response
/// may be lost. A token that is used later was stolen, or its thief was first.
const REFRESH_GRACE: Duration = Duration::from_secs(10);
/// Refreshes that are remembered, and sessions that ended lately.
const MAX_REMEMBERED: u64 = 20_000;
/// The end of a session is remembered until nothing is remembered that it was given.
const END_REMEMBERED: Duration = Duration::from_secs(30);

/// The realm behind its limits. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    accounts: Arc<dyn AccountStore>,
    events: SessionEvents,
    attempts: Mutex<Attempts>,
    hashes: Semaphore,
    sessions: Semaphore,
    refreshes: Cache<[u8; 32], Arc<Grant>>,
    /// Sessions that ended lately.
    ended: Cache<SessionId, End>,
}

/// How far the end of a session has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The realm has ended it.
    Ended,
    /// The event log has it too.
    Published,
}

impl Guard {
    pub fn new(accounts: Arc<dyn AccountStore>, events: SessionEvents, rates: AttemptRates) -> Self {
        Self(Arc::new(Inner {
            accounts,
            events,
            attempts: Mutex::new(Attempts::new(rates)),
            hashes: Semaphore::new(HASHES),
            sessions: Semaphore::new(SESSIONS),
            refreshes: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REFRESH_GRACE).build(),
            ended: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(END_REMEMBERED)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
        }))
    }

    /// Makes an account and returns its id.
    pub(crate) async fn register(&self, address: IpAddr, account: &NewAccount) -> Result<UserId, Error> {
        self.attempts(|attempts| attempts.registration(address, Instant::now())).map_err(Error::Limited)?;
        let _turn = turn(&self.0.hashes).await?;
        Ok(self.0.accounts.register(account).await?)
    }

    /// Returns the account that the credentials open.
    pub(crate) async fn account(&self, address: IpAddr, credentials: &Credentials) -> Result<UserId, Error> {
        self.tried(address, credentials, self.0.accounts.account(credentials)).await
    }

    /// Begins a session.
    pub(crate) async fn sign_in(&self, address: IpAddr, credentials: &Credentials) -> Result<Grant, Error> {
        self.tried(address, credentials, self.0.accounts.sign_in(credentials)).await
    }

    async fn tried<T>(
        &self,
        address: IpAddr,
        credentials: &Credentials,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, Error> {
        let username = &credentials.username;
        self.attempts(|attempts| attempts.sign_in(address, username, Instant::now()))
            .map_err(Error::Limited)?;
        let outcome = match turn(&self.0.hashes).await {
            Ok(_turn) => call.await.map_err(Error::from),
            Err(refused) => Err(refused),
        };
        self.attempts(|attempts| match &outcome {
            Ok(_) => attempts.signed_in(address, username, Instant::now()),
            Err(Error::Store(StoreError::Rejected)) => {}
            Err(_) => attempts.unanswered(address, username, Instant::now()),
        });
        outcome
    }

    /// Goes on with a session. All that ask with one token within [`REFRESH_GRACE`] receive the same tokens. A token that is
    /// used later ends its session.
    pub(crate) async fn refresh(&self, token: &SecretString) -> Result<Grant, Error> {
        let grant = self.0.refreshes.try_get_with(digest(token), self.refreshed(token)).await;
        let grant = grant.map_err(Error::Shared)?;
        // What is remembered of a session does not outlive it.
        if self.0.ended.contains_key(&grant.session.id) {
            return Err(Error::SessionOver(grant.session.user_id));
        }
        Ok((*grant).clone())
    }

    async fn refreshed(&self, token: &SecretString) -> Result<Arc<Grant>, Error> {
        let outcome = {
            let _turn = turn(&self.0.sessions).await?;
            self.0.accounts.refresh(token).await
        };
        match outcome {
            // The realm gives nothing more for the session. The connections of its other tokens end here.
            Err(StoreError::SessionOver) => Err(Error::SessionOver(self.sign_out(token).await?.user_id)),
            outcome => Ok(Arc::new(outcome?)),
        }
    }

    /// Ends a session, and returns it once the event log has its end.
    pub(crate) async fn sign_out(&self, token: &SecretString) -> Result<Session, Error> {
        let session = {
            let _turn = turn(&self.0.sessions).await?;
            self.0.accounts.sign_out(token).await?
        };
        let Session { user_id, id } = &session;
        // A request that is repeated need not be published again.
        if self.0.ended.get(id).await != Some(End::Published) {
            self.0.ended.insert(id.clone(), End::Ended).await;
            self.0.events.publish(*user_id, Ended::Session(id.clone())).await?;
            self.0.ended.insert(id.clone(), End::Published).await;
        }
        Ok(session)
    }

    /// Deletes an account, and returns once the event log has the end of all its sessions.
    pub(crate) async fn delete(&self, user_id: UserId) -> Result<(), Error> {
        {
            let _turn = turn(&self.0.sessions).await?;
            self.0.accounts.delete(user_id).await?;
        }
        self.0.events.publish(user_id, Ended::Account).await
    }

    /// Returns whether there is an account of this user.
    pub(crate) async fn exists(&self, user_id: UserId) -> Result<bool, Error> {
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.exists(user_id).await?)
    }

    fn attempts<T>(&self, change: impl FnOnce(&mut Attempts) -> T) -> T {
        change(&mut self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn turn(of: &Semaphore) -> Result<SemaphorePermit<'_>, Error> {
    let turn = timeout(TURN, of.acquire()).await.map_err(|_| Error::Busy)?;
    Ok(turn.expect("the semaphore is never closed"))
}

fn digest(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret()).into()
}
