//! A name server process, or half of a standalone one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rocket_namesrv::table::Rules;
use rocket_namesrv::{KvConfig, Namesrv, NamesrvProcessor, Settings, kv};
use rocket_remoting::{ConnectionLimits, Server, ServerConfig};

use crate::clock;
use crate::config::NamesrvConfig;
use crate::crew::Crew;
use crate::metrics::{NamesrvMetrics, Scrape};

/// Why a name server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key-value settings cannot be read; see there.
    #[error(transparent)]
    KvConfig(#[from] kv::Error),
    /// Two series of one name: a fault of this program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A running name server.
pub struct NameServer {
    server: Server,
    crew: Crew,
}

impl NameServer {
    /// Listens and serves. Its metrics go to `registry`, which `scrape` prints.
    ///
    /// # Errors
    /// See [`enum@Error`]; none of them goes away by itself but a taken port.
    pub fn start(
        config: &NamesrvConfig,
        registry: &Registry,
        scrape: &Scrape,
    ) -> Result<Self, Error> {
        let kv = KvConfig::open(&config.kv_config_path)?;
        let settings = Settings {
            rules: Rules {
                acting_master: config.support_acting_master,
                delete_missing_topics: config.delete_topic_with_broker_registration,
            },
            order_message: config.order_message_enable,
            all_topic_list: config.enable_all_topic_list,
        };
        let namesrv = Arc::new(Namesrv::new(settings, kv, clock::now));
        let crew = Crew::default();
        let processor = Arc::new(NamesrvProcessor::new(
            Arc::clone(&namesrv),
            crew.tasks.clone(),
        ));
        let address = SocketAddr::new(config.bind_address, config.listen_port);
        let remoting = ServerConfig {
            limits: ConnectionLimits {
                idle_timeout: config.server_channel_max_idle_time,
                ..ConnectionLimits::default()
            },
            connections_max: config.connections_max,
            ..ServerConfig::default()
        };
        let server = Server::bind(
            address,
            remoting,
            Arc::clone(&processor) as _,
            &crew.tasks,
            crew.stop.clone(),
        )
        .map_err(|source| Error::Bind { address, source })?;
        crew.tasks.spawn(expire(
            processor,
            config.scan_not_active_broker_interval,
            crew.stop.clone(),
        ));

        let series = NamesrvMetrics::register(registry)?;
        let stats = server.stats();
        scrape.on_scrape(move || {
            let (brokers, topics) = namesrv.counts();
            series
                .brokers
                .set(i64::try_from(brokers).unwrap_or(i64::MAX));
            series.topics.set(i64::try_from(topics).unwrap_or(i64::MAX));
            series
                .connections
                .set(i64::try_from(stats.snapshot().connections_open).unwrap_or(i64::MAX));
        });
        Ok(Self { server, crew })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Stops accepting, answers what is in flight, and returns when all of its tasks have ended.
    pub async fn stop(&self) {
        self.crew.dismiss().await;
    }
}

async fn expire(
    processor: Arc<NamesrvProcessor>,
    period: Duration,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => processor.expire(),
            () = stop.cancelled() => return,
        }
    }
}
