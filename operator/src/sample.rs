//! One series of what a Prometheus answers. It is not believed to be well-formed.

use serde::Deserialize;

/// One series of an answer, at one moment.
#[derive(Debug, Deserialize)]
pub(crate) struct Sample {
    #[serde(default)]
    metric: Labels,
    /// When, and what.
    value: (f64, String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    tenant: String,
    slo: String,
}

impl Sample {
    /// Returns its value, if that is a finite number.
    pub fn number(&self) -> Option<f64> {
        self.value.1.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Returns the tenant that it is of, or nothing of that name.
    pub fn tenant(&self) -> &str {
        &self.metric.tenant
    }

    /// Returns the objective that it is of, or nothing of that name.
    pub fn objective(&self) -> &str {
        &self.metric.slo
    }
}
