//! What a line of input means.

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Message(String),
    Chats,
    Open(String),
    Group { title: String, members: Vec<String> },
    Members,
    Help,
    Quit,
    Unknown(String),
    Nothing,
}

/// Reads a line; two slashes at its start stand for one.
pub(super) fn parse(text: &str) -> Line {
    let text = text.trim_end();
    if text.is_empty() {
        return Line::Nothing;
    }
    let Some(command) = text.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
        return Line::Message(text.strip_prefix('/').unwrap_or(text).to_owned());
    };
    let mut words = command.split_whitespace();
    match (words.next().unwrap_or_default(), words.next()) {
        ("chats", None) => Line::Chats,
        ("open", Some(what)) => Line::Open(what.to_owned()),
        ("group", Some(title)) => Line::Group {
            title: title.to_owned(),
            members: words.map(|name| name.trim_start_matches('@').to_owned()).collect(),
        },
        ("members", None) => Line::Members,
        ("help", None) => Line::Help,
        ("quit", None) => Line::Quit,
        _ => Line::Unknown(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Line) {
        assert_eq!(parse(text), expected, "{text:?}");
    }

    #[test]
    fn lines_are_commands_or_words() {
        check("hello there ", Line::Message("hello there".into()));
        check("//etc is a folder", Line::Message("/etc is a folder".into()));
        check("  ", Line::Nothing);
        check("/chats", Line::Chats);
        check("/open @ben", Line::Open("@ben".into()));
        let members = vec!["ann".into(), "ben".into()];
        check("/group lunch @ann ben", Line::Group { title: "lunch".into(), members });
        check("/open", Line::Unknown("/open".into()));
        check("/shout hi", Line::Unknown("/shout hi".into()));
        check("/quit", Line::Quit);
    }
}
