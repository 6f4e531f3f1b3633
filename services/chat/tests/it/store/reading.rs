//! Who sees what of a chat.

use super::*;

suite![
    memory, postgres, super::Limits::default();
    a_group_is_seen_by_its_members_only,
    chats_come_newest_first_in_pages,
    all_chats_are_listed_by_their_ids,
    where_the_history_of_a_member_begins_is_decided_when_they_are_added,
    acquaintances_share_a_chat,
    the_chats_of_a_user_have_names,
];

async fn a_group_is_seen_by_its_members_only(store: Store) {
    let (ann, bob, eve) = (new_user(), new_user(), new_user());
    let new = group(ann, &[bob]);
    let created = store.create(&new).await.expect("a chat").chat;
    assert_eq!((created.title.as_deref(), created.role), (Some("Crew"), Role::Owner));
    assert_eq!(created.created_at, at(0));
    let seen = store.chat(new.chat_id, bob).await.expect("a read").expect("bob is in it");
    assert_eq!((seen.role, seen.member_count), (Role::Member, 2));
    assert_eq!(store.chat(new.chat_id, eve).await.expect("a read"), None);
    assert_eq!(store.chat(ChatId::generate(), ann).await.expect("a read"), None);
    assert_eq!(store.member(new.chat_id, eve).await.expect("a read"), None);
    let owner = store.member(new.chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!((owner.role, owner.reads_from), (Role::Owner, None));
    assert!(store.members(ChatId::generate(), None, None, usize::MAX).await.expect("a read").is_empty());
    let pending = store.pending(10).await.expect("the outbox");
    assert_eq!(pending, new.records());
    assert_eq!(store.pending(1).await.expect("the outbox"), pending[..1]);
}

async fn chats_come_newest_first_in_pages(store: Store) {
    let ann = new_user();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id);
        store.create(&group(new_user(), &[])).await.expect("a chat of another user");
    }
    made.sort();
    made.reverse();
    let page = async |before| {
        let chats = store.chats(ann, before, 2).await.expect("a page");
        chats.into_iter().map(|chat| chat.chat_id).collect::<Vec<_>>()
    };
    assert_eq!(page(None).await, made[..2]);
    assert_eq!(page(Some(made[1])).await, made[2..4]);
    assert_eq!(page(Some(made[3])).await, made[4..]);
    assert!(page(Some(made[4])).await.is_empty());
}

async fn all_chats_are_listed_by_their_ids(store: Store) {
    assert_eq!(store.all_chats(None, 10).await.expect("a read"), []);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(store.create(&group(new_user(), &[])).await.expect("a chat").chat.chat_id);
    }
    made.sort_unstable();
    assert_eq!(store.all_chats(None, 3).await.expect("a read"), made[..3]);
    assert_eq!(store.all_chats(Some(made[2]), 3).await.expect("a read"), made[3..]);
    assert_eq!(store.all_chats(Some(made[4]), 3).await.expect("a read"), []);
    assert_eq!(store.count_chats().await.expect("a read"), 5);
}

async fn where_the_history_of_a_member_begins_is_decided_when_they_are_added(store: Store) {
    let [ann, ben, cid, dora] = [(); 4].map(|()| new_user());
    let chat_id = store.create(&group(ann, &[ben])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(cid, Role::Member)).await;
    let entries = async || {
        let pending = store.pending(100).await.expect("the outbox").into_iter();
        let entries = pending.filter(|record| record.topic == Topic::MessageSend);
        let entries = entries.map(|record| record.payload.expect("an entry"));
        entries.map(|entry| serde_json::from_str(&entry).expect("json")).collect::<Vec<SendRecord>>()
    };
    let reads_from = async |user| {
        let member = store.member(chat_id, user).await.expect("a read").expect("a member");
        let listed = store.members(chat_id, None, None, usize::MAX).await.expect("members");
        assert!(listed.contains(&member), "a list has the same");
        member.reads_from
    };
    let named = |entry: &SendRecord| Some(EntryId { sender: entry.sender, key: entry.key });
    let first = named(&entries().await[0]);
    assert_eq!((reads_from(cid).await, reads_from(ben).await), (first, None));

    let history = HistoryAccess::All;
    change(&store, chat_id, ann, update(Update { history: Some(history), ..Update::default() })).await;
    assert_eq!(store.chat(chat_id, ben).await.expect("a read").expect("a chat").history, history);
    change(&store, chat_id, ann, put(dora, Role::Member)).await;
    // A change of role, or of the rule, moves no beginning.
    change(&store, chat_id, ann, put(cid, Role::Admin)).await;
    assert_eq!((reads_from(dora).await, reads_from(cid).await), (None, first));
    change(
        &store,
        chat_id,
        ann,
        update(Update { history: Some(HistoryAccess::FromEntry), ..Update::default() }),
    )
    .await;
    change(&store, chat_id, ann, Command::Remove { user_id: dora }).await;
    change(&store, chat_id, cid, put(dora, Role::Member)).await;
    let last = entries().await.pop().expect("an entry");
    assert_eq!((reads_from(dora).await, last.sender), (named(&last), cid));
}

async fn acquaintances_share_a_chat(store: Store) {
    let [ann, bob, cid, dora, eve] = [(); 5].map(|()| new_user());
    store.create(&group(ann, &[bob, cid])).await.expect("a chat");
    store.create(&direct(dora, ann)).await.expect("a chat");
    let left = store.create(&direct(eve, ann)).await.expect("a chat").chat.chat_id;
    change(&store, left, eve, Command::Leave).await;
    let met = async |user, others: &[UserId]| store.acquaintances(user, others).await.expect("a read");
    assert_eq!(met(ann, &[bob, dora, eve, new_user()]).await, BTreeSet::from([bob, dora]));
    assert_eq!(met(bob, &[cid, dora]).await, BTreeSet::from([cid]));
    assert!(met(ann, &[]).await.is_empty());
}

async fn the_chats_of_a_user_have_names(store: Store) {
    let [ann, bob, eve] = [(); 3].map(|()| new_user());
    let crew = store.create(&group(ann, &[bob])).await.expect("a chat").chat;
    let pair = store.create(&direct(ann, bob)).await.expect("a chat").chat.chat_id;
    store.create(&group(eve, &[])).await.expect("a chat of another user");
    let names = async |user, limit| store.names(user, limit).await.expect("a read");
    let named = |other| {
        let crew =
            NamedChat { chat_id: crew.chat_id, kind: crew.kind, title: crew.title.clone(), other: None };
        let mut both =
            vec![NamedChat { chat_id: pair, kind: ChatKind::Direct, title: None, other: Some(other) }, crew];
        both.sort_by_key(|named| std::cmp::Reverse(named.chat_id));
        both
    };
    assert_eq!(names(ann, 10).await, named(bob));
    assert_eq!(names(bob, 10).await, named(ann));
    assert_eq!(names(ann, 1).await, named(bob)[..1]);
    change(&store, crew.chat_id, ann, Command::Remove { user_id: bob }).await;
    assert_eq!(names(bob, 10).await.len(), 1, "from the moment of the removal");
}
