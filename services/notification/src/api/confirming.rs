//! How often mails are sent to addresses that nobody confirmed: a messenger is no means to fill the mailbox of a stranger.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::UserId;
use kit::{
    bucket::{Buckets, Rate},
    mail::Email,
};

use crate::error::Error;

/// Of one user, and to one address, whichever user enters it.
const RATE: Rate = Rate::every(Duration::from_secs(1200), 3);

/// The mails that this process sent lately to confirm addresses. Cheap to clone.
#[derive(Clone)]
pub struct Confirming(Arc<Mutex<Sent>>);

struct Sent {
    users: Buckets<UserId>,
    addresses: Buckets<Email>,
}

impl Default for Confirming {
    fn default() -> Self {
        let sent = Sent { users: Buckets::new(RATE), addresses: Buckets::new(RATE) };
        Self(Arc::new(Mutex::new(sent)))
    }
}

impl Confirming {
    /// Counts a mail of a user to an address.
    pub(crate) fn count(&self, user_id: UserId, address: &Email) -> Result<(), Error> {
        let (mut sent, now) = (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let wait = sent.users.wait(&user_id, now).max(sent.addresses.wait(address, now));
        if let Some(wait) = wait {
            return Err(Error::TooManyMails { wait });
        }
        sent.users.take(user_id, now);
        sent.addresses.take(address.clone(), now);
        Ok(())
    }
}
