//! Asks the tenant's classifier about what was posted, for the rules that name a label of it.
//!
//! What is to be asked is in the store since the log was judged by all other rules, so that none of them waits. A process claims some posts, asks about them at
//! once, and writes each answer with the verdicts that follow from it. What is not answered is asked again after its claim, up to [`KEPT_MS`]. An answer stays in the
//! store: a log that is read again asks nothing twice.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::StatusCode;
use kit::{
    backoff::Backoff,
    clock::now_ms,
    hook,
    reach::{NotPublic, Reach},
    rounds,
    traces::{self, Server},
};
use reqwest::{Client, Response};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    carrying_out::Wake,
    domain::{Question, Scores, classify},
    metrics::Metrics,
    store::{ModerationStore, StoreError},
};

/// How often it is looked for what another process has read, or got no answer to. What this process reads wakes it.
const INTERVAL: Duration = Duration::from_secs(5);
/// After a round without an answer.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(30);
/// Requests of a process at one time.
const AT_ONCE: usize = 16;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What is claimed is another's after this long: longer than a request.
const CLAIM_MS: i64 = 20_000;
/// A post waits so long for an answer, and is given up then: a verdict that comes later helps no reader.
pub const KEPT_MS: i64 = 6 * 3_600 * 1_000;
/// Most that is read of an answer.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// What the classifier reads of who asks.
const USER_AGENT: &str = concat!("Posthouse/", env!("CARGO_PKG_VERSION"));

/// Why a post is not classified.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("spec.moderation.classifier.url is not an https URL on port 443 of a public address")]
    NotPublic,
    #[error("the classifier of spec.moderation.classifier cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It takes no such text.
    #[error("the classifier refuses the text with status {0}")]
    Refused(u16),
    #[error("the classifier of spec.moderation.classifier answers with status {0}")]
    Status(u16),
    #[error(
        "the classifier of spec.moderation.classifier does not answer {{\"labels\": {{NAME: SCORE}}}}, or with more than {MAX_ANSWER_BYTES} bytes"
    )]
    Unreadable,
}

/// Why a round ends early.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// The tenant's classifier.
pub struct Classifier {
    client: Client,
    reach: Reach,
    /// Only a test takes one without TLS.
    allows_plain: bool,
    url: Url,
    key: SecretString,
}

#[derive(Deserialize)]
struct Answer {
    labels: BTreeMap<String, f64>,
}

impl Classifier {
    /// Returns the classifier at a URL of the public Internet, whose requests are signed with a key.
    ///
    /// # Errors
    ///
    /// There is no TLS on this system.
    pub fn new(url: Url, key: SecretString) -> Result<Self, reqwest::Error> {
        Self::within(Reach { port: |port| port == 443, ..Reach::internet() }, false, url, key)
    }

    /// Returns the classifier at a URL of what may be reached.
    ///
    /// # Errors
    ///
    /// There is no TLS on this system.
    pub fn within(
        reach: Reach,
        allows_plain: bool,
        url: Url,
        key: SecretString,
    ) -> Result<Self, reqwest::Error> {
        let client = reach.client().user_agent(USER_AGENT).connect_timeout(CONNECT_TIMEOUT);
        Ok(Self { client: client.timeout(REQUEST_TIMEOUT).build()?, reach, allows_plain, url, key })
    }

    /// Asks about a post. It says nothing of who sent it and where. `id` is the same for every attempt at one.
    async fn ask(&self, question: &Question) -> Result<Scores, AskError> {
        let is_allowed = (self.url.scheme() == "https" || self.allows_plain)
            && self.url.port_or_known_default().is_some_and(self.reach.port)
            && self.reach.allows(&self.url);
        if !is_allowed {
            return Err(AskError::NotPublic);
        }
        let id = question.id();
        let file = |(name, media_type): &(String, String)| json!({"name": name, "type": media_type});
        let files: Vec<_> = question.files.iter().map(file).collect();
        let body = json!({"id": id, "text": question.text, "files": files}).to_string().into_bytes();
        let headers = hook::signed(&self.key, &id, &body).map_err(|_| AskError::Unreadable)?;
        let request = self.client.post(self.url.clone()).headers(headers).body(body);
        let sent = traces::sent(Server::Classifier, "POST", request.send()).await;
        let response = sent.map_err(|error| match NotPublic::caused(&error) {
            true => AskError::NotPublic,
            // The URL does not belong into a log.
            false => AskError::Unreachable(error.without_url()),
        })?;
        match response.status() {
            status if status.is_success() => answer(response).await,
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY) => Err(AskError::Refused(status.as_u16())),
            // A redirect is one, too: it may lead anywhere.
            status => Err(AskError::Status(status.as_u16())),
        }
    }
}

/// Reads an answer that is not too long.
async fn answer(mut response: Response) -> Result<Scores, AskError> {
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| AskError::Unreachable(error.without_url()))?;
        let Some(chunk) = chunk else { break };
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(AskError::Unreadable);
        }
        bytes.extend_from_slice(&chunk);
    }
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| AskError::Unreadable)?;
    Ok(Scores::of(answer.labels))
}

/// What asking needs.
pub struct Asking {
    pub store: Arc<dyn ModerationStore>,
    pub classifier: Classifier,
    pub metrics: Metrics,
    /// Notified of what is to be carried out, and what notifies this.
    pub wake: Wake,
}

impl Asking {
    /// Asks about what waits until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let round = || async {
            while self.ask(now_ms()).await? == AT_ONCE && !shutdown.is_cancelled() {}
            Ok::<_, RoundError>(())
        };
        let (what, backoff) = ("asking the classifier", Backoff::new(BACKOFF));
        rounds::repeat_woken(what, INTERVAL, backoff, &shutdown, self.wake.asked(), round).await;
    }

    /// Gives up what waits for too long at `now_ms`, and asks about some of what is left. Returns about how much.
    ///
    /// # Errors
    ///
    /// The store or the classifier did not answer. Other posts of the round may be answered.
    pub async fn ask(&self, now_ms: i64) -> Result<usize, RoundError> {
        let given_up = self.store.give_up_questions(now_ms - KEPT_MS).await?;
        if given_up > 0 {
            tracing::warn!(given_up, "{given_up} messages are not classified: no answer came for too long");
            self.metrics.unclassified.inc_by(given_up);
        }
        let questions = self.store.claim_questions(now_ms, now_ms + CLAIM_MS, AT_ONCE).await?;
        let outcomes = join_all(questions.iter().map(|question| self.ask_one(question))).await;
        outcomes.into_iter().find_map(Result::err).map_or(Ok(questions.len()), Err)
    }

    async fn ask_one(&self, question: &Question) -> Result<(), RoundError> {
        let scores = match self.classifier.ask(question).await {
            Ok(scores) => {
                self.metrics.classified.inc();
                scores
            }
            Err(AskError::Refused(status)) => {
                tracing::info!(status, "the classifier refuses a message with status {status}");
                self.metrics.unclassified.inc();
                Scores::default()
            }
            Err(error) => {
                self.metrics.unanswered.inc();
                return Err(error.into());
            }
        };
        let sets = self.store.rule_sets_from(question.sent_at_ms).await?;
        let verdicts: Vec<_> = sets.iter().filter_map(|set| classify(set, question, &scores)).collect();
        let is_first = self.store.answer(question, &scores, &verdicts).await?;
        if is_first && !verdicts.is_empty() {
            self.metrics.verdicts.inc_by(verdicts.len() as u64);
            let lag_ms = (now_ms() - question.sent_at_ms).max(0);
            self.metrics.lag.observe(Duration::from_millis(lag_ms.unsigned_abs()).as_secs_f64());
            self.wake.notify();
        }
        Ok(())
    }
}
