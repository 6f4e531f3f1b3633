//! Arguments of the process.

use std::path::PathBuf;

use kit::config::KafkaArgs;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Folder of the index, of this process alone. Without one the index is in memory, and is built again with each start.
    #[arg(long, env)]
    pub index_folder: Option<PathBuf>,
}
