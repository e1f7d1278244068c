//! What people read, for each state that a cluster can be in.

use rocket_api::{Effective, GroupSummary, Reason};

use super::facts::{Copies, Count, Group};
use super::*;

fn now(second: i64) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(1_800_000_000 + second).unwrap())
}

fn healthy(groups: i32, replicas: i32) -> Facts {
    let group = |index| {
        let name = |ordinal| format!("orders-{index}-{ordinal}");
        Group {
            serving: true,
            copies: None,
            awaited: None,
            electable: Vec::new(),
            summary: GroupSummary {
                index,
                name: format!("orders-{index}"),
                master: Some(name(0)),
                epoch: 1,
                in_sync: vec![name(0)],
                standbys: (1..replicas).map(name).collect(),
                replicas,
                ready: replicas,
                joined: true,
            },
        }
    };
    let pods = groups * replicas;
    Facts {
        version: "0.1.0".into(),
        groups: (0..groups).map(group).collect(),
        replicas,
        brokers: Count {
            wanted: pods,
            exist: pods,
            ready: pods,
        },
        name_servers: Count {
            wanted: 2,
            exist: 2,
            ready: 2,
        },
        settled: true,
        ..Facts::default()
    }
}

fn say(status: &RocketClusterStatus, type_: ConditionType) -> (Truth, Reason, String) {
    let condition = status.condition(type_).unwrap();
    (
        condition.status,
        condition.reason,
        condition.message.clone(),
    )
}

fn fresh(facts: &Facts) -> RocketClusterStatus {
    compute(facts, None, 1, &now(0))
}

/// Whoever is quiet is looked at again after minutes only, unless something happens: a pod that is to be replaced waits for a
/// handover, of which Kubernetes tells nothing.
#[test]
fn pods_to_be_replaced_are_waited_for() {
    let mut facts = healthy(1, 3);
    assert!(facts.is_quiet());
    facts.outdated = 1;
    assert!(!facts.is_quiet());
}

#[test]
fn a_healthy_cluster_says_so_in_one_sentence() {
    let status = fresh(&healthy(3, 1));
    assert_eq!(
        say(&status, ConditionType::Ready),
        (
            Truth::True,
            Reason::AllGroupsServing,
            "3 groups, 3 brokers ready".into()
        )
    );
    assert_eq!(
        (status.phase, status.version.as_deref()),
        (Phase::Healthy, Some("0.1.0"))
    );
    assert_eq!(
        (status.groups_ready.as_str(), status.brokers_ready.as_str()),
        ("3/3", "3/3")
    );
    assert_eq!(status.conditions.len(), ConditionType::ALL.len());
}

#[test]
fn standbys_are_never_passed_off_as_copies() {
    let status = fresh(&healthy(3, 3));
    assert_eq!(
        say(&status, ConditionType::Ready).2,
        "3 groups, 9 brokers ready; 6 standbys without data"
    );
    let (truth, reason, message) = say(&status, ConditionType::ReplicationHealthy);
    assert_eq!((truth, reason), (Truth::False, Reason::StandbysHoldNoData));
    assert!(message.contains("6 standbys without data"), "{message}");
    assert_eq!(say(&status, ConditionType::FailoverReady).0, Truth::False);
    assert_eq!(status.groups[0].in_sync, ["orders-0-0"]);
}

#[test]
fn a_group_without_master_is_neither_available_nor_ready() {
    let mut facts = healthy(2, 1);
    facts.groups[1].serving = false;
    facts.brokers.ready = 1;
    let status = fresh(&facts);
    assert_eq!(
        say(&status, ConditionType::Available),
        (
            Truth::False,
            Reason::GroupWithoutMaster,
            "no ready master in group 1".into()
        )
    );
    assert_eq!(say(&status, ConditionType::Ready).0, Truth::False);
    assert_eq!(status.phase, Phase::Creating);
    let later = compute(&facts, Some(&fresh(&healthy(2, 1))), 1, &now(9));
    assert_eq!(later.phase, Phase::Degraded);
}

#[test]
fn a_group_that_is_still_to_come_leaves_the_cluster_available() {
    let mut facts = healthy(3, 1);
    (facts.groups[2].serving, facts.groups[2].summary.joined) = (false, false);
    facts.brokers.ready = 2;
    let before = fresh(&healthy(2, 1));
    let status = compute(&facts, Some(&before), 2, &now(1));
    assert_eq!(
        say(&status, ConditionType::Available),
        (
            Truth::True,
            Reason::GroupsServing,
            "group 2 is still to come, all others accept writes".into()
        )
    );
    assert_eq!(
        say(&status, ConditionType::Progressing),
        (
            Truth::True,
            Reason::Scaling,
            "group 2 has not taken writes yet".into()
        )
    );
    assert_eq!(status.phase, Phase::Scaling);
    facts.groups[2].summary.joined = true;
    let lost = compute(&facts, Some(&status), 2, &now(2));
    assert_eq!(say(&lost, ConditionType::Available).0, Truth::False);
}

/// A change of a healthy cluster's facts, and what must be said then.
type Case<'a> = (&'a dyn Fn(&mut Facts), Phase, ConditionType, Reason);

#[test]
fn each_hindrance_has_its_phase_and_its_reason() {
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut facts = healthy(1, 1);
        change(&mut facts);
        fresh(&facts)
    };
    let cases: [Case<'_>; 8] = [
        (
            &|facts| facts.paused = true,
            Phase::Paused,
            ConditionType::Paused,
            Reason::PausedBySpec,
        ),
        (
            &|facts| facts.problems = vec![Problem::Refused("x".into())],
            Phase::Blocked,
            ConditionType::Ready,
            Reason::SpecRefused,
        ),
        (
            &|facts| facts.problems = vec![Problem::NameTaken("x".into())],
            Phase::Blocked,
            ConditionType::Degraded,
            Reason::NameTaken,
        ),
        (
            &|facts| facts.problems = vec![Problem::VolumeResizeRefused("x".into())],
            Phase::Degraded,
            ConditionType::Degraded,
            Reason::VolumeResizeRefused,
        ),
        (
            &|facts| facts.failing = vec!["x".into()],
            Phase::Degraded,
            ConditionType::Ready,
            Reason::PodFailing,
        ),
        (
            &|facts| facts.outdated = 1,
            Phase::Updating,
            ConditionType::ConfigApplied,
            Reason::RollingOut,
        ),
        (
            &|facts| facts.brokers.wanted = 2,
            Phase::Scaling,
            ConditionType::Progressing,
            Reason::Scaling,
        ),
        (
            &|facts| facts.growing = vec!["data-orders-0-0".into()],
            Phase::Scaling,
            ConditionType::Progressing,
            Reason::ResizingVolumes,
        ),
    ];
    for (change, phase, type_, reason) in cases {
        let status = with(change);
        assert_eq!((status.phase, say(&status, type_).1), (phase, reason));
    }
    let missing = with(&|facts| facts.pod_monitor_missing = true);
    assert_eq!(
        say(&missing, ConditionType::ConfigApplied).1,
        Reason::PodMonitorMissing
    );
    assert_eq!(missing.phase, Phase::Healthy);
}

#[test]
fn rolling_update_that_would_stop_writes_says_what_to_write() {
    let words = |min_in_sync| {
        let mut facts = healthy(1, 3);
        facts.outdated = 3;
        facts.effective = Some(Effective {
            image: "x".into(),
            min_in_sync,
        });
        say(&fresh(&facts), ConditionType::ConfigApplied).2
    };
    assert_eq!(words(2), "3 pods with an older specification");
    let held = words(3);
    for part in [
        "minInSync is 3 of 3 replicas",
        "raise groups.replicas, or lower replication.minInSync to 2",
    ] {
        assert!(held.contains(part), "{held}");
    }
}

#[test]
fn the_same_facts_give_the_same_status_at_any_time() {
    let first = fresh(&healthy(2, 2));
    assert_eq!(compute(&healthy(2, 2), Some(&first), 1, &now(3600)), first);
}

#[test]
fn a_condition_remembers_when_it_turned() {
    let first = fresh(&healthy(1, 1));
    let mut facts = healthy(1, 1);
    facts.failing = vec!["orders-0-0: CrashLoopBackOff".into()];
    let second = compute(&facts, Some(&first), 2, &now(60));
    let since = |type_| {
        second
            .condition(type_)
            .unwrap()
            .last_transition_time
            .clone()
    };
    assert_eq!(
        (since(ConditionType::Degraded), since(ConditionType::Paused)),
        (now(60), now(0))
    );
    assert!(
        second
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == 2)
    );
}

#[test]
fn during_an_update_the_former_version_is_told() {
    let first = fresh(&healthy(1, 1));
    let mut facts = healthy(1, 1);
    (facts.version, facts.outdated) = ("0.2.0".into(), 1);
    assert_eq!(
        compute(&facts, Some(&first), 2, &now(1)).version.as_deref(),
        Some("0.1.0")
    );
    facts.outdated = 0;
    assert_eq!(
        compute(&facts, Some(&first), 2, &now(2)).version.as_deref(),
        Some("0.2.0")
    );
}

fn electing(in_sync: usize, heirs: usize, min_in_sync: i32) -> Facts {
    let mut facts = healthy(2, 3);
    for group in &mut facts.groups {
        group.copies = Some(Copies {
            in_sync: 3,
            needed: 2,
            heirs: 2,
            answered_by_master: false,
        });
    }
    let needed = usize::try_from(min_in_sync).unwrap();
    facts.groups[1].copies = Some(Copies {
        in_sync,
        needed,
        heirs,
        answered_by_master: false,
    });
    facts.effective = Some(rocket_api::Effective {
        image: String::new(),
        min_in_sync,
    });
    facts
}

#[test]
fn copies_of_elected_groups_are_told_as_they_are() {
    let whole = fresh(&electing(3, 2, 2));
    for (type_, reason) in [
        (ConditionType::ReplicationHealthy, Reason::AllReplicasInSync),
        (ConditionType::FailoverReady, Reason::HeirsReady),
    ] {
        let (truth, why, words) = say(&whole, type_);
        assert_eq!((truth, why), (Truth::True, reason), "{words}");
        assert!(!words.contains("single copy"), "{words}");
    }
    assert_eq!(
        say(&whole, ConditionType::Ready).2,
        "2 groups, 6 brokers ready; 6 replicas in sync"
    );
    let behind = fresh(&electing(1, 0, 1));
    assert_eq!(
        say(&behind, ConditionType::ReplicationHealthy),
        (
            Truth::False,
            Reason::ReplicasBehind,
            "group 1: 1 of 3 replicas are in sync".into()
        )
    );
    let (truth, reason, words) = say(&behind, ConditionType::FailoverReady);
    assert_eq!((truth, reason), (Truth::False, Reason::NoHeir));
    assert!(words.starts_with("group 1 has no other replica"), "{words}");
    // All copies are there, and the elector reaches none of them.
    let mut unheard = electing(3, 2, 2);
    let found = Problem::NoElectableReplica("group 1: none of its replicas answers".into());
    unheard.problems.push(found);
    let (truth, _, words) = say(&fresh(&unheard), ConditionType::FailoverReady);
    assert_eq!(
        (truth, &*words),
        (Truth::False, "group 1: none of its replicas answers")
    );
    let (_, _, risk) = say(&fresh(&electing(3, 2, 1)), ConditionType::FailoverReady);
    assert!(risk.contains("single copy"), "{risk}");
}

#[test]
fn modes_are_applied_when_the_master_of_each_group_has_said_so() {
    let mut facts = electing(3, 2, 2);
    assert_eq!(
        say(&fresh(&facts), ConditionType::ConfigApplied).0,
        Truth::True
    );
    facts.groups[1].awaited = Some("flush Sync, minInSync 2".into());
    let (truth, reason, words) = say(&fresh(&facts), ConditionType::ConfigApplied);
    assert_eq!((truth, reason), (Truth::False, Reason::ModesChanging));
    assert!(
        words.ends_with("group 1: flush Sync, minInSync 2"),
        "{words}"
    );
}

#[test]
fn answers_that_wait_for_no_other_replica_are_not_passed_off_as_safe() {
    let mut facts = electing(3, 2, 2);
    if let Some(copies) = &mut facts.groups[0].copies {
        copies.answered_by_master = true;
    }
    let (truth, reason, words) = say(&fresh(&facts), ConditionType::FailoverReady);
    assert_eq!((truth, reason), (Truth::False, Reason::AnsweredByMaster));
    assert!(words.contains("minInSync 2 says how many"), "{words}");
    assert_eq!(facts.heirs(), 2, "somebody takes over all the same");
    assert_eq!(electing(2, 1, 2).heirs(), 1);
    assert_eq!(healthy(2, 3).heirs(), 0);
}

#[test]
fn group_that_refuses_writes_is_not_available_and_says_what_to_do() {
    let mut facts = electing(1, 0, 2);
    facts.groups[1].serving = false;
    let (truth, reason, words) = say(&fresh(&facts), ConditionType::Available);
    assert_eq!((truth, reason), (Truth::False, Reason::TooFewInSync));
    assert!(
        words.starts_with("group 1 refuses writes: 1 of 3 replicas are in sync and minInSync is 2"),
        "{words}"
    );
    assert!(words.contains("lower replication.minInSync"), "{words}");
    // Without any master there is nothing to lower.
    facts.groups[1].summary.master = None;
    facts.groups[1].electable = vec!["orders-1-0".into(), "orders-1-2".into()];
    let (_, reason, words) = say(&fresh(&facts), ConditionType::Available);
    assert_eq!(reason, Reason::GroupWithoutMaster);
    assert!(
        words.contains("one of orders-1-0, orders-1-2 must answer"),
        "{words}"
    );
}
