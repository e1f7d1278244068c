//! Elections: written once, found again when the answer is lost, and told.

use rocket_replication::identity::Proposal;
use rocket_replication::memory::Fate;
use rocket_replication::replica::Flush;
use rocket_replication::{InForce, Replication};

use super::*;

#[tokio::test]
async fn lost_answer_of_an_election_is_found_and_told_once() {
    let mut stage = Stage::new();
    stage.front.script(Fate::AnswerLost);
    stage.look().await;
    let state = stage.state().await;
    assert_eq!(
        (state.epoch, state.master, state.version),
        (Epoch(2), Some(member(2)), Version(6))
    );
    assert_eq!(state.in_sync, [2, 3].map(member).into());
    let mut patches = stage.patches.lock().clone();
    patches.sort();
    let expected = [
        "orders-0-0 false",
        "orders-0-1 true",
        "orders-0-master \"10.0.0.2\" \"2\"",
    ];
    assert_eq!(patches, expected);
    // The elected one answers: nothing is left to do.
    stage.look().await;
    assert_eq!(stage.state().await, state);
    assert_eq!(stage.elected(), 1);
    stage.end().await;
}

/// A master that answered by itself may have taken messages with it, and only an event can say so: one for each election.
#[tokio::test]
async fn every_election_where_masters_answer_alone_is_a_warning_of_its_own() {
    let mut stage = Stage::new();
    let mut state = (*stage.state().await).clone();
    state.in_force = Some(InForce {
        flush: Flush::Async,
        replication: Replication::Async,
        since: Epoch(1),
        min_in_sync: 1,
    });
    stage.memory.replace(Some(state.clone()));
    stage.told[&2].lock().log_end = PhysicalOffset(700);
    stage.look().await;
    let elected = stage.state().await;
    assert_eq!(elected.master, Some(member(2)));
    let next = State {
        epoch: Epoch(3),
        ..(*elected).clone()
    };
    stage.elector.tell(&elected, &next).await;
    let events = stage.events.lock().clone();
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, epoch) in events.iter().zip([2, 3]) {
        assert!(event.starts_with("Warning "), "{event}");
        assert!(event.contains(&format!("in epoch {epoch};")), "{event}");
        assert!(
            event.contains("beyond physical offset 700 may be lost"),
            "{event}"
        );
    }
    // Where answers wait nothing can be lost.
    state.in_force = state.in_force.map(|said| InForce {
        replication: Replication::Sync,
        ..said
    });
    stage.elector.tell(&state, &elected).await;
    let event = stage.events.lock().last().cloned().unwrap();
    assert!(event.starts_with("Normal "), "{event}");
    assert!(!event.contains("lost"), "{event}");
    stage.end().await;
}

/// Labels, addresses and events can be written later, or by others: the next look cannot wait for them.
#[tokio::test]
async fn elector_waits_seconds_for_an_api_server_that_does_not_answer() {
    let mut stage = Stage::new();
    let state = stage.state().await;
    stage.elector.follow(&state).await;
    let next = State {
        epoch: Epoch(2),
        master: Some(member(2)),
        ..(*state).clone()
    };
    stage.is_mute.store(true, Ordering::Relaxed);
    tokio::time::pause();
    let begun = Instant::now();
    let telling = async {
        stage.elector.follow(&next).await;
        stage.elector.tell(&state, &next).await;
        stage.ask(Task::Discard).await
    };
    let telling = tokio::time::timeout(Duration::from_mins(10), telling).await;
    let took = begun.elapsed();
    tokio::time::resume();
    let said = telling.expect("it waits without end").unwrap_err();
    assert!(said.contains("did not answer"), "{said}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(stage.patches.lock().len(), 3, "it was tried");
    assert_eq!(stage.events.lock().len(), 1, "it was tried");
    stage.end().await;
}

#[tokio::test]
async fn election_that_arrives_late_lands_nowhere_when_another_was_written() {
    let mut stage = Stage::new();
    stage.front.script(Fate::Late);
    stage.look().await;
    assert_eq!((stage.state().await.epoch, stage.elected()), (Epoch(1), 0));
    assert!(
        stage.patches.lock().is_empty(),
        "no address moves on a hope"
    );
    stage.look().await;
    let state = stage.state().await;
    assert_eq!((state.epoch, stage.elected()), (Epoch(2), 1));
    stage.front.let_late_writes_arrive().await;
    assert_eq!(stage.state().await, state);
    stage.end().await;
}

#[tokio::test]
async fn nobody_is_elected_without_a_current_read() {
    let mut stage = Stage::new();
    stage.front.cut(true);
    stage.look().await;
    assert_eq!(stage.state().await.epoch, Epoch(1));
    stage.front.cut(false);
    stage.look().await;
    assert_eq!(stage.state().await.epoch, Epoch(2));
    stage.end().await;
}

#[tokio::test]
async fn record_that_went_back_is_told_and_left_alone() {
    let mut stage = Stage::new();
    let old = stage.state().await;
    stage.look().await;
    stage.memory.replace(Some((*old).clone()));
    stage.look().await;
    assert_eq!(
        stage.state().await,
        old,
        "nobody is elected on an old record"
    );
    let finding = stage.elector.post.finding.lock().clone();
    assert!(finding.is_some_and(|finding| finding.contains("older than what was seen of it")));
    assert_eq!(stage.elected(), 1);
    stage.end().await;
}

#[test]
fn among_equals_the_lowest_ordinal_comes_first() {
    let mut state = group(3);
    for (id, replica) in &mut state.replicas {
        replica.address = format!("orders-0-{}.test:1", 11 - id.0);
    }
    assert_eq!(by_ordinal(&state), [3, 2, 1].map(ReplicaId));
}

/// The record still names the dead master, and nobody writes another one.
#[tokio::test]
async fn who_alone_has_everything_is_named_when_it_stays_away() {
    let mut stage = Stage::new();
    let mut alone = stage.state().await.following(Proposal(77));
    alone.in_sync = [member(1)].into();
    alone.last_complete = [ReplicaId(1)].into();
    stage.memory.replace(Some(alone));
    let found = |stage: &Stage| stage.elector.post.finding.lock().clone();
    stage.look().await;
    assert_eq!(found(&stage), None, "it may be starting");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    stage.look().await;
    let said = found(&stage).unwrap();
    assert!(said.contains("one of orders-0-0 must answer"), "{said}");
    let state = stage.state().await;
    assert_eq!(state.epoch, Epoch(1));
    stage.elector.waits(&state, &[]);
    let said = found(&stage).unwrap();
    assert!(said.contains("none of its replicas answers"), "{said}");
    stage.end().await;
}

#[tokio::test]
async fn choice_of_a_person_is_carried_out_once_and_kept_in_the_record() {
    let mut stage = Stage::new();
    let force = || Task::Force {
        to: ReplicaId(3),
        at: Epoch(1),
        reason: "ada chose it".into(),
    };
    let said = stage.ask(force()).await.unwrap_err();
    assert!(said.contains("elected by itself"), "{said}");
    // The dead master alone had everything.
    let mut alone = stage.state().await.following(Proposal(77));
    alone.in_sync = [member(1)].into();
    alone.last_complete = [ReplicaId(1)].into();
    stage.memory.replace(Some(alone));
    stage.look().await;
    let state = stage.state().await;
    assert_eq!(state.epoch, Epoch(1), "nobody is elected by itself");
    let (done, answer) = oneshot::channel();
    drop(answer);
    let task = force();
    stage.elector.obey(Order { task, done }).await;
    let epoch = stage.state().await.epoch;
    assert_eq!(epoch, Epoch(1), "nobody waits for it any more");
    assert_eq!(stage.ask(force()).await, Ok(()));
    let state = stage.state().await;
    assert_eq!((state.epoch, state.master), (Epoch(2), Some(member(3))));
    assert_eq!(state.unclean[0].reason, "ada chose it");
    assert!(state.replicas[&ReplicaId(1)].lost && !state.replicas[&ReplicaId(2)].lost);
    let metrics = Arc::clone(&stage.elector.post.context.metrics);
    assert_eq!(metrics.elections(ElectionKind::Unclean), 1);
    let said = stage.ask(force()).await.unwrap_err();
    assert!(said.contains("was made for epoch 1"), "{said}");
    stage.end().await;
}
