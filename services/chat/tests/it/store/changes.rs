//! What members change of a chat.

use super::*;

suite![
    memory, postgres, super::Limits::default();
    a_change_and_its_records_are_one,
    what_a_group_is_called_is_kept_and_published,
    a_refused_change_leaves_nothing,
    a_change_that_is_repeated_changes_nothing,
    an_owner_hands_over_and_the_last_one_leaves_an_empty_chat,
    changes_at_once_happen_one_after_the_other,
];

async fn a_change_and_its_records_are_one(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let new = group(ann, &[bob]);
    let chat_id = store.create(&new).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(cid, Role::Member)).await;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    change(&store, chat_id, bob, Command::Remove { user_id: cid }).await;
    assert_eq!(roles(&store, chat_id).await, [(ann, Role::Owner), (bob, Role::Admin)]);
    let chat = store.chat(chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(chat.member_count, 2);
    let (events, send) = (Topic::ChatEvents, Topic::MessageSend);
    assert_eq!(topics(&store).await, [events, events, events, send, events, send, events, events, send]);
    let pending = store.pending(10).await.expect("the outbox");
    assert_eq!(pending[7].payload, None, "behind a removal is a tombstone");
    assert!(pending[8].payload.as_deref().is_some_and(|entry| entry.contains("member_removed")));
}

async fn what_a_group_is_called_is_kept_and_published(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let said = |title: &str, topic: &str| {
        let title = Some(Title::parse("title", title).expect("a title"));
        let topic = Some(text::Topic::parse("topic", topic).expect("a topic"));
        update(Update { title, topic, ..Update::default() })
    };
    let seen = async || {
        let chat = store.chat(chat_id, bob).await.expect("a read").expect("bob is in it");
        let listed = store.chats(bob, None, 10).await.expect("a page");
        assert_eq!(listed, std::slice::from_ref(&chat), "a list has the same");
        (chat.title.expect("a title"), chat.topic)
    };
    assert_eq!(seen().await, ("Crew".to_owned(), None));
    for _ in 0..2 {
        change(&store, chat_id, ann, said("Board games", "on Fridays")).await;
        assert_eq!(seen().await, ("Board games".to_owned(), Some("on Fridays".to_owned())));
    }
    change(&store, chat_id, ann, said("Board games", "")).await;
    assert_eq!(seen().await, ("Board games".to_owned(), None));
    assert_eq!(refusal(&store, chat_id, bob, said("Mine", "")).await, Refusal::RoleTooLow(Role::Member));
    let pending = store.pending(100).await.expect("the outbox").into_iter();
    let entries = pending.filter(|record| record.topic == Topic::MessageSend);
    let entries: Vec<SendRecord> = entries
        .map(|record| serde_json::from_str(&record.payload.expect("an entry")).expect("json"))
        .collect();
    let said: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.body.as_str())).collect();
    let (title, topic) = (EntryKind::TitleChanged, EntryKind::TopicChanged);
    assert_eq!(said, [(title, "Board games"), (topic, "on Fridays"), (topic, "")]);
}

async fn a_refused_change_leaves_nothing(store: Store) {
    let (ann, bob, eve) = (new_user(), new_user(), new_user());
    let new = group(ann, &[bob]);
    let chat_id = store.create(&new).await.expect("a chat").chat.chat_id;
    let before = (roles(&store, chat_id).await, topics(&store).await);
    let refused = async |actor, command| refusal(&store, chat_id, actor, command).await;
    assert_eq!(refused(bob, put(eve, Role::Member)).await, Refusal::RoleTooLow(Role::Member));
    assert_eq!(refused(eve, put(bob, Role::Member)).await, Refusal::NotAMember(chat_id));
    assert_eq!(refused(eve, Command::Remove { user_id: bob }).await, Refusal::NotAMember(chat_id));
    let unknown = ChatId::generate();
    let put_eve = put(eve, Role::Member);
    assert_eq!(refusal(&store, unknown, ann, put_eve).await, Refusal::NotAMember(unknown));
    let pair = store.create(&direct(bob, eve)).await.expect("a chat").chat.chat_id;
    let remove = Command::Remove { user_id: bob };
    assert_eq!(refusal(&store, pair, eve, remove).await, Refusal::DirectIsFixed);
    let events = [before.1, vec![Topic::ChatEvents; 2]].concat();
    assert_eq!((roles(&store, chat_id).await, topics(&store).await), (before.0, events));
}

async fn a_change_that_is_repeated_changes_nothing(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob, cid])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    change(&store, chat_id, ann, Command::Remove { user_id: cid }).await;
    change(&store, chat_id, bob, Command::Leave).await;
    let before = (roles(&store, chat_id).await, topics(&store).await);
    for (actor, command) in [
        (ann, put(ann, Role::Owner)),
        (ann, Command::Remove { user_id: cid }),
        (ann, Command::Remove { user_id: new_user() }),
        (bob, Command::Leave),
        (bob, Command::Remove { user_id: bob }),
    ] {
        change(&store, chat_id, actor, command).await;
    }
    change(&store, ChatId::generate(), ann, Command::Leave).await;
    assert_eq!((roles(&store, chat_id).await, topics(&store).await), before);
}

async fn an_owner_hands_over_and_the_last_one_leaves_an_empty_chat(store: Store) {
    let (ann, bob, cid) = (new_user(), new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    change(&store, chat_id, ann, put(cid, Role::Admin)).await;
    change(&store, chat_id, ann, put(bob, Role::Owner)).await;
    change(&store, chat_id, bob, Command::Leave).await;
    // Both are admins; ann has been there longer.
    assert_eq!(roles(&store, chat_id).await, [(ann, Role::Owner), (cid, Role::Admin)]);
    change(&store, chat_id, ann, Command::Leave).await;
    change(&store, chat_id, cid, Command::Remove { user_id: cid }).await;
    assert!(roles(&store, chat_id).await.is_empty());
}

async fn changes_at_once_happen_one_after_the_other(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&group(ann, &[])).await.expect("a chat").chat.chat_id;
    let adds = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { change(&store, chat_id, ann, put(new_user(), Role::Member)).await })
    });
    let pairs = (0..8).map(|n| {
        let store = store.clone();
        let new = if n % 2 == 0 { direct(ann, bob) } else { direct(bob, ann) };
        tokio::spawn(async move { store.create(&new).await.expect("a chat").chat.chat_id })
    });
    let retries = (0..8).map(|_| {
        let (store, new) = (store.clone(), keyed("retry", group(bob, &[ann])));
        tokio::spawn(async move { store.create(&new).await.expect("a chat").chat.chat_id })
    });
    let (adds, pairs): (Vec<_>, Vec<_>) = (adds.collect(), pairs.collect());
    let retries: Vec<_> = retries.collect();
    for add in adds {
        add.await.expect("no panic");
    }
    let mut same = BTreeSet::new();
    for pair in pairs {
        same.insert(pair.await.expect("no panic"));
    }
    assert_eq!(same.len(), 1, "one direct chat of the two");
    let mut same = BTreeSet::new();
    for retry in retries {
        same.insert(retry.await.expect("no panic"));
    }
    assert_eq!(same.len(), 1, "one group of the key");
    let chat = store.chat(chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(chat.member_count, 17);
    // Every record has the next number, in the order of the outbox, and the number of members of its moment.
    let said: Vec<_> = places(&store, chat_id).await.iter().map(|of| (of.version, of.members)).collect();
    assert_eq!(said, (1..18).map(|n| (i64::from(n), n)).collect::<Vec<_>>());
    let listed = store.membership(chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(listed.version, 17);
}
