//! What the service reads from its command line.

use std::path::PathBuf;

use clap::{Args, value_parser};
use kit::{
    catalog::{FILE_BYTES, MEDIA_BYTES},
    config::{KafkaArgs, PostgresArgs, S3Args, TrustArgs},
};

use crate::domain::{LARGEST_FILE_BYTES, Quotas};

/// What a tenant has that says nothing of it, as the database counts it.
const DEFAULT_QUOTA_BYTES: i64 = MEDIA_BYTES.cast_signed();
/// Likewise.
const DEFAULT_FILE_BYTES: i64 = FILE_BYTES.cast_signed();

/// What all users may have is by default so many times what one may have.
const USER_SHARES: i64 = 4;

/// Settings of the media service.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub postgres: PostgresArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub s3: S3Args,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub limits: Limits,
    /// `host:port` of a daemon that speaks the protocol of ClamAV. With one, every file is scanned before a user reads it, and none is read
    /// while the daemon is down.
    #[arg(long, env)]
    pub clamd: Option<String>,
    /// Where a film or a sound of up to 512 MiB is while ffmpeg reads it: a folder of this process alone, whose films of before are removed when it
    /// starts. Default: the folder of temporary files. Without ffmpeg on the path nothing is written there.
    #[arg(long, env)]
    pub film_folder: Option<PathBuf>,
}

/// How much users may keep.
#[derive(Clone, Copy, Debug, Args)]
pub struct Limits {
    /// How many bytes the files of all users may have together.
    #[arg(long, env, default_value_t = DEFAULT_QUOTA_BYTES, value_parser = value_parser!(i64).range(1..))]
    pub media_quota_bytes: i64,
    /// How many bytes the files of one user may have together. Default: a quarter of those of all, or one file of the largest
    /// size where that is more.
    #[arg(long, env, value_parser = value_parser!(i64).range(1..))]
    pub user_quota_bytes: Option<i64>,
    /// How many bytes one file may have. More than 5 GiB are as good as 5 GiB: what the object store copies with one request.
    #[arg(long, env, default_value_t = DEFAULT_FILE_BYTES, value_parser = value_parser!(i64).range(1..))]
    pub max_file_bytes: i64,
}

impl From<Limits> for Quotas {
    fn from(limits: Limits) -> Self {
        let tenant_bytes = limits.media_quota_bytes;
        let file_bytes = limits.max_file_bytes.min(LARGEST_FILE_BYTES);
        // What a user announces counts before a byte of it is sent, so with the whole quota one user could shut out all others.
        let share = (tenant_bytes / USER_SHARES).max(file_bytes);
        Self { tenant_bytes, user_bytes: limits.user_quota_bytes.unwrap_or(share), file_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let user_bytes = |media_quota_bytes, user_quota_bytes, max_file_bytes| {
            Quotas::from(Limits { media_quota_bytes, user_quota_bytes, max_file_bytes }).user_bytes
        };
        assert_eq!(user_bytes(4_000, None, 100), 1_000);
        assert_eq!(user_bytes(4_000, None, 3_000), 3_000, "room for one file of the largest size");
        assert_eq!(user_bytes(4_000, Some(4_000), 100), 4_000);
        assert_eq!(user_bytes(DEFAULT_QUOTA_BYTES, None, DEFAULT_FILE_BYTES), 2_560 << 20);
    }
}
