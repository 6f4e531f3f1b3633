//! Stories over REST.

use std::sync::atomic::Ordering;

use contracts::{
    ChatId, UserId,
    api::{RuleSet, RuleSetState, SanctionKind},
};
use kit::testing::{TestRealm, TestUser, wait_for};
use moderation::{
    domain::Change,
    store::{AuditFilter, ModerationStore as _},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::stand::{MODERATOR_ID, PATIENCE, SESSION_REQUESTS, Stand, rule_set, sanction, words};

#[tokio::test]
async fn a_report_goes_from_the_user_to_the_decision_and_the_appeal() {
    let stand = Stand::start().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    let (moderator, chat) = (stand.moderator(), ChatId::generate());
    stand.peers.store(chat, 7, ben.id, "an insult", &[&ann, &ben]);
    let request = json!({"chat": chat, "seq": 7, "reason": "abuse", "comment": "he said it again"});
    let report = stand.post(&ann, "reports", request.clone(), 200).await;
    assert_eq!((&report["state"], &report["evidence"]["text"]), (&"open".into(), &"an insult".into()));
    let path = |end: &str| format!("/api/moderation/{end}");
    let other = stand.api.post(&eve, &path("reports"), request.clone()).await;
    assert_eq!((other.status, other.code()), (403, "not_a_member"));
    let unknown = json!({"chat": chat, "seq": 8, "reason": "abuse"});
    assert_eq!(stand.api.post(&ann, &path("reports"), unknown).await.code(), "not_found");
    // The evidence is of the time of the report, and there is one.
    stand.peers.store(chat, 7, ben.id, "nothing", &[&ann, &ben]);
    assert_eq!(stand.post(&ann, "reports", request, 200).await["id"], report["id"]);

    let queue = stand.get(&moderator, "reports?state=open").await;
    assert_eq!(queue["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(queue["items"][0]["evidence"]["text"], "an insult");
    assert_eq!(queue["items"][0]["by"], json!(ann.id));
    let decision = json!({
        "upheld": true, "delete": true, "note": "no insults",
        "sanction": {"kind": "ban", "seconds": 86_400},
    });
    let decide = format!("reports/{}/decision", report["id"].as_str().expect("an id"));
    let decided = stand.post(&moderator, &decide, decision.clone(), 200).await;
    assert_eq!((&decided["state"], &decided["decision"]["by"]), (&"upheld".into(), &json!(moderator.id)));
    assert_eq!(stand.api.post(&moderator, &path(&decide), decision).await.code(), "conflict");
    assert!(stand.get(&moderator, "reports?state=open").await["items"].as_array().expect("items").is_empty());
    stand.peers.is_restricted(ben.id, Some(chat), (true, true)).await;
    assert_eq!(stand.sent(1).await[0].target_seq, Some(7));

    let own = stand.get(&ben, "own").await;
    let sanction = &own["sanctions"][0];
    assert_eq!((&sanction["note"], sanction.get("by")), (&"no insults".into(), None));
    let appeal = json!({"sanction": sanction["id"], "text": "it was a joke"});
    assert_eq!(stand.api.post(&eve, &path("appeals"), appeal.clone()).await.code(), "not_found");
    let created = stand.post(&ben, "appeals", appeal.clone(), 200).await;
    assert_eq!(stand.api.post(&ben, &path("appeals"), appeal).await.code(), "conflict");
    let open = stand.get(&moderator, "appeals?state=open").await;
    assert_eq!(open["items"][0]["text"], "it was a joke");
    let decide = format!("appeals/{}/decision", created["id"].as_str().expect("an id"));
    let answer = json!({"accepted": true, "note": "it was"});
    stand.post(&moderator, &decide, answer.clone(), 200).await;
    assert_eq!(stand.api.post(&moderator, &path(&decide), answer).await.code(), "conflict");
    stand.peers.is_restricted(ben.id, Some(chat), (false, false)).await;
    let own = stand.get(&ben, "own").await;
    assert_eq!(own["sanctions"][0]["lifted"]["note"], "it was");
    assert_eq!(own["appeals"][0]["state"], "accepted");
    assert!(own["appeals"][0]["decision"].get("by").is_none(), "{own}");

    let audit = stand.get(&moderator, "audit?limit=3").await;
    let actions = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items.iter().map(|item| item["action"].as_str().expect("a word").to_owned()).collect()
    };
    assert_eq!(actions(&audit), ["sanction_lifted", "appeal_accepted", "appeal_created"]);
    assert_eq!(
        (&audit["items"][0]["by"], &audit["items"][0]["user"]),
        (&json!(moderator.id), &json!(ben.id))
    );
    let next = audit["next_cursor"].as_str().expect("a cursor");
    let rest = stand.get(&moderator, &format!("audit?cursor={next}")).await;
    assert_eq!(actions(&rest), ["sanction_created", "message_deleted", "report_upheld", "report_created"]);
}

#[tokio::test]
async fn a_ban_closes_the_account_until_it_is_lifted() {
    let stand = Stand::start().await;
    let (moderator, user) = (stand.moderator(), UserId::generate());
    let ban = json!({"user": user, "kind": "ban", "note": "spam"});
    let first = stand.post(&moderator, "sanctions", ban.clone(), 201).await;
    let second = stand.post(&moderator, "sanctions", ban, 201).await;
    stand.peers.is_closed(user, true).await;
    let lift = |sanction: &Value| format!("sanctions/{}/lift", sanction["id"].as_str().expect("an id"));
    stand.post(&moderator, &lift(&first), json!({"note": "a mistake"}), 200).await;
    let again = format!("/api/moderation/{}", lift(&first));
    assert_eq!(stand.api.post(&moderator, &again, json!({"note": "again"})).await.code(), "conflict");
    stand.post(&moderator, &lift(&second), json!({"note": "a mistake"}), 200).await;
    stand.peers.is_closed(user, false).await;
    // A ban for a time ends by itself.
    let short = json!({"user": user, "kind": "ban", "seconds": 1, "note": "spam"});
    stand.post(&moderator, "sanctions", short, 201).await;
    stand.peers.is_closed(user, true).await;
    stand.peers.is_closed(user, false).await;
    // What is repeated is one sanction.
    let keyed = async |note: &str, seconds: Option<u32>| {
        let body = json!({"user": user, "kind": "warning", "note": note, "seconds": seconds});
        let (line, headers) = ("POST /api/moderation/sanctions", [("idempotency-key", "one")]);
        stand.api.send_with(line, Some(&moderator.token), &headers, Some(body)).await
    };
    let warning = keyed("a warning", Some(60)).await.ok(201);
    assert_eq!(keyed("a warning", Some(60)).await.ok(200), warning);
    for (note, seconds) in [("another", Some(60)), ("a warning", Some(61)), ("a warning", None)] {
        assert_eq!(keyed(note, seconds).await.code(), "idempotency_conflict", "{note} {seconds:?}");
    }
    // A mute concerns no account.
    let other = UserId::generate();
    stand.post(&moderator, "sanctions", json!({"user": other, "kind": "mute", "note": ""}), 201).await;
    stand.peers.is_restricted(other, None, (true, false)).await;
    assert!(!stand.peers.closed.lock().expect("no panic").contains_key(&other.to_string()));
    let listed = stand.get(&moderator, &format!("sanctions?user={user}")).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn rule_sets_are_drafts_until_they_are_enforced() {
    let stand = Stand::start().await;
    let moderator = stand.moderator();
    let set = json!({"name": "first", "rules": words(&["scam"])});
    let set = stand.post(&moderator, "rule-sets", set, 201).await;
    assert_eq!((&set["state"], set.get("enforced_from_ms")), (&"draft".into(), None));
    let path = |end: &str| format!("rule-sets/{}{end}", set["id"].as_str().expect("an id"));
    let send = async |end: &str| {
        let line = format!("POST /api/moderation/{}", path(end));
        stand.api.send(&line, Some(&moderator.token), None).await
    };
    assert_eq!(send("/retire").await.code(), "conflict");
    let enforced = send("/enforce").await.ok(200);
    assert!(enforced["enforced_from_ms"].as_i64() > set["created_at_ms"].as_i64());
    assert_eq!(send("/enforce").await.code(), "conflict");
    assert_eq!(send("/retire").await.ok(200)["state"], "retired");
    assert_eq!(stand.get(&moderator, &path("")).await["state"], "retired");
    assert_eq!(stand.get(&moderator, &path("/figures")).await["caught"], 0);
    assert_eq!(stand.get(&moderator, "rule-sets").await["items"].as_array().map(Vec::len), Some(1));
    let line = format!("/api/moderation/{}", path("/shadow"));
    assert_eq!(stand.api.get(&moderator, &line).await.code(), "not_found");
    let unknown = "/api/moderation/rule-sets/00000000-0000-0000-0000-000000000001";
    assert_eq!(stand.api.get(&moderator, unknown).await.code(), "not_found");
    // What it may not have is refused, whatever else is right.
    let none = json!({"name": "none", "rules": []});
    let refused = stand.api.post(&moderator, "/api/moderation/rule-sets", none).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_argument"));
}

#[tokio::test]
async fn a_moderator_makes_room_for_rule_sets() {
    let stand = Stand::start().await;
    let moderator = stand.moderator();
    let create = async || {
        let set = json!({"name": "one", "rules": words(&["scam"])});
        stand.api.post(&moderator, "/api/moderation/rule-sets", set).await
    };
    let first = create().await.ok(201);
    for _ in 1..100 {
        create().await.ok(201);
    }
    assert_eq!(create().await.code(), "limit_reached");
    let line = format!("DELETE /api/moderation/rule-sets/{}", first["id"].as_str().expect("an id"));
    assert_eq!(stand.api.send(&line, Some(&moderator.token), None).await.status, 204);
    assert_eq!(stand.api.send(&line, Some(&moderator.token), None).await.code(), "not_found");
    let second = create().await.ok(201);
    let path = |end: &str| format!("rule-sets/{}{end}", second["id"].as_str().expect("an id"));
    for step in ["/enforce", "/retire"] {
        let line = format!("POST /api/moderation/{}", path(step));
        stand.api.send(&line, Some(&moderator.token), None).await.ok(200);
        let line = format!("DELETE /api/moderation/{}", path(""));
        let refused = stand.api.send(&line, Some(&moderator.token), None).await;
        assert_eq!(refused.code(), "conflict", "it is in force, or was until lately");
    }
}

#[tokio::test]
async fn the_patterns_of_a_set_count_for_a_day_after_it_is_retired() {
    let stand = Stand::start().await;
    let moderator = stand.moderator();
    let patterns = |of: &str, count: usize| -> Value {
        let rule = |n| json!({"name": format!("{n}"), "test": {"pattern": {"pattern": format!("{of} {n}")}}, "action": {"delete": true}});
        (0..count).map(rule).collect()
    };
    // It was retired long ago.
    let old = rule_set(patterns("old", 50), RuleSetState::Retired);
    let old = RuleSet { retired_from_ms: Some(2), ..old };
    stand.store.act(&[Change::RuleSetCreated(old)]).await.expect("it is created");
    let create = async |of: &str, count: usize| {
        let set = json!({"name": of, "rules": patterns(of, count)});
        let set = stand.post(&moderator, "rule-sets", set, 201).await;
        set["id"].as_str().expect("an id").to_owned()
    };
    let send = async |id: &str, end: &str| {
        let line = format!("POST /api/moderation/rule-sets/{id}/{end}");
        stand.api.send(&line, Some(&moderator.token), None).await
    };
    let (first, second, third) =
        (create("first", 50).await, create("second", 50).await, create("third", 1).await);
    for id in [&first, &second] {
        send(id, "enforce").await.ok(200);
    }
    assert_eq!(send(&third, "enforce").await.code(), "limit_reached");
    send(&first, "retire").await.ok(200);
    assert_eq!(send(&third, "enforce").await.code(), "limit_reached", "it judges what is read late");
}

#[tokio::test]
async fn a_user_who_is_no_moderator_is_refused() {
    let stand = Stand::start().await;
    let eve = stand.realm.user("eve");
    let set = rule_set(words(&["scam"]), RuleSetState::Draft);
    let id = set.id;
    stand.store.act(&[Change::RuleSetCreated(set)]).await.expect("it is created");
    let any = "00000000-0000-0000-0000-000000000001";
    let lift = json!({"note": ""});
    let sanction = json!({"user": eve.id, "kind": "warning", "note": ""});
    for (line, body) in [
        ("GET /api/moderation/rule-sets".to_owned(), None),
        ("POST /api/moderation/rule-sets".to_owned(), Some(json!({"name": "a", "rules": words(&["a"])}))),
        (format!("GET /api/moderation/rule-sets/{id}"), None),
        (format!("DELETE /api/moderation/rule-sets/{id}"), None),
        (format!("POST /api/moderation/rule-sets/{id}/enforce"), None),
        (format!("POST /api/moderation/rule-sets/{id}/retire"), None),
        (format!("GET /api/moderation/rule-sets/{id}/figures"), None),
        (format!("GET /api/moderation/rule-sets/{id}/shadow"), None),
        (format!("POST /api/moderation/rule-sets/{id}/shadow"), Some(json!({"days": 1}))),
        ("GET /api/moderation/reports".to_owned(), None),
        (format!("POST /api/moderation/reports/{any}/decision"), Some(json!({"upheld": false, "note": ""}))),
        ("GET /api/moderation/sanctions".to_owned(), None),
        ("POST /api/moderation/sanctions".to_owned(), Some(sanction)),
        (format!("POST /api/moderation/sanctions/{any}/lift"), Some(lift)),
        ("GET /api/moderation/appeals".to_owned(), None),
        (format!("POST /api/moderation/appeals/{any}/decision"), Some(json!({"accepted": true, "note": ""}))),
        ("GET /api/moderation/audit".to_owned(), None),
        ("GET /api/moderation/moderators".to_owned(), None),
        ("GET /api/moderation/usage".to_owned(), None),
        (format!("GET /api/moderation/users/{any}/sessions"), None),
        (format!("DELETE /api/moderation/users/{any}/sessions/one"), None),
    ] {
        let answer = stand.api.send(&line, Some(&eve.token), body).await;
        assert_eq!((answer.status, answer.code()), (403, "permission_denied"), "{line}");
    }
    assert_eq!(stand.get(&eve, "own").await["moderates"], false);
    assert_eq!(stand.get(&stand.moderator(), "own").await["moderates"], true);
    assert!(
        stand.store.audit(&AuditFilter::default(), i64::MAX, 10).await.expect("a read").is_empty(),
        "nothing was done"
    );
}

#[tokio::test]
async fn a_moderator_is_named_by_username_or_by_id() {
    let stand = Stand::start().await;
    let eve = stand.realm.user("eve");
    // The stand names her by an id, which is no username.
    let id = MODERATOR_ID;
    let named = stand.realm.token(id, "no moderator's name");
    let answer = stand.api.send("GET /api/moderation/reports", Some(&named), None).await;
    assert_eq!(answer.status, 200);
    let other = stand.realm.token(eve.id, &format!("id:{id}"));
    let answer = stand.api.send("GET /api/moderation/reports", Some(&other), None).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn moderators_see_whom_the_manifest_names_and_who_that_is() {
    let stand = Stand::start().await;
    let (moderator, eve) = (stand.moderator(), stand.realm.user("eve"));
    let id = format!("id:{MODERATOR_ID}");
    // No user has the other name yet, nor the id; what is no id names no user.
    stand
        .peers
        .names
        .lock()
        .expect("no panic")
        .extend([(moderator.id.to_string(), "mod".to_owned()), (eve.id.to_string(), "eve".to_owned())]);
    let expected =
        json!({"items": [{"named": "mod", "user": moderator.id}, {"named": "other"}, {"named": id}]});
    assert_eq!(stand.get(&moderator, "moderators").await, expected);
    let other = UserId::generate();
    stand
        .peers
        .names
        .lock()
        .expect("no panic")
        .extend([(other.to_string(), "other".to_owned()), (MODERATOR_ID.to_string(), "renamed".to_owned())]);
    let expected = json!({"items": [
        {"named": "mod", "user": moderator.id}, {"named": "other", "user": other},
        {"named": id, "user": MODERATOR_ID},
    ]});
    assert_eq!(stand.get(&moderator, "moderators").await, expected);
}

#[tokio::test]
async fn a_token_of_another_tenant_is_refused() {
    let stand = Stand::start().await;
    for path in ["rule-sets", "reports", "sanctions", "appeals", "audit", "moderators", "usage", "own"] {
        stand.api.refuses_strangers(&stand.realm, &format!("/api/moderation/{path}")).await;
    }
    // Also of a moderator there.
    let other = TestRealm::start("globex").await;
    let foreign = other.token(UserId::generate(), "mod");
    let answer = stand.api.send("GET /api/moderation/reports", Some(&foreign), None).await;
    assert_eq!((answer.status, answer.code()), (401, "unauthenticated"));
}

#[tokio::test]
async fn a_moderator_ends_a_session_of_a_user_and_it_is_noted() {
    let stand = Stand::start().await;
    let (moderator, user, other) = (stand.moderator(), UserId::generate(), UserId::generate());
    for (user, session) in [(user, "phone"), (user, "desk"), (other, "tablet")] {
        stand.peers.sessions.lock().expect("no panic").push((user, session.to_owned()));
    }
    let path = format!("users/{user}/sessions");
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items.iter().map(|item| item["session_id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&stand.get(&moderator, &path).await), ["phone", "desk"]);
    let end = async |session: &str| {
        let line = format!("DELETE /api/moderation/{path}/{session}");
        stand.api.send(&line, Some(&moderator.token), None).await
    };
    assert_eq!(end("tablet").await.code(), "not_found", "it is of another user");
    assert_eq!(end("phone").await.status, 204);
    assert_eq!(end("phone").await.code(), "not_found", "it has ended");
    assert_eq!(ids(&stand.get(&moderator, &path).await), ["desk"]);
    let audit = stand.get(&moderator, "audit?action=sessions_read").await;
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(2), "no moderator looks unseen: {audit}");
    let audit = stand.get(&moderator, "audit?action=session_ended").await;
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(1), "what was refused is not noted: {audit}");
    let entry = &audit["items"][0];
    assert_eq!((&entry["action"], &entry["subject"]), (&"session_ended".into(), &"phone".into()));
    assert_eq!((&entry["by"], &entry["user"]), (&json!(moderator.id), &json!(user)));

    stand.peers.realm_is_down.store(true, Ordering::Relaxed);
    assert_eq!(end("desk").await.code(), "unavailable");
}

#[tokio::test]
async fn moderators_do_not_end_sessions_of_each_other() {
    let stand = Stand::start().await;
    let (moderator, other) = (stand.moderator(), stand.realm.user("other"));
    for user in [moderator.id, other.id, MODERATOR_ID] {
        stand.peers.sessions.lock().expect("no panic").push((user, "phone".to_owned()));
    }
    for (user, name) in [(moderator.id, "mod"), (other.id, "other")] {
        stand.peers.names.lock().expect("no panic").insert(user.to_string(), name.to_owned());
    }
    for (user, status) in [(other.id, 403), (MODERATOR_ID, 403), (moderator.id, 204)] {
        let line = format!("DELETE /api/moderation/users/{user}/sessions/phone");
        let answer = stand.api.send(&line, Some(&moderator.token), None).await;
        assert_eq!(answer.status, status, "{line}");
    }
    assert_eq!(stand.peers.sessions.lock().expect("no panic").len(), 2);
}

#[tokio::test]
async fn a_moderator_asks_about_sessions_at_a_pace_of_their_own() {
    let stand = Stand::start().await;
    let line = format!("GET /api/moderation/users/{}/sessions", UserId::generate());
    let ask = async |moderator: &TestUser| stand.api.send(&line, Some(&moderator.token), None).await;
    let moderator = stand.moderator();
    for _ in 0..SESSION_REQUESTS {
        assert_eq!(ask(&moderator).await.status, 200);
    }
    let refused = ask(&moderator).await;
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
    assert_eq!(ask(&stand.realm.user("other")).await.status, 200);
}

#[tokio::test]
async fn the_audit_log_is_narrowed_by_what_was_done_and_to_whom() {
    let stand = Stand::start().await;
    let (moderator, ann, ben) = (stand.moderator(), UserId::generate(), UserId::generate());
    for (user, kind) in [(ann, "warning"), (ben, "mute"), (ann, "ban")] {
        let sanction = json!({"user": user, "kind": kind, "note": ""});
        stand.post(&moderator, "sanctions", sanction, 201).await;
    }
    let found = async |filter: &str| {
        let page = stand.get(&moderator, &format!("audit?{filter}")).await;
        page["items"].as_array().expect("items").len()
    };
    assert_eq!(found(&format!("user={ann}")).await, 2);
    assert_eq!(found(&format!("user={ann}&action=sanction_created&by={}", moderator.id)).await, 2);
    assert_eq!(found(&format!("by={ann}")).await, 0);
    assert_eq!(found("action=sanction_lifted").await, 0);
    assert_eq!(found("from_ms=1").await, 3);
    assert_eq!(found("to_ms=1").await, 0);
    for refused in ["action=", "action=Sanction", "action=a%00", "user=ann", "from_ms=today", "color=red"] {
        let answer = stand.api.get(&moderator, &format!("/api/moderation/audit?{refused}")).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_argument"), "{refused}");
    }
}

#[tokio::test]
async fn usage_is_counted() {
    let stand = Stand::start().await;
    let (moderator, user) = (stand.moderator(), UserId::generate());
    for seconds in [Some(60), None] {
        let mute = json!({"user": user, "kind": "mute", "note": "", "seconds": seconds});
        stand.post(&moderator, "sanctions", mute, 201).await;
    }
    stand.enforce(words(&["scam"])).await;
    let expected = json!({
        "users": 12, "open_reports": 0, "open_appeals": 0, "muted_users": 1, "banned_users": 0,
        "enforced_rule_sets": 1, "caught": 0,
    });
    assert_eq!(stand.get(&moderator, "usage").await, expected);
}

#[tokio::test]
async fn a_ban_that_is_carried_out_is_noted() {
    let stand = Stand::start().await;
    let (moderator, user) = (stand.moderator(), UserId::generate());
    let ban = json!({"user": user, "kind": "ban", "note": ""});
    stand.post(&moderator, "sanctions", ban, 201).await;
    stand.peers.is_closed(user, true).await;
    // It is noted as done: nothing is left to carry out.
    is_settled(&stand).await;
}

/// Waits until all that was decided is carried out.
async fn is_settled(stand: &Stand) {
    wait_for("the end of the work", PATIENCE, || async {
        (stand.store.unfinished_standings() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_account_that_others_closed_stays_closed() {
    let stand = Stand::start().await;
    let (moderator, user) = (stand.moderator(), UserId::generate());
    // An administrator of the realm has.
    stand.peers.closed.lock().expect("no panic").insert(user.to_string(), true);
    let ban = json!({"user": user, "kind": "ban", "note": "spam"});
    let ban = stand.post(&moderator, "sanctions", ban, 201).await;
    is_settled(&stand).await;
    stand.peers.is_restricted(user, None, (true, true)).await;
    let lift = format!("sanctions/{}/lift", ban["id"].as_str().expect("an id"));
    stand.post(&moderator, &lift, json!({"note": "a mistake"}), 200).await;
    is_settled(&stand).await;
    stand.peers.is_restricted(user, None, (false, false)).await;
    assert_eq!(stand.peers.closed.lock().expect("no panic").get(&user.to_string()), Some(&true));
}

#[tokio::test]
async fn while_the_realm_is_down_who_is_banned_writes_nothing() {
    let stand = Stand::start().await;
    let (moderator, user) = (stand.moderator(), UserId::generate());
    stand.peers.realm_is_down.store(true, Ordering::Relaxed);
    let ban = json!({"user": user, "kind": "ban", "note": "spam"});
    stand.post(&moderator, "sanctions", ban, 201).await;
    stand.peers.is_restricted(user, None, (true, true)).await;
    stand.peers.realm_is_down.store(false, Ordering::Relaxed);
    stand.peers.is_closed(user, true).await;
}

#[tokio::test]
async fn while_the_realm_is_down_a_mute_waits_for_no_ban() {
    let stand = Stand::start().await;
    stand.peers.realm_is_down.store(true, Ordering::Relaxed);
    let bans: Vec<_> = (1..=60)
        .map(|n| sanction(UserId(Uuid::from_u128(n)), None, SanctionKind::Ban, None))
        .map(Change::Sanctioned)
        .collect();
    stand.store.act(&bans).await.expect("they are written");
    let (moderator, chat, last) = (stand.moderator(), ChatId::generate(), UserId(Uuid::max()));
    let mute = json!({"user": last, "chat": chat, "kind": "mute", "note": "spam"});
    stand.post(&moderator, "sanctions", mute, 201).await;
    stand.peers.is_restricted(last, Some(chat), (true, false)).await;
    // All of them are tried, and the chat service knows of each.
    stand.peers.is_restricted(UserId(Uuid::from_u128(60)), None, (true, true)).await;
}
