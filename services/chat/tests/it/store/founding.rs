//! How chats begin.

use super::*;

suite![
    memory, postgres, super::Limits::default();
    a_direct_chat_is_one_chat_for_either_member,
    a_group_is_created_once_for_a_key,
    a_direct_chat_that_was_left_is_opened_again,
    a_full_group_is_founded_in_one_step_and_takes_no_one_else,
];

async fn a_direct_chat_is_one_chat_for_either_member(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let first = store.create(&direct(ann, bob)).await.expect("a chat");
    assert!(first.fresh);
    assert_eq!((first.chat.role, first.chat.member_count), (Role::Member, 2));
    let again = store.create(&direct(bob, ann)).await.expect("the same chat");
    assert_eq!((again.fresh, again.chat), (false, first.chat.clone()));
    assert_eq!(topics(&store).await, [Topic::ChatEvents; 2], "published once");
    let other = store.create(&direct(ann, new_user())).await.expect("another chat");
    assert_ne!(other.chat.chat_id, first.chat.chat_id);
}

async fn a_group_is_created_once_for_a_key(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let first = store.create(&keyed("5f0c", group(ann, &[bob]))).await.expect("a chat");
    assert!(first.fresh);
    let published = topics(&store).await;
    let again = store.create(&keyed("5f0c", group(ann, &[bob]))).await.expect("the same chat");
    assert_eq!((again.fresh, &again.chat), (false, &first.chat));
    assert_eq!(topics(&store).await, published, "published once");

    let reused = store.create(&keyed("5f0c", group(ann, &[]))).await;
    assert!(matches!(reused, Err(StoreError::Refused(Refusal::KeyReused))), "{reused:?}");
    for other in [keyed("5f0d", group(ann, &[bob])), keyed("5f0c", group(bob, &[ann])), group(ann, &[bob])] {
        assert!(store.create(&other).await.expect("another chat").fresh);
    }
    // A direct chat has its pair for a key, whatever else is sent.
    let pair = store.create(&keyed("5f0c", direct(ann, bob))).await.expect("a chat");
    let again = store.create(&keyed("5f0e", direct(bob, ann))).await.expect("the same chat");
    assert_eq!((again.fresh, again.chat.chat_id), (false, pair.chat.chat_id));

    change(&store, first.chat.chat_id, ann, Command::Leave).await;
    let left = store.create(&keyed("5f0c", group(ann, &[bob]))).await;
    assert!(matches!(left, Err(StoreError::Refused(Refusal::NotAMember(_)))), "{left:?}");
}

async fn a_direct_chat_that_was_left_is_opened_again(store: Store) {
    let (ann, bob) = (new_user(), new_user());
    let chat_id = store.create(&direct(ann, bob)).await.expect("a chat").chat.chat_id;
    let newcomers = async |new| store.newcomers(&new).await.expect("a read").into_iter().collect::<Vec<_>>();
    assert_eq!(newcomers(direct(ann, new_user())).await.len(), 1);
    assert!(newcomers(direct(ann, bob)).await.is_empty());
    change(&store, chat_id, bob, Command::Leave).await;
    assert!(store.chats(bob, None, 10).await.expect("a page").is_empty());
    let seats = [(chat_id, ann), (chat_id, bob)];
    assert_eq!(sends(&store, &seats).await, [Access::Read, Access::None]);
    assert_eq!(newcomers(direct(ann, bob)).await, [bob]);
    assert!(newcomers(direct(bob, ann)).await.is_empty(), "ann is still in it");

    let again = |founder, other, seconds| NewChat { created_at: at(seconds), ..direct(founder, other) };
    let refused = store.create(&again(ann, bob, 20)).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(Refusal::Unwanted(user))) if user == bob),
        "{refused:?}"
    );
    assert_eq!(
        store.members(chat_id, None, None, usize::MAX).await.expect("members").len(),
        1,
        "nothing was changed"
    );

    let back = store.create(&again(bob, ann, 20)).await.expect("the same chat");
    assert_eq!((back.fresh, back.chat.chat_id, back.chat.member_count), (false, chat_id, 2));
    assert!(!store.is_published(back.publication).await.expect("a read"), "the return is to be published");
    assert_eq!(sends(&store, &seats).await, [Access::ReadAndSend; 2]);
    let (events, send) = (Topic::ChatEvents, Topic::MessageSend);
    assert_eq!(topics(&store).await, [events, events, events, events, send, events, send]);

    // A day after one of them has left, the other may.
    store.change(chat_id, bob, Command::Leave, at(30)).await.expect("a leave");
    let day = READDING_PAUSE.num_seconds();
    assert!(store.create(&again(ann, bob, 29 + day)).await.is_err());
    assert_eq!(store.create(&again(ann, bob, 30 + day)).await.expect("the same chat").chat.member_count, 2);
}

async fn a_full_group_is_founded_in_one_step_and_takes_no_one_else(store: Store) {
    let ann = new_user();
    let others: Vec<_> = (0..FOUNDED_MEMBERS).map(|_| new_user()).collect();
    let chat = store.create(&group(ann, &others)).await.expect("a chat").chat;
    assert_eq!(chat.member_count, 1000);
    assert_eq!(topics(&store).await.len(), 1000);
    let mut all: BTreeSet<_> = others.into_iter().chain([ann]).collect();
    while all.len() < MAX_MEMBERS {
        let more: BTreeSet<_> = (0..500).map(|_| new_user()).collect();
        let added = store.add(chat.chat_id, ann, &more, at(5)).await.expect("there is room");
        assert!(added.unwanted.is_empty());
        all.extend(more);
    }
    let seen = store.chat(chat.chat_id, ann).await.expect("a read").expect("ann is in it");
    assert_eq!(seen.member_count, 10_000);
    let bob = new_user();
    assert_eq!(refusal(&store, chat.chat_id, ann, put(bob, Role::Member)).await, Refusal::Full);
    let refused = store.add(chat.chat_id, ann, &BTreeSet::from([bob]), at(5)).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refusal::Full))), "{refused:?}");
    // Those who are there are read in windows, by id.
    let mut listed = Vec::new();
    while listed.len() < all.len() {
        let after = listed.last().copied();
        let window = store.members(chat.chat_id, None, after, 3000).await.expect("a window");
        assert!(!window.is_empty());
        listed.extend(window.into_iter().map(|member| member.user_id));
    }
    assert!(listed.iter().eq(all.iter()));
    let owners = store.members(chat.chat_id, Some(Role::Owner), None, 10).await.expect("a window");
    assert_eq!(owners.iter().map(|of| of.user_id).collect::<Vec<_>>(), [ann]);
}
