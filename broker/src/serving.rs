//! What serves clients and tells name servers so, brought up and taken down as a whole: once in the life of a broker that
//! stands alone, at each change of its role in a replica of a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rocket_remoting::Processor;

use crate::announcement::BrokerAnnouncement;
use crate::crew::Crew;
use crate::gate::Gate;
use crate::metrics::Series;
use crate::processor::{BrokerProcessor, Deps};
use crate::registration::{Plan, Registration};

/// See the module.
pub(crate) struct Stage {
    deps: Deps,
    gate: Arc<Gate>,
    registration: Registration,
    plan: Plan,
    announcement: Arc<BrokerAnnouncement>,
    /// What name servers order registrations of a group by.
    epoch: Arc<AtomicI64>,
    serving: Mutex<Option<Serving>>,
}

/// The request processors, what they do by themselves, and the registration.
struct Serving {
    processor: Arc<BrokerProcessor>,
    crew: Crew,
    registering: Crew,
}

impl Stage {
    /// Nobody is served yet.
    pub(crate) fn new(deps: Deps, gate: Arc<Gate>, registration: Registration, plan: Plan) -> Self {
        let epoch = Arc::new(AtomicI64::new(0));
        let metadata = Arc::clone(&deps.metadata);
        let announcement = BrokerAnnouncement {
            identity: Arc::clone(&deps.identity),
            config: Arc::clone(&deps.config),
            topics: Arc::new(move || metadata.topics.to_body()),
            epoch: Arc::clone(&epoch),
        };
        Self {
            deps,
            gate,
            registration,
            plan,
            announcement: Arc::new(announcement),
            epoch,
            serving: Mutex::default(),
        }
    }

    /// Serves clients and registers, in `epoch` of a group (0: there is no group). Not to be called while it serves.
    pub(crate) fn enter(&self, epoch: u64) {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        self.epoch.store(epoch, Ordering::Release);
        self.deps.long_polling.open();
        // A heartbeat that was under way when the last mastership ended may have come behind its end: such a member would be one of this one's,
        // on a connection of which nobody hears that it closed.
        self.deps.clients.clear();
        let processor = BrokerProcessor::new(self.deps.clone());
        let (crew, registering) = (Crew::default(), Crew::default());
        crew.tasks
            .spawn(Arc::clone(&processor).run(crew.stop.clone()));
        self.gate.serve(Arc::clone(&processor) as _);
        self.registration.start(
            self.plan.clone(),
            Arc::clone(&self.announcement) as _,
            &registering.tasks,
            registering.stop.clone(),
        );
        *self.serving.lock() = Some(Serving {
            processor,
            crew,
            registering,
        });
    }

    /// Goes in order: name servers are told first, so that clients look elsewhere while they are still served here; then
    /// pulls that wait are answered. What is requested is still answered.
    pub(crate) async fn leave(&self) {
        let Some(serving) = self.take() else { return };
        serving.registering.dismiss().await;
        // Answers the pulls that wait, which the port would otherwise wait for.
        serving.crew.dismiss().await;
    }

    /// Goes at once, because another replica is to serve: `next` answers from now on. Connections stay until [`Stage::part`].
    pub(crate) async fn give_way(&self, next: Arc<dyn Processor>) {
        self.gate.open(next);
        let Some(serving) = self.take() else { return };
        tokio::join!(serving.crew.dismiss(), serving.registering.dismiss());
        self.deps.clients.clear();
    }

    /// Has every connection closed when what it waits for is answered: the next one leads to whoever serves.
    pub(crate) fn part(&self) {
        self.gate.drain();
    }

    fn take(&self) -> Option<Serving> {
        self.serving.lock().take()
    }

    /// Whether clients are served.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.lock().is_some()
    }

    /// Writes what is not on disk yet. Waits for the disk; to be called when the port is closed.
    pub(crate) fn close(&self) {
        if let Err(error) = self.deps.metadata.close(self.deps.clock.now()) {
            tracing::error!(%error, "positions were not written at the stop");
        }
    }

    /// Pulls that wait for messages now.
    pub(crate) fn waiting_pulls(&self) -> usize {
        self.deps.long_polling.len()
    }

    /// Sets the gauges of what serves. Where nothing does, nobody is connected and nobody lags here.
    pub(crate) fn observe(&self, series: &Series) {
        let processor = self
            .serving
            .lock()
            .as_ref()
            .map(|serving| Arc::clone(&serving.processor));
        if let Some(processor) = processor {
            return processor.observe(series);
        }
        series.producer_connections.reset();
        series.consumer_connections.reset();
        series.consumer_lag_messages.reset();
    }
}
