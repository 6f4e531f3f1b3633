//! What every backend keeps to, run against the real systems. A backend joins with a [`Fixture`] and one line
//! `conformance::suite!(...)` in its file.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use crds::{Reason, TenantId};
use operator::{
    backend::{
        Backend, ChangeKind, Claim, Credentials, DataExpected, Marker, Mode, Owner, Ownership, settle,
    },
    leader::Fence,
    metrics::Metrics,
};
use secrecy::SecretString;
use tokio::net::TcpListener;

use super::{assert_reason, converge, eventually, lines, owner, password, story, stranger, tenant_id, timed};

/// How a real system is reached and what its administrators and tenants do there without the operator.
pub trait Fixture {
    type Backend: Backend<Desired: Clone>;

    /// A refused connection is reported within this time.
    const REFUSED_WITHIN: Duration = Duration::from_secs(4);

    /// It checks logins against its cache, so a change is noticed after a while.
    const CACHES_LOGINS: bool = false;

    /// A tenant has an account there, which no longer works once the tenant is deleted.
    const HAS_ACCOUNT: bool = true;

    /// `host:port` of the real system.
    fn address() -> String;

    /// The operator's account.
    fn account() -> Credentials;

    fn connect(address: &str, account: Credentials) -> Self::Backend;

    fn desired(id: &TenantId, owner: Owner, password: SecretString) -> <Self::Backend as Backend>::Desired;

    /// Writes something with the tenant's own account, or uses what it has there where it has no account. Returns how often that was
    /// done: its data is still there.
    async fn use_account(desired: &<Self::Backend as Backend>::Desired) -> Result<i64, String>;

    /// Edits by hand what the tenant has. Returns the lines of the repair.
    async fn edit(desired: &<Self::Backend as Backend>::Desired) -> Vec<String>;

    /// Creates by hand an object that has a tenant's name and no owner marker.
    async fn create_foreign(name: &str);

    /// Returns all there is to see of that object.
    async fn foreign(name: &str) -> String;

    async fn remove_foreign(name: &str);

    /// Replaces by hand the owner marker `from` by the one with the text `to`.
    async fn mark(
        admin: &Self::Backend,
        desired: &<Self::Backend as Backend>::Desired,
        from: &Marker,
        to: &str,
    );

    /// Destroys by hand what holds the tenant's data. Reports whether there is such a thing.
    async fn lose(_desired: &<Self::Backend as Backend>::Desired) -> bool {
        false
    }

    /// Leaves a release half done, as an operator does that dies there.
    async fn begin_release(_admin: &Self::Backend, _desired: &<Self::Backend as Backend>::Desired) {}
}

/// Declares the suite for one backend.
macro_rules! suite {
    ($fixture:ty) => {
        mod conforms {
            use super::*;

            $crate::conformance::suite!($fixture, which may take every client);
            $crate::conformance::suite!($fixture: a_wrong_password_is_told_from_a_dead_port,);
        }
    };
    ($fixture:ty, which may take every client) => {
        $crate::conformance::suite!(
            $fixture:
            what_is_declared_is_created_once_and_removed,
            drift_is_repaired,
            a_dry_run_writes_nothing,
            a_closed_fence_lets_nothing_through,
            a_foreign_object_is_a_conflict_and_untouched,
            another_owners_tenant_is_a_conflict_and_untouched,
            a_retained_tenant_is_locked_and_readopted_in_its_namespace_only,
            what_a_former_owner_left_is_adopted_by_its_heir_only,
            the_markers_of_former_versions_are_understood,
            lost_data_is_recreated_only_when_the_loss_is_accepted,
            a_slow_answer_is_given_up_in_time,
        );
    };
    ($fixture:ty: $($test:ident,)+) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::conformance::$test::<$fixture>().await;
        })+
    };
}
pub(crate) use suite;

type Desired<F> = <<F as Fixture>::Backend as Backend>::Desired;

fn admin<F: Fixture>() -> F::Backend {
    F::connect(&F::address(), F::account())
}

/// One tenant of a test.
struct Subject<F: Fixture> {
    id: TenantId,
    name: String,
    claim: Claim,
    desired: Desired<F>,
}

impl<F: Fixture> Subject<F> {
    fn new(id: &TenantId, owner: Owner) -> Self {
        let desired = F::desired(id, owner.clone(), password());
        Self { id: id.clone(), name: F::Backend::name(id), claim: F::Backend::claim(id, owner), desired }
    }

    async fn use_account(&self) -> Result<i64, String> {
        Box::pin(F::use_account(&self.desired)).await
    }

    /// Fails unless the tenant's account does not work. Returns how often it still worked: a server may remember a login.
    async fn is_locked_out(&self) -> i64 {
        let uses = AtomicI64::new(0);
        if !F::HAS_ACCOUNT {
            return uses.into_inner();
        }
        if F::CACHES_LOGINS {
            let is_refused = async || {
                let used = self.use_account().await;
                uses.fetch_add(i64::from(used.is_ok()), Ordering::Relaxed);
                used.is_err()
            };
            eventually("no client can log in", is_refused).await;
        }
        self.use_account().await.unwrap_err();
        uses.into_inner()
    }

    /// Uses the tenant's account once it works, and returns how often that was done. A server may remember that it did not.
    async fn is_let_in(&self) -> i64 {
        let uses = AtomicI64::new(0);
        let is_used = async || match self.use_account().await {
            Ok(times) => {
                uses.store(times, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        };
        eventually("the account works", is_used).await;
        uses.into_inner()
    }

    /// Runs a test, then removes what the tenant has, whatever happened.
    async fn story(&self, admin: &F::Backend, body: impl Future<Output = ()>) {
        story(body, async { _ = admin.remove(&self.claim).await }).await;
    }
}

fn plan<F: Fixture>(
    desired: &Desired<F>,
    observed: &<F::Backend as Backend>::Observed,
) -> Vec<(ChangeKind, String)> {
    let plan = F::Backend::plan(desired, observed);
    plan.iter().map(|change| (F::Backend::kind(change), change.to_string())).collect()
}

pub async fn what_is_declared_is_created_once_and_removed<F: Fixture>() {
    let (admin, tenant) = (admin::<F>(), Subject::<F>::new(&tenant_id(), owner()));
    let name = F::Backend::ENTRY;
    tenant
        .story(&admin, async {
            let nothing = timed(&format!("{name} connect"), admin.observe(&tenant.desired)).await.unwrap();
            let planned = plan::<F>(&tenant.desired, &nothing);
            assert_eq!(planned, plan::<F>(&tenant.desired, &Default::default()), "nothing is there yet");
            assert_eq!(admin.ownership(&tenant.claim).await.unwrap(), Ownership::Absent);
            let made = timed(&format!("{name} create"), converge(&admin, &tenant.desired)).await;
            assert_eq!(made, lines(planned.iter().map(|(_, line)| line)));
            assert_eq!(tenant.use_account().await, Ok(1));
            assert_eq!(admin.ownership(&tenant.claim).await.unwrap(), Ownership::Ours);

            // A second pass plans nothing, and so writes nothing.
            let observed = admin.observe(&tenant.desired).await.unwrap();
            assert_eq!(plan::<F>(&tenant.desired, &observed), vec![]);
            let metrics = Metrics::default();
            let fence = Fence::always_open();
            let pass = settle(&admin, &tenant.desired, DataExpected::No, Mode::Apply, &fence, &metrics);
            let steady = timed(&format!("{name} steady"), pass).await.unwrap();
            assert_eq!((steady.changes, steady.blocked), (vec![], vec![]));
            assert_eq!(metrics.text(), Metrics::default().text(), "no write is counted");

            let removed = timed(&format!("{name} remove"), admin.remove(&tenant.claim)).await.unwrap();
            assert_ne!(removed, [""; 0]);
            assert_eq!(admin.remove(&tenant.claim).await.unwrap(), [""; 0], "a removal can be repeated");
            let left = admin.observe(&tenant.desired).await.unwrap();
            assert_eq!(plan::<F>(&tenant.desired, &left), planned, "nothing is left");
            tenant.is_locked_out().await;
        })
        .await;
}

pub async fn drift_is_repaired<F: Fixture>() {
    let (admin, tenant) = (admin::<F>(), Subject::<F>::new(&tenant_id(), owner()));
    tenant
        .story(&admin, async {
            converge(&admin, &tenant.desired).await;
            let repair = F::edit(&tenant.desired).await;
            let pass = converge(&admin, &tenant.desired);
            assert_eq!(timed(&format!("{} repair", F::Backend::ENTRY), pass).await, repair);
            assert_eq!(converge(&admin, &tenant.desired).await, [""; 0]);
            eventually("the account works again", async || tenant.use_account().await.is_ok()).await;
        })
        .await;
}

pub async fn a_dry_run_writes_nothing<F: Fixture>() {
    let (admin, tenant) = (admin::<F>(), Subject::<F>::new(&tenant_id(), owner()));
    tenant
        .story(&admin, async {
            let (fence, metrics) = (Fence::always_open(), Metrics::default());
            let dry = settle(&admin, &tenant.desired, DataExpected::No, Mode::DryRun, &fence, &metrics)
                .await
                .unwrap();
            assert_eq!(dry.changes, plan::<F>(&tenant.desired, &Default::default()));
            let left = admin.observe(&tenant.desired).await.unwrap();
            assert_eq!(plan::<F>(&tenant.desired, &left), dry.changes);
            assert_eq!(metrics.text(), Metrics::default().text(), "no write is counted");
        })
        .await;
}

pub async fn a_closed_fence_lets_nothing_through<F: Fixture>() {
    let (admin, tenant) = (admin::<F>(), Subject::<F>::new(&tenant_id(), owner()));
    tenant
        .story(&admin, async {
            let changes = F::Backend::plan(&tenant.desired, &Default::default());
            let results = admin.apply_all(&tenant.desired, &changes, &Fence::default()).await;
            assert!(results.is_empty(), "{results:?}");
            let left = admin.observe(&tenant.desired).await.unwrap();
            assert_eq!(plan::<F>(&tenant.desired, &left).len(), changes.len());
        })
        .await;
}

pub async fn a_foreign_object_is_a_conflict_and_untouched<F: Fixture>() {
    let (admin, tenant) = (admin::<F>(), Subject::<F>::new(&tenant_id(), owner()));
    let body = async {
        F::create_foreign(&tenant.name).await;
        let before = F::foreign(&tenant.name).await;
        let conflict = assert_reason(admin.observe(&tenant.desired).await, Reason::ResourceConflict);
        assert!(
            conflict.ends_with("exists and has no owner marker: not created by this operator"),
            "{conflict}"
        );
        let (fence, metrics) = (Fence::always_open(), Metrics::default());
        let settled = settle(&admin, &tenant.desired, DataExpected::No, Mode::Apply, &fence, &metrics).await;
        assert_reason(settled, Reason::ResourceConflict);
        assert_reason(admin.ownership(&tenant.claim).await, Reason::ResourceConflict);
        assert_reason(admin.remove(&tenant.claim).await, Reason::ResourceConflict);
        assert_eq!(F::foreign(&tenant.name).await, before);
    };
    story(body, F::remove_foreign(&tenant.name)).await;
}

pub async fn another_owners_tenant_is_a_conflict_and_untouched<F: Fixture>() {
    let (admin, id) = (admin::<F>(), tenant_id());
    let first = Subject::<F>::new(&id, owner());
    let second = Subject::<F>::new(&id, owner());
    first
        .story(&admin, async {
            converge(&admin, &first.desired).await;
            let conflict = assert_reason(admin.observe(&second.desired).await, Reason::ResourceConflict);
            assert!(conflict.contains(&first.claim.owner.uid), "{conflict}");
            assert_reason(admin.remove(&second.claim).await, Reason::ResourceConflict);
            assert_reason(admin.release(&second.claim).await, Reason::ResourceConflict);
            assert_eq!(converge(&admin, &first.desired).await, [""; 0]);
        })
        .await;
}

pub async fn a_retained_tenant_is_locked_and_readopted_in_its_namespace_only<F: Fixture>() {
    let (admin, id) = (admin::<F>(), tenant_id());
    let first = Subject::<F>::new(&id, owner());
    let next = Subject::<F>::new(&id, owner());
    let thief = Subject::<F>::new(&id, stranger());
    let body = async {
        converge(&admin, &first.desired).await;
        assert_eq!(first.use_account().await, Ok(1));
        F::begin_release(&admin, &first.desired).await;
        admin.release(&first.claim).await.unwrap();
        admin.release(&first.claim).await.expect("a release can be repeated");
        let uses = first.is_locked_out().await;
        let conflict = assert_reason(admin.observe(&thief.desired).await, Reason::ResourceConflict);
        assert!(conflict.contains("is kept for namespace here"), "{conflict}");
        assert_reason(admin.remove(&thief.claim).await, Reason::ResourceConflict);
        let changes = converge(&admin, &next.desired).await;
        assert!(changes[0].starts_with("take over the retained"), "{changes:?}");
        assert!(changes[0].contains(&next.name), "{changes:?}");
        assert_eq!(converge(&admin, &next.desired).await, [""; 0]);
        assert_reason(admin.observe(&first.desired).await, Reason::ResourceConflict);
        assert_eq!(next.is_let_in().await, 2 + uses, "the data is still there");
    };
    let clean_up = async {
        _ = admin.remove(&next.claim).await;
        _ = admin.remove(&first.claim).await;
    };
    story(body, clean_up).await;
}

pub async fn what_a_former_owner_left_is_adopted_by_its_heir_only<F: Fixture>() {
    let (admin, id) = (admin::<F>(), tenant_id());
    let first = Subject::<F>::new(&id, owner());
    let Owner { uid, .. } = first.claim.owner.clone();
    let heir = Subject::<F>::new(&id, Owner { heir_of: vec![uid.clone()], ..owner() });
    let stranger = Subject::<F>::new(&id, Owner { heir_of: vec!["another".to_owned()], ..owner() });
    let body = async {
        converge(&admin, &first.desired).await;
        assert_eq!(first.use_account().await, Ok(1));
        for refused in [
            admin.observe(&stranger.desired).await.map(|_| ()),
            admin.ownership(&stranger.claim).await.map(|_| ()),
            admin.remove(&stranger.claim).await.map(|_| ()),
            admin.release(&stranger.claim).await,
        ] {
            let conflict = assert_reason(refused, Reason::ResourceConflict);
            assert!(conflict.ends_with(&format!("belongs to MessengerTenant here/acme (UID {uid})")));
        }
        let changes = converge(&admin, &heir.desired).await;
        let end = format!(" of MessengerTenant here/acme (UID {uid}), which no longer exists");
        assert!(changes[0].starts_with("adopt ") && changes[0].ends_with(&end), "{changes:?}");
        assert_eq!(admin.ownership(&heir.claim).await.unwrap(), Ownership::Ours);
        assert_eq!(converge(&admin, &heir.desired).await, [""; 0]);
        assert_reason(admin.observe(&first.desired).await, Reason::ResourceConflict);
        let is_there = async || heir.use_account().await.is_ok_and(|uses| uses > 1);
        eventually("the account works and the data is still there", is_there).await;
    };
    let clean_up = async {
        _ = admin.remove(&heir.claim).await;
        _ = admin.remove(&first.claim).await;
    };
    story(body, clean_up).await;
}

/// They hold a UID and no more, or the namespace of a tenant that was retained.
pub async fn the_markers_of_former_versions_are_understood<F: Fixture>() {
    let (admin, id) = (admin::<F>(), tenant_id());
    let tenant = Subject::<F>::new(&id, owner());
    let Owner { uid, namespace, .. } = tenant.claim.owner.clone();
    tenant
        .story(&admin, async {
            converge(&admin, &tenant.desired).await;
            let marker = tenant.claim.owner.marker();
            F::mark(&admin, &tenant.desired, &marker, &uid).await;
            let stranger = Subject::<F>::new(&id, owner());
            let conflict = assert_reason(admin.observe(&stranger.desired).await, Reason::ResourceConflict);
            assert!(
                conflict.contains(&format!("belongs to the MessengerTenant with UID {uid}")),
                "{conflict}"
            );
            let observed = admin.observe(&tenant.desired).await.unwrap();
            let planned = plan::<F>(&tenant.desired, &observed);
            assert_eq!(planned.len(), 1, "{planned:?}");
            assert_eq!(planned[0].0, ChangeKind::Record);
            assert!(planned[0].1.starts_with("name the owner of "), "{planned:?}");
            converge(&admin, &tenant.desired).await;
            assert_eq!(admin.ownership(&tenant.claim).await.unwrap(), Ownership::Ours);
            assert_eq!(converge(&admin, &tenant.desired).await, [""; 0]);

            F::mark(&admin, &tenant.desired, &marker, &format!("released:{namespace}")).await;
            let changes = converge(&admin, &tenant.desired).await;
            assert!(changes[0].starts_with("take over the retained"), "{changes:?}");
            assert_eq!(converge(&admin, &tenant.desired).await, [""; 0]);
        })
        .await;
}

pub async fn lost_data_is_recreated_only_when_the_loss_is_accepted<F: Fixture>() {
    let (admin, tenant) = (admin::<F>(), Subject::<F>::new(&tenant_id(), owner()));
    tenant
        .story(&admin, async {
            let (fence, metrics) = (Fence::always_open(), Metrics::default());
            let generation = async || {
                let observed = admin.observe(&tenant.desired).await.unwrap();
                F::Backend::facts(&observed).generation
            };
            converge(&admin, &tenant.desired).await;
            let first = generation().await;
            let is_used = async || tenant.use_account().await.is_ok();
            eventually("the tenant writes data", is_used).await;
            assert_eq!(generation().await, first, "it is the same whatever the tenant does with its data");
            let is_missed = F::Backend::data(&tenant.desired).is_some();
            assert!(first.is_some() || !is_missed, "what is missed is known");
            if !F::lose(&tenant.desired).await {
                assert!(!is_missed, "what is missed can be lost");
                return;
            }
            for mode in [Mode::DryRun, Mode::Apply] {
                let settled =
                    settle(&admin, &tenant.desired, DataExpected::Recorded, mode, &fence, &metrics).await;
                let loss = assert_reason(settled, Reason::DataLoss);
                assert!(loss.contains(&F::Backend::data(&tenant.desired).unwrap()), "{loss}");
            }
            assert_eq!(metrics.text(), Metrics::default().text(), "no write is counted");
            assert_eq!(generation().await, None);
            // A successor receives the same, if anything of the tenant is left.
            let heir = Owner { heir_of: vec![tenant.claim.owner.uid.clone()], ..owner() };
            let heir = F::desired(&tenant.id, heir, password());
            let settled =
                settle(&admin, &heir, DataExpected::IfInherited, Mode::DryRun, &fence, &metrics).await;
            let found = admin.ownership(&tenant.claim).await.unwrap();
            match settled {
                Err(loss) => assert_eq!((loss.reason(), found), (Reason::DataLoss, Ownership::Ours)),
                Ok(_) => assert_eq!(found, Ownership::Absent),
            }
            converge(&admin, &tenant.desired).await;
            let second = generation().await;
            assert!(second.is_some() && second != first, "{first:?} {second:?}");
            let is_usable = async || tenant.use_account().await == Ok(1);
            eventually("it is usable and empty", is_usable).await;
        })
        .await;
}

pub async fn a_wrong_password_is_told_from_a_dead_port<F: Fixture>() {
    let tenant = Subject::<F>::new(&tenant_id(), owner());
    let wrong = F::connect(&F::address(), Credentials::new(F::account().username, "wrong"));
    assert_reason(wrong.observe(&tenant.desired).await, Reason::CredentialsRejected);
    let address = F::address();
    let host = address.split(':').next().unwrap();
    let dead = F::connect(&format!("{host}:1"), F::account());
    let started = Instant::now();
    assert_reason(dead.observe(&tenant.desired).await, Reason::BackendUnavailable);
    assert!(started.elapsed() < F::REFUSED_WITHIN, "{:?}", started.elapsed());
}

/// A server that accepts connections and never responds.
pub async fn a_slow_answer_is_given_up_in_time<F: Fixture>() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let slow = F::connect(&listener.local_addr().unwrap().to_string(), F::account());
    let tenant = Subject::<F>::new(&tenant_id(), owner());
    let started = Instant::now();
    assert_reason(slow.observe(&tenant.desired).await, Reason::BackendUnavailable);
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}
