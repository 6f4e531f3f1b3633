//! Topics of a tenant's event log.

/// One topic of a tenant.
#[derive(Debug)]
pub struct TopicEntry {
    /// Name without the tenant's prefix.
    pub name: &'static str,
    /// How records leave the topic.
    pub retention: Retention,
    /// The broker's clock sets the time of a record, because retention and replay follow the log and no client may
    /// choose its time.
    pub log_append_time: bool,
    /// A tenant has it only where it requests it: the messenger works without.
    pub is_optional: bool,
    /// JSON Schema of the payload of its records, as `make generate` writes it from the types.
    pub schema: &'static str,
}

/// How records leave a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// By age: the tenant's `spec.kafka.retention`.
    Age,
    /// By compaction: the last record of every key stays.
    Compaction,
    /// By age: so many seconds, whatever the tenant keeps of its messages.
    Seconds(u64),
}

/// How long an access token is good at most, in seconds: the longest `spec.identity.accessTokenLifetime`.
pub const MAX_ACCESS_TOKEN_SECONDS: u64 = 3600;
/// How long the end of a session is kept: for as long as an access token of it may be good, and as long again.
pub const SESSION_EVENTS_SECONDS: u64 = 2 * MAX_ACCESS_TOKEN_SECONDS;
/// How long a sample of presence is kept: who follows them may be away for as long, and no history of a user comes of it.
pub const PRESENCE_CHANGES_SECONDS: u64 = 3600;
/// Each user is sampled at most once in so many seconds.
pub const PRESENCE_SAMPLE_SECONDS: u32 = 30;

/// The file beside this crate that `make generate` writes.
macro_rules! schema {
    ($topic:literal) => {
        include_str!(concat!("../schemas/", $topic, ".json"))
    };
}

table! {
    /// A topic of every tenant. The tenant id has no separator in its alphabet, so no prefix is ambiguous.
    pub enum Topic: TopicEntry;

    /// What users send, key = chat id. The record offset decides the order of a chat.
    MessageSend = TopicEntry {
        name: "message.send",
        retention: Retention::Age,
        log_append_time: true,
        is_optional: false,
        schema: schema!("message.send"),
    };
    /// What was stored or rejected, key = chat id. Gateways read it.
    MessageDelivered = TopicEntry {
        name: "message.delivered",
        retention: Retention::Age,
        log_append_time: false,
        is_optional: false,
        schema: schema!("message.delivered"),
    };
    /// The members of chats, key = `<chat>/<user>`; a tombstone is a removal.
    ChatEvents = TopicEntry {
        name: "chat.events",
        retention: Retention::Compaction,
        log_append_time: false,
        is_optional: false,
        schema: schema!("chat.events"),
    };
    /// Sessions and accounts that have ended, key = user id. Gateways close their sockets, and the notification service forgets the devices that a
    /// session subscribed.
    SessionEvents = TopicEntry {
        name: "session.events",
        retention: Retention::Seconds(SESSION_EVENTS_SECONDS),
        log_append_time: true,
        is_optional: false,
        schema: schema!("session.events"),
    };
    /// How users are who show it to everyone, sampled, key = user id. For analytics and bots; no service reads it.
    PresenceChanges = TopicEntry {
        name: "presence.changes",
        retention: Retention::Seconds(PRESENCE_CHANGES_SECONDS),
        log_append_time: true,
        is_optional: true,
        schema: schema!("presence.changes"),
    };
}

impl Topic {
    /// Returns the topic's name on the cluster: `acme.message.send`.
    pub fn of(self, tenant: &str) -> String {
        format!("{tenant}.{}", self.name)
    }
}
