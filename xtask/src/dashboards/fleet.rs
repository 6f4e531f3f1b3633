//! All tenants, and those of one cell.

use super::{Dashboard, Unit, figure, lines, or_zero, percentile_by, query, row, table};

/// The first look: is any tenant not well, and which one.
pub fn fleet() -> Dashboard {
    let tenants = row(
        "Tenants",
        vec![
            figure(
                "Ready",
                "Tenants whose condition Ready is True.",
                Unit::Number,
                query(or_zero(r#"max(posthouse_operator_tenants{result="ready"})"#), "ready"),
            ),
            figure(
                "Not Ready",
                "Tenants whose condition Ready is not True, but for those that are suspended. Their conditions say why: kubectl describe mt -A.",
                Unit::Number,
                query(or_zero(r#"max(posthouse_operator_tenants{result="not_ready"})"#), "not ready"),
            ),
            figure(
                "Suspended",
                "Tenants without pods, because their manifest says spec.suspended.",
                Unit::Number,
                query(or_zero(r#"max(posthouse_operator_tenants{result="suspended"})"#), "suspended"),
            ),
            figure(
                "Alerts",
                "Alerts of Posthouse that fire. Each names a section of the runbook.",
                Unit::Number,
                query(or_zero(r#"count(ALERTS{alertstate="firing", alertname=~"Posthouse.*"})"#), "firing"),
            ),
            figure(
                "Connections",
                "Open WebSockets of all tenants.",
                Unit::Number,
                query(r#"sum(posthouse_gateway_connections{tenant=~"$tenant"})"#, "connections"),
            ),
            figure(
                "Messages",
                "Messages stored in a second, of all tenants.",
                Unit::PerSecond,
                query(
                    or_zero(
                        r#"sum(rate(posthouse_message_records_total{tenant=~"$tenant", outcome="stored"}[$__rate_interval]))"#,
                    ),
                    "stored",
                ),
            ),
        ],
    );
    let largest = row(
        "The largest of them",
        vec![
            lines(
                "Messages by tenant",
                "Messages stored in a second, of the ten tenants with most of them.",
                Unit::PerSecond,
                vec![query(
                    or_zero(
                        r#"topk(10, sum by (tenant) (rate(posthouse_message_records_total{tenant=~"$tenant", outcome="stored"}[$__rate_interval])))"#,
                    ),
                    "{{tenant}}",
                )],
            ),
            lines(
                "Connections by tenant",
                "Open WebSockets, of the ten tenants with most of them.",
                Unit::Number,
                vec![query(
                    r#"topk(10, sum by (tenant) (posthouse_gateway_connections{tenant=~"$tenant"}))"#,
                    "{{tenant}}",
                )],
            ),
            lines(
                "Lag by tenant",
                "Messages in the log that are not stored yet, of the ten tenants with most of them. A lag that grows is an outage.",
                Unit::Number,
                vec![query(
                    r#"topk(10, sum by (tenant) (posthouse_message_lag_records{tenant=~"$tenant"}))"#,
                    "{{tenant}}",
                )],
            ),
            lines(
                "Delivery by tenant",
                "99th percentile of the time from the log's acknowledgement to the announcement of a message. The goal is 250 ms.",
                Unit::Seconds,
                vec![percentile_by(
                    "tenant",
                    "posthouse_message_log_to_announced_seconds",
                    r#"{tenant=~"$tenant"}"#,
                )],
            ),
        ],
    );
    let goals = row(
        "Goals",
        vec![
            table(
                "Budgets",
                "What is left of the error budget of 30 days: 1 is all of it, less than 0 a goal that is missed. The ten with the least.",
                Unit::Part,
                query(r#"bottomk(10, posthouse:slo_budget:remaining_ratio{tenant=~"$tenant"})"#, ""),
            ),
            table(
                "Places",
                "The cell of each tenant, and whether the tenant is Ready.",
                Unit::Number,
                query(
                    r#"max by (cell, tenant) (posthouse_operator_tenant_ready{cell=~"$cell", tenant=~"$tenant"})"#,
                    "",
                ),
            ),
        ],
    );
    Dashboard {
        name: "fleet",
        title: "Fleet",
        about: "All tenants: which of them are not well, and which are the largest.",
        rows: vec![tenants, largest, goals],
    }
}

/// The tenants that share backends.
pub fn cell() -> Dashboard {
    let tenants = row(
        "Tenants",
        vec![
            figure(
                "Placed",
                "Tenants that have a place on the cell.",
                Unit::Number,
                query(
                    r#"count(max by (tenant) (posthouse_operator_tenant_ready{cell=~"$cell"}))"#,
                    "tenants",
                ),
            ),
            figure(
                "Ready",
                "Tenants of the cell whose condition Ready is True.",
                Unit::Number,
                query(r#"sum(max by (tenant) (posthouse_operator_tenant_ready{cell=~"$cell"}))"#, "ready"),
            ),
            lines(
                "Ready by cell",
                "The part of the tenants of a cell that are Ready. When most are not, a backend of the cell is away.",
                Unit::Part,
                vec![query(
                    r#"avg by (cell) (max by (cell, tenant) (posthouse_operator_tenant_ready{cell=~"$cell"}))"#,
                    "{{cell}}",
                )],
            ),
        ],
    );
    let load = row(
        "What its tenants ask of it",
        vec![
            lines(
                "Messages",
                "Messages stored in a second, by tenant.",
                Unit::PerSecond,
                vec![query(
                    or_zero(
                        r#"sum by (tenant) (rate(posthouse_message_records_total{tenant=~"$tenant", outcome="stored"}[$__rate_interval]))"#,
                    ),
                    "{{tenant}}",
                )],
            ),
            lines(
                "Store",
                "99th percentile of the time that a step of a batch takes in the CQL store, by step.",
                Unit::Seconds,
                vec![percentile_by(
                    "step",
                    "posthouse_message_step_seconds",
                    r#"{tenant=~"$tenant", step=~"look_up|write"}"#,
                )],
            ),
            lines(
                "Log",
                "99th percentile of the time until Kafka acknowledges a message, by tenant.",
                Unit::Seconds,
                vec![percentile_by("tenant", "posthouse_gateway_produce_seconds", r#"{tenant=~"$tenant"}"#)],
            ),
            lines(
                "Files",
                "What the files of a tenant take in the object store.",
                Unit::Bytes,
                vec![query(
                    or_zero(r#"max by (tenant) (posthouse_media_used_bytes{tenant=~"$tenant"})"#),
                    "{{tenant}}",
                )],
            ),
        ],
    );
    Dashboard {
        name: "cell",
        title: "Cell",
        about: "The tenants that share one set of backends, and what they ask of it.",
        rows: vec![tenants, load],
    }
}
