//! A replica of a group, as clients and administrators see its metadata.

use std::sync::Arc;

use rocket_protocol::name::system_topic;
use rocket_protocol::{Command, QueueId, RequestCode, ResponseCode, TopicName, UnixMillis};

use super::offset::committed;
use super::{PATIENCE, START, World, pull_request};

pub(super) async fn lead(world: &World) {
    let metadata = Arc::clone(&world.processor.deps.metadata);
    let led = tokio::task::spawn_blocking(move || metadata.lead(UnixMillis(START), PATIENCE));
    led.await.unwrap().unwrap();
}

fn delete(topic: &str) -> Command {
    Command::request(RequestCode::DELETE_TOPIC_IN_BROKER).with_ext("topic", topic.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_lead_makes_nothing_and_clients_may_go_elsewhere() {
    let world = World::replica().await;
    let client = world.client().await;
    let sent = client.send("orders", 0, "x", "").await;
    assert_eq!(sent.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);
    assert!(!world.processor.deps.metadata.topics.contains("orders"));
    lead(&world).await;
    client.send_ok("orders", 0, "x", "").await;
    assert!(world.processor.deps.metadata.topics.contains("orders"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topic_of_changes_is_nobodys() {
    let world = World::replica().await;
    lead(&world).await;
    let client = world.client().await;
    let sent = client.send(system_topic::METADATA, 0, "x", "").await;
    assert_eq!(sent.response_code(), ResponseCode::NO_PERMISSION);
    let pull = pull_request(system_topic::METADATA, 0, 0, 4);
    client.expect(pull, ResponseCode::TOPIC_NOT_EXIST).await;
    client
        .expect(
            delete(system_topic::METADATA),
            ResponseCode::INVALID_PARAMETER,
        )
        .await;
    let names = world.processor.deps.metadata.topics.names();
    assert!(
        names
            .iter()
            .all(|name| name.as_str() != system_topic::METADATA)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_is_empty_and_made_again_goes_on() {
    let world = World::replica().await;
    lead(&world).await;
    let client = world.client().await;
    client.send_ok("orders", 0, "a", "").await;
    client.send_ok("orders", 0, "b", "").await;
    client.expect(delete("orders"), ResponseCode::SUCCESS).await;
    let clean = Command::request(RequestCode::CLEAN_UNUSED_TOPIC);
    client.expect(clean, ResponseCode::SUCCESS).await;
    let sent = client.send_ok("orders", 0, "c", "").await;
    assert_eq!(sent.queue_offset, 2);
    let topic = TopicName::parse("orders").unwrap();
    let range = world.store.queue_range(&topic, QueueId(0)).unwrap();
    assert_eq!((range.min.0, range.max.0), (2, 3));
    assert_eq!(client.pull("orders", 0, 2).await.bodies, ["c"]);
    // What was sent before the first consumer came is not passed over.
    assert_eq!(committed(&client, None).await, Some(2));
    world.stop().await;
}
