//! How often credentials may be tried. Synchronous, with the time as an argument.
//!
//! A wrong password counts against the pair of the username and the address that it came from, and against the address.
//! It never counts against the username alone: a stranger who tries passwords is held up, and the owner of the account is
//! not, wherever else they are. The realm does count so, for its own pages, and blocks an account after
//! [`REALM_FAILURES`](kit::catalog::REALM_FAILURES): more than these limits let one address try.
//!
//! A user who changes a password is signed in: a wrong one counts against the account, from wherever it is tried, and against no
//! sign-in.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use contracts::UserId;
use kit::{
    bucket::{Buckets, Rate},
    text::Username,
};

/// The rates that are in force.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRates {
    /// Wrong passwords for one username from one address.
    pub account_failures: Rate,
    /// Wrong passwords and codes from one address, whatever the username.
    pub address_failures: Rate,
    /// Wrong passwords of an account at a change of its password. Fewer than at a sign-in: who tries them may have found the
    /// device of a user who is signed in.
    pub change_failures: Rate,
    /// Requests about the sessions of one user.
    pub session_requests: Rate,
    /// New accounts from one address: a school or an office has one address for many.
    pub registrations: Rate,
}

impl Default for AttemptRates {
    fn default() -> Self {
        Self {
            account_failures: Rate::every(Duration::from_secs(30), 5),
            address_failures: Rate::every(Duration::from_secs(1), 100),
            change_failures: Rate::every(Duration::from_secs(600), 5),
            session_requests: Rate::every(Duration::from_secs(1), 60),
            registrations: Rate::every(Duration::from_secs(1), 300),
        }
    }
}

/// What was tried lately. Whichever of too many usernames is forgotten, the address is counted, too.
#[derive(Debug)]
pub struct Attempts {
    accounts: Buckets<(IpAddr, Username)>,
    addresses: Buckets<IpAddr>,
    changes: Buckets<UserId>,
    sessions: Buckets<UserId>,
    registrations: Buckets<IpAddr>,
}

impl Attempts {
    /// Returns attempts of which none was made.
    pub fn new(rates: AttemptRates) -> Self {
        let AttemptRates {
            account_failures,
            address_failures,
            change_failures,
            session_requests,
            registrations,
        } = rates;
        Self {
            accounts: Buckets::new(account_failures),
            addresses: Buckets::new(address_failures),
            changes: Buckets::new(change_failures),
            sessions: Buckets::new(session_requests),
            registrations: Buckets::new(registrations),
        }
    }

    /// Counts a sign-in that is about to be tried, as if it failed: those that are tried at once count too. Returns how
    /// long to wait when there were too many.
    pub fn sign_in(&mut self, address: IpAddr, username: &Username, now: Instant) -> Result<(), Duration> {
        let account = (address, username.clone());
        let waits =
            [self.accounts.wait(&account, now), self.addresses.wait(&address, now)].into_iter().flatten();
        if let Some(wait) = waits.max() {
            return Err(wait);
        }
        self.accounts.take(account, now);
        self.addresses.take(address, now);
        Ok(())
    }

    /// Takes back a sign-in that did not fail for its password: who knows it starts again.
    pub fn signed_in(&mut self, address: IpAddr, username: &Username, now: Instant) {
        self.accounts.forget(&(address, username.clone()));
        self.addresses.give_back(&address, now);
    }

    /// Takes back a sign-in of which nothing is known: the realm did not answer.
    pub fn unanswered(&mut self, address: IpAddr, username: &Username, now: Instant) {
        self.accounts.give_back(&(address, username.clone()), now);
        self.addresses.give_back(&address, now);
    }

    /// Counts a code of a sign-in that is about to be tried, as if it were wrong. Returns how long to wait when there were too many.
    pub fn code(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.addresses.try_take(address, now)
    }

    /// Takes back a code that was not wrong.
    pub fn good_code(&mut self, address: IpAddr, now: Instant) {
        self.addresses.give_back(&address, now);
    }

    /// Counts a change of a password that is about to be tried, as if it failed. Returns how long to wait when there were too many.
    pub fn change(&mut self, user: UserId, now: Instant) -> Result<(), Duration> {
        self.changes.try_take(user, now)
    }

    /// Takes back a change that did not fail for its password.
    pub fn changed(&mut self, user: UserId) {
        self.changes.forget(&user);
    }

    /// Takes back a change of which nothing is known.
    pub fn unanswered_change(&mut self, user: UserId, now: Instant) {
        self.changes.give_back(&user, now);
    }

    /// Counts a request about a user's sessions. Returns how long to wait when there were too many.
    pub fn session_request(&mut self, user: UserId, now: Instant) -> Result<(), Duration> {
        self.sessions.try_take(user, now)
    }

    /// Counts a registration. Returns how long to wait when there were too many.
    pub fn registration(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.registrations.try_take(address, now)
    }
}

#[cfg(test)]
mod tests {
    use kit::catalog::{REALM_FAILURES, REALM_FAILURES_SECONDS};

    use super::*;

    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OWNER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn name(text: &str) -> Username {
        Username::parse("username", text).expect("a username")
    }

    #[test]
    fn who_guesses_is_held_up_and_the_owner_is_not() {
        let (mut attempts, now) = (Attempts::new(AttemptRates::default()), Instant::now());
        for _ in 0..5 {
            assert_eq!(attempts.sign_in(STRANGER, &name("ann"), now), Ok(()));
        }
        let wait = attempts.sign_in(STRANGER, &name("ann"), now).expect_err("too many");
        assert!(wait > Duration::from_secs(29) && wait <= Duration::from_secs(31), "{wait:?}");
        assert_eq!(attempts.sign_in(OWNER, &name("ann"), now), Ok(()));
        assert_eq!(attempts.sign_in(STRANGER, &name("bob"), now), Ok(()), "another account");
        assert_eq!(attempts.sign_in(STRANGER, &name("ann"), now + wait), Ok(()), "after the wait");
    }

    #[test]
    fn no_realm_blocks_an_account_for_what_one_address_may_try() {
        let (mut attempts, begin) = (Attempts::new(AttemptRates::default()), Instant::now());
        let ann = UserId::generate();
        let forgets = Duration::from_secs(REALM_FAILURES_SECONDS.into());
        let (mut counted, mut last) = (0, begin);
        for second in 0..3_600 {
            let now = begin + Duration::from_secs(second);
            loop {
                let tried = attempts.sign_in(STRANGER, &name("ann"), now).is_ok();
                let changed = attempts.change(ann, now).is_ok();
                if !tried && !changed {
                    break;
                }
                counted = if now - last > forgets { 0 } else { counted };
                counted += u8::from(tried) + u8::from(changed);
                last = now;
            }
            assert!(counted < REALM_FAILURES, "{counted} wrong passwords after {second} s");
        }
    }

    #[test]
    fn one_password_for_all_names_is_held_up_too() {
        let (mut attempts, now) = (Attempts::new(AttemptRates::default()), Instant::now());
        let tried = (0..1_000)
            .take_while(|n| attempts.sign_in(STRANGER, &name(&format!("user{n}")), now).is_ok())
            .count();
        assert_eq!(tried, 100);
        assert_eq!(attempts.sign_in(OWNER, &name("ann"), now), Ok(()));
    }

    #[test]
    fn who_knows_the_password_never_waits() {
        let (mut attempts, now) = (Attempts::new(AttemptRates::default()), Instant::now());
        for _ in 0..1_000 {
            assert_eq!(attempts.sign_in(OWNER, &name("ann"), now), Ok(()));
            attempts.signed_in(OWNER, &name("ann"), now);
            assert_eq!(attempts.sign_in(OWNER, &name("bob"), now), Ok(()));
            attempts.unanswered(OWNER, &name("bob"), now);
        }
    }

    #[test]
    fn a_found_device_does_not_guess_the_password_nor_hold_up_its_owner() {
        let (mut attempts, now) = (Attempts::new(AttemptRates::default()), Instant::now());
        let (ann, bob) = (UserId::generate(), UserId::generate());
        let tried = (0..100).take_while(|_| attempts.change(ann, now).is_ok()).count();
        assert_eq!(tried, 5);
        assert_eq!(attempts.change(bob, now), Ok(()), "another account");
        assert_eq!(attempts.sign_in(OWNER, &name("ann"), now), Ok(()));
        assert_eq!(attempts.change(ann, now + Duration::from_secs(601)), Ok(()), "after the wait");
        for _ in 0..100 {
            assert_eq!(attempts.change(bob, now), Ok(()), "who knows it is not held up");
            attempts.changed(bob);
            assert_eq!(attempts.change(bob, now), Ok(()));
            attempts.unanswered_change(bob, now);
        }
    }

    #[test]
    fn registrations_of_an_address_have_a_rate() {
        let (mut attempts, now) = (Attempts::new(AttemptRates::default()), Instant::now());
        let made = (0..1_000).take_while(|_| attempts.registration(STRANGER, now).is_ok()).count();
        assert_eq!(made, 300);
        assert_eq!(attempts.registration(OWNER, now), Ok(()));
        assert_eq!(attempts.registration(STRANGER, now + Duration::from_secs(2)), Ok(()));
    }
}
