use uuid::Uuid;

use super::*;

const CHAT: ChatId = ChatId(Uuid::from_u128(100));

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn listing(version: i64) -> Listing {
    Listing::of_group(CHAT, version, 5)
}

/// A record of `chat.events` about one who was added.
fn within(version: i64) -> Place {
    Place { role: Some(Role::Member), kind: Some(ChatKind::Group), version, members: 5, from_entry: true }
}

fn changed(members: &Members, n: u128, place: Place) -> bool {
    members.changed(CHAT, user(n), place, Instant::now())
}

fn without(version: i64) -> Place {
    Place { role: None, ..within(version) }
}

fn text(seq: i64) -> Entry {
    Entry { chat: CHAT, seq, kind: EntryKind::Text, subject: None, edited_seq: None, sent_at_ms: 1_000 }
}

fn added(seq: i64, n: u128) -> Entry {
    Entry { kind: EntryKind::MemberAdded, subject: Some(user(n)), ..text(seq) }
}

fn removed(seq: i64, n: u128) -> Entry {
    Entry { kind: EntryKind::MemberRemoved, subject: Some(user(n)), ..text(seq) }
}

/// Returns members with these users connected, and nothing loaded.
fn with(users: &[u128]) -> Members {
    let members = Members::default();
    for n in users {
        assert!(members.opened(user(*n)), "their chats have to be loaded");
    }
    members
}

/// Returns members in which these users are in the chat, as of the first record.
fn seated(users: &[u128]) -> Members {
    let members = with(users);
    users.iter().for_each(|n| drop(members.load(user(*n), &[listing(1)])));
    members
}

/// Returns who learns of an entry, and how.
fn ways(members: &Members, entry: Entry) -> Vec<(u128, Way)> {
    let mut ways = Vec::new();
    members.for_recipients(entry, |user, way| ways.push((user.0.as_u128(), way)));
    ways.sort_by_key(|(user, _)| *user);
    ways
}

fn pushed(members: &Members, entry: Entry) -> Vec<u128> {
    let ways = ways(members, entry).into_iter();
    ways.map(|(user, way)| {
        assert_eq!(way, Way::Push);
        user
    })
    .collect()
}

#[test]
fn only_users_who_are_connected_here_are_held() {
    let members = seated(&[1, 2]);
    assert!(!changed(&members, 3, within(2)));
    assert_eq!(members.announced(added(1, 3), Instant::now()), None);
    assert_eq!(pushed(&members, text(5)), [1, 2]);
    assert_eq!((members.seats(), members.size(CHAT)), (2, 5));
    // A chat of others leaves nothing behind.
    let other = ChatId(Uuid::from_u128(101));
    assert!(!members.changed(other, user(3), within(1), Instant::now()));
    assert_eq!(members.size(other), 0);
}

#[test]
fn who_leaves_is_kept_for_a_while_and_then_forgotten() {
    let members = seated(&[1, 2]);
    let now = Instant::now();
    assert!(!members.opened(user(1)), "a second connection needs no load");
    members.closed(user(1), now);
    members.forget_departed(now + KEPT_FOR * 2);
    assert_eq!(pushed(&members, text(5)), [1, 2], "one connection is left");

    members.closed(user(1), now);
    members.forget_departed(now + KEPT_FOR / 2);
    assert!(!members.opened(user(1)), "who comes back soon needs no load");
    members.closed(user(1), now);
    members.closed(user(2), now);
    members.forget_departed(now + KEPT_FOR);
    assert_eq!((members.seats(), pushed(&members, text(5))), (0, vec![]));
    assert!(members.opened(user(1)));
}

#[test]
fn a_founding_member_receives_all_at_once() {
    let members = with(&[1]);
    members.load(user(1), &[]);
    let record = Place { from_entry: false, ..within(1) };
    assert!(changed(&members, 1, record), "they receive from here on");
    assert_eq!(pushed(&members, text(1)), [1]);
    assert!(!changed(&members, 1, Place { version: 2, ..record }), "they are there already");
    assert_eq!(members.standing(CHAT, user(1)), Some(Standing::Member));
}

#[test]
fn a_new_member_receives_nothing_of_before_their_entry_whichever_log_is_first() {
    for events_first in [true, false] {
        let members = with(&[1]);
        members.load(user(1), &[]);
        if events_first {
            changed(&members, 1, within(7));
            assert_eq!(ways(&members, text(4)), [(1, Way::Ask)], "it may be from before or not");
        }
        assert_eq!(members.announced(added(5, 1), Instant::now()), None);
        if !events_first {
            assert_eq!(members.standing(CHAT, user(1)), Some(Standing::Unknown));
            changed(&members, 1, within(7));
        }
        assert_eq!(pushed(&members, added(5, 1)), [1]);
        assert_eq!(pushed(&members, text(6)), [1]);
        assert!(ways(&members, text(4)).is_empty(), "announced once more");
        assert_eq!(members.standing(CHAT, user(1)), Some(Standing::Member));
    }
}

#[test]
fn who_connects_right_after_being_added_asks_for_what_may_be_from_before() {
    let members = with(&[1]);
    let joined_at_ms = 1_000_000;
    members.load(user(1), &[Listing { from_entry_at_ms: Some(joined_at_ms), ..listing(3) }]);
    let at = |sent_at_ms| ways(&members, Entry { sent_at_ms, ..text(9) });
    assert_eq!(at(joined_at_ms - 1), [(1, Way::Ask)]);
    assert_eq!(at(joined_at_ms + CLOCK_SKEW_MS - 1), [(1, Way::Ask)], "clocks differ");
    assert_eq!(at(joined_at_ms + CLOCK_SKEW_MS), [(1, Way::Push)]);
    members.announced(added(7, 1), Instant::now());
    assert_eq!(at(joined_at_ms), [(1, Way::Push)], "their entry has come by");
    assert!(ways(&members, text(6)).is_empty());
}

#[test]
fn the_text_of_an_edit_is_for_those_who_read_the_message() {
    let members = seated(&[1]);
    assert!(members.opened(user(2)) && members.opened(user(3)));
    members.announced(added(5, 2), Instant::now());
    // Of the third it is known that a history begins with an entry, and not with which.
    members.load(user(3), &[Listing { from_entry_at_ms: Some(1_000), ..listing(1) }]);
    let edit = |seq, edited| {
        let edit = Entry { kind: EntryKind::Edit, edited_seq: Some(edited), ..text(seq) };
        ways(&members, Entry { sent_at_ms: 1_000_000_000, ..edit })
    };
    assert_eq!(edit(6, 4), [(1, Way::Push), (2, Way::PushWithoutText), (3, Way::Ask)]);
    assert_eq!(edit(7, 5), [(1, Way::Push), (2, Way::Push), (3, Way::Ask)]);
    assert_eq!(edit(4, 3), [(1, Way::Push), (3, Way::Ask)], "from before they came");
}

#[test]
fn nothing_after_a_removal_is_for_the_removed() {
    let members = seated(&[1, 2]);
    assert_eq!(members.announced(removed(5, 2), Instant::now()), Some(user(2)), "the removal itself is");
    assert_eq!(pushed(&members, removed(5, 2)), [1]);
    assert_eq!(members.announced(removed(5, 2), Instant::now()), None, "once");
    assert_eq!(pushed(&members, text(6)), [1]);
    assert_eq!(pushed(&members, text(4)), [1, 2], "what was before it, announced late, is");

    members.announced(added(7, 2), Instant::now());
    assert_eq!(pushed(&members, text(8)), [1, 2], "added again");
    assert_eq!(members.announced(removed(5, 2), Instant::now()), None);
    assert_eq!(pushed(&members, text(8)), [1, 2], "an old removal is announced again");

    changed(&members, 2, without(2));
    assert_eq!(pushed(&members, text(9)), [1], "chat.events alone is enough");
    assert_eq!(
        members.announced(removed(9, 2), Instant::now()),
        Some(user(2)),
        "and the removal is still delivered"
    );
    let later = Instant::now() + OUT_FOR;
    members.doubtful(later);
    members.forget_departed(later);
    assert_eq!(members.seats(), 1, "both logs have them out");
}

#[test]
fn an_announcement_that_comes_late_brings_nobody_back() {
    let members = seated(&[1, 2]);
    let now = Instant::now();
    assert_eq!(members.announced(removed(7, 2), now), Some(user(2)));
    changed(&members, 2, without(2));
    members.announced(added(5, 2), now);
    assert_eq!(pushed(&members, text(9)), [1], "an owner that was cut off announced the addition last");
    assert_eq!(members.doubtful(now + RECORD_LATE), [], "both logs have them out");
}

#[test]
fn a_removal_before_the_record_of_the_addition_is_for_the_removed() {
    let members = seated(&[1]);
    members.opened(user(2));
    members.load(user(2), &[]);
    let now = Instant::now();
    assert_eq!(
        members.announced(removed(3, 2), now),
        Some(user(2)),
        "the chat was on their devices' last sync"
    );
    changed(&members, 2, within(2));
    assert_eq!(pushed(&members, text(4)), [1], "what chat.events tells late is of before");
    changed(&members, 2, without(3));
    members.doubtful(now + RECORD_LATE);
    members.forget_departed(now + OUT_FOR);
    assert_eq!(members.seats(), 1);
}

#[test]
fn an_old_removal_of_one_who_is_back_is_settled_by_the_chat_service() {
    // They came back before this process knew them.
    let members = seated(&[1, 2]);
    let now = Instant::now();
    assert_eq!(members.announced(removed(9, 2), now), Some(user(2)));
    assert_eq!(pushed(&members, text(12)), [1]);
    assert_eq!(members.doubtful(now), []);
    assert_eq!(members.doubtful(now + RECORD_LATE), [(CHAT, user(2))], "chat.events has them in");
    members.came_back(CHAT, user(2));
    members.load(user(2), &[listing(1)]);
    assert_eq!(pushed(&members, text(13)), [1, 2]);
    assert_eq!(members.doubtful(now + OUT_FOR), []);

    let joined_at_ms = 10 * CLOCK_SKEW_MS;
    let members = with(&[1]);
    members.load(user(1), &[Listing { from_entry_at_ms: Some(joined_at_ms), ..listing(4) }]);
    let old = Entry { sent_at_ms: joined_at_ms - 2 * CLOCK_SKEW_MS, ..removed(9, 1) };
    assert_eq!(members.announced(old, now), None, "long before they came");
}

#[test]
fn nothing_is_delivered_where_a_block_is() {
    let members = with(&[1, 2]);
    members.load(user(1), &[Listing { kind: Some(ChatKind::Direct), is_closed: true, ..listing(3) }]);
    members.load(user(2), &[Listing { kind: Some(ChatKind::Direct), ..listing(3) }]);
    assert_eq!(pushed(&members, text(5)), [2]);
    changed(&members, 2, Place { kind: None, ..without(4) });
    assert!(ways(&members, text(5)).is_empty());
    assert_eq!(members.standing(CHAT, user(2)), None);
    changed(&members, 1, Place { kind: None, ..within(5) });
    changed(&members, 2, Place { kind: None, ..within(6) });
    assert_eq!(pushed(&members, text(5)), [1, 2], "the block is lifted");
    assert_eq!(members.standing(CHAT, user(2)), Some(Standing::Direct));
}

#[test]
fn who_is_back_by_a_record_alone_catches_up_wherever_their_history_begins() {
    // A direct chat that the user had left before they came back, with a block in it when they connected.
    let members = with(&[1]);
    let closed = Listing {
        is_closed: true,
        from_entry_at_ms: Some(1_000),
        kind: Some(ChatKind::Direct),
        ..listing(3)
    };
    members.load(user(1), &[closed]);
    assert!(ways(&members, text(9)).is_empty(), "announced before the record that lifts the block");
    assert!(changed(&members, 1, Place { kind: None, ..within(4) }), "no entry tells of it");

    // A group that the user was removed from: the entry that brings them back is announced before their record.
    let members = seated(&[1]);
    members.announced(removed(5, 1), Instant::now());
    changed(&members, 1, without(2));
    members.announced(added(7, 1), Instant::now());
    assert!(ways(&members, added(7, 1)).is_empty(), "chat.events has them out");
    assert!(changed(&members, 1, within(3)));
    assert_eq!(pushed(&members, text(8)), [1]);

    // Usually the record is first, and the entry is theirs.
    members.announced(removed(9, 1), Instant::now());
    changed(&members, 1, without(4));
    assert!(!changed(&members, 1, within(5)));
    members.announced(added(10, 1), Instant::now());
    assert_eq!(pushed(&members, added(10, 1)), [1]);
}

#[test]
fn what_was_read_before_the_answer_to_a_load_stands_when_it_is_later() {
    // Removed after the snapshot, and before the answer.
    let members = with(&[1]);
    changed(&members, 1, without(5));
    members.load(user(1), &[listing(4)]);
    assert!(ways(&members, text(9)).is_empty());

    // The answer has what is read late.
    let members = with(&[1]);
    members.load(user(1), &[listing(6)]);
    changed(&members, 1, without(5));
    assert_eq!(pushed(&members, text(9)), [1]);
    changed(&members, 1, Place::default());
    assert_eq!(pushed(&members, text(9)), [1], "nor does the tombstone count that belongs to it");

    // The removal came by in the chat's log alone.
    let members = with(&[1]);
    assert_eq!(members.announced(removed(5, 1), Instant::now()), Some(user(1)));
    members.load(user(1), &[listing(6)]);
    assert!(ways(&members, text(9)).is_empty());
    members.announced(added(6, 1), Instant::now());
    assert_eq!(pushed(&members, text(9)), [1]);
}

#[test]
fn a_record_that_is_missing_is_noticed_by_the_number() {
    let members = seated(&[1, 2]);
    let now = Instant::now();
    let record = |place| assert!(!members.changed(CHAT, user(7), place, now));
    record(within(2));
    record(without(2));
    // Records of one chat are in several partitions: a later one may come first.
    record(within(5));
    record(without(4));
    record(within(3));
    assert!(members.lost_records(now + RECORD_LATE).is_empty(), "none is missing");
    record(without(7));
    assert!(members.lost_records(now + RECORD_LATE / 2).is_empty(), "it may be on its way");
    assert_eq!(members.lost_records(now + RECORD_LATE), [CHAT]);
    assert!(members.lost_records(now + RECORD_LATE * 2).is_empty(), "it is asked for once");
    let answered = |n| (CHAT, user(n), members.as_of(CHAT, user(n)));
    let (one, two) = (answered(1), answered(2));
    members.found_out(two.0, two.1, two.2);
    assert!(members.found_in(one.0, one.1, one.2));
    assert_eq!(pushed(&members, text(5)), [1]);
    changed(&members, 2, within(6));
    assert_eq!(pushed(&members, text(5)), [1], "it is older than the answer");
    record(within(8));
    assert!(members.lost_records(now + RECORD_LATE * 3).is_empty());
}

/// The chat service answers that they are in the chat, and not as what.
#[test]
fn a_lost_change_of_a_role_is_news_whatever_else_was_learned_of_the_member() {
    let members = with(&[1, 2]);
    let channel = |role, version| Listing { role, kind: Some(ChatKind::Channel), ..listing(version) };
    for (n, role) in [(1, Role::Admin), (2, Role::Member)] {
        members.load(user(n), &[channel(role, 1)]);
    }
    let now = Instant::now();
    let record = |role, version| Place { role: Some(role), kind: None, ..within(version) };
    // Number 2 makes the second one an admin and is lost; 4 shows that one is missing.
    changed(&members, 1, record(Role::Owner, 3));
    changed(&members, 7, record(Role::Member, 4));
    assert_eq!(members.lost_records(now + RECORD_LATE * 2), [CHAT]);
    let as_of = members.as_of(CHAT, user(2));
    assert!(members.found_in(CHAT, user(2), as_of), "they are in it, and no more was answered");
    assert_eq!(members.compared(CHAT, user(2), record(Role::Admin, 2)), Compared::Lost);
    assert_eq!(members.compared(CHAT, user(2), without(2)), Compared::Known, "it is older than the answer");
    changed(&members, 2, Place { kind: None, ..without(2) });
    assert_eq!(members.standing(CHAT, user(2)), Some(Standing::Reader));
    // It comes late, in the log or by a load.
    changed(&members, 2, record(Role::Admin, 2));
    assert_eq!(members.standing(CHAT, user(2)), Some(Standing::Writer));
    assert_eq!(members.compared(CHAT, user(2), record(Role::Admin, 2)), Compared::Known);
    assert_eq!(members.compared(CHAT, user(2), record(Role::Member, 3)), Compared::Lost);
    assert_eq!(members.load(user(2), &[channel(Role::Member, 4)]), [], "they were in it all the time");
    assert_eq!(members.standing(CHAT, user(2)), Some(Standing::Reader));
    assert_eq!(members.compared(CHAT, user(2), record(Role::Admin, 4)), Compared::Known);
}

#[test]
fn what_was_published_is_compared_with_what_is_known() {
    let members = with(&[1, 2, 4]);
    let news = |n, place| members.compared(CHAT, user(n), place);
    assert_eq!(news(1, within(2)), Compared::Unloaded, "what is loaded may be older");
    [1, 2].iter().for_each(|n| drop(members.load(user(*n), &[listing(5)])));
    members.load(user(4), &[]);
    for (n, place, expected) in [
        (1, without(5), Compared::Known),
        (1, without(6), Compared::Lost),
        (1, within(6), Compared::Lost),
        (4, within(5), Compared::Lost),
        (4, without(5), Compared::Known),
        (3, within(9), Compared::Known),
    ] {
        assert_eq!(news(n, place), expected, "{n}: {place:?}");
    }
    // One that came by itself, in the chat's own log.
    members.announced(added(8, 4), Instant::now());
    assert_eq!((news(4, within(6)), news(4, without(6))), (Compared::Lost, Compared::Known));
    // What was counted is not missing.
    let now = Instant::now();
    members.counted(CHAT, without(6), now);
    changed(&members, 1, within(7));
    assert!(members.lost_records(now + RECORD_LATE).is_empty());
    assert_eq!(members.as_of(CHAT, user(1)), AsOf(7));
}

#[test]
fn an_answer_is_as_old_as_the_question() {
    let members = seated(&[1]);
    let as_of = members.as_of(CHAT, user(1));
    changed(&members, 1, Place { from_entry: false, ..within(2) });
    members.found_out(CHAT, user(1), as_of);
    assert_eq!(pushed(&members, text(5)), [1], "they came back after it was asked");

    // The records up to the one that was loaded with the second user were lost, and none came behind them.
    members.opened(user(2));
    members.load(user(2), &[listing(9)]);
    let as_of = members.as_of(CHAT, user(2));
    members.found_out(CHAT, user(2), as_of);
    assert_eq!(pushed(&members, text(5)), [1], "an answer is no older than what was loaded before");
}

#[test]
fn one_who_is_in_a_chat_and_was_not_known_to_be_is_loaded() {
    let members = seated(&[1, 2]);
    members.opened(user(3));
    members.load(user(3), &[]);
    changed(&members, 2, without(2));
    let found_in = |n| members.found_in(CHAT, user(n), members.as_of(CHAT, user(n)));
    assert_eq!([1, 2, 3].map(found_in), [true, false, false]);
    assert_eq!(pushed(&members, text(5)), [1], "from where on they read is not known yet");
    assert_eq!(members.load(user(2), &[listing(3)]), [CHAT], "what was before is for them");
    assert_eq!(members.load(user(3), &[listing(3)]), [CHAT]);
    assert_eq!(members.load(user(3), &[listing(3)]), []);
    assert_eq!(pushed(&members, text(5)), [1, 2, 3]);
    // Who connects begins with a sync.
    members.opened(user(4));
    assert_eq!(members.load(user(4), &[listing(3)]), []);
}

#[test]
fn whom_the_chat_service_does_not_name_is_asked_about() {
    let members = seated(&[1, 2]);
    let other = ChatId(Uuid::from_u128(101));
    members.load(user(1), &[listing(1), Listing { chat: other, ..listing(1) }]);
    assert_eq!(members.unnamed(user(1), &[listing(1)]), [other]);
    members.found_out(other, user(1), members.as_of(other, user(1)));
    assert_eq!(members.unnamed(user(1), &[listing(1)]), []);
    assert_eq!(members.unnamed(user(3), &[]), []);
}

#[test]
fn records_of_an_older_chat_service_have_no_numbers() {
    let members = with(&[1]);
    members.load(user(1), &[Listing { kind: None, ..listing(0) }]);
    assert_eq!(members.standing(CHAT, user(1)), Some(Standing::Unknown), "the sender is checked first");
    let older = |role| Place { role, ..Place::default() };
    assert!(!changed(&members, 1, older(None)));
    assert!(ways(&members, text(5)).is_empty());
    changed(&members, 1, older(Some(Role::Member)));
    assert_eq!(pushed(&members, text(5)), [1]);
}

#[test]
fn a_channel_has_readers_and_writers() {
    let members = with(&[1, 2]);
    let channel = |role| Listing { role, kind: Some(ChatKind::Channel), ..listing(1) };
    members.load(user(1), &[channel(Role::Admin)]);
    members.load(user(2), &[channel(Role::Member)]);
    let standings = || [1, 2].map(|n| members.standing(CHAT, user(n)));
    assert_eq!(standings(), [Some(Standing::Writer), Some(Standing::Reader)]);
    changed(&members, 2, Place { role: Some(Role::Owner), kind: None, ..within(2) });
    assert_eq!(standings(), [Some(Standing::Writer); 2]);
}

#[test]
fn a_chat_through_which_thousands_pass_stays_small() {
    let members = with(&[1]);
    members.load(user(1), &[listing(1)]);
    let mut version = 1;
    for n in 100..20_000 {
        members.opened(user(n));
        members.load(user(n), &[]);
        changed(&members, n, within(version + 1));
        members.announced(added(version, n), Instant::now());
        members.announced(removed(version + 1, n), Instant::now());
        changed(&members, n, without(version + 2));
        version += 2;
    }
    let later = Instant::now() + OUT_FOR;
    members.doubtful(later);
    members.forget_departed(later);
    let shard = members.chats.read(&CHAT);
    assert_eq!((shard[&CHAT].seats.len(), members.seats()), (1, 1));
    assert!(shard[&CHAT].seats.capacity() < 100);
}

#[test]
fn a_restriction_is_checked_first_until_an_answer_of_after_it() {
    let members = seated(&[1, 2]);
    let standing = |n| members.standing(CHAT, user(n));
    for place in [Some(CHAT), None] {
        let before = members.noted();
        members.restricted(place, user(1));
        assert_eq!((standing(1), standing(2)), (Some(Standing::Restricted), Some(Standing::Member)));
        members.found_free(CHAT, user(1), before);
        assert_eq!(standing(1), Some(Standing::Restricted), "the answer may be of before the restriction");
        let behind = members.noted();
        members.found_free(CHAT, user(1), behind);
        assert_eq!(standing(1), Some(Standing::Member));
    }
    members.found_restricted(CHAT, user(1));
    let noted = members.noted();
    members.found_restricted(CHAT, user(1));
    assert_eq!((standing(1), members.noted()), (Some(Standing::Restricted), noted), "it is noted once");
    assert_eq!(pushed(&members, text(5)), [1, 2], "they read on");
}

#[test]
fn a_seat_that_comes_later_is_restricted_as_its_user_is() {
    let other = ChatId(Uuid::from_u128(101));
    for (place, expected) in
        [(Some(CHAT), [Standing::Restricted, Standing::Member]), (None, [Standing::Restricted; 2])]
    {
        let members = with(&[1]);
        members.restricted(place, user(1));
        members.restricted(place, user(3));
        members.load(user(1), &[listing(1)]);
        assert_eq!(members.standing(CHAT, user(1)), Some(expected[0]));
        members.changed(other, user(1), within(1), Instant::now());
        assert_eq!(members.standing(other, user(1)), Some(expected[1]));
        // Who is out and comes back is restricted still.
        changed(&members, 1, without(2));
        changed(&members, 1, within(3));
        assert_eq!(members.standing(CHAT, user(1)), Some(Standing::Restricted));
        members.opened(user(3));
        members.load(user(3), &[listing(3)]);
        assert_eq!(
            members.standing(CHAT, user(3)),
            Some(Standing::Member),
            "nothing is kept of who was not here"
        );
    }
}
