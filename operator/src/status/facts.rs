//! What was seen, counted: everything that the words of a status are made from.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rocket_api::{
    Effective, GroupRule, GroupState, GroupSummary, ReplicationMode, RocketCluster, label,
};

use super::Deletion;
use crate::elected;
use crate::names::Names;
use crate::observe::Observed;
use crate::roll::{is_leaving, is_ready, outdated, present_revision};
use crate::validate::{self, Refusal, Settings, ValidatedCluster};
use crate::volumes;

/// How long a pod may find no node before that needs a person.
const UNPLACED: SignedDuration = SignedDuration::from_secs(60);

/// How long a container has run when Kubernetes takes it for well, and restarts it without a wait the next time.
const SETTLED: SignedDuration = SignedDuration::from_mins(10);

/// Something that keeps a specification from being carried out, and that trying again does not cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The specification cannot be carried out.
    Refused(String),
    /// An object of a needed name belongs to somebody else.
    NameTaken(String),
    /// The API server refused an object.
    ApplyRefused(String),
    /// The storage class refused to enlarge a volume.
    VolumeResizeRefused(String),
    /// The record of a group is lost or broken.
    RecordUnusable(String),
    /// No replica of a group can be elected without a person.
    NoElectableReplica(String),
    /// A volume goes when its pod ends.
    VolumeTerminating(String),
}

impl Problem {
    /// Whether the specification as a whole is not carried out because of it.
    pub fn blocks(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NameTaken(_))
    }
}

/// Pods of one part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many should be.
    pub wanted: i32,
    /// How many are.
    pub exist: i32,
    /// How many are ready.
    pub ready: i32,
}

/// One group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// As the status shows it.
    pub summary: GroupSummary,
    /// Whether it takes writes: its master is ready under its role, has opened, and has as many copies as it needs.
    pub serving: bool,
    /// The copies of an elected group; `None` where the master is fixed and has the only one.
    pub copies: Option<Copies>,
    /// Modes that were asked for and are not in force yet.
    pub awaited: Option<String>,
    /// Pods that may become master of an elected group as far as its record goes.
    pub electable: Vec<String>,
}

/// How the copies of an elected group fare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// Replicas that have everything that was acknowledged.
    pub in_sync: usize,
    /// Without so many of these the master refuses writes, as the record says.
    pub needed: usize,
    /// Replicas besides the master that are ready and could be elected.
    pub heirs: usize,
    /// Whether answers wait for no other replica, by the modes in force.
    pub answered_by_master: bool,
}

impl Copies {
    /// Whether the master refuses writes because too few replicas have everything.
    pub fn are_too_few(self) -> bool {
        self.in_sync < self.needed
    }
}

/// Everything that a status speaks of.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each read by name"
)]
pub struct Facts {
    /// Release asked for.
    pub version: String,
    /// Address of the name servers.
    pub endpoint: String,
    /// What selects broker pods.
    pub selector: BTreeMap<String, String>,
    /// What the operator chose.
    pub effective: Option<Effective>,
    /// The groups asked for, and those that are there all the same.
    pub groups: Vec<Group>,
    /// Replicas in each group.
    pub replicas: i32,
    /// Broker pods.
    pub brokers: Count,
    /// Name server pods.
    pub name_servers: Count,
    /// Pods that run an older specification.
    pub outdated: usize,
    /// Whether Kubernetes has seen the present templates and nothing was written in this pass that has to be taken up first.
    pub settled: bool,
    /// Whether this pass wrote anything.
    pub wrote: bool,
    /// What is not as the operator wrote it, each object with the first such place.
    pub mutated: Vec<String>,
    /// Claims that are being enlarged.
    pub growing: Vec<String>,
    /// Pods that do not start, each with its reason.
    pub failing: Vec<String>,
    /// What trying again does not cure.
    pub problems: Vec<Problem>,
    /// A PodMonitor was asked for and its resource is not installed.
    pub pod_monitor_missing: bool,
    /// `spec.paused`.
    pub paused: bool,
    /// What its deletion waits for, while it is being deleted.
    pub deletion: Option<Deletion>,
}

/// What a reconcile found and did, besides what it saw.
#[derive(Debug, Default)]
pub struct Pass {
    /// What trying again does not cure.
    pub problems: Vec<Problem>,
    /// How many objects it wrote.
    pub writes: usize,
    /// How many of them have to be taken up before what was seen says anything about the specification.
    pub unsettled: usize,
    /// What is not as it was written, each object with the first such place.
    pub mutated: Vec<String>,
    /// When it looked.
    pub now: Timestamp,
}

impl Facts {
    /// Counts what was seen.
    pub fn gather(
        cluster: &RocketCluster,
        settings: &Settings,
        validated: &Result<ValidatedCluster, Refusal>,
        observed: &Observed,
        pass: Pass,
    ) -> Self {
        let spec = &cluster.spec;
        let names = &validate::names(cluster, settings);
        let sets = || {
            std::iter::once(names.namesrv())
                .chain((0..spec.groups.count).map(|index| names.group(index)))
        };
        // Whatever is refused: a cluster that elects goes on electing.
        let rule = validate::rule(spec, names, observed, settings);
        let groups: Vec<Group> = observed
            .indices(names, spec.groups.count)
            .into_iter()
            .map(|index| {
                let mut group = group(index, spec.groups.replicas, rule, names, observed);
                group.summary.joined = group.serving || has_joined(cluster, &group.summary.name);
                group
            })
            .collect();
        let brokers = Count {
            wanted: spec.groups.count * spec.groups.replicas,
            exist: number(
                observed
                    .pods
                    .iter()
                    .filter(|pod| component(pod) == Some(label::COMPONENT_BROKER))
                    .count(),
            ),
            // Those of a group that is not asked for make up for none of the others.
            ready: groups
                .iter()
                .filter(|group| group.summary.index < spec.groups.count)
                .map(|group| group.summary.ready)
                .sum(),
        };
        let deletion = Deletion::of(cluster, names, observed);
        let mut problems = pass.problems;
        let terminating = volumes::terminating(names, observed);
        problems.extend(terminating.map(Problem::VolumeTerminating));
        // What a pass that writes found itself says the same.
        for index in observed.indices(names, spec.groups.count) {
            let found = unusable(index, names, observed).filter(|it| !problems.contains(it));
            problems.extend(found);
        }
        let mut growing = Vec::new();
        match validated {
            // Nobody asks any more for what is specified.
            Err(_) if deletion.is_some() => {}
            Err(refusal) => problems.push(Problem::Refused(refusal.0.clone())),
            Ok(cluster) => growing.extend((0..spec.groups.count).flat_map(|index| {
                let plan = volumes::plan(cluster, index, observed);
                plan.grow.into_iter().chain(plan.growing)
            })),
        }
        Self {
            version: spec.version.clone(),
            endpoint: names.endpoint(),
            selector: names.broker_selector(),
            effective: validated.as_ref().ok().map(|cluster| Effective {
                image: cluster.image.clone(),
                min_in_sync: (0..spec.groups.count)
                    .map(|index| elected::min_in_sync(cluster, observed.state(&names.group(index))))
                    .min()
                    .unwrap_or(cluster.min_in_sync),
            }),
            groups,
            replicas: spec.groups.replicas,
            brokers,
            name_servers: name_servers(spec.name_servers.replicas, observed),
            outdated: sets().map(|set| outdated(&set, observed).len()).sum(),
            wrote: pass.writes > 0,
            mutated: pass.mutated,
            settled: pass.unsettled == 0
                && sets().all(|set| {
                    observed
                        .stateful_sets
                        .get(&set)
                        .is_some_and(|set| present_revision(set).is_some())
                }),
            growing,
            failing: observed
                .pods
                .iter()
                .filter_map(|pod| failure(pod, pass.now))
                .collect(),
            problems,
            pod_monitor_missing: spec.monitoring.pod_monitor && !observed.pod_monitors,
            paused: spec.paused,
            deletion,
        }
    }

    /// Whether messages can be sent to every group that clients know.
    pub fn is_available(&self) -> bool {
        self.name_servers.ready > 0
            && self.groups.iter().any(|group| group.serving)
            && self.silent().next().is_none()
    }

    /// Groups that should take writes and do not: those that did before, or all while none ever has.
    pub fn silent(&self) -> impl Iterator<Item = &Group> {
        let is_first = !self.groups.iter().any(|group| group.summary.joined);
        self.groups
            .iter()
            .filter(move |group| !group.serving && (is_first || group.summary.joined))
    }

    /// Groups that were asked for later and have not taken writes yet.
    pub fn coming(&self) -> impl Iterator<Item = &Group> {
        let is_first = !self.groups.iter().any(|group| group.summary.joined);
        self.groups
            .iter()
            .filter(move |group| !is_first && !group.summary.joined)
    }

    /// Whether the groups elect their masters.
    pub fn is_elected(&self) -> bool {
        self.groups.iter().any(|group| group.copies.is_some())
    }

    /// How many copies of each message there are to be.
    pub fn copies_wanted(&self) -> i32 {
        if self.is_elected() { self.replicas } else { 1 }
    }

    /// How many replicas besides the master could take over in the group that has the fewest.
    pub fn heirs(&self) -> usize {
        let heirs = self.copies().map(|(_, copies)| copies.heirs);
        heirs.min().unwrap_or_default()
    }

    /// The copies of each elected group, by its index.
    pub fn copies(&self) -> impl Iterator<Item = (i32, Copies)> {
        let copies = |group: &Group| Some((group.summary.index, group.copies?));
        self.groups.iter().filter_map(copies)
    }

    /// Whether every pod is ready.
    pub fn all_ready(&self) -> bool {
        self.brokers.ready >= self.brokers.wanted
            && self.name_servers.ready >= self.name_servers.wanted
    }

    /// Whether nothing is on its way or waited for.
    pub fn is_quiet(&self) -> bool {
        self.settled
            && !self.wrote
            && self.outdated == 0
            && self.problems.is_empty()
            && self.growing.is_empty()
            && self.all_ready()
    }

    /// Whether the specification as a whole is not carried out.
    pub fn is_blocked(&self) -> bool {
        self.problems.iter().any(Problem::blocks)
    }
}

fn has_joined(cluster: &RocketCluster, group: &str) -> bool {
    let before = cluster.status.iter().flat_map(|status| &status.groups);
    before
        .into_iter()
        .any(|known| known.name == group && known.joined)
}

fn group(index: i32, replicas: i32, rule: GroupRule, names: &Names, observed: &Observed) -> Group {
    let name = names.group(index);
    let state = observed.state(&name);
    let master = state.and_then(GroupState::master_pod).map(str::to_owned);
    let is_master = |pod: &Pod| {
        pod.metadata.name == master
            && pod
                .labels()
                .get(label::ROLE)
                .is_some_and(|role| role == label::ROLE_MASTER)
    };
    let mut standbys: Vec<String> = observed
        .pods_of(index)
        .map(ResourceExt::name_any)
        .filter(|pod| Some(pod) != master.as_ref())
        .collect();
    standbys.sort();
    // A record that is yet to come will say what the cluster is begun with.
    let is_elected = state.map_or(rule, |state| state.rule) == GroupRule::Elected;
    let in_sync = state.map_or_else(Vec::new, |state| pods_of_members(state, &state.in_sync));
    if is_elected {
        standbys.retain(|pod| !in_sync.contains(pod));
    }
    let copies = is_elected.then(|| {
        state.map_or_else(Copies::default, |state| {
            copies(state, in_sync.len(), observed)
        })
    });
    let electable = state
        .filter(|_| is_elected)
        .map_or_else(Vec::new, electable);
    let is_open = !is_elected
        || (state.is_some_and(elected::is_open) && !copies.is_some_and(Copies::are_too_few));
    let serves = |pod: &Pod| is_master(pod) && is_ready(pod) && !is_leaving(pod);
    Group {
        serving: is_open && observed.pods_of(index).any(serves),
        copies,
        awaited: state.filter(|_| is_elected).and_then(elected::awaited),
        electable,
        summary: GroupSummary {
            index,
            name,
            master,
            epoch: state.map_or(0, |state| state.epoch),
            in_sync,
            standbys,
            replicas,
            joined: false,
            ready: number(
                observed
                    .pods_of(index)
                    .filter(|pod| is_ready(pod) && !is_leaving(pod))
                    .count(),
            ),
        },
    }
}

/// A record that is not to be obeyed, of a group that elects.
fn unusable(index: i32, names: &Names, observed: &Observed) -> Option<Problem> {
    let name = names.group(index);
    let record = observed.groups.get(&name);
    let why = elected::unusable(record, volumes::has_claims(names, index, observed));
    let why = why.filter(|_| observed.is_elected(names, index))?;
    Some(Problem::RecordUnusable(format!(
        "RocketBrokerGroup {name}: {why}"
    )))
}

/// The pods of members as the record names them.
fn pods_of_members(state: &GroupState, members: &[rocket_api::Member]) -> Vec<String> {
    let replica = |member: &rocket_api::Member| state.replicas.get(&member.replica_id.to_string());
    let names = members.iter().filter_map(replica);
    names.map(|replica| replica.name.clone()).collect()
}

/// The pods of those who have everything that was acknowledged.
fn electable(state: &GroupState) -> Vec<String> {
    let complete = [&state.in_sync, &state.eligible];
    complete
        .into_iter()
        .flat_map(|set| pods_of_members(state, set))
        .collect()
}

fn copies(state: &GroupState, in_sync: usize, observed: &Observed) -> Copies {
    let is_heir = |pod: &str| {
        let pod = observed.pod(pod);
        pod.is_some_and(|pod| is_ready(pod) && !is_leaving(pod))
    };
    let master = state.master_pod();
    Copies {
        in_sync,
        needed: usize::try_from(state.min_in_sync).unwrap_or_default(),
        heirs: electable(state)
            .iter()
            .filter(|pod| Some(pod.as_str()) != master && is_heir(pod))
            .count(),
        answered_by_master: state
            .in_force
            .is_some_and(|said| said.replication == ReplicationMode::Async),
    }
}

fn name_servers(wanted: i32, observed: &Observed) -> Count {
    let pods: Vec<&Pod> = observed
        .pods
        .iter()
        .filter(|pod| component(pod) == Some(label::COMPONENT_NAMESRV))
        .collect();
    Count {
        wanted,
        exist: number(pods.len()),
        ready: number(
            pods.iter()
                .filter(|pod| is_ready(pod) && !is_leaving(pod))
                .count(),
        ),
    }
}

fn component(pod: &Pod) -> Option<&str> {
    pod.labels().get(label::COMPONENT).map(String::as_str)
}

/// Why a pod does not start, if it is stuck.
fn failure(pod: &Pod, now: Timestamp) -> Option<String> {
    const STUCK: [&str; 8] = [
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ];
    if is_ready(pod) || is_leaving(pod) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let stuck = |container: &ContainerStatus| {
        let state = container.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        let reason = reason.filter(|reason| STUCK.contains(reason));
        // Between two waits it is the same trouble, in the same words.
        let reason = reason.or_else(|| is_looping(container, now).then_some("CrashLoopBackOff"))?;
        let code = last_run(container)
            .map(|ended| format!(", the last run ended with status {}", ended.exit_code));
        Some(format!("{name}: {reason}{}", code.unwrap_or_default()))
    };
    let unschedulable = || {
        let conditions = status.conditions.as_ref()?;
        let condition = conditions.iter().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.reason.as_deref() == Some("Unschedulable")
        })?;
        // The scheduler says so of every new pod whose volume is yet to be made.
        let since = condition.last_transition_time.as_ref();
        if since.is_some_and(|since| now.duration_since(since.0) < UNPLACED) {
            return None;
        }
        Some(format!(
            "{name}: no node takes it ({})",
            condition
                .message
                .as_deref()
                .unwrap_or_default()
                .trim_end_matches('.')
        ))
    };
    status
        .container_statuses
        .iter()
        .flatten()
        .find_map(stuck)
        .or_else(unschedulable)
}

/// Whether a container ends again and again soon after its start, and runs, or has just ended, until Kubernetes has it wait again.
fn is_looping(container: &ContainerStatus, now: Timestamp) -> bool {
    let state = container.state.as_ref();
    let running = state.and_then(|state| state.running.as_ref());
    let since = running.and_then(|running| running.started_at.as_ref());
    let is_young = since.is_none_or(|since| now.duration_since(since.0) < SETTLED);
    let has_failed = last_run(container).is_some_and(|run| {
        let times = run.started_at.as_ref().zip(run.finished_at.as_ref());
        let was_short = times.is_none_or(|(from, to)| to.0.duration_since(from.0) < SETTLED);
        run.exit_code != 0 && was_short
    });
    container.restart_count >= 2 && is_young && has_failed
}

/// The run of a container that ended last.
fn last_run(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let states = [&container.state, &container.last_state].into_iter();
    let mut ended = states.filter_map(|state| state.as_ref()?.terminated.as_ref());
    ended.next()
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
