//! The static coordinator (§14): one replica, or a fixed master without failover. The object is a local file of the master;
//! only the master writes it, and every start of the master raises the epoch, so that N1, N2, cuts and confirm work as with
//! any other coordinator. Slaves never become master.

use rocket_protocol::ids::PhysicalOffset;

use crate::changes::{Registering, Registration};
use crate::identity::{Member, Proposals};
use crate::mutations::Mutations;
use crate::state::State;

/// The file is not the one that this replica knows, or its group is full: a human must look (§8.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator file is older than what this replica saw, of another group, or full")]
pub struct NotMine;

/// A start of the fixed master: the states to write, in this order, before it registers as any replica does.
///
/// `log_end` is what recovery left; it is recorded when the master has to begin without proof of what it acknowledged.
///
/// # Errors
/// [`NotMine`]: nothing may be written.
pub fn master_starts(
    file: &State,
    who: &Registration,
    log_end: PhysicalOffset,
    proposals: &mut Proposals,
) -> Result<Vec<State>, NotMine> {
    let mutations = Mutations::default();
    let mut writes = Vec::new();
    let replica_id = match file.registering(proposals.fresh(), who, mutations) {
        Registering::Done(replica_id) => replica_id,
        Registering::Write(registered) => {
            writes.push(*registered);
            let newest = writes.last().unwrap_or(file);
            newest.replica_of(who.disk_id).ok_or(NotMine)?.0
        }
        Registering::Forgot | Registering::Full => return Err(NotMine),
    };
    let newest = writes.last().unwrap_or(file);
    let me = Member {
        replica_id,
        incarnation: who.incarnation,
    };
    let proposal = proposals.fresh();
    let elected = if newest.is_complete(me) {
        newest.elected(proposal, me, &std::collections::BTreeSet::new(), mutations)
    } else if newest.last_complete.is_empty() {
        newest.elected_first(proposal, me)
    } else {
        newest.elected_unclean(
            proposal,
            me,
            log_end,
            "the fixed master started without proof of all that it acknowledged",
        )
    };
    writes.push(elected);
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{DiskId, Epoch, GroupUid, Incarnation, Proposal, Version};
    use crate::recovery::Evidence;

    fn start(file: &State, run: u128, evidence: Evidence) -> State {
        let who = Registration {
            group_uid: Some(file.group_uid),
            disk_id: DiskId(5),
            incarnation: Incarnation(run),
            address: "127.0.0.1:10912".to_owned(),
            durable: false,
            evidence,
            max_epoch: file.epoch,
            max_version: file.version,
        };
        let writes = master_starts(
            file,
            &who,
            PhysicalOffset(30),
            &mut Proposals::new(run << 64),
        )
        .unwrap();
        let mut before = file.clone();
        for after in writes {
            assert_eq!(State::check_transition(&before, &after), Ok(()));
            before = after;
        }
        before
    }

    #[test]
    fn every_start_raises_the_epoch_and_loses_nothing_that_is_proved() {
        let first = start(
            &State::new(GroupUid(1), 1, Proposal(1)),
            1,
            Evidence::default(),
        );
        assert_eq!((first.epoch, first.unclean.len()), (Epoch(1), 0));
        let clean = Evidence {
            clean: Some(Incarnation(1)),
            ..Evidence::default()
        };
        let second = start(&first, 2, clean);
        assert_eq!((second.epoch, second.unclean.len()), (Epoch(2), 0));
        assert_eq!(second.master.map(|m| m.incarnation), Some(Incarnation(2)));
    }

    #[test]
    fn start_without_proof_is_recorded_as_unclean() {
        let first = start(
            &State::new(GroupUid(1), 1, Proposal(1)),
            1,
            Evidence::default(),
        );
        let second = start(&first, 2, Evidence::default());
        assert_eq!(
            second.unclean.last().map(|u| (u.epoch, u.kept_end)),
            Some((Epoch(2), PhysicalOffset(30)))
        );
    }

    #[test]
    fn file_older_than_what_the_replica_saw_is_refused() {
        let file = State::new(GroupUid(1), 1, Proposal(1));
        let who = Registration {
            group_uid: Some(file.group_uid),
            disk_id: DiskId(5),
            incarnation: Incarnation(1),
            address: String::new(),
            durable: true,
            evidence: Evidence::default(),
            max_epoch: Epoch(3),
            max_version: Version(9),
        };
        let mut proposals = Proposals::new(1);
        assert_eq!(
            master_starts(&file, &who, PhysicalOffset(0), &mut proposals),
            Err(NotMine)
        );
    }
}
