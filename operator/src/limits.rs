//! Pure: what a cell lets a tenant request at most. A tenant that requests more is refused before anything of it is changed: what
//! runs of it goes on as it is.

use catalog::Backend;
use crds::{
    CellLimits, DEFAULT_PARTITIONS, DEFAULT_RATE_LIMIT, DEFAULT_RETENTION, MessengerCellSpec,
    MessengerTenantSpec,
};

use crate::{
    tenant,
    workload::{Workload, has_part},
};

/// What a tenant requests and its cell does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field} is {requested}, and {limit} of MessengerCell {cell} is {allowed}; lower the one or raise the other"
)]
pub(crate) struct Exceeded {
    field: String,
    requested: String,
    limit: &'static str,
    allowed: String,
    cell: String,
}

/// Checks what a tenant requests, defaults included. `has_topics` are those that were made already: their number can never change.
pub(crate) fn check(
    spec: &MessengerTenantSpec,
    cell: &str,
    cell_spec: &MessengerCellSpec,
    has_topics: bool,
) -> Result<(), Exceeded> {
    let limits = cell_spec.limits.clone().unwrap_or_default();
    let CellLimits { partitions, replicas, retention, requests_per_second, hosts, memberships, media_bytes } =
        limits;
    let exceeded = |field: String, requested: String, limit, allowed: String| Exceeded {
        field,
        requested,
        limit,
        allowed,
        cell: cell.to_owned(),
    };
    let at_most = |field: String, requested: i64, limit, allowed: Option<i64>| match allowed {
        Some(allowed) if requested > allowed => {
            Err(exceeded(field, requested.to_string(), limit, allowed.to_string()))
        }
        _ => Ok(()),
    };
    let kafka = spec.kafka.clone().unwrap_or_default();
    if !has_topics {
        let requested = kafka.partitions.unwrap_or(DEFAULT_PARTITIONS);
        at_most(
            "spec.kafka.partitions".into(),
            requested.into(),
            "limits.partitions",
            partitions.map(i64::from),
        )?;
    }
    let requested = kafka.retention.unwrap_or(DEFAULT_RETENTION);
    if let Some(allowed) = retention.filter(|allowed| requested.as_secs() > allowed.as_secs()) {
        let field = "spec.kafka.retention".into();
        return Err(exceeded(field, requested.to_string(), "limits.retention", allowed.to_string()));
    }
    let routing = spec.routing.clone().unwrap_or_default();
    let rate = routing.rate_limit.unwrap_or(DEFAULT_RATE_LIMIT).average;
    let field = "spec.routing.rateLimit.average".into();
    at_most(field, rate.into(), "limits.requestsPerSecond", requests_per_second.map(i64::from))?;
    let count = spec.hosts.as_ref().map_or(1, |hosts| hosts.len().max(1));
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    at_most("the number of spec.hosts".into(), count, "limits.hosts", hosts.map(i64::from))?;
    let requested = spec.limits.clone().unwrap_or_default().memberships();
    let field = "spec.limits.memberships".into();
    at_most(field, requested.into(), "limits.memberships", memberships.map(i64::from))?;
    let workloads = Workload::of(spec);
    for workload in &workloads {
        let field = format!("the number of replicas of {}", workload.name);
        at_most(field, workload.size.most().into(), "limits.replicas", replicas.map(i64::from))?;
    }
    if has_part(&workloads, Backend::S3) {
        let requested = spec.media.clone().unwrap_or_default().quota_bytes();
        let requested = i64::try_from(requested).unwrap_or(i64::MAX);
        at_most("spec.media.quotaBytes".into(), requested, "limits.mediaBytes", media_bytes)?;
    }
    let sessions = tenant::postgres_sessions(&workloads);
    let allowed = cell_spec.postgres.sessions_per_tenant.map(i64::from);
    let field = "what the replicas of the services need of PostgreSQL, in sessions,".into();
    at_most(field, sessions.into(), "postgres.sessionsPerTenant", allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::rendered::testing::cell;

    fn check(limits: Value, sessions: Option<i32>, requested: Value, expected: &str) {
        let cell = cell(|cell| {
            cell.spec.limits = serde_json::from_value(limits.clone()).expect("limits");
            cell.spec.postgres.sessions_per_tenant = sessions;
        });
        let mut spec = json!({"tenantId": "acme", "cellRef": {"name": "local"}});
        spec.as_object_mut().expect("an object").extend(requested.as_object().expect("fields").clone());
        let spec = serde_json::from_value(spec).expect("a spec");
        let found = super::check(&spec, "local", &cell.spec, false);
        let found = found.map_or_else(|exceeded| exceeded.to_string(), |()| "allowed".to_owned());
        assert!(found.starts_with(expected), "{limits} {requested}: {found}");
        assert_eq!(found.contains("of MessengerCell local is"), expected != "allowed", "{found}");
    }

    #[test]
    fn each_limit_is_named_with_what_exceeds_it() {
        let all = json!({"partitions": 12, "replicas": 3, "retention": "336h", "requestsPerSecond": 100, "hosts": 2,
            "memberships": 1_000_000});
        let many = json!({"kafka": {"partitions": 96, "retention": "8760h"}, "hosts": ["a.b", "c.d", "e.f"]});
        check(all.clone(), None, json!({}), "allowed");
        check(json!(null), None, many, "allowed");
        for (requested, expected) in [
            (json!({"kafka": {"partitions": 13}}), "spec.kafka.partitions is 13, and limits.partitions"),
            (json!({"kafka": {"retention": "337h"}}), "spec.kafka.retention is 337h"),
            (
                json!({"routing": {"rateLimit": {"average": 101, "burst": 200}}}),
                "spec.routing.rateLimit.average is 101",
            ),
            (json!({"hosts": ["a.b", "c.d", "e.f"]}), "the number of spec.hosts is 3"),
            (
                json!({"limits": {"memberships": 1_000_001}}),
                "spec.limits.memberships is 1000001, and limits.memberships",
            ),
            (json!({"services": {"chat": {"replicas": 4}}}), "the number of replicas of chat is 4"),
            (
                json!({"topology": "Compact", "compact": {"replicas": 4}}),
                "the number of replicas of compact is 4",
            ),
            (
                json!({"services": {"chat": {"replicas": 1, "autoscaling": {"maxReplicas": 4}}}}),
                "the number of replicas of chat is 4",
            ),
            (json!({"services": {"chat": {"replicas": 4, "autoscaling": {"maxReplicas": 3}}}}), "allowed"),
            // The size of the topology that is not requested has no effect.
            (json!({"compact": {"replicas": 4}}), "allowed"),
        ] {
            check(all.clone(), None, requested, expected);
        }
        // Files count where there are any.
        let media = json!({"mediaBytes": 1_048_576_000});
        check(media.clone(), None, json!({}), "allowed");
        let files = json!({"services": {"media": {"enabled": true}}});
        check(media.clone(), None, files, "spec.media.quotaBytes is 10737418240, and limits.mediaBytes");
        let few = json!({"services": {"media": {"enabled": true}}, "media": {"quotaBytes": 1_048_576_000}});
        check(media, None, few, "allowed");
        // A default counts like a request.
        check(json!({"partitions": 3}), None, json!({}), "spec.kafka.partitions is 6");
        check(json!({"memberships": 10_000}), None, json!({}), "spec.limits.memberships is 1000000");
    }

    #[test]
    fn sessions_of_postgresql_grow_with_the_replicas() {
        check(json!(null), Some(24), json!({}), "allowed");
        check(json!(null), Some(24), json!({"topology": "Compact"}), "allowed");
        let two = json!({"services": {"user": {"replicas": 2}, "gateway": {"replicas": 9}}});
        check(json!(null), Some(28), two.clone(), "allowed");
        check(
            json!(null),
            Some(24),
            two,
            "what the replicas of the services need of PostgreSQL, in sessions, is 28",
        );
        let scaled = json!({"services": {"user": {"autoscaling": {"maxReplicas": 2}}}});
        check(
            json!(null),
            Some(24),
            scaled,
            "what the replicas of the services need of PostgreSQL, in sessions, is 28",
        );
        let files = json!({"services": {"media": {"enabled": true}}});
        let needed = "what the replicas of the services need of PostgreSQL, in sessions, is 32";
        check(json!(null), Some(24), files, needed);
    }
}
