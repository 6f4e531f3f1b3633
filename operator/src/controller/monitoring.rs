//! How the tenants of a cell are watched over: what the cell says about it, and what its Prometheus says of their objectives and their usage. A pass over
//! a tenant asks nothing: it reads what was answered to the cell's last.

use std::collections::BTreeSet;

use crds::{ConditionType, MessengerCellSpec, MessengerTenant, Objective, Reason, TenantStatus, Usage};

use super::context::Context;
use crate::{
    desired::Kind,
    locks::read,
    objectives::{Failure, Figures},
    observe::Prometheus,
    status::{Outcome, Outcomes},
    tenant::Cell,
};

/// Label of the metric of what failed.
const PART: &str = "prometheus";

/// Reports whether a cell may have a condition: those about its monitoring only while it asks for it.
pub(super) fn is_had(part: ConditionType, cell: &MessengerCellSpec) -> bool {
    match part {
        ConditionType::PodsScraped => cell.pod_monitors().is_some(),
        ConditionType::ObjectivesKnown => cell.prometheus().is_some(),
        _ => true,
    }
}

/// Returns how the parts of a cell's monitoring are, as far as it is known yet.
pub(super) fn outcomes(name: &str, cell: &MessengerCellSpec, context: &Context) -> Outcomes {
    let scraped = cell.pod_monitors().and_then(|_| read(&context.watched).knows(Kind::PodMonitor));
    let known = cell.prometheus().and_then(|_| context.memory.objectives_known(name));
    let scraped = scraped.map(|is_known| (ConditionType::PodsScraped, pods_scraped(is_known)));
    let known = known.map(|outcome| (ConditionType::ObjectivesKnown, outcome));
    scraped.into_iter().chain(known).collect()
}

fn pods_scraped(is_known: bool) -> Outcome {
    if is_known {
        return Outcome::good(Reason::MonitorsMade, "each tenant has a PodMonitor beside it");
    }
    let message = "the API server knows no PodMonitor (monitoring.coreos.com/v1), so no pod of a tenant is scraped; install the CRDs of the \
                   Prometheus Operator, or remove spec.monitoring.podMonitors";
    Outcome::action_required(Reason::KindUnknown, message)
}

/// Asks the Prometheus of a cell how well its tenants meet their objectives, and what their users do. Reports whether the cell has something else to say than
/// before.
pub(super) async fn ask(cell: &Cell, context: &Context) -> bool {
    let memory = &context.memory;
    let Some(prometheus) = cell.spec.prometheus() else {
        memory.forget_objectives(&cell.name);
        return false;
    };
    let before = memory.objectives_known(&cell.name);
    let answer = match context.prometheus_token(prometheus) {
        Ok(token) => {
            let prometheus = Prometheus { url: &prometheus.url, token, certificates: &cell.certificates };
            figures(&prometheus, cell, context).await
        }
        Err(message) => Err(Failure { reason: Reason::AdminSecretMissing, message }),
    };
    if let Err(failure) = &answer {
        context.metrics.failed(PART, failure.reason.as_str());
    }
    memory.answered(&cell.name, &prometheus.url, answer);
    memory.objectives_known(&cell.name) != before
}

async fn figures(prometheus: &Prometheus<'_>, cell: &Cell, context: &Context) -> Result<Figures, Failure> {
    let tenants: BTreeSet<_> =
        context.fleet().on_cell(&cell.name).map(|member| member.tenant_id.clone()).collect();
    let figures = prometheus.figures(|tenant| tenants.contains(tenant)).await;
    figures.map_err(|error| {
        let reason = error.reason();
        let next_step = match reason {
            Reason::CredentialsRejected => "correct spec.monitoring.prometheus.tokenSecretRef of the cell",
            Reason::BackendRefused => "correct spec.monitoring.prometheus.url of the cell",
            _ => "it is asked again every minute",
        };
        Failure { reason, message: format!("{error}; {next_step}") }
    })
}

/// Returns how many clients are connected to a tenant, if the Prometheus of its cell says so to this process now.
pub(super) fn connections_of(resource: &MessengerTenant, context: &Context) -> Option<i64> {
    let cell = resource.status.as_ref()?.cell.as_deref()?;
    context.memory.connections(cell, &resource.spec.tenant_id)
}

/// Returns what the status of a tenant says of its objectives and its usage; `cell` is where it has its place, and `shown` the status
/// before. Before the Prometheus of the cell was asked by this process it says what it said.
pub(super) fn figures_of(
    tenant_id: &str,
    cell: Option<&str>,
    shown: &TenantStatus,
    context: &Context,
) -> (Vec<Objective>, Option<Usage>) {
    let Some(name) = cell else { return (Vec::new(), None) };
    let asks = context.cell(name).is_some_and(|cell| cell.spec.prometheus().is_some());
    if !asks {
        return (Vec::new(), None);
    }
    let known = context.memory.figures(name, tenant_id, shown);
    known.unwrap_or_else(|| (shown.objectives.clone(), shown.usage.clone()))
}
