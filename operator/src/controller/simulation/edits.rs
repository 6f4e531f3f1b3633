//! Whatever a team edits, and in whichever order: it converges or is refused, and what is set back is as it was.
//!
//! An edit is drawn from the schema of the CRD: yes or no, one of the choices, numbers around the bounds that rules name, and what examples have in a field like it. The
//! rules of the CRD decide what is let through, and the operator what of that it carries out.
//!
//! A walk of edits begins with the example that sets every field, and ends there. What an edit switches off is kept, so one that switched on what was not there before
//! could not be undone.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use crds::Reason;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Map, Value};

use super::{
    ROUNDS, Run, TENANTS, World,
    api_server::{ApiServer, Key, key},
    difference, is_thorough, play, ready_now,
    schema::{Known, TenantSchema},
    state, state_beside,
};
use crate::locks::lock;

/// Edits in `make test`.
const EDITS: usize = 40;
/// Edits in `make fuzz`.
const MANY_EDITS: usize = 500;
/// Edits between the example and the way back to it.
const WALK: usize = 4;
/// Seed of the first walk, unless `EDITS_SEED` names another one. Each walk adds 1, so the one that failed can be made first.
const SEED: u64 = 20_261_201;

/// Why a tenant may be at rest: it is Ready, or the next step is its team's.
const AT_REST: &[Reason] = &[
    Reason::AllReady,
    Reason::BackendMissing,
    Reason::HostNotAllowed,
    Reason::InvalidSpec,
    Reason::LimitExceeded,
    Reason::Paused,
    Reason::ProviderNotAllowed,
    Reason::ProviderSecretInvalid,
    Reason::SecretInvalid,
    Reason::Suspended,
];
/// Refusals of a pass that leave what runs as it is.
const REFUSALS: &[Reason] = &[Reason::BackendMissing, Reason::InvalidSpec, Reason::LimitExceeded];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/tenants")
}

/// Returns the objects of an example.
fn objects(path: &Path) -> Vec<Value> {
    let yaml = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    yaml.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("YAML")).collect()
}

fn hooli() -> Key {
    key(TENANTS, "hooli", "hooli-chat")
}

fn tenant(run: &Run) -> Value {
    lock(&run.server).get(&hooli()).expect("it is there").clone()
}

/// Returns why the tenant is Ready or not, once all is said about what it declares now.
fn rests_because(server: &ApiServer) -> Option<Reason> {
    let ready = ready_now(server.get(&hooli())?)?;
    let is_told = ready["message"].as_str().is_some_and(|message| !message.is_empty());
    AT_REST.iter().copied().find(|reason| ready["reason"] == reason.as_str()).filter(|_| is_told)
}

/// Goes on until nothing is written any more. Returns why the tenant is Ready or not then.
async fn settle(run: &mut Run) -> Result<Reason, String> {
    let ended = run.until_quiet(ROUNDS, |server| rests_because(server).is_some()).await;
    // Of a tenant this large the state is too long to be read.
    ended.map_err(|_| format!("it does not come to rest: {:#}", tenant(run)["status"]))?;
    run.stays_quiet().await?;
    Ok(rests_because(&lock(&run.server)).expect("it was at rest"))
}

/// Returns what an example creates beside its namespace: Secrets, and the tenant.
pub(super) fn example(file: &str) -> Vec<(Key, Value)> {
    let mut created = Vec::new();
    for mut object in objects(&examples().join(file)) {
        let kind = match object["kind"].as_str() {
            Some("Secret") => "secrets",
            Some("MessengerTenant") => TENANTS,
            _ => continue,
        };
        let fields = object.as_object_mut().expect("an object");
        if let Some(Value::Object(texts)) = fields.remove("stringData") {
            let encoded = |text: Value| Value::from(BASE64_STANDARD.encode(text.as_str().expect("a text")));
            let data = texts.into_iter().map(|(name, text)| (name, encoded(text)));
            fields.insert("data".to_owned(), Value::Object(data.collect()));
        }
        let part = |field: &str| object["metadata"][field].as_str().expect("it has one").to_owned();
        let key = (kind.to_owned(), part("namespace"), part("name"));
        created.push((key, object));
    }
    created
}

/// Returns a world with the tenant of the example that sets every field, which is Ready.
async fn base() -> World {
    let mut world = World::with_cell();
    for (key, object) in example("full.yaml") {
        world.server.create(key, &object);
    }
    let mut run = Run::start(&world, None);
    let reason = settle(&mut run).await.unwrap_or_else(|problem| panic!("{problem}"));
    assert_eq!(reason, Reason::AllReady, "{:#}", tenant(&run)["status"]);
    run.world()
}

/// What is drawn from, and what decides about it.
struct Edits {
    schema: TenantSchema,
    /// What examples have.
    known: Known,
}

impl Edits {
    fn new() -> Self {
        let files = fs::read_dir(examples()).expect("there are examples");
        let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        // A seed is to mean the same everywhere.
        files.sort();
        let (schema, mut known) = (TenantSchema::new(), Known::default());
        for tenant in files.iter().flat_map(|file| objects(file)) {
            if tenant["kind"] == "MessengerTenant" {
                known.learn(schema.spec(), &tenant["spec"]);
            }
        }
        Self { schema, known }
    }

    /// Makes an edit, and says which.
    fn draw(&self, random: &mut StdRng, spec: &mut Value) -> String {
        let before = spec.clone();
        let mut lines = Vec::new();
        while *spec == before || random.random_bool(0.3) {
            let fields = spec.as_object_mut().expect("an object");
            lines.push(self.draw_field(random, self.schema.spec(), "spec", fields));
        }
        lines.join(", ")
    }

    fn draw_field(
        &self,
        random: &mut StdRng,
        schema: &Value,
        path: &str,
        fields: &mut Map<String, Value>,
    ) -> String {
        let known: Vec<_> = schema["properties"].as_object().expect("it has fields").iter().collect();
        let (name, schema_of) = known[random.random_range(0..known.len())];
        let path = format!("{path}.{name}");
        let mut required = schema["required"].as_array().into_iter().flatten();
        let is_required = required.any(|field| field == name.as_str());
        let choice = random.random_range(0..6);
        if choice == 0 && !is_required && fields.remove(name).is_some() {
            return format!("without {path}");
        }
        // A map, such as of labels, has no fields of its own, and is drawn as a whole.
        if choice > 1
            && schema_of["properties"].is_object()
            && let Some(Value::Object(inner)) = fields.get_mut(name)
        {
            return self.draw_field(random, schema_of, &path, inner);
        }
        let value = self.draw_value(random, schema_of, &path);
        let line = format!("{path}: {value}");
        fields.insert(name.clone(), value);
        line
    }

    fn draw_value(&self, random: &mut StdRng, schema: &Value, path: &str) -> Value {
        let mut values = self.known.of(schema).to_vec();
        let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        let rules: Vec<_> = rules.filter_map(|rule| rule["rule"].as_str()).collect();
        match schema["type"].as_str() {
            Some("boolean") => values = vec![true.into(), false.into()],
            Some("integer") => {
                let parts = rules.iter().flat_map(|rule| rule.split(|letter: char| !letter.is_ascii_digit()));
                let bounds = parts.filter_map(|part| part.parse::<i64>().ok());
                values.extend(bounds.flat_map(|bound| [bound - 1, bound, bound + 1]).map(Value::from));
            }
            Some("string") => {
                let quoted = rules.iter().flat_map(|rule| rule.split('\''));
                values.extend(quoted.filter(|text| is_period(text)).map(Value::from));
                values.extend(schema["enum"].as_array().into_iter().flatten().cloned());
            }
            Some("array") => {
                let lists = values.iter().filter_map(Value::as_array).filter(|list| list.len() > 1);
                let shorter: Vec<_> = lists.map(|list| Value::from(&list[1..])).collect();
                values.extend(shorter);
            }
            _ => {}
        }
        assert!(!values.is_empty(), "no example has {path}");
        values.swap_remove(random.random_range(0..values.len()))
    }

    /// Makes a few edits, one after the other, and sets all of it back. Returns how many of them the API server refused.
    async fn walk(&self, base: &World, seed: u64) -> Result<usize, String> {
        let (mut random, mut run) = (StdRng::seed_from_u64(seed), Run::start(base, None));
        let (mut made, mut refused) = (Vec::<String>::new(), 0);
        for _ in 0..WALK {
            let before = tenant(&run);
            let mut after = before.clone();
            let edit = self.draw(&mut random, &mut after["spec"]);
            let others = state_beside(&run.world(), &[TENANTS]);
            let failed = |problem: String, made: &[String]| {
                format!("{problem}\n{edit}, after these edits:\n{}", made.join("\n"))
            };
            if self.schema.check(Some(&before), &after).is_err() {
                refused += 1;
                run.stays_quiet().await.map_err(|problem| failed(problem, &made))?;
                if tenant(&run) != before {
                    return Err(failed("it was refused and is there".to_owned(), &made));
                }
                continue;
            }
            let is_suspended = after["spec"]["suspended"] == true;
            let reason = change(&mut run, &after).await.map_err(|problem| failed(problem, &made))?;
            if reason == Reason::Paused || REFUSALS.contains(&reason) && !is_suspended {
                let now = state_beside(&run.world(), &[TENANTS]);
                if let Some(difference) = difference(&others, &now) {
                    return Err(failed(format!("{reason} left it otherwise: {difference}"), &made));
                }
            }
            made.push(format!("{edit} ({reason})"));
        }
        let failed = |problem: String| format!("{problem}\nset back after these edits:\n{}", made.join("\n"));
        let (now, mut back) = (tenant(&run), tenant(&run));
        back["spec"] = base.server.get(&hooli()).expect("it is there")["spec"].clone();
        self.schema.check(Some(&now), &back).map_err(failed)?;
        let reason = change(&mut run, &back).await.map_err(failed)?;
        if reason != Reason::AllReady {
            return Err(failed(format!("it is not Ready: {:#}", tenant(&run)["status"])));
        }
        match difference(&state(base), &state(&run.world())) {
            None => Ok(refused),
            Some(difference) => Err(failed(difference)),
        }
    }
}

/// Declares what `after` does.
async fn change(run: &mut Run, after: &Value) -> Result<Reason, String> {
    lock(&run.server).edit(&hooli(), |tenant| tenant["spec"] = after["spec"].clone());
    settle(run).await
}

fn is_period(text: &str) -> bool {
    let number = text.strip_suffix(['s', 'm', 'h']);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[test]
fn whatever_is_edited_converges_or_is_refused_and_is_as_it_was_when_set_back() {
    play(async || {
        let (edits, base) = (Edits::new(), base().await);
        let seed = env::var("EDITS_SEED").map_or(SEED, |seed| seed.parse().expect("EDITS_SEED is a number"));
        let count = if is_thorough() { MANY_EDITS } else { EDITS };
        let mut refused = 0;
        for seed in (seed..).take(count / WALK) {
            let walked = edits.walk(&base, seed).await;
            refused += walked.unwrap_or_else(|problem| panic!("EDITS_SEED={seed}: {problem}"));
        }
        println!("{count} edits, {refused} of them refused by the API server");
        assert!(refused > 0 && refused < count * 3 / 4, "{refused} of {count} edits are refused");
    });
}
