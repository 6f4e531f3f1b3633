//! What users do, through the public address: accounts, chats, roles, talk, history, documentation, refusals.

use std::time::Duration;

use e2e::{World, stories, story};

const TENANTS: [&str; 2] = ["acme", "globex"];
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn an_account_lives_from_registration_to_sign_out() {
    story(LIMIT, async |world: &World| stories::account(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_talk_in_each_tenant() {
    story(LIMIT, async |world: &World| {
        for tenant in TENANTS {
            stories::talk(&world.stack.messenger(tenant)).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_change_what_they_wrote() {
    story(LIMIT, async |world: &World| stories::changes(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_by_themselves_and_take_turns() {
    story(LIMIT, async |world: &World| stories::joining(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_agree_on_what_is_read() {
    story(LIMIT, async |world: &World| stories::sync(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_with_the_same_key_is_the_same_message() {
    story(LIMIT, async |world: &World| stories::resend(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_enforces_its_roles_and_membership() {
    story(LIMIT, async |world: &World| stories::group(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_roles_reach_all_devices_and_a_deleted_group_is_gone() {
    story(LIMIT, async |world: &World| stories::names_and_roles(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_has_a_chat_alike_on_all_devices() {
    story(LIMIT, async |world: &World| stories::own_state(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_message_is_sent_at_its_time() {
    story(LIMIT, async |world: &World| stories::scheduled(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_disappear_when_the_chat_says_so() {
    story(LIMIT, async |world: &World| stories::disappearing(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_channel_owners_and_admins_write_and_members_react() {
    story(LIMIT, async |world: &World| stories::channel(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_reads_from_the_entry_that_added_them() {
    story(LIMIT, async |world: &World| stories::new_members(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_chat_is_left_and_opened_again() {
    story(LIMIT, async |world: &World| stories::leaving_a_direct_chat(&world.stack.messenger("acme")).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_decide_who_adds_them() {
    story(LIMIT, async |world: &World| stories::consent(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_holds_in_both_directions_until_it_is_lifted() {
    story(LIMIT, async |world: &World| stories::blocks(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_takes_along_what_is_kept_about_them() {
    story(LIMIT, async |world: &World| stories::export(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_documents_itself_on_the_public_address() {
    story(LIMIT, async |world: &World| {
        for tenant in TENANTS {
            stories::documentation(&world.stack.messenger(tenant), tenant).await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_runs_and_loads_only_what_this_address_serves() {
    story(LIMIT, async |world: &World| stories::pages(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_client_is_at_the_address_of_the_messenger() {
    story(LIMIT, async |world: &World| stories::web_client(&world.stack.messenger("acme"), "acme").await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_and_tokens_get_a_documented_code_and_store_nothing() {
    story(LIMIT, async |world: &World| stories::refusals(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_path_of_a_service_is_a_problem() {
    story(LIMIT, async |world: &World| stories::no_such_path(&world.stack.messenger("acme")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_talks_without_a_web_socket() {
    story(LIMIT, async |world: &World| {
        // Four processes, and one for all services.
        for tenant in ["acme", "globex"] {
            stories::streams(&world.stack.messenger(tenant)).await?;
        }
        Ok(())
    })
    .await;
}
