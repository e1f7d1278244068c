//! Electors: for each group that elects, a task that asks its replicas how they fare and has another master elected when the
//! present one is gone (docs/replication.md §8.10).
//!
//! A reconcile only says which groups there are and what Kubernetes knows of their pods; it never waits for an election. The
//! lease has no part in safety: two operators at once elect through the same compare-and-set.
//!
//! A rolling update and people's requests have an elector ask a master to hand over, or elect whom a person chose; it alone
//! writes to its group's record here, and sees what comes of it.

mod elector;
pub mod force;
pub mod handover;
mod judge;
#[cfg(test)]
mod played;
mod probes;
pub mod rebuild;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;
use rocket_api::RocketCluster;
use rocket_replication::identity::{Epoch, ReplicaId};
use rocket_replication::messages::Report;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::address::Home;
use crate::context::Context;
use crate::elected::{self, Life};
use crate::names::Names;
use crate::observe::Observed;

pub use probes::Route;

/// How soon a master may be asked again to hand over.
const HANDOVER_PAUSE: Duration = Duration::from_secs(30);

/// Namespace and name of a group.
type Key = (String, String);

/// What an elector saw last.
type Seen = Arc<Mutex<Option<Standing>>>;

/// What an elector saw when it last asked the replicas of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Their answers.
    pub reports: Vec<Report>,
    /// What they hold, asked only while the group has no record.
    pub survey: rebuild::Survey,
    /// The last handover that it asked for and saw the end of.
    pub handed: Option<Handed>,
}

/// A handover that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// Who asked: the UID of a request, or nothing.
    pub by: Option<String>,
    /// What came of it.
    pub course: handover::Course,
    /// When that was seen.
    pub ended: Timestamp,
}

/// What an elector is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Have the master hand over, if it is still that of this epoch.
    HandOver {
        /// Who takes over.
        to: ReplicaId,
        /// The epoch in which it was decided.
        at: Epoch,
        /// Who asks: the UID of a request, or nothing.
        by: Option<String>,
    },
    /// Elect this replica by a person's decision (docs/replication.md §8.14).
    Force {
        /// Who becomes master.
        to: ReplicaId,
        /// The epoch at which it was decided.
        at: Epoch,
        /// Who decided, and when: kept in the record for ever.
        reason: String,
    },
    /// Make the lost record anew by a person's decision (docs/replication.md §8.16).
    Rebuild {
        /// Pods whose volumes exist: all of them are to have told what they hold.
        volumes: BTreeSet<String>,
        /// Who decided, for an Event.
        reason: String,
    },
    /// Take away a record that is not to be obeyed, so that it can be made anew.
    Discard,
}

/// What came of it: the record says so now, or why it was not written, in words.
pub type Answer = Result<(), String>;

struct Order {
    task: Task,
    done: oneshot::Sender<Answer>,
}

/// What only a person can mend.
type Finding = Arc<Mutex<Option<String>>>;

/// What a reconcile tells an elector.
#[derive(Clone)]
struct Wanted {
    /// Events are about it.
    cluster: Arc<RocketCluster>,
    /// How many replicas the group shall have.
    replicas: i32,
    /// The record holds no state: nobody is elected, and the replicas are asked what they hold.
    is_lost: bool,
    /// What Kubernetes knows of them, by pod.
    lives: BTreeMap<String, Life>,
    /// Where they are reached, by pod; nothing where the operator does not lead Services itself.
    homes: BTreeMap<String, Home>,
}

struct Running {
    cluster: String,
    /// UID of the record: another object is another group.
    uid: String,
    wanted: watch::Sender<Wanted>,
    orders: mpsc::Sender<Order>,
    finding: Finding,
    seen: Seen,
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
    /// Has exactly those groups of a cluster looked after that elect, also while they are not asked for any more, and tells their electors
    /// what was observed.
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
        for index in observed.indices(names, cluster.spec.groups.count) {
            let name = names.group(index);
            let elects = observed.is_elected(names, index);
            let Some(record) = observed.groups.get(&name).filter(|_| elects) else {
                continue;
            };
            let wanted = Wanted {
                cluster: Arc::clone(&shared),
                replicas: cluster.spec.groups.replicas,
                is_lost: record.status.is_none(),
                lives: elected::lives(observed.pods_of(index)),
                homes: homes(index, observed),
            };
            let key = (names.namespace.clone(), name);
            let uid = record.uid().unwrap_or_default();
            if let Some(known) = running.get(&key).filter(|known| known.uid == uid) {
                known.wanted.send_if_modified(|present| {
                    let is_news = present.replicas != wanted.replicas
                        || present.is_lost != wanted.is_lost
                        || present.lives != wanted.lives;
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
            let stays =
                key.0 != names.namespace || known.cluster != names.cluster || kept.contains(key);
            if !stays {
                let metrics = &context.metrics;
                metrics.forget_group(&key.0, &known.cluster, &key.1);
            }
            stays
        });
    }

    /// Looks after no group of those clusters any more.
    pub fn forget(&self, is_gone: impl Fn(&str, &str) -> bool) {
        let mut running = self.running.lock();
        running.retain(|key, known| !is_gone(&key.0, &known.cluster));
    }

    /// What only a person can mend about a group.
    pub fn finding(&self, namespace: &str, group: &str) -> Option<String> {
        let running = self.running.lock();
        let known = running.get(&(namespace.to_owned(), group.to_owned()))?;
        known.finding.lock().clone()
    }

    /// Whether a group is looked after.
    #[cfg(test)]
    pub(crate) fn has(&self, namespace: &str, group: &str) -> bool {
        let running = self.running.lock();
        running.contains_key(&(namespace.to_owned(), group.to_owned()))
    }

    /// What the elector of a group saw last; nothing before its first look.
    pub fn standing(&self, namespace: &str, group: &str) -> Option<Standing> {
        let running = self.running.lock();
        let known = running.get(&(namespace.to_owned(), group.to_owned()))?;
        known.seen.lock().clone()
    }

    /// Asks the elector of a group to do something. Nothing is asked when it is doing something else, or when there is none. The
    /// answer need not be waited for.
    pub fn ask(
        &self,
        namespace: &str,
        group: &str,
        task: Task,
    ) -> Option<oneshot::Receiver<Answer>> {
        let running = self.running.lock();
        let known = running.get(&(namespace.to_owned(), group.to_owned()))?;
        let (done, answer) = oneshot::channel();
        known.orders.try_send(Order { task, done }).ok()?;
        Some(answer)
    }

    /// Whether a rolling update may ask a group's master to hand over now.
    pub fn may_hand_over(&self, namespace: &str, group: &str) -> bool {
        let mut handovers = self.handovers.lock();
        handovers.retain(|_, asked| asked.elapsed() < HANDOVER_PAUSE);
        !handovers.contains_key(&(namespace.to_owned(), group.to_owned()))
    }

    /// A rolling update has asked a group's master to hand over.
    fn asked(&self, namespace: &str, group: &str) {
        let key = (namespace.to_owned(), group.to_owned());
        self.handovers.lock().insert(key, Instant::now());
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
        let (orders, taken) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let (finding, seen) = (Finding::default(), Seen::default());
        let post = elector::Post {
            context: Arc::clone(context),
            namespace: names.namespace.clone(),
            group: names.group(index),
            index,
            secret: names.replication_secret(),
            wanted: receiver,
            orders: taken,
            finding: Arc::clone(&finding),
            counted: context.metrics.count_group(
                &names.namespace,
                &names.cluster,
                &names.group(index),
            ),
            seen: Arc::clone(&seen),
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
            orders,
            finding,
            seen,
            _stop: stop.drop_guard(),
        }
    }
}

fn homes(index: i32, observed: &Observed) -> BTreeMap<String, Home> {
    let pods = observed.pods_of(index).filter(|_| observed.endpoint_slices);
    let homes = pods.filter_map(Home::of);
    homes.map(|home| (home.pod.clone(), home)).collect()
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use prometheus::Registry;
    use rocket_coordinator::kubernetes::status_of;
    use rocket_replication::memory;
    use serde_json::json;
    use tower_test::mock;

    use super::*;
    use crate::metrics::Metrics;
    use crate::validate::{self, Settings};

    #[tokio::test]
    async fn group_that_serves_is_looked_after_although_it_is_not_asked_for() {
        let (service, _unanswered) = mock::pair::<Request<Body>, Response<Body>>();
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let (client, settings) = (Client::new(service, "mq"), Settings::default());
        let context = Arc::new(Context::new(client, settings.clone(), metrics, None));
        let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "orders", "namespace": "mq", "uid": "u"}, "spec": {"groups": {"count": 1, "replicas": 3}}});
        let cluster: RocketCluster = serde_json::from_value(cluster).unwrap();
        let names = validate::names(&cluster, &settings);
        let status = status_of(&memory::group(3)).unwrap();
        let mut observed = Observed::default();
        for index in 0..3 {
            let name = names.group(index);
            let record = json!({"metadata": {"name": name, "uid": name}, "spec": {"cluster": "orders", "index": index}, "status": status});
            let record = serde_json::from_value(record).unwrap();
            observed.groups.insert(name, record);
        }
        let set = serde_json::from_value(json!({"metadata": {"name": "orders-1"}})).unwrap();
        observed.stateful_sets.insert("orders-1".to_owned(), set);
        let elections = &context.elections;
        let kept = |observed: &Observed| {
            elections.keep(&context, &cluster, &names, observed);
            let elector = |group: &str| elections.ask("mq", group, Task::Discard).is_some();
            ["orders-0", "orders-1", "orders-2"].map(elector)
        };
        assert_eq!(kept(&observed), [true, true, false]);
        observed.stateful_sets.clear();
        let running = || elections.running.lock().keys().cloned().collect::<Vec<_>>();
        kept(&observed);
        assert_eq!(running(), [("mq".to_owned(), "orders-0".to_owned())]);
        elections.stop().await;
    }
}
