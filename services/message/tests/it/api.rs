//! What members and services read.

use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    api::{MessagePage, Page, Problem},
    event::{DeliveryOutcome, EntryKind, Forwarded, Role, SendRecord, SeqRange, Source},
    rpc::{
        EntriesRequest, EntryPlace, EntryRequest, HistoryRequest, Message, PinsRequest, RepliesRequest,
        SyncRequest, message_service_client::MessageServiceClient,
    },
};
use kit::testing::wait_for;
use reqwest::StatusCode;
use tonic::Code;

use uuid::Uuid;

use crate::{
    checker::{all_announced, check},
    stand::{INTERNAL_TOKEN, PATIENCE, Running, Stand, text, with_stand},
};

/// A ready process and a chat with `messages` messages in it.
async fn chat_with(stand: &Stand, messages: usize) -> (Running, ChatId, UserId) {
    stand.migrate().await;
    let running = stand.start_ready().await;
    let (chat, member) = (ChatId::generate(), UserId::generate());
    stand.chats.add(chat, member);
    let records: Vec<_> =
        (1..=messages).map(|i| text(chat, member, MessageKey::generate(), &format!("message {i}"))).collect();
    stand.send_all(&records).await;
    all_announced(stand).await;
    // The head is stored behind the announcements; until then a page of earlier entries says less.
    let url = format!("http://{}", running.ports.grpc);
    let client =
        MessageServiceClient::new(kit::rpc::connect(&url, &INTERNAL_TOKEN.into()).expect("a channel"));
    let nothing = HistoryRequest {
        chat_id: chat.to_string(),
        user_id: member.to_string(),
        before_seq: Some(1),
        ..HistoryRequest::default()
    };
    wait_for("the head of the chat", PATIENCE, || async {
        let page = client.clone().history(nothing.clone()).await.expect("a page").into_inner();
        (usize::try_from(page.head_seq) == Ok(messages)).then_some(())
    })
    .await;
    (running, chat, member)
}

async fn get(running: &Running, path: &str, token: Option<&str>) -> reqwest::Response {
    let request = reqwest::Client::new().get(format!("http://{}{path}", running.ports.http));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    request.send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_read_pages() {
    with_stand(|stand| async move {
        let (running, chat, member) = chat_with(&stand, 12).await;
        let token = stand.realm.token(member, "ann");
        let page = async |query: &str| -> MessagePage {
            let answer = get(&running, &format!("/api/messages/{chat}{query}"), Some(&token)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            answer.json().await.expect("a page")
        };
        let seqs = |page: &MessagePage| page.messages.iter().map(|message| message.seq).collect::<Vec<_>>();
        let whole = page("").await;
        assert_eq!(seqs(&whole), (1..=12).collect::<Vec<_>>());
        assert_eq!((whole.messages[4].body.as_str(), whole.messages[4].sender), ("message 5", member));
        assert_eq!(whole.head_seq, 12);
        assert_eq!(seqs(&page("?after=5&limit=3").await), [6, 7, 8]);
        assert!(seqs(&page("?after=12&limit=500").await).is_empty());
        assert_eq!(seqs(&page("?before=5&limit=3").await), [2, 3, 4]);
        assert_eq!(seqs(&page("?around=5&limit=3").await), [4, 5, 6]);
        assert_eq!(seqs(&page("?from_ms=0&limit=2").await), [1, 2]);
        assert_eq!(seqs(&page("?from_ms=4102444800000&before=5&limit=2").await), [3, 4]);
        assert!(seqs(&page("?from_ms=4102444800000").await).is_empty());

        let stranger = stand.realm.token(UserId::generate(), "mallory");
        let (here, elsewhere) =
            (format!("/api/messages/{chat}"), format!("/api/messages/{}", ChatId::generate()));
        let no_limit = format!("{here}?limit=0");
        let large_limit = format!("{here}?limit=501");
        let bad_after = format!("{here}?after=-1");
        let bad_field = format!("{here}?page=3");
        let bad_before = format!("{here}?before=0");
        let bad_time = format!("{here}?from_ms=-1");
        let cases = [
            (here.as_str(), Some(stranger.as_str()), "not_a_member"),
            (&elsewhere, Some(&token), "not_a_member"),
            (&here, None, "unauthenticated"),
            (&here, Some("forged"), "unauthenticated"),
            (&no_limit, Some(&token), "invalid_argument"),
            (&large_limit, Some(&token), "invalid_argument"),
            (&bad_after, Some(&token), "invalid_argument"),
            (&bad_field, Some(&token), "invalid_argument"),
            (&bad_before, Some(&token), "invalid_argument"),
            (&bad_time, Some(&token), "invalid_argument"),
            ("/api/messages/not-a-chat", Some(&token), "invalid_argument"),
        ];
        for (path, token, code) in cases {
            let answer = get(&running, path, token).await;
            let status = answer.status().as_u16();
            let problem: Problem = answer.json().await.expect("a problem");
            assert_eq!((problem.code.as_str(), problem.status), (code, status), "{path}");
        }
        let described =
            get(&running, "/docs/message/openapi.json", None).await.text().await.expect("a document");
        assert!(described.contains("/api/messages/{chat}"));
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_reads_what_they_wrote_in_chats_that_they_have_left() {
    with_stand(|stand| async move {
        let (running, chat, ann) = chat_with(&stand, 5).await;
        let ben = UserId::generate();
        stand.chats.add(chat, ben);
        let of_ben = text(chat, ben, MessageKey::generate(), "of ben");
        let removal = SendRecord {
            kind: EntryKind::MemberRemoved,
            subject: Some(ben),
            ..text(chat, ann, MessageKey::generate(), "")
        };
        stand.send_all(&[of_ben, removal]).await;
        all_announced(&stand).await;
        stand.chats.remove(chat, ben);
        let list = async |user, query: &str| -> Page<contracts::wire::Message> {
            let token = stand.realm.token(user, "someone");
            let answer = get(&running, &format!("/api/messages{query}"), Some(&token)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            answer.json().await.expect("a page")
        };
        let bodies = |page: &Page<contracts::wire::Message>| {
            page.items.iter().map(|message| message.body.clone()).collect::<Vec<_>>()
        };
        let token = stand.realm.token(ben, "ben");
        assert_eq!(get(&running, &format!("/api/messages/{chat}"), Some(&token)).await.status(), 403);
        assert_eq!(bodies(&list(ben, "").await), ["of ben"]);
        assert!(list(UserId::generate(), "").await.items.is_empty());
        let first = list(ann, "?limit=3").await;
        assert_eq!(bodies(&first), ["message 1", "message 2", "message 3"]);
        let cursor = first.next_cursor.expect("more");
        let second = list(ann, &format!("?limit=3&cursor={cursor}")).await;
        assert_eq!(
            (bodies(&second), second.next_cursor),
            (vec!["message 4".into(), "message 5".into()], None)
        );

        for query in ["?limit=0", "?limit=501", "?cursor=7", "?cursor=", "?of=ann"] {
            let answer = get(&running, &format!("/api/messages{query}"), Some(&token)).await;
            let problem: Problem = answer.json().await.expect("a problem");
            assert_eq!(problem.code.as_str(), "invalid_argument", "{query}");
        }
        assert_eq!(get(&running, "/api/messages", None).await.status(), 401);
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_reads_from_the_entry_that_added_them() {
    with_stand(|stand| async move {
        let (running, chat, ann) = chat_with(&stand, 3).await;
        let (ben, cid) = (UserId::generate(), UserId::generate());
        let addition = |subject| SendRecord {
            kind: EntryKind::MemberAdded,
            subject: Some(subject),
            ..text(chat, ann, MessageKey::generate(), "")
        };
        let page = async |user| -> (Vec<i64>, i64, i64) {
            let token = stand.realm.token(user, "someone");
            let answer = get(&running, &format!("/api/messages/{chat}"), Some(&token)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let page: MessagePage = answer.json().await.expect("a page");
            let seqs = page.messages.iter().map(|message| message.seq).collect();
            (seqs, page.head_seq, page.from_seq)
        };
        // The chat service has the member, and the log does not have the entry yet.
        let added = addition(ben);
        stand.chats.add_from(chat, ben, &added);
        let (seqs, head_seq, from_seq) = page(ben).await;
        assert_eq!((seqs, from_seq), (vec![], head_seq + 1));
        let message = text(chat, ann, MessageKey::generate(), "welcome");
        stand.send_all(&[added, message]).await;
        // A group that gives the whole history to those who are added.
        stand.send_all(&[addition(cid)]).await;
        stand.chats.add(chat, cid);
        all_announced(&stand).await;
        assert_eq!(page(ben).await, (vec![4, 5, 6], 6, 4));
        assert_eq!(page(cid).await, ((1..=6).collect(), 6, 1));
        assert_eq!(page(ann).await, ((1..=6).collect(), 6, 1));
        // What others wrote before is not theirs to speak of.
        let url = format!("http://{}", running.ports.grpc);
        let channel = kit::rpc::connect(&url, &INTERNAL_TOKEN.into()).expect("a channel");
        for (user, seq, expected) in
            [(ben, 3, Err(Code::NotFound)), (ben, 4, Ok(4)), (cid, 3, Ok(3)), (ann, 3, Ok(3))]
        {
            let (chat_id, user_id) = (chat.to_string(), user.to_string());
            let request = EntryRequest { chat_id, user_id, seq, ..EntryRequest::default() };
            let found = MessageServiceClient::new(channel.clone()).entry(request).await;
            let found = found.map(|found| found.into_inner().message.expect("an entry").seq);
            assert_eq!(found.map_err(|status| status.code()), expected, "entry {seq} of {user}");
        }

        // Back after a removal: from the last addition on.
        let removal = SendRecord { kind: EntryKind::MemberRemoved, ..addition(ben) };
        let again = addition(ben);
        stand.chats.add_from(chat, ben, &again);
        stand.send_all(&[removal, text(chat, ann, MessageKey::generate(), "without ben"), again]).await;
        all_announced(&stand).await;
        assert_eq!(page(ben).await, (vec![9], 9, 9));
        running.stop().await;
        check(&stand).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_read_history_and_heads_with_the_internal_token() {
    with_stand(|stand| async move {
        let (running, chat, member) = chat_with(&stand, 7).await;
        let url = format!("http://{}", running.ports.grpc);
        let channel = kit::rpc::connect(&url, &INTERNAL_TOKEN.into()).expect("a channel");
        let mut messages = MessageServiceClient::new(channel);
        let history = |user: UserId, known_from_seq, after_seq| HistoryRequest {
            chat_id: chat.to_string(),
            user_id: user.to_string(),
            known_from_seq,
            after_seq,
            ..HistoryRequest::default()
        };
        let mut read = async |request| {
            let page = messages.history(request).await?.into_inner();
            let seqs: Vec<i64> = page.messages.iter().map(|message| message.seq).collect();
            Ok::<_, tonic::Status>((seqs, page.head_seq, page.from_seq))
        };
        let stranger = UserId::generate();
        assert_eq!(read(history(member, None, 4)).await.expect("a history"), (vec![5, 6, 7], 7, 1));
        let refused = read(history(stranger, None, 4)).await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::PermissionDenied);
        // A caller who knows it need not wait for the chat service.
        assert_eq!(read(history(stranger, Some(6), 0)).await.expect("a history"), (vec![6, 7], 7, 6));

        let earlier = |before_seq, around_seq| HistoryRequest {
            before_seq,
            around_seq,
            limit: 3,
            ..history(member, None, 0)
        };
        assert_eq!(read(earlier(Some(4), None)).await.expect("a history"), (vec![1, 2, 3], 7, 1));
        assert_eq!(read(earlier(None, Some(4))).await.expect("a history"), (vec![3, 4, 5], 7, 1));
        let refused = read(earlier(Some(0), Some(4))).await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::InvalidArgument);

        let known = messages.history(history(member, None, 0)).await.expect("a history").into_inner();
        let key = &known.messages[2].key;
        for (user, seq, expected) in [
            (member, 3, Ok(3)),
            (member, 8, Err(Code::NotFound)),
            (member, i64::MIN, Err(Code::NotFound)),
            (stranger, 3, Err(Code::PermissionDenied)),
        ] {
            let request = |key: &str| EntryRequest {
                chat_id: chat.to_string(),
                user_id: user.to_string(),
                seq,
                key: key.to_owned(),
                ..EntryRequest::default()
            };
            let found = messages.entry(request("")).await.map(|found| found.into_inner());
            let found =
                found.map(|found| found.message.expect("an entry").seq).map_err(|status| status.code());
            assert_eq!(found, expected, "{seq}");
            if expected.is_ok() {
                let mut is_known = async |key: &str| {
                    messages.entry(request(key)).await.expect("an entry").into_inner().is_key_known
                };
                assert!(is_known(&known.messages[0].key).await && is_known(key).await);
                assert!(!is_known(&Uuid::new_v4().to_string()).await);
            }
        }

        // By their places, for a caller who knows who reads them.
        let place = |seq| EntryPlace { chat_id: chat.to_string(), seq };
        let elsewhere = EntryPlace { chat_id: ChatId::generate().to_string(), seq: 1 };
        let places = vec![place(5), elsewhere, place(2), place(8), place(0), place(i64::MIN)];
        let found = messages.entries(EntriesRequest { places }).await.expect("entries").into_inner().messages;
        assert_eq!(found.iter().map(|message| message.seq).collect::<Vec<_>>(), [5, 2]);
        assert_eq!(found[1], known.messages[1]);
        let many = EntriesRequest { places: vec![place(1); 101] };
        assert_eq!(messages.entries(many).await.expect_err("a refusal").code(), Code::InvalidArgument);

        let bad = HistoryRequest { chat_id: "x".to_owned(), ..history(member, None, 0) };
        assert_eq!(messages.history(bad).await.expect_err("a refusal").code(), Code::InvalidArgument);
        let stranger = kit::rpc::connect(&url, &"guess".into()).expect("a channel");
        let request = SyncRequest { user_id: member.to_string(), ..SyncRequest::default() };
        let refused = MessageServiceClient::new(stranger).sync(request).await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::Unauthenticated);
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_entries_change_is_listed_and_read_alike_by_two_owners() {
    with_stand(|stand| async move {
        let (running, chat, ann) = chat_with(&stand, 6).await;
        let ben = UserId::generate();
        stand.chats.add(chat, ben);
        let of = |sender, kind, target_seq| SendRecord {
            kind,
            target_seq,
            ..text(chat, sender, MessageKey::generate(), "")
        };
        let pin = |seq| of(ben, EntryKind::Pin, Some(seq));
        let reply = |seq| SendRecord { body: "a reply".to_owned(), ..of(ben, EntryKind::Text, Some(seq)) };
        let range = |sender, subject, moderates, (from_seq, to_seq)| SendRecord {
            subject,
            moderates,
            range: Some(SeqRange { from_seq, to_seq }),
            ..of(sender, EntryKind::DeleteRange, None)
        };
        let forwarded = Some(Forwarded { sender: ben, sent_at_ms: 5 });
        let source = Some(Source { chat: ChatId::generate(), seq: 9 });
        let first = SendRecord { forwarded, source, body: "first".into(), ..of(ann, EntryKind::Text, None) };
        let edited =
            SendRecord { body: "edited since".into(), device: DeviceId(Uuid::new_v4()), ..first.clone() };
        // 7 to 10, replies and pins; 11, of ann's own; 12, a pin; 13, a forwarded text, and again.
        let records = [
            reply(1),
            pin(1),
            pin(2),
            reply(1),
            range(ann, Some(ann), false, (2, 4)),
            pin(5),
            first,
            edited,
            SendRecord {
                silent: true,
                mentions: vec![ann, ben],
                called_by_role: 1,
                not_members: vec![ann],
                mention_roles: vec![Role::Admin],
                mentions_here: true,
                ..of(ben, EntryKind::Text, None)
            },
            range(ben, None, true, (7, 9)),
        ];
        stand.send_all(&records).await;
        let announced = all_announced(&stand).await;
        let repeated = announced.iter().find(|record| record.device == records[7].device).expect("an answer");
        assert_eq!(repeated.outcome, DeliveryOutcome::Repeated { seq: 13 }, "the source stands for its text");

        let check = async |running: &Running| {
            // What a head counts is stored, what it changed included; a page may be read before.
            wait_for("the head of the last entry", PATIENCE, || async {
                let query = "SELECT head_seq FROM chat_heads WHERE chat_id = ?";
                let rows = stand.session.query_unpaged(query, (chat.0,)).await.expect("an answer");
                let rows = rows.into_rows_result().expect("rows");
                let head = rows.maybe_first_row::<(i64,)>().expect("a row");
                (head == Some((15,))).then_some(())
            })
            .await;
            let url = format!("http://{}", running.ports.grpc);
            let channel = kit::rpc::connect(&url, &INTERNAL_TOKEN.into()).expect("a channel");
            let mut messages = MessageServiceClient::new(channel);
            let (chat_id, user_id) = (chat.to_string(), ann.to_string());
            let seqs = |messages: &[Message]| messages.iter().map(|of| of.seq).collect::<Vec<_>>();
            let whole = wait_for("the last entry in a page", PATIENCE, || async {
                let (chat_id, user_id) = (chat_id.clone(), user_id.clone());
                let request = HistoryRequest { chat_id, user_id, ..HistoryRequest::default() };
                let page = messages.clone().history(request).await.expect("a page").into_inner();
                (page.head_seq == 15).then_some(page.messages)
            })
            .await;
            let texts: Vec<_> = whole.iter().map(|of| of.body.as_str()).collect();
            assert_eq!(texts[..6], ["message 1", "", "", "", "message 5", "message 6"]);
            assert_eq!((texts[6], texts[9], texts[12]), ("", "a reply", "first"));
            let changes = |seq: usize| whole[seq - 1].changes.clone().unwrap_or_default();
            assert_eq!((changes(1).replies, changes(1).last_reply_seq), (1, Some(10)));
            assert_eq!((changes(2).deleted_seq, changes(2).pinned_seq), (Some(11), None));
            assert_eq!(changes(7).deleted_seq, Some(15));
            let last = &whole[13];
            assert_eq!((last.mention_ids.as_slice(), last.silent), ([ben.to_string()].as_slice(), true));
            assert_eq!(
                (last.mention_roles.as_slice(), last.mentions_here),
                (["admin".to_owned()].as_slice(), true)
            );
            assert!(whole[12].forwarded.is_some() && whole[12].range.is_none());

            let request = PinsRequest { chat_id, user_id, limit: 1, ..PinsRequest::default() };
            let page = messages.pins(request.clone()).await.expect("pins").into_inner();
            assert_eq!((seqs(&page.messages), page.more), (vec![5], true));
            let before_seq = Some(12);
            let page = messages
                .pins(PinsRequest { before_seq, ..request.clone() })
                .await
                .expect("pins")
                .into_inner();
            assert_eq!((seqs(&page.messages), page.more), (vec![1], false), "2 is deleted");
            let request = RepliesRequest {
                chat_id: request.chat_id,
                user_id: request.user_id,
                seq: 1,
                ..RepliesRequest::default()
            };
            // The list goes up to the head, which follows the announcements.
            wait_for("the replies, also one that is deleted", PATIENCE, || async {
                let page = messages.clone().replies(request.clone()).await.expect("replies").into_inner();
                (seqs(&page.messages) == [7, 10]).then_some(())
            })
            .await;
            let none = RepliesRequest { seq: 8, ..request.clone() };
            assert_eq!(messages.replies(none).await.expect_err("a pin").code(), Code::NotFound);
            let stranger = RepliesRequest { user_id: UserId::generate().to_string(), ..request.clone() };
            assert_eq!(
                messages.replies(stranger).await.expect_err("a stranger").code(),
                Code::PermissionDenied
            );
            let many = RepliesRequest { limit: 101, ..request.clone() };
            assert_eq!(messages.replies(many).await.expect_err("a limit").code(), Code::InvalidArgument);

            let since = HistoryRequest {
                chat_id: request.chat_id.clone(),
                user_id: request.user_id.clone(),
                from_ms: Some(whole[6].sent_at_ms),
                ..HistoryRequest::default()
            };
            let page = messages.history(since.clone()).await.expect("a page").into_inner();
            let first = page.messages.first().expect("an entry");
            assert!(first.sent_at_ms >= whole[6].sent_at_ms && first.seq <= 7, "{first:?}");
            let before = HistoryRequest { before_seq: Some(3), ..since };
            let page = messages.history(before).await.expect("a page").into_inner();
            assert_eq!(seqs(&page.messages), [1, 2], "what is set first decides");
            let entry = EntryRequest {
                chat_id: request.chat_id,
                user_id: request.user_id,
                seq: 1,
                key: records[6].key.to_string(),
                count_pins: true,
                ..EntryRequest::default()
            };
            let found = messages.entry(entry.clone()).await.expect("an entry").into_inner();
            assert_eq!((found.is_key_known, found.pins), (true, 2));
            let elsewhere = EntryRequest { key_chat_id: ChatId::generate().to_string(), ..entry };
            assert!(!messages.entry(elsewhere).await.expect("an entry").into_inner().is_key_known);
            whole
        };
        let before = check(&running).await;
        running.stop().await;
        // The next owner fills an empty store from the log.
        for table in ["messages", "message_keys", "chat_heads", "log_positions", "chat_pins", "chat_replies"]
        {
            stand.session.query_unpaged(format!("TRUNCATE {table}"), ()).await.expect("an empty table");
        }
        let running = stand.start_ready().await;
        assert_eq!(check(&running).await, before);
        running.stop().await;
    })
    .await;
}
