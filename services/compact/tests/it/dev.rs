//! The messenger of `compact dev` does what a tenant's does. The stories are the ones that run on a cluster.

use std::{net::SocketAddr, time::Instant};

use compact::dev::{self, TENANT};
use e2e::{
    histories::Histories,
    report,
    stories::{self, moderation::Moderated},
    users::TestUser,
};
use posthouse_client::Messenger;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

/// A messenger of its own for one test.
pub(super) struct Dev {
    pub(super) messenger: Messenger,
    pub(super) url: Url,
    /// Where its metrics are.
    pub(super) management: Url,
    shutdown: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Dev {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let settings = dev::Settings { http_addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let started = dev::Messenger::start(&settings).await?;
        let url: Url = format!("http://{}", started.address()?).parse()?;
        let management = format!("http://{}", started.management_address()?).parse()?;
        let shutdown = started.shutdown();
        let serving = tokio::spawn(started.serve());
        Ok(Self { messenger: Messenger::new(&url)?, url, management, shutdown, serving })
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.serving.await?
    }
}

/// Runs a story on a messenger of its own.
async fn story(body: impl AsyncFnOnce(&Messenger) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    body(&dev.messenger).await?;
    dev.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_is_stored_after_the_start() -> anyhow::Result<()> {
    let started = Instant::now();
    story(async |messenger| {
        let (ann, ben, chat) = TestUser::two(messenger).await?;
        let seq = ann.online(&[chat]).await.send(chat, "is anyone here?").await?;
        report(format!("from the start to the first stored message: {:?}", started.elapsed()));
        let history = ben.history(chat).await?;
        anyhow::ensure!(history.iter().map(|message| message.seq).eq([seq]), "{history:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_lives_from_registration_to_sign_out() -> anyhow::Result<()> {
    story(stories::account).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_connections() -> anyhow::Result<()> {
    story(async |messenger| stories::sign_out(messenger, std::slice::from_ref(messenger)).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_signed_out_from_another_one() -> anyhow::Result<()> {
    story(async |messenger| stories::devices(messenger, std::slice::from_ref(messenger)).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_is_gone_and_its_chats_know() -> anyhow::Result<()> {
    story(async |messenger| stories::deletion(messenger, std::slice::from_ref(messenger)).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_talk() -> anyhow::Result<()> {
    story(stories::talk).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_change_what_they_wrote() -> anyhow::Result<()> {
    story(stories::changes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_by_themselves_and_take_turns() -> anyhow::Result<()> {
    story(stories::joining).await
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_agree_on_what_is_read() -> anyhow::Result<()> {
    story(stories::sync).await
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_events_are_what_a_new_device_fetches() -> anyhow::Result<()> {
    story(async |messenger| {
        let began = Instant::now();
        let histories = Histories::from_environment(24);
        let happened = histories.run(messenger).await?;
        report(format!("{histories:?}: {happened} happenings in {:?}", began.elapsed()));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_with_the_same_key_is_the_same_message() -> anyhow::Result<()> {
    story(stories::resend).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_enforces_its_roles_and_membership() -> anyhow::Result<()> {
    story(stories::group).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_roles_reach_all_devices_and_a_deleted_group_is_gone() -> anyhow::Result<()> {
    story(stories::names_and_roles).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_has_a_chat_alike_on_all_devices() -> anyhow::Result<()> {
    story(stories::own_state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_message_is_sent_at_its_time() -> anyhow::Result<()> {
    story(stories::scheduled).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_send_each_other_files() -> anyhow::Result<()> {
    story(stories::files).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joined_later_reads_no_file_of_before() -> anyhow::Result<()> {
    story(stories::files_of_before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_disappear_when_the_chat_says_so() -> anyhow::Result<()> {
    story(stories::disappearing).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_channel_owners_and_admins_write_and_members_react() -> anyhow::Result<()> {
    story(stories::channel).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_reads_from_the_entry_that_added_them() -> anyhow::Result<()> {
    story(stories::new_members).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_chat_is_left_and_opened_again() -> anyhow::Result<()> {
    story(stories::leaving_a_direct_chat).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_decide_who_adds_them() -> anyhow::Result<()> {
    story(stories::consent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_holds_in_both_directions_until_it_is_lifted() -> anyhow::Result<()> {
    story(stories::blocks).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_muted_user_writes_nothing_until_the_mute_is_lifted() -> anyhow::Result<()> {
    story(async |messenger| {
        let moderator = TestUser::register_as(messenger, "moderator".to_owned()).await?;
        Moderated { messenger: messenger.clone(), moderator }.mute().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_takes_along_what_is_kept_about_them() -> anyhow::Result<()> {
    story(stories::export).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_who_is_there_and_who_types() -> anyhow::Result<()> {
    story(stories::presence).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_find_what_is_said_in_their_chats() -> anyhow::Result<()> {
    story(stories::search).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_find_by_files_and_names_what_is_theirs() -> anyhow::Result<()> {
    story(stories::search_by_files_and_names).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_talks_without_a_web_socket() -> anyhow::Result<()> {
    story(stories::streams).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_documents_itself_on_the_same_address() -> anyhow::Result<()> {
    story(async |messenger| stories::documentation(messenger, TENANT).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_runs_and_loads_only_what_this_address_serves() -> anyhow::Result<()> {
    story(stories::pages).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_client_is_at_the_address_of_the_messenger() -> anyhow::Result<()> {
    story(async |messenger| stories::web_client(messenger, TENANT).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_and_tokens_get_a_documented_code_and_store_nothing() -> anyhow::Result<()> {
    story(stories::refusals).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept() -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    let ann = TestUser::register(&dev.messenger, "ann").await?;
    let username = ann.identity.username().to_owned();
    dev.end().await?;
    let again = Dev::start().await?;
    let signed_in = again.messenger.sign_in(&username, &ann.password).await;
    e2e::users::refused(signed_in, contracts::ErrorCode::Unauthenticated)?;
    again.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_path_of_a_service_is_a_problem() -> anyhow::Result<()> {
    story(stories::no_such_path).await
}
