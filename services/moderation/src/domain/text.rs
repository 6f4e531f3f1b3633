//! Texts without what hides a word from a rule and not from its readers.
//!
//! Rules are written by users too: what is done to a text is done to the words of a rule, so that both meet.

use icu_normalizer::DecomposingNormalizer;
use icu_properties::{CodePointMapData, props::GeneralCategory};
use kit::text::search_key;

/// A row of at least so many letters that stand alone is a word: `b a d`.
const MIN_SPELLED: usize = 3;
/// A letter that is repeated so often, or more, counts once in what patterns are compared with.
const MIN_REPEATED: usize = 3;

/// A text as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// In lower case, without width and invisible characters.
    pub plain: String,
    /// The same, with a Latin letter for all that looks like one.
    pub latin: String,
    /// The words of `plain`.
    pub words: Vec<String>,
    /// The words as they look: what looks alike is alike, and a letter that is repeated is there once.
    pub looks: Vec<String>,
    /// Words of `looks` that are spelled with something between their letters.
    pub spelled: Vec<String>,
}

impl Folded {
    pub fn of(text: &str) -> Self {
        let plain = search_key(text);
        let letters = without_accents(&plain);
        let looks: Vec<String> = words(&look_of(&letters)).map(squeezed).collect();
        let spelled = spelled(&looks);
        Self {
            latin: shortened(&letters.chars().map(latin).collect::<String>()),
            words: words(&letters).map(str::to_owned).collect(),
            plain,
            looks,
            spelled,
        }
    }
}

/// Returns a text without accents and other marks on letters.
fn without_accents(text: &str) -> String {
    let parts = DecomposingNormalizer::new_nfd().normalize(text).into_owned();
    let category = CodePointMapData::<GeneralCategory>::new();
    parts.chars().filter(|c| category.get(*c) != GeneralCategory::NonspacingMark).collect()
}

/// Returns a text as it looks. Signs that stand for letters do so inside a word only: before one they name a user, or a sum.
fn look_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_letter = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric());
    let look = |(at, c): (usize, &char)| match c {
        '@' | '$' if is_letter(at.checked_sub(1)) && is_letter(Some(at + 1)) => {
            if *c == '@' {
                'a'
            } else {
                's'
            }
        }
        c => match latin(*c) {
            // Many fonts show them alike, and a digit stands for both.
            'l' => 'i',
            c => c,
        },
    };
    chars.iter().enumerate().map(look).collect()
}

/// Returns the Latin letter that a lower-case letter or a digit looks like; any other character as it is.
const fn latin(c: char) -> char {
    match c {
        '\u{430}' | '\u{3b1}' | '4' | '\u{251}' => 'a',
        '\u{432}' | '\u{3b2}' | '8' => 'b',
        '\u{441}' | '\u{3f2}' => 'c',
        '\u{501}' => 'd',
        '\u{435}' | '\u{3b5}' | '3' | '\u{437}' => 'e',
        '9' => 'g',
        '\u{43d}' | '\u{4bb}' => 'h',
        '\u{456}' | '\u{3b9}' | '1' | '\u{131}' => 'i',
        '\u{458}' => 'j',
        '\u{43a}' | '\u{3ba}' => 'k',
        '\u{4cf}' | '\u{142}' => 'l',
        '\u{43c}' => 'm',
        '\u{3b7}' => 'n',
        '\u{43e}' | '\u{3bf}' | '\u{3c3}' | '0' | '\u{f8}' => 'o',
        '\u{440}' | '\u{3c1}' => 'p',
        '\u{51b}' => 'q',
        '\u{455}' | '5' => 's',
        '\u{442}' | '\u{3c4}' | '7' => 't',
        '\u{3c5}' => 'u',
        '\u{3bd}' | '\u{475}' => 'v',
        '\u{51d}' | '\u{3c9}' => 'w',
        '\u{445}' | '\u{3c7}' => 'x',
        '\u{443}' | '\u{3b3}' => 'y',
        c => c,
    }
}

/// Returns the words of a text: what stands between characters that are neither letters nor digits.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// Returns a word with each letter once where it is repeated.
fn squeezed(word: &str) -> String {
    let mut chars: Vec<char> = word.chars().collect();
    chars.dedup();
    chars.into_iter().collect()
}

/// Returns a text in which no letter is repeated often.
fn shortened(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let runs = chars.chunk_by(|one, other| one == other && one.is_alphabetic());
    let kept = runs.flat_map(|run| if run.len() >= MIN_REPEATED { &run[..1] } else { run });
    kept.collect()
}

/// Returns the words that rows of single letters spell.
fn spelled(words: &[String]) -> Vec<String> {
    let is_letter = |word: &String| word.chars().nth(1).is_none();
    let rows = words.chunk_by(|one, other| is_letter(one) && is_letter(other));
    rows.filter(|row| row.len() >= MIN_SPELLED).map(|row| squeezed(&row.concat())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_alike() {
        let check = |text: &str, expected: &str| assert_eq!(Folded::of(text).looks, [expected], "{text}");
        for text in [
            "scam",
            "SCAM",
            "\u{ff33}\u{ff43}\u{ff41}\u{ff4d}",
            "s\u{200b}c\u{200d}a\u{2060}m",
            "\u{455}\u{441}\u{430}\u{43c}",
            "5c4m",
            "sc@m",
            "sc\u{e1}m",
            "sccccaaaam",
            "s\u{ad}cam",
            "sc\u{3b1}m",
        ] {
            check(text, "scam");
        }
        check("casino", "casino");
        check("c\u{430}s1n0", "casino");
        check("CASlNO", "casino");
        check("hello", "heio");
    }

    #[test]
    fn a_word_may_be_spelled() {
        let check = |text: &str, expected: &[&str]| assert_eq!(Folded::of(text).spelled, expected, "{text}");
        check("a s c a m", &["ascam"]);
        check("pure s.c.a.m here", &["scam"]);
        check("s-c-a-m, b a d", &["scambad"]);
        check("a b", &[]);
        check("it is so", &[]);
    }

    #[test]
    fn patterns_see_a_text_as_it_is_and_as_it_looks() {
        let folded = Folded::of("Fr\u{435}e  V1AGRAAAA 24");
        assert_eq!(folded.plain, "fr\u{435}e  v1agraaaa 24");
        assert_eq!(folded.latin, "free  viagra 2a");
        assert_eq!(Folded::of("call 1000").plain, "call 1000");
    }

    #[test]
    fn words_are_told_apart_where_a_rule_wants_it() {
        assert_eq!(Folded::of("\u{420}\u{43e}\u{442}, pot").words, ["\u{440}\u{43e}\u{442}", "pot"]);
        assert_eq!(Folded::of("\u{420}\u{43e}\u{442}, pot").looks, ["pot", "pot"]);
    }
}
