//! Stories over REST and gRPC.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, response::Html, routing::get};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{TimeDelta, Utc};
use contracts::{
    ChatId, FileId, UserId,
    rpc::{DescribeFilesRequest, media_service_server::MediaService as _},
};
use kit::{deletions, testing::TestUser};
use media::{
    domain::{Attached, Change, MAX_ATTEMPTS},
    scan::Scanner,
    store::FileStore,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::{Code, Request};

use super::stand::{QUOTAS, Stand, id, picture};

/// Notes that a message of a chat has a file.
async fn attach(stand: &Stand, chat: ChatId, seq: i64, sender: UserId, file: &Value) {
    let attached = Attached { chat, seq, sender, files: vec![id(file)], expires_at: None };
    stand.store.apply(0, seq, &[Change::Attached(attached)], Utc::now()).await.expect("it is applied");
}

async fn describe(stand: &Stand, chat: ChatId, user: UserId, files: &[FileId]) -> Result<Vec<String>, Code> {
    let request = DescribeFilesRequest {
        chat_id: chat.to_string(),
        user_id: user.to_string(),
        file_ids: files.iter().map(FileId::to_string).collect(),
    };
    let answer = stand.rpc.describe_files(Request::new(request)).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().files.into_iter().map(|file| file.r#type).collect())
}

#[tokio::test]
async fn a_picture_is_uploaded_and_read_by_the_members_of_the_chat_alone() {
    let stand = Stand::start().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    let chat = stand.chat(&[&ann, &ben]);
    let bytes = picture(640, 480);
    let file = stand.upload(&ann, json!({"chat": chat}), "image/png", &bytes).await;
    assert_eq!((&file["state"], &file["type"]), (&"ready".into(), &"image/png".into()), "{file}");
    assert_eq!((&file["width"], &file["height"]), (&640.into(), &480.into()));
    assert_eq!(file["has_thumbnail"], true);
    assert!(file.get("upload").is_none());
    // No message has it yet: it is Ann's own.
    assert_eq!(stand.get(&ben, &file).await.code(), "not_found");
    assert_eq!(describe(&stand, chat, ann.id, &[id(&file)]).await, Ok(vec!["image/png".to_owned()]));
    // From here on a gateway sends it.
    let seen = stand.get(&ben, &file).await.ok(200);
    assert_eq!(seen["name"], "two cats.bin");
    attach(&stand, chat, 1, ann.id, &file).await;
    for link in ["content", "thumbnail"] {
        let content = stand.fetch(&seen["links"][link], &[]).await;
        assert_eq!(content.status, 200);
        assert!(content.is_user_content, "a browser is to give it no origin");
        assert_eq!(content.body.len().to_string(), content.header("content-length"));
        assert!(content.header("content-disposition").starts_with("inline; filename=\"two cats.bin\""));
        assert!(content.header("cache-control").starts_with("private, max-age="));
        assert!(image::load_from_memory(&content.body).is_ok());
    }
    assert_eq!(stand.get(&eve, &file).await.code(), "not_found");
    // A link is its user's, and is checked each time.
    stand.peers.leave(chat, ben.id);
    assert_eq!(stand.fetch(&seen["links"]["content"], &[]).await.status, 404);
    assert_eq!(stand.get(&ben, &file).await.code(), "not_found");
    assert_eq!(stand.fetch(&json!("/content/nonsense"), &[]).await.status, 404);
}

#[tokio::test]
async fn a_message_that_is_deleted_takes_its_files_from_its_readers() {
    let stand = Stand::start().await;
    let [ann, ben, cid] = ["ann", "ben", "cid"].map(|name| stand.realm.user(name));
    let (chat, other) = (stand.chat(&[&ann, &ben]), stand.chat(&[&ben, &cid]));
    let file = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"two cats").await;
    attach(&stand, chat, 1, ann.id, &file).await;
    // Ben forwards it: those who read the other message read it too.
    assert_eq!(stand.get(&cid, &file).await.code(), "not_found");
    attach(&stand, other, 5, ben.id, &file).await;
    stand.get(&cid, &file).await.ok(200);
    assert_eq!(stand.remove(&ann, &file).await.code(), "conflict");
    stand.store.apply(0, 9, &[Change::Detached { chat, seq: 1 }], Utc::now()).await.expect("it is applied");
    stand.get(&ben, &file).await.ok(200);
    stand.store.apply(0, 9, &[Change::Detached { chat: other, seq: 5 }], Utc::now()).await.expect("likewise");
    for user in [&ben, &cid] {
        assert_eq!(stand.get(user, &file).await.code(), "not_found");
    }
}

#[tokio::test]
async fn who_came_later_reads_no_file_from_before_by_its_id_or_by_a_link() {
    let stand = Stand::start().await;
    let [ann, ben, dan] = ["ann", "ben", "dan"].map(|name| stand.realm.user(name));
    let chat = stand.chat(&[&ann, &ben]);
    let file = stand.upload(&ann, json!({"chat": chat}), "image/png", &picture(64, 48)).await;
    attach(&stand, chat, 3, ann.id, &file).await;
    stand.peers.set_head(9);
    stand.peers.join_later(chat, dan.id, 9);
    stand.get(&ben, &file).await.ok(200);
    assert_eq!(stand.get(&dan, &file).await.code(), "not_found");
    // A message that he reads has it: the link is good for as long as there is one.
    attach(&stand, chat, 9, ben.id, &file).await;
    let links = stand.get(&dan, &file).await.ok(200)["links"].clone();
    for link in ["content", "thumbnail"] {
        assert_eq!(stand.fetch(&links[link], &[]).await.status, 200);
    }
    stand.store.apply(0, 9, &[Change::Detached { chat, seq: 9 }], Utc::now()).await.expect("it is applied");
    for link in ["content", "thumbnail"] {
        assert_eq!(stand.fetch(&links[link], &[]).await.status, 404, "{link}");
    }
    assert_eq!(stand.get(&dan, &file).await.code(), "not_found");
    stand.get(&ben, &file).await.ok(200);
    assert_eq!(stand.peers.histories(), 1, "where a history begins is looked up once");
    // In another chat he reads all of it.
    let other = stand.chat(&[&ben, &dan]);
    attach(&stand, other, 1, ben.id, &file).await;
    stand.get(&dan, &file).await.ok(200);
}

#[tokio::test]
async fn who_came_just_now_reads_files_once_it_is_known_from_where_on() {
    let stand = Stand::start().await;
    let [ann, dan] = ["ann", "dan"].map(|name| stand.realm.user(name));
    let chat = stand.chat(&[&ann]);
    let file = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"two cats").await;
    attach(&stand, chat, 10, ann.id, &file).await;
    // The entry of Dan has seq 9, and is not stored.
    stand.peers.set_head(8);
    stand.peers.join_later(chat, dan.id, 9);
    assert_eq!(stand.get(&dan, &file).await.code(), "not_found");
    stand.peers.set_head(10);
    stand.get(&dan, &file).await.ok(200);
    // What is about to be sent comes behind everything.
    let next = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"two dogs").await;
    describe(&stand, chat, ann.id, &[id(&next)]).await.expect("it is offered");
    stand.get(&dan, &next).await.ok(200);
}

#[tokio::test]
async fn an_upload_is_exactly_what_was_announced() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let file = stand.create(&ann, json!({"chat": chat}), "text/plain", b"two cats").await.ok(201);
    assert_eq!(file["upload"]["method"], "PUT");
    assert_eq!(stand.complete(&ann, &file).await.code(), "conflict", "nothing is uploaded");
    for other in [&b"two cat"[..], b"two catss", b"two dogs"] {
        assert_ne!(stand.put(&file["upload"], other).await, 200, "{other:?}");
    }
    let mut of_other_type = file["upload"].clone();
    of_other_type["headers"]["content-type"] = "text/html".into();
    assert_eq!(stand.put(&of_other_type, b"two cats").await, 403);
    assert_eq!(stand.put(&file["upload"], b"two cats").await, 200);
    let done = stand.complete(&ann, &file).await.ok(200);
    assert_eq!(stand.complete(&ann, &file).await.ok(200)["id"], done["id"], "a repetition changes nothing");
    let file = stand.checked(&ann, &file).await;
    assert_eq!((&file["state"], &file["size"]), (&"ready".into(), &8.into()));
}

#[tokio::test]
async fn a_file_that_is_not_what_it_says_is_refused_and_nothing_of_it_is_kept() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    let png = picture(8, 8);
    for (media_type, bytes, refused) in [
        ("image/png", &svg[..], "unsupported_picture"),
        ("image/jpeg", &png[..], "type_mismatch"),
        ("image/png", &png[..40], "damaged_picture"),
        ("video/mp4", &png[..], "type_mismatch"),
        ("audio/mpeg", &b"no sound at all"[..], "type_mismatch"),
    ] {
        let file = stand.upload(&ann, json!({"chat": chat}), media_type, bytes).await;
        assert_eq!((&file["state"], &file["refused"]), (&"refused".into(), &refused.into()), "{media_type}");
        assert!(file.get("links").is_none());
        assert_eq!(describe(&stand, chat, ann.id, &[id(&file)]).await, Err(Code::NotFound));
    }
    assert_eq!(stand.objects.keys(), Vec::<String>::new());
    // Their requests are good still: what they write again is counted.
    let declared = i64::try_from(svg.len() + png.len() + 40 + png.len() + 15).expect("a number");
    assert_eq!(stand.store.used_bytes().await.expect("a number"), declared);
    stand.collector.collect(Utc::now() + TimeDelta::hours(2)).await.expect("a round");
    assert_eq!(stand.store.used_bytes().await.expect("a number"), 0);
}

#[tokio::test]
async fn a_page_that_is_uploaded_as_a_document_is_a_download_without_a_type() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    for (media_type, bytes) in [
        ("text/html", &b"<!doctype html><script>alert(1)</script>"[..]),
        ("application/octet-stream", &b"<svg onload='alert(1)'/>"[..]),
        ("text/plain", &b"GIF89a/*<script>alert(1)</script>"[..]),
    ] {
        let file = stand.upload(&ann, json!({"chat": chat}), media_type, bytes).await;
        let content = stand.fetch(&file["links"]["content"], &[]).await;
        assert_eq!(content.header("content-type"), "application/octet-stream", "{media_type}");
        assert!(content.header("content-disposition").starts_with("attachment; "), "{media_type}");
        assert_eq!(content.body, bytes);
    }
    // Text stays text, whatever stands in it, and a download.
    let text = b"hello <script>alert(1)</script>";
    let file = stand.upload(&ann, json!({"chat": chat}), "text/html", text).await;
    assert_eq!(file["type"], "text/plain");
    let content = stand.fetch(&file["links"]["content"], &[]).await;
    assert_eq!(content.header("content-type"), "text/plain; charset=utf-8");
    assert!(content.header("content-disposition").starts_with("attachment; "));
    assert!(content.is_user_content, "a browser is to take it as it is");
    // A picture that was uploaded as a document is as it was, and a download.
    let png = picture(8, 8);
    let file = stand.upload(&ann, json!({"chat": chat}), "application/octet-stream", &png).await;
    let content = stand.fetch(&file["links"]["content"], &[]).await;
    assert!(content.header("content-disposition").starts_with("attachment; "));
    assert_eq!(content.body, png);
}

#[tokio::test]
async fn a_part_of_a_file_is_fetched_and_what_a_client_has_is_not_sent_again() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let file = stand.upload(&ann, json!({"chat": chat}), "application/zip", &bytes).await;
    let link = &file["links"]["content"];
    let part = stand.fetch(link, &[("range", "bytes=65530-131080")]).await;
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 65530-131080/200000"));
    assert_eq!(part.body, bytes[65_530..=131_080]);
    let etag = part.header("etag").to_owned();
    let last = stand.fetch(link, &[("range", "bytes=-5"), ("if-range", &etag)]).await;
    assert_eq!((last.status, &last.body[..]), (206, &bytes[199_995..]));
    let behind = stand.fetch(link, &[("range", "bytes=200000-")]).await;
    assert_eq!((behind.status, behind.header("content-range")), (416, "bytes */200000"));
    let other = stand.fetch(link, &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status, other.body.len()), (200, 200_000));
    let known = stand.fetch(link, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
}

#[tokio::test]
async fn a_large_file_comes_in_parts_and_goes_on_after_an_interruption() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let bytes: Vec<u8> = (0..(40_u32 << 20)).map(|n| (n % 251) as u8).collect();
    let file = stand.create(&ann, json!({"chat": chat}), "application/zip", &bytes).await.ok(201);
    let parts = file["upload"]["parts"].as_array().expect("parts").clone();
    assert_eq!(parts.len(), 3);
    let slice = |part: &Value| {
        let number = |name: &str| part[name].as_u64().expect("a number") as usize;
        &bytes[number("offset")..number("offset") + number("size")]
    };
    assert_eq!(stand.complete(&ann, &file).await.code(), "conflict");
    assert_eq!(stand.put(&parts[1], slice(&parts[1])).await, 200);
    assert_eq!(stand.put(&parts[2], b"short").await, 403, "a part of another size");
    assert_eq!(stand.complete(&ann, &file).await.code(), "conflict");
    // The client has forgotten everything but the id.
    let again = stand.get(&ann, &file).await.ok(200);
    for part in again["upload"]["parts"].as_array().expect("parts") {
        assert_eq!(part["uploaded"] == true, part["number"] == 2, "{part}");
        if part["uploaded"] != true {
            assert_eq!(stand.put(part, slice(part)).await, 200);
        }
    }
    stand.complete(&ann, &file).await.ok(200);
    let file = stand.checked(&ann, &file).await;
    assert_eq!(file["state"], "ready", "{file}");
    let content = stand.fetch(&file["links"]["content"], &[]).await;
    assert!(content.body == bytes, "the file is another one");
}

#[tokio::test]
async fn a_repeated_request_creates_one_file() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let body = |name: &str| json!({"for": {"chat": chat}, "name": name, "type": "text/plain", "size": 5});
    let headers = [("idempotency-key", "5f0c")];
    let send = async |body| {
        let line = "POST /api/media/files";
        stand.api.send_with(line, Some(&ann.token), &headers, Some(body)).await
    };
    let file = send(body("../../etc/passwd")).await.ok(201);
    assert_eq!(file["name"], "passwd", "a path in a name is left out");
    assert_eq!(send(body("../../etc/passwd")).await.ok(200)["id"], file["id"]);
    assert_eq!(send(body("shadow")).await.code(), "idempotency_conflict");
    stand.remove(&ann, &file).await.ok(204);
    assert_eq!(stand.remove(&ann, &file).await.ok(204), Value::Null, "it goes with the next round");
    assert_ne!(send(body("../../etc/passwd")).await.ok(201)["id"], file["id"]);
}

#[tokio::test]
async fn uploads_are_for_those_who_may_write() {
    let stand = Stand::start().await;
    let [ann, ben, eve] = ["ann", "ben", "eve"].map(|name| stand.realm.user(name));
    let chat = stand.chat(&[&ann, &ben]);
    let create =
        async |user: &TestUser, purpose| stand.create(user, purpose, "image/png", &picture(8, 8)).await;
    assert_eq!(create(&eve, json!({"chat": chat})).await.code(), "not_a_member");
    stand.peers.silence(chat, ben.id);
    assert_eq!(create(&ben, json!({"chat": chat})).await.code(), "permission_denied");
    assert_eq!(create(&ben, json!({"chat_picture": chat})).await.code(), "permission_denied");
    assert_eq!(create(&eve, json!({"chat_picture": chat})).await.code(), "not_a_member");
    create(&ann, json!({"chat_picture": chat})).await.ok(201);
    stand.peers.delete(eve.id, 5);
    assert_eq!(create(&eve, json!("avatar")).await.code(), "unauthenticated");
    // No schema says that two fields belong together, so its form is not compared with the description.
    let body = json!({"for": "avatar", "name": "a", "type": "text/plain", "size": 5});
    let headers = [("idempotency-key", "5f0c")];
    let refused = stand.api.send_with("POST /api/media/files", Some(&ann.token), &headers, Some(body)).await;
    assert_eq!(refused.code(), "invalid_argument");
    for body in [
        json!({"for": "king", "name": "a", "type": "image/png", "size": 5}),
        json!({"for": {"chat": chat}, "name": "a", "type": "image/png", "size": 0}),
        json!({"for": {"chat": chat}, "name": "", "type": "a/b;c=d", "size": 1}),
        json!({"for": {"chat": chat}, "name": "a", "type": "image/png", "size": 1, "sha256": "00"}),
        json!({"for": {"chat": chat}, "name": "a", "type": "image/png", "size": 1, "url": "file:///etc/passwd"}),
    ] {
        let refused = stand.api.post(&ann, "/api/media/files", body.clone()).await;
        assert_eq!(refused.code(), "invalid_argument", "{body}");
    }
    stand.api.refuses_strangers(&stand.realm, &format!("/api/media/files/{}", FileId::generate())).await;
}

#[tokio::test]
async fn quotas_hold_for_a_file_a_user_and_the_tenant() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    let chat = stand.chat(&[&ann, &ben]);
    let create = async |user: &TestUser, media_type: &str, size: i64| {
        let body = json!({"for": {"chat": chat}, "name": "a", "type": media_type, "size": size});
        stand.api.post(user, "/api/media/files", body).await
    };
    assert_eq!(create(&ann, "video/mp4", QUOTAS.file_bytes + 1).await.code(), "limit_reached");
    let picture = create(&ann, "image/png", (24 << 20) + 1).await;
    assert_eq!(picture.code(), "limit_reached", "a larger picture");
    let advice =
        "a picture may have 24 MiB at most; upload it as application/octet-stream to send it as it is";
    assert_eq!(picture.body["detail"], advice);
    let picture = create(&ann, "image/png", QUOTAS.file_bytes + 1).await;
    assert_ne!(picture.body["detail"], advice, "no type helps it");
    let avatar = json!({"for": "avatar", "name": "a", "type": "image/png", "size": (24 << 20) + 1});
    let avatar = stand.api.post(&ann, "/api/media/files", avatar).await;
    assert_eq!(avatar.body["detail"], "a picture of a user or a chat may have 24 MiB at most");
    let first = create(&ann, "video/mp4", QUOTAS.file_bytes).await.ok(201);
    assert_eq!(create(&ann, "video/mp4", (16 << 20) + 1).await.code(), "limit_reached", "of the user");
    create(&ben, "video/mp4", QUOTAS.file_bytes).await.ok(201);
    assert_eq!(create(&ben, "text/plain", 1).await.code(), "limit_reached", "of the tenant");
    stand.remove(&ann, &first).await.ok(204);
    stand.collector.collect(Utc::now()).await.expect("a round");
    assert_eq!(
        create(&ann, "video/mp4", (16 << 20) + 1).await.code(),
        "limit_reached",
        "it may be uploaded still"
    );
    stand.collector.collect(Utc::now() + TimeDelta::hours(2)).await.expect("a round");
    create(&ann, "text/plain", 1).await.ok(201);
}

#[tokio::test]
async fn what_is_uploaded_after_its_file_is_removed_does_not_stay() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let file = stand.create(&ann, json!({"chat": chat}), "text/plain", b"two cats").await.ok(201);
    stand.remove(&ann, &file).await.ok(204);
    stand.collector.collect(Utc::now()).await.expect("a round");
    assert_eq!(stand.get(&ann, &file).await.code(), "not_found");
    // The request is good for as long as it was signed for.
    assert_eq!(stand.put(&file["upload"], b"two cats").await, 200);
    assert_eq!(stand.store.used_bytes().await.expect("a number"), 8, "it is counted");
    stand.collector.collect(Utc::now() + TimeDelta::hours(2)).await.expect("a round");
    assert_eq!(stand.objects.keys(), Vec::<String>::new());
    assert_eq!(stand.store.used_bytes().await.expect("a number"), 0);
}

#[tokio::test]
async fn a_file_whose_check_comes_to_no_end_is_refused() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let file = stand.create(&ann, json!({"chat": chat}), "text/plain", b"two cats").await.ok(201);
    assert_eq!(stand.put(&file["upload"], b"two cats").await, 200);
    // Processes that had it, and are gone.
    let past = Utc::now() - TimeDelta::hours(1);
    stand.store.begin(id(&file), past).await.expect("it begins");
    for attempt in 1..=MAX_ATTEMPTS {
        let claimed = stand.store.claim(past, past).await.expect("an answer").expect("the file");
        assert_eq!(claimed.attempts, attempt);
    }
    let file = stand.checked(&ann, &file).await;
    assert_eq!((&file["state"], &file["refused"]), (&"refused".into(), &"check_failed".into()));
}

#[tokio::test]
async fn a_user_has_one_picture_that_all_users_read() {
    let stand = Stand::start().await;
    let [ann, eve] = ["ann", "eve"].map(|name| stand.realm.user(name));
    let avatar = async || stand.api.get(&eve, &format!("/api/media/avatars/{}", ann.id)).await;
    assert_eq!(avatar().await.code(), "not_found");
    let first = stand.upload(&ann, json!("avatar"), "image/png", &picture(32, 32)).await;
    assert_eq!(avatar().await.ok(200)["id"], first["id"]);
    let second = stand.upload(&ann, json!("avatar"), "image/png", &picture(16, 16)).await;
    let seen = avatar().await.ok(200);
    assert_eq!(seen["id"], second["id"]);
    assert_eq!(stand.fetch(&seen["links"]["thumbnail"], &[]).await.status, 200);
    // A list of users is one request, and who has none is no fault.
    let find =
        async |users: Vec<UserId>| stand.api.post(&eve, "/api/media/avatars", json!({"users": users})).await;
    let found = find(vec![eve.id, ann.id]).await.ok(200);
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{found}");
    let item = &found["items"][0];
    assert_eq!((&item["owner"], &item["id"]), (&json!(ann.id), &second["id"]));
    assert_eq!(stand.fetch(&item["links"]["thumbnail"], &[]).await.status, 200);
    assert_eq!(find(vec![ann.id; 101]).await.code(), "invalid_argument");
    stand.remove(&ann, &second).await.ok(204);
    assert_eq!(avatar().await.code(), "not_found");
    assert_eq!(find(vec![ann.id]).await.ok(200)["items"], json!([]));
}

#[tokio::test]
async fn what_no_message_has_goes_after_a_day_and_what_one_has_stays() {
    let stand = Stand::start().await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let kept = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"kept").await;
    let free = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"free").await;
    let unfinished = stand.create(&ann, json!({"chat": chat}), "text/plain", b"never").await.ok(201);
    attach(&stand, chat, 1, ann.id, &kept).await;
    let collect = async |hours| {
        let at = Utc::now() + TimeDelta::hours(hours);
        stand.collector.collect(at).await.expect("a round");
    };
    collect(23).await;
    stand.get(&ann, &free).await.ok(200);
    // The log is not read up to a moment that is late enough: a message may have it.
    collect(25).await;
    stand.get(&ann, &free).await.ok(200);
    assert_eq!(stand.get(&ann, &unfinished).await.code(), "not_found", "no message has what is not ready");
    stand.store.caught_up(0, Utc::now() + TimeDelta::hours(25)).await.expect("it is noted");
    collect(25).await;
    assert_eq!(stand.get(&ann, &free).await.code(), "not_found");
    stand.get(&ann, &kept).await.ok(200);
    assert_eq!(stand.objects.keys(), [format!("files/{}", id(&kept))]);
    assert_eq!(stand.store.used_bytes().await.expect("a number"), 4);
}

#[tokio::test]
async fn a_gateway_describes_only_what_the_sender_may_send() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    let (chat, other) = (stand.chat(&[&ann, &ben]), stand.chat(&[&ann, &ben]));
    let file = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"two cats").await;
    let pending = stand.create(&ann, json!({"chat": chat}), "text/plain", b"more").await.ok(201);
    let avatar = stand.upload(&ann, json!("avatar"), "image/png", &picture(8, 8)).await;
    let types = Ok(vec!["text/plain".to_owned()]);
    assert_eq!(describe(&stand, other, ann.id, &[id(&file)]).await, Err(Code::NotFound), "for another chat");
    assert_eq!(describe(&stand, chat, ben.id, &[id(&file)]).await, Err(Code::NotFound), "of another user");
    for bad in [id(&pending), id(&avatar), FileId::generate()] {
        assert_eq!(describe(&stand, chat, ann.id, &[bad]).await, Err(Code::NotFound));
    }
    let twice = [id(&file), id(&file)];
    assert_eq!(describe(&stand, chat, ann.id, &twice).await, Err(Code::InvalidArgument));
    assert_eq!(describe(&stand, chat, ann.id, &[id(&file)]).await, types);
    // Who reads a message that has it forwards the message, which asks nobody.
    attach(&stand, chat, 1, ann.id, &file).await;
    assert_eq!(describe(&stand, other, ben.id, &[id(&file)]).await, Err(Code::NotFound));
    assert_eq!(describe(&stand, chat, ann.id, &[id(&file)]).await, types, "its owner may send it once more");
}

#[tokio::test]
async fn a_deleted_account_takes_its_picture_and_what_no_message_has() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    let chat = stand.chat(&[&ann, &ben]);
    let sent = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"sent").await;
    attach(&stand, chat, 1, ann.id, &sent).await;
    let not_sent = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"not sent").await;
    stand.upload(&ann, json!("avatar"), "image/png", &picture(8, 8)).await;
    stand.peers.delete(ann.id, 5);
    let catch_up = async || {
        deletions::catch_up(stand.users.client(), &*stand.store as &dyn FileStore).await.expect("a round");
        stand.store.deletions_position().get().await.expect("a read")
    };
    assert_eq!(catch_up().await, None, "a deletion of a moment ago is looked at again");
    stand.collector.collect(Utc::now()).await.expect("a round");
    let mut keys = [&sent, &not_sent].map(|file| format!("files/{}", id(file)));
    keys.sort();
    assert_eq!(stand.objects.keys(), keys, "a message that was not read yet may have it");
    stand.store.caught_up(0, Utc::now()).await.expect("it is noted");
    stand.collector.collect(Utc::now()).await.expect("a round");
    assert_eq!(stand.objects.keys(), [format!("files/{}", id(&sent))], "Ben has what was sent");
    stand.get(&ben, &sent).await.ok(200);
    let avatar = stand.api.get(&ben, &format!("/api/media/avatars/{}", ann.id)).await;
    assert_eq!(avatar.code(), "not_found");
}

#[tokio::test]
async fn a_deletion_that_is_settled_is_behind_the_place_of_the_list() {
    let stand = Stand::start().await;
    for age_seconds in [90, 61, 5, 70] {
        stand.peers.delete(UserId::generate(), age_seconds);
    }
    deletions::catch_up(stand.users.client(), &*stand.store as &dyn FileStore).await.expect("a round");
    let position = stand.store.deletions_position().get().await.expect("a read");
    assert_eq!(position.as_deref(), Some("2"), "what comes behind one that is not settled waits for it");
}

/// A daemon that finds something in what has `EICAR`, and answers nothing else than the protocol says.
async fn clamd() -> Scanner {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut command = [0; 10];
                stream.read_exact(&mut command).await.expect("a command");
                assert_eq!(&command, b"zINSTREAM\0");
                let mut file = Vec::new();
                loop {
                    let bytes = stream.read_u32().await.expect("the size of a chunk");
                    if bytes == 0 {
                        break;
                    }
                    let mut chunk = vec![0; bytes as usize];
                    stream.read_exact(&mut chunk).await.expect("a chunk");
                    file.extend(chunk);
                }
                let is_found = file.windows(5).any(|window| window == b"EICAR");
                let answer: &[u8] = if is_found { b"stream: Eicar-Test FOUND\0" } else { b"stream: OK\0" };
                stream.write_all(answer).await.expect("the client reads");
            });
        }
    });
    Scanner::new(address, Duration::from_secs(30))
}

#[tokio::test]
async fn what_the_scanner_finds_something_in_is_read_by_no_user() {
    let stand = Stand::with(Some(clamd().await)).await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let clean = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"two cats").await;
    assert_eq!(clean["state"], "ready");
    let found = stand.upload(&ann, json!({"chat": chat}), "text/plain", b"EICAR and more").await;
    assert_eq!(found["state"], "quarantined");
    assert!(found.get("links").is_none());
    assert_eq!(describe(&stand, chat, ann.id, &[id(&found)]).await, Err(Code::NotFound));
    let picture = stand.upload(&ann, json!({"chat": chat}), "image/png", &picture(8, 8)).await;
    assert_eq!(picture["state"], "ready");
}

#[tokio::test]
async fn while_the_scanner_is_down_files_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let stand = Stand::with(Some(Scanner::new(address, Duration::from_secs(30)))).await;
    let ann = stand.realm.user("ann");
    let chat = stand.chat(&[&ann]);
    let file = stand.create(&ann, json!({"chat": chat}), "text/plain", b"two cats").await.ok(201);
    assert_eq!(stand.put(&file["upload"], b"two cats").await, 200);
    assert_eq!(stand.complete(&ann, &file).await.ok(200)["state"], "processing");
}

#[tokio::test]
async fn a_link_is_followed_once_for_all_who_show_it() {
    let stand = Stand::start().await;
    let [ann, ben] = ["ann", "ben"].map(|name| stand.realm.user(name));
    let fetched = Arc::new(AtomicUsize::new(0));
    let counted = fetched.clone();
    let page = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Html("<title>Two cats</title><meta property='og:image' content='/cats.png'>") }
    };
    let site = Router::new()
        .route("/", get(page))
        .route("/cats.png", get(|| async { ([("content-type", "image/png")], picture(64, 32)) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { axum::serve(listener, site).await });
    let preview = async |user: &TestUser, path: &str| {
        let body = json!({"url": format!("http://cats.example:{port}{path}")});
        stand.api.post(user, "/api/media/previews", body).await
    };
    for user in [&ann, &ben, &ann] {
        let preview = preview(user, "/").await.ok(200);
        assert_eq!(preview["title"], "Two cats");
        let small = &preview["picture"];
        assert_eq!((&small["width"], &small["height"]), (&64.into(), &32.into()));
        let bytes = BASE64_STANDARD.decode(small["data"].as_str().expect("bytes")).expect("base64");
        assert!(image::load_from_memory(&bytes).is_ok());
    }
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
    assert_eq!(preview(&ann, "/dogs").await.code(), "not_found");
    let nonsense = stand.api.post(&ann, "/api/media/previews", json!({"url": "file:///etc/passwd"})).await;
    assert_eq!(nonsense.code(), "not_found");
    let mut last = preview(&ann, "/").await;
    for _ in 0..100 {
        if last.status == 429 {
            break;
        }
        last = preview(&ann, "/").await;
    }
    assert_eq!(last.code(), "rate_limited");
    preview(&ben, "/").await.ok(200);
}
