//! Reports how full a cell is and whether its admin Secrets are complete, and cleans up what deletions left behind. A cell that is
//! deleted is held for as long as a tenant has something there. Otherwise backends are looked at by tenants' passes.

use std::{sync::Arc, time::Duration};

use crds::{CellStatus, ConditionType, Leftover, MessengerCell, MessengerTenant, Reason};
use kube::{ResourceExt, core::DeserializeGuard, runtime::controller::Action};

use super::{
    contained,
    context::{Context, PassError},
    deletion, unreadable,
};
use crate::{
    backend,
    events::reference,
    fleet::Member,
    observe, placement,
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
    let is_held = resource.finalizers().iter().any(|name| name == crds::CELL_FINALIZER);
    let is_deleted = resource.metadata.deletion_timestamp.is_some();
    if is_deleted && !is_held {
        return Ok(Action::await_change());
    }
    if !is_deleted && !is_held {
        // The change starts the next pass.
        context.writer.add_cell_finalizer(resource).await?;
        return Ok(Action::requeue(LOOK_EVERY));
    }
    let mut outcome = match Cell::new(resource) {
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
                None => Outcome::good(Reason::AllReady, takes_tenants(&cell)),
            }
        }
    };
    if is_deleted {
        match still_in_use(&name, &leftovers, context).await? {
            Some(in_use) => outcome = in_use,
            None => {
                context.writer.remove_cell_finalizer(resource).await?;
                return Ok(Action::await_change());
            }
        }
    }
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

/// Returns how a cell is that is deleted and has to stay, or nothing when no tenant has anything there.
async fn still_in_use(
    name: &str,
    leftovers: &[Leftover],
    context: &Context,
) -> Result<Option<Outcome>, PassError> {
    // A watch may lag behind a tenant that was placed a moment ago.
    let tenants = observe::on_cell(&context.client, name).await?;
    let has_something = |tenant: &&DeserializeGuard<MessengerTenant>| match &tenant.0 {
        Ok(tenant) => {
            tenant.finalizers().iter().any(|name| name == crds::FINALIZER) || Member::of(tenant).is_placed()
        }
        // Nothing is known of it.
        Err(_) => true,
    };
    let tenants = tenants.iter().filter(has_something);
    let place = |tenant: &DeserializeGuard<MessengerTenant>| {
        format!("MessengerTenant {}/{}", tenant.namespace().unwrap_or_default(), tenant.name_any())
    };
    let left = leftovers.iter().map(|leftover| {
        format!("{} of the deleted tenant {}", leftover.backends.join(" and "), leftover.tenant_id)
    });
    let users: Vec<_> = tenants.map(place).chain(left).collect();
    let Some((first, others)) = users.split_first() else { return Ok(None) };
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    let message = format!(
        "the cell is being deleted and stays while {first}{more} has data on it; new tenants are not placed here. To abandon that \
         data, remove the finalizer {} from the cell",
        crds::CELL_FINALIZER
    );
    Ok(Some(Outcome::action_required(Reason::InUse, message)))
}

pub(super) fn error_policy(
    _: Arc<DeserializeGuard<MessengerCell>>,
    _: &PassError,
    _: Arc<Context>,
) -> Action {
    Action::requeue(Duration::from_secs(5))
}

/// Returns what a cell says that is as it should be.
fn takes_tenants(cell: &Cell) -> String {
    let smtp = cell.spec.smtp.as_ref().filter(|smtp| smtp.credentials_secret_ref.is_some());
    match smtp {
        None => "the cell takes tenants".to_owned(),
        Some(smtp) => format!(
            "the cell takes tenants; users who read Secrets beside one of them have the account of spec.smtp, so see that it can do \
             nothing but send as {}, or let the server take mail from the pods without an account",
            smtp.from
        ),
    }
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
    let mut backends = backend::ALL.iter().filter(|backend| backend.is_of(cell));
    let of_backends = backends.find_map(|backend| context.login(*backend, cell).err());
    of_backends.or_else(|| context.smtp_account(cell).err())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rendered::testing::cell;

    #[test]
    fn a_cell_says_what_the_account_of_its_mail_server_must_be_limited_to() {
        let says = |smtp: serde_json::Value| {
            takes_tenants(&cell(|cell| {
                cell.spec.smtp = serde_json::from_value(smtp.clone()).expect("a server")
            }))
        };
        assert_eq!(says(json!(null)), "the cell takes tenants");
        let mut smtp = json!({"host": "mail.example", "from": "no-reply@example.org"});
        assert_eq!(says(smtp.clone()), "the cell takes tenants", "there is nothing to read");
        smtp["credentialsSecretRef"] = json!({"name": "smtp"});
        assert!(says(smtp).contains("can do nothing but send as no-reply@example.org"));
    }
}
