//! What a broker says of itself at `/readyz`, and the failure that ends it.

use parking_lot::RwLock;
use rocket_store::{DiskUsage, Health};
use tokio::sync::watch;

use crate::http::Readiness;

/// Where a broker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The store is being opened and recovered.
    Recovering,
    /// It serves.
    Serving,
    /// It is a replica of a group that could become master, and serves no clients.
    Following,
    /// It is a replica of a group that could not become master yet, for this reason.
    Joining(&'static str),
    /// It was asked to stop.
    Stopping,
}

/// Why a broker must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A write or flush of the store failed: a person must look at it before the next start.
    #[error("the store failed: {0}")]
    Store(String),
    /// A task panicked that the broker cannot do without. The next start is as good as any.
    #[error("a task of the broker panicked: {0}")]
    Task(String),
    /// This replica must not go on, and starting it again changes nothing by itself: a person must look at it.
    #[error("this replica is halted: {0}")]
    Halted(String),
    /// What is to be done next only a start can do: start it again.
    #[error("this process must be started again: {0}")]
    Restart(&'static str),
}

/// Shared by everything that has a say in whether the broker is ready.
#[derive(Debug)]
pub struct BrokerHealth {
    place: RwLock<Place>,
    failure: watch::Sender<Option<Failure>>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    role: &'static str,
    epoch: Option<u64>,
    phase: Phase,
}

impl BrokerHealth {
    /// Of a broker that is starting as `role`.
    pub fn new(role: &'static str) -> Self {
        let place = Place {
            role,
            epoch: None,
            phase: Phase::Recovering,
        };
        Self {
            place: RwLock::new(place),
            failure: watch::Sender::new(None),
        }
    }

    /// It has come to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.place.write().phase = phase;
    }

    /// As a replica it is `role` now, and has come to `phase`. One that was asked to stop says that only.
    pub fn stand(&self, role: &'static str, epoch: u64, phase: Phase) {
        let mut place = self.place.write();
        let is_stopping = place.phase == Phase::Stopping;
        *place = Place {
            role,
            epoch: Some(epoch),
            phase: if is_stopping { Phase::Stopping } else { phase },
        };
    }

    /// Only the first failure is kept: the others follow from it.
    pub fn fail(&self, reason: Failure) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(reason);
            }
            first
        });
    }

    /// The failure, if there was one.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.borrow().clone()
    }

    /// Waits for a failure.
    pub async fn failed(&self) -> Failure {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        match failed.ok().and_then(|failure| failure.clone()) {
            Some(failure) => failure,
            // The sender is in `self`, so this cannot be; were it so, there would be no failure to wait for.
            None => std::future::pending().await,
        }
    }

    /// The answer of `/readyz`. Full disks and failed flushes make a broker not ready: it cannot do its job.
    pub fn readiness(&self, store: Option<(Health, DiskUsage)>) -> Readiness {
        let place = *self.place.read();
        Readiness {
            epoch: place.epoch,
            ..self.judged(place, store)
        }
    }

    fn judged(&self, place: Place, store: Option<(Health, DiskUsage)>) -> Readiness {
        let not_ready = |reason: String| Readiness::not_ready(place.role, reason);
        if let Some(failure) = self.failure() {
            return not_ready(failure.to_string());
        }
        match (place.phase, store) {
            (Phase::Stopping, _) => not_ready("stopping".to_owned()),
            (Phase::Recovering, _) | (_, None) => not_ready("recovering".to_owned()),
            (_, Some((Health::ReadOnly { reason }, _))) => {
                not_ready(format!("the store is read-only: {reason}"))
            }
            (_, Some((Health::Closing, _))) => not_ready("the store is closing".to_owned()),
            (Phase::Joining(why), _) => not_ready(why.to_owned()),
            (_, Some((Health::Writable, disk))) if disk.refused => not_ready(format!(
                "writes are refused for want of room; the disk is {:.0} % full",
                disk.ratio * 100.0
            )),
            (Phase::Serving | Phase::Following, Some((Health::Writable, _))) => {
                Readiness::ready(place.role)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DiskUsage = DiskUsage {
        used: 91,
        capacity: 100,
        ratio: 0.91,
        refused: false,
    };

    fn serving() -> BrokerHealth {
        let health = BrokerHealth::new("master");
        health.enter(Phase::Serving);
        health
    }

    #[test]
    fn a_writable_store_of_a_serving_broker_is_ready_and_nothing_else_is() {
        let reason = |health: &BrokerHealth, store| health.readiness(store).reason;
        assert_eq!(
            serving().readiness(Some((Health::Writable, DISK))),
            Readiness::ready("master")
        );
        assert_eq!(
            reason(&BrokerHealth::new("master"), None).as_deref(),
            Some("recovering")
        );
        let full = DiskUsage {
            refused: true,
            ..DISK
        };
        assert_eq!(
            reason(&serving(), Some((Health::Writable, full))).as_deref(),
            Some("writes are refused for want of room; the disk is 91 % full")
        );
        let read_only = Health::ReadOnly {
            reason: "commitlog/0: EIO".into(),
        };
        assert_eq!(
            reason(&serving(), Some((read_only, DISK))).as_deref(),
            Some("the store is read-only: commitlog/0: EIO")
        );
        let stopping = serving();
        stopping.enter(Phase::Stopping);
        assert_eq!(
            reason(&stopping, Some((Health::Writable, DISK))).as_deref(),
            Some("stopping")
        );
    }

    #[test]
    fn a_slave_is_ready_when_it_could_take_over() {
        let health = BrokerHealth::new("slave");
        let now = || health.readiness(Some((Health::Writable, DISK)));
        assert_eq!(now().reason.as_deref(), Some("recovering"));
        health.stand("slave", 3, Phase::Joining("it copies what it lacks"));
        assert_eq!(now().reason.as_deref(), Some("it copies what it lacks"));
        health.stand("slave", 3, Phase::Following);
        let ready = Readiness {
            epoch: Some(3),
            ..Readiness::ready("slave")
        };
        assert_eq!(now(), ready);
        health.enter(Phase::Stopping);
        health.stand("master", 4, Phase::Serving);
        assert_eq!(
            (now().ready, now().role, now().reason.as_deref()),
            (false, "master", Some("stopping"))
        );
    }

    #[tokio::test]
    async fn the_first_failure_is_the_one_that_is_told() {
        let health = serving();
        health.fail(Failure::Store("first".to_owned()));
        health.fail(Failure::Task("second".to_owned()));
        assert_eq!(health.failed().await, Failure::Store("first".to_owned()));
        assert_eq!(
            health
                .readiness(Some((Health::Writable, DISK)))
                .reason
                .as_deref(),
            Some("the store failed: first")
        );
    }
}
