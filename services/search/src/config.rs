//! Arguments of the process.

use std::path::PathBuf;

use kit::{catalog::INDEX_FOLDER, config::KafkaArgs};

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Folder of the index, of this process alone. Without one the index is in memory, and is built again with each start.
    #[arg(long, env)]
    pub index_folder: Option<PathBuf>,
    /// Bytes that the folder may hold. An index is built again beside the one that is searched only while that one has a third of them at most.
    #[arg(long, env, default_value_t = INDEX_FOLDER.size_limit_bytes())]
    pub index_limit_bytes: u64,
}
