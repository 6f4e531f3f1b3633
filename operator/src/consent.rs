//! Pure: consent to a loss that was reported. It names the one loss it is for, so that an annotation that stays where it is, in a
//! Git repository for example, never consents to the next one.

use std::collections::BTreeMap;

use catalog::Backend;
use sha2::{Digest, Sha256};

use crate::text::hex;

/// Returns the name of the loss of what was recorded: another one once the data is recreated and recorded again.
pub(crate) fn loss(recorded: &BTreeMap<String, String>) -> String {
    let mut sha = Sha256::new();
    for (name, id) in recorded {
        for text in [name, id] {
            sha.update(text);
            sha.update([0]);
        }
    }
    hex(&sha.finalize()[..4])
}

/// Returns the value of the annotation that accepts a loss.
pub(crate) fn accepting(backend: Backend, loss: &str) -> String {
    format!("{backend}:{loss}")
}

/// Reports whether the value of the annotation accepts a loss. Several are comma separated.
pub(crate) fn accepts(annotation: &str, backend: Backend, loss: &str) -> bool {
    annotation.split(',').any(|accepted| accepted.trim() == accepting(backend, loss))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(id: &str) -> BTreeMap<String, String> {
        [("acme.message.send", id), ("acme.chat.events", "2")]
            .into_iter()
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect()
    }

    #[test]
    fn a_consent_is_for_one_loss() {
        let (before, after) = (loss(&recorded("1")), loss(&recorded("3")));
        assert_ne!(before, after);
        let annotation = format!("redis:1, {}", accepting(Backend::Kafka, &before));
        assert!(accepts(&annotation, Backend::Kafka, &before));
        assert!(!accepts(&annotation, Backend::Kafka, &after));
        assert!(!accepts(&annotation, Backend::Redis, &before));
        assert!(!accepts("kafka", Backend::Kafka, &before) && !accepts("", Backend::Kafka, &before));
    }
}
