//! What a line of input means.

use contracts::event::Role;

use crate::client::Post;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Post(Post),
    Chats,
    Open(String),
    Group {
        is_channel: bool,
        title: String,
        members: Vec<String>,
    },
    Members,
    Title(String),
    /// An empty one removes it.
    Topic(String),
    Role {
        username: String,
        role: Role,
    },
    DeleteGroup,
    Mute(Mute),
    Archive(bool),
    Favourite(bool),
    Help,
    Quit,
    /// A command without what belongs to it, and how it is written.
    Incomplete(&'static str),
    Unknown(String),
    Nothing,
}

/// For how long a chat is muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mute {
    Hours(u32),
    ForGood,
    Off,
}

/// How each command is written.
const USAGES: [(&str, &str); 24] = [
    ("chats", "/chats"),
    ("open", "/open N|@NAME|ID"),
    ("group", "/group TITLE @NAME..."),
    ("channel", "/channel TITLE @NAME..."),
    ("members", "/members"),
    ("title", "/title TEXT"),
    ("topic", "/topic TEXT"),
    ("role", "/role @NAME owner|admin|member"),
    ("delete-group", "/delete-group"),
    ("mute", "/mute [HOURS]"),
    ("unmute", "/unmute"),
    ("archive", "/archive"),
    ("unarchive", "/unarchive"),
    ("favourite", "/favourite"),
    ("unfavourite", "/unfavourite"),
    ("reply", "/reply N TEXT, with N the number of a message"),
    ("edit", "/edit N TEXT, with N the number of your message"),
    ("delete", "/delete N, with N the number of a message"),
    ("react", "/react N EMOJI, with N the number of a message"),
    ("unreact", "/unreact N EMOJI, with N the number of a message"),
    ("pin", "/pin N, with N the number of a message"),
    ("unpin", "/unpin N, with N the number of a message"),
    ("help", "/help"),
    ("quit", "/quit"),
];

/// Reads a line; two slashes at its start stand for one.
pub(super) fn parse(text: &str) -> Line {
    let text = text.trim_end();
    if text.is_empty() {
        return Line::Nothing;
    }
    let Some(command) = text.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
        return Line::Post(text.strip_prefix('/').unwrap_or(text).into());
    };
    if let Some(post) = change(command) {
        return Line::Post(post);
    }
    match command.split_once(' ').unwrap_or((command, "")) {
        ("title", title) if !title.trim().is_empty() => return Line::Title(title.trim().to_owned()),
        ("topic", topic) => return Line::Topic(topic.trim().to_owned()),
        _ => {}
    }
    let mut words = command.split_whitespace();
    match (words.next().unwrap_or_default(), words.next()) {
        ("chats", None) => Line::Chats,
        ("role", Some(user)) => match (words.next().and_then(Role::parse), words.next()) {
            (Some(role), None) => Line::Role { username: name(user), role },
            _ => incomplete("role", text),
        },
        ("delete-group", None) => Line::DeleteGroup,
        ("mute", None) => Line::Mute(Mute::ForGood),
        ("mute", Some(hours)) => match hours.parse() {
            Ok(hours) => Line::Mute(Mute::Hours(hours)),
            Err(_) => incomplete("mute", text),
        },
        ("unmute", None) => Line::Mute(Mute::Off),
        (command @ ("archive" | "unarchive"), None) => Line::Archive(command == "archive"),
        (command @ ("favourite" | "unfavourite"), None) => Line::Favourite(command == "favourite"),
        ("open", Some(what)) => Line::Open(what.to_owned()),
        (command @ ("group" | "channel"), Some(title)) => Line::Group {
            is_channel: command == "channel",
            title: title.to_owned(),
            members: words.map(name).collect(),
        },
        ("members", None) => Line::Members,
        ("help", None) => Line::Help,
        ("quit", None) => Line::Quit,
        (name, _) => incomplete(name, text),
    }
}

/// Returns how a command is written that is not written so.
fn incomplete(name: &str, text: &str) -> Line {
    match USAGES.iter().find(|(of, _)| *of == name) {
        Some((_, usage)) => Line::Incomplete(usage),
        None => Line::Unknown(text.to_owned()),
    }
}

fn name(word: &str) -> String {
    word.trim_start_matches('@').to_owned()
}

/// Reads a command about message N: its name, the number, and what follows.
fn change(command: &str) -> Option<Post> {
    let (name, rest) = command.split_once(' ')?;
    let (seq, rest) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
    let (seq, text) = (seq.parse().ok()?, rest.trim());
    match (name, text) {
        ("reply" | "edit" | "react" | "unreact", "") => None,
        ("reply", body) => Some(Post::Text {
            body: body.to_owned(),
            reply_to: Some(seq),
            mentions: Vec::new(),
            mention_all: false,
        }),
        ("edit", body) => Some(Post::Edit { seq, body: body.to_owned() }),
        ("react" | "unreact", emoji) => {
            Some(Post::React { seq, emoji: emoji.to_owned(), remove: name == "unreact" })
        }
        ("delete", "") => Some(Post::Delete { seq }),
        ("pin" | "unpin", "") => Some(Post::Pin { seq, remove: name == "unpin" }),
        _ => None,
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
        check("hello there ", Line::Post("hello there".into()));
        check("//etc is a folder", Line::Post("/etc is a folder".into()));
        check("  ", Line::Nothing);
        check("/chats", Line::Chats);
        check("/open @ben", Line::Open("@ben".into()));
        let members = vec!["ann".into(), "ben".into()];
        let group = |is_channel| Line::Group { is_channel, title: "lunch".into(), members: members.clone() };
        check("/group lunch @ann ben", group(false));
        check("/channel lunch @ann ben", group(true));
        check("/open", Line::Incomplete("/open N|@NAME|ID"));
        check("/shout hi", Line::Unknown("/shout hi".into()));
        check("/quit", Line::Quit);
    }

    #[test]
    fn a_group_is_changed_by_commands() {
        check("/title Board  games ", Line::Title("Board  games".into()));
        check("/title ", Line::Incomplete("/title TEXT"));
        check("/topic on Fridays", Line::Topic("on Fridays".into()));
        check("/topic", Line::Topic(String::new()));
        check("/role @ben admin", Line::Role { username: "ben".into(), role: Role::Admin });
        for text in ["/role @ben", "/role @ben king", "/role @ben admin now"] {
            check(text, Line::Incomplete("/role @NAME owner|admin|member"));
        }
        check("/delete-group now", Line::Incomplete("/delete-group"));
        check("/delete-group", Line::DeleteGroup);
        check("/mute", Line::Mute(Mute::ForGood));
        check("/mute 8", Line::Mute(Mute::Hours(8)));
        check("/unmute", Line::Mute(Mute::Off));
        check("/archive", Line::Archive(true));
        check("/unfavourite", Line::Favourite(false));
        check("/mute long", Line::Incomplete("/mute [HOURS]"));
    }

    #[test]
    fn a_message_is_changed_by_its_number() {
        check("/edit 7 better  words ", Line::Post(Post::Edit { seq: 7, body: "better  words".into() }));
        check("/delete 7", Line::Post(Post::Delete { seq: 7 }));
        let react = |remove| Line::Post(Post::React { seq: 7, emoji: "\u{1f44d}".into(), remove });
        check("/react 7 \u{1f44d}", react(false));
        check("/unreact 7 \u{1f44d}", react(true));
        check("/pin 7", Line::Post(Post::Pin { seq: 7, remove: false }));
        check("/unpin 7", Line::Post(Post::Pin { seq: 7, remove: true }));
        let Line::Post(Post::Text { body, reply_to, .. }) = parse("/reply 7 I agree") else { panic!() };
        assert_eq!((body.as_str(), reply_to), ("I agree", Some(7)));
        for text in ["/edit", "/edit 7", "/edit x y", "/delete", "/delete 7 8", "/react 7", "/pin seven"] {
            let name = text.split(' ').next().expect("a name");
            let Line::Incomplete(usage) = parse(text) else { panic!("{text} became {:?}", parse(text)) };
            assert!(usage.starts_with(&format!("{name} N")), "{text}: {usage}");
        }
    }
}
