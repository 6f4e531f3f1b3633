//! Spans of a trace, from a store with the API of Zipkin (v2), as a collector writes them there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use posthouse_client::Messenger;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use url::Url;

use crate::failure::{Exit, Failure, chain};

/// An answer of the store comes within this time.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read: a hundred traces of a hundred spans take about 5 MB.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Traces that are looked at to find ours.
const MAX_TRACES: usize = 100;
/// Spans that are shown of one trace.
const MAX_SHOWN: usize = 200;
/// The longest name that is shown, in characters.
const MAX_NAME: usize = 60;

/// A store of traces.
pub(super) struct Store {
    messenger: Messenger,
    base: Url,
}

/// What is read of a span. Tags are read for the links in them, and shown never.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    #[serde(default)]
    name: String,
    /// Microseconds since 1970.
    #[serde(default)]
    timestamp: u64,
    /// Microseconds; a store leaves out what took less than one.
    #[serde(default)]
    duration: u64,
    local_endpoint: Option<Endpoint>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    service_name: String,
}

/// A span as it is shown, in the order of a waterfall.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// Spans that it is a part of.
    pub(super) depth: usize,
    pub(super) service: String,
    pub(super) name: String,
    /// From the beginning of the trace.
    pub(super) from_ms: f64,
    pub(super) ms: f64,
    pub(super) is_failed: bool,
}

impl Store {
    /// Returns the store at an address: of its API, or of the page that Zipkin shows beside it.
    pub(super) fn new(messenger: &Messenger, base: Url) -> Result<Self, Failure> {
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            let next = "use an address like http://127.0.0.1:17411";
            return Err(Failure::new(
                Exit::Refused,
                format!("--traces: {base} is not an http address"),
                next,
            ));
        }
        Ok(Self { messenger: messenger.clone(), base })
    }

    /// Fails if the store does not answer.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        self.get::<Vec<String>>(&["services"], &[]).await.map(drop)
    }

    /// Returns the trace that began within `since` with a command that links one of these spans of `trace`, and which of them.
    pub(super) async fn linking(
        &self,
        trace: u128,
        spans: &HashSet<u64>,
        since: Duration,
    ) -> Result<Option<(u64, Vec<Span>)>, Failure> {
        let query = [
            // Nothing but requests of clients who name a trace has both.
            ("annotationQuery", "otlp.link.0 and http.route=/commands".to_owned()),
            ("lookback", since.as_millis().to_string()),
            ("limit", MAX_TRACES.to_string()),
        ];
        let traces: Vec<Vec<Span>> = self.get(&["traces"], &query).await?.unwrap_or_default();
        let found = traces.into_iter().find_map(|of| Some((linked(trace, spans, &of)?, of)));
        Ok(found)
    }

    /// Returns the spans of a trace that the store has by now.
    pub(super) async fn trace(&self, trace_id: &str) -> Result<Vec<Span>, Failure> {
        Ok(self.get(&["trace", trace_id], &[]).await?.unwrap_or_default())
    }

    /// Returns what the store answers; nothing when that is not found.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Option<T>, Failure> {
        let call = self.messenger.http().get(endpoint(&self.base, path)).query(query);
        let answered = timeout(CALL_TIMEOUT, async {
            let mut response = call.send().await.map_err(|error| chain(&error.without_url()))?;
            match response.status().as_u16() {
                200 => {}
                404 if path.len() > 1 => return Ok(None),
                status => return Err(format!("it responded with {status}")),
            }
            let mut body = Vec::new();
            while let Some(part) = response.chunk().await.map_err(|error| chain(&error.without_url()))? {
                if body.len() + part.len() > MAX_BYTES {
                    return Err("its answer is too large".to_owned());
                }
                body.extend_from_slice(&part);
            }
            serde_json::from_slice(&body).map(Some).map_err(|error| format!("unexpected response: {error}"))
        });
        let answered = answered
            .await
            .unwrap_or_else(|_| Err(format!("no response within {} s", CALL_TIMEOUT.as_secs())));
        answered.map_err(|why| {
            let what = format!("failed to read traces at {}: {why}", shown(&self.base));
            let next = "--traces is the address of a store with the API of Zipkin, http://127.0.0.1:17411 in the local stack with WITH=observability";
            Failure::new(Exit::Unreachable, what, next)
        })
    }
}

/// Returns the id of the trace that spans belong to.
pub(super) fn trace_id(spans: &[Span]) -> Option<&str> {
    spans.first().map(|span| span.trace_id.as_str())
}

/// Returns the address of a call.
fn endpoint(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["api", "v2"]).extend(path);
    }
    url
}

/// Returns an address without the user and the password that it may have.
fn shown(url: &Url) -> Url {
    let mut url = url.clone();
    // Both are possible wherever there is a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// Returns which of the spans of a trace these ones link. A collector writes a link as the tag `otlp.link.<n>`, with the ids of trace and span first.
fn linked(trace: u128, spans: &HashSet<u64>, of: &[Span]) -> Option<u64> {
    let mut links = of.iter().flat_map(|span| &span.tags).filter(|(key, _)| key.starts_with("otlp.link."));
    links.find_map(|(_, link)| {
        let mut ids = link.split('|');
        let (named, span) = (ids.next()?, ids.next()?);
        let span = u64::from_str_radix(span, 16).ok()?;
        (u128::from_str_radix(named, 16) == Ok(trace) && spans.contains(&span)).then_some(span)
    })
}

/// Returns spans in the order of a waterfall: each behind the one that it is a part of, beside each other by time. A store may have doubles of them, may
/// lack some, and is not believed that they are a tree.
pub(super) fn rows(spans: &[Span]) -> Vec<Row> {
    let mut known = HashSet::new();
    let mut spans: Vec<&Span> = spans.iter().filter(|span| known.insert(span.id.as_str())).collect();
    spans.sort_by_key(|span| (span.timestamp, span.id.as_str()));
    let began = spans.iter().map(|span| span.timestamp).find(|&at| at > 0).unwrap_or_default();
    let mut parts: HashMap<&str, Vec<&Span>> = HashMap::new();
    let mut roots = Vec::new();
    for &span in &spans {
        match span.parent_id.as_deref().filter(|parent| known.contains(parent)) {
            Some(parent) => parts.entry(parent).or_default().push(span),
            None => roots.push(span),
        }
    }
    let mut rows = Vec::new();
    // What is in a circle has no root, and comes behind the rest.
    for root in roots.into_iter().chain(spans) {
        let mut next = vec![(0, root)];
        while let Some((depth, span)) = next.pop() {
            if !known.remove(span.id.as_str()) {
                continue;
            }
            rows.push(row(span, depth, began));
            let own = parts.remove(span.id.as_str()).unwrap_or_default();
            next.extend(own.into_iter().rev().map(|part| (depth + 1, part)));
        }
    }
    rows.truncate(MAX_SHOWN);
    rows
}

fn row(span: &Span, depth: usize, began: u64) -> Row {
    let cut = |text: &str| text.chars().take(MAX_NAME).collect();
    let service = span.local_endpoint.as_ref().map_or("", |endpoint| endpoint.service_name.as_str());
    Row {
        depth,
        service: cut(service),
        name: cut(&span.name),
        from_ms: span.timestamp.saturating_sub(began) as f64 / 1_000.0,
        ms: span.duration as f64 / 1_000.0,
        is_failed: span.tags.contains_key("error"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    const SPAN: u64 = 0xb7ad_6b71_6920_3331;

    fn read(spans: Value) -> Vec<Span> {
        serde_json::from_value(spans).expect("spans")
    }

    /// What a collector writes for a message, as Zipkin returns it.
    fn message() -> Vec<Span> {
        let of = |id: &str, parent: Option<&str>, service: &str, name: &str, at: u64, duration: u64| {
            let mut span = json!({
                "traceId": "11", "id": id, "name": name, "timestamp": 1_700_000_000_000_000_u64 + at,
                "duration": duration, "localEndpoint": { "serviceName": service },
            });
            if let Some(parent) = parent {
                span["parentId"] = parent.into();
            }
            span
        };
        let mut root = of("a", None, "gateway", "post /commands", 0, 4_000);
        root["tags"] = json!({
            "http.route": "/commands",
            "otlp.link.0": "0af7651916cd43dd8448eb211c80319c|b7ad6b7169203331||{}|0",
        });
        let mut failed = of("e", Some("c"), "message", "write", 5_200, 900);
        failed["tags"] = json!({ "error": "unavailable", "otel.status_description": "the text of ann" });
        read(json!([
            of("d", Some("c"), "message", "look_up", 5_000, 100),
            of("b", Some("a"), "gateway", "append", 500, 3_000),
            failed,
            root,
            of("c", Some("b"), "message", "apply", 4_900, 2_500),
        ]))
    }

    #[test]
    fn a_trace_is_found_by_its_link_to_ours() {
        let sent = HashSet::from([1, SPAN]);
        assert_eq!(linked(TRACE, &sent, &message()), Some(SPAN));
        assert_eq!(linked(TRACE + 1, &sent, &message()), None);
        assert_eq!(linked(TRACE, &HashSet::from([1]), &message()), None);
        for tags in [
            json!({ "otlp.link.0": "" }),
            json!({ "otlp.link.0": "0af7651916cd43dd8448eb211c80319c" }),
            json!({ "otlp.link.0": "not|hex|||0" }),
            json!({ "other": "0af7651916cd43dd8448eb211c80319c|b7ad6b7169203331||{}|0" }),
        ] {
            let spans = read(json!([{ "traceId": "11", "id": "a", "tags": tags }]));
            assert_eq!(linked(TRACE, &sent, &spans), None, "{tags}");
        }
    }

    #[test]
    fn each_span_stands_behind_the_one_that_it_is_a_part_of() {
        let rows = rows(&message());
        let shown: Vec<_> = rows.iter().map(|row| (row.depth, row.name.as_str(), row.is_failed)).collect();
        assert_eq!(
            shown,
            [
                (0, "post /commands", false),
                (1, "append", false),
                (2, "apply", false),
                (3, "look_up", false),
                (3, "write", true),
            ]
        );
        assert_eq!((rows[2].from_ms, rows[2].ms, rows[2].service.as_str()), (4.9, 2.5, "message"));
    }

    #[test]
    fn no_tag_is_shown() {
        let shown = serde_json::to_string(&rows(&message())).expect("JSON");
        for tag in ["unavailable", "the text", "http.route", "0af7651916cd43dd"] {
            assert!(!shown.contains(tag), "{shown}");
        }
    }

    #[test]
    fn a_store_is_not_believed_that_spans_are_a_tree() {
        let names = |spans: Value| -> Vec<String> {
            rows(&read(spans)).into_iter().map(|row| format!("{} {}", row.depth, row.name)).collect()
        };
        let of = |id: &str, parent: &str| json!({ "traceId": "1", "id": id, "parentId": parent, "name": id });
        // A circle, a span that is its own parent, a parent that is missing, and one span twice.
        assert_eq!(names(json!([of("a", "b"), of("b", "a")])), ["0 a", "1 b"]);
        assert_eq!(names(json!([of("a", "a")])), ["0 a"]);
        assert_eq!(names(json!([of("a", "gone"), of("a", "gone")])), ["0 a"]);
        assert!(names(json!([])).is_empty());
        let long = json!([{ "traceId": "1", "id": "a", "name": "x".repeat(10_000) }]);
        assert_eq!(names(long), [format!("0 {}", "x".repeat(MAX_NAME))]);
        let many: Vec<Value> = (0..1_000).map(|id| of(&id.to_string(), "")).collect();
        assert_eq!(names(many.into()).len(), MAX_SHOWN);
    }

    #[test]
    fn the_address_may_be_that_of_the_page_and_its_password_is_not_shown() {
        let url = |text: &str| text.parse::<Url>().expect("a URL");
        for (base, call) in [
            ("http://127.0.0.1:17411", "http://127.0.0.1:17411/api/v2/trace/11"),
            ("http://127.0.0.1:17411/zipkin/?lookback=1#x", "http://127.0.0.1:17411/zipkin/api/v2/trace/11"),
        ] {
            assert_eq!(endpoint(&url(base), &["trace", "11"]).as_str(), call);
        }
        assert_eq!(shown(&url("https://ann:pass@traces.example/")).as_str(), "https://traces.example/");
    }
}
