//! What is published of a change.

use super::*;

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
fn a_role_is_an_entry() {
    let records = group().apply(user(OWNER), &[role_set(OLD, Role::Admin)], at(50), MessageKey::generate);
    let topics: Vec<_> = records.iter().map(|record| record.topic).collect();
    assert_eq!(topics, [Topic::ChatEvents, Topic::MessageSend]);
    let entry = entry(&records[1]);
    let said = (entry.kind, entry.subject, entry.body.as_str());
    assert_eq!(said, (EntryKind::RoleChanged, Some(user(OLD)), "admin"));
}
