use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{
    Client, ClientConfig, Connection, NoRequests, Processor, RawRequest, Reply, Server,
    ServerConfig,
};
use rocket_replication::replica::Writes;

use super::replica::lead;
use super::{BrokerProcessor, PATIENCE, World, group::members, send_request, until};
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

/// Has `processor` serve a port beside the world's own.
fn serve(world: &World, processor: Arc<dyn Processor>) -> String {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (config, stop) = (ServerConfig::default(), world.stop.clone());
    let server = Server::bind(anywhere, config, processor, &world.tasks, stop);
    server.unwrap().local_addr().to_string()
}

/// Counts what is not served in place.
struct Decoding(Arc<BrokerProcessor>, Arc<AtomicUsize>);

impl Processor for Decoding {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.process(connection, request, reply);
    }

    fn process_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        self.0.process_in_place(request)
    }
}

/// Nothing would come of a second try where the store itself takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_is_tried_again_for_the_role_and_for_no_other_reason() {
    let world = World::new().await;
    let decoded = Arc::new(AtomicUsize::new(0));
    let counting = Decoding(Arc::clone(&world.processor), Arc::clone(&decoded));
    let address = serve(&world, Arc::new(counting));
    let client = Client::connect(&address, ClientConfig::default(), Arc::new(NoRequests));
    let client = client.await.unwrap();
    let refused = async || {
        let send = client.call(send_request("orders", 0, "body", ""), PATIENCE);
        let code = send.await.unwrap().response_code();
        assert_eq!(code, ResponseCode::SERVICE_NOT_AVAILABLE);
    };
    world.doors.are_closed.store(true, Ordering::SeqCst);
    refused().await;
    assert_eq!(decoded.load(Ordering::SeqCst), 1);
    world.doors.are_closed.store(false, Ordering::SeqCst);
    world.store.close().unwrap();
    refused().await;
    assert_eq!(decoded.load(Ordering::SeqCst), 1);
    client.close().await;
    world.stop().await;
}

/// The replica begins to hand over when the gate has let the send in and the store has not taken it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_that_is_overtaken_by_a_handover_waits_like_one_that_comes_behind_it() {
    is_overtaken_by_a_handover(World::new().await).await;
}

/// What is refused is the change that makes its topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_send_of_a_topic_that_is_overtaken_by_a_handover_waits_too() {
    let world = World::replica().await;
    lead(&world).await;
    is_overtaken_by_a_handover(world).await;
}

async fn is_overtaken_by_a_handover(world: World) {
    let gate = Arc::new(Gate::default());
    let looks = Arc::new(AtomicUsize::new(0));
    let (looked, doors) = (Arc::clone(&looks), Arc::clone(&world.doors));
    gate.keep_waiting(move || match looked.fetch_add(1, Ordering::SeqCst) {
        0 => Writes::Open,
        _ if doors.are_closed.load(Ordering::SeqCst) => Writes::Busy,
        _ => Writes::Open,
    });
    gate.serve(Arc::clone(&world.processor) as _);
    let address = serve(&world, Arc::clone(&gate) as _);
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
