//! What a broker listens on: the port of its probes and metrics, first up and last down, and the port for clients.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rocket_remoting::{ConnectionLimits, Server, ServerConfig};

use crate::broker::Error;
use crate::config::BrokerConfig;
use crate::crew::Crew;
use crate::gate::Gate;
use crate::health::BrokerHealth;
use crate::http;
use crate::metrics::Scrape;
use crate::processor::BrokerStore;

/// `/readyz` and its kin.
pub(crate) struct Probes {
    pub(crate) health: Arc<BrokerHealth>,
    /// Set when it has been recovered.
    pub(crate) store: Arc<OnceLock<Arc<BrokerStore>>>,
    pub(crate) crew: Crew,
    pub(crate) address: SocketAddr,
}

impl Probes {
    pub(crate) async fn start(config: &BrokerConfig, scrape: Arc<Scrape>) -> Result<Self, Error> {
        let role = match &config.coordinator {
            Some(_) => "slave",
            None if config.is_standby() => "standby",
            None => "master",
        };
        let health = Arc::new(BrokerHealth::new(role));
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

/// The port for clients.
pub(crate) struct Port {
    pub(crate) gate: Arc<Gate>,
    pub(crate) server: Server,
    pub(crate) crew: Crew,
}

impl Port {
    pub(crate) fn bind(config: &BrokerConfig) -> Result<Self, Error> {
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
            half_frame_bytes_max: config.half_frame_bytes_max.as_usize(),
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
