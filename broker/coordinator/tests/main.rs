//! Every implementation behind one suite.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fixed;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod suite;

use std::sync::Arc;

use rocket_coordinator::file::FileCoordinator;
use rocket_coordinator::memory::MemoryCoordinator;
use rocket_coordinator::{CasAnswer, Coordinator, ReadAnswer};
use tokio_util::task::TaskTracker;

#[tokio::test]
async fn memory_is_a_register() {
    suite::all(async |first| {
        let memory = Arc::new(MemoryCoordinator::new(first));
        (Arc::clone(&memory), memory)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_is_a_register() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    let tasks = TaskTracker::new();
    suite::all(async |first| {
        number += 1;
        let path = folder.path().join(number.to_string());
        (
            FileCoordinator::open(&path, first.clone(), &tasks)
                .await
                .unwrap(),
            FileCoordinator::open(&path, first, &tasks).await.unwrap(),
        )
    })
    .await;
}

#[tokio::test]
async fn file_that_is_there_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let one = FileCoordinator::open(folder.path(), suite::group(), &TaskTracker::new())
        .await
        .unwrap();
    let cas = suite::growing(&suite::group(), 1);
    one.cas(cas.clone()).await;
    let again = FileCoordinator::open(folder.path(), suite::group(), &TaskTracker::new())
        .await
        .unwrap();
    assert_eq!(again.read_current().await, ReadAnswer::State(cas.new));
}

#[tokio::test]
async fn broken_file_is_no_answer_and_a_missing_one_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = FileCoordinator::open(folder.path(), suite::group(), &TaskTracker::new())
        .await
        .unwrap();
    let path = folder.path().join("state.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, whole.split_at(whole.len() / 2).0).unwrap();
    assert_eq!(file.read_current().await, ReadAnswer::Unreachable);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file.read_current().await, ReadAnswer::Gone);
}

/// A process that was stopped while it writes.
#[tokio::test]
async fn lock_that_somebody_keeps_stops_writes_alone_and_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = TaskTracker::new();
    let open = || FileCoordinator::open(folder.path(), suite::group(), &tasks);
    let file = open().await.unwrap();
    let lock = std::fs::File::open(folder.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let cas = suite::growing(&suite::group(), 1);
    assert_eq!(file.cas(cas.clone()).await, CasAnswer::Unsent);
    assert_eq!(
        file.read_current().await,
        ReadAnswer::State(Arc::new(suite::group()))
    );
    assert!(open().await.is_err(), "whether it was begun is not known");
    lock.unlock().unwrap();
    assert_eq!(
        file.cas(cas.clone()).await,
        CasAnswer::Applied(cas.new.version)
    );
    assert_eq!(file.read_current().await, ReadAnswer::State(cas.new));
}

/// A process that is killed between writing and renaming leaves a file that nobody reads.
#[tokio::test]
async fn write_that_was_cut_off_never_happened() {
    let folder = tempfile::tempdir().unwrap();
    let file = FileCoordinator::open(folder.path(), suite::group(), &TaskTracker::new())
        .await
        .unwrap();
    std::fs::write(folder.path().join("state.json.new"), "{\"form").unwrap();
    assert_eq!(
        file.read_current().await,
        ReadAnswer::State(Arc::new(suite::group()))
    );
    let cas = suite::growing(&suite::group(), 1);
    file.cas(cas.clone()).await;
    assert_eq!(file.read_current().await, ReadAnswer::State(cas.new));
}
