//! What each account of an installation may do, as the charts and the operator say it. Rights add up, and only policies of admission take some of them away, so both are in
//! one file, which is reviewed like code. No cluster is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use operator::rendered_objects;
use serde_json::Value;

use crate::{
    api_server::{SYSTEM, rendered},
    repository,
};

/// The operator's account.
const OPERATOR: &str = "ServiceAccount posthouse-system/posthouse-operator";
/// The policy that says what of its rights the operator may use, and where.
const CONFINEMENT: &str = "posthouse-operator";

/// Where a right holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Everywhere,
    Namespace(String),
    /// The administrators of a cluster decide.
    WhereBound,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("everywhere"),
            Self::Namespace(name) => write!(f, "in namespace {name}"),
            Self::WhereBound => f.write_str("where it is bound"),
        }
    }
}

/// Who may do something with what, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    subject: String,
    scope: Scope,
    group: String,
    /// With its subresource.
    resource: String,
    /// The only objects that it is about. None are all.
    names: Vec<String>,
}

impl Right {
    /// Returns the resource with its group, as `kubectl auth can-i` takes it.
    fn resource(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        match self.resource.split_once('/') {
            Some((resource, part)) if !resource.is_empty() => format!("{resource}{group}/{part}"),
            _ => format!("{}{group}", self.resource),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {} | {}", self.subject, self.scope, self.resource())?;
        if self.names.is_empty() { Ok(()) } else { write!(f, " {}", self.names.join(", ")) }
    }
}

/// All rights, each with its verbs.
type Rights = BTreeMap<Right, BTreeSet<String>>;

/// What a right could be used for beyond what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Danger {
    /// It grows with what is installed.
    Unlimited,
    ReadsSecretsEverywhere,
    WritesSecretsEverywhere,
    /// A pod may have any Secret and any account that is beside it.
    MakesPodsEverywhere,
    GrantsRights,
    EntersPods,
    ChangesAdmission,
}

/// Rights that are dangerous and are there: whose, to what, what for, and what bounds them. There is no other place for an exception.
const ACCEPTED: [(&str, &str, Danger, &str); 5] = [
    (
        OPERATOR,
        "deployments.apps",
        Danger::MakesPodsEverywhere,
        "tenants come in any namespace; its policy refuses pods with a token, and all in namespaces of the cluster",
    ),
    (
        OPERATOR,
        "rolebindings.rbac.authorization.k8s.io",
        Danger::GrantsRights,
        "it opens the Secrets beside a tenant to itself; its policy refuses any other role and any other account",
    ),
    (
        OPERATOR,
        "clusterroles.rbac.authorization.k8s.io",
        Danger::GrantsRights,
        "likewise: of one role only, which has get, create and patch of Secrets",
    ),
    (
        "ServiceAccount posthouse-backends/traefik",
        "secrets",
        Danger::ReadsSecretsEverywhere,
        "Traefik lists the Secrets of routes, and ends without; the chart is for clusters on a developer's machine",
    ),
    (
        "ServiceAccount posthouse-backends/traefik",
        "*.traefik.io",
        Danger::Unlimited,
        "Traefik lists all kinds of its own, and writes none",
    ),
];

/// What the operator writes everywhere without a policy that says where, and why.
const UNCONFINED: [(&str, &str); 6] = [
    ("events.events.k8s.io", "they are about tenants and cells, and decide nothing"),
    ("messengercells.messenger.posthouse.dev", "for a finalizer; cells have no namespace"),
    ("messengercells.messenger.posthouse.dev/status", "likewise, what it reports"),
    (
        "messengertenants.messenger.posthouse.dev",
        "for a finalizer; a namespace is a tenant's by that resource",
    ),
    (
        "messengertenants.messenger.posthouse.dev/finalizers",
        "for references to the owner that block its deletion",
    ),
    ("messengertenants.messenger.posthouse.dev/status", "what it reports"),
];

/// Returns what the charts install, and what the operator makes for the example that has every service.
fn objects() -> Vec<Value> {
    let mut objects = rendered("posthouse", SYSTEM, &["--set", "console.enabled=true"]);
    objects.extend(rendered("posthouse-backends", "posthouse-backends", &[]));
    let example = repository().join("examples/tenants/full.yaml");
    objects.extend(rendered_objects(&example).into_iter().map(|object| object.manifest));
    objects
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// Returns `<namespace>/<name>` of what is in a namespace, and the name of what is not.
fn place(object: &Value) -> String {
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", text(&metadata["name"])),
        None => text(&metadata["name"]),
    }
}

/// Takes in what a role lets a subject do.
fn grant(rights: &mut Rights, role: &Value, subject: &str, scope: &Scope) {
    assert!(role["aggregationRule"].is_null(), "{subject}: what a role gathers from others is not seen here");
    for rule in role["rules"].as_array().into_iter().flatten() {
        let urls = list(&rule["nonResourceURLs"]);
        let (groups, resources) = if urls.is_empty() {
            (list(&rule["apiGroups"]), list(&rule["resources"]))
        } else {
            (vec![String::new()], urls)
        };
        let mut names = list(&rule["resourceNames"]);
        names.sort();
        for (group, resource) in groups.iter().flat_map(|group| resources.iter().map(move |one| (group, one)))
        {
            let right = Right {
                subject: subject.to_owned(),
                scope: scope.clone(),
                group: group.clone(),
                resource: resource.clone(),
                names: names.clone(),
            };
            rights.entry(right).or_default().extend(list(&rule["verbs"]));
        }
    }
}

/// Returns all rights: those of accounts by what binds them, and those of roles that the charts leave to administrators to bind.
fn rights(objects: &[Value]) -> Rights {
    let roles = of_kind(objects, "ClusterRole").chain(of_kind(objects, "Role"));
    let roles: BTreeMap<_, _> =
        roles.map(|role| (format!("{} {}", text(&role["kind"]), place(role)), role)).collect();
    let (mut rights, mut bound) = (Rights::new(), BTreeSet::new());
    for binding in of_kind(objects, "ClusterRoleBinding").chain(of_kind(objects, "RoleBinding")) {
        let namespace = binding["metadata"]["namespace"].as_str();
        let scope = namespace.map_or(Scope::Everywhere, |namespace| Scope::Namespace(namespace.to_owned()));
        let (kind, name) = (text(&binding["roleRef"]["kind"]), text(&binding["roleRef"]["name"]));
        let role = match namespace.filter(|_| kind == "Role") {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        let rules = roles
            .get(&role)
            .unwrap_or_else(|| panic!("{} binds {role}, which is no chart's", place(binding)));
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let subject = match subject["namespace"].as_str() {
                Some(namespace) => {
                    format!("{} {namespace}/{}", text(&subject["kind"]), text(&subject["name"]))
                }
                None => format!("{} {}", text(&subject["kind"]), text(&subject["name"])),
            };
            grant(&mut rights, rules, &subject, &scope);
        }
        bound.insert(role);
    }
    for (name, role) in roles.iter().filter(|(name, _)| !bound.contains(*name)) {
        grant(&mut rights, role, name, &Scope::WhereBound);
    }
    rights
}

/// Returns what pods an object has, as far as it is one that has some.
fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Pod" => object.get("spec"),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template/spec"),
        _ => object.pointer("/spec/template/spec").filter(|pod| pod["containers"].is_array()),
    }
}

/// Returns for each account which pods have its token.
fn tokens(objects: &[Value]) -> Vec<String> {
    let line = |account: &Value| {
        let has_token = |object: &&Value| {
            let Some(pod) = pod(object) else { return false };
            let is_its = pod["serviceAccountName"] == account["metadata"]["name"]
                && object["metadata"]["namespace"] == account["metadata"]["namespace"];
            let said =
                [pod, account].into_iter().find_map(|one| one["automountServiceAccountToken"].as_bool());
            is_its && said.unwrap_or(true)
        };
        let pods = objects.iter().filter(has_token);
        let pods: Vec<_> =
            pods.map(|object| format!("{} {}", text(&object["kind"]), place(object))).collect();
        let pods = if pods.is_empty() { "no pod".to_owned() } else { pods.join(", ") };
        format!("ServiceAccount {} | its token | {pods}", place(account))
    };
    let mut lines: Vec<_> = of_kind(objects, "ServiceAccount").map(line).collect();
    lines.sort();
    lines
}

/// Returns what the policies of admission and their bindings say, but for their words to users: each value with its path.
fn policies(objects: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"] {
        let mut policies: Vec<_> = of_kind(objects, kind).collect();
        policies.sort_by_key(|policy| place(policy));
        for policy in policies {
            flatten(&policy["spec"], &format!("{kind} {} | ", place(policy)), &mut lines);
        }
    }
    lines
}

fn flatten(value: &Value, path: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                if !["message", "messageExpression", "reason"].contains(&name.as_str()) {
                    let dot = if path.ends_with(' ') { "" } else { "." };
                    flatten(value, &format!("{path}{dot}{name}"), lines);
                }
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (number, item) in items.iter().enumerate() {
                flatten(item, &format!("{path}[{number}]"), lines);
            }
        }
        Value::Array(items) => {
            lines.push(format!("{path} | {}", items.iter().map(shown).collect::<Vec<_>>().join(", ")))
        }
        value => lines.push(format!("{path} | {}", shown(value))),
    }
}

/// Returns a value on one line.
fn shown(value: &Value) -> String {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => words(text),
        value => value.to_string(),
    }
}

/// Returns what a right could be used for.
fn dangers(right: &Right, verbs: &BTreeSet<String>) -> Vec<Danger> {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];
    let may = |wanted: &[&str]| verbs.iter().any(|verb| verb == "*" || wanted.contains(&verb.as_str()));
    let is = |group: &str, resources: &[&str]| {
        let known = resources.contains(&right.resource.as_str()) || right.resource == "*";
        known && (right.group == group || right.group == "*")
    };
    let is_everywhere = !matches!(right.scope, Scope::Namespace(_));
    let makes_pods = is("", &["pods", "replicationcontrollers"])
        || is("apps", &["deployments", "daemonsets", "replicasets", "statefulsets"])
        || is("batch", &["jobs", "cronjobs"]);
    let rbac = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"];
    let enters = [
        "pods/exec",
        "pods/attach",
        "pods/portforward",
        "pods/proxy",
        "pods/ephemeralcontainers",
        "nodes/proxy",
        "serviceaccounts/token",
    ];
    let admission = [
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    let is_unlimited = right.group == "*" || right.resource.contains('*') || verbs.contains("*");
    let grants = ["escalate", "bind", "impersonate"];
    [
        (Danger::Unlimited, is_unlimited),
        (Danger::ReadsSecretsEverywhere, is_everywhere && is("", &["secrets"]) && may(&READ)),
        (Danger::WritesSecretsEverywhere, is_everywhere && is("", &["secrets"]) && may(&WRITE)),
        (Danger::MakesPodsEverywhere, is_everywhere && makes_pods && may(&["create", "update", "patch"])),
        (Danger::GrantsRights, may(&grants) || (is("rbac.authorization.k8s.io", &rbac) && may(&WRITE))),
        (Danger::EntersPods, is("", &enters) && may(&["get", "create", "update", "patch"])),
        (Danger::ChangesAdmission, is("admissionregistration.k8s.io", &admission) && may(&WRITE)),
    ]
    .into_iter()
    .filter_map(|(danger, is_there)| is_there.then_some(danger))
    .collect()
}

#[test]
fn what_each_account_may_do_is_as_it_was_reviewed() {
    let objects = objects();
    let rights = rights(&objects);
    let verbs = |verbs: &BTreeSet<String>| verbs.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let lines = rights.iter().map(|(right, may)| format!("{right} | {}", verbs(may)));
    let lines: Vec<_> = lines.chain(tokens(&objects)).chain(policies(&objects)).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(
        "Rights have changed, or what bounds them. Accept this only when the change is meant, and have it reviewed as one of rights.",
    );
    settings.bind(|| insta::assert_snapshot!("rights", lines.join("\n")));
}

#[test]
fn each_dangerous_right_is_accepted_with_a_reason() {
    let rights = rights(&objects());
    let found: BTreeSet<_> = rights
        .iter()
        .flat_map(|(right, verbs)| {
            let named = (right.subject.clone(), right.resource());
            dangers(right, verbs).into_iter().map(move |danger| (named.0.clone(), named.1.clone(), danger))
        })
        .collect();
    let accepted =
        ACCEPTED.map(|(subject, resource, danger, _)| (subject.to_owned(), resource.to_owned(), danger));
    let accepted = BTreeSet::from(accepted);
    let new: Vec<_> = found.difference(&accepted).collect();
    assert!(new.is_empty(), "do without it, or say in ACCEPTED what bounds it: {new:#?}");
    let gone: Vec<_> = accepted.difference(&found).collect();
    assert!(gone.is_empty(), "there is no such right any more: {gone:#?}");
}

#[test]
fn a_dangerous_right_is_known_as_such() {
    let check = |scope: Scope, group: &str, resource: &str, verbs: &[&str], expected: &[Danger]| {
        let right = Right {
            subject: "any".to_owned(),
            scope,
            group: group.to_owned(),
            resource: resource.to_owned(),
            names: Vec::new(),
        };
        let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        assert_eq!(dangers(&right, &verbs), expected, "{right} {verbs:?}");
    };
    let beside = || Scope::Namespace("acme".to_owned());
    check(Scope::Everywhere, "apps", "deployments", &["get", "list"], &[]);
    check(beside(), "", "secrets", &["get", "create"], &[]);
    check(beside(), "apps", "deployments", &["create"], &[]);
    check(Scope::Everywhere, "", "secrets", &["list"], &[Danger::ReadsSecretsEverywhere]);
    check(Scope::WhereBound, "", "secrets", &["patch"], &[Danger::WritesSecretsEverywhere]);
    check(Scope::Everywhere, "", "pods", &["create"], &[Danger::MakesPodsEverywhere]);
    check(beside(), "", "pods/exec", &["create"], &[Danger::EntersPods]);
    check(beside(), "", "serviceaccounts/token", &["create"], &[Danger::EntersPods]);
    check(beside(), "rbac.authorization.k8s.io", "roles", &["escalate"], &[Danger::GrantsRights]);
    check(Scope::Everywhere, "", "users", &["impersonate"], &[Danger::GrantsRights]);
    check(beside(), "rbac.authorization.k8s.io", "rolebindings", &["create"], &[Danger::GrantsRights]);
    let policies = "validatingadmissionpolicies";
    check(
        Scope::Everywhere,
        "admissionregistration.k8s.io",
        policies,
        &["delete"],
        &[Danger::ChangesAdmission],
    );
    check(beside(), "traefik.io", "*", &["get"], &[Danger::Unlimited]);
    check(beside(), "acme.example", "any", &["*"], &[Danger::Unlimited, Danger::GrantsRights]);
    let all = dangers(
        &Right {
            subject: "any".to_owned(),
            scope: Scope::Everywhere,
            group: "*".to_owned(),
            resource: "*".to_owned(),
            names: Vec::new(),
        },
        &BTreeSet::from(["*".to_owned()]),
    );
    assert_eq!(all.len(), 7, "{all:?}");
}

/// Returns the operations that a policy of admission sees, each with its group and resource.
fn seen_by(objects: &[Value], name: &str) -> BTreeSet<(String, String, String)> {
    let mut policies = of_kind(objects, "ValidatingAdmissionPolicy");
    let policy = policies.find(|policy| place(policy) == name).expect("the chart has it");
    let mut seen = BTreeSet::new();
    for rule in policy["spec"]["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                let operations = list(&rule["operations"]).into_iter();
                seen.extend(operations.map(|operation| (operation, group.clone(), resource.clone())));
            }
        }
    }
    seen
}

/// A kind that the operator gains rights on everywhere is one that its policy is about.
#[test]
fn what_the_operator_may_write_everywhere_is_confined_to_namespaces_of_tenants() {
    let objects = objects();
    let seen = seen_by(&objects, CONFINEMENT);
    let operation = |verb: &String| match verb.as_str() {
        "create" => Some("CREATE"),
        "update" | "patch" => Some("UPDATE"),
        "delete" | "deletecollection" => Some("DELETE"),
        _ => None,
    };
    let mut unconfined = BTreeSet::new();
    for (right, verbs) in rights(&objects) {
        if right.subject != OPERATOR || right.scope != Scope::Everywhere {
            continue;
        }
        let is_seen = |operation: &str| {
            seen.contains(&(operation.to_owned(), right.group.clone(), right.resource.clone()))
        };
        if !verbs.iter().filter_map(operation).all(is_seen) {
            unconfined.insert(right.resource());
        }
    }
    let known = BTreeSet::from(UNCONFINED.map(|(resource, _)| resource.to_owned()));
    assert_eq!(unconfined, known, "have the policy {CONFINEMENT} see it, or say in UNCONFINED why not");
}

/// The operator goes by what a status says, as by its own memory.
#[test]
fn only_the_operator_writes_the_status_of_tenants_and_cells() {
    let rights = rights(&objects());
    let is_status = |right: &&Right| right.resource.ends_with("/status");
    let writers: BTreeSet<_> = rights.keys().filter(is_status).map(|right| right.subject.as_str()).collect();
    assert_eq!(writers, BTreeSet::from([OPERATOR]));
}
