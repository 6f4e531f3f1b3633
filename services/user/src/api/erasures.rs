//! `/api/users/erasures`: receipts of deleted accounts.

use std::sync::Arc;

use axum::extract::State;
use chrono::{TimeDelta, Utc};
use contracts::api::{ErasureReceipt, Problem, ReceiptToken};
use kit::{
    docs::{FaultProblems, ParameterProblems},
    error::ApiError,
    extract::{Json, Path},
};
use sha2::{Digest as _, Sha256};

use crate::{
    domain::{RECEIPT_DAYS, ReceiptHash},
    error::Error,
    store::ProfileStore,
};

/// Returns what of a deleted account is erased, and when.
///
/// The deletion of the account gave the receipt, which is all that is needed: there is no account any more. It names no user, and is shown
/// for 90 days. Once all is done its times are days, by UTC, so that they tell nobody whose it is.
#[utoipa::path(
    get,
    path = "/api/users/erasures/{receipt}",
    operation_id = "get_erasure",
    tag = "erasures",
    params(("receipt" = inline(ReceiptToken), Path, description = "What the deletion of the account gave")),
    responses(
        (status = OK, description = "How far it has come", body = ErasureReceipt),
        (status = NOT_FOUND, description = "not_found (there is no such receipt, or it is older)", body = Problem,
            content_type = "application/problem+json"),
        ParameterProblems,
        FaultProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the age of a receipt")]
pub(super) async fn get(
    State(store): State<Arc<dyn ProfileStore>>,
    Path(receipt): Path<String>,
) -> Result<Json<ErasureReceipt>, ApiError> {
    let hash = ReceiptHash(Sha256::digest(receipt).into());
    let since = Utc::now() - TimeDelta::days(RECEIPT_DAYS);
    let erasure = store.erasure(hash).await.map_err(Error::from)?;
    let erasure = erasure.filter(|erasure| erasure.began_at > since).ok_or(Error::NoReceipt)?;
    Ok(Json(erasure.receipt()))
}
