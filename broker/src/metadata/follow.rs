//! The thread that follows the changes.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fold::Replica;
use super::log::Wake;
use super::{Metadata, Newer};
use crate::clock;
use crate::crew::Alarm;

/// It looks at least so often.
const LOOK: Duration = Duration::from_secs(1);
/// How often what was folded is written beside the log.
const CACHE_INTERVAL: Duration = Duration::from_secs(30);

/// The thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Following {
    stop: Arc<AtomicBool>,
    wake: Wake,
    thread: Option<JoinHandle<()>>,
}

impl Metadata {
    /// Starts the thread that applies changes as they become visible. `alarm` hears of it if it panics: this replica would fall behind unseen. Without
    /// a group there is nothing to follow.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn follow(self: &Arc<Self>, alarm: Alarm) -> io::Result<Following> {
        let stop = Arc::new(AtomicBool::new(false));
        let Some(replica) = &self.replica else {
            return Ok(Following {
                stop,
                wake: Wake::default(),
                thread: None,
            });
        };
        let wake = replica.log.wake.clone();
        let (metadata, stopping) = (Arc::clone(self), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || {
                let run = AssertUnwindSafe(|| metadata.run(&stopping));
                if let Err(panic) = std::panic::catch_unwind(run) {
                    alarm.raise("metadata", &*panic);
                }
            })?;
        Ok(Following {
            stop,
            wake,
            thread: Some(thread),
        })
    }

    fn run(&self, stop: &AtomicBool) {
        let Some(replica) = &self.replica else {
            return;
        };
        let mut written = Instant::now();
        let (mut newer, mut kicks) = (None, 0);
        while !stop.load(Ordering::Acquire) {
            self.catch_up(&mut newer);
            if written.elapsed() >= CACHE_INTERVAL {
                written = Instant::now();
                self.cache(replica);
            }
            kicks = replica.log.wake.wait_for(kicks, LOOK);
        }
    }

    fn catch_up(&self, known: &mut Option<Newer>) {
        let mut step = Ok(true);
        while let Ok(true) = step {
            step = self.step();
        }
        // Said once.
        if let Err(error) = step
            && *known != Some(error)
        {
            *known = Some(error);
            tracing::error!(%error, "metadata is not followed any more; this replica must not lead");
        }
    }

    fn cache(&self, replica: &Replica) {
        if let Err(error) = self.save_cache(replica, clock::now()) {
            tracing::warn!(%error, "metadata was not written beside the log, it will be tried again");
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake.kick();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of metadata panicked");
        }
    }
}
