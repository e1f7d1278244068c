//! A broker process: how its parts come up, and in which order they go down.
//!
//! Up: probes and metrics (so that a long recovery is visible), the store and what is kept beside it, the port, the processors, registration.
//! Down: farewell to the name servers (clients go elsewhere), the port with all that is in flight, background work, metadata, the store with a
//! last flush, probes and metrics.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus::Registry;
use rocket_remoting::{ConnectionLimits, Server, ServerConfig, StatsSnapshot};
use rocket_store::{
    Arrival, Clock, CloseError, FlushFailure, Health, OpenError, Removed, Store, StoreEvents,
};

use crate::announcement::BrokerAnnouncement;
use crate::clients::Clients;
use crate::commit_policy::SingleCopy;
use crate::config::{BrokerConfig, LiveConfig};
use crate::crew::{Alarm, Crew};
use crate::gate::Gate;
use crate::gauges::{self, Sources};
use crate::health::{BrokerHealth, Failure, Phase};
use crate::identity::Identity;
use crate::metadata::{FileError, Metadata};
use crate::metrics::{Metrics, Scrape};
use crate::processor::{BrokerProcessor, BrokerStore, Deps, PullPolling};
use crate::refuser::Refuser;
use crate::registration::{Plan, Registration};
use crate::retention::{self, GroupReaders};
use crate::{clock, http, recovered, store_settings};

/// After which time is tried again to read what a recovery left to be put into the queues.
const QUEUES_RETRY: Duration = Duration::from_millis(100);

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store cannot be opened; a person must look at it.
    #[error("the store in {}: {source}", dir.display())]
    Store {
        /// Its folder.
        dir: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// Topics, groups or positions cannot be read.
    #[error(transparent)]
    Metadata(#[from] FileError),
    /// The store could not be closed in order.
    #[error("closing the store: {0}")]
    Close(#[source] CloseError),
    /// Two series of one name: a fault of this program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A thread of this process panicked.
    #[error("a thread of the store: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// The clocks, for the store.
struct Clocks {
    started: Instant,
}

impl Clocks {
    fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for Clocks {
    fn now(&self) -> rocket_protocol::UnixMillis {
        clock::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What the store tells the broker.
struct Events {
    health: Arc<BrokerHealth>,
    long_polling: Arc<PullPolling>,
    metrics: Arc<Metrics>,
}

impl StoreEvents for Events {
    fn flushed(&self, took: Duration, _bytes: u64) {
        self.metrics
            .series
            .flush_latency_seconds
            .observe(took.as_secs_f64());
    }

    fn arrived(&self, arrivals: &[Arrival]) {
        self.long_polling.arrivals(arrivals);
    }

    fn is_awaited(&self) -> bool {
        !self.long_polling.is_empty()
    }

    fn failed(&self, failure: &FlushFailure) {
        tracing::error!(
            file = failure.file,
            error = failure.error,
            "the store failed and takes nothing any more; this broker will stop"
        );
        let reason = format!("{}: {}", failure.file, failure.error);
        self.health.fail(Failure::Store(reason));
    }

    fn removed(&self, removed: &Removed) {
        retention::tell(&self.metrics, removed);
    }
}

/// A running broker.
pub struct Broker {
    probes: Probes,
    port: Port,
    identity: Arc<Identity>,
    store: Arc<BrokerStore>,
    registration: Registration,
    registering: Crew,
    /// None of a standby.
    serving: Option<Serving>,
}

/// The request processors and what they do by themselves.
struct Serving {
    processor: Arc<BrokerProcessor>,
    crew: Crew,
}

/// `/readyz` and its kin: first up, last down.
struct Probes {
    health: Arc<BrokerHealth>,
    /// Set when it has been recovered.
    store: Arc<OnceLock<Arc<BrokerStore>>>,
    crew: Crew,
    address: SocketAddr,
}

/// The port for clients.
struct Port {
    gate: Arc<Gate>,
    server: Server,
    crew: Crew,
}

impl Broker {
    /// Brings a broker up. Its metrics go to `registry`, which `scrape` prints.
    ///
    /// # Errors
    /// See [`enum@Error`]. What was started is stopped again.
    pub async fn start(
        config: BrokerConfig,
        registry: &Registry,
        scrape: Arc<Scrape>,
    ) -> Result<Self, Error> {
        let metrics = Arc::new(Metrics::new(registry)?);
        let probes = Probes::start(&config, Arc::clone(&scrape)).await?;
        let port = match Port::bind(&config) {
            Ok(port) => port,
            Err(error) => {
                probes.crew.dismiss().await;
                return Err(error);
            }
        };
        let (health, store_cell) = (Arc::clone(&probes.health), Arc::clone(&probes.store));
        match Kept::open(&config, health, Arc::clone(&metrics)).await {
            Ok(kept) => {
                // Set once, here.
                let _ = store_cell.set(Arc::clone(&kept.store));
                Ok(Self::serve(config, metrics, &scrape, probes, port, kept).await)
            }
            Err(error) => {
                port.crew.dismiss().await;
                probes.crew.dismiss().await;
                Err(error)
            }
        }
    }

    async fn serve(
        config: BrokerConfig,
        metrics: Arc<Metrics>,
        scrape: &Scrape,
        probes: Probes,
        port: Port,
        kept: Kept,
    ) -> Self {
        let Kept {
            store,
            metadata,
            long_polling,
        } = kept;
        let identity =
            Arc::new(Identity::of(&config, port.server.local_addr().port(), clock::now()).await);
        let standby = config.is_standby();
        let plan = Plan {
            targets: if standby {
                Vec::new()
            } else {
                config.namesrv_addr.clone()
            },
            period: config.register_name_server_period,
            timeout: config.register_broker_timeout,
        };
        let clients = Arc::new(Clients::new());
        let readers = Arc::new(GroupReaders::new(
            Arc::clone(&metadata),
            Arc::clone(&clients),
            config.message_delay_level.0.len(),
            config.file_reserved_time,
        ));
        store.set_readers(Arc::clone(&readers) as _);
        let config = Arc::new(LiveConfig::new(config));
        let alarm = {
            let health = Arc::clone(&probes.health);
            Alarm::new(move |what| health.fail(Failure::Task(what)))
        };
        let registration = Registration::new(alarm.clone());
        let serving = if standby {
            let master = config.load().fixed_master.as_ref().map(ToString::to_string);
            port.gate.open(Arc::new(Refuser::standby(
                &identity.broker_name,
                master.as_deref(),
            )));
            None
        } else {
            let nudge = registration.clone();
            let serving = Serving::start(Deps {
                config: Arc::clone(&config),
                store: Arc::clone(&store),
                metadata: Arc::clone(&metadata),
                clients,
                readers,
                long_polling,
                metrics: Arc::clone(&metrics),
                topics_changed: Arc::new(move || nudge.topics_changed()),
                alarm,
                clock: Arc::new(Clocks::start()),
                identity: Arc::clone(&identity),
            });
            port.gate.open(Arc::clone(&serving.processor) as _);
            let (processor, metrics) = (Arc::clone(&serving.processor), Arc::clone(&metrics));
            scrape.on_scrape(move || processor.observe(&metrics.series));
            Some(serving)
        };
        probes.health.enter(Phase::Serving);
        let registering = Crew::default();
        let announcement = BrokerAnnouncement {
            identity: Arc::clone(&identity),
            config: Arc::clone(&config),
            topics: Arc::new(move || metadata.topics.to_body()),
        };
        registration.start(
            plan,
            Arc::new(announcement),
            &registering.tasks,
            registering.stop.clone(),
        );
        gauges::watch(
            scrape,
            Sources {
                metrics,
                store: Arc::clone(&store),
                remoting: port.server.stats(),
                registration: registration.clone(),
                health: Arc::clone(&probes.health),
                config,
                started: identity.started,
            },
        );
        Self {
            probes,
            port,
            identity,
            store,
            registration,
            registering,
            serving,
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.port.server.local_addr()
    }

    /// Where /metrics is.
    pub fn metrics_address(&self) -> SocketAddr {
        self.probes.address
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its registration with name servers.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// What its connections have read and written so far.
    pub fn traffic(&self) -> StatsSnapshot {
        self.port.server.stats().snapshot()
    }

    /// Pulls that wait for messages now.
    pub fn waiting_pulls(&self) -> usize {
        let serving = self.serving.as_ref();
        serving.map_or(0, |serving| serving.processor.waiting_pulls())
    }

    /// Waits until the broker must be stopped, and returns why.
    pub async fn failed(&self) -> Failure {
        self.probes.health.failed().await
    }

    /// Goes down in order; see the module.
    ///
    /// # Errors
    /// When the store could not be closed in order: what it says is not on disk.
    pub async fn stop(&self) -> Result<(), Error> {
        self.probes.health.enter(Phase::Stopping);
        self.registering.dismiss().await;
        if let Some(serving) = &self.serving {
            // Answers the pulls that wait, which the port would otherwise wait for.
            serving.crew.dismiss().await;
        }
        self.port.crew.dismiss().await;
        let store = Arc::clone(&self.store);
        let processor = self
            .serving
            .as_ref()
            .map(|serving| Arc::clone(&serving.processor));
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(processor) = processor {
                processor.close();
            }
            store.close()
        })
        .await?;
        self.probes.crew.dismiss().await;
        closed.map_err(Error::Close)
    }
}

impl Serving {
    fn start(deps: Deps) -> Self {
        let processor = BrokerProcessor::new(deps);
        let crew = Crew::default();
        crew.tasks
            .spawn(Arc::clone(&processor).run(crew.stop.clone()));
        Self { processor, crew }
    }
}

impl Probes {
    async fn start(config: &BrokerConfig, scrape: Arc<Scrape>) -> Result<Self, Error> {
        let health = Arc::new(BrokerHealth::new(if config.is_standby() {
            "standby"
        } else {
            "master"
        }));
        let store: Arc<OnceLock<Arc<BrokerStore>>> = Arc::default();
        let crew = Crew::default();
        let address = SocketAddr::new(config.bind_address, config.metrics_port);
        let readiness = {
            let (health, store) = (Arc::clone(&health), Arc::clone(&store));
            move || health.readiness(store.get().map(|store| (store.health(), store.disk())))
        };
        let address = http::serve(address, scrape, readiness, &crew.tasks, crew.stop.clone())
            .await
            .map_err(|source| Error::Bind { address, source })?;
        Ok(Self {
            health,
            store,
            crew,
            address,
        })
    }
}

impl Port {
    fn bind(config: &BrokerConfig) -> Result<Self, Error> {
        let gate = Arc::new(Gate::default());
        let crew = Crew::default();
        let address = SocketAddr::new(config.bind_address, config.listen_port);
        let limits = ConnectionLimits {
            idle_timeout: config.server_channel_max_idle_time,
            frame_timeout: config.frame_timeout,
            outbound_bytes_max: config.outbound_bytes_max.as_usize(),
            inflight_max: config.inflight_max,
            parked_max: config.parked_max,
            inflight_bytes_max: config.inflight_bytes_max.as_usize(),
            ..ConnectionLimits::default()
        };
        let remoting = ServerConfig {
            limits,
            connections_max: config.connections_max,
            ..ServerConfig::default()
        };
        let server = Server::bind(
            address,
            remoting,
            Arc::clone(&gate) as _,
            &crew.tasks,
            crew.stop.clone(),
        )
        .map_err(|source| Error::Bind { address, source })?;
        Ok(Self { gate, server, crew })
    }
}

/// Waits until all that a recovery found is in the queues: before that whoever asked for a queue's end would be told one in the
/// middle. In vain when the store has failed; the process is about to end then.
fn fill_queues(store: &BrokerStore) {
    while !store.catch_up() && store.health() == Health::Writable {
        std::thread::sleep(QUEUES_RETRY);
    }
}

/// What is on disk.
struct Kept {
    store: Arc<BrokerStore>,
    metadata: Arc<Metadata>,
    long_polling: Arc<PullPolling>,
}

impl Kept {
    /// Opens and recovers, on a thread that may block.
    async fn open(
        config: &BrokerConfig,
        health: Arc<BrokerHealth>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let config = config.clone();
        tokio::task::spawn_blocking(move || {
            let dir = config.store_path_root_dir.clone();
            let policy = SingleCopy {
                flush: store_settings::flush(&config),
                replication: config.replication(),
            };
            let waiting_max = usize::try_from(config.max_pop_polling_size).unwrap_or(usize::MAX);
            let long_polling = Arc::new(PullPolling::new(waiting_max));
            let events = Events {
                health,
                long_polling: Arc::clone(&long_polling),
                metrics,
            };
            let (store, report) = Store::open(
                store_settings::of(&config),
                Arc::new(Clocks::start()),
                Arc::new(policy),
                Arc::new(events),
            )
            .map_err(|source| Error::Store {
                dir: dir.clone(),
                source,
            })?;
            recovered::tell(&dir, &report, store_settings::flush(&config));
            fill_queues(&store);
            let metadata = Metadata::open(&dir, &config, clock::now())?;
            Ok(Self {
                store: Arc::new(store),
                metadata: Arc::new(metadata),
                long_polling,
            })
        })
        .await?
    }
}
