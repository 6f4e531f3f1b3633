use super::*;

#[test]
fn a_send_reads_as_documented() {
    let frame: ClientFrame = serde_json::from_str(
        r#"{"id":7,"send":{"chat":"00000000-0000-0000-0000-000000000001",
            "key":"00000000-0000-0000-0000-000000000002","body":"hi"}}"#,
    )
    .expect("a frame");
    assert_eq!(frame.id, Some(7.into()));
    let Command::Send(send) = &frame.command else { panic!("{frame:?}") };
    assert_eq!(send.body, "hi");
    assert_eq!(
        serde_json::to_string(&frame).expect("json"),
        r#"{"id":7,"send":{"chat":"00000000-0000-0000-0000-000000000001","key":"00000000-0000-0000-0000-000000000002","body":"hi"}}"#
    );
}

#[test]
fn a_message_that_disappeared_carries_nothing() {
    let message = r#"{"chat":"00000000-0000-0000-0000-000000000001","seq":1,
        "sender":"00000000-0000-0000-0000-000000000002","key":"00000000-0000-0000-0000-000000000003",
        "kind":"text","body":"","sent_at_ms":5,"expires_at_ms":9,"attachments":[
            {"file":"00000000-0000-0000-0000-000000000004","name":"a.txt","type":"text/plain","size":3}]}"#;
    let mut message: Message = serde_json::from_str(message).expect("a message");
    message.expire(8);
    assert_eq!(message.attachments.len(), 1);
    message.expire(9);
    assert!(message.expired && message.attachments.is_empty());
}

#[test]
fn an_id_is_repeated_as_it_came() {
    for id in ["7", "1764284400123", "-1", "5.0", "18446744073709551615", "\"7\"", "\"an id\""] {
        let frame: ClientFrame = serde_json::from_str(&format!(r#"{{"id":{id},"pong":{{}}}}"#)).expect(id);
        let answer = ServerFrame { id: frame.id, ..ServerFrame::default() };
        assert_eq!(serde_json::to_string(&answer).expect("json"), format!(r#"{{"id":{id}}}"#));
    }
    for id in ["[]", "{}", "true", &format!("{:?}", "x".repeat(MAX_REQUEST_ID_BYTES + 1))] {
        refusal(&format!(r#"{{"id":{id},"pong":{{}}}}"#));
    }
}

#[test]
fn an_id_is_found_in_what_is_no_frame() {
    let check = |text: &str, expected: Option<u32>| {
        assert_eq!(RequestId::find_in(Encoded::Json(text)), expected.map(RequestId::from), "{text}");
    };
    check(r#"{"id":7,"shout":{}}"#, Some(7));
    check(r#"{"send":{"body":"\ud83d"},"id":7}"#, Some(7));
    check(r#"{"id":7,"send":{"body":"cut off"#, Some(7));
    check(r#"{"id":7,"pong":{}}{"id":8}"#, Some(7));
    check(&format!(r#"{{"id":7,"send":{}"#, "[".repeat(100_000)), Some(7));
    for text in ["", "7", "[7]", r#"{"id":[]}"#, r#"{"id":null}"#, r#"{"send":{"id":7}}"#, "not json"] {
        check(text, None);
    }
}

fn refusal(frame: &str) -> String {
    serde_json::from_str::<ClientFrame>(frame).expect_err(frame).to_string()
}

#[test]
fn an_unknown_command_is_refused() {
    assert_eq!(
        refusal(r#"{"id":1,"shout":{}}"#),
        "unknown field `shout`, expected one of `id`, `connect`, `send`, `edit`, `delete`, \
         `delete_range`, `forward`, `react`, `pin`, `history`, `pins`, `replies`, `sync`, `read`, `delivered`, `refresh`, `pong`, `watch`, `activity`, `typing` at line 1 column 15"
    );
}

#[test]
fn a_frame_has_exactly_one_command() {
    assert_eq!(refusal(r#"{"id":1}"#), "a frame has one command, not 0");
    assert_eq!(refusal(r#"{"id":1,"send":null}"#), "a frame has one command, not 0");
    assert_eq!(refusal(r#"{"id":1,"pong":{},"refresh":{"token":"t"}}"#), "a frame has one command, not 2");
    assert!(refusal(r#"{"pong":{},"pong":{}}"#).starts_with("duplicate field `pong`"));
}

#[test]
fn a_command_has_an_id_where_an_answer_follows() {
    assert_eq!(refusal(r#"{"refresh":{"token":"t"}}"#), "a command has an id");
    for pong in [r#"{"pong":{}}"#, r#"{"id":3,"pong":{}}"#] {
        let frame: ClientFrame = serde_json::from_str(pong).expect("a frame");
        assert_eq!(serde_json::to_string(&frame).expect("json"), pong);
    }
}

#[test]
fn an_entry_has_no_more_bytes_than_are_counted() {
    let id = uuid::Uuid::from_u128(u128::MAX);
    let all: String = (0..128_u8).map(char::from).chain("é🦄".chars()).collect();
    for body in ["", "hi", &all, &"\u{1}".repeat(MAX_BODY_BYTES), &"\"".repeat(MAX_BODY_BYTES)] {
        let message = Message {
            chat: ChatId(id),
            seq: i64::MIN,
            sender: UserId(id),
            key: MessageKey(id),
            kind: EntryKind::ReactionRemoved,
            body: body.to_owned(),
            subject: Some(UserId(id)),
            target_seq: Some(i64::MIN),
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: true,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            sent_at_ms: i64::MIN,
            expires_at_ms: None,
            expired: false,
            changes: Changes::default(),
        };
        check_counted(&message);
        assert!(message.encoded_bytes() <= HISTORY_PAGE_BYTES);
        let reactions = |n: usize| Reactions {
            emoji: "\u{1f469}".repeat(n % 16),
            count: u32::MAX,
            own: true,
            users: vec![UserId(id); n % (MAX_LISTED_REACTORS + 1)],
        };
        let file = Attachment {
            name: body.chars().take(64).collect(),
            media_type: "application/octet-stream".into(),
            size: i64::MIN,
            width: Some(u32::MAX),
            height: Some(u32::MAX),
            duration_ms: Some(i64::MIN),
            blur: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".into()),
            has_thumbnail: true,
            ..Attachment::unknown(FileId(id))
        };
        check_counted(&Message {
            mentions: vec![UserId(id); MAX_MENTIONS],
            mention_roles: vec![Role::Owner, Role::Admin],
            mentions_here: true,
            silent: true,
            attachments: vec![file; MAX_ATTACHMENTS],
            forwarded: Some(Forwarded { sender: UserId(id), sent_at_ms: i64::MIN }),
            range: Some(SeqRange { from_seq: i64::MIN, to_seq: i64::MIN }),
            changes: Changes {
                seq: i64::MIN,
                edited_seq: Some(i64::MIN),
                edits: u32::MAX,
                deleted_seq: Some(i64::MIN),
                pinned_seq: Some(i64::MIN),
                replies: u32::MAX,
                last_reply_seq: Some(i64::MIN),
                reactions: (0..MAX_REACTIONS).map(reactions).collect(),
            },
            ..message
        });
    }
}

fn check_counted(message: &Message) {
    let bytes = serde_json::to_string(message).expect("json").len();
    let counted = message.encoded_bytes();
    assert!(bytes <= counted && counted < bytes * 5 / 4 + 100, "{bytes} bytes, counted as {counted}");
}

#[test]
fn an_answer_names_its_outcome() {
    let frame = ServerFrame {
        id: Some(7.into()),
        result: Some(Outcome::Accepted(Empty {})),
        ..ServerFrame::default()
    };
    assert_eq!(serde_json::to_string(&frame).expect("json"), r#"{"id":7,"result":{"accepted":{}}}"#);
}
