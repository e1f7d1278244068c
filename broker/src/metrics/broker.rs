//! The broker's series.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::table::metrics;

const KIB: f64 = 1024.0;

metrics! {
    /// Every series of the broker. Cheap to clone.
    pub struct Series {
        /// Messages that producers sent and the broker took.
        messages_in: IntCounterVec = "rocketmq_messages_in_total" ["topic", "message_type", "is_system"] [];
        /// Messages that consumers were given.
        messages_out: IntCounterVec = "rocketmq_messages_out_total" ["topic", "consumer_group", "is_retry", "is_system"] [];
        /// Bytes of messages that producers sent and the broker took.
        throughput_in: IntCounterVec = "rocketmq_throughput_in_total" ["topic", "message_type", "is_system"] [];
        /// Bytes of messages that consumers were given.
        throughput_out: IntCounterVec = "rocketmq_throughput_out_total" ["topic", "consumer_group", "is_retry", "is_system"] [];
        /// Size of a message's body, bytes.
        message_size: HistogramVec = "rocketmq_message_size" ["topic", "message_type"] [KIB, 4.0 * KIB, 512.0 * KIB, 1024.0 * KIB, 2048.0 * KIB, 4096.0 * KIB];
        /// Messages that were given up and went to a dead letter queue.
        send_to_dlq_messages: IntCounterVec = "rocketmq_send_to_dlq_messages_total" ["topic", "consumer_group", "is_system"] [];
        /// Connected producers.
        producer_connections: IntGaugeVec = "rocketmq_producer_connections" ["language", "version"] [];
        /// Connected consumers.
        consumer_connections: IntGaugeVec = "rocketmq_consumer_connections" ["consumer_group", "language", "version", "consume_mode", "is_system"] [];
        /// Messages between a group's position and the end of its queues.
        consumer_lag_messages: IntGaugeVec = "rocketmq_consumer_lag_messages" ["topic", "consumer_group", "is_retry", "is_system"] [];
        /// Bytes of the commit log that are kept.
        storage_size: IntGaugeVec = "rocketmq_storage_size" ["storage_type", "storage_medium"] [];
        /// Bytes of the commit log that are not flushed.
        storage_flush_behind_bytes: IntGaugeVec = "rocketmq_storage_flush_behind_bytes" ["storage_type", "storage_medium"] [];
        /// Bytes of the commit log that consumers cannot see because their queues are not built.
        storage_dispatch_behind_bytes: IntGaugeVec = "rocketmq_storage_dispatch_behind_bytes" ["storage_type", "storage_medium"] [];
        /// Age of the oldest message, milliseconds.
        storage_message_reserve_time: IntGaugeVec = "rocketmq_storage_message_reserve_time" ["storage_type", "storage_medium"] [];
        /// Time from a request's arrival to its answer, milliseconds.
        rpc_latency: HistogramVec = "rocketmq_rpc_latency" ["protocol_type", "request_code", "response_code", "is_long_polling"] [1.0, 3.0, 5.0, 10.0, 100.0, 1_000.0, 3_000.0, 5_000.0, 7_000.0, 10_000.0];
        /// Requests that wait in a bounded queue: `send` for the appender, `pull` for messages.
        processor_watermark: IntGaugeVec = "rocketmq_processor_watermark" ["processor"] [];
        /// What clients may do with the broker: 2 write, 4 read, 6 both.
        broker_permission: IntGauge = "rocketmq_broker_permission" [] [];
        /// Bytes in use on the file system of the store.
        disk_used_bytes: IntGauge = "rocket_disk_used_bytes" [] [];
        /// Bytes of the file system of the store.
        disk_capacity_bytes: IntGauge = "rocket_disk_capacity_bytes" [] [];
        /// Messages that retention removed. `oversize`: commitLogBytesMax; `disk_forced`: above diskSpaceCleanForciblyRatio.
        retention_removed_messages: IntCounterVec = "rocket_retention_removed_messages_total" ["reason"] [];
        /// Bytes of commit log files that retention removed.
        retention_removed_bytes: IntCounterVec = "rocket_retention_removed_bytes_total" ["reason"] [];
        /// Messages that retention removed before the group had consumed them. Above 0 a human should look.
        retention_unconsumed_messages: IntCounterVec = "rocket_retention_unconsumed_messages_total" ["topic", "consumer_group"] [];
        /// Bytes of commit log files that are due and kept because a group has not consumed them.
        retention_held_bytes: IntGauge = "rocket_retention_held_bytes" [] [];
        /// 1 when this replica is the master of its group and serves, else 0.
        role: IntGauge = "rocket_role" [] [];
        /// Members of the in-sync set, the master included, as far as this replica knows. The master's word counts.
        in_sync_replicas: IntGauge = "rocket_in_sync_replicas" [] [];
        /// Members that the in-sync set must have for writes, as far as this replica knows.
        min_in_sync_replicas: IntGauge = "rocket_min_in_sync_replicas" [] [];
        /// Number of the mastership in this replica's group, as far as it knows; 0 without a coordinator.
        epoch: IntGauge = "rocket_epoch" [] [];
        /// On the master: bytes of its commit log that the slowest replica has not acknowledged, one that left the in-sync set or was cut off included; not one that stopped in order, nor one that has not been there since this master began. On every other replica: bytes that it knows to be committed and lacks.
        replication_lag_bytes: IntGauge = "rocket_replication_lag_bytes" [] [];
        /// Seconds for which that replica has lacked something. On every replica but the master: since it last heard from a master while it had all that was committed, so it grows while it is cut off or there is no master. 0 without a coordinator.
        replication_lag_seconds: Gauge = "rocket_replication_lag_seconds" [] [];
        /// Bytes that were cut off the end of this replica's commit log because its group went on without them. They are kept in quarantine.
        divergent_bytes: IntCounter = "rocket_divergent_bytes_total" [] [];
        /// 1 when the store takes writes, else 0: while it is opened, after a failure, and when there is no room.
        store_writable: IntGauge = "rocket_store_writable" [] [];
        /// 1 after a write or flush failed. The process then ends by itself with status 3, so it is seldom scraped.
        store_failed: IntGauge = "rocket_store_failed" [] [];
        /// 1 when the process before this one ended so, as far as the disk still took a note of it.
        store_recovered_from_failure: IntGauge = "rocket_store_recovered_from_failure" [] [];
        /// Bytes of the commit log that are known to be damaged and are not served. In a group they are had from another replica, within seconds; where they stay above 0 a human should look.
        log_damaged_bytes: IntGauge = "rocket_log_damaged_bytes" [] [];
        /// Bytes of the commit log that were damaged and were written again from another replica, since start.
        log_repaired_bytes: IntGauge = "rocket_log_repaired_bytes" [] [];
        /// Bytes of the commit log that were read again and compared with their checksums since start.
        log_scrubbed_bytes: IntGauge = "rocket_log_scrubbed_bytes" [] [];
        /// Messages of the commit log that nobody can read here, since an offset of their queue was given to another message too, since start. Above 0 a human should look.
        log_misplaced_messages: IntGauge = "rocket_log_misplaced_messages" [] [];
        /// Position after the last appended byte of the commit log.
        log_appended_bytes: IntGauge = "rocket_log_appended_bytes" [] [];
        /// Position up to which the commit log is flushed.
        log_durable_bytes: IntGauge = "rocket_log_durable_bytes" [] [];
        /// Position up to which the commit log is committed.
        log_committed_bytes: IntGauge = "rocket_log_committed_bytes" [] [];
        /// Memory of the process that is in RAM, files that it has mapped included, bytes. The system may take mapped files back at any time.
        process_resident_memory: IntGauge = "process_resident_memory_bytes" [] [];
        /// Memory of the process that only it has, bytes.
        process_anonymous_memory: IntGauge = "rocket_process_anonymous_memory_bytes" [] [];
        /// Time that a flush of the commit log took, seconds.
        flush_latency_seconds: Histogram = "rocket_flush_latency_seconds" [] [0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
        /// Open connections of clients.
        connections: IntGauge = "rocket_connections" [] [];
        /// Connections that were refused because there were too many, or closed because a peer broke the protocol.
        connections_refused: IntGauge = "rocket_connections_refused" [] [];
        /// Bytes read from clients since start.
        remoting_in_bytes: IntGauge = "rocket_remoting_in_bytes" [] [];
        /// Bytes written to clients since start.
        remoting_out_bytes: IntGauge = "rocket_remoting_out_bytes" [] [];
        /// Name server addresses that took the last registration.
        namesrv_registered: IntGauge = "rocket_namesrv_registered" [] [];
        /// Name server addresses that are known.
        namesrv_known: IntGauge = "rocket_namesrv_known" [] [];
        /// Seconds since 1970 at which the process started.
        start_time_seconds: Gauge = "rocket_start_time_seconds" [] [];
    }
}

/// RocketMQ's kinds of a message, for the label `message_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Nothing special.
    Normal,
    /// With a message group.
    Fifo,
    /// Delivered later.
    Delay,
    /// Half of a transaction.
    Transaction,
}

impl MessageType {
    /// As in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "fifo",
            Self::Delay => "delay",
            Self::Transaction => "transaction",
        }
    }
}

/// The counters of one topic and message type, found once per request and then plain atomics.
#[derive(Debug)]
pub struct TopicSeries {
    messages: IntCounter,
    bytes: IntCounter,
    size: Histogram,
}

impl TopicSeries {
    /// Counts one message of a send.
    pub fn count(&self, body_bytes: usize) {
        self.count_batch(1, body_bytes);
    }

    /// Counts a batch of `messages` messages with `body_bytes` bytes in all.
    pub fn count_batch(&self, messages: u32, body_bytes: usize) {
        self.messages.inc_by(u64::from(messages));
        self.bytes
            .inc_by(u64::try_from(body_bytes).unwrap_or(u64::MAX));
        #[expect(
            clippy::cast_precision_loss,
            reason = "a message has far less than 2^52 bytes"
        )]
        self.size.observe(body_bytes as f64);
    }
}

struct OutSeries {
    messages: IntCounter,
    bytes: IntCounter,
}

/// The broker's metrics: the series, and handles that are kept so that a send does not look up labels.
pub struct Metrics {
    /// The series.
    pub series: Series,
    sent: [RwLock<HashMap<String, Arc<TopicSeries>>>; 4],
    given: RwLock<HashMap<String, HashMap<String, Arc<OutSeries>>>>,
    /// Topics and groups with a series of unconsumed messages.
    lost: Mutex<Known>,
    /// Those with a series of messages that were given up.
    given_up: Mutex<Known>,
}

/// Groups by topic.
type Known = HashMap<String, HashSet<String>>;

impl Metrics {
    /// Registers all series.
    ///
    /// # Errors
    /// When the registry has one of them already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            series: Series::register(registry)?,
            sent: Default::default(),
            given: RwLock::default(),
            lost: Mutex::default(),
            given_up: Mutex::default(),
        })
    }

    /// The counters of sends to `topic`.
    pub fn sent(
        &self,
        topic: &str,
        is_system: bool,
        message_type: MessageType,
    ) -> Arc<TopicSeries> {
        let [normal, fifo, delay, transaction] = &self.sent;
        let map = match message_type {
            MessageType::Normal => normal,
            MessageType::Fifo => fifo,
            MessageType::Delay => delay,
            MessageType::Transaction => transaction,
        };
        if let Some(series) = map.read().get(topic) {
            return Arc::clone(series);
        }
        let labels = [topic, message_type.as_str(), flag(is_system)];
        let series = Arc::new(TopicSeries {
            messages: self.series.messages_in.with_label_values(&labels),
            bytes: self.series.throughput_in.with_label_values(&labels),
            size: self
                .series
                .message_size
                .with_label_values(&[topic, message_type.as_str()]),
        });
        Arc::clone(map.write().entry(topic.to_owned()).or_insert(series))
    }

    /// Counts messages that a consumer of `group` was given.
    pub fn given(&self, topic: &str, group: &str, is_system: bool, messages: u32, bytes: usize) {
        let found = self
            .given
            .read()
            .get(topic)
            .and_then(|groups| groups.get(group))
            .map(Arc::clone);
        let series = found.unwrap_or_else(|| {
            let labels = [
                topic,
                group,
                flag(topic.starts_with("%RETRY%")),
                flag(is_system),
            ];
            let series = Arc::new(OutSeries {
                messages: self.series.messages_out.with_label_values(&labels),
                bytes: self.series.throughput_out.with_label_values(&labels),
            });
            Arc::clone(
                self.given
                    .write()
                    .entry(topic.to_owned())
                    .or_default()
                    .entry(group.to_owned())
                    .or_insert(series),
            )
        });
        series.messages.inc_by(u64::from(messages));
        series
            .bytes
            .inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts what retention removed.
    pub fn removed(&self, reason: &'static str, messages: u64, bytes: u64) {
        let series = &self.series;
        let messages_removed = series
            .retention_removed_messages
            .with_label_values(&[reason]);
        messages_removed.inc_by(messages);
        let bytes_removed = series.retention_removed_bytes.with_label_values(&[reason]);
        bytes_removed.inc_by(bytes);
    }

    /// Counts messages that retention removed before `group` had consumed them.
    pub fn unconsumed(&self, topic: &str, group: &str, messages: u64) {
        let mut lost = self.lost.lock();
        lost.entry(topic.to_owned())
            .or_default()
            .insert(group.to_owned());
        let series = &self.series.retention_unconsumed_messages;
        series.with_label_values(&[topic, group]).inc_by(messages);
    }

    /// Counts a message that was given up and went to a dead letter queue.
    pub fn given_up(&self, topic: &str, group: &str, is_system: bool) {
        let mut known = self.given_up.lock();
        known
            .entry(topic.to_owned())
            .or_default()
            .insert(group.to_owned());
        let series = &self.series.send_to_dlq_messages;
        series
            .with_label_values(&[topic, group, flag(is_system)])
            .inc();
    }

    /// The histogram of answers of one kind, to be kept by whoever answers often. The time goes in as milliseconds.
    pub fn latency(
        &self,
        request: Option<&'static str>,
        response: Option<&'static str>,
        held: bool,
    ) -> Histogram {
        let labels = [
            "remoting",
            request.unwrap_or("unknown"),
            response.unwrap_or("unknown"),
            flag(held),
        ];
        self.series.rpc_latency.with_label_values(&labels)
    }

    /// Records an answered request. Codes are names or, for unknown ones, `unknown`: a peer must not be able to make series.
    pub fn answered(
        &self,
        request: Option<&'static str>,
        response: Option<&'static str>,
        held: bool,
        took: Duration,
    ) {
        self.latency(request, response, held)
            .observe(took.as_secs_f64() * 1e3);
    }

    /// Drops the series of a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        for map in &self.sent {
            map.write().remove(topic);
        }
        for kind in [
            MessageType::Normal,
            MessageType::Fifo,
            MessageType::Delay,
            MessageType::Transaction,
        ] {
            for system in ["true", "false"] {
                // Absent ones are not an error: most topics have one kind only.
                let _ =
                    self.series
                        .messages_in
                        .remove_label_values(&[topic, kind.as_str(), system]);
                let _ =
                    self.series
                        .throughput_in
                        .remove_label_values(&[topic, kind.as_str(), system]);
            }
            let _ = self
                .series
                .message_size
                .remove_label_values(&[topic, kind.as_str()]);
        }
        for group in self.lost.lock().remove(topic).unwrap_or_default() {
            self.drop_lost(topic, &group);
        }
        for group in self.given_up.lock().remove(topic).unwrap_or_default() {
            self.drop_given_up(topic, &group);
        }
        let given = self.given.write().remove(topic).unwrap_or_default();
        for group in given.into_keys() {
            self.drop_given(topic, &group);
        }
    }

    /// Drops the series of a deleted group.
    pub fn forget_group(&self, group: &str) {
        for (topic, groups) in self.lost.lock().iter_mut() {
            if groups.remove(group) {
                self.drop_lost(topic, group);
            }
        }
        for (topic, groups) in self.given_up.lock().iter_mut() {
            if groups.remove(group) {
                self.drop_given_up(topic, group);
            }
        }
        for (topic, groups) in self.given.write().iter_mut() {
            if groups.remove(group).is_some() {
                self.drop_given(topic, group);
            }
        }
    }

    // One that is not there is no error: of two flags a series has one.

    fn drop_lost(&self, topic: &str, group: &str) {
        let series = &self.series.retention_unconsumed_messages;
        let _ = series.remove_label_values(&[topic, group]);
    }

    fn drop_given_up(&self, topic: &str, group: &str) {
        for system in ["true", "false"] {
            let series = &self.series.send_to_dlq_messages;
            let _ = series.remove_label_values(&[topic, group, system]);
        }
    }

    fn drop_given(&self, topic: &str, group: &str) {
        for system in ["true", "false"] {
            let labels = [topic, group, flag(topic.starts_with("%RETRY%")), system];
            let _ = self.series.messages_out.remove_label_values(&labels);
            let _ = self.series.throughput_out.remove_label_values(&labels);
        }
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
