//! Asks a Prometheus how well the tenants of a cell meet their objectives, and what their users do and store.

use std::time::Duration;

use crds::Reason;
use reqwest::{Response, StatusCode, redirect::Policy};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::try_join;

use crate::{objectives::Figures, sample::Sample, text::root_cause, usage::Counts};

/// Each answer has this long. It is asked once a minute, and what it is asked was computed before, or is soon computed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A series has about 120 bytes: this is room for those of seven thousand tenants with five objectives each.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// What part of all events is to be as it should, for each objective.
const TARGETS: &str = "max by (slo) (posthouse:slo_objective:ratio)";
/// What is left of the budget. It is recorded as rarely as an instant query looks back.
const REMAINING: &str = "min by (tenant, slo) (last_over_time(posthouse:slo_budget:remaining_ratio[15m]))";
/// Whose budget goes too fast.
const BURNING: &str =
    r#"max by (tenant, slo) (ALERTS{alertname=~"PosthouseErrorBudgetBurns(Fast)?", alertstate="firing"})"#;

/// Connections that are open.
const CONNECTIONS: &str = "sum by (tenant) (posthouse_gateway_connections)";
/// What was stored in an hour. A day would have it read thousands of samples of each pod.
const MESSAGES: &str = r#"sum by (tenant) (increase(posthouse_message_records_total{outcome="stored"}[1h]))"#;
/// Each pod of the service knows all of it, and one that has just started not yet.
const MEDIA: &str = "max by (tenant) (max_over_time(posthouse_media_used_bytes[5m]))";

/// One Prometheus, or what has its API.
pub(crate) struct Prometheus<'a> {
    /// Where its pages begin, without a slash at the end.
    pub url: &'a str,
    pub token: Option<SecretString>,
    /// Certificates that are trusted beside the public ones.
    pub certificates: &'a [reqwest::Certificate],
}

/// Why a Prometheus says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrometheusError {
    #[error("Prometheus at {url} does not answer: {detail}")]
    Unavailable { url: String, detail: String },
    #[error("Prometheus at {url} does not let the operator in: it answers {status}")]
    CredentialsRejected { url: String, status: StatusCode },
    #[error("Prometheus at {url} does not answer a query: {detail}")]
    Refused { url: String, detail: String },
}

impl PrometheusError {
    /// Returns the reason used in conditions and metric labels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unavailable { .. } => Reason::BackendUnavailable,
            Self::CredentialsRejected { .. } => Reason::CredentialsRejected,
            Self::Refused { .. } => Reason::BackendRefused,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Sample>,
}

impl Prometheus<'_> {
    /// Asks for the objectives and the usage of all tenants for which `is_ours` is true: six queries, however many there are.
    pub async fn figures(&self, is_ours: impl Fn(&str) -> bool) -> Result<Figures, PrometheusError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // The token is for this server.
            .redirect(Policy::none())
            .tls_certs_merge(self.certificates.iter().cloned())
            .build()
            .map_err(|error| self.failed(&error))?;
        let ask = |query| self.ask(&http, query);
        let (targets, remaining, burning) = try_join!(ask(TARGETS), ask(REMAINING), ask(BURNING))?;
        let (connections, messages, media) = try_join!(ask(CONNECTIONS), ask(MESSAGES), ask(MEDIA))?;
        let counts = Counts::new(connections, messages, media, &is_ours);
        Ok(Figures::new(targets, remaining, burning, is_ours).with(counts))
    }

    async fn ask(&self, http: &reqwest::Client, query: &str) -> Result<Vec<Sample>, PrometheusError> {
        let mut request = http.get(format!("{}/api/v1/query", self.url)).query(&[("query", query)]);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(PrometheusError::CredentialsRejected { url: self.url.to_owned(), status });
            }
            status if status.is_server_error() => {
                return Err(self.unavailable(format!("it answers {status}")));
            }
            // What it says beside it may be anything.
            status => return Err(self.refused(format!("it answers {status}"))),
        }
        let body = self.body(response).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| self.refused("the answer is none of the query API of Prometheus"))?;
        Ok(answer.data.result)
    }

    /// Reads an answer that is not larger than it may be.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, PrometheusError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(self.refused(format!("the answer has more than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failed(&self, error: &reqwest::Error) -> PrometheusError {
        if error.is_timeout() {
            return self.unavailable(format!("nothing came within {} s", TIMEOUT.as_secs()));
        }
        self.unavailable(root_cause(error).to_string())
    }

    fn unavailable(&self, detail: String) -> PrometheusError {
        PrometheusError::Unavailable { url: self.url.to_owned(), detail }
    }

    fn refused(&self, detail: impl Into<String>) -> PrometheusError {
        PrometheusError::Refused { url: self.url.to_owned(), detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Arc, Mutex},
    };

    use axum::{
        Router,
        extract::Query,
        http::HeaderMap,
        response::{IntoResponse, Redirect},
        routing::get,
    };
    use serde_json::{Value, json};

    use super::*;

    /// Serves a Prometheus below a path, and returns where.
    async fn serve(router: Router) -> String {
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(axum::serve(listener, router).into_future());
        format!("http://{address}/below")
    }

    /// Serves one answer to every query.
    async fn answering<R: IntoResponse + Clone + Send + Sync + 'static>(answer: R) -> String {
        let answer = move || std::future::ready(answer.clone().into_response());
        serve(Router::new().route("/below/api/v1/query", get(answer))).await
    }

    fn vector(result: Value) -> String {
        json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string()
    }

    async fn figures(url: &str) -> Result<Figures, PrometheusError> {
        let token = Some(SecretString::from("the-token"));
        Prometheus { url, token, certificates: &[] }.figures(|tenant| tenant == "acme").await
    }

    async fn fails(url: &str, reason: Reason, text: &str) {
        let error = figures(url).await.expect_err(text);
        assert_eq!(error.reason(), reason, "{error}");
        let message = error.to_string();
        assert!(
            message.contains(url) && message.contains(text) && !message.contains("the-token"),
            "{message}"
        );
    }

    #[test]
    fn what_is_asked_for_is_recorded() {
        let rules = include_str!("../../../charts/posthouse/monitoring/rules.yaml");
        for name in ["record: posthouse:slo_objective:ratio", "record: posthouse:slo_budget:remaining_ratio"]
        {
            let name = format!("- {name}\n");
            assert!(rules.contains(&name), "{name}");
            let record = name.trim_start_matches("- record: ").trim_end();
            assert!(TARGETS.contains(record) || REMAINING.contains(record), "{record}");
        }
        for alert in ["PosthouseErrorBudgetBurns", "PosthouseErrorBudgetBurnsFast"] {
            assert!(rules.contains(&format!("- alert: {alert}\n")), "{alert}");
        }
        let metrics = include_str!("../../../docs/metrics.md");
        for (query, name) in [
            (CONNECTIONS, "posthouse_gateway_connections"),
            (MESSAGES, "posthouse_message_records_total"),
            (MEDIA, "posthouse_media_used_bytes"),
        ] {
            assert!(query.contains(name) && metrics.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[tokio::test]
    async fn six_queries_are_about_all_tenants() {
        let queries = Arc::new(Mutex::new(Vec::new()));
        let noted = queries.clone();
        let answer = move |Query(query): Query<HashMap<String, String>>, headers: HeaderMap| {
            let query = query.get("query").cloned().unwrap_or_default();
            let of = |tenant: &str, value: &str| {
                json!({"metric": {"tenant": tenant, "slo": "delivery", "prometheus": "one"},
                "value": [1_700_000_000.123, value]})
            };
            let result = match query.as_str() {
                TARGETS => json!([{"metric": {"slo": "delivery"}, "value": [1_700_000_000, "0.999"]}]),
                REMAINING => json!([of("acme", "0.42"), of("globex", "1")]),
                BURNING => json!([of("acme", "1")]),
                CONNECTIONS => json!([of("acme", "7"), of("globex", "8")]),
                MESSAGES => json!([of("acme", "60.5")]),
                MEDIA => json!([of("acme", "1024")]),
                other => panic!("{other} is not asked"),
            };
            let token = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
            noted.lock().expect("a lock").push((query, token));
            std::future::ready(vector(result))
        };
        let url = serve(Router::new().route("/below/api/v1/query", get(answer))).await;
        let found = figures(&url).await.expect("figures");
        let sample = |value: Value| serde_json::from_value::<Vec<Sample>>(value).expect("samples");
        let acme = |value: &str| {
            sample(json!([{"metric": {"tenant": "acme", "slo": "delivery"}, "value": [0, value]}]))
        };
        let targets = sample(json!([{"metric": {"slo": "delivery"}, "value": [0, "0.999"]}]));
        let counts = Counts::new(acme("7"), acme("60.5"), acme("1024"), |_| true);
        assert_eq!(found, Figures::new(targets, acme("0.42"), acme("1"), |_| true).with(counts));
        let queries = queries.lock().expect("a lock");
        assert_eq!(queries.len(), 6);
        assert!(queries.iter().all(|(_, token)| token.as_deref() == Some("Bearer the-token")), "{queries:?}");
    }

    #[tokio::test]
    async fn what_is_away_or_refuses_says_so() {
        _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        fails("http://127.0.0.1:9", Reason::BackendUnavailable, "does not answer").await;
        let url = answering(StatusCode::UNAUTHORIZED).await;
        fails(&url, Reason::CredentialsRejected, "401").await;
        let url = answering((StatusCode::SERVICE_UNAVAILABLE, "the-token\nis wrong")).await;
        fails(&url, Reason::BackendUnavailable, "503").await;
        let url = serve(Router::new()).await;
        fails(&url, Reason::BackendRefused, "404").await;
    }

    #[tokio::test]
    async fn a_hostile_answer_is_refused() {
        let none = "none of the query API";
        for answer in [
            "<html>all is well</html>".to_owned(),
            json!({"status": "success"}).to_string(),
            json!({"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}}).to_string(),
            vector(json!([{"metric": {"tenant": 7}, "value": [1, "1"]}])),
            vector(json!([{"metric": {}, "value": [1, 1]}])),
            "[".repeat(100_000),
        ] {
            let url = answering(answer).await;
            fails(&url, Reason::BackendRefused, none).await;
        }
        let url = answering(" ".repeat(MAX_ANSWER_BYTES + 1)).await;
        fails(&url, Reason::BackendRefused, "more than 4194304 bytes").await;
        // The token goes nowhere else.
        let elsewhere = answering(vector(json!([]))).await;
        let redirect = move || {
            std::future::ready(Redirect::temporary(&format!("{elsewhere}/api/v1/query")).into_response())
        };
        let url = serve(Router::new().route("/below/api/v1/query", get(redirect))).await;
        fails(&url, Reason::BackendRefused, "307").await;
    }
}
