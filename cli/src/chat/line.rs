//! What a line of input means.

use std::{fmt, path::PathBuf};

use contracts::{InviteId, api::Visibility, event::Role};

use posthouse_client::Post;

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
    /// Lists public chats with this text.
    Public(String),
    /// Lists messages of all chats with these words.
    Find(String),
    /// Joins a public chat by id, or a chat by the code of an invite link.
    Join(String),
    Leave,
    Visibility(Visibility),
    Invite {
        needs_approval: bool,
    },
    Invites,
    Revoke(InviteId),
    Requests,
    Decide {
        username: String,
        is_approved: bool,
    },
    /// A text that calls those with a role, who is connected, or all.
    Call(Call, String),
    /// Sends message `seq` of the open chat to another chat.
    Forward {
        seq: i64,
        to: String,
    },
    /// Deletes a range of messages: of one user, or of everyone.
    DeleteRange {
        from_seq: i64,
        to_seq: i64,
        username: Option<String>,
    },
    /// Uploads the file with this path and sends it.
    File(PathBuf),
    /// Writes the files of a message into a folder.
    Save {
        seq: i64,
        folder: PathBuf,
    },
    Pins,
    Replies(i64),
    /// Shows what was sent since so many hours.
    Since(u32),
    DeleteGroup,
    Mute(Mute),
    Archive(bool),
    /// An empty one removes it.
    Draft(String),
    /// Lets the texts of the open chat disappear after so many seconds, or stay.
    Disappear {
        seconds: u32,
    },
    /// Sends a text to the open chat later.
    Later {
        minutes: u32,
        body: String,
    },
    Scheduled,
    /// Sends the scheduled message with this number at once, or cancels it.
    Unschedule {
        number: usize,
        is_sent: bool,
    },
    Favourite(bool),
    Help,
    Quit,
    /// A command without what belongs to it, and how it is written.
    Incomplete(&'static Usage),
    Unknown(String),
    Nothing,
}

/// Whom a text calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Admins,
    Here,
    All,
}

/// For how long a chat is muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mute {
    Hours(u32),
    ForGood,
    Off,
}

/// A command: its name, how it is written, and what it does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Usage {
    name: &'static str,
    pub(super) text: &'static str,
    does: &'static str,
}

const fn usage(name: &'static str, text: &'static str, does: &'static str) -> Usage {
    Usage { name, text, does }
}

/// Every command, in the order in which `/help` lists them. N of a message is its number.
static USAGES: [Usage; 50] = [
    usage("chats", "/chats", "lists your chats"),
    usage(
        "open",
        "/open N|@NAME|ID",
        "opens a chat by its number in the list, a direct chat with a user, or a chat by id",
    ),
    usage("group", "/group TITLE @NAME...", "starts a group; TITLE is one word"),
    usage("channel", "/channel TITLE @NAME...", "starts a group in which only you and admins write"),
    usage(
        "public",
        "/public [TEXT]",
        "lists public groups and channels, those with TEXT in the title or topic",
    ),
    usage(
        "find",
        "/find WORDS",
        "lists the newest messages of all your chats with these words; has:file, has:image or has:link narrows it",
    ),
    usage("join", "/join ID|CODE", "joins a public chat by its id, or a chat by an invite link"),
    usage("members", "/members", "lists the members of the open chat"),
    usage("leave", "/leave", "leaves the open chat"),
    usage("title", "/title TEXT", "renames the open group"),
    usage("topic", "/topic TEXT", "says what the open group is for"),
    usage("role", "/role @NAME owner|admin|member", "gives a member of the open group a role"),
    usage("visibility", "/visibility public|private", "says whether everyone finds and joins the open group"),
    usage(
        "invite",
        "/invite [approval]",
        "makes an invite link for the open group; with approval you decide on who comes",
    ),
    usage("invites", "/invites", "lists the invite links of the open group"),
    usage("revoke", "/revoke ID", "ends an invite link of the open group"),
    usage("requests", "/requests", "lists who asks to join the open group"),
    usage("approve", "/approve @NAME", "lets a user in who asks to join"),
    usage("decline", "/decline @NAME", "declines the request of a user to join"),
    usage("delete-group", "/delete-group", "deletes the open group, for all its members"),
    usage("mute", "/mute [HOURS]", "mutes the open chat"),
    usage("unmute", "/unmute", "ends that"),
    usage("archive", "/archive", "archives the open chat"),
    usage("unarchive", "/unarchive", "ends that"),
    usage(
        "draft",
        "/draft [TEXT]",
        "keeps a text for the open chat on all your devices; without TEXT removes it",
    ),
    usage(
        "disappear",
        "/disappear SECONDS",
        "lets what is written in the open chat disappear after SECONDS; 0 ends it",
    ),
    usage("later", "/later MINUTES TEXT", "sends TEXT to the open chat in so many minutes"),
    usage("scheduled", "/scheduled", "lists what you have scheduled in the open chat"),
    usage("send-now", "/send-now N", "sends scheduled message N of that list at once"),
    usage("cancel", "/cancel N", "cancels scheduled message N of that list"),
    usage("favourite", "/favourite", "puts the open chat first"),
    usage("unfavourite", "/unfavourite", "ends that"),
    usage("reply", "/reply N TEXT", "replies to message N of the open chat"),
    usage("edit", "/edit N TEXT", "replaces the text of your message N"),
    usage("delete", "/delete N", "deletes your message N for everyone"),
    usage("react", "/react N EMOJI", "reacts to message N"),
    usage("unreact", "/unreact N EMOJI", "takes a reaction to message N back"),
    usage(
        "delete-range",
        "/delete-range N N [@NAME]",
        "deletes messages N to N: those of a user or, as the owner or an admin, everyone's",
    ),
    usage("forward", "/forward N CHAT", "sends message N to a chat: its number in the list, @NAME or an id"),
    usage("file", "/file PATH", "sends a file of this machine"),
    usage("save", "/save N [FOLDER]", "writes the files of message N into a folder, or into the current one"),
    usage("silent", "/silent TEXT", "sends a message that disturbs nobody"),
    usage(
        "call",
        "/call admins|here|all TEXT",
        "sends a message that calls the owner and admins, who is connected, or all",
    ),
    usage("pin", "/pin N", "pins message N"),
    usage("unpin", "/unpin N", "ends that"),
    usage("pins", "/pins", "lists what is pinned in the open chat, the last one first"),
    usage("replies", "/replies N", "lists the replies to message N"),
    usage("since", "/since HOURS", "shows the first messages of the last HOURS hours"),
    usage("help", "/help", "lists the commands"),
    usage("quit", "/quit", "ends the program; so does the end of the input"),
];

/// Returns what `/help` shows.
pub(super) fn help() -> String {
    let line = |of: &Usage| format!("  {:<32}{}\n", of.text, of.does);
    USAGES.iter().map(line).collect::<String>() + "  any other line is sent to the open chat"
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.text, self.does)
    }
}

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
        ("later", rest) => return later(rest).unwrap_or_else(|| incomplete("later", text)),
        ("draft", text) => return Line::Draft(text.trim().to_owned()),
        ("public", text) => return Line::Public(text.trim().to_owned()),
        ("find", words) if !words.trim().is_empty() => return Line::Find(words.trim().to_owned()),
        ("silent", text) if !text.trim().is_empty() => {
            let mut post = Post::text(text.trim());
            if let Post::Text { silent, .. } = &mut post {
                *silent = true;
            }
            return Line::Post(post);
        }
        ("file", path) if !path.trim().is_empty() => return Line::File(path.trim().into()),
        ("save", rest) => return save(rest).unwrap_or_else(|| incomplete("save", text)),
        ("call", text) => return call(text).unwrap_or_else(|| incomplete("call", command)),
        _ => {}
    }
    let mut words = command.split_whitespace();
    match (words.next().unwrap_or_default(), words.next()) {
        ("chats", None) => Line::Chats,
        ("role", Some(user)) => match (words.next().and_then(Role::parse), words.next()) {
            (Some(role), None) => Line::Role { username: name(user), role },
            _ => incomplete("role", text),
        },
        ("join", Some(what)) => Line::Join(what.to_owned()),
        ("leave", None) => Line::Leave,
        ("visibility", Some(what)) => {
            Visibility::parse(what).map_or_else(|| incomplete("visibility", text), Line::Visibility)
        }
        ("invite", None) => Line::Invite { needs_approval: false },
        ("invite", Some("approval")) => Line::Invite { needs_approval: true },
        ("invites", None) => Line::Invites,
        ("revoke", Some(id)) => id.parse().map_or_else(|_| incomplete("revoke", text), Line::Revoke),
        ("requests", None) => Line::Requests,
        (command @ ("approve" | "decline"), Some(user)) => {
            Line::Decide { username: name(user), is_approved: command == "approve" }
        }
        ("pins", None) => Line::Pins,
        ("replies", Some(seq)) => seq.parse().map_or_else(|_| incomplete("replies", text), Line::Replies),
        ("since", Some(hours)) => hours.parse().map_or_else(|_| incomplete("since", text), Line::Since),
        ("forward", Some(seq)) => match (seq.parse(), words.next(), words.next()) {
            (Ok(seq), Some(to), None) => Line::Forward { seq, to: to.to_owned() },
            _ => incomplete("forward", text),
        },
        ("delete-range", Some(from)) => {
            let to = words.next().and_then(|to| to.parse().ok());
            match (from.parse(), to, words.next(), words.next()) {
                (Ok(from_seq), Some(to_seq), user, None) => {
                    Line::DeleteRange { from_seq, to_seq, username: user.map(name) }
                }
                _ => incomplete("delete-range", text),
            }
        }
        ("delete-group", None) => Line::DeleteGroup,
        ("mute", None) => Line::Mute(Mute::ForGood),
        ("mute", Some(hours)) => match hours.parse() {
            Ok(hours) => Line::Mute(Mute::Hours(hours)),
            Err(_) => incomplete("mute", text),
        },
        ("disappear", Some(seconds)) => match seconds.parse() {
            Ok(seconds) => Line::Disappear { seconds },
            Err(_) => incomplete("disappear", text),
        },
        ("scheduled", None) => Line::Scheduled,
        (command @ ("send-now" | "cancel"), Some(number)) => match number.parse() {
            Ok(number) => Line::Unschedule { number, is_sent: command == "send-now" },
            Err(_) => incomplete(command, text),
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

/// Reads whom a text calls, and the text.
fn call(text: &str) -> Option<Line> {
    let (whom, body) = text.trim_start().split_once(' ')?;
    let whom = match whom {
        "admins" => Call::Admins,
        "here" => Call::Here,
        "all" => Call::All,
        _ => return None,
    };
    let body = body.trim();
    (!body.is_empty()).then(|| Line::Call(whom, body.to_owned()))
}

/// Reads of which message the files are written where. A folder may have spaces in its name.
fn save(rest: &str) -> Option<Line> {
    let (seq, folder) = rest.trim().split_once(' ').unwrap_or((rest.trim(), "."));
    Some(Line::Save { seq: seq.parse().ok()?, folder: folder.trim().into() })
}

/// Reads what is to be sent later.
fn later(rest: &str) -> Option<Line> {
    let (minutes, body) = rest.trim().split_once(' ')?;
    let body = body.trim();
    (!body.is_empty()).then_some(Line::Later { minutes: minutes.parse().ok()?, body: body.to_owned() })
}

/// Returns how a command is written that is not written so.
fn incomplete(name: &str, text: &str) -> Line {
    match USAGES.iter().find(|usage| usage.name == name) {
        Some(usage) => Line::Incomplete(usage),
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
        ("reply", body) => Some(Post::reply(seq, body)),
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

    #[track_caller]
    fn check_usage(text: &str, expected: &str) {
        let Line::Incomplete(usage) = parse(text) else { panic!("{text} became {:?}", parse(text)) };
        assert_eq!(usage.text, expected, "{text:?}");
    }

    #[test]
    fn every_command_is_listed_once_by_its_name_and_is_read() {
        let help = help();
        for usage in &USAGES {
            assert_eq!(usage.text.split(' ').next(), Some(&*format!("/{}", usage.name)));
            assert_eq!(help.matches(&format!("  {} ", usage.text)).count(), 1, "{usage}");
            assert!(!matches!(parse(usage.text), Line::Unknown(_) | Line::Nothing), "{usage}");
        }
    }

    #[test]
    fn users_are_let_in_by_commands() {
        check("/find tea at four ", Line::Find("tea at four".into()));
        check("/find has:image cat", Line::Find("has:image cat".into()));
        check_usage("/find", "/find WORDS");
        check("/public", Line::Public(String::new()));
        check("/public board games ", Line::Public("board games".into()));
        check("/join 4fT0b0m8Qx2d7cVq1sYw3A", Line::Join("4fT0b0m8Qx2d7cVq1sYw3A".into()));
        check_usage("/join", "/join ID|CODE");
        check("/leave", Line::Leave);
        check("/visibility public", Line::Visibility(Visibility::Public));
        check_usage("/visibility secret", "/visibility public|private");
        check("/invite", Line::Invite { needs_approval: false });
        check("/invite approval", Line::Invite { needs_approval: true });
        check_usage("/invite @ben", "/invite [approval]");
        check("/invites", Line::Invites);
        check_usage("/revoke 7", "/revoke ID");
        check("/approve @ben", Line::Decide { username: "ben".into(), is_approved: true });
        check("/decline ben", Line::Decide { username: "ben".into(), is_approved: false });
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
        check_usage("/open", "/open N|@NAME|ID");
        check("/shout hi", Line::Unknown("/shout hi".into()));
        check("/quit", Line::Quit);
    }

    #[test]
    fn a_group_is_changed_by_commands() {
        check("/title Board  games ", Line::Title("Board  games".into()));
        check_usage("/title ", "/title TEXT");
        check("/topic on Fridays", Line::Topic("on Fridays".into()));
        check("/topic", Line::Topic(String::new()));
        check("/role @ben admin", Line::Role { username: "ben".into(), role: Role::Admin });
        for text in ["/role @ben", "/role @ben king", "/role @ben admin now"] {
            check_usage(text, "/role @NAME owner|admin|member");
        }
        check_usage("/delete-group now", "/delete-group");
        check("/delete-group", Line::DeleteGroup);
        check("/mute", Line::Mute(Mute::ForGood));
        check("/mute 8", Line::Mute(Mute::Hours(8)));
        check("/unmute", Line::Mute(Mute::Off));
        check("/archive", Line::Archive(true));
        check("/draft I wi", Line::Draft("I wi".to_owned()));
        check("/draft", Line::Draft(String::new()));
        check("/later 5 see you", Line::Later { minutes: 5, body: "see you".to_owned() });
        check("/disappear 60", Line::Disappear { seconds: 60 });
        check("/scheduled", Line::Scheduled);
        check("/send-now 1", Line::Unschedule { number: 1, is_sent: true });
        check("/cancel 2", Line::Unschedule { number: 2, is_sent: false });
        for text in ["/later 5", "/later soon see you", "/cancel it"] {
            assert!(matches!(parse(text), Line::Incomplete(_)), "{text}");
        }
        check("/unfavourite", Line::Favourite(false));
        check_usage("/mute long", "/mute [HOURS]");
    }

    #[test]
    fn what_is_written_to_many_or_about_many_is_read() {
        let Line::Post(Post::Text { body, silent, .. }) = parse("/silent good night ") else { panic!() };
        assert_eq!((body.as_str(), silent), ("good night", true));
        check_usage("/silent", "/silent TEXT");
        check("/call admins help, please", Line::Call(Call::Admins, "help, please".into()));
        check("/call here lunch?", Line::Call(Call::Here, "lunch?".into()));
        for text in ["/call", "/call here", "/call members hi"] {
            check_usage(text, "/call admins|here|all TEXT");
        }
        check("/file two cats.jpg ", Line::File("two cats.jpg".into()));
        check_usage("/file", "/file PATH");
        check("/save 7", Line::Save { seq: 7, folder: ".".into() });
        check("/save 7 my pictures", Line::Save { seq: 7, folder: "my pictures".into() });
        for text in ["/save", "/save it"] {
            check_usage(text, "/save N [FOLDER]");
        }
        check("/forward 7 @ben", Line::Forward { seq: 7, to: "@ben".into() });
        check_usage("/forward 7", "/forward N CHAT");
        let range = |username: Option<&str>| Line::DeleteRange {
            from_seq: 7,
            to_seq: 9,
            username: username.map(str::to_owned),
        };
        check("/delete-range 7 9", range(None));
        check("/delete-range 7 9 @ben", range(Some("ben")));
        check_usage("/delete-range 7", "/delete-range N N [@NAME]");
        check("/pins", Line::Pins);
        check("/replies 7", Line::Replies(7));
        check_usage("/replies", "/replies N");
        check("/since 24", Line::Since(24));
        check_usage("/since yesterday", "/since HOURS");
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
            assert!(usage.text.starts_with(&format!("{name} N")), "{text}: {usage}");
        }
    }
}
