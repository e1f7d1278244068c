//! Flush ASYNC, and all processes of a group are killed at once: what was acknowledged is in the page cache, and the residence proof
//! of each says so (docs/replication.md §8.2.7).

use std::path::Path;

use rocket_replication::State;
use tokio::time::{Duration, interval, timeout};

use crate::group::{Group, Producer, check, state};

const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);
const IN_MEMORY: &str = "/dev/shm";

/// Waits until the object says of no replica that it flushes what it acknowledges, which would speak for it too.
async fn nobody_is_durable(group: &Group) {
    let coordinator = group.coordinator().await;
    let looking = async {
        let mut ticks = interval(LOOK);
        let is_quick = |state: &State| state.replicas.values().all(|r| !r.durable);
        while !is_quick(&*state(&coordinator).await) {
            ticks.tick().await;
        }
    };
    let waited = timeout(PATIENCE, looking).await;
    waited.expect("flush ASYNC is taken up");
}

/// How many elections there were outside of the complete replicas, after all processes were killed and started again.
async fn unclean_elections(proof_path: &Path) -> usize {
    let proof = format!("residenceProofPath={}", proof_path.display());
    let mut group = Group::start_with(&[
        "flushDiskType=ASYNC_FLUSH",
        "flushIntervalCommitLog=60000",
        &proof,
    ]);
    let mut producer = Producer::new(&group);
    group.settled().await;
    nobody_is_durable(&group).await;
    producer.send_many(100).await;
    for n in 0..3 {
        group.kill(n);
    }
    for n in 0..3 {
        group.run(n);
    }
    group.settled().await;
    check(&group, &producer).await;
    let coordinator = group.coordinator().await;
    state(&coordinator).await.unclean.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_all_killed_at_once_are_complete_by_their_proofs() {
    let Ok(folder) = tempfile::tempdir_in(IN_MEMORY) else {
        eprintln!("SKIPPED: {IN_MEMORY} cannot be written, and no residence proof was made");
        return;
    };
    assert_eq!(unclean_elections(folder.path()).await, 0);
}

/// What the test above would come to if there were no proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_proofs_the_best_log_is_elected_and_that_is_said() {
    assert_eq!(unclean_elections(Path::new("")).await, 1);
}
