//! Topic names. The tenant id has no separator in its alphabet, so no prefix is ambiguous.

/// What people send, key = chat id. The record offset decides the order of a chat.
pub const MESSAGE_SEND: &str = "message.send";
/// What was stored (or refused), key = chat id. Gateways read it.
pub const MESSAGE_DELIVERED: &str = "message.delivered";
/// Who is in which chat, compacted, key = `<chat>/<user>`; a tombstone is a removal.
pub const CHAT_EVENTS: &str = "chat.events";

/// Returns the topic's name on the cluster: `acme.message.send`.
pub fn tenant_topic(tenant: &str, topic: &str) -> String {
    format!("{tenant}.{topic}")
}
