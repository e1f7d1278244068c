//! The store's threads: what each does until there is nothing to do, and what wakes it.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::api::{Completion, GetResult};
use crate::config::Flush;
use crate::engine::{Engine, Step};

/// How often the house is kept.
const TICK: Duration = Duration::from_millis(100);
/// How long what is visible may wait to be dispatched while nobody asks for it.
const DISPATCH_DELAY: Duration = Duration::from_millis(10);
/// So many bytes of it do not wait.
const DISPATCH_BYTES_MAX: u64 = 1 << 20;

/// Wakes a thread; a signal that comes while nobody waits is kept.
#[derive(Default)]
pub(super) struct Signal {
    is_set: Mutex<bool>,
    woken: Condvar,
}

impl Signal {
    pub(super) fn set(&self) {
        let mut is_set = self.is_set.lock();
        if !*is_set {
            *is_set = true;
            self.woken.notify_one();
        }
    }

    fn wait(&self) {
        let mut is_set = self.is_set.lock();
        while !*is_set {
            self.woken.wait(&mut is_set);
        }
        *is_set = false;
    }

    /// As [`Signal::wait`], at most so long; ends also when `is_over` holds, which is looked at again after [`Signal::look`].
    fn wait_while(&self, at_most: Option<Duration>, is_over: impl Fn() -> bool) {
        let mut is_set = self.is_set.lock();
        while !*is_set && !is_over() {
            match at_most {
                None => self.woken.wait(&mut is_set),
                Some(time) => {
                    let _timed_out = self.woken.wait_for(&mut is_set, time);
                    break;
                }
            }
        }
        *is_set = false;
    }

    /// Has everybody who waits look whether it is over.
    pub(super) fn look(&self) {
        let _held = self.is_set.lock();
        self.woken.notify_all();
    }

    /// Waits at most so long. For what is to be done at intervals.
    fn wait_for(&self, time: Duration) {
        let mut is_set = self.is_set.lock();
        if !*is_set {
            let _timed_out = self.woken.wait_for(&mut is_set, time);
        }
        *is_set = false;
    }
}

/// What the threads and the callers of a store share.
pub(super) struct Shared<C: Completion> {
    pub(super) engine: Engine<C>,
    stopping: AtomicBool,
    pub(super) flush: Signal,
    /// There is something to dispatch,
    dispatch: Signal,
    /// and it cannot wait.
    hurry: Signal,
    house: Signal,
    expire: Signal,
    scrub: Signal,
    prepare: Signal,
}

impl<C: Completion> Shared<C> {
    pub(super) fn new(engine: Engine<C>) -> Self {
        Self {
            engine,
            stopping: AtomicBool::new(false),
            flush: Signal::default(),
            dispatch: Signal::default(),
            hurry: Signal::default(),
            house: Signal::default(),
            expire: Signal::default(),
            scrub: Signal::default(),
            prepare: Signal::default(),
        }
    }

    /// Wakes every thread for the last time.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.engine.stop_preparing();
        [
            &self.flush,
            &self.dispatch,
            &self.hurry,
            &self.house,
            &self.expire,
            &self.scrub,
            &self.prepare,
        ]
        .into_iter()
        .for_each(Signal::set);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// See [`super::Store::write_out`].
    pub(super) fn write_out(&self) {
        match self.engine.flush_mode.now() {
            // Without this look a lane would be woken only to find that it is not worth it.
            Flush::Sync if self.engine.is_flush_due() => self.flush.set(),
            Flush::Sync => {}
            Flush::Async => self.write_all(),
        }
    }

    /// Writes all that was appended, on this thread.
    fn write_all(&self) {
        if self.engine.write_step() == Step::Worked {
            self.announce();
        }
    }

    /// The flush mode has changed: what was left to the lanes is written, and all of them look again.
    pub(super) fn change_lanes(&self) {
        self.write_all();
        self.flush.set();
        self.flush.look();
    }

    pub(super) fn flush_loop(&self, lane: usize) {
        let mode = &self.engine.flush_mode;
        while !self.is_stopping() {
            let changes = mode.changes();
            let has_changed = || mode.changes() != changes;
            match mode.after(changes) {
                Flush::Sync => {
                    self.flush_all(lane);
                    match self.engine.expected() {
                        None => self.flush.wait_while(None, has_changed),
                        Some(expected) => {
                            self.flush.wait_while(Some(expected.patience), has_changed);
                            self.engine.give_up(expected);
                        }
                    }
                }
                // One lane flushes at intervals; the others only when they are told to.
                Flush::Async => {
                    self.engine.flush_step(lane);
                    let interval = (lane == 0).then_some(self.engine.config.flush_interval);
                    self.flush.wait_while(interval, has_changed);
                }
            }
        }
        // The next lane waits for the same signal.
        self.flush.set();
    }

    /// Writes and flushes until nothing is due. Each round takes all that came meanwhile.
    fn flush_all(&self, lane: usize) {
        while self.engine.is_flush_due() {
            let wrote = self.engine.write_step();
            let flushed = self.engine.flush_step(lane);
            if (wrote, flushed) == (Step::Idle, Step::Idle) {
                // Another lane writes right now, and flushes what it wrote.
                return;
            }
            self.announce();
        }
    }

    /// Messages became visible: they will be dispatched. At once only when somebody waits for some or they are many; else
    /// soon, together with those that come meanwhile, or when somebody asks ([`Shared::catch_up`]). That saves a wake-up for
    /// each flush.
    pub(super) fn announce(&self) {
        if !self.engine.is_behind() {
            return;
        }
        self.dispatch.set();
        if self.is_dispatch_urgent() {
            self.hurry.set();
        }
    }

    fn is_dispatch_urgent(&self) -> bool {
        // Whoever waits says so first and looks for messages then; here the messages are there first. One of the two sees the
        // other.
        fence(Ordering::SeqCst);
        self.engine.events.is_awaited() || self.engine.undispatched() >= DISPATCH_BYTES_MAX
    }

    pub(super) fn dispatch_loop(&self) {
        while !self.is_stopping() {
            while self.engine.dispatch_step() == Step::Worked {}
            self.dispatch.wait();
            if !self.is_dispatch_urgent() {
                self.hurry.wait_for(DISPATCH_DELAY);
            }
        }
    }

    /// Dispatches on this thread what is visible by now, so that whoever saw a message acknowledged finds it. Not what comes
    /// meanwhile: while producers are fast that would have no end. `false`: some of it cannot be dispatched now.
    pub(super) fn catch_up(&self) -> bool {
        // See `is_dispatch_urgent`.
        fence(Ordering::SeqCst);
        let end = self.engine.visible();
        while self.engine.dispatched() < end {
            if self.engine.dispatch_step() == Step::Idle {
                return self.engine.dispatched() >= end;
            }
        }
        true
    }

    /// What `get` says; when that is the end of the queue, what it says when all is dispatched that is visible by now.
    pub(super) fn get_at_end<E>(
        &self,
        get: impl Fn() -> Result<GetResult, E>,
    ) -> Result<GetResult, E> {
        let before = self.engine.dispatched();
        let result = get()?;
        if !result.status.is_at_end() {
            return Ok(result);
        }
        self.catch_up();
        // By this thread or by another one that was faster.
        if self.engine.dispatched() == before {
            return Ok(result);
        }
        get()
    }

    pub(super) fn scrub_loop(&self) {
        let ticks_per_second = Duration::from_secs(1).as_millis() / TICK.as_millis();
        let rate = self.engine.config.scrub_bytes_per_second;
        let block = self.engine.config.checksum_block_bytes;
        let mut budget = 0;
        let mut tick: u128 = 0;
        while !self.is_stopping() {
            self.scrub.wait_for(TICK);
            tick += 1;
            if tick.is_multiple_of(ticks_per_second) {
                while !self.is_stopping() && self.engine.seal_step() == Step::Worked {}
            }
            budget += rate / u64::try_from(ticks_per_second).unwrap_or(1);
            // Whole blocks, so that a low rate is kept too.
            let due = budget - budget % block;
            if due > 0 {
                budget -= due;
                self.engine.scrub_step(due);
            }
        }
    }

    pub(super) fn prepare_loop(&self) {
        while !self.is_stopping() {
            self.prepare.wait_for(TICK);
            self.engine.prepare_step();
        }
    }

    /// Tells those who waited too long, on a thread that never waits for a disk itself: it is while a disk does not answer
    /// that they are to be told.
    pub(super) fn expire_loop(&self) {
        while !self.is_stopping() {
            self.expire.wait_for(TICK);
            self.engine.expire();
        }
    }

    pub(super) fn house_loop(&self) {
        let ticks = |interval: Duration| (interval.as_millis() / TICK.as_millis()).max(1);
        let (checkpoint, retention) = (
            ticks(self.engine.config.checkpoint_interval),
            ticks(self.engine.config.retention.interval),
        );
        let mut tick: u128 = 0;
        let mut retained = Step::Idle;
        while !self.is_stopping() {
            self.house.wait_for(TICK);
            tick += 1;
            self.engine.fail_if_broken();
            // Whoever appended writes out soon; should it be held up, not for longer than this.
            self.write_out();
            self.engine.ceiling_step();
            self.engine.mark_step();
            self.engine.index_step();
            if tick.is_multiple_of(checkpoint) {
                self.engine.checkpoint_step();
            }
            if tick.is_multiple_of(retention) || retained == Step::Worked {
                retained = self.engine.retention_step();
            }
        }
    }
}
