//! Files that are sent from this machine, and saved to it.

use std::path::{Path, PathBuf};

use contracts::{ChatId, api::FilePurpose, wire::History};
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
            let file = identity.upload(FilePurpose::Chat(chat), &path).await?;
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

/// Fetches a file into a folder, under a name that no file has there. What is left of one that broke off is removed.
async fn fetch(identity: &Identity, of: &Attachment, folder: &Path) -> Result<PathBuf, ClientError> {
    let (mut file, path) = create(folder, &of.name)
        .await
        .map_err(|source| ClientError::Local { action: "save a file", source })?;
    match identity.download(of.file, &mut file).await {
        Ok(_) => Ok(path),
        Err(error) => {
            drop(fs::remove_file(&path).await);
            Err(error)
        }
    }
}

/// Creates a file under the name that its sender gave it, or one like it: never outside the folder, and never in place of another.
async fn create(folder: &Path, name: &str) -> std::io::Result<(fs::File, PathBuf)> {
    let mut number = 0;
    loop {
        let path = folder.join(numbered(&harmless(name), number));
        match fs::File::options().write(true).create_new(true).open(&path).await {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < MAX_NAMES => {
                number += 1
            }
            Err(error) => return Err(error),
        }
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
    use contracts::MessageKey;

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

    #[tokio::test]
    async fn a_file_takes_the_place_of_no_other() {
        let folder = std::env::temp_dir().join(format!("posthouse-{}", MessageKey::generate()));
        fs::create_dir(&folder).await.expect("a folder");
        for expected in ["a.txt", "a (1).txt", "a (2).txt"] {
            let (_, path) = create(&folder, "x/a.txt").await.expect("a file");
            assert_eq!(path, folder.join(expected));
        }
        fs::remove_dir_all(&folder).await.expect("it is removed");
    }
}
