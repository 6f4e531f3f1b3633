//! Pure: the XML documents of the S3 API and of the accounts API, as far as they are used.

use secrecy::SecretString;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Rules for browsers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "CORSConfiguration")]
pub(super) struct Cors {
    #[serde(rename = "CORSRule", default)]
    pub rules: Vec<CorsRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CorsRule {
    #[serde(rename = "AllowedOrigin", default)]
    pub origins: Vec<String>,
    #[serde(rename = "AllowedMethod", default)]
    pub methods: Vec<String>,
    #[serde(rename = "AllowedHeader", default)]
    pub headers: Vec<String>,
    #[serde(rename = "ExposeHeader", default)]
    pub exposed: Vec<String>,
    #[serde(rename = "MaxAgeSeconds", default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

/// Tags of a bucket.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tagging {
    #[serde(rename = "TagSet", default)]
    pub set: TagSet,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagSet {
    #[serde(rename = "Tag", default)]
    pub tags: Vec<Tag>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

/// Some of the objects in a bucket.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "Contents", default)]
    pub objects: Vec<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Object {
    pub key: String,
}

/// Objects to remove.
#[derive(Debug, Serialize)]
#[serde(rename = "Delete")]
pub(super) struct Removal {
    #[serde(rename = "Quiet")]
    pub is_quiet: bool,
    #[serde(rename = "Object")]
    pub objects: Vec<Object>,
}

/// What of a [`Removal`] was not done.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Removed {
    #[serde(rename = "Error", default)]
    pub errors: Vec<Problem>,
}

/// Why a request was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Problem {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

/// All accounts.
#[derive(Default, Deserialize)]
pub(super) struct Accounts {
    #[serde(rename = "Accounts", default)]
    pub accounts: Vec<Account>,
}

/// One account as it is.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Account {
    pub access: String,
    pub secret: SecretString,
    #[serde(default)]
    pub role: String,
}

/// An account as it should be. When one is changed, `access` stands beside the document.
#[derive(Serialize)]
#[serde(rename = "Account", rename_all = "PascalCase")]
pub(super) struct AccountSetting<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<&'a str>,
    pub secret: &'a str,
    pub role: &'a str,
}

/// Returns a document as text.
pub(super) fn write(document: &impl Serialize) -> String {
    quick_xml::se::to_string(document).expect("a document of texts, numbers and lists can be written")
}

/// Reads a document. Nothing when it is another one.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    quick_xml::de::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let rule = |origins: &[&str]| CorsRule {
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            methods: vec!["GET".to_owned(), "PUT".to_owned()],
            headers: vec!["*".to_owned()],
            exposed: vec!["ETag".to_owned()],
            max_age_seconds: Some(60),
        };
        let cors = Cors { rules: vec![rule(&["http://a", "http://b"]), rule(&["http://c"])] };
        let text = write(&cors);
        assert!(
            text.starts_with("<CORSConfiguration><CORSRule><AllowedOrigin>http://a</AllowedOrigin>"),
            "{text}"
        );
        assert_eq!(read(&text), Some(cors));
        let tag = |key: &str, value: &str| Tag { key: key.to_owned(), value: value.to_owned() };
        let tagging = Tagging { set: TagSet { tags: vec![tag("a", "<&>"), tag("b", "")] } };
        assert_eq!(read(&write(&tagging)), Some(tagging));
    }

    #[test]
    fn the_documents_of_a_server_are_understood() {
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let problem: Problem = read(&format!(
            "{head}<Error><Code>NoSuchBucket</Code><Message>It is gone.</Message><BucketName>b</BucketName></Error>"
        ))
        .expect("a problem");
        assert_eq!((problem.code.as_str(), problem.message.as_str()), ("NoSuchBucket", "It is gone."));
        let listing: Listing = read(&format!(
            r#"{head}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><IsTruncated>false</IsTruncated>
            <Contents><Key>a&amp;b</Key><Size>1</Size></Contents><Contents><Key>c</Key></Contents></ListBucketResult>"#
        ))
        .expect("a listing");
        let keys: Vec<_> = listing.objects.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys, ["a&b", "c"]);
        let none: Listing =
            read(&format!("{head}<ListBucketResult><Name>b</Name></ListBucketResult>")).expect("empty");
        assert!(none.objects.is_empty());
        let none: Tagging = read("<Tagging><TagSet></TagSet></Tagging>").expect("empty");
        assert_eq!(none, Tagging::default());
        let accounts: Accounts = read(&format!(
            "{head}<ListUserAccountsResult><Accounts><Access>a</Access><Secret>x</Secret><Role>user</Role><UserID>0</UserID>\
             </Accounts><Accounts><Access>b</Access><Secret>y</Secret><Role>admin</Role></Accounts></ListUserAccountsResult>"
        ))
        .expect("accounts");
        let [a, b] = &accounts.accounts[..] else { panic!("two accounts") };
        assert_eq!((a.access.as_str(), a.secret.expose_secret(), a.role.as_str()), ("a", "x", "user"));
        assert_eq!((b.access.as_str(), b.role.as_str()), ("b", "admin"));
    }

    #[test]
    fn an_account_is_named_when_it_is_made() {
        let mut setting = AccountSetting { access: Some("mt-acme"), secret: "a<b", role: "user" };
        let made = "<Account><Access>mt-acme</Access><Secret>a&lt;b</Secret><Role>user</Role></Account>";
        assert_eq!(write(&setting), made);
        setting.access = None;
        assert_eq!(write(&setting), "<Account><Secret>a&lt;b</Secret><Role>user</Role></Account>");
    }
}
