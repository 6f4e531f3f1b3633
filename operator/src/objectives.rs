//! Pure: what a Prometheus says of the objectives of a cell's tenants, and what of it their status shows.
//!
//! Which objectives there are, only the rules say that it has: none is named here. What it answers is not believed to be well-formed.
//!
//! Invariant: figures that are older than [`FRESH`] are shown nowhere, and one that moves by less than a step moves no status.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crds::{Objective, Reason, Usage};
use tokio::time::Instant;

use crate::{sample::Sample, status::Outcome, usage::Counts};

/// Rules record a budget every five minutes: after three times that nothing is known of it.
pub(crate) const FRESH: Duration = Duration::from_secs(900);
/// An answer that is older says nothing of who is connected. A Prometheus is asked every minute.
const CURRENT: Duration = Duration::from_secs(300);
/// Percent of a budget.
const STEP: i32 = 5;
/// More is no set of rules of ours.
const MAX_OBJECTIVES: usize = 16;
const MAX_NAME: usize = 40;

/// What a Prometheus answered about all tenants of a cell.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// The part of all events that is to be as it should, by objective.
    targets: BTreeMap<String, f64>,
    /// What is left of the budget, 1 of all, by tenant and objective.
    remaining: BTreeMap<(String, String), f64>,
    /// Whose budget goes too fast.
    burning: BTreeSet<(String, String)>,
    /// What users do and store.
    counts: Counts,
}

impl Figures {
    /// Reads three answers. What does not belong to a tenant for which `is_ours` is true is left out.
    pub fn new(
        targets: Vec<Sample>,
        remaining: Vec<Sample>,
        burning: Vec<Sample>,
        is_ours: impl Fn(&str) -> bool,
    ) -> Self {
        let target = |sample: Sample| {
            let target = sample.number().filter(|target| (0.0..=1.0).contains(target))?;
            is_name(sample.objective()).then(|| (sample.objective().to_owned(), target))
        };
        let targets: BTreeMap<_, _> = targets.into_iter().filter_map(target).collect();
        let targets: BTreeMap<_, _> = targets.into_iter().take(MAX_OBJECTIVES).collect();
        let key = |sample: &Sample| {
            let (tenant, objective) = (sample.tenant(), sample.objective());
            let is_known = targets.contains_key(objective) && is_ours(tenant);
            is_known.then(|| (tenant.to_owned(), objective.to_owned()))
        };
        let remaining =
            remaining.iter().filter_map(|sample| Some((key(sample)?, sample.number()?))).collect();
        let burning = burning.iter().filter_map(key).collect();
        Self { targets, remaining, burning, counts: Counts::default() }
    }

    /// Adds what users do and store.
    pub fn with(self, counts: Counts) -> Self {
        Self { counts, ..self }
    }

    /// Returns the objectives of a tenant; `shown` are those in its status.
    fn of(&self, tenant_id: &str, shown: &[Objective]) -> Vec<Objective> {
        let objective = |(name, target): (&String, &f64)| {
            let key = (tenant_id.to_owned(), name.clone());
            let before = shown.iter().find(|objective| objective.name == *name);
            let before = before.map(|objective| objective.budget_remaining_percent);
            Some(Objective {
                name: name.clone(),
                target: *target,
                budget_remaining_percent: in_steps(*self.remaining.get(&key)?, before),
                burning: self.burning.contains(&key),
            })
        };
        self.targets.iter().filter_map(objective).collect()
    }
}

fn is_name(text: &str) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase();
    let is_later = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
    text.len() <= MAX_NAME
        && text.as_bytes().first().is_some_and(is_first)
        && text.as_bytes().iter().all(is_later)
}

/// Returns a part of a budget in percent, in steps. One that lies near the one `before` stays as it was, so that what goes up and down
/// between two steps is written once.
fn in_steps(part: f64, before: Option<i32>) -> i32 {
    let percent = (part * 100.0).clamp(-100.0, 100.0);
    let is_near = |before: &i32| (percent - f64::from(*before)).abs() < f64::from(STEP);
    before.filter(is_near).unwrap_or_else(|| (percent / f64::from(STEP)).round() as i32 * STEP)
}

/// Why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub reason: Reason,
    /// What is wrong, and the next step.
    pub message: String,
}

/// What is known of the objectives of a cell's tenants.
#[derive(Debug)]
pub(crate) struct Known {
    /// Of the Prometheus that was asked.
    url: String,
    /// What it answered last, and when.
    figures: Option<(Instant, Figures)>,
    /// Why it did not answer since.
    failure: Option<Failure>,
}

impl Known {
    /// Adds what a Prometheus answered now to what was known before. A failure takes nothing away: figures stay until they are old.
    pub fn after(before: Option<Self>, url: &str, answer: Result<Figures, Failure>, now: Instant) -> Self {
        let url = url.to_owned();
        match answer {
            Ok(figures) => Self { url, figures: Some((now, figures)), failure: None },
            Err(failure) => {
                let before = before.filter(|before| before.url == url);
                Self { url, figures: before.and_then(|before| before.figures), failure: Some(failure) }
            }
        }
    }

    /// Returns what the status of a tenant says; `shown` is what it said before.
    pub fn objectives(&self, tenant_id: &str, shown: &[Objective], now: Instant) -> Vec<Objective> {
        self.fresh(now).map(|figures| figures.of(tenant_id, shown)).unwrap_or_default()
    }

    /// Returns the usage that the status of a tenant shows, likewise.
    pub fn usage(&self, tenant_id: &str, shown: Option<&Usage>, now: Instant) -> Option<Usage> {
        self.fresh(now).and_then(|figures| figures.counts.of(tenant_id, shown))
    }

    /// Returns how many clients are connected to a tenant, if that is known now: by an answer that no failure came after. What was so a few minutes ago ends no pod.
    pub fn connections(&self, tenant_id: &str, now: Instant) -> Option<i64> {
        let (at, figures) = self.figures.as_ref().filter(|_| self.failure.is_none())?;
        let is_current = now.duration_since(*at) < CURRENT;
        figures.counts.of(tenant_id, None).filter(|_| is_current)?.connections
    }

    /// Returns what was answered last, unless it is old.
    fn fresh(&self, now: Instant) -> Option<&Figures> {
        let figures = self.figures.as_ref().filter(|(at, _)| now.duration_since(*at) < FRESH);
        figures.map(|(_, figures)| figures)
    }

    /// Returns how the cell's part is.
    pub fn outcome(&self) -> Outcome {
        let url = &self.url;
        if let Some(Failure { reason, message }) = &self.failure {
            let kept = format!("what was said before is shown for {} minutes", FRESH.as_secs() / 60);
            // The next step stays the last.
            let message = match message.rsplit_once("; ") {
                Some((matter, next_step)) => format!("{matter}, and {kept}; {next_step}"),
                None => format!("{message}, and {kept}"),
            };
            return Outcome::retry(*reason, message);
        }
        let targets = self.figures.iter().flat_map(|(_, figures)| figures.targets.keys());
        let names: Vec<_> = targets.map(String::as_str).collect();
        if names.is_empty() {
            let message = format!(
                "Prometheus at {url} answers and has no objectives; load the rules of the operator's chart, monitoring.rules"
            );
            return Outcome::action_required(Reason::RulesMissing, message);
        }
        Outcome::good(Reason::Answered, format!("Prometheus at {url} knows {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn samples(samples: &[(Value, &str)]) -> Vec<Sample> {
        let sample = |(metric, value): &(Value, &str)| json!({"metric": metric, "value": [1.5, value]});
        serde_json::from_value(samples.iter().map(sample).collect()).expect("samples")
    }

    fn targets() -> Vec<Sample> {
        samples(&[(json!({"slo": "delivery"}), "0.999"), (json!({"slo": "commands"}), "0.99")])
    }

    fn of(tenant: &str, slo: &str) -> Value {
        json!({"tenant": tenant, "slo": slo})
    }

    /// What is left of the budget of acme's deliveries.
    fn delivery(remaining: &str) -> Figures {
        Figures::new(targets(), samples(&[(of("acme", "delivery"), remaining)]), Vec::new(), |_| true)
    }

    fn objective(name: &str, target: f64, budget_remaining_percent: i32, burning: bool) -> Objective {
        Objective { name: name.to_owned(), target, budget_remaining_percent, burning }
    }

    #[test]
    fn a_tenant_has_the_objectives_that_something_is_known_of() {
        let remaining = samples(&[
            (of("acme", "delivery"), "0.734"),
            (of("acme", "commands"), "-0.2"),
            (of("globex", "delivery"), "1"),
        ]);
        let burning = samples(&[(of("acme", "commands"), "1"), (of("globex", "commands"), "1")]);
        let figures = Figures::new(targets(), remaining, burning, |_| true);
        let expected = [objective("commands", 0.99, -20, true), objective("delivery", 0.999, 75, false)];
        assert_eq!(figures.of("acme", &[]), expected);
        assert_eq!(figures.of("globex", &[]), [objective("delivery", 0.999, 100, false)]);
        assert_eq!(figures.of("initech", &[]), []);
    }

    #[test]
    fn a_budget_is_shown_in_steps_and_moves_when_it_is_a_whole_step_away() {
        for (part, before, expected) in [
            (1.0, None, 100),
            (0.976, None, 100),
            (0.974, None, 95),
            (-0.012, None, 0),
            (-51.0, None, -100),
            (7.0, None, 100),
            (0.951, Some(100), 100),
            (0.949, Some(100), 95),
            (0.999, Some(95), 95),
            (1.0, Some(95), 100),
            (0.3, Some(100), 30),
        ] {
            assert_eq!(in_steps(part, before), expected, "{part} after {before:?}");
        }
        // What goes up and down between two steps is written once.
        let mut shown = delivery("0.77").of("acme", &[]);
        for remaining in ["0.772", "0.776", "0.771", "0.779", "0.75", "0.725"] {
            let now = delivery(remaining).of("acme", &shown);
            assert!(
                now.iter().all(|objective| objective.budget_remaining_percent == 75),
                "{remaining}: {now:?}"
            );
            shown = now;
        }
    }

    #[test]
    fn what_is_no_objective_of_a_tenant_of_the_cell_is_left_out() {
        let text = "x".repeat(MAX_NAME + 1);
        let mut hostile = targets();
        hostile.extend(samples(&[
            (json!({"slo": ""}), "0.9"),
            (json!({"slo": text}), "0.9"),
            (json!({"slo": "Ready: True\nall is well"}), "0.9"),
            (json!({"slo": "nan"}), "NaN"),
            (json!({"slo": "above"}), "1.5"),
            (json!({"slo": "text"}), "much"),
            (json!({}), "0.9"),
        ]));
        let remaining = samples(&[
            (of("acme", "delivery"), "+Inf"),
            (of("acme", "commands"), "0.5"),
            (of("acme", "above"), "0.5"),
            (of("stranger", "commands"), "0.5"),
        ]);
        let figures = Figures::new(hostile, remaining, Vec::new(), |tenant| tenant == "acme");
        assert_eq!(figures.of("acme", &[]), [objective("commands", 0.99, 50, false)]);
        assert_eq!(figures.of("stranger", &[]), []);
        // However many there are, a status stays small.
        let many: Vec<_> = (0..1000).map(|number| (json!({"slo": format!("slo-{number}")}), "0.9")).collect();
        assert_eq!(
            Figures::new(samples(&many), Vec::new(), Vec::new(), |_| true).targets.len(),
            MAX_OBJECTIVES
        );
    }

    #[test]
    fn figures_outlive_a_failure_for_a_quarter_of_an_hour() {
        let began = Instant::now();
        let url = "http://prometheus:9090";
        let message = "it is away; it is asked again";
        let failure = || Failure { reason: Reason::BackendUnavailable, message: message.to_owned() };
        let first = Known::after(None, url, Ok(delivery("1")), began);
        assert_eq!(first.outcome().message, "Prometheus at http://prometheus:9090 knows commands, delivery");
        let later = began + FRESH - Duration::from_secs(1);
        let away = Known::after(Some(first), url, Err(failure()), later);
        assert_eq!(away.outcome().reason, Reason::BackendUnavailable);
        let message = away.outcome().message;
        assert_eq!(
            message,
            "it is away, and what was said before is shown for 15 minutes; it is asked again"
        );
        assert_eq!(away.objectives("acme", &[], later), [objective("delivery", 0.999, 100, false)]);
        assert_eq!(away.objectives("acme", &[], began + FRESH), []);
        let back = Known::after(Some(away), url, Ok(delivery("0.5")), began + FRESH);
        assert_eq!(back.objectives("acme", &[], began + FRESH), [objective("delivery", 0.999, 50, false)]);
        // Of another Prometheus nothing is known yet.
        let moved = Known::after(Some(back), "http://other:9090", Err(failure()), began + FRESH);
        assert_eq!(moved.objectives("acme", &[], began + FRESH), []);
    }

    #[test]
    fn who_is_connected_is_known_by_the_last_answer_alone() {
        let (began, url) = (Instant::now(), "http://prometheus:9090");
        let connections = samples(&[(json!({"tenant": "acme"}), "0")]);
        let counts = Counts::new(connections, Vec::new(), Vec::new(), |_| true);
        let known = Known::after(None, url, Ok(Figures::default().with(counts)), began);
        assert_eq!(known.connections("acme", began), Some(0));
        assert_eq!(known.connections("globex", began), None);
        assert_eq!(known.connections("acme", began + CURRENT), None);
        let failure = Failure { reason: Reason::BackendUnavailable, message: "it is away".to_owned() };
        let away = Known::after(Some(known), url, Err(failure), began);
        assert_eq!(away.connections("acme", began), None, "a client may have come since");
        assert!(away.usage("acme", None, began).is_some(), "it is shown for longer");
    }

    #[test]
    fn a_prometheus_without_rules_is_reported_with_the_next_step() {
        let known = Known::after(None, "http://prometheus:9090", Ok(Figures::default()), Instant::now());
        let outcome = known.outcome();
        assert_eq!(outcome.reason, Reason::RulesMissing);
        assert!(outcome.message.contains("monitoring.rules"), "{}", outcome.message);
    }
}
