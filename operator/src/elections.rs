//! Electors: for each group that elects, a task that asks its replicas how they fare and has another master elected when the
//! present one is gone (docs/replication.md §8.10).
//!
//! A reconcile only says which groups there are and what Kubernetes knows of their pods; it never waits for an election. The
//! lease has no part in safety: two operators at once elect through the same compare-and-set.

mod elector;
mod judge;
#[cfg(test)]
mod played;
mod probes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use parking_lot::Mutex;
use rocket_api::{GroupRule, RocketCluster};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::elected::{self, Life};
use crate::names::Names;
use crate::observe::Observed;

pub use probes::Route;

/// How soon a master may be asked again to hand over.
const HANDOVER_PAUSE: Duration = Duration::from_secs(30);

/// Namespace and name of a group.
type Key = (String, String);

/// What only a person can mend.
type Finding = Arc<Mutex<Option<String>>>;

/// What a reconcile tells an elector.
#[derive(Clone)]
struct Wanted {
    /// Events are about it.
    cluster: Arc<RocketCluster>,
    /// How many replicas the group shall have.
    replicas: i32,
    /// What Kubernetes knows of them, by pod.
    lives: BTreeMap<String, Life>,
}

struct Running {
    cluster: String,
    /// UID of the record: another object is another group.
    uid: String,
    wanted: watch::Sender<Wanted>,
    finding: Finding,
    _stop: DropGuard,
}

/// The electors of one process. Each ends when its group is not told of any more.
#[derive(Default)]
pub struct Elections {
    running: Mutex<BTreeMap<Key, Running>>,
    handovers: Mutex<BTreeMap<Key, Instant>>,
    tasks: TaskTracker,
}

impl Elections {
    /// Has exactly those groups of a cluster looked after that elect, and tells their electors what was observed.
    pub fn keep(
        &self,
        context: &Arc<Context>,
        cluster: &RocketCluster,
        names: &Names,
        observed: &Observed,
    ) {
        let shared = Arc::new(cluster.clone());
        let mut running = self.running.lock();
        let mut kept = BTreeSet::new();
        for index in 0..cluster.spec.groups.count {
            let name = names.group(index);
            let elects = observed
                .state(&name)
                .is_some_and(|state| state.rule == GroupRule::Elected);
            let Some(record) = observed.groups.get(&name).filter(|_| elects) else {
                continue;
            };
            let wanted = Wanted {
                cluster: Arc::clone(&shared),
                replicas: cluster.spec.groups.replicas,
                lives: elected::lives(observed.pods_of(index)),
            };
            let key = (names.namespace.clone(), name);
            let uid = record.uid().unwrap_or_default();
            if let Some(known) = running.get(&key).filter(|known| known.uid == uid) {
                known.wanted.send_if_modified(|present| {
                    let is_news =
                        present.replicas != wanted.replicas || present.lives != wanted.lives;
                    *present = wanted;
                    is_news
                });
            } else {
                let started = self.start(context, names, index, uid, wanted);
                running.insert(key.clone(), started);
            }
            kept.insert(key);
        }
        running.retain(|key, known| {
            key.0 != names.namespace || known.cluster != names.cluster || kept.contains(key)
        });
    }

    /// Looks after no group of a cluster any more.
    pub fn forget(&self, namespace: &str, cluster: &str) {
        let mut running = self.running.lock();
        running.retain(|key, known| key.0 != namespace || known.cluster != cluster);
    }

    /// What only a person can mend about a group.
    pub fn finding(&self, namespace: &str, group: &str) -> Option<String> {
        let running = self.running.lock();
        let known = running.get(&(namespace.to_owned(), group.to_owned()))?;
        known.finding.lock().clone()
    }

    /// Whether a group's master may be asked to hand over now; it is then taken as asked.
    pub fn may_hand_over(&self, namespace: &str, group: &str) -> bool {
        let mut handovers = self.handovers.lock();
        handovers.retain(|_, asked| asked.elapsed() < HANDOVER_PAUSE);
        let key = (namespace.to_owned(), group.to_owned());
        if handovers.contains_key(&key) {
            return false;
        }
        handovers.insert(key, Instant::now());
        true
    }

    /// Ends all electors and waits for them.
    pub async fn stop(&self) {
        self.running.lock().clear();
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn start(
        &self,
        context: &Arc<Context>,
        names: &Names,
        index: i32,
        uid: String,
        wanted: Wanted,
    ) -> Running {
        let (sender, receiver) = watch::channel(wanted);
        let stop = CancellationToken::new();
        let finding = Finding::default();
        let post = elector::Post {
            context: Arc::clone(context),
            namespace: names.namespace.clone(),
            group: names.group(index),
            index,
            secret: names.replication_secret(),
            wanted: receiver,
            finding: Arc::clone(&finding),
            counted: context.metrics.count_group(
                &names.namespace,
                &names.cluster,
                &names.group(index),
            ),
            tasks: self.tasks.clone(),
            stop: stop.clone(),
        };
        tracing::info!(group = post.group, namespace = post.namespace, "electing");
        let looking = stop.clone().run_until_cancelled_owned(elector::run(post));
        self.tasks.spawn(looking);
        Running {
            cluster: names.cluster.clone(),
            uid,
            wanted: sender,
            finding,
            _stop: stop.drop_guard(),
        }
    }
}
