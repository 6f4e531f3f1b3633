//! Users who join chats by themselves.

use chat::{
    domain::{
        Code, Command, EntryId, Founding, Invite, JoinRequest, LINK_KEPT, Limits, MAX_INVITES, NewChat,
        NewInvite, PublicChat, READDING_PAUSE, Refusal, Update,
    },
    store::{Invited, MemoryStore, PostgresStore, StoreError},
};
use contracts::{
    ChatId, InviteId, UserId,
    api::{CreateInviteRequest, Visibility},
    event::{ChatKind, EntryKind, Role, SendRecord},
};
use kit::{catalog::Topic, idempotency::IdempotencyKey, text};

use super::{FEW, Store, change, direct, group, put, refused, roles, update};
use crate::{at, database, new_user};

suite![
    memory_with_few, postgres_with_few, super::FEW;
    who_joins_by_themselves_is_counted_for_themselves,
];

suite![
    memory, postgres, super::Limits::default();
    a_public_chat_is_found_and_joined,
    a_link_lets_in_whom_it_allows_and_ends,
    a_link_goes_with_the_role_of_its_maker,
    a_link_is_made_once_for_a_key_and_there_are_so_many,
    a_revoked_link_is_not_made_again_by_its_key,
    a_user_takes_one_use_of_a_link_however_often_they_come,
    an_approval_lets_in_who_asks,
    a_removed_user_does_not_come_back_by_themselves_for_a_day,
    a_block_closes_the_links_of_a_user,
    a_chat_that_is_over_has_neither_links_nor_requests,
    users_who_come_at_once_take_no_more_uses_than_there_are,
];

/// Returns the code of a number, and a link that is made with it.
fn link(n: u8, chat_id: ChatId, made_by: UserId, request: CreateInviteRequest) -> (Code, NewInvite) {
    let code = Code::of([n; 16]);
    let invite = Invite::parse((InviteId::generate(), chat_id), made_by, &request, at(0)).expect("a link");
    (code.clone(), NewInvite { invite, code_hash: code.hash(), key: None })
}

async fn made(store: &Store, (code, new): (Code, NewInvite)) -> Code {
    assert!(store.create_invite(&new).await.expect("a link").1);
    code
}

fn limited(max_uses: u32) -> CreateInviteRequest {
    CreateInviteRequest { max_uses: Some(max_uses), ..CreateInviteRequest::default() }
}

fn approved() -> CreateInviteRequest {
    CreateInviteRequest { needs_approval: Some(true), ..CreateInviteRequest::default() }
}

fn public(visibility: Visibility) -> Command {
    update(Update { visibility: Some(visibility), ..Update::default() })
}

/// Lets a user come by a link at a moment.
async fn come(store: &Store, code: &Code, user: UserId, seconds: i64) -> Result<Invited, Refusal> {
    match store.join_by_invite(code.hash(), user, at(seconds)).await {
        Ok(invited) => Ok(invited),
        Err(StoreError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error:?}"),
    }
}

async fn new_group(store: &Store, founder: UserId, others: &[UserId]) -> ChatId {
    store.create(&group(founder, others)).await.expect("a chat").chat.chat_id
}

/// Returns the last entry that the chats have published.
async fn last_entry(store: &Store) -> SendRecord {
    let mut records = store.pending(50_000).await.expect("the outbox").into_iter();
    let last = records.rfind(|record| record.topic == Topic::MessageSend).expect("an entry");
    serde_json::from_str(&last.payload.expect("an entry")).expect("json")
}

async fn a_public_chat_is_found_and_joined(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let found = async |search: &str, before| {
        let chats = store.public_chats(&text::search_key(search), before, 2).await.expect("a page");
        chats.into_iter().map(|chat| chat.chat_id).collect::<Vec<_>>()
    };
    let private = new_group(&store, ann, &[]).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let NewChat { founding: Founding::Group { is_channel, title, history, others, .. }, .. } =
            group(ann, &[])
        else {
            unreachable!()
        };
        let visibility = Visibility::Public;
        let founding = Founding::Group { is_channel, title, history, visibility, others };
        let new = NewChat { founding, ..group(ann, &[]) };
        open.push(store.create(&new).await.expect("a chat").chat.chat_id);
    }
    open.sort();
    assert_eq!(found("", None).await, [open[2], open[1]]);
    assert_eq!(found("cREW", Some(open[1])).await, [open[0]]);
    assert_eq!(found("nothing", None).await, []);
    let topic = Some(text::Topic::parse("topic", "Straße 100%").expect("a topic"));
    change(&store, open[0], ann, update(Update { topic, ..Update::default() })).await;
    for search in ["STRASSE", "100%", "e 1"] {
        assert_eq!(found(search, None).await, [open[0]], "{search}");
    }
    assert_eq!(found("%", None).await, [open[0]], "no letter has a meaning of its own");
    let listed = store.public_chats("100%", None, 10).await.expect("a page");
    let topic = Some("Straße 100%".to_owned());
    let expected = PublicChat {
        chat_id: open[0],
        kind: ChatKind::Group,
        title: "Crew".to_owned(),
        topic,
        member_count: 1,
    };
    assert_eq!(listed, [expected]);

    for _ in 0..2 {
        store.join(open[0], bob, at(5)).await.expect("it is public");
        assert_eq!(store.chat(open[0], bob).await.expect("a read").expect("bob is in it").member_count, 2);
    }
    let entry = last_entry(&store).await;
    assert_eq!((entry.kind, entry.sender, entry.subject), (EntryKind::MemberAdded, bob, Some(bob)));
    let member = store.member(open[0], bob).await.expect("a read").expect("bob is in it");
    let reads_from = Some(EntryId { sender: bob, key: entry.key });
    assert_eq!((member.role, member.added_by, member.reads_from), (Role::Member, Some(bob), reads_from));
    let pair = store.create(&direct(ann, bob)).await.expect("a chat").chat.chat_id;
    for chat_id in [private, pair, ChatId::generate()] {
        assert_eq!(refused(store.join(chat_id, cid, at(5)).await), Refusal::NotAMember(chat_id));
    }

    // Its owner alone closes it.
    change(&store, open[0], ann, put(bob, Role::Admin)).await;
    let closed = store.change(open[0], bob, public(Visibility::Private), at(6)).await;
    assert_eq!(refused(closed), Refusal::RoleTooLow(Role::Admin));
    change(&store, open[0], ann, public(Visibility::Private)).await;
    assert_eq!(refused(store.join(open[0], cid, at(7)).await), Refusal::NotAMember(open[0]));
    assert_eq!(found("strasse", None).await, []);
    store.join(open[0], bob, at(7)).await.expect("bob is in it");
    change(&store, open[0], ann, public(Visibility::Public)).await;
    assert_eq!(found("strasse", None).await, [open[0]]);
    // No one is found in a chat that no one is in.
    change(&store, open[1], ann, Command::Leave).await;
    assert_eq!(found("", None).await, [open[2], open[0]]);
}

async fn a_link_lets_in_whom_it_allows_and_ends(store: Store) {
    let [ann, bob, cid, dora, eve] = [(); 5].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[eve]).await;
    let refusal = async |new: &NewInvite| refused(store.create_invite(new).await);
    assert_eq!(refusal(&link(9, chat_id, eve, limited(1)).1).await, Refusal::RoleTooLow(Role::Member));
    assert_eq!(refusal(&link(9, chat_id, bob, limited(1)).1).await, Refusal::NotAMember(chat_id));
    let two = made(&store, link(1, chat_id, ann, limited(2))).await;
    let expires = CreateInviteRequest { expires_in_seconds: Some(60), ..CreateInviteRequest::default() };
    let soon = made(&store, link(2, chat_id, ann, expires)).await;
    let revoked = made(&store, link(3, chat_id, ann, CreateInviteRequest::default())).await;
    let preview = async |code: &Code, user, seconds| {
        store.preview(code.hash(), user, at(seconds)).await.expect("a read")
    };
    let seen = preview(&two, bob, 1).await.expect("it is good");
    assert_eq!((seen.title.as_str(), seen.member_count, seen.is_member), ("Crew", 2, false));
    assert!(preview(&two, eve, 1).await.expect("it is good").is_member);

    for _ in 0..2 {
        assert!(matches!(come(&store, &two, bob, 2).await, Ok(Invited::Member(_))));
    }
    let listed = store.invites(chat_id, at(2)).await.expect("a list");
    assert_eq!(listed.iter().map(|of| of.uses).collect::<Vec<_>>(), [1, 0, 0], "a repetition is no use");
    come(&store, &two, cid, 3).await.expect("the second");
    // One answer, whatever the reason.
    for (code, seconds) in [(&two, 4), (&soon, 60), (&Code::of([7; 16]), 4)] {
        assert_eq!(come(&store, code, dora, seconds).await, Err(Refusal::NoSuchInvite));
        assert_eq!(preview(code, dora, seconds).await, None);
    }
    // Who came by it may repeat the request when it is used up.
    assert!(matches!(come(&store, &two, cid, 5).await, Ok(Invited::Member(_))));
    let [_, to_revoke] =
        <[Invite; 2]>::try_from(store.invites(chat_id, at(5)).await.expect("a list")).expect("two");
    let revoke = async |actor| store.revoke_invite(chat_id, actor, to_revoke.invite_id, at(6)).await;
    assert_eq!(refused(revoke(bob).await), Refusal::RoleTooLow(Role::Member));
    for _ in 0..2 {
        revoke(ann).await.expect("it is revoked");
    }
    assert_eq!(come(&store, &revoked, dora, 7).await, Err(Refusal::NoSuchInvite));
    come(&store, &soon, dora, 59).await.expect("it is not yet expired");
    assert_eq!(roles(&store, chat_id).await.len(), 5);
    assert!(store.invites(chat_id, at(60)).await.expect("a list").is_empty());
}

async fn a_link_goes_with_the_role_of_its_maker(store: Store) {
    let [ann, bob, cid, dora] = [(); 4].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[bob, cid]).await;
    for user in [bob, cid] {
        change(&store, chat_id, ann, put(user, Role::Admin)).await;
    }
    let of_bob = made(&store, link(1, chat_id, bob, CreateInviteRequest::default())).await;
    let of_cid = made(&store, link(2, chat_id, cid, CreateInviteRequest::default())).await;
    let of_ann = made(&store, link(3, chat_id, ann, CreateInviteRequest::default())).await;
    change(&store, chat_id, ann, put(bob, Role::Member)).await;
    change(&store, chat_id, cid, Command::Leave).await;
    // An owner who hands over is an admin still.
    change(&store, chat_id, ann, put(bob, Role::Owner)).await;
    for code in [&of_bob, &of_cid] {
        assert_eq!(
            come(&store, code, dora, 20).await,
            Err(Refusal::NoSuchInvite),
            "the role does not bring it back"
        );
    }
    come(&store, &of_ann, dora, 20).await.expect("it is good");
}

async fn a_link_is_made_once_for_a_key_and_there_are_so_many(store: Store) {
    let [ann, bob] = [(); 2].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[]).await;
    let keyed = |n, request| {
        let (code, new) = link(n, chat_id, ann, request);
        (code, NewInvite { key: IdempotencyKey::parse("5f0c"), ..new })
    };
    let (lost, first) = keyed(1, limited(5));
    let (code, again) = keyed(2, limited(5));
    let (made_first, is_new) = store.create_invite(&first).await.expect("a link");
    assert!(is_new);
    assert_eq!(store.create_invite(&again).await.expect("the same link"), (made_first, false));
    assert_eq!(refused(store.create_invite(&keyed(3, limited(6)).1).await), Refusal::InviteKeyReused);
    assert_eq!(come(&store, &lost, bob, 1).await, Err(Refusal::NoSuchInvite));
    come(&store, &code, bob, 1).await.expect("the newer code");
    for n in 1..MAX_INVITES {
        made(&store, link(100 + u8::try_from(n).expect("small"), chat_id, ann, limited(1))).await;
    }
    let one_more = link(4, chat_id, ann, limited(1));
    assert_eq!(refused(store.create_invite(&one_more.1).await), Refusal::TooManyInvites);
    // One that is used up makes room.
    come(&store, &Code::of([101; 16]), new_user(), 1).await.expect("a use");
    made(&store, one_more).await;
}

async fn a_revoked_link_is_not_made_again_by_its_key(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[bob]).await;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    let keyed = |n, made_by| {
        let (code, new) = link(n, chat_id, made_by, limited(5));
        (code, NewInvite { key: IdempotencyKey::parse("5f0c"), ..new })
    };
    let (of_ann, of_bob) = (keyed(1, ann), keyed(2, bob));
    for (_, new) in [&of_ann, &of_bob] {
        assert!(store.create_invite(new).await.expect("a link").1);
    }
    store.revoke_invite(chat_id, ann, of_ann.1.invite.invite_id, at(6)).await.expect("it is revoked");
    // With the role goes the link, and comes back by no retry.
    change(&store, chat_id, ann, put(bob, Role::Member)).await;
    change(&store, chat_id, ann, put(bob, Role::Admin)).await;
    for (n, made_by) in [(3, ann), (4, bob)] {
        let (code, retry) = keyed(n, made_by);
        assert_eq!(refused(store.create_invite(&retry).await), Refusal::InviteRevoked);
        assert_eq!(come(&store, &code, cid, 7).await, Err(Refusal::NoSuchInvite));
    }
    for code in [&of_ann.0, &of_bob.0] {
        assert_eq!(come(&store, code, cid, 7).await, Err(Refusal::NoSuchInvite));
        assert_eq!(store.preview(code.hash(), cid, at(7)).await.expect("a read"), None);
    }
    assert_eq!(store.invites(chat_id, at(7)).await.expect("a list"), []);
    // It counts for nothing, and a day later nothing is known of it.
    for n in 0..MAX_INVITES {
        made(&store, link(100 + u8::try_from(n).expect("small"), chat_id, ann, limited(1))).await;
    }
    let first = store.invites(chat_id, at(8)).await.expect("a list")[0].invite_id;
    store.revoke_invite(chat_id, ann, first, at(8)).await.expect("it is revoked");
    let (_, mut next_day) = keyed(5, ann);
    next_day.invite.created_at = at(0) + LINK_KEPT;
    let (_, mut other) = link(6, chat_id, ann, limited(1));
    other.invite.created_at = next_day.invite.created_at;
    assert_eq!(refused(store.create_invite(&next_day).await), Refusal::InviteRevoked);
    assert!(store.create_invite(&other).await.expect("a link").1, "it forgets the others");
    let last = store.invites(chat_id, at(8)).await.expect("a list")[0].invite_id;
    store.revoke_invite(chat_id, ann, last, at(8)).await.expect("there is room");
    assert!(store.create_invite(&next_day).await.expect("a link").1);
}

async fn a_user_takes_one_use_of_a_link_however_often_they_come(store: Store) {
    let [ann, bob, cid, dora] = [(); 4].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[]).await;
    let code = made(&store, link(1, chat_id, ann, limited(2))).await;
    let uses = async || store.invites(chat_id, at(9)).await.expect("a list").first().map(|of| of.uses);
    for n in 0..3 {
        come(&store, &code, bob, 10 + n).await.expect("bob comes");
        change(&store, chat_id, bob, Command::Leave).await;
        assert_eq!(uses().await, Some(1), "one user, one use");
    }
    come(&store, &code, cid, 20).await.expect("there is one use left");
    assert_eq!(come(&store, &code, dora, 21).await, Err(Refusal::NoSuchInvite), "it is used up");
    assert!(store.preview(code.hash(), bob, at(21)).await.expect("a read").is_some());
    come(&store, &code, bob, 22).await.expect("bob has a use of it");
    // What is known of users goes with their account.
    change(&store, chat_id, bob, Command::Leave).await;
    store.withdraw_all(bob).await.expect("the account is deleted");
    assert_eq!(come(&store, &code, bob, 23).await, Err(Refusal::NoSuchInvite));
    // Who was removed does not come back by a use that they have.
    change(&store, chat_id, ann, Command::Remove { user_id: cid }).await;
    assert_eq!(come(&store, &code, cid, 24).await, Err(Refusal::RemovedLately));
}

async fn an_approval_lets_in_who_asks(store: Store) {
    let [ann, bob, cid, dora, eve] = [(); 5].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[eve]).await;
    let code =
        made(&store, link(1, chat_id, ann, CreateInviteRequest { max_uses: Some(3), ..approved() })).await;
    let asks =
        |user_id, seconds| Ok(Invited::Asked(JoinRequest { chat_id, user_id, requested_at: at(seconds) }));
    for user in [bob, cid, dora] {
        assert_eq!(come(&store, &code, user, 2).await, asks(user, 2));
    }
    assert_eq!(
        come(&store, &code, bob, 3).await,
        asks(bob, 2),
        "the same request, though the link is used up"
    );
    assert_eq!(roles(&store, chat_id).await.len(), 2);
    let asking = async || {
        let first = store.requests(chat_id, None, 2).await.expect("a page");
        let after = first.last().map(|of| of.user_id);
        let mut rest = store.requests(chat_id, after, 10).await.expect("a page");
        if after.is_none() {
            rest.clear();
        }
        first.into_iter().chain(rest).map(|of| of.user_id).collect::<Vec<_>>()
    };
    let mut all = [bob, cid, dora];
    all.sort();
    assert_eq!(asking().await, all);

    let approve = async |actor, user| store.approve(chat_id, actor, user, at(4)).await;
    assert_eq!(refused(approve(eve, bob).await), Refusal::RoleTooLow(Role::Member));
    assert_eq!(refused(approve(bob, bob).await), Refusal::NotAMember(chat_id));
    let stranger = new_user();
    assert_eq!(refused(approve(ann, stranger).await), Refusal::NoSuchRequest(stranger));
    for _ in 0..2 {
        approve(ann, bob).await.expect("bob asks");
    }
    let entry = last_entry(&store).await;
    assert_eq!((entry.kind, entry.sender, entry.subject), (EntryKind::MemberAdded, ann, Some(bob)));
    let member = store.member(chat_id, bob).await.expect("a read").expect("bob is in it");
    assert_eq!(
        (member.added_by, member.reads_from),
        (Some(bob), Some(EntryId { sender: ann, key: entry.key }))
    );

    let withdraw = async |actor, user| store.withdraw(chat_id, actor, user, at(5)).await;
    assert_eq!(refused(withdraw(eve, cid).await), Refusal::RoleTooLow(Role::Member));
    assert_eq!(refused(withdraw(dora, cid).await), Refusal::NotAMember(chat_id));
    for _ in 0..2 {
        withdraw(dora, dora).await.expect("one's own");
        withdraw(ann, cid).await.expect("declined");
    }
    assert_eq!(asking().await, []);
    assert_eq!(refused(approve(ann, cid).await), Refusal::NoSuchRequest(cid));
    // Who is added by hand asks no more.
    let code = made(&store, link(2, chat_id, ann, approved())).await;
    come(&store, &code, cid, 6).await.expect("a request");
    change(&store, chat_id, ann, put(cid, Role::Member)).await;
    come(&store, &code, dora, 6).await.expect("a request");
    store.withdraw_all(dora).await.expect("the account is deleted");
    assert_eq!(asking().await, []);
}

async fn a_removed_user_does_not_come_back_by_themselves_for_a_day(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[bob, cid]).await;
    change(&store, chat_id, ann, public(Visibility::Public)).await;
    let direct = made(&store, link(1, chat_id, ann, limited(5))).await;
    let asking = made(&store, link(2, chat_id, ann, approved())).await;
    store.change(chat_id, ann, Command::Remove { user_id: bob }, at(10)).await.expect("a removal");
    store.change(chat_id, cid, Command::Leave, at(10)).await.expect("a leave");
    let day = READDING_PAUSE.num_seconds();
    for seconds in [11, 9 + day] {
        assert_eq!(refused(store.join(chat_id, bob, at(seconds)).await), Refusal::RemovedLately);
        assert_eq!(come(&store, &direct, bob, seconds).await, Err(Refusal::RemovedLately));
    }
    assert_eq!(store.invites(chat_id, at(11)).await.expect("a list")[0].uses, 0);
    // Who left comes back at any time, and who asks is let in by the one who removed them.
    store.join(chat_id, cid, at(11)).await.expect("cid left by themselves");
    assert!(matches!(come(&store, &asking, bob, 12).await, Ok(Invited::Asked(_))));
    store.approve(chat_id, ann, bob, at(13)).await.expect("bob asks");
    store.change(chat_id, ann, Command::Remove { user_id: bob }, at(20)).await.expect("a removal");
    assert!(matches!(come(&store, &direct, bob, 20 + day).await, Ok(Invited::Member(_))));
}

async fn a_block_closes_the_links_of_a_user(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    let chat_id = new_group(&store, ann, &[]).await;
    let code = made(&store, link(1, chat_id, ann, CreateInviteRequest::default())).await;
    for (user, blocked, other) in [(ann, bob, bob), (cid, ann, cid)] {
        store.block(user, blocked, at(1)).await.expect("a block");
        assert_eq!(store.preview(code.hash(), other, at(2)).await.expect("a read"), None);
        assert_eq!(come(&store, &code, other, 2).await, Err(Refusal::NoSuchInvite));
        store.unblock(user, blocked, at(3)).await.expect("lifted");
        come(&store, &code, other, 4).await.expect("it is good");
    }
}

async fn a_chat_that_is_over_has_neither_links_nor_requests(store: Store) {
    let [ann, bob, cid] = [(); 3].map(|()| new_user());
    for ending in [Command::Delete, Command::Leave] {
        let chat_id = new_group(&store, ann, &[]).await;
        change(&store, chat_id, ann, public(Visibility::Public)).await;
        let n = if ending == Command::Delete { 1 } else { 2 };
        let code = made(&store, link(n, chat_id, ann, limited(5))).await;
        let asking = made(&store, link(10 + n, chat_id, ann, approved())).await;
        come(&store, &asking, bob, 1).await.expect("a request");
        change(&store, chat_id, ann, ending).await;
        for user in [bob, cid] {
            assert_eq!(come(&store, &code, user, 2).await, Err(Refusal::NoSuchInvite));
            assert_eq!(store.preview(code.hash(), user, at(2)).await.expect("a read"), None);
        }
        assert!(store.requests(chat_id, None, 10).await.expect("a list").is_empty());
        assert!(store.public_chats("", None, 10).await.expect("a page").is_empty());
        assert_eq!(refused(store.approve(chat_id, ann, bob, at(3)).await), Refusal::NotAMember(chat_id));
    }
}

async fn users_who_come_at_once_take_no_more_uses_than_there_are(store: Store) {
    let ann = new_user();
    let chat_id = new_group(&store, ann, &[]).await;
    let few = made(&store, link(1, chat_id, ann, limited(5))).await;
    let tasks = (0..24).map(|n| {
        let (store, code, user) = (store.clone(), few.clone(), new_user());
        tokio::spawn(async move {
            // Each of them twice at once, as an impatient client.
            let (one, other) = tokio::join!(come(&store, &code, user, n), come(&store, &code, user, n));
            assert_eq!(one.is_ok(), other.is_ok(), "{one:?} {other:?}");
            one.is_ok()
        })
    });
    let mut joined = 0;
    for task in tasks.collect::<Vec<_>>() {
        joined += usize::from(task.await.expect("no panic"));
    }
    assert_eq!((joined, roles(&store, chat_id).await.len()), (5, 6));
}

async fn who_joins_by_themselves_is_counted_for_themselves(store: Store) {
    // 100 in all, of which one hand may have added an eighth of what is left.
    let ann = new_user();
    let others: Vec<_> = (0..9).map(|_| new_user()).collect();
    let chat_id = new_group(&store, ann, &others).await;
    change(&store, chat_id, ann, put(new_user(), Role::Member)).await;
    assert_eq!(
        refused(store.change(chat_id, ann, put(new_user(), Role::Member), at(1)).await),
        Refusal::TooManyAdded
    );
    let code = made(&store, link(1, chat_id, ann, CreateInviteRequest::default())).await;
    let asking = made(&store, link(2, chat_id, ann, approved())).await;
    come(&store, &code, new_user(), 1).await.expect("ann has no room, and the user has");
    let bob = new_user();
    come(&store, &asking, bob, 1).await.expect("a request");
    store.approve(chat_id, ann, bob, at(2)).await.expect("it counts for bob");
    // Bob takes the room that he has.
    let mut taken = 1;
    loop {
        let open = new_group(&store, new_user(), &[]).await;
        let other = store.member(open, bob).await.expect("a read");
        assert_eq!(other, None);
        let owner = roles(&store, open).await[0].0;
        change(&store, open, owner, public(Visibility::Public)).await;
        match store.join(open, bob, at(3)).await {
            Ok(_) => taken += 1,
            refused => {
                assert!(matches!(refused, Err(StoreError::Refused(Refusal::TooManyAdded))), "{refused:?}");
                break;
            }
        }
    }
    assert!((5..12).contains(&taken), "{taken}");
    assert_eq!(FEW.max_memberships, 100);
}
