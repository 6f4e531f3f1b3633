//! How children are addressed at the API server, and how its refusals read.

use kube::{Api, Client, core::DynamicObject};

use crate::{desired::Kind, text::one_line};

/// Returns the API of one kind of children in a namespace.
pub(crate) fn children(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.api_resource())
}

/// Returns the API server's message, on one line.
pub(crate) fn server_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => one_line(&status.message),
        other => one_line(other),
    }
}
