//! The conditions' words. One function per condition; the mapping of problems is one exhaustive match.

use rocket_api::{ConditionType, Reason, Truth, label};

use super::facts::{Facts, Group, Problem};
use super::troubles;
use crate::elected;

/// Why masters do not move although there are several replicas.
const FIXED: &str = "the masters of this cluster are fixed, since it was begun with one replica in each group or by an earlier version";

/// How many objects that are not as they were written are named.
const MUTATED: usize = 5;

/// A condition without its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) truth: Truth,
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// The verdicts on all conditions.
pub(super) struct Verdicts<'a> {
    facts: &'a Facts,
}

pub(super) fn verdicts(facts: &Facts) -> Verdicts<'_> {
    Verdicts { facts }
}

impl Verdicts<'_> {
    pub(super) fn of(&self, type_: ConditionType) -> Verdict {
        match type_ {
            ConditionType::Ready => self.ready(),
            ConditionType::Available => self.available(),
            ConditionType::Progressing => self.progressing(),
            ConditionType::Degraded => self.degraded(),
            ConditionType::ReplicationHealthy => self.replication_healthy(),
            ConditionType::FailoverReady => self.failover_ready(),
            ConditionType::ConfigApplied => self.config_applied(),
            ConditionType::Paused => self.paused(),
        }
    }

    fn ready(&self) -> Verdict {
        let mut parts = [
            (self.degraded(), Truth::True),
            (self.available(), Truth::False),
            (self.progressing(), Truth::True),
        ];
        if self.facts.deletion.is_some() {
            // What it lacks follows from that.
            parts.swap(1, 2);
        }
        if let Some((verdict, _)) = parts
            .into_iter()
            .find(|(verdict, bad)| verdict.truth == *bad)
        {
            return no(verdict.reason, verdict.message);
        }
        if !self.facts.all_ready() {
            return no(Reason::PodsNotReady, self.pods_not_ready());
        }
        let facts = self.facts;
        let mut message = format!(
            "{}, {} ready",
            plural(facts.groups.len(), "group"),
            plural(count(facts.brokers.ready), "broker")
        );
        if facts.is_elected() {
            let copies: usize = facts.copies().map(|(_, copies)| copies.in_sync).sum();
            message = format!("{message}; {} in sync", plural(copies, "replica"));
        } else if facts.replicas > 1 {
            let standbys = facts
                .groups
                .iter()
                .map(|group| group.summary.standbys.len());
            let standbys = standbys.sum();
            message = format!("{message}; {} without data", plural(standbys, "standby"));
        }
        yes(Reason::AllGroupsServing, message)
    }

    fn available(&self) -> Verdict {
        let facts = self.facts;
        let refusing: Vec<String> = facts.silent().filter_map(refusal).collect();
        let silent = facts.silent().filter(|group| refusal(group).is_none());
        let silent: Vec<&Group> = silent.collect();
        if !silent.is_empty() {
            return no(Reason::GroupWithoutMaster, without_master(&silent));
        }
        if !refusing.is_empty() {
            return no(Reason::TooFewInSync, refusing.join("; "));
        }
        if facts.name_servers.ready == 0 {
            return no(
                Reason::NoNameServer,
                format!(
                    "none of {} is ready",
                    plural(count(facts.name_servers.wanted), "name server")
                ),
            );
        }
        let coming = indices(facts.coming());
        if !coming.is_empty() {
            return yes(
                Reason::GroupsServing,
                format!("group {coming} is still to come, all others accept writes"),
            );
        }
        yes(
            Reason::AllGroupsServing,
            if facts.groups.len() == 1 {
                "1 group accepts writes".to_owned()
            } else {
                format!("{} groups accept writes", facts.groups.len())
            },
        )
    }

    fn progressing(&self) -> Verdict {
        let facts = self.facts;
        if let Some(deletion) = &facts.deletion {
            return yes(Reason::Deleting, deletion.sentence());
        }
        if facts.paused || facts.is_blocked() {
            return no(
                self.halted(),
                "nothing is changed until the specification is".to_owned(),
            );
        }
        if !facts.growing.is_empty() {
            return yes(
                Reason::ResizingVolumes,
                format!("enlarging {}", facts.growing.join(", ")),
            );
        }
        if facts.brokers.exist != facts.brokers.wanted
            || facts.name_servers.exist != facts.name_servers.wanted
        {
            let message = format!(
                "{} of {} brokers and {} of {} name servers exist",
                facts.brokers.exist,
                facts.brokers.wanted,
                facts.name_servers.exist,
                facts.name_servers.wanted
            );
            return yes(Reason::Scaling, message);
        }
        let coming = indices(facts.coming());
        if !coming.is_empty() {
            return yes(
                Reason::Scaling,
                format!("group {coming} has not taken writes yet"),
            );
        }
        if facts.outdated > 0 {
            return yes(
                Reason::RollingOut,
                format!("{} to be replaced", plural(facts.outdated, "pod")),
            );
        }
        if !facts.settled {
            return yes(
                Reason::Creating,
                "objects were written and are being taken up".to_owned(),
            );
        }
        no(Reason::UpToDate, "nothing is left to do".to_owned())
    }

    fn degraded(&self) -> Verdict {
        if let Some((reason, message)) = troubles::told(&troubles::troubles(self.facts)) {
            return yes(reason, message);
        }
        no(Reason::AsExpected, "nothing is wrong".to_owned())
    }

    fn replication_healthy(&self) -> Verdict {
        if self.facts.is_elected() && self.facts.replicas > 1 {
            return self.copies_healthy();
        }
        if self.facts.replicas > 1 {
            let message = format!(
                "{FIXED}: {} without data, the volume of each master is the only copy. To have copies move to another RocketCluster that is begun with replicas (docs/failover.md)",
                plural(
                    self.facts
                        .groups
                        .iter()
                        .map(|group| group.summary.standbys.len())
                        .sum(),
                    "standby"
                )
            );
            return no(Reason::StandbysHoldNoData, message);
        }
        yes(
            Reason::SingleReplica,
            "one replica per group as specified: its volume is the only copy".to_owned(),
        )
    }

    fn copies_healthy(&self) -> Verdict {
        let replicas = count(self.facts.replicas);
        let behind: Vec<String> = self
            .facts
            .copies()
            .filter(|(_, copies)| copies.in_sync < replicas)
            .map(|(group, copies)| {
                format!(
                    "group {group}: {} of {replicas} replicas are in sync",
                    copies.in_sync
                )
            })
            .collect();
        if behind.is_empty() {
            return yes(
                Reason::AllReplicasInSync,
                "every replica has everything that was acknowledged".to_owned(),
            );
        }
        no(Reason::ReplicasBehind, behind.join("; "))
    }

    fn heirs_ready(&self) -> Verdict {
        let found = self
            .facts
            .problems
            .iter()
            .find_map(|problem| match problem {
                Problem::NoElectableReplica(message) => Some(message.clone()),
                _ => None,
            });
        if let Some(message) = found {
            return no(Reason::NoHeir, message);
        }
        let alone: Vec<String> = self
            .facts
            .copies()
            .filter(|(_, copies)| copies.heirs == 0)
            .map(|(group, _)| group.to_string())
            .collect();
        if !alone.is_empty() {
            let message = format!(
                "group {} has no other replica that has everything and is ready: a lost master must come back on its volume",
                alone.join(", ")
            );
            return no(Reason::NoHeir, message);
        }
        let chosen = self.facts.effective.as_ref();
        let early: Vec<String> = self
            .facts
            .copies()
            .filter(|(_, copies)| copies.answered_by_master)
            .map(|(group, _)| group.to_string())
            .collect();
        if !early.is_empty() {
            let unmet = match chosen.map(|chosen| chosen.min_in_sync) {
                Some(copies) if copies > 1 => format!(
                    "; minInSync {copies} says how many must be in sync for writes to be taken, and no answer waits for them"
                ),
                _ => String::new(),
            };
            let message = format!(
                "group {} answers when its master has a message (replication.mode Async): another replica can take over at once, without what the lost master answered last{unmet}",
                early.join(", ")
            );
            return no(Reason::AnsweredByMaster, message);
        }
        let risk = if chosen.is_some_and(|chosen| chosen.min_in_sync == 1) {
            "; minInSync is 1: a group that loses all replicas but one goes on with a single copy"
        } else {
            ""
        };
        yes(
            Reason::HeirsReady,
            format!("each group has another replica that can take over at once{risk}"),
        )
    }

    fn failover_ready(&self) -> Verdict {
        if self.facts.is_elected() && self.facts.replicas > 1 {
            return self.heirs_ready();
        }
        if self.facts.replicas > 1 {
            return no(
                Reason::FixedMaster,
                format!("{FIXED}: a lost broker comes back on its volume"),
            );
        }
        no(
            Reason::SingleReplica,
            "one replica per group: a lost broker comes back on its volume".to_owned(),
        )
    }

    fn config_applied(&self) -> Verdict {
        let facts = self.facts;
        if facts.deletion.is_some() {
            let message = "the cluster is being deleted, nothing is applied any more";
            return no(Reason::Deleting, message.to_owned());
        }
        if facts.paused || facts.is_blocked() {
            return no(self.halted(), "the specification is not applied".to_owned());
        }
        if facts.pod_monitor_missing {
            return no(Reason::PodMonitorMissing, "monitoring.podMonitor is true but podmonitors.monitoring.coreos.com is not installed: install the Prometheus operator or set it to false".to_owned());
        }
        if facts.outdated > 0 {
            return no(
                Reason::RollingOut,
                format!(
                    "{} with an older specification{}",
                    plural(facts.outdated, "pod"),
                    held(facts)
                ),
            );
        }
        if let Some((reason, message)) = troubles::told(&troubles::of(facts.problems.iter())) {
            return no(reason, message);
        }
        if !facts.settled {
            return no(
                Reason::Creating,
                "objects were written and are being taken up".to_owned(),
            );
        }
        let awaited: Vec<String> = facts
            .groups
            .iter()
            .filter_map(|group| {
                let awaited = group.awaited.as_ref()?;
                Some(format!("group {}: {awaited}", group.summary.index))
            })
            .collect();
        if !awaited.is_empty() {
            let message = format!(
                "asked for and not in force yet, the former modes hold: {}",
                awaited.join("; ")
            );
            return no(Reason::ModesChanging, message);
        }
        if !facts.mutated.is_empty() {
            return no(Reason::ObjectsMutated, mutated(&facts.mutated));
        }
        yes(
            Reason::UpToDate,
            "every pod runs with the present specification".to_owned(),
        )
    }

    fn paused(&self) -> Verdict {
        if self.facts.paused {
            return yes(
                Reason::PausedBySpec,
                "spec.paused is true: pods go on serving, edits wait".to_owned(),
            );
        }
        no(Reason::NotPaused, "changes are applied".to_owned())
    }

    fn halted(&self) -> Reason {
        if self.facts.paused {
            Reason::PausedBySpec
        } else {
            let blocking = self
                .facts
                .problems
                .iter()
                .filter(|problem| problem.blocks());
            troubles::told(&troubles::of(blocking)).map_or(Reason::AsExpected, |(reason, _)| reason)
        }
    }

    fn pods_not_ready(&self) -> String {
        let facts = self.facts;
        format!(
            "{} of {} brokers and {} of {} name servers are ready",
            facts.brokers.ready,
            facts.brokers.wanted,
            facts.name_servers.ready,
            facts.name_servers.wanted
        )
    }
}

/// Why no broker that serves is replaced, and what to do about it.
fn held(facts: &Facts) -> String {
    let copies = facts.effective.as_ref().map_or(0, |it| it.min_in_sync);
    if !elected::spares_none(facts.replicas, copies) {
        return String::new();
    }
    format!(
        "; no broker that is in sync is replaced, because minInSync is {copies} of {} replicas and writes would stop meanwhile: raise groups.replicas, or lower replication.minInSync to {}",
        facts.replicas,
        facts.replicas - 1
    )
}

/// Why an elected group that has a master refuses writes all the same, and what to do about it.
fn refusal(group: &Group) -> Option<String> {
    group.summary.master.as_ref()?;
    let copies = group.copies.filter(|copies| copies.are_too_few())?;
    Some(format!(
        "group {} refuses writes: {} of {} replicas are in sync and minInSync is {}; bring the others back, or lower replication.minInSync and accept that a write is kept by fewer",
        group.summary.index, copies.in_sync, group.summary.replicas, copies.needed
    ))
}

/// Which objects are not as they were written, and what to do about it.
fn mutated(places: &[String]) -> String {
    let told = places.get(..MUTATED).unwrap_or(places);
    let rest = match places.len() - told.len() {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!(
        "something in this Kubernetes cluster, a mutating webhook as a rule, changes what the operator writes: {}{rest}; except objects with the label {}={} from it, or ask for the same in the specification",
        told.join(", "),
        label::MANAGED_BY,
        label::MANAGED_BY_VALUE
    )
}

/// Which groups have no master that is ready, and whom an election waits for.
fn without_master(groups: &[&Group]) -> String {
    let waits = |group: &&Group| group.summary.master.is_none() && !group.electable.is_empty();
    let (waiting, others): (Vec<&Group>, Vec<&Group>) = groups.iter().copied().partition(waits);
    let mut said = Vec::new();
    if !others.is_empty() {
        said.push(format!(
            "no ready master in group {}",
            indices(others.into_iter())
        ));
    }
    said.extend(waiting.into_iter().map(|group| {
        format!(
            "group {} has no master, and one of {} must answer before another can be elected",
            group.summary.index,
            group.electable.join(", ")
        )
    }));
    said.join("; ")
}

fn yes(reason: Reason, message: String) -> Verdict {
    Verdict {
        truth: Truth::True,
        reason,
        message,
    }
}

fn no(reason: Reason, message: String) -> Verdict {
    Verdict {
        truth: Truth::False,
        reason,
        message,
    }
}

fn indices<'a>(groups: impl Iterator<Item = &'a Group>) -> String {
    let indices: Vec<String> = groups
        .map(|group| group.summary.index.to_string())
        .collect();
    indices.join(", ")
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
