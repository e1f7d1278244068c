use std::sync::Arc;
use std::time::Duration;

use super::{World, group::members};
use crate::crew::Alarm;
use crate::gate::Gate;
use crate::registration::{Plan, Registration};
use crate::serving::Stage;

fn stage(world: &World) -> Stage {
    let plan = Plan {
        targets: Vec::new(),
        period: Duration::from_mins(1),
        timeout: Duration::from_mins(1),
    };
    let registration = Registration::new(Alarm::new(|what| panic!("{what}")));
    let deps = world.processor.deps.clone();
    Stage::new(deps, Arc::new(Gate::default()), registration, plan)
}

/// A heartbeat may come to its end behind that of the mastership in which it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_mastership_that_is_over_are_none_of_the_next_one() {
    let world = World::new().await;
    let stage = stage(&world);
    stage.enter(1);
    stage.leave().await;
    let client = world.client().await;
    client.heartbeat("late", "g", "orders", "*").await;
    assert_eq!(members(&client).await, ["late"]);
    stage.enter(2);
    assert!(members(&client).await.is_empty());
    assert!(
        world
            .processor
            .deps
            .clients
            .subscription("g", "orders")
            .is_none()
    );
    stage.leave().await;
    world.stop().await;
}
