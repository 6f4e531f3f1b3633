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

/// Reports whether the API server does not know what was listed or watched: the kind is not installed.
pub(crate) fn is_unknown(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Reports whether the API server understood a request and refused it, so that repeating it soon changes nothing.
pub(crate) fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429)
}
