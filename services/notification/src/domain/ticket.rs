//! What stands for a job in a queue.

use contracts::{ChatId, SubscriptionId};
use serde::{Deserialize, Serialize};

use super::{MAX_AT_ONCE, MAX_OF_HOST, MAX_OF_USER};

/// What stands for a job in a queue of a broker: where its row is, and its number. It says nothing of a user or of a text. A job that is handed over
/// again has another number, and what has the number of before stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub number: i64,
    #[serde(rename = "subscription")]
    pub subscription_id: SubscriptionId,
    /// `None` for a digest of all chats.
    #[serde(rename = "chat", default, skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<ChatId>,
    /// How often the job was begun before.
    pub attempts: i32,
}

impl Ticket {
    /// Reads the body of a message. Nothing for one that this service did not write.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Returns the body of a message.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("ids and numbers are JSON")
    }
}

/// A ticket that came out of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub ticket: Ticket,
    /// An administrator put it back behind the job was given up: it is tried again.
    pub is_revived: bool,
}

/// How many jobs may be handed over and not done at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    pub all: i64,
    pub of_user: i64,
    pub of_host: i64,
}

impl Places {
    /// Returns those of a process that takes jobs from the store.
    pub fn of_process() -> Self {
        let all = i64::try_from(MAX_AT_ONCE).unwrap_or(i64::MAX);
        Self { all, of_user: MAX_OF_USER, of_host: MAX_OF_HOST }
    }

    /// Returns those of a queue with so many consumers. Each has as many as a process has that takes jobs from the store, and half as many wait in
    /// the queue, so that no place is empty until the next is handed over.
    pub fn of(consumers: usize) -> Self {
        let consumers = i64::try_from(consumers).unwrap_or(i64::MAX).clamp(1, 1_000);
        let Self { all, of_user, of_host } = Self::of_process();
        Self { all: consumers * (all + all / 2), of_user: consumers * of_user, of_host: consumers * of_host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_back_and_what_others_wrote_is_none() {
        for chat_id in [None, Some(ChatId::generate())] {
            let ticket =
                Ticket { number: 7, subscription_id: SubscriptionId::generate(), chat_id, attempts: 3 };
            assert_eq!(Ticket::read(&ticket.write()), Some(ticket));
        }
        for other in [
            "",
            "{}",
            "7",
            "{\"number\": 7, \"attempts\": 0}",
            "{\"number\": \"7\", \"subscription\": \"x\"}",
        ] {
            assert_eq!(Ticket::read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_host_that_does_not_answer_has_no_more_of_the_places_than_without_a_queue() {
        let one = Places::of(1);
        assert_eq!(one, Places { all: 48, of_user: 4, of_host: 16 });
        assert_eq!(Places::of(0), one, "the consumer that asks may not be counted yet");
        assert_eq!(Places::of(3), Places { all: 144, of_user: 12, of_host: 48 });
    }
}
