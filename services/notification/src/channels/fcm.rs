//! Firebase Cloud Messaging (HTTP v1): data messages to apps, in the tenant's own project.

mod grant;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use kit::{clock::now_ms, traces::Server};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tonic::async_trait;
use url::{ParseError, Url};

use self::grant::Grant;
pub use self::grant::{AccountError, ServiceAccount};
use super::{Channel, Content, Outside, SendError, beginning, misplaced, outcome};
use crate::domain::{Notice, Subscription, Target, excerpt};

/// Where Google has the service.
pub const GOOGLE: &str = "https://fcm.googleapis.com";
/// Firebase keeps what an app does not fetch for so long.
const TTL_SECONDS: i64 = 24 * 3600;

/// The channel of apps.
pub struct FcmChannel {
    outside: Outside,
    url: Url,
    grant: Grant,
}

impl FcmChannel {
    /// Returns the channel of a service account. `api` is [`GOOGLE`], but in tests.
    ///
    /// # Errors
    ///
    /// The URL of the API or the name of the project is none.
    pub fn new(outside: Outside, account: ServiceAccount, api: &str) -> Result<Self, ParseError> {
        let url = format!("{}/v1/projects/{}/messages:send", api.trim_end_matches('/'), account.project());
        Ok(Self { url: url.parse()?, grant: Grant::new(outside.clone(), account), outside })
    }

    async fn post(&self, bearer: &HeaderValue, body: &[u8]) -> Result<Answer, SendError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::AUTHORIZATION, bearer.clone());
        let sent = self.outside.request(Server::Fcm, &self.url, headers, body.to_vec()).await;
        let response = sent.map_err(|unanswered| unanswered.of_tenant("Firebase Cloud Messaging"))?;
        let (status, outcome) = (response.status(), outcome(&response));
        let fault = if outcome.is_ok() { Fault::default() } else { Fault::read(&beginning(response).await) };
        Ok(Answer { status, outcome, fault })
    }
}

#[async_trait]
impl Channel for FcmChannel {
    async fn send(&self, to: &Subscription, content: &Content) -> Result<(), SendError> {
        let (Target::Fcm { token }, Content::Notice(notice)) = (&to.target, content) else {
            return Err(misplaced());
        };
        let body = message(token, notice, now_ms() / 1000).to_string().into_bytes();
        let bearer = self.grant.bearer(None).await?;
        let answer = self.post(&bearer, &body).await?;
        if !answer.is_of_token() {
            return answer.judge();
        }
        // The access token ended early: revoked, or by another clock.
        let bearer = self.grant.bearer(Some(&bearer)).await?;
        self.post(&bearer, &body).await?.judge()
    }
}

/// Returns what is sent. All values of data are text. Of what waits for one chat, the later one takes the place of the one before.
fn message(token: &str, notice: &Notice, at_seconds: i64) -> Value {
    let chat = notice.chat.to_string();
    let mut data = Map::new();
    let mut put = |key: &str, value: String| data.insert(key.to_owned(), value.into());
    put("chat", chat.clone());
    put("seq", notice.seq.to_string());
    put("badge", notice.badge.to_string());
    if let Some(message) = &notice.message {
        let (title, body) = match &notice.title {
            Some(title) => (excerpt(title), format!("{}: {}", message.name, message.text)),
            None => (message.name.clone(), message.text.clone()),
        };
        put("title", title);
        put("body", body);
    }
    let is_urgent = notice.mentions > 0 || notice.kind == "direct";
    json!({"message": {
        "token": token,
        "data": data,
        "android": {
            "collapse_key": chat,
            "ttl": format!("{TTL_SECONDS}s"),
            "priority": if is_urgent { "HIGH" } else { "NORMAL" },
        },
        // Apple takes data for an app in the background, at the priority of those.
        "apns": {
            "headers": {
                "apns-collapse-id": chat,
                "apns-expiration": (at_seconds + TTL_SECONDS).to_string(),
                "apns-priority": "5",
                "apns-push-type": "background",
            },
            "payload": {"aps": {"content-available": 1}},
        },
    }})
}

/// A response of Firebase.
struct Answer {
    status: StatusCode,
    /// As it would be of any endpoint.
    outcome: Result<(), SendError>,
    fault: Fault,
}

impl Answer {
    /// Reports whether the access token is not taken. What Apple does not take of the project has the same status, and no token mends it.
    fn is_of_token(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED && !self.fault.is("THIRD_PARTY_AUTH_ERROR")
    }

    /// Returns what the response means: a fault of the project is none of the subscription.
    fn judge(self) -> Result<(), SendError> {
        let Self { status, outcome, fault } = self;
        let why = || format!("status {}{}", status.as_u16(), fault.word());
        match (status, outcome) {
            (_, Ok(())) => Ok(()),
            (_, Err(later @ (SendError::Later { .. } | SendError::Limited { .. }))) => Err(later),
            // The app was removed, or has another token now.
            _ if fault.is("UNREGISTERED") || fault.is_of_registration() => Err(SendError::Gone),
            // The token of an app of another project.
            _ if fault.is("SENDER_ID_MISMATCH") => Err(SendError::Refused(why())),
            (
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE,
                _,
            ) => Err(SendError::Misconfigured(format!(
                "Firebase refuses the service account of spec.notifications.fcm: {}",
                why()
            ))),
            _ => Err(SendError::Refused(why())),
        }
    }
}

/// What Google says of a request that failed. A response of another kind says nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fault {
    status: String,
    message: String,
    details: Vec<Detail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    error_code: String,
    field_violations: Vec<Violation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Violation {
    field: String,
}

impl Fault {
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: Fault,
        }

        serde_json::from_slice::<Body>(body).map(|body| body.error).unwrap_or_default()
    }

    /// Reports whether it is of this code of Firebase.
    fn is(&self, code: &str) -> bool {
        self.details.iter().any(|detail| detail.error_code == code)
    }

    /// Reports whether what a user registered is no token. Firebase names the field or says so in words.
    fn is_of_registration(&self) -> bool {
        let mut violations = self.details.iter().flat_map(|detail| &detail.field_violations);
        let names_token = violations.any(|violation| violation.field == "message.token")
            || self.message.contains("registration token");
        self.status == "INVALID_ARGUMENT" && names_token
    }

    /// Returns the word of Google for it, for logs: nothing that could be a part of a request.
    fn word(&self) -> String {
        let is_word = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        let words = self.details.iter().map(|detail| &detail.error_code).chain([&self.status]);
        let mut words = words.filter(|word| (1..=40).contains(&word.len()) && word.bytes().all(is_word));
        words.next().map(|word| format!(" {word}")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use contracts::{ChatId, UserId};

    use super::*;
    use crate::domain::NoticeText;

    fn notice(title: Option<&str>, has_text: bool) -> Notice {
        let message = has_text.then(|| NoticeText {
            sender: UserId::generate(),
            name: "Ann".to_owned(),
            text: "hello".to_owned(),
            sent_at_ms: 1,
        });
        Notice {
            chat: ChatId::generate(),
            kind: if title.is_some() { "group" } else { "direct" }.to_owned(),
            title: title.map(str::to_owned),
            seq: 7,
            message,
            unread: 2,
            mentions: 0,
            badge: 12,
        }
    }

    #[test]
    fn a_message_is_data_of_one_chat_with_a_text_only_where_the_user_wants_texts() {
        let group = notice(Some("Cats"), true);
        let sent = message("a token", &group, 1_700_000_000);
        let chat = json!(group.chat);
        let data = json!({"chat": chat, "seq": "7", "badge": "12", "title": "Cats", "body": "Ann: hello"});
        assert_eq!(sent["message"]["data"], data);
        assert_eq!(sent["message"]["token"], "a token");
        let android = json!({"collapse_key": chat, "ttl": "86400s", "priority": "NORMAL"});
        assert_eq!(sent["message"]["android"], android);
        let headers = &sent["message"]["apns"]["headers"];
        assert_eq!(
            (&headers["apns-collapse-id"], &headers["apns-expiration"]),
            (&chat, &json!("1700086400"))
        );
        assert!(sent["message"].get("notification").is_none(), "the app decides what is shown");

        let direct = message("a token", &notice(None, true), 0);
        assert_eq!(direct["message"]["data"]["title"], "Ann");
        assert_eq!(direct["message"]["data"]["body"], "hello");
        assert_eq!(direct["message"]["android"]["priority"], "HIGH");
        let silent = message("a token", &notice(Some("Cats"), false), 0);
        let keys: Vec<_> = silent["message"]["data"].as_object().unwrap().keys().cloned().collect();
        assert!(!keys.contains(&"title".to_owned()) && !keys.contains(&"body".to_owned()), "{keys:?}");
    }

    #[test]
    fn only_what_is_said_of_the_token_concerns_the_subscription() {
        let judge = |status: u16, body: Value| {
            let status = StatusCode::from_u16(status).unwrap();
            let outcome = match status {
                _ if status.is_success() => Ok(()),
                _ if status.is_server_error() => {
                    Err(SendError::Later { why: status.to_string(), after: None })
                }
                StatusCode::NOT_FOUND => Err(SendError::Gone),
                _ => Err(SendError::Refused(status.to_string())),
            };
            Answer { status, outcome, fault: Fault::read(body.to_string().as_bytes()) }.judge()
        };
        let fault = |status: &str, code: &str| {
            let detail =
                json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code});
            json!({"error": {"code": 1, "status": status, "message": "x", "details": [detail]}})
        };
        assert_eq!(judge(200, json!({"name": "projects/x/messages/1"})), Ok(()));
        assert_eq!(judge(404, fault("NOT_FOUND", "UNREGISTERED")), Err(SendError::Gone));
        // A project that there is not: no subscription is at fault.
        for body in
            [json!({"error": {"status": "NOT_FOUND", "details": "none"}}), json!("<html>"), json!(null)]
        {
            assert!(matches!(judge(404, body), Err(SendError::Misconfigured(_))));
        }
        let violation = json!({"fieldViolations": [{"field": "message.token", "description": "x"}]});
        let bad_token = json!({"error": {"status": "INVALID_ARGUMENT", "details": [violation]}});
        assert_eq!(judge(400, bad_token), Err(SendError::Gone));
        let in_words = json!({"error": {"status": "INVALID_ARGUMENT", "message": "The registration token is not a \
            valid FCM registration token"}});
        assert_eq!(judge(400, in_words), Err(SendError::Gone));
        let refused = |text: &str| Err(SendError::Refused(text.to_owned()));
        assert_eq!(
            judge(400, fault("INVALID_ARGUMENT", "INVALID_ARGUMENT")),
            refused("status 400 INVALID_ARGUMENT")
        );
        assert_eq!(
            judge(403, fault("PERMISSION_DENIED", "SENDER_ID_MISMATCH")),
            refused("status 403 SENDER_ID_MISMATCH")
        );
        let Err(SendError::Misconfigured(why)) = judge(403, fault("PERMISSION_DENIED", "")) else {
            panic!("it is the project's");
        };
        assert!(why.ends_with("status 403 PERMISSION_DENIED"), "{why}");
        assert!(matches!(judge(503, fault("UNAVAILABLE", "UNAVAILABLE")), Err(SendError::Later { .. })));
    }
}
