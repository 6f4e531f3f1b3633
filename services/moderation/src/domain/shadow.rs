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
/// How often it is looked for what is remembered in vain, in milliseconds by the log's clock.
const SWEEP_MS: i64 = 60_000;
/// An entry that is announced once more comes within so long, in milliseconds by the log's clock.
const REPEATED_MS: i64 = 3_600_000;

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
    /// Over how long a rule counts messages, in milliseconds: what was sent so long before the run counts too. Absent when none does.
    counts_over_ms: Option<i64>,
    partitions: HashMap<i32, Remembered>,
    pub first_ms: Option<i64>,
    pub judged: i64,
    /// Of them, those that a classifier would have been asked about.
    pub unjudged: i64,
    pub tally: Tally,
    pub samples: Vec<Sample>,
}

/// What is remembered of a partition, whose records come in the order of its clock. Others may be far behind or ahead of it.
#[derive(Debug, Default)]
struct Remembered {
    /// The last entry of each chat that was active lately, and when it was sent.
    last: HashMap<ChatId, (i64, i64)>,
    /// Of senders of whom something counts, when a rule counts.
    windows: HashMap<(ChatId, UserId), Window>,
    swept_ms: i64,
}

impl Remembered {
    /// Forgets what counts no more at a time, now and then.
    fn sweep(&mut self, now_ms: i64, counts_over_ms: i64) {
        if now_ms - self.swept_ms < SWEEP_MS {
            return;
        }
        self.swept_ms = now_ms;
        self.last.retain(|_, (_, at_ms)| *at_ms > now_ms - REPEATED_MS);
        self.windows.retain(|_, window| window.count(counts_over_ms, now_ms) > 0);
        self.last.shrink_to_fit();
        self.windows.shrink_to_fit();
    }
}

impl Shadow {
    /// Returns a run over what was sent from one time on and before another, by the log's clock.
    pub fn new(judge: Judge, from_ms: i64, to_ms: i64) -> Self {
        Self {
            counts_over_ms: judge.counts_over_ms(),
            judge,
            from_ms,
            to_ms,
            partitions: HashMap::new(),
            first_ms: None,
            judged: 0,
            unjudged: 0,
            tally: Tally::default(),
            samples: Vec::new(),
        }
    }

    /// Judges the next post of a partition. Posts of a chat come in the order of its log.
    pub fn add(&mut self, partition: i32, post: &Post) {
        let counts_over_ms = self.counts_over_ms.unwrap_or(0);
        if post.sent_at_ms < self.from_ms - counts_over_ms || post.sent_at_ms >= self.to_ms {
            return;
        }
        let remembered = self.partitions.entry(partition).or_default();
        remembered.sweep(post.sent_at_ms, counts_over_ms);
        let (last_seq, at_ms) = remembered.last.entry(post.chat).or_default();
        if post.entry_seq <= *last_seq {
            return;
        }
        (*last_seq, *at_ms) = (post.entry_seq, post.sent_at_ms);
        let mut uncounted = Window::default();
        let window = if self.counts_over_ms.is_some() {
            remembered.windows.entry((post.chat, post.sender)).or_default()
        } else {
            &mut uncounted
        };
        window.take(post);
        window.forget(post.sent_at_ms - counts_over_ms);
        if post.sent_at_ms < self.from_ms {
            return;
        }
        self.judged += 1;
        self.unjudged += i64::from(self.judge.asks());
        self.first_ms = Some(self.first_ms.map_or(post.sent_at_ms, |first_ms| first_ms.min(post.sent_at_ms)));
        let Some(judgement) = self.judge.judge(post, window) else { return };
        self.tally.add(&judgement.rules, &judgement.action);
        for rule in judgement.rules {
            if self.samples.iter().filter(|sample| sample.rule == rule).count() < MAX_SAMPLES {
                self.samples.push(sample(rule, post));
            }
        }
    }

    /// Returns of how many chats and senders something is remembered.
    #[cfg(test)]
    fn remembered(&self) -> (usize, usize) {
        let of = |count: fn(&Remembered) -> usize| self.partitions.values().map(count).sum::<usize>();
        (of(|remembered| remembered.last.len()), of(|remembered| remembered.windows.len()))
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

#[cfg(test)]
mod tests {
    use contracts::{
        RuleSetId,
        api::{ClassifierRule, RateRule, Rule, RuleSet, RuleSetState, RuleTest, WordsRule},
    };
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Folded, links};

    fn judge(test: RuleTest) -> Judge {
        let action = RuleAction { delete: true, ..RuleAction::default() };
        let set = RuleSet {
            id: RuleSetId(Uuid::from_u128(1)),
            name: "set".to_owned(),
            rules: vec![Rule { name: "rule".to_owned(), test, action }],
            state: RuleSetState::Draft,
            created_by: UserId(Uuid::from_u128(2)),
            created_at_ms: 0,
            enforced_from_ms: None,
            retired_from_ms: None,
        };
        Judge::of(&set).expect("it compiles")
    }

    fn post(chat: u128, seq: i64, sent_at_ms: i64) -> Post {
        Post {
            chat: ChatId(Uuid::from_u128(chat)),
            entry_seq: seq,
            seq,
            sender: UserId(Uuid::from_u128(4)),
            is_edit: false,
            text: "scam".to_owned(),
            files: Vec::new(),
            sent_at_ms,
            folded: Folded::of("scam"),
            hosts: links::hosts("scam"),
        }
    }

    const DAYS_MS: i64 = 90 * 24 * 3_600_000;

    #[test]
    fn what_is_remembered_is_bounded_by_time() {
        let rate = || RuleTest::Rate(RateRule { messages: 1, seconds: 60 });
        let words = || RuleTest::Words(WordsRule { words: vec!["scam".to_owned()], exact: false });
        for (test, most, caught) in [(rate(), (130, 4), 0), (words(), (130, 0), 20_000)] {
            let mut shadow = Shadow::new(judge(test), 0, DAYS_MS);
            // A chat of one message every minute, in two partitions of which one is read to its end first.
            for partition in 0..2_i32 {
                for at in 0..10_000_i64 {
                    let chat = u128::from(at.unsigned_abs()) * 2 + u128::from(partition.unsigned_abs());
                    shadow.add(partition, &post(chat, 1, at * 60_000 + 1));
                }
            }
            let remembered = shadow.remembered();
            assert!(remembered.0 <= most.0 && remembered.1 <= most.1, "{remembered:?}");
            assert_eq!((shadow.judged, shadow.tally.caught), (20_000, caught));
        }
    }

    #[test]
    fn a_run_says_what_a_classifier_would_have_been_asked_about() {
        let label = ClassifierRule { label: "toxic".to_owned(), percent: 1 };
        let words = RuleTest::Words(WordsRule { words: vec!["scam".to_owned()], exact: false });
        for (test, figures) in [(RuleTest::Classifier(label), (2, 2, 0)), (words, (2, 0, 2))] {
            let mut shadow = Shadow::new(judge(test), 0, 10_000);
            shadow.add(0, &post(1, 1, 1_000));
            shadow.add(0, &post(1, 2, 2_000));
            assert_eq!((shadow.judged, shadow.unjudged, shadow.tally.caught), figures);
        }
    }

    #[test]
    fn what_was_sent_before_a_run_counts_and_what_is_announced_again_does_not() {
        let rate = RuleTest::Rate(RateRule { messages: 2, seconds: 10 });
        let mut shadow = Shadow::new(judge(rate), 10_000, 100_000);
        for (seq, sent_at_ms) in
            [(1, 500), (2, 5_000), (3, 6_000), (4, 11_000), (4, 11_000), (5, 30_000), (3, 6_000), (6, 31_000)]
        {
            shadow.add(0, &post(1, seq, sent_at_ms));
        }
        assert_eq!((shadow.judged, shadow.tally.caught, shadow.first_ms), (3, 1, Some(11_000)));
    }
}
