//! Clocks that are set, and disks that do not answer.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rocket_mapped_file::Segment;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_protocol::UnixMillis;
use rocket_store::{
    Clock, Engine, Flush, LocalPolicy, NoEvents, Promise, PutStatus, Retention, Store, StoreConfig,
};

use crate::opening::fill;
use crate::support::{Tell, clock, message, send, small};
use crate::wrapped::Wrapped;

const T0: i64 = 1_800_000_000_000;
const HOUR: i64 = 3_600_000;

/// A clock on the wall and one that nobody sets.
struct Two {
    wall: AtomicI64,
    elapsed_ms: AtomicU64,
}

impl Clock for Two {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }
}

fn open(clock: &Arc<Two>) -> Engine<Tell> {
    let config = StoreConfig {
        segment_bytes: 64 << 10,
        retention: Retention {
            delete_when: (0..24).collect(),
            ..StoreConfig::default().retention
        },
        ..small("unused".as_ref())
    };
    let opened = Engine::open(
        config,
        Arc::new(MemoryDirectory::default()),
        Arc::clone(clock) as _,
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    );
    opened.unwrap().0
}

fn two() -> Arc<Two> {
    Arc::new(Two {
        wall: AtomicI64::new(T0),
        elapsed_ms: AtomicU64::new(1000),
    })
}

#[test]
fn who_waits_is_told_unknown_when_time_has_passed_and_not_when_the_clock_is_set() {
    let clock = two();
    let engine = open(&clock);
    let (tell, told) = channel();
    let message = message("t", 0, "x", "");
    let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
    assert!(taken.is_ok());
    clock.wall.fetch_add(HOUR, Ordering::Relaxed);
    engine.expire();
    assert!(told.try_recv().is_err(), "no time has passed");
    clock.wall.fetch_sub(2 * HOUR, Ordering::Relaxed);
    clock.elapsed_ms.fetch_add(6000, Ordering::Relaxed);
    engine.expire();
    assert_eq!(told.try_recv().unwrap().status, PutStatus::FlushDiskTimeout);
}

#[test]
fn a_clock_that_is_set_forward_removes_nothing() {
    let clock = two();
    let engine = open(&clock);
    fill(&engine, 300);
    engine.checkpoint_step();
    engine.retention_step();
    clock.wall.fetch_add(200 * HOUR, Ordering::Relaxed);
    clock.elapsed_ms.fetch_add(10_000, Ordering::Relaxed);
    engine.retention_step();
    assert_eq!(engine.positions().min.0, 0);
    clock.wall.fetch_add(73 * HOUR, Ordering::Relaxed);
    clock
        .elapsed_ms
        .fetch_add(73 * 3_600_000, Ordering::Relaxed);
    engine.retention_step();
    assert!(engine.positions().min.0 > 0, "they are that old by now");
}

/// Where a disk that does not answer holds everybody up.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    fn set_closed(&self, is_closed: bool) {
        self.state.lock().unwrap().0 = is_closed;
        self.changed.notify_all();
    }

    fn wait_until_held(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        while state.1 < count {
            state = self.changed.wait(state).unwrap();
        }
    }
}

/// Flushes wait at the gate.
struct StuckSegment(Arc<dyn Segment>, Arc<Gate>);

impl Segment for StuckSegment {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.0.write_at(offset, parts)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into)
    }
    fn replace_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.replace_at(offset, bytes)
    }
    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.zero(from, to)
    }
    fn publish(&self, end: u64) {
        self.0.publish(end);
    }
    fn published(&self) -> u64 {
        self.0.published()
    }
    fn lease(&self, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        self.0.lease(offset, len)
    }
    fn flush(&self, lane: usize) -> io::Result<()> {
        self.1.pass();
        self.0.flush(lane)
    }
    fn forget_cache(&self) -> io::Result<()> {
        self.0.forget_cache()
    }
}

#[test]
fn who_waits_for_a_disk_that_does_not_answer_is_told_unknown_in_time() {
    let (flushes, looks): (Arc<Gate>, Arc<Gate>) = Default::default();
    let at_flushes = Arc::clone(&flushes);
    let at_looks = Arc::clone(&looks);
    let disk = Wrapped::new(MemoryDirectory::default())
        .with(move |_, segment| Arc::new(StuckSegment(segment, Arc::clone(&at_flushes))))
        .telling(move |space| {
            at_looks.pass();
            space
        });
    let clock = clock(T0);
    let config = StoreConfig {
        retention: Retention {
            interval: Duration::from_millis(100),
            ..StoreConfig::default().retention
        },
        ..small("unused".as_ref())
    };
    let (store, _) = Store::<Tell>::open_in(
        Arc::new(disk),
        config,
        Arc::clone(&clock) as _,
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    )
    .unwrap();
    looks.set_closed(true);
    looks.wait_until_held(1);
    flushes.set_closed(true);
    let told = send(&store, &message("t", 0, "x", ""));
    flushes.wait_until_held(1);
    clock.0.fetch_add(6000, Ordering::Relaxed);
    let outcome = told.recv_timeout(Duration::from_secs(20));
    looks.set_closed(false);
    flushes.set_closed(false);
    assert_eq!(outcome.unwrap().status, PutStatus::FlushDiskTimeout);
    store.close().unwrap();
}
