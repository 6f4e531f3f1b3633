//! Each backend against the real system, with the operator's own least-privilege account: what passes here
//! proves that the account suffices. Tenants have random ids and are removed even when a test fails.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a story ends where a step fails, and prints its figures"
)]

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use crds::{Reason, TenantId};
use futures_util::FutureExt;
use operator::{
    backend::{Backend, BackendError, Credentials, DataExpected, Mode, Owner, settle},
    leader::Fence,
    metrics::Metrics,
};

mod conformance;
mod cql;
mod faults;
mod kafka;
mod keycloak;
mod opensearch;
mod postgres;
mod rabbitmq;
mod redis;
mod registry;
mod s3;
mod stand_in;
mod tls;

/// A variable of the local stack.
fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run `make up-backends` and `source .local/stack.env`, then the tests again"
        )
    })
}

fn operator_account(system: &str) -> Credentials {
    Credentials::new(env(&format!("{system}_OPERATOR_USERNAME")), env(&format!("{system}_OPERATOR_PASSWORD")))
}

fn admin_account(system: &str) -> Credentials {
    Credentials::new(env(&format!("{system}_ADMIN_USERNAME")), env(&format!("{system}_ADMIN_PASSWORD")))
}

/// The authority of a system's certificate, in PEM.
fn authority(system: &str) -> String {
    std::fs::read_to_string(env(&format!("{system}_CA"))).unwrap()
}

/// A tenant id no other run uses.
fn tenant_id() -> TenantId {
    format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

/// A resource of the namespace all tenants of these tests are in.
fn owner() -> Owner {
    Owner {
        uid: uuid::Uuid::new_v4().to_string(),
        namespace: "here".into(),
        name: "acme".into(),
        heir_of: Vec::new(),
    }
}

/// A resource of another namespace.
fn stranger() -> Owner {
    Owner { namespace: "elsewhere".into(), ..owner() }
}

fn password() -> secrecy::SecretString {
    uuid::Uuid::new_v4().simple().to_string().into()
}

/// Runs a story, then the clean-up whatever happened, then reports what happened.
async fn story(story: impl Future<Output = ()>, clean_up: impl Future<Output = ()>) {
    // Boxed, because what a story awaits adds up to more than the stack of a test's thread.
    let outcome = AssertUnwindSafe(Box::pin(story)).catch_unwind().await;
    clean_up.await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Waits, at most 10 s, until a store with a cache has noticed a change.
async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not so after 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Prints how long a step took; the figures of the README come from here.
async fn timed<T>(what: &str, step: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let value = step.await;
    println!("TIME {what}: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    value
}

fn lines(changes: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    changes.into_iter().map(|change| change.to_string()).collect()
}

/// Brings a tenant to what is desired, as a pass does. Returns what was done.
async fn converge<B: Backend>(admin: &B, desired: &B::Desired) -> Vec<String> {
    let (fence, metrics) = (Fence::always_open(), Metrics::default());
    let settled =
        Box::pin(settle(admin, desired, DataExpected::No, Mode::Apply, &fence, &metrics)).await.unwrap();
    assert_eq!(settled.blocked, [""; 0]);
    settled.changes.into_iter().map(|(_, line)| line).collect()
}

/// Returns the error's message.
#[track_caller]
fn assert_reason<T>(result: Result<T, BackendError>, reason: Reason) -> String {
    match result {
        Ok(_) => panic!("succeeded instead of {reason}"),
        Err(error) => {
            assert_eq!(error.reason(), reason, "{error}");
            error.to_string()
        }
    }
}
