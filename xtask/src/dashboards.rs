//! The Grafana dashboards of the chart, `charts/posthouse/monitoring/dashboards`. A panel is a line or two here; what Grafana wants around it is
//! made below, so that all panels look and work alike.

mod backends;
mod fleet;
mod gateway;
mod grafana;
mod messages;
mod operator;
mod tenant;

use crate::derived::Derived;

const FOLDER: &str = "charts/posthouse/monitoring/dashboards";

/// One dashboard.
pub struct Dashboard {
    /// The end of its id, and the name of its file.
    name: &'static str,
    title: &'static str,
    about: &'static str,
    rows: Vec<Row>,
}

/// Panels under a title.
struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

/// One panel.
struct Panel {
    title: &'static str,
    /// What it shows and what to make of it.
    about: &'static str,
    form: Form,
    unit: Unit,
    queries: Vec<Query>,
}

/// What a panel draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The newest value, in large.
    Figure,
    /// Values over time.
    Lines,
    /// The newest value of each series.
    Table,
}

/// What the values of a panel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Number,
    PerSecond,
    Seconds,
    Bytes,
    /// A part of one.
    Part,
}

/// A query of a panel.
struct Query {
    /// PromQL. `$cell` and `$tenant` are what is chosen above the panels.
    expr: String,
    /// What a series is called, with `{{label}}`; empty: by all its labels.
    legend: String,
    /// Whether samples may lead to traces.
    has_exemplars: bool,
}

/// Returns every dashboard.
pub fn all() -> Vec<Dashboard> {
    vec![
        fleet::fleet(),
        fleet::cell(),
        tenant::tenant(),
        messages::path(),
        gateway::gateway(),
        operator::operator(),
        backends::backends(),
    ]
}

/// Returns the file of every dashboard.
pub fn files() -> Vec<Derived> {
    let file = |dashboard: Dashboard| {
        let text = format!("{:#}\n", grafana::document(&dashboard));
        Derived::new(format!("{FOLDER}/{}.json", dashboard.name), text)
    };
    all().into_iter().map(file).collect()
}

fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, panels }
}

fn figure(title: &'static str, about: &'static str, unit: Unit, query: Query) -> Panel {
    Panel { title, about, form: Form::Figure, unit, queries: vec![query] }
}

fn lines(title: &'static str, about: &'static str, unit: Unit, queries: Vec<Query>) -> Panel {
    Panel { title, about, form: Form::Lines, unit, queries }
}

fn table(title: &'static str, about: &'static str, unit: Unit, query: Query) -> Panel {
    Panel { title, about, form: Form::Table, unit, queries: vec![query] }
}

fn query(expr: impl Into<String>, legend: impl Into<String>) -> Query {
    Query { expr: expr.into(), legend: legend.into(), has_exemplars: false }
}

/// Returns how often a counter of the chosen tenants grows in a second, for each value of a label; 0 while nothing was counted.
fn rate(by: &str, counter: &str) -> Query {
    let expr = format!(r#"sum by ({by}) (rate({counter}{{tenant=~"$tenant"}}[$__rate_interval]))"#);
    query(or_zero(&expr), legend(by))
}

/// Returns how often a counter of the chosen tenants grows in a second.
fn total_rate(counter: &str, legend: &str) -> Query {
    let expr = format!(r#"sum(rate({counter}{{tenant=~"$tenant"}}[$__rate_interval]))"#);
    query(or_zero(&expr), legend)
}

/// Returns a gauge of the chosen tenants, added up for each value of a label.
fn sum(by: &str, gauge: &str) -> Query {
    query(format!(r#"sum by ({by}) ({gauge}{{tenant=~"$tenant"}})"#), legend(by))
}

/// Returns the largest value of a gauge of the chosen tenants, for each value of a label.
fn max(by: &str, gauge: &str) -> Query {
    query(format!(r#"max by ({by}) ({gauge}{{tenant=~"$tenant"}})"#), legend(by))
}

/// Returns the median and the 99th percentile of a histogram of the chosen tenants.
fn percentiles(histogram: &str) -> Vec<Query> {
    let percentile = |part: &str, legend: &str| {
        let expr = format!(
            r#"histogram_quantile({part}, sum by (le) (rate({histogram}_bucket{{tenant=~"$tenant"}}[$__rate_interval])))"#
        );
        Query { expr, legend: legend.to_owned(), has_exemplars: true }
    };
    vec![percentile("0.5", "median"), percentile("0.99", "p99")]
}

/// Returns the 99th percentile of a histogram, for each value of a label. `matchers` are those in braces.
fn percentile_by(by: &str, histogram: &str, matchers: &str) -> Query {
    let expr = format!(
        "histogram_quantile(0.99, sum by ({by}, le) (rate({histogram}_bucket{matchers}[$__rate_interval])))"
    );
    Query { expr, legend: legend(by), has_exemplars: true }
}

/// Returns a query with 0 where it finds nothing: a metric with labels is there once something was counted.
fn or_zero(expr: &str) -> String {
    format!("({expr}) or on () vector(0)")
}

/// Returns how series are called by labels, whose names stand in a list as in `sum by (kind, outcome)`.
fn legend(by: &str) -> String {
    by.split(", ").map(|label| format!("{{{{{label}}}}}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
impl Dashboard {
    /// Returns every query, with the place where it stands.
    pub fn queries(&self) -> impl Iterator<Item = (String, &str)> {
        let panels = self.rows.iter().flat_map(|row| &row.panels);
        panels.flat_map(move |panel| {
            let place = format!("{}: {}", self.title, panel.title);
            panel.queries.iter().map(move |query| (place.clone(), query.expr.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_panel_says_what_it_shows_and_has_a_title_of_its_own() {
        for dashboard in all() {
            let panels: Vec<_> = dashboard.rows.iter().flat_map(|row| &row.panels).collect();
            let titles: BTreeSet<_> = panels.iter().map(|panel| panel.title).collect();
            assert_eq!(titles.len(), panels.len(), "{}", dashboard.title);
            for panel in panels {
                assert!(panel.about.ends_with('.'), "{}: {}", dashboard.title, panel.title);
                let is_named = |query: &Query| panel.queries.len() == 1 || !query.legend.is_empty();
                assert!(panel.queries.iter().all(is_named), "{}: {}", dashboard.title, panel.title);
            }
        }
    }

    #[test]
    fn panels_neither_overlap_nor_share_an_id() {
        for dashboard in all() {
            let document = grafana::document(&dashboard);
            let panels = document["panels"].as_array().expect("panels");
            let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].to_string()).collect();
            assert_eq!(ids.len(), panels.len());
            let mut taken = BTreeSet::new();
            for panel in panels {
                let of = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
                for (x, y) in (of("x")..of("x") + of("w"))
                    .flat_map(|x| (of("y")..of("y") + of("h")).map(move |y| (x, y)))
                {
                    assert!(x < 24 && taken.insert((x, y)), "{}: {}", dashboard.title, panel["title"]);
                }
            }
        }
    }

    #[test]
    fn a_dashboard_is_found_by_its_own_id() {
        let ids: BTreeSet<_> =
            all().iter().map(|dashboard| grafana::document(dashboard)["uid"].to_string()).collect();
        assert_eq!(ids.len(), all().len());
        let first = grafana::document(&all()[0]);
        assert_eq!(first["tags"], Value::from(vec!["posthouse"]));
    }
}
