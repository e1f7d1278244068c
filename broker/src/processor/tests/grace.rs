//! What the members of groups meet that were here before the broker was: a new master, or one that was started again.

use std::time::Duration;

use rocket_protocol::body::ConsumerList;
use rocket_protocol::header::ConsumerGroupHeader;
use rocket_protocol::{Command, Language, RequestCode, ResponseCode};
use rocket_remoting::ServerConfig;

use super::{Listener, PATIENCE, Peer, Pulled, World, next, pull_header, pull_request};
use crate::clients::grace::GRACE_MS;

/// A broker that knows the group `g` and two messages of the topic `orders`, and no client.
async fn started_again() -> World {
    let world = World::new().await;
    let client = world.client().await;
    client.send_ok("orders", 0, "one", "TAGS\u{1}a\u{2}").await;
    client.send_ok("orders", 0, "two", "TAGS\u{1}b\u{2}").await;
    client.heartbeat("before", "g", "orders", "b").await;
    // It has the store open too.
    drop(client);
    World::on(world.stop().await, ServerConfig::default(), &[]).await
}

const LAST: Duration = Duration::from_millis(GRACE_MS.unsigned_abs() - 1);

fn list(group: &str) -> Command {
    let header = ConsumerGroupHeader {
        consumer_group: group.to_owned().into(),
    };
    Command::request(RequestCode::GET_CONSUMER_LIST_BY_GROUP).with_header(&header)
}

async fn members(client: &Peer, group: &str) -> Vec<String> {
    let response = client.expect(list(group), ResponseCode::SUCCESS).await;
    let body = response.body.contiguous();
    let mut ids = ConsumerList::parse(&body).unwrap().consumer_id_list;
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_listed_and_told_of_each_other_when_all_can_have_come() {
    let world = started_again().await;
    let (listener, mut notices) = Listener::new();
    let first = world.client_with(listener).await;
    first.heartbeat("c1", "g", "orders", "b").await;
    first.expect(list("g"), ResponseCode::SYSTEM_ERROR).await;
    world.advance(LAST);
    let second = world.client().await;
    second.heartbeat("c2", "g", "orders", "b").await;
    let refused = first.expect(list("g"), ResponseCode::SYSTEM_ERROR).await;
    let remark = refused.remark.unwrap();
    assert!(remark.contains("Keep your queues"), "{remark}");
    // It would have come before this answer.
    assert!(notices.try_recv().is_err());

    world.advance(Duration::from_millis(1));
    assert_eq!(members(&first, "g").await, ["c1", "c2"]);
    let third = world.client().await;
    third.heartbeat("c3", "g", "orders", "b").await;
    let notice = next(&mut notices).await;
    assert_eq!(notice.ext.get("consumerGroup"), Some("g"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_that_is_new_waits_for_nobody() {
    let world = started_again().await;
    let (listener, mut notices) = Listener::new();
    let client = world.client_with(listener).await;
    client.heartbeat("c1", "fresh", "orders", "*").await;
    let notice = next(&mut notices).await;
    assert_eq!(notice.ext.get("consumerGroup"), Some("fresh"));
    assert_eq!(members(&client, "fresh").await, ["c1"]);
    world.stop().await;
}

/// client-go takes every answer for a list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_would_misread_a_refusal_is_not_answered() {
    let world = started_again().await;
    let client = world.client().await;
    client.heartbeat("c1", "g", "orders", "b").await;
    let of_go = || {
        let mut request = list("g");
        request.language = Language::GO;
        request
    };
    // Answers of a connection leave in the order of its requests where nothing waits.
    tokio::select! {
        biased;
        answer = client.0.call(of_go(), PATIENCE) => panic!("{answer:?}"),
        later = client.0.call(list("g"), PATIENCE) => {
            assert_eq!(later.unwrap().response_code(), ResponseCode::SYSTEM_ERROR);
        }
    }
    world.advance(LAST + Duration::from_millis(1));
    client.expect(of_go(), ResponseCode::SUCCESS).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_of_clients_that_filter_again_are_served_before_their_heartbeat() {
    let world = started_again().await;
    let client = world.client().await;
    let bare = || pull_request("orders", 0, 0, 0);
    let of = |language| {
        let mut request = bare();
        request.language = language;
        request
    };
    for language in [Language::JAVA, Language::GO, Language::CPP] {
        let pulled = Pulled::of(&client.call(of(language)).await);
        assert_eq!(pulled.bodies, ["one", "two"], "{language}");
    }
    let not_known = ResponseCode::SUBSCRIPTION_NOT_EXIST;
    client.expect(of(Language::DOTNET), not_known).await;
    // Nor does any client compare an expression of another kind.
    let mut sql = pull_header("orders", 0, 0, 0);
    sql.expression_type = Some("SQL92".into());
    let sql = Command::request(RequestCode::PULL_MESSAGE).with_header(&sql);
    client.expect(sql, not_known).await;

    // A member came whose subscription is older.
    client.heartbeat("c1", "g", "orders", "b").await;
    assert_eq!(Pulled::of(&client.call(bare()).await).bodies, ["two"]);
    let mut newer = pull_header("orders", 0, 0, 0);
    newer.sub_version = 2;
    let newer = || Command::request(RequestCode::PULL_MESSAGE).with_header(&newer);
    let pulled = Pulled::of(&client.call(newer()).await);
    assert_eq!(pulled.bodies, ["one", "two"]);

    world.advance(LAST + Duration::from_millis(1));
    let not_latest = ResponseCode::SUBSCRIPTION_NOT_LATEST;
    client.expect(newer(), not_latest).await;
    world.stop().await;
}
