//! The modes of a group of three processes change while it is written to. No process is restarted, what is asked for comes into
//! force, and nothing that a producer was told is kept is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocket_coordinator::file::FileCoordinator;
use rocket_replication::replica::Flush;
use rocket_replication::{InForce, Policy, Replication, State};
use tokio::time::{interval, timeout};
use tokio_util::task::TaskTracker;

use crate::group::{Group, Producer, check, state, until};

const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the group agrees about what pleases `is_there`.
async fn agreed(
    coordinator: &FileCoordinator,
    what: &str,
    is_there: impl Fn(&State) -> bool,
) -> Arc<State> {
    let looking = async {
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            let now = state(coordinator).await;
            if is_there(&now) {
                return now;
            }
        }
    };
    let found = timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits until more is committed than now.
async fn goes_on(group: &Group, n: usize) {
    let end = || group.gauge(n, "rocket_log_committed_bytes");
    let before = end();
    until("sends go on", || (end() > before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modes_change_under_load_without_a_restart_and_lose_nothing() {
    let mut group = Group::start();
    let master = group.settled().await;
    let coordinator = group.coordinator().await;
    let (epoch, stop) = (group.gauge(master, "rocket_epoch"), Arc::default());
    let started = |group: &Group| [0, 1, 2].map(|n| group.metric(n, "rocket_start_time_seconds"));
    let before = started(&group);
    let tasks = TaskTracker::new();
    let sending = [0; 3].map(|_| {
        let stop: &Arc<AtomicBool> = &stop;
        tasks.spawn(Producer::new(&group).run(Arc::clone(stop)))
    });
    for (flush, replication) in [
        (Flush::Async, Replication::Sync),
        (Flush::Async, Replication::Async),
        (Flush::Sync, Replication::Async),
        (Flush::Async, Replication::Async),
        (Flush::Sync, Replication::Sync),
    ] {
        let asked = Policy { flush, replication };
        goes_on(&group, master).await;
        group
            .change(|state, proposal| state.with_policy(proposal, asked))
            .await;
        let now = agreed(&coordinator, "they are in force", |state| {
            state.in_force.map(InForce::policy) == Some(asked)
        })
        .await;
        assert_eq!(now.epoch.0, epoch, "nobody was replaced for it");
        goes_on(&group, master).await;
        let is_sync = flush == Flush::Sync;
        agreed(&coordinator, "acknowledgements mean that too", |state| {
            state.in_sync.len() == 3
                && state
                    .in_sync
                    .iter()
                    .all(|m| state.is_durable(*m) == is_sync)
        })
        .await;
    }
    assert_eq!(started(&group), before, "no process was restarted");
    // With both modes SYNC again every copy has what was answered since.
    goes_on(&group, master).await;
    group.kill(master);
    let next = group.master().await;
    goes_on(&group, next).await;
    stop.store(true, Ordering::Release);
    for producer in sending {
        let producer = producer.await.unwrap();
        assert!(producer.kept.len() > 10, "{}", producer.kept.len());
        check(&group, &producer).await;
    }
}

/// Started by hand with nothing but where its group is, say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_is_configured_for_less_weakens_its_group_only_if_it_says_so() {
    let mut group = Group::start();
    let slave = (group.settled().await + 1) % 3;
    let coordinator = group.coordinator().await;
    let asked = |state: &State| (state.min_in_sync, state.policy);
    let before = asked(state(&coordinator).await.as_ref());
    let less = [
        "brokerRole=ASYNC_MASTER",
        "minInSyncReplicas=1",
        "flushDiskType=ASYNC_FLUSH",
    ];
    group.stop(slave);
    group.run_with(slave, &less);
    group.slave(slave).await;
    assert_eq!(asked(state(&coordinator).await.as_ref()), before);
    group.stop(slave);
    group.run_with(slave, &[less[0], less[1], less[2], "weakenGroup=true"]);
    group.slave(slave).await;
    let weakest = Policy {
        flush: Flush::Async,
        replication: Replication::Async,
    };
    let after = asked(state(&coordinator).await.as_ref());
    assert_eq!(after, (1, Some(weakest)));
}
