//! Runs servers from their start to their orderly stop.

use std::fmt::Write as _;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::args::{BrokerArgs, Common, NamesrvArgs, StandaloneArgs};
use super::{
    EXIT_FAILURE, EXIT_HALTED, EXIT_OK, EXIT_RESTART, EXIT_STORE, EXIT_USAGE, Exit, configure,
};
use crate::broker::{self, Broker};
use crate::config::{BrokerConfig, HostPort, NamesrvConfig};
use crate::crew::Crew;
use crate::ha::JoinError;
use crate::health::Failure;
use crate::http::{self, Readiness};
use crate::metrics::{self, Scrape};
use crate::name_server::NameServer;
use crate::process::{self, Signals};
use crate::round;

/// A standalone process says `ready` when its broker is known to its name server; were that to hang, it says so all the same.
const FIRST_REGISTRATION: Duration = Duration::from_secs(2);

pub(super) fn broker(args: &BrokerArgs) -> Result<u8, Exit> {
    let config = configure::broker(args)?;
    run(async {
        let mut signals = Signals::take().map_err(Exit::failure)?;
        let (_, broker) = start_broker(config).await?;
        say(&[
            ("broker", broker.address()),
            ("metrics", broker.metrics_address()),
        ])?;
        let failed = until_told(&mut signals, &broker).await;
        stop(
            &mut signals,
            &args.common,
            async { broker.stop().await },
            failed,
        )
        .await
    })
}

pub(super) fn namesrv(args: &NamesrvArgs) -> Result<u8, Exit> {
    let config = configure::namesrv(args)?;
    run(async {
        let mut signals = Signals::take().map_err(Exit::failure)?;
        let registry = metrics::registry("", "nameserver", &host_name()).map_err(Exit::failure)?;
        let scrape = Arc::new(Scrape::new(registry.clone()));
        let probing = Crew::default();
        let server = NameServer::start(&config, &registry, &scrape).map_err(Exit::failure)?;
        let probes =
            serve_namesrv_probes(&config, Arc::clone(&scrape), server.readiness(), &probing)
                .await?;
        say(&[("name server", server.address()), ("metrics", probes)])?;
        tracing::info!(signal = signals.next().await, "stopping");
        let down = async {
            server.stop().await;
            probing.dismiss().await;
            Ok(())
        };
        stop(&mut signals, &args.common, down, None).await
    })
}

pub(super) fn standalone(args: &StandaloneArgs) -> Result<u8, Exit> {
    let mut config = configure::standalone_broker(args)?;
    run(async {
        let mut signals = Signals::take().map_err(Exit::failure)?;
        let registry = metrics::registry("", "nameserver", "standalone").map_err(Exit::failure)?;
        let scrape = Scrape::new(registry.clone());
        let namesrv = configure::standalone_namesrv(args, &config);
        let server = NameServer::start(&namesrv, &registry, &scrape).map_err(Exit::failure)?;
        if config.namesrv_addr.is_empty() {
            let host = configure::reachable(server.address().ip()).to_string();
            config.namesrv_addr.push(HostPort {
                host,
                port: server.address().port(),
            });
        }
        let (broker_scrape, broker) = match start_broker(config).await {
            Ok(started) => started,
            Err(exit) => {
                server.stop().await;
                return Err(exit);
            }
        };
        broker_scrape.include(scrape);
        // Clients that start upon `ready` find a route.
        let _ = timeout(FIRST_REGISTRATION, broker.registration().first()).await;
        say(&[
            ("name server", server.address()),
            ("broker", broker.address()),
            ("metrics", broker.metrics_address()),
        ])?;
        let failed = until_told(&mut signals, &broker).await;
        let down = async {
            let closed = broker.stop().await;
            server.stop().await;
            closed
        };
        stop(&mut signals, &args.common, down, failed).await
    })
}

/// Runs on a runtime of its own, which is not waited for in the end: what must be finished was finished by the stop.
fn run(serving: impl Future<Output = Result<u8, Exit>>) -> Result<u8, Exit> {
    process::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(round::end)
        .build()
        .map_err(Exit::failure)?;
    let status = runtime.block_on(serving);
    runtime.shutdown_background();
    status
}

async fn start_broker(config: BrokerConfig) -> Result<(Arc<Scrape>, Broker), Exit> {
    if config.coordinator.is_none() && config.total_replicas > 1 {
        tracing::warn!(
            "totalReplicas has no effect without a coordinator: this broker is the only copy"
        );
    }
    let registry = metrics::registry(
        config.broker_cluster_name.as_str(),
        "broker",
        &config.name(),
    )
    .map_err(Exit::failure)?;
    let scrape = Arc::new(Scrape::new(registry.clone()));
    let started = Broker::start(config, &registry, Arc::clone(&scrape)).await;
    let broker = started.map_err(|error| Exit {
        status: status_of(&error),
        reason: error.to_string(),
    })?;
    Ok((scrape, broker))
}

fn status_of(error: &broker::Error) -> u8 {
    match error {
        broker::Error::Store { .. } | broker::Error::Close(_) => EXIT_STORE,
        broker::Error::OfGroup { .. }
        | broker::Error::Unfinished { .. }
        | broker::Error::Join(JoinError::Secret(_)) => EXIT_USAGE,
        broker::Error::Join(JoinError::Replica(why)) if why.may_pass() => EXIT_RESTART,
        broker::Error::Join(JoinError::Replica(_)) => EXIT_HALTED,
        broker::Error::Bind { .. }
        | broker::Error::Join(_)
        | broker::Error::Metadata(_)
        | broker::Error::Metrics(_)
        | broker::Error::Thread(_) => EXIT_FAILURE,
    }
}

async fn serve_namesrv_probes(
    config: &NamesrvConfig,
    scrape: Arc<Scrape>,
    ready: impl Fn() -> Readiness + Send + Sync + 'static,
    probing: &Crew,
) -> Result<SocketAddr, Exit> {
    let address = SocketAddr::new(config.bind_address, config.metrics_port);
    let serving = http::serve(address, scrape, ready, &probing.tasks, probing.stop.clone()).await;
    serving.map_err(|error| Exit::failure(format!("cannot listen on {address}: {error}")))
}

/// Prints what listens where, then `ready`.
fn say(addresses: &[(&str, SocketAddr)]) -> Result<(), Exit> {
    let mut lines = String::new();
    for (what, address) in addresses {
        let _ = writeln!(lines, "{what} {address}");
    }
    super::print(&format!("{lines}ready\n")).map(drop)
}

/// Waits for a signal or for a failure, which is returned.
async fn until_told(signals: &mut Signals, broker: &Broker) -> Option<Failure> {
    tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            None
        }
        reason = broker.failed() => Some(reason),
    }
}

/// Goes down within the grace period; a second signal ends the process at once.
async fn stop(
    signals: &mut Signals,
    common: &Common,
    down: impl Future<Output = Result<(), broker::Error>>,
    failed: Option<Failure>,
) -> Result<u8, Exit> {
    let grace = Duration::from_secs(common.grace);
    let stopped = tokio::select! {
        stopped = timeout(grace, down) => stopped,
        signal = signals.next() => {
            let _ = writeln!(std::io::stderr(), "rocket-broker: second signal ({signal}): leaving at once");
            std::process::exit(i32::from(EXIT_FAILURE));
        }
    };
    if let Some(failure) = failed {
        return Err(Exit {
            status: match failure {
                Failure::Store(_) => EXIT_STORE,
                Failure::Task(_) => EXIT_FAILURE,
                Failure::Halted(_) => EXIT_HALTED,
                Failure::Restart(_) => EXIT_RESTART,
            },
            reason: failure.to_string(),
        });
    }
    match stopped {
        Ok(Ok(())) => Ok(EXIT_OK),
        Ok(Err(error)) => Err(Exit {
            status: status_of(&error),
            reason: error.to_string(),
        }),
        Err(_) => Err(Exit::failure(format!(
            "did not stop within {} s",
            common.grace
        ))),
    }
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use rocket_ha::{CutError, StartError};
    use rocket_replication::PhysicalOffset;

    use super::*;
    use crate::ha;

    #[test]
    fn replica_without_room_for_what_a_cut_takes_away_is_not_halted() {
        let status = |source| {
            let to = PhysicalOffset(70);
            let error = ha::Error::from(StartError::Cut { to, source });
            status_of(&broker::Error::Join(JoinError::Replica(error)))
        };
        assert_eq!(status(CutError::NoRoom("full".to_owned())), EXIT_RESTART);
        let failed = std::io::Error::other("a write failed").into();
        assert_eq!(status(failed), EXIT_HALTED);
    }
}
