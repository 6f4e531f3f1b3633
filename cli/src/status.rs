//! `posthouse status`: the conditions of tenants.

use comfy_table::{Table, presets};

use crate::{
    args::StatusArgs,
    failure::{Exit, Failure},
    output::{self, Output},
    tenants::{self, Scope, Tenant},
};

pub(crate) async fn run(args: StatusArgs, output: Output) -> Result<(), Failure> {
    let scope =
        if args.all_namespaces { Scope::Everywhere } else { Scope::Namespace(args.namespace.as_deref()) };
    let mut tenants = tenants::list(scope).await?;
    if let Some(name) = &args.tenant {
        tenants.retain(|tenant| tenant.name == *name);
        if tenants.is_empty() {
            let next = "`posthouse status -A` lists the tenants of every namespace";
            return Err(Failure::new(Exit::Refused, format!("tenant {name} not found"), next));
        }
    }
    match output {
        Output::Json => output::document(&tenants),
        Output::Text if tenants.is_empty() => {
            output::line(
                "no tenants; `kubectl apply -f examples/tenants/acme.yaml` creates one, -A lists all namespaces",
            );
        }
        Output::Text => {
            output::line(summary(&tenants).trim_fmt());
            // All conditions of the tenant that was named, and of each that is not ready.
            for tenant in tenants.iter().filter(|tenant| args.tenant.is_some() || !tenant.is_ready()) {
                output::line(format!("\n{}/{}\n{}", tenant.namespace, tenant.name, parts(tenant).trim_fmt()));
            }
        }
    }
    let waiting: Vec<&str> = tenants.iter().filter(|t| !t.is_ready()).map(|t| t.name.as_str()).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let next = "see the conditions above that are not True, and the Events in `kubectl describe mt NAME`";
    Err(Failure::new(Exit::Fault, format!("not ready: {}", waiting.join(", ")), next))
}

fn summary(tenants: &[Tenant]) -> Table {
    let mut table = table(["NAMESPACE", "NAME", "TENANT", "READY", "REASON", "ADDRESS"]);
    for tenant in tenants {
        let (ready, reason) = match tenant.condition("Ready") {
            _ if tenant.deleting => ("Deleting", ""),
            Some(_) if !tenant.observed => ("Updating", ""),
            Some(ready) => (ready.status.as_str(), ready.reason.as_str()),
            None => ("Unknown", "not yet reconciled by the operator"),
        };
        let address = tenant.url.as_deref().unwrap_or("-");
        table.add_row([&tenant.namespace, &tenant.name, &tenant.tenant_id, ready, reason, address]);
    }
    table
}

fn parts(tenant: &Tenant) -> Table {
    let mut table = table(["CONDITION", "STATUS", "REASON", "MESSAGE"]);
    for condition in &tenant.conditions {
        table.add_row([&condition.kind, &condition.status, &condition.reason, &condition.message]);
    }
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenants::Condition;

    fn tenant(status: &str, observed: bool) -> Tenant {
        Tenant {
            namespace: "tenants".into(),
            name: "acme".into(),
            tenant_id: "acme".into(),
            url: Some("http://acme.localhost:8000".into()),
            observed,
            deleting: false,
            conditions: vec![Condition {
                kind: "Ready".into(),
                status: status.into(),
                reason: "Waiting".into(),
                message: "waits for Kafka".into(),
            }],
        }
    }

    fn cells(table: &Table) -> Vec<String> {
        table.to_string().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_summary_has_one_line_for_each_tenant() {
        let lines = cells(&summary(&[tenant("False", true), tenant("True", false)]));
        assert_eq!(lines[0], "NAMESPACE NAME TENANT READY REASON ADDRESS");
        assert_eq!(lines[1], "tenants acme acme False Waiting http://acme.localhost:8000");
        assert_eq!(lines[2], "tenants acme acme Updating http://acme.localhost:8000");
    }

    #[test]
    fn parts_show_the_message_of_a_condition() {
        assert_eq!(cells(&parts(&tenant("False", true)))[1], "Ready False Waiting waits for Kafka");
    }
}
