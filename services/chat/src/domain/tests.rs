use std::{collections::BTreeSet, time::Duration};

use contracts::{
    DeviceId,
    api::{CreateChatRequest, FOUNDED_MEMBERS, UpdateChatRequest},
    event::{EntryKind, MembershipRecord, SendRecord},
};
use kit::{catalog::Topic, text::Title};
use uuid::Uuid;

use super::{
    limits::{CreatedChats, Memberships, lately},
    *,
};

const OWNER: u128 = 1;
const ADMIN: u128 = 2;
const OLD: u128 = 3;
const NEW: u128 = 4;
const STRANGER: u128 = 9;

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a moment")
}

/// Returns a group with all its members, who joined in this order.
fn excerpt(members: &[(u128, Role)]) -> Excerpt {
    let others = members.iter().filter(|(_, role)| *role != Role::Owner);
    let heir = others.min_by_key(|(_, role)| *role).map(|(n, _)| user(*n));
    let member_count = members.len();
    let members = members.iter().zip(0..);
    Excerpt {
        chat_id: ChatId(Uuid::from_u128(100)),
        kind: ChatKind::Group,
        title: Some("Crew".to_owned()),
        topic: None,
        history: HistoryAccess::FromEntry,
        visibility: Visibility::Private,
        slow_mode_seconds: 0,
        message_ttl_seconds: 0,
        avatar: None,
        version: 20,
        deleted_by: None,
        member_count,
        heir,
        departures: Vec::new(),
        members: members
            .map(|((n, role), joined)| Member {
                user_id: user(*n),
                role: *role,
                joined_at: at(joined),
                reads_from: None,
                added_by: None,
            })
            .collect(),
    }
}

fn group() -> Excerpt {
    excerpt(&[(OWNER, Role::Owner), (OLD, Role::Member), (ADMIN, Role::Admin), (NEW, Role::Member)])
}

fn update(update: Update) -> Command {
    Command::Update(update)
}

fn entry(record: &OutboxRecord) -> SendRecord {
    serde_json::from_str(record.payload.as_deref().expect("an entry")).expect("json")
}

fn place(record: &OutboxRecord) -> MembershipRecord {
    assert_eq!(record.topic, Topic::ChatEvents);
    let place: MembershipRecord =
        serde_json::from_str(record.payload.as_deref().expect("a membership")).expect("json");
    assert_eq!(record.key, MembershipRecord::key(place.chat, place.user));
    place
}

fn put(n: u128, role: Role) -> Command {
    Command::Put { user_id: user(n), role }
}

fn remove(n: u128) -> Command {
    Command::Remove { user_id: user(n) }
}

fn added(n: u128, role: Role) -> Change {
    Change::Added { user_id: user(n), role }
}

fn role_set(n: u128, role: Role) -> Change {
    Change::RoleSet { user_id: user(n), role }
}

fn removed(n: u128) -> Change {
    Change::Removed { user_id: user(n) }
}

#[track_caller]
fn check(actor: u128, command: Command, expected: Result<&[Change], Refusal>) {
    let decided = decide(&group(), user(actor), &command);
    assert_eq!(decided.as_deref().map_err(|refusal| *refusal), expected, "{actor} requested {command:?}");
}

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
fn a_removal_is_said_and_forgotten() {
    let mut excerpt = group();
    let key = MessageKey(Uuid::from_u128(7));
    let records = excerpt.apply(user(OWNER), &[removed(OLD)], at(50), || key);
    let place = place(&records[0]);
    assert_eq!((place.user, place.role, place.version, place.members), (user(OLD), None, 21, 3));
    let tombstone = OutboxRecord { payload: None, ..records[0].clone() };
    assert_eq!(records[1], tombstone, "the log forgets the user");
    assert_eq!((records[2].topic, &records[2].key), (Topic::MessageSend, &excerpt.chat_id.to_string()));
    let entry = entry(&records[2]);
    assert_eq!((entry.kind, entry.subject, entry.key), (EntryKind::MemberRemoved, Some(user(OLD)), key));
    assert_eq!((entry.sender, entry.device), (user(OWNER), DeviceId(Uuid::nil())));
    assert!(!entry.subject_only, "all members learn of it");
    assert_eq!((records.len(), excerpt.version), (3, 21));
}

#[test]
fn the_records_of_a_chat_are_numbered_and_say_how_many_are_left() {
    let mut excerpt = group();
    let changes = [added(STRANGER, Role::Member), role_set(OLD, Role::Admin), removed(NEW)];
    let records = excerpt.apply(user(OWNER), &changes, at(50), MessageKey::generate);
    let said = |records: &[OutboxRecord]| {
        let places = records.iter().filter(|record| record.topic == Topic::ChatEvents);
        let places = places.filter(|record| record.payload.is_some()).map(place);
        places.map(|of| (of.user, of.role, of.version, of.members, of.from_entry)).collect::<Vec<_>>()
    };
    assert_eq!(
        said(&records),
        [
            (user(STRANGER), Some(Role::Member), 21, 5, true),
            (user(OLD), Some(Role::Admin), 22, 5, false),
            (user(NEW), None, 23, 4, false),
        ]
    );
    let title = Change::TitleSet { title: "Board games".to_owned() };
    assert_eq!(said(&excerpt.apply(user(OWNER), &[title], at(51), MessageKey::generate)), []);
    // The role of a member whose history begins with an entry does not move it.
    let records =
        excerpt.apply(user(OWNER), &[role_set(STRANGER, Role::Admin)], at(52), MessageKey::generate);
    assert_eq!(said(&records), [(user(STRANGER), Some(Role::Admin), 24, 4, true)]);
}

#[test]
fn a_block_takes_the_two_of_a_direct_chat_out_of_the_log_until_it_is_lifted() {
    let mut pair = Excerpt { kind: ChatKind::Direct, ..excerpt(&[(OLD, Role::Member), (NEW, Role::Member)]) };
    let records = pair.standing(true);
    let (said, tombstones): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.payload.is_some());
    assert_eq!(tombstones.len(), 2);
    let said: Vec<_> = said.into_iter().map(place).collect();
    let said: Vec<_> = said.iter().map(|of| (of.user, of.role, of.kind, of.version, of.members)).collect();
    let direct = Some(ChatKind::Direct);
    assert_eq!(said, [(user(OLD), None, direct, 21, 2), (user(NEW), None, direct, 22, 2)]);
    let lifted: Vec<_> =
        pair.standing(false).iter().map(place).map(|of| (of.user, of.role, of.version)).collect();
    assert_eq!(lifted, [(user(OLD), Some(Role::Member), 23), (user(NEW), Some(Role::Member), 24)]);
}

#[test]
fn a_member_reads_from_the_entry_that_adds_them_unless_the_group_said_otherwise_then() {
    let mut excerpt = group();
    let key = |n| MessageKey(Uuid::from_u128(n));
    let mut keys = (70..).map(key);
    let records =
        excerpt.apply(user(ADMIN), &[added(STRANGER, Role::Member)], at(50), || keys.next().expect("a key"));
    let entry = entry(&records[1]);
    let reads_from = |excerpt: &Excerpt, n| excerpt.member(user(n)).expect("a member").reads_from;
    let named = Some(EntryId { sender: user(ADMIN), key: entry.key });
    assert_eq!((reads_from(&excerpt, STRANGER), reads_from(&excerpt, OLD)), (named, None));

    let open = [Change::HistorySet { history: HistoryAccess::All }, added(20, Role::Member)];
    let records = excerpt.apply(user(OWNER), &open, at(51), MessageKey::generate);
    assert_eq!(records.len(), 2, "the rule is not published");
    // What a present member reads stays.
    assert_eq!((reads_from(&excerpt, 20), reads_from(&excerpt, STRANGER)), (None, named));
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
fn a_channel_is_a_group_that_says_so_in_every_membership() {
    let mut channel = Excerpt { kind: ChatKind::Channel, ..group() };
    for command in [put(STRANGER, Role::Member), put(OLD, Role::Admin), remove(NEW), Command::Leave] {
        assert_eq!(decide(&channel, user(OWNER), &command), decide(&group(), user(OWNER), &command));
    }
    let changes = [added(STRANGER, Role::Member), role_set(OLD, Role::Admin)];
    let records = channel.apply(user(OWNER), &changes, at(50), MessageKey::generate);
    let said = [&records[0], &records[2]].map(place).map(|of| (of.role, of.kind));
    let kind = Some(ChatKind::Channel);
    assert_eq!(said, [(Some(Role::Member), kind), (Some(Role::Admin), kind)]);
    let founding = Founding::Group {
        is_channel: true,
        title: Title::parse("title", "News").expect("a title"),
        history: HistoryAccess::All,
        visibility: Visibility::Private,
        others: BTreeSet::new(),
    };
    let (chat_id, founder) = (channel.chat_id, user(OWNER));
    let new = NewChat { chat_id, founder, founding, key: None, created_at: at(0) };
    let founded = place(&new.records()[0]);
    assert_eq!((founded.kind, founded.version, founded.members, founded.from_entry), (kind, 1, 1, false));
    let Founding::Group { title, history, visibility, others, .. } = new.founding.clone() else {
        unreachable!()
    };
    let founding = Founding::Group { is_channel: false, title, history, visibility, others };
    let group = NewChat { founding, ..new.clone() };
    assert_ne!(new.digest(), group.digest(), "the same key is not for both");
}

#[test]
fn a_deleted_group_loses_its_members_in_order_and_each_learns_of_it_once() {
    check(ADMIN, Command::Delete, Err(Refusal::RoleTooLow(Role::Admin)));
    check(OLD, Command::Delete, Err(Refusal::RoleTooLow(Role::Member)));
    check(STRANGER, Command::Delete, Err(Refusal::NotAMember(group().chat_id)));
    check(OWNER, Command::Delete, Ok(&[Change::DeletionBegun]));

    let mut excerpt = group();
    assert_eq!(excerpt.apply(user(OWNER), &[Change::DeletionBegun], at(50), MessageKey::generate), []);
    // From then on no user comes, and who wants to go may.
    let gone = Err(Refusal::NotAMember(excerpt.chat_id));
    for command in [put(STRANGER, Role::Member), put(OLD, Role::Admin), update(Update::default())] {
        assert_eq!(decide(&excerpt, user(OWNER), &command), gone, "{command:?}");
    }
    assert!(add(&excerpt, user(OWNER), &BTreeSet::from([user(STRANGER)])).is_err());
    assert_eq!(decide(&excerpt, user(OLD), &Command::Leave), Ok(vec![removed(OLD)]));
    assert_eq!(decide(&excerpt, user(OWNER), &Command::Delete), Ok(vec![]));

    let next = [OLD, STRANGER, ADMIN, NEW, OWNER].map(user);
    let all = empty(&excerpt, &next);
    assert_eq!(all, [OLD, ADMIN, NEW, OWNER].map(removed), "one who has left meanwhile is out already");
    let records = excerpt.apply(user(OWNER), &all, at(50), MessageKey::generate);
    assert_eq!(records.len(), 12);
    for (records, (n, left)) in records.chunks(3).zip([(OLD, 3), (ADMIN, 2), (NEW, 1), (OWNER, 0)]) {
        let place = place(&records[0]);
        assert_eq!((place.user, place.role, place.members), (user(n), None, left));
        assert_eq!(records[1].payload, None);
        let entry = entry(&records[2]);
        assert_eq!((entry.subject, entry.subject_only), (Some(user(n)), true));
    }
    // The owner may repeat it, and no other user learns that there was a group.
    assert_eq!(decide(&excerpt, user(OWNER), &Command::Delete), Ok(vec![]));
    assert!(decide(&excerpt, user(ADMIN), &Command::Delete).is_err());
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
fn a_role_is_an_entry() {
    let records = group().apply(user(OWNER), &[role_set(OLD, Role::Admin)], at(50), MessageKey::generate);
    let topics: Vec<_> = records.iter().map(|record| record.topic).collect();
    assert_eq!(topics, [Topic::ChatEvents, Topic::MessageSend]);
    let entry = entry(&records[1]);
    let said = (entry.kind, entry.subject, entry.body.as_str());
    assert_eq!(said, (EntryKind::RoleChanged, Some(user(OLD)), "admin"));
}

#[test]
fn one_user_takes_a_share_of_what_is_left() {
    let limits = Limits { max_memberships: 1000, max_chats_per_user: 5 };
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
    let limits = Limits { max_memberships: 1000, max_chats_per_user: 5 };
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
