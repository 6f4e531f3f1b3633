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
}

/// How records leave a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// By age: the tenant's `spec.kafka.retention`.
    Age,
    /// By compaction: the last record of every key stays.
    Compaction,
}

table! {
    /// A topic of every tenant. The tenant id has no separator in its alphabet, so no prefix is ambiguous.
    pub enum Topic: TopicEntry;

    /// What users send, key = chat id. The record offset decides the order of a chat.
    MessageSend = TopicEntry { name: "message.send", retention: Retention::Age, log_append_time: true };
    /// What was stored or rejected, key = chat id. Gateways read it.
    MessageDelivered = TopicEntry { name: "message.delivered", retention: Retention::Age, log_append_time: false };
    /// The members of chats, key = `<chat>/<user>`; a tombstone is a removal.
    ChatEvents = TopicEntry { name: "chat.events", retention: Retention::Compaction, log_append_time: false };
}

impl Topic {
    /// Returns the topic's name on the cluster: `acme.message.send`.
    pub fn of(self, tenant: &str) -> String {
        format!("{tenant}.{}", self.name)
    }
}
