//! Text that users type, normalized once, where it enters: what is stored, compared and hashed later is in one form.
//!
//! The profiles are those of PRECIS (RFC 8264): names to sign in with are mapped as `UsernameCaseMapped` (RFC 8265),
//! passwords as `OpaqueString` (RFC 8265), names and titles as `Nickname` (RFC 8266). Two rules differ. Emoji and several
//! scripts need joiners and variation selectors, which RFC 8264 refuses, and characters that Unicode has added since; here
//! only what harms others is refused. And the compatibility forms that `Nickname` maps are mapped for comparison only, see
//! [`search_key`]: a displayed name stays as it was written.

use std::fmt;

use icu_normalizer::ComposingNormalizer;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        DefaultIgnorableCodePoint, Emoji, EmojiModifier, EmojiPresentation, GeneralCategory,
        GeneralCategoryGroup, RegionalIndicator,
    },
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::InvalidField;

/// Keycloak's own limit for usernames, in characters.
const MAX_USERNAME_CHARS: usize = 255;
/// Longest password in bytes. Hashing a longer one is work for nothing; the realm's policy has the other rules.
const MAX_PASSWORD_BYTES: usize = 256;
/// A blank of Unicode that is classified as a symbol.
const BRAILLE_BLANK: char = '\u{2800}';

/// A name or title of this many characters at most, on one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line<const MAX_CHARS: usize>(String);

/// Text of this many characters at most, of any number of lines and possibly none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines<const MAX_CHARS: usize>(String);

/// How a user is shown to others.
pub type DisplayName = Line<64>;
/// The title of a group.
pub type Title = Line<128>;
/// What a group is for.
pub type Topic = Lines<500>;
/// What users write about themselves.
pub type About = Lines<500>;

/// What a user is doing at present.
pub type StatusText = Line<100>;

/// A name to sign in with, as the realm knows it. Which names may be registered is the rule of the auth service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(String);

/// A password. It is never printed.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

/// Why a text cannot be shown to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// U+0000 and the like, line breaks where there is one line.
    Control,
    /// An embedding, override or isolate: left open, it turns round what stands behind it in every list.
    Bidi,
    /// No character that leaves a mark: nothing to read, to click, or to report.
    Invisible,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "must not have control characters",
            Self::Bidi => {
                "must not have bidirectional formatting characters (U+202A to U+202E, U+2066 to U+2069)"
            }
            Self::Invisible => "must have a visible character",
        })
    }
}

impl<const MAX_CHARS: usize> Line<MAX_CHARS> {
    /// Characters of the longest one.
    pub const MAX_CHARS: usize = MAX_CHARS;

    /// Reads a text of `field`: composed (NFC), with single spaces between words and none around.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let text = nfc(text.trim());
        let spaced = text.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let found = harm(&spaced, |_| false);
        checked(field, spaced, found, MAX_CHARS).map(Self)
    }

    /// Reads like [`Self::parse`] what the first characters of a longer text are.
    pub fn cut(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        Self::parse(field, &first(text, MAX_CHARS))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX_CHARS: usize> Lines<MAX_CHARS> {
    /// Reads a text of `field`: composed (NFC), with LF for every kind of line break.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let text = nfc(&text.replace("\r\n", "\n").replace(['\r', '\u{85}', '\u{2028}', '\u{2029}'], "\n"));
        // Nothing to read is allowed here.
        let found = harm(&text, |c| matches!(c, '\n' | '\t')).filter(|harm| *harm != Harm::Invisible);
        checked(field, text, found, MAX_CHARS).map(Self)
    }

    /// Reads like [`Self::parse`] what the first characters of a longer text are.
    pub fn cut(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        Self::parse(field, &first(text, MAX_CHARS))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Username {
    /// Reads a username: in lower case, full-width letters as others, composed (NFC), and without the spaces and line
    /// breaks around it that keyboards and pasting add.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let narrow: String = text.trim().chars().map(narrow).collect();
        let mapped = nfc(&narrow.to_lowercase());
        let found = harm(&mapped, |_| false);
        checked(field, mapped, found, MAX_USERNAME_CHARS).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Password {
    /// Reads a password: composed (NFC), each kind of space as a space, and otherwise as it was typed. A composed letter
    /// and its parts are the same keys on two keyboards.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let spaced: String = text
            .chars()
            .map(|c| if category(c) == GeneralCategory::SpaceSeparator { ' ' } else { c })
            .collect();
        let text = nfc(&spaced);
        if text.chars().any(char::is_control) {
            return Err(InvalidField { field, problem: Harm::Control.to_string() });
        }
        if !(1..=MAX_PASSWORD_BYTES).contains(&text.len()) {
            let problem = format!("must have 1 to {MAX_PASSWORD_BYTES} bytes of UTF-8");
            return Err(InvalidField { field, problem });
        }
        Ok(Self(text.into()))
    }

    /// Returns the text, for the realm.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Returns a text as searches compare it: without case, compatibility forms (NFKC) and characters that leave no mark, so
/// that a name is found by other capitals, from other keyboards and in other widths.
pub fn search_key(text: &str) -> String {
    let nfkc = ComposingNormalizer::new_nfkc();
    let visible: String = text.chars().filter(|c| !is_ignorable(*c)).collect();
    // Lower case alone keeps letters apart that have one capital, such as a sigma inside a word and at its end. Letter by
    // letter, because a prefix ends inside a word.
    let caseless = nfkc
        .normalize(&visible)
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect::<String>();
    nfkc.normalize(&caseless).into_owned()
}

/// Longest query for names, in characters.
const MAX_NAME_QUERY_CHARS: usize = 64;
/// Most words of such a query. No name has more of them that anyone types.
const MAX_NAME_QUERY_WORDS: usize = 8;
/// A word of a name is compared by so many characters.
const MAX_NAME_WORD_CHARS: usize = 64;

/// Returns the words of a [`search_key`], by whose beginnings a name is found. They are divided by spaces and by the marks of ASCII, and by
/// nothing else, so that a database divides a key in the same way.
pub fn name_words(key: &str) -> impl Iterator<Item = String> {
    key.split(|c: char| c == ' ' || c.is_ascii_punctuation())
        .filter(|word| !word.is_empty())
        .map(|word| first(word, MAX_NAME_WORD_CHARS))
}

/// What names are found by: beginnings of their words, in any order and case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameQuery(Vec<String>);

impl NameQuery {
    /// Reads a query of 1 to 8 words in at most 64 characters.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, InvalidField> {
        let refused = |problem: String| Err(InvalidField { field, problem });
        if text.chars().count() > MAX_NAME_QUERY_CHARS {
            return refused(format!("must have at most {MAX_NAME_QUERY_CHARS} characters"));
        }
        // Spaces of other kinds are one in the key.
        let key = search_key(text);
        if key.contains('\0') {
            return refused(Harm::Control.to_string());
        }
        let words: Vec<_> = name_words(&key.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        match words.len() {
            0 => refused("must have a letter or a digit".to_owned()),
            1..=MAX_NAME_QUERY_WORDS => Ok(Self(words)),
            _ => refused(format!("must have at most {MAX_NAME_QUERY_WORDS} words")),
        }
    }

    /// Returns the beginnings, as search keys; at least one.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Returns whether each of them begins a word of one of these search keys.
    pub fn finds(&self, keys: &[&str]) -> bool {
        let words: Vec<_> = keys.iter().flat_map(|key| name_words(key)).collect();
        self.0.iter().all(|beginning| words.iter().any(|word| word.starts_with(beginning)))
    }
}

fn first(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// Returns a normalized text in which no harm was found and that is not too long.
fn checked(
    field: &'static str,
    text: String,
    found: Option<Harm>,
    max_chars: usize,
) -> Result<String, InvalidField> {
    let too_long = || format!("must have at most {max_chars} characters");
    let problem =
        found.map(|harm| harm.to_string()).or_else(|| (text.chars().count() > max_chars).then(too_long));
    problem.map_or(Ok(text), |problem| Err(InvalidField { field, problem }))
}

fn nfc(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text).into_owned()
}

/// Returns a letter of another width as the letter.
fn narrow(c: char) -> char {
    // Each of the block has one character as its compatibility form, but for some that stay.
    let mut form = ComposingNormalizer::new_nfkc().normalize_iter(std::iter::once(c));
    match (c, form.next(), form.next()) {
        ('\u{ff00}'..='\u{ffef}', Some(form), None) => form,
        _ => c,
    }
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

fn is_space(c: char) -> bool {
    category(c) == GeneralCategory::SpaceSeparator
}

/// Returns what others must not be shown of a text. `allows` are the control characters that may stand in it.
fn harm(text: &str, allows: impl Fn(char) -> bool) -> Option<Harm> {
    let is_line_end = |c: char| matches!(c, '\u{2028}' | '\u{2029}');
    if text.chars().any(|c| (c.is_control() && !allows(c)) || is_line_end(c)) {
        return Some(Harm::Control);
    }
    if text.chars().any(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        return Some(Harm::Bidi);
    }
    (!text.chars().any(is_visible)).then_some(Harm::Invisible)
}

fn is_visible(c: char) -> bool {
    let marks = GeneralCategoryGroup::Letter
        .union(GeneralCategoryGroup::Number)
        .union(GeneralCategoryGroup::Punctuation)
        .union(GeneralCategoryGroup::Symbol)
        // Assigned by a newer Unicode than ours: as likely an emoji as anything else.
        .union(GeneralCategoryGroup::Unassigned)
        .union(GeneralCategoryGroup::PrivateUse);
    marks.contains(category(c)) && c != BRAILLE_BLANK && !is_ignorable(c)
}

/// Returns whether a character is one that Unicode calls ignorable by default: it leaves no mark, and may change how its neighbours look.
pub fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Makes what shows a character as an emoji which is shown as text by default.
const EMOJI_STYLE: char = '\u{fe0f}';

/// Returns whether a text is one emoji, as [`emoji`] reads it.
pub fn is_emoji(text: &str) -> bool {
    emoji(text).is_some()
}

/// Reads a text that is one emoji, whichever version of Unicode has it: a "possible emoji" of UTS #51, section 1.4.9. A digit is one only as
/// a keycap. Returns its fully-qualified form, so that what looks alike is alike: keyboards and systems leave variation selectors out,
/// or add them where none belongs.
pub fn emoji(text: &str) -> Option<String> {
    let mut qualified = String::with_capacity(text.len() + EMOJI_STYLE.len_utf8());
    let mut rest = text;
    loop {
        let after = emoji_element(rest, &mut qualified)?;
        match after.strip_prefix('\u{200d}') {
            Some(joined) => {
                qualified.push('\u{200d}');
                rest = joined;
            }
            None => return after.is_empty().then_some(qualified),
        }
    }
}

/// Adds the fully-qualified form of the first element of an emoji that is joined of several. Returns what follows it.
fn emoji_element<'a>(text: &'a str, qualified: &mut String) -> Option<&'a str> {
    let is_flag = |of| CodePointSetData::new::<RegionalIndicator>().contains(of);
    let is_emoji = |of| CodePointSetData::new::<Emoji>().contains(of);
    let is_modifier = |of| CodePointSetData::new::<EmojiModifier>().contains(of);
    let is_shown_as_text = |of| !CodePointSetData::new::<EmojiPresentation>().contains(of);
    let mut chars = text.chars();
    let first = chars.next()?;
    if is_flag(first) {
        let second = chars.next().filter(|second| is_flag(*second))?;
        qualified.extend([first, second]);
        return Some(chars.as_str());
    }
    if !is_emoji(first) {
        return None;
    }
    qualified.push(first);
    let rest = chars.as_str();
    let unstyled = rest.strip_prefix(EMOJI_STYLE);
    if let Some(rest) = unstyled.unwrap_or(rest).strip_prefix('\u{20e3}') {
        qualified.extend([EMOJI_STYLE, '\u{20e3}']);
        return Some(rest);
    }
    if first.is_ascii() {
        return None;
    }
    if let Some(modifier) = rest.chars().next().filter(|of| is_modifier(*of)) {
        qualified.push(modifier);
        return rest.strip_prefix(modifier);
    }
    if is_shown_as_text(first) {
        qualified.push(EMOJI_STYLE);
    }
    if let Some(rest) = unstyled {
        return Some(rest);
    }
    let untagged = rest.trim_start_matches(|tag| matches!(tag, '\u{e0020}'..='\u{e007e}'));
    if untagged.len() == rest.len() {
        return Some(rest);
    }
    let after = untagged.strip_prefix('\u{e007f}')?;
    qualified.push_str(&rest[..rest.len() - after.len()]);
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZOE: (&str, &str) = ("Zo\u{eb}", "Zoe\u{308}");

    fn name(text: &str) -> Result<String, String> {
        let name = DisplayName::parse("display_name", text);
        name.map(|name| name.as_str().to_owned()).map_err(|error| error.problem)
    }

    #[test]
    fn an_emoji_is_one_emoji() {
        let emojis = [
            "\u{1f44d}",
            "\u{1f44d}\u{1f3fd}",
            "\u{2764}",
            "\u{2764}\u{fe0f}",
            "\u{1f1ea}\u{1f1fa}",
            "1\u{fe0f}\u{20e3}",
            "\u{1f469}\u{1f3fd}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}",
        ];
        for emoji in emojis {
            assert!(is_emoji(emoji), "{emoji}");
        }
        let others = [
            "",
            "a",
            "1",
            "#",
            "1\u{fe0f}",
            ":+1:",
            "\u{1f44d}\u{1f44d}",
            "\u{1f44d} ",
            "\u{1f44d}\u{200d}",
            "\u{200d}\u{1f44d}",
            "\u{1f1ea}",
            "\u{1f1ea}\u{1f1fa}\u{1f1ea}",
            "\u{1f3f4}\u{e0067}",
            "\u{fe0f}",
            "\u{202e}\u{1f44d}",
        ];
        for text in others {
            assert!(!is_emoji(text), "{text:?}");
        }
    }

    #[test]
    fn an_emoji_has_one_form_however_it_was_typed() {
        // As in emoji-test.txt: fully-qualified, and what is minimally qualified or unqualified.
        let forms: [(&str, &[&str]); 12] = [
            ("\u{2764}\u{fe0f}", &["\u{2764}"]),
            ("\u{a9}\u{fe0f}", &["\u{a9}"]),
            ("1\u{fe0f}\u{20e3}", &["1\u{20e3}"]),
            ("#\u{fe0f}\u{20e3}", &["#\u{20e3}"]),
            ("\u{1f44d}", &["\u{1f44d}\u{fe0f}"]),
            ("\u{261d}\u{1f3fd}", &[]),
            ("\u{1f3f3}\u{fe0f}\u{200d}\u{1f308}", &["\u{1f3f3}\u{200d}\u{1f308}"]),
            ("\u{2764}\u{fe0f}\u{200d}\u{1f525}", &["\u{2764}\u{200d}\u{1f525}"]),
            (
                "\u{1f441}\u{fe0f}\u{200d}\u{1f5e8}\u{fe0f}",
                &[
                    "\u{1f441}\u{200d}\u{1f5e8}",
                    "\u{1f441}\u{fe0f}\u{200d}\u{1f5e8}",
                    "\u{1f441}\u{200d}\u{1f5e8}\u{fe0f}",
                ],
            ),
            ("\u{26f9}\u{1f3fb}\u{200d}\u{2640}\u{fe0f}", &["\u{26f9}\u{1f3fb}\u{200d}\u{2640}"]),
            ("\u{1f1ea}\u{1f1fa}", &[]),
            ("\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}", &[]),
        ];
        for (qualified, others) in forms {
            for form in others.iter().chain([&qualified]) {
                assert_eq!(emoji(form).as_deref(), Some(qualified), "{form:?}");
            }
        }
    }

    #[test]
    fn a_name_is_composed_and_single_spaced() {
        for (text, expected) in [
            ("Ann", "Ann"),
            ("  Ann\u{a0}\u{3000} B.\n", "Ann B."),
            (ZOE.1, ZOE.0),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            // What a rule against the invisible must not hit: emoji of several characters, Persian, Hebrew, Arabic.
            ("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}", "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}"),
            ("\u{2764}\u{fe0f}", "\u{2764}\u{fe0f}"),
            (
                "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
                "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            ),
            ("\u{5d3}\u{5d5}\u{5d3}", "\u{5d3}\u{5d5}\u{5d3}"),
            ("\u{645}\u{62d}\u{645}\u{651}\u{62f}", "\u{645}\u{62d}\u{645}\u{651}\u{62f}"),
            ("x\u{b2}", "x\u{b2}"),
        ] {
            assert_eq!(name(text).as_deref(), Ok(expected), "{text:?}");
        }
        assert_eq!(name(&"e\u{308}".repeat(64)), Ok("\u{eb}".repeat(64)), "counted as composed");
        assert_eq!(name(&"x".repeat(65)), Err("must have at most 64 characters".to_owned()));
    }

    #[test]
    fn a_name_that_no_one_sees_or_that_turns_others_round_is_refused() {
        for text in [
            "",
            " ",
            "\u{3000}",
            "\u{200b}",
            "\u{3164}",
            "\u{115f}",
            "\u{ffa0}",
            "\u{2800}",
            "\u{ad}",
            "\u{200c}\u{200c}",
            "\u{2060}",
            "\u{feff}",
            "\u{e0041}\u{e0042}",
            "\u{fe0f}",
            "\u{200e}",
            "\u{301}",
        ] {
            assert_eq!(name(text), Err(Harm::Invisible.to_string()), "{text:?}");
        }
        for text in ["ann\u{202e}evil", "ann\u{2067}", "ann\u{202b}", "\u{2068}ann\u{2069}"] {
            assert_eq!(name(text), Err(Harm::Bidi.to_string()), "{text:?}");
        }
        for text in ["a\0b", "a\nb", "a\tb", "a\u{85}b", "a\u{2028}b", "a\u{7f}b"] {
            assert_eq!(name(text), Err(Harm::Control.to_string()), "{text:?}");
        }
    }

    #[test]
    fn every_line_break_is_lf() {
        let about = |text: &str| {
            About::parse("about", text).map(|about| about.as_str().to_owned()).map_err(|error| error.problem)
        };
        for text in ["a\nb", "a\r\nb", "a\rb", "a\u{2028}b", "a\u{2029}b", "a\u{85}b"] {
            assert_eq!(about(text).as_deref(), Ok("a\nb"), "{text:?}");
        }
        assert_eq!(about("a\r\n\r\nb").as_deref(), Ok("a\n\nb"));
        for text in ["", "\u{200b}", "  two\tcolumns "] {
            assert_eq!(about(text).as_deref(), Ok(text));
        }
        assert_eq!(about("a\0"), Err(Harm::Control.to_string()));
        assert_eq!(about("a\u{202e}b"), Err(Harm::Bidi.to_string()));
        assert!(about(&"\r\n".repeat(500)).is_ok());
        assert_eq!(about(&"\n".repeat(501)), Err("must have at most 500 characters".to_owned()));
    }

    #[test]
    fn a_username_is_one_name_however_it_is_typed() {
        let username = |text: &str| {
            Username::parse("username", text)
                .map(|name| name.as_str().to_owned())
                .map_err(|error| error.problem)
        };
        for text in
            ["ann", "ann ", " ann", "Ann", "ANN", "ann\n", "\u{ff41}\u{ff4e}\u{ff4e}", "\u{ff21}nn\u{3000}"]
        {
            assert_eq!(username(text).as_deref(), Ok("ann"), "{text:?}");
        }
        assert_eq!(username(ZOE.1).as_deref(), Ok("zo\u{eb}"));
        assert_eq!(username("ann@acme.example").as_deref(), Ok("ann@acme.example"));
        for text in ["", " ", "\u{200b}"] {
            assert_eq!(username(text), Err(Harm::Invisible.to_string()), "{text:?}");
        }
        assert_eq!(username("a\0b"), Err(Harm::Control.to_string()));
        assert!(username(&"x".repeat(255)).is_ok() && username(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_password_is_the_same_from_every_keyboard_and_otherwise_as_typed() {
        let password = |text: &str| {
            Password::parse("password", text)
                .map(|word| word.expose().to_owned())
                .map_err(|error| error.problem)
        };
        assert_eq!(password("dear Zoe\u{308} 7").as_deref(), Ok("dear Zo\u{eb} 7"));
        assert_eq!(password("\u{1112}\u{1161}\u{11ab}").as_deref(), Ok("\u{d55c}"));
        assert_eq!(password("a\u{a0}b\u{3000}").as_deref(), Ok("a b "));
        for text in [
            "  spaced out  ",
            "Upper lower",
            "a%20b+c&d=e;f",
            "'\"\\`$(x)",
            "\u{1f468}\u{200d}\u{1f469}",
            "\u{fb01}",
        ] {
            assert_eq!(password(text).as_deref(), Ok(text));
        }
        for text in ["tab\there", "a\0b"] {
            assert_eq!(password(text), Err(Harm::Control.to_string()));
        }
        assert!(
            password("").is_err()
                && password(&"x".repeat(256)).is_ok()
                && password(&"x".repeat(257)).is_err()
        );
        let word = Password::parse("password", "correct horse").expect("a password");
        assert!(!format!("{word:?}").contains("correct"));
    }

    #[test]
    fn a_name_is_found_by_what_another_keyboard_sends() {
        for (name, typed) in [
            (ZOE.0, ZOE.1),
            (ZOE.1, ZOE.0),
            (ZOE.0, "ZO\u{cb}"),
            ("\u{39f}\u{3b4}\u{3c5}\u{3c3}\u{3c3}\u{3ad}\u{3b1}\u{3c2}", "\u{39f}\u{394}\u{3a5}\u{3a3}"),
            ("Stra\u{df}er", "STRASS"),
            ("\u{ff21}\u{ff4e}\u{ff4e}\u{ff41}", "anna"),
            ("\u{d55c}\u{ae00}", "\u{1112}\u{1161}\u{11ab}"),
            ("an\u{200b}n", "ANN"),
        ] {
            assert!(search_key(name).starts_with(&search_key(typed)), "{name} by {typed}");
        }
        assert!(!search_key("\u{c4}nn").starts_with(&search_key("ann")), "another letter");
    }

    #[test]
    fn a_name_is_found_by_the_beginnings_of_its_words() {
        let check = |query: &str, name: &str, expected: bool| {
            let query = NameQuery::parse("q", query).expect("a query");
            assert_eq!(query.finds(&[&search_key(name)]), expected, "{query:?} in {name}");
        };
        let ivan = "\u{418}\u{432}\u{430}\u{43d} \u{41f}\u{435}\u{442}\u{440}\u{43e}\u{432}";
        check("\u{43f}\u{435}\u{442}", ivan, true);
        check("\u{41f}\u{415}\u{422} \u{438}\u{432}", ivan, true);
        check("\u{432}\u{430}\u{43d}", ivan, false);
        check("o'n luc", "Jean-Luc O'Neil", true);
        check("ann.mi", "ann_miller", true);
        check(ZOE.1, ZOE.0, true);
        check("crew\u{3000}two", "Crew Two", true);
        check("anna", "Ann", false);
        check("*nn", "Ann", false);
    }

    #[test]
    fn a_query_for_names_is_bounded() {
        let refused = |text: &str| NameQuery::parse("q", text).expect_err("a refusal").problem;
        for text in ["", " ", "*", "\u{200b}", "--"] {
            assert_eq!(refused(text), "must have a letter or a digit", "{text:?}");
        }
        assert_eq!(refused(&"a ".repeat(9)), "must have at most 8 words");
        assert_eq!(refused(&"a ".repeat(10_000)), "must have at most 64 characters");
        assert_eq!(refused("a\0"), Harm::Control.to_string());
        assert_eq!(NameQuery::parse("q", &"a".repeat(64)).expect("a query").words(), ["a".repeat(64)]);
    }

    #[test]
    fn a_text_that_was_read_reads_back_the_same() {
        for text in [
            "  A\u{a0}\u{3000}b ",
            ZOE.1,
            "\u{1112}\u{1161}\u{11ab}",
            "\u{ff21}\u{ff9e}",
            "\u{130}",
            "\u{3c3}\u{3c2}\u{3a3}",
        ] {
            let username = Username::parse("username", text).expect("a username");
            assert_eq!(Username::parse("username", username.as_str()).as_ref(), Ok(&username));
            let name = DisplayName::parse("name", text).expect("a name");
            assert_eq!(DisplayName::parse("name", name.as_str()).as_ref(), Ok(&name));
            assert_eq!(search_key(&search_key(text)), search_key(text));
        }
    }
}
