//! Who can take over, in words, and how a pause is measured.

use rocket_replication::identity::Proposal;
use rocket_replication::memory::{group, member};
use rocket_replication::state::Activation;
use rocket_replication::{Epoch, PhysicalOffset};

use super::*;

/// Three replicas in sync; the first is master and open.
fn serving() -> State {
    let mut state = group(3);
    state.in_sync = [1, 2, 3].map(member).into();
    state.last_complete = [1, 2, 3].map(ReplicaId).into();
    state.activated = Some(Activation {
        epoch: state.epoch,
        start_offset: PhysicalOffset(0),
    });
    state
}

fn report(id: u32, role: RoleName, epoch: u64) -> Report {
    Report {
        member: member(id),
        role,
        max_epoch: Epoch(epoch),
        last: None,
        log_end: PhysicalOffset(100),
        durable_end: PhysicalOffset(100),
        confirm: PhysicalOffset(100),
        version: Version(1),
        master_linked: role == RoleName::InSync,
        damaged: false,
    }
}

fn healthy() -> [Report; 3] {
    [
        report(1, RoleName::Master, 1),
        report(2, RoleName::InSync, 1),
        report(3, RoleName::InSync, 1),
    ]
}

fn said(obstacle: Option<String>, sentence: &str) {
    let said = obstacle.unwrap_or_default();
    assert!(said.contains(sentence), "{said:?} is not {sentence:?}");
}

#[test]
fn what_stands_in_the_way_of_a_replica_is_said_in_words() {
    let (state, reports) = (serving(), healthy());
    assert_eq!(obstacle(&state, &reports, ReplicaId(2)), None);
    let unknown = obstacle(&state, &reports, ReplicaId(7));
    said(unknown, "replica 7 is not registered");
    let mut behind = state.clone();
    behind.in_sync.remove(&member(2));
    let slow = obstacle(&behind, &reports, ReplicaId(2));
    said(slow, "orders-0-1 is not in sync");
    let cordoned = state.cordoned(Proposal(5), ReplicaId(2), true);
    let cordoned = obstacle(&cordoned, &reports, ReplicaId(2));
    said(cordoned, "cordoned");
    let silent = obstacle(&state, &reports[..1], ReplicaId(2));
    said(silent, "does not answer");
    let halted = [report(2, RoleName::Halted, 1)];
    said(obstacle(&state, &halted, ReplicaId(2)), "has halted");
    let alone = [report(2, RoleName::Idle, 1)];
    said(
        obstacle(&state, &alone, ReplicaId(2)),
        "no link to the master",
    );
}

#[test]
fn what_stands_in_the_way_of_the_master_is_said_in_words() {
    let (state, reports) = (serving(), healthy());
    assert_eq!(master_obstacle(&state, &reports), None);
    said(
        master_obstacle(&state, &reports[1..]),
        "orders-0-0, does not answer",
    );
    let asked = state.handover_asked(Proposal(5), Some(ReplicaId(3)));
    said(
        master_obstacle(&asked, &reports),
        "handing over to orders-0-2 already",
    );
    let mut closed = state.clone();
    closed.activated = None;
    said(master_obstacle(&closed, &reports), "has not opened");
    closed.master = None;
    said(master_obstacle(&closed, &reports), "no master at present");
}

#[test]
fn successor_is_the_fit_replica_with_most_of_the_log() {
    let (state, mut reports) = (serving(), healthy());
    assert_eq!(successor(&state, &reports, |_| true), Some(ReplicaId(2)));
    reports[2].log_end = PhysicalOffset(101);
    assert_eq!(successor(&state, &reports, |_| true), Some(ReplicaId(3)));
    let is_fit = |pod: &str| pod == "orders-0-1";
    assert_eq!(successor(&state, &reports, is_fit), Some(ReplicaId(2)));
    assert_eq!(successor(&state, &reports[..1], |_| true), None);
}

#[test]
fn pod_that_came_back_with_another_disk_is_its_newest_replica() {
    let mut state = serving();
    let other = state.replicas[&ReplicaId(2)].clone();
    state.replicas.insert(ReplicaId(9), other);
    assert_eq!(replica_of(&state, "orders-0-1"), Some(ReplicaId(9)));
    assert_eq!(replica_of(&state, "orders-0-7"), None);
}

#[test]
fn pause_lasts_from_the_asking_until_the_successor_itself_says_that_it_is_open() {
    let state = serving();
    let asked = state.handover_asked(Proposal(5), Some(ReplicaId(2)));
    let handing = Handing {
        by: None,
        to: ReplicaId(2),
        at: state.epoch,
        version: asked.version,
        asked_ms: 1_000,
    };
    let reports = healthy();
    // A hint of the asking may be late.
    assert_eq!(handing.look(1_001, &state, &reports), Course::Going);
    assert_eq!(handing.look(1_002, &asked, &reports), Course::Going);
    let handed = asked.handed_over(Proposal(6), member(2));
    let opening = [report(2, RoleName::Activating, 2)];
    assert_eq!(handing.look(1_010, &handed, &opening), Course::Going);
    let open = [report(2, RoleName::Master, 2)];
    let opened = Course::Opened {
        epoch: Epoch(2),
        pause: Duration::from_millis(43),
    };
    for seen in [&handed, &asked] {
        assert_eq!(handing.look(1_043, seen, &open), opened);
    }
}

#[test]
fn handover_that_came_to_nothing_is_seen_as_that() {
    let state = serving();
    let asked = state.handover_asked(Proposal(5), Some(ReplicaId(2)));
    let handing = Handing {
        by: None,
        to: ReplicaId(2),
        at: state.epoch,
        version: asked.version,
        asked_ms: 0,
    };
    let reports = healthy();
    let back = asked.handover_asked(Proposal(6), None);
    assert_eq!(handing.look(2_010, &back, &reports), Course::TakenBack);
    let other = asked.handed_over(Proposal(6), member(3));
    assert_eq!(handing.look(2_010, &other, &reports), Course::Lost);
    assert_eq!(handing.look(LIMIT_MS, &asked, &reports), Course::Lost);
    // The former master ended meanwhile: an election is to come.
    let mut nobody = asked.following(Proposal(7));
    nobody.master = None;
    assert_eq!(handing.look(10, &nobody, &reports), Course::Going);
}
