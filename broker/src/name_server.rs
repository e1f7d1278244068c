//! A name server process, or half of a standalone one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prometheus::Registry;
use rocket_namesrv::table::Rules;
use rocket_namesrv::{KvConfig, Namesrv, NamesrvProcessor, Settings, kv};
use rocket_remoting::{ConnectionLimits, Server, ServerConfig};

use crate::clock;
use crate::config::NamesrvConfig;
use crate::crew::Crew;
use crate::http::Readiness;
use crate::metrics::{NamesrvMetrics, Scrape};

/// So long a name server that began anew waits for the first broker before it calls itself ready all the same: in a new cluster there may
/// be none yet.
const FIRST_BROKER: Duration = Duration::from_secs(15);

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
    namesrv: Arc<Namesrv>,
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
        let counted = Arc::clone(&namesrv);
        scrape.on_scrape(move || {
            let (brokers, topics) = counted.counts();
            series
                .brokers
                .set(i64::try_from(brokers).unwrap_or(i64::MAX));
            series.topics.set(i64::try_from(topics).unwrap_or(i64::MAX));
            series
                .connections
                .set(i64::try_from(stats.snapshot().connections_open).unwrap_or(i64::MAX));
        });
        Ok(Self {
            server,
            crew,
            namesrv,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// What it says at `/readyz` from now on.
    pub fn readiness(&self) -> impl Fn() -> Readiness + Send + Sync + 'static {
        let (namesrv, start) = (Arc::clone(&self.namesrv), Instant::now());
        let is_known = AtomicBool::new(false);
        move || {
            let knows = namesrv.counts().0 > 0 || is_known.load(Ordering::Relaxed);
            is_known.store(knows, Ordering::Relaxed);
            readiness(knows, start.elapsed())
        }
    }

    /// Stops accepting, answers what is in flight, and returns when all of its tasks have ended.
    pub async fn stop(&self) {
        self.crew.dismiss().await;
    }
}

/// Whoever asks for a route where no broker has registered yet is told that there is none, and clients believe that. Once a broker was known
/// it stays ready: that none is left is the truth then.
fn readiness(has_known_a_broker: bool, since_start: Duration) -> Readiness {
    const ROLE: &str = "nameserver";
    match FIRST_BROKER.checked_sub(since_start) {
        Some(left) if !has_known_a_broker && !left.is_zero() => Readiness::not_ready(
            ROLE,
            format!(
                "no broker has registered since the start; ready without one in {} s",
                left.as_secs() + 1
            ),
        ),
        _ => Readiness::ready(ROLE),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_no_broker_yet_is_not_ready_for_a_while() {
        let early = readiness(false, Duration::from_millis(14_500));
        assert!(!early.ready);
        let reason = early.reason.unwrap();
        assert!(reason.ends_with("ready without one in 1 s"), "{reason}");
        assert!(readiness(false, FIRST_BROKER).ready, "a new cluster");
        assert!(readiness(true, Duration::ZERO).ready);
    }
}
