//! Kubernetes Events: what an administrator should see in `kubectl describe`. One that is not taken never fails a pass, and no pass
//! waits for it for long.

use std::{sync::Arc, time::Duration};

use crds::Reason;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::debug;

use crate::{
    config::OPERATOR_NAME,
    leader::Fence,
    metrics::Metrics,
    text::{cut, one_line},
    time_limit::within,
};

/// The server's bounds.
const MAX_NOTE: usize = 1000;
const MAX_ACTION: usize = 120;

/// How long a pass waits until an Event is taken: nothing depends on it.
const PUBLISH_LIMIT: Duration = Duration::from_secs(3);

/// Records Events about tenants and cells.
pub(crate) struct Events {
    recorder: Recorder,
    fence: Fence,
    metrics: Arc<Metrics>,
}

impl Events {
    pub fn new(client: Client, identity: &str, fence: Fence, metrics: Arc<Metrics>) -> Self {
        let instance = cut(identity, MAX_ACTION);
        let reporter = Reporter { controller: OPERATOR_NAME.to_owned(), instance: Some(instance) };
        Self { recorder: Recorder::new(client, reporter), fence, metrics }
    }

    /// Records that something went as it should.
    pub async fn normal(&self, object: &ObjectReference, reason: Reason, note: &str) {
        self.publish(object, EventType::Normal, reason, note).await;
    }

    /// Records that an administrator should look.
    pub async fn warning(&self, object: &ObjectReference, reason: Reason, note: &str) {
        self.publish(object, EventType::Warning, reason, note).await;
    }

    async fn publish(&self, object: &ObjectReference, type_: EventType, reason: Reason, note: &str) {
        if self.fence.check().is_err() {
            return;
        }
        self.metrics.wrote("kubernetes", "event");
        let event = Event {
            type_,
            reason: reason.to_string(),
            note: Some(cut(note, MAX_NOTE)),
            // Events of one reason and one action are counted as one: the note makes each repair its own.
            action: cut(note, MAX_ACTION),
            secondary: None,
        };
        let error = match within(PUBLISH_LIMIT, self.recorder.publish(&event, object)).await {
            Ok(Ok(())) => return,
            // A namespace that is being deleted takes no Events.
            Ok(Err(error)) => one_line(error),
            Err(late) => late.to_string(),
        };
        debug!(error, "failed to record an Event: {note}");
    }
}

/// Returns what an Event points at.
pub(crate) fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    object.object_ref(&())
}
