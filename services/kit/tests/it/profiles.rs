//! Whose tokens are taken.

use contracts::{ErrorCode, UserId};
use kit::{
    auth::TokenError,
    error::ServiceError as _,
    testing::{TestRealm, TestUsers, serve_peer},
};
use tonic::{Code, service::Routes};

#[tokio::test]
async fn a_token_is_taken_once_its_user_has_a_profile() {
    let (realm, users) = (TestRealm::start("acme").await, TestUsers::default());
    let verifier = realm.verifier();
    verifier.require_profiles(serve_peer(Routes::new(users.server())).await);
    let verify = async |user: UserId| verifier.verify(&realm.token(user, "ann")).await.map(|_| ());
    let code = async |user: UserId| verify(user).await.expect_err("a refusal").code();

    let ann = UserId::generate();
    for _ in 0..2 {
        verify(ann).await.expect("a token of a user");
    }
    assert_eq!(users.name(ann).as_deref(), Some("ann"), "her first token makes it");
    assert_eq!(users.calls(), 1, "one that is there is not asked for again");

    let (impostor, gone) = (UserId::generate(), UserId::generate());
    users.refuse(impostor);
    users.delete(gone);
    for _ in 0..2 {
        let refused = verify(impostor).await.expect_err("no profile");
        assert!(matches!(refused, TokenError::NoProfile(_)), "{refused:?}");
        assert_eq!(
            refused.to_string(),
            "your account cannot be used here: its name was that of another account"
        );
        assert_eq!(refused.code(), ErrorCode::Unauthenticated);
        assert!(matches!(verify(gone).await, Err(TokenError::Deleted)));
    }

    // An outage holds up those who are new, and signs out no user: also when the service takes this process for a stranger.
    let bob = UserId::generate();
    for failure in [Code::Unavailable, Code::Unauthenticated, Code::Unimplemented] {
        users.fail(Some(failure));
        assert_eq!(code(bob).await, ErrorCode::Unavailable, "{failure:?}");
        verify(ann).await.expect("she is known");
    }
    users.fail(None);
    verify(bob).await.expect("a token of a user");
}
