//! Requests and answers in both directions.

use std::time::Duration;

use rocket_protocol::{Command, HeaderFormat, RequestCode, ResponseCode};
use rocket_remoting::{CallError, Client, ClientConfig, ConnectError, NoRequests, SendError};

use crate::support::*;

async fn client(running: &Running) -> Client {
    Client::connect(
        &running.address(),
        ClientConfig::default(),
        std::sync::Arc::new(NoRequests),
    )
    .await
    .unwrap()
}

#[tokio::test]
async fn a_thousand_pipelined_requests_are_answered_in_few_writes() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let mut bytes = bytes::BytesMut::new();
    for opaque in 0..1000 {
        bytes.extend_from_slice(&encoded(&request(ECHO, opaque).with_body(body(64))));
    }
    peer.send_bytes(&bytes).await;
    for opaque in 0..1000 {
        let answer = peer.answer().await;
        assert_eq!(
            (answer.opaque, answer.is_response(), answer.body.len()),
            (opaque, true, 64)
        );
    }
    let stats = running.stats();
    assert_eq!((stats.frames_in, stats.frames_out), (1000, 1000));
    assert!(stats.writes < 200, "{} writes", stats.writes);
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let running = Running::start(|_| ());
    let client = client(&running).await;
    let patience = PATIENCE;
    let late = client.call(Command::request(KEEP), patience);
    let early = async {
        let kept = running.kept().await;
        let echo = client
            .call(Command::request(ECHO).with_body(body(3)), patience)
            .await
            .unwrap();
        assert_eq!(echo.body.len(), 3);
        kept.send(Command::response(ResponseCode::SUCCESS).with_remark("late"));
    };
    let (late, ()) = tokio::join!(late, early);
    assert_eq!(late.unwrap().remark.as_deref(), Some("late"));
}

#[tokio::test]
async fn oneway_requests_are_never_answered() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    for code in [ECHO, DROP, RequestCode(99)] {
        let mut oneway = request(code, 1);
        oneway.set_oneway();
        peer.send(&oneway).await;
    }
    peer.send(&request(ECHO, 2)).await;
    assert_eq!(peer.answer().await.opaque, 2);
    assert_eq!(running.stats().frames_out, 1);
}

#[tokio::test]
async fn a_dropped_reply_is_a_system_error() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    peer.send(&request(DROP, 1)).await;
    assert_eq!(
        peer.answer().await.response_code(),
        ResponseCode::SYSTEM_ERROR
    );
}

#[tokio::test]
async fn answers_have_the_header_format_of_their_request() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    for format in [HeaderFormat::Compact, HeaderFormat::Json] {
        let mut request = request(ECHO, 1);
        request.format = format;
        peer.send(&request).await;
        assert_eq!(peer.answer().await.format, format);
    }
}

#[tokio::test]
async fn an_answer_after_the_peer_left_is_forgotten() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    peer.send(&request(KEEP, 1)).await;
    let reply = running.kept().await;
    drop(peer);
    running.closed().await;
    assert!(!reply.is_open());
    reply.send(Command::response(ResponseCode::SUCCESS));
    running.assert_serves().await;
}

#[tokio::test]
async fn a_server_calls_its_client_on_the_same_connection() {
    let running = Running::start(|_| ());
    let (probe, _events) = Probe::new();
    let client = Client::connect(&running.address(), ClientConfig::default(), probe)
        .await
        .unwrap();
    let connection = running.opened().await;
    let (answer, echo) = tokio::join!(
        connection.call(Command::request(ECHO).with_body(body(9)), PATIENCE),
        client.call(Command::request(ECHO).with_body(body(5)), PATIENCE),
    );
    assert_eq!(
        (answer.unwrap().body.len(), echo.unwrap().body.len()),
        (9, 5)
    );
    connection.send_oneway(Command::request(ECHO)).unwrap();
    assert_eq!(client.connection().peer(), running.server.local_addr());
    assert_eq!(connection.peer(), client.connection().local());
}

#[tokio::test]
async fn a_client_that_serves_nothing_says_so() {
    let running = Running::start(|_| ());
    let _client = client(&running).await;
    let connection = running.opened().await;
    let answer = connection
        .call(Command::request(ECHO), PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        answer.response_code(),
        ResponseCode::REQUEST_CODE_NOT_SUPPORTED
    );
}

#[tokio::test]
async fn a_call_ends_when_the_connection_does() {
    let running = Running::start(|_| ());
    let client = client(&running).await;
    let connection = running.opened().await;
    let call = client.call(Command::request(KEEP), PATIENCE);
    let close = async {
        let kept = running.kept().await;
        connection.close();
        kept
    };
    let (ended, _kept) = tokio::join!(call, close);
    assert_eq!(ended.unwrap_err(), CallError::Closed);
    assert!(!client.is_open());
    assert_eq!(
        client.send_oneway(Command::request(ECHO)),
        Err(SendError::Closed)
    );
    let after = client.call(Command::request(ECHO), PATIENCE).await;
    assert_eq!(after.unwrap_err(), CallError::NotSent(SendError::Closed));
}

#[tokio::test]
async fn a_call_ends_at_its_time_and_a_late_answer_harms_nobody() {
    let running = Running::start(|_| ());
    let client = client(&running).await;
    let patience = Duration::from_millis(30);
    let ended = client.call(Command::request(KEEP), patience).await;
    assert_eq!(ended.unwrap_err(), CallError::Timeout(patience));
    running
        .kept()
        .await
        .send(Command::response(ResponseCode::SUCCESS).with_remark("late"));
    let next = client.call(Command::request(ECHO), PATIENCE).await.unwrap();
    assert_eq!(next.remark, None);
}

#[tokio::test]
async fn open_calls_are_bounded() {
    let running = Running::start(|_| ());
    let mut config = ClientConfig::default();
    config.limits.inflight_max = 1;
    let client = Client::connect(&running.address(), config, std::sync::Arc::new(NoRequests))
        .await
        .unwrap();
    let first = client.call(Command::request(KEEP), PATIENCE);
    let second = async {
        let kept = running.kept().await;
        let refused = client.call(Command::request(ECHO), PATIENCE).await;
        assert_eq!(refused.unwrap_err(), CallError::TooManyCalls);
        drop(kept);
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.unwrap().response_code(), ResponseCode::SYSTEM_ERROR);
    client.call(Command::request(ECHO), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_an_error_that_names_the_address() {
    // Held, so that nobody else listens there meanwhile.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = held.local_addr().unwrap().to_string();
    let refused = Client::connect(
        &free,
        ClientConfig::default(),
        std::sync::Arc::new(NoRequests),
    )
    .await;
    match refused {
        Err(ConnectError::Io { address, .. }) => assert_eq!(address, free),
        other => panic!("{other:?}"),
    }
}
