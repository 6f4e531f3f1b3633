//! The JSON Schemas of the records in the event log: the operator registers them where a cell has a schema registry.
//!
//! `<topic>.json` is the schema of this build, and follows from the types of `contracts`. `<topic>.1.json`, `<topic>.2.json` and so on
//! are those of releases. They stay as they are: records of each may be in a log, and readers of each may run.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use catalog::Topic;
use contracts::event::{
    DeliveredRecord, MembershipRecord, OwnStateRecord, PresenceChangeRecord, SendRecord, SessionEndRecord,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    compatibility::{Change, Problem, WORDS, problems},
    derived::Derived,
    read,
};

const FOLDER: &str = "services/catalog/schemas";
/// The digests of all that was published, as `sha256sum` writes them: readers of a release go by its schemas, whatever becomes of the files.
const DIGESTS: &str = "services/catalog/schemas/published.sha256";
/// The draft that schema registries read. They tell by it that a text is a JSON Schema.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// Words that were added: topic, path, word, and why readers of the release before take it.
const ACCEPTED: [(Topic, &str, &str, &str); 0] = [];

/// Returns the schema of each topic. Fails when one of them does not go together with a published one, or a published one is not what it was.
pub fn files(repository: &Path) -> Result<Vec<Derived>> {
    check_kept(repository, &digests(repository)?)?;
    let file = |topic: &Topic| {
        let schema = schema(*topic);
        check(*topic, &schema, &published(repository, *topic)?)?;
        Ok(Derived::new(path(*topic), text(&schema)))
    };
    Topic::ALL.iter().map(file).collect()
}

/// Returns the schemas that are to be kept with a release: those of this build that differ from what was published last. The digests of all are
/// the last file, if there are any.
pub fn publications(repository: &Path) -> Result<Vec<Derived>> {
    let (mut new, mut digests) = (Vec::new(), digests(repository)?);
    check_kept(repository, &digests)?;
    for topic in Topic::ALL {
        let (schema, published) = (schema(*topic), published(repository, *topic)?);
        check(*topic, &schema, &published)?;
        if published.last() != Some(&schema) {
            let (path, text) = (published_path(*topic, published.len() + 1), text(&schema));
            digests.insert(path.clone(), digest(&text));
            new.push(Derived::new(path, text));
        }
    }
    if !new.is_empty() {
        let lines = digests.iter().map(|(path, digest)| format!("{digest}  {path}\n"));
        new.push(Derived::new(DIGESTS, lines.collect()));
    }
    Ok(new)
}

/// Returns the schema of the payloads of a topic.
fn schema(topic: Topic) -> Value {
    let mut schema = match topic {
        Topic::MessageSend => record::<SendRecord>(),
        Topic::MessageDelivered => record::<DeliveredRecord>(),
        // The key of a record says which of them it is. A restriction is, by its payload, a membership that says nothing but whose it is.
        Topic::ChatEvents => json!({"anyOf": [record::<MembershipRecord>(), record::<OwnStateRecord>()]}),
        Topic::SessionEvents => record::<SessionEndRecord>(),
        Topic::PresenceChanges => record::<PresenceChangeRecord>(),
    };
    schema["$schema"] = DRAFT.into();
    schema
}

/// Returns the schema of one type, without references.
fn record<T: ToSchema>() -> Value {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let parts = parts.into_iter().map(|(name, part)| (name, plain(&part))).collect();
    let mut schema = inlined(plain(&T::schema()), &parts);
    schema["title"] = T::name().into_owned().into();
    schema
}

fn plain(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).expect("a schema is plain data")
}

/// Puts in place of each reference what it names, and in place of a list that ends one that goes on: a registry would take no schema
/// with a word more, whatever readers do.
fn inlined(schema: Value, parts: &BTreeMap<String, Value>) -> Value {
    match schema {
        Value::Object(mut fields) => {
            if let Some(Value::String(reference)) = fields.remove("$ref") {
                let name = reference.rsplit('/').next().unwrap_or_default();
                let part = parts.get(name).unwrap_or_else(|| panic!("the type {name} has no schema"));
                let mut part = inlined(part.clone(), parts);
                // What stands beside a reference is about this place.
                for (keyword, value) in fields {
                    part[keyword] = value;
                }
                return part;
            }
            if let Some(words) = fields.remove("enum") {
                fields.insert(WORDS.to_owned(), words);
            }
            let fields = fields.into_iter().map(|(name, value)| (name, inlined(value, parts)));
            Value::Object(fields.collect())
        }
        Value::Array(values) => values.into_iter().map(|value| inlined(value, parts)).collect(),
        other => other,
    }
}

/// Checks a schema against all that were published.
fn check(topic: Topic, schema: &Value, published: &[Value]) -> Result<()> {
    for (index, older) in published.iter().enumerate() {
        let found = problems(older, schema).into_iter().filter(|problem| !is_accepted(topic, problem));
        let lines: String = found.map(|problem| format!("\n  {problem}")).collect();
        ensure!(
            lines.is_empty(),
            "the records of {topic} do not go together with those of {}, which is published:{lines}",
            published_path(topic, index + 1)
        );
    }
    Ok(())
}

fn is_accepted(topic: Topic, problem: &Problem) -> bool {
    let is_it = |(of, path, word, _): &(Topic, &str, &str, &str)| {
        *of == topic && *path == problem.path && problem.change == Change::WordAdded((*word).to_owned())
    };
    ACCEPTED.iter().any(is_it)
}

/// Returns the published schemas of a topic, the oldest first.
fn published(repository: &Path, topic: Topic) -> Result<Vec<Value>> {
    let schema = |path: String| {
        let text = read(repository, &path)?;
        serde_json::from_str(&text).with_context(|| format!("{path} is not JSON"))
    };
    published_paths(repository, topic).map(schema).collect()
}

fn published_paths(repository: &Path, topic: Topic) -> impl Iterator<Item = String> {
    let paths = (1..).map(move |number| published_path(topic, number));
    paths.take_while(move |path| repository.join(path).exists())
}

/// Checks that each published schema is what it was when it was published, and that none came without its digest.
fn check_kept(repository: &Path, digests: &BTreeMap<String, String>) -> Result<()> {
    for (path, expected) in digests {
        let text = read(repository, path).with_context(|| format!("{path} is published; restore it"))?;
        ensure!(digest(&text) == *expected, "{path} is published, and is not what it was; restore it");
    }
    for path in Topic::ALL.iter().flat_map(|topic| published_paths(repository, *topic)) {
        ensure!(
            digests.contains_key(&path),
            "{DIGESTS} has no {path}; remove the file, and publish with `cargo xtask publish`, which writes both"
        );
    }
    Ok(())
}

/// Returns the digests of what was published, by path.
fn digests(repository: &Path) -> Result<BTreeMap<String, String>> {
    let text = read(repository, DIGESTS)?;
    let line = |line: &str| {
        let (digest, path) =
            line.split_once("  ").with_context(|| format!("{DIGESTS} has the line `{line}`"))?;
        Ok((path.to_owned(), digest.to_owned()))
    };
    text.lines().map(line).collect()
}

fn digest(text: &str) -> String {
    format!("{:x}", Sha256::digest(text))
}

fn path(topic: Topic) -> String {
    format!("{FOLDER}/{topic}.json")
}

fn published_path(topic: Topic, number: usize) -> String {
    format!("{FOLDER}/{topic}.{number}.json")
}

fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::repository;

    #[test]
    fn records_go_together_with_those_of_every_release() {
        files(repository()).expect("they do");
    }

    /// Also with each other: a log may have records of several releases.
    #[test]
    fn published_schemas_go_together() {
        for topic in Topic::ALL {
            let published = published(repository(), *topic).expect("schemas");
            for (index, schema) in published.iter().enumerate() {
                check(*topic, schema, &published[..index]).expect("they do");
            }
        }
    }

    #[test]
    fn no_published_schema_is_without_the_one_before_it_or_without_a_topic() {
        let expected = Topic::ALL.iter().flat_map(|topic| {
            let published = published(repository(), *topic).expect("schemas").len();
            let published = (1..=published).map(|number| published_path(*topic, number));
            published.chain([path(*topic)]).collect::<Vec<_>>()
        });
        let expected: BTreeSet<_> = expected.chain([DIGESTS.to_owned()]).collect();
        let entries = fs::read_dir(repository().join(FOLDER)).expect("the schemas");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let found: BTreeSet<_> = names.map(|name| format!("{FOLDER}/{name}")).collect();
        assert_eq!(expected, found, "a number is left out, or a topic is gone and its schemas are not");
    }

    #[test]
    fn what_is_published_stays_as_it_is() {
        let kept = digests(repository()).expect("digests");
        check_kept(repository(), &kept).expect("it is what it was");
        let path = || published_path(Topic::MessageSend, 1);
        let refused = |edit: fn(&mut BTreeMap<String, String>, String)| {
            let mut digests = kept.clone();
            edit(&mut digests, path());
            check_kept(repository(), &digests).expect_err("it is refused").to_string()
        };
        let changed = refused(|digests, path| drop(digests.insert(path, digest("another text"))));
        assert_eq!(changed, format!("{} is published, and is not what it was; restore it", path()));
        let gone = refused(|digests, path| {
            digests.insert(path.replace(".1.", ".999."), digest("the text"));
        });
        assert_eq!(gone, format!("{FOLDER}/message.send.999.json is published; restore it"));
        let unlisted = refused(|digests, path| drop(digests.remove(&path)));
        assert!(unlisted.starts_with(&format!("{DIGESTS} has no {}; remove the file", path())), "{unlisted}");
    }

    #[test]
    fn a_schema_stands_alone_and_ends_no_list() {
        for topic in Topic::ALL {
            let text = text(&schema(*topic));
            for keyword in ["\"$ref\"", "\"enum\""] {
                assert!(!text.contains(keyword), "{topic}: {keyword}");
            }
            assert!(text.contains(DRAFT), "{topic}");
        }
    }

    /// Those of `contracts` are what was written by every version of a record.
    #[test]
    fn records_as_they_are_written_match_their_schemas() {
        let of = |topic, names: &[&'static str]| names.iter().map(|name| (topic, *name)).collect::<Vec<_>>();
        let golden = [
            of(Topic::MessageSend, &["send", "reply", "called", "files"]),
            of(Topic::MessageDelivered, &["delivered", "delivered_files", "marked"]),
            of(Topic::ChatEvents, &["membership", "no_membership", "own_state", "restriction"]),
            of(Topic::SessionEvents, &["session_end", "account_end"]),
            of(Topic::PresenceChanges, &["presence_change"]),
        ]
        .concat();
        let folder = repository().join("services/contracts/golden");
        let files = fs::read_dir(&folder).expect("the golden files").count();
        assert_eq!(files, golden.len(), "each file is a record of a topic");
        for (topic, name) in golden {
            let text = fs::read_to_string(folder.join(format!("{name}.v1.json"))).expect("a record");
            let record: Value = serde_json::from_str(&text).expect("JSON");
            let validator = jsonschema::validator_for(&schema(topic)).expect("a schema");
            let wrong: Vec<_> = validator.iter_errors(&record).map(|error| error.to_string()).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
            let mut other = record;
            other["v"] = "one".into();
            assert!(!validator.is_valid(&other), "{name} is not looked at");
        }
    }

    #[test]
    fn a_change_is_refused_with_the_topic_the_release_the_place_and_the_next_step() {
        let (old, mut new) = (schema(Topic::SessionEvents), schema(Topic::SessionEvents));
        new["properties"]["user"]["type"] = "integer".into();
        let refused = check(Topic::SessionEvents, &new, &[old.clone(), old]).expect_err("it is refused");
        let text = refused.to_string();
        assert!(
            text.starts_with(
                "the records of session.events do not go together with those of \
                 services/catalog/schemas/session.events.1.json, which is published:\n  /user: string (uuid) became integer (uuid); add"
            ),
            "{text}"
        );
    }
}
