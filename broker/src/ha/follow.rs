//! Follows the role of this broker's replica: serves clients while it is master, passes their sends on to the next master for a moment
//! when it is not any more, and then refuses them; says so at `/readyz`, and ends the process when the replica cannot go on.

use std::sync::Arc;
use std::time::Duration;

use rocket_remoting::Processor;
use rocket_replication::effect::Halt;
use rocket_replication::messages::RoleName;
use rocket_replication::replica::Writes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Ended, Standing};
use crate::clock;
use crate::crew::joined;
use crate::health::{BrokerHealth, Failure, Phase};
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::refuser::Refuser;
use crate::relay::{Relay, clients_port};
use crate::serving::Stage;

/// How long it rests after it could not begin to serve although it is master.
const AGAIN: Duration = Duration::from_millis(200);

/// How long the sends of those who are connected here are passed on to the next master. In this time the group's address has come to
/// lead there: the operator hears of it at once, and kube-proxy takes up a change at most a second after the one before.
const PASSING: Duration = Duration::from_secs(2);

/// How long it waits at a time for what the group knows beside its messages.
const LEAD_PATIENCE: Duration = Duration::from_secs(1);

/// Whether all is as it should be.
#[derive(PartialEq, Eq)]
enum Obeyed {
    Yes,
    /// To be tried again soon.
    NotYet,
}

/// See the module.
pub(crate) struct Follower {
    pub(crate) group: String,
    /// Whether it serves when it is master. A slave of a fixed master only keeps what that one copies back.
    pub(crate) serves: bool,
    pub(crate) stage: Arc<Stage>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) health: Arc<BrokerHealth>,
    pub(crate) metrics: Arc<Metrics>,
    /// How far the replication port is above that for clients, in every replica of the group.
    pub(crate) ports_apart: i32,
    /// Sends that are being passed on.
    pub(crate) passing: TaskTracker,
    /// Told until when sends are passed on, and that they are not.
    pub(crate) passes: watch::Sender<Option<Instant>>,
}

impl Follower {
    /// Until `stop`, or until the replica has ended. What serves then goes on serving: it is the caller's to take down.
    pub(crate) async fn run(
        self,
        mut standing: watch::Receiver<Standing>,
        stop: CancellationToken,
    ) {
        let mut epoch = None;
        let mut cut_bytes = 0;
        loop {
            let now = standing.borrow_and_update().clone();
            let series = &self.metrics.series;
            series.divergent_bytes.inc_by(now.cut_bytes - cut_bytes);
            cut_bytes = now.cut_bytes;
            if let Some(ended) = now.ended {
                self.health.fail(failure(ended));
            }
            let obeyed = self.obey(&now, &mut epoch).await;
            let again = async {
                match obeyed {
                    Obeyed::Yes => std::future::pending().await,
                    Obeyed::NotYet => tokio::time::sleep(AGAIN).await,
                }
            };
            let passes = *self.passes.borrow();
            let passed = async {
                match passes {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = passed => {
                    self.passes.send_replace(None);
                    self.give_way(&now).await;
                    self.stage.part();
                }
                changed = standing.changed() => if changed.is_err() {
                    let what = "replica: its thread is gone".to_owned();
                    return self.health.fail(Failure::Task(what));
                },
                () = again => {}
            }
        }
    }

    /// `serving`: the epoch in which clients are served, if they are.
    async fn obey(&self, now: &Standing, serving: &mut Option<u64>) -> Obeyed {
        let epoch = now.epoch.0;
        let is_master = self.serves && now.role == RoleName::Master;
        if is_master && *serving == Some(epoch) {
            return Obeyed::Yes;
        }
        let (role, phase) = place(now);
        self.health.stand(role, epoch, phase);
        // Also before it serves in another epoch: what the group has learned meanwhile is not in what serves.
        if serving.take().is_some() {
            tracing::info!(epoch, "clients are not served any more");
            // One that was replaced without its doing is not in sync: whom it has heard of last may be master no more.
            let handed_over = self.next(now).filter(|_| now.role == RoleName::InSync);
            let until = handed_over.map(|_| Instant::now() + PASSING);
            self.passes.send_replace(until);
            self.give_way(now).await;
            if until.is_none() {
                self.stage.part();
            }
            let metadata = Arc::clone(&self.metadata);
            joined(tokio::task::spawn_blocking(move || metadata.stand_down()).await);
        }
        let is_open = matches!(now.writes, Writes::Open | Writes::TooFewInSync);
        if !(is_master && is_open) {
            self.give_way(now).await;
            return Obeyed::Yes;
        }
        if !self.lead().await {
            return Obeyed::NotYet;
        }
        self.passes.send_replace(None);
        self.stage.enter(epoch);
        self.health.stand("master", epoch, Phase::Serving);
        tracing::info!(epoch, "clients are served: this replica is the master");
        *serving = Some(epoch);
        Obeyed::Yes
    }

    /// Where the next master takes clients, if this replica follows it: one that follows nobody may be master itself soon.
    fn next(&self, now: &Standing) -> Option<String> {
        let follows = matches!(now.role, RoleName::InSync | RoleName::CatchUp);
        let master = now.master.as_deref().filter(|_| follows)?;
        clients_port(master, self.ports_apart)
    }

    /// To the next master, as long as sends are passed on; else to nobody.
    async fn give_way(&self, now: &Standing) {
        let is_passing = self.passes.borrow().is_some();
        let refuser = Refuser::slave(&self.group, now.master.as_deref());
        let instead: Arc<dyn Processor> = match self.next(now).filter(|_| is_passing) {
            Some(next) => Arc::new(Relay::new(next, refuser, self.passing.clone())),
            None => Arc::new(refuser),
        };
        self.stage.give_way(instead).await;
    }

    /// Sees to it that all that the group knows beside its messages is here, and may be changed here from now on.
    async fn lead(&self) -> bool {
        let metadata = Arc::clone(&self.metadata);
        let leading = move || metadata.lead(clock::now(), LEAD_PATIENCE);
        match joined(tokio::task::spawn_blocking(leading).await) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::warn!(%error, "this replica is master and does not serve clients yet");
                false
            }
            None => false,
        }
    }
}

fn place(now: &Standing) -> (&'static str, Phase) {
    let phase = match now.role {
        RoleName::Booting => Phase::Joining("it is not registered with its group"),
        RoleName::Idle | RoleName::CatchUp | RoleName::InSync if now.is_damaged => Phase::Joining(
            "a part of its log is damaged, and it has not had that from another replica yet",
        ),
        RoleName::Idle => Phase::Joining("its group has no master"),
        RoleName::CatchUp => Phase::Joining("it copies from the master what it lacks"),
        RoleName::InSync | RoleName::Activating | RoleName::Master => Phase::Following,
        RoleName::Halted => Phase::Joining("it is halted"),
    };
    ("slave", phase)
}

/// What becomes of a process whose replica has ended.
fn failure(ended: Ended) -> Failure {
    let why = match ended {
        Ended::NeedsRestart => {
            return Failure::Restart("the end of its log has to be cut off, which a start does");
        }
        Ended::Halted(Halt::DiskFailed) => {
            return Failure::Store("a write of the replica's files or of its log failed".to_owned());
        }
        Ended::Halted(Halt::CommittedCutRefused { common, confirm }) => format!(
            "the master's log parts from this one's at {common}, below what is committed ({confirm}); nothing was cut off. Keep this folder, and ask which of the two logs is the group's"
        ),
        Ended::Halted(Halt::BehindRetention) => {
            "it counts as complete, but the master has not kept what it lacks; nothing was changed"
                .to_owned()
        }
        Ended::Halted(Halt::Superseded) => {
            "the coordinator knows a later run of this data folder, or does not know the folder any more: it was started twice, or removed from the group"
                .to_owned()
        }
        Ended::Halted(Halt::GroupFull) => {
            "the group has as many replicas as it may have".to_owned()
        }
        Ended::Halted(Halt::OtherFile { ours, theirs }) => format!(
            "the file of its commit log that it is to go on with ends at {ours}, and at {theirs} in the master's log: one of them was made with another mappedFileSizeCommitLog and brought here by hand. Nothing was changed. Move the whole data folder aside (on a fixed master: all of it but rocket/coordinator), and the replica comes back as a new one and copies everything from its group"
        ),
        Ended::Halted(Halt::Disorder) => {
            "the master's list of epochs cannot be continued here, which is a fault of the program"
                .to_owned()
        }
    };
    Failure::Halted(why)
}
