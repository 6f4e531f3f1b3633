//! Reports how full a cell is and whether its admin Secrets are complete, and cleans up what deletions left behind. Otherwise
//! backends are looked at by tenants' passes.

use std::{sync::Arc, time::Duration};

use crds::{CellStatus, ConditionType, MessengerCell, Reason};
use kube::{core::DeserializeGuard, runtime::controller::Action};

use super::{
    contained,
    context::{Context, PassError},
    deletion, unreadable,
};
use crate::{
    backend,
    events::reference,
    placement,
    status::{self, Outcome, Outcomes, conditions},
    tenant::Cell,
};

/// Admin Secrets appear without an event of the cell.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub(super) async fn reconcile(
    guarded: Arc<DeserializeGuard<MessengerCell>>,
    context: Arc<Context>,
) -> Result<Action, PassError> {
    match &guarded.0 {
        Ok(resource) => contained(look_at(resource, &context)).await,
        Err(invalid) => unreadable::report::<MessengerCell>(invalid, &context).await,
    }
}

async fn look_at(resource: &MessengerCell, context: &Context) -> Result<Action, PassError> {
    context.stores_ready().await;
    let name = resource.metadata.name.clone().unwrap_or_default();
    let placed = placement::placed_on(&name, &context.fleet());
    let mut previous = resource.status.clone().unwrap_or_default();
    status::retain_own(&mut previous.conditions);
    let mut leftovers = previous.leftovers.clone();
    let outcome = match Cell::new(resource) {
        Err(invalid) => Outcome::action_required(Reason::InvalidSpec, invalid.to_string()),
        Ok(cell) => {
            if !leftovers.is_empty() && context.memory.is_clean_up_due(resource, LOOK_EVERY) {
                leftovers = deletion::retry_leftovers(&leftovers, &cell, context).await;
            }
            match missing_login(&cell, context) {
                Some(missing) => Outcome::action_required(Reason::AdminSecretMissing, missing),
                None if placed >= cell.capacity => Outcome::action_required(
                    Reason::CapacityExhausted,
                    format!(
                        "{placed} of {} places are taken; raise spec.capacity.tenants or add a cell",
                        cell.capacity
                    ),
                ),
                None => Outcome::good(Reason::AllReady, "the cell takes tenants"),
            }
        }
    };
    let mut outcomes = Outcomes::new();
    outcomes.insert(ConditionType::ExternalIPsRefused, external_ips(context).await?);
    let status = CellStatus {
        observed_generation: resource.metadata.generation,
        tenants: i32::try_from(placed).ok(),
        conditions: conditions(
            &previous.conditions,
            &outcomes,
            &outcome,
            resource.metadata.generation,
            (context.now)(),
        ),
        leftovers,
    };
    if status != previous {
        context.writer.cell_status(resource, &status).await?;
        announce(resource, &previous, &outcomes, context).await;
    }
    Ok(Action::requeue(LOOK_EVERY))
}

pub(super) fn error_policy(
    _: Arc<DeserializeGuard<MessengerCell>>,
    _: &PassError,
    _: Arc<Context>,
) -> Action {
    Action::requeue(Duration::from_secs(5))
}

/// Reports whether namespaces can redirect the cell's addresses to their own pods.
async fn external_ips(context: &Context) -> Result<Outcome, PassError> {
    Ok(if context.takes_external_ips().await? {
        Outcome::action_required(
            Reason::Accepted,
            "a Service of any namespace can take the traffic to any address of this cell by spec.externalIPs; start the API server \
             with --enable-admission-plugins=DenyServiceExternalIPs, or refuse the field by a policy",
        )
    } else {
        Outcome::good(Reason::Refused, "no Service can take the traffic to an address of this cell")
    })
}

/// Publishes the parts that became bad.
async fn announce(resource: &MessengerCell, previous: &CellStatus, outcomes: &Outcomes, context: &Context) {
    for (part, outcome) in outcomes.iter().filter(|(_, outcome)| !outcome.is_good()) {
        let was_known = previous
            .conditions
            .iter()
            .any(|condition| condition.type_ == part.as_str() && condition.reason == outcome.reason.as_str());
        if !was_known {
            let note = format!("{part}: {}", outcome.message);
            context.events.warning(&reference(resource), outcome.reason, &note).await;
        }
    }
}

/// Returns which admin Secret is not complete.
fn missing_login(cell: &Cell, context: &Context) -> Option<String> {
    backend::ALL.iter().find_map(|backend| context.login(*backend, cell).err())
}
