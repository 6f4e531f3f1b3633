//! The path of a message, in the order in which it goes.

use super::{
    Dashboard, Unit, figure, lines, or_zero, percentile_by, percentiles, query, rate, row, sum, total_rate,
};

/// From the frame of a client to the sockets of members: the step at which the figures change is where a message waits.
pub fn path() -> Dashboard {
    let gateway = row(
        "From the client to the log",
        vec![
            lines(
                "Frames",
                "Frames that clients sent in a second, by kind.",
                Unit::PerSecond,
                vec![rate("kind", "posthouse_gateway_frames_total")],
            ),
            lines(
                "Acknowledgement",
                "Time until Kafka acknowledges or refuses a message: its sender waits for `accepted` so long.",
                Unit::Seconds,
                percentiles("posthouse_gateway_produce_seconds"),
            ),
            lines(
                "Refusals",
                "Errors sent to clients in a second, by code.",
                Unit::PerSecond,
                vec![rate("code", "posthouse_gateway_errors_total")],
            ),
        ],
    );
    let pipeline = row(
        "From the log to the store",
        vec![
            lines(
                "Lag",
                "Records of message.send that are not applied, by partition. One that grows alone has an owner that hangs.",
                Unit::Number,
                vec![sum("partition", "posthouse_message_lag_records")],
            ),
            lines(
                "Records",
                "Records in a second, by what became of them.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_message_records_total")],
            ),
            lines(
                "Steps",
                "99th percentile of a step of a batch: what decides is looked up, rows are written, announcements are handed to the producer.",
                Unit::Seconds,
                vec![percentile_by("step", "posthouse_message_step_seconds", r#"{tenant=~"$tenant"}"#)],
            ),
            lines(
                "Batches",
                "Records in a batch. Batches grow with the load, and with what a step takes.",
                Unit::Number,
                percentiles("posthouse_message_batch_records"),
            ),
            lines(
                "Keys",
                "Keys in a second, by how it was found out whether they are stored: only `read` asks the store.",
                Unit::PerSecond,
                vec![rate("found", "posthouse_message_keys_total")],
            ),
            lines(
                "Repeated steps",
                "Steps in a second that are done again because a backend fails.",
                Unit::PerSecond,
                vec![total_rate("posthouse_message_retries_total", "retries")],
            ),
            figure(
                "Stopped",
                "Partitions whose log has lost what was accepted. The runbook has a section for each loss.",
                Unit::Number,
                query(
                    or_zero(r#"sum(posthouse_message_stopped_partitions{tenant=~"$tenant"})"#),
                    "partitions",
                ),
            ),
            figure(
                "Owned",
                "Partitions that pods of the message service own.",
                Unit::Number,
                query(r#"sum(posthouse_message_owned_partitions{tenant=~"$tenant"})"#, "partitions"),
            ),
        ],
    );
    let delivery = row(
        "From the store to the members",
        vec![
            lines(
                "Announcement",
                "Time from the log's timestamp of a message to its announcement. The goal is 250 ms for 99.9 % of them.",
                Unit::Seconds,
                percentiles("posthouse_message_log_to_announced_seconds"),
            ),
            lines(
                "In time",
                "The part of the messages that were announced within 256 ms, the bound of the histogram next to the goal.",
                Unit::Part,
                vec![query(
                    r#"sum(rate(posthouse_message_log_to_announced_seconds_bucket{tenant=~"$tenant", le="0.256"}[$__rate_interval])) / sum(rate(posthouse_message_log_to_announced_seconds_count{tenant=~"$tenant"}[$__rate_interval]))"#,
                    "in time",
                )],
            ),
            lines(
                "Pushes",
                "Frames pushed to connections in a second, by kind and outcome. `Dropped` ones met a queue that is full.",
                Unit::PerSecond,
                vec![rate("kind, outcome", "posthouse_gateway_pushes_total")],
            ),
            lines(
                "Queued",
                "Bytes that wait for clients. A process has 64 MiB.",
                Unit::Bytes,
                vec![sum("tenant", "posthouse_gateway_send_queue_bytes")],
            ),
            lines(
                "Lost announcements",
                "Entries in a second of which gateways learned by the head of the chat.",
                Unit::PerSecond,
                vec![total_rate("posthouse_gateway_lost_announcements_total", "lost")],
            ),
            lines(
                "History",
                "Pages of history read in a second, for a request or for another one at the same time.",
                Unit::PerSecond,
                vec![rate("page", "posthouse_message_history_pages_total")],
            ),
        ],
    );
    Dashboard {
        name: "message-path",
        title: "The path of a message",
        about: "From the frame of a client to the sockets of members, step by step. Where the figures change is where messages wait.",
        rows: vec![gateway, pipeline, delivery],
    }
}
