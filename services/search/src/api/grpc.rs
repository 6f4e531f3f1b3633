//! `posthouse.v1.SearchIndex`, for administrators.

use std::sync::Arc;

use contracts::rpc::{
    GetIndexRequest, GetIndexResponse, IndexGeneration, RebuildRequest, RebuildResponse,
    search_index_server::SearchIndex,
};
use kit::error::chain;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    events::Standing,
    store::{Generations, IndexError},
};

/// The index of this process.
pub struct IndexRpc {
    standing: Arc<Standing>,
    generations: Arc<dyn Generations>,
}

impl IndexRpc {
    pub fn new(standing: Arc<Standing>, generations: Arc<dyn Generations>) -> Self {
        Self { standing, generations }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
impl SearchIndex for IndexRpc {
    async fn rebuild(&self, _: Request<RebuildRequest>) -> Result<Response<RebuildResponse>, Status> {
        // One that is built already is what is requested.
        if self.standing.next().is_none() {
            self.generations.check_room().await.map_err(|error| match error {
                IndexError::NoRoom { .. } | IndexError::NotLeading => {
                    Status::failed_precondition(error.to_string())
                }
                error => Status::internal(chain(&error)),
            })?;
        }
        self.standing.rebuild();
        Ok(Response::new(RebuildResponse {}))
    }

    async fn get_index(&self, _: Request<GetIndexRequest>) -> Result<Response<GetIndexResponse>, Status> {
        let standing = &self.standing;
        let generation =
            |(complete, percent): (bool, u8)| IndexGeneration { complete, percent: percent.into() };
        let served = generation((standing.is_complete(), standing.percent()));
        let (next, waits) = (standing.next().map(generation), standing.waits().unwrap_or_default());
        Ok(Response::new(GetIndexResponse { served: Some(served), next, waits }))
    }
}
