//! A record that is lost and is made anew from what all replicas of its group hold (docs/replication.md §8.16): when that may be
//! done, and for whom it waits. Pure.
//!
//! Everything acknowledged lies on one of the volumes, and nobody knows on which: so whoever has a volume must have told what it
//! holds.

use std::collections::{BTreeMap, BTreeSet};

use rocket_api::pod_of_address;
use rocket_replication::identity::Epoch;
use rocket_replication::messages::Holding;
use rocket_replication::rebuild::{Said, Unfit};
use rocket_replication::state::State;

use super::force::Obstacle;

/// What the replicas of a group hold, by pod, as they told when they were asked last.
pub type Survey = BTreeMap<String, Holding>;

/// The state of a group in the place of the lost one: `begun` is nobody's yet, `volumes` are the pods whose volumes exist or may
/// exist, and `address` says where a pod is found.
///
/// # Errors
/// What stands in the way, in words.
pub fn plan(
    begun: State,
    volumes: &BTreeSet<String>,
    survey: &Survey,
    has_pod: impl Fn(&str) -> bool,
    address: impl Fn(&str) -> String,
) -> Result<State, Obstacle> {
    let mut waits = Vec::new();
    let missing = volumes.iter().filter(|pod| !survey.contains_key(*pod));
    let (silent, gone): (Vec<&str>, Vec<&str>) =
        missing.map(String::as_str).partition(|pod| has_pod(pod));
    if !silent.is_empty() {
        waits.push(format!(
            "waiting for {} to say what it holds: every replica whose volume exists has to, since any of them may be the one that has everything",
            silent.join(", ")
        ));
    }
    for pod in gone {
        waits.push(format!(
            "{pod} has a volume and no pod, or is to have both: raise groups.replicas or free its node so that it runs and can say what it holds, or delete its volume claim if nothing on it is needed"
        ));
    }
    if !waits.is_empty() {
        return Err(Obstacle::Yet(waits.join("; ")));
    }
    let said: Vec<Said> = survey
        .iter()
        .map(|(pod, holding)| Said {
            address: address(pod),
            holding: *holding,
        })
        .collect();
    begun
        .rebuilt(&said)
        .map_err(|unfit| obstacle(&unfit, survey))
}

fn obstacle(unfit: &Unfit, survey: &Survey) -> Obstacle {
    let pod = |address: &str| pod_of_address(address).to_owned();
    match unfit {
        Unfit::OtherGroup { address, other } => Obstacle::Never(format!(
            "the volumes of {} and {} hold data of different groups, or of one whose record was made anew and lost again more than once before all had adopted it: delete nothing before you know which (docs/failover.md). {}. If one of them does not belong here, delete that pod with its volume claim, and make another request",
            pod(address),
            pod(other),
            held(survey)
        )),
        // It passes by itself, when the names of pods lead to them again.
        Unfit::OneProcess { address, other } => Obstacle::Yet(format!(
            "waiting until {} and {} answer each for itself: one process answered for both, as while an address passes from one pod to another",
            pod(address),
            pod(other)
        )),
        Unfit::Twice { address, other } => Obstacle::Never(format!(
            "the volumes of {} and {} are copies of one and the same: keep the one that was written last, delete the other pod with its volume claim, and make another request",
            pod(address),
            pod(other)
        )),
        Unfit::Nothing => Obstacle::Never(
            "no replica ever belonged to a group, so nothing was ever acknowledged on these volumes: delete their claims and pods, and the record begins anew by itself"
                .to_owned(),
        ),
    }
}

/// Whose data each pod holds, and how far its log goes: for people.
fn held(survey: &Survey) -> String {
    let held = survey.iter().map(|(pod, holding)| {
        let last = holding.last.map_or(Epoch(0), |entry| entry.epoch);
        match holding.group {
            Some((uid, _)) => format!(
                "{pod} holds group {uid} to epoch {last}, offset {}",
                holding.log_end
            ),
            None => format!("{pod} holds no group"),
        }
    });
    held.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use rocket_replication::epochs::EpochStart;
    use rocket_replication::messages::RoleName;
    use rocket_replication::{
        DiskId, Former, GroupUid, Incarnation, PhysicalOffset, Proposal, ReplicaId, Version,
    };

    use super::*;

    fn holding(id: u32) -> Holding {
        Holding {
            disk_id: DiskId(u128::from(id)),
            group: Some((GroupUid(9), ReplicaId(id))),
            former: None,
            incarnation: Incarnation(u128::from(id)),
            role: RoleName::Booting,
            max_epoch: Epoch(4),
            version: Version(30),
            last: Some(EpochStart {
                epoch: Epoch(4),
                start: PhysicalOffset(0),
            }),
            log_end: PhysicalOffset(100),
            damaged: false,
        }
    }

    fn planned(volumes: &[&str], said: &[(&str, Holding)]) -> Result<State, Obstacle> {
        let volumes = volumes.iter().map(|pod| (*pod).to_owned()).collect();
        let survey = said
            .iter()
            .map(|(pod, holding)| ((*pod).to_owned(), *holding));
        plan(
            State::new(GroupUid(10), 2, Proposal(1)),
            &volumes,
            &survey.collect(),
            |pod| pod != "orders-0-2",
            |pod| format!("{pod}.orders-0-replicas.mq.svc:10912"),
        )
    }

    fn said(planned: Result<State, Obstacle>) -> String {
        match planned {
            Err(Obstacle::Yet(why) | Obstacle::Never(why)) => why,
            Ok(state) => panic!("{state:?}"),
        }
    }

    #[test]
    fn everybody_with_a_volume_is_waited_for_by_name() {
        let volumes = ["orders-0-0", "orders-0-1", "orders-0-2"];
        let why = said(planned(&volumes, &[("orders-0-0", holding(1))]));
        assert!(why.contains("waiting for orders-0-1 to say"), "{why}");
        assert!(why.contains("orders-0-2 has a volume and no pod"), "{why}");
        assert!(!why.contains("orders-0-0"), "{why}");
    }

    #[test]
    fn all_that_said_what_they_hold_make_the_state() {
        let mut fresh = holding(7);
        fresh.group = None;
        let all = [
            ("orders-0-0", holding(1)),
            ("orders-0-1", holding(2)),
            ("orders-0-2", fresh),
        ];
        let volumes = ["orders-0-0", "orders-0-1", "orders-0-2"];
        let state = planned(&volumes, &all).unwrap();
        assert_eq!((state.epoch, state.version), (Epoch(5), Version(31)));
        let addresses: Vec<&str> = state
            .replicas
            .values()
            .map(|replica| pod_of_address(&replica.address))
            .collect();
        assert_eq!(addresses, ["orders-0-0", "orders-0-1"]);
    }

    /// The record that was made anew is lost again, and one of them had adopted it.
    #[test]
    fn volumes_of_the_former_record_go_with_those_of_the_one_in_its_place() {
        let mut adopted = holding(2);
        adopted.group = Some((GroupUid(20), ReplicaId(2)));
        (adopted.max_epoch, adopted.version) = (Epoch(5), Version(32));
        let both = |adopted| {
            let both = [("orders-0-0", holding(1)), ("orders-0-1", adopted)];
            planned(&["orders-0-0", "orders-0-1"], &both)
        };
        let why = said(both(adopted));
        assert!(why.contains("hold data of different groups"), "{why}");
        adopted.former = Some(Former {
            group_uid: GroupUid(9),
            max_epoch: Epoch(4),
        });
        let state = both(adopted).unwrap();
        assert_eq!((state.epoch, state.version), (Epoch(6), Version(33)));
        assert_eq!(state.replicas.len(), 2);
    }

    #[test]
    fn process_that_answers_for_two_pods_is_waited_out() {
        let both = [("orders-0-0", holding(1)), ("orders-0-1", holding(1))];
        let planned = planned(&["orders-0-0", "orders-0-1"], &both);
        assert!(matches!(planned, Err(Obstacle::Yet(_))), "{planned:?}");
        let why = said(planned);
        assert!(why.contains("answer each for itself"), "{why}");
    }

    #[test]
    fn what_does_not_belong_together_is_for_a_person() {
        let mut foreign = holding(2);
        foreign.group = Some((GroupUid(77), ReplicaId(2)));
        let mut copied = holding(2);
        copied.disk_id = DiskId(1);
        for (other, sentence) in [
            (foreign, "delete nothing before you know which"),
            (copied, "copies of one"),
        ] {
            let both = [("orders-0-0", holding(1)), ("orders-0-1", other)];
            let planned = planned(&["orders-0-0", "orders-0-1"], &both);
            assert!(matches!(planned, Err(Obstacle::Never(_))), "{planned:?}");
            let why = said(planned);
            assert!(why.contains(sentence), "{why}");
            let says_who = why.contains("orders-0-0 holds group");
            assert_eq!(says_who, sentence.starts_with("delete"), "{why}");
        }
        let why = said(planned(&[], &[]));
        assert!(why.contains("begins anew by itself"), "{why}");
    }
}
