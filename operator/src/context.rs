//! What every reconcile shares: the client, the operator's settings, its counters, and how often each object failed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use parking_lot::Mutex;
use rocket_api::{Reason, RocketCluster};
use rocket_replication::identity::{Proposal, Proposals};
use tokio::time::timeout;

use crate::address::{PATIENCE, Stale};
use crate::elections::{Elections, Route};
use crate::metrics::Metrics;
use crate::validate::Settings;

/// How long a call of the API server may take on which nothing hangs, as it is repeated or told elsewhere. The client itself waits
/// for minutes.
pub const SIDE_CALL: Duration = Duration::from_secs(5);

/// Shared by all reconciles of one process.
pub struct Context {
    /// Kubernetes.
    pub client: Client,
    /// The operator's own settings.
    pub settings: Settings,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The electors of this process.
    pub elections: Elections,
    /// Where a replica is reached that says an address.
    pub route: Route,
    /// Addresses of masters that their pods have left.
    pub stale: Mutex<Stale>,
    /// How long a Service leads there: [`PATIENCE`], except in tests.
    pub patience: Duration,
    is_standby: AtomicBool,
    proposals: Mutex<Proposals>,
    recorder: Recorder,
    reporter: Reporter,
    failures: Mutex<HashMap<String, u32>>,
}

/// A decision, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether a person should look.
    pub warning: bool,
    /// Why.
    pub reason: Reason,
    /// What was done, in one word.
    pub action: &'static str,
    /// What was decided, in one sentence.
    pub note: String,
    /// The object that it was done to, by kind and name, when that is not the cluster itself. Kubernetes keeps one event for each.
    pub about: Option<(&'static str, String)>,
}

impl Context {
    /// A context that reports as `instance`.
    pub fn new(
        client: Client,
        settings: Settings,
        metrics: Arc<Metrics>,
        instance: Option<String>,
    ) -> Self {
        let reporter = Reporter {
            controller: "rocket-operator".to_owned(),
            instance,
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter.clone()),
            reporter,
            client,
            settings,
            metrics,
            elections: Elections::default(),
            route: Route::default(),
            stale: Mutex::default(),
            patience: PATIENCE,
            is_standby: AtomicBool::new(false),
            proposals: Mutex::new(Proposals::new(rand::random())),
            failures: Mutex::default(),
        }
    }

    /// Looks after no group of a cluster any more.
    pub fn leave(&self, namespace: &str, cluster: &str) {
        let is_it = |of: &str, name: &str| (of, name) == (namespace, cluster);
        self.elections.forget(is_it);
        self.stale.lock().forget(is_it);
    }

    /// Forgets all about clusters that are gone.
    pub fn forget(&self, is_gone: impl Fn(&str, &str) -> bool) {
        self.elections.forget(&is_gone);
        self.stale.lock().forget(&is_gone);
        self.metrics.forget_all(&is_gone);
    }

    /// Whether another operator leads. This one then only elects masters that the other one does not, being gone too.
    pub fn is_standby(&self) -> bool {
        self.is_standby.load(Ordering::Acquire)
    }

    /// Says so. Nothing of the controllers may run meanwhile.
    pub fn stand_by(&self, is_standby: bool) {
        self.is_standby.store(is_standby, Ordering::Release);
    }

    /// A mark for one write of a group's record (docs/replication.md C1), never given before.
    pub fn proposal(&self) -> Proposal {
        self.proposals.lock().fresh()
    }

    /// Publishes a decision as an Event. An event that cannot be written is logged and forgotten: it must never hold up what it tells of.
    pub async fn publish(&self, cluster: &RocketCluster, decision: &Decision) {
        self.publish_of(&cluster.object_ref(&()), decision).await;
    }

    /// The same of any object.
    pub async fn publish_of(&self, object: &ObjectReference, decision: &Decision) {
        tracing::info!(
            kind = object.kind,
            name = object.name,
            namespace = object.namespace,
            reason = decision.reason.as_str(),
            "{}",
            decision.note
        );
        let mut note = decision.note.clone();
        note.truncate(note.floor_char_boundary(1000));
        let event = Event {
            type_: if decision.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: decision.reason.as_str().to_owned(),
            note: Some(note),
            action: decision.action.to_owned(),
            secondary: decision.about.as_ref().map(|(kind, name)| ObjectReference {
                kind: Some((*kind).to_owned()),
                name: Some(name.clone()),
                namespace: object.namespace.clone(),
                ..ObjectReference::default()
            }),
        };
        // A recorder counts what is like an event of the last minutes, and keeps the first one's words. Each election and each
        // handover has its own: epoch, and what was lost or for how long sends waited.
        let fresh = matches!(decision.reason, Reason::Elected | Reason::HandedOver)
            .then(|| Recorder::new(self.client.clone(), self.reporter.clone()));
        let recorder = fresh.as_ref().unwrap_or(&self.recorder);
        match timeout(SIDE_CALL, recorder.publish(&event, object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot write an event"
            ),
            Err(_) => tracing::warn!("the API server does not answer about an event"),
        }
    }

    /// Counts one more failure of an object and returns how long to wait: one second, doubled each time, a minute at most.
    pub fn failed(&self, key: &str) -> Duration {
        let mut failures = self.failures.lock();
        let times = failures.entry(key.to_owned()).or_default();
        *times = times.saturating_add(1);
        backoff(*times, key)
    }

    /// Forgets the failures of an object.
    pub fn succeeded(&self, key: &str) {
        self.failures.lock().remove(key);
    }
}

/// Time to wait after the n-th failure in a row. A fifth of it depends on the object, so that many do not come back at once.
pub fn backoff(times: u32, key: &str) -> Duration {
    let base = Duration::from_secs(1 << times.saturating_sub(1).min(6)).min(Duration::from_mins(1));
    spread(base, key)
}

/// A time lengthened by up to a fifth, always by the same part for the same object.
pub fn spread(base: Duration, key: &str) -> Duration {
    let part = u32::try_from(crate::drift::stable_hash(key.as_bytes()) % 200).unwrap_or_default();
    base + base * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_a_minute_and_is_stable_for_an_object() {
        for (times, least) in [(1, 1), (2, 2), (4, 8), (7, 60), (99, 60)] {
            let wait = backoff(times, "mq/orders");
            assert!(
                wait >= Duration::from_secs(least) && wait <= Duration::from_secs(least) * 12 / 10,
                "{times}: {wait:?}"
            );
            assert_eq!(wait, backoff(times, "mq/orders"));
        }
    }
}
