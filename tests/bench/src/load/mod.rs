//! Load: who sends or pulls how much, when, and what is measured of it.
//!
//! A run has a warm-up and a measured window on one clock (nanoseconds since the run's begin). Threads of the generator own
//! their connections; the thread that started the run only sleeps, so that it can tell progress and sample meters at the
//! window's two ends.

pub mod end_to_end;
pub mod flow;
pub mod latency;
pub mod offsets;
pub mod pull;
pub mod recovery;
pub mod send;
pub mod stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The clock and the measured window of one run.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    begin: Instant,
    /// Nanoseconds after the begin at which measuring starts.
    pub from: u64,
    /// Nanoseconds after the begin at which measuring and sending end.
    pub to: u64,
}

impl Window {
    /// A window that starts after `warm_up` and lasts `measured`.
    pub fn new(warm_up: Duration, measured: Duration) -> Self {
        let from = nanos(warm_up);
        Self {
            begin: Instant::now(),
            from,
            to: from.saturating_add(nanos(measured)),
        }
    }

    /// Nanoseconds since the begin.
    pub fn now(&self) -> u64 {
        nanos(self.begin.elapsed())
    }

    /// Seconds of the measured part.
    pub fn seconds(&self) -> f64 {
        seconds(self.to - self.from)
    }

    /// Whether a moment is measured.
    pub fn measures(&self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// Nanoseconds as a number.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds in seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "a span of time needs no more than 53 bits"
)]
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// `count` things in `seconds`, per second.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 53 bits"
)]
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// What a running load has done so far, and the wish that it end.
#[derive(Debug, Default)]
pub struct Control {
    /// Messages so far.
    pub messages: AtomicU64,
    /// Bytes of bodies or records so far.
    pub bytes: AtomicU64,
    stop: AtomicBool,
    /// Threads that are still at work.
    working: AtomicU64,
}

impl Control {
    /// Ends the run before its time.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Starts a thread of the run; [`attend`] waits for its end.
    pub(crate) fn start<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.working.fetch_add(1, Ordering::Release);
        let control = Arc::clone(self);
        std::thread::spawn(move || {
            let outcome = work(&control);
            control.working.fetch_sub(1, Ordering::Release);
            outcome
        })
    }

    /// Whether the run is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Who looks on while a load runs.
pub trait Watch {
    /// Measuring begins now.
    fn begin(&mut self) {}
    /// Measuring has just ended.
    fn end(&mut self) {}
    /// Called about each second with the number of messages so far.
    fn second(&mut self, _messages: u64) {}
}

/// Nobody looks on.
#[derive(Debug)]
pub struct Nobody;

impl Watch for Nobody {}

/// Sleeps through a run on behalf of `watch`, until its threads are done.
pub(crate) fn attend(window: &Window, control: &Control, watch: &mut dyn Watch) {
    let second = nanos(Duration::from_secs(1));
    let mut next = second;
    let (mut begun, mut ended) = (false, false);
    while control.working.load(Ordering::Acquire) > 0 {
        let now = window.now();
        if !begun && now >= window.from {
            watch.begin();
            begun = true;
        }
        if begun && !ended && now >= window.to {
            watch.end();
            ended = true;
        }
        if now >= next {
            watch.second(control.messages.load(Ordering::Relaxed));
            next = now + second;
        }
        let mut until = next.min(now + second / 20);
        if !begun {
            until = until.min(window.from);
        } else if !ended {
            until = until.min(window.to);
        }
        std::thread::sleep(Duration::from_nanos(until.saturating_sub(window.now())));
    }
    if !begun {
        watch.begin();
    }
    if !ended {
        watch.end();
    }
}
