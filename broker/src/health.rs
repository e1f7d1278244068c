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
}

/// Shared by everything that has a say in whether the broker is ready.
#[derive(Debug)]
pub struct BrokerHealth {
    role: &'static str,
    phase: RwLock<Phase>,
    failure: watch::Sender<Option<Failure>>,
}

impl BrokerHealth {
    /// Of a broker that is starting as `role`.
    pub fn new(role: &'static str) -> Self {
        Self {
            role,
            phase: RwLock::new(Phase::Recovering),
            failure: watch::Sender::new(None),
        }
    }

    /// It has come to `phase`.
    pub fn enter(&self, phase: Phase) {
        *self.phase.write() = phase;
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
        let not_ready = |reason: String| Readiness::not_ready(self.role, reason);
        if let Some(failure) = self.failure() {
            return not_ready(failure.to_string());
        }
        match (*self.phase.read(), store) {
            (Phase::Recovering, _) | (Phase::Serving, None) => not_ready("recovering".to_owned()),
            (Phase::Stopping, _) => not_ready("stopping".to_owned()),
            (Phase::Serving, Some((Health::ReadOnly { reason }, _))) => {
                not_ready(format!("the store is read-only: {reason}"))
            }
            (Phase::Serving, Some((Health::Closing, _))) => {
                not_ready("the store is closing".to_owned())
            }
            (Phase::Serving, Some((Health::Writable, disk))) if disk.refused => not_ready(format!(
                "the disk is {:.0} % full; writes are refused",
                disk.ratio * 100.0
            )),
            (Phase::Serving, Some((Health::Writable, _))) => Readiness::ready(self.role),
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
            Some("the disk is 91 % full; writes are refused")
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
