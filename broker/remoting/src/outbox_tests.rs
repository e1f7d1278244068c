use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::frame::Limits;
use rocket_protocol::{RequestCode, ResponseCode};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::config::ConnectionLimits;
use crate::connection::{Inner, Shared};
use crate::outgoing::Outgoing;

fn answer(body: usize) -> Command {
    Command::response(ResponseCode::SUCCESS).with_body(vec![b'x'; body])
}

fn bytes_of(command: &Command) -> usize {
    let mut out = BytesMut::new();
    frame::encode(command, &mut out);
    out.len()
}

fn connection() -> Inner {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let limits = ConnectionLimits {
        write_timeout: Duration::from_secs(30),
        ..ConnectionLimits::default()
    };
    Inner::new(nowhere, nowhere, limits, Arc::new(Shared::default()))
}

#[test]
fn the_bound_counts_what_waits_and_lets_one_pass() {
    let outbox = Outbox::new(1000);
    assert_eq!(outbox.push(&answer(5000)), Ok(()));
    let bytes = bytes_of(&answer(5000));
    assert_eq!(outbox.push(&answer(1)), Err(Refused::Full { bytes }));
    let (outbox, one) = (Outbox::new(1000), bytes_of(&answer(100)));
    let fitting = 1000 / one;
    for _ in 0..fitting {
        assert_eq!(outbox.push(&answer(100)), Ok(()));
    }
    let bytes = fitting * one;
    assert_eq!(outbox.push(&answer(100)), Err(Refused::Full { bytes }));
    // What was refused has left nothing behind.
    let mut batch = Batch::default();
    outbox.take(&mut batch);
    assert_eq!((batch.bytes(), batch.frames()), (bytes, fitting));
    // What is being written counts until it has left.
    assert!(outbox.push(&answer(100)).is_err());
    outbox.left(one);
    assert_eq!(outbox.push(&answer(100)), Ok(()));
    outbox.finish();
    assert_eq!(outbox.push(&answer(1)), Err(Refused::Finished));
}

#[tokio::test]
async fn all_that_waits_leaves_in_order_through_a_narrow_pipe() {
    let inner = connection();
    let sizes = [0, 1, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 100_000, 3];
    for (opaque, size) in (0..).zip(sizes) {
        let chunks = vec![
            Bytes::from(vec![b'a'; size]),
            Bytes::new(),
            Bytes::from(vec![b'b'; size * 2]),
        ];
        let mut command = Command::request(RequestCode::PULL_MESSAGE).with_body(chunks);
        command.opaque = opaque;
        inner.outbox.push(&command).unwrap();
    }
    inner.outbox.finish();
    let (near, mut far) = tokio::io::duplex(777);
    let writing = async {
        let mut outgoing = Outgoing::new(near, &inner);
        outgoing.write_rest().await.unwrap();
    };
    let reading = async {
        let mut all = BytesMut::new();
        while far.read_buf(&mut all).await.unwrap() > 0 {}
        all
    };
    let ((), mut all) = tokio::join!(writing, reading);
    for (opaque, size) in (0..).zip(sizes) {
        let command = frame::decode(&mut all, &Limits::default())
            .unwrap()
            .unwrap();
        let expected = [vec![b'a'; size], vec![b'b'; size * 2]].concat();
        assert_eq!(
            (command.opaque, command.body.contiguous() == expected),
            (opaque, true)
        );
    }
    assert!(all.is_empty());
    assert_eq!(inner.shared.stats.snapshot().frames_out, 6);
}

#[test]
fn more_pieces_than_one_call_takes_leave_in_several() {
    let outbox = Outbox::new(usize::MAX);
    let pieces: Vec<_> = (0..3 * SLICES_MAX)
        .map(|index| Bytes::from(vec![index.to_le_bytes()[0]; COPY_BYTES_MAX + 1 + index]))
        .collect();
    let command = Command::request(RequestCode::PULL_MESSAGE).with_body(pieces);
    outbox.push(&command).unwrap();
    let mut expected = BytesMut::new();
    frame::encode(&command, &mut expected);
    let mut batch = Batch::default();
    outbox.take(&mut batch);
    let (mut all, mut step) = (Vec::new(), 0);
    loop {
        // Ends inside pieces and at their ends.
        step += 1;
        let before = all.len();
        batch.with_slices(|slices| {
            for slice in slices {
                all.extend_from_slice(slice);
            }
        });
        let took = (all.len() - before).min(5000 * step);
        all.truncate(before + took);
        if batch.wrote(took) {
            break;
        }
    }
    assert_eq!(all, expected);
    assert!(batch.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_without_progress_times_out() {
    let inner = connection();
    inner.outbox.push(&answer(1000)).unwrap();
    let (near, _far) = tokio::io::duplex(10);
    let written = Outgoing::new(near, &inner).write_rest().await;
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}
