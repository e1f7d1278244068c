//! What the broker does by itself: serve woken pulls, let waits and clients expire, write positions, deliver what was
//! delayed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::delay::{Delivery, Level};
use super::{BrokerProcessor, ParkedPull};
use crate::crew::joined;
use crate::long_polling::Wake;

/// How exactly pulls expire and delayed messages are delivered; 100 ms as in `ScheduleMessageService`.
const TICK: Duration = Duration::from_millis(100);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often silent clients are looked for (`ClientHousekeepingService`).
const CLIENT_SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Woken pulls that are served before the task lets others run.
const WOKEN_BATCH: usize = 64;
/// How long a delay level rests after a failed delivery, at first and at most.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_mins(1);

impl BrokerProcessor {
    /// Runs everything periodic until `stop`, then answers all pulls that wait, so that the server's end does not wait for
    /// them. To be called once.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let alarm = &self.deps.alarm;
        let woken = Arc::clone(&self).serve_woken(stop.clone());
        self.tasks.spawn(alarm.watch("woken pulls", woken));
        self.start_catching_up(&stop);
        let delayed = Arc::clone(&self).deliver_delayed(stop.clone());
        self.tasks.spawn(alarm.watch("delay levels", delayed));
        let house = Arc::clone(&self).keep_house(stop);
        self.tasks.spawn(alarm.watch("house", house));
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Writes what is not on disk yet. To be called after the server has ended.
    pub fn close(&self) {
        if let Err(error) = self.deps.metadata.close(self.now()) {
            tracing::error!(%error, "positions were not written at the stop");
        }
    }

    async fn serve_woken(self: Arc<Self>, stop: CancellationToken) {
        let polling = &self.deps.long_polling;
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = polling.some_woken() => {}
            }
            while !self.serve_woken_batch(&mut batch) {
                tokio::task::yield_now().await;
            }
        }
        polling.close();
        while !self.serve_woken_batch(&mut batch) {}
    }

    /// Serves some pulls that were woken. `true`: there are no more.
    fn serve_woken_batch(&self, batch: &mut Vec<(ParkedPull, Wake)>) -> bool {
        let is_all = self.deps.long_polling.take_woken(WOKEN_BATCH, batch);
        for (parked, _) in batch.drain(..) {
            self.wake(parked);
        }
        is_all
    }

    async fn keep_house(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = Instant::now();
        let (mut sample, mut scan, mut flush) = (start, start, start);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.deps.long_polling.tick(self.elapsed());
            let now = Instant::now();
            if now.duration_since(sample) >= SAMPLE_INTERVAL {
                sample = now;
                self.stats.tick(self.now());
            }
            if now.duration_since(scan) >= CLIENT_SCAN_INTERVAL {
                scan = now;
                self.scan_clients();
            }
            let flush_interval = self.deps.metadata.flush_interval(&self.deps.config.load());
            if now.duration_since(flush) >= flush_interval {
                flush = now;
                self.flush_metadata().await;
            }
        }
    }

    fn scan_clients(&self) {
        self.deps.readers.observe(self.now());
        let silence = self.deps.config.load().channel_expired_timeout;
        let silence_ms = i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
        for notice in self.deps.clients.expire(self.now(), silence_ms) {
            self.notify(&notice);
        }
    }

    /// A flush syncs a file, so it runs beside the tasks that serve sockets; one at a time.
    async fn flush_metadata(&self) {
        let metadata = Arc::clone(&self.deps.metadata);
        let now = self.now();
        let flushed = tokio::task::spawn_blocking(move || metadata.flush(now)).await;
        if let Some(Err(error)) = joined(flushed) {
            tracing::error!(%error, "positions were not written, they will be tried again");
        }
    }

    /// All delayed messages that were due at this time were looked at.
    #[cfg(test)]
    pub(super) fn delays_seen(&self) -> rocket_protocol::UnixMillis {
        rocket_protocol::UnixMillis(self.delays_seen.load(Ordering::Acquire))
    }

    async fn deliver_delayed(self: Arc<Self>, stop: CancellationToken) {
        let delays = self.deps.config.load().message_delay_level.0.clone();
        let mut levels: Vec<_> = (1..)
            .zip(delays)
            .map(|(number, delay)| Resting::new(Level::new(number, delay)))
            .collect();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if self.deps.config.load().is_standby() {
                continue;
            }
            let begun = self.now();
            while self.deliver_round(&mut levels, &stop).await {}
            if stop.is_cancelled() {
                return;
            }
            self.delays_seen.store(begun.0, Ordering::Release);
        }
    }

    /// Delivers a batch of each level, so that none waits for what another one has left. `true`: there may be more.
    async fn deliver_round(
        self: &Arc<Self>,
        levels: &mut [Resting],
        stop: &CancellationToken,
    ) -> bool {
        let mut has_more = false;
        for resting in levels {
            // Only between batches: what is appended is to be counted.
            if stop.is_cancelled() {
                return false;
            }
            if Instant::now() < resting.until {
                continue;
            }
            match self.deliver_level(&mut resting.level).await {
                Delivery::Done => resting.rest = REST_MIN,
                Delivery::More => {
                    resting.rest = REST_MIN;
                    has_more = true;
                }
                Delivery::Failed => {
                    tracing::warn!(level = resting.level.number(), rest = ?resting.rest, "a delayed message was not promised, it will be tried again");
                    resting.until = Instant::now() + resting.rest;
                    resting.rest = (resting.rest * 2).min(REST_MAX);
                }
            }
        }
        has_more
    }
}

/// A delay level that rests after a failed delivery: until when, and for how long after the next one.
struct Resting {
    level: Level,
    until: Instant,
    rest: Duration,
}

impl Resting {
    fn new(level: Level) -> Self {
        Self {
            level,
            until: Instant::now(),
            rest: REST_MIN,
        }
    }
}
