//! What the service reads from its command line.

use clap::{Args, value_parser};
use kit::{
    catalog::{FILE_BYTES, MEDIA_BYTES},
    config::{KafkaArgs, PostgresArgs, S3Args},
};

use crate::domain::{LARGEST_FILE_BYTES, Quotas};

/// What a tenant has that says nothing of it, as the database counts it.
const DEFAULT_QUOTA_BYTES: i64 = MEDIA_BYTES.cast_signed();
/// Likewise.
const DEFAULT_FILE_BYTES: i64 = FILE_BYTES.cast_signed();

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
    pub limits: Limits,
    /// `host:port` of a daemon that speaks the protocol of ClamAV. With one, every file is scanned before a user reads it, and none is read
    /// while the daemon is down.
    #[arg(long, env)]
    pub clamd: Option<String>,
}

/// How much users may keep.
#[derive(Clone, Copy, Debug, Args)]
pub struct Limits {
    /// How many bytes the files of all users may have together.
    #[arg(long, env, default_value_t = DEFAULT_QUOTA_BYTES, value_parser = value_parser!(i64).range(1..))]
    pub media_quota_bytes: i64,
    /// How many bytes the files of one user may have together. Default: as many as those of all.
    #[arg(long, env, value_parser = value_parser!(i64).range(1..))]
    pub user_quota_bytes: Option<i64>,
    /// How many bytes one file may have. More than 5 GiB are as good as 5 GiB: what the object store copies with one request.
    #[arg(long, env, default_value_t = DEFAULT_FILE_BYTES, value_parser = value_parser!(i64).range(1..))]
    pub max_file_bytes: i64,
}

impl From<Limits> for Quotas {
    fn from(limits: Limits) -> Self {
        Self {
            tenant_bytes: limits.media_quota_bytes,
            user_bytes: limits.user_quota_bytes.unwrap_or(limits.media_quota_bytes),
            file_bytes: limits.max_file_bytes.min(LARGEST_FILE_BYTES),
        }
    }
}
