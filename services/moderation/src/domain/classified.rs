//! What the tenant's classifier is asked, and what its answer says.

use std::collections::BTreeMap;

use contracts::{
    ChatId, UserId,
    api::{Evidence, RuleSet, RuleTest},
};
use serde::{Deserialize, Serialize};

use super::{Post, Verdict, derived_id, judge::judgement, post::evidence};

/// Labels of one answer that are kept.
const MAX_LABELS: usize = 100;
/// Longest label that is kept, in bytes: four for each character of a rule's.
const MAX_LABEL_BYTES: usize = 256;

/// A post that waits for the classifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub chat: ChatId,
    pub entry_seq: i64,
    pub seq: i64,
    pub sender: UserId,
    pub text: String,
    /// The name and the media type of each file.
    pub files: Vec<(String, String)>,
    /// Milliseconds since the epoch, by the log's clock.
    pub sent_at_ms: i64,
}

/// What the classifier answered: a score for each label, in thousandths. Labels that are not there have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scores(BTreeMap<String, u32>);

impl Question {
    pub fn of(post: &Post) -> Self {
        Self {
            chat: post.chat,
            entry_seq: post.entry_seq,
            seq: post.seq,
            sender: post.sender,
            text: post.text.clone(),
            files: post.files.clone(),
            sent_at_ms: post.sent_at_ms,
        }
    }

    /// Returns what the classifier knows it by: the same each time, and nothing of the chat.
    pub fn id(&self) -> String {
        derived_id(&format!("question/{}/{}", self.chat, self.entry_seq)).to_string()
    }

    /// Returns what is kept of it.
    pub(super) fn evidence(&self) -> Evidence {
        evidence(&self.text, &self.files, self.sent_at_ms)
    }
}

impl Scores {
    /// Returns scores from 0 to 1 as they are kept. What lies beyond counts as the next one that does not, and no number as 0.
    pub fn of(labels: BTreeMap<String, f64>) -> Self {
        // A label with this character would not be stored.
        let is_label = |label: &String| label.len() <= MAX_LABEL_BYTES && !label.contains('\0');
        let labels = labels.into_iter().filter(|(label, _)| is_label(label)).take(MAX_LABELS);
        let thousandths = |score: f64| (score.clamp(0.0, 1.0) * 1_000.0).round() as u32;
        Self(labels.map(|(label, score)| (label, thousandths(score))).collect())
    }

    fn reaches(&self, label: &str, percent: u32) -> bool {
        self.0.get(label).is_some_and(|score| *score >= percent * 10)
    }
}

/// Returns whether a rule of the set waits for the classifier.
pub fn asks(set: &RuleSet) -> bool {
    set.rules.iter().any(|rule| matches!(rule.test, RuleTest::Classifier(_)))
}

/// Returns what the rules with a classifier say of a post, in a set that was in force when it was sent.
pub fn classify(set: &RuleSet, question: &Question, scores: &Scores) -> Option<Verdict> {
    let sent_at_ms = question.sent_at_ms;
    let is_in_force = set.enforced_from_ms.is_some_and(|from_ms| sent_at_ms >= from_ms)
        && set.retired_from_ms.is_none_or(|from_ms| sent_at_ms < from_ms);
    let caught = set.rules.iter().filter(|rule| match &rule.test {
        RuleTest::Classifier(of) => is_in_force && scores.reaches(&of.label, of.percent),
        _ => false,
    });
    let judgement = judgement(caught.map(|rule| (&rule.name, &rule.action)))?;
    Some(Verdict::classified(set.id, question, judgement))
}

#[cfg(test)]
mod tests {
    use contracts::{
        RuleSetId,
        api::{ClassifierRule, Rule, RuleAction, RuleSetState},
    };
    use uuid::Uuid;

    use super::*;

    fn rule(name: &str, percent: u32) -> Rule {
        let test = RuleTest::Classifier(ClassifierRule { label: "toxic".to_owned(), percent });
        Rule { name: name.to_owned(), test, action: RuleAction { report: true, ..RuleAction::default() } }
    }

    #[test]
    fn rules_catch_what_reaches_their_score_while_the_set_is_in_force() {
        let set = RuleSet {
            id: RuleSetId(Uuid::from_u128(1)),
            name: "set".to_owned(),
            rules: vec![rule("low", 10), rule("high", 90)],
            state: RuleSetState::Retired,
            created_by: UserId(Uuid::from_u128(2)),
            created_at_ms: 0,
            enforced_from_ms: Some(1_000),
            retired_from_ms: Some(9_000),
        };
        assert!(asks(&set));
        let caught = |score: f64, sent_at_ms| {
            let question = Question {
                chat: ChatId(Uuid::from_u128(3)),
                entry_seq: 5,
                seq: 4,
                sender: UserId(Uuid::from_u128(4)),
                text: "a text".to_owned(),
                files: Vec::new(),
                sent_at_ms,
            };
            let scores = Scores::of(BTreeMap::from([("toxic".to_owned(), score), ("spam".to_owned(), 1.0)]));
            classify(&set, &question, &scores).map(|verdict| verdict.rules).unwrap_or_default()
        };
        assert_eq!(caught(0.09, 5_000), Vec::<String>::new());
        assert_eq!(caught(0.1, 5_000), ["low"]);
        assert_eq!(caught(0.9, 5_000), ["low", "high"]);
        assert_eq!(caught(1e9, 5_000), ["low", "high"]);
        for score in [-1.0, f64::NAN] {
            assert_eq!(caught(score, 5_000), Vec::<String>::new());
        }
        for sent_at_ms in [999, 9_000] {
            assert_eq!(caught(1.0, sent_at_ms), Vec::<String>::new());
        }
    }
}
