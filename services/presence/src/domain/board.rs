//! Which users are connected to which gateways, as one replica knows it.
//!
//! A gateway's users are known for as long as its lease: it is renewed by whatever comes from the gateway, or from the replica
//! that the gateway is attached to. What no gateway has is offline, once every gateway had the time to report.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use contracts::{
    UserId,
    convert::UnreadableField,
    presence::{pack, unpack},
    rpc,
    wire::PresenceState,
};
use uuid::Uuid;

/// A lease in heartbeats: one may come late.
const LEASE_HEARTBEATS: u32 = 2;

/// A process of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(pub Uuid);

/// How a connected user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    Away,
    Online,
}

/// What changed of the users of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// These are all its users.
    pub is_all: bool,
    pub online: Vec<UserId>,
    pub away: Vec<UserId>,
    pub offline: Vec<UserId>,
}

/// What became of the changes that another replica published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// These users are not as they were.
    Changed(BTreeSet<UserId>),
    /// Some changes before them are missing: all users of the gateway are needed.
    Gap,
}

/// The users of all gateways.
#[derive(Debug)]
pub struct Board {
    heartbeat: Duration,
    gateways: HashMap<GatewayId, Gateway>,
    /// When every gateway has reported; `None` while some of them cannot be known.
    complete_at: Option<Instant>,
}

#[derive(Debug)]
struct Gateway {
    users: HashMap<UserId, Shown>,
    /// Of the last change.
    version: u64,
    /// The end of the lease.
    until: Instant,
    /// The call by which it is attached to this replica.
    call: Option<Uuid>,
}

impl Board {
    /// Returns a board of a replica that may not be the only one, and that no gateway has reported to.
    pub fn new(heartbeat: Duration) -> Self {
        Self { heartbeat, gateways: HashMap::new(), complete_at: None }
    }

    /// Notes that this replica receives from all others, or is the only one. Every gateway has reported by `complete_at`.
    pub fn linked(&mut self, complete_at: Instant) {
        self.complete_at = Some(complete_at);
    }

    /// Notes that other replicas cannot be received. Returns the users who are not as they were; those who are absent are
    /// unknown from now on.
    pub fn unlinked(&mut self) -> BTreeSet<UserId> {
        self.complete_at = None;
        let far: Vec<GatewayId> =
            self.gateways.iter().filter(|(_, gateway)| gateway.call.is_none()).map(|(id, _)| *id).collect();
        far.into_iter().flat_map(|id| self.forget(id)).collect()
    }

    /// Returns how a user is who is connected to no gateway.
    pub fn absent(&self, now: Instant) -> PresenceState {
        match self.complete_at {
            Some(at) if at <= now => PresenceState::Offline,
            Some(_) | None => PresenceState::Unknown,
        }
    }

    /// Returns how a user is.
    pub fn state(&self, user: UserId, now: Instant) -> PresenceState {
        match self.shown(user) {
            Some(Shown::Online) => PresenceState::Online,
            Some(Shown::Away) => PresenceState::Away,
            None => self.absent(now),
        }
    }

    /// Notes that a gateway is attached to this replica by this call. `version` is greater than any before.
    pub fn attach(&mut self, id: GatewayId, call: Uuid, version: u64, now: Instant) {
        let until = now + self.lease();
        let gateway =
            self.gateways.entry(id).or_insert(Gateway { users: HashMap::new(), version, until, call: None });
        (gateway.version, gateway.until, gateway.call) =
            (version.max(gateway.version + 1), until, Some(call));
    }

    /// Notes what a gateway that is attached to this replica reports. Returns the version of the change, and who is not as
    /// before.
    pub fn report(
        &mut self,
        id: GatewayId,
        changes: &Changes,
        now: Instant,
    ) -> Option<(u64, BTreeSet<UserId>)> {
        let changed = self.apply(id, changes);
        let until = now + self.lease();
        let gateway = self.gateways.get_mut(&id)?;
        gateway.version += 1;
        gateway.until = until;
        Some((gateway.version, changed))
    }

    /// Renews the lease of a gateway that is attached to this replica. Returns whether it is by this call: its lease may have
    /// ended, or another call may have taken its place.
    pub fn renew(&mut self, id: GatewayId, call: Uuid, now: Instant) -> bool {
        let until = now + self.lease();
        match self.gateways.get_mut(&id).filter(|gateway| gateway.call == Some(call)) {
            Some(gateway) => {
                gateway.until = until;
                true
            }
            None => false,
        }
    }

    /// Notes that a gateway is not attached by this call any more. It has a heartbeat to come back, here or to another replica,
    /// unless it has done so.
    pub fn detach(&mut self, id: GatewayId, call: Uuid, now: Instant) {
        let until = now + self.heartbeat;
        if let Some(gateway) = self.gateways.get_mut(&id).filter(|gateway| gateway.call == Some(call)) {
            gateway.call = None;
            gateway.until = until;
        }
    }

    /// Notes what another replica published of a gateway.
    pub fn published(&mut self, id: GatewayId, version: u64, changes: &Changes, now: Instant) -> Applied {
        let until = now + self.lease();
        let known = self.gateways.get(&id).map(|gateway| gateway.version);
        match known {
            // A change of before it came here, or one that is known.
            Some(known) if version <= known => return Applied::Changed(BTreeSet::new()),
            Some(known) if !changes.is_all && version != known + 1 => return Applied::Gap,
            None if !changes.is_all => return Applied::Gap,
            Some(_) | None => {}
        }
        let users = HashMap::new();
        let gateway = self.gateways.entry(id).or_insert(Gateway { users, version, until, call: None });
        (gateway.version, gateway.until, gateway.call) = (version, until, None);
        Applied::Changed(self.apply(id, changes))
    }

    /// Notes that another replica has a gateway at this version. Returns whether all until then is known here.
    pub fn is_known(&mut self, id: GatewayId, version: u64, now: Instant) -> bool {
        let until = now + self.lease();
        match self.gateways.get_mut(&id) {
            Some(gateway) if gateway.version == version => {
                gateway.until = until;
                true
            }
            // It is attached here since.
            Some(gateway) => gateway.version > version,
            None => false,
        }
    }

    /// Forgets the gateways whose lease has ended, and returns the users who are not as they were.
    pub fn expire(&mut self, now: Instant) -> BTreeSet<UserId> {
        let over: Vec<GatewayId> =
            self.gateways.iter().filter(|(_, gateway)| gateway.until <= now).map(|(id, _)| *id).collect();
        over.into_iter().flat_map(|id| self.forget(id)).collect()
    }

    /// Returns the gateways that are attached to this replica, with the version of the last change of each.
    pub fn attached(&self) -> Vec<(GatewayId, u64)> {
        self.here().map(|(id, gateway)| (id, gateway.version)).collect()
    }

    /// Returns all users of each gateway that is attached to this replica, as a change of its own version.
    pub fn all_attached(&mut self) -> Vec<(GatewayId, u64, Changes)> {
        let here = self.gateways.iter_mut().filter(|(_, gateway)| gateway.call.is_some());
        here.map(|(id, gateway)| {
            gateway.version += 1;
            (*id, gateway.version, gateway.all())
        })
        .collect()
    }

    /// Returns how many users are connected.
    pub fn connected(&self) -> usize {
        self.gateways.values().map(|gateway| gateway.users.len()).sum()
    }

    fn here(&self) -> impl Iterator<Item = (GatewayId, &Gateway)> {
        self.gateways.iter().filter(|(_, gateway)| gateway.call.is_some()).map(|(id, gateway)| (*id, gateway))
    }

    fn lease(&self) -> Duration {
        self.heartbeat * LEASE_HEARTBEATS
    }

    /// Returns how a user is shown who is connected to several gateways.
    fn shown(&self, user: UserId) -> Option<Shown> {
        self.gateways.values().filter_map(|gateway| gateway.users.get(&user)).max().copied()
    }

    fn apply(&mut self, id: GatewayId, changes: &Changes) -> BTreeSet<UserId> {
        let Some(gateway) = self.gateways.get(&id) else { return BTreeSet::new() };
        let mut concerned: BTreeSet<UserId> = changes.mentioned().collect();
        if changes.is_all {
            concerned.extend(gateway.users.keys());
        }
        let before: Vec<_> = concerned.iter().map(|user| self.shown(*user)).collect();
        let gateway = self.gateways.get_mut(&id).expect("it was there");
        if changes.is_all {
            gateway.users.clear();
        }
        gateway.users.extend(changes.online.iter().map(|user| (*user, Shown::Online)));
        gateway.users.extend(changes.away.iter().map(|user| (*user, Shown::Away)));
        for user in &changes.offline {
            gateway.users.remove(user);
        }
        if gateway.users.capacity() / 4 > gateway.users.len() {
            gateway.users.shrink_to_fit();
        }
        let changed = concerned.into_iter().zip(before);
        changed.filter(|(user, before)| self.shown(*user) != *before).map(|(user, _)| user).collect()
    }

    /// Forgets a gateway and returns the users who are not as they were.
    fn forget(&mut self, id: GatewayId) -> BTreeSet<UserId> {
        let changed = self.apply(id, &Changes { is_all: true, ..Changes::default() });
        self.gateways.remove(&id);
        changed
    }
}

impl Gateway {
    fn all(&self) -> Changes {
        let shown = |as_what: Shown| {
            let users = self.users.iter().filter(move |(_, shown)| **shown == as_what);
            users.map(|(user, _)| *user).collect()
        };
        Changes { is_all: true, online: shown(Shown::Online), away: shown(Shown::Away), offline: Vec::new() }
    }
}

impl Changes {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.is_all && self.mentioned().next().is_none()
    }

    fn mentioned(&self) -> impl Iterator<Item = UserId> {
        [&self.online, &self.away, &self.offline].into_iter().flatten().copied()
    }
}

impl TryFrom<rpc::UserChanges> for Changes {
    type Error = UnreadableField;

    fn try_from(changes: rpc::UserChanges) -> Result<Self, UnreadableField> {
        let users =
            |field, bytes: &[u8]| Ok(unpack(field, bytes)?.into_iter().map(UserId).collect::<Vec<_>>());
        Ok(Self {
            is_all: changes.is_all,
            online: users("online", &changes.online)?,
            away: users("away", &changes.away)?,
            offline: users("offline", &changes.offline)?,
        })
    }
}

impl From<&Changes> for rpc::UserChanges {
    fn from(changes: &Changes) -> Self {
        let packed = |users: &[UserId]| pack(users.iter().map(|user| user.0));
        Self {
            is_all: changes.is_all,
            online: packed(&changes.online),
            away: packed(&changes.away),
            offline: packed(&changes.offline),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(10);
    const ONE: GatewayId = GatewayId(Uuid::from_u128(1));
    const TWO: GatewayId = GatewayId(Uuid::from_u128(2));
    const CALL: Uuid = Uuid::from_u128(21);
    const LATER: Uuid = Uuid::from_u128(22);
    const ANN: UserId = UserId(Uuid::from_u128(11));
    const BEN: UserId = UserId(Uuid::from_u128(12));

    fn online(users: &[UserId]) -> Changes {
        Changes { online: users.to_vec(), ..Changes::default() }
    }

    fn all(users: &[UserId]) -> Changes {
        Changes { is_all: true, ..online(users) }
    }

    fn offline(users: &[UserId]) -> Changes {
        Changes { offline: users.to_vec(), ..Changes::default() }
    }

    fn linked(now: Instant) -> Board {
        let mut board = Board::new(HEARTBEAT);
        board.linked(now);
        board
    }

    fn reported(board: &mut Board, id: GatewayId, changes: &Changes, now: Instant) -> Vec<UserId> {
        board.report(id, changes, now).expect("an attached gateway").1.into_iter().collect()
    }

    #[test]
    fn a_user_is_as_the_most_present_of_their_gateways_says() {
        let now = Instant::now();
        let mut board = linked(now);
        board.attach(ONE, CALL, 100, now);
        board.attach(TWO, CALL, 200, now);
        assert_eq!(reported(&mut board, ONE, &all(&[ANN]), now), [ANN]);
        let away = Changes { away: vec![ANN], ..Changes::default() };
        assert_eq!(reported(&mut board, TWO, &away, now), []);
        assert_eq!(board.state(ANN, now), PresenceState::Online);
        assert_eq!(reported(&mut board, ONE, &offline(&[ANN]), now), [ANN]);
        assert_eq!(board.state(ANN, now), PresenceState::Away);
        assert_eq!(reported(&mut board, TWO, &all(&[BEN]), now), [ANN, BEN]);
        assert_eq!(board.state(ANN, now), PresenceState::Offline);
        assert_eq!(reported(&mut board, TWO, &all(&[BEN]), now), [], "the same again is no change");
    }

    #[test]
    fn users_of_a_gateway_that_is_gone_are_offline_within_two_heartbeats() {
        let start = Instant::now();
        let mut board = linked(start);
        board.attach(ONE, CALL, 1, start);
        reported(&mut board, ONE, &all(&[ANN]), start);
        assert!(board.expire(start + HEARTBEAT).is_empty());
        assert!(board.renew(ONE, CALL, start + HEARTBEAT));
        assert!(board.expire(start + 2 * HEARTBEAT).is_empty());
        assert_eq!(board.expire(start + 3 * HEARTBEAT), BTreeSet::from([ANN]));
        assert_eq!(board.state(ANN, start + 3 * HEARTBEAT), PresenceState::Offline);

        // One that detached has a heartbeat to come back.
        board.attach(ONE, CALL, 9, start);
        reported(&mut board, ONE, &all(&[ANN]), start);
        board.detach(ONE, CALL, start);
        assert!(board.expire(start + HEARTBEAT / 2).is_empty());
        board.attach(ONE, CALL, 20, start + HEARTBEAT / 2);
        assert!(board.expire(start + HEARTBEAT).is_empty());
        board.detach(ONE, CALL, start + HEARTBEAT);
        assert_eq!(board.expire(start + 2 * HEARTBEAT), BTreeSet::from([ANN]));
    }

    #[test]
    fn absent_users_are_unknown_until_every_gateway_had_the_time_to_report() {
        let start = Instant::now();
        let mut board = Board::new(HEARTBEAT);
        assert_eq!(board.state(ANN, start), PresenceState::Unknown);
        board.linked(start + HEARTBEAT);
        assert_eq!(board.state(ANN, start), PresenceState::Unknown);
        board.attach(ONE, CALL, 1, start);
        reported(&mut board, ONE, &all(&[ANN]), start);
        assert_eq!(board.state(ANN, start), PresenceState::Online);
        assert_eq!(board.state(BEN, start + HEARTBEAT), PresenceState::Offline);
        assert_eq!(board.published(TWO, 5, &all(&[BEN]), start), Applied::Changed(BTreeSet::from([BEN])));
        // Without the other replicas, only own gateways are known.
        assert_eq!(board.unlinked(), BTreeSet::from([BEN]));
        assert_eq!(board.state(BEN, start + HEARTBEAT), PresenceState::Unknown);
        assert_eq!(board.state(ANN, start + HEARTBEAT), PresenceState::Online);
    }

    #[test]
    fn a_change_that_was_missed_is_noticed() {
        let now = Instant::now();
        let mut board = linked(now);
        assert_eq!(board.published(ONE, 5, &online(&[ANN]), now), Applied::Gap, "nothing is known before it");
        assert_eq!(board.published(ONE, 5, &all(&[ANN]), now), Applied::Changed(BTreeSet::from([ANN])));
        assert_eq!(board.published(ONE, 7, &online(&[BEN]), now), Applied::Gap);
        assert_eq!(board.state(BEN, now), PresenceState::Offline);
        assert_eq!(board.published(ONE, 4, &all(&[]), now), Applied::Changed(BTreeSet::new()), "an old one");
        assert_eq!(board.state(ANN, now), PresenceState::Online);
        assert!(board.is_known(ONE, 5, now));
        assert!(!board.is_known(ONE, 6, now) && !board.is_known(TWO, 1, now));
        assert_eq!(board.published(ONE, 8, &all(&[BEN]), now), Applied::Changed(BTreeSet::from([ANN, BEN])));
    }

    #[test]
    fn a_gateway_that_moves_to_another_replica_is_that_ones() {
        let now = Instant::now();
        let (mut before, mut after) = (linked(now), linked(now));
        before.attach(ONE, CALL, 100, now);
        let (version, _) = before.report(ONE, &all(&[ANN]), now).expect("attached");
        after.published(ONE, version, &all(&[ANN]), now);
        before.detach(ONE, CALL, now);
        after.attach(ONE, CALL, 50, now);
        let (version, _) = after.report(ONE, &all(&[ANN, BEN]), now).expect("attached");
        assert_eq!(
            before.published(ONE, version, &all(&[ANN, BEN]), now),
            Applied::Changed(BTreeSet::from([BEN]))
        );
        assert!(before.attached().is_empty());
        let everything = after.all_attached();
        let [(ONE, _, changes)] = everything.as_slice() else { panic!("{everything:?}") };
        let mut users = changes.online.clone();
        users.sort();
        assert_eq!(users, [ANN, BEN]);
        assert_eq!(rpc::UserChanges::from(changes).try_into(), Ok(changes.clone()));
        assert_eq!((before.connected(), after.connected()), (2, 2));
    }

    #[test]
    fn a_call_that_ends_late_does_not_detach_a_gateway_that_is_back() {
        let now = Instant::now();
        let mut board = linked(now);
        board.attach(ONE, CALL, 1, now);
        board.attach(ONE, LATER, 2, now);
        board.detach(ONE, CALL, now);
        assert_eq!(board.attached().len(), 1);
        assert!(board.renew(ONE, LATER, now) && !board.renew(ONE, CALL, now));
        // It moved to another replica, which renews its lease.
        board.published(ONE, 9, &all(&[ANN]), now);
        board.detach(ONE, LATER, now);
        assert!(board.expire(now + HEARTBEAT).is_empty());
        // A lease that has ended is over for the call, too.
        board.attach(TWO, CALL, 1, now);
        board.expire(now + 2 * HEARTBEAT);
        assert!(!board.renew(TWO, CALL, now));
    }
}
