//! Pure: what a Prometheus says of what the users of a cell's tenants do and store, and what of it their status shows.
//!
//! Invariant: a figure that moves by less than its step moves no status.

use std::collections::BTreeMap;

use crds::Usage;

use crate::sample::Sample;

/// A figure that is shown stays while the measured one is nearer than this part of it. Users come and go; files stay.
const STEP_OF_USERS: f64 = 0.25;
const STEP_OF_BYTES: f64 = 0.05;
/// Or nearer than this, but for the first and the last.
const NEAR: f64 = 2.0;
/// More is none of a tenant: an exabyte.
const MAX: f64 = 1e18;

/// What a Prometheus answered, by tenant.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    connections: BTreeMap<String, f64>,
    messages: BTreeMap<String, f64>,
    media_bytes: BTreeMap<String, f64>,
}

impl Counts {
    /// Reads three answers. What does not belong to a tenant for which `is_ours` is true is left out.
    pub fn new(
        connections: Vec<Sample>,
        messages: Vec<Sample>,
        media_bytes: Vec<Sample>,
        is_ours: impl Fn(&str) -> bool,
    ) -> Self {
        let by_tenant = |samples: Vec<Sample>| -> BTreeMap<String, f64> {
            let figure = |sample: Sample| {
                let figure = sample.number().filter(|figure| (0.0..=MAX).contains(figure))?;
                is_ours(sample.tenant()).then(|| (sample.tenant().to_owned(), figure))
            };
            samples.into_iter().filter_map(figure).collect()
        };
        Self {
            connections: by_tenant(connections),
            messages: by_tenant(messages),
            media_bytes: by_tenant(media_bytes),
        }
    }

    /// Returns the usage of a tenant, if anything is known of it; `shown` is the one in its status.
    pub fn of(&self, tenant_id: &str, shown: Option<&Usage>) -> Option<Usage> {
        let figure = |figures: &BTreeMap<String, f64>, before: Option<i64>, step: f64| {
            figures.get(tenant_id).map(|figure| in_steps(*figure, before, step))
        };
        let before = shown.cloned().unwrap_or_default();
        let usage = Usage {
            connections: figure(&self.connections, before.connections, STEP_OF_USERS),
            messages_per_hour: figure(&self.messages, before.messages_per_hour, STEP_OF_USERS),
            media_bytes: figure(&self.media_bytes, before.media_bytes, STEP_OF_BYTES),
        };
        (usage != Usage::default()).then_some(usage)
    }
}

/// Returns a figure in two digits, or the one `before` while that is near.
fn in_steps(figure: f64, before: Option<i64>, step: f64) -> i64 {
    let is_near = |before: &i64| {
        let shown = *before as f64;
        (*before == 0) == (figure < 0.5) && (figure - shown).abs() < (shown * step).max(NEAR)
    };
    before.filter(is_near).unwrap_or_else(|| {
        let digits_behind = (figure.max(1.0).log10().floor() as i32 - 1).max(0);
        let unit = 10_f64.powi(digits_behind);
        ((figure / unit).round() * unit) as i64
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn samples(of: &[(&str, &str)]) -> Vec<Sample> {
        let sample =
            |(tenant, value): &(&str, &str)| json!({"metric": {"tenant": tenant}, "value": [1.5, value]});
        serde_json::from_value(of.iter().map(sample).collect()).expect("samples")
    }

    #[test]
    fn a_tenant_has_the_figures_that_are_known() {
        let connections = samples(&[("acme", "1234"), ("globex", "NaN"), ("stranger", "5")]);
        let messages = samples(&[("acme", "0"), ("globex", "-1")]);
        let media_bytes = samples(&[("acme", "1073741824"), ("globex", "1e300")]);
        let counts = Counts::new(connections, messages, media_bytes, |tenant| tenant != "stranger");
        let expected =
            Usage { connections: Some(1200), messages_per_hour: Some(0), media_bytes: Some(1_100_000_000) };
        assert_eq!(counts.of("acme", None), Some(expected));
        assert_eq!((counts.of("globex", None), counts.of("stranger", None)), (None, None));
    }

    #[test]
    fn a_figure_is_shown_in_steps_and_moves_when_it_is_a_whole_step_away() {
        for (figure, before, step, expected) in [
            (0.2, None, 0.25, 0),
            (7.4, None, 0.25, 7),
            (99.6, None, 0.25, 100),
            (1549.0, None, 0.25, 1500),
            (1240.0, Some(1000), 0.25, 1000),
            (1260.0, Some(1000), 0.25, 1300),
            (1060.0, Some(1000), 0.05, 1100),
            // A few more or less are no news, and none at all is.
            (4.0, Some(3), 0.25, 3),
            (0.0, Some(1), 0.25, 0),
            (1.0, Some(0), 0.25, 1),
        ] {
            assert_eq!(in_steps(figure, before, step), expected, "{figure} after {before:?}");
        }
    }
}
