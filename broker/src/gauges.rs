//! Reads the broker's gauges when they are scraped.

use std::sync::Arc;
use std::time::Duration;

use rocket_ha::Board;
use rocket_protocol::{RecordView, UnixMillis};
use rocket_remoting::Stats;
use rocket_store::{Health, Positions};
use tokio::sync::watch;

use crate::clock;
use crate::config::LiveConfig;
use crate::ha::Standing;
use crate::health::{BrokerHealth, Failure};
use crate::memory;
use crate::metrics::{Metrics, Scrape, Series};
use crate::processor::BrokerStore;
use crate::registration::Registration;
use crate::serving::Stage;

/// RocketMQ's labels of where the store is: this one has no other place.
const PLACE: [&str; 2] = ["local", "disk"];

/// Where the gauges come from.
pub struct Sources {
    /// The series.
    pub metrics: Arc<Metrics>,
    /// Positions, disk, health.
    pub store: Arc<BrokerStore>,
    /// Connections and bytes.
    pub remoting: Arc<Stats>,
    /// Name servers.
    pub registration: Registration,
    /// Failures.
    pub health: Arc<BrokerHealth>,
    /// Permission and replicas.
    pub config: Arc<LiveConfig>,
    /// Its group, if it is a replica of one.
    pub group: Option<Group>,
    /// When the process started.
    pub started: UnixMillis,
}

/// What is known of a group.
pub struct Group {
    pub(crate) board: Arc<Board>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) stage: Arc<Stage>,
}

/// Has them read before each scrape.
pub fn watch(scrape: &Scrape, sources: Sources) {
    scrape.on_scrape(move || sources.refresh());
}

impl Sources {
    fn refresh(&self) {
        let series = &self.metrics.series;
        self.refresh_store(series);
        self.refresh_remoting(series);
        if let Some(taken) = memory::taken() {
            series.process_resident_memory.set(signed(taken.resident));
            series.process_anonymous_memory.set(signed(taken.anonymous));
        }
        let config = self.config.load();
        series
            .broker_permission
            .set(i64::from(config.broker_permission));
        if let Some(group) = &self.group {
            group.refresh(series);
        } else {
            let is_master = !config.is_standby();
            let min_in_sync = config.replication().in_sync_min;
            series.role.set(i64::from(is_master));
            series.in_sync_replicas.set(i64::from(is_master));
            series.min_in_sync_replicas.set(i64::from(min_in_sync));
        }
        let reached = self.registration.reached();
        series.namesrv_registered.set(signed(reached.registered));
        series.namesrv_known.set(signed(reached.known));
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of our age fit in 52 bits"
        )]
        series.start_time_seconds.set(self.started.0 as f64 / 1e3);
    }

    fn refresh_store(&self, series: &Series) {
        let Positions {
            min,
            appended,
            durable,
            committed,
            dispatched,
        } = self.store.positions();
        let behind = |position: u64| signed(appended.0.saturating_sub(position));
        series
            .storage_size
            .with_label_values(&PLACE)
            .set(behind(min.0));
        series
            .storage_flush_behind_bytes
            .with_label_values(&PLACE)
            .set(behind(durable.0));
        series
            .storage_dispatch_behind_bytes
            .with_label_values(&PLACE)
            .set(behind(dispatched.0));
        series.log_appended_bytes.set(signed(appended.0));
        series.log_durable_bytes.set(signed(durable.0));
        series.log_committed_bytes.set(signed(committed.0));
        let oldest = self.store.record_at(min).and_then(|record| {
            RecordView::parse(&record)
                .ok()
                .map(|(record, _)| record.store_timestamp())
        });
        let age = oldest.map_or(0, |oldest| clock::now().0.saturating_sub(oldest.0).max(0));
        series
            .storage_message_reserve_time
            .with_label_values(&PLACE)
            .set(age);
        let stats = self.store.stats();
        series.log_damaged_bytes.set(signed(stats.damaged_bytes));
        series.log_repaired_bytes.set(signed(stats.repaired_bytes));
        series.log_scrubbed_bytes.set(signed(stats.scrubbed_bytes));
        series
            .log_misplaced_messages
            .set(signed(stats.messages_misplaced));
        series.retention_held_bytes.set(signed(stats.bytes_held));
        let disk = self.store.disk();
        series.disk_used_bytes.set(signed(disk.used));
        series.disk_capacity_bytes.set(signed(disk.capacity));
        let writable = self.store.health() == Health::Writable && !disk.refused;
        series.store_writable.set(i64::from(writable));
        let failure = self.health.failure();
        series
            .store_failed
            .set(i64::from(matches!(failure, Some(Failure::Store(_)))));
    }

    fn refresh_remoting(&self, series: &Series) {
        let stats = self.remoting.snapshot();
        series.connections.set(signed(stats.connections_open));
        series.connections_refused.set(signed(
            stats.connections_refused + stats.bad_frames + stats.slow_readers,
        ));
        series.remoting_in_bytes.set(signed(stats.bytes_in));
        series.remoting_out_bytes.set(signed(stats.bytes_out));
    }
}

impl Group {
    fn refresh(&self, series: &Series) {
        let view = self.board.group();
        series.role.set(i64::from(self.stage.is_serving()));
        series.in_sync_replicas.set(i64::from(view.in_sync));
        series.min_in_sync_replicas.set(i64::from(view.min_in_sync));
        series.replication_lag_bytes.set(signed(view.lag_bytes));
        let lag = Duration::from_millis(view.lag_ms);
        series.replication_lag_seconds.set(lag.as_secs_f64());
        series.epoch.set(signed(self.standing.borrow().epoch.0));
    }
}

fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
