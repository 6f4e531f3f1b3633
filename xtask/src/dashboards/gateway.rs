//! Connections, and what they send and receive.

use super::{Dashboard, Unit, lines, query, rate, row, sum, total_rate};

pub fn gateway() -> Dashboard {
    let connections = row(
        "Connections",
        vec![
            lines(
                "Open",
                "Open WebSockets, by tenant.",
                Unit::Number,
                vec![sum("tenant", "posthouse_gateway_connections")],
            ),
            lines(
                "Requested",
                "WebSockets that clients requested in a second, by what they got.",
                Unit::PerSecond,
                vec![rate("outcome", "posthouse_gateway_upgrades_total")],
            ),
            lines(
                "Ended",
                "WebSockets that ended in a second, by reason.",
                Unit::PerSecond,
                vec![rate("reason", "posthouse_gateway_closes_total")],
            ),
        ],
    );
    let traffic = row(
        "Traffic",
        vec![
            lines(
                "Frames from clients",
                "Frames read in a second, by kind.",
                Unit::PerSecond,
                vec![rate("kind", "posthouse_gateway_frames_total")],
            ),
            lines(
                "Errors by code",
                "Errors sent to clients in a second. `unavailable` and `internal` are faults of the messenger.",
                Unit::PerSecond,
                vec![rate("code", "posthouse_gateway_errors_total")],
            ),
            lines(
                "Limited",
                "Commands refused with rate_limited in a second, by the limit.",
                Unit::PerSecond,
                vec![rate("limit", "posthouse_gateway_limited_total")],
            ),
            lines(
                "Pushes by kind",
                "Frames pushed in a second, by kind and outcome.",
                Unit::PerSecond,
                vec![rate("kind, outcome", "posthouse_gateway_pushes_total")],
            ),
            lines(
                "Queued bytes",
                "Bytes that wait for clients, and those of messages that they have begun to send. A process has 64 MiB.",
                Unit::Bytes,
                vec![
                    sum("tenant", "posthouse_gateway_send_queue_bytes"),
                    query(
                        r#"sum by (tenant) (posthouse_gateway_inbound_bytes{tenant=~"$tenant"})"#,
                        "{{tenant}}, begun",
                    ),
                ],
            ),
        ],
    );
    let membership = row(
        "Who is in which chat",
        vec![
            lines(
                "Memberships",
                "Memberships held, of users who are connected or were until lately.",
                Unit::Number,
                vec![sum("tenant", "posthouse_gateway_memberships")],
            ),
            lines(
                "Loads",
                "Requests in a second to the chat service for the chats of a user.",
                Unit::PerSecond,
                vec![total_rate("posthouse_gateway_membership_loads_total", "loads")],
            ),
            lines(
                "Losses",
                "Records in a second that did not arrive, as they were noticed: of members of chats, and announcements.",
                Unit::PerSecond,
                vec![
                    total_rate("posthouse_gateway_lost_memberships_total", "memberships"),
                    total_rate("posthouse_gateway_lost_announcements_total", "announcements"),
                ],
            ),
        ],
    );
    Dashboard {
        name: "gateway",
        title: "Gateway",
        about: "Connections of clients, what they send, and what is sent to them.",
        rows: vec![connections, traffic, membership],
    }
}
