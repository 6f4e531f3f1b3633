//! The words of a text, as they are indexed and searched for.

use std::{fmt, ops::Range};

use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, GeneralCategoryGroup, Script},
};
use kit::text::search_key;
use rust_stemmers::{Algorithm, Stemmer};

/// Longest word that is kept apart from others with the same beginning. It bounds the terms of an index; no language has such words.
const MAX_WORD_CHARS: usize = 64;

/// A word of a text, or a character of a script that has no spaces between words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its bytes in the text.
    pub place: Range<usize>,
    /// It without case, width and accents.
    pub exact: String,
    /// Its stem in Russian or English, by its letters; otherwise the same.
    pub stem: String,
}

/// Finds words.
pub struct Analyzer {
    russian: Stemmer,
    english: Stemmer,
}

impl Default for Analyzer {
    fn default() -> Self {
        Self { russian: Stemmer::create(Algorithm::Russian), english: Stemmer::create(Algorithm::English) }
    }
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analyzer").finish_non_exhaustive()
    }
}

impl Analyzer {
    /// Returns the words of a composed text in order.
    ///
    /// They are divided by every character that is neither a letter nor a digit. A character of a script that has no spaces between
    /// words stands alone, and so does a syllable of Korean, where words are joined with what follows them: a part of a sentence is found
    /// as a row of them, whatever a dictionary takes for a word.
    pub fn tokens(&self, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        // The word that goes on, and whether it may have more letters.
        let mut word: Option<(Range<usize>, bool)> = None;
        for (from, c) in text.char_indices() {
            let to = from + c.len_utf8();
            let belongs = match &word {
                Some(_) if is_mark(c) => true,
                Some((_, takes_letters)) => *takes_letters && c.is_alphanumeric() && !is_alone(c),
                None => false,
            };
            if belongs && let Some((place, _)) = &mut word {
                place.end = to;
                continue;
            }
            tokens.extend(word.take().and_then(|(place, _)| self.token(text, place)));
            if c.is_alphanumeric() {
                word = Some((from..to, !is_alone(c)));
            }
        }
        tokens.extend(word.and_then(|(place, _)| self.token(text, place)));
        tokens
    }

    fn token(&self, text: &str, place: Range<usize>) -> Option<Token> {
        let folded = search_key(&text[place.clone()]);
        let exact: String = plain(&folded).chars().take(MAX_WORD_CHARS).collect();
        let stem = if exact.is_empty() {
            return None;
        } else if exact.chars().all(|c| script(c) == Script::Cyrillic) {
            self.russian.stem(&exact).into_owned()
        } else if exact.chars().all(|c| c.is_ascii_alphabetic()) {
            self.english.stem(&exact).into_owned()
        } else {
            exact.clone()
        };
        Some(Token { place, exact, stem })
    }
}

/// Returns a text composed (NFC): what was typed in parts on one keyboard is what was typed in one on another.
pub fn composed(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text).into_owned()
}

/// Returns a word without accents, where a reader leaves them out: in Latin and Greek, and of the Russian ё. Elsewhere they are letters of
/// their own.
fn plain(word: &str) -> String {
    let parts = DecomposingNormalizer::new_nfd().normalize(word).into_owned();
    let mut has_accents = false;
    let kept: String = parts
        .chars()
        .filter(|c| {
            let is_mark = category(*c) == GeneralCategory::NonspacingMark;
            if !is_mark {
                has_accents = matches!(script(*c), Script::Latin | Script::Greek);
            }
            !(is_mark && has_accents)
        })
        .collect();
    composed(&kept).replace('ё', "е")
}

/// Returns whether a character is a token of its own.
pub(super) fn is_alone(c: char) -> bool {
    // The marks of a long vowel and of iteration are of no one script.
    matches!(c, '\u{30fc}' | '\u{ff70}' | '\u{3005}')
        || matches!(
            script(c),
            Script::Han
                | Script::Hiragana
                | Script::Katakana
                | Script::Hangul
                | Script::Bopomofo
                | Script::Yi
                | Script::Thai
                | Script::Lao
                | Script::Khmer
                | Script::Myanmar
        )
}

/// Returns whether a character belongs to the one before it.
fn is_mark(c: char) -> bool {
    // Joiners, and the voiced marks of narrow Katakana.
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{ff9e}' | '\u{ff9f}')
        || GeneralCategoryGroup::Mark.contains(category(c))
}

fn script(c: char) -> Script {
    CodePointMapData::<Script>::new().get(c)
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let tokens = Analyzer::default().tokens(&composed(text));
        let found: Vec<_> = tokens.iter().map(|token| (token.exact.as_str(), token.stem.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn words_are_compared_without_case_width_and_accents() {
        check("Running, RUNNING!", &[("running", "run"), ("running", "run")]);
        check("Zoe\u{308} cafe\u{301}", &[("zoe", "zoe"), ("cafe", "cafe")]);
        check("\u{ff21}\u{ff4e}\u{ff4e}\u{ff41}", &[("anna", "anna")]);
        check("Stra\u{df}e", &[("strasse", "strass")]);
        check("\u{39f}\u{394}\u{3a5}\u{3a3}\u{3a3}\u{395}\u{391}\u{3a3}", &[("οδυσσεασ", "οδυσσεασ")]);
    }

    #[test]
    fn russian_is_stemmed_and_keeps_its_letters() {
        check("участников", &[("участников", "участник")]);
        check("Участник", &[("участник", "участник")]);
        check("ёлка елка", &[("елка", "елк"), ("елка", "елк")]);
        check("мой", &[("мой", "мо")]);
    }

    #[test]
    fn what_is_neither_letter_nor_digit_divides() {
        check(
            "e-mail_me: a.b@c.org, 1,000",
            &[
                ("e", "e"),
                ("mail", "mail"),
                ("me", "me"),
                ("a", "a"),
                ("b", "b"),
                ("c", "c"),
                ("org", "org"),
                ("1", "1"),
                ("000", "000"),
            ],
        );
        check("\u{1f44d} \u{2026} () /(a+)+$/", &[("a", "a")]);
    }

    #[test]
    fn scripts_without_spaces_are_rows_of_characters() {
        let alone = |text: &str, expected: &str| {
            let tokens = Analyzer::default().tokens(&composed(text));
            let found: Vec<_> = tokens.iter().map(|token| token.exact.clone()).collect();
            assert_eq!(found, expected.split(' ').collect::<Vec<_>>(), "{text}");
        };
        alone("我在东京工作", "我 在 东 京 工 作");
        alone("サーバー", "サ ー バ ー");
        alone("ｻｰﾊﾞｰ", "サ ー バ ー");
        alone("서울에서", "서 울 에 서");
        alone("\u{1112}\u{1161}\u{11ab}", "한");
        alone("API設計v2", "api 設 計 v2");
        alone("ภาษาไทย", "ภ า ษ า ไ ท ย");
        alone("ที่นี่", "ที่ นี่");
    }

    #[test]
    fn a_token_knows_its_place() {
        let text = "Об участниках";
        let tokens = Analyzer::default().tokens(text);
        let places: Vec<_> = tokens.iter().map(|token| &text[token.place.clone()]).collect();
        assert_eq!(places, ["Об", "участниках"]);
    }

    #[test]
    fn an_endless_word_is_cut() {
        let tokens = Analyzer::default().tokens(&"a".repeat(100_000));
        assert!(tokens.iter().all(|token| token.exact.len() == MAX_WORD_CHARS), "{}", tokens.len());
    }
}
