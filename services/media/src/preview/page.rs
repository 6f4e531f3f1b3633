//! What a page says of itself, in its head.

use encoding_rs::{Encoding, UTF_8};
use html5gum::{DefaultEmitter, HtmlString, Spanned, StartTag, Token, Tokenizer};

/// How far a page is searched for the encoding that it declares, as by browsers.
const ENCODING_BYTES: usize = 1_024;
/// The longest value that is kept, in bytes. What is shown of it is much shorter.
const MAX_VALUE_BYTES: usize = 4_096;

/// What a page says of itself. Text of others: none of it has been checked or shortened for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub title: Option<String>,
    pub description: Option<String>,
    pub site: Option<String>,
    /// An URL, possibly relative to the page.
    pub picture: Option<String>,
}

/// A value, and how much it is preferred over others of the same meaning.
#[derive(Default)]
struct Best(Option<(u8, String)>);

impl Best {
    fn offer(&mut self, preference: u8, value: String) {
        let is_better = self.0.as_ref().is_none_or(|(best, _)| preference > *best);
        if is_better && !value.trim().is_empty() && value.len() <= MAX_VALUE_BYTES {
            self.0 = Some((preference, value.trim().to_owned()));
        }
    }

    fn value(self) -> Option<String> {
        self.0.map(|(_, value)| value)
    }
}

/// Reads a page, or its beginning. `content_type` is the header that it came with.
pub(super) fn read(bytes: &[u8], content_type: &str) -> Page {
    let (text, _, _) = encoding(bytes, content_type).decode(bytes);
    // What a script contains is text, and not a tag.
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let [mut title, mut description, mut site, mut picture] = <[Best; 4]>::default();
    let (mut is_title, mut title_text) = (false, String::new());
    for token in Tokenizer::new_with_emitter(&*text, emitter).flatten() {
        match token {
            Token::StartTag(tag) => match &tag.name[..] {
                b"body" => break,
                // The first: those of drawings come later.
                b"title" => is_title = title_text.is_empty(),
                b"meta" => {
                    let Some(content) = attribute(&tag, b"content") else { continue };
                    let name = attribute(&tag, b"property").or_else(|| attribute(&tag, b"name"));
                    match name.unwrap_or_default().to_ascii_lowercase().as_str() {
                        "og:title" => title.offer(3, content),
                        "twitter:title" => title.offer(2, content),
                        "og:description" => description.offer(3, content),
                        "twitter:description" => description.offer(2, content),
                        "description" => description.offer(1, content),
                        "og:site_name" => site.offer(1, content),
                        "og:image:secure_url" => picture.offer(3, content),
                        "og:image" | "og:image:url" => picture.offer(2, content),
                        "twitter:image" | "twitter:image:src" => picture.offer(1, content),
                        _ => {}
                    }
                }
                _ => {}
            },
            Token::EndTag(tag) => match &tag.name[..] {
                b"head" => break,
                b"title" => is_title = false,
                _ => {}
            },
            Token::String(text) if is_title && title_text.len() < MAX_VALUE_BYTES => {
                title_text.push_str(&String::from_utf8_lossy(&text));
            }
            _ => {}
        }
    }
    title.offer(1, title_text);
    Page {
        title: title.value(),
        description: description.value(),
        site: site.value(),
        picture: picture.value(),
    }
}

fn attribute(tag: &StartTag<()>, name: &[u8]) -> Option<String> {
    let value: &Spanned<HtmlString, ()> = tag.attributes.get(name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Returns the encoding that the header names, or else the page itself; UTF-8 when none does. A byte order mark overrides it.
fn encoding(bytes: &[u8], content_type: &str) -> &'static Encoding {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(ENCODING_BYTES)]).to_ascii_lowercase();
    charset(&content_type.to_ascii_lowercase()).or_else(|| charset(&start)).unwrap_or(UTF_8)
}

/// Returns the encoding named behind the first `charset=`.
fn charset(text: &str) -> Option<&'static Encoding> {
    let (_, rest) = text.split_once("charset")?;
    let value = rest.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
    let label = value.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | ':')).next()?;
    Encoding::for_label(label.as_bytes())
}

#[cfg(test)]
mod tests {
    use kit::testing::fuzz;

    use super::*;

    fn title(html: &[u8], content_type: &str) -> Option<String> {
        read(html, content_type).title
    }

    #[test]
    fn what_a_page_says_for_others_is_preferred() {
        let html = br#"<!doctype html><html><head><TITLE> Plain &amp; simple </TITLE>
            <meta name="description" content="plain">
            <meta property="og:title" content="Open &quot;graph&quot;">
            <meta name="twitter:title" content="a bird's">
            <meta content="said first" property='og:description'>
            <meta property=og:site_name content=Example>
            <meta property="og:image" content="/a.png?x=1&amp;y=2">
            <meta name="twitter:image" content="https://example.org/bird.png">
            </head><body><title>none</title><meta property="og:title" content="none"></body>"#;
        let expected = Page {
            title: Some("Open \"graph\"".to_owned()),
            description: Some("said first".to_owned()),
            site: Some("Example".to_owned()),
            picture: Some("/a.png?x=1&y=2".to_owned()),
        };
        assert_eq!(read(html, "text/html"), expected);
    }

    #[test]
    fn a_title_is_enough() {
        assert_eq!(title(b"<title>A &lt;b&gt; &eacute;</title>", ""), Some("A <b> \u{e9}".to_owned()));
        assert_eq!(title(b"<title></title><title>second</title>", ""), Some("second".to_owned()));
        assert_eq!(title(b"<title>  \n </title>", ""), None);
        assert_eq!(title(b"no page", ""), None);
        assert_eq!(title(b"<title>not ended", ""), Some("not ended".to_owned()));
    }

    #[test]
    fn scripts_styles_and_comments_say_nothing() {
        let html = br#"<script>"<title>script</title><meta property='og:title' content='script'>"</script>
            <style><meta property="og:title" content="style"></style>
            <!-- <title>comment</title> --><title>real</title>"#;
        assert_eq!(title(html, ""), Some("real".to_owned()));
    }

    #[test]
    fn a_page_is_read_in_its_encoding() {
        let cyrillic = b"<title>\xcf\xf0\xe8\xe2\xe5\xf2</title>";
        let expected = Some("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}".to_owned());
        assert_eq!(title(cyrillic, "text/html; charset=windows-1251"), expected);
        assert_eq!(title(cyrillic, "text/html;Charset=\"WINDOWS-1251\""), expected);
        let declared = [b"<meta charset='windows-1251'>", &cyrillic[..]].concat();
        assert_eq!(title(&declared, "text/html"), expected);
        let declared =
            [&b"<meta http-equiv=Content-Type content='text/html; charset = cp1251'>"[..], cyrillic].concat();
        assert_eq!(title(&declared, "text/html"), expected);
        assert_eq!(
            title("<title>\u{41f}</title>".as_bytes(), "text/html; charset=nonsense"),
            Some("\u{41f}".to_owned())
        );
        // A byte order mark is believed.
        assert_eq!(
            title(b"\xff\xfe<\0t\0i\0t\0l\0e\0>\0a\0", "text/html; charset=utf-8"),
            Some("a".to_owned())
        );
    }

    #[test]
    fn a_value_of_a_megabyte_is_not_kept() {
        let long = "a".repeat(1_000_000);
        let html = format!("<title>short</title><meta property=og:title content={long}><meta name={long}>");
        assert_eq!(title(html.as_bytes(), ""), Some("short".to_owned()));
        assert!(
            title(format!("<title>{long}").as_bytes(), "").is_none_or(|title| title.len() <= MAX_VALUE_BYTES)
        );
    }

    #[test]
    fn pages_of_any_bytes_are_read() {
        let inputs: [&[u8]; 4] = [
            b"<!doctype html><head><title>a &amp; b</title><meta property=\"og:title\" content='c'>",
            b"<meta charset=utf-16><meta name=description content=\"d\"><script>if (a < b) {}</script>",
            b"<!-- a --><style>b</style><![CDATA[c]]><?php d ?>&#x110000;&notit;&#0;",
            b"<meta property=og:image content=//[::1]/a.png></head><body>",
        ];
        fuzz(&inputs, |bytes| {
            let page = read(bytes, "text/html");
            for value in [page.title, page.description, page.site, page.picture].into_iter().flatten() {
                assert!(!value.trim().is_empty() && value.len() <= MAX_VALUE_BYTES);
            }
        });
    }
}
