//! The elector of one group: asks its replicas how they fare, judges, and writes the election that
//! `rocket_replication::elector` decides (docs/replication.md §8.10).
//!
//! It keeps nothing that an election depends on: whatever it knew, each election begins with a current read and a question to
//! the replicas. A write without a clear answer is looked up (C2); one that is still open then is left: it names the version
//! that it replaces, so it either lands on the state that it was decided on, or never.

mod led;
mod orders;
mod proving;
mod rebuilding;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rocket_api::{Reason, pod_of_address};
use rocket_coordinator::kubernetes::KubernetesCoordinator;
use rocket_coordinator::{Cas, CasAnswer, Coordinator, Hints, ReadAnswer};
use rocket_replication::Replication;
use rocket_replication::coordinator::{Conclusion, Tracker};
use rocket_replication::elector::{Circumstances, Decision, decide};
use rocket_replication::identity::{Epoch, GroupUid, Member, ReplicaId};
use rocket_replication::messages::Report;
use rocket_replication::mutations::Mutations;
use rocket_replication::state::State;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handover::Handing;
use super::judge::{Judge, Opinion};
use super::probes::Probes;
use super::{Finding, Order, Seen, Wanted};
use crate::context::{self, Context};
use crate::elected::Life;
use crate::metrics::{CountedGroup, ElectionKind};
use crate::secret::Found;
use proving::Proof;

/// How often replicas are asked while all is well.
const LOOK: Duration = Duration::from_millis(250);
/// How soon they are asked again while the master does not answer, and how long answers are then waited for.
const SOON: Duration = Duration::from_millis(20);
const SHORT_WAIT: Duration = Duration::from_millis(100);
/// How soon an election is tried again. Doubled up to some seconds while nothing comes of it.
const AGAIN: Duration = Duration::from_millis(100);
/// `election_wait`: how long answers are waited for.
const WAIT: Duration = Duration::from_millis(300);
/// How often they are asked while a handover is under way, and how long their answers are then waited for: so closely its pause is
/// measured.
const CLOSELY: Duration = Duration::from_millis(10);
const CLOSE_WAIT: Duration = Duration::from_millis(60);
/// How long the first election waits for all replicas that a group shall have, and how long one that only a person can decide
/// is waited for before that is said.
const FIRST_WAIT_MS: u64 = 30_000;

/// Which group, and by what it is looked after.
pub(super) struct Post {
    pub(super) context: Arc<Context>,
    pub(super) namespace: String,
    pub(super) group: String,
    pub(super) index: i32,
    pub(super) secret: String,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) finding: Finding,
    pub(super) counted: CountedGroup,
    pub(super) seen: Seen,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Post {
    /// Tells a person, once.
    fn find(&self, message: &str) {
        let before = self.finding.lock().replace(message.to_owned());
        if before.as_deref() != Some(message) {
            tracing::error!(group = self.group, "{message}");
        }
    }
}

/// See the module.
struct Elector {
    post: Post,
    coordinator: Arc<dyn Coordinator>,
    hints: Hints,
    probes: Probes,
    proof: Proof,
    judge: Judge,
    started: Instant,
    tracker: Tracker,
    uid: Option<GroupUid>,
    /// The newest epoch whose master's pod was labelled, and that pod.
    led: Option<(Epoch, Option<String>)>,
    /// An election whose master has not opened yet, and when the former one was first missed.
    opening: Option<(Epoch, u64)>,
    /// Elections in a row that came to nothing.
    tries: u32,
    /// A handover that was asked for here and has not ended.
    handing: Option<Handing>,
}

/// Looks after a group for ever.
pub(super) async fn run(post: Post) {
    let secret = proving::first(&post).await;
    let client = post.context.client.clone();
    let coordinator = KubernetesCoordinator::new(client, &post.namespace, &post.group, &post.tasks);
    Elector::new(post, Arc::new(coordinator), secret)
        .run()
        .await;
}

impl Elector {
    fn new(post: Post, coordinator: Arc<dyn Coordinator>, secret: Found) -> Self {
        Self {
            hints: coordinator.watch(),
            coordinator,
            probes: proving::probes(&post, secret.secret),
            proof: Proof::new(secret.version),
            judge: Judge::new(post.context.is_standby()),
            started: Instant::now(),
            tracker: Tracker::default(),
            uid: None,
            led: None,
            opening: None,
            tries: 0,
            handing: None,
            post,
        }
    }

    async fn run(mut self) {
        loop {
            let is_lost = self.post.wanted.borrow().is_lost;
            let pause = match self.newest() {
                _ if is_lost => self.survey().await,
                Some(state) => self.look(&state).await,
                None => LOOK,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.probes.cut() => {}
                changed = self.hints.changed() => if changed.is_err() { return },
                changed = self.post.wanted.changed() => if changed.is_err() { return },
                Some(order) = self.post.orders.recv() => self.obey(order).await,
            }
        }
    }

    /// The newest state known: hinted, read or written.
    fn newest(&mut self) -> Option<Arc<State>> {
        let hinted = self.hints.borrow_and_update().clone();
        let seen = self.tracker.seen().cloned();
        hinted.into_iter().chain(seen).max_by_key(|s| s.version)
    }

    /// One round of questions; returns how long to rest.
    async fn look(&mut self, state: &State) -> Duration {
        self.follow(state).await;
        let (wait, rest) = match self.handing {
            Some(_) => (CLOSE_WAIT, CLOSELY),
            None if self.judge.is_suspicious() => (SHORT_WAIT, LOOK),
            None => (WAIT, LOOK),
        };
        let asked_ms = self.now_ms();
        let round = self.probes.ask(state, wait, None).await;
        let is_asked = state.replicas.values().any(|replica| !replica.lost);
        self.heard(!is_asked || !round.reports.is_empty()).await;
        self.note(state, &round).await;
        let (now_ms, life) = (self.now_ms(), self.life(state));
        match self.judge.look((asked_ms, now_ms), state, &round, life) {
            Opinion::Fine => {
                self.tries = 0;
                *self.post.finding.lock() = None;
                rest
            }
            Opinion::Suspicious => SOON,
            Opinion::Elect => {
                self.tries = self.tries.saturating_add(1);
                self.elect().await;
                AGAIN * 2_u32.pow(self.tries.saturating_sub(1).min(5))
            }
        }
    }

    /// §8.10, from the current read on.
    async fn elect(&mut self) {
        let Some(state) = self.read().await else {
            return;
        };
        let asked_ms = self.now_ms();
        let master = state.master.map(|master| master.replica_id);
        let round = self.probes.ask(&state, WAIT, master).await;
        let (now_ms, life) = (self.now_ms(), self.life(&state));
        let opinion = self.judge.look((asked_ms, now_ms), &state, &round, life);
        if opinion != Opinion::Elect {
            return;
        }
        let missed_ms = self.judge.missed_ms(now_ms);
        let reports = round.able();
        let preference = by_ordinal(&state);
        let seen = Circumstances {
            reports: &reports,
            preference: &preference,
            master_suspected: true,
            waited: state.epoch > Epoch(0) || missed_ms >= FIRST_WAIT_MS,
            expected_replicas: self.replicas(),
            ..Circumstances::default()
        };
        let proposal = self.post.context.proposal();
        match decide(&state, &seen, proposal, Mutations::default()) {
            Decision::Elect(new) => {
                self.write(&state, *new, now_ms.saturating_sub(missed_ms))
                    .await;
            }
            Decision::NeedsHuman { .. } | Decision::Wait
                if missed_ms >= FIRST_WAIT_MS && self.proof.is_wanting() =>
            {
                self.cannot_prove();
            }
            Decision::NeedsHuman { missing } if missed_ms >= FIRST_WAIT_MS => {
                self.needs_human(&state, &missing);
            }
            Decision::Wait if missed_ms >= FIRST_WAIT_MS => self.waits(&state, &round.reports),
            // A read that was a little old gives way to the next one; a record that went back does not.
            Decision::StartAgain if missed_ms >= FIRST_WAIT_MS => self.is_behind(),
            Decision::NeedsHuman { .. }
            | Decision::Leave
            | Decision::Wait
            | Decision::StartAgain => {}
        }
    }

    /// A current read; nothing when there is none to go by.
    async fn read(&mut self) -> Option<Arc<State>> {
        let state = match self.coordinator.read_current().await {
            ReadAnswer::State(state) => state,
            ReadAnswer::Gone | ReadAnswer::Unreachable => return None,
        };
        if self.tracker.read(self.uid, Arc::clone(&state)) == Conclusion::Forgot {
            self.is_behind();
            return None;
        }
        self.uid = Some(state.group_uid);
        Some(state)
    }

    /// Writes by compare-and-set and tells the replicas; gives back the state if it is known to be written.
    async fn replace(&mut self, state: &State, new: State) -> Option<Arc<State>> {
        if let Err(violation) = State::check_transition(state, &new) {
            tracing::error!(group = self.post.group, %violation, "a state that breaks a rule was not written");
            return None;
        }
        let cas = Cas {
            expected: state.version,
            new: Arc::new(new),
        };
        let new = Arc::clone(&cas.new);
        let is_applied = match self.coordinator.cas(cas).await {
            CasAnswer::Applied(_) => true,
            CasAnswer::Unsent => false,
            CasAnswer::Conflict | CasAnswer::Unknown => {
                let now = self.coordinator.read_current().await;
                matches!(now, ReadAnswer::State(now) if (now.version, now.proposal) == (new.version, new.proposal))
            }
        };
        if !is_applied {
            return None;
        }
        self.probes.nudge();
        self.tracker.read(self.uid, Arc::clone(&new));
        Some(new)
    }

    /// Writes an election; says whether it is known to be written.
    async fn write(&mut self, state: &State, new: State, missed_at_ms: u64) -> bool {
        let Some(new) = self.replace(state, new).await else {
            return false;
        };
        // How long the first master of a new group took says how long its pods took.
        self.opening = (state.epoch > Epoch(0)).then_some((new.epoch, missed_at_ms));
        self.tries = 0;
        *self.post.finding.lock() = None;
        self.follow(&new).await;
        self.tell(state, &new).await;
        true
    }

    async fn tell(&self, former: &State, new: &State) {
        let is_unclean = new.unclean.len() > former.unclean.len();
        let kind = match former.epoch {
            Epoch(0) => ElectionKind::First,
            _ if is_unclean => ElectionKind::Unclean,
            _ => ElectionKind::Clean,
        };
        self.post.counted.elected(kind);
        let (index, epoch) = (self.post.index, new.epoch);
        let master = master_pod(new).unwrap_or_default();
        let why = match (kind, master_pod(former)) {
            (ElectionKind::First, _) => "nobody was master before".to_owned(),
            (ElectionKind::Unclean, _) => new
                .unclean
                .last()
                .map(|unclean| {
                    format!(
                        "acknowledged messages beyond physical offset {} may be lost: {}",
                        unclean.kept_end.0, unclean.reason
                    )
                })
                .unwrap_or_default(),
            (ElectionKind::Clean, Some(pod)) => format!("{pod} did not answer"),
            (ElectionKind::Clean, None) => "the former master had ended".to_owned(),
        };
        let alone = self.answered_alone(kind, former, new);
        let decision = context::Decision {
            warning: is_unclean || alone.is_some(),
            reason: Reason::Elected,
            action: "Elect",
            note: format!(
                "group {index}: elected {master} in epoch {epoch}; {why}{}",
                alone.unwrap_or_default()
            ),
            about: Some(("Pod", master)),
        };
        let cluster = Arc::clone(&self.post.wanted.borrow().cluster);
        self.post.context.publish(&cluster, &decision).await;
    }

    /// What a lost master may have taken with it where answers do not wait for the other replicas. Nobody but it knows whether it did.
    fn answered_alone(&self, kind: ElectionKind, former: &State, new: &State) -> Option<String> {
        let said = former.in_force?;
        if kind != ElectionKind::Clean || said.replication != Replication::Async {
            return None;
        }
        let seen = self.post.seen.lock();
        let mut reports = seen.iter().flat_map(|standing| &standing.reports);
        let beyond = reports
            .find(|report| Some(report.member) == new.master)
            .map_or_else(String::new, |report| {
                format!(" beyond physical offset {}", report.log_end.0)
            });
        Some(format!(
            "; replication Async is in force: acknowledged messages{beyond} may be lost, if the former master alone had them"
        ))
    }

    fn needs_human(&self, state: &State, missing: &BTreeSet<ReplicaId>) {
        let missing = pods(state, missing.iter());
        self.post.find(&format!(
            "group {}: no replica that answers is known to have everything that was acknowledged. Bring back {missing}, each on its volume, which may be all that is left",
            self.post.index
        ));
    }

    /// Who has everything that was acknowledged is recorded, and none of them can be elected.
    fn waits(&self, state: &State, reports: &[Report]) {
        let answers = |member: &&Member| reports.iter().any(|report| report.member == **member);
        let (unfit, silent): (Vec<&Member>, Vec<&Member>) = state.complete().partition(answers);
        let names =
            |members: &[&Member]| pods(state, members.iter().map(|member| &member.replica_id));
        let why = if reports.is_empty() {
            "none of its replicas answers the operator, so none can be elected when its master is lost. Where their pods run, something keeps the operator from their replication port, a NetworkPolicy as a rule".to_owned()
        } else if silent.is_empty() {
            format!(
                "only {} is known to have everything that was acknowledged, and it is damaged, halted or cordoned: its log and its pod's last line say which",
                names(&unfit)
            )
        } else {
            format!(
                "one of {} must answer before another master can be elected: nobody who answers and is sound is known to have everything that was acknowledged. Bring it back on its volume, which may be all that is left",
                names(&silent)
            )
        };
        self.post.find(&format!("group {}: {why}", self.post.index));
    }

    /// What Kubernetes knows of the process of the recorded master.
    fn life(&self, state: &State) -> Life {
        let pod = master_pod(state).unwrap_or_default();
        let wanted = self.post.wanted.borrow();
        wanted.lives.get(&pod).copied().unwrap_or(Life::Ended)
    }

    fn replicas(&self) -> usize {
        usize::try_from(self.post.wanted.borrow().replicas).unwrap_or_default()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The names of their pods.
fn pods<'a>(state: &State, replicas: impl Iterator<Item = &'a ReplicaId>) -> String {
    let pod = |id| {
        let replica = state.replicas.get(id);
        replica.map_or("a removed replica", |r| pod_of_address(&r.address))
    };
    replicas.map(pod).collect::<Vec<&str>>().join(", ")
}

/// Among equals the replica of the lowest ordinal becomes master: scaling in takes the highest ones.
fn by_ordinal(state: &State) -> Vec<ReplicaId> {
    let ordinal = |address: &str| -> Option<u32> {
        let (_, ordinal) = pod_of_address(address).rsplit_once('-')?;
        ordinal.parse().ok()
    };
    let replicas = state.replicas.iter();
    let mut ranked: Vec<(u32, ReplicaId)> = replicas
        .map(|(id, replica)| (ordinal(&replica.address).unwrap_or(u32::MAX), *id))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, id)| id).collect()
}

fn master_pod(state: &State) -> Option<String> {
    let replica = state.replicas.get(&state.master?.replica_id)?;
    Some(pod_of_address(&replica.address).to_owned())
}
