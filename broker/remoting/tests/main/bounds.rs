//! Each bound that a peer can break costs that peer its connection, or a refusal, and nobody else anything.

use std::time::Duration;

use bytes::BytesMut;
use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::TooManyParked;
use rstest::rstest;

use crate::support::*;

const SOON: Duration = Duration::from_millis(50);

#[rstest]
#[case::negative_length(&[0xff; 8])]
#[case::too_short(&[0, 0, 0, 3, 0, 0, 0, 0])]
#[case::giant(&[0x7f, 0xff, 0xff, 0xff])]
#[case::tls(&[0x16, 3, 1, 2, 0, 1])]
#[case::http(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")]
#[case::unknown_type(&[0, 0, 0, 4, 9, 0, 0, 0])]
#[case::header_beyond_frame(&[0, 0, 0, 5, 0, 0, 0, 2, b'{'])]
#[case::no_json(b"\0\0\0\x06\0\0\0\x02{]")]
#[case::compact_cut_off(&[0, 0, 0, 6, 1, 0, 0, 2, 0, 0])]
#[tokio::test]
async fn what_is_no_frame_closes_that_connection_only(#[case] bytes: &[u8]) {
    let running = Running::start(|_| ());
    let mut good = running.connect().await;
    let mut bad = running.connect().await;
    bad.send_bytes(bytes).await;
    bad.assert_closed().await;
    good.send(&request(ECHO, 5)).await;
    assert_eq!(good.answer().await.opaque, 5);
    assert_eq!(running.stats().bad_frames, 1);
}

#[tokio::test]
async fn a_whole_header_that_is_broken_is_answered_before_the_end() {
    let running = Running::start(|_| ());
    let header = br#"{"code":"x","opaque":42}"#;
    let mut frame = vec![0, 0, 0, 4 + 24, 0, 0, 0, 24];
    frame.extend_from_slice(header);
    let mut peer = running.connect().await;
    // What was asked before is answered, too.
    let mut bytes = encoded(&request(ECHO, 41));
    bytes.extend_from_slice(&frame);
    peer.send_bytes(&bytes).await;
    assert_eq!(peer.answer().await.opaque, 41);
    let answer = peer.answer().await;
    assert_eq!(
        (answer.opaque, answer.response_code(), answer.is_response()),
        (42, ResponseCode::SYSTEM_ERROR, true)
    );
    peer.assert_closed().await;
}

#[tokio::test]
async fn a_broken_oneway_request_is_not_answered() {
    let running = Running::start(|_| ());
    let header = br#"{"code":"x","opaque":42,"flag":2}"#;
    let mut frame = vec![0, 0, 0, 4 + 33, 0, 0, 0, 33];
    frame.extend_from_slice(header);
    let mut peer = running.connect().await;
    peer.send_bytes(&frame).await;
    peer.assert_closed().await;
}

/// Its requests are open already, so what they come to has to wait somewhere.
#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_at_the_bound() {
    let running = Running::with_limits(|limits| limits.outbound_bytes_max = 4 << 20);
    let mut peer = running.connect().await;
    let mut replies = Vec::new();
    for opaque in 0..100 {
        peer.send(&request(KEEP, opaque)).await;
        replies.push(running.kept().await);
    }
    // The kernel's buffers take some.
    for reply in replies {
        reply.send(Command::response(ResponseCode::SUCCESS).with_body(body(1_000_000)));
    }
    let closed = running.closed().await;
    assert!(!closed.is_open());
    assert_eq!(running.stats().slow_readers, 1);
    running.assert_serves().await;
}

/// As a consumer of hundreds of queues does after a failover: it asks for all at once, and each answer is large.
#[tokio::test]
async fn a_peer_that_asks_for_more_than_the_bound_gets_all_of_it() {
    let running = Running::with_limits(|limits| limits.outbound_bytes_max = 4 << 20);
    let mut peer = running.connect().await;
    let mut asked = BytesMut::new();
    for opaque in 0..100 {
        let large = request(LARGE, opaque).with_ext("bytes", "1000000");
        asked.extend_from_slice(&encoded(&large));
    }
    peer.send_bytes(&asked).await;
    // Until nothing goes on: what is asked for later has to wait for the reader.
    tokio::time::sleep(SOON).await;
    assert!(running.stats().frames_in < 100);
    for opaque in 0..100 {
        let answer = peer.answer().await;
        assert_eq!((answer.opaque, answer.body.len()), (opaque, 1_000_000));
    }
    assert_eq!(running.stats().slow_readers, 0);
}

#[tokio::test]
async fn one_answer_may_be_larger_than_the_bound() {
    let running = Running::with_limits(|limits| limits.outbound_bytes_max = 1000);
    let mut peer = running.connect().await;
    peer.send(&request(LARGE, 1).with_ext("bytes", "5000000"))
        .await;
    assert_eq!(peer.answer().await.body.len(), 5_000_000);
}

#[tokio::test]
async fn a_write_without_progress_ends_the_connection() {
    let running = Running::with_limits(|limits| limits.write_timeout = SOON);
    let mut peer = running.connect().await;
    peer.send(&request(LARGE, 1).with_ext("bytes", "60000000"))
        .await;
    running.closed().await;
    assert_eq!(running.stats().slow_readers, 1);
}

#[rstest]
#[case::length(&[0, 0, 0])]
#[case::header(&[0, 0, 1, 0, 0, 0, 0, 99, b'{'])]
#[tokio::test]
async fn half_a_frame_and_silence_end_the_connection(#[case] bytes: &[u8]) {
    let running = Running::with_limits(|limits| limits.frame_timeout = SOON);
    let mut peer = running.connect().await;
    // A whole frame before does not count for the half one.
    let mut all = encoded(&request(ECHO, 1));
    all.extend_from_slice(bytes);
    peer.send_bytes(&all).await;
    assert_eq!(peer.answer().await.opaque, 1);
    peer.assert_closed().await;
    running.assert_serves().await;
}

#[tokio::test]
async fn silence_ends_the_connection() {
    let running = Running::with_limits(|limits| limits.idle_timeout = SOON);
    let mut peer = running.connect().await;
    peer.assert_closed().await;
    running.closed().await;
    assert_eq!(running.server.connections(), 0);
}

#[tokio::test]
async fn a_frame_in_many_pieces_is_one_frame() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    let bytes = encoded(&request(ECHO, 1).with_body(body(3_000_000)));
    for piece in bytes.chunks(70_001) {
        peer.send_bytes(piece).await;
    }
    assert_eq!(peer.answer().await.body.len(), 3_000_000);
}

#[rstest]
#[case::when_it_is_whole(true)]
#[case::when_its_connection_ends(false)]
#[tokio::test]
async fn a_large_frame_waits_for_room_until_another_gives_it_back(#[case] ends_its_frame: bool) {
    let running = Running::start(|config| config.half_frame_bytes_max = 3 << 20);
    let large = encoded(&request(ECHO, 1).with_body(body(2 << 20)));
    let (front, back) = large.split_at(1 << 20);
    let mut first = running.connect().await;
    first.send_bytes(front).await;
    // More than a read brings: it has its room.
    running.until(|stats| stats.bytes_in >= 1 << 20).await;
    let mut second = running.connect().await;
    let sending = running.tasks.spawn(async move {
        second
            .send(&request(ECHO, 2).with_body(body(2 << 20)))
            .await;
        second
    });
    running.until(|stats| stats.frames_delayed == 1).await;
    running.assert_serves().await;
    assert_eq!(running.stats().frames_in, 1, "the small one alone");
    if ends_its_frame {
        first.send_bytes(back).await;
        assert_eq!(first.answer().await.opaque, 1);
    } else {
        drop(first);
    }
    let mut second = sending.await.unwrap();
    assert_eq!(second.answer().await.opaque, 2);
}

#[tokio::test]
async fn a_frame_beyond_all_room_is_served_alone() {
    let running = Running::start(|config| config.half_frame_bytes_max = 1 << 20);
    let mut peer = running.connect().await;
    peer.send(&request(ECHO, 1).with_body(body(3_000_000)))
        .await;
    assert_eq!(peer.answer().await.body.len(), 3_000_000);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_room_comes_back() {
    let running = Running::start(|config| config.connections_max = 1);
    let mut first = running.connect().await;
    first.send(&request(ECHO, 1)).await;
    first.answer().await;
    running.connect().await.assert_closed().await;
    assert_eq!(running.stats().connections_refused, 1);
    drop(first);
    running.closed().await;
    // The task's slot is given back just after its last event.
    let served = async {
        loop {
            let mut peer = running.connect().await;
            if peer
                .try_send_bytes(&encoded(&request(ECHO, 2)))
                .await
                .is_ok()
                && peer.next().await.is_some()
            {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, served)
        .await
        .expect("room for another");
}

#[tokio::test]
async fn requests_beyond_the_bound_are_refused_as_busy() {
    let running = Running::with_limits(|limits| limits.inflight_max = 2);
    let mut peer = running.connect().await;
    peer.send(&request(KEEP, 1)).await;
    peer.send(&request(KEEP, 2)).await;
    let kept = [running.kept().await, running.kept().await];
    peer.send(&request(ECHO, 3)).await;
    let refused = peer.answer().await;
    assert_eq!(
        (refused.opaque, refused.response_code()),
        (3, ResponseCode::SYSTEM_BUSY)
    );
    assert!(refused.remark.unwrap().starts_with("[OVERLOAD]"));
    drop(kept);
    assert_eq!(
        [peer.answer().await.opaque, peer.answer().await.opaque],
        [1, 2]
    );
    peer.send(&request(ECHO, 4)).await;
    assert_eq!(peer.answer().await.response_code(), ResponseCode::SUCCESS);
}

#[tokio::test]
async fn parked_requests_are_no_open_ones_and_have_a_bound_of_their_own() {
    let running = Running::with_limits(|limits| {
        limits.inflight_max = 1;
        limits.parked_max = 2;
        limits.inflight_bytes_max = 1000;
    });
    let mut peer = running.connect().await;
    let mut parked = Vec::new();
    for opaque in 1..=2 {
        peer.send(&request(KEEP, opaque).with_body(body(900))).await;
        let mut reply = running.kept().await;
        assert_eq!((reply.park(), reply.park()), (Ok(()), Ok(())));
        parked.push(reply);
    }
    peer.send(&request(KEEP, 3)).await;
    let mut third = running.kept().await;
    assert_eq!(third.park(), Err(TooManyParked));
    peer.send(&request(ECHO, 4)).await;
    assert_eq!(
        peer.answer().await.response_code(),
        ResponseCode::SYSTEM_BUSY,
        "the third is still open"
    );
    drop(parked.pop());
    assert_eq!(peer.answer().await.opaque, 2);
    assert_eq!(third.park(), Ok(()));
    peer.send(&request(ECHO, 5)).await;
    assert_eq!(peer.answer().await.response_code(), ResponseCode::SUCCESS);
    running.cancel.cancel();
    parked.push(third);
    for reply in parked.drain(..) {
        reply.send(Command::response(ResponseCode::SUCCESS));
    }
    assert_eq!(
        [peer.answer().await.opaque, peer.answer().await.opaque],
        [1, 3],
        "an end waits for what is parked, too"
    );
}

#[tokio::test]
async fn no_more_is_read_while_too_many_bytes_are_open() {
    let running = Running::with_limits(|limits| limits.inflight_bytes_max = 1000);
    let mut peer = running.connect().await;
    let mut bytes = encoded(&request(KEEP, 1).with_body(body(2000)));
    bytes.extend_from_slice(&encoded(&request(KEEP, 2)));
    peer.send_bytes(&bytes).await;
    let first = running.kept().await;
    // Another connection's whole exchange passes, and still the second request was not served.
    running.assert_serves().await;
    while let Some(event) = running.try_event() {
        assert!(!matches!(event, Event::Kept(_)), "{event:?}");
    }
    drop(first);
    running.kept().await;
}

#[tokio::test]
async fn a_panic_of_the_processor_closes_that_connection_only() {
    let running = Running::start(|_| ());
    let mut peer = running.connect().await;
    peer.send(&request(PANIC, 1)).await;
    peer.assert_closed().await;
    running.closed().await;
    running.assert_serves().await;
}
