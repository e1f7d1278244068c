//! One schedule from its first step to the last judgement.

use super::{Reached, World};
use crate::log::GroupLog;
use crate::plan::Plan;
use crate::trace::Trace;

/// What a schedule came to.
pub(crate) struct Outcome {
    /// What is wrong, if anything is.
    pub(crate) broken: Option<String>,
    pub(crate) reached: Reached,
    /// Empty, unless it was wanted.
    pub(crate) trace: String,
}

/// Runs `plan`. A panic breaks it too: assertions of the production code are part of the judging.
pub(crate) fn run<L: GroupLog>(plan: Plan, is_trace_wanted: bool) -> Outcome {
    let mut world = World::<L>::new(plan, Trace::new(is_trace_wanted));
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let words = words.unwrap_or_else(|| "something that is no text".to_owned());
        world.fail(format!("panic: {words}"));
    }
    for machine in &world.machines {
        if let Some(process) = &machine.process {
            process.dir.forget();
        }
    }
    Outcome {
        broken: world.ledger.broken.take(),
        reached: world.ledger.reached,
        trace: world.trace.into_text(),
    }
}

impl<L: GroupLog> World<L> {
    fn run(&mut self) {
        for n in 0..self.machines.len() {
            self.start(n, None);
        }
        if self.plan.begins_healthy {
            self.heal();
            if self.plan.old_messages > 0 && self.plan.has_snapshots() && L::QUEUES > 1 {
                self.age();
            }
        }
        for _ in 0..self.plan.steps {
            if self.ledger.broken.is_some() {
                return;
            }
            self.act();
        }
        self.heal();
        if self.ledger.broken.is_some() {
            return;
        }
        self.judge_history();
        // It goes on working, and without a reason nobody is elected (L5).
        let epoch = self.state().epoch;
        for _ in 0..3 {
            if let Some(master) = self.open_master() {
                self.send(master);
            }
            self.calm();
        }
        if self.ledger.broken.is_none() {
            self.heal();
            self.judge_history();
        }
        if self.state().epoch != epoch {
            self.fail("L5: an election without a reason".to_owned());
        }
    }
}
