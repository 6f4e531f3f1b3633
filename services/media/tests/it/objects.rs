//! One suite for every store of objects.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use kit::{
    config::S3Args,
    testing::{TlsFront, stack},
    tls::Untrusted,
};
use media::{
    domain::{ByteRange, MediaType},
    objects::{MemoryObjects, ObjectError, Objects, S3Objects, read_whole},
};
use reqwest::{Client, StatusCode};
use rusty_s3::{
    Bucket, Credentials, S3Action as _, UrlStyle,
    actions::{CreateBucket, DeleteBucket},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

type Store = Arc<dyn Objects>;

const VALID_FOR: Duration = Duration::from_secs(60);

macro_rules! suite {
    ($($story:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $story() {
                    let stop = tokio_util::sync::CancellationToken::new();
                    let (objects, serving) = super::MemoryObjects::start(64 << 20, stop.clone()).expect("a store");
                    tokio::spawn(serving);
                    super::$story(std::sync::Arc::new(objects)).await;
                    stop.cancel();
                }
            )*
        }
        mod s3 {
            $(
                #[tokio::test]
                async fn $story() {
                    let bucket = super::TestBucket::create().await;
                    super::$story(bucket.objects()).await;
                    bucket.remove().await;
                }
            )*
        }
    };
}

suite![
    an_upload_is_of_the_size_type_and_checksum_that_were_signed,
    an_object_is_read_whole_and_in_part,
    parts_become_one_object,
    an_upload_in_parts_that_is_aborted_leaves_nothing,
    what_is_removed_is_gone_and_may_be_removed_again,
    a_copy_is_an_object_of_its_own,
];

/// A bucket of one test, on the real store.
struct TestBucket {
    args: S3Args,
    bucket: Bucket,
    credentials: Credentials,
    client: Client,
}

impl TestBucket {
    async fn create() -> Self {
        let args = S3Args {
            s3_endpoint: format!("http://{}", stack("S3_ADDRESS")),
            s3_public_endpoint: None,
            s3_region: "us-east-1".to_owned(),
            s3_bucket: format!("test-{}", Uuid::now_v7().simple()),
            s3_access_key: stack("S3_ADMIN_USERNAME"),
            s3_secret_key: stack("S3_ADMIN_PASSWORD").into(),
        };
        let url = args.s3_endpoint.parse().expect("a URL");
        let bucket = Bucket::new(url, UrlStyle::Path, args.s3_bucket.clone(), args.s3_region.clone());
        let credentials = Credentials::new(stack("S3_ADMIN_USERNAME"), stack("S3_ADMIN_PASSWORD"));
        let client = Client::builder().no_proxy().build().expect("a client");
        let this = Self { args, bucket: bucket.expect("a bucket"), credentials, client };
        let create = CreateBucket::new(&this.bucket, &this.credentials).sign(VALID_FOR);
        let created = this.client.put(create).send().await.expect("the object store answers");
        assert!(created.status().is_success(), "{}", created.status());
        this
    }

    fn objects(&self) -> Store {
        Arc::new(S3Objects::new(&self.args, None).expect("objects"))
    }

    /// The stories leave nothing in it.
    async fn remove(&self) {
        let delete = DeleteBucket::new(&self.bucket, &self.credentials).sign(VALID_FOR);
        let deleted = self.client.delete(delete).send().await.expect("the object store answers");
        assert!(deleted.status().is_success(), "{}", deleted.status());
    }
}

fn text() -> MediaType {
    MediaType::of("text/plain")
}

async fn whole(store: &Store, key: &str) -> Option<Bytes> {
    read_whole(&**store, key, 64 << 20).await.expect("a read")
}

async fn an_upload_is_of_the_size_type_and_checksum_that_were_signed(store: Store) {
    let (bytes, client) = (b"two cats", Client::builder().no_proxy().build().expect("a client"));
    let checksum = Sha256::digest(bytes).into();
    let request = store.upload("uploads/1", &text(), 8, Some(&checksum), VALID_FOR);
    let put = async |content_type: &str, with_checksum: bool, body: &[u8]| {
        let mut put = client.put(&request.url).header("content-type", content_type).body(body.to_vec());
        if with_checksum {
            put = put.header("x-amz-checksum-sha256", &request.headers["x-amz-checksum-sha256"]);
        }
        put.send().await.expect("the store answers").status()
    };
    assert_eq!(put("text/html", true, bytes).await, StatusCode::FORBIDDEN, "another type");
    assert_eq!(put("text/plain", false, bytes).await, StatusCode::FORBIDDEN, "no checksum");
    assert_eq!(put("text/plain", true, b"two catss").await, StatusCode::FORBIDDEN, "another size");
    assert_eq!(put("text/plain", true, b"two dogs").await, StatusCode::BAD_REQUEST, "other bytes");
    assert_eq!(store.size("uploads/1").await.expect("an answer"), None);
    assert_eq!(put("text/plain", true, bytes).await, StatusCode::OK);
    assert_eq!(store.size("uploads/1").await.expect("an answer"), Some(8));
    assert_eq!(whole(&store, "uploads/1").await.as_deref(), Some(&bytes[..]));
    store.remove("uploads/1").await.expect("it is removed");
}

async fn an_object_is_read_whole_and_in_part(store: Store) {
    let bytes: Bytes = (0..300_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    store.write("files/1", &text(), bytes.clone()).await.expect("it is written");
    assert_eq!(whole(&store, "files/1").await, Some(bytes.clone()));
    assert!(read_whole(&*store, "files/1", 299_999).await.expect("a read").is_none(), "it is too large");
    for (first, last) in [(0, 0), (0, 299_999), (70_000, 200_000), (299_999, 299_999)] {
        let range = Some(ByteRange { first, last });
        let pieces = store.read("files/1", range).await.expect("a read").expect("an object");
        let read: Vec<Bytes> = pieces.try_collect().await.expect("pieces");
        assert_eq!(read.concat(), bytes[first as usize..=last as usize], "{first}-{last}");
    }
    assert!(store.read("files/2", None).await.expect("a read").is_none());
    store.remove("files/1").await.expect("it is removed");
    store.check().await.expect("the store takes the account");
}

async fn parts_become_one_object(store: Store) {
    // All parts but the last one have five mebibytes at least.
    let (first, last) = (vec![1_u8; 5 << 20], vec![2_u8; 7]);
    let client = Client::builder().no_proxy().build().expect("a client");
    let upload = store.begin_parts("files/1", &text()).await.expect("it begins");
    assert_eq!(store.parts("files/1", &upload).await.expect("a list"), Some(Vec::new()));
    for (number, bytes) in [(2, &last), (1, &first)] {
        let signed = i64::try_from(bytes.len()).expect("it is small");
        let url = store.upload_part("files/1", &upload, number, signed, VALID_FOR);
        let other = client.put(&url).body(b"another size".to_vec()).send().await.expect("an answer");
        assert_eq!(other.status(), StatusCode::FORBIDDEN);
        let put = client.put(&url).body(bytes.clone()).send().await.expect("an answer");
        assert_eq!(put.status(), StatusCode::OK);
    }
    let parts = store.parts("files/1", &upload).await.expect("a list").expect("an upload");
    assert_eq!(
        parts.iter().map(|part| (part.number, part.bytes)).collect::<Vec<_>>(),
        [(1, 5 << 20), (2, 7)]
    );
    store.complete_parts("files/1", &upload, &parts).await.expect("they are joined");
    assert_eq!(store.parts("files/1", &upload).await.expect("a list"), None);
    assert!(whole(&store, "files/1").await.is_some_and(|whole| whole == [first, last].concat()));
    store.remove("files/1").await.expect("it is removed");
}

async fn an_upload_in_parts_that_is_aborted_leaves_nothing(store: Store) {
    let upload = store.begin_parts("files/1", &text()).await.expect("it begins");
    for _ in 0..2 {
        store.abort_parts("files/1", &upload).await.expect("it is aborted");
    }
    assert_eq!(store.parts("files/1", &upload).await.expect("a list"), None);
    let joined = store.complete_parts("files/1", &upload, &[]).await;
    assert!(matches!(joined, Err(ObjectError::Response { .. } | ObjectError::Refused { .. })), "{joined:?}");
}

async fn what_is_removed_is_gone_and_may_be_removed_again(store: Store) {
    store.write("files/1", &text(), Bytes::from_static(b"cats")).await.expect("it is written");
    for _ in 0..2 {
        store.remove("files/1").await.expect("it is removed");
        assert_eq!(store.size("files/1").await.expect("an answer"), None);
    }
}

async fn a_copy_is_an_object_of_its_own(store: Store) {
    store.write("uploads/1", &text(), Bytes::from_static(b"cats")).await.expect("it is written");
    assert!(store.copy("uploads/1", "files/1").await.expect("a copy"));
    store.write("uploads/1", &text(), Bytes::from_static(b"dogs")).await.expect("it is written");
    assert_eq!(whole(&store, "files/1").await.as_deref(), Some(&b"cats"[..]));
    for key in ["uploads/1", "files/1"] {
        store.remove(key).await.expect("it is removed");
    }
    assert!(!store.copy("uploads/1", "files/1").await.expect("an answer"));
}

#[tokio::test]
async fn a_store_behind_a_certificate_of_an_own_authority_is_reached_with_its_bundle() {
    let bucket = TestBucket::create().await;
    let front = TlsFront::start(&stack("S3_ADDRESS")).await;
    let args = S3Args { s3_endpoint: front.url, ..bucket.args.clone() };
    let store: Store = Arc::new(S3Objects::new(&args, Some(&front.ca_bundle)).expect("objects"));
    store.write("files/1", &text(), Bytes::from_static(b"cats")).await.expect("it is written");
    assert_eq!(whole(&store, "files/1").await.as_deref(), Some(&b"cats"[..]));
    store.remove("files/1").await.expect("it is removed");

    let stranger = S3Objects::new(&args, None).expect("objects");
    let refused = stranger.check().await;
    let is_named = matches!(&refused, Err(ObjectError::Untrusted { why: Untrusted::UnknownAuthority, .. }));
    assert!(is_named, "{refused:?}");
    bucket.remove().await;
}
