//! What the broker says of itself: GET_BROKER_RUNTIME_INFO, VIEW_BROKER_STATS_DATA, and gauges.

use std::collections::{BTreeMap, HashMap};

use rocket_protocol::body::KvTable;
use rocket_protocol::command::{VERSION, VERSION_NAME};
use rocket_protocol::header::ViewBrokerStatsHeader;
use rocket_protocol::{Command, QueueId, RecordView, ResponseCode};

use super::BrokerProcessor;
use super::consume_stats::queue_ids;
use super::refusal::{Answer, Refusal};
use crate::metadata::is_system_group;
use crate::metrics::Series;

impl BrokerProcessor {
    /// Only rows with a true source; tools take missing ones as unknown.
    pub(super) fn runtime_info(&self) -> Command {
        let store = &self.deps.store;
        let (positions, disk, store_stats) = (store.positions(), store.disk(), store.stats());
        let started = self.deps.identity.started;
        let config = self.deps.config.load();
        let behind = positions.appended.since(positions.dispatched);
        let unflushed = positions.appended.since(positions.durable);
        let earliest = store.record_at(positions.min).and_then(|record| {
            let (record, _) = RecordView::parse_trusting(&record).ok()?;
            Some(record.store_timestamp().0)
        });
        let free = disk.capacity.saturating_sub(disk.used);
        let mut rows: BTreeMap<String, String> = self
            .stats
            .rows()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let mut row = |key: &str, value: String| rows.insert(key.to_owned(), value);
        row("brokerActive", (!config.is_standby()).to_string());
        row("brokerVersionDesc", VERSION_NAME.to_owned());
        row("brokerVersion", VERSION.to_string());
        row("bootTimestamp", started.0.to_string());
        row("runtime", uptime(self.now().since(started)));
        row("dispatchBehindBytes", behind.to_string());
        row("remainHowManyDataToFlush", human_bytes(unflushed));
        row("commitLogMinOffset", positions.min.to_string());
        row("commitLogMaxOffset", positions.appended.to_string());
        row("commitLogDiskRatio", disk.ratio.to_string());
        row("consumeQueueDiskRatio", disk.ratio.to_string());
        row(
            "commitLogDirCapacity",
            format!(
                "Total : {}, Free : {}.",
                human_bytes(disk.capacity),
                human_bytes(free)
            ),
        );
        row(
            "earliestMessageTimeStamp",
            earliest.unwrap_or(-1).to_string(),
        );
        row(
            "startAcceptSendRequestTimeStamp",
            config.start_accept_send_request_timestamp.to_string(),
        );
        row("sendThreadPoolQueueSize", store_stats.pending.to_string());
        row(
            "sendThreadPoolQueueCapacity",
            config.append_queue_max.to_string(),
        );
        for (level, done) in self.deps.metadata.delay.positions() {
            let queue = QueueId(u32::try_from(level - 1).unwrap_or_default());
            let max = self.queue_end(&self.schedule_topic, queue);
            row(
                &format!("scheduleMessageOffset_{level}"),
                format!("{done},{max}"),
            );
        }
        Command::response(ResponseCode::SUCCESS).with_body(KvTable { table: rows }.to_json())
    }

    pub(super) fn view_stats(&self, request: &Command) -> Answer {
        let header: ViewBrokerStatsHeader = request.header()?;
        let (name, key) = (&*header.stats_name, &*header.stats_key);
        let cluster = &self.deps.identity.cluster;
        let data = self.stats.view(name, key, cluster).ok_or_else(|| {
            Refusal::system_error(format!("The stats <{name}> <{key}> not exist"))
        })?;
        Ok(Command::response(ResponseCode::SUCCESS).with_body(data.to_json()))
    }

    /// Sets the gauges that are read at a scrape.
    pub fn observe(&self, series: &Series) {
        series.producer_connections.reset();
        for (_, members) in self.deps.clients.producers.read().groups() {
            for member in members {
                let labels = [member.language.name(), &member.version.to_string()];
                series.producer_connections.with_label_values(&labels).inc();
            }
        }
        series.consumer_connections.reset();
        for (name, group) in self.deps.clients.consumers.read().groups() {
            let is_system = flag(is_system_group(name.as_str()));
            let mode = if group.is_broadcasting() {
                "broadcast"
            } else {
                "cluster"
            };
            for member in group.members() {
                let version = member.version.to_string();
                let labels = [
                    name.as_str(),
                    member.language.name(),
                    &version,
                    mode,
                    is_system,
                ];
                series.consumer_connections.with_label_values(&labels).inc();
            }
        }
        let watermark = |processor: &str, size: usize| {
            series
                .processor_watermark
                .with_label_values(&[processor])
                .set(i64::try_from(size).unwrap_or(i64::MAX));
        };
        let pending = usize::try_from(self.deps.store.stats().pending).unwrap_or(usize::MAX);
        watermark("send", pending);
        watermark("pull", self.deps.long_polling.len());
        self.observe_lag(series);
    }

    fn observe_lag(&self, series: &Series) {
        series.consumer_lag_messages.reset();
        for topic in self.deps.metadata.topics.names() {
            let groups = self.deps.metadata.offsets.groups_of(topic.as_str());
            let Some(config) = self.deps.metadata.topics.get(topic.as_str()) else {
                continue;
            };
            if groups.is_empty() {
                continue;
            }
            let ends: Vec<i64> = queue_ids(config.read_queue_nums)
                .map(|queue| self.queue_end(&topic, queue))
                .collect();
            for group in groups {
                let offsets = self
                    .deps
                    .metadata
                    .offsets
                    .queues(topic.as_str(), group.as_str());
                let committed: HashMap<QueueId, i64> = offsets.into_iter().collect();
                let lag: i64 = ends
                    .iter()
                    .zip(queue_ids(config.read_queue_nums))
                    .map(|(end, queue)| {
                        // A queue that the group never committed in counts once the group reads the topic.
                        end.saturating_sub(committed.get(&queue).copied().unwrap_or(0))
                            .max(0)
                    })
                    .sum();
                let labels = [
                    topic.as_str(),
                    group.as_str(),
                    flag(topic.is_retry()),
                    flag(topic.is_system() || is_system_group(group.as_str())),
                ];
                series
                    .consumer_lag_messages
                    .with_label_values(&labels)
                    .set(lag);
            }
        }
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// As `StoreStatsService.getFormatRuntime` writes it.
fn uptime(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    format!("[ {days} days, {hours} hours, {minutes} minutes, {seconds} seconds ]")
}

/// As `MixAll.humanReadableByteCount(bytes, false)` writes it.
#[expect(clippy::cast_precision_loss, reason = "one decimal place for people")]
fn human_bytes(bytes: u64) -> String {
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = "EiB";
    for name in units {
        if value < 1_024.0 {
            unit = name;
            break;
        }
        value /= 1_024.0;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_in_rocketmq() {
        assert_eq!(human_bytes(1_023), "1023 B");
        assert_eq!(human_bytes(1_536), "1.5 KiB");
        assert_eq!(human_bytes(3 << 30), "3.0 GiB");
        assert_eq!(
            uptime(90_061_000),
            "[ 1 days, 1 hours, 1 minutes, 1 seconds ]"
        );
    }
}
