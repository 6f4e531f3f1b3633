//! What is between the operator and everything that it calls: each call passes here, and to one of them a fault happens.

use std::{
    future::pending,
    sync::{Arc, Mutex},
};

use crds::TenantId;
use tokio::sync::Notify;

use super::request::Request;
use crate::locks::lock;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is done, and the answer is an error that may pass.
    Fails,
    /// Nothing is done, and the API server answers that the object has changed.
    Conflicts,
    /// Nothing is done and no answer comes: the caller has to give it up.
    Hangs,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It is done twice, as what lies between may send it again. The second answer is the one that comes.
    Twice,
    /// It is done, and the operator dies before it learns of it.
    Kills,
    /// It is answered as things were this many changes ago.
    Stale(usize),
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    List,
    ApiWrite,
    BackendWrite,
    Probe,
}

impl Kind {
    /// Returns the faults that make a difference.
    pub fn faults(self) -> &'static [Fault] {
        use Fault::{AnswerLost, Conflicts, Fails, Hangs, Kills, Stale, Twice};
        match self {
            Self::Probe => &[Fails],
            Self::Read => &[Fails, Hangs],
            Self::List => &[Fails, Hangs, Stale(1), Stale(20)],
            Self::BackendWrite => &[Fails, Hangs, AnswerLost, Twice, Kills],
            Self::ApiWrite => &[Fails, Conflicts, Hangs, AnswerLost, Twice, Kills],
        }
    }

    pub const fn is_write(self) -> bool {
        matches!(self, Self::ApiWrite | Self::BackendWrite)
    }
}

/// One call, in words, and what it names.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub kind: Kind,
    pub text: String,
    pub target: Target,
}

/// What a call names.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Objects at the API server.
    Objects(Arc<Request>),
    /// What a tenant has in a backend, as the backend calls it.
    Part { name: String },
    /// The addresses of a tenant.
    Addresses(TenantId),
}

/// Knows all calls, and which of them has a fault.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fault: Option<(usize, Fault)>,
    calls: Mutex<Vec<Call>>,
    killed: Notify,
}

impl Line {
    /// Returns a line with a fault at one call, by its number.
    pub fn with(fault: Option<(usize, Fault)>) -> Self {
        Self(Arc::new(Inner { fault, ..Inner::default() }))
    }

    /// Makes a call. `work` does it, as of so many changes ago; `failure` is what the caller gets where a fault happens.
    pub async fn call<T>(&self, call: Call, work: impl Fn(usize) -> T, failure: impl Fn(Fault) -> T) -> T {
        let fault = {
            let mut calls = lock(&self.0.calls);
            calls.push(call);
            let number = calls.len() - 1;
            self.0.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault)
        };
        match fault {
            None => work(0),
            Some(fault @ (Fault::Fails | Fault::Conflicts)) => failure(fault),
            Some(Fault::Hangs) => pending().await,
            Some(Fault::AnswerLost) => {
                _ = work(0);
                failure(Fault::AnswerLost)
            }
            Some(Fault::Twice) => {
                _ = work(0);
                work(0)
            }
            Some(Fault::Kills) => {
                _ = work(0);
                self.0.killed.notify_one();
                pending().await
            }
            Some(Fault::Stale(changes)) => work(changes),
        }
    }

    /// Returns when the operator dies.
    pub async fn killed(&self) {
        self.0.killed.notified().await;
    }

    /// Returns all calls so far.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.0.calls).clone()
    }

    /// Returns those that came after so many.
    pub fn calls_since(&self, known: usize) -> Vec<Call> {
        lock(&self.0.calls)[known..].to_vec()
    }

    /// Returns how many of them were writes.
    pub fn writes(&self) -> usize {
        lock(&self.0.calls).iter().filter(|call| call.kind.is_write()).count()
    }
}
