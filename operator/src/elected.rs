//! Groups that elect their master (docs/replication.md): what the operator itself writes into their record, and what a pod
//! tells of a replica's process. Pure.
//!
//! The record of such a group belongs to its brokers and its electors. A reconcile writes it twice: once as nobody's, before
//! there is any pod, and when the specification asks for another number of copies (§8.17) or other modes (§5.1).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::ResourceExt;
use rocket_api::{Flush, GroupState, ReplicationMode, RocketBrokerGroup, RocketClusterSpec};
use rocket_coordinator::kubernetes::{BadStatus, state_of, status_of};
use rocket_replication::identity::{GroupUid, Proposal, ReplicaId};
use rocket_replication::mutations::Mutations;
use rocket_replication::state::State;
use rocket_replication::{Policy, Replication, replica};

use crate::names::Names;
use crate::observe::Observed;
use crate::validate::ValidatedCluster;

/// Name of the broker's container.
pub const CONTAINER: &str = "broker";

/// Why a record is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// There is none although the group has volumes: one that begins anew would not know what they hold (§8.16).
    #[error(
        "has no state although volumes of its group exist. A RocketOperation of type Rebuild makes it anew from what all replicas hold (examples/rebuild.yaml, docs/failover.md); if nothing on the volumes is needed, delete them instead"
    )]
    Lost,
    /// It is no state of the protocol, or a change of it would break a rule.
    #[error(
        "{0}. If it cannot be put right, a RocketOperation of type Rebuild makes it anew from what all replicas hold (examples/rebuild.yaml, docs/failover.md)"
    )]
    Broken(String),
}

/// The modes that a specification asks for.
pub fn policy(spec: &RocketClusterSpec) -> Policy {
    Policy {
        flush: match spec.flush {
            Flush::Sync => replica::Flush::Sync,
            Flush::Async => replica::Flush::Async,
        },
        replication: match spec.replication.mode {
            ReplicationMode::Sync => Replication::Sync,
            ReplicationMode::Async => Replication::Async,
        },
    }
}

/// What of the modes that a record asks for its master has not said to be in force, in words; `None`: nothing.
pub fn awaited(state: &GroupState) -> Option<String> {
    let asked = state.policy?;
    let said = state.in_force;
    let mut parts = Vec::new();
    if said.map(|said| said.flush) != Some(asked.flush) {
        parts.push(format!("flush {:?}", asked.flush));
    }
    if said.map(|said| said.replication) != Some(asked.replication) {
        parts.push(format!("replication {:?}", asked.replication));
    }
    if said.map(|said| said.min_in_sync) != Some(state.min_in_sync) {
        parts.push(format!("minInSync {}", state.min_in_sync));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Copies without which a group shall refuse writes now. A number that nobody wrote, as replicas were added, waits until so many are in
/// sync: raised at once it would close a group that serves until another replica has copied everything.
pub fn min_in_sync(cluster: &ValidatedCluster, state: Option<&GroupState>) -> i32 {
    let chosen = cluster.min_in_sync;
    let is_free = cluster.spec.replication.min_in_sync.is_none();
    let has_fewer = |state: &&GroupState| {
        i32::try_from(state.in_sync.len()).is_ok_and(|copies| copies < chosen)
    };
    match state.filter(|_| is_free).filter(has_fewer) {
        Some(state) => chosen.min(state.min_in_sync),
        None => chosen,
    }
}

/// Why a group's record, if it is there, is not to be obeyed.
pub fn unusable(group: Option<&RocketBrokerGroup>, has_volumes: bool) -> Option<Unwritable> {
    match group.map_or(Err(BadStatus::Missing), state_of) {
        Ok(_) => None,
        Err(BadStatus::Missing) => has_volumes.then_some(Unwritable::Lost),
        Err(error) => Some(Unwritable::Broken(error.to_string())),
    }
}

/// The state to write into a record, or `None` when the operator has nothing to write.
///
/// # Errors
/// [`Unwritable`]: nothing is written then, a person has to look.
pub fn next_state(
    group: &RocketBrokerGroup,
    (min_in_sync, policy): (i32, Policy),
    has_volumes: bool,
    proposal: Proposal,
) -> Result<Option<GroupState>, Unwritable> {
    let min_in_sync = u8::try_from(min_in_sync).unwrap_or(1).max(1);
    let broken = |error: &dyn std::fmt::Display| Unwritable::Broken(error.to_string());
    if let Some(why) = unusable(Some(group), has_volumes) {
        return Err(why);
    }
    let new = match state_of(group) {
        Ok(state) if (state.min_in_sync, state.policy) == (min_in_sync, Some(policy)) => {
            return Ok(None);
        }
        Ok(state) => {
            let mut new = state.with_min_in_sync(proposal, min_in_sync, Mutations::default());
            new.policy = Some(policy);
            State::check_transition(&state, &new).map_err(|error| broken(&error))?;
            new
        }
        Err(_) => {
            let uid = group.uid().unwrap_or_default();
            let uid = GroupUid::from_uuid(&uid).map_err(|error| broken(&error))?;
            State::new(uid, min_in_sync, proposal).begun_with(policy)
        }
    };
    status_of(&new).map(Some).map_err(|error| broken(&error))
}

/// Ordinals of the replicas in S.
pub fn in_sync(state: &GroupState, index: i32, names: &Names) -> BTreeSet<i32> {
    let pods = state.in_sync.iter().filter_map(|member| {
        let replica = state.replicas.get(&member.replica_id.to_string())?;
        names.ordinal(index, &replica.name)
    });
    pods.collect()
}

/// Pods of the replicas that have everything or may be the only ones that have it: S, E and `lastComplete`, without those whose
/// bytes a person gave up (docs/replication.md §8.14).
pub fn needed(state: &GroupState) -> BTreeSet<&str> {
    let members = state.in_sync.iter().chain(&state.eligible);
    let ids = members.map(|member| member.replica_id);
    ids.chain(state.last_complete.iter().copied())
        .filter_map(|id| state.replicas.get(&id.to_string()))
        .filter(|replica| !replica.lost)
        .map(|replica| replica.name.as_str())
        .collect()
}

/// Whether a group's record can be obeyed: it is there, and it is a state of this very group.
pub fn is_usable(group: &str, observed: &Observed) -> bool {
    let record = observed.groups.get(group);
    record.is_some_and(|record| state_of(record).is_ok())
}

/// Whether every replica that a group shall have is in S, under a master that is open for writes.
pub fn is_whole(index: i32, replicas: i32, names: &Names, observed: &Observed) -> bool {
    let Some(state) = observed.state(&names.group(index)) else {
        return false;
    };
    let complete = in_sync(state, index, names);
    is_open(state) && (0..replicas).all(|ordinal| complete.contains(&ordinal))
}

/// Whether a group of so many replicas would refuse writes while one of them is replaced (docs/replication.md §8.17). One that has a single
/// replica cannot be spared that.
pub fn spares_none(replicas: i32, min_in_sync: i32) -> bool {
    replicas > 1 && replicas - 1 < min_in_sync
}

/// Whether the recorded master has opened for writes in its epoch.
pub fn is_open(state: &GroupState) -> bool {
    let opened = state.activated.as_ref().map(|activated| activated.epoch);
    state.master.is_some() && opened == Some(state.epoch)
}

/// The replica that a planned handover shall go to: in sync, wanted, and on a pod that pleases `is_fit`; the lowest number.
pub fn successor(state: &GroupState, is_fit: impl Fn(&str) -> bool) -> Option<ReplicaId> {
    let fit = state.in_sync.iter().filter(|member| {
        let replica = state.replicas.get(&member.replica_id.to_string());
        state.master.as_ref() != Some(*member)
            && replica
                .is_some_and(|replica| !replica.cordoned && !replica.lost && is_fit(&replica.name))
    });
    let lowest = fit.map(|member| member.replica_id).min()?;
    u32::try_from(lowest).ok().map(ReplicaId)
}

/// What Kubernetes knows of the process of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// As far as it knows the process runs. It may hang, or its node may be gone.
    Runs,
    /// The process that ran has ended, or the pod is gone: whoever it was does not come back under that incarnation.
    Ended,
}

/// What Kubernetes knows of each replica that has a pod, by the pod's name. A replica without a pod has ended.
pub fn lives<'a>(pods: impl Iterator<Item = &'a Pod>) -> BTreeMap<String, Life> {
    pods.map(|pod| (pod.name_any(), life(pod))).collect()
}

/// What it knows of the replica of one pod.
pub fn life(pod: &Pod) -> Life {
    let Some(status) = &pod.status else {
        return Life::Ended;
    };
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == CONTAINER);
    let runs = match container.and_then(|container| container.state.as_ref()) {
        Some(ContainerState { running, .. }) => running.is_some(),
        None => status.phase.as_deref() == Some("Running"),
    };
    if runs { Life::Runs } else { Life::Ended }
}

#[cfg(test)]
mod tests {
    use rocket_api::{GroupRule, RocketBrokerGroupSpec};
    use rocket_replication::memory;
    use serde_json::json;

    use super::*;

    const UID: &str = "00000000-0000-0000-0000-000000000009";

    fn group(state: Option<&State>) -> RocketBrokerGroup {
        let spec = RocketBrokerGroupSpec {
            cluster: "orders".into(),
            index: 0,
        };
        let mut group = RocketBrokerGroup::new("orders-0", spec);
        group.metadata.uid = Some(UID.into());
        group.status = state.map(|state| status_of(state).unwrap());
        group
    }

    /// What a specification asks for that says nothing.
    fn asked(copies: i32) -> (i32, Policy) {
        (copies, policy(&RocketClusterSpec::default()))
    }

    #[test]
    fn other_modes_are_asked_for_and_nothing_is_said_to_be_in_force() {
        let mut state = memory::group(3);
        let (_, present) = asked(1);
        state = state.begun_with(present);
        let other = RocketClusterSpec {
            flush: Flush::Async,
            ..RocketClusterSpec::default()
        };
        let written = next_state(&group(Some(&state)), (1, policy(&other)), true, Proposal(5));
        let status = written.unwrap().unwrap();
        assert_eq!(status.policy.unwrap().flush, Flush::Async);
        assert_eq!(status.in_force.unwrap().flush, Flush::Sync);
        assert_eq!(awaited(&status).as_deref(), Some("flush Async"));
        let mut settled = group(None);
        settled.status = Some(status);
        let again = next_state(&settled, (1, policy(&other)), true, Proposal(6));
        assert_eq!(again, Ok(None));
        let more = next_state(&settled, (2, policy(&other)), true, Proposal(6));
        let more = more.unwrap().unwrap();
        assert_eq!(awaited(&more).as_deref(), Some("flush Async, minInSync 2"));
        // A record from before modes were written into it.
        let old = next_state(&group(Some(&memory::group(3))), asked(1), true, Proposal(5));
        let old = old.unwrap().unwrap();
        let all = awaited(&old).unwrap();
        assert_eq!(all, "flush Sync, replication Sync, minInSync 1");
    }

    #[test]
    fn first_state_is_nobodys_and_of_this_very_object() {
        let written = next_state(&group(None), asked(2), false, Proposal(5)).unwrap();
        let status = written.unwrap();
        assert_eq!(
            (status.rule, status.master.as_ref()),
            (GroupRule::Elected, None)
        );
        let mut made = group(None);
        made.status = Some(status);
        let state = state_of(&made).unwrap();
        let first = State::new(GroupUid(9), 2, Proposal(5)).begun_with(asked(2).1);
        assert_eq!(state, first);
        assert_eq!(next_state(&made, asked(2), true, Proposal(6)), Ok(None));
    }

    #[test]
    fn record_that_got_lost_is_not_begun_anew_over_volumes() {
        let lost = next_state(&group(None), asked(2), true, Proposal(5));
        assert_eq!(lost, Err(Unwritable::Lost));
        let mut copied = group(Some(&memory::group(3)));
        copied.metadata.uid = Some("00000000-0000-0000-0000-00000000000a".into());
        let broken = next_state(&copied, asked(2), true, Proposal(5)).unwrap_err();
        assert!(broken.to_string().contains("is of group"), "{broken}");
    }

    #[test]
    fn fewer_copies_empty_the_eligible_as_the_protocol_asks() {
        let mut state = memory::group(3);
        state.min_in_sync = 2;
        state.eligible = [memory::member(2)].into();
        state.last_complete.insert(ReplicaId(2));
        let written = next_state(&group(Some(&state)), asked(1), true, Proposal(5)).unwrap();
        let status = written.unwrap();
        assert_eq!((status.min_in_sync, status.eligible.len()), (1, 0));
        assert_eq!(status.version, i64::try_from(state.version.0).unwrap() + 1);
    }

    #[test]
    fn handover_goes_to_a_fit_replica_that_has_everything() {
        let mut state = memory::group(3);
        state.in_sync = [1, 2, 3].map(memory::member).into();
        state.last_complete = [1, 2, 3].map(ReplicaId).into();
        let status = status_of(&state).unwrap();
        assert_eq!(successor(&status, |_| true), Some(ReplicaId(2)));
        assert_eq!(
            successor(&status, |pod| pod == "orders-0-2"),
            Some(ReplicaId(3))
        );
        assert_eq!(successor(&status, |pod| pod == "orders-0-0"), None);
    }

    #[test]
    fn container_that_ended_has_ended_whatever_the_pod_says() {
        let pod = |status: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "orders-0-0"}, "status": status}))
                .unwrap()
        };
        let container = |state: serde_json::Value| {
            let status = json!({"name": "broker", "image": "", "imageID": "", "ready": true, "restartCount": 1, "state": state});
            pod(json!({"phase": "Running", "containerStatuses": [status]}))
        };
        for (pod, expected) in [
            (container(json!({"running": {}})), Life::Runs),
            (
                container(json!({"terminated": {"exitCode": 137}})),
                Life::Ended,
            ),
            (
                container(json!({"waiting": {"reason": "CrashLoopBackOff"}})),
                Life::Ended,
            ),
            (pod(json!({"phase": "Running"})), Life::Runs),
            (pod(json!({"phase": "Failed"})), Life::Ended),
        ] {
            let lives = lives(std::iter::once(&pod));
            assert_eq!(lives["orders-0-0"], expected, "{pod:?}");
        }
    }
}
