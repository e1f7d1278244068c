//! What arrives together is served together and answered together.

use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::HeldWakes;

use crate::support::*;

#[tokio::test]
async fn the_frames_of_one_read_cost_one_read_and_one_write() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    running.opened().await;
    let mut bytes = Vec::new();
    for opaque in 0..100 {
        bytes.extend_from_slice(&encoded(&request(DEFER, opaque)));
    }
    let before = running.stats();
    peer.send_bytes(&bytes).await;
    for opaque in 0..100 {
        assert_eq!(peer.answer().await.opaque, opaque);
    }
    running.served().await;
    let after = running.stats();
    assert_eq!(after.frames_in - before.frames_in, 100);
    assert_eq!(after.reads - before.reads, 1);
    assert_eq!(after.writes - before.writes, 1);
    assert!(running.try_event().is_none(), "served was called once");
}

/// By order, not by time: both have sent all before the server's only thread gets to read.
#[tokio::test]
async fn who_asks_for_much_lets_who_asks_for_little_have_its_turn() {
    use std::io::Write as _;
    let running = Running::start(|_| ());
    let connect = || std::net::TcpStream::connect(running.server.local_addr()).unwrap();
    let (mut greedy, mut modest) = (connect(), connect());
    let modest_address = modest.local_addr().unwrap().to_string();
    let [_, _] = [running.opened().await, running.opened().await];
    let many = 2000;
    let mut bytes = Vec::new();
    for opaque in 0..many {
        bytes.extend_from_slice(&encoded(&request(KEEP, opaque)));
    }
    greedy.write_all(&bytes).unwrap();
    modest.write_all(&encoded(&request(KEEP, 1))).unwrap();
    let mut before = 0;
    while !format!("{:?}", running.kept().await).contains(&modest_address) {
        before += 1;
    }
    assert!(before <= 600, "{before} others were served first");
    for _ in before..many {
        running.kept().await;
    }
}

#[tokio::test]
async fn answers_that_are_given_together_from_elsewhere_leave_in_one_write() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let mut kept = Vec::new();
    for opaque in 0..50 {
        peer.send(&request(KEEP, opaque)).await;
        kept.push(running.kept().await);
    }
    let before = running.stats();
    let answering = std::thread::spawn(move || {
        let _held = HeldWakes::new();
        for reply in kept {
            let _inner = HeldWakes::new();
            reply.send(Command::response(ResponseCode::SUCCESS));
        }
    });
    for opaque in 0..50 {
        assert_eq!(peer.answer().await.opaque, opaque);
    }
    answering.join().unwrap();
    let after = running.stats();
    assert_eq!(after.frames_out - before.frames_out, 50);
    assert_eq!(after.writes - before.writes, 1);
}

#[tokio::test]
async fn a_request_may_be_served_where_it_lies() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let mut frame = vec![0, 0, 0, 16, 0, 0, 0, 8];
    frame.extend_from_slice(IN_PLACE);
    frame.extend_from_slice(b"body");
    // In pieces and with neighbours, so that it begins anywhere.
    let mut bytes = encoded(&request(ECHO, 1)).to_vec();
    for _ in 0..3 {
        bytes.extend_from_slice(&frame);
    }
    for piece in bytes.chunks(7) {
        peer.send_bytes(piece).await;
    }
    assert_eq!(peer.answer().await.opaque, 1);
    for _ in 0..3 {
        let answer = peer.answer().await;
        assert_eq!((answer.opaque, answer.remark.as_deref()), (9, Some("20")));
    }
}

#[tokio::test]
async fn small_frames_behind_a_large_one_are_served() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let mut bytes = Vec::new();
    for (opaque, size) in (0..).zip([10, 700_000, 0, 262_100, 262_144, 5, 1_000_000, 3]) {
        bytes.extend_from_slice(&encoded(&request(ECHO, opaque).with_body(body(size))));
    }
    let sizes = [10, 700_000, 0, 262_100, 262_144, 5, 1_000_000, 3];
    for piece in bytes.chunks(300_007) {
        peer.send_bytes(piece).await;
    }
    for (opaque, size) in (0..).zip(sizes) {
        let answer = peer.answer().await;
        assert_eq!((answer.opaque, answer.body.len()), (opaque, size));
    }
}

#[tokio::test]
async fn thousands_of_frames_in_one_read_are_all_served() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let mut bytes = Vec::new();
    let mut oneway = request(ECHO, 0);
    oneway.set_oneway();
    for _ in 0..5000 {
        bytes.extend_from_slice(&encoded(&oneway));
    }
    bytes.extend_from_slice(&encoded(&request(ECHO, 1)));
    peer.send_bytes(&bytes).await;
    assert_eq!(peer.answer().await.opaque, 1);
    assert_eq!(running.stats().frames_in, 5001);
}

/// The test has the runtime's only thread, so that no task of it runs meanwhile.
#[tokio::test]
async fn answers_that_are_given_together_leave_without_the_connections_task() {
    use std::io::{Read as _, Write as _};
    let running = Running::start(|_| ());
    let mut peer = std::net::TcpStream::connect(running.server.local_addr()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut kept = Vec::new();
    for opaque in 0..8 {
        peer.write_all(&encoded(&request(KEEP, opaque))).unwrap();
        kept.push(running.kept().await);
    }
    let mut expected = Vec::new();
    for opaque in 0..8 {
        let mut response = Command::response(ResponseCode::SUCCESS);
        response.set_response_to(opaque, request(KEEP, opaque).format);
        expected.extend_from_slice(&encoded(&response));
    }
    {
        let _held = HeldWakes::new();
        for reply in kept {
            reply.send(Command::response(ResponseCode::SUCCESS));
        }
    }
    let mut got = vec![0; expected.len()];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn what_a_full_socket_does_not_take_from_another_thread_follows_in_order() {
    const ANSWERS: i32 = 64;
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let mut kept = Vec::new();
    for opaque in 0..ANSWERS {
        peer.send(&request(KEEP, opaque)).await;
        kept.push(running.kept().await);
    }
    let answering = std::thread::spawn(move || {
        for reply in kept {
            let _held = HeldWakes::new();
            reply.send(Command::response(ResponseCode::SUCCESS).with_body(vec![7; 300_000]));
        }
    });
    for opaque in 0..ANSWERS {
        let answer = peer.answer().await;
        assert_eq!((answer.opaque, answer.body.len()), (opaque, 300_000));
    }
    answering.join().unwrap();
}
