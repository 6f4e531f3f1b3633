//! How chats begin, and how many there may be.

use super::*;

#[test]
fn a_group_request_is_tidied() {
    let request = |kind, title: Option<&str>, members: &[u128]| CreateChatRequest {
        kind,
        title: title.map(str::to_owned),
        history: None,
        visibility: None,
        members: members.iter().map(|n| user(*n)).collect(),
    };
    let check = |request, expected| assert_eq!(Founding::parse(user(OWNER), request), expected);
    check(
        request(ChatKind::Group, Some(" Crew "), &[OLD, OLD, OWNER]),
        Ok(Founding::Group {
            is_channel: false,
            title: Title::parse("title", "Crew").expect("a title"),
            history: HistoryAccess::FromEntry,
            visibility: Visibility::Private,
            others: BTreeSet::from([user(OLD)]),
        }),
    );
    for title in [None, Some("a\nb"), Some("\u{200b}"), Some("us\u{202e}"), Some(&*"x".repeat(129))] {
        let refused = Founding::parse(user(OWNER), request(ChatKind::Group, title, &[OLD]));
        assert!(matches!(refused, Err(InvalidChat::GroupTitle(_))), "{title:?}: {refused:?}");
    }
    let many: Vec<_> = (10..=10 + FOUNDED_MEMBERS as u128).collect();
    check(request(ChatKind::Group, Some("Crew"), &many), Err(InvalidChat::TooManyMembers));
    assert!(Founding::parse(user(OWNER), request(ChatKind::Group, Some("Crew"), &many[1..])).is_ok());
    check(request(ChatKind::Direct, None, &[OLD]), Ok(Founding::Direct { other: user(OLD) }));
    check(request(ChatKind::Direct, None, &[OLD, OWNER, OLD]), Ok(Founding::Direct { other: user(OLD) }));
    check(request(ChatKind::Direct, None, &[OWNER]), Err(InvalidChat::DirectWithOneself));
    check(request(ChatKind::Direct, None, &[OLD, NEW]), Err(InvalidChat::DirectMembers));
    check(request(ChatKind::Direct, Some("us"), &[OLD]), Err(InvalidChat::DirectTitle));
    let history = Some(HistoryAccess::All);
    let open = CreateChatRequest { history, ..request(ChatKind::Direct, None, &[OLD]) };
    check(open, Err(InvalidChat::DirectHistory));
    let open = CreateChatRequest { history, ..request(ChatKind::Group, Some("Crew"), &[]) };
    let open = Founding::parse(user(OWNER), open);
    let channel = Founding::parse(user(OWNER), request(ChatKind::Channel, Some("News"), &[]));
    assert!(
        matches!(channel, Ok(Founding::Group { is_channel: true, history: HistoryAccess::All, .. })),
        "{channel:?}"
    );
    assert!(matches!(open, Ok(Founding::Group { history: HistoryAccess::All, .. })), "{open:?}");
}

#[test]
fn one_user_takes_a_share_of_what_is_left() {
    let limits = Limits { max_memberships: 1000, max_chats_per_user: 5, ..Limits::DEFAULT };
    let check = |all, added, more, expected: Result<(), Refusal>| {
        let found = limits.check_members(Memberships { all, added }, more);
        assert_eq!(found, expected, "{added} of {all}, and {more} more");
    };
    check(0, 0, 111, Ok(()));
    check(0, 0, 112, Err(Refusal::TooManyAdded));
    check(111, 111, 1, Err(Refusal::TooManyAdded));
    check(111, 0, 98, Ok(()));
    check(111, 0, 99, Err(Refusal::TooManyAdded));
    check(900, 0, 11, Ok(()));
    check(900, 12, 1, Err(Refusal::TooManyAdded));
    check(990, 0, 1, Ok(()));
    check(999, 0, 1, Err(Refusal::TooManyAdded));
    check(1000, 0, 1, Err(Refusal::TenantFull));
    check(5, 0, 996, Err(Refusal::TenantFull));
    // Beyond a limit that was lowered nothing is added, and what adds nothing is allowed.
    check(5000, 0, 1, Err(Refusal::TenantFull));
    check(5000, 2000, 0, Ok(()));
}

#[test]
fn chats_with_members_and_chats_of_a_day_are_counted() {
    let limits = Limits { max_memberships: 1000, max_chats_per_user: 5, ..Limits::DEFAULT };
    let check = |with_members, lately, expected: Result<(), Refusal>| {
        let first_lately = (lately > 0).then(|| at(1000));
        let created = CreatedChats { with_members, lately, first_lately };
        assert_eq!(limits.check_creation(created, at(1060)), expected, "{with_members}, {lately} lately");
    };
    let wait = Duration::from_secs(24 * 3600 - 60);
    check(0, 0, Ok(()));
    check(4, 4, Ok(()));
    check(5, 0, Err(Refusal::TooManyChats(5)));
    // Waiting would not help.
    check(5, 5, Err(Refusal::TooManyChats(5)));
    check(2, 5, Err(Refusal::TooManyChatsLately { most: 5, wait }));
    assert_eq!(lately(at(24 * 3600)), at(0));
}
