//! Facts and poster frames of video and audio, where ffmpeg is there.
//!
//! ffmpeg reads files of users in processes of their own. Each has one file, one format that [`crate::sniff`] has recognized (a playlist
//! that names other files is none), a bound on its memory and its processor time from the system, and is killed when it is late or
//! when the request ends. A poster frame is a picture like an uploaded one: [`crate::pictures`] processes it.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

use crate::sniff::Kind;

/// Of one process, in kibibytes of its address space. A frame of 8K takes some 50 MiB, and decoders keep several.
const MEMORY_KIB: u32 = 2 * 1024 * 1024;
/// Seconds of the processor that one process may take.
const CPU_SECONDS: u32 = 20;
/// What ffprobe writes about a file: a few hundred bytes for each track.
const FACTS_BYTES: u64 = 256 * 1024;
/// The longer side of a poster frame, in pixels.
const POSTER_SIDE: u32 = 1_280;
/// A poster frame as JPEG.
const POSTER_BYTES: u64 = 8 * 1024 * 1024;
/// How far into a video its poster frame is: beyond a fade from black.
const POSTER_AT: Duration = Duration::from_secs(1);
/// Runs a program within bounds of the system: `sh -c LIMITED sh <KiB> <seconds> <program> <arguments>`.
const LIMITED: &str = r#"ulimit -v "$1" && ulimit -t "$2" && ulimit -c 0 && shift 2 && exec "$@""#;

/// What is known of a video or a sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub duration_ms: Option<u64>,
    /// Of the picture as it is shown, in pixels; `None` for sound.
    pub size: Option<[u32; 2]>,
}

/// Why there are no facts, or no poster frame.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    #[error("{program} cannot be run")]
    Run { program: &'static str, source: io::Error },
    #[error("{program} cannot read the file")]
    Unreadable { program: &'static str },
    #[error("{program} wrote more than expected")]
    TooMuch { program: &'static str },
    #[error("{program} took longer than {} s", .within.as_secs())]
    TookTooLong { program: &'static str, within: Duration },
    #[error("the file is neither video nor sound of a type that is read")]
    Unsupported,
}

/// The programs of ffmpeg.
#[derive(Clone, Debug)]
pub struct Tools {
    ffprobe: PathBuf,
    ffmpeg: PathBuf,
    within: Duration,
}

impl Tools {
    /// Returns the programs in one of these folders, the format of which is that of `PATH`; `None` where they are not. Each of
    /// them has this time for a file.
    pub fn find(folders: &OsStr, within: Duration) -> Option<Self> {
        std::env::split_paths(folders)
            .map(|folder| Self { ffprobe: folder.join("ffprobe"), ffmpeg: folder.join("ffmpeg"), within })
            .find(|tools| tools.ffprobe.is_file() && tools.ffmpeg.is_file())
    }

    /// Returns what is known of a file of this kind.
    ///
    /// # Errors
    ///
    /// The file is of another kind, damaged, or too much for its bounds.
    pub async fn facts(&self, path: &Path, kind: Kind) -> Result<Facts, VideoError> {
        let format = demuxer(kind).ok_or(VideoError::Unsupported)?;
        let mut arguments = input(format, path);
        arguments.extend(
            [
                "-show_entries",
                "format=duration:stream=codec_type,width,height,disposition:stream_side_data=rotation",
                "-of",
                "json",
            ]
            .map(OsString::from),
        );
        let written = self.run("ffprobe", &self.ffprobe, arguments, FACTS_BYTES).await?;
        let probed = serde_json::from_slice::<Probed>(&written);
        probed.map(Probed::facts).map_err(|_| VideoError::Unreadable { program: "ffprobe" })
    }

    /// Returns a frame near the beginning of a video as JPEG. `facts` are those of the file.
    ///
    /// # Errors
    ///
    /// The file is not a video, is damaged, or is too much for its bounds.
    pub async fn poster(&self, path: &Path, kind: Kind, facts: &Facts) -> Result<Bytes, VideoError> {
        let format = demuxer(kind).filter(|_| facts.size.is_some()).ok_or(VideoError::Unsupported)?;
        let duration = facts.duration_ms.map_or(Duration::ZERO, Duration::from_millis);
        let at = POSTER_AT.min(duration / 4);
        let scale = format!(
            "scale=w='min({POSTER_SIDE},iw)':h='min({POSTER_SIDE},ih)':force_original_aspect_ratio=decrease"
        );
        let mut arguments: Vec<OsString> = vec!["-ss".into(), format!("{:.3}", at.as_secs_f64()).into()];
        arguments.extend(input(format, path));
        let encoded = ["-an", "-sn", "-dn", "-frames:v", "1", "-vf", &scale];
        let output = ["-map_metadata", "-1", "-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe", "pipe:1"];
        arguments.extend(encoded.into_iter().chain(output).map(OsString::from));
        let frame = self.run("ffmpeg", &self.ffmpeg, arguments, POSTER_BYTES).await?;
        // Nothing was decoded, which ffmpeg does not call an error.
        if frame.is_empty() { Err(VideoError::Unreadable { program: "ffmpeg" }) } else { Ok(frame.into()) }
    }

    /// Runs a program, and returns what it writes.
    async fn run(
        &self,
        program: &'static str,
        path: &Path,
        arguments: Vec<OsString>,
        most_bytes: u64,
    ) -> Result<Vec<u8>, VideoError> {
        let failed = |source| VideoError::Run { program, source };
        let mut child = Command::new("/bin/sh")
            .args(["-c", LIMITED, "sh"])
            .args([MEMORY_KIB.to_string(), CPU_SECONDS.to_string()])
            .arg(path)
            .args(["-nostdin", "-hide_banner", "-v", "error"].into_iter().filter(|flag| {
                // Only the one that reads a terminal has it.
                program == "ffmpeg" || *flag != "-nostdin"
            }))
            .args(arguments)
            // Neither the secrets of this process nor settings of its environment.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It quotes the file, which is a user's.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let output = child.stdout.take().expect("its output is piped");
        let run = async {
            let written = read(output, most_bytes).await.map_err(failed)?;
            if written.len() as u64 > most_bytes {
                return Err(VideoError::TooMuch { program });
            }
            let status = child.wait().await.map_err(failed)?;
            if status.success() { Ok(written) } else { Err(VideoError::Unreadable { program }) }
        };
        let within = self.within;
        timeout(within, run).await.unwrap_or(Err(VideoError::TookTooLong { program, within }))
    }
}

/// Returns what the programs call the format of a kind.
fn demuxer(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Mp4 | Kind::QuickTime | Kind::M4a => Some("mov"),
        Kind::WebM => Some("matroska"),
        Kind::OggAudio => Some("ogg"),
        Kind::Mp3 => Some("mp3"),
        Kind::Aac => Some("aac"),
        Kind::Wav => Some("wav"),
        Kind::Flac => Some("flac"),
        Kind::Jpeg | Kind::Png | Kind::Gif | Kind::WebP => None,
        Kind::Pdf | Kind::Zip | Kind::Text | Kind::Markup | Kind::Ambiguous | Kind::Unknown => None,
    }
}

/// Returns the arguments that name a file, which is read by this format and from nowhere else.
fn input(format: &str, path: &Path) -> Vec<OsString> {
    let mut file = OsString::from("file:");
    file.push(path);
    let fixed = ["-protocol_whitelist", "file", "-f", format, "-i"];
    fixed.into_iter().map(OsString::from).chain([file]).collect()
}

async fn read(output: impl AsyncRead + Unpin, most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut written = Vec::new();
    output.take(most_bytes + 1).read_to_end(&mut written).await?;
    Ok(written)
}

/// What ffprobe writes.
#[derive(Deserialize)]
struct Probed {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize, Default)]
struct Format {
    /// Seconds: `6.023000`, or `N/A`.
    duration: Option<String>,
}

#[derive(Deserialize)]
struct Stream {
    codec_type: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
    #[serde(default)]
    disposition: Disposition,
}

#[derive(Deserialize)]
struct SideData {
    /// Degrees.
    rotation: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Disposition {
    /// One for the cover of a sound.
    #[serde(default)]
    attached_pic: u8,
}

impl Probed {
    fn facts(self) -> Facts {
        let seconds = self.format.duration.and_then(|text| text.parse::<f64>().ok());
        // Beyond a year, or below nothing, is a lie of the file.
        let seconds = seconds.filter(|seconds| (0.0..=31_536_000.0).contains(seconds));
        let is_video = |stream: &&Stream| {
            stream.codec_type.as_deref() == Some("video") && stream.disposition.attached_pic == 0
        };
        let size = self.streams.iter().find(is_video).and_then(|stream| {
            let size =
                [stream.width.filter(|width| *width > 0)?, stream.height.filter(|height| *height > 0)?];
            let rotation = stream.side_data_list.iter().find_map(|data| data.rotation).unwrap_or_default();
            let is_turned = (rotation / 90.0).round().rem_euclid(2.0) == 1.0;
            Some(if is_turned { [size[1], size[0]] } else { size })
        });
        Facts { duration_ms: seconds.map(|seconds| (seconds * 1000.0).round() as u64), size }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        sync::atomic::{AtomicU32, Ordering},
    };

    use kit::testing::wait_for;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A folder with programs that stand in for those of ffmpeg.
    struct Folder(PathBuf);

    impl Folder {
        fn new(ffprobe: &str, ffmpeg: &str) -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let folder =
                std::env::temp_dir().join(format!("posthouse-video-{}-{number}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            for (name, script) in [("ffprobe", ffprobe), ("ffmpeg", ffmpeg)] {
                let path = folder.join(name);
                fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self(folder)
        }

        fn tools(&self, within: Duration) -> Tools {
            Tools::find(self.0.as_os_str(), within).expect("both programs")
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn probed(text: &str) -> Facts {
        serde_json::from_str::<Probed>(text).unwrap().facts()
    }

    #[test]
    fn facts_are_of_what_is_shown() {
        let cases = [
            (
                r#"{"streams":[{"codec_type":"audio"},{"codec_type":"video","width":1920,"height":1080}],"format":{"duration":"6.0234"}}"#,
                Facts { duration_ms: Some(6_023), size: Some([1_920, 1_080]) },
            ),
            (
                r#"{"streams":[{"codec_type":"video","width":1920,"height":1080,"side_data_list":[{},{"rotation":-90}]}],"format":{}}"#,
                Facts { duration_ms: None, size: Some([1_080, 1_920]) },
            ),
            (
                r#"{"streams":[{"codec_type":"video","width":20,"height":10,"side_data_list":[{"rotation":180}]}],"format":{"duration":"N/A"}}"#,
                Facts { duration_ms: None, size: Some([20, 10]) },
            ),
            (
                r#"{"streams":[{"codec_type":"audio"},{"codec_type":"video","width":500,"height":500,"disposition":{"attached_pic":1}}],"format":{"duration":"180"}}"#,
                Facts { duration_ms: Some(180_000), size: None },
            ),
            (
                r#"{"streams":[{"codec_type":"video","width":0,"height":10}],"format":{"duration":"-1"}}"#,
                Facts::default(),
            ),
            (r#"{"format":{"duration":"1e300"}}"#, Facts::default()),
            (r#"{"format":{"duration":"NaN"}}"#, Facts::default()),
            ("{}", Facts::default()),
        ];
        for (text, expected) in cases {
            assert_eq!(probed(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_program_gets_one_file_one_format_and_no_environment() {
        let folder = Folder::new(
            r#"printf '%s\n' "$@" > "$(dirname "$0")/arguments"
env | grep -v -e '^PWD=' -e '^_=' -e '^SHLVL=' -e '^OLDPWD=' > "$(dirname "$0")/environment"
ulimit -v > "$(dirname "$0")/memory"
echo '{"format":{"duration":"2.5"}}'"#,
            "exit 1",
        );
        let path = folder.path("-i http:__evil.m4a");
        let facts = folder.tools(PATIENCE).facts(&path, Kind::M4a).await.unwrap();
        assert_eq!(facts, Facts { duration_ms: Some(2_500), size: None });
        let read = |name: &str| fs::read_to_string(folder.path(name)).unwrap();
        let arguments = read("arguments");
        let arguments: Vec<&str> = arguments.lines().collect();
        let file = format!("file:{}", path.display());
        let expected = ["-protocol_whitelist", "file", "-f", "mov", "-i", &file];
        assert!(arguments.windows(expected.len()).any(|window| window == expected), "{arguments:?}");
        assert_eq!(read("environment"), "");
        assert_eq!(read("memory").trim(), MEMORY_KIB.to_string());
    }

    #[tokio::test]
    async fn a_poster_is_what_ffmpeg_writes_of_a_video() {
        let folder = Folder::new("exit 1", r#"printf '%s ' "$@" > "$(dirname "$0")/arguments"; printf jpeg"#);
        let tools = folder.tools(PATIENCE);
        let path = folder.path("clip.mp4");
        for (duration_ms, at) in
            [(Some(60_000), "-ss 1.000 "), (Some(2_000), "-ss 0.500 "), (None, "-ss 0.000 ")]
        {
            let facts = Facts { duration_ms, size: Some([320, 240]) };
            assert_eq!(&tools.poster(&path, Kind::Mp4, &facts).await.unwrap()[..], b"jpeg");
            let arguments = fs::read_to_string(folder.path("arguments")).unwrap();
            assert!(arguments.contains(at), "{arguments}");
        }
        let error = tools.poster(&path, Kind::Mp4, &Facts::default()).await.unwrap_err();
        assert!(matches!(error, VideoError::Unsupported), "sound has no frame: {error:?}");
    }

    #[tokio::test]
    async fn a_program_that_fails_or_writes_nothing_says_that_the_file_cannot_be_read() {
        let folder = Folder::new("echo '{}'; exit 1", "exit 0");
        let (tools, path) = (folder.tools(PATIENCE), folder.path("clip.webm"));
        let error = tools.facts(&path, Kind::WebM).await.unwrap_err();
        assert!(matches!(error, VideoError::Unreadable { program: "ffprobe" }), "{error:?}");
        let facts = Facts { duration_ms: None, size: Some([1, 1]) };
        let error = tools.poster(&path, Kind::WebM, &facts).await.unwrap_err();
        assert!(matches!(error, VideoError::Unreadable { program: "ffmpeg" }), "{error:?}");
    }

    #[tokio::test]
    async fn a_program_that_writes_without_end_is_stopped() {
        let folder = Folder::new("while :; do echo '{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{'; done", "exit 1");
        let error = folder.tools(PATIENCE).facts(&folder.path("a"), Kind::Mp3).await.unwrap_err();
        assert!(matches!(error, VideoError::TooMuch { program: "ffprobe" }), "{error:?}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let folder = Folder::new(
            r#"cd "$(dirname "$0")" && echo $$ > pid.new && mv pid.new pid && read -r _ < pipe"#,
            "exit 1",
        );
        create_pipe(&folder.path("pipe"));
        let tools = folder.tools(Duration::from_secs(5));
        let error = tools.facts(&folder.path("a"), Kind::Wav).await.unwrap_err();
        assert!(matches!(error, VideoError::TookTooLong { program: "ffprobe", .. }), "{error:?}");
        let pid = fs::read_to_string(folder.path("pid")).expect("it ran");
        let process = PathBuf::from("/proc").join(pid.trim());
        let is_gone = || async {
            // Killed and not yet collected, or gone.
            let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        };
        wait_for("the end of the process", PATIENCE, is_gone).await;
    }

    /// Creates a pipe that no process writes to.
    fn create_pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    }

    #[tokio::test]
    async fn pictures_and_playlists_are_not_given_to_ffmpeg() {
        let folder = Folder::new("exit 0", "exit 0");
        let tools = folder.tools(PATIENCE);
        for kind in Kind::ALL.into_iter().filter(|kind| demuxer(*kind).is_none()) {
            let error = tools.facts(&folder.path("a"), kind).await.unwrap_err();
            assert!(matches!(error, VideoError::Unsupported), "{kind:?}");
        }
        assert_eq!(crate::sniff::sniff(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"), Kind::Text);
        assert_eq!(crate::sniff::sniff(b"ffconcat version 1.0\nfile /etc/passwd\n"), Kind::Text);
    }

    #[test]
    fn programs_are_looked_for_in_all_folders() {
        let folder = Folder::new("exit 0", "exit 0");
        let both = std::env::join_paths([Path::new("/nonexistent"), &folder.0]).unwrap();
        assert!(Tools::find(&both, PATIENCE).is_some());
        assert!(Tools::find(OsStr::new("/nonexistent"), PATIENCE).is_none());
    }
}
