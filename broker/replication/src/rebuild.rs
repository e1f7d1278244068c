//! The object of a group made anew, from what all its replicas hold, after the coordinator forgot it (§8.16).
//!
//! Whatever was acknowledged lies on a member of the last S, and so on one of all. Nobody is elected here: S is empty, all of them
//! are taken for complete, and §8.14 elects when every one has registered. A master of the lost object may go on until then: what it
//! commits, those whose acknowledgements it waits for hold before they register, and who registers acknowledges to it no more. So does
//! it itself: nobody is elected before it has stepped down.

use crate::identity::{DiskId, Incarnation};
use crate::messages::Holding;
use crate::state::{Replica, State};

/// The run that is recorded of a replica before it registers with the new object: nobody's.
const UNREGISTERED: Incarnation = Incarnation(0);

/// What one replica said, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its address, as `host:port`.
    pub address: String,
    /// What it holds.
    pub holding: Holding,
}

/// Why no object can be made from what was said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A directory that has nothing to do with the others: its log could be taken for the group's.
    #[error("{address} and {other} belong to different groups")]
    OtherGroup {
        /// Where one is.
        address: String,
        /// Where the other is.
        other: String,
    },
    /// One process that answered in two places, as while an address passes from one to another: one of the two was not asked.
    #[error("one process answered at {address} and at {other}")]
    OneProcess {
        /// One place.
        address: String,
        /// The other.
        other: String,
    },
    /// Two copies of one directory, or ids that were bent.
    #[error("{address} and {other} are the same replica")]
    Twice {
        /// Where one is.
        address: String,
        /// Where the other is.
        other: String,
    },
    /// Nobody ever registered, so nothing was ever acknowledged: there is nothing to go on from.
    #[error("no replica belongs to a group")]
    Nothing,
}

impl State {
    /// §8.16: this object, which is nobody's yet ([`State::new`]), in the place of the one that `all` knew. Those who never registered
    /// are left out: they join as any new replica does.
    ///
    /// The caller has asked everybody who may hold something.
    ///
    /// # Errors
    /// [`Unfit`]: nothing is to be written then.
    pub fn rebuilt(mut self, all: &[Said]) -> Result<Self, Unfit> {
        check_told(all)?;
        let registered = all
            .iter()
            .filter_map(|said| Some((said, said.holding.group?)));
        let members: Vec<_> = registered.map(|(said, (_, id))| (said, id)).collect();
        // All, also those who never registered: an epoch that anybody saw is not used again.
        let max_epoch = all.iter().map(|said| said.holding.max_epoch).max();
        let max_version = all.iter().map(|said| said.holding.version).max();
        let max_id = members.iter().map(|(_, id)| *id).max();
        let (Some(max_epoch), Some(max_version), Some(max_id)) = (max_epoch, max_version, max_id)
        else {
            return Err(Unfit::Nothing);
        };
        self.epoch = max_epoch.next();
        self.version = max_version.next();
        self.next_replica_id = max_id.next();
        for (said, id) in &members {
            let replica = unregistered(said.holding.disk_id, said.address.clone());
            self.replicas.insert(*id, replica);
        }
        self.last_complete = self.replicas.keys().copied().collect();
        Ok(self)
    }
}

/// Whether all who told are processes of their own, whose directories belong together. The first is looked at first: what a process
/// says in the wrong place says nothing about the other two.
fn check_told(all: &[Said]) -> Result<(), Unfit> {
    for (said, former) in pairs(all) {
        if said.holding.incarnation == former.holding.incarnation {
            let (address, other) = (said.address.clone(), former.address.clone());
            return Err(Unfit::OneProcess { address, other });
        }
    }
    for (said, former) in pairs(all) {
        let (address, other) = (said.address.clone(), former.address.clone());
        // Also of who never registered: a copy that was made before that would be a member's directory twice.
        if said.holding.disk_id == former.holding.disk_id {
            return Err(Unfit::Twice { address, other });
        }
        let (Some((group_uid, id)), Some((former_uid, former_id))) =
            (said.holding.group, former.holding.group)
        else {
            continue;
        };
        if group_uid != former_uid {
            return Err(Unfit::OtherGroup { address, other });
        }
        if id == former_id {
            return Err(Unfit::Twice { address, other });
        }
    }
    Ok(())
}

fn pairs(all: &[Said]) -> impl Iterator<Item = (&Said, &Said)> {
    let each = all.iter().enumerate();
    each.flat_map(move |(at, said)| all.iter().take(at).map(move |former| (said, former)))
}

fn unregistered(disk_id: DiskId, address: String) -> Replica {
    Replica {
        disk_id,
        incarnation: UNREGISTERED,
        address,
        durable: false,
        cordoned: false,
        lost: false,
    }
}

#[cfg(test)]
mod tests {
    use rocket_protocol::ids::PhysicalOffset;

    use super::*;
    use crate::changes::{Registering, Registration};
    use crate::elector::{Circumstances, Decision, decide};
    use crate::epochs::EpochStart;
    use crate::identity::{Epoch, GroupUid, Member, Proposal, ReplicaId, Version};
    use crate::messages::{Report, RoleName};
    use crate::mutations::Mutations;
    use crate::recovery::Evidence;

    const FORMER: GroupUid = GroupUid(9);
    const NEW: GroupUid = GroupUid(10);

    /// Replica `id`, which saw `epoch` and `version` and has a log to `end`.
    fn said(id: u32, (epoch, version): (u64, u64), end: u64) -> Said {
        Said {
            address: format!("orders-0-{}.test:10912", id - 1),
            holding: Holding {
                disk_id: DiskId(u128::from(id)),
                group: Some((FORMER, ReplicaId(id))),
                incarnation: Incarnation(u128::from(id)),
                role: RoleName::Booting,
                max_epoch: Epoch(epoch),
                version: Version(version),
                last: Some(EpochStart {
                    epoch: Epoch(epoch),
                    start: PhysicalOffset(0),
                }),
                log_end: PhysicalOffset(end),
                damaged: false,
            },
        }
    }

    fn rebuilt(all: &[Said]) -> Result<State, Unfit> {
        State::new(NEW, 2, Proposal(1)).rebuilt(all)
    }

    fn registration(said: &Said) -> Registration {
        let held = said.holding;
        Registration {
            group_uid: held.group.map(|(uid, _)| uid),
            disk_id: held.disk_id,
            incarnation: held.incarnation,
            address: said.address.clone(),
            durable: true,
            evidence: Evidence::default(),
            max_epoch: held.max_epoch,
            max_version: held.version,
        }
    }

    fn register(state: &State, who: &Said) -> Registering {
        let who = registration(who);
        state.registering(Proposal(2), &who, Mutations::default())
    }

    #[test]
    fn new_object_is_above_everything_that_anybody_saw_and_promises_nothing() {
        let mut empty = said(7, (0, 0), 0);
        empty.holding.group = None;
        let all = [said(3, (4, 90), 500), said(1, (6, 20), 400), empty.clone()];
        let state = rebuilt(&all).unwrap();
        assert_eq!(
            (state.epoch, state.version, state.next_replica_id),
            (Epoch(7), Version(91), ReplicaId(4))
        );
        assert_eq!((state.group_uid, state.master), (NEW, None));
        assert!(state.complete().next().is_none() && state.unclean.is_empty());
        assert_eq!(state.last_complete, [1, 3].map(ReplicaId).into());
        assert_eq!(state.replicas[&ReplicaId(3)].disk_id, DiskId(3));
        assert_eq!(state.check(), Ok(()));
        // Each that was named adopts it, and the others join as new ones.
        for (who, id) in [(&all[0], 3), (&all[1], 1), (&empty, 4)] {
            let Registering::Write(new) = register(&state, who) else {
                panic!("{who:?} does not register");
            };
            assert_eq!(State::check_transition(&state, &new), Ok(()));
            let id = ReplicaId(id);
            assert_eq!(new.replicas[&id].disk_id, who.holding.disk_id);
        }
        // Who saw more than was said then, or is not named, does not.
        for late in [said(3, (7, 90), 0), said(3, (4, 91), 0), said(2, (1, 1), 0)] {
            assert_eq!(register(&state, &late), Registering::Forgot, "{late:?}");
        }
    }

    /// §8.16, then §8.14: it waits for all, and who has the most is elected; that is told for ever.
    #[test]
    fn nobody_is_elected_before_all_have_registered() {
        let all = [
            said(1, (6, 20), 400),
            said(2, (6, 21), 500),
            said(3, (5, 21), 900),
        ];
        let mut state = rebuilt(&all).unwrap();
        let reports = all.clone().map(|said| Report {
            member: Member {
                replica_id: ReplicaId(u32::try_from(said.holding.disk_id.0).unwrap()),
                incarnation: said.holding.incarnation,
            },
            role: RoleName::Idle,
            max_epoch: said.holding.max_epoch,
            last: said.holding.last,
            log_end: said.holding.log_end,
            durable_end: said.holding.log_end,
            confirm: PhysicalOffset(0),
            version: said.holding.version,
            master_linked: false,
            damaged: false,
        });
        let elect = |state: &State| {
            let seen = Circumstances {
                reports: &reports,
                master_suspected: true,
                waited: true,
                expected_replicas: 3,
                ..Circumstances::default()
            };
            decide(state, &seen, Proposal(3), Mutations::default())
        };
        assert_eq!(elect(&state), Decision::Wait);
        for (at, who) in all.iter().enumerate() {
            let Registering::Write(new) = register(&state, who) else {
                panic!("{who:?} does not register");
            };
            state = *new;
            let decided = elect(&state);
            assert_eq!(
                matches!(decided, Decision::Elect(_)),
                at == 2,
                "{decided:?}"
            );
        }
        let Decision::Elect(elected) = elect(&state) else {
            panic!("nobody is elected");
        };
        assert_eq!(elected.epoch, Epoch(8));
        assert_eq!(elected.unclean[0].chosen.replica_id, ReplicaId(2));
        assert_eq!(elected.unclean[0].kept_end, PhysicalOffset(500));
    }

    #[test]
    fn what_does_not_fit_together_makes_no_object() {
        let one = || said(1, (6, 20), 400);
        let (here, there) = (
            "orders-0-0.test:10912".to_owned(),
            "orders-0-1.test:10912".to_owned(),
        );
        let mut foreign = said(2, (1, 1), 9_000);
        foreign.holding.group = Some((GroupUid(77), ReplicaId(2)));
        let (address, other) = (there.clone(), here.clone());
        let unfit = Unfit::OtherGroup { address, other };
        assert_eq!(rebuilt(&[one(), foreign]), Err(unfit));
        let mut copied = said(2, (6, 20), 400);
        copied.holding.disk_id = DiskId(1);
        let (address, other) = (there, here);
        assert_eq!(
            rebuilt(&[one(), copied]),
            Err(Unfit::Twice { address, other })
        );
        let mut empty = one();
        empty.holding.group = None;
        assert_eq!(rebuilt(&[empty.clone()]), Err(Unfit::Nothing));
        // A copy that never registered is one all the same.
        empty.holding.incarnation = Incarnation(7);
        empty.address = "orders-0-1.test:10912".to_owned();
        let twice = rebuilt(&[one(), empty]);
        assert!(matches!(twice, Err(Unfit::Twice { .. })), "{twice:?}");
        // One process in two places says nothing about whoever is to be there, whatever else is wrong.
        let mut stray = said(2, (1, 1), 9_000);
        stray.holding.group = Some((GroupUid(77), ReplicaId(2)));
        let mut again = stray.clone();
        again.address = "orders-0-2.test:10912".to_owned();
        let twice = rebuilt(&[one(), stray, again]);
        assert!(matches!(twice, Err(Unfit::OneProcess { .. })), "{twice:?}");
        assert_eq!(rebuilt(&[]), Err(Unfit::Nothing));
    }
}
