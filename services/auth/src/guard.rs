//! What stands between the API and the realm: limits on what is tried, a bound on what the realm works on at once, and one
//! refresh for all that ask with one token at one moment.
//!
//! Keycloak serves all tenants of a cell and hashes every password. What one tenant's strangers send must not be what
//! another tenant's users wait for.

mod refreshes;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::{SessionId, UserId, event::Ended};
use kit::{tasks::joined, text::Password};
use moka::{future::Cache, policy::EvictionPolicy};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use self::refreshes::Claim;
pub use self::refreshes::Refreshes;
use crate::{
    domain::{
        Account, Credentials, Grant, ListedSession, NewAccount, NewPassword, OwnEmail, Session, TokenDigest,
        attempts::{AttemptRates, Attempts},
        email::Email,
    },
    error::Error,
    events::SessionEvents,
    store::{AccountStore, Once, StoreError},
};

/// Passwords that the realm hashes at once for this process.
const HASHES: usize = 4;
/// Other requests to the realm at once: a flood of sign-ins does not hold them up.
const SESSIONS: usize = 8;
/// Those about sessions that other services make for moderators: however many those look at, users see their devices and sign out.
const OTHERS_SESSIONS: usize = 2;
/// Those by which another service learns which sessions go on. They come by the thousand, from a task that may wait: no moderator waits behind them, nor they
/// behind a moderator.
const LOOKS: usize = 2;
/// A request that waits longer for its turn is refused.
const TURN: Duration = Duration::from_secs(2);
/// An account is closed or opened within this time, or not by this call: who has given it up may have decided something else later.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
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
    others_sessions: Semaphore,
    looks: Semaphore,
    refreshes: Refreshes,
    /// What this process was given for tokens, for as long as it gives that again.
    given: Cache<TokenDigest, Arc<Given>>,
    /// What ended lately: a session, or all of a user.
    ended: Cache<(UserId, Option<SessionId>), End>,
    /// What goes on when its client has gone away.
    tasks: TaskTracker,
}

/// What a token gave.
struct Given {
    grant: Grant,
    /// The realm gave it to this process, and not to another replica, which has begun to count the time before.
    is_own: bool,
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
    /// Returns the realm behind its limits. `tasks` are those that the process waits for at its end.
    pub fn new(
        accounts: Arc<dyn AccountStore>,
        events: SessionEvents,
        refreshes: Refreshes,
        rates: AttemptRates,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            accounts,
            events,
            attempts: Mutex::new(Attempts::new(rates)),
            hashes: Semaphore::new(HASHES),
            sessions: Semaphore::new(SESSIONS),
            others_sessions: Semaphore::new(OTHERS_SESSIONS),
            looks: Semaphore::new(LOOKS),
            given: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(refreshes.grace())
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            refreshes,
            ended: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(END_REMEMBERED)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            tasks,
        }))
    }

    /// Makes an account and returns its id.
    pub(crate) async fn register(&self, address: IpAddr, account: &NewAccount) -> Result<UserId, Error> {
        self.attempts(|attempts| attempts.registration(address, Instant::now())).map_err(Error::Limited)?;
        let _turn = turn(&self.0.hashes).await?;
        Ok(self.0.accounts.register(account).await?)
    }

    /// Returns the account that the credentials open.
    pub(crate) async fn account(&self, address: IpAddr, credentials: &Credentials) -> Result<Account, Error> {
        self.tried(address, credentials, self.0.accounts.account(credentials)).await
    }

    /// Begins a session.
    pub(crate) async fn sign_in(&self, address: IpAddr, credentials: &Credentials) -> Result<Grant, Error> {
        self.tried(address, credentials, self.0.accounts.sign_in(credentials)).await
    }

    /// Begins a session with the code of a sign-in with an external identity provider. Codes that are wrong count against the address. All
    /// that ask with one code within the grace period receive the same tokens, from whichever replica; the realm sees a code once, since it
    /// takes back what the code gave when it sees it again.
    pub(crate) async fn redeem(
        &self,
        address: IpAddr,
        code: &SecretString,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Grant, Error> {
        self.count_code(address)?;
        let (guard, code) = (self.clone(), code.clone());
        let (verifier, redirect_uri) = (verifier.to_owned(), redirect_uri.to_owned());
        let outcome = self
            .to_the_end(async move {
                let given = guard.begun(&code, &verifier, &redirect_uri);
                let given = guard.0.given.try_get_with(TokenDigest::of(&code), given).await;
                guard.remembered(&code, given.map_err(Error::Shared)?).await
            })
            .await;
        if !outcome.as_ref().is_err_and(Error::is_invalid_code) {
            self.good_code(address);
        }
        outcome
    }

    async fn begun(
        &self,
        code: &SecretString,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Arc<Given>, Error> {
        let is_shared = match self.0.refreshes.claim(code, Once::Code).await {
            Claim::Given(grant) => return Ok(Arc::new(Given { grant, is_own: false })),
            Claim::Late => return Err(Error::Busy),
            Claim::Used => return Err(StoreError::InvalidCode.into()),
            Claim::Ask { is_shared } => is_shared,
        };
        let outcome = match turn(&self.0.sessions).await {
            Ok(_turn) => self
                .0
                .accounts
                .redeem(code.expose_secret(), verifier, redirect_uri)
                .await
                .map_err(Error::from),
            Err(refused) => Err(refused),
        };
        self.0.refreshes.settle(code, Once::Code, outcome.as_ref().ok(), is_shared).await;
        Ok(Arc::new(Given { grant: outcome?, is_own: true }))
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

    /// Goes on with a session. All that ask with one token within the grace period receive the same tokens, from whichever
    /// replica. A token that is used later ends its session.
    pub(crate) async fn refresh(&self, token: &SecretString) -> Result<Grant, Error> {
        // The realm has taken the token by then, and what it gave would be lost.
        let (guard, token) = (self.clone(), token.clone());
        self.to_the_end(async move { guard.refreshed(&token).await }).await
    }

    /// Does what must not be given up half way when the client goes away.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        joined(self.0.tasks.spawn(work).await).unwrap_or(Err(Error::Busy))
    }

    async fn refreshed(&self, token: &SecretString) -> Result<Grant, Error> {
        let session =
            Session::of(token.expose_secret()).ok_or(Error::Store(StoreError::InvalidRefreshToken))?;
        let given = self.0.given.try_get_with(TokenDigest::of(token), self.given(token, &session)).await;
        self.remembered(token, given.map_err(Error::Shared)?).await
    }

    /// Returns what a token or a code gave, unless its session has ended since.
    async fn remembered(&self, token: &SecretString, given: Arc<Given>) -> Result<Grant, Error> {
        if !given.is_own {
            self.0.given.invalidate(&TokenDigest::of(token)).await;
        }
        // What is remembered of a session does not outlive it.
        let Session { user_id, id } = &given.grant.session;
        let has_ended = self.0.ended.contains_key(&(*user_id, Some(id.clone())))
            || self.0.ended.contains_key(&(*user_id, None))
            || self.0.refreshes.has_ended(&given.grant.session).await;
        if has_ended { Err(Error::SessionOver(*user_id)) } else { Ok(given.grant.clone()) }
    }

    async fn given(&self, token: &SecretString, session: &Session) -> Result<Arc<Given>, Error> {
        let once = Once::Refresh(session);
        let outcome = match self.0.refreshes.claim(token, once).await {
            Claim::Given(grant) => return Ok(Arc::new(Given { grant, is_own: false })),
            Claim::Late => return Err(Error::Busy),
            Claim::Used => Err(Error::Store(StoreError::SessionOver)),
            Claim::Ask { is_shared } => {
                let outcome = self.ask(token).await;
                self.0.refreshes.settle(token, once, outcome.as_ref().ok(), is_shared).await;
                outcome
            }
        };
        match outcome {
            // The realm gives nothing more for the session. The connections of its other tokens end here.
            Err(Error::Store(StoreError::SessionOver)) => {
                Err(Error::SessionOver(self.signed_out(token).await?.user_id))
            }
            outcome => Ok(Arc::new(Given { grant: outcome?, is_own: true })),
        }
    }

    async fn ask(&self, token: &SecretString) -> Result<Grant, Error> {
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.refresh(token).await?)
    }

    /// Ends a session, and returns it once the event log has its end.
    pub(crate) async fn sign_out(&self, token: &SecretString) -> Result<Session, Error> {
        // Gateways learn of the end after the realm did.
        let (guard, token) = (self.clone(), token.clone());
        self.to_the_end(async move { guard.signed_out(&token).await }).await
    }

    async fn signed_out(&self, token: &SecretString) -> Result<Session, Error> {
        let session = {
            let _turn = turn(&self.0.sessions).await?;
            self.0.accounts.sign_out(token).await?
        };
        self.0.refreshes.note_end(&session, END_REMEMBERED).await;
        let Session { user_id, id } = &session;
        let key = (*user_id, Some(id.clone()));
        // A request that is repeated need not be published again.
        if self.0.ended.get(&key).await != Some(End::Published) {
            self.0.ended.insert(key.clone(), End::Ended).await;
            self.0.events.publish(*user_id, Ended::Session(id.clone())).await?;
            self.0.ended.insert(key, End::Published).await;
        }
        Ok(session)
    }

    /// Returns the sessions of the caller that go on, the last used one first. Refuses a caller whose own session has ended:
    /// its access token may have time left.
    pub(crate) async fn sessions(&self, caller: &Session) -> Result<Vec<ListedSession>, Error> {
        let user_id = caller.user_id;
        self.attempts(|attempts| attempts.session_request(user_id, Instant::now()))
            .map_err(Error::Limited)?;
        let sessions = self.listed(user_id, &self.0.sessions).await?;
        if !sessions.iter().any(|session| session.id == caller.id) {
            return Err(Error::SessionOver(user_id));
        }
        Ok(sessions)
    }

    /// Returns the sessions of a user that go on, the last used one first, for the tenant's other services; none of an unknown user.
    pub(crate) async fn sessions_of(&self, user_id: UserId) -> Result<Vec<ListedSession>, Error> {
        self.listed(user_id, &self.0.others_sessions).await
    }

    /// Returns which of some sessions go on and are of a user, for the tenant's other services. None is left out: who asks takes such a one for over.
    pub(crate) async fn sessions_among(
        &self,
        user_id: UserId,
        ids: &[String],
    ) -> Result<Vec<ListedSession>, Error> {
        let mut sessions = self.listed(user_id, &self.0.looks).await?;
        sessions.retain(|session| ids.iter().any(|id| id == session.id.as_str()));
        Ok(sessions)
    }

    async fn listed(&self, user_id: UserId, turns: &Semaphore) -> Result<Vec<ListedSession>, Error> {
        let _turn = turn(turns).await?;
        let mut sessions = self.0.accounts.sessions(user_id).await?;
        sessions
            .sort_by(|one, other| (other.last_used_at_ms, &other.id).cmp(&(one.last_used_at_ms, &one.id)));
        Ok(sessions)
    }

    /// Ends one session of the caller, and returns once the event log has its end.
    pub(crate) async fn end(&self, caller: &Session, id: SessionId) -> Result<(), Error> {
        let sessions = self.sessions(caller).await?;
        if !sessions.iter().any(|session| session.id == id) {
            return Err(Error::NoSession);
        }
        let (guard, user_id) = (self.clone(), caller.user_id);
        self.to_the_end(async move { guard.ended(user_id, vec![id], &guard.0.sessions).await }).await
    }

    /// Ends one session of a user for the tenant's other services, and returns once the event log has its end.
    pub(crate) async fn end_of(&self, user_id: UserId, id: SessionId) -> Result<(), Error> {
        if !self.sessions_of(user_id).await?.iter().any(|session| session.id == id) {
            return Err(Error::NoSession);
        }
        let guard = self.clone();
        self.to_the_end(async move { guard.ended(user_id, vec![id], &guard.0.others_sessions).await }).await
    }

    /// Ends all sessions of the caller but the one that the request is of.
    pub(crate) async fn end_others(&self, caller: &Session) -> Result<(), Error> {
        let sessions = self.sessions(caller).await?.into_iter().map(|session| session.id);
        let others: Vec<_> = sessions.filter(|id| *id != caller.id).collect();
        let (guard, user_id) = (self.clone(), caller.user_id);
        self.to_the_end(async move { guard.ended(user_id, others, &guard.0.sessions).await }).await
    }

    /// Ends sessions at the gateways first: the realm lists a session until nothing of it is left, so that a request that has
    /// failed half way is repeated. `turns` are those for the realm.
    async fn ended(&self, user_id: UserId, sessions: Vec<SessionId>, turns: &Semaphore) -> Result<(), Error> {
        for id in sessions {
            let session = Session { user_id, id };
            let key = (user_id, Some(session.id.clone()));
            self.0.ended.insert(key.clone(), End::Ended).await;
            self.0.refreshes.note_end(&session, END_REMEMBERED).await;
            self.0.events.publish(user_id, Ended::Session(session.id.clone())).await?;
            self.0.ended.insert(key, End::Published).await;
            let _turn = turn(turns).await?;
            self.0.accounts.end(&session).await?;
        }
        Ok(())
    }

    /// Returns the account that has confirmed an address.
    pub(crate) async fn account_of(&self, email: &Email) -> Result<Option<UserId>, Error> {
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.account_of(email).await?)
    }

    /// Returns the address of the caller's account.
    pub(crate) async fn email(&self, caller: &Session) -> Result<OwnEmail, Error> {
        self.attempts(|attempts| attempts.session_request(caller.user_id, Instant::now()))
            .map_err(Error::Limited)?;
        self.email_of(caller.user_id).await
    }

    /// Returns the address of an account.
    pub(crate) async fn email_of(&self, user_id: UserId) -> Result<OwnEmail, Error> {
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.email(user_id).await?)
    }

    /// Makes an address that of an account.
    pub(crate) async fn set_email(&self, user_id: UserId, email: &Email) -> Result<(), Error> {
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.set_email(user_id, email).await?)
    }

    /// Counts a code or the token of a link that is about to be tried, as if it were wrong.
    pub(crate) fn count_code(&self, address: IpAddr) -> Result<(), Error> {
        self.attempts(|attempts| attempts.code(address, Instant::now())).map_err(Error::Limited)
    }

    /// Takes back one that was not wrong.
    pub(crate) fn good_code(&self, address: IpAddr) {
        self.attempts(|attempts| attempts.good_code(address, Instant::now()));
    }

    /// Replaces the password of a user who cannot sign in. Nothing else opens the account from then on.
    pub(crate) async fn reset_password(&self, user_id: UserId, password: &Password) -> Result<(), Error> {
        let (guard, password) = (self.clone(), password.clone());
        self.to_the_end(async move { guard.replaced_password(user_id, &password, None).await }).await
    }

    /// Gives an account another password, and leaves to who had the account before no way in: links to identity providers, other
    /// credentials and offline tokens go, and all sessions end but the one that is `kept`. Every replacement of a password is this one.
    async fn replaced_password(
        &self,
        user_id: UserId,
        password: &Password,
        kept: Option<&SessionId>,
    ) -> Result<(), Error> {
        {
            let _turn = turn(&self.0.hashes).await?;
            self.0.accounts.set_password(user_id, password).await?;
        }
        // Before the sessions: none begins by any of it while they are ended.
        {
            let _turn = turn(&self.0.sessions).await?;
            self.0.accounts.close_other_ways(user_id).await?;
        }
        let sessions = self.listed(user_id, &self.0.sessions).await?.into_iter().map(|session| session.id);
        self.ended(user_id, sessions.filter(|id| Some(id) != kept).collect(), &self.0.sessions).await?;
        if kept.is_none() {
            let _turn = turn(&self.0.sessions).await?;
            self.0.accounts.revoke_tokens(user_id).await?;
        }
        Ok(())
    }

    /// Replaces the caller's password. The session of the request goes on, and nothing else opens the account but the new password. The
    /// current one is tried as at a sign-in.
    pub(crate) async fn change_password(&self, caller: &Session, password: NewPassword) -> Result<(), Error> {
        self.sessions(caller).await?;
        // A password that is changed while sessions of the old one go on is half of the work.
        let (guard, caller) = (self.clone(), caller.clone());
        self.to_the_end(async move { guard.changed_password(&caller, &password).await }).await
    }

    /// Checks the password of a caller, as at a change of it.
    pub(crate) async fn confirm_caller(
        &self,
        caller: &Session,
        credentials: &Credentials,
    ) -> Result<(), Error> {
        self.sessions(caller).await?;
        self.confirmed(caller.user_id, credentials).await
    }

    async fn confirmed(&self, user_id: UserId, credentials: &Credentials) -> Result<(), Error> {
        self.attempts(|attempts| attempts.change(user_id, Instant::now())).map_err(Error::Limited)?;
        let outcome = match turn(&self.0.hashes).await {
            Ok(_turn) => self.0.accounts.account(credentials).await.map_err(Error::from),
            Err(refused) => Err(refused),
        };
        self.attempts(|attempts| match &outcome {
            Ok(_) => attempts.changed(user_id),
            Err(Error::Store(StoreError::Rejected)) => {}
            Err(_) => attempts.unanswered_change(user_id, Instant::now()),
        });
        match outcome {
            // The name in the token may be of another account by now.
            Ok(opened) if opened.user_id == user_id => Ok(()),
            Ok(_) => Err(Error::WrongPassword),
            Err(Error::Store(StoreError::Rejected)) => {
                let _turn = turn(&self.0.sessions).await?;
                let has_one = self.0.accounts.has_password(user_id).await?;
                Err(if has_one { Error::WrongPassword } else { Error::NoPassword })
            }
            Err(error) => Err(error),
        }
    }

    async fn changed_password(&self, caller: &Session, password: &NewPassword) -> Result<(), Error> {
        let user_id = caller.user_id;
        self.confirmed(user_id, &password.current).await?;
        self.replaced_password(user_id, &password.new, Some(&caller.id)).await
    }

    /// Closes an account, or opens it again. Returns once the event log has the end of all sessions of one that is closed.
    pub(crate) async fn set_closed(&self, user_id: UserId, is_closed: bool) -> Result<(), Error> {
        // An account that is closed while its sessions go on is half of the work.
        let guard = self.clone();
        self.to_the_end(async move { guard.closed(user_id, is_closed).await }).await
    }

    /// Returns whether an account is closed, by whomever.
    pub(crate) async fn is_closed(&self, user_id: UserId) -> Result<bool, Error> {
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.is_closed(user_id).await?)
    }

    async fn closed(&self, user_id: UserId, is_closed: bool) -> Result<(), Error> {
        let change = async {
            let _turn = turn(&self.0.sessions).await?;
            Ok::<(), Error>(self.0.accounts.set_closed(user_id, is_closed).await?)
        };
        timeout(CLOSED_WITHIN, change).await.map_err(|_| Error::Busy)??;
        if !is_closed {
            return Ok(());
        }
        // After it: none begins while they are ended.
        let sessions = self.listed(user_id, &self.0.sessions).await?.into_iter().map(|session| session.id);
        self.ended(user_id, sessions.collect(), &self.0.sessions).await?;
        let _turn = turn(&self.0.sessions).await?;
        Ok(self.0.accounts.revoke_tokens(user_id).await?)
    }

    /// Deletes an account, and returns once the event log has the end of all its sessions.
    pub(crate) async fn delete(&self, user_id: UserId) -> Result<(), Error> {
        let guard = self.clone();
        self.to_the_end(async move { guard.deleted(user_id).await }).await
    }

    async fn deleted(&self, user_id: UserId) -> Result<(), Error> {
        {
            let _turn = turn(&self.0.sessions).await?;
            self.0.accounts.delete(user_id).await?;
        }
        self.0.ended.insert((user_id, None), End::Ended).await;
        self.0.refreshes.note_end(user_id, END_REMEMBERED).await;
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use contracts::{
        api::{RegisterRequest, SignInRequest},
        rpc::{ListSessionsRequest, account_service_server::AccountService as _},
    };
    use kit::{
        catalog,
        config::{OidcArgs, TrustArgs},
        log::Log,
        signing::Issuer,
    };
    use tonic::Request;

    use super::*;
    use crate::{api::grpc::AccountRpc, store::MemoryStore};

    /// Returns a guard, and a session of its only user.
    async fn signed_in() -> (Guard, Session) {
        let issuer = Issuer::new(OidcArgs {
            oidc_issuer: "http://realm.test/realms/acme".to_owned(),
            oidc_keys_url: None,
            trust: TrustArgs::default(),
            oidc_audience: catalog::TOKEN_AUDIENCE.to_owned(),
            oidc_clients: catalog::TOKEN_CLIENTS.map(str::to_owned).into(),
        });
        let accounts = Arc::new(MemoryStore::new(Arc::new(issuer)));
        let (username, password) = ("ann".to_owned(), "correct horse".to_owned());
        let request = SignInRequest { username: username.clone(), password: password.clone() };
        let credentials = Credentials::parse(request).expect("credentials");
        let request = RegisterRequest { username, password, display_name: None };
        let account = NewAccount::parse(request).expect("an account");
        accounts.register(&account).await.expect("an account");
        let session = accounts.sign_in(&credentials).await.expect("a session").session;
        let events = SessionEvents::new(&Log::memory(), "acme").expect("a producer");
        let (refreshes, rates) = (Refreshes::in_process(), AttemptRates::default());
        (Guard::new(accounts, events, refreshes, rates, TaskTracker::new()), session)
    }

    /// Each is a query to a realm that may be slow.
    #[tokio::test]
    async fn looks_and_moderators_do_not_wait_for_each_other() {
        let (guard, session) = signed_in().await;
        let rpc = AccountRpc::new(guard.clone());
        let list = async |session_ids: Vec<String>| {
            let request = ListSessionsRequest { user_id: session.user_id.to_string(), session_ids };
            let listed = rpc.list_sessions(Request::new(request)).await;
            listed.map(|listed| listed.into_inner().sessions.len()).map_err(|status| status.code())
        };
        let (for_moderators, to_look) = (Vec::new(), vec![session.id.to_string()]);
        for (turns, count, waits, goes_on) in [
            (&guard.0.looks, LOOKS, &to_look, &for_moderators),
            (&guard.0.others_sessions, OTHERS_SESSIONS, &for_moderators, &to_look),
        ] {
            let taken: Vec<_> = (0..count).map(|_| turns.try_acquire().expect("a turn")).collect();
            let mut waiting = pin!(list(waits.clone()));
            tokio::select! {
                biased;
                listed = &mut waiting => panic!("there are no more turns: {listed:?}"),
                listed = list(goes_on.clone()) => assert_eq!(listed, Ok(1)),
            }
            drop(taken);
            assert_eq!(waiting.await, Ok(1));
        }
    }
}
