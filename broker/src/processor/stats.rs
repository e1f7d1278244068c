//! Counts that administration tools ask for (`BrokerStatsManager`, `StoreStatsService`, `BrokerStats`).
//!
//! The hot path only adds to atomics. Once a second the periodic task takes samples, from which rates over spans follow:
//! a span's value is its last sample minus its first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rocket_protocol::UnixMillis;
use rocket_protocol::body::{BrokerStatsData, BrokerStatsItem};

const SECOND_MS: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// Samples of one span.
#[derive(Debug, Clone, Copy)]
struct Span {
    every_ms: i64,
    samples: usize,
}

/// As in `StatsItem`: a minute in steps of 10 s, an hour in steps of 10 min, a day in steps of an hour.
const MINUTE: Span = Span {
    every_ms: 10 * SECOND_MS,
    samples: 7,
};
const HOUR: Span = Span {
    every_ms: 600 * SECOND_MS,
    samples: 7,
};
const DAY: Span = Span {
    every_ms: 3_600 * SECOND_MS,
    samples: 25,
};

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: UnixMillis,
    value: u64,
    times: u64,
}

#[derive(Debug)]
struct Ring {
    span: Span,
    samples: VecDeque<Sample>,
}

impl Ring {
    fn new(span: Span) -> Self {
        Self {
            span,
            samples: VecDeque::new(),
        }
    }

    fn sample(&mut self, now: UnixMillis, value: u64, times: u64) {
        match self.samples.back() {
            Some(last) if now.since(last.at) < self.span.every_ms => return,
            Some(_) => {}
            // What was counted before the first sample was counted within one step.
            None => self.samples.push_back(Sample {
                at: now.minus_millis(self.span.every_ms),
                value: 0,
                times: 0,
            }),
        }
        self.samples.push_back(Sample {
            at: now,
            value,
            times,
        });
        while self.samples.len() > self.span.samples {
            self.samples.pop_front();
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "rates for people; counts stay far below 2^52"
    )]
    fn item(&self) -> BrokerStatsItem {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return BrokerStatsItem::default();
        };
        let sum = last.value.saturating_sub(first.value);
        let times = last.times.saturating_sub(first.times);
        let elapsed_ms = last.at.since(first.at).max(1);
        BrokerStatsItem {
            sum: i64::try_from(sum).unwrap_or(i64::MAX),
            tps: sum as f64 * 1_000.0 / elapsed_ms as f64,
            avgpt: if times == 0 {
                0.0
            } else {
                sum as f64 / times as f64
            },
        }
    }
}

/// One counter with its history.
#[derive(Debug)]
pub(super) struct Item {
    value: AtomicU64,
    times: AtomicU64,
    rings: Mutex<[Ring; 3]>,
}

impl Default for Item {
    fn default() -> Self {
        Self {
            value: AtomicU64::new(0),
            times: AtomicU64::new(0),
            rings: Mutex::new([MINUTE, HOUR, DAY].map(Ring::new)),
        }
    }
}

impl Item {
    fn add(&self, value: u64) {
        self.value.fetch_add(value, Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
    }

    fn total(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    fn sample(&self, now: UnixMillis) {
        let (value, times) = (self.total(), self.times.load(Ordering::Relaxed));
        for ring in self.rings.lock().iter_mut() {
            ring.sample(now, value, times);
        }
    }

    fn data(&self) -> BrokerStatsData {
        let rings = self.rings.lock();
        let [minute, hour, day] = &*rings;
        BrokerStatsData {
            stats_minute: minute.item(),
            stats_hour: hour.item(),
            stats_day: day.item(),
        }
    }
}

/// The counters of one topic.
#[derive(Debug, Default)]
pub(super) struct TopicItems {
    put_nums: Item,
    put_size: Item,
    groups: RwLock<HashMap<String, Arc<GroupItems>>>,
}

#[derive(Debug, Default)]
struct GroupItems {
    get_nums: Item,
    get_size: Item,
    sent_back: Item,
}

/// Totals at the start of days.
#[derive(Debug, Clone, Copy)]
struct Mornings {
    day: i64,
    yesterday: (u64, u64),
    today: (u64, u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct BrokerStats {
    topics: RwLock<HashMap<String, Arc<TopicItems>>>,
    put: Item,
    put_bytes: AtomicU64,
    put_failed: AtomicU64,
    put_ms_max: AtomicU64,
    got: Item,
    found: AtomicU64,
    missed: AtomicU64,
    /// Totals of the last ten minutes, one a second.
    seconds: Mutex<VecDeque<(UnixMillis, Totals)>>,
    mornings: Mutex<Mornings>,
}

/// What is summed for rates over 10, 60 and 600 seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    put: u64,
    found: u64,
    missed: u64,
    transferred: u64,
}

impl BrokerStats {
    pub(super) fn new(now: UnixMillis) -> Self {
        Self {
            topics: RwLock::default(),
            put: Item::default(),
            put_bytes: AtomicU64::new(0),
            put_failed: AtomicU64::new(0),
            put_ms_max: AtomicU64::new(0),
            got: Item::default(),
            found: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            seconds: Mutex::default(),
            mornings: Mutex::new(Mornings {
                day: now.0.div_euclid(DAY_MS),
                yesterday: (0, 0),
                today: (0, 0),
            }),
        }
    }

    /// Counts stored messages of a producer in the counters of their topic.
    pub(super) fn put(&self, items: &TopicItems, messages: u64, bytes: u64, took: Duration) {
        items.put_nums.add(messages);
        items.put_size.add(bytes);
        self.put.add(messages);
        self.put_bytes.fetch_add(bytes, Ordering::Relaxed);
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        // Read first: it hardly ever grows.
        if took > self.put_ms_max.load(Ordering::Relaxed) {
            self.put_ms_max.fetch_max(took, Ordering::Relaxed);
        }
    }

    /// Counts a send that stored nothing.
    pub(super) fn put_failed(&self) {
        self.put_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answered pull.
    pub(super) fn got(&self, topic: &str, group: &str, messages: u64, bytes: u64, is_found: bool) {
        if !is_found {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        self.got.add(messages);
        let items = self.group(topic, group);
        items.get_nums.add(messages);
        items.get_size.add(bytes);
    }

    /// Counts a message that a consumer sent back.
    pub(super) fn sent_back(&self, topic: &str, group: &str) {
        self.group(topic, group).sent_back.add(1);
    }

    /// Forgets a deleted topic.
    pub(super) fn forget_topic(&self, topic: &str) {
        self.topics.write().remove(topic);
    }

    /// Forgets a deleted group.
    pub(super) fn forget_group(&self, group: &str) {
        for items in self.topics.read().values() {
            items.groups.write().remove(group);
        }
    }

    /// Messages a second that producers sent to the topic in the last minute.
    pub(super) fn topic_put_tps(&self, topic: &str) -> f64 {
        let topics = self.topics.read();
        let items = topics.get(topic);
        items.map_or(0.0, |items| items.put_nums.data().stats_minute.tps)
    }

    /// Messages a second that the group was given of the topic in the last minute.
    pub(super) fn group_get_tps(&self, topic: &str, group: &str) -> f64 {
        let topics = self.topics.read();
        let groups = topics.get(topic).map(|items| items.groups.read());
        groups
            .as_ref()
            .and_then(|groups| groups.get(group))
            .map_or(0.0, |items| items.get_nums.data().stats_minute.tps)
    }

    /// VIEW_BROKER_STATS_DATA: the counter `name` of `key`, if there is one.
    pub(super) fn view(&self, name: &str, key: &str, cluster: &str) -> Option<BrokerStatsData> {
        let topics = self.topics.read();
        let group = || {
            let (topic, group) = key.split_once('@')?;
            topics.get(topic)?.groups.read().get(group).map(Arc::clone)
        };
        match name {
            "TOPIC_PUT_NUMS" => Some(topics.get(key)?.put_nums.data()),
            "TOPIC_PUT_SIZE" => Some(topics.get(key)?.put_size.data()),
            "GROUP_GET_NUMS" => Some(group()?.get_nums.data()),
            "GROUP_GET_SIZE" => Some(group()?.get_size.data()),
            "SNDBCK_PUT_NUMS" => Some(group()?.sent_back.data()),
            "BROKER_PUT_NUMS" if key == cluster => Some(self.put.data()),
            "BROKER_GET_NUMS" if key == cluster => Some(self.got.data()),
            _ => None,
        }
    }

    /// Takes samples; to be called once a second.
    pub(super) fn tick(&self, now: UnixMillis) {
        self.put.sample(now);
        self.got.sample(now);
        for items in self.topics.read().values() {
            items.put_nums.sample(now);
            items.put_size.sample(now);
            for group in items.groups.read().values() {
                group.get_nums.sample(now);
                group.get_size.sample(now);
                group.sent_back.sample(now);
            }
        }
        let mut seconds = self.seconds.lock();
        seconds.push_back((now, self.totals()));
        while seconds.len() > 601 {
            seconds.pop_front();
        }
        let day = now.0.div_euclid(DAY_MS);
        let mut mornings = self.mornings.lock();
        if day != mornings.day {
            *mornings = Mornings {
                day,
                yesterday: mornings.today,
                today: (self.put.total(), self.got.total()),
            };
        }
    }

    /// The rows of GET_BROKER_RUNTIME_INFO that come from here.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let (put, got) = (self.put.total(), self.got.total());
        let bytes = self.put_bytes.load(Ordering::Relaxed);
        let mornings = *self.mornings.lock();
        let average = bytes.checked_div(put).unwrap_or(0);
        vec![
            ("putMessageTimesTotal", put.to_string()),
            (
                "putMessageFailedTimes",
                self.put_failed.load(Ordering::Relaxed).to_string(),
            ),
            ("putMessageSizeTotal", bytes.to_string()),
            ("putMessageAverageSize", average.to_string()),
            (
                "putMessageEntireTimeMax",
                self.put_ms_max.load(Ordering::Relaxed).to_string(),
            ),
            ("putTps", self.rates(|totals| totals.put)),
            ("getFoundTps", self.rates(|totals| totals.found)),
            ("getMissTps", self.rates(|totals| totals.missed)),
            (
                "getTotalTps",
                self.rates(|totals| totals.found + totals.missed),
            ),
            ("getTransferredTps", self.rates(|totals| totals.transferred)),
            (
                "msgPutTotalYesterdayMorning",
                mornings.yesterday.0.to_string(),
            ),
            ("msgPutTotalTodayMorning", mornings.today.0.to_string()),
            ("msgPutTotalTodayNow", put.to_string()),
            (
                "msgGetTotalYesterdayMorning",
                mornings.yesterday.1.to_string(),
            ),
            ("msgGetTotalTodayMorning", mornings.today.1.to_string()),
            ("msgGetTotalTodayNow", got.to_string()),
        ]
    }

    fn totals(&self) -> Totals {
        Totals {
            put: self.put.total(),
            found: self.found.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            transferred: self.got.total(),
        }
    }

    /// Rates over the last 10, 60 and 600 seconds in one text, as `StoreStatsService` writes them.
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates for people; counts stay far below 2^52"
    )]
    fn rates(&self, pick: fn(&Totals) -> u64) -> String {
        let seconds = self.seconds.lock();
        let rate = |span: usize| {
            let Some((now, last)) = seconds.back() else {
                return 0.0;
            };
            let at = seconds.len().saturating_sub(span + 1);
            let Some((then, first)) = seconds.get(at) else {
                return 0.0;
            };
            let elapsed_ms = now.since(*then).max(1);
            pick(last).saturating_sub(pick(first)) as f64 * 1_000.0 / elapsed_ms as f64
        };
        let [a, b, c] = [10, 60, 600].map(rate);
        format!("{a} {b} {c}")
    }

    /// The counters of a topic, to be kept by whoever counts often.
    pub(super) fn topic(&self, topic: &str) -> Arc<TopicItems> {
        if let Some(items) = self.topics.read().get(topic) {
            return Arc::clone(items);
        }
        Arc::clone(self.topics.write().entry(topic.to_owned()).or_default())
    }

    fn group(&self, topic: &str, group: &str) -> Arc<GroupItems> {
        let items = self.topic(topic);
        if let Some(items) = items.groups.read().get(group) {
            return Arc::clone(items);
        }
        Arc::clone(items.groups.write().entry(group.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_what_was_sent_within_it() {
        let stats = BrokerStats::new(UnixMillis(0));
        for second in 1..=200_i64 {
            stats.put(&stats.topic("t"), 5, 50, Duration::ZERO);
            stats.tick(UnixMillis(second * 1_000));
        }
        let data = stats.view("TOPIC_PUT_NUMS", "t", "c").unwrap();
        assert_eq!(data.stats_minute.sum, 300);
        assert!((data.stats_minute.tps - 5.0).abs() < 0.01);
        assert!((data.stats_minute.avgpt - 5.0).abs() < 0.01);
        assert!((stats.topic_put_tps("t") - 5.0).abs() < 0.01);
        assert_eq!(stats.view("TOPIC_PUT_NUMS", "u", "c"), None);
        assert_eq!(stats.view("NOTHING", "t", "c"), None);
    }

    #[test]
    fn a_deleted_group_is_forgotten_in_all_topics_and_no_other_is() {
        let stats = BrokerStats::new(UnixMillis(0));
        for (topic, group) in [("t", "g"), ("u", "g"), ("t", "h")] {
            stats.got(topic, group, 1, 10, true);
            stats.sent_back(topic, group);
        }
        stats.forget_group("g");
        for key in ["t@g", "u@g"] {
            assert_eq!(stats.view("GROUP_GET_NUMS", key, "c"), None, "{key}");
        }
        assert!(stats.view("SNDBCK_PUT_NUMS", "t@h", "c").is_some());
    }

    #[test]
    fn rates_cover_ten_sixty_and_six_hundred_seconds() {
        let stats = BrokerStats::new(UnixMillis(0));
        for second in 1..=700_i64 {
            if second > 690 {
                stats.put(&stats.topic("t"), 6, 1, Duration::ZERO);
            }
            stats.tick(UnixMillis(second * 1_000));
        }
        let rows: HashMap<_, _> = stats.rows().into_iter().collect();
        assert_eq!(rows["putTps"], "6 1 0.1");
    }

    #[test]
    fn a_new_day_keeps_the_totals_of_the_last() {
        let stats = BrokerStats::new(UnixMillis(0));
        stats.put(&stats.topic("t"), 3, 1, Duration::ZERO);
        stats.tick(UnixMillis(DAY_MS));
        stats.put(&stats.topic("t"), 4, 1, Duration::ZERO);
        stats.tick(UnixMillis(2 * DAY_MS));
        let rows: HashMap<_, _> = stats.rows().into_iter().collect();
        assert_eq!(rows["msgPutTotalYesterdayMorning"], "3");
        assert_eq!(rows["msgPutTotalTodayMorning"], "7");
    }
}
