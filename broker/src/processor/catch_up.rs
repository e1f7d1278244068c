//! Pulls of messages that are not in memory. They wait for the disk, and nobody else may: they stand in a bounded queue, and a
//! few threads serve them, so that neither the tasks of the sockets nor the disk are taken up by those who are behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rocket_remoting::Reply;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::BrokerProcessor;
use super::pull::Pull;
use crate::long_polling::ElapsedMillis;

/// Reads that wait for the disk at one time. Two: one is read while the other is answered.
const READERS: usize = 2;
/// Pulls that may wait for one of them.
const WAITING_MAX: usize = 4096;

/// A pull, and until when it may be held.
type Waiting = (Pull, Reply, Option<ElapsedMillis>);

/// The pulls that wait for a reader.
#[derive(Default)]
pub(super) struct CatchUps {
    waiting: Mutex<VecDeque<Waiting>>,
    some: Notify,
}

impl CatchUps {
    /// Gives a pull back when too many wait.
    fn push(&self, pull: Waiting) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            return Some(pull);
        }
        waiting.push_back(pull);
        drop(waiting);
        self.some.notify_one();
        None
    }

    fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    fn pop(&self) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        let next = waiting.pop_front();
        if waiting.is_empty() {
            // What a rush took.
            waiting.shrink_to(64);
        }
        next
    }
}

impl BrokerProcessor {
    /// Has a pull served that cannot be served from memory.
    pub(super) fn catch_up(&self, pull: Pull, reply: Reply, deadline: Option<ElapsedMillis>) {
        if let Some((pull, reply, _)) = self.catch_ups.push((pull, reply, deadline)) {
            self.refuse_to_wait(&pull, reply, "too many pulls wait for the disk");
        }
    }

    /// Starts what serves them until `stop`.
    pub(super) fn start_catching_up(self: &Arc<Self>, stop: &CancellationToken) {
        for _ in 0..READERS {
            let (this, stop) = (Arc::clone(self), stop.clone());
            let reads = async move {
                let mut pause = None;
                loop {
                    let goes_on = async {
                        match pause {
                            Some(pause) => tokio::time::sleep(pause).await,
                            None => this.catch_ups.some.notified().await,
                        }
                    };
                    let is_over = tokio::select! {
                        () = stop.cancelled() => true,
                        () = goes_on => false,
                    };
                    let reader = Arc::clone(&this);
                    let reads = move || reader.read_all(!is_over);
                    pause = tokio::task::spawn_blocking(reads)
                        .await
                        .unwrap_or_else(|error| {
                            tracing::error!(%error, "a pull could not be served");
                            None
                        });
                    if is_over {
                        return;
                    }
                }
            };
            let watched = self.deps.alarm.watch("catching up", reads);
            self.tasks.spawn(watched);
        }
    }

    /// Serves all that wait, or goes on later for the sake of senders: then it returns after which time.
    fn read_all(&self, may_pause: bool) -> Option<Duration> {
        while !self.catch_ups.is_empty() {
            let pause = self.deps.store.catch_up_pause();
            if may_pause && !pause.is_zero() {
                return Some(pause);
            }
            let (pull, reply, deadline) = self.catch_ups.pop()?;
            if reply.is_open() {
                self.read_from_disk(pull, reply, deadline);
            }
        }
        None
    }
}
