//! How servers and clients stop.

use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::*;

#[tokio::test]
async fn a_stopping_server_answers_what_is_open_and_takes_nothing_new() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    peer.send(&request(KEEP, 1)).await;
    let reply = running.kept().await;
    running.cancel.cancel();
    running.tasks.close();
    let refused = async {
        while TcpStream::connect(running.server.local_addr())
            .await
            .is_ok()
        {}
    };
    timeout(PATIENCE, refused)
        .await
        .expect("the listener is closed");
    peer.send(&request(ECHO, 2)).await;
    assert!(!running.tasks.is_empty());
    reply.send(Command::response(ResponseCode::SUCCESS).with_body(body(3_000_000)));
    let answer = peer.answer().await;
    assert_eq!((answer.opaque, answer.body.len()), (1, 3_000_000));
    peer.assert_closed().await;
    timeout(PATIENCE, running.tasks.wait())
        .await
        .expect("all tasks end");
    assert_eq!(running.server.connections(), 0);
}

#[tokio::test]
async fn one_connection_that_drains_is_answered_and_closed_and_others_go_on() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let connection = running.opened().await;
    let mut other = running.connect().await;
    other.send(&request(ECHO, 1)).await;
    assert_eq!(other.answer().await.opaque, 1);
    peer.send(&request(KEEP, 2)).await;
    let reply = running.kept().await;
    connection.drain();
    peer.send(&request(ECHO, 3)).await;
    reply.send(Command::response(ResponseCode::SUCCESS).with_body(body(3_000_000)));
    let answer = peer.answer().await;
    assert_eq!((answer.opaque, answer.body.len()), (2, 3_000_000));
    peer.assert_closed().await;
    other.send(&request(ECHO, 4)).await;
    assert_eq!(other.answer().await.opaque, 4);
    running.assert_serves().await;
}

#[tokio::test]
async fn a_stopping_server_waits_no_longer_than_it_should() {
    let running = Running::with_limits(|limits| limits.drain_timeout = Duration::from_millis(30));
    let mut peer = running.connect().await;
    peer.send(&request(KEEP, 1)).await;
    let _never = running.kept().await;
    running.cancel.cancel();
    running.tasks.close();
    peer.assert_closed().await;
    timeout(PATIENCE, running.tasks.wait())
        .await
        .expect("all tasks end");
}

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    running.opened().await;
    running.cancel.cancel();
    running.tasks.close();
    peer.assert_closed().await;
    timeout(PATIENCE, running.tasks.wait())
        .await
        .expect("all tasks end");
}

#[tokio::test]
async fn a_closing_client_sends_what_waits() {
    let running = Running::start(|_| ());
    let client = Client::connect(
        &running.address(),
        ClientConfig::default(),
        Arc::new(NoRequests),
    )
    .await
    .unwrap();
    for _ in 0..100 {
        client
            .send_oneway(Command::request(ECHO).with_body(body(10_000)))
            .unwrap();
    }
    timeout(PATIENCE, client.close()).await.expect("it closes");
    running.closed().await;
    assert_eq!(running.stats().frames_in, 100);
}

#[tokio::test]
async fn a_dropped_client_is_gone() {
    let running = Running::start(|_| ());
    let client = Client::connect(
        &running.address(),
        ClientConfig::default(),
        Arc::new(NoRequests),
    )
    .await
    .unwrap();
    running.opened().await;
    drop(client);
    running.closed().await;
}
