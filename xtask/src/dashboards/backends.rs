//! The backends, as those who use them see them.

use catalog::Backend;

use super::{Dashboard, Unit, lines, max, or_zero, percentile_by, percentiles, query, rate, row, total_rate};

pub fn backends() -> Dashboard {
    // Parts of a pass that are no backend have no place here.
    let names = Backend::ALL.iter().map(|backend| backend.as_str()).collect::<Vec<_>>().join("|");
    let operator = row(
        "As the operator sees them",
        vec![
            lines(
                "Time of the operator's calls",
                "99th percentile of the time that a pass takes for a backend.",
                Unit::Seconds,
                vec![percentile_by(
                    "part",
                    "posthouse_operator_part_seconds",
                    &format!(r#"{{part=~"{names}"}}"#),
                )],
            ),
            lines(
                "Failures of the operator's calls",
                "Failures in a second, by backend and reason.",
                Unit::PerSecond,
                vec![query(
                    or_zero(&format!(
                        r#"sum by (part, reason) (rate(posthouse_operator_errors_total{{part=~"{names}"}}[$__rate_interval]))"#
                    )),
                    "{{part}} {{reason}}",
                )],
            ),
        ],
    );
    let calls = row(
        "Over HTTP",
        vec![
            lines(
                "Calls of services",
                "Requests of services in a second, by the server and how they ended: `failed` is 5xx or no answer, `abandoned` also what took too long. Keycloak, the object store and OpenSearch, and what tenants and users have: push services, hooks, classifiers, pages that are previewed.",
                Unit::PerSecond,
                vec![rate("backend, outcome", "posthouse_process_backend_request_seconds_count")],
            ),
            lines(
                "Time of a call of services",
                "99th percentile of the time until a server answers, by the server.",
                Unit::Seconds,
                vec![percentile_by(
                    "backend",
                    "posthouse_process_backend_request_seconds",
                    r#"{tenant=~"$tenant"}"#,
                )],
            ),
            lines(
                "Calls of the operator",
                "Requests of the operator in a second, by backend and how they ended. `refused` ones are part of how it looks: what is not there is answered with 404.",
                Unit::PerSecond,
                vec![query(
                    or_zero(
                        "sum by (backend, outcome) (rate(posthouse_operator_backend_request_seconds_count[$__rate_interval]))",
                    ),
                    "{{backend}} {{outcome}}",
                )],
            ),
            lines(
                "Time of a call of the operator",
                "99th percentile of the time until a backend answers, by backend.",
                Unit::Seconds,
                vec![percentile_by("backend", "posthouse_operator_backend_request_seconds", "")],
            ),
        ],
    );
    let log = row(
        "Kafka",
        vec![
            lines(
                "Acknowledgement of a message",
                "Time until Kafka acknowledges or refuses a message.",
                Unit::Seconds,
                percentiles("posthouse_gateway_produce_seconds"),
            ),
            lines(
                "Changes of chats that wait",
                "Records of the chat service's outbox that Kafka has not taken yet.",
                Unit::Number,
                vec![max("tenant", "posthouse_chat_outbox_backlog")],
            ),
            lines(
                "Changes of chats that fail",
                "Batches of the outbox in a second that were cut short or failed.",
                Unit::PerSecond,
                vec![total_rate("posthouse_chat_outbox_failures_total", "batches")],
            ),
        ],
    );
    let store = row(
        "CQL store",
        vec![
            lines(
                "Look-up and write of a batch",
                "99th percentile of the time that a batch waits for the store, by step.",
                Unit::Seconds,
                vec![percentile_by(
                    "step",
                    "posthouse_message_step_seconds",
                    r#"{tenant=~"$tenant", step=~"look_up|write"}"#,
                )],
            ),
            lines(
                "Repeated steps",
                "Steps in a second that are done again because the store or the log fails.",
                Unit::PerSecond,
                vec![total_rate("posthouse_message_retries_total", "retries")],
            ),
        ],
    );
    let cache = row(
        "Redis",
        vec![
            lines(
                "Reads of the cache",
                "Reads in a second, by how they were answered. `bypassed` ones found no Redis.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_user_cache_requests_total")],
            ),
            lines(
                "Hit rate",
                "The part of the reads that PostgreSQL was not asked for.",
                Unit::Part,
                vec![query(
                    or_zero(
                        r#"sum(rate(posthouse_user_cache_requests_total{tenant=~"$tenant", outcome=~"hit|renewed|shared"}[$__rate_interval])) / sum(rate(posthouse_user_cache_requests_total{tenant=~"$tenant"}[$__rate_interval]))"#,
                    ),
                    "hits",
                )],
            ),
        ],
    );
    let others = row(
        "Others",
        vec![
            lines(
                "Queues of RabbitMQ",
                "1 while jobs of a channel come through RabbitMQ, 0 while it is away; nothing in a cell without it.",
                Unit::Number,
                vec![query(
                    r#"min by (channel) (posthouse_notification_broker_up{tenant=~"$tenant"})"#,
                    "{{channel}}",
                )],
            ),
            lines(
                "Providers of notifications",
                "Time that a provider takes for what is sent.",
                Unit::Seconds,
                percentiles("posthouse_notification_send_seconds"),
            ),
            lines(
                "Searches",
                "Time of a search, in the embedded index or in OpenSearch.",
                Unit::Seconds,
                percentiles("posthouse_search_search_seconds"),
            ),
            lines(
                "Files served",
                "Bytes in a second that are read in the object store for users.",
                Unit::Bytes,
                vec![total_rate("posthouse_media_served_bytes_total", "served")],
            ),
        ],
    );
    Dashboard {
        name: "backends",
        title: "Backends",
        about: "The backends of the cells, as the operator and the services see them.",
        rows: vec![operator, calls, log, store, cache, others],
    }
}
