//! What the operator asks of the API server.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

/// A request, as far as it decides anything.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub method: String,
    pub kind: String,
    pub namespace: String,
    /// Empty where it is about all objects of a kind.
    pub name: String,
    pub is_status: bool,
    pub is_apply: bool,
    pub wants_metadata: bool,
    pub query: BTreeMap<String, String>,
    pub body: Arc<Value>,
}
