//! Many schedules: each from a seed of its own and one column after the other, on any number of threads, one schedule on
//! one thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use rocket_ha::memory::MemoryLog;

use crate::engine_log::EngineLog;
use crate::plan::{Column, Plan, Weight};
use crate::world::{Reached, run};

/// What a schedule came to.
#[derive(Debug)]
pub struct Verdict {
    /// Which it was.
    pub plan: Plan,
    /// What is wrong, if anything is.
    pub broken: Option<String>,
    /// What it met.
    pub reached: Reached,
    /// What happened, if that was wanted.
    pub trace: String,
}

impl Verdict {
    /// The command that runs this schedule again and shows what happens in it.
    pub fn replay(&self) -> String {
        let Plan {
            seed,
            column,
            weight,
            ..
        } = self.plan;
        let heavy = if weight == Weight::Heavy {
            " --heavy"
        } else {
            ""
        };
        format!("cargo run --release -p sim -- replay --column {column} --seed {seed}{heavy}")
    }
}

/// Runs one schedule; with `is_trace_wanted` it tells what happens.
pub fn schedule(plan: Plan, is_trace_wanted: bool) -> Verdict {
    let outcome = match plan.weight {
        Weight::Light => run::<MemoryLog>(plan, is_trace_wanted),
        Weight::Heavy => run::<EngineLog>(plan, is_trace_wanted),
    };
    Verdict {
        plan,
        broken: outcome.broken,
        reached: outcome.reached,
        trace: outcome.trace,
    }
}

/// Which schedules.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// How many schedules.
    pub schedules: u64,
    /// Columns, in turn; each seed is run in all of them.
    pub columns: Vec<Column>,
    /// What the logs are.
    pub weight: Weight,
    /// Threads.
    pub jobs: usize,
}

impl Campaign {
    /// The schedule at a place.
    pub fn plan(&self, index: u64) -> Plan {
        let count = self.columns.len().max(1) as u64;
        let column = self.columns.get((index % count) as usize);
        let column = column.copied().unwrap_or(Column::D);
        Plan::of(self.first + index / count, column, self.weight)
    }

    /// Runs them; `change` may change each plan, `tell` is told of each verdict and says whether to go on.
    pub fn run(&self, change: impl Fn(&mut Plan) + Sync, mut tell: impl FnMut(Verdict) -> bool) {
        let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let work = |verdicts: Sender<Verdict>| {
            while !is_over.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.schedules {
                    return;
                }
                let mut plan = self.plan(index);
                change(&mut plan);
                if verdicts.send(schedule(plan, false)).is_err() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            let (sender, verdicts) = channel();
            for _ in 0..self.jobs.max(1) {
                let (sender, work) = (sender.clone(), &work);
                scope.spawn(move || work(sender));
            }
            drop(sender);
            for verdict in verdicts {
                if !tell(verdict) {
                    is_over.store(true, Ordering::Relaxed);
                    break;
                }
            }
        });
    }
}
