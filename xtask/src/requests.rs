//! What the descriptions of the REST APIs say of requests that are repeated.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

/// Requests that need no `idempotency-key`, and why a repetition does no harm. All others have one.
const WITHOUT_KEY: [(&str, &str); 30] = [
    ("/api/auth/change-password", "the second is refused: the current password is another one"),
    ("/api/auth/delete-account", "an account is deleted once"),
    ("/api/auth/email/confirm", "a link is good once"),
    ("/api/auth/login", "a code is good once"),
    ("/api/auth/password/forgot", "a link takes the place of the one before"),
    ("/api/auth/password/reset", "a link is good once"),
    ("/api/auth/refresh", "a refresh token gives the same tokens for ten seconds"),
    ("/api/auth/sign-in", "a session more ends with its refresh token, and a key would have to keep tokens"),
    ("/api/auth/sign-out", "a session ends once"),
    ("/api/chats/{chat}/join", "a member is in the chat once"),
    ("/api/chats/{chat}/leave", "a member leaves once"),
    ("/api/chats/{chat}/members", "each user is in the chat once"),
    ("/api/chats/{chat}/scheduled", "the body has the key of the message"),
    ("/api/chats/{chat}/scheduled/{key}/send", "a message is sent once under its key"),
    ("/api/invites/{code}/join", "a member is in the chat once, and takes one use of the link"),
    ("/api/media/avatars", "pictures are looked up, and nothing is made"),
    ("/api/media/files/{file}/complete", "an upload is completed once"),
    ("/api/media/previews", "a link is looked at, and nothing is made"),
    ("/api/moderation/appeals", "a user appeals once against a sanction"),
    ("/api/moderation/appeals/{appeal}/decision", "an appeal is decided once"),
    ("/api/moderation/reports", "a user reports a message once"),
    ("/api/moderation/reports/{report}/decision", "a report is decided once"),
    ("/api/moderation/rule-sets/{rule_set}/enforce", "a draft is enforced once"),
    ("/api/moderation/rule-sets/{rule_set}/retire", "a rule set is retired once"),
    ("/api/moderation/rule-sets/{rule_set}/shadow", "a run takes the place of the one before"),
    ("/api/moderation/sanctions/{sanction}/lift", "a sanction is lifted once"),
    ("/api/notifications/confirmations", "an address is confirmed once"),
    ("/api/notifications/subscriptions", "an endpoint is subscribed once for a user"),
    ("/api/notifications/subscriptions/{subscription}/confirmation", "a number is confirmed once"),
    ("/api/notifications/unsubscriptions/{token}", "a subscription ends once"),
];

/// Those that create something under a key in their body.
const KEY_IN_BODY: [&str; 1] = ["/api/chats/{chat}/scheduled"];

/// Returns the path and description of every operation with this method.
fn operations(method: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the descriptions") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a description");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            if let Some(operation) = item.get(method) {
                found.push((path.clone(), operation.clone()));
            }
        }
    }
    found
}

fn has_key(operation: &Value) -> bool {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let mut headers = parameters.filter(|parameter| parameter["in"] == "header");
    headers.any(|header| header["name"] == "idempotency-key")
}

#[test]
fn a_request_that_creates_something_may_be_repeated() {
    let posts = operations("post");
    assert!(!posts.is_empty());
    let mut without = BTreeSet::new();
    for (path, operation) in &posts {
        let responses = &operation["responses"];
        if has_key(operation) {
            for status in ["200", "201"] {
                assert!(
                    responses[status].is_object(),
                    "{path} has a key, and no {status} for its repetition"
                );
            }
        } else {
            assert!(
                responses["201"].is_null() || KEY_IN_BODY.contains(&path.as_str()),
                "{path} creates something and has no idempotency-key"
            );
            without.insert(path.as_str());
        }
    }
    let named: BTreeSet<_> = WITHOUT_KEY.into_iter().map(|(path, _)| path).collect();
    assert_eq!(without, named, "what has no idempotency-key is named with the reason, and nothing else is");
}

#[test]
fn only_a_post_creates_more_when_it_is_repeated() {
    for method in ["put", "patch", "delete", "get"] {
        for (path, operation) in operations(method) {
            assert!(!has_key(&operation), "{method} {path} has a key, and is the same when it is repeated");
        }
    }
}
