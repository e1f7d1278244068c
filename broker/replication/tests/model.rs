//! The full search (§13.1) with stateright: every order of everything that can happen within small bounds, over the
//! production state machines; and the mutants (§13.3), each of which the search or the walks must catch.
//!
//! `cargo test --release -p rocket-replication --features model -- --nocapture model::`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket_replication::master::Phase;
use rocket_replication::memory::Fate;
use rocket_replication::mutations::{Mutant, Mutations};
use rocket_replication::replica::Flush;
use rocket_replication::{Policy, Replication};
use stateright::{Checker, Model, Property};

use crate::walks::{put_back, rough, walk};
use crate::world::{Action, Bounds, World};

/// What a search must have met at least once, or it shows nothing.
#[derive(Default)]
struct Met {
    late_write_landed: AtomicBool,
    elected_from_eligible: AtomicBool,
    cut: AtomicBool,
    superseded_with_sends_pending: AtomicBool,
    answer_lost: AtomicBool,
    committed_after_election: AtomicBool,
    handed_over: AtomicBool,
}

#[derive(Clone)]
struct Search {
    bounds: Bounds,
    met: Arc<Met>,
}

impl Search {
    fn note(&self, before: &World, action: &Action, after: &World) {
        let met = &self.met;
        let yes = |flag: &AtomicBool| flag.store(true, Ordering::Relaxed);
        let (old, new) = (before.state(), after.state());
        match action {
            Action::Arrive(_) if new.version > old.version => yes(&met.late_write_landed),
            Action::Cas(_, Fate::AnswerLost) if new.version > old.version => yes(&met.answer_lost),
            Action::Cas(..) if new.epoch > old.epoch => yes(&met.handed_over),
            Action::Elect(chosen, _) if old.eligible.contains(chosen) => {
                yes(&met.elected_from_eligible);
            }
            _ => {}
        }
        if after.last_cut > 0 {
            yes(&met.cut);
        }
        if new.epoch.0 > 1 && after.ghost.committed.len() > before.ghost.committed.len() {
            yes(&met.committed_after_election);
        }
        let pending = |n: &crate::world::Node| {
            let Some(replica) = &n.replica else {
                return false;
            };
            let superseded = replica
                .leading()
                .is_some_and(|m| m.epoch < new.epoch && m.phase() == Phase::Open);
            superseded && replica.log().end > replica.log().confirm
        };
        if after.nodes.iter().any(pending) {
            yes(&met.superseded_with_sends_pending);
        }
    }
}

impl Model for Search {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(world.actions(&self.bounds));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        let any = next.act(&self.bounds, action.clone());
        self.note(world, &action, &next);
        next.last_cut = 0;
        any.then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(
            "all invariants of §12",
            |_, world: &World| world.ghost.violation.is_none(),
        )]
    }
}

fn search(name: &str, bounds: Bounds) -> Arc<Met> {
    let met = Arc::new(Met::default());
    let checker = Search {
        bounds,
        met: Arc::clone(&met),
    }
    .checker()
    .threads(1)
    .spawn_dfs()
    .join();
    let (unique, all) = (checker.unique_state_count(), checker.state_count());
    println!(
        "model: {name}: {unique} states ({all} steps), depth {}",
        checker.max_depth()
    );
    if let Some(path) = checker.discovery("all invariants of §12") {
        let last = path.last_state().ghost.violation;
        let actions: Vec<_> = path
            .into_actions()
            .iter()
            .map(|a| format!("{a:?}"))
            .collect();
        panic!("{name}: {last:?} after\n{}", actions.join("\n"));
    }
    met
}

fn assert_met(flags: &[(&str, &AtomicBool)]) {
    for (name, flag) in flags {
        assert!(flag.load(Ordering::Relaxed), "the search never met: {name}");
    }
}

fn small(replicas: usize, m: u8, flush: Flush) -> Bounds {
    Bounds {
        epochs: 2,
        eager_notice: true,
        ..Bounds::quiet(replicas, m, flush)
    }
}

#[test]
fn two_replicas_with_kills_and_strange_writes_keep_every_invariant() {
    let bounds = Bounds {
        kills: 2,
        strange_writes: 1,
        ..small(2, 1, Flush::Async)
    };
    let met = search(
        "2 replicas, 2 values, 2 epochs, 2 kills, 1 strange write",
        bounds,
    );
    assert_met(&[
        ("a late write landed", &met.late_write_landed),
        ("an answer was lost", &met.answer_lost),
        ("a cut of a record", &met.cut),
        ("a commit after an election", &met.committed_after_election),
        (
            "a master superseded with sends pending",
            &met.superseded_with_sends_pending,
        ),
    ]);
}

#[test]
fn power_cuts_under_flush_sync_keep_every_invariant() {
    let bounds = Bounds {
        power_cuts: 1,
        lags: 1,
        values: 1,
        ..small(2, 1, Flush::Sync)
    };
    search(
        "2 replicas, flush sync, 1 value, 2 epochs, 1 power cut, 1 shrink",
        bounds,
    );
    let bounds = Bounds {
        power_cuts: 1,
        ..small(2, 1, Flush::Sync)
    };
    search(
        "2 replicas, flush sync, 2 values, 2 epochs, 1 power cut",
        bounds,
    );
}

#[test]
fn eligible_members_and_changes_of_m_keep_every_invariant() {
    let two = Bounds {
        lags: 1,
        values: 1,
        ..small(2, 2, Flush::Async)
    };
    let met = search(
        "2 replicas, m = 2, 1 value, 2 epochs, 1 shrink, 1 kill",
        Bounds {
            kills: 1,
            ..two.clone()
        },
    );
    assert_met(&[("an election from E", &met.elected_from_eligible)]);
    let bounds = Bounds {
        strange_writes: 1,
        min_changes: 1,
        ..two
    };
    search(
        "2 replicas, m = 2, 1 value, 2 epochs, 1 shrink, 1 strange write, 1 change of m",
        bounds,
    );
}

#[test]
fn half_open_links_and_handovers_keep_every_invariant() {
    let bounds = Bounds {
        link_cuts: 1,
        handovers: 1,
        ..small(2, 1, Flush::Async)
    };
    let met = search(
        "2 replicas, 2 values, 2 epochs, 1 link cut, 1 handover",
        bounds,
    );
    assert_met(&[("a handover", &met.handed_over)]);
}

#[test]
fn modes_that_change_keep_every_promise() {
    for flush in [Flush::Async, Flush::Sync] {
        let bounds = Bounds {
            policy: Some(Policy {
                flush,
                replication: Replication::Sync,
            }),
            policy_changes: 1,
            values: 1,
            beats: 1,
            epochs: 1,
            ..small(2, 1, Flush::Async)
        };
        let name = format!("2 replicas, begun with {flush:?}, 1 value, 1 epoch, 1 change of modes");
        search(&name, bounds);
    }
}

#[test]
fn three_replicas_keep_every_invariant() {
    let bounds = Bounds {
        values: 1,
        ..small(3, 2, Flush::Async)
    };
    search("3 replicas, m = 2, 1 value, 2 epochs", bounds);
}

/// Minutes to an hour each, by hand: `--features deep-model`.
#[cfg(feature = "deep-model")]
#[test]
fn deep_searches_keep_every_invariant() {
    let three_epochs = Bounds {
        epochs: 3,
        kills: 2,
        ..small(2, 1, Flush::Async)
    };
    search(
        "2 replicas, 2 values, 3 epochs, 2 kills",
        three_epochs.clone(),
    );
    search(
        "3 replicas, m = 2, 2 values, 2 epochs",
        small(3, 2, Flush::Async),
    );
    let one_kill = Bounds {
        values: 1,
        kills: 1,
        ..small(3, 2, Flush::Async)
    };
    search("3 replicas, m = 2, 1 value, 2 epochs, 1 kill", one_kill);
    let bounds = Bounds {
        strange_writes: 1,
        ..three_epochs
    };
    search(
        "2 replicas, 2 values, 3 epochs, 2 kills, 1 strange write",
        bounds,
    );
}

/// Walks a broken protocol until something is noticed.
fn is_caught(mutants: &[Mutant], bounds: &Bounds) -> Option<String> {
    let mutations = mutants
        .iter()
        .fold(Mutations::default(), |all, m| all.with(*m));
    let bounds = Bounds {
        mutations,
        ..bounds.clone()
    };
    (0..20_000).find_map(|seed| walk(&bounds, seed, 400).err())
}

#[test]
fn mutants_are_caught() {
    let kills = rough(3, 2, Flush::Async);
    let pair = rough(2, 1, Flush::Async);
    let power = Bounds {
        power_cuts: 6,
        ..rough(3, 2, Flush::Sync)
    };
    let power_async = Bounds {
        power_cuts: 6,
        ..rough(3, 2, Flush::Async)
    };
    let mixed = Bounds {
        power_cuts: 6,
        mixed: true,
        ..rough(3, 2, Flush::Sync)
    };
    let images = put_back(2, 1);
    let table: &[(&[Mutant], &Bounds)] = &[
        (&[Mutant::M1, Mutant::M7], &power_async),
        (&[Mutant::M2], &kills),
        (&[Mutant::M3], &pair),
        (&[Mutant::M4], &pair),
        (&[Mutant::M5], &pair),
        (&[Mutant::M6], &pair),
        (&[Mutant::M7], &power_async),
        (&[Mutant::M8], &kills),
        (&[Mutant::M9], &kills),
        (&[Mutant::M10], &power),
        (&[Mutant::M11], &kills),
        (&[Mutant::M12], &kills),
        (&[Mutant::M16], &kills),
        (&[Mutant::M17], &kills),
        (&[Mutant::M19], &kills),
        (&[Mutant::M25], &pair),
        (&[Mutant::M27], &kills),
        (&[Mutant::M33], &kills),
        (&[Mutant::M35], &mixed),
        (&[Mutant::M36], &kills),
        (&[Mutant::M37], &power_async),
        (&[Mutant::M38], &kills),
        (&[Mutant::M50], &images),
        (&[Mutant::M51], &power),
    ];
    let mut survivors = Vec::new();
    for (mutants, bounds) in table {
        match is_caught(mutants, bounds) {
            Some(what) => println!(
                "mutant {mutants:?}: {}",
                what.lines().next().unwrap_or_default()
            ),
            None => survivors.push(*mutants),
        }
    }
    assert!(survivors.is_empty(), "not noticed: {survivors:?}");
}

#[test]
fn mutants_of_changing_modes_are_caught() {
    let changing = Bounds {
        policy: Some(Policy {
            flush: Flush::Sync,
            replication: Replication::Sync,
        }),
        policy_changes: 8,
        ..rough(3, 2, Flush::Sync)
    };
    let table: [&[Mutant]; 4] = [
        &[Mutant::M39],
        &[Mutant::M40],
        &[Mutant::M41],
        // Every member of S is durable while somebody waits, unless one joins that is not.
        &[Mutant::M42, Mutant::M45],
    ];
    for mutants in table {
        let what = is_caught(mutants, &changing);
        let what = what.unwrap_or_else(|| panic!("not noticed: {mutants:?}"));
        println!(
            "mutant {mutants:?}: {}",
            what.lines().next().unwrap_or_default()
        );
    }
}
