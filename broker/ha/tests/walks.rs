//! Random walks: a seed decides everything that happens. Afterwards the group is healed, and what was acknowledged is there.
//! With far more faults, and over the store's engine too, `tests/sim` does this.

use std::ops::Range;

use rocket_ha::{Answers, News};
use rocket_mapped_file::memory::Dice;
use rocket_replication::memory::Fate;
use rocket_replication::replica::Flush;
use rocket_replication::{Policy, Replication};

use crate::world::{End, Plan, World};

/// What may go wrong.
#[derive(Clone, Copy)]
pub(crate) struct Wear {
    pub(crate) power_cuts: bool,
    pub(crate) strange_writes: bool,
}

fn fate(dice: &mut Dice, wear: Wear) -> Fate {
    if !wear.strange_writes || !dice.once_in(6) {
        return Fate::Answered;
    }
    *dice.pick(&[Fate::AnswerLost, Fate::Late, Fate::Doubled])
}

pub(crate) fn act(world: &mut World, dice: &mut Dice, wear: Wear) {
    let n = usize::try_from(dice.below(world.machines.len() as u64)).unwrap();
    let is_fixed = world.plan.is_fixed;
    // Of a group with a fixed master only that one may lose what was not flushed.
    let power_cuts = wear.power_cuts && (!is_fixed || n == 0 || world.plan.flush == Flush::Sync);
    match dice.below(100) {
        0..30 => {
            let found = world.deliverable();
            if !found.is_empty() {
                world.deliver(*dice.pick(&found));
            }
        }
        30..36 => world.dial(),
        36..46 => {
            let fate = fate(dice, wear);
            if world.machines[n].process.is_some() && !world.is_answering(n) {
                world.request(n, fate);
            }
        }
        46..56 => drop(world.answer(n)),
        56..68 => {
            let to = world.open_master().unwrap_or(n);
            // What leads there for a while is open to nobody.
            let to = if is_fixed { 0 } else { to };
            world.send(to, dice.below(40));
        }
        68..76 => world.flush(n),
        76..86 => drop(world.wake(n)),
        86..90 => world.pass(dice.within(1, 150)),
        // Now and then all is well for a moment.
        90 if dice.once_in(2) => world.calm(),
        91 => world.cut_wire(dice.roll()),
        92 => {
            let state = dice.pick(&world.history).clone();
            world.hint(n, state);
        }
        93 if !is_fixed => {
            let mut reports = world.reports();
            reports.retain(|_| !dice.once_in(4));
            world.elect(&reports, dice.once_in(3));
        }
        94 => {
            let late = world.memory.late().len() as u64;
            if late > 0 {
                let at = usize::try_from(dice.below(late)).unwrap();
                world.memory.arrive(at).unwrap();
                world.remember();
            }
        }
        95 => {
            if let Some(process) = &world.machines[n].process {
                process.log.checkpoint();
            }
        }
        96 => {
            if !world.is_up(n) {
                return;
            }
            match dice.below(5) {
                0 if power_cuts => world.crash(n, End::Power(dice.below(2_000))),
                0 | 1 => world.crash(n, End::Kill),
                2 => world.stop(n),
                _ => {
                    let power = power_cuts && dice.once_in(2);
                    let end = if power {
                        End::Power(dice.below(2_000))
                    } else {
                        End::Kill
                    };
                    world.light(n, dice.below(4), end);
                }
            }
        }
        97 if dice.once_in(3) && world.is_up(n) && !is_fixed => world.ask_handover(n),
        98 if world.plan.policy.is_some() => world.ask_for(Policy {
            flush: *dice.pick(&[Flush::Async, Flush::Sync]),
            replication: Replication::Sync,
        }),
        _ => {
            if !world.is_up(n) {
                world.start(n);
            }
        }
    }
}

/// Returns how much was acknowledged, how often an election was won, and how many cuts there were.
fn walk(seed: u64, plan: Plan, wear: Wear, steps: u32) -> (usize, u64, usize) {
    let mut dice = Dice::new(seed);
    let mut world = World::healthy(plan);
    for _ in 0..steps {
        act(&mut world, &mut dice, wear);
    }
    world.heal();
    world.check_acked();
    let is_cut = |(_, news): &&(usize, News)| matches!(news, News::Cut { .. });
    let cuts = world.news.iter().filter(is_cut).count();
    (world.acked.len(), world.state().epoch.0, cuts)
}

fn walks(seeds: Range<u64>, plan: Plan, wear: Wear) {
    let count = seeds.end - seeds.start;
    let (mut acked, mut epochs, mut cut) = (0, 0, 0);
    for seed in seeds {
        let done = std::panic::catch_unwind(|| walk(seed, plan, wear, 3_000));
        let Ok(done) = done else {
            panic!("seed {seed}");
        };
        acked += done.0;
        epochs += done.1;
        cut += done.2;
    }
    // Walks in which nothing happens show nothing.
    assert!(
        acked as u64 > 5 * count && epochs > 3 * count && cut as u64 > count / 10,
        "{acked} acknowledged, {epochs} epochs, {cut} cuts in {count} walks"
    );
}

const ALL: Wear = Wear {
    power_cuts: true,
    strange_writes: true,
};

#[test]
fn nothing_acknowledged_is_lost_with_flushes_and_replicas() {
    walks(0..300, Plan::sync(3, 2), ALL);
}

#[test]
fn nothing_acknowledged_is_lost_with_two_replicas() {
    walks(0..200, Plan::sync(2, 1), ALL);
}

/// Without flushes, as long as no machine loses power.
#[test]
fn nothing_acknowledged_is_lost_in_page_caches() {
    let plan = Plan {
        flush: Flush::Async,
        ..Plan::sync(3, 2)
    };
    let wear = Wear {
        power_cuts: false,
        ..ALL
    };
    walks(0..200, plan, wear);
}

/// §5.1. Killed processes may lose nothing in either mode.
#[test]
fn nothing_acknowledged_is_lost_while_the_flush_mode_changes() {
    let policy = |flush| {
        Some(Policy {
            flush,
            replication: Replication::Sync,
        })
    };
    let wear = Wear {
        power_cuts: false,
        ..ALL
    };
    for flush in [Flush::Async, Flush::Sync] {
        let plan = Plan {
            policy: policy(flush),
            ..Plan::sync(3, 2)
        };
        walks(0..150, plan, wear);
    }
}

#[test]
fn group_heals_whatever_quick_answers_promised() {
    let plan = Plan {
        answers: Answers::Counted,
        ..Plan::sync(3, 2)
    };
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let mut world = World::healthy(plan);
        for _ in 0..3_000 {
            act(&mut world, &mut dice, ALL);
        }
        world.heal();
    }
}

/// A committed record rots on one of the disks, unless one has rotten already: what rots everywhere at once nobody can give back.
fn rot(world: &World, dice: &mut Dice) -> bool {
    let n = usize::try_from(dice.below(world.machines.len() as u64)).unwrap();
    let is_sound = |n: usize| match &world.machines[n].process {
        Some(process) => process.log.look(|image| image.damaged.is_empty()),
        None => world.machines[n].image.damaged.is_empty(),
    };
    if !world.is_up(n) || !(0..world.machines.len()).all(is_sound) {
        return false;
    }
    let log = &world.process(n).log;
    let image = log.image();
    let kept = image.durable.min(world.committed.len() as u64);
    let mut ends = image.boundaries();
    ends.retain(|end| *end <= kept);
    let Some(last) = ends.len().checked_sub(1).filter(|last| *last > 0) else {
        return false;
    };
    let at = usize::try_from(dice.below(last as u64)).unwrap();
    log.rot(ends[at], ends[at + 1]);
    true
}

/// §8.15, among all other faults.
#[test]
fn damage_is_repaired_and_nothing_acknowledged_is_lost() {
    let mut rotted = 0;
    for seed in 0..100 {
        let walk = || {
            let (mut dice, mut strokes) = (Dice::new(seed), 0);
            let mut world = World::healthy(Plan::sync(3, 2));
            for _ in 0..3_000 {
                act(&mut world, &mut dice, ALL);
                strokes += u64::from(dice.once_in(100) && rot(&world, &mut dice));
            }
            world.heal();
            for _ in 0..200 {
                world.pass(50);
                world.calm();
            }
            world.heal();
            for n in 0..3 {
                let image = world.process(n).log.image();
                assert_eq!(image.damaged, [], "replica {n}");
            }
            world.check_acked();
            strokes
        };
        rotted += std::panic::catch_unwind(walk).unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(rotted > 300, "{rotted} in 100 walks");
}

/// §13.3: with one of these rules broken some walk fails, or the walks show nothing.
#[cfg(feature = "mutants")]
#[test]
fn broken_rules_are_seen() {
    use rocket_replication::mutations::{Mutant, Mutations};
    for mutant in [Mutant::M10, Mutant::M16, Mutant::M17] {
        let plan = Plan {
            mutations: Mutations::default().with(mutant),
            ..Plan::sync(3, 2)
        };
        let fails = |seed| std::panic::catch_unwind(|| walk(seed, plan, ALL, 3_000)).is_err();
        assert!((0..300).any(fails), "{mutant:?} is not seen");
    }
}
