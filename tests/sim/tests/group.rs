//! Schedules of whole groups, as many as there is time for. `ROCKET_SIM_SCHEDULES` says how many; the heavy ones are a
//! twentieth of that.
#![forbid(unsafe_code)]
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use sim::campaign::Campaign;
use sim::plan::{Column, Plan, Weather, Weight};
use sim::{Reached, schedule};

fn wanted() -> u64 {
    let text = std::env::var("ROCKET_SIM_SCHEDULES");
    text.map_or(1_000, |text| text.parse().unwrap())
}

fn campaign(schedules: u64, weight: Weight) -> Reached {
    let campaign = Campaign {
        first: 0,
        schedules,
        columns: Column::ALL.to_vec(),
        weight,
        jobs: 1,
    };
    let mut reached = Reached::default();
    campaign.run(
        |_| {},
        |verdict| {
            if let Some(what) = &verdict.broken {
                panic!("{what}\n{}", verdict.replay());
            }
            reached.add(&verdict.reached);
            true
        },
    );
    reached
}

#[test]
fn groups_keep_every_invariant_against_all_faults() {
    let schedules = wanted();
    let reached = campaign(schedules, Weight::Light);
    // Schedules in which nothing happens show nothing.
    let all = [
        reached.acked / 10,
        reached.read / 50,
        reached.epochs,
        reached.cuts * 20,
        reached.late_writes * 20,
        reached.mid_step * 10,
        reached.disk_errors * 2,
        reached.handovers * 10,
        reached.unclean * 10,
        reached.from_eligible * 200,
        reached.started_anew * 20,
        reached.committed_late * 10,
        reached.modes_changed * 2,
        reached.promised_flushed,
        reached.rotten * 40,
        reached.repaired * 60,
    ];
    assert!(
        all.into_iter().all(|n| n > schedules),
        "{reached:?} in {schedules}"
    );
}

#[test]
fn groups_over_the_store_keep_every_invariant_against_all_faults() {
    let schedules = wanted() / 20;
    let reached = campaign(schedules, Weight::Heavy);
    assert!(
        reached.acked > 5 * schedules && reached.read > 5 * schedules,
        "{reached:?}"
    );
}

/// Each of them was wrong once: in the store, in what a replica tells or asks, or in this judging. The first ones are from before
/// modes changed and bits flipped.
#[test]
fn schedules_that_did_not_pass_do() {
    use Column::{A, B, C, C1, D};
    use Weight::{Heavy, Light};
    let old = [
        (Heavy, A, 1_000_185),
        (Heavy, A, 1_000_475),
        (Heavy, A, 1_003_119),
        (Heavy, A, 1_006_479),
        (Heavy, A, 1_010_825),
        (Heavy, C, 1_000_475),
        (Heavy, C1, 1_005_819),
        (Heavy, C1, 1_007_545),
        (Heavy, D, 1_004_849),
        (Light, B, 1_047_548),
    ];
    let new = [
        (Heavy, B, 498),
        (Heavy, B, 9_085),
        (Heavy, C1, 40),
        (Heavy, D, 976),
        (Heavy, D, 2_773),
        (Heavy, D, 17_952),
        (Light, A, 19_149),
        (Light, A, 101_884),
        (Light, A, 171_833),
        (Light, C1, 1_034),
        (Light, C1, 95_844),
    ];
    let newest = [(Heavy, C, 344), (Heavy, C1, 40_752), (Light, C1, 3_198_765)];
    let plan = |(weight, column, seed)| Plan::of(seed, column, weight);
    let plans = old
        .map(|which| plan(which).of_old())
        .into_iter()
        .chain(new.map(|which| plan(which).without_expiry()))
        .chain(newest.map(|which| Plan {
            old_messages: 0,
            ..plan(which)
        }));
    let verdicts = plans.map(|plan| {
        let verdict = schedule(plan, false);
        verdict
            .broken
            .as_ref()
            .map(|what| format!("{what}\n{}", verdict.replay()))
    });
    let broken: Vec<String> = verdicts.flatten().collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for (weight, seeds) in [(Weight::Light, 20), (Weight::Heavy, 3)] {
        for column in Column::ALL {
            for seed in 0..seeds {
                let run = || schedule(Plan::of(seed, column, weight), true).trace;
                let first = run();
                assert!(first == run(), "{weight:?} {column} {seed}");
                assert!(
                    first.lines().count() > 100,
                    "{weight:?} {column} {seed}: {first}"
                );
            }
        }
    }
    let of = |seed| schedule(Plan::of(seed, Column::D, Weight::Light), true).trace;
    assert_ne!(of(1), of(2));
}

/// L5.
#[test]
fn healthy_group_holds_no_election() {
    for column in Column::ALL {
        let plan = Plan {
            weather: Weather::default(),
            elects_itself: false,
            begins_healthy: true,
            steps: 20_000,
            ..Plan::of(7, column, Weight::Light)
        };
        let verdict = schedule(plan, false);
        assert_eq!(
            (verdict.broken, verdict.reached.epochs),
            (None, 1),
            "{column}"
        );
        assert!(
            verdict.reached.acked > 500,
            "{column}: {:?}",
            verdict.reached
        );
    }
}

/// A handful of the rules that `sim mutants` breaks: the simulation notices each within a few schedules.
#[cfg(feature = "mutants")]
#[test]
fn broken_rules_are_noticed() {
    use rocket_replication::mutations::{Mutant, Mutations};
    std::panic::set_hook(Box::new(|_| {}));
    for mutant in [
        Mutant::M2,
        Mutant::M10,
        Mutant::M16,
        Mutant::M17,
        Mutant::M18,
        Mutant::M39,
        Mutant::M40,
        Mutant::M41,
        Mutant::M42,
        Mutant::M43,
    ] {
        let mutations = Mutations::default().with(mutant);
        let is_noticed = |seed| {
            let mut plan = Plan::of(seed, Column::D, Weight::Light);
            plan.mutations = mutations;
            schedule(plan, false).broken.is_some()
        };
        assert!((0..200).any(is_noticed), "{mutant:?} is not noticed");
    }
}
