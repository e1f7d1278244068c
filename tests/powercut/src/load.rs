//! Load by rocket-bench's lanes, in a thread of its own, with a history.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use bench::history::{self, Event};
use bench::produce::{self, Options, Summary};
use bench::route::TIMEOUT;

/// Form of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Small messages, many at once.
    Small,
    /// Messages that fill many sectors.
    Large,
    /// Batches of small messages.
    Batch,
}

impl Shape {
    const fn in_flight(self) -> u32 {
        match self {
            Self::Small => 16,
            Self::Large | Self::Batch => 4,
        }
    }

    const fn body_bytes(self) -> usize {
        match self {
            Self::Small => 100,
            Self::Large => 40_000,
            Self::Batch => 200,
        }
    }

    const fn batch(self) -> u32 {
        match self {
            Self::Small | Self::Large => 1,
            Self::Batch => 16,
        }
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Summary>>,
    history: PathBuf,
}

impl Load {
    /// Starts it on `topic`, which exists. `run` is the prefix of keys.
    pub fn start(namesrv: &str, topic: &str, shape: Shape, run: String, history: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let options = Options {
            namesrv: namesrv.to_owned(),
            topic: topic.to_owned(),
            connections: 3,
            in_flight: shape.in_flight(),
            body_bytes: shape.body_bytes(),
            batch: shape.batch(),
            count: None,
            duration: None,
            run,
            patience: TIMEOUT,
            rest: std::time::Duration::ZERO,
            stop: Arc::clone(&stop),
        };
        let path = history.clone();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(produce::run(options, Some(&path), |_| {}))
        });
        Self {
            stop,
            thread,
            history,
        }
    }

    /// Ends it and reads what it noted.
    ///
    /// # Errors
    /// The load's, and an unreadable history.
    pub fn end(self) -> anyhow::Result<(Summary, Vec<Event>)> {
        self.stop.store(true, Ordering::Relaxed);
        let summary = self
            .thread
            .join()
            .map_err(|_| anyhow::anyhow!("the load panicked"))?
            .context("load")?;
        let file = File::open(&self.history).with_context(|| self.history.display().to_string())?;
        let events = history::read(BufReader::new(file))
            .with_context(|| self.history.display().to_string())?;
        Ok((summary, events))
    }
}
