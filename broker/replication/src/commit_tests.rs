use super::*;
use crate::identity::Incarnation;

const fn at(offset: u64) -> PhysicalOffset {
    PhysicalOffset(offset)
}

fn member(id: u32) -> Member {
    incarnated(id, u128::from(id))
}

fn incarnated(id: u32, incarnation: u128) -> Member {
    Member {
        replica_id: ReplicaId(id),
        incarnation: Incarnation(incarnation),
    }
}

fn quorum(ids: &[u32], min_in_sync: u8) -> Quorum {
    Quorum {
        members: ids.iter().map(|id| member(*id)).collect(),
        min_in_sync,
    }
}

fn master(possible: &[Quorum]) -> Commit {
    let mut commit = Commit::new(member(1), at(0));
    commit.set_possible(possible.to_vec());
    commit
}

#[test]
fn only_copy_commits_what_counts_here() {
    let mut commit = Commit::alone(member(1), at(0));
    assert_eq!(commit.advance(at(10)), Some(at(10)));
    assert_eq!(commit.advance(at(10)), None);
}

#[test]
fn nothing_commits_before_a_set_is_known() {
    assert_eq!(Commit::new(member(1), at(0)).advance(at(10)), None);
}

#[test]
fn confirm_waits_for_the_slowest_member_of_the_set() {
    let mut commit = master(&[quorum(&[1, 2, 3], 2)]);
    commit.link_opened(LinkId(2), member(2));
    commit.link_opened(LinkId(3), member(3));
    commit.acked(LinkId(2), at(8), at(10)).unwrap();
    commit.acked(LinkId(3), at(5), at(10)).unwrap();
    assert_eq!(commit.advance(at(10)), Some(at(5)));
}

/// Hole 2 of the list of known ones: a set member with a link that has not acknowledged yet was skipped.
#[test]
fn fresh_link_of_a_member_holds_confirm() {
    let mut commit = master(&[quorum(&[1, 2], 1)]);
    commit.link_opened(LinkId(2), member(2));
    assert_eq!(commit.advance(at(10)), None);
}

#[test]
fn member_without_a_link_holds_confirm() {
    let mut commit = master(&[quorum(&[1, 2], 1)]);
    commit.link_opened(LinkId(2), member(2));
    commit.acked(LinkId(2), at(5), at(10)).unwrap();
    commit.link_closed(LinkId(2));
    assert_eq!(commit.advance(at(10)), None);
}

/// N1: the same replica after a restart is another member.
#[test]
fn acknowledgement_of_another_incarnation_does_not_count() {
    let mut commit = master(&[quorum(&[1, 2], 1)]);
    commit.link_opened(LinkId(2), incarnated(2, 22));
    commit.acked(LinkId(2), at(10), at(10)).unwrap();
    assert_eq!(commit.advance(at(10)), None);
}

/// Hole 9: links that are not in the set do not complete an acknowledgement.
#[test]
fn learner_does_not_stand_in_for_a_member() {
    let mut commit = master(&[quorum(&[1, 2], 2)]);
    commit.link_opened(LinkId(3), member(3));
    commit.acked(LinkId(3), at(10), at(10)).unwrap();
    assert_eq!(commit.advance(at(10)), None);
}

/// Hole 1: a set that is being grown binds from the moment that the proposal is sent.
#[test]
fn growing_set_binds_while_its_write_is_open() {
    let mut commit = master(&[quorum(&[1], 1), quorum(&[1, 2], 1)]);
    commit.link_opened(LinkId(2), member(2));
    commit.acked(LinkId(2), at(4), at(10)).unwrap();
    assert_eq!(commit.advance(at(10)), Some(at(4)));
}

#[test]
fn shrinking_set_relieves_only_when_alone() {
    let mut commit = master(&[quorum(&[1, 2], 1), quorum(&[1], 1)]);
    assert_eq!(commit.advance(at(10)), None);
    commit.set_possible([quorum(&[1], 1)]);
    assert_eq!(commit.advance(at(10)), Some(at(10)));
}

/// Hole 10: too small a set commits nothing, however it came to be so.
#[test]
fn set_smaller_than_min_in_sync_commits_nothing() {
    let mut commit = master(&[quorum(&[1], 2)]);
    assert!(!commit.is_enough());
    assert_eq!(commit.advance(at(10)), None);
}

#[test]
fn older_link_of_a_replica_is_dropped_with_what_it_acknowledged() {
    let mut commit = master(&[quorum(&[1, 2], 1)]);
    commit.link_opened(LinkId(2), member(2));
    commit.acked(LinkId(2), at(10), at(10)).unwrap();
    assert_eq!(commit.link_opened(LinkId(5), member(2)), [LinkId(2)]);
    assert_eq!(commit.advance(at(10)), None);
    assert_eq!(
        commit.acked(LinkId(2), at(10), at(10)),
        Err(AckError::UnknownLink)
    );
}

/// Hole 6: an offset that nobody can have is not believed.
#[test]
fn impossible_acknowledgements_are_refused() {
    let mut commit = master(&[quorum(&[1, 2], 1)]);
    commit.link_opened(LinkId(2), member(2));
    let beyond = commit.acked(LinkId(2), at(11), at(10));
    assert_eq!(
        beyond,
        Err(AckError::Beyond {
            offset: at(11),
            end: at(10)
        })
    );
    commit.acked(LinkId(2), at(6), at(10)).unwrap();
    let fell = commit.acked(LinkId(2), at(5), at(10));
    assert_eq!(
        fell,
        Err(AckError::Fell {
            offset: at(5),
            previous: at(6)
        })
    );
}

#[test]
fn confirm_never_falls_when_the_set_grows_by_one_that_is_behind() {
    let mut commit = Commit::alone(member(1), at(0));
    commit.advance(at(10));
    commit.set_possible([quorum(&[1], 1), quorum(&[1, 2], 1)]);
    commit.link_opened(LinkId(2), member(2));
    commit.acked(LinkId(2), at(3), at(12)).unwrap();
    assert_eq!(commit.advance(at(12)), None);
    assert_eq!(commit.confirm(), at(10));
}
