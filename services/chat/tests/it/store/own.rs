//! How members have their chats.

use super::*;

suite![
    memory, postgres, super::Limits::default();
    how_a_member_has_a_chat_is_their_own_and_goes_with_them,
    a_user_has_a_draft_in_some_chats_and_it_goes_with_them,
];

async fn how_a_member_has_a_chat_is_their_own_and_goes_with_them(store: Store) {
    let (ann, bob, eve) = (new_user(), new_user(), new_user());
    let chat_id = store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id;
    let own = async |user| store.chat(chat_id, user).await.expect("a read").expect("a member").own;
    assert_eq!(own(bob).await, OwnState::default());
    let update =
        OwnUpdate { muted_until: Some(Some(at(5))), is_archived: Some(true), ..OwnUpdate::default() };
    let first = OwnState {
        version: 1,
        changed_at: Some(at(1)),
        muted_until: Some(at(5)),
        is_archived: true,
        ..OwnState::default()
    };
    for _ in 0..2 {
        let updated = store.update_own(chat_id, bob, &update, at(1)).await.expect("an update");
        assert_eq!((updated, own(bob).await), (Some(first.clone()), first.clone()));
    }
    assert_eq!(own_states(&store).await, [(bob, first.clone().into())], "once");
    assert_eq!(store.chats(bob, None, 10).await.expect("a page")[0].own, own(bob).await);
    let listed = store.membership(chat_id, bob).await.expect("a read").expect("bob is in it");
    assert_eq!(listed.chat.own, first);
    let seat = Seat {
        chat_id,
        joined_at: listed.joined_at,
        reads_from: listed.reads_from,
        own_changed_at: Some(at(1)),
    };
    assert_eq!(store.seats(bob).await.expect("a list"), [seat]);
    assert_eq!(store.seats(eve).await.expect("a list"), []);
    assert_eq!(own(ann).await, OwnState::default());
    let favourite = OwnUpdate { is_favourite: Some(true), muted_until: Some(None), ..OwnUpdate::default() };
    // At the same time: none is lost.
    let unarchived = OwnUpdate { is_archived: Some(false), ..OwnUpdate::default() };
    let (archive, favourite) = tokio::join!(
        store.update_own(chat_id, bob, &unarchived, at(2)),
        store.update_own(chat_id, bob, &favourite, at(2))
    );
    assert!(archive.is_ok() && favourite.is_ok());
    let both = OwnState { version: 3, changed_at: Some(at(2)), is_favourite: true, ..OwnState::default() };
    assert_eq!(own(bob).await, both);
    let said = own_states(&store).await;
    assert!(said.iter().all(|(user, _)| *user == bob), "no other user learns of it");
    assert_eq!(said.iter().map(|(_, own)| own.version).collect::<Vec<_>>(), [1, 2, 3]);
    for (chat_id, user) in [(chat_id, eve), (ChatId::generate(), bob)] {
        assert_eq!(store.update_own(chat_id, user, &update, at(3)).await.expect("an answer"), None);
    }

    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    assert_eq!(own(bob).await, both, "a role changes nothing of it");
    change(&store, chat_id, ann, Command::Remove { user_id: bob }).await;
    let later = at(10) + READDING_PAUSE;
    store.change(chat_id, ann, put(bob, Role::Member), later).await.expect("bob is added again");
    assert_eq!(own(bob).await, OwnState { version: later.timestamp_millis(), ..OwnState::default() });
}

async fn a_user_has_a_draft_in_some_chats_and_it_goes_with_them(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let mut chats = Vec::new();
    for _ in 0..=MAX_DRAFTS {
        chats.push(store.create(&group(ann, &[bob])).await.expect("a chat").chat.chat_id);
    }
    let set = |body: &str| {
        let draft = (!body.is_empty()).then_some(Draft { body: body.to_owned(), reply_to: Some(7) });
        OwnUpdate { draft: Some(draft), ..OwnUpdate::default() }
    };
    let draft = async |chat, user| store.chat(chat, user).await.expect("a read").expect("a member").own.draft;
    let (last, others) = chats.split_last().expect("chats");
    for chat in others {
        store.update_own(*chat, bob, &set("I wi"), at(1)).await.expect("an update").expect("a member");
    }
    let refusal = refused(store.update_own(*last, bob, &set("I wi"), at(2)).await);
    assert_eq!(refusal, Refusal::TooManyDrafts);
    assert_eq!(draft(*last, bob).await, None);
    // Those that are there change, and one that is removed makes room.
    store.update_own(others[0], bob, &set("I will"), at(3)).await.expect("an update");
    let expected = Some(Draft { body: "I will".to_owned(), reply_to: Some(7) });
    assert_eq!((draft(others[0], bob).await, draft(others[0], ann).await), (expected, None));
    let removed = store.update_own(others[1], bob, &set(""), at(4)).await.expect("an update");
    assert_eq!(removed.expect("a member").draft, None);
    store.update_own(*last, bob, &set("so"), at(5)).await.expect("an update");
    store.update_own(chats[2], ann, &set("ann's"), at(5)).await.expect("each user has drafts of their own");

    change(&store, others[0], bob, Command::Leave).await;
    let later = at(10) + READDING_PAUSE;
    store.change(others[0], ann, put(bob, Role::Member), later).await.expect("bob is added again");
    assert_eq!(draft(others[0], bob).await, None);
    store.update_own(others[1], bob, &set("it left room"), later).await.expect("an update");
}
