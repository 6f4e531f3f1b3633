//! The operator: what it does, and what keeps it from it.

use super::{Dashboard, Query, Unit, figure, legend, lines, or_zero, percentile_by, query, row};

/// Returns how often a counter of the operator grows in a second, for each value of a label.
fn rate(by: &str, counter: &str) -> Query {
    query(or_zero(&format!("sum by ({by}) (rate({counter}[$__rate_interval]))")), legend(by))
}

pub fn operator() -> Dashboard {
    let state = row(
        "State",
        vec![
            figure(
                "Leading",
                "Replicas that lead: one should.",
                Unit::Number,
                query("sum(posthouse_operator_leading)", "replicas"),
            ),
            figure(
                "Tenants not Ready",
                "Tenants whose condition Ready is not True, but for those that are suspended.",
                Unit::Number,
                query(or_zero(r#"max(posthouse_operator_tenants{result="not_ready"})"#), "tenants"),
            ),
            figure(
                "Left behind",
                "Parts of deleted tenants that could not be removed, since the operator started.",
                Unit::Number,
                query(or_zero("sum(posthouse_operator_leftovers_total)"), "parts"),
            ),
            figure(
                "Certificates that end",
                "Certificates of hosts and of cells that end within two weeks.",
                Unit::Number,
                query(
                    or_zero(
                        "count((max by (tenant, cell) (posthouse_operator_certificate_expiry_timestamp_seconds) or max by (cell) (posthouse_operator_trusted_expiry_timestamp_seconds)) - time() < 14 * 24 * 3600)",
                    ),
                    "certificates",
                ),
            ),
        ],
    );
    let passes = row(
        "Passes",
        vec![
            lines(
                "Passes by result",
                "Passes over tenants in a second. A steady tenant has one each drift interval.",
                Unit::PerSecond,
                vec![rate("result", "posthouse_operator_reconcile_seconds_count")],
            ),
            lines(
                "Time of a pass",
                "99th percentile of the time of a pass, by its result.",
                Unit::Seconds,
                vec![percentile_by("result", "posthouse_operator_reconcile_seconds", "")],
            ),
            lines(
                "Time of a part",
                "99th percentile of the time that a pass takes for a backend.",
                Unit::Seconds,
                vec![percentile_by("part", "posthouse_operator_part_seconds", "")],
            ),
        ],
    );
    let work = row(
        "What it changes, and what fails",
        vec![
            lines(
                "Writes",
                "Changes sent in a second, by target. A steady tenant causes none.",
                Unit::PerSecond,
                vec![rate("target, verb", "posthouse_operator_writes_total")],
            ),
            lines(
                "Repairs",
                "Edits by others that were put back in a second, by part.",
                Unit::PerSecond,
                vec![rate("part", "posthouse_operator_drift_repairs_total")],
            ),
            lines(
                "Spans",
                "Spans of traces of passes in a second, by what became of them.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_operator_trace_spans_total")],
            ),
            lines(
                "Errors",
                "Parts of passes that failed in a second, by reason: conditions of the tenants have the same.",
                Unit::PerSecond,
                vec![rate("part, reason", "posthouse_operator_errors_total")],
            ),
        ],
    );
    let sleepers = row(
        "Tenants that sleep",
        vec![
            lines(
                "Requests at the waker",
                "Requests for tenants that sleep or wake in a second, by what they were answered.",
                Unit::PerSecond,
                vec![rate("answer", "posthouse_operator_wake_requests_total")],
            ),
            figure(
                "Woken",
                "Suspended tenants that a request woke, in the last day.",
                Unit::Number,
                query(or_zero("sum(increase(posthouse_operator_wakes_total[1d]))"), "tenants"),
            ),
        ],
    );
    Dashboard {
        name: "operator",
        title: "Operator",
        about: "Whether the operator leads, what its passes take, what they change and what fails.",
        rows: vec![state, passes, work, sleepers],
    }
}
