//! Files that are sent from this machine, and saved to it.

use std::{
    io,
    path::{Path, PathBuf},
};

use contracts::{ChatId, MessageKey, api::FilePurpose, wire::History};
use futures_util::future::BoxFuture;
use posthouse_client::{Attachment, ClientError, Identity, Post};
use tokio::fs;

use super::{Room, shown};
use crate::{
    failure::{Exit, Failure},
    output,
};

/// What is left to send, if anything, once a transfer is over.
pub(super) type Transferred = Result<Option<(ChatId, Post)>, Failure>;

/// Names that are tried for a file before it is given up: `a.txt`, `a (1).txt`, ...
const MAX_NAMES: u32 = 100;

impl Room {
    /// Uploads a file for a chat. It is sent once the messenger has taken it.
    pub(super) fn send_file(&self, chat: ChatId, path: PathBuf) -> BoxFuture<'static, Transferred> {
        let identity = self.identity.clone();
        self.note(&format!("uploading {}", path.display()));
        Box::pin(async move {
            let metadata = fs::metadata(&path).await.map_err(|error| unreadable(&path, &error))?;
            if metadata.is_file() && metadata.len() == 0 {
                let what = format!("{} was not sent: the file is empty", path.display());
                return Err(Failure::new(Exit::Refused, what, "send a file with something in it"));
            }
            let file = identity.upload(FilePurpose::Chat(chat), &path).await;
            let file = file.map_err(|error| match error {
                ClientError::Local { source, .. } => unreadable(&path, &source),
                error => Failure::of_optional("media", "files", error),
            })?;
            Ok(Some((chat, Post::files("", vec![file.id]))))
        })
    }

    /// Writes the files of a message into a folder.
    pub(super) async fn save(
        &self,
        chat: ChatId,
        seq: i64,
        folder: PathBuf,
    ) -> Result<BoxFuture<'static, Transferred>, Failure> {
        let query = History::after(chat, seq.saturating_sub(1).max(0), Some(1));
        let page = self
            .session
            .history(query)
            .await
            .map_err(|failure| Failure::new(Exit::Refused, failure.to_string(), "try again"))?;
        let message = page.messages.into_iter().find(|message| message.seq == seq);
        let files = message.map(|message| message.attachments).unwrap_or_default();
        if files.is_empty() {
            let next = "give the number of a message that shows a file";
            return Err(Failure::new(Exit::Refused, format!("message {seq} carries no files"), next));
        }
        let identity = self.identity.clone();
        Ok(Box::pin(async move {
            for file in &files {
                let path = fetch(&identity, file, &folder).await?;
                output::note(format!("saved {} as {}", shown::file(file), path.display()));
            }
            Ok(None)
        }))
    }
}

/// Says which file of this machine cannot be sent.
fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("{} cannot be read: {error}", path.display());
    Failure::new(
        Exit::Refused,
        what,
        "check the path, in which nothing is expanded, and that you may read it",
    )
}

/// Fetches a file into a folder, under a name that no file has there.
async fn fetch(identity: &Identity, of: &Attachment, folder: &Path) -> Result<PathBuf, ClientError> {
    let local = |source| ClientError::Local { action: "save a file", source };
    let (file, part) = Part::create(folder).map_err(local)?;
    let mut file = fs::File::from_std(file);
    identity.download(of.file, &mut file).await?;
    drop(file);
    part.keep(folder, &of.name).map_err(local)
}

/// A file that is not there as a whole yet. It has a name of its own, and is removed however its transfer ends, unless it is kept.
struct Part(PathBuf);

impl Part {
    /// Creates a file beside the one that it becomes. It is not cut off, as an `await` is, between the file and what removes it.
    fn create(folder: &Path) -> io::Result<(std::fs::File, Self)> {
        let path = folder.join(format!(".posthouse-{}.part", MessageKey::generate()));
        let file = std::fs::File::create_new(&path)?;
        Ok((file, Self(path)))
    }

    /// Names the file as its sender did, or nearly so: never outside the folder, and never in place of another.
    fn keep(self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        let mut number = 0;
        loop {
            let path = folder.join(numbered(&harmless(name), number));
            // A rename replaces what is there, so that has to be this program's own.
            match std::fs::File::create_new(&path) {
                Ok(_) => {
                    return match std::fs::rename(&self.0, &path) {
                        Ok(()) => Ok(path),
                        Err(error) => {
                            _ = std::fs::remove_file(&path);
                            Err(error)
                        }
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MAX_NAMES => {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // One that is kept has another name by now.
        _ = std::fs::remove_file(&self.0);
    }
}

/// Returns a name without a path, without what a terminal or a shell would obey, and that hides no file.
fn harmless(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown = |c: &char| !c.is_control() && !r#"<>:"|?*"#.contains(*c);
    let name: String = last.chars().filter(shown).collect();
    let name = name.trim_matches(|c: char| c == '.' || c.is_whitespace());
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

fn numbered(name: &str, number: u32) -> String {
    match (number, name.rsplit_once('.')) {
        (0, _) => name.to_owned(),
        (number, Some((stem, extension))) if !stem.is_empty() => format!("{stem} ({number}).{extension}"),
        (number, _) => format!("{name} ({number})"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_name_leads_to_no_other_folder_and_hides_nothing() {
        for (name, expected) in [
            ("two cats.jpg", "two cats.jpg"),
            ("../../etc/passwd", "passwd"),
            ("C:\\windows\\a.txt", "a.txt"),
            ("/", "file"),
            ("..", "file"),
            ("", "file"),
            (".bashrc", "bashrc"),
            ("a\u{1b}[2J\n.txt", "a[2J.txt"),
            ("a\0.txt", "a.txt"),
        ] {
            assert_eq!(harmless(name), expected, "{name:?}");
        }
    }

    #[test]
    fn a_file_takes_the_place_of_no_other_and_one_that_broke_off_is_removed() {
        let folder = std::env::temp_dir().join(format!("posthouse-{}", MessageKey::generate()));
        std::fs::create_dir(&folder).expect("a folder");
        for expected in ["a.txt", "a (1).txt", "a (2).txt"] {
            let (mut file, part) = Part::create(&folder).expect("a file");
            file.write_all(expected.as_bytes()).expect("it is written");
            let path = part.keep(&folder, "x/a.txt").expect("it is kept");
            assert_eq!(path, folder.join(expected));
        }
        drop(Part::create(&folder).expect("a file"));
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        assert_eq!(names, ["a (1).txt", "a (2).txt", "a.txt"]);
        for name in names {
            assert_eq!(std::fs::read_to_string(folder.join(&name)).expect("it is read"), name);
        }
        std::fs::remove_dir_all(&folder).expect("it is removed");
    }
}
