//! Rule sets, compiled, and what they catch. Enforcement and shadow runs decide with [`Judge::judge`] and with nothing else.

use std::collections::{BTreeSet, HashMap, HashSet};

use contracts::{
    RuleSetId,
    api::{Rule, RuleAction, RuleSet, RuleTest, SanctionTerms},
};
use kit::error::InvalidField;
use regex::{Regex, RegexBuilder, RegexSetBuilder};

use super::{Folded, Post, Window, links, post::MAX_REMEMBERED};

/// Rules of one set.
pub const MAX_RULES: usize = 100;
/// Words of all rules of one set.
pub const MAX_WORDS: usize = 10_000;
/// Patterns of one set. Each of them reads a text twice, in time that grows with its length and no faster.
pub const MAX_PATTERNS: usize = 50;
const MAX_NAME_CHARS: usize = 64;
const MAX_WORD_CHARS: usize = 100;
const MAX_PATTERN_CHARS: usize = 500;
const MAX_DOMAINS: usize = 1_000;
const MAX_TYPES: usize = 100;
const MAX_RATE_SECONDS: u32 = 3_600;
/// Ten years.
pub(crate) const MAX_SANCTION_SECONDS: u32 = 315_360_000;
/// The program of one pattern, in bytes: a class of all letters has some tens of thousands, and `\w{1000}` has too many.
const MAX_PROGRAM_BYTES: usize = 512 << 10;
/// What one pattern remembers of texts to be faster, in bytes, for each thread.
const MAX_CACHE_BYTES: usize = 256 << 10;
/// Patterns of all rule sets that are enforced. While a text is judged, each has twice [`MAX_CACHE_BYTES`] at most.
pub const MAX_ENFORCED_PATTERNS: usize = 100;
/// The programs of all of them together, in bytes. With the caches it is less than half of what the process may have.
pub const MAX_ENFORCED_PROGRAM_BYTES: usize = 16 << 20;
/// Groups within groups.
const MAX_NESTING: u32 = 32;

/// A rule set that can judge.
#[derive(Debug)]
pub struct Judge {
    pub id: RuleSetId,
    rules: Vec<Compiled>,
    enforced_from_ms: Option<i64>,
    retired_from_ms: Option<i64>,
}

#[derive(Debug)]
struct Compiled {
    name: String,
    test: Test,
    action: RuleAction,
}

#[derive(Debug)]
enum Test {
    Words {
        words: Phrases,
        is_exact: bool,
    },
    Pattern(Regex),
    Links {
        domains: Vec<String>,
        allow_only: bool,
    },
    Rate {
        messages: usize,
        within_ms: i64,
    },
    Attachments {
        types: Vec<String>,
        allow_only: bool,
    },
    /// Judged when the classifier answers: see [`super::classify`].
    Classifier,
}

/// Words and rows of words.
#[derive(Debug, Default)]
struct Phrases {
    words: HashSet<String>,
    /// By their first words, the others.
    rows: HashMap<String, Vec<Vec<String>>>,
}

/// What a rule set says of a post that it catches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The names of the rules that caught it, in the order of the set.
    pub rules: Vec<String>,
    /// What is done: all that any of them wants, and the strictest sanction.
    pub action: RuleAction,
}

impl Judge {
    /// Compiles a rule set. It fails for one that [`check`] refuses.
    pub fn of(set: &RuleSet) -> Result<Self, InvalidField> {
        Ok(Self {
            id: set.id,
            rules: set.rules.iter().map(compiled).collect::<Result<_, _>>()?,
            enforced_from_ms: set.enforced_from_ms,
            retired_from_ms: set.retired_from_ms,
        })
    }

    /// Returns the longest time over which a rule counts messages, in milliseconds; `None` when none does.
    pub fn counts_over_ms(&self) -> Option<i64> {
        let spans = self.rules.iter().filter_map(|rule| match rule.test {
            Test::Rate { within_ms, .. } => Some(within_ms),
            _ => None,
        });
        spans.max()
    }

    /// Returns whether the set is in force for what was sent at a time, by the log's clock.
    pub fn is_in_force(&self, sent_at_ms: i64) -> bool {
        self.enforced_from_ms.is_some_and(|from_ms| sent_at_ms >= from_ms)
            && self.retired_from_ms.is_none_or(|from_ms| sent_at_ms < from_ms)
    }

    /// Returns what the rules say of a post whose sender's window includes it; `None` when none catches it.
    pub fn judge(&self, post: &Post, window: &Window) -> Option<Judgement> {
        // A rule counts what was sent since it is in force: nothing of before is remembered while no rule counts.
        let since_ms = self.enforced_from_ms.unwrap_or(i64::MIN);
        let caught = self.rules.iter().filter(|rule| rule.test.catches(post, window, since_ms));
        judgement(caught.map(|rule| (&rule.name, &rule.action)))
    }

    /// Returns whether a rule waits for the classifier.
    pub fn asks(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.test, Test::Classifier))
    }
}

/// Returns what rules that catch a post say together; `None` when there is none.
pub(super) fn judgement<'a>(caught: impl Iterator<Item = (&'a String, &'a RuleAction)>) -> Option<Judgement> {
    let mut judgement = Judgement { rules: Vec::new(), action: RuleAction::default() };
    for (name, action) in caught {
        judgement.rules.push(name.clone());
        let all = &mut judgement.action;
        all.delete |= action.delete;
        all.report |= action.report;
        if strictness(action.sanction.as_ref()) > strictness(all.sanction.as_ref()) {
            all.sanction.clone_from(&action.sanction);
        }
    }
    (!judgement.rules.is_empty()).then_some(judgement)
}

/// Returns how sanctions are compared: by kind, then by where they hold, then by how long.
fn strictness(terms: Option<&SanctionTerms>) -> impl Ord + use<> {
    terms.map(|terms| (terms.kind, terms.everywhere, terms.seconds.unwrap_or(u32::MAX)))
}

impl Test {
    fn catches(&self, post: &Post, window: &Window, since_ms: i64) -> bool {
        match self {
            Self::Words { words, is_exact: true } => words.are_in(&post.folded.words),
            Self::Words { words, is_exact: false } => {
                let Folded { looks, spelled, .. } = &post.folded;
                words.are_in(looks) || spelled.iter().any(|word| words.words.contains(word))
            }
            Self::Pattern(pattern) => {
                pattern.is_match(&post.folded.plain) || pattern.is_match(&post.folded.latin)
            }
            Self::Links { domains, allow_only } => post.hosts.iter().any(|host| {
                let is_listed = domains.iter().any(|domain| links::is_within(host, domain));
                is_listed != *allow_only
            }),
            // An edit is no further message.
            Self::Rate { messages, within_ms } => {
                let within_ms = (*within_ms).min(post.sent_at_ms.saturating_sub(since_ms).saturating_add(1));
                !post.is_edit && window.count(within_ms, post.sent_at_ms) > *messages
            }
            Self::Attachments { types, allow_only } => post.files.iter().any(|(_, media_type)| {
                let is_listed = types.iter().any(|wanted| is_of_type(media_type, wanted));
                is_listed != *allow_only
            }),
            Self::Classifier => false,
        }
    }
}

impl Phrases {
    fn add(&mut self, mut words: Vec<String>) {
        match words.len() {
            0 => {}
            1 => self.words.extend(words),
            _ => {
                let first = words.remove(0);
                self.rows.entry(first).or_default().push(words);
            }
        }
    }

    fn are_in(&self, text: &[String]) -> bool {
        text.iter().enumerate().any(|(at, word)| {
            let mut rows = self.rows.get(word).into_iter().flatten();
            self.words.contains(word) || rows.any(|row| text[at + 1..].starts_with(row))
        })
    }
}

/// Returns whether a media type is one, or one of its kind: `image/*`.
fn is_of_type(media_type: &str, wanted: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    match wanted.strip_suffix('*') {
        Some(kind) => media_type.starts_with(kind),
        None => media_type == wanted,
    }
}

fn compiled(rule: &Rule) -> Result<Compiled, InvalidField> {
    let test = match &rule.test {
        RuleTest::Words(of) => {
            let mut words = Phrases::default();
            for word in &of.words {
                let folded = Folded::of(word);
                words.add(if of.exact { folded.words } else { folded.looks });
            }
            Test::Words { words, is_exact: of.exact }
        }
        RuleTest::Pattern(of) => Test::Pattern(pattern(&of.pattern)?),
        RuleTest::Links(of) => {
            let read = |text: &String| {
                links::domain(text).ok_or_else(|| invalid("domains", format!("{text:.64?} is no domain")))
            };
            let domains = of.domains.iter().map(read).collect::<Result<_, _>>()?;
            Test::Links { domains, allow_only: of.allow_only }
        }
        RuleTest::Rate(of) => Test::Rate {
            messages: usize::try_from(of.messages).unwrap_or(usize::MAX),
            within_ms: i64::from(of.seconds) * 1_000,
        },
        RuleTest::Attachments(of) => {
            let types = of.types.iter().map(|of_type| of_type.trim().to_ascii_lowercase()).collect();
            Test::Attachments { types, allow_only: of.allow_only }
        }
        RuleTest::Classifier(_) => Test::Classifier,
    };
    Ok(Compiled { name: rule.name.clone(), test, action: rule.action.clone() })
}

/// Compiles a pattern, whose program has a limit. It never goes back in a text: whatever a pattern is, a text of twice the length takes
/// twice the time.
fn pattern(pattern: &str) -> Result<Regex, InvalidField> {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(true)
        .size_limit(MAX_PROGRAM_BYTES)
        .dfa_size_limit(MAX_CACHE_BYTES)
        .nest_limit(MAX_NESTING)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            invalid("pattern", "it is too large: repeat less, and classes of fewer letters".to_owned())
        }
        error => invalid("pattern", format!("it cannot be read: {error:.300}")),
    })
}

/// Returns whether a rule of these sets counts messages.
pub fn counts(sets: &[RuleSet]) -> bool {
    let mut rules = sets.iter().flat_map(|set| &set.rules);
    rules.any(|rule| matches!(rule.test, RuleTest::Rate(_)))
}

/// Returns whether the patterns of rule sets, of which each is one that [`check`] takes, are few and small enough to be enforced at one time.
pub fn fit_together<'a>(sets: impl IntoIterator<Item = &'a RuleSet>) -> bool {
    let rules = sets.into_iter().flat_map(|set| &set.rules);
    let patterns: Vec<&str> = rules
        .filter_map(|rule| match &rule.test {
            RuleTest::Pattern(of) => Some(of.pattern.as_str()),
            _ => None,
        })
        .collect();
    patterns.len() <= MAX_ENFORCED_PATTERNS
        && RegexSetBuilder::new(patterns)
            .case_insensitive(true)
            .size_limit(MAX_ENFORCED_PROGRAM_BYTES)
            .nest_limit(MAX_NESTING)
            .build()
            .is_ok()
}

fn invalid(field: &'static str, problem: String) -> InvalidField {
    InvalidField { field, problem }
}

/// Refuses rules that are too many, too large, or say nothing.
pub fn check(name: &str, rules: &[Rule]) -> Result<(), InvalidField> {
    let is_name = |name: &str| (1..=MAX_NAME_CHARS).contains(&name.chars().count());
    if !is_name(name) {
        return Err(invalid("name", format!("must have 1 to {MAX_NAME_CHARS} characters")));
    }
    if !(1..=MAX_RULES).contains(&rules.len()) {
        return Err(invalid("rules", format!("must be 1 to {MAX_RULES}")));
    }
    let mut names = BTreeSet::new();
    let (mut words, mut patterns) = (0, 0);
    for rule in rules {
        if !is_name(&rule.name) || !names.insert(&rule.name) {
            let problem = format!("each rule has a name of its own, of 1 to {MAX_NAME_CHARS} characters");
            return Err(invalid("rules", problem));
        }
        check_terms(rule.action.sanction.as_ref())?;
        match &rule.test {
            RuleTest::Words(of) => {
                words += of.words.len();
                check_words(&of.words)?;
            }
            RuleTest::Pattern(of) => {
                patterns += 1;
                if !(1..=MAX_PATTERN_CHARS).contains(&of.pattern.chars().count()) {
                    return Err(invalid("pattern", format!("must have 1 to {MAX_PATTERN_CHARS} characters")));
                }
            }
            RuleTest::Links(of) if of.domains.len() > MAX_DOMAINS => {
                return Err(invalid("domains", format!("must be at most {MAX_DOMAINS}")));
            }
            RuleTest::Links(_) => {}
            RuleTest::Rate(of) => {
                let is_rate = (1..MAX_REMEMBERED).contains(&usize::try_from(of.messages).unwrap_or(0))
                    && (1..=MAX_RATE_SECONDS).contains(&of.seconds);
                if !is_rate {
                    let (most, seconds) = (MAX_REMEMBERED - 1, MAX_RATE_SECONDS);
                    let problem = format!("must be 1 to {most} messages in 1 to {seconds} seconds");
                    return Err(invalid("rate", problem));
                }
            }
            RuleTest::Attachments(of) if of.types.len() > MAX_TYPES => {
                return Err(invalid("types", format!("must be at most {MAX_TYPES}")));
            }
            RuleTest::Attachments(_) => {}
            RuleTest::Classifier(of) => {
                if !is_name(&of.label) {
                    return Err(invalid("label", format!("must have 1 to {MAX_NAME_CHARS} characters")));
                }
                if !(1..=100).contains(&of.percent) {
                    return Err(invalid("percent", "must be 1 to 100".to_owned()));
                }
            }
        }
    }
    if words > MAX_WORDS {
        return Err(invalid("words", format!("must be at most {MAX_WORDS} in a set")));
    }
    if patterns > MAX_PATTERNS {
        return Err(invalid("pattern", format!("must be at most {MAX_PATTERNS} in a set")));
    }
    rules.iter().try_for_each(|rule| compiled(rule).map(drop))
}

fn check_words(words: &[String]) -> Result<(), InvalidField> {
    if words.is_empty() {
        return Err(invalid("words", "must be one at least".to_owned()));
    }
    let is_word =
        |word: &&String| word.chars().count() <= MAX_WORD_CHARS && !Folded::of(word).words.is_empty();
    match words.iter().find(|word| !is_word(word)) {
        Some(word) => {
            let problem =
                format!("{word:.32?} must have a letter or a digit, and at most {MAX_WORD_CHARS} characters");
            Err(invalid("words", problem))
        }
        None => Ok(()),
    }
}

/// Refuses a sanction for no time, or for too long.
pub(crate) fn check_terms(terms: Option<&SanctionTerms>) -> Result<(), InvalidField> {
    let seconds = terms.and_then(|terms| terms.seconds);
    if seconds.is_some_and(|seconds| !(1..=MAX_SANCTION_SECONDS).contains(&seconds)) {
        return Err(invalid("seconds", format!("must be 1 to {MAX_SANCTION_SECONDS}, or absent for good")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
