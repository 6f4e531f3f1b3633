//! Mail to users: the address of an account, and a new password for who reads mail there.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::UserId;
use kit::{
    bucket::{Buckets, Rate},
    mail::{MailError, Mailer},
    outage::Outage,
    text::Password,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    domain::{
        Credentials, OwnEmail, Session,
        email::{Email, Mail, confirmation_mail, farewell_mail, password_mail},
    },
    error::Error,
    guard::Guard,
    store::{StoreError, Taken, Ticket, Tickets},
};

/// Mails that are under way at once. What is beyond them is not sent, for an account or for none.
const MAILS: usize = 16;
/// Mails to one address: who receives them did perhaps not ask for them.
const TO_ADDRESS: Rate = Rate::every(Duration::from_secs(600), 3);
/// Mails that are requested from one address of the network.
const FROM_ADDRESS: Rate = Rate::every(Duration::from_secs(30), 20);
/// Mails that one user has sent, whichever addresses they go to and come from: one who registers is no way to write to strangers.
const OF_USER: Rate = Rate::every(Duration::from_secs(600), 5);
/// What the sending of mail is called in the log.
const WHAT: &str = "sending mail";

/// Sends mail to users, where the cell has a mail server. Cheap to clone.
#[derive(Clone)]
pub struct Recovery(Arc<Inner>);

struct Inner {
    accounts: Guard,
    /// The mail server, and the tenant's main address.
    mail: Option<(Mailer, String)>,
    tickets: Tickets,
    turns: Arc<Semaphore>,
    rates: Mutex<Rates>,
    outage: Outage,
    tasks: TaskTracker,
}

/// How many mails were requested lately.
struct Rates {
    to: Buckets<Email>,
    from: Buckets<IpAddr>,
    of: Buckets<UserId>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { to: Buckets::new(TO_ADDRESS), from: Buckets::new(FROM_ADDRESS), of: Buckets::new(OF_USER) }
    }
}

impl Rates {
    /// Counts a mail, which a user perhaps asks for with their session. One that is refused counts for nothing; the error is the time
    /// to wait.
    fn count(
        &mut self,
        user: Option<UserId>,
        address: IpAddr,
        email: &Email,
        now: Instant,
    ) -> Result<(), Duration> {
        let of = user.and_then(|user| self.of.wait(&user, now));
        let waits = [of, self.to.wait(email, now), self.from.wait(&address, now)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        self.to.take(email.clone(), now);
        self.from.take(address, now);
        if let Some(user) = user {
            self.of.take(user, now);
        }
        Ok(())
    }
}

impl Recovery {
    /// Returns the service of a tenant. `mail` is the mail server and the tenant's main address, which links in mails lead to. `tasks`
    /// are those that the process waits for at its end.
    pub fn new(
        accounts: Guard,
        mail: Option<(Mailer, String)>,
        tickets: Tickets,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            accounts,
            mail,
            tickets,
            turns: Arc::new(Semaphore::new(MAILS)),
            rates: Mutex::default(),
            outage: Outage::default(),
            tasks,
        }))
    }

    /// Sends a link to who has an account with this address, if any. Returns before anything is looked up, so that neither the answer
    /// nor its time says whether there is one.
    pub(crate) fn forgot(&self, address: IpAddr, email: Email) -> Result<(), Error> {
        self.configured()?;
        self.count(None, address, &email)?;
        // One too many is dropped, and answered and counted like every other: all else would say how long others take, which depends on
        // whether they have an account.
        let Ok(turn) = self.0.turns.clone().try_acquire_owned() else {
            tracing::warn!("too many mails wait: a link for a new password is not sent");
            return Ok(());
        };
        let this = self.clone();
        self.0.tasks.spawn(async move {
            match this.send_password_link(&email).await {
                Ok(()) => {}
                // The server works, and has no such address any longer.
                Err(error @ Error::AddressRefused(_)) => {
                    tracing::info!("no link for a new password: {error}")
                }
                Err(error) => this.0.outage.failed(WHAT, &error),
            }
            drop(turn);
        });
        Ok(())
    }

    async fn send_password_link(&self, email: &Email) -> Result<(), Error> {
        let Some(user_id) = self.0.accounts.account_of(email).await? else { return Ok(()) };
        let token = self.0.tickets.issue(&Ticket::Password { user_id }).await?;
        self.send(email, |origin| password_mail(origin, token.expose_secret())).await?;
        tracing::info!(user = %user_id, "{user_id} was sent a link for a new password");
        Ok(())
    }

    /// Replaces the password of the account that a link was sent to, and ends all its sessions.
    pub(crate) async fn reset(
        &self,
        address: IpAddr,
        token: &SecretString,
        password: &Password,
    ) -> Result<(), Error> {
        self.configured()?;
        let is_it = |ticket: &Ticket| matches!(ticket, Ticket::Password { .. });
        let ticket = self.taken(address, token, is_it).await?;
        let Ticket::Password { user_id } = ticket else { return Err(Error::NoLink) };
        // Who had the account before may have had a link sent to an address of their own.
        self.0.tickets.revoke_email(user_id).await?;
        let outcome = self.0.accounts.reset_password(user_id, password).await;
        self.settled(token, &ticket, outcome).await?;
        // Or at this moment, with the password of before.
        self.0.tickets.revoke_email(user_id).await?;
        tracing::info!(user = %user_id, "{user_id} has a new password");
        Ok(())
    }

    /// Sends a link to an address that the caller says is theirs. The password is tried as at a change of it.
    pub(crate) async fn send_confirmation(
        &self,
        address: IpAddr,
        caller: &Session,
        credentials: Credentials,
        email: Email,
    ) -> Result<(), Error> {
        self.configured()?;
        self.0.accounts.confirm_caller(caller, &credentials).await?;
        self.count(Some(caller.user_id), address, &email)?;
        let _turn = self.0.turns.try_acquire().map_err(|_| Error::Busy)?;
        let ticket = Ticket::Email { user_id: caller.user_id, email: email.expose().to_owned() };
        let token = self.0.tickets.issue(&ticket).await?;
        self.send(&email, |origin| confirmation_mail(origin, token.expose_secret())).await
    }

    /// Makes an address that of the account whose user said so, by the link that was sent there.
    pub(crate) async fn confirm(&self, address: IpAddr, token: &SecretString) -> Result<(), Error> {
        self.configured()?;
        let is_it = |ticket: &Ticket| matches!(ticket, Ticket::Email { .. });
        let ticket = self.taken(address, token, is_it).await?;
        let Ticket::Email { user_id, email } = &ticket else { return Err(Error::NoLink) };
        let email = Email::parse("email", email)?;
        // What was sent to the address of before is not for the one of now.
        self.0.tickets.revoke_password(*user_id).await?;
        let replaced = async {
            let former = self.0.accounts.email_of(*user_id).await?;
            self.0.accounts.set_email(*user_id, &email).await?;
            Ok(former)
        };
        let former = self.settled(token, &ticket, replaced.await).await?;
        if let OwnEmail { email: Some(former), is_confirmed: true } = former
            && former != email
        {
            self.say_farewell(former);
        }
        Ok(())
    }

    /// Notifies who reads mail at an address that it is no longer that of the account: it may have been someone else who replaced it.
    fn say_farewell(&self, former: Email) {
        let this = self.clone();
        self.0.tasks.spawn(async move {
            match this.send(&former, farewell_mail).await {
                Ok(()) => {}
                Err(error @ Error::AddressRefused(_)) => {
                    tracing::info!("no mail to an address that was replaced: {error}")
                }
                Err(error) => this.0.outage.failed(WHAT, &error),
            }
        });
    }

    /// Makes a link good again that did nothing: a password that the realm refuses, or a realm that does not answer. That of an account
    /// that was deleted meanwhile is good for nothing any more.
    async fn settled<T: Send>(
        &self,
        token: &SecretString,
        ticket: &Ticket,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(Error::Store(StoreError::Rejected)) => Err(Error::NoLink),
            Err(error) => {
                self.0.tickets.give_back(token, ticket).await?;
                Err(error)
            }
        }
    }

    /// Returns the address of the caller's account.
    pub(crate) async fn email(&self, caller: &Session) -> Result<OwnEmail, Error> {
        self.0.accounts.email(caller).await
    }

    /// Returns the address that a link for a new password is sent to; `None` when the user is sent none.
    pub(crate) async fn reachable_at(&self, user_id: UserId) -> Result<Option<Email>, Error> {
        if self.0.mail.is_none() {
            return Ok(None);
        }
        let OwnEmail { email, is_confirmed } = self.0.accounts.email_of(user_id).await?;
        Ok(email.filter(|_| is_confirmed))
    }

    /// Makes all links of a user good for nothing: with the password changes who has the account.
    pub(crate) async fn revoke(&self, user_id: UserId) -> Result<(), Error> {
        if self.0.mail.is_none() {
            return Ok(());
        }
        self.0.tickets.revoke_password(user_id).await?;
        Ok(self.0.tickets.revoke_email(user_id).await?)
    }

    async fn taken(
        &self,
        address: IpAddr,
        token: &SecretString,
        is_it: impl Fn(&Ticket) -> bool + Send,
    ) -> Result<Ticket, Error> {
        self.0.accounts.count_code(address)?;
        match self.0.tickets.take(token, is_it).await? {
            Taken::Good(ticket) => {
                self.0.accounts.good_code(address);
                Ok(ticket)
            }
            Taken::Used => Err(Error::LinkUsed),
            Taken::Unknown => Err(Error::NoLink),
        }
    }

    fn configured(&self) -> Result<&(Mailer, String), Error> {
        self.0.mail.as_ref().ok_or(Error::NoMail)
    }

    fn count(&self, user: Option<UserId>, address: IpAddr, email: &Email) -> Result<(), Error> {
        let mut rates = self.0.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.count(user, address, email, Instant::now()).map_err(Error::Limited)
    }

    async fn send(&self, to: &Email, mail: impl FnOnce(&str) -> Mail + Send) -> Result<(), Error> {
        let (mailer, origin) = self.configured()?;
        let sent = mailer.send(to, mail(origin)).await;
        if !matches!(sent, Err(MailError::Late | MailError::Server(_))) {
            self.0.outage.worked(WHAT);
        }
        sent.map_err(|error| match error {
            MailError::NoSuchAddress(status) | MailError::Refused(status) => Error::AddressRefused(status),
            error => Error::Mail(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_user_writes_to_few_addresses_from_wherever_it_is_asked() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        let (ann, bob) = (UserId::generate(), UserId::generate());
        let mut ask = |user, n: u8, now| {
            let email = Email::parse("email", &format!("user{n}@corp.test")).expect("an address");
            rates.count(user, IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)), &email, now)
        };
        let sent = (0..100).take_while(|n| ask(Some(ann), *n, now).is_ok()).count();
        assert_eq!(sent, 5);
        assert_eq!(ask(Some(bob), 200, now), Ok(()), "another user");
        assert_eq!(ask(None, 201, now), Ok(()), "nobody who is signed in");
        let wait = ask(Some(ann), 202, now).expect_err("too many");
        assert_eq!(ask(Some(ann), 202, now + wait), Ok(()), "after the wait");
    }
}
