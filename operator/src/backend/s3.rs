//! S3 for one tenant: a bucket, and an account of the same name that may read and write the objects of this bucket and nothing
//! else.
//!
//! The bucket belongs to the operator's account. What the tenant's account may do stands in the bucket's policy, so it can change
//! neither the policy nor the rules for browsers, cannot remove the bucket, and can make no other one. Where there is a policy,
//! no account gets in by anything else.
//!
//! Owner marker: an account has no room for one, and what is in the bucket the tenant can change. So the marker of both is an
//! object in a bucket of the operator's own, and is written before either exists.
//!
//! Which bucket it is, a tag tells that only the operator can set: a bucket of the same name that was created again has another
//! one, or none.
//!
//! How much a tenant may store the store does not count, and when a file ends it does not know: the media service decides both.

use std::fmt;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    change::{ChangeKind, unmatched},
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;
mod document;
mod store;

pub use admin::S3Admin;
use document::{Cors, CorsRule};

/// The bucket with the owner markers of all tenants. No tenant id makes this name.
pub const OWNERS: &str = "posthouse-owners";
/// Role of an account that may do what policies of buckets let it, and make no bucket.
const ROLE: &str = "user";
/// What the tenant's account may do with objects.
const OBJECT_ACTIONS: [&str; 5] = [
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
];
/// What it may do with the bucket: find what is there, to collect what nothing refers to.
const BUCKET_ACTIONS: [&str; 2] = ["s3:ListBucket", "s3:ListBucketMultipartUploads"];
/// What a page may send, by requests that the media service signed.
const METHODS: [&str; 3] = ["GET", "HEAD", "PUT"];
/// Browsers ask again after so many seconds whether they may.
const CORS_SECONDS: u32 = 3600;

/// What a tenant should have in S3.
#[derive(Clone, Debug)]
pub struct S3Desired {
    /// Bucket and account.
    pub name: String,
    pub owner: Owner,
    pub secret_key: SecretString,
    /// Origins of pages that may send files there and fetch them, without repetition.
    pub origins: Vec<String>,
}

impl S3Desired {
    pub(super) fn of(tenant: &Tenant, secret_key: &SecretString) -> Self {
        let hosts = tenant.hosts.routed.iter().map(|host| tenant.origin(host));
        let mut origins: Vec<_> = hosts.chain(tenant.allowed_origins.iter().cloned()).collect();
        origins.sort();
        origins.dedup();
        Self {
            name: tenant.id.bucket().to_string(),
            owner: Owner::of(tenant),
            secret_key: secret_key.clone(),
            origins,
        }
    }

    /// Returns the policy of the bucket.
    fn policy(&self) -> Value {
        let bucket = format!("arn:aws:s3:::{}", self.name);
        let allow = |actions: &[&str], resource: String| {
            json!({
                "Effect": "Allow",
                "Principal": {"AWS": [self.name]},
                "Action": actions,
                "Resource": [resource],
            })
        };
        let objects = allow(&OBJECT_ACTIONS, format!("{bucket}/*"));
        json!({"Version": "2012-10-17", "Statement": [objects, allow(&BUCKET_ACTIONS, bucket)]})
    }

    /// Returns the rules for browsers. Without an origin there are none.
    fn cors(&self) -> Option<Cors> {
        let rule = CorsRule {
            origins: self.origins.clone(),
            methods: METHODS.map(str::to_owned).into(),
            headers: vec!["*".to_owned()],
            // A part of a large file is named by it when the file is put together.
            exposed: vec!["ETag".to_owned()],
            max_age_seconds: Some(CORS_SECONDS),
        };
        (!self.origins.is_empty()).then(|| Cors { rules: vec![rule] })
    }
}

/// What a tenant has in S3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Observed {
    pub ownership: Ownership,
    pub bucket: Option<BucketObserved>,
    pub account: Option<AccountObserved>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketObserved {
    /// Nothing when the bucket was not made by the operator, or not to the end.
    pub identity: Option<String>,
    pub policy_matches: bool,
    pub origins_match: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountObserved {
    pub secret_matches: bool,
    pub role_matches: bool,
}

/// One difference between what a tenant has in S3 and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Change {
    TakeOver {
        bucket: String,
        from: Former,
    },
    CreateAccount {
        account: String,
    },
    /// `what` names the parts that differ.
    RepairAccount {
        account: String,
        what: Vec<&'static str>,
    },
    CreateBucket {
        bucket: String,
    },
    /// Likewise.
    RepairBucket {
        bucket: String,
        what: Vec<&'static str>,
    },
}

impl S3Change {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::CreateAccount { .. } | Self::CreateBucket { .. } => ChangeKind::Create,
            Self::TakeOver { from, .. } => from.kind(),
            Self::RepairAccount { .. } | Self::RepairBucket { .. } => ChangeKind::Repair,
        }
    }
}

impl fmt::Display for S3Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOver { bucket, from } => f.write_str(&from.takeover(&format!("bucket {bucket}"))),
            Self::CreateAccount { account } => write!(f, "create account {account}"),
            Self::RepairAccount { account, what } => {
                write!(f, "set {} of account {account}", what.join(", "))
            }
            Self::CreateBucket { bucket } => write!(f, "create bucket {bucket}"),
            Self::RepairBucket { bucket, what } => write!(f, "set {} of bucket {bucket}", what.join(", ")),
        }
    }
}

/// Returns what leads from `observed` to `desired`. The account comes before the bucket, whose policy names it. Empty means steady.
fn plan(desired: &S3Desired, observed: &S3Observed) -> Vec<S3Change> {
    let name = || desired.name.clone();
    let from = observed.ownership.former().cloned();
    let mut changes: Vec<_> =
        from.map(|from| S3Change::TakeOver { bucket: name(), from }).into_iter().collect();
    match &observed.account {
        None => changes.push(S3Change::CreateAccount { account: name() }),
        Some(found) => {
            let what = unmatched([(found.secret_matches, "secret key"), (found.role_matches, "role")]);
            if !what.is_empty() {
                changes.push(S3Change::RepairAccount { account: name(), what });
            }
        }
    }
    match &observed.bucket {
        None => changes.push(S3Change::CreateBucket { bucket: name() }),
        Some(found) => {
            let what = unmatched([
                (found.identity.is_some(), IDENTITY),
                (found.policy_matches, POLICY),
                (found.origins_match, ORIGINS),
            ]);
            if !what.is_empty() {
                changes.push(S3Change::RepairBucket { bucket: name(), what });
            }
        }
    }
    changes
}

/// Parts of a bucket, as a change names them.
const IDENTITY: &str = "identity";
const POLICY: &str = "policy";
const ORIGINS: &str = "origins";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::ownership::testing::{inherited, owner},
        rendered::testing::example,
    };

    fn desired() -> S3Desired {
        S3Desired {
            name: "mt-acme".into(),
            owner: owner(),
            secret_key: "secret-word".into(),
            origins: vec!["http://acme.localhost:8000".into()],
        }
    }

    fn check(edit: impl FnOnce(&mut S3Observed), expected: &[&str]) {
        let mut observed = S3Observed {
            ownership: Ownership::Ours,
            bucket: Some(BucketObserved {
                identity: Some("this one".into()),
                policy_matches: true,
                origins_match: true,
            }),
            account: Some(AccountObserved { secret_matches: true, role_matches: true }),
        };
        edit(&mut observed);
        let changes: Vec<_> = plan(&desired(), &observed).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
        assert!(!format!("{changes:?}{:?}", desired()).contains("secret-word"));
    }

    #[test]
    fn the_account_comes_before_the_bucket_whose_policy_names_it() {
        check(|_| {}, &[]);
        check(
            |observed| *observed = S3Observed::default(),
            &["create account mt-acme", "create bucket mt-acme"],
        );
        check(|observed| observed.account = None, &["create account mt-acme"]);
        check(|observed| observed.bucket = None, &["create bucket mt-acme"]);
    }

    #[test]
    fn what_differs_is_named() {
        check(
            |observed| {
                observed.account = Some(AccountObserved { secret_matches: false, role_matches: false });
                observed.bucket =
                    Some(BucketObserved { identity: None, policy_matches: false, origins_match: false });
            },
            &["set secret key, role of account mt-acme", "set identity, policy, origins of bucket mt-acme"],
        );
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over_and_gets_an_account_again() {
        for (ownership, line, kind) in inherited("bucket mt-acme") {
            check(
                |observed| {
                    observed.ownership = ownership.clone();
                    observed.account = None;
                },
                &[&line, "create account mt-acme"],
            );
            let observed = S3Observed { ownership, ..S3Observed::default() };
            assert_eq!(plan(&desired(), &observed)[0].kind(), kind);
        }
    }

    #[test]
    fn pages_of_the_tenant_may_send_files_and_no_others() {
        let tenant = example("full.yaml", |_| {});
        let desired = S3Desired::of(&tenant, &"secret".into());
        let expected = [
            "capacitor://localhost",
            "http://chat.hooli.localhost:8000",
            "http://hooli.localhost:8000",
            "http://localhost:5173",
        ];
        assert_eq!(desired.cors().expect("a rule").rules[0].origins, expected);
        assert_eq!(S3Desired { origins: Vec::new(), ..desired }.cors(), None);
    }

    #[test]
    fn the_policy_names_one_account_and_one_bucket() {
        let text = desired().policy().to_string();
        assert_eq!(text.matches("\"Principal\":{\"AWS\":[\"mt-acme\"]}").count(), 2, "{text}");
        assert_eq!(text.matches("arn:aws:s3:::").count(), 2, "{text}");
        assert!(text.contains("arn:aws:s3:::mt-acme/*") && text.contains("arn:aws:s3:::mt-acme\""), "{text}");
        for action in ["Policy", "Cors", "CreateBucket", "DeleteBucket", "Tagging", "Acl", "s3:*"] {
            assert!(!text.contains(action), "{action}");
        }
    }
}
