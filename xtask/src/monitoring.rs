//! What dashboards, rules and runbook say of each other and of the metrics: a name that is gone, an alert without a remedy or without a test.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dashboards,
    metrics::{self, Kind},
    read, repository,
};

const RULES: &str = "charts/posthouse/monitoring/rules.yaml";
const RULES_TEST: &str = "deploy/observability/rules_test.yaml";
const RUNBOOK: &str = "docs/runbook.md";
/// Labels that every series has, beside those of its metric.
const OF_ALL: [&str; 7] = ["tenant", "service", "job", "namespace", "pod", "instance", "le"];

fn text(path: &str) -> String {
    read(repository(), path).expect("a file of the repository")
}

/// Returns the names of all series that a scraper reads, with the labels of their metrics.
fn series() -> BTreeMap<String, BTreeSet<String>> {
    let mut series = BTreeMap::new();
    for metric in metrics::all(repository()).expect("the metrics") {
        let labels: BTreeSet<_> = metric.labels.into_iter().map(|label| label.name).collect();
        let ends = if metric.kind == Kind::Histogram { vec!["_bucket", "_sum", "_count"] } else { vec![""] };
        series.extend(ends.into_iter().map(|end| (format!("{}{end}", metric.name), labels.clone())));
    }
    series
}

/// Returns what the rules record.
fn recorded(rules: &str) -> BTreeSet<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect()
}

/// Returns the names of alerts, with the lines up to the next rule.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    let alerts = rules.split("      - alert: ").skip(1);
    let alert = |text: &str| {
        let end = [text.find("\n      - "), text.find("\n  - name: ")].into_iter().flatten().min();
        end.unwrap_or(text.len())
    };
    alerts.filter_map(|text| text[..alert(text)].split_once('\n')).collect()
}

/// Returns the series that PromQL names, with the labels that it selects by.
fn named(text: &str) -> Vec<(&str, Vec<&str>)> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("posthouse") {
        let is_begin = !rest[..at].ends_with(is_name);
        let name = &rest[at..];
        let (name, behind) = name.split_at(name.find(|end: char| !is_name(end)).unwrap_or(name.len()));
        let matchers = behind.strip_prefix('{').and_then(|matchers| matchers.split_once('}'));
        let labels = matchers.map(|(matchers, _)| {
            let of = |matcher: &str| matcher.find(['=', '!']).unwrap_or(matcher.len());
            matchers.split(',').map(|matcher| matcher[..of(matcher)].trim()).collect()
        });
        if is_begin && (name.starts_with("posthouse_") || name.starts_with("posthouse:")) {
            found.push((name, labels.unwrap_or_default()));
        }
        rest = behind;
    }
    found
}

/// Returns what is wrong with the series that a text names.
fn faults(
    place: &str,
    text: &str,
    series: &BTreeMap<String, BTreeSet<String>>,
    recorded: &BTreeSet<&str>,
) -> Vec<String> {
    let fault = |(name, labels): (&str, Vec<&str>)| {
        if name.starts_with("posthouse:") {
            return (!recorded.contains(name)).then(|| format!("{place}: no rule records {name}"));
        }
        let Some(known) = series.get(name) else {
            return Some(format!("{place}: there is no metric {name}"));
        };
        let unknown: Vec<_> =
            labels.into_iter().filter(|label| !known.contains(*label) && !OF_ALL.contains(label)).collect();
        (!unknown.is_empty()).then(|| format!("{place}: {name} has no label {unknown:?}"))
    };
    named(text).into_iter().filter_map(fault).collect()
}

#[test]
fn dashboards_and_rules_name_metrics_that_there_are() {
    let (series, rules) = (series(), text(RULES));
    let recorded = recorded(&rules);
    let mut faults_found = faults(RULES, &rules, &series, &recorded);
    faults_found.extend(faults(RULES_TEST, &text(RULES_TEST), &series, &recorded));
    for dashboard in dashboards::all() {
        for (place, expr) in dashboard.queries() {
            let named = named(expr);
            assert!(
                !named.is_empty() || expr.contains("ALERTS"),
                "{place} asks for nothing of Posthouse: {expr}"
            );
            faults_found.extend(faults(&place, expr, &series, &recorded));
        }
    }
    assert!(faults_found.is_empty(), "{faults_found:#?}");
}

#[test]
fn what_is_recorded_is_used() {
    let rules = text(RULES);
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in named(&rules) {
        *used.entry(name).or_default() += 1;
    }
    let dashboards = dashboards::all();
    let drawn: Vec<_> = dashboards.iter().flat_map(|dashboard| dashboard.queries()).collect();
    for name in recorded(&rules) {
        let times = rules.lines().filter(|line| line.trim() == format!("- record: {name}")).count();
        let is_drawn = drawn.iter().any(|(_, expr)| named(expr).iter().any(|(drawn, _)| *drawn == name));
        assert!(used[name] > times || is_drawn, "nothing reads {name}");
    }
}

#[test]
fn a_name_that_is_gone_is_noticed() {
    let known: BTreeSet<_> = ["outcome".to_owned()].into();
    let series: BTreeMap<_, _> = [("posthouse_gateway_pushes_total".to_owned(), known)].into();
    let recorded: BTreeSet<_> = ["posthouse:slo:ratio"].into();
    let check = |expr: &str, expected: usize| {
        assert_eq!(faults("a panel", expr, &series, &recorded).len(), expected, "{expr}")
    };
    check(
        r#"sum by (tenant) (rate(posthouse_gateway_pushes_total{tenant=~"$tenant", outcome!="Queued"}[5m]))"#,
        0,
    );
    check("posthouse:slo:ratio > 0 and up", 0);
    check(r#"posthouse_gateway_pushes_total{user="ann"}"#, 1);
    check("posthouse_gateway_pushed_total / posthouse:slo:gone", 2);
}

/// Returns the name of a heading in links, as code hosts make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '-').collect()
}

#[test]
fn every_alert_has_a_section_of_the_runbook_that_names_it() {
    let (rules, runbook) = (text(RULES), text(RUNBOOK));
    let sections = runbook.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    let sections: BTreeMap<_, _> = sections.map(|(heading, text)| (anchor(heading), text)).collect();
    let alerts = alerts(&rules);
    assert!(!alerts.is_empty());
    for (alert, body) in alerts {
        let link = body
            .split_once(&format!("runbook_url: {RUNBOOK}#"))
            .map(|(_, rest)| rest.lines().next().unwrap_or_default());
        let section = link.and_then(|link| sections.get(link));
        let section = section
            .unwrap_or_else(|| panic!("{alert} links to {link:?}, which is no section of the runbook"));
        assert!(section.contains(&format!("`{alert}`")), "the section {link:?} does not name {alert}");
    }
}

/// Returns the panel that a section of the runbook begins with, as the place of its queries, and the query for its logs.
fn first_look(section: &str) -> Option<(String, &str)> {
    let line = section.lines().find(|line| !line.is_empty())?;
    let (panel, rest) = line.strip_prefix("Panel: \"")?.split_once("\" of \"")?;
    let (dashboard, rest) = rest.split_once("\". Logs: `")?;
    let query = rest.strip_suffix("`.")?;
    Some((format!("{dashboard}: {panel}"), query))
}

#[test]
fn every_section_of_an_alert_begins_with_a_panel_that_there_is_and_a_query_for_logs() {
    let (rules, runbook) = (text(RULES), text(RUNBOOK));
    let linked: BTreeSet<_> = rules
        .lines()
        .filter_map(|line| line.split_once(&format!("{RUNBOOK}#")))
        .map(|(_, link)| link)
        .collect();
    let dashboards = dashboards::all();
    let places: BTreeSet<_> =
        dashboards.iter().flat_map(|dashboard| dashboard.queries()).map(|(place, _)| place).collect();
    let sections = runbook.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
    for (heading, section) in sections.filter(|(heading, _)| linked.contains(anchor(heading).as_str())) {
        let (place, query) = first_look(section)
            .unwrap_or_else(|| panic!("{heading:?} does not begin with a panel and a query for logs"));
        assert!(places.contains(&place), "{heading:?} names a panel that is gone: {place}");
        assert!(!query.is_empty() && !query.contains('`'), "{heading:?} has no query for logs");
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_is_wrong() {
    for (alert, body) in alerts(&text(RULES)) {
        assert!(alert.starts_with("Posthouse"), "{alert}");
        let is_known =
            ["critical", "warning"].iter().any(|severity| body.contains(&format!("severity: {severity}")));
        assert!(is_known, "{alert} has no severity");
        assert!(body.contains("summary: "), "{alert} has no summary");
    }
}

/// `promtool` runs them.
#[test]
fn every_alert_fires_in_a_test() {
    let (rules, tests) = (text(RULES), text(RULES_TEST));
    for (alert, _) in alerts(&rules) {
        let fires = tests.contains(&format!("(ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}})"));
        assert!(fires, "no case of {RULES_TEST} makes {alert} fire");
    }
}
