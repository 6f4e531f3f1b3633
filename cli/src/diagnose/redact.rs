//! What looks like a secret is replaced, wherever it stands. It is not known to be one: what is replaced too much is the price of that.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

/// What stands instead.
pub(super) const REDACTED: &str = "[redacted]";

/// The shortest word that is taken for a secret for how it looks, when it has letters of both cases and digits.
const MIXED_LENGTH: usize = 28;
/// The same of letters and digits, whatever case.
const PLAIN_LENGTH: usize = 32;

/// A key, to its end or to that of the text.
static PRIVATE_KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)")
});
/// Headers of which all is secret, to the end of the line or of the text that they are in. A value may be JSON, and that JSON within JSON.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(\\?"?\s*[:=]\s*)(\\"[^"\\]*\\"|\\?"(?:[^"\\]|\\.)*"?|[^"\r\n]+)"#,
    )
});
/// What is presented to a server, without its header.
static SCHEME: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"));
/// What is named as a secret: `"password":"x"`, `token=x`, `client_secret: x`. An object or a list is not.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|signature)[a-z0-9_.-]*)(\\?"?\s*[:=]\s*)(\\"[^"\\]*\\"|\\?"(?:[^"\\]|\\.)*"?|'[^'\r\n]*'|[^\s,;&{}\[\]"]+)"#,
    )
});
/// The user and the password in a URL. A password that is written without escapes may have in it what ends it.
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/\s"'@:]*:[^\s"'@]*@|[^/\s"'@]+@)(?:[^/\s"'@]*@)*"#)
});
/// A token of the realm.
static JWT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}"));
/// A long word, perhaps behind what says that it is a digest or the id of a trace.
static WORD: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"((?i:sha256:|trace_?id[^A-Za-z0-9]{1,5}))?([A-Za-z0-9_+=-]{28,})"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of ours is one")
}

/// Returns a text without what looks like a secret.
pub(super) fn redacted(text: &str) -> String {
    let text = PRIVATE_KEY.replace_all(text, REDACTED);
    let text = replaced(&HEADER, &text, named);
    let text = replaced(&SCHEME, &text, |found| format!("{} {REDACTED}", &found[1]));
    let text = replaced(&USER_INFO, &text, |found| format!("{}{REDACTED}@", &found[1]));
    let text = replaced(&NAMED, &text, named);
    let text = JWT.replace_all(&text, REDACTED);
    let text = replaced(&WORD, &text, |found| {
        let (before, word) = (found.get(1).map_or("", |before| before.as_str()), &found[2]);
        let is_kept = !looks_secret(word) || !before.is_empty() && is_hex(word);
        if is_kept { found[0].to_owned() } else { format!("{before}{REDACTED}") }
    });
    text.into_owned()
}

fn replaced<'a>(what: &Regex, text: &'a str, with: impl Fn(&Captures<'_>) -> String) -> Cow<'a, str> {
    what.replace_all(text, |found: &Captures<'_>| with(found))
}

/// Keeps a name and the quotes of its value, so that JSON stays JSON.
fn named(found: &Captures<'_>) -> String {
    let quote = if found[3].starts_with('\\') {
        "\\\""
    } else if found[3].starts_with('"') {
        "\""
    } else if found[3].starts_with('\'') {
        "'"
    } else {
        ""
    };
    format!("{}{}{quote}{REDACTED}{quote}", &found[1], &found[2])
}

/// Returns whether a word looks like it was drawn: names of this project and of Kubernetes have small letters, and ids have hyphens.
fn looks_secret(word: &str) -> bool {
    let has = |of: fn(&u8) -> bool| word.bytes().any(|byte| of(&byte));
    let is_mixed = word.len() >= MIXED_LENGTH
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase);
    let is_plain = |part: &str| {
        part.len() >= PLAIN_LENGTH
            && part.bytes().any(|byte| byte.is_ascii_digit())
            && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    is_mixed || word.split(|c: char| !c.is_ascii_alphanumeric()).any(is_plain)
}

fn is_hex(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A token as a realm makes them, of no realm.
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLW9mLW5vYm9keQ";
    /// As the operator draws passwords: hexadecimal.
    const PASSWORD: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c";

    #[test]
    fn what_looks_like_a_secret_is_replaced() {
        for (text, secret) in [
            (format!("GET /ws Authorization: Bearer {TOKEN}"), TOKEN),
            (format!("bearer {TOKEN} is refused"), TOKEN),
            (format!("token {TOKEN} is refused"), TOKEN),
            (format!("authorization: Token {TOKEN}"), TOKEN),
            ("cookie: session=abc; other=def".to_owned(), "def"),
            ("Set-Cookie: a=b".to_owned(), "a=b"),
            ("authorization: Basic YW5uOnBhc3M=".to_owned(), "YW5uOnBhc3M="),
            ("basic YW5uOnBhc3M=".to_owned(), "YW5uOnBhc3M="),
            ("password=hunter2 for ann".to_owned(), "hunter2"),
            ("passwd: hunter2".to_owned(), "hunter2"),
            ("POSTGRES_PASSWORD=hunter2,x".to_owned(), "hunter2"),
            (r#"{"client_secret":"hunter2","user":"ann"}"#.to_owned(), "hunter2"),
            (r#"{"message":"{\"token\":\"hunter2\"}"}"#.to_owned(), "hunter2"),
            (r#"{"password":"hunter\"2"}"#.to_owned(), "2\""),
            ("/files/7?signature=hunter2&expires=9".to_owned(), "hunter2"),
            ("?X-Amz-Signature=hunter2".to_owned(), "hunter2"),
            ("x-api-key: hunter2".to_owned(), "hunter2"),
            ("redis://acme:hunter2@10.0.0.1:6379/0".to_owned(), "hunter2"),
            ("amqps://hunter2@10.0.0.1".to_owned(), "hunter2"),
            // As they are written by who does not escape them.
            ("amqps://acme:hun@ter2@10.0.0.1".to_owned(), "ter2"),
            ("postgres://acme:hun/ter2@10.0.0.1/acme".to_owned(), "ter2"),
            ("host=db password='hunter 2' dbname=acme".to_owned(), "2'"),
            (format!("refused: {PASSWORD}"), PASSWORD),
            ("refused: q83vEjRWeJASNFZ4kBI0Vnix".to_owned() + "AbCd1", "q83vEjRWeJASNFZ4"),
            ("refused: 0af7651916cd43dd8448eb211c80319c".to_owned(), "0af7651916cd43dd"),
            ("a\n-----BEGIN PRIVATE KEY-----\nMIIE\nabc\n-----END PRIVATE KEY-----\nb".to_owned(), "MIIE"),
            ("-----BEGIN EC PRIVATE KEY-----\nMIIE, and the end is cut".to_owned(), "MIIE"),
            (r#""-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----""#.to_owned(), "MIIE"),
        ] {
            let shown = redacted(&text);
            assert!(!shown.contains(secret), "{text}\nis shown as\n{shown}");
            assert!(shown.contains(REDACTED), "{shown}");
        }
    }

    #[test]
    fn what_explains_a_state_stays() {
        for text in [
            "2026-11-30T12:00:00.123456Z  WARN gateway::socket: connection 01a1fdc7-0da9-7324-9770-ba70b55679f5 ends: gone",
            "acme-gateway-7d9f8b6c5-abcde",
            "acme-notification-5c8d9f7b6d-x2x4z on node posthouse-control-plane-0123456789",
            r#"{"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","message":"slow"}"#,
            "posthouse/gateway@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            r#"posthouse_gateway_close_total{reason="token expired",tenant="acme"} 3"#,
            "posthouse_process_trace_spans_total_of_the_gateway_2 7",
            r#"{"adminSecretRef":{"name":"cell-local-kafka"},"partitions":12}"#,
            "the token expired; the client signs in again",
            "failed to reach http://keycloak.backends.svc:8080/realms/mt-acme",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    #[test]
    fn json_stays_json() {
        let line = json!({
            "level": "WARN", "password": "hunter2", "headers": { "authorization": format!("Bearer {TOKEN}"), "n": 1 },
            "url": "redis://acme:hunter2@10.0.0.1", "said": "token=\"hunter2\"", "code": 401,
        });
        let shown = redacted(&line.to_string());
        assert!(!shown.contains("hunter2") && !shown.contains("eyJ"), "{shown}");
        let read: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!((&read["level"], &read["code"]), (&json!("WARN"), &json!(401)));
        assert_eq!((&read["password"], &read["headers"]["n"]), (&json!(REDACTED), &json!(1)));
    }
}
