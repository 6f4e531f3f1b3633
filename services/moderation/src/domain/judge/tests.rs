use std::time::{Duration, Instant};

use contracts::{
    ChatId, UserId,
    api::{AttachmentsRule, LinksRule, PatternRule, RateRule, RuleSetState, SanctionKind, WordsRule},
};
use uuid::Uuid;

use super::*;

/// Far more than any of it takes, also where other programs run.
const PATIENCE: Duration = Duration::from_secs(20);

fn rule(name: &str, test: RuleTest) -> Rule {
    Rule { name: name.to_owned(), test, action: RuleAction { delete: true, ..RuleAction::default() } }
}

fn words(words: &[&str]) -> RuleTest {
    RuleTest::Words(WordsRule { words: words.iter().map(|word| (*word).to_owned()).collect(), exact: false })
}

fn pattern_rule(pattern: &str) -> RuleTest {
    RuleTest::Pattern(PatternRule { pattern: pattern.to_owned() })
}

fn judge(rules: Vec<Rule>) -> Judge {
    check("set", &rules).expect("rules that are taken");
    let set = RuleSet {
        id: RuleSetId(Uuid::from_u128(1)),
        name: "set".to_owned(),
        rules,
        state: RuleSetState::Enforced,
        created_by: UserId(Uuid::from_u128(2)),
        created_at_ms: 0,
        enforced_from_ms: Some(1_000),
        retired_from_ms: Some(9_000),
    };
    Judge::of(&set).expect("it compiles")
}

fn post(text: &str) -> Post {
    Post {
        chat: ChatId(Uuid::from_u128(3)),
        entry_seq: 1,
        seq: 1,
        sender: UserId(Uuid::from_u128(4)),
        is_edit: false,
        text: text.to_owned(),
        files: Vec::new(),
        sent_at_ms: 5_000,
        folded: Folded::of(text),
        hosts: links::hosts(text),
    }
}

/// Returns the names of the rules that catch a text.
fn caught(judge: &Judge, post: &Post) -> Vec<String> {
    let window = Window { last_seq: 1, times_ms: vec![post.sent_at_ms] };
    judge.judge(post, &window).map(|judgement| judgement.rules).unwrap_or_default()
}

#[test]
fn words_are_caught_whatever_hides_them() {
    let judge =
        judge(vec![rule("scam", words(&["scam", "free money", "\u{434}\u{443}\u{440}\u{430}\u{43a}"]))]);
    for text in [
        "a SCAM!",
        "s\u{441}\u{430}m",
        "sc\u{200b}am",
        "scaaaam",
        "5c4m",
        "s.c.a.m",
        "get FREE   money now",
        "fr33 m0ney",
        "\u{414}\u{423}\u{420}\u{410}\u{41a}",
        "\u{434}\u{443}paaa\u{43a}",
    ] {
        assert_eq!(caught(&judge, &post(text)), ["scam"], "{text}");
    }
    for text in ["scamper", "free the money", "money free", "", "!!!"] {
        assert!(caught(&judge, &post(text)).is_empty(), "{text}");
    }
}

#[test]
fn exact_words_are_told_apart_from_what_looks_like_them() {
    let exact = RuleTest::Words(WordsRule { words: vec!["pot".to_owned()], exact: true });
    let judge = judge(vec![rule("pot", exact)]);
    assert_eq!(caught(&judge, &post("a Pot")), ["pot"]);
    assert!(caught(&judge, &post("\u{440}\u{43e}\u{442}")).is_empty());
}

#[test]
fn ten_thousand_words_take_no_longer_than_one() {
    let many: Vec<String> = (0..MAX_WORDS).map(|n| format!("word{n}x")).collect();
    let test = RuleTest::Words(WordsRule { words: many, exact: true });
    let began = Instant::now();
    let judge = judge(vec![rule("many", test)]);
    let text = "nothing of it is here ".repeat(500);
    for _ in 0..100 {
        assert!(caught(&judge, &post(&text)).is_empty());
    }
    assert_eq!(caught(&judge, &post("and word9999x")), ["many"]);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let more = vec!["word".to_owned(); MAX_WORDS + 1];
    let more = rule("more", RuleTest::Words(WordsRule { words: more, exact: true }));
    assert!(check("set", &[more]).is_err());
}

#[test]
fn a_pattern_that_would_backtrack_takes_bounded_time() {
    let bad = ["^(a+)+$", "(a|aa)+b", "(.*)*(.*)*x{20}", "(x+x+)+y"];
    let rules = bad.iter().map(|bad| rule(bad, pattern_rule(bad))).collect();
    let judge = judge(rules);
    let began = Instant::now();
    let text = format!("{}!", "a".repeat(16_000));
    assert!(caught(&judge, &post(&text)).is_empty());
    let text = "x".repeat(16_000);
    assert_eq!(caught(&judge, &post(&text)), ["(.*)*(.*)*x{20}"]);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn a_pattern_that_is_too_large_or_none_is_refused() {
    for bad in ["(", r"(a)\1", "(?=a)", r"\w{1000}{1000}", "((a{100}){100}){100}"] {
        let error = check("set", &[rule("bad", pattern_rule(bad))]).expect_err(bad);
        assert_eq!(error.field, "pattern", "{bad}: {error}");
    }
    let deep = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    assert!(check("set", &[rule("bad", pattern_rule(&deep))]).is_err());
    assert!(check("set", &[rule("bad", pattern_rule(&"a".repeat(MAX_PATTERN_CHARS + 1)))]).is_err());
    let many: Vec<_> = (0..=MAX_PATTERNS).map(|n| rule(&n.to_string(), pattern_rule("a"))).collect();
    assert!(check("set", &many).is_err());
}

#[test]
fn patterns_see_through_look_alikes() {
    let judge = judge(vec![rule("offer", pattern_rule(r"win\s+\d+|viagra"))]);
    for text in ["WIN 1000", "V1\u{430}gra", "viaaaagra"] {
        assert_eq!(caught(&judge, &post(text)), ["offer"], "{text}");
    }
    assert!(caught(&judge, &post("a win")).is_empty());
}

#[test]
fn links_and_files_are_caught_by_what_they_are() {
    let domains = || vec!["evil.example".to_owned()];
    let only = LinksRule { domains: domains(), allow_only: true };
    let listed = LinksRule { domains: domains(), allow_only: false };
    let types = |types: &[&str]| types.iter().map(|of_type| (*of_type).to_owned()).collect();
    let links = judge(vec![rule("evil", RuleTest::Links(listed)), rule("others", RuleTest::Links(only))]);
    assert_eq!(caught(&links, &post("at https://a.evil.example/x")), ["evil"]);
    assert_eq!(caught(&links, &post("at good.example")), ["others"]);
    assert!(caught(&links, &post("no link")).is_empty());
    let pictures = AttachmentsRule { types: types(&["image/*"]), allow_only: true };
    let zips = AttachmentsRule { types: types(&["application/zip"]), allow_only: false };
    let files = judge(vec![
        rule("zips", RuleTest::Attachments(zips)),
        rule("no picture", RuleTest::Attachments(pictures)),
    ]);
    let with = |media_type: &str| Post { files: vec![("f".to_owned(), media_type.to_owned())], ..post("") };
    assert_eq!(caught(&files, &with("application/zip")), ["zips", "no picture"]);
    assert!(caught(&files, &with("image/png")).is_empty());
    assert!(caught(&files, &post("none")).is_empty());
}

#[test]
fn a_rate_counts_messages_of_a_time() {
    let judge = judge(vec![rule("flood", RuleTest::Rate(RateRule { messages: 2, seconds: 10 }))]);
    let mut window = Window::default();
    let mut at = |entry_seq: i64, sent_at_ms: i64| {
        let post = Post { entry_seq, sent_at_ms, ..post("hi") };
        assert!(window.take(&post));
        judge.judge(&post, &window).is_some()
    };
    let caught = [(1, 1_000), (2, 2_000), (3, 3_000), (4, 12_500), (5, 12_600)].map(|(seq, ms)| at(seq, ms));
    assert_eq!(caught, [false, false, true, false, true]);
}

#[test]
fn a_rate_counts_what_was_sent_since_it_is_in_force() {
    let judge = judge(vec![rule("flood", RuleTest::Rate(RateRule { messages: 2, seconds: 10 }))]);
    assert_eq!(judge.counts_over_ms(), Some(10_000));
    let mut window = Window { last_seq: 3, times_ms: vec![900, 950, 999] };
    let mut at = |entry_seq: i64, sent_at_ms: i64| {
        let post = Post { entry_seq, sent_at_ms, ..post("hi") };
        assert!(window.take(&post));
        judge.judge(&post, &window).is_some()
    };
    assert_eq!([(4, 1_000), (5, 1_001), (6, 1_002)].map(|(seq, ms)| at(seq, ms)), [false, false, true]);
}

#[test]
fn the_strictest_of_all_actions_is_done() {
    let with = |name: &str, kind, everywhere, seconds| Rule {
        action: RuleAction {
            report: true,
            sanction: Some(SanctionTerms { kind, everywhere, seconds }),
            ..RuleAction::default()
        },
        ..rule(name, words(&["scam"]))
    };
    let judge = judge(vec![
        rule("a", words(&["scam"])),
        with("b", SanctionKind::Mute, true, None),
        with("c", SanctionKind::Ban, false, Some(60)),
        with("d", SanctionKind::Warning, true, None),
        with("e", SanctionKind::Ban, false, Some(90)),
    ]);
    let (post, window) = (post("scam"), Window::default());
    let judgement = judge.judge(&post, &window).expect("it is caught");
    assert_eq!(judgement.rules, ["a", "b", "c", "d", "e"]);
    let strictest = SanctionTerms { kind: SanctionKind::Ban, everywhere: false, seconds: Some(90) };
    assert_eq!(judgement.action, RuleAction { delete: true, report: true, sanction: Some(strictest) });
}

#[test]
fn a_set_is_in_force_for_its_time() {
    let judge = judge(vec![rule("a", words(&["a"]))]);
    assert_eq!([999, 1_000, 8_999, 9_000].map(|ms| judge.is_in_force(ms)), [false, true, true, false]);
}

#[test]
fn what_says_nothing_is_refused() {
    let refused = |name: &str, rules: &[Rule]| check(name, rules).expect_err("it is refused").field;
    let good = rule("a", words(&["a"]));
    assert_eq!(refused("", std::slice::from_ref(&good)), "name");
    assert_eq!(refused("set", &[]), "rules");
    assert_eq!(refused("set", &[good.clone(), good.clone()]), "rules");
    assert_eq!(refused("set", &[rule("a", words(&[]))]), "words");
    assert_eq!(refused("set", &[rule("a", words(&["..."]))]), "words");
    let rate = RuleTest::Rate(RateRule { messages: 100, seconds: 1 });
    assert_eq!(refused("set", &[rule("a", rate)]), "rate");
    let link = LinksRule { domains: vec!["a b".to_owned()], allow_only: false };
    assert_eq!(refused("set", &[rule("a", RuleTest::Links(link))]), "domains");
    let terms = SanctionTerms { kind: SanctionKind::Ban, everywhere: true, seconds: Some(0) };
    let action = RuleAction { sanction: Some(terms), ..RuleAction::default() };
    assert_eq!(refused("set", &[Rule { action, ..good }]), "seconds");
}

#[test]
fn what_is_enforced_has_a_limit_together() {
    let set = |patterns: Vec<String>| RuleSet {
        id: RuleSetId(Uuid::from_u128(1)),
        name: "set".to_owned(),
        rules: patterns.iter().map(|text| rule(text, pattern_rule(text))).collect(),
        state: RuleSetState::Draft,
        created_by: UserId(Uuid::from_u128(2)),
        created_at_ms: 0,
        enforced_from_ms: None,
        retired_from_ms: None,
    };
    let small = set((0..MAX_PATTERNS).map(|n| format!("offer {n}")).collect());
    assert!(fit_together([]) && fit_together([&small, &small]));
    assert!(!fit_together([&small, &small, &set(vec!["one more".to_owned()])]));
    // Each of them is taken by itself, and a set of them too.
    let large = set((0..MAX_PATTERNS).map(|n| format!(r"{n} \w{{5}}")).collect());
    check("large", &large.rules).expect("it is taken");
    assert!(!fit_together([&large, &large]));
}
