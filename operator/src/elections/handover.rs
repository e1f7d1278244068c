//! Planned handover as an elector sees it (docs/replication.md §8.12): whether a replica can take over now, who should, and how
//! long no sends were taken. Pure, time is an argument.
//!
//! No safety hangs on it: a master names only a successor that has acknowledged everything. What is looked at here spares a
//! group the pause of a handover that cannot come about.

use std::cmp::Reverse;
use std::time::Duration;

use rocket_api::pod_of_address;
use rocket_replication::identity::{Epoch, ReplicaId, Version};
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::state::State;

/// How long an elector looks after a handover that it asked for. A master takes one back after 2 s.
const LIMIT_MS: u64 = 30_000;

/// Pod of a replica, for people.
pub fn pod(state: &State, id: ReplicaId) -> String {
    match state.replicas.get(&id) {
        Some(replica) => pod_of_address(&replica.address).to_owned(),
        None => format!("replica {id}"),
    }
}

/// The replica of a pod. Of several, as when a pod came back with an empty disk, the one that registered last.
pub fn replica_of(state: &State, pod: &str) -> Option<ReplicaId> {
    let mut ids = state.replicas.iter().rev();
    ids.find(|(_, replica)| pod_of_address(&replica.address) == pod)
        .map(|(id, _)| *id)
}

/// Why nobody can be handed over to now, in words.
pub fn master_obstacle(state: &State, reports: &[Report]) -> Option<String> {
    let Some(master) = state.master else {
        return Some(
            "the group has no master at present: one is elected by itself as soon as one can be"
                .to_owned(),
        );
    };
    let name = pod(state, master.replica_id);
    if state.activated.map(|opened| opened.epoch) != Some(state.epoch) {
        return Some(format!(
            "{name} is master in epoch {} and has not opened for writes yet",
            state.epoch
        ));
    }
    if let Some(to) = state.handover {
        let to = pod(state, to);
        return Some(format!("{name} is handing over to {to} already"));
    }
    let answers = reports.iter().any(|report| report.member == master);
    (!answers).then(|| {
        format!(
            "the master, {name}, does not answer the operator; if it is gone, another one is elected by itself"
        )
    })
}

/// Why this replica cannot take over now, in words.
pub fn obstacle(state: &State, reports: &[Report], to: ReplicaId) -> Option<String> {
    let name = pod(state, to);
    let (Some(member), Some(replica)) = (state.member(to), state.replicas.get(&to)) else {
        return Some(format!("{name} is not registered with its group"));
    };
    if replica.lost || replica.cordoned {
        return Some(format!(
            "{name} may not become master: it is cordoned or lost"
        ));
    }
    if !state.in_sync.contains(&member) {
        return Some(format!(
            "{name} is not in sync: it does not have everything that was acknowledged yet"
        ));
    }
    match reports.iter().find(|report| report.member == member) {
        None => Some(format!("{name} does not answer the operator")),
        Some(report) if report.role == RoleName::Halted => {
            Some(format!("{name} has halted: see its log, and restart it"))
        }
        Some(report) if report.damaged => Some(format!(
            "a part of the log of {name} is damaged and not repaired yet"
        )),
        Some(report) if !report.master_linked => {
            Some(format!("{name} has no link to the master at present"))
        }
        Some(_) => None,
    }
}

/// The replica that should take over: of those that can, and on a pod that pleases `is_fit`, the one with most of the log.
pub fn successor(
    state: &State,
    reports: &[Report],
    is_fit: impl Fn(&str) -> bool,
) -> Option<ReplicaId> {
    let able = state.in_sync.iter().filter(|member| {
        state.master != Some(**member)
            && obstacle(state, reports, member.replica_id).is_none()
            && is_fit(&pod(state, member.replica_id))
    });
    let by_end = able.map(|member| {
        let report = reports.iter().find(|report| report.member == *member);
        (
            report.map(|report| report.log_end),
            Reverse(member.replica_id),
        )
    });
    by_end.max().map(|(_, Reverse(id))| id)
}

/// A handover that was asked for and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handing {
    /// Who asked: the UID of a request, or nothing.
    pub(super) by: Option<String>,
    /// Who is to be master.
    pub(super) to: ReplicaId,
    /// The epoch in which it was asked for.
    pub(super) at: Epoch,
    /// The version of the record that asks for it.
    pub(super) version: Version,
    /// When the asking was begun: the former master took sends until then at least.
    pub(super) asked_ms: u64,
}

/// What has become of a handover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Nothing yet.
    Going,
    /// The other replica takes sends.
    Opened {
        /// In this epoch.
        epoch: Epoch,
        /// For how long at most nobody took sends.
        pause: Duration,
    },
    /// The master took it back, or nothing ever asked for it.
    TakenBack,
    /// Another replica became master, or nothing could be seen for a long time.
    Lost,
}

impl Handing {
    /// What one round of answers says of it.
    pub(super) fn look(&self, now_ms: u64, state: &State, reports: &[Report]) -> Course {
        let waited_ms = now_ms.saturating_sub(self.asked_ms);
        // The successor's own word: the record may not show it here yet.
        let opened = reports.iter().find(|report| {
            report.member.replica_id == self.to
                && report.role == RoleName::Master
                && report.max_epoch > self.at
        });
        if let Some(report) = opened {
            return Course::Opened {
                epoch: report.max_epoch,
                pause: Duration::from_millis(waited_ms),
            };
        }
        let master = state.master.map(|member| member.replica_id);
        let is_other = state.epoch > self.at && master.is_some_and(|master| master != self.to);
        let is_back = state.epoch == self.at && state.version >= self.version;
        if is_other || waited_ms >= LIMIT_MS {
            Course::Lost
        } else if is_back && state.handover.is_none() {
            Course::TakenBack
        } else {
            Course::Going
        }
    }
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
