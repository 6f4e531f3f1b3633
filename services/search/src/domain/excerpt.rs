//! What is shown of a text that was found.

use contracts::api::ExcerptPart;

use super::{Analyzer, Term, Token};

/// Most bytes before the first word that was found.
const BEFORE_BYTES: usize = 80;
/// Most bytes of an excerpt, but for a single word that is longer.
const EXCERPT_BYTES: usize = 320;
/// Stands for what is left out.
const ELLIPSIS: &str = "\u{2026}";

/// Returns the part of a text around the first thing that was found, with all that was found in it. It begins and ends with a word, and an
/// ellipsis stands for what is left out there.
pub fn excerpt(analyzer: &Analyzer, body: &str, terms: &[Term]) -> Vec<ExcerptPart> {
    let tokens = analyzer.tokens(body);
    let found = found(&tokens, terms);
    let first = found.iter().position(|found| *found).unwrap_or(0);
    let Some(anchor) = tokens.get(first).map(|token| token.place.clone()) else {
        return vec![ExcerptPart { text: ELLIPSIS.to_owned(), found: false }];
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

    let mut parts = Parts::default();
    if start > 0 {
        parts.push(ELLIPSIS, false);
    }
    let mut at = start;
    for index in begins_at..ends_behind {
        let place = &tokens[index].place;
        // What stands between two words of a phrase is part of what was found.
        let is_inside = index > begins_at && found[index] && found[index - 1];
        parts.push(&body[at..place.start], is_inside);
        parts.push(&body[place.clone()], found[index]);
        at = place.end;
    }
    parts.push(&body[at..end], false);
    if end < body.len() {
        parts.push(ELLIPSIS, false);
    }
    parts.0
}

/// Returns for each token whether it is part of what is searched for.
fn found(tokens: &[Token], terms: &[Term]) -> Vec<bool> {
    let mut found = vec![false; tokens.len()];
    for term in terms {
        for (at, window) in tokens.windows(term.tokens.len()).enumerate() {
            if term.is(window) {
                found[at..at + window.len()].fill(true);
            }
        }
    }
    found
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
        let terms = parse(&analyzer, query).expect("a query");
        let parts = excerpt(&analyzer, body, &terms).into_iter();
        parts.map(|part| if part.found { format!("[{}]", part.text) } else { part.text }).collect()
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
        assert_eq!(shown(&format!("{word} b"), "я*"), format!("[{word}]\u{2026}"));
        assert_eq!(shown("(ok)", "ok"), "([ok])");
    }
}
