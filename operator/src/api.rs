//! How children are addressed at the API server, and how its refusals read.

use kube::{Api, Client, core::DynamicObject};

use crate::desired::Kind;

/// Longest text of a server that an error quotes: it ends in a condition.
const MAX_SAID: usize = 300;

/// Returns the API of one kind of children in a namespace.
pub(crate) fn children(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.api_resource())
}

/// Returns what the API server answered, on one line.
pub(crate) fn said(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MAX_SAID).collect()
}
