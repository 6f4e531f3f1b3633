//! What a message has besides words.

use super::Text;

/// Something by which messages are narrowed, `has:file` in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// A file of any type.
    File,
    Image,
    Video,
    Audio,
    /// A link in the text.
    Link,
}

impl Has {
    pub(crate) const ALL: [Self; 5] = [Self::File, Self::Image, Self::Video, Self::Audio, Self::Link];

    /// Returns the word, as it is typed and indexed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Link => "link",
        }
    }

    /// Reads the word in any case.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|has| has.as_str().eq_ignore_ascii_case(word))
    }

    /// Returns whether a text has it.
    pub(crate) fn is_in(self, text: &Text) -> bool {
        let has_type = |beginning: &str| text.files.iter().any(|file| file.media_type.starts_with(beginning));
        match self {
            Self::File => !text.files.is_empty(),
            Self::Image => has_type("image/"),
            Self::Video => has_type("video/"),
            Self::Audio => has_type("audio/"),
            Self::Link => has_link(&text.body),
        }
    }
}

/// Returns whether a text has the address of a page.
fn has_link(body: &str) -> bool {
    let body = body.to_ascii_lowercase();
    let begins_host = |c: char| c.is_alphanumeric() || c == '[';
    let leads_on = |scheme: &str| {
        body.match_indices(scheme).any(|(at, _)| body[at + scheme.len()..].starts_with(begins_host))
    };
    ["http://", "https://"].into_iter().any(leads_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_somewhere() {
        for body in
            ["https://example.org", "see (HTTP://Example.org/a?b=c).", "http://[::1]/", "https://пример.рф"]
        {
            assert!(has_link(body), "{body}");
        }
        for body in ["", "https://", "http:// example.org", "example.org", "ftp://example.org", "a https: b"]
        {
            assert!(!has_link(body), "{body}");
        }
    }

    #[test]
    fn a_word_is_read_in_any_case() {
        for has in Has::ALL {
            assert_eq!(Has::parse(&has.as_str().to_uppercase()), Some(has));
        }
        assert_eq!((Has::parse(""), Has::parse("files")), (None, None));
    }
}
