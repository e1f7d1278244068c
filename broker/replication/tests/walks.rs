//! Random walks far beyond the bounds of the full search, each ended by a heal: faults stop, and the group must recover
//! (L1, L2, L4). A seed decides everything; the same seed walks the same way.

use rocket_replication::replica::Flush;
use rocket_replication::{Policy, Replication};

use crate::world::{Action, Bounds, Crash, World};

/// xorshift64*: enough chance for a walk, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below
    }
}

fn is_rare(action: &Action) -> bool {
    matches!(
        action,
        Action::Crash(..)
            | Action::Fuse(..)
            | Action::Image(_)
            | Action::Return(_)
            | Action::CutLink(_)
            | Action::Lag(..)
            | Action::Elect(..)
            | Action::SetMin(_)
            | Action::SetPolicy(_)
            | Action::AskHandover(_)
            | Action::HandoverWaited(_)
            | Action::Beat(_)
    )
}

/// Walks; returns the first violation, or what did not heal.
pub(crate) fn walk(bounds: &Bounds, seed: u64, steps: usize) -> Result<World, String> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut world = World::new(bounds);
    let mut trace = Vec::new();
    let fail = |trace: &[Action], what: &str| {
        let tail: Vec<_> = trace
            .iter()
            .rev()
            .take(60)
            .rev()
            .map(|a| format!("{a:?}"))
            .collect();
        Err(format!("seed {seed}: {what}\n{}", tail.join("\n")))
    };
    for _ in 0..steps {
        let actions = world.actions(bounds);
        let (rare, usual): (Vec<_>, Vec<_>) = actions.into_iter().partition(is_rare);
        let busy = usual.iter().any(|a| !matches!(a, Action::Retry(_)));
        let patient = busy && dice.roll(4) != 0;
        let usual: Vec<_> = usual
            .into_iter()
            .filter(|a| !patient || !matches!(a, Action::Retry(_)))
            .collect();
        let pool = if !rare.is_empty() && (usual.is_empty() || dice.roll(12) == 0) {
            rare
        } else {
            usual
        };
        if pool.is_empty() {
            break;
        }
        let action = pool[dice.roll(pool.len())].clone();
        trace.push(action.clone());
        world.act(bounds, action);
        if let Some(what) = world.ghost.violation {
            return fail(&trace, what);
        }
    }
    while !world.memory.late().is_empty() {
        world.act(bounds, Action::Arrive(0));
    }
    world.calm(bounds);
    if let Some(what) = world.ghost.violation {
        return fail(&trace, what);
    }
    // After power cuts of all copies only a human may decide (§8.14); that is not a failure to heal.
    match world.is_healed() {
        Err(what) if bounds.power_cuts == 0 || bounds.unclean => {
            fail(&trace, &format!("{what}\n{:?}", world.state()))
        }
        _ => Ok(world),
    }
}

pub(crate) fn rough(replicas: usize, min_in_sync: u8, flush: Flush) -> Bounds {
    Bounds {
        values: 40,
        epochs: 12,
        kills: 6,
        strange_writes: 6,
        link_cuts: 6,
        lags: 6,
        handovers: 3,
        min_changes: 3,
        beats: 10,
        mid_step_cuts: 3,
        stops: 3,
        elector: true,
        data_bytes: 5,
        record_bytes: 2,
        ..Bounds::quiet(replicas, min_in_sync, flush)
    }
}

/// Machines lose power, and disks are put back from images of earlier runs.
pub(crate) fn put_back(replicas: usize, min_in_sync: u8) -> Bounds {
    Bounds {
        power_cuts: 6,
        images: 8,
        unclean: true,
        ..rough(replicas, min_in_sync, Flush::Sync)
    }
}

fn many(bounds: &Bounds, seeds: std::ops::Range<u64>, steps: usize) {
    for seed in seeds {
        if let Err(what) = walk(bounds, seed, steps) {
            panic!("{what}");
        }
    }
}

#[test]
fn processes_killed_links_cut_and_answers_lost_lose_nothing_with_flush_async() {
    many(&rough(3, 2, Flush::Async), 0..400, 400);
    many(&rough(2, 1, Flush::Async), 0..400, 400);
}

#[test]
fn machines_losing_power_lose_nothing_with_flush_sync() {
    let power = |replicas, m| Bounds {
        power_cuts: 6,
        ..rough(replicas, m, Flush::Sync)
    };
    many(&power(3, 2), 0..400, 400);
    many(&power(2, 1), 0..400, 400);
}

#[test]
fn changing_the_flush_mode_at_a_restart_loses_nothing_when_processes_are_killed() {
    many(
        &Bounds {
            mixed: true,
            ..rough(3, 2, Flush::Async)
        },
        0..300,
        400,
    );
}

#[test]
fn loss_of_every_complete_copy_is_recorded_and_the_group_goes_on() {
    let bounds = Bounds {
        power_cuts: 6,
        unclean: true,
        ..rough(3, 2, Flush::Async)
    };
    many(&bounds, 0..300, 400);
}

/// §8.2.7. Each counts for what its disk holds now: nobody electable lacks anything, a loss is recorded, and a disk that lost nothing
/// keeps its place whenever power goes.
#[test]
fn disks_that_are_put_back_from_older_images_count_for_no_more_than_they_hold() {
    many(&put_back(3, 2), 0..400, 400);
    many(&put_back(2, 1), 0..400, 400);
}

/// Nothing here can promise to heal by itself; what it promises is that nobody electable lacks anything.
#[test]
fn power_cuts_under_flush_async_and_changing_modes_leave_only_complete_members_electable() {
    many(
        &Bounds {
            power_cuts: 6,
            ..rough(3, 2, Flush::Async)
        },
        0..300,
        400,
    );
    many(
        &Bounds {
            power_cuts: 6,
            mixed: true,
            ..rough(3, 2, Flush::Sync)
        },
        0..300,
        400,
    );
    many(
        &Bounds {
            power_cuts: 6,
            mixed: true,
            ..rough(2, 1, Flush::Async)
        },
        0..300,
        400,
    );
}

/// §5.1. The world judges each answer when it is given, and at the end what was asked for is in force.
#[test]
fn modes_that_change_at_any_moment_promise_no_answer_more_than_is_true() {
    let mut answered = 0;
    for flush in [Flush::Async, Flush::Sync] {
        for replication in [Replication::Async, Replication::Sync] {
            let changing = Bounds {
                policy: Some(Policy { flush, replication }),
                policy_changes: 8,
                ..rough(3, 2, Flush::Async)
            };
            let torn = Bounds {
                power_cuts: 6,
                unclean: true,
                ..changing.clone()
            };
            for bounds in [changing, torn] {
                for seed in 0..300 {
                    match walk(&bounds, seed, 500) {
                        Ok(world) => answered += world.ghost.answered,
                        Err(what) => panic!("{flush:?} {replication:?} {what}"),
                    }
                }
            }
        }
    }
    assert!(answered > 10_000, "only {answered} answers were judged");
}

#[test]
fn same_seed_walks_the_same_way() {
    let bounds = rough(3, 2, Flush::Async);
    assert_eq!(
        walk(&bounds, 7, 300).unwrap(),
        walk(&bounds, 7, 300).unwrap()
    );
}

/// L5: with a healthy group the epoch does not move.
#[test]
fn healthy_group_holds_no_election() {
    let bounds = Bounds {
        values: 100,
        ..Bounds::quiet(3, 2, Flush::Sync)
    };
    let mut world = World::new(&bounds);
    let epoch = world.state().epoch;
    for _ in 0..100 {
        let master = world.alive(world.state().master.unwrap()).unwrap();
        world.act(&bounds, Action::Send(master));
        world.calm(&bounds);
    }
    assert_eq!(world.state().epoch, epoch);
    assert_eq!(world.is_healed(), Ok(()));
    assert_eq!(world.ghost.committed.len(), 100);
}

#[test]
fn every_replica_can_die_and_come_back() {
    let bounds = Bounds {
        epochs: 9,
        ..Bounds::quiet(3, 2, Flush::Sync)
    };
    let mut world = World::new(&bounds);
    for n in 0..3 {
        world.crash(n, Crash::Power);
        world.calm(&bounds);
        assert_eq!(world.is_healed(), Ok(()), "after the loss of {n}");
    }
}
