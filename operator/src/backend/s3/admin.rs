//! Reads and writes a tenant's part of S3: over the S3 API, and over the accounts API of versitygw.

use crds::{CellS3, TenantId};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::try_join;

use super::{
    AccountObserved, BucketObserved, IDENTITY, ORIGINS, OWNERS, POLICY, ROLE, S3Change, S3Desired,
    S3Observed,
    document::{
        self, Account, AccountSetting, Accounts, Cors, Listing, Object, Removal, Removed, Tag, TagSet,
        Tagging,
    },
    plan,
    store::{Request, Store},
};
use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::BackendError,
        http,
        login::Credentials,
        marker::new_identity,
        ownership::{Claim, Owner, Ownership},
    },
    tenant::{Cell, Tenant},
};

/// The tag that tells one bucket from another one of the same name.
const IDENTITY_TAG: &str = "posthouse-identity";
/// Part names of a bucket in a query.
const TAGGING: &str = "tagging";
const CORS: &str = "cors";

/// Administers tenants in one S3 store. Created without I/O; a request stands alone.
pub struct S3Admin {
    objects: Store,
    accounts: Store,
}

/// What a tenant has, as far as it decides whose it is.
struct Found {
    ownership: Ownership,
    /// Tags of the bucket; nothing where there is none.
    tags: Option<Vec<Tag>>,
    account: Option<Account>,
}

impl Backend for S3Admin {
    const ENTRY: catalog::Backend = catalog::Backend::S3;

    type Desired = S3Desired;
    type Observed = S3Observed;
    type Change = S3Change;

    fn desired(tenant: &Tenant, password: &SecretString) -> S3Desired {
        S3Desired::of(tenant, password)
    }

    fn name(id: &TenantId) -> String {
        id.bucket().to_string()
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        let s3 = of(&tenant.cell);
        vec![
            ("--s3-endpoint", s3.endpoint.clone()),
            ("--s3-public-endpoint", s3.public_endpoint().to_owned()),
            ("--s3-region", s3.region().to_owned()),
            ("--s3-bucket", Self::name(&tenant.id)),
        ]
    }

    fn in_sync(tenant: &Tenant) -> String {
        format!("bucket and account {}", Self::name(&tenant.id))
    }

    fn data(desired: &S3Desired) -> Option<String> {
        Some(format!("bucket {}", desired.name))
    }

    fn facts(observed: &S3Observed) -> BackendFacts {
        let generation = observed.bucket.as_ref().and_then(|bucket| bucket.identity.clone());
        let is_inherited = observed.ownership.is_inherited();
        BackendFacts { generation, is_inherited, ..BackendFacts::default() }
    }

    fn is_of(cell: &Cell) -> bool {
        cell.spec.s3.is_some()
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        Some(&of(cell).admin_secret_ref.name)
    }

    fn endpoint(cell: &Cell) -> String {
        let s3 = of(cell);
        format!("{} {} {} {}", s3.endpoint, s3.accounts_endpoint(), s3.region(), cell.trust())
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        let s3 = of(cell);
        Self::trusting(&s3.endpoint, s3.accounts_endpoint(), s3.region(), account, &cell.certificates)
    }

    /// Reads what the tenant has. Writes nothing.
    async fn observe(&self, desired: &S3Desired) -> Result<S3Observed, BackendError> {
        let Found { ownership, tags, account } = self.find(&desired.name, &desired.owner).await?;
        let bucket = match tags {
            Some(tags) => Some(self.bucket(desired, tags).await?),
            None => None,
        };
        let account = account.map(|account| AccountObserved {
            secret_matches: is_same(&account.secret, &desired.secret_key),
            role_matches: account.role == ROLE,
        });
        Ok(S3Observed { ownership, bucket, account })
    }

    fn plan(desired: &S3Desired, observed: &S3Observed) -> Vec<S3Change> {
        plan(desired, observed)
    }

    fn kind(change: &S3Change) -> ChangeKind {
        change.kind()
    }

    /// Makes one change of a plan.
    async fn apply(&self, desired: &S3Desired, change: &S3Change) -> Result<(), BackendError> {
        let action = change.to_string();
        match change {
            S3Change::TakeOver { .. } => self.mark(desired, &action).await,
            S3Change::CreateAccount { account } => {
                self.mark(desired, &action).await?;
                let setting = setting(Some(account.as_str()), desired);
                self.accounts.send(&action, Request::new(Method::PATCH, "create-user").with(setting)).await?;
                Ok(())
            }
            S3Change::RepairAccount { account, .. } => {
                let request = of_account("update-user", account).with(setting(None, desired));
                self.accounts.send(&action, request).await?;
                Ok(())
            }
            S3Change::CreateBucket { bucket } => {
                self.mark(desired, &action).await?;
                self.create(bucket, &action).await?;
                for part in [IDENTITY, POLICY, ORIGINS] {
                    self.set(desired, part, &action).await?;
                }
                Ok(())
            }
            S3Change::RepairBucket { what, .. } => {
                for part in what {
                    self.set(desired, part, &action).await?;
                }
                Ok(())
            }
        }
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        Ok(self.find(&claim.name, &claim.owner).await?.ownership)
    }

    /// Removes the tenant's account, bucket and objects. Returns what was there. The marker goes last, so that what is left after a
    /// failure is still the tenant's.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let name = &claim.name;
        let Found { ownership, tags, account } = self.find(name, &claim.owner).await?;
        if ownership == Ownership::Absent {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        if account.is_some() {
            self.remove_account(name).await?;
            removed.push(format!("account {name}"));
        }
        if tags.is_some() {
            let count = self.empty(name).await?;
            let action = format!("delete bucket {name}");
            let request = Request::new(Method::DELETE, name);
            self.objects.find(&action, request, &["NoSuchBucket"]).await?;
            removed.push(format!("bucket {name} with {count} objects"));
        }
        self.remove_marker(name).await?;
        removed.push(format!("owner marker of {name}"));
        Ok(removed)
    }

    /// Releases a retained tenant: its objects stay, its account is removed, and the next owner may re-adopt the bucket.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let name = &claim.name;
        let Found { ownership, tags, account } = self.find(name, &claim.owner).await?;
        if !ownership.is_in_use() {
            return Ok(());
        }
        if account.is_some() {
            self.remove_account(name).await?;
        }
        if tags.is_none() {
            // Nothing is kept that the next owner could miss.
            return self.remove_marker(name).await;
        }
        let action = format!("release bucket {name}");
        self.write_marker(name, claim.owner.released().to_string(), &action).await
    }
}

impl S3Admin {
    /// `credentials` are access key and secret key of an account with the role `admin`.
    ///
    /// # Panics
    ///
    /// When an endpoint is no URL.
    pub fn new(endpoint: &str, accounts_endpoint: &str, region: &str, credentials: Credentials) -> Self {
        Self::trusting(endpoint, accounts_endpoint, region, credentials, &[])
    }

    /// Returns one that trusts certificates beside the public ones.
    fn trusting(
        endpoint: &str,
        accounts_endpoint: &str,
        region: &str,
        credentials: Credentials,
        certificates: &[reqwest::Certificate],
    ) -> Self {
        let http = http::client(certificates);
        let store = |endpoint: &str| Store::new(endpoint, region, credentials.clone(), http.clone());
        Self { objects: store(endpoint), accounts: store(accounts_endpoint) }
    }

    /// Finds what a tenant has and whose it is. Two systems that say nothing of a name have nothing of it; one that has something
    /// without a marker has something of others.
    async fn find(&self, name: &str, owner: &Owner) -> Result<Found, BackendError> {
        let (marker, tags, account) = try_join!(self.marker(name), self.tags(name), self.account(name))?;
        let object = match (&tags, &account) {
            (None, Some(_)) => format!("account {name}"),
            _ => format!("bucket {name}"),
        };
        let ownership = if marker.is_none() && tags.is_none() && account.is_none() {
            Ownership::Absent
        } else {
            Ownership::of(Self::ENTRY, &object, marker.as_deref(), owner)?
        };
        Ok(Found { ownership, tags, account })
    }

    async fn marker(&self, name: &str) -> Result<Option<String>, BackendError> {
        let request = Request::new(Method::GET, marker_of(name));
        let missing = ["NoSuchKey", "NoSuchBucket"];
        self.objects.find(&format!("read the owner marker of {name}"), request, &missing).await
    }

    async fn mark(&self, desired: &S3Desired, action: &str) -> Result<(), BackendError> {
        self.write_marker(&desired.name, desired.owner.marker().to_string(), action).await
    }

    /// Writes a marker. The first one of all finds no bucket for it.
    async fn write_marker(&self, name: &str, marker: String, action: &str) -> Result<(), BackendError> {
        let request = Request::new(Method::PUT, marker_of(name)).with(marker);
        if self.objects.find(action, request.clone(), &["NoSuchBucket"]).await?.is_some() {
            return Ok(());
        }
        self.create(OWNERS, action).await?;
        self.objects.send(action, request).await?;
        Ok(())
    }

    async fn remove_marker(&self, name: &str) -> Result<(), BackendError> {
        let action = format!("remove the owner marker of {name}");
        let request = Request::new(Method::DELETE, marker_of(name));
        self.objects.find(&action, request, &["NoSuchKey", "NoSuchBucket"]).await?;
        Ok(())
    }

    /// Creates a bucket of the operator's own account, or finds that it has it already.
    async fn create(&self, bucket: &str, action: &str) -> Result<(), BackendError> {
        let request = Request::new(Method::PUT, bucket);
        self.objects.find(action, request, &["BucketAlreadyOwnedByYou"]).await?;
        Ok(())
    }

    /// Returns the tags of a bucket, or nothing where there is no bucket.
    async fn tags(&self, bucket: &str) -> Result<Option<Vec<Tag>>, BackendError> {
        let action = format!("read bucket {bucket}");
        let request = Request::about(Method::GET, bucket, TAGGING);
        if let Some(text) =
            self.objects.find(&action, request.clone(), &["NoSuchTagSet", "NoSuchBucket"]).await?
        {
            let tagging: Tagging = read(&action, &text)?;
            return Ok(Some(tagging.set.tags));
        }
        let request =
            Request { query: vec![("list-type", "2".to_owned()), ("max-keys", "1".to_owned())], ..request };
        Ok(self.objects.find(&action, request, &["NoSuchBucket"]).await?.map(|_| Vec::new()))
    }

    async fn bucket(&self, desired: &S3Desired, tags: Vec<Tag>) -> Result<BucketObserved, BackendError> {
        let name = &desired.name;
        let action = format!("read bucket {name}");
        let (policy, cors) = try_join!(
            self.objects.find(&action, Request::about(Method::GET, name, POLICY), &["NoSuchBucketPolicy"]),
            self.objects.find(&action, Request::about(Method::GET, name, CORS), &["NoSuchCORSConfiguration"]),
        )?;
        let policy: Option<Value> = policy.and_then(|policy| serde_json::from_str(&policy).ok());
        let cors: Option<Cors> = cors.as_deref().and_then(document::read);
        Ok(BucketObserved {
            identity: tags.into_iter().find(|tag| tag.key == IDENTITY_TAG).map(|tag| tag.value),
            policy_matches: policy == Some(desired.policy()),
            origins_match: cors == desired.cors(),
        })
    }

    /// Sets one part of a bucket.
    async fn set(&self, desired: &S3Desired, part: &str, action: &str) -> Result<(), BackendError> {
        let name = desired.name.as_str();
        let put = |part: &'static str, body: String| Request::about(Method::PUT, name, part).with(body);
        let request = match part {
            IDENTITY => {
                let mut tags = self.tags(name).await?.unwrap_or_default();
                tags.retain(|tag| tag.key != IDENTITY_TAG);
                tags.push(Tag { key: IDENTITY_TAG.to_owned(), value: new_identity() });
                put(TAGGING, document::write(&Tagging { set: TagSet { tags } }))
            }
            POLICY => put(POLICY, desired.policy().to_string()),
            _ => match desired.cors() {
                Some(cors) => put(CORS, document::write(&cors)),
                None => Request::about(Method::DELETE, name, CORS),
            },
        };
        self.objects.send(action, request).await?;
        Ok(())
    }

    async fn account(&self, name: &str) -> Result<Option<Account>, BackendError> {
        let action = "list the accounts";
        let text = self.accounts.send(action, Request::new(Method::PATCH, "list-users")).await?;
        let Accounts { accounts } = read(action, &text)?;
        Ok(accounts.into_iter().find(|account| account.access == name))
    }

    async fn remove_account(&self, name: &str) -> Result<(), BackendError> {
        let action = format!("remove account {name}");
        self.accounts.find(&action, of_account("delete-user", name), &["XAdminUserNotFound"]).await?;
        Ok(())
    }

    /// Removes all objects of a bucket and returns how many there were. Its versions are never kept: its tenant cannot request it.
    async fn empty(&self, bucket: &str) -> Result<usize, BackendError> {
        let action = format!("remove the objects of bucket {bucket}");
        let mut count = 0;
        let mut last: Option<Object> = None;
        loop {
            let query = vec![("list-type", "2".to_owned()), ("max-keys", "1000".to_owned())];
            let request = Request { query, ..Request::new(Method::GET, bucket) };
            let Some(text) = self.objects.find(&action, request, &["NoSuchBucket"]).await? else {
                return Ok(count);
            };
            let Listing { objects } = read(&action, &text)?;
            let Some(first) = objects.first().cloned() else { return Ok(count) };
            if last.as_ref() == Some(&first) {
                return Err(refused(&action, "some of them cannot be removed"));
            }
            last = Some(first);
            count += objects.len();
            let removal = document::write(&Removal { is_quiet: true, objects });
            let request = Request::about(Method::POST, bucket, "delete").with(removal);
            let text = self.objects.send(&action, request).await?;
            let Removed { errors } = document::read(&text).unwrap_or_default();
            if let Some(problem) = errors.first() {
                return Err(refused(&action, &format!("{}: {}", problem.code, problem.message)));
            }
        }
    }
}

/// Returns where a cell has S3.
fn of(cell: &Cell) -> &CellS3 {
    cell.spec.s3.as_ref().expect("a backend is called where the cell has it")
}

/// Returns the path of the marker of a bucket and its account.
fn marker_of(name: &str) -> String {
    format!("{OWNERS}/{name}")
}

/// Returns a request about an account.
fn of_account(path: &str, account: &str) -> Request {
    Request { query: vec![("access", account.to_owned())], ..Request::new(Method::PATCH, path) }
}

/// Returns the document of an account as it should be.
fn setting(access: Option<&str>, desired: &S3Desired) -> String {
    let secret = desired.secret_key.expose_secret();
    document::write(&AccountSetting { access, secret, role: ROLE })
}

fn is_same(found: &SecretString, desired: &SecretString) -> bool {
    found.expose_secret().as_bytes().ct_eq(desired.expose_secret().as_bytes()).into()
}

/// Reads a document of a response. Its text is no part of an error: it may hold secrets.
fn read<T: serde::de::DeserializeOwned>(action: &str, text: &str) -> Result<T, BackendError> {
    document::read(text).ok_or_else(|| refused(action, "the response is not understood"))
}

fn refused(action: &str, detail: &str) -> BackendError {
    BackendError::refused(S3Admin::ENTRY, action, detail, false)
}
