use std::time::SystemTime;

use aws_credential_types::Credentials as Identity;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use base64::{Engine, prelude::BASE64_STANDARD};
use crds::TenantId;
use operator::backend::s3::{OWNERS, S3Admin, S3Desired};
use operator::backend::{Backend, Claim, Credentials, Marker, Owner};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::conformance::{Fixture, suite};
use super::{admin_account, converge, env, operator_account, owner, password, story, tenant_id, timed};

const REGION: &str = "us-east-1";
const ORIGIN: &str = "http://app.example";

fn admin() -> S3Admin {
    S3::connect(&S3::address(), S3::account())
}

fn desired() -> S3Desired {
    S3::desired(&tenant_id(), owner(), password())
}

fn claim(desired: &S3Desired) -> Claim {
    Claim { name: desired.name.clone(), owner: desired.owner.clone() }
}

fn account(desired: &S3Desired) -> Credentials {
    Credentials { username: desired.name.clone(), password: desired.secret_key.clone() }
}

/// A client of the store that knows nothing of the operator.
struct Client {
    account: Option<Credentials>,
    http: reqwest::Client,
}

/// What a server answered.
type Answer = (StatusCode, String);

impl Client {
    fn of(account: Credentials) -> Self {
        Self { account: Some(account), http: reqwest::Client::new() }
    }

    /// One without an account.
    fn anonymous() -> Self {
        Self { account: None, http: reqwest::Client::new() }
    }

    /// Sends a request to the S3 API, `path` with its query.
    async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.request(&format!("http://{}", S3::address()), method, path, &[], body).await
    }

    /// Sends a request to the accounts API.
    async fn manage(&self, path: &str, body: &str) -> Answer {
        self.request(&format!("http://{}", accounts_address()), "PATCH", path, &[], body).await
    }

    async fn request(
        &self,
        base: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let url = format!("{base}/{path}");
        let mut request = http::Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            let checksum = BASE64_STANDARD.encode(Sha256::digest(body));
            request = request.header("x-amz-checksum-sha256", checksum);
        }
        let mut request = request.body(body.to_owned()).unwrap();
        if let Some(account) = &self.account {
            let secret = account.password.expose_secret();
            let identity = Identity::new(&account.username, secret, None, None, "test").into();
            let mut settings = SigningSettings::default();
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            let parameters = SigningParams::builder()
                .identity(&identity)
                .region(REGION)
                .name("s3")
                .time(SystemTime::now())
                .settings(settings)
                .build()
                .unwrap()
                .into();
            let headers = request.headers().iter();
            let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            let signable =
                SignableRequest::new(method, &url, headers, SignableBody::Bytes(body.as_bytes())).unwrap();
            let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
            instructions.apply_to_request_http1x(&mut request);
        }
        let answer = self.http.execute(request.try_into().unwrap()).await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

fn accounts_address() -> String {
    env("S3_ACCOUNTS_ADDRESS")
}

/// Sends a request as the administrator, which has to succeed.
async fn by_hand(method: &str, path: &str, body: &str) -> String {
    let (status, text) = Client::of(admin_account("S3")).send(method, path, body).await;
    assert!(status.is_success(), "{method} {path}: {status} {text}");
    text
}

/// Returns the keys of a bucket, at most a thousand.
async fn keys(bucket: &str) -> Vec<String> {
    let text = by_hand("GET", &format!("{bucket}?list-type=2"), "").await;
    let keys = text.split("<Key>").skip(1);
    keys.map(|key| key.split('<').next().unwrap_or_default().to_owned()).collect()
}

async fn remove_bucket(bucket: &str) {
    for key in keys(bucket).await {
        by_hand("DELETE", &format!("{bucket}/{key}"), "").await;
    }
    by_hand("DELETE", bucket, "").await;
}

pub struct S3;

impl Fixture for S3 {
    type Backend = S3Admin;

    fn address() -> String {
        env("S3_ADDRESS")
    }

    fn account() -> Credentials {
        operator_account("S3")
    }

    fn connect(address: &str, account: Credentials) -> S3Admin {
        S3Admin::new(&format!("http://{address}"), &format!("http://{}", accounts_address()), REGION, account)
    }

    fn desired(id: &TenantId, owner: Owner, secret_key: SecretString) -> S3Desired {
        S3Desired { name: S3Admin::name(id), owner, secret_key, origins: vec![ORIGIN.to_owned()] }
    }

    async fn use_account(desired: &S3Desired) -> Result<i64, String> {
        let key = format!("{}/use-{}", desired.name, uuid::Uuid::new_v4());
        let (status, text) = Client::of(account(desired)).send("PUT", &key, "x").await;
        if !status.is_success() {
            return Err(format!("{status} {text}"));
        }
        let uses = keys(&desired.name).await;
        Ok(i64::try_from(uses.iter().filter(|key| key.starts_with("use-")).count()).expect("a few"))
    }

    async fn edit(S3Desired { name, .. }: &S3Desired) -> Vec<String> {
        let open = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
            "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{name}/*")}]});
        by_hand("PUT", &format!("{name}?policy="), &open.to_string()).await;
        by_hand("DELETE", &format!("{name}?cors="), "").await;
        let edited = "<Account><Secret>another</Secret><Role>userplus</Role></Account>";
        let admin = Client::of(admin_account("S3"));
        let (status, text) = admin.manage(&format!("update-user?access={name}"), edited).await;
        assert!(status.is_success(), "{status} {text}");
        vec![
            format!("set secret key, role of account {name}"),
            format!("set policy, origins of bucket {name}"),
        ]
    }

    async fn create_foreign(name: &str) {
        by_hand("PUT", name, "").await;
        by_hand("PUT", &format!("{name}/kept"), "of others").await;
    }

    async fn foreign(name: &str) -> String {
        let content = by_hand("GET", &format!("{name}/kept"), "").await;
        let admin = Client::of(admin_account("S3"));
        let (tags, _) = admin.send("GET", &format!("{name}?tagging="), "").await;
        let (policy, _) = admin.send("GET", &format!("{name}?policy="), "").await;
        format!("{content} {:?} {tags} {policy}", keys(name).await)
    }

    async fn remove_foreign(name: &str) {
        remove_bucket(name).await;
    }

    async fn mark(_: &S3Admin, S3Desired { name, .. }: &S3Desired, _: &Marker, to: &str) {
        by_hand("PUT", &format!("{OWNERS}/{name}"), to).await;
    }

    async fn lose(S3Desired { name, .. }: &S3Desired) -> bool {
        remove_bucket(name).await;
        true
    }
}

suite!(S3);

#[tokio::test]
async fn an_account_without_a_marker_is_a_conflict_like_a_bucket() {
    let (admin, desired) = (admin(), desired());
    let name = &desired.name;
    let hand = Client::of(admin_account("S3"));
    let body = async {
        let made = format!(
            "<Account><Access>{name}</Access><Secret>secret-of-others</Secret><Role>user</Role></Account>"
        );
        assert_eq!(hand.manage("create-user", &made).await.0, StatusCode::CREATED);
        let conflict = super::assert_reason(admin.observe(&desired).await, crds::Reason::ResourceConflict);
        assert!(
            conflict.starts_with(&format!("S3 account {name} exists and has no owner marker")),
            "{conflict}"
        );
        super::assert_reason(admin.remove(&claim(&desired)).await, crds::Reason::ResourceConflict);
    };
    story(body, async { _ = hand.manage(&format!("delete-user?access={name}"), "").await }).await;
}

/// A part of a bucket is set one after the other: what an operator left half done, the next one finishes.
#[tokio::test]
async fn a_bucket_that_was_not_made_to_the_end_is_finished() {
    let (admin, desired) = (admin(), desired());
    let name = &desired.name;
    let body = async {
        converge(&admin, &desired).await;
        remove_bucket(name).await;
        by_hand("PUT", name, "").await;
        let repaired = converge(&admin, &desired).await;
        assert_eq!(repaired, [format!("set identity, policy, origins of bucket {name}")]);
        let tags = "<Tagging><TagSet><Tag><Key>team</Key><Value>blue</Value></Tag></TagSet></Tagging>";
        by_hand("PUT", &format!("{name}?tagging="), tags).await;
        assert_eq!(converge(&admin, &desired).await, [format!("set identity of bucket {name}")]);
        let tags = by_hand("GET", &format!("{name}?tagging="), "").await;
        assert!(tags.contains("blue") && tags.contains("posthouse-identity"), "tags of others stay: {tags}");
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn a_full_bucket_is_removed_with_all_objects() {
    /// More than one request lists or removes.
    const OBJECTS: usize = 1001;
    let (admin, desired) = (admin(), desired());
    let name = &desired.name;
    let body = async {
        converge(&admin, &desired).await;
        let client = Client::of(account(&desired));
        for number in 0..OBJECTS {
            let key =
                format!("{name}/deep/{number} <&> \u{fc}").replace(' ', "%20").replace('\u{fc}', "%C3%BC");
            let key = key.replace('<', "%3C").replace('>', "%3E").replace('&', "%26");
            let (status, text) = client.send("PUT", &key, "x").await;
            assert!(status.is_success(), "{status} {text}");
        }
        let removed = timed("s3 remove 1001 objects", admin.remove(&claim(&desired))).await.unwrap();
        assert_eq!(
            removed,
            [
                format!("account {name}"),
                format!("bucket {name} with {OBJECTS} objects"),
                format!("owner marker of {name}"),
            ]
        );
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn pages_of_the_tenant_may_send_files_and_others_may_not() {
    let (admin, desired) = (admin(), desired());
    let body = async {
        converge(&admin, &desired).await;
        let ask = async |origin: &str, method: &str| {
            let headers = [
                ("origin", origin),
                ("access-control-request-method", method),
                ("access-control-request-headers", "content-type,x-amz-checksum-sha256"),
            ];
            let path = format!("{}/key", desired.name);
            let base = format!("http://{}", S3::address());
            Client::anonymous().request(&base, "OPTIONS", &path, &headers, "").await.0
        };
        assert!(ask(ORIGIN, "PUT").await.is_success());
        assert_eq!(ask(ORIGIN, "DELETE").await, StatusCode::FORBIDDEN);
        assert_eq!(ask("http://evil.example", "PUT").await, StatusCode::FORBIDDEN);

        let closed = S3Desired { origins: Vec::new(), ..desired.clone() };
        assert_eq!(converge(&admin, &closed).await, [format!("set origins of bucket {}", desired.name)]);
        assert_eq!(converge(&admin, &closed).await, [""; 0]);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn one_tenant_gets_nothing_of_another() {
    let (admin, a, b) = (admin(), desired(), desired());
    let body = async {
        converge(&admin, &a).await;
        converge(&admin, &b).await;
        let (theirs, own) = (&a.name, &b.name);
        let victim = Client::of(account(&a));
        assert!(victim.send("PUT", &format!("{theirs}/secret"), "private").await.0.is_success());
        let intruder = Client::of(account(&b));
        assert!(intruder.send("PUT", &format!("{own}/mine"), "x").await.0.is_success());
        assert_eq!(intruder.send("GET", &format!("{own}/mine"), "").await.1, "x");

        let open = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
            "Action": "s3:*", "Resource": [format!("arn:aws:s3:::{own}"), format!("arn:aws:s3:::{own}/*")]}]})
        .to_string();
        let taken = open.replace(own.as_str(), theirs);
        let delete = "<Delete><Object><Key>secret</Key></Object></Delete>";
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
        let cors = "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
            </CORSRule></CORSConfiguration>";
        let attempts = [
            ("GET", format!("{theirs}/secret"), ""),
            ("HEAD", format!("{theirs}/secret"), ""),
            ("PUT", format!("{theirs}/secret"), "x"),
            ("PUT", format!("{theirs}/another"), "x"),
            ("DELETE", format!("{theirs}/secret"), ""),
            ("POST", format!("{theirs}/secret?uploads="), ""),
            ("GET", format!("{theirs}?list-type=2"), ""),
            ("GET", format!("{theirs}?uploads="), ""),
            ("GET", format!("{theirs}?versions="), ""),
            ("GET", format!("{theirs}?policy="), ""),
            ("PUT", format!("{theirs}?policy="), taken.as_str()),
            ("DELETE", format!("{theirs}?policy="), ""),
            ("GET", format!("{theirs}?tagging="), ""),
            ("PUT", format!("{theirs}?cors="), cors),
            ("GET", format!("{theirs}?acl="), ""),
            ("DELETE", theirs.clone(), ""),
            // What would open its own bucket, or hide from the operator what it is.
            ("GET", format!("{own}?policy="), ""),
            ("PUT", format!("{own}?policy="), open.as_str()),
            ("DELETE", format!("{own}?policy="), ""),
            ("PUT", format!("{own}?cors="), cors),
            ("PUT", format!("{own}?tagging="), tags),
            ("DELETE", format!("{own}?tagging="), ""),
            ("DELETE", own.clone(), ""),
            ("PUT", format!("{own}-2"), ""),
            // Whose each bucket is.
            ("GET", format!("{OWNERS}/{theirs}"), ""),
            ("PUT", format!("{OWNERS}/{theirs}"), "released:elsewhere"),
            ("DELETE", format!("{OWNERS}/{own}"), ""),
            ("GET", format!("{OWNERS}?list-type=2"), ""),
        ];
        for (method, path, body) in &attempts {
            let (status, text) = intruder.send(method, path, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {text}");
        }
        // It answers for each object.
        let (_, removed) = intruder.send("POST", &format!("{theirs}?delete="), delete).await;
        assert!(removed.contains("<Code>AccessDenied</Code>") && !removed.contains("<Deleted>"), "{removed}");
        let base = format!("http://{}", S3::address());
        let source = format!("/{theirs}/secret");
        let copied = intruder
            .request(&base, "PUT", &format!("{own}/copy"), &[("x-amz-copy-source", &source)], "")
            .await;
        assert_eq!(copied.0, StatusCode::FORBIDDEN, "{}", copied.1);
        let (status, buckets) = intruder.send("GET", "", "").await;
        assert!(status.is_success() && !buckets.contains("<Name>"), "{buckets}");

        let grown =
            format!("<Account><Access>{own}-2</Access><Secret>x</Secret><Role>admin</Role></Account>");
        let reset = "<Account><Secret>known</Secret></Account>";
        for (path, body) in [
            ("list-users".to_owned(), ""),
            ("list-buckets".to_owned(), ""),
            ("create-user".to_owned(), grown.as_str()),
            (format!("update-user?access={theirs}"), reset),
            (format!("update-user?access={own}"), "<Account><Role>admin</Role></Account>"),
            (format!("delete-user?access={theirs}"), ""),
            (format!("change-bucket-owner?bucket={theirs}&owner={own}"), ""),
        ] {
            let (status, text) = intruder.manage(&path, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {text}");
        }
        for path in
            [format!("{theirs}/secret"), format!("{theirs}?list-type=2"), format!("{OWNERS}/{theirs}")]
        {
            assert_eq!(Client::anonymous().send("GET", &path, "").await.0, StatusCode::FORBIDDEN, "{path}");
        }
        assert_eq!(victim.send("GET", &format!("{theirs}/secret"), "").await.1, "private");
        assert_eq!(converge(&admin, &a).await, [""; 0]);
        assert_eq!(converge(&admin, &b).await, [""; 0]);
    };
    let clean_up = async {
        _ = admin.remove(&claim(&a)).await;
        _ = admin.remove(&claim(&b)).await;
    };
    story(body, clean_up).await;
}
