//! One suite for every store.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use contracts::{
    UserId,
    api::{ContactableBy, PresenceVisibleTo, UpdateProfileRequest},
};
use kit::{
    error::InvalidField,
    postgres::Schema,
    testing::TestDatabase,
    text::{DisplayName, Username},
};
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinSet;
use user::{
    domain::{
        ChatsErased, Contact, Cursor, DeletionPosition, Erasure, MAX_CONTACTS, MAX_SETTINGS_BYTES, Newcomer,
        PresenceShown, Profile, ProfileUpdate, ReceiptHash, Search, Settings, Status,
    },
    store::{MemoryStore, PostgresStore, ProfileStore, PutContact, PutSettings, SCHEMA, StoreError},
};

type Store = Arc<dyn ProfileStore>;

kit::on_both_stores![
    a_profile_is_created_once_and_follows_the_realms_username,
    the_name_of_a_deleted_account_gets_no_other_profile,
    an_update_changes_what_it_names,
    each_change_of_a_profile_makes_its_version_greater,
    a_search_finds_both_names_in_any_case,
    a_search_finds_a_name_by_what_another_keyboard_sends,
    a_username_is_found_whatever_comes_before_it,
    a_search_takes_every_character_as_it_is,
    words_of_names_find_users_by_their_beginnings,
    pages_follow_each_other_to_the_end,
    newcomers_at_once_are_one_profile,
    deletions_are_listed_in_their_order_until_they_are_finished,
    deleted_accounts_are_not_counted,
    each_username_has_one_profile,
    an_erasure_is_shown_by_its_receipt_until_nothing_of_the_user_is_left,
    privacy_and_status_are_kept_until_they_are_changed,
    settings_are_replaced_from_their_version_only,
    settings_that_are_put_at_once_are_put_one_after_the_other,
    a_deleted_account_has_no_settings_and_no_status,
    contacts_have_names_of_their_own_and_come_in_pages,
    contacts_are_limited,
    presence_is_shown_by_setting_and_contacts,
];

/// Returns a database with the tables of this service.
pub async fn database() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await;
    SCHEMA.migrate(&database.args()).await.expect("the migrations apply");
    let pool = SCHEMA.pool(&database.args());
    (database, pool)
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a moment")
}

fn newcomer(username: &str, display_name: &str) -> Newcomer {
    Newcomer::parse(UserId::generate(), username, display_name).expect("a new user")
}

fn update(display_name: Option<&str>, about: Option<&str>) -> ProfileUpdate {
    let request = UpdateProfileRequest {
        display_name: display_name.map(str::to_owned),
        about: about.map(str::to_owned),
        ..UpdateProfileRequest::default()
    };
    ProfileUpdate::parse(request, at(0)).expect("an update")
}

async fn add(store: &Store, username: &str, display_name: &str) -> Profile {
    store.ensure(&newcomer(username, display_name), at(0)).await.expect("a profile")
}

async fn found(store: &Store, query: &str) -> Vec<String> {
    usernames(store, Search::parse(Some(query), None, None, 100)).await
}

async fn with_words(store: &Store, query: &str) -> Vec<String> {
    usernames(store, Search::words(query, None, 100)).await
}

async fn named(store: &Store, username: &str) -> Vec<String> {
    usernames(store, Search::parse(None, Some(username), None, 100)).await
}

async fn usernames(store: &Store, search: Result<Search, InvalidField>) -> Vec<String> {
    let profiles = store.search(&search.expect("a search")).await.expect("a result");
    profiles.into_iter().map(|profile| profile.username).collect()
}

async fn a_profile_is_created_once_and_follows_the_realms_username(store: Store) {
    let ann = newcomer("ann", "Ann");
    let created = store.ensure(&ann, at(0)).await.expect("a profile");
    assert_eq!(
        (created.display_name.as_str(), created.about.as_str(), created.created_at),
        ("Ann", "", at(0))
    );
    let from_token = Newcomer::parse(ann.user_id, "ann", "").expect("a new user");
    assert_eq!(store.ensure(&from_token, at(9)).await.expect("a profile"), created);
    let renamed = Newcomer::parse(ann.user_id, "anna", "").expect("a new user");
    let expected = Profile { username: "anna".to_owned(), version: 2, ..created };
    assert_eq!(store.ensure(&renamed, at(9)).await.expect("a profile"), expected);
    assert_eq!(store.profile(ann.user_id).await.expect("a read"), Some(expected.clone()));
    let unknown = UserId::generate();
    assert_eq!(store.profile(unknown).await.expect("a read"), None);
    assert_eq!(store.profiles(&[unknown, ann.user_id]).await.expect("a read"), [expected]);
    // The realm has let another user take the name.
    add(&store, "anna", "Another Anna").await;
    assert_eq!(found(&store, "anna").await, ["anna", "anna"]);
}

async fn the_name_of_a_deleted_account_gets_no_other_profile(store: Store) {
    let (ann, bob) = (add(&store, "ann", "Ann").await, add(&store, "bob", "Bob").await);
    // The realm keeps names of accounts apart; one that was renamed there gives its name to another one.
    let namesake = add(&store, "ann", "").await;
    store.delete(ann.user_id, None, at(1)).await.expect("a deletion");
    let refused = |profile| matches!(profile, Err(StoreError::NameOfDeleted));
    assert!(refused(store.ensure(&newcomer("ann", "Ann"), at(2)).await), "a new user");
    let renamed = Newcomer::parse(bob.user_id, "ann", "").expect("a user");
    assert!(refused(store.ensure(&renamed, at(2)).await), "who is renamed in the realm");
    assert_eq!(store.profile(bob.user_id).await.expect("a read"), Some(bob));
    assert_eq!(store.profiles(&[ann.user_id, namesake.user_id]).await.expect("a read").len(), 2);
    let before = Newcomer::parse(namesake.user_id, "ann", "").expect("a user");
    assert_eq!(store.ensure(&before, at(2)).await.expect("who had it before goes on"), namesake);
    let own = Newcomer::parse(ann.user_id, "ann", "").expect("a user");
    assert!(store.ensure(&own, at(2)).await.expect("the profile that is deleted").is_deleted);
}

async fn each_username_has_one_profile(store: Store) {
    let (ann, bob) = (add(&store, "ann", "Ann").await, add(&store, "bob", "Bob").await);
    let cid = add(&store, "cid", "Cid").await;
    let named = async |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| Username::parse("name", name).expect("a name")).collect();
        let profiles = store.named(&names).await.expect("a read");
        profiles.into_iter().map(|profile| profile.user_id).collect::<BTreeSet<_>>()
    };
    assert_eq!(named(&["Ann", "bob", "bob", "an"]).await, BTreeSet::from([ann.user_id, bob.user_id]));
    assert!(named(&[]).await.is_empty());
    // The realm has renamed one of them, who has not come since, and the name has another user.
    let newer = store.ensure(&newcomer("bob", ""), at(5)).await.expect("a profile");
    assert_eq!(named(&["bob"]).await, BTreeSet::from([newer.user_id]));
    store.delete(newer.user_id, None, at(6)).await.expect("a deletion");
    assert_eq!(named(&["bob"]).await, BTreeSet::from([bob.user_id]), "who can sign in comes first");
    store.delete(cid.user_id, None, at(6)).await.expect("a deletion");
    assert_eq!(named(&["cid"]).await, BTreeSet::from([cid.user_id]), "the name is of no other user");
}

async fn deletions_are_listed_in_their_order_until_they_are_finished(store: Store) {
    let mut users = Vec::new();
    for (name, second) in [("ann", 3), ("bob", 1), ("cid", 2), ("dan", 2)] {
        let user_id = add(&store, name, "Someone").await.user_id;
        store.delete(user_id, None, at(second)).await.expect("a deletion");
        users.push(user_id);
    }
    // The first time counts.
    store.delete(users[1], None, at(9)).await.expect("the same deletion");
    let [ann, bob, cid, dan] = users[..] else { panic!("four users") };
    let all = store.deletions(None, 10).await.expect("a list");
    let expected = [bob, cid.min(dan), cid.max(dan), ann];
    assert_eq!(all.iter().map(|deletion| deletion.user_id).collect::<Vec<_>>(), expected);
    for (n, deletion) in all.iter().enumerate() {
        let position = DeletionPosition::of(deletion);
        assert_eq!(
            store.deletions(Some(position), 1).await.expect("a page"),
            all[n + 1..].iter().take(1).copied().collect::<Vec<_>>()
        );
    }
    store.finish_deletion(bob, at(10)).await.expect("an end");
    let unfinished = store.unfinished_deletions(2).await.expect("a list");
    assert_eq!(unfinished, all[1..3]);
    assert_eq!(store.deletions(None, 10).await.expect("a list"), all);

    let left = store.profile(ann).await.expect("a read").expect("a profile");
    assert_eq!((left.display_name.as_str(), left.is_deleted), ("ann", true));
    assert_eq!(store.update(ann, &update(Some("Ann"), None)).await.expect("no write"), None);
    assert!(found(&store, "").await.is_empty() && named(&store, "ann").await.is_empty());
    assert_eq!(usernames(&store, Search::holder("Ann")).await, ["ann"]);
    // A token that is still good changes nothing.
    let from_token = Newcomer::parse(ann, "ann", "Ann").expect("a user");
    assert_eq!(store.ensure(&from_token, at(20)).await.expect("a profile"), left);
}

async fn an_erasure_is_shown_by_its_receipt_until_nothing_of_the_user_is_left(store: Store) {
    let ann = add(&store, "ann", "Ann").await.user_id;
    let (one, other) = (ReceiptHash([1; 32]), ReceiptHash([2; 32]));
    assert_eq!(store.erasure(one).await.expect("a read"), None);
    store.delete(ann, Some(one), at(10)).await.expect("a deletion");
    assert_eq!(store.erasure(one).await.expect("a read"), Some(Erasure::begun(at(10))));
    // The answer was lost, and the request is repeated.
    store.delete(ann, Some(other), at(11)).await.expect("the same deletion");
    let left = |left, is_settled| ChatsErased { left, blocks_lifted: 1, is_settled };
    store.note_chats_erased(ann, left(3, false), at(12)).await.expect("a note");
    store.finish_deletion(ann, at(13)).await.expect("an end");
    store.finish_deletion(ann, at(14)).await.expect("the same end");
    store.note_chats_erased(ann, left(1, true), at(70)).await.expect("a note");
    // Nothing is known any more of whose it was.
    store.note_chats_erased(ann, left(9, true), at(80)).await.expect("no note");
    // Nor when it was: the day, which it shares with others.
    let day = DateTime::from_timestamp(1_700_000_000 / 86_400 * 86_400, 0).expect("a moment");
    for receipt in [one, other] {
        let expected = Erasure {
            began_at: day,
            account_at: Some(day),
            chats_at: Some(day),
            chats_left: 4,
            blocks_lifted: 2,
        };
        assert_eq!(store.erasure(receipt).await.expect("a read"), Some(expected));
    }
    // A user who is unknown has none, and those that are too old go with the next one.
    store.delete(UserId::generate(), Some(ReceiptHash([3; 32])), at(20)).await.expect("nothing to do");
    assert_eq!(store.erasure(ReceiptHash([3; 32])).await.expect("a read"), None);
}

async fn an_update_changes_what_it_names(store: Store) {
    let ann = add(&store, "ann", "Ann").await;
    let about = update(None, Some("Baker"));
    let after = store.update(ann.user_id, &about).await.expect("a write").expect("a profile");
    assert_eq!(after, Profile { about: "Baker".to_owned(), version: 2, ..ann.clone() });
    let name = update(Some("Zoe\u{308}"), None);
    let after = store.update(ann.user_id, &name).await.expect("a write").expect("a profile");
    assert_eq!((after.display_name.as_str(), after.about.as_str()), ("Zo\u{eb}", "Baker"));
    for typed in ["zo", "Zo\u{eb}", "zoe\u{308}", "ZO\u{cb}"] {
        assert_eq!(found(&store, typed).await, ["ann"], "{typed}");
    }
    assert_eq!(store.update(UserId::generate(), &name).await.expect("a write"), None);
    assert_eq!(after.contactable_by, ContactableBy::Everyone);
    let setting =
        ProfileUpdate { contactable_by: Some(ContactableBy::SharedChats), ..ProfileUpdate::default() };
    for update in [setting, about] {
        let after = store.update(ann.user_id, &update).await.expect("a write").expect("a profile");
        assert_eq!((after.contactable_by, after.about.as_str()), (ContactableBy::SharedChats, "Baker"));
    }
    let stored = store.profiles(&[ann.user_id]).await.expect("a read");
    assert_eq!(stored[0].contactable_by, ContactableBy::SharedChats);
}

async fn privacy_and_status_are_kept_until_they_are_changed(store: Store) {
    let ann = add(&store, "ann", "Ann").await;
    let of = |profile: &Profile| (profile.presence_visible_to, profile.read_receipts, profile.status.clone());
    assert_eq!(of(&ann), (PresenceVisibleTo::Everyone, true, None));
    let away = Status {
        text: Some("away".to_owned()),
        emoji: Some("\u{1f334}".to_owned()),
        expires_at: Some(at(60)),
    };
    let update = ProfileUpdate {
        presence_visible_to: Some(PresenceVisibleTo::Contacts),
        read_receipts: Some(false),
        status: Some(Some(away.clone())),
        ..ProfileUpdate::default()
    };
    for update in [update, ProfileUpdate::default(), self::update(Some("Anna"), None)] {
        let after = store.update(ann.user_id, &update).await.expect("a write").expect("a profile");
        assert_eq!(of(&after), (PresenceVisibleTo::Contacts, false, Some(away.clone())));
    }
    // A status is replaced as a whole.
    let short = Status { text: None, emoji: Some("\u{1f600}".to_owned()), expires_at: None };
    for status in [Some(short), None] {
        let update = ProfileUpdate { status: Some(status.clone()), ..ProfileUpdate::default() };
        store.update(ann.user_id, &update).await.expect("a write").expect("a profile");
        let stored = store.profile(ann.user_id).await.expect("a read").expect("a profile");
        assert_eq!(of(&stored), (PresenceVisibleTo::Contacts, false, status));
    }
}

fn settings(version: i64, value: serde_json::Value) -> Settings {
    let serde_json::Value::Object(settings) = value else { panic!("an object") };
    Settings { version, settings }
}

async fn settings_are_replaced_from_their_version_only(store: Store) {
    let ann = add(&store, "ann", "Ann").await.user_id;
    assert_eq!(store.settings(ann).await.expect("a read"), Settings::default());
    let put = async |new: Settings| store.put_settings(ann, &new).await.expect("an answer");
    let dark = json!({"theme": "dark", "sizes": [1, 2.5, null], "text": "\u{e9}\u{1f600}\"\\"});
    assert_eq!(put(settings(0, dark.clone())).await, PutSettings::Put(settings(1, dark.clone())));
    assert_eq!(put(settings(0, dark.clone())).await, PutSettings::Put(settings(1, dark.clone())), "repeated");
    assert_eq!(store.settings(ann).await.expect("a read"), settings(1, dark.clone()));
    for version in [-1, 0, 2, i64::MIN, i64::MAX] {
        let other = settings(version, json!({"theme": "light"}));
        assert_eq!(put(other).await, PutSettings::Conflict(settings(1, dark.clone())), "{version}");
    }
    assert_eq!(put(settings(1, json!({}))).await, PutSettings::Put(settings(2, json!({}))));
    let long = settings(2, json!({"a": "x".repeat(MAX_SETTINGS_BYTES)}));
    assert!(matches!(store.put_settings(ann, &long).await, Err(StoreError::TooLong(_))));
    let longest = settings(2, json!({"a": "x".repeat(MAX_SETTINGS_BYTES - 8)}));
    assert!(matches!(put(longest).await, PutSettings::Put(Settings { version: 3, .. })));
    let none = store.put_settings(UserId::generate(), &settings(0, json!({}))).await.expect("an answer");
    assert_eq!(none, PutSettings::NoUser);
}

async fn settings_that_are_put_at_once_are_put_one_after_the_other(store: Store) {
    let ann = add(&store, "ann", "Ann").await.user_id;
    let devices = (0..8).map(|device| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut merged = Settings::default();
            loop {
                merged.settings.insert(format!("device{device}"), device.into());
                match store.put_settings(ann, &merged).await.expect("an answer") {
                    PutSettings::Put(_) => break,
                    PutSettings::Conflict(current) => merged = current,
                    PutSettings::NoUser => panic!("there is one"),
                }
            }
        })
    });
    for device in devices.collect::<Vec<_>>() {
        device.await.expect("no panic");
    }
    let stored = store.settings(ann).await.expect("a read");
    assert_eq!((stored.version, stored.settings.len()), (8, 8), "no change is lost");
}

async fn a_deleted_account_has_no_settings_and_no_status(store: Store) {
    let ann = add(&store, "ann", "Ann").await.user_id;
    let status = Status { text: Some("away".to_owned()), emoji: None, expires_at: None };
    let update = ProfileUpdate { status: Some(Some(status)), ..ProfileUpdate::default() };
    store.update(ann, &update).await.expect("a write").expect("a profile");
    store.put_settings(ann, &settings(0, json!({"theme": "dark"}))).await.expect("an answer");
    store.delete(ann, None, at(1)).await.expect("a deletion");
    assert_eq!(store.settings(ann).await.expect("a read"), Settings::default());
    assert_eq!(store.profile(ann).await.expect("a read").expect("a profile").status, None);
    let late = store.put_settings(ann, &settings(0, json!({}))).await.expect("an answer");
    assert_eq!(late, PutSettings::NoUser);
}

async fn contacts_have_names_of_their_own_and_come_in_pages(store: Store) {
    let ann = add(&store, "ann", "Ann").await.user_id;
    let mut others = Vec::new();
    for name in ["bob", "cid", "dora"] {
        others.push(add(&store, name, "Someone").await);
    }
    others.sort_by_key(|profile| profile.user_id);
    let name = |text: &str| DisplayName::parse("name", text).expect("a name");
    for (n, other) in others.iter().enumerate() {
        let put = store.put_contact(ann, other.user_id, Some(&name("Buddy")), at(n as i64)).await;
        let expected =
            Contact { profile: other.clone(), name: Some("Buddy".to_owned()), added_at: at(n as i64) };
        assert_eq!(put.expect("an answer"), PutContact::Put(Box::new(expected)));
    }
    let renamed = store.put_contact(ann, others[0].user_id, None, at(9)).await.expect("an answer");
    let expected = Contact { profile: others[0].clone(), name: None, added_at: at(0) };
    assert_eq!(renamed, PutContact::Put(Box::new(expected.clone())));
    let first = store.contacts(ann, None, 1).await.expect("a page");
    assert_eq!(first, [expected]);
    let rest = store.contacts(ann, Some(others[0].user_id), 9).await.expect("a page");
    assert_eq!(rest.iter().map(|contact| &contact.profile).collect::<Vec<_>>(), [&others[1], &others[2]]);
    assert_eq!(store.contacts(others[0].user_id, None, 9).await.expect("a page"), [], "each has their own");

    store.remove_contact(ann, others[1].user_id).await.expect("no contact any more");
    store.remove_contact(ann, others[1].user_id).await.expect("nor now");
    store.delete(others[2].user_id, None, at(20)).await.expect("a deletion");
    let left = store.contacts(ann, None, 9).await.expect("a page");
    let left: Vec<_> =
        left.iter().map(|contact| (contact.profile.user_id, contact.profile.is_deleted)).collect();
    assert_eq!(left, [(others[0].user_id, false), (others[2].user_id, true)]);
    for stranger in [UserId::generate(), others[2].user_id] {
        let put = store.put_contact(ann, stranger, None, at(30)).await.expect("an answer");
        assert_eq!(put, PutContact::NoContact);
    }
    store.delete(ann, None, at(40)).await.expect("a deletion");
    assert_eq!(store.contacts(ann, None, 9).await.expect("a page"), []);
    let late = store.put_contact(ann, others[0].user_id, None, at(50)).await.expect("an answer");
    assert_eq!(late, PutContact::NoUser);
}

async fn contacts_are_limited(store: Store) {
    let ann = add(&store, "ann", "Ann").await.user_id;
    let mut others = Vec::new();
    for n in 0..=MAX_CONTACTS {
        others.push(add(&store, &format!("user{n}"), "Someone").await.user_id);
    }
    let last = others.pop().expect("one more than are taken");
    for other in &others {
        let put = store.put_contact(ann, *other, None, at(0)).await.expect("an answer");
        assert!(matches!(put, PutContact::Put(_)), "{put:?}");
    }
    let put = async |other| store.put_contact(ann, other, None, at(0)).await.expect("an answer");
    assert_eq!(put(last).await, PutContact::Full);
    assert!(matches!(put(others[0]).await, PutContact::Put(_)), "who is there stays");
    assert_eq!(store.contacts(ann, None, 2 * MAX_CONTACTS).await.expect("a page").len(), MAX_CONTACTS);
    store.remove_contact(ann, others[0]).await.expect("no contact any more");
    assert!(matches!(put(last).await, PutContact::Put(_)));
}

async fn presence_is_shown_by_setting_and_contacts(store: Store) {
    let viewer = add(&store, "viewer", "Viewer").await.user_id;
    let settings = [
        PresenceVisibleTo::Everyone,
        PresenceVisibleTo::SharedChats,
        PresenceVisibleTo::Contacts,
        PresenceVisibleTo::Contacts,
        PresenceVisibleTo::Nobody,
        PresenceVisibleTo::Everyone,
    ];
    let mut users = Vec::new();
    for (n, setting) in settings.into_iter().enumerate() {
        let user = add(&store, &format!("user{n}"), "Someone").await.user_id;
        let update = ProfileUpdate { presence_visible_to: Some(setting), ..ProfileUpdate::default() };
        store.update(user, &update).await.expect("a write").expect("a profile");
        users.push(user);
    }
    for user in [users[3], users[4]] {
        store.put_contact(user, viewer, None, at(0)).await.expect("an answer");
    }
    // Whom the viewer has in their contacts says nothing.
    store.put_contact(viewer, users[2], None, at(0)).await.expect("an answer");
    store.delete(users[5], None, at(1)).await.expect("a deletion");
    users.push(UserId::generate());
    let shown = store.presence_shown(viewer, &users).await.expect("an answer");
    let expected = [
        PresenceShown::Always,
        PresenceShown::SharedChats,
        PresenceShown::Never,
        PresenceShown::Always,
        PresenceShown::Never,
        PresenceShown::Never,
        PresenceShown::Never,
    ];
    assert_eq!(shown, expected);
}

async fn deleted_accounts_are_not_counted(store: Store) {
    assert_eq!(store.count().await.expect("a count"), 0);
    let ann = add(&store, "ann", "Ann").await;
    add(&store, "bob", "Bob").await;
    assert_eq!(store.count().await.expect("a count"), 2);
    for _ in 0..2 {
        store.delete(ann.user_id, None, at(1)).await.expect("the deletion begins");
        assert_eq!(store.count().await.expect("a count"), 1);
    }
}

async fn each_change_of_a_profile_makes_its_version_greater(store: Store) {
    let ann = add(&store, "ann", "Ann").await;
    assert_eq!(ann.version, 1);
    assert_eq!(add(&store, "bob", "Bob").await.version, 1, "a user's own");
    let mut before = ann.version;
    for name in ["Anna", "Anna", "Änn"] {
        let update = update(Some(name), None);
        let after = store.update(ann.user_id, &update).await.expect("a write").expect("a profile");
        assert!(after.version > before, "{name}");
        before = after.version;
    }
    let renamed = Newcomer::parse(ann.user_id, "anna", "").expect("a user");
    let after = store.ensure(&renamed, at(1)).await.expect("a profile").version;
    assert!(after > before, "renamed in the realm");
    assert_eq!(store.ensure(&renamed, at(2)).await.expect("a profile").version, after, "it is so already");
    store.delete(ann.user_id, None, at(3)).await.expect("a deletion");
    let deleted = store.profile(ann.user_id).await.expect("a read").expect("a profile");
    assert!(deleted.version > after, "deleted");
}

async fn a_search_finds_both_names_in_any_case(store: Store) {
    for (username, display_name) in
        [("ann", "Zed"), ("bob", "ANNABEL"), ("cid", "Ännchen"), ("dan", "Joanna")]
    {
        add(&store, username, display_name).await;
    }
    assert_eq!(found(&store, "ANN").await, ["ann", "bob"]);
    assert_eq!(found(&store, "äNN").await, ["cid"]);
    assert_eq!(found(&store, "z").await, ["ann"]);
    assert_eq!(found(&store, "").await, ["ann", "bob", "cid", "dan"]);
    assert!(found(&store, "x").await.is_empty());
}

async fn a_search_finds_a_name_by_what_another_keyboard_sends(store: Store) {
    for (username, display_name) in [
        ("ann", "Zo\u{eb}"),
        ("bob", "Zoe\u{308}b"),
        ("cid", "\u{39f}\u{3b4}\u{3c5}\u{3c3}\u{3c3}\u{3ad}\u{3b1}\u{3c2}"),
        ("dan", "\u{d55c}\u{ae00}"),
        ("eve", "Stra\u{df}er"),
        ("fay", "\u{ff21}\u{ff4e}\u{ff4e}\u{ff41}"),
    ] {
        add(&store, username, display_name).await;
    }
    assert_eq!(found(&store, "Zoe\u{308}").await, ["ann", "bob"]);
    assert_eq!(found(&store, "zo\u{eb}").await, ["ann", "bob"]);
    assert_eq!(found(&store, "\u{39f}\u{394}\u{3a5}\u{3a3}").await, ["cid"]);
    assert_eq!(found(&store, "\u{1112}\u{1161}\u{11ab}").await, ["dan"]);
    assert_eq!(found(&store, "STRASS").await, ["eve"]);
    assert_eq!(found(&store, "anna").await, ["fay"]);
}

async fn a_username_is_found_whatever_comes_before_it(store: Store) {
    for n in 0..30 {
        add(&store, &format!("ann{n:02}"), "zed look-alike").await;
    }
    add(&store, "zed", "Zed").await;
    for typed in ["zed", "ZED", " zed "] {
        assert_eq!(named(&store, typed).await, ["zed"], "{typed}");
    }
    for other in ["ze", "zedd", "Zed look-alike", "z%"] {
        assert!(named(&store, other).await.is_empty(), "{other}");
    }
}

async fn a_search_takes_every_character_as_it_is(store: Store) {
    for (username, display_name) in [("ann", "100% Ann"), ("bob", "a_b"), ("cid", "a\\b"), ("dan", "axb")] {
        add(&store, username, display_name).await;
    }
    assert_eq!(found(&store, "100%").await, ["ann"]);
    assert!(found(&store, "%").await.is_empty());
    assert_eq!(found(&store, "a_").await, ["bob"]);
    assert_eq!(found(&store, "a\\").await, ["cid"]);
    assert!(found(&store, "' OR ''='").await.is_empty());
}

async fn words_of_names_find_users_by_their_beginnings(store: Store) {
    for (username, display_name) in [
        ("ann.miller", "Ann"),
        ("bob", "Иван Петров"),
        ("cid", "Jean-Luc O'Neil"),
        ("dan", "Пётр Иванов"),
        ("eve", "100% Stra\u{df}er"),
        ("gro\u{df}.\u{131}", "Fay"),
    ] {
        add(&store, username, display_name).await;
    }
    for (query, expected) in [
        ("ПЕТ", vec!["bob"]),
        ("иван", vec!["bob", "dan"]),
        ("петр ив", vec!["bob"]),
        ("mil an", vec!["ann.miller"]),
        ("luc o'ne", vec!["cid"]),
        ("STRASS", vec!["eve"]),
        ("100%", vec!["eve"]),
        ("GROSS", vec!["gro\u{df}.\u{131}"]),
        ("gro\u{df}", vec!["gro\u{df}.\u{131}"]),
        ("i gr", vec!["gro\u{df}.\u{131}"]),
        ("иван mil", vec![]),
        ("ван", vec![]),
        ("' OR ''='", vec![]),
    ] {
        assert_eq!(with_words(&store, query).await, expected, "{query}");
    }
    let id = async |name: &str| {
        let search = Search::parse(None, Some(name), None, 1).expect("a search");
        store.search(&search).await.expect("a result")[0].user_id
    };
    let (bob, dan) = (id("bob").await, id("dan").await);
    let among = |among: Vec<UserId>| Search::words("иван", Some(among), 100);
    assert_eq!(usernames(&store, among(vec![dan])).await, ["dan"]);
    assert!(usernames(&store, among(vec![])).await.is_empty());
    assert_eq!(usernames(&store, Search::words("иван", None, 1)).await, ["bob"]);

    // What is found follows the names, and an account that is deleted leaves nothing of them.
    store.update(bob, &update(Some("Robert"), None)).await.expect("a result").expect("a profile");
    assert_eq!(with_words(&store, "иван").await, ["dan"]);
    assert_eq!(with_words(&store, "rob").await, ["bob"]);
    store.delete(dan, None, at(1)).await.expect("a deletion");
    assert!(with_words(&store, "иван").await.is_empty() && with_words(&store, "dan").await.is_empty());
}

async fn pages_follow_each_other_to_the_end(store: Store) {
    for name in ["ada", "abe", "ari", "bob", "amy", "ann"] {
        add(&store, name, "").await;
    }
    for (query, expected) in
        [("a", vec!["abe", "ada", "amy", "ann", "ari"]), ("", vec!["abe", "ada", "amy", "ann", "ari", "bob"])]
    {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let search = Search::parse(Some(query), None, cursor.as_deref(), 2).expect("a search");
            let page = store.search(&search).await.expect("a page");
            let Some(last) = page.last() else { break };
            cursor = Some(Cursor::of(last).to_string());
            seen.extend(page.into_iter().map(|profile| profile.username));
        }
        assert_eq!(seen, expected);
    }
}

async fn newcomers_at_once_are_one_profile(store: Store) {
    let ann = newcomer("ann", "Ann");
    let tasks = (0..8).map(|_| {
        let (store, ann) = (store.clone(), ann.clone());
        tokio::spawn(async move { store.ensure(&ann, at(0)).await.expect("a profile") })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic").display_name, "Ann");
    }
    assert_eq!(found(&store, "ann").await, ["ann"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_from_before_normalization_are_found_after_it() {
    let (_database, pool) = database().await;
    sqlx::query(
        "INSERT INTO users (user_id, username, display_name, display_name_key, created_at) VALUES
            (gen_random_uuid(), 'ann', U&'Zoe\\0308', U&'zoe\\0308', now()),
            (gen_random_uuid(), 'bob', U&'Stra\\00DFer', U&'stra\\00DFer', now()),
            (gen_random_uuid(), 'cid', U&'\\039F\\03B4\\03C5\\03C2', U&'\\03BF\\03B4\\03C5\\03C2', now())",
    )
    .execute(&pool)
    .await
    .expect("users");
    let words: i64 = sqlx::query_scalar("SELECT count(*) FROM name_words WHERE word = 'ann'")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(words, 1, "the database keeps them, also of names that no store has written");
    let (_, normalize) =
        SCHEMA.migrations.iter().find(|(name, _)| *name == "0002_normalize_names").expect("it");
    sqlx::raw_sql(*normalize).execute(&pool).await.expect("the migration applies again");
    let store: Store = Arc::new(PostgresStore::new(pool));
    for (typed, expected) in [("zo\u{eb}", "ann"), ("strass", "bob"), ("\u{39f}\u{394}\u{3a5}\u{3a3}", "cid")]
    {
        assert_eq!(found(&store, typed).await, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_from_before_the_words_get_them_some_at_a_time() {
    let database = TestDatabase::create().await;
    let words = SCHEMA.migrations.iter().position(|(name, _)| name.ends_with("create_name_words"));
    let before = Schema { migrations: &SCHEMA.migrations[..words.expect("the migration")], ..SCHEMA };
    before.migrate(&database.args()).await.expect("the migrations of before");
    let pool = SCHEMA.pool(&database.args());
    // As a build of before writes them, and goes on to while this one is there.
    let add_before = async |username: &str| {
        sqlx::query(
            "INSERT INTO users (user_id, username, display_name, display_name_key, created_at)
             VALUES (gen_random_uuid(), $1, 'Ann', 'ann', now())",
        )
        .bind(username)
        .execute(&pool)
        .await
        .expect("a user");
    };
    for username in ["stra\u{df}e", "bob", "cid"] {
        add_before(username).await;
    }
    SCHEMA.migrate(&database.args()).await.expect("the migrations");
    let keeper = PostgresStore::new(pool.clone());
    let store: Store = Arc::new(keeper.clone());
    assert!(with_words(&store, "ann").await.is_empty(), "the migration reads no users");
    let own = add(&store, "own", "Ann").await;
    assert_eq!(with_words(&store, "ann").await, ["own"]);
    assert_eq!(keeper.write_missing_words(2).await.expect("words"), 2);
    assert_eq!(with_words(&store, "ann").await.len(), 3);
    assert_eq!(keeper.write_missing_words(2).await.expect("words"), 1);
    assert_eq!(keeper.write_missing_words(2).await.expect("words"), 0);
    assert_eq!(with_words(&store, "ann").await, ["bob", "cid", "own", "stra\u{df}e"]);
    assert_eq!(with_words(&store, "strasse").await, ["stra\u{df}e"]);

    add_before("dan").await;
    sqlx::query("UPDATE users SET username = $2 WHERE user_id = $1")
        .bind(own.user_id.0)
        .bind("gro\u{df}")
        .execute(&pool)
        .await
        .expect("another username");
    assert!(with_words(&store, "own").await.is_empty(), "words are of the names that there are");
    assert_eq!(keeper.write_missing_words(10).await.expect("words"), 2);
    assert_eq!(with_words(&store, "gross").await, ["gro\u{df}"]);
    assert_eq!(with_words(&store, "dan").await, ["dan"]);
}

/// In a large tenant a letter begins a word of nearly every name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_for_letters_compares_a_bounded_number_of_users() {
    let (_database, pool) = database().await;
    sqlx::query(
        "INSERT INTO users (user_id, username, display_name, display_name_key, created_at)
         SELECT gen_random_uuid(), 'user' || n, 'A', 'a', now() FROM generate_series(1, 5000) AS n",
    )
    .execute(&pool)
    .await
    .expect("users");
    let store: Store = Arc::new(PostgresStore::new(pool));
    let zoe = add(&store, "zoe", "Aztec").await;
    assert_eq!(with_words(&store, "a").await.len(), 100);
    assert!(with_words(&store, "z a").await.is_empty(), "her word comes after 5,000 others");
    assert_eq!(with_words(&store, "zoe a").await, ["zoe"]);
    assert_eq!(with_words(&store, "az").await, ["zoe"]);
    assert_eq!(usernames(&store, Search::words("z a", Some(vec![zoe.user_id]), 100)).await, ["zoe"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_by_words_leave_sessions_to_others() {
    let (_database, pool) = database().await;
    let mut writing = pool.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE name_words IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *writing)
        .await
        .expect("a lock");
    let store: Store = Arc::new(PostgresStore::new(pool));
    let mut searches = JoinSet::new();
    for _ in 0..3 {
        let store = store.clone();
        let search = Search::words("ann", None, 10).expect("a search");
        searches.spawn(async move { store.search(&search).await });
    }
    let first = searches.join_next().await.expect("a search").expect("no panic");
    assert!(matches!(first, Err(StoreError::TooManySearches)), "{first:?}");
    assert_eq!(store.profile(UserId::generate()).await.expect("a session is free"), None);
    writing.rollback().await.expect("the lock is released");
    while let Some(search) = searches.join_next().await {
        search.expect("no panic").expect("a turn");
    }
}

/// The claim of the migration: whatever the prefix, PostgreSQL reads an index and not the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_reads_indexes() {
    let (_database, pool) = database().await;
    sqlx::query(
        "INSERT INTO users (user_id, username, display_name, display_name_key, created_at)
         SELECT gen_random_uuid(), md5(n::TEXT), md5((-n)::TEXT), md5((-n)::TEXT), now()
         FROM generate_series(1, 20000) AS n",
    )
    .execute(&pool)
    .await
    .expect("users");
    sqlx::query("ANALYZE users").execute(&pool).await.expect("statistics");
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN SELECT user_id FROM users
         WHERE ((username >= 'abc' AND username < 'abd')
                OR (display_name_key >= 'abc' AND display_name_key < 'abd'))
           AND (username, user_id) > ('abc', gen_random_uuid())
         ORDER BY username, user_id LIMIT 20",
    )
    .fetch_all(&pool)
    .await
    .expect("a plan");
    let plan = plan.join("\n");
    assert!(plan.contains("users_by_display_name") && !plan.contains("Seq Scan"), "{plan}");
}
