//! Reports how full a cell is and whether its admin Secrets are complete, and cleans up what deletions left behind. Otherwise
//! backends are looked at by tenants' passes.

use std::{sync::Arc, time::Duration};

use crds::{CellStatus, ConditionType, MessengerCell, Reason};
use kube::{core::DeserializeGuard, runtime::controller::Action};
use tracing::warn;

use super::{
    context::{Context, PassError},
    deletion,
};
use crate::{
    backend, placement,
    status::{Outcome, Outcomes, conditions},
    tenant::Cell,
};

/// Admin Secrets appear without an event of the cell.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub(super) async fn reconcile(
    guarded: Arc<DeserializeGuard<MessengerCell>>,
    context: Arc<Context>,
) -> Result<Action, PassError> {
    let Ok(resource) = &guarded.0 else {
        warn!("a cell cannot be read and is left alone");
        return Ok(Action::await_change());
    };
    context.stores_ready().await;
    let name = resource.metadata.name.clone().unwrap_or_default();
    let placed = placement::placed_on(&name, &context.fleet());
    let previous = resource.status.clone().unwrap_or_default();
    let mut leftovers = previous.leftovers.clone();
    let outcome = match Cell::new(resource) {
        Err(invalid) => Outcome::action_required(Reason::InvalidSpec, invalid.to_string()),
        Ok(cell) => {
            if !leftovers.is_empty() && context.memory.is_clean_up_due(resource, LOOK_EVERY) {
                leftovers = deletion::retry_leftovers(&leftovers, &cell, &context).await;
            }
            match missing_login(&cell, &context) {
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
    let status = CellStatus {
        observed_generation: resource.metadata.generation,
        tenants: i32::try_from(placed).ok(),
        conditions: conditions(
            &previous.conditions,
            &Outcomes::new(),
            &outcome,
            resource.metadata.generation,
            (context.now)(),
        ),
        leftovers,
    };
    debug_assert!(status.conditions.iter().all(|condition| condition.type_ == ConditionType::Ready.as_str()));
    if status != previous {
        context.writer.cell_status(resource, &status).await?;
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

/// Returns which admin Secret is not complete.
fn missing_login(cell: &Cell, context: &Context) -> Option<String> {
    backend::ALL.iter().find_map(|backend| context.login(*backend, cell).err())
}
