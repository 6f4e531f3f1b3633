//! What a user searches for.

use std::{collections::HashMap, fmt, str::FromStr};

use contracts::{ChatId, UserId};
use kit::error::InvalidField;

use super::{Analyzer, EntryName, Has, Token, composed, words::is_alone};

/// Longest query in characters.
const MAX_QUERY_CHARS: usize = 256;
/// Most words in a query, also in phrases, where a character that stands alone is one. Each of them makes a search longer, and no user types
/// so many.
const MAX_WORDS: usize = 32;
/// Most beginnings of words in a query. Each stands for thousands of words.
const MAX_BEGINNINGS: usize = 2;
/// Least characters of a beginning. With one, it stands for a large part of all words.
const MIN_BEGINNING_CHARS: usize = 2;

/// What stands before the word of a [`Has`].
const HAS: &str = "has:";

/// The chats that a user reads at this moment, each with the first seq that they read.
pub type Seats = HashMap<ChatId, i64>;

/// A search. A message is found when all of it holds.
#[derive(Clone, Debug)]
pub struct Search {
    /// Who searches.
    pub reader: UserId,
    pub query: Query,
    pub seats: Seats,
    /// More chats that the reader is in, each with the entry with which the history begins there. Nothing is found in one whose entry the
    /// index does not have yet: what is before it must not be found meanwhile.
    pub begun: Vec<(ChatId, EntryName)>,
    pub chat: Option<ChatId>,
    /// A message of `chat` with the replies to it, by its seq.
    pub thread: Option<i64>,
    pub sender: Option<UserId>,
    /// Milliseconds since the epoch; sent at this time or later.
    pub from_ms: Option<i64>,
    /// Sent before this time.
    pub to_ms: Option<i64>,
    /// Behind this place, in the order of the results.
    pub after: Option<Place>,
    pub limit: usize,
    /// Texts that have disappeared by now are not found.
    pub now_ms: i64,
}

/// What a user types: all of it is in a message that is found. There is something in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub terms: Vec<Term>,
    /// Each once.
    pub has: Vec<Has>,
}

/// One thing that a text must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub form: Form,
    /// At least one; more of them stand in this order, without another between them.
    pub tokens: Vec<Token>,
}

/// How a term is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By the stems: `run` is found in "running".
    Word,
    /// As it stands: `"run"` is not.
    Exact,
    /// Its last token is the beginning of a word: `run*`.
    Prefix,
}

impl Term {
    /// Returns the term as it is searched for. A character that stands alone is a whole word, with which no other one begins.
    fn settled(self) -> Self {
        let is_whole =
            self.tokens.last().is_some_and(|token| token.exact.chars().next().is_some_and(is_alone));
        let form = if self.form == Form::Prefix && is_whole { Form::Exact } else { self.form };
        Self { form, ..self }
    }

    /// Returns whether it has too little of the word that it is the beginning of.
    fn is_short(&self) -> bool {
        self.tokens.last().is_none_or(|token| token.exact.chars().count() < MIN_BEGINNING_CHARS)
    }

    /// Returns whether these tokens are what is searched for.
    pub fn is(&self, tokens: &[Token]) -> bool {
        let last = self.tokens.len() - 1;
        let same = |(at, (own, other)): (usize, (&Token, &Token))| match self.form {
            Form::Word => own.stem == other.stem,
            Form::Prefix if at == last => other.exact.starts_with(&own.exact),
            Form::Exact | Form::Prefix => own.exact == other.exact,
        };
        self.tokens.len() == tokens.len() && self.tokens.iter().zip(tokens).enumerate().all(same)
    }
}

/// Reads a query: words, `"phrases"`, beginnings of words with a `*` behind them, and `has:` with what a message has. Everything else divides words.
pub fn parse(analyzer: &Analyzer, text: &str) -> Result<Query, InvalidField> {
    let refused = |problem: String| InvalidField { field: "q", problem };
    if text.chars().count() > MAX_QUERY_CHARS {
        return Err(refused(format!("must have at most {MAX_QUERY_CHARS} characters")));
    }
    let text = composed(text);
    let (mut terms, mut has) = (Vec::new(), Vec::new());
    // What stands outside of quotation marks and inside, by turns. The last phrase may not be closed yet.
    for (part, is_phrase) in text.split('"').zip([false, true].into_iter().cycle()) {
        if is_phrase {
            terms.push((Form::Exact, part));
            continue;
        }
        for word in part.split_whitespace() {
            if let Some(what) = behind_has(word) {
                let what = Has::parse(what).ok_or_else(|| refused(no_such_has()))?;
                if !has.contains(&what) {
                    has.push(what);
                }
                continue;
            }
            let (form, word) = match word.strip_suffix('*') {
                Some(beginning) => (Form::Prefix, beginning),
                None => (Form::Word, word),
            };
            if word.contains('*') || (form == Form::Prefix && word.is_empty()) {
                return Err(refused(
                    "a * stands behind the beginning of a word, and nowhere else".to_owned(),
                ));
            }
            terms.push((form, word));
        }
    }
    let terms = terms.into_iter().map(|(form, text)| Term { form, tokens: analyzer.tokens(text) });
    let terms: Vec<_> = terms.filter(|term| !term.tokens.is_empty()).map(Term::settled).collect();
    let beginnings = || terms.iter().filter(|term| term.form == Form::Prefix);
    let words: usize = terms.iter().map(|term| term.tokens.len()).sum();
    if words == 0 && has.is_empty() {
        return Err(refused("must have a letter or a digit".to_owned()));
    }
    if words > MAX_WORDS {
        return Err(refused(format!(
            "must have at most {MAX_WORDS} words; a character of a script without spaces between words is one"
        )));
    }
    if beginnings().any(Term::is_short) {
        return Err(refused(format!("a * stands behind at least {MIN_BEGINNING_CHARS} letters or digits")));
    }
    if beginnings().count() > MAX_BEGINNINGS {
        return Err(refused(format!("must have at most {MAX_BEGINNINGS} beginnings of words with a *")));
    }
    Ok(Query { terms, has })
}

/// Returns what stands behind `has:`, in any case.
fn behind_has(word: &str) -> Option<&str> {
    let (before, what) = word.split_at_checked(HAS.len())?;
    before.eq_ignore_ascii_case(HAS).then_some(what)
}

fn no_such_has() -> String {
    let known = Has::ALL.map(|has| format!("{HAS}{}", has.as_str())).join(", ");
    format!("must have {known} or none of them; in quotation marks \"{HAS}\" is searched for as a word")
}

/// The place of a message in the results. The newest, which is the greatest, comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub sent_at_ms: i64,
    pub chat: ChatId,
    pub seq: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.sent_at_ms, self.chat, self.seq)
    }
}

impl FromStr for Place {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let invalid =
            || InvalidField { field: "cursor", problem: "must be the next_cursor of a page".to_owned() };
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or_else(invalid);
        let place = Self {
            sent_at_ms: part()?.parse().map_err(|_| invalid())?,
            chat: part()?.parse().map_err(|_| invalid())?,
            seq: part()?.parse().map_err(|_| invalid())?,
        };
        if parts.next().is_some() { Err(invalid()) } else { Ok(place) }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn read(text: &str) -> Result<Vec<(Form, Vec<String>)>, String> {
        let Query { terms, has } = parse(&Analyzer::default(), text).map_err(|error| error.to_string())?;
        assert_eq!(has, [], "{text}");
        let tokens = |term: &Term| term.tokens.iter().map(|token| token.exact.clone()).collect();
        Ok(terms.iter().map(|term| (term.form, tokens(term))).collect())
    }

    #[test]
    fn a_query_is_words_phrases_and_beginnings() {
        let check = |text, expected: &[(Form, &[&str])]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(form, words)| (*form, words.iter().map(|word| (*word).to_owned()).collect()))
                .collect();
            assert_eq!(read(text), Ok(expected), "{text}");
        };
        check("Hello world", &[(Form::Word, &["hello"]), (Form::Word, &["world"])]);
        check(
            r#"see "red  Car" soon"#,
            &[(Form::Word, &["see"]), (Form::Exact, &["red", "car"]), (Form::Word, &["soon"])],
        );
        check(r#""not closed"#, &[(Form::Exact, &["not", "closed"])]);
        check("участ* ok", &[(Form::Prefix, &["участ"]), (Form::Word, &["ok"])]);
        check("东京*", &[(Form::Exact, &["东", "京"])]);
        check("e-mail", &[(Form::Word, &["e", "mail"])]);
        check("东京", &[(Form::Word, &["东", "京"])]);
        // No regular expressions: what looks like one is its letters.
        check("/(a+)+$/ .{1,9}", &[(Form::Word, &["a"]), (Form::Word, &["1", "9"])]);
        check("? -- hello \u{1f44d}", &[(Form::Word, &["hello"])]);
    }

    #[test]
    fn a_query_is_narrowed_by_what_messages_have() {
        let read = |text: &str| {
            let query = parse(&Analyzer::default(), text).map_err(|error| error.to_string())?;
            Ok::<_, String>((query.has, query.terms.len()))
        };
        assert_eq!(read("has:file"), Ok((vec![Has::File], 0)));
        assert_eq!(read(" cat HAS:Image  has:link has:image"), Ok((vec![Has::Image, Has::Link], 1)));
        assert_eq!(read("has: file").expect_err("a refusal"), read("has:").expect_err("a refusal"));
        let refusal = "q: must have has:file, has:image, has:video, has:audio, has:link or none of them; in quotation marks \
                       \"has:\" is searched for as a word";
        assert_eq!(read("cat has:pdf"), Err(refusal.to_owned()));
        // As words.
        for (text, terms) in [("\"has:file\"", 1), ("has file", 2), ("whas:file", 1), ("has", 1)] {
            assert_eq!(read(text), Ok((vec![], terms)), "{text}");
        }
    }

    #[test]
    fn a_query_that_cannot_be_answered_is_refused_with_the_reason() {
        let refused = |text: &str| read(text).expect_err("a refusal");
        let star = "q: a * stands behind the beginning of a word, and nowhere else";
        for text in ["*ing", "a*b", "*", "**", "ok *"] {
            assert_eq!(refused(text), star, "{text}");
        }
        for text in ["", "  ", "\"\"", "?!", "\u{1f44d}", "\u{0}"] {
            assert_eq!(refused(text), "q: must have a letter or a digit", "{text:?}");
        }
        assert_eq!(refused(&"a ".repeat(10_000)), "q: must have at most 256 characters");
        let words =
            "q: must have at most 32 words; a character of a script without spaces between words is one";
        for word in ["a ", "a-b ", "\"a b\" ", "京"] {
            let many = word.repeat(32 / Analyzer::default().tokens(word).len());
            assert!(read(&many).is_ok(), "{many}");
            assert_eq!(refused(&format!("{many} b")), words, "{many}");
        }
        for text in ["a*", "ok e-m*", "ё*"] {
            assert_eq!(refused(text), "q: a * stands behind at least 2 letters or digits", "{text}");
        }
        assert!(read("ab* cd*").is_ok());
        assert_eq!(refused("ab* cd* ef*"), "q: must have at most 2 beginnings of words with a *");
    }

    #[test]
    fn a_term_is_compared_by_its_form() {
        let analyzer = Analyzer::default();
        let check = |query, text, expected: bool| {
            let term = &parse(&analyzer, query).expect("a query").terms[0];
            assert_eq!(term.is(&analyzer.tokens(text)), expected, "{query} in {text}");
        };
        check("run", "Running", true);
        check("\"run\"", "Running", false);
        check("\"running\"", "Running", true);
        check("run*", "Running", true);
        check("nn*", "Running", false);
        check("участник", "участников", true);
        check("good morn*", "good", true);
        check("e-mai*", "e mails", true);
        check("e-mai*", "email", false);
    }

    #[test]
    fn a_place_reads_back_and_nothing_else_does() {
        let place = Place { sent_at_ms: -5, chat: ChatId(Uuid::from_u128(7)), seq: 3 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "1", "1.2.3", "1.00000000-0000-0000-0000-000000000007", "x"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        assert!(format!("{place}.1").parse::<Place>().is_err());
    }
}
