//! What is on disk: the messages, what is known beside them, and the pulls that wait for more.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_protocol::{TopicName, UnixMillis};
use rocket_store::{
    Arrival, Clock, CommitPolicy, FlushFailure, Health, RecoveryReport, Removed, Store, StoreEvents,
};

use crate::broker::Error;
use crate::config::BrokerConfig;
use crate::ha::{Post, Witness};
use crate::health::{BrokerHealth, Failure};
use crate::metadata::{FileError, Metadata, Wake};
use crate::metrics::Metrics;
use crate::processor::{BrokerStore, PullPolling};
use crate::{clock, recovered, retention, store_settings};

/// After which time is tried again to read what a recovery left to be put into the queues.
const QUEUES_RETRY: Duration = Duration::from_millis(100);

/// The clocks, for the store.
pub(crate) struct Clocks {
    started: Instant,
}

impl Clocks {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for Clocks {
    fn now(&self) -> UnixMillis {
        clock::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Who hears of what the store tells.
pub(crate) struct Hearers {
    pub(crate) health: Arc<BrokerHealth>,
    pub(crate) metrics: Arc<Metrics>,
    /// Of a group.
    pub(crate) replica: Option<Post>,
    /// Of a group, whose metadata is in the log.
    pub(crate) wake: Option<Wake>,
    /// Of a group.
    pub(crate) witness: Option<Arc<Witness>>,
}

/// What the store tells the broker.
struct Events {
    hearers: Hearers,
    long_polling: Arc<PullPolling>,
}

impl Events {
    fn tell_witness(&self, tell: impl FnOnce(&Witness)) {
        if let Some(witness) = &self.hearers.witness {
            tell(witness);
        }
    }
}

impl StoreEvents for Events {
    fn locked(&self) -> io::Result<()> {
        let witness = self.hearers.witness.as_deref();
        witness.map_or(Ok(()), Witness::locked)
    }

    fn flush_begins(&self) {
        self.tell_witness(Witness::flush_begins);
    }

    fn flush_succeeded(&self) {
        self.tell_witness(Witness::flush_succeeded);
    }

    fn flushed(&self, took: Duration, _bytes: u64) {
        let series = &self.hearers.metrics.series;
        series.flush_latency_seconds.observe(took.as_secs_f64());
    }

    fn arrived(&self, arrivals: &[Arrival]) {
        if let Some(wake) = &self.hearers.wake {
            wake.arrived(arrivals);
        }
        self.long_polling.arrivals(arrivals);
    }

    fn is_awaited(&self) -> bool {
        !self.long_polling.is_empty() || self.hearers.wake.as_ref().is_some_and(Wake::is_awaited)
    }

    fn failed(&self, failure: &FlushFailure) {
        tracing::error!(
            file = failure.file,
            error = failure.error,
            "the store failed and takes nothing any more; this broker will stop"
        );
        self.tell_witness(Witness::lost);
        // Soon: it has a moment to tell its group before the process goes.
        if let Some(replica) = &self.hearers.replica {
            replica.log_failed();
        }
        let reason = format!("{}: {}", failure.file, failure.error);
        self.hearers.health.fail(Failure::Store(reason));
    }

    fn removed(&self, removed: &Removed) {
        retention::tell(&self.hearers.metrics, removed);
    }
}

/// Waits until all that a recovery found is in the queues: before that whoever asked for a queue's end would be told one in the
/// middle. In vain (`false`) when the store has failed; the process is about to end then.
fn fill_queues(store: &BrokerStore) -> bool {
    loop {
        if store.catch_up() {
            return true;
        }
        if store.health() != Health::Writable {
            return false;
        }
        std::thread::sleep(QUEUES_RETRY);
    }
}

/// What a broker that stands alone knows beside its messages. The files of positions are flushed on their own, and a log with ASYNC_FLUSH loses its
/// end with the power: what is taken next must not lie before a position, where nobody would read it.
fn open_alone(
    config: &BrokerConfig,
    now: UnixMillis,
    store: &BrokerStore,
    is_filled: bool,
) -> Result<Metadata, FileError> {
    let metadata = Metadata::open(&config.store_path_root_dir, config, now)?;
    if is_filled {
        let end = |topic: &TopicName, queue| {
            let range = store.queue_range(topic, queue);
            range.map_or(0, |range| range.max.to_wire())
        };
        metadata.lower(&end, now)?;
    }
    Ok(metadata)
}

/// See the module.
pub(crate) struct Kept {
    pub(crate) store: Arc<BrokerStore>,
    pub(crate) report: RecoveryReport,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) long_polling: Arc<PullPolling>,
}

impl Kept {
    /// Opens and recovers, on a thread that may block.
    pub(crate) async fn open(
        config: &BrokerConfig,
        hearers: Hearers,
        policy: Arc<dyn CommitPolicy>,
    ) -> Result<Self, Error> {
        let config = config.clone();
        let opening = move || Self::open_now(&config, hearers, policy);
        tokio::task::spawn_blocking(opening).await?
    }

    fn open_now(
        config: &BrokerConfig,
        hearers: Hearers,
        policy: Arc<dyn CommitPolicy>,
    ) -> Result<Self, Error> {
        let dir = &config.store_path_root_dir;
        let waiting_max = usize::try_from(config.max_pop_polling_size).unwrap_or(usize::MAX);
        let long_polling = Arc::new(PullPolling::new(waiting_max));
        let wake = hearers.wake.clone();
        let metrics = Arc::clone(&hearers.metrics);
        let events = Events {
            hearers,
            long_polling: Arc::clone(&long_polling),
        };
        let (store, report) = Store::open(
            store_settings::of(config),
            Arc::new(Clocks::start()),
            policy,
            Arc::new(events),
        )
        .map_err(|source| Error::Store {
            dir: dir.clone(),
            source,
        })?;
        // How a group flushed stands in its state and not here.
        let alone = config.coordinator.is_none();
        recovered::tell(dir, &report, alone.then(|| store_settings::flush(config)));
        let after_failure = i64::from(report.failure.is_some());
        metrics
            .series
            .store_recovered_from_failure
            .set(after_failure);
        let is_filled = fill_queues(&store);
        let (store, now) = (Arc::new(store), clock::now());
        let metadata = match wake {
            Some(wake) => Metadata::open_replica(dir, config, now, &store, wake)?,
            None => open_alone(config, now, &store, is_filled)?,
        };
        Ok(Self {
            store,
            report,
            metadata: Arc::new(metadata),
            long_polling,
        })
    }
}
