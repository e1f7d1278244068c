use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket_protocol::ResponseCode;
use rocket_remoting::{Client, ClientConfig, NoRequests, Server, ServerConfig};
use rocket_replication::replica::Writes;

use super::{PATIENCE, World, group::members, send_request, until};
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

/// The replica begins to hand over when the gate has let the send in and the store has not taken it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_that_is_overtaken_by_a_handover_waits_like_one_that_comes_behind_it() {
    let world = World::new().await;
    let gate = Arc::new(Gate::default());
    let looks = Arc::new(AtomicUsize::new(0));
    let (looked, doors) = (Arc::clone(&looks), Arc::clone(&world.doors));
    gate.keep_waiting(move || match looked.fetch_add(1, Ordering::SeqCst) {
        0 => Writes::Open,
        _ if doors.are_closed.load(Ordering::SeqCst) => Writes::Busy,
        _ => Writes::Open,
    });
    gate.serve(Arc::clone(&world.processor) as _);
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (config, stop) = (ServerConfig::default(), world.stop.clone());
    let server = Server::bind(anywhere, config, Arc::clone(&gate) as _, &world.tasks, stop);
    let address = server.unwrap().local_addr().to_string();
    world
        .tasks
        .spawn(Arc::clone(&gate).usher(world.stop.clone()));
    let client = Client::connect(&address, ClientConfig::default(), Arc::new(NoRequests));
    let client = client.await.unwrap();
    world.doors.are_closed.store(true, Ordering::SeqCst);
    let opening = async {
        until(|| looks.load(Ordering::SeqCst) > 2).await;
        world.doors.are_closed.store(false, Ordering::SeqCst);
    };
    let send = client.call(send_request("orders", 0, "body", ""), PATIENCE);
    let (answer, ()) = tokio::join!(send, opening);
    let answer = answer.unwrap();
    let code = answer.response_code();
    assert_eq!(code, ResponseCode::SUCCESS, "{:?}", answer.remark);
    client.close().await;
    world.stop().await;
}
