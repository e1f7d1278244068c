//! The object of a group made anew, from what all its replicas hold, after the coordinator forgot it (§8.16).
//!
//! Whatever was acknowledged lies on a member of the last S, and so on one of all. Nobody is elected here: S is empty, all of them
//! are taken for complete, and §8.14 elects when every one has registered. A master of the lost object may go on until then: what it
//! commits, those whose acknowledgements it waits for hold before they register, and who registers acknowledges to it no more. So does
//! it itself: nobody is elected before it has stepped down.

use crate::identity::{DiskId, GroupUid, Incarnation};
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
    }
    check_group(all)?;
    for (said, former) in pairs(all) {
        let id = |said: &Said| said.holding.group.map(|(_, id)| id);
        if id(said).is_some() && id(said) == id(former) {
            let (address, other) = (said.address.clone(), former.address.clone());
            return Err(Unfit::Twice { address, other });
        }
    }
    Ok(())
}

/// Whether all directories are of one group: of one object, or of the one whose place that took.
fn check_group(all: &[Said]) -> Result<(), Unfit> {
    let mut groups = all.iter().filter_map(uid_of);
    if groups.any(|uid| all.iter().all(|said| is_of(said, uid, all))) {
        return Ok(());
    }
    let differ = |(said, other): &(&Said, &Said)| {
        let groups = uid_of(said).zip(uid_of(other));
        groups.is_some_and(|(uid, other)| uid != other)
    };
    // First of all two that nothing links.
    let apart = pairs(all)
        .filter(differ)
        .min_by_key(|(said, other)| are_linked(said, other, all));
    match apart {
        Some((said, other)) => Err(Unfit::OtherGroup {
            address: said.address.clone(),
            other: other.address.clone(),
        }),
        // Nobody ever registered.
        None => Ok(()),
    }
}

fn are_linked(said: &Said, other: &Said, all: &[Said]) -> bool {
    let goes_with =
        |said: &Said, uid: Option<GroupUid>| uid.is_some_and(|uid| is_of(said, uid, all));
    goes_with(said, uid_of(other)) || goes_with(other, uid_of(said))
}

/// Whether the directory of `said` is of the group whose object is `uid`: it adopted that one; or it is of the former one of somebody
/// who did, and saw no epoch of it that he had not seen. What the new object gave lies above everything that he had seen, so an epoch
/// that two of these logs have is one mastership (I5). Who saw more of the former object may not have been asked when the new one was
/// made, which then gave the same numbers to other masterships.
fn is_of(said: &Said, uid: GroupUid, all: &[Said]) -> bool {
    let Some(own) = uid_of(said) else {
        return true;
    };
    let came_from_there = |other: &Said| {
        let former = other.holding.former.filter(|_| uid_of(other) == Some(uid));
        former.is_some_and(|former| {
            former.group_uid == own && said.holding.max_epoch <= former.max_epoch
        })
    };
    own == uid || all.iter().any(came_from_there)
}

fn uid_of(said: &Said) -> Option<GroupUid> {
    said.holding.group.map(|(uid, _)| uid)
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
#[path = "rebuild_tests.rs"]
mod tests;
