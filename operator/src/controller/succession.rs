//! Calls of a backend as the owner of a tenant's part, or as the heir of one that is gone.

use std::collections::BTreeSet;

use crds::ConditionType;
use futures_util::future::BoxFuture;
use kube::ResourceExt;

use super::context::Pass;
use crate::{
    backend::{BackendError, Holder, MarkedOwner},
    observe,
    previous::was_good_in_this_life,
    succession::{self, Claimant, NotAdopted},
};

/// Why a backend was not called with success.
pub(super) struct Failure {
    pub error: BackendError,
    /// Why the tenant is not the heir of the owner that was found.
    pub not_adopted: Option<NotAdopted>,
}

impl Failure {
    /// Reports whether it may pass without anyone changing anything.
    pub fn is_retryable(&self) -> bool {
        self.error.is_retryable() || self.not_adopted.as_ref().is_some_and(NotAdopted::may_pass)
    }
}

/// Calls a backend as the tenant's resource. Where it finds the marker of a former owner that the resource may succeed, calls it
/// once more with that owner among those it inherits from.
pub(super) async fn as_heir<'a, T>(
    pass: Pass<'_>,
    backend: catalog::Backend,
    call: impl Fn(Vec<String>) -> BoxFuture<'a, Result<T, BackendError>> + Send,
) -> Result<T, Failure> {
    let mut heir_of = Vec::new();
    loop {
        let error = match call(heir_of.clone()).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let not_adopted = match &error {
            BackendError::Conflict { holder: Holder::Owner(former), .. } => {
                match check(pass, backend, former).await {
                    Ok(()) if !heir_of.contains(&former.uid) => {
                        heir_of.push(former.uid.clone());
                        continue;
                    }
                    checked => checked.err(),
                }
            }
            _ => None,
        };
        return Err(Failure { error, not_adopted });
    }
}

/// Asks the API server itself which resources exist: a watch may lag behind, and what it does not show yet may be alive.
async fn check(
    Pass { resource, context, .. }: Pass<'_>,
    backend: catalog::Backend,
    former: &MarkedOwner,
) -> Result<(), NotAdopted> {
    let unknown = |why: String| NotAdopted::Unknown(why);
    let cell = &resource.spec.cell_ref.name;
    let cell = context.cell(cell).ok_or_else(|| unknown(format!("MessengerCell {cell} does not exist")))?;
    let listed = observe::with_tenant_id(&context.client, &resource.spec.tenant_id).await;
    let listed = listed.map_err(|error| unknown(error.to_string()))?;
    let living: BTreeSet<_> = listed.iter().filter_map(ResourceExt::uid).collect();
    let claimant = Claimant {
        uid: &resource.uid().unwrap_or_default(),
        place: &format!("{}/{}", resource.namespace().unwrap_or_default(), resource.name_any()),
        owned_it: was_good_in_this_life(resource, ConditionType::Backend(backend)),
    };
    succession::check(&claimant, former, &living, &cell)
}
