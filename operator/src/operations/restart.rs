//! `Restart`: every broker of a group, or of all groups, is replaced by one that runs the present specification.
//!
//! The request names its pods by UID when it begins, and `roll` replaces pods of these UIDs: slaves first, each only when every
//! replica of every group is in sync, masters when they have handed over. A pod of the name with another UID was restarted,
//! by whomever, so a restarted operator, a rolling update and an eviction all count.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use rocket_api::{GroupRule, OperationStatus, Phase, RocketCluster, RocketOperationSpec};

use super::decide::{Seen, Step};
use crate::elected;
use crate::elections::handover::Course;
use crate::roll::{is_leaving, is_ready};
use crate::volumes;

pub(super) fn step(
    spec: &RocketOperationSpec,
    status: &mut OperationStatus,
    seen: &Seen<'_>,
) -> Step {
    let Some(cluster) = seen.cluster else {
        return Step::Wait("there is no RocketCluster".to_owned());
    };
    let groups = spec
        .group
        .map_or(0..cluster.spec.groups.count, |index| index..index + 1);
    if status.restarting.is_empty() {
        if let Some(why) = groups.clone().find_map(|index| short(index, cluster, seen)) {
            return Step::Never(why);
        }
        if let Some(why) = halted(cluster) {
            return Step::Wait(why);
        }
        status.restarting = groups.flat_map(|index| pods(index, seen)).collect();
        if status.restarting.is_empty() {
            return Step::Wait("there is no broker yet".to_owned());
        }
    }
    measured(spec, status, seen);
    let all = status.restarting.len();
    let mut done = 0;
    let mut waits = None;
    for (name, uid) in &status.restarting {
        match left(name, uid, cluster, seen) {
            None => done += 1,
            Some(Left::Turn) => {}
            Some(Left::Lacks(what)) => waits = waits.or(Some(format!("waiting for {what} {name}"))),
        }
    }
    status.progress = Some(format!("{done}/{all}"));
    if done == all {
        return Step::Done(format!("{done} of {all} brokers were restarted"));
    }
    let turn = "the next one is restarted as soon as all replicas are in sync";
    let why = halted(cluster).or(waits).unwrap_or_else(|| turn.to_owned());
    Step::Going(format!("{done} of {all} restarted; {why}"))
}

/// What a pod still lacks.
enum Left {
    /// It has not been restarted yet.
    Turn,
    /// It was, or may not be yet, and this is to come, in words.
    Lacks(&'static str),
}

/// Why restarting a group would stop its writes (docs/replication.md §8.17).
fn short(index: i32, cluster: &RocketCluster, seen: &Seen<'_>) -> Option<String> {
    let state = seen.observed.state(&seen.names.group(index))?;
    let (replicas, needed) = (cluster.spec.groups.replicas, state.min_in_sync);
    let is_short = state.rule == GroupRule::Elected && elected::spares_none(replicas, needed);
    is_short.then(|| {
        format!(
            "group {index} needs {needed} of its {replicas} replicas in sync, so it would refuse writes while one restarts: lower replication.minInSync to {} first, or raise groups.replicas, and make another request",
            replicas - 1
        )
    })
}

/// Why nothing of a cluster is changed at present.
fn halted(cluster: &RocketCluster) -> Option<String> {
    let phase = cluster.status.as_ref().map(|status| status.phase);
    if cluster.spec.paused {
        Some("waiting: spec.paused of the RocketCluster is true".to_owned())
    } else if phase == Some(Phase::Blocked) {
        Some(
            "waiting: the RocketCluster is blocked, and its condition Degraded says why".to_owned(),
        )
    } else {
        None
    }
}

/// Broker pods of a group with their UIDs.
fn pods(index: i32, seen: &Seen<'_>) -> BTreeMap<String, String> {
    let set = seen.names.group(index);
    let is_member = |pod: &&Pod| {
        let mut owners = pod.owner_references().iter();
        owners.any(|owner| {
            owner.controller == Some(true) && owner.kind == "StatefulSet" && owner.name == set
        })
    };
    let members = seen.observed.pods_of(index).filter(is_member);
    members
        .filter_map(|pod| Some((pod.name_any(), pod.uid()?)))
        .collect()
}

/// What a pod still lacks; nothing when it was restarted and is in sync again.
fn left(name: &str, uid: &str, cluster: &RocketCluster, seen: &Seen<'_>) -> Option<Left> {
    let index = group_of(name, cluster, seen)?;
    match seen.observed.pod(name) {
        None => return Some(Left::Lacks("the next pod of the name")),
        Some(pod) if pod.metadata.uid.as_deref() == Some(uid) => {
            let is_last = volumes::is_last(seen.names, index, name, seen.observed);
            return Some(if is_last {
                Left::Lacks("another replica in sync that runs, since a volume goes with")
            } else {
                Left::Turn
            });
        }
        Some(pod) if is_leaving(pod) || !is_ready(pod) => {
            return Some(Left::Lacks("the readiness of"));
        }
        Some(_) => {}
    }
    let state = seen.observed.state(&seen.names.group(index));
    let state = state.filter(|state| state.rule == GroupRule::Elected)?;
    let ordinal = seen.names.ordinal(index, name)?;
    let is_back = elected::in_sync(state, index, seen.names).contains(&ordinal);
    (!is_back).then_some(Left::Lacks("everything acknowledged to be on"))
}

/// The group of a pod that the cluster shall still have.
fn group_of(name: &str, cluster: &RocketCluster, seen: &Seen<'_>) -> Option<i32> {
    (0..cluster.spec.groups.count).find(|index| {
        let ordinal = seen.names.ordinal(*index, name);
        ordinal.is_some_and(|ordinal| ordinal < cluster.spec.groups.replicas)
    })
}

/// Keeps the longest pause of the handovers since it began.
fn measured(spec: &RocketOperationSpec, status: &mut OperationStatus, seen: &Seen<'_>) {
    let Some(begun) = status.started_at.as_ref().map(|time| time.0) else {
        return;
    };
    let is_since = |ended: Timestamp| ended >= begun;
    let meant = seen.standings.iter();
    let meant = meant.filter(|(index, _)| spec.group.is_none_or(|group| group == **index));
    let pauses = meant.filter_map(|(_, standing)| {
        let handed = standing.handed.as_ref();
        match handed.filter(|handed| is_since(handed.ended))?.course {
            Course::Opened { pause, .. } => Some(pause.as_millis()),
            Course::Going | Course::TakenBack | Course::Lost => None,
        }
    });
    let known = status.write_pause.as_deref();
    let known = known.and_then(|text| text.strip_suffix("ms")?.parse().ok());
    status.write_pause = pauses.chain(known).max().map(|ms| format!("{ms}ms"));
}
