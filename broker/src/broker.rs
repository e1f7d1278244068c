//! A broker process: how its parts come up, and in which order they go down.
//!
//! Up: probes and metrics (so that a long recovery is visible), the port, the store and what is kept beside it, then the
//! processors and registration; in a group those come and go with the role of the replica, which starts before them.
//! Down: the mastership to another replica, while clients are served as long as it is here and then passed on; farewell to the name
//! servers (clients go elsewhere), the port with all that is in flight, background work, metadata, the store with a last flush, probes
//! and metrics.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use prometheus::Registry;
use rocket_remoting::StatsSnapshot;
use rocket_store::{CloseError, CommitPolicy, OpenError};
use tokio::sync::watch;

use crate::clients::Clients;
use crate::clock;
use crate::commit_policy::SingleCopy;
use crate::config::{BrokerConfig, LiveConfig};
use crate::crew::Alarm;
use crate::gauges::{self, Sources};
use crate::ha::{JoinError, Joined, Joining, Standing};
use crate::health::{Failure, Phase};
use crate::identity::Identity;
use crate::kept::{Clocks, Hearers, Kept};
use crate::listening::{Port, Probes};
use crate::metadata::{FileError, Wake};
use crate::metrics::{Metrics, Scrape};
use crate::processor::{BrokerStore, Deps};
use crate::refuser::Refuser;
use crate::registration::{Plan, Registration};
use crate::replica::Replica;
use crate::retention::GroupReaders;
use crate::serving::Stage;
use crate::store_settings;
use crate::take_over;

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
    /// Alone it would write what its group does not know of, and never fit to it again.
    #[error(
        "the store in {} is that of a replica of a group: name its coordinator. If it is to stand alone from now on, and never to go back, remove {}",
        dir.display(),
        dir.join(rocket_ha::FOLDER).display()
    )]
    OfGroup {
        /// Its folder.
        dir: PathBuf,
    },
    /// Taken over as the folder is, this would never be delivered. Nothing was changed.
    #[error(
        "{} is a folder of Apache's broker, which has not finished, at most: {what}. This broker would never deliver them. Start Apache's again, stop what produces them, wait until they are delivered or done with (that of a transaction is noted up to a minute later), and stop it in order; or give them up with giveUpUnfinishedMessages=true. Nothing was changed",
        dir.display()
    )]
    Unfinished {
        /// The folder.
        dir: PathBuf,
        /// How many of what.
        what: String,
    },
    /// It cannot be a replica of its group.
    #[error(transparent)]
    Join(#[from] JoinError),
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

/// A running broker.
pub struct Broker {
    probes: Probes,
    port: Port,
    identity: Arc<Identity>,
    store: Arc<BrokerStore>,
    registration: Registration,
    stage: Arc<Stage>,
    /// None of a broker that is the only copy.
    replica: Option<Replica>,
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
        let alarm = {
            let health = Arc::clone(&probes.health);
            Alarm::new(move |what| health.fail(Failure::Task(what)))
        };
        let hearers = Hearers {
            health: Arc::clone(&probes.health),
            metrics: Arc::clone(&metrics),
            replica: None,
            wake: None,
            witness: None,
        };
        match Recovered::open(&config, hearers, &port, alarm.clone()).await {
            Ok(recovered) => {
                // Set once, here.
                let _ = probes.store.set(Arc::clone(&recovered.kept.store));
                let up = (probes, port, recovered);
                Ok(Self::serve(config, metrics, &scrape, up, &alarm))
            }
            Err(error) => {
                if let Error::Join(JoinError::Replica(why)) = &error {
                    // As of one that ends later, for who asks just now.
                    probes.health.fail(if why.may_pass() {
                        Failure::Restart("there is no room for what is cut off the end of its log")
                    } else {
                        Failure::Halted(why.to_string())
                    });
                }
                port.crew.dismiss().await;
                probes.crew.dismiss().await;
                Err(error)
            }
        }
    }

    fn serve(
        config: BrokerConfig,
        metrics: Arc<Metrics>,
        scrape: &Scrape,
        (probes, port, recovered): (Probes, Port, Recovered),
        alarm: &Alarm,
    ) -> Self {
        let Recovered {
            kept,
            identity,
            joined,
        } = recovered;
        let store = Arc::clone(&kept.store);
        let clients = port.server.local_addr().port();
        let ports_apart = i32::from(config.ha_port(clients)) - i32::from(clients);
        let config = Arc::new(LiveConfig::new(config));
        let registration = Registration::new(alarm.clone());
        let stage = Arc::new(stage(
            kept,
            &config,
            &identity,
            &metrics,
            alarm.clone(),
            &registration,
            &port,
        ));
        {
            let (stage, metrics) = (Arc::clone(&stage), Arc::clone(&metrics));
            scrape.on_scrape(move || stage.observe(&metrics.series));
        }
        gauges::watch(
            scrape,
            Sources {
                metrics: Arc::clone(&metrics),
                store: Arc::clone(&store),
                remoting: port.server.stats(),
                registration: registration.clone(),
                health: Arc::clone(&probes.health),
                config: Arc::clone(&config),
                group: joined.as_ref().map(|joined| gauges::Group {
                    board: Arc::clone(&joined.board),
                    standing: joined.group.standing(),
                    stage: Arc::clone(&stage),
                }),
                started: identity.started,
            },
        );
        let replica = joined.map(|joined| {
            Replica::start(
                joined,
                &stage,
                (&probes.health, metrics),
                (&port, ports_apart),
                (&identity.broker_name, alarm),
            )
        });
        if replica.is_none() {
            let config = config.load();
            if config.is_standby() {
                let master = config.fixed_master.as_ref().map(ToString::to_string);
                let refuser = Refuser::standby(&identity.broker_name, master.as_deref());
                port.gate.open(Arc::new(refuser));
            } else {
                stage.enter(0);
            }
            probes.health.enter(Phase::Serving);
        }
        Self {
            probes,
            port,
            identity,
            store,
            registration,
            stage,
            replica,
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

    /// How its replica fares; `None` of a broker that is the only copy.
    pub fn standing(&self) -> Option<watch::Receiver<Standing>> {
        let replica = self.replica.as_ref()?;
        Some(replica.joined.group.standing())
    }

    /// What its connections have read and written so far.
    pub fn traffic(&self) -> StatsSnapshot {
        self.port.server.stats().snapshot()
    }

    /// Pulls that wait for messages now.
    pub fn waiting_pulls(&self) -> usize {
        self.stage.waiting_pulls()
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
        if let Some(replica) = &self.replica {
            replica.take_leave(&self.stage).await;
        }
        self.stage.leave().await;
        let mut mark = None;
        if let Some(replica) = &self.replica {
            let refuser = Refuser::slave(&self.identity.broker_name, None);
            self.port.gate.open(Arc::new(refuser));
            replica.let_go().await;
            self.port.crew.dismiss().await;
            replica.passed_on().await;
            mark = replica.joined.stop().await;
        }
        self.port.crew.dismiss().await;
        let (store, stage) = (Arc::clone(&self.store), Arc::clone(&self.stage));
        let closed = tokio::task::spawn_blocking(move || {
            stage.close();
            store.close()
        })
        .await?;
        if let (Ok(()), Some(mark), Some(replica)) = (&closed, mark, &self.replica)
            && let Err(error) = replica.joined.group.vouch(&mark)
        {
            tracing::error!(%error, "nothing will vouch for this stop; the next start takes it for a crash");
        }
        self.probes.crew.dismiss().await;
        closed.map_err(Error::Close)
    }
}

/// What there is when the store has recovered.
struct Recovered {
    kept: Kept,
    identity: Arc<Identity>,
    joined: Option<Joined>,
}

impl Recovered {
    async fn open(
        config: &BrokerConfig,
        hearers: Hearers,
        port: &Port,
        alarm: Alarm,
    ) -> Result<Self, Error> {
        let client_port = port.server.local_addr().port();
        let looked = config.clone();
        tokio::task::spawn_blocking(move || take_over::look(&looked)).await??;
        let joining = if let Some(at) = &config.coordinator {
            Some(Joining::prepare(config, at, client_port).await?)
        } else {
            let dir = &config.store_path_root_dir;
            if dir.join(rocket_ha::FOLDER).exists() {
                return Err(Error::OfGroup { dir: dir.clone() });
            }
            None
        };
        let hearers = Hearers {
            replica: joining.as_ref().map(Joining::post),
            wake: joining.as_ref().map(|_| Wake::default()),
            witness: joining.as_ref().map(Joining::witness),
            ..hearers
        };
        let policy: Arc<dyn CommitPolicy> = match &joining {
            Some(joining) => Arc::new(joining.policy(config)),
            None => Arc::new(SingleCopy {
                flush: store_settings::flush(config),
                replication: config.replication(),
            }),
        };
        let kept = Kept::open(config, hearers, policy).await?;
        let identity = Arc::new(Identity::of(config, client_port, clock::now()).await);
        let joined = match joining {
            Some(joining) => {
                let told = &identity.ha_advertised;
                Some(joining.start(config, &kept, told, alarm).await?)
            }
            None => None,
        };
        Ok(Self {
            kept,
            identity,
            joined,
        })
    }
}

/// What is to serve, on what was recovered.
fn stage(
    kept: Kept,
    config: &Arc<LiveConfig>,
    identity: &Arc<Identity>,
    metrics: &Arc<Metrics>,
    alarm: Alarm,
    registration: &Registration,
    port: &Port,
) -> Stage {
    let now = config.load();
    let clients = Arc::new(Clients::new());
    let readers = Arc::new(GroupReaders::new(
        Arc::clone(&kept.metadata),
        Arc::clone(&clients),
        now.message_delay_level.0.len(),
        now.file_reserved_time,
    ));
    kept.store.set_readers(Arc::clone(&readers) as _);
    let plan = Plan {
        targets: now.namesrv_addr.clone(),
        period: now.register_name_server_period,
        timeout: now.register_broker_timeout,
    };
    let nudge = registration.clone();
    let deps = Deps {
        config: Arc::clone(config),
        store: kept.store,
        metadata: kept.metadata,
        clients,
        readers,
        long_polling: kept.long_polling,
        metrics: Arc::clone(metrics),
        topics_changed: Arc::new(move || nudge.topics_changed()),
        alarm,
        clock: Arc::new(Clocks::start()),
        identity: Arc::clone(identity),
    };
    Stage::new(deps, Arc::clone(&port.gate), registration.clone(), plan)
}
