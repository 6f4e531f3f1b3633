//! What is shown of a text that was found.

use contracts::api::ExcerptPart;

use super::{Analyzer, Term, Token};

/// Most bytes before the first word that was found.
const BEFORE_BYTES: usize = 80;
/// Most bytes of an excerpt, but for a single word that is longer.
const EXCERPT_BYTES: usize = 320;
/// Stands for what is left out.
const ELLIPSIS: &str = "\u{2026}";

/// Returns what is shown of each of these texts, which are one message: the part around the first thing that was found there, with all that was
/// found in it, or the beginning. It begins and ends with a word, and an ellipsis stands for what is left out there. `None` when something that is
/// searched for is in none of them.
pub fn excerpts(analyzer: &Analyzer, texts: &[&str], terms: &[Term]) -> Option<Vec<Vec<ExcerptPart>>> {
    let tokens: Vec<_> = texts.iter().map(|text| analyzer.tokens(text)).collect();
    let found = found(&tokens, terms)?;
    let shown = texts.iter().zip(tokens.iter().zip(&found));
    Some(shown.map(|(text, (tokens, found))| excerpt(text, tokens, found)).collect())
}

fn excerpt(body: &str, tokens: &[Token], found: &[Option<Found>]) -> Vec<ExcerptPart> {
    let mut parts = Parts::default();
    let first = found.iter().position(Option::is_some).unwrap_or(0);
    let Some(anchor) = tokens.get(first).map(|token| token.place.clone()) else {
        // It has no word at which it could be cut.
        let end = body.floor_char_boundary(EXCERPT_BYTES);
        parts.push(&body[..end], false);
        parts.push(if end < body.len() { ELLIPSIS } else { "" }, false);
        return parts.0;
    };
    let near =
        tokens[..first].iter().rev().take_while(|token| anchor.start - token.place.start <= BEFORE_BYTES);
    let begins_at = first - near.count();
    let start =
        if begins_at == 0 && anchor.start <= BEFORE_BYTES { 0 } else { tokens[begins_at].place.start };
    let room = tokens[first..].iter().take_while(|token| token.place.end - start <= EXCERPT_BYTES);
    let ends_behind = first + room.count().max(1);
    let is_last = ends_behind == tokens.len() && body.len() - start <= EXCERPT_BYTES;
    let end = if is_last { body.len() } else { tokens[ends_behind - 1].place.end };

    if start > 0 {
        parts.push(ELLIPSIS, false);
    }
    let mut at = start;
    for index in begins_at..ends_behind {
        let place = &tokens[index].place;
        // What stands between two words of a phrase is part of what was found.
        let is_inside = index > begins_at && found[index] == Some(Found::GoesOn);
        parts.push(&body[at..place.start], is_inside);
        parts.push(&body[place.clone()], found[index].is_some());
        at = place.end;
    }
    parts.push(&body[at..end], false);
    if end < body.len() {
        parts.push(ELLIPSIS, false);
    }
    parts.0
}

/// How a token is part of what was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Begins,
    /// It and the one before it are words of one phrase.
    GoesOn,
}

/// Returns of each token of each text whether it is part of what is searched for; `None` when something of that is missing in all of them. No phrase
/// reaches from one text into another.
fn found(texts: &[Vec<Token>], terms: &[Term]) -> Option<Vec<Vec<Option<Found>>>> {
    let mut found: Vec<_> = texts.iter().map(|tokens| vec![None; tokens.len()]).collect();
    for term in terms {
        let mut is_missing = true;
        for (tokens, found) in texts.iter().zip(&mut found) {
            for (at, window) in tokens.windows(term.tokens.len()).enumerate() {
                if term.is(window) {
                    is_missing = false;
                    found[at] = found[at].max(Some(Found::Begins));
                    found[at + 1..at + window.len()].fill(Some(Found::GoesOn));
                }
            }
        }
        if is_missing {
            return None;
        }
    }
    Some(found)
}

/// Parts, of which no two neighbours are of one kind.
#[derive(Default)]
struct Parts(Vec<ExcerptPart>);

impl Parts {
    fn push(&mut self, text: &str, found: bool) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.found == found => last.text.push_str(text),
            _ => self.0.push(ExcerptPart { text: text.to_owned(), found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::parse;

    fn shown(body: &str, query: &str) -> String {
        let analyzer = Analyzer::default();
        let terms = parse(&analyzer, query).expect("a query").terms;
        let [parts] =
            <[_; 1]>::try_from(excerpts(&analyzer, &[body], &terms).expect("all of it")).expect("one text");
        marked(parts)
    }

    fn marked(parts: Vec<ExcerptPart>) -> String {
        let marked = |part: ExcerptPart| if part.found { format!("[{}]", part.text) } else { part.text };
        parts.into_iter().map(marked).collect()
    }

    #[test]
    fn what_was_found_is_marked() {
        assert_eq!(shown("Are you running? Run!", "run"), "Are you [running]? [Run]!");
        assert_eq!(shown("все участники здесь", "участник"), "все [участники] здесь");
        assert_eq!(shown("我在东京工作", "东京"), "我在[东京]工作");
        assert_eq!(shown("a red, red car", "\"red car\""), "a red, [red car]");
        assert_eq!(shown("a <b>bold</b> word", "bold"), "a <b>[bold]</b> word", "text, and no markup");
        assert_eq!(shown("running late", "run*"), "[running] late");
    }

    #[test]
    fn a_text_without_all_that_is_searched_for_has_no_excerpt() {
        let analyzer = Analyzer::default();
        for (body, query) in [
            ("red", "red car"),
            ("car red", "\"red car\""),
            ("running", "\"run\""),
            ("", "red"),
            ("?", "red"),
        ] {
            let terms = parse(&analyzer, query).expect("a query").terms;
            assert_eq!(excerpts(&analyzer, &[body], &terms), None, "{query} in {body}");
        }
    }

    #[test]
    fn what_is_searched_for_may_be_in_the_text_and_in_the_names_of_files() {
        let analyzer = Analyzer::default();
        let shown = |query: &str| {
            let texts = ["Our trip", "red_car.PNG", "the-sea.jpg"];
            let excerpts = excerpts(&analyzer, &texts, &parse(&analyzer, query).expect("a query").terms)?;
            Some(excerpts.into_iter().map(marked).collect::<Vec<_>>())
        };
        let expected = |texts: [&str; 3]| Some(texts.map(str::to_owned).to_vec());
        assert_eq!(shown("trips sea"), expected(["Our [trip]", "red_car.PNG", "the-[sea].jpg"]));
        assert_eq!(shown("\"red car\""), expected(["Our trip", "[red_car].PNG", "the-sea.jpg"]));
        assert_eq!(shown("has:image"), expected(["Our trip", "red_car.PNG", "the-sea.jpg"]));
        assert_eq!(shown("\"trip red\""), None, "a phrase is in one of them");
        assert_eq!(shown("trip boat"), None);
    }

    #[test]
    fn a_text_in_which_nothing_was_found_is_shown_from_its_beginning() {
        assert_eq!(shown("", "has:file"), "");
        assert_eq!(shown("?!", "has:file"), "?!");
        let shown_of_long = shown(&"\u{1f44d}".repeat(100), "has:file");
        assert_eq!(shown_of_long, format!("{}\u{2026}", "\u{1f44d}".repeat(EXCERPT_BYTES / 4)));
        let words = shown(&"word ".repeat(100), "has:file");
        assert!(words.starts_with("word word") && words.ends_with("word\u{2026}"), "{words}");
    }

    #[test]
    fn a_long_text_is_shown_around_what_was_found() {
        let body = format!("{}needle {}", "before ".repeat(100), "behind ".repeat(100));
        let shown = shown(&body, "needle");
        assert!(shown.starts_with("\u{2026}before ") && shown.ends_with("behind\u{2026}"), "{shown}");
        assert!(shown.contains("before [needle] behind"), "{shown}");
        assert!(shown.len() <= EXCERPT_BYTES + 2 * ELLIPSIS.len() + 2, "{}", shown.len());
    }

    #[test]
    fn a_text_of_one_long_word_is_shown_as_it_is() {
        let word = "я".repeat(1_000);
        assert_eq!(shown(&format!("{word} b"), "яя*"), format!("[{word}]\u{2026}"));
        assert_eq!(shown("(ok)", "ok"), "([ok])");
    }
}
