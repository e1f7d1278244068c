//! A reader during the load: what it was told is there must be there after the cut, where an answer waits for the flush.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bench::verify;

const PAUSE: Duration = Duration::from_millis(2);

/// Asks for the ends of all queues, again and again.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<u32, u64>>,
}

impl Watch {
    /// Starts it on `topic`.
    pub fn start(namesrv: String, topic: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut ends = BTreeMap::new();
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            else {
                return ends;
            };
            runtime.block_on(async {
                while !is_over.load(Ordering::Relaxed) {
                    // It ends with the broker; that it does is no fault.
                    let _ = verify::ends(&namesrv, topic, &mut ends, &|| {
                        is_over.load(Ordering::Relaxed)
                    })
                    .await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
            ends
        });
        Self { stop, thread }
    }

    /// Ends it; the greatest end of each queue that was told.
    pub fn end(self) -> BTreeMap<u32, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}
