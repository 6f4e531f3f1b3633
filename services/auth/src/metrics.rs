//! What this service counts. Names get the prefix `posthouse_auth_`.

use std::fmt::{self, Write as _};

use kit::traces::{Outcome, TracedHistogram, timed};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, histogram::exponential_buckets},
    registry::{Registry, Unit},
};

use crate::error::Error;

/// What a client signs in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Password,
    /// A code that an external identity provider led to.
    Provider,
    /// A refresh token: the session goes on.
    Refresh,
}

impl EncodeLabelValue for Way {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Password => "password",
            Self::Provider => "provider",
            Self::Refresh => "refresh",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignInLabels {
    way: Way,
    outcome: &'static str,
}

/// The figures of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    sign_in_seconds: Family<SignInLabels, TracedHistogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        // 1 ms (a refusal) to 16 s, beyond the time that the realm has.
        let seconds = || TracedHistogram::new(exponential_buckets(0.001, 2.0, 15));
        let sign_in_seconds: Family<SignInLabels, TracedHistogram> = Family::new_with_constructor(seconds);
        // There from the start, so that the first one is an increase.
        for way in [Way::Password, Way::Provider, Way::Refresh] {
            let labels = SignInLabels { way, outcome: Outcome::Answered.as_str() };
            drop(sign_in_seconds.get_or_create(&labels));
        }
        Self { sign_in_seconds }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "sign_in",
            "Time until a client has tokens or is refused, by what it signs in with and how that ended",
            Unit::Seconds,
            self.sign_in_seconds.clone(),
        );
    }

    /// Signs in, and counts how that ends.
    pub(crate) fn sign_in<T>(
        &self,
        way: Way,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        let outcome_of = |result: &Result<T, Error>| match result {
            Ok(_) => Outcome::Answered,
            Err(error) => error.outcome(),
        };
        timed(work, outcome_of, move |timing| {
            let labels = SignInLabels { way, outcome: timing.outcome.as_str() };
            self.sign_in_seconds.get_or_create(&labels).observe(timing.took, timing.of);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::Arc,
        time::Duration,
    };

    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::store::StoreError;

    #[tokio::test]
    async fn a_wrong_password_is_no_fault_of_ours_and_a_realm_without_room_is() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        for (way, result) in [
            (Way::Password, Ok(())),
            (Way::Password, Err(StoreError::Rejected.into())),
            (Way::Password, Err(Error::Limited(Duration::from_secs(3)))),
            (Way::Password, Err(Error::Busy)),
            (Way::Password, Err(StoreError::Unable { step: "sign in", status: 503 }.into())),
            (Way::Provider, Err(Error::Shared(Arc::new(Error::Busy)))),
            (Way::Refresh, Err(Error::Shared(Arc::new(StoreError::InvalidRefreshToken.into())))),
        ] {
            drop(metrics.sign_in(way, ready(result)).await);
        }
        drop(metrics.sign_in(Way::Refresh, pending::<Result<(), Error>>()));

        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        for (way, outcome, count) in [
            ("password", "answered", 1),
            ("password", "refused", 2),
            ("password", "failed", 2),
            ("provider", "failed", 1),
            ("refresh", "refused", 1),
            ("refresh", "abandoned", 1),
        ] {
            let labels = format!(r#"{{way="{way}",outcome="{outcome}"}}"#);
            let line = format!("sign_in_seconds_count{labels} {count}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
}
