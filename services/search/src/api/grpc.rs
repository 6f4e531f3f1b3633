//! `posthouse.v1.SearchIndex`, for administrators.

use std::sync::Arc;

use contracts::rpc::{
    GetIndexRequest, GetIndexResponse, IndexGeneration, RebuildRequest, RebuildResponse,
    search_index_server::SearchIndex,
};
use tonic::{Request, Response, Status, async_trait};

use crate::events::Standing;

/// The index of this process.
pub struct IndexRpc {
    standing: Arc<Standing>,
}

impl IndexRpc {
    pub fn new(standing: Arc<Standing>) -> Self {
        Self { standing }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
impl SearchIndex for IndexRpc {
    async fn rebuild(&self, _: Request<RebuildRequest>) -> Result<Response<RebuildResponse>, Status> {
        self.standing.rebuild();
        Ok(Response::new(RebuildResponse {}))
    }

    async fn get_index(&self, _: Request<GetIndexRequest>) -> Result<Response<GetIndexResponse>, Status> {
        let standing = &self.standing;
        let generation =
            |(complete, percent): (bool, u8)| IndexGeneration { complete, percent: percent.into() };
        let served = generation((standing.is_complete(), standing.percent()));
        Ok(Response::new(GetIndexResponse { served: Some(served), next: standing.next().map(generation) }))
    }
}
