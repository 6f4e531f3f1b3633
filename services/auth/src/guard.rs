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

use contracts::UserId;
use moka::future::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    domain::{
        Credentials, Grant, NewAccount,
        attempts::{AttemptRates, Attempts},
    },
    error::Error,
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
/// Refreshes that are remembered.
const MAX_REFRESHES: u64 = 20_000;

/// The realm behind its limits. Cheap to clone.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    accounts: Arc<dyn AccountStore>,
    attempts: Mutex<Attempts>,
    hashes: Semaphore,
    sessions: Semaphore,
    refreshes: Cache<[u8; 32], Arc<Grant>>,
}

impl Guard {
    pub fn new(accounts: Arc<dyn AccountStore>, rates: AttemptRates) -> Self {
        Self(Arc::new(Inner {
            accounts,
            attempts: Mutex::new(Attempts::new(rates)),
            hashes: Semaphore::new(HASHES),
            sessions: Semaphore::new(SESSIONS),
            refreshes: Cache::builder().max_capacity(MAX_REFRESHES).time_to_live(REFRESH_GRACE).build(),
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

    /// Goes on with a session. All that ask with one token within [`REFRESH_GRACE`] receive the same tokens.
    pub(crate) async fn refresh(&self, token: &SecretString) -> Result<Grant, Error> {
        let refresh = async {
            let _turn = turn(&self.0.sessions).await?;
            Ok::<_, Error>(Arc::new(self.0.accounts.refresh(token).await?))
        };
        let grant = self.0.refreshes.try_get_with(digest(token), refresh).await;
        grant.map(|grant| (*grant).clone()).map_err(Error::Shared)
    }

    /// Ends a session.
    pub(crate) async fn sign_out(&self, token: &SecretString) -> Result<(), Error> {
        // What was remembered of the session must not outlive it.
        let digest = digest(token);
        for (key, grant) in &self.0.refreshes {
            if *key == digest || grant.refresh_token.expose_secret() == token.expose_secret() {
                self.0.refreshes.invalidate(&*key).await;
            }
        }
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.sign_out(token).await?)
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
