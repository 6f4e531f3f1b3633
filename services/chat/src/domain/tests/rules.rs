//! Who may change what.

use super::*;

#[test]
fn an_owner_may_do_everything_but_step_down_alone() {
    check(OWNER, put(STRANGER, Role::Member), Ok(&[added(STRANGER, Role::Member)]));
    check(OWNER, put(STRANGER, Role::Admin), Ok(&[added(STRANGER, Role::Admin)]));
    check(OWNER, put(OLD, Role::Admin), Ok(&[role_set(OLD, Role::Admin)]));
    check(OWNER, put(ADMIN, Role::Member), Ok(&[role_set(ADMIN, Role::Member)]));
    check(OWNER, put(OLD, Role::Owner), Ok(&[role_set(OWNER, Role::Admin), role_set(OLD, Role::Owner)]));
    check(OWNER, remove(ADMIN), Ok(&[removed(ADMIN)]));
    check(OWNER, put(OWNER, Role::Admin), Err(Refusal::OwnerStays));
}

#[test]
fn an_admin_adds_and_removes_plain_members() {
    let refused = Err(Refusal::RoleTooLow(Role::Admin));
    check(ADMIN, put(STRANGER, Role::Member), Ok(&[added(STRANGER, Role::Member)]));
    check(ADMIN, remove(OLD), Ok(&[removed(OLD)]));
    check(ADMIN, put(STRANGER, Role::Admin), refused);
    check(ADMIN, put(OLD, Role::Admin), refused);
    check(ADMIN, put(ADMIN, Role::Owner), refused);
    check(ADMIN, put(OWNER, Role::Member), refused);
    check(ADMIN, remove(OWNER), refused);
}

#[test]
fn a_member_may_only_leave() {
    let refused = Err(Refusal::RoleTooLow(Role::Member));
    check(OLD, put(STRANGER, Role::Member), refused);
    check(OLD, put(OLD, Role::Owner), refused);
    check(OLD, remove(NEW), refused);
    check(OLD, remove(OLD), Ok(&[removed(OLD)]));
    check(OLD, Command::Leave, Ok(&[removed(OLD)]));
}

#[test]
fn what_is_so_already_changes_nothing() {
    check(OWNER, put(OLD, Role::Member), Ok(&[]));
    check(OWNER, put(OWNER, Role::Owner), Ok(&[]));
    check(ADMIN, put(OLD, Role::Member), Ok(&[]));
    // A former owner repeats the change that handed over.
    check(ADMIN, put(OWNER, Role::Owner), Ok(&[]));
    check(ADMIN, put(ADMIN, Role::Admin), Ok(&[]));
    check(OWNER, remove(STRANGER), Ok(&[]));
    check(ADMIN, remove(STRANGER), Ok(&[]));
    check(STRANGER, remove(STRANGER), Ok(&[]));
    check(STRANGER, Command::Leave, Ok(&[]));
}

#[test]
fn a_stranger_learns_nothing() {
    for command in [put(STRANGER, Role::Member), put(OLD, Role::Member), remove(OLD)] {
        check(STRANGER, command, Err(Refusal::NotAMember(group().chat_id)));
    }
}

#[test]
fn a_leaving_owner_hands_over_to_the_oldest_admin_and_else_to_the_oldest_member() {
    check(OWNER, Command::Leave, Ok(&[removed(OWNER), role_set(ADMIN, Role::Owner)]));
    let members = excerpt(&[(NEW, Role::Member), (OLD, Role::Member), (OWNER, Role::Owner)]);
    let changes = decide(&members, user(OWNER), &Command::Leave);
    assert_eq!(changes, Ok(vec![removed(OWNER), role_set(NEW, Role::Owner)]));
    let alone = excerpt(&[(OWNER, Role::Owner)]);
    assert_eq!(decide(&alone, user(OWNER), &Command::Leave), Ok(vec![removed(OWNER)]));
}

#[test]
fn a_deleted_account_leaves_as_a_member_does_and_a_direct_chat_too() {
    assert_eq!(depart(&group(), user(OWNER)), [removed(OWNER), role_set(ADMIN, Role::Owner)]);
    assert_eq!(depart(&group(), user(OLD)), [removed(OLD)]);
    assert_eq!(depart(&group(), user(STRANGER)), []);
    let pair = Excerpt { kind: ChatKind::Direct, ..excerpt(&[(OLD, Role::Member), (NEW, Role::Member)]) };
    assert_eq!(depart(&pair, user(OLD)), [removed(OLD)]);
}

#[test]
fn a_direct_chat_takes_messages_of_two_without_a_block() {
    let role = Role::Member;
    for (kind, members, is_blocked, expected) in [
        (ChatKind::Direct, 2, false, Access::ReadAndSend),
        (ChatKind::Direct, 2, true, Access::Read),
        (ChatKind::Direct, 1, false, Access::Read),
        (ChatKind::Group, 1, false, Access::ReadAndSend),
        (ChatKind::Channel, 2, false, Access::ReadAndReact),
    ] {
        assert_eq!(
            Access::of_member(kind, role, members, is_blocked),
            expected,
            "{kind:?} {members} {is_blocked}"
        );
    }
    for role in [Role::Owner, Role::Admin] {
        assert_eq!(Access::of_member(ChatKind::Channel, role, 2, false), Access::ReadAndSend);
    }
}

#[test]
fn a_full_chat_takes_no_member_but_still_changes_roles() {
    let full = Excerpt { member_count: MAX_MEMBERS, ..group() };
    assert_eq!(decide(&full, user(OWNER), &put(STRANGER, Role::Member)), Err(Refusal::Full));
    assert!(decide(&full, user(OWNER), &put(OLD, Role::Admin)).is_ok());
}

#[test]
fn a_direct_chat_is_fixed_but_for_leaving() {
    let direct = Excerpt { kind: ChatKind::Direct, ..excerpt(&[(OLD, Role::Member), (NEW, Role::Member)]) };
    let open = update(Update { history: Some(HistoryAccess::All), ..Update::default() });
    for command in [Command::Leave, remove(OLD)] {
        assert_eq!(decide(&direct, user(OLD), &command), Ok(vec![removed(OLD)]));
    }
    for command in [put(STRANGER, Role::Member), put(OLD, Role::Admin), remove(NEW), open, Command::Delete] {
        assert_eq!(decide(&direct, user(OLD), &command), Err(Refusal::DirectIsFixed));
    }
    assert!(matches!(decide(&direct, user(STRANGER), &remove(OLD)), Err(Refusal::NotAMember(_))));
}

#[test]
fn a_departure_bars_hands_and_never_the_user() {
    let departure = |n, by| Departure { user_id: user(n), by: user(by), at: at(0) };
    let departures = vec![departure(20, OWNER), departure(21, 21)];
    let group = Excerpt { departures, ..group() };
    let unwanted = |n| Err(Refusal::Unwanted(user(n)));
    let put_by = |actor, n| decide(&group, user(actor), &put(n, Role::Member)).map(|changes| changes.len());
    assert_eq!(put_by(OWNER, 20), unwanted(20));
    assert_eq!(put_by(ADMIN, 20), Ok(1));
    assert_eq!((put_by(OWNER, 21), put_by(ADMIN, 21)), (unwanted(21), unwanted(21)));
    // A refusal for the role comes first: it says nothing of the user.
    assert_eq!(put_by(OLD, 21), Err(Refusal::RoleTooLow(Role::Member)));

    let left = Excerpt {
        kind: ChatKind::Direct,
        departures: vec![departure(NEW, NEW)],
        ..excerpt(&[(OLD, Role::Member)])
    };
    assert_eq!(reopen(&left, user(OLD), user(NEW), false), Err(Refusal::Unwanted(user(NEW))));
    assert_eq!(reopen(&left, user(NEW), user(OLD), false), Ok(vec![added(NEW, Role::Member)]));
    assert_eq!(reopen(&left, user(NEW), user(OLD), true), Err(Refusal::Unwanted(user(OLD))));
    assert!(!left.departures[0].is_past(at(-1) + READDING_PAUSE));
    assert!(left.departures[0].is_past(at(0) + READDING_PAUSE));
    let later = Excerpt { departures: Vec::new(), ..left };
    assert_eq!(reopen(&later, user(OLD), user(NEW), false), Ok(vec![added(NEW, Role::Member)]));
}

#[test]
fn the_history_of_new_members_is_decided_by_owners_and_admins() {
    let set = |history| update(Update { history: Some(history), ..Update::default() });
    let open = || set(HistoryAccess::All);
    let done = [Change::HistorySet { history: HistoryAccess::All }];
    check(OWNER, open(), Ok(&done));
    check(ADMIN, open(), Ok(&done));
    check(ADMIN, set(HistoryAccess::FromEntry), Ok(&[]));
    check(OLD, open(), Err(Refusal::RoleTooLow(Role::Member)));
    check(STRANGER, open(), Err(Refusal::NotAMember(group().chat_id)));
}

#[test]
fn owners_and_admins_decide_what_a_group_is_called() {
    let parse = |title: &str, topic: &str| {
        let (title, topic) = (Some(title.to_owned()), Some(topic.to_owned()));
        Update::parse(&UpdateChatRequest { title, topic, ..UpdateChatRequest::default() })
    };
    let renamed = || update(parse(" Board   games ", "on\r\nFridays").expect("an update"));
    let title = Change::TitleSet { title: "Board games".to_owned() };
    let topic = Change::TopicSet { topic: Some("on\nFridays".to_owned()) };
    check(OWNER, renamed(), Ok(&[title.clone(), topic.clone()]));
    check(ADMIN, renamed(), Ok(&[title.clone(), topic.clone()]));
    check(OLD, renamed(), Err(Refusal::RoleTooLow(Role::Member)));
    check(STRANGER, renamed(), Err(Refusal::NotAMember(group().chat_id)));
    // It is called so already, and has no topic.
    check(OWNER, update(parse("Crew", "").expect("an update")), Ok(&[]));
    check(OWNER, update(Update::default()), Ok(&[]));
    for (title, topic, field) in [("", "", "title"), ("a\nb", "", "title"), ("Crew", "a\u{0}", "topic")] {
        assert_eq!(parse(title, topic).map_err(|invalid| invalid.field), Err(field));
    }

    let mut excerpt = group();
    let entries = |excerpt: &mut Excerpt, changes: &[Change]| {
        let records = excerpt.apply(user(ADMIN), changes, at(50), MessageKey::generate).into_iter();
        records.map(|record| entry(&record)).collect::<Vec<_>>()
    };
    let named = entries(&mut excerpt, &[title, topic]);
    let said: Vec<_> = named.iter().map(|entry| (entry.kind, entry.subject, entry.body.as_str())).collect();
    assert_eq!(
        said,
        [(EntryKind::TitleChanged, None, "Board games"), (EntryKind::TopicChanged, None, "on\nFridays")]
    );
    assert_eq!(
        (excerpt.title.as_deref(), excerpt.topic.as_deref()),
        (Some("Board games"), Some("on\nFridays"))
    );
    let removed = decide(&excerpt, user(OWNER), &update(parse("Board games", "").expect("an update")));
    assert_eq!(removed, Ok(vec![Change::TopicSet { topic: None }]));
    let unset = entries(&mut excerpt, &removed.expect("a change"));
    assert_eq!((unset[0].kind, unset[0].body.as_str()), (EntryKind::TopicChanged, ""));
}

#[test]
fn many_are_added_at_once_and_one_who_cannot_be_keeps_out_no_other() {
    let departure = Departure { user_id: user(20), by: user(20), at: at(0) };
    let group = Excerpt { departures: vec![departure], ..group() };
    let users = BTreeSet::from([OLD, ADMIN, 20, 21, 22].map(user));
    let added_by = |actor| add(&group, user(actor), &users);
    let expected = Additions {
        changes: [21, 22].map(|n| added(n, Role::Member)).to_vec(),
        unwanted: BTreeSet::from([user(20)]),
    };
    for actor in [OWNER, ADMIN] {
        assert_eq!(added_by(actor), Ok(expected.clone()), "who is in it stays as they are");
    }
    assert_eq!(added_by(OLD), Err(Refusal::RoleTooLow(Role::Member)));
    assert_eq!(added_by(STRANGER), Err(Refusal::NotAMember(group.chat_id)));
    let almost = Excerpt { member_count: MAX_MEMBERS - 1, ..group.clone() };
    assert_eq!(add(&almost, user(OWNER), &users), Err(Refusal::Full), "all or none");
    assert!(add(&almost, user(OWNER), &BTreeSet::from([OLD, 20, 21].map(user))).is_ok());
    let direct = Excerpt { kind: ChatKind::Direct, ..excerpt(&[(OLD, Role::Member), (NEW, Role::Member)]) };
    assert_eq!(add(&direct, user(OLD), &users), Err(Refusal::DirectIsFixed));
}

#[test]
fn a_command_concerns_few() {
    let of = |command: Command| command.concern(user(OWNER));
    let concern = |others: &[u128], heir| {
        let users = others.iter().chain([&OWNER]).map(|n| user(*n)).collect();
        Concern { users, heir }
    };
    assert_eq!(of(put(OLD, Role::Owner)), concern(&[OLD], false));
    assert_eq!(of(remove(OLD)), concern(&[OLD], false));
    assert_eq!((of(Command::Leave), of(remove(OWNER))), (concern(&[], true), concern(&[], true)));
    assert_eq!(of(Command::Delete), concern(&[], false));
}

#[test]
fn owners_and_admins_decide_how_long_texts_stay_and_either_of_two_in_a_direct_chat() {
    let parse = |seconds| {
        let message_ttl_seconds = Some(seconds);
        Update::parse(&UpdateChatRequest { message_ttl_seconds, ..UpdateChatRequest::default() })
    };
    let ttl = |seconds| update(parse(seconds).expect("an update"));
    let done = [Change::TtlSet { seconds: 3600 }];
    check(OWNER, ttl(3600), Ok(&done));
    check(ADMIN, ttl(3600), Ok(&done));
    check(ADMIN, ttl(0), Ok(&[]));
    check(OLD, ttl(3600), Err(Refusal::RoleTooLow(Role::Member)));
    for seconds in [1, 59, 31_536_001] {
        assert_eq!(parse(seconds).map_err(|invalid| invalid.field), Err("message_ttl_seconds"));
    }
    let mut pair = Excerpt { kind: ChatKind::Direct, ..excerpt(&[(OLD, Role::Member), (NEW, Role::Member)]) };
    for user_id in [OLD, NEW] {
        assert_eq!(decide(&pair, user(user_id), &ttl(3600)), Ok(done.to_vec()));
    }
    assert!(decide(&pair, user(STRANGER), &ttl(3600)).is_err());
    let slow = Update { slow_mode_seconds: Some(5), ..parse(3600).expect("an update") };
    assert_eq!(decide(&pair, user(OLD), &update(slow)), Err(Refusal::DirectIsFixed));
    let records = pair.apply(user(OLD), &done, at(50), MessageKey::generate);
    let entry = entry(&records[0]);
    assert_eq!(
        (entry.kind, entry.body.as_str(), pair.message_ttl_seconds),
        (EntryKind::TtlChanged, "3600", 3600)
    );
}
