//! What a rule set would have done: the same decisions, counted and not carried out.

use std::collections::{BTreeMap, HashMap};

use contracts::{
    ChatId, UserId,
    api::{Figures, RuleAction, RuleFigures, Sample},
};

use super::{Judge, Post, Window};

/// Samples of each rule.
pub const MAX_SAMPLES: usize = 10;
/// Characters of a sample.
const SAMPLE_CHARS: usize = 300;
/// Longest time that a rule counts messages over, in milliseconds: what was sent so long before a run fills the windows.
const WARM_UP_MS: i64 = 3_600_000;

/// Counts what a rule set catches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    caught: i64,
    deletions: i64,
    reports: i64,
    sanctions: i64,
    rules: BTreeMap<String, i64>,
}

impl Tally {
    pub fn add(&mut self, rules: &[String], action: &RuleAction) {
        self.caught += 1;
        self.deletions += i64::from(action.delete);
        self.reports += i64::from(action.report);
        self.sanctions += i64::from(action.sanction.is_some());
        for rule in rules {
            *self.rules.entry(rule.clone()).or_default() += 1;
        }
    }
}

impl From<Tally> for Figures {
    fn from(tally: Tally) -> Self {
        let Tally { caught, deletions, reports, sanctions, rules } = tally;
        let rules = rules.into_iter().map(|(rule, caught)| RuleFigures { rule, caught }).collect();
        Self { caught, deletions, reports, sanctions, rules }
    }
}

/// A shadow run over the posts of the log.
#[derive(Debug)]
pub struct Shadow {
    judge: Judge,
    from_ms: i64,
    to_ms: i64,
    windows: HashMap<(ChatId, UserId), Window>,
    pub first_ms: Option<i64>,
    pub judged: i64,
    pub tally: Tally,
    pub samples: Vec<Sample>,
}

impl Shadow {
    /// Returns a run over what was sent from one time on and before another, by the log's clock.
    pub fn new(judge: Judge, from_ms: i64, to_ms: i64) -> Self {
        Self {
            judge,
            from_ms,
            to_ms,
            windows: HashMap::new(),
            first_ms: None,
            judged: 0,
            tally: Tally::default(),
            samples: Vec::new(),
        }
    }

    /// Judges the next post. Posts of a chat come in the order of its log.
    pub fn add(&mut self, post: &Post) {
        if post.sent_at_ms < self.from_ms - WARM_UP_MS || post.sent_at_ms >= self.to_ms {
            return;
        }
        let window = self.windows.entry((post.chat, post.sender)).or_default();
        if !window.take(post) || post.sent_at_ms < self.from_ms {
            return;
        }
        self.judged += 1;
        self.first_ms = Some(self.first_ms.map_or(post.sent_at_ms, |first_ms| first_ms.min(post.sent_at_ms)));
        let Some(judgement) = self.judge.judge(post, window) else { return };
        self.tally.add(&judgement.rules, &judgement.action);
        for rule in judgement.rules {
            if self.samples.iter().filter(|sample| sample.rule == rule).count() < MAX_SAMPLES {
                self.samples.push(sample(rule, post));
            }
        }
    }
}

fn sample(rule: String, post: &Post) -> Sample {
    Sample {
        rule,
        chat: post.chat,
        seq: post.seq,
        sender: post.sender,
        sent_at_ms: post.sent_at_ms,
        text: post.text.chars().take(SAMPLE_CHARS).collect(),
    }
}
