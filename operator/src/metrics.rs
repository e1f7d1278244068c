//! The operator's own metrics, and what it knows of each cluster. Registries are passed in; labels come from closed sets.

mod groups;
mod page;
mod requests;

pub use groups::{CountedGroup, ElectionKind};
pub use requests::CountRequests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry,
};
use rocket_api::{Phase, RocketClusterStatus, Truth};

use groups::Elections;
use page::{Register, Row};

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
    /// Seconds from the first sign that a master is gone until the elected one opened for writes.
    pub failover_seconds: Histogram,
    /// Seconds at most in which no replica of a group took sends because of a planned handover.
    pub write_pause_seconds: Histogram,
    /// Seconds since 1970 when the process started.
    pub start: Gauge,
    elections: Arc<Elections>,
    clusters: IntGaugeVec,
    condition: IntGaugeVec,
    copies: IntGaugeVec,
    heirs: IntGaugeVec,
    phases: Mutex<BTreeMap<(String, String), Phase>>,
    rows: Vec<Row>,
}

impl Metrics {
    /// Makes all metrics in a registry.
    ///
    /// # Errors
    /// When the registry already has one of them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let mut register = Register::new(registry);
        let all = &mut register;
        let mut metrics = Self {
            reconciles: all.counters(
                "rocket_operator_reconcile_total",
                "Reconciles by result: ok, error.",
                &["kind", "result"],
            )?,
            reconcile_seconds: all.add("histogram", reconcile_seconds()?)?,
            reconcile_errors: all.counters(
                "rocket_operator_reconcile_errors_total",
                "Failed reconciles by reason.",
                &["reason"],
            )?,
            leader: all.add(
                "gauge",
                IntGauge::new(
                    "rocket_operator_leader",
                    "1 while this process is the leader.",
                )?,
            )?,
            api_requests: all.counters(
                "rocket_operator_api_requests_total",
                "Requests to the API server by verb and code.",
                &["verb", "code"],
            )?,
            applies_skipped: all.add(
                "counter",
                IntCounter::new(
                    "rocket_operator_applies_skipped_total",
                    "Objects that were already as they should be.",
                )?,
            )?,
            watch_restarts: all.add(
                "counter",
                IntCounter::new(
                    "rocket_operator_watch_restarts_total",
                    "Watches that ended with an error and were begun again.",
                )?,
            )?,
            elections: Elections::new(all.counters(
                "rocket_operator_failover_total",
                "Elections of each group that elects its master, by kind: first (of a new group), clean, unclean (acknowledged messages may be lost). A planned handover is none.",
                &Elections::LABELS,
            )?),
            failover_seconds: all.add("histogram", failover_seconds()?)?,
            write_pause_seconds: all.add("histogram", write_pause_seconds()?)?,
            start: all.add(
                "gauge",
                Gauge::new(
                    "process_start_time_seconds",
                    "Start time of the process in seconds since 1970.",
                )?,
            )?,
            clusters: all.gauges("rocket_operator_clusters", "Clusters by phase.", &["phase"])?,
            condition: all.gauges(
                "rocket_operator_cluster_condition",
                "Conditions of each cluster: 1 true, 0 false, -1 unknown.",
                &["namespace", "cluster", "type"],
            )?,
            copies: all.gauges(
                "rocket_operator_cluster_copies",
                "Copies of each message that a cluster is to have: the replicas of a group where groups elect their masters, else 1.",
                &["namespace", "cluster"],
            )?,
            heirs: all.gauges(
                "rocket_operator_cluster_heirs",
                "Replicas besides the master that are ready and could be elected, in the group that has the fewest; 0 where masters are fixed.",
                &["namespace", "cluster"],
            )?,
            phases: Mutex::default(),
            rows: Vec::new(),
        };
        metrics.rows = register.rows;
        for phase in Phase::ALL {
            metrics.clusters.with_label_values(&[phase.as_str()]).set(0);
        }
        Ok(metrics)
    }

    /// `docs/operator-metrics.md`.
    pub fn page(&self) -> String {
        page::markdown(&self.rows)
    }

    /// Counts the elections of a group from now on, in series that last until it is forgotten.
    pub fn count_group(&self, namespace: &str, cluster: &str, group: &str) -> CountedGroup {
        self.elections
            .count([namespace, cluster, group].map(str::to_owned))
    }

    /// Forgets a group that its cluster does not have any more.
    pub fn forget_group(&self, namespace: &str, cluster: &str, group: &str) {
        self.elections
            .forget(|known| known.each_ref().map(String::as_str) == [namespace, cluster, group]);
    }

    /// How many elections of a kind the groups had that are counted now.
    pub fn elections(&self, kind: ElectionKind) -> u64 {
        self.elections.sum(kind)
    }

    /// Takes over what a status says. `copies`: how many each message is to have; `heirs`: who could take over, at least.
    pub fn tell(
        &self,
        namespace: &str,
        name: &str,
        status: &RocketClusterStatus,
        (copies, heirs): (i32, usize),
    ) {
        let labels = [namespace, name];
        self.copies
            .with_label_values(&labels)
            .set(i64::from(copies));
        self.heirs
            .with_label_values(&labels)
            .set(i64::try_from(heirs).unwrap_or(i64::MAX));
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
        self.forget_series(namespace, name);
        let mut phases = self.phases.lock();
        phases.remove(&(namespace.to_owned(), name.to_owned()));
        self.count_phases(&phases);
    }

    /// Forgets deleted clusters, of those that were told of.
    pub fn forget_all(&self, is_gone: impl Fn(&str, &str) -> bool) {
        let known: Vec<(String, String)> = self.phases.lock().keys().cloned().collect();
        for (namespace, name) in known.iter().filter(|known| is_gone(&known.0, &known.1)) {
            self.forget(namespace, name);
        }
    }

    /// Forgets what a cluster is like whose brokers are meant to end. It is counted until it is gone.
    pub fn forget_series(&self, namespace: &str, name: &str) {
        for type_ in rocket_api::ConditionType::ALL {
            let _ = self
                .condition
                .remove_label_values(&[namespace, name, type_.as_str()]);
        }
        for gauge in [&self.copies, &self.heirs] {
            let _ = gauge.remove_label_values(&[namespace, name]);
        }
        self.elections
            .forget(|[of, cluster, _]| (of.as_str(), cluster.as_str()) == (namespace, name));
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

fn reconcile_seconds() -> prometheus::Result<HistogramVec> {
    let seconds = HistogramOpts::new(
        "rocket_operator_reconcile_duration_seconds",
        "Time of a reconcile.",
    )
    .buckets(vec![
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ]);
    HistogramVec::new(seconds, &["kind"])
}

fn failover_seconds() -> prometheus::Result<Histogram> {
    let seconds = HistogramOpts::new(
        "rocket_operator_failover_duration_seconds",
        "Time from the first sign that a master is gone until the elected one opened for writes.",
    )
    .buckets(vec![
        0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
    ]);
    Histogram::with_opts(seconds)
}

fn write_pause_seconds() -> prometheus::Result<Histogram> {
    let seconds = HistogramOpts::new(
        "rocket_operator_handover_write_pause_seconds",
        "Time at most in which no replica of a group took sends because of a planned handover.",
    )
    .buckets(vec![
        0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0,
    ]);
    Histogram::with_opts(seconds)
}
