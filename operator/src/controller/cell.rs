//! Reports how full a cell is and whether its admin Secrets are complete, and cleans up what deletions left behind. A cell that is
//! deleted is held for as long as a tenant has something there. Otherwise backends are looked at by tenants' passes.

use std::{sync::Arc, time::Duration};

use crds::{CellStatus, ConditionType, Leftover, MessengerCell, MessengerTenant, Reason};
use kube::{ResourceExt, core::DeserializeGuard, runtime::controller::Action};

use super::{
    contained,
    context::{Context, PassError},
    deletion, monitoring, unreadable,
};
use crate::{
    certificates::first_expiry,
    events::reference,
    fleet::Member,
    observe, placement,
    status::{self, Outcome, Outcomes, conditions},
    tenant::Cell,
};

/// Admin Secrets appear without an event of the cell.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Each pass asks the Prometheus of the cell, unless one did a moment ago: events of tenants start passes, too.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// What was found out behind the report is in the next one.
const REPORT_NEWS: Duration = Duration::from_secs(1);
/// Of those whose data holds a cell, so many are named: with the longest names there are, the next step still fits into the message.
const NAMED: usize = 5;

pub(super) async fn reconcile(
    guarded: Arc<DeserializeGuard<MessengerCell>>,
    context: Arc<Context>,
) -> Result<Action, PassError> {
    match &guarded.0 {
        Ok(resource) => contained(look_at(resource, &context)).await,
        Err(invalid) => contained(unreadable::report::<MessengerCell>(invalid, &context)).await,
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
    let trusted = resource.spec.ca_bundle.as_deref().filter(|_| !is_deleted);
    context.metrics.trusted_expire(&name, trusted.and_then(first_expiry));
    if is_deleted && !is_held {
        return Ok(Action::await_change());
    }
    if !is_deleted && !is_held {
        // The change starts the next pass.
        context.writer.add_cell_finalizer(resource).await?;
        return Ok(Action::requeue(LOOK_EVERY));
    }
    let cell = Cell::new(resource);
    let mut outcome = match &cell {
        Err(invalid) => Outcome::action_required(Reason::InvalidSpec, invalid.to_string()),
        Ok(cell) => {
            if !leftovers.is_empty() && context.memory.is_clean_up_due(resource, LOOK_EVERY) {
                leftovers = deletion::retry_leftovers(&leftovers, cell, context).await;
            }
            match missing_login(cell, context) {
                Some(missing) => Outcome::action_required(Reason::AdminSecretMissing, missing),
                None if placed >= cell.capacity => Outcome::action_required(
                    Reason::CapacityExhausted,
                    format!(
                        "{placed} of {} places are taken; raise spec.capacity.tenants or add a cell",
                        cell.capacity
                    ),
                ),
                None => Outcome::good(Reason::AllReady, takes_tenants(cell)),
            }
        }
    };
    if is_deleted {
        match still_in_use(&name, &leftovers, context).await? {
            Some(in_use) => outcome = in_use,
            None => {
                context.memory.forget_objectives(&name);
                context.writer.remove_cell_finalizer(resource).await?;
                return Ok(Action::await_change());
            }
        }
    }
    let mut outcomes = Outcomes::new();
    outcomes.insert(ConditionType::ExternalIPsRefused, external_ips(context).await?);
    outcomes.extend(monitoring::outcomes(&name, &resource.spec, context));
    let mut known = previous.conditions.clone();
    status::retain_parts(&mut known, |part| monitoring::is_had(part, &resource.spec));
    let status = CellStatus {
        observed_generation: resource.metadata.generation,
        tenants: i32::try_from(placed).ok(),
        conditions: conditions(&known, &outcomes, &outcome, resource.metadata.generation, (context.now)()),
        leftovers,
    };
    if status != previous {
        context.writer.cell_status(resource, &status).await?;
        announce(resource, &previous, &outcomes, context).await;
    }
    // Last, so that nothing of this pass waits for a Prometheus that is away.
    let is_news = match &cell {
        Ok(cell) if context.memory.is_asking_due(resource, ASK_EVERY) => monitoring::ask(cell, context).await,
        _ => false,
    };
    Ok(Action::requeue(if is_news { REPORT_NEWS } else { LOOK_EVERY }))
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
        format!("the deleted tenant {} ({})", leftover.tenant_id, leftover.backends.join(" and "))
    });
    let users: Vec<_> = tenants.map(place).chain(left).collect();
    Ok((!users.is_empty()).then(|| Outcome::action_required(Reason::InUse, stays_for(&users))))
}

/// Returns what a cell says that is deleted and in use.
fn stays_for(users: &[String]) -> String {
    let named: Vec<_> = users.iter().take(NAMED).map(String::as_str).collect();
    let more = match users.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the cell is being deleted, which cannot be taken back, and stays while there is data on it of {}{more}; new tenants are not placed \
         here. Delete those tenants, or abandon their data: remove the finalizer {} from the cell",
        named.join(", "),
        crds::CELL_FINALIZER
    )
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
    let mut backends = context.all_backends.iter().filter(|backend| backend.is_of(cell));
    let of_backends = backends.find_map(|backend| context.login(*backend, cell).err());
    of_backends.or_else(|| context.smtp_account(cell).err())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rendered::testing::cell;

    #[test]
    fn a_cell_that_is_deleted_names_whose_data_holds_it_and_what_to_do() {
        let place = |number: usize| format!("MessengerTenant {}/{}{number}", "n".repeat(63), "m".repeat(39));
        let says = |count: usize| stays_for(&(0..count).map(place).collect::<Vec<_>>());
        assert!(says(2).contains(&format!("of {}, {};", place(0), place(1))), "{}", says(2));
        let many = says(50);
        assert!(many.contains("and 45 more;") && !many.contains(&place(5)), "{many}");
        assert!(many.ends_with("remove the finalizer messenger.posthouse.dev/tenants from the cell"));
        assert!(many.len() <= 1024, "the API server takes no more: {}", many.len());
    }

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
