//! RabbitMQ for one tenant: a virtual host, and a user of the same name that may publish to one exchange there, consume from the
//! queues of jobs, and declare nothing.
//!
//! Exchanges, queues and bindings are the operator's: they are imported as definitions, which adds what is missing and leaves what is
//! there. A queue whose arguments differ cannot be changed; then the virtual host is made again. Nothing is lost with it: what its
//! queues name are rows of the notification service, which hands them over again.
//!
//! Owner marker: a user has no room for one. So the marker of both is a global parameter, which only administrators see and set, and
//! is written before either exists.

use std::fmt;

use catalog::{DEAD_LETTERS, JOB_CHANNELS, JOB_EXCHANGE, job_queue};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    change::{ChangeKind, unmatched},
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;
mod client;

pub use admin::RabbitMqAdmin;

/// Jobs that may wait in a queue. The service has a few for each consumer there; more are what no process takes, and are refused, so that
/// the service keeps them.
const MAX_JOBS: u32 = 100_000;
/// Bytes of them. A job is a ticket of about 150 bytes, so that their number is reached first; but the tenant's account may publish anything, and the disk of
/// the broker is that of all tenants.
const MAX_JOB_BYTES: u64 = 64 << 20;
/// A job that comes back so often without an acknowledgement ends the process that takes it; it is put with the dead letters.
const MAX_DELIVERIES: u32 = 20;
/// Dead letters that are kept, the last ones, and for how long: the service keeps what it gave up for as long.
const MAX_DEAD: u32 = 10_000;
const MAX_DEAD_BYTES: u64 = 16 << 20;
const DEAD_FOR_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Channels for each connection that the tenant may have. The service has a few for each kind of jobs.
const CHANNELS_PER_CONNECTION: u32 = 16;
/// The limit of a user, as the broker calls it.
const MAX_CHANNELS: &str = "max-channels";

/// What a tenant should have in RabbitMQ.
#[derive(Clone, Debug)]
pub struct RabbitMqDesired {
    /// Virtual host and user.
    pub name: String,
    pub owner: Owner,
    pub password: SecretString,
    /// Connections that the tenant may have.
    pub max_connections: u32,
}

impl RabbitMqDesired {
    pub(super) fn of(tenant: &Tenant, password: &SecretString) -> Self {
        let most = tenant.cell.spec.rabbitmq.as_ref().map(crds::CellRabbitMq::connections_per_tenant);
        Self {
            name: tenant.id.virtual_host().to_string(),
            owner: Owner::of(tenant),
            password: password.clone(),
            max_connections: most.unwrap_or_default(),
        }
    }

    /// Returns the limits of the virtual host: its own queues and no other one, and the connections of the tenant.
    fn limits(&self) -> [(&'static str, u32); 2] {
        let queues = u32::try_from(JOB_CHANNELS.len() + 1).unwrap_or(u32::MAX);
        [("max-connections", self.max_connections), ("max-queues", queues)]
    }

    /// Returns the channels that the user may have, in all its connections.
    fn max_channels(&self) -> u32 {
        self.max_connections.saturating_mul(CHANNELS_PER_CONNECTION)
    }

    /// Returns what the user may do there.
    fn permission(&self) -> Permission {
        let queues = JOB_CHANNELS.join("|");
        Permission {
            vhost: self.name.clone(),
            // Nothing matches but the empty name, which stands for no object.
            configure: "^$".to_owned(),
            write: format!("^{JOB_EXCHANGE}$"),
            read: format!("^{JOB_EXCHANGE}\\.({queues})$"),
        }
    }
}

/// What a user may do in a virtual host, as regular expressions for names of exchanges and queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Permission {
    pub vhost: String,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// Exchanges, queues and bindings of a virtual host, as the broker exports and imports them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Definitions {
    #[serde(default)]
    pub exchanges: Vec<Exchange>,
    #[serde(default)]
    pub queues: Vec<Queue>,
    #[serde(default)]
    pub bindings: Vec<Binding>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub durable: bool,
    pub auto_delete: bool,
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Queue {
    pub name: String,
    pub durable: bool,
    pub auto_delete: bool,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Binding {
    pub source: String,
    pub destination: String,
    pub destination_type: String,
    pub routing_key: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

impl Definitions {
    /// Returns what every tenant has.
    pub fn desired() -> Self {
        let exchange = |name: &str, kind: &str| Exchange {
            name: name.to_owned(),
            kind: kind.to_owned(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Map::new(),
        };
        let queue = |name: String, arguments: Value| Queue {
            name,
            durable: true,
            auto_delete: false,
            arguments: arguments.as_object().cloned().unwrap_or_default(),
        };
        let binding = |source: &str, destination: String, routing_key: &str| Binding {
            source: source.to_owned(),
            destination,
            destination_type: "queue".to_owned(),
            routing_key: routing_key.to_owned(),
            arguments: Map::new(),
        };
        let jobs = json!({
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": DEAD_LETTERS,
            // A dead letter leaves its queue when the other one has it; that goes with a queue that refuses what it has no room for.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-max-length": MAX_JOBS,
            "x-max-length-bytes": MAX_JOB_BYTES,
            "x-delivery-limit": MAX_DELIVERIES,
        });
        let dead = json!({
            "x-queue-type": "quorum",
            "x-max-length": MAX_DEAD,
            "x-max-length-bytes": MAX_DEAD_BYTES,
            "x-message-ttl": DEAD_FOR_MS,
        });
        let mut queues: Vec<_> =
            JOB_CHANNELS.iter().map(|channel| queue(job_queue(channel), jobs.clone())).collect();
        queues.push(queue(DEAD_LETTERS.to_owned(), dead));
        let mut bindings: Vec<_> =
            JOB_CHANNELS.iter().map(|channel| binding(JOB_EXCHANGE, job_queue(channel), channel)).collect();
        bindings.push(binding(DEAD_LETTERS, DEAD_LETTERS.to_owned(), ""));
        Self {
            exchanges: vec![exchange(JOB_EXCHANGE, "direct"), exchange(DEAD_LETTERS, "fanout")],
            queues,
            bindings,
        }
    }

    /// Returns what the broker imports, for one virtual host.
    fn of(&self, virtual_host: &str) -> Value {
        let mut whole = serde_json::to_value(self).expect("definitions are JSON by construction");
        let lists = whole.as_object_mut().into_iter().flat_map(Map::values_mut);
        for item in lists.filter_map(Value::as_array_mut).flatten() {
            item["vhost"] = virtual_host.into();
        }
        whole
    }

    /// Returns the first exchange or queue that is another one than `desired` has under its name. It cannot be changed.
    fn differing(&self, desired: &Self) -> Option<String> {
        let has = |found: &Map<String, Value>, wanted: &Map<String, Value>| {
            wanted.iter().all(|(key, value)| found.get(key) == Some(value))
        };
        let exchange = self.exchanges.iter().find(|found| {
            desired.exchanges.iter().any(|wanted| {
                let is_same =
                    found.kind == wanted.kind && found.durable && !found.auto_delete && !found.internal;
                found.name == wanted.name && !is_same
            })
        });
        let queue = self.queues.iter().find(|found| {
            desired.queues.iter().any(|wanted| {
                let is_same = found.durable && !found.auto_delete && has(&found.arguments, &wanted.arguments);
                found.name == wanted.name && !is_same
            })
        });
        exchange
            .map(|exchange| format!("exchange {}", exchange.name))
            .or_else(|| queue.map(|queue| format!("queue {}", queue.name)))
    }

    /// Reports whether it has all that `desired` has. What administrators add for themselves is theirs.
    fn has_all(&self, desired: &Self) -> bool {
        let has_exchange = |wanted: &Exchange| self.exchanges.iter().any(|found| found.name == wanted.name);
        let has_queue = |wanted: &Queue| self.queues.iter().any(|found| found.name == wanted.name);
        let has_binding = |wanted: &Binding| {
            self.bindings.iter().any(|found| {
                found.source == wanted.source
                    && found.destination == wanted.destination
                    && found.routing_key == wanted.routing_key
            })
        };
        desired.exchanges.iter().all(has_exchange)
            && desired.queues.iter().all(has_queue)
            && desired.bindings.iter().all(has_binding)
    }
}

/// What a tenant has in RabbitMQ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RabbitMqObserved {
    pub ownership: Ownership,
    pub virtual_host: Option<VirtualHostObserved>,
    pub user: Option<UserObserved>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualHostObserved {
    pub limits_match: bool,
    /// All exchanges, queues and bindings are there.
    pub is_complete: bool,
    /// An exchange or a queue that is another one, and cannot be changed.
    pub differing: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserObserved {
    pub password_matches: bool,
    /// It has none: with one, it could call the management API.
    pub tags_match: bool,
    /// It may do what a tenant's user may, and nothing in another virtual host.
    pub permissions_match: bool,
    /// It has no more channels than a tenant's user may.
    pub limits_match: bool,
}

/// One difference between what a tenant has in RabbitMQ and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RabbitMqChange {
    TakeOver {
        name: String,
        from: Former,
    },
    CreateVirtualHost {
        name: String,
    },
    /// `what` names the parts that differ.
    RepairVirtualHost {
        name: String,
        what: Vec<&'static str>,
    },
    /// Because of `differing`, which cannot be changed.
    RecreateVirtualHost {
        name: String,
        differing: String,
    },
    CreateUser {
        name: String,
    },
    /// Likewise.
    RepairUser {
        name: String,
        what: Vec<&'static str>,
    },
}

impl RabbitMqChange {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::CreateVirtualHost { .. } | Self::CreateUser { .. } => ChangeKind::Create,
            Self::TakeOver { from, .. } => from.kind(),
            Self::RepairVirtualHost { .. } | Self::RecreateVirtualHost { .. } | Self::RepairUser { .. } => {
                ChangeKind::Repair
            }
        }
    }
}

impl fmt::Display for RabbitMqChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOver { name, from } => f.write_str(&from.takeover(&format!("virtual host {name}"))),
            Self::CreateVirtualHost { name } => write!(f, "create virtual host {name}"),
            Self::RepairVirtualHost { name, what } => {
                write!(f, "set {} of virtual host {name}", what.join(", "))
            }
            Self::RecreateVirtualHost { name, differing } => {
                write!(f, "recreate virtual host {name}, whose {differing} is another one")
            }
            Self::CreateUser { name } => write!(f, "create user {name}"),
            Self::RepairUser { name, what } => write!(f, "set {} of user {name}", what.join(", ")),
        }
    }
}

/// Parts of a virtual host and of a user, as a change names them.
const LIMITS: &str = "limits";
const QUEUES: &str = "queues";
const PASSWORD: &str = "password";
const TAGS: &str = "tags";
const PERMISSIONS: &str = "permissions";

/// Returns what leads from `observed` to `desired`. The virtual host comes before the user, who has permissions there. Empty means
/// steady.
fn plan(desired: &RabbitMqDesired, observed: &RabbitMqObserved) -> Vec<RabbitMqChange> {
    let name = || desired.name.clone();
    let from = observed.ownership.former().cloned();
    let mut changes: Vec<_> =
        from.map(|from| RabbitMqChange::TakeOver { name: name(), from }).into_iter().collect();
    // Permissions end with the virtual host.
    let mut is_new = false;
    match &observed.virtual_host {
        None => {
            is_new = true;
            changes.push(RabbitMqChange::CreateVirtualHost { name: name() });
        }
        Some(VirtualHostObserved { differing: Some(differing), .. }) => {
            is_new = true;
            changes.push(RabbitMqChange::RecreateVirtualHost { name: name(), differing: differing.clone() });
        }
        Some(found) => {
            let what = unmatched([(found.limits_match, LIMITS), (found.is_complete, QUEUES)]);
            if !what.is_empty() {
                changes.push(RabbitMqChange::RepairVirtualHost { name: name(), what });
            }
        }
    }
    match &observed.user {
        None => changes.push(RabbitMqChange::CreateUser { name: name() }),
        Some(found) => {
            let what = unmatched([
                (found.password_matches, PASSWORD),
                (found.tags_match, TAGS),
                (found.permissions_match && !is_new, PERMISSIONS),
                (found.limits_match, LIMITS),
            ]);
            if !what.is_empty() {
                changes.push(RabbitMqChange::RepairUser { name: name(), what });
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ownership::testing::{inherited, owner};

    fn desired() -> RabbitMqDesired {
        RabbitMqDesired {
            name: "mt-acme".into(),
            owner: owner(),
            password: "secret-word".into(),
            max_connections: 64,
        }
    }

    fn check(edit: impl FnOnce(&mut RabbitMqObserved), expected: &[&str]) {
        let mut observed = RabbitMqObserved {
            ownership: Ownership::Ours,
            virtual_host: Some(VirtualHostObserved {
                limits_match: true,
                is_complete: true,
                differing: None,
            }),
            user: Some(UserObserved {
                password_matches: true,
                tags_match: true,
                permissions_match: true,
                limits_match: true,
            }),
        };
        edit(&mut observed);
        let changes: Vec<_> = plan(&desired(), &observed).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
        assert!(!format!("{changes:?}{:?}", desired()).contains("secret-word"));
    }

    #[test]
    fn the_virtual_host_comes_before_the_user_who_has_permissions_there() {
        check(|_| {}, &[]);
        check(
            |observed| *observed = RabbitMqObserved::default(),
            &["create virtual host mt-acme", "create user mt-acme"],
        );
        check(|observed| observed.user = None, &["create user mt-acme"]);
        check(
            |observed| observed.virtual_host = None,
            &["create virtual host mt-acme", "set permissions of user mt-acme"],
        );
    }

    #[test]
    fn what_differs_is_named() {
        check(
            |observed| {
                observed.virtual_host =
                    Some(VirtualHostObserved { limits_match: false, is_complete: false, differing: None });
                observed.user = Some(UserObserved {
                    password_matches: false,
                    tags_match: false,
                    permissions_match: false,
                    limits_match: false,
                });
            },
            &[
                "set limits, queues of virtual host mt-acme",
                "set password, tags, permissions, limits of user mt-acme",
            ],
        );
        check(
            |observed| {
                let found = observed.virtual_host.as_mut().expect("it is there");
                found.differing = Some("queue notify.email".to_owned());
            },
            &[
                "recreate virtual host mt-acme, whose queue notify.email is another one",
                "set permissions of user mt-acme",
            ],
        );
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over_and_gets_a_user_again() {
        for (ownership, line, kind) in inherited("virtual host mt-acme") {
            check(
                |observed| {
                    observed.ownership = ownership.clone();
                    observed.user = None;
                },
                &[&line, "create user mt-acme"],
            );
            let observed = RabbitMqObserved { ownership, ..RabbitMqObserved::default() };
            assert_eq!(plan(&desired(), &observed)[0].kind(), kind);
        }
    }

    #[test]
    fn the_user_publishes_to_one_exchange_and_consumes_from_the_queues_of_jobs() {
        let Permission { configure, write, read, .. } = desired().permission();
        assert_eq!((configure.as_str(), write.as_str()), ("^$", "^notify$"));
        assert_eq!(read, r"^notify\.(web_push|fcm|email|sms|webhook)$");
    }

    #[test]
    fn a_queue_whose_arguments_differ_is_found_and_what_others_added_is_not() {
        let whole = Definitions::desired();
        let with = |edit: fn(&mut Definitions)| {
            let mut found = whole.clone();
            edit(&mut found);
            (found.has_all(&whole), found.differing(&whole))
        };
        assert_eq!(with(|_| {}), (true, None));
        assert_eq!(with(|found| drop(found.queues.pop())), (false, None));
        assert_eq!(with(|found| drop(found.bindings.pop())), (false, None));
        let differing = with(|found| {
            found.queues[0].arguments.insert("x-queue-type".to_owned(), "classic".into());
        });
        assert_eq!(differing, (true, Some("queue notify.web_push".to_owned())));
        let differing = with(|found| found.exchanges[0].kind = "topic".to_owned());
        assert_eq!(differing, (true, Some("exchange notify".to_owned())));
        let extra = with(|found| {
            let mut shovel = found.queues[0].clone();
            shovel.name = "of.an.administrator".to_owned();
            shovel.arguments.clear();
            found.queues.push(shovel);
        });
        assert_eq!(extra, (true, None));
    }

    #[test]
    fn every_queue_has_a_place_for_what_is_given_up_and_the_last_one_keeps_it() {
        let Definitions { exchanges, queues, bindings } = Definitions::desired();
        assert_eq!((exchanges.len(), queues.len(), bindings.len()), (2, 6, 6));
        for queue in &queues {
            let letters = queue.arguments.get("x-dead-letter-exchange").and_then(Value::as_str);
            assert_eq!(letters, (queue.name != DEAD_LETTERS).then_some(DEAD_LETTERS), "{}", queue.name);
            assert_eq!(queue.arguments["x-queue-type"], "quorum");
            assert!(queue.arguments["x-max-length-bytes"].as_u64().is_some_and(|most| most <= MAX_JOB_BYTES));
        }
        let imported = Definitions::desired().of("mt-acme");
        for (list, count) in [("exchanges", 2), ("queues", 6), ("bindings", 6)] {
            let items = imported[list].as_array().expect("a list");
            assert!(
                items.len() == count && items.iter().all(|item| item["vhost"] == "mt-acme"),
                "{imported}"
            );
        }
        let limits = desired().limits();
        assert_eq!(limits, [("max-connections", 64), ("max-queues", 6)]);
        assert_eq!(desired().max_channels(), 1_024);
    }
}
