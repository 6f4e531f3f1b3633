//! One tenant, with all its services.

use super::{
    Dashboard, Unit, figure, lines, max, or_zero, percentile_by, percentiles, query, rate, row, total_rate,
};

/// What a tenant's users notice, then its services.
pub fn tenant() -> Dashboard {
    let users = row(
        "What users notice",
        vec![
            figure(
                "Connections",
                "Open WebSockets.",
                Unit::Number,
                query(r#"sum(posthouse_gateway_connections{tenant=~"$tenant"})"#, "connections"),
            ),
            figure(
                "Users",
                "Users known to be connected.",
                Unit::Number,
                query(or_zero(r#"max(posthouse_presence_connected_users{tenant=~"$tenant"})"#), "users"),
            ),
            figure(
                "Lag",
                "Messages in the log that are not stored yet.",
                Unit::Number,
                query(r#"sum(posthouse_message_lag_records{tenant=~"$tenant"})"#, "records"),
            ),
            lines(
                "Delivery",
                "Time from the log's acknowledgement of a message to its announcement. The goal is 250 ms for 99.9 % of them.",
                Unit::Seconds,
                percentiles("posthouse_message_log_to_announced_seconds"),
            ),
            lines(
                "Messages",
                "Records of message.send in a second, by what became of them.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_message_records_total")],
            ),
            lines(
                "Errors",
                "Errors sent to clients in a second, by code. `unavailable` and `internal` are faults of the messenger.",
                Unit::PerSecond,
                vec![rate("code", "posthouse_gateway_errors_total")],
            ),
        ],
    );
    let beginning = row(
        "How users come back",
        vec![
            lines(
                "Sign-ins",
                "Sign-ins and refreshes of sessions in a second, by how they ended. `refused` ones are faults of who asks, `abandoned` ones had nobody who waited any more.",
                Unit::PerSecond,
                vec![rate("way, outcome", "posthouse_auth_sign_in_seconds_count")],
            ),
            lines(
                "Time of a sign-in",
                "Time until a client has tokens or is refused. The goal is two seconds for 99.5 % of them.",
                Unit::Seconds,
                percentiles("posthouse_auth_sign_in_seconds"),
            ),
            lines(
                "Syncs",
                "Syncs in a second, by how they ended.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_gateway_sync_seconds_count")],
            ),
            lines(
                "Time of a sync",
                "Time until the page of chats is there that a client asks for when it begins or comes back. The goal is a second for 99.5 % of them.",
                Unit::Seconds,
                percentiles("posthouse_gateway_sync_seconds"),
            ),
        ],
    );
    let goals = row(
        "Goals",
        vec![
            lines(
                "Burn",
                "How many times faster than the budget allows events missed a goal in the last hour. At 14.4 the budget of a month is gone in two days.",
                Unit::Number,
                vec![query(
                    or_zero(
                        r#"max by (slo) (posthouse:slo_bad_events:ratio_rate1h{tenant=~"$tenant"} / on (slo) group_left () (1 - posthouse:slo_objective:ratio))"#,
                    ),
                    "{{slo}}",
                )],
            ),
            lines(
                "Budget",
                "What is left of the error budget of 30 days, by goal.",
                Unit::Part,
                vec![query(
                    r#"min by (slo) (posthouse:slo_budget:remaining_ratio{tenant=~"$tenant"})"#,
                    "{{slo}}",
                )],
            ),
        ],
    );
    let optional = row(
        "Optional services",
        vec![
            lines(
                "Searches",
                "Searches in a second, by what became of them.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_search_searches_total")],
            ),
            lines(
                "Index",
                "99th percentile of the time until searches find a message. The aim is five seconds.",
                Unit::Seconds,
                vec![percentile_by("tenant", "posthouse_search_lag_seconds", r#"{tenant=~"$tenant"}"#)],
            ),
            lines(
                "Notifications",
                "Jobs in a second, by channel and what became of them.",
                Unit::PerSecond,
                vec![rate("channel, outcome", "posthouse_notification_jobs_total")],
            ),
            lines(
                "Notifications that wait",
                "Jobs that wait, by channel.",
                Unit::Number,
                vec![query(
                    or_zero(r#"max by (channel) (posthouse_notification_waiting{tenant=~"$tenant"})"#),
                    "{{channel}}",
                )],
            ),
            lines(
                "Verdicts",
                "Time from a message to its verdict. The aim is two seconds.",
                Unit::Seconds,
                percentiles("posthouse_moderation_lag_seconds"),
            ),
            lines(
                "Moderation",
                "What the moderation service does in a second.",
                Unit::PerSecond,
                vec![
                    total_rate("posthouse_moderation_judged_total", "judged"),
                    total_rate("posthouse_moderation_verdicts_total", "caught"),
                    total_rate("posthouse_moderation_reports_total", "reported"),
                ],
            ),
            lines(
                "Files",
                "Files in a second, by what became of them when they were checked.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_media_processed_total")],
            ),
            lines(
                "Room for files",
                "What all files of the tenant take.",
                Unit::Bytes,
                vec![max("tenant", "posthouse_media_used_bytes")],
            ),
            lines(
                "Spans",
                "Spans of traces in a second, by what became of them. `dropped` and `failed` ones are lost.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_process_trace_spans_total")],
            ),
            lines(
                "Presence",
                "Changes that gateways reported, and messages to them about users whom they watch, in a second.",
                Unit::PerSecond,
                vec![
                    total_rate("posthouse_presence_reports_total", "reported"),
                    total_rate("posthouse_presence_pushes_total", "pushed"),
                ],
            ),
        ],
    );
    Dashboard {
        name: "tenant",
        title: "Tenant",
        about: "What the users of a tenant notice, and what its services do.",
        rows: vec![users, beginning, goals, optional],
    }
}
