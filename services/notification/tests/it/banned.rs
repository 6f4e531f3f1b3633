//! Users whom moderators have banned everywhere.

use kit::testing::receivers::{Browser, Receiver};

use super::stand::Stand;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_banned_learns_of_nothing_until_the_ban_is_lifted() {
    let stand = Stand::start().await;
    let mut devices = Vec::new();
    for name in ["ben", "cid"] {
        let (user, browser, receiver) = (stand.realm.user(name), Browser::new(), Receiver::start().await);
        let subscription = browser.subscription(&receiver.url);
        stand.api.post(&user, "/api/notifications/subscriptions", subscription).await.ok(200);
        stand.listed(user.id).await;
        devices.push((user, browser, receiver));
    }
    let [(ben, browser, receiver), (cid, _, of_cid)] = &devices[..] else { panic!("two") };
    let ann = stand.realm.user("ann");
    let chat = stand.found(&[ann.id, ben.id, cid.id]);
    stand.peers.title(chat, "Cats");
    stand.peers.ban(ben.id);
    stand.say(chat, 1, ann.id, "not for the banned", &[]);
    of_cid.wait_taken(1).await;
    stand.peers.lift(ben.id);
    stand.say(chat, 2, ann.id, "for all", &[]);
    let taken = receiver.wait_taken(1).await;
    let push = browser.open(taken.last().expect("a push"));
    assert_eq!((taken.len(), &push["seq"]), (1, &2.into()), "{push}");
}
