//! The operator's own metrics, and what it knows of each cluster. Registries are passed in; labels come from closed sets.

mod requests;

pub use requests::CountRequests;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use rocket_api::{Phase, RocketClusterStatus, Truth};

/// Counters and gauges of one process.
pub struct Metrics {
    /// Reconciles by kind and result (`ok`, `error`).
    pub reconciles: IntCounterVec,
    /// Seconds of a reconcile by kind.
    pub reconcile_seconds: HistogramVec,
    /// Failed reconciles by reason.
    pub reconcile_errors: IntCounterVec,
    /// 1 while this process is the leader.
    pub leader: IntGauge,
    /// Requests to the API server by verb and code.
    pub api_requests: IntCounterVec,
    /// Objects that were already as they should be.
    pub applies_skipped: IntCounter,
    /// Watches that ended with an error and were begun again.
    pub watch_restarts: IntCounter,
    /// Elections by kind: `first` of a new group, `clean`, `unclean`.
    pub failovers: IntCounterVec,
    /// Seconds from the first sign that a master is gone until the elected one opened for writes.
    pub failover_seconds: Histogram,
    /// Seconds since 1970 when the process started.
    pub start: Gauge,
    clusters: IntGaugeVec,
    condition: IntGaugeVec,
    phases: Mutex<BTreeMap<(String, String), Phase>>,
}

impl Metrics {
    /// Makes all metrics in a registry.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let plain = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone())).map(|()| metric)
        };
        let buckets = vec![
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ];
        let seconds = HistogramOpts::new(
            "rocket_operator_reconcile_duration_seconds",
            "Time of a reconcile.",
        )
        .buckets(buckets);
        let reconcile_seconds = HistogramVec::new(seconds, &["kind"])?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        let leader = IntGauge::new(
            "rocket_operator_leader",
            "1 while this process is the leader.",
        )?;
        registry.register(Box::new(leader.clone()))?;
        let start = Gauge::new(
            "process_start_time_seconds",
            "Start time of the process in seconds since 1970.",
        )?;
        registry.register(Box::new(start.clone()))?;
        let metrics = Self {
            reconciles: counter(
                "rocket_operator_reconcile_total",
                "Reconciles by result.",
                &["kind", "result"],
            )?,
            reconcile_seconds,
            reconcile_errors: counter(
                "rocket_operator_reconcile_errors_total",
                "Failed reconciles by reason.",
                &["reason"],
            )?,
            leader,
            api_requests: counter(
                "rocket_operator_api_requests_total",
                "Requests to the API server by verb and code.",
                &["verb", "code"],
            )?,
            applies_skipped: plain(
                "rocket_operator_applies_skipped_total",
                "Objects that were already as they should be.",
            )?,
            watch_restarts: plain(
                "rocket_operator_watch_restarts_total",
                "Watches that ended with an error and were begun again.",
            )?,
            failovers: counter(
                "rocket_operator_failover_total",
                "Elections by kind: first (of a new group), clean, unclean.",
                &["kind"],
            )?,
            failover_seconds: failover_seconds(registry)?,
            start,
            clusters: gauge("rocket_operator_clusters", "Clusters by phase.", &["phase"])?,
            condition: gauge(
                "rocket_operator_cluster_condition",
                "Conditions of each cluster: 1 true, 0 false, -1 unknown.",
                &["namespace", "cluster", "type"],
            )?,
            phases: Mutex::default(),
        };
        for phase in Phase::ALL {
            metrics.clusters.with_label_values(&[phase.as_str()]).set(0);
        }
        Ok(metrics)
    }

    /// Takes over what a status says.
    pub fn tell(&self, namespace: &str, name: &str, status: &RocketClusterStatus) {
        for condition in &status.conditions {
            let value = match condition.status {
                Truth::True => 1,
                Truth::False => 0,
                Truth::Unknown => -1,
            };
            self.condition
                .with_label_values(&[namespace, name, condition.type_.as_str()])
                .set(value);
        }
        let mut phases = self.phases.lock();
        phases.insert((namespace.to_owned(), name.to_owned()), status.phase);
        self.count_phases(&phases);
    }

    /// Forgets a deleted cluster.
    pub fn forget(&self, namespace: &str, name: &str) {
        for type_ in rocket_api::ConditionType::ALL {
            let _ = self
                .condition
                .remove_label_values(&[namespace, name, type_.as_str()]);
        }
        let mut phases = self.phases.lock();
        phases.remove(&(namespace.to_owned(), name.to_owned()));
        self.count_phases(&phases);
    }

    fn count_phases(&self, phases: &BTreeMap<(String, String), Phase>) {
        for phase in Phase::ALL {
            let count = phases.values().filter(|of| **of == phase).count();
            self.clusters
                .with_label_values(&[phase.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn failover_seconds(registry: &Registry) -> prometheus::Result<Histogram> {
    let seconds = HistogramOpts::new(
        "rocket_operator_failover_duration_seconds",
        "Time from the first sign that a master is gone until the elected one opened for writes.",
    )
    .buckets(vec![
        0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
    ]);
    let metric = Histogram::with_opts(seconds)?;
    registry.register(Box::new(metric.clone())).map(|()| metric)
}
