//! Arguments of the process.

use std::path::PathBuf;

use kit::{
    catalog::INDEX_FOLDER,
    config::{KafkaArgs, TrustArgs, secret},
};
use secrecy::SecretString;

use crate::store::Server;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Folder of the index, of this process alone. Without one, and without `--opensearch-url`, the index is in memory, and is built again with each
    /// start.
    #[arg(long, env, conflicts_with = "opensearch_url")]
    pub index_folder: Option<PathBuf>,
    /// Bytes that the folder may hold. An index is built again beside the one that is searched only while that one has a third of them at most.
    #[arg(long, env, default_value_t = INDEX_FOLDER.size_limit_bytes())]
    pub index_limit_bytes: u64,
    #[command(flatten)]
    pub opensearch: OpenSearchArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// The search engine of the cell.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OpenSearchArgs {
    /// URL of OpenSearch. With it the index is there, and all processes of the tenant share it.
    #[arg(
        long,
        env,
        requires = "opensearch_index",
        requires = "opensearch_username",
        requires = "opensearch_password"
    )]
    pub opensearch_url: Option<String>,
    /// What the names of the tenant's indices begin with.
    #[arg(long, env)]
    pub opensearch_index: Option<String>,
    /// Copies of an index beside the first one, for indices that are made from now on.
    #[arg(long, env, default_value_t = 1)]
    pub opensearch_replicas: u32,
    /// The tenant's account. OpenSearch without its security plugin does not look at it.
    #[arg(long, env, hide = true)]
    pub opensearch_username: Option<String>,
    #[arg(long, env, hide = true, hide_env_values = true, value_parser = secret)]
    pub opensearch_password: Option<SecretString>,
}

impl OpenSearchArgs {
    /// Returns the server with the index, if it is on one.
    pub(crate) fn server(self, ca_bundle: Option<String>) -> Option<Server> {
        Some(Server {
            url: self.opensearch_url?,
            index: self.opensearch_index?,
            replicas: self.opensearch_replicas,
            username: self.opensearch_username?,
            password: self.opensearch_password?,
            ca_bundle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_shows_no_password() {
        let arguments = OpenSearchArgs {
            opensearch_url: Some("http://search:9200".to_owned()),
            opensearch_index: Some("mt-acme".to_owned()),
            opensearch_username: Some("mt-acme".to_owned()),
            opensearch_password: Some("hunter2".into()),
            ..OpenSearchArgs::default()
        };
        let server = arguments.server(None).expect("a server");
        assert!(!format!("{server:?}").contains("hunter2"));
        assert!(OpenSearchArgs::default().server(None).is_none(), "the index is in the process");
    }
}
