//! How many calls for files of the log the messages of a batch share.

use std::sync::Arc;
use std::sync::mpsc::channel;

use rocket_mapped_file::memory::MemoryDirectory;
use rocket_store::{
    Engine, Flush, LocalPolicy, NoEvents, Promise, PutStatus, Step, Store, StoreConfig,
};

use crate::support::{Tell, clock, message};

/// Writes and flushes of files of the log since the last call.
fn calls(dir: &MemoryDirectory) -> (u64, u64) {
    let counts = dir.counts_in("commitlog");
    dir.reset_counts();
    (counts.writes, counts.flushes)
}

fn config(flush: Flush) -> StoreConfig {
    StoreConfig {
        flush,
        segment_bytes: 1 << 20,
        consume_queue_file_bytes: 2000,
        index_slots: 128,
        index_entries: 512,
        ..StoreConfig::default()
    }
}

#[test]
fn what_was_appended_together_is_one_write_and_one_flush() {
    let dir = MemoryDirectory::default();
    let (engine, _) = Engine::open(
        config(Flush::Sync),
        Arc::new(dir.clone()),
        clock(1),
        Arc::new(LocalPolicy { flush: Flush::Sync }),
        Arc::new(NoEvents),
    )
    .unwrap();
    calls(&dir);
    let (tell, told) = channel();
    for together in [1, 64, 1000] {
        for number in 0..together {
            let message = message("t", number % 8, "body", "");
            let taken = engine.append(&[message.as_ref()], Promise::Kept, Tell(tell.clone()));
            assert!(taken.is_ok());
        }
        assert_eq!(engine.write_step(), Step::Worked);
        assert_eq!(engine.write_step(), Step::Idle);
        assert!(
            told.try_recv().is_err(),
            "nobody is answered before the flush"
        );
        assert_eq!(engine.flush_step(0), Step::Worked);
        assert_eq!(engine.flush_step(0), Step::Idle);
        assert_eq!(calls(&dir), (1, 1));
        let answered = told
            .try_iter()
            .filter(|outcome| outcome.status == PutStatus::Ok);
        assert_eq!(answered.count(), usize::try_from(together).unwrap());
    }
}

#[test]
fn with_async_flush_the_caller_writes_once_and_has_its_answers_when_it_returns() {
    let dir = MemoryDirectory::default();
    let flush = Flush::Async;
    let (store, _) = Store::open_in(
        Arc::new(dir.clone()),
        config(flush),
        clock(1),
        Arc::new(LocalPolicy { flush }),
        Arc::new(NoEvents),
    )
    .unwrap();
    let (tell, told) = channel();
    let message = message("t", 0, "body", "");
    calls(&dir);
    for _ in 0..64 {
        let taken = store.append(&[message.as_ref()], Promise::Kept, Tell(tell.clone()));
        assert!(taken.is_ok());
    }
    assert!(told.try_recv().is_err(), "nothing is written yet");
    store.write_out();
    assert_eq!(told.try_iter().count(), 64);
    assert_eq!(calls(&dir).0, 1);
    store.write_out();
    assert_eq!(calls(&dir).0, 0, "nothing waits");
}
