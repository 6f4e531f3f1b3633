//! Pure: whether the records of one schema can be read by readers of another one, in both directions.
//!
//! For the time of an update services of two releases run side by side, and the log has records of releases before. So a reader of
//! before must read what is written now, and a reader of now what was written before. What readers do, they do as serde derives it:
//! a field that they do not know is ignored, one that is missing and not required has its default, and a word or form that they do
//! not know makes the record unreadable.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// The keyword with the words of a text that is one of a list. It binds no validator: a reader outside of this repository has to
/// take words that it does not know.
pub const WORDS: &str = "x-words";

/// What describes, and decides nothing.
const ANNOTATIONS: [&str; 6] = ["$schema", "title", "description", "default", "example", "examples"];
/// What is compared by a rule of its own.
const COMPARED: [&str; 7] = ["type", "properties", "required", "items", "oneOf", "anyOf", WORDS];

/// One change that some reader cannot follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is in a record: `/outcome/stored/mentions/*`.
    pub path: String,
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value is of another type.
    Type {
        from: String,
        to: String,
    },
    /// Another rule about a value differs.
    Rule(String),
    FieldRemoved,
    /// A field is required that records of before may lack.
    FieldRequired,
    /// A field may be missing that readers of before require.
    FieldOptional,
    WordAdded(String),
    WordRemoved(String),
    FormAdded(String),
    FormRemoved(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.path.is_empty() { "/" } else { &self.path }, self.change)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { from, to } => {
                write!(f, "{from} became {to}; add a field of another name beside it, with a default")
            }
            Self::Rule(name) => write!(
                f,
                "`{name}` of the value changed; leave it, or add a field of another name beside it, with a default"
            ),
            Self::FieldRemoved => f.write_str(
                "the field is gone, and records with it stay in the log; keep it, and write nothing into it",
            ),
            Self::FieldRequired => f.write_str(
                "the field is required, and records of before lack it; give it `#[serde(default)]`",
            ),
            Self::FieldOptional => {
                f.write_str("the field may be missing, and readers of before require it; go on writing it")
            }
            Self::WordAdded(word) => write!(
                f,
                "readers of before refuse a record with the word {word}; let every service read it one release before any writes \
                 it, and name it in ACCEPTED of xtask/src/schemas.rs with the reason"
            ),
            Self::WordRemoved(word) => {
                write!(f, "records with the word {word} stay in the log; go on reading it")
            }
            Self::FormAdded(form) => write!(
                f,
                "readers of before, and the schema registry, refuse a record of the form {form}; add an optional field to a form \
                 that there is, or a topic"
            ),
            Self::FormRemoved(form) => {
                write!(f, "records of the form {form} stay in the log; go on reading it")
            }
        }
    }
}

/// Returns what keeps readers of `old` from records of `new`, or readers of `new` from records of `old`.
pub fn problems(old: &Value, new: &Value) -> Vec<Problem> {
    let mut found = Vec::new();
    compare(old, new, "", &mut found);
    found
}

fn compare(old: &Value, new: &Value, path: &str, found: &mut Vec<Problem>) {
    let mut report = |change| found.push(Problem { path: path.to_owned(), change });
    let (old, new) = (Shape::of(old), Shape::of(new));
    if old.kind() != new.kind() {
        report(Change::Type { from: old.kind(), to: new.kind() });
        return;
    }
    let (before, after) = (old.forms(), new.forms());
    for form in before.keys().filter(|form| !after.contains_key(*form)) {
        report(Change::FormRemoved(form.clone()));
    }
    for form in after.keys().filter(|form| !before.contains_key(*form)) {
        report(Change::FormAdded(form.clone()));
    }
    let (words, new_words) = (old.texts(WORDS), new.texts(WORDS));
    for word in words.iter().filter(|word| !new_words.contains(word)) {
        report(Change::WordRemoved((*word).to_owned()));
    }
    for word in new_words.iter().filter(|word| !words.contains(word)) {
        report(Change::WordAdded((*word).to_owned()));
    }
    for rule in old.rules_that_differ(&new) {
        report(Change::Rule(rule));
    }
    for (form, part) in &before {
        if let Some(now) = after.get(form) {
            // A form that has one field is named like it.
            let is_of_field = part.get("properties").is_some_and(|fields| fields.get(form).is_some());
            let path = if is_of_field { path.to_owned() } else { format!("{path}/{form}") };
            compare(part, now, &path, found);
        }
    }
    compare_fields(&old, &new, path, found);
    if let (Some(part), Some(now)) = (old.schema.get("items"), new.schema.get("items")) {
        compare(part, now, &format!("{path}/*"), found);
    }
}

fn compare_fields(old: &Shape<'_>, new: &Shape<'_>, path: &str, found: &mut Vec<Problem>) {
    let (before, after) = (old.fields(), new.fields());
    let (required, now_required) = (old.texts("required"), new.texts("required"));
    for (name, part) in &before {
        let path = format!("{path}/{name}");
        let Some(now) = after.get(name) else {
            found.push(Problem { path, change: Change::FieldRemoved });
            continue;
        };
        let change = match (required.contains(name), now_required.contains(name)) {
            (false, true) => Some(Change::FieldRequired),
            (true, false) => Some(Change::FieldOptional),
            (true, true) | (false, false) => None,
        };
        found.extend(change.map(|change| Problem { path: path.clone(), change }));
        compare(part, now, &path, found);
    }
    let added = after.keys().filter(|name| !before.contains_key(*name) && now_required.contains(name));
    found.extend(added.map(|name| Problem { path: format!("{path}/{name}"), change: Change::FieldRequired }));
}

/// A schema, and whether it takes `null` beside what it describes.
struct Shape<'a> {
    schema: &'a Value,
    is_nullable: bool,
}

impl<'a> Shape<'a> {
    /// An optional part is described as one of two forms, of which `null` is the other.
    fn of(schema: &'a Value) -> Self {
        let forms = schema.get("oneOf").and_then(Value::as_array);
        let parts: Vec<_> = forms.into_iter().flatten().filter(|form| !is_null(form)).collect();
        match (forms.map(Vec::len), parts.as_slice()) {
            (Some(2), [part]) => Self { schema: *part, is_nullable: true },
            _ => {
                let types = schema.get("type").and_then(Value::as_array);
                let is_nullable = types.is_some_and(|types| types.iter().any(|name| name == "null"));
                Self { schema, is_nullable }
            }
        }
    }

    /// Returns the type of the value, for comparison and for errors.
    fn kind(&self) -> String {
        let mut kind = match self.schema.get("type") {
            Some(Value::Array(types)) => {
                let types = types.iter().filter_map(Value::as_str).filter(|name| *name != "null");
                types.collect::<Vec<_>>().join(" or ")
            }
            Some(name) => name.as_str().unwrap_or_default().to_owned(),
            None if self.forms().is_empty() => "anything".to_owned(),
            None => "one of several forms".to_owned(),
        };
        if let Some(format) = self.schema.get("format").and_then(Value::as_str) {
            kind = format!("{kind} ({format})");
        }
        if self.is_nullable { format!("{kind} or null") } else { kind }
    }

    /// Returns the forms of which a value has one, by name.
    fn forms(&self) -> BTreeMap<String, &'a Value> {
        let forms = ["oneOf", "anyOf"].into_iter().filter_map(|keyword| self.schema.get(keyword)?.as_array());
        forms.flatten().map(|form| (name_of(form), form)).collect()
    }

    fn fields(&self) -> BTreeMap<&'a str, &'a Value> {
        let fields = self.schema.get("properties").and_then(Value::as_object);
        fields.into_iter().flatten().map(|(name, part)| (name.as_str(), part)).collect()
    }

    /// Returns a list of texts.
    fn texts(&self, keyword: &str) -> Vec<&'a str> {
        let list = self.schema.get(keyword).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns the names of the other keywords whose values differ.
    fn rules_that_differ(&self, other: &Self) -> Vec<String> {
        let names = [self, other].into_iter().filter_map(|shape| shape.schema.as_object());
        let mut names: Vec<_> = names
            .flat_map(|fields| fields.keys())
            .filter(|name| !ANNOTATIONS.contains(&name.as_str()) && !COMPARED.contains(&name.as_str()))
            .filter(|name| self.schema.get(*name) != other.schema.get(*name))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|name| name == "null")
}

/// Returns what a form is called: its title, the one field that it has, or its type.
fn name_of(form: &Value) -> String {
    let title = form.get("title").and_then(Value::as_str);
    let fields = form.get("properties").and_then(Value::as_object);
    let field = fields.filter(|fields| fields.len() == 1).and_then(|fields| fields.keys().next());
    let kind = form.get("type").and_then(Value::as_str);
    title.or(field.map(String::as_str)).or(kind).unwrap_or("unnamed").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A record with one field of each sort.
    fn record() -> Value {
        json!({
            "title": "Record", "type": "object",
            "properties": {
                "v": {"type": "integer", "format": "int32", "minimum": 0},
                "body": {"type": "string", "description": "A text."},
                "kind": {"type": "string", "x-words": ["text", "edit"]},
                "seq": {"type": ["integer", "null"], "format": "int64"},
                "range": {"oneOf": [
                    {"type": "object", "properties": {"from": {"type": "integer"}}, "required": ["from"]},
                    {"type": "null"},
                ]},
                "files": {"type": "array", "items": {
                    "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"],
                }},
                "outcome": {"oneOf": [
                    {"type": "object", "properties": {"stored": {
                        "type": "object", "properties": {"seq": {"type": "integer"}}, "required": ["seq"],
                    }}, "required": ["stored"]},
                    {"type": "string", "x-words": ["lost"]},
                ]},
            },
            "required": ["v", "body", "kind"],
        })
    }

    #[track_caller]
    fn check(edit: impl FnOnce(&mut Value), expected: &[(&str, Change)]) {
        let (old, mut new) = (record(), record());
        edit(&mut new);
        let expected: Vec<_> = expected
            .iter()
            .map(|(path, change)| Problem { path: (*path).to_owned(), change: change.clone() })
            .collect();
        assert_eq!(problems(&old, &new), expected);
    }

    fn remove(value: &mut Value, name: &str) {
        value.as_object_mut().expect("an object").remove(name).expect("it is there");
    }

    #[test]
    fn what_describes_may_change() {
        check(|_| {}, &[]);
        check(|new| new["description"] = "What it is for.".into(), &[]);
        check(|new| new["properties"]["body"]["description"] = "The text.".into(), &[]);
    }

    #[test]
    fn a_field_may_come_that_is_not_required() {
        let text = || json!({"type": "string"});
        check(|new| new["properties"]["poll"] = text(), &[]);
        check(|new| new["properties"]["files"]["items"]["properties"]["alt"] = text(), &[]);
        check(|new| new["properties"]["range"]["oneOf"][0]["properties"]["by"] = text(), &[]);
        let stored = |new: &mut Value| {
            new["properties"]["outcome"]["oneOf"][0]["properties"]["stored"]["properties"]["poll"] = text();
        };
        check(stored, &[]);
    }

    #[test]
    fn no_field_may_go_or_become_required_or_optional() {
        check(|new| remove(&mut new["properties"], "seq"), &[("/seq", Change::FieldRemoved)]);
        check(
            |new| remove(&mut new["properties"]["files"]["items"]["properties"], "name"),
            &[("/files/*/name", Change::FieldRemoved)],
        );
        let required = |names: Value| move |new: &mut Value| new["required"] = names;
        check(required(json!(["v", "body", "kind", "seq"])), &[("/seq", Change::FieldRequired)]);
        check(required(json!(["v", "kind"])), &[("/body", Change::FieldOptional)]);
        check(
            |new| {
                new["properties"]["poll"] = json!({"type": "string"});
                new["required"] = json!(["v", "body", "kind", "poll"]);
            },
            &[("/poll", Change::FieldRequired)],
        );
        let of_form = |new: &mut Value| {
            new["properties"]["outcome"]["oneOf"][0]["properties"]["stored"]["required"] = json!([]);
        };
        check(of_form, &[("/outcome/stored/seq", Change::FieldOptional)]);
    }

    #[test]
    fn no_value_may_become_another_one() {
        let type_ = |from: &str, to: &str| Change::Type { from: from.to_owned(), to: to.to_owned() };
        check(
            |new| new["properties"]["body"]["type"] = "integer".into(),
            &[("/body", type_("string", "integer"))],
        );
        check(
            |new| new["properties"]["v"]["format"] = "int64".into(),
            &[("/v", type_("integer (int32)", "integer (int64)"))],
        );
        check(
            |new| new["properties"]["seq"]["type"] = "integer".into(),
            &[("/seq", type_("integer (int64) or null", "integer (int64)"))],
        );
        check(
            |new| new["properties"]["files"]["items"] = json!({"type": "string"}),
            &[("/files/*", type_("object", "string"))],
        );
        check(
            |new| remove(&mut new["properties"]["v"], "minimum"),
            &[("/v", Change::Rule("minimum".to_owned()))],
        );
        check(
            |new| new["properties"]["body"]["maxLength"] = 10.into(),
            &[("/body", Change::Rule("maxLength".to_owned()))],
        );
    }

    #[test]
    fn words_and_forms_stay_as_they_are() {
        check(
            |new| new["properties"]["kind"]["x-words"] = json!(["text", "edit", "poll"]),
            &[("/kind", Change::WordAdded("poll".to_owned()))],
        );
        check(
            |new| new["properties"]["kind"]["x-words"] = json!(["text"]),
            &[("/kind", Change::WordRemoved("edit".to_owned()))],
        );
        let form =
            json!({"type": "object", "properties": {"moved": {"type": "object"}}, "required": ["moved"]});
        check(
            |new| new["properties"]["outcome"]["oneOf"].as_array_mut().expect("forms").push(form),
            &[("/outcome", Change::FormAdded("moved".to_owned()))],
        );
        check(
            |new| drop(new["properties"]["outcome"]["oneOf"].as_array_mut().expect("forms").pop()),
            &[("/outcome", Change::FormRemoved("string".to_owned()))],
        );
        check(
            |new| new["properties"]["outcome"]["oneOf"][1]["x-words"] = json!(["lost", "late"]),
            &[("/outcome/string", Change::WordAdded("late".to_owned()))],
        );
    }

    #[test]
    fn several_records_of_a_topic_are_compared_each_with_itself() {
        let other = json!({"title": "Other", "type": "object", "properties": {"own": {"type": "boolean"}}});
        let old = json!({"anyOf": [record(), other]});
        let mut new = json!({"anyOf": [old["anyOf"][1], old["anyOf"][0]]});
        assert_eq!(problems(&old, &new), []);
        new["anyOf"][0]["properties"]["own"]["type"] = "string".into();
        let [problem] = problems(&old, &new).try_into().expect("one problem");
        assert_eq!(problem.path, "/Other/own");
    }

    #[test]
    fn a_problem_names_the_place_and_the_next_step() {
        let problem = Problem { path: "/kind".to_owned(), change: Change::WordAdded("poll".to_owned()) };
        let text = problem.to_string();
        assert!(
            text.starts_with("/kind: readers of before refuse a record with the word poll; let every"),
            "{text}"
        );
        let whole = Problem { path: String::new(), change: Change::FieldRemoved };
        assert!(whole.to_string().starts_with("/: the field is gone"), "{whole}");
    }
}
