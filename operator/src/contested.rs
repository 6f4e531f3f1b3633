//! Pure: fields of children that others set again and again: an autoscaler the replicas, a webhook what a policy says. Such a field
//! is left to them after the second fight and reported; once in a while it is tried again.
//!
//! Invariant: a field that decides whom an object selects, admits or reaches, or what runs, is never left to another client.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    desired::ChildKey,
    plan::{self, Left},
};

/// Repairs of one field before it is left to others.
const FIGHTS: u32 = 2;
/// A field that stays as it was put for this long is not fought over.
const FIGHT: Duration = Duration::from_secs(600);
/// How long a field is left to others before it is tried again.
const TRUCE: Duration = Duration::from_secs(3600);

/// The fields of one tenant that were put back lately.
#[derive(Debug, Default)]
pub(crate) struct Contested {
    fields: BTreeMap<(ChildKey, String), Fight>,
}

#[derive(Clone, Copy, Debug)]
struct Fight {
    repairs: u32,
    last: Instant,
}

impl Contested {
    /// Returns the fields that are left to others now.
    pub fn left(&self, now: Instant) -> Left {
        let mut left = Left::new();
        for ((child, field), fight) in &self.fields {
            if fight.repairs >= FIGHTS && now.duration_since(fight.last) < TRUCE {
                left.entry(child.clone()).or_default().insert(field.clone());
            }
        }
        left
    }

    /// Notes that fields of a child were put back, and which of them the server changed again at once. Returns those that are
    /// left to others from now on and were not before.
    pub fn repaired(
        &mut self,
        child: &ChildKey,
        fields: &[String],
        undone: &[String],
        now: Instant,
    ) -> Vec<String> {
        let mut news = Vec::new();
        let all: BTreeSet<_> = fields.iter().chain(undone).collect();
        let may_be_left = |field: &&String| plan::may_be_left(child.0, field, undone.contains(field));
        for field in all.into_iter().filter(may_be_left) {
            let known = self.fields.entry((child.clone(), field.clone()));
            let fight = known.or_insert(Fight { repairs: 0, last: now });
            let was_left = fight.repairs >= FIGHTS;
            if !was_left && now.duration_since(fight.last) > FIGHT
                || now.duration_since(fight.last) > TRUCE + FIGHT
            {
                fight.repairs = 0;
            }
            fight.repairs =
                if undone.contains(field) { FIGHTS } else { fight.repairs + 1 }.max(fight.repairs);
            fight.last = now;
            if fight.repairs >= FIGHTS && !was_left {
                news.push(field.clone());
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Kind;

    const MINUTE: Duration = Duration::from_secs(60);

    fn gateway() -> ChildKey {
        (Kind::Deployment, "acme-gateway".to_owned())
    }

    fn is_left(contested: &Contested, now: Instant) -> bool {
        !contested.left(now).is_empty()
    }

    #[test]
    fn a_field_is_left_to_others_after_the_second_fight_and_tried_again_later() {
        let (mut contested, start) = (Contested::default(), Instant::now());
        let replicas = ["spec.replicas".to_owned()];
        assert!(contested.repaired(&gateway(), &replicas, &[], start).is_empty());
        assert!(!is_left(&contested, start));
        let second = start + MINUTE;
        assert_eq!(contested.repaired(&gateway(), &replicas, &[], second), replicas);
        assert_eq!(contested.left(second), [(gateway(), replicas.clone().into())].into());
        assert!(is_left(&contested, second + TRUCE - MINUTE) && !is_left(&contested, second + TRUCE));

        // Tried again, and changed again: that is no news, and nothing is fought.
        let third = second + TRUCE;
        assert!(contested.repaired(&gateway(), &replicas, &[], third).is_empty());
        assert!(is_left(&contested, third));
        // It stayed as it was put.
        let later = third + TRUCE + FIGHT + MINUTE;
        assert!(contested.repaired(&gateway(), &replicas, &[], later).is_empty());
        assert!(!is_left(&contested, later));
    }

    #[test]
    fn edits_far_apart_are_no_fight() {
        let (mut contested, start) = (Contested::default(), Instant::now());
        let history = ["spec.revisionHistoryLimit".to_owned()];
        for hour in 0..5 {
            let now = start + MINUTE * 60 * hour;
            assert!(contested.repaired(&gateway(), &history, &[], now).is_empty());
            assert!(!is_left(&contested, now));
        }
    }

    #[test]
    fn what_the_server_undoes_at_once_is_left_to_it_at_once() {
        let (mut contested, now) = (Contested::default(), Instant::now());
        let history = ["spec.revisionHistoryLimit".to_owned()];
        assert_eq!(contested.repaired(&gateway(), &[], &history, now), history);
        assert!(is_left(&contested, now));
    }

    #[test]
    fn what_selects_admits_or_routes_is_never_left_to_others() {
        let (mut contested, now) = (Contested::default(), Instant::now());
        for (kind, field) in [
            (Kind::Service, "spec.selector.app"),
            (Kind::Service, "spec.ports"),
            (Kind::NetworkPolicy, "spec.podSelector.matchLabels.a"),
            (Kind::RoleBinding, "subjects"),
            (Kind::IngressRoute, "spec.routes[0].match"),
            (Kind::Secret, "data.password"),
            (Kind::Deployment, "metadata.ownerReferences[uid-1]"),
            (Kind::Deployment, "metadata.labels.messenger.posthouse.dev/tenant"),
            (Kind::Deployment, "spec.paused"),
        ] {
            let fields = [field.to_owned()];
            assert!(
                contested.repaired(&(kind, "acme-x".to_owned()), &fields, &fields, now).is_empty(),
                "{field}"
            );
        }
        assert!(!is_left(&contested, now));

        // What runs is left to the API server alone: a policy of the cluster may move images to its own registry.
        let image = ["spec.template.spec.containers[chat].image".to_owned()];
        for _ in 0..5 {
            assert!(contested.repaired(&gateway(), &image, &[], now).is_empty());
        }
        assert_eq!(contested.repaired(&gateway(), &image, &image, now), image);
    }
}
