//! Planned handovers: asked for by the record, seen through to the opening, and told.

use rocket_replication::identity::Proposal;

use super::*;
use crate::elections::judge::Round;

fn hand_over(to: u32) -> Task {
    Task::HandOver {
        to: ReplicaId(to),
        at: Epoch(1),
        by: Some("r".into()),
    }
}

#[tokio::test]
async fn handover_is_asked_by_the_record_and_seen_through_to_the_opening() {
    let mut stage = Stage::serving().await;
    stage.look().await;
    assert_eq!(stage.ask(hand_over(3)).await, Ok(()));
    let asked = stage.state().await;
    assert_eq!(asked.handover, Some(ReplicaId(3)));
    stage.look().await;
    assert_eq!(stage.handed(), None);
    let handed = asked.handed_over(Proposal(77), member(3));
    stage.memory.replace(Some(handed));
    stage.is(1, RoleName::InSync, Epoch(2));
    stage.is(3, RoleName::Activating, Epoch(2));
    stage.look().await;
    assert_eq!(stage.handed(), None, "it has not opened");
    stage.is(3, RoleName::Master, Epoch(2));
    stage.look().await;
    let opened = stage.handed();
    assert!(
        matches!(
            opened,
            Some(Course::Opened {
                epoch: Epoch(2),
                ..
            })
        ),
        "{opened:?}"
    );
    let metrics = Arc::clone(&stage.elector.post.context.metrics);
    assert_eq!(metrics.write_pause_seconds.get_sample_count(), 1);
    stage.look().await;
    assert_eq!(metrics.write_pause_seconds.get_sample_count(), 1);
    assert_eq!(stage.elected(), 0, "nobody was elected");
    stage.end().await;
}

#[tokio::test]
async fn handover_that_cannot_come_about_is_not_asked() {
    let mut stage = Stage::serving().await;
    let before = stage.state().await;
    stage.is(3, RoleName::Halted, Epoch(1));
    let said = stage.ask(hand_over(3)).await.unwrap_err();
    assert!(said.contains("orders-0-2 has halted"), "{said}");
    let late = Task::HandOver {
        to: ReplicaId(2),
        at: Epoch(7),
        by: None,
    };
    let said = stage.ask(late).await.unwrap_err();
    assert!(said.contains("in epoch 1 by now"), "{said}");
    assert_eq!(stage.state().await, before);
    stage.end().await;
}

/// A rolling update asks again soon when nothing came of its asking, and not while the master may be at it.
#[tokio::test]
async fn rolling_update_may_ask_again_unless_the_master_was_asked() {
    let mut stage = Stage::serving().await;
    let context = Arc::clone(&stage.elector.post.context);
    let (namespace, group) = {
        let post = &stage.elector.post;
        (post.namespace.clone(), post.group.clone())
    };
    let may = || context.elections.may_hand_over(&namespace, &group);
    let to = |to| Task::HandOver {
        to: ReplicaId(to),
        at: Epoch(1),
        by: None,
    };
    stage.is(3, RoleName::Halted, Epoch(1));
    assert!(stage.ask(to(3)).await.is_err());
    assert!(may());
    assert!(stage.events.lock().is_empty(), "it was not asked");
    assert_eq!(stage.ask(to(2)).await, Ok(()));
    assert!(!may());
    let told = stage.events.lock().clone();
    assert!(
        matches!(&told[..], [one] if one.contains("so that its pod can be replaced")),
        "{told:?}"
    );
    stage.end().await;
}

/// A later one to the same pod has another epoch and another pause.
#[tokio::test]
async fn every_handover_is_an_event_of_its_own() {
    let mut stage = Stage::serving().await;
    let state = stage.state().await;
    for epoch in [2, 3] {
        stage.elector.handing = Some(Handing {
            by: None,
            to: ReplicaId(3),
            at: Epoch(epoch - 1),
            version: state.version,
            asked_ms: 0,
        });
        stage.is(3, RoleName::Master, Epoch(epoch));
        let round = Round {
            reports: vec![*stage.told[&3].lock()],
            ..Round::default()
        };
        stage.elector.note(&state, &round).await;
    }
    let events = stage.events.lock().clone();
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, epoch) in events.iter().zip([2, 3]) {
        let told = format!("orders-0-2 took over in epoch {epoch} by a planned handover");
        assert!(event.contains(&told), "{event}");
    }
    stage.end().await;
}

#[tokio::test]
async fn handover_that_the_master_took_back_is_noted() {
    let mut stage = Stage::serving().await;
    assert_eq!(stage.ask(hand_over(2)).await, Ok(()));
    let asked = stage.state().await;
    let back = asked.handover_asked(Proposal(77), None);
    stage.memory.replace(Some(back));
    stage.look().await;
    assert_eq!(stage.handed(), Some(Course::TakenBack));
    let metrics = Arc::clone(&stage.elector.post.context.metrics);
    assert_eq!(metrics.write_pause_seconds.get_sample_count(), 0);
    stage.end().await;
}
