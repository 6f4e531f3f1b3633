//! Files and search: a photo that reaches one user and no other; and services that come and go with what they keep.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use catalog::Service;
use contracts::{
    ChatId, ErrorCode, FileId,
    api::{FilePurpose, FileState},
    wire::{PresenceState, Watch},
};
use crds::TenantId;
use e2e::{
    World,
    cluster::optional_services,
    eventually,
    faults::{Killed, Part},
    report,
    rest::request,
    stack::{Account, Backend},
    stories::{
        self,
        moderation::{self, Moderated, is_hidden},
    },
    story,
    users::{TestUser, refused, unused},
    witnesses::{Witnesses, photo},
};
use kit::testing::receivers::Browser;
use kube::{ResourceExt, api::ListParams};
use posthouse_client::{Messenger, Post};
use reqwest::StatusCode;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, sync::watch, time::Instant};

const OURS: &str = "acme";
const THEIRS: &str = "globex";
const TENANT: &str = "e2efiles";
const LIMIT: Duration = Duration::from_secs(480);
const CONVERGENCE: Duration = Duration::from_secs(150);
/// What the programs of users need for one file.
const MOMENT: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn users_send_each_other_files() {
    story(LIMIT, async |world: &World| stories::files(&world.stack.messenger(OURS)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_find_what_they_may_read() {
    story(LIMIT, async |world: &World| stories::search(&world.stack.messenger(OURS)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_find_by_files_and_names_what_is_theirs_and_nothing_else() {
    story(LIMIT, async |world: &World| {
        stories::search_by_files_and_names(&world.stack.messenger(OURS)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joined_later_reads_no_file_of_before_by_id_link_or_thumbnail() {
    story(LIMIT, async |world: &World| stories::files_of_before(&world.stack.messenger(OURS)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_exchange_a_photo_and_no_other_gets_it_by_any_door() {
    story(LIMIT, async |world: &World| {
        let messenger = world.stack.messenger(OURS);
        let (ann, ben) =
            (TestUser::register(&messenger, "ann").await?, TestUser::register(&messenger, "ben").await?);
        let cid = TestUser::register(&messenger, "cid").await?;
        let chat = ann.group("holidays", &[ben.id()]).await?;

        // Ann sends it from her terminal.
        let photo = photo();
        let sent = std::fs::read(&photo)?;
        ensure!(contains(&sent, b"SECRET"), "the photo has metadata");
        terminal(&ann, chat, &format!("/file {}", photo.display())).await?;
        let of = eventually("the photo is in the chat", MOMENT, || async {
            let last = ann.history(chat).await?.pop().context("the chat is empty")?;
            Ok(last.attachments.first().context("the last message carries no file")?.clone())
        })
        .await?;

        // Ben reads it by the API, without what the camera wrote into it; and saves it in his terminal.
        let file =
            eventually("ben reads the photo", MOMENT, || async { Ok(ben.identity.file(of.file).await?) })
                .await?;
        ensure!(file.state == FileState::Ready && file.blur.is_some(), "{file:?}");
        let links = file.links.context("a ready file has links")?;
        let thumbnail = links.thumbnail.context("a picture has a thumbnail")?;
        for link in [&links.content, &thumbnail] {
            let picture = fetched(&messenger, link).await?;
            ensure!(!picture.is_empty() && !contains(&picture, b"SECRET"), "metadata is left behind {link}");
        }
        let folder = std::env::temp_dir().join(format!("posthouse-{}", of.file));
        std::fs::create_dir(&folder)?;
        let seq = ben.history(chat).await?.pop().context("the chat is empty")?.seq;
        terminal(&ben, chat, &format!("/save {seq} {}", folder.display())).await?;
        let saved = std::fs::read(folder.join("metadata.png"));
        std::fs::remove_dir_all(&folder)?;
        ensure!(saved? == fetched(&messenger, &links.content).await?, "another file was saved");

        // No other user does: not by its id, by a bucket without an account, or at another tenant's address.
        refused(cid.identity.file(of.file).await, ErrorCode::NotFound)?;
        let theirs = world.stack.messenger(THEIRS);
        ensure!(fetched(&theirs, &links.content).await.is_err(), "another tenant serves the link");
        let stranger = TestUser::register(&theirs, "eve").await?;
        ensure!(stranger.identity.file(of.file).await.is_err(), "another tenant serves the file");
        let bucket = Door::new(&world.stack.s3_addr, OURS, None)?;
        bucket.is_shut(of.file).await?;

        // Nor who had a link in time and is no member any more.
        let token = ann.token().await?;
        messenger.remove_member(&token, chat, ben.id()).await?;
        eventually("the link of a removed member ends", MOMENT, || async {
            ensure!(fetched(&messenger, &links.content).await.is_err(), "it serves the photo");
            Ok(())
        })
        .await?;
        refused(ben.identity.file(of.file).await, ErrorCode::NotFound)?;
        ensure!(ann.identity.file(of.file).await?.links.is_some(), "ann has her photo");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_services_come_and_go_and_what_they_keep_comes_back() {
    // The tenant is set up six times.
    story(2 * LIMIT, async |world: &World| {
        let (on, off) = (optional_services(true), optional_services(false));
        let name = unused("mod");
        let spec = |services: &Value, policy: &str| {
            json!({ "deletionPolicy": policy, "services": services, "moderation": { "moderators": [name] } })
        };
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;

        // Off: the tenant has nothing of them.
        settle(world, &spec(&off, "Retain")).await?;
        let remains = world.stack.remains(TENANT).await?;
        ensure!(remains.iter().all(|left| !left.starts_with("S3")), "it has a bucket: {remains:#?}");
        let messenger = world.stack.messenger(TENANT);
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let moderator = TestUser::register_as(&messenger, name.clone()).await?;
        let house = Moderated { messenger: messenger.clone(), moderator };
        let phone = ann.online(&[chat]).await;
        phone.send(chat, "the harbour at dawn").await?;
        refused(
            ann.identity.upload(FilePurpose::Chat(chat), &photo()).await,
            ErrorCode::NotFound,
        )?;
        are_refused(&house, &ben, FileId::generate()).await?;
        let listed = async |is_there: bool| {
            let index = fetched(&messenger, "/docs").await?;
            for service in optional() {
                let found = contains(&index, format!("/docs/{service}\"").as_bytes());
                ensure!(found == is_there, "the index of all services has {service}: {found}");
            }
            ensure!(contains(&index, b"/docs/chat\""), "the index has no services");
            anyhow::Ok(())
        };
        listed(false).await?;

        // On: what was written before is found, and each of them keeps something.
        settle(world, &spec(&on, "Retain")).await?;
        eventually("the index lists them", MINUTE, || async { listed(true).await }).await?;
        let file = ann.identity.upload(FilePurpose::Chat(chat), &photo()).await?;
        phone.post(chat, Post::files("look", vec![file.id])).await?;
        let kept = Kept::begin(&house, &ben, file.id).await?;
        kept.is_there(&house, &ann, &ben, chat).await?;
        let key = push_key(&house).await?;

        // The account of the store of files opens its own bucket and no other.
        let account = world.cluster.account(TENANT, "s3").await?;
        let own = Door::new(&world.stack.s3_addr, TENANT, Some(&account))?;
        ensure!(own.list().await? == StatusCode::OK, "it does not open its own bucket");
        Door::new(&world.stack.s3_addr, OURS, Some(&account))?.is_shut(FileId::generate()).await?;

        // Off again: nothing of them runs, talk goes on, and what they keep stays.
        settle(world, &spec(&off, "Retain")).await?;
        eventually("no workload of them is left", MINUTE, || async {
            let deployments = world.cluster.deployments(TENANT).list(&ListParams::default()).await?;
            let names: Vec<String> = deployments.items.iter().map(ResourceExt::name_any).collect();
            let is_left = |service: &Service| names.contains(&format!("{TENANT}-{service}"));
            ensure!(!optional().any(is_left), "{names:?}");
            Ok(())
        })
        .await?;
        // A gateway of before may still answer, and says that it waits for them.
        eventually("no client waits for them", MOMENT, || are_refused(&house, &ben, file.id)).await?;
        let missed = phone.send(chat, "talk goes on, a scam or not").await?;

        // On again, and once more after a deletion that retains: the same files, words, subscriptions and rules.
        settle(world, &spec(&on, "Retain")).await?;
        kept.is_there(&house, &ann, &ben, chat).await?;
        // Also of what was said while the service was off.
        is_hidden(&ben, chat, missed, MINUTE).await?;
        let now = push_key(&house).await?;
        ensure!(now == key, "browsers would have to subscribe again: {key} became {now}");
        drop(phone);
        world.cluster.delete_tenant(TENANT, MINUTE).await?;
        settle(world, &spec(&on, "Delete")).await?;
        let (ann, ben) = (ann.sign_in_again().await?, ben.sign_in_again().await?);
        let moderator = house.moderator.sign_in_again().await?;
        let house = Moderated { messenger, moderator };
        kept.is_there(&house, &ann, &ben, chat).await?;

        world.cluster.delete_resource(TENANT, MINUTE).await?;
        let remains = world.stack.remains(TENANT).await?;
        ensure!(remains.is_empty(), "left behind: {remains:#?}");
        let groups = world.stack.kafka_groups(TENANT).await?;
        ensure!(groups.is_empty(), "left behind: consumer groups {groups:?}");
        world.cluster.await_nothing_of(TENANT, MINUTE).await?;
        world.cluster.delete_tenant(TENANT, MINUTE).await?;
        Ok(())
    })
    .await;
}

/// Returns the services that a tenant may be without.
fn optional() -> impl Iterator<Item = &'static Service> {
    Service::ALL.iter().filter(|service| service.is_optional)
}

/// What the optional services of a tenant keep.
struct Kept {
    file: FileId,
    /// What the user has at the notification service.
    subscriptions: Value,
    preferences: Value,
    /// Rules that are in force.
    rules: String,
}

impl Kept {
    async fn begin(house: &Moderated, ben: &TestUser, file: FileId) -> anyhow::Result<Self> {
        let token = ben.token().await?;
        // Nothing is pushed there: ben wants none.
        let browser = Browser::new().subscription("https://push.example/1");
        let preferences = json!({ "level": "none", "shows_text": false });
        for (line, body) in [
            ("PUT /api/notifications/preferences", preferences),
            ("POST /api/notifications/subscriptions", browser),
        ] {
            request(&house.messenger, line, Some(&token), Some(&body)).await?.ok()?;
        }
        let (subscriptions, preferences) = notified(&house.messenger, ben).await?;
        let rules = house.enforce(&moderation::rules()).await?;
        Ok(Self { file, subscriptions, preferences, rules })
    }

    /// Waits until users have all of it, and see each other.
    async fn is_there(
        &self,
        house: &Moderated,
        ann: &TestUser,
        ben: &TestUser,
        chat: ChatId,
    ) -> anyhow::Result<()> {
        eventually("the file and the words are there", MINUTE, || async {
            ensure!(!ben.content(self.file).await?.is_empty(), "the file is empty");
            let found = ben.search("harbour").await?.items.len();
            ensure!(found == 1, "{found} messages are found");
            Ok(())
        })
        .await?;
        let (subscriptions, preferences) = notified(&house.messenger, ben).await?;
        ensure!(subscriptions == self.subscriptions, "{subscriptions}");
        ensure!(preferences == self.preferences, "{preferences}");
        let set = house.request(&format!("GET rule-sets/{}", self.rules), None).await?.ok()?;
        ensure!(set["state"] == "enforced", "{set}");

        // The rules are in force, and presence is seen.
        let (phone, other) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        let seq = phone.send(chat, "another scam").await?;
        is_hidden(ben, chat, seq, MINUTE).await?;
        phone.session.watch(Watch { users: vec![ben.id()], chats: vec![chat] }).await;
        stories::seen_as(&phone, ben, PresenceState::Online).await?;
        drop(other);
        Ok(())
    }
}

/// Returns where and how a user is notified.
async fn notified(messenger: &Messenger, user: &TestUser) -> anyhow::Result<(Value, Value)> {
    let token = user.token().await?;
    let get = async |path: &str| {
        let line = format!("GET /api/notifications/{path}");
        request(messenger, &line, Some(&token), None).await?.ok()
    };
    Ok((get("subscriptions").await?, get("preferences").await?))
}

/// Returns the key by which push services know the tenant.
async fn push_key(house: &Moderated) -> anyhow::Result<Value> {
    let token = house.moderator.token().await?;
    let line = "GET /api/notifications/channels";
    let channels = request(&house.messenger, line, Some(&token), None).await?.ok()?;
    Ok(channels["web_push_key"].clone())
}

/// Fails if one of the optional services answers a user as if the tenant had it.
async fn are_refused(house: &Moderated, user: &TestUser, file: FileId) -> anyhow::Result<()> {
    refused(user.identity.file(file).await, ErrorCode::NotFound)?;
    refused(user.search("harbour").await, ErrorCode::NotFound)?;
    house.request("GET own", None).await?.refused(StatusCode::NOT_FOUND)?;
    let line = "GET /api/notifications/channels";
    request(&house.messenger, line, Some(&user.token().await?), None).await?.refused(StatusCode::NOT_FOUND)
}

#[tokio::test(flavor = "multi_thread")]
async fn talk_goes_on_while_what_keeps_and_finds_it_is_killed() {
    story(LIMIT, async |world: &World| {
        let users = Witnesses::begin(&world.stack.messenger(OURS)).await?;
        let Witnesses { ann, ben, chat, phone, other, .. } = &users;
        let (stop, stopped) = watch::channel(false);
        let talk = async {
            let (mut head, mut slowest) = (0, Duration::ZERO);
            while !*stopped.borrow() {
                let began = Instant::now();
                head = phone.send(*chat, "the kettle is on").await?;
                other.sees(*chat, head, MOMENT).await?;
                slowest = slowest.max(began.elapsed());
            }
            anyhow::Ok((head, slowest))
        };
        let kills = async {
            Part::Pods("media").kill(world, OURS).await?;
            Part::Pods("search").kill(world, OURS).await?;
            let killed = Killed::kill(&world.stack, Backend::S3).await?;
            ensure!(ann.identity.upload(FilePurpose::Chat(*chat), &photo()).await.is_err(), "it takes files");
            ensure!(ben.content(users.photo).await.is_err(), "it serves files");
            killed.start().await?;
            stop.send_replace(true);
            anyhow::Ok(())
        };
        // A fault of either ends the story: the other one would wait for it.
        let ((head, slowest), ()) = tokio::try_join!(talk, kills)?;
        report(format!(
            "{head} entries went on, the slowest was with the other after {} ms",
            slowest.as_millis()
        ));

        // Both services go on where they were.
        users.see_files().await?;
        users.see_words().await
    })
    .await;
}

/// Applies the tenant and waits until it is ready as it is specified.
async fn settle(world: &World, spec: &Value) -> anyhow::Result<()> {
    world.cluster.apply_tenant(TENANT, spec.clone()).await?;
    world.cluster.await_ready(TENANT, CONVERGENCE).await?;
    Ok(())
}

/// Returns what is behind a link.
async fn fetched(messenger: &Messenger, link: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    messenger.fetch(link, &mut bytes).await?;
    Ok(bytes)
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Gives a line to `posthouse chat` of a user, in a chat, and waits until it is carried out.
async fn terminal(user: &TestUser, chat: ChatId, line: &str) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("a test lies in a folder of the target")?;
    let url = user.messenger().url("/");
    let mut program = Command::new(folder.join("posthouse"))
        .args(["chat", "--url", url.as_str(), "--user", user.identity.username(), "--to", &chat.to_string()])
        .env("POSTHOUSE_PASSWORD", &user.password)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("posthouse, which `make up` builds")?;
    let mut input = program.stdin.take().context("it has an input")?;
    input.write_all(format!("{line}\n").as_bytes()).await?;
    drop(input);
    let output =
        tokio::time::timeout(MINUTE, program.wait_with_output()).await.context("it does not end")??;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A tenant's bucket, as a client reaches it that knows the address of the store.
struct Door {
    bucket: Bucket,
    account: Option<Credentials>,
    http: reqwest::Client,
}

impl Door {
    fn new(address: &str, tenant: &str, account: Option<&Account>) -> anyhow::Result<Self> {
        let url = format!("http://{address}").parse()?;
        let bucket = tenant.parse::<TenantId>()?.bucket().to_string();
        Ok(Self {
            bucket: Bucket::new(url, UrlStyle::Path, bucket, "us-east-1")?,
            account: account.map(|of| Credentials::new(of.username.as_str(), of.password.as_str())),
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    async fn list(&self) -> anyhow::Result<StatusCode> {
        let action = actions::ListObjectsV2::new(&self.bucket, self.account.as_ref());
        Ok(self.http.get(action.sign(MINUTE)).send().await?.status())
    }

    /// Fails if it lists, reads, replaces or removes anything.
    async fn is_shut(&self, file: FileId) -> anyhow::Result<()> {
        let (account, key) = (self.account.as_ref(), format!("files/{file}"));
        let read = actions::GetObject::new(&self.bucket, account, &key).sign(MINUTE);
        let write = actions::PutObject::new(&self.bucket, account, &key).sign(MINUTE);
        let remove = actions::DeleteObject::new(&self.bucket, account, &key).sign(MINUTE);
        let statuses = [
            self.list().await?,
            self.http.get(read).send().await?.status(),
            self.http.put(write).body("another").send().await?.status(),
            self.http.delete(remove).send().await?.status(),
        ];
        ensure!(statuses == [StatusCode::FORBIDDEN; 4], "list, read, write and remove: {statuses:?}");
        Ok(())
    }
}
