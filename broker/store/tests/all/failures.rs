//! Each way in which a disk fails, and what the store makes of it. The table is in `docs/storage.md`.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rocket_mapped_file::memory::{Faults, MemoryDirectory};
use rocket_protocol::QueueId;
use rocket_store::{
    Arrival, CommitPolicy, Ends, Engine, FailureKind, Flush, FlushFailure, GetStatus, Health,
    LocalEnds, OpenError, Promise, PutOutcome, PutStatus, ReadLimits, Refused, Removed, Store,
    StoreConfig, StoreEvents, past_failure,
};

use crate::opening::{SEGMENT, fill, open, try_open};
use crate::support::{Tell, clock, message, message_of, small, topic};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

fn send(engine: &Engine<Tell>) -> Result<Receiver<PutOutcome>, PutStatus> {
    let (tell, told) = channel();
    let message = message_of("t", 0, 1000);
    engine
        .append(&[message.as_ref()], Promise::Kept, Tell(tell))
        .map_err(|refused: Refused<Tell>| refused.into_parts().1)?;
    engine.write_step();
    engine.flush_step(0);
    Ok(told)
}

/// The store failed: who waited was told "unknown", nobody is taken any more, the next start is warned, and finds all
/// that was answered.
fn is_final(dir: &MemoryDirectory, engine: Engine<Tell>, told: &Receiver<PutOutcome>, word: &str) {
    assert_eq!(told.try_recv().unwrap().status, PutStatus::FlushDiskTimeout);
    let Health::ReadOnly { reason } = engine.health() else {
        panic!("{:?}", engine.health());
    };
    assert!(reason.contains(word), "{reason}");
    let refused = send(&engine).unwrap_err();
    assert!(
        matches!(refused, PutStatus::ServiceNotAvailable(_)),
        "{refused:?}"
    );
    let flushes = dir.flushes();
    engine.flush_step(0);
    assert_eq!(dir.flushes(), flushes, "a failed flush is not tried again");
    assert!(engine.finish().is_err());
    drop(engine);
    let (engine, report) = open(&dir.crashed(7));
    assert!(!report.clean && report.damaged_ranges == 0, "{report:?}");
    let kind = report.failure.map(|failure| failure.kind);
    assert_eq!(kind, Some(FailureKind::Disk), "it left a note: {report:?}");
    assert_eq!(engine.health(), Health::Writable);
    let end = engine.queue_range(&topic("t"), QueueId(0)).unwrap().max.0;
    assert!(end >= 10, "what was answered is there: {end}");
}

fn world() -> (MemoryDirectory, Engine<Tell>) {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 10);
    engine.checkpoint_step();
    (dir, engine)
}

#[test]
fn a_short_write_is_final() {
    let (dir, engine) = world();
    dir.set_faults(Faults {
        short_write_at: Some(1),
        seed: 3,
        ..Faults::default()
    });
    let told = send(&engine).unwrap();
    is_final(&dir, engine, &told, "commitlog/");
}

#[test]
fn a_write_that_fails_is_final_whatever_the_reason() {
    for error in [EIO, ENOSPC, EROFS] {
        let (dir, engine) = world();
        dir.set_faults(Faults {
            write_error_at: Some((1, error)),
            ..Faults::default()
        });
        let told = send(&engine).unwrap();
        dir.set_faults(Faults::default());
        is_final(&dir, engine, &told, &format!("os error {error}"));
    }
}

#[test]
fn the_nth_flush_that_fails_is_final() {
    for nth in 1..4 {
        let (dir, engine) = world();
        dir.set_faults(Faults {
            flush_error_at: Some(nth),
            seed: nth,
            ..Faults::default()
        });
        // The flush that fails may be that of the checkpoint, which goes before a write beyond the ceiling.
        let told = (0..10).find_map(|_| {
            let told = send(&engine).unwrap();
            (engine.health() != Health::Writable).then_some(told)
        });
        let told = told.expect("a flush that failed is noticed");
        is_final(&dir, engine, &told, "input/output error");
    }
}

#[test]
fn a_disk_without_room_for_another_file_refuses_before_it_is_full_and_recovers_by_itself() {
    let (dir, engine) = world();
    let used = engine.disk_usage().used;
    dir.set_capacity(used.max(1) + 1);
    let mut taken = 0;
    let refused = loop {
        match send(&engine) {
            Ok(told) => {
                assert_eq!(told.try_recv().unwrap().status, PutStatus::Ok);
                taken += 1;
            }
            Err(status) => break status,
        }
    };
    assert!(taken > 10, "the file at hand is filled first: {taken}");
    assert!(
        matches!(refused, PutStatus::ServiceNotAvailable(_)),
        "{refused:?}"
    );
    assert_eq!(engine.health(), Health::Writable, "no failure");
    assert!(engine.disk_usage().refused, "whoever asks is told");
    dir.set_capacity(u64::MAX);
    engine.prepare_step();
    assert!(!engine.disk_usage().refused);
    assert_eq!(
        send(&engine).unwrap().try_recv().unwrap().status,
        PutStatus::Ok
    );
}

/// Sends until the file at hand is full; what came of the first message that had no place in it.
fn refused_for_want_of_a_file(engine: &Engine<Tell>) -> PutStatus {
    for _ in 0..=SEGMENT / 1000 {
        match send(engine) {
            Ok(told) => assert_eq!(told.try_recv().unwrap().status, PutStatus::Ok),
            Err(status) => return status,
        }
    }
    panic!("another file was made");
}

fn no_files(error: i32) -> Faults {
    Faults {
        create_error_at: Some((1, error)),
        ..Faults::default()
    }
}

#[test]
fn a_log_file_that_cannot_be_made_for_want_of_something_is_made_later() {
    for error in [ENOSPC, EDQUOT, EMFILE, ENFILE] {
        let (dir, engine) = world();
        dir.set_faults(no_files(error));
        let refused = refused_for_want_of_a_file(&engine);
        assert!(matches!(refused, PutStatus::ServiceNotAvailable(_)));
        engine.prepare_step();
        assert_eq!(engine.health(), Health::Writable, "{error}");
        assert!(send(&engine).is_err());
        dir.set_faults(Faults::default());
        engine.prepare_step();
        assert_eq!(
            send(&engine).unwrap().try_recv().unwrap().status,
            PutStatus::Ok
        );
    }
}

#[test]
fn a_log_file_that_was_made_by_an_earlier_process_and_cannot_be_opened_is_waited_for() {
    let (dir, engine) = world();
    fill(&engine, 40);
    engine.prepare_step();
    engine.checkpoint_step();
    assert_eq!(dir.list_names("commitlog").len(), 2);
    drop(engine);
    let dir = dir.killed();
    let (engine, _) = open(&dir);
    dir.set_faults(Faults {
        open_error: Some(EMFILE),
        ..Faults::default()
    });
    let refused = refused_for_want_of_a_file(&engine);
    assert!(matches!(refused, PutStatus::ServiceNotAvailable(_)));
    engine.prepare_step();
    assert_eq!(engine.health(), Health::Writable);
    assert!(send(&engine).is_err());
    dir.set_faults(Faults::default());
    engine.prepare_step();
    assert_eq!(
        send(&engine).unwrap().try_recv().unwrap().status,
        PutStatus::Ok
    );
}

#[test]
fn a_log_file_that_is_there_is_no_room_for_queues() {
    let (dir, engine) = world();
    for messages in [40, 45] {
        fill(&engine, messages);
        engine.prepare_step();
    }
    assert_eq!(dir.list_names("commitlog").len(), 3, "one is made ahead");
    dir.set_faults(no_files(ENOSPC));
    // A table of the queues is due soon.
    let mut taken = 0;
    while send(&engine).is_ok() {
        taken += 1;
        assert!(taken < 20);
        engine.dispatch_step();
        engine.checkpoint_step();
    }
    let before = engine.positions().min;
    engine.retention_step();
    engine.prepare_step();
    assert_eq!(engine.positions().min, before);
    assert!(send(&engine).is_err(), "the queues still have no room");
    assert_eq!(engine.health(), Health::Writable);
    dir.set_faults(Faults::default());
    engine.checkpoint_step();
    engine.index_step();
    engine.prepare_step();
    assert_eq!(
        send(&engine).unwrap().try_recv().unwrap().status,
        PutStatus::Ok
    );
}

#[test]
fn a_log_file_that_cannot_be_made_for_any_other_reason_is_final() {
    for error in [EIO, EROFS, ENOENT] {
        for ahead in [false, true] {
            let (dir, engine) = world();
            dir.set_faults(no_files(error));
            if ahead {
                for _ in 0..SEGMENT / 2000 {
                    drop(send(&engine).unwrap());
                }
                engine.prepare_step();
            } else {
                let refused = refused_for_want_of_a_file(&engine);
                assert!(matches!(refused, PutStatus::ServiceNotAvailable(_)));
            }
            let Health::ReadOnly { reason } = engine.health() else {
                panic!("{error}, made ahead: {ahead}");
            };
            let word = format!("os error {error}");
            assert!(
                reason.starts_with("commitlog") && reason.contains(&word),
                "{reason}"
            );
            dir.set_faults(Faults::default());
            engine.prepare_step();
            assert!(send(&engine).is_err(), "not tried again");
            let (engine, _) = open(&dir.crashed(3));
            assert_eq!(engine.health(), Health::Writable);
        }
    }
}

#[test]
fn a_store_that_fails_while_it_opens_does_not_open() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 3000);
    drop(engine);
    let mut failed = 0;
    for nth in 1.. {
        let dir = dir.killed();
        dir.set_faults(Faults {
            create_error_at: Some((nth, EIO)),
            ..Faults::default()
        });
        match try_open(&dir) {
            Err(OpenError::Failed(reason)) => {
                assert!(reason.contains("os error 5"), "{reason}");
                assert!(
                    dir.list_names("rocket")
                        .contains(&"flush-failed".to_owned())
                );
                failed += 1;
            }
            Err(_) => {}
            Ok((engine, _)) => {
                assert_eq!(engine.health(), Health::Writable);
                break;
            }
        }
        let (engine, _) = open(&dir.killed());
        assert_eq!(
            engine.queue_range(&topic("t"), QueueId(0)).unwrap().max.0,
            3000
        );
    }
    assert!(failed > 0, "some file is made while it opens");
}

/// What it found in the page cache may be gone, and a second one soon after is a disk that fails.
#[test]
fn a_start_whose_own_flush_fails_leaves_a_note_for_the_next_one() {
    let dir = MemoryDirectory::default();
    let (engine, _) = open(&dir);
    fill(&engine, 100);
    drop(engine);
    let mut noted = 0;
    for nth in 1.. {
        let dir = dir.killed();
        dir.set_faults(Faults {
            flush_error_at: Some(nth),
            seed: nth,
            ..Faults::default()
        });
        if try_open(&dir).is_ok() {
            break;
        }
        let Some(past) = past_failure(&dir).unwrap() else {
            continue;
        };
        noted += 1;
        assert_eq!(past.kind, FailureKind::Disk);
        dir.set_faults(Faults::default());
        let (engine, report) = open(&dir.killed());
        assert_eq!((report.failure, report.clean), (Some(past), false));
        assert_eq!(engine.health(), Health::Writable);
    }
    assert!(noted > 0, "a start flushes what it finds");
}

#[test]
fn too_many_open_files_refuse_sends_and_hold_reads_and_pass() {
    let (dir, engine) = world();
    fill(&engine, 200);
    while engine.seal_step() == rocket_store::Step::Worked {}
    engine.checkpoint_step();
    drop(engine);
    let dir = dir.killed();
    let (engine, _) = open(&dir);
    dir.set_faults(Faults {
        open_error: Some(EMFILE),
        ..Faults::default()
    });
    let limits = ReadLimits {
        messages_max: 5,
        bytes_max: 64 << 10,
    };
    let read = |from| engine.get(&topic("t"), QueueId(0), from, limits, &|_, _| true);
    let held = read(0);
    assert_eq!(
        (held.status, held.next_begin),
        (GetStatus::OffsetOverflowOne, 0),
        "nothing is passed over"
    );
    assert_eq!(engine.damage(), [], "and nothing is called damaged");
    let mut refused = None;
    for _ in 0..2 * SEGMENT / 1000 {
        match send(&engine) {
            Ok(told) => assert_eq!(told.try_recv().unwrap().status, PutStatus::Ok),
            Err(status) => refused = Some(status),
        }
    }
    assert!(
        matches!(refused, Some(PutStatus::ServiceNotAvailable(_))),
        "{refused:?}"
    );
    assert_eq!(engine.health(), Health::Writable);
    dir.set_faults(Faults::default());
    engine.prepare_step();
    assert_eq!(
        send(&engine).unwrap().try_recv().unwrap().status,
        PutStatus::Ok
    );
    assert_eq!(read(0).messages, 5);
}

#[test]
fn a_folder_that_was_taken_away_is_noticed_though_writes_and_flushes_succeed() {
    let (dir, engine) = world();
    dir.lose();
    let told = send(&engine).unwrap();
    assert_eq!(
        told.try_recv().unwrap().status,
        PutStatus::Ok,
        "the kernel says nothing"
    );
    engine.checkpoint_step();
    assert!(
        matches!(engine.health(), Health::ReadOnly { .. }),
        "{:?}",
        engine.health()
    );
    assert!(send(&engine).is_err());
}

#[test]
fn a_file_system_that_became_read_only_is_final() {
    let (dir, engine) = world();
    dir.set_faults(Faults {
        write_error_at: Some((1, EROFS)),
        change_error: Some(EROFS),
        ..Faults::default()
    });
    let told = send(&engine).unwrap();
    assert_eq!(told.try_recv().unwrap().status, PutStatus::FlushDiskTimeout);
    assert!(matches!(engine.health(), Health::ReadOnly { .. }));
    drop(engine);
    // The mark for the next start could not be written; it starts from what was flushed all the same.
    let (engine, _) = open(&dir.crashed(1));
    assert_eq!(
        engine.queue_range(&topic("t"), QueueId(0)).unwrap().max.0,
        10
    );
}

/// Says more than is there once it is told to: an assertion of the store then does not hold.
struct Liar(Arc<AtomicBool>);

impl CommitPolicy for Liar {
    fn ends(&self, local: LocalEnds) -> Ends {
        let beyond = u64::from(self.0.load(Ordering::Relaxed));
        let end = local.appended.plus(beyond);
        Ends {
            committed: end,
            answered: end,
            visible: end,
        }
    }

    fn may_append(&self) -> Result<(), PutStatus> {
        Ok(())
    }
}

struct Failed(Mutex<Sender<FlushFailure>>);

impl StoreEvents for Failed {
    fn arrived(&self, _: &[Arrival]) {}
    fn failed(&self, failure: &FlushFailure) {
        let _unheard = self.0.lock().unwrap().send(failure.clone());
    }
    fn removed(&self, _: &Removed) {}
}

/// With asynchronous flush the caller's thread does the store's work, so it is the caller's thread that panics.
#[test]
fn an_assertion_that_does_not_hold_on_a_callers_thread_makes_the_store_leave() {
    let folder = tempfile::tempdir().unwrap();
    let (failed, told) = channel();
    let lies = Arc::new(AtomicBool::new(false));
    let config = StoreConfig {
        flush: Flush::Async,
        ..small(folder.path())
    };
    let (store, _) = Store::<Tell>::open(
        config,
        clock(1),
        Arc::new(Liar(Arc::clone(&lies))),
        Arc::new(Failed(Mutex::new(failed))),
    )
    .unwrap();
    lies.store(true, Ordering::Relaxed);
    let (tell, outcome) = channel();
    let one = message("t", 0, "x", "");
    store
        .append(&[one.as_ref()], Promise::Kept, Tell(tell))
        .unwrap();
    let store = AssertUnwindSafe(&store);
    assert!(std::panic::catch_unwind(|| store.write_out()).is_err());
    assert!(told.recv().unwrap().error.contains("panicked"));
    // Nobody waits in vain. Whether it was flushed by then is chance; that it is acknowledged would be a lie.
    assert_ne!(outcome.recv().unwrap().status, PutStatus::Ok);
}
