//! What a store tells of its flushes to who keeps a proof of what its page cache holds.

use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::PhysicalOffset;
use rocket_store::{
    Arrival, Engine, Flush, FlushFailure, LocalPolicy, Promise, Removed, StoreEvents,
};

use crate::damage::{FIRST, consumed, world};
use crate::opening::config;
use crate::support::{Tell, clock, message_of};

/// When the logs were written.
const NOW_MS: i64 = 1_800_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Locked,
    /// With how many flushes the disk had been asked for by then.
    Begins(u64),
    Succeeded(u64),
    Failed,
}

struct Heard {
    dir: MemoryDirectory,
    told: Mutex<Vec<Told>>,
}

impl Heard {
    fn hear(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl StoreEvents for Heard {
    fn arrived(&self, _: &[Arrival]) {}

    fn locked(&self) -> io::Result<()> {
        self.hear(Told::Locked);
        Ok(())
    }

    fn flush_begins(&self) {
        self.hear(Told::Begins(self.dir.flushes()));
    }

    fn flush_succeeded(&self) {
        self.hear(Told::Succeeded(self.dir.flushes()));
    }

    fn failed(&self, _: &FlushFailure) {
        self.hear(Told::Failed);
    }

    fn removed(&self, _: &Removed) {}
}

fn open(dir: &MemoryDirectory) -> (Arc<Heard>, Engine<Tell>) {
    let heard = Arc::new(Heard {
        dir: dir.clone(),
        told: Mutex::default(),
    });
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let events = Arc::clone(&heard);
    let opened = Engine::open(
        config(),
        Arc::new(dir.clone()),
        clock(NOW_MS),
        policy,
        events,
    );
    (heard, opened.unwrap().0)
}

fn send(engine: &Engine<Tell>) {
    let (tell, _told) = channel();
    let message = message_of("t", 0, 1000);
    let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell));
    assert!(taken.is_ok());
    engine.write_step();
}

#[test]
fn flushes_are_told_before_the_kernel_is_asked_and_after_it_said_yes() {
    let dir = MemoryDirectory::default();
    let (heard, engine) = open(&dir);
    heard.take();
    for _ in 0..3 {
        send(&engine);
        let before = dir.flushes();
        engine.flush_step(0);
        let told = [Told::Begins(before), Told::Succeeded(before + 1)];
        assert_eq!(heard.take(), told);
    }
    send(&engine);
    dir.set_faults(Faults {
        flush_error_at: Some(1),
        ..Faults::default()
    });
    engine.flush_step(0);
    assert_eq!(heard.take(), [Told::Begins(0), Told::Failed]);
    engine.flush_step(0);
    assert!(heard.take().is_empty(), "it is not tried again");
}

/// What a former process had written and not flushed is flushed by the start that finds it.
#[test]
fn start_tells_of_its_first_flush_when_the_folder_is_its_own() {
    let dir = MemoryDirectory::default();
    let (_, engine) = open(&dir);
    send(&engine);
    let killed = dir.killed();
    let (heard, _engine) = open(&killed);
    let told = heard.take();
    let first = [Told::Locked, Told::Begins(0)];
    assert_eq!(told[..2], first, "{told:?}");
    assert!(matches!(told[2], Told::Succeeded(_)), "{told:?}");
}

/// A repair flushes a file of the log, and the kernel may tell that flush of another write that was lost.
#[test]
fn flush_of_a_repair_is_told_too() {
    let (dir, before) = world();
    dir.flip(FIRST, 3 * 4096 + 15);
    let (heard, engine) = open(&dir);
    consumed(&engine);
    assert!(!engine.damage().is_empty());
    heard.take();
    let flushes = dir.flushes();
    let good = &before[3 * 4096..4 * 4096];
    engine.repair(PhysicalOffset(3 * 4096), good).unwrap();
    let told = [Told::Begins(flushes), Told::Succeeded(flushes + 1)];
    assert_eq!(heard.take(), told);
}
