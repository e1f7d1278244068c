use rocket_protocol::frame::Limits;
use rocket_protocol::{RequestCode, ResponseCode};
use tokio::io::AsyncReadExt as _;

use super::*;

fn answer(body: usize) -> Command {
    Command::response(ResponseCode::SUCCESS).with_body(vec![b'x'; body])
}

#[test]
fn the_bound_counts_what_waits_and_lets_one_pass() {
    let outbox = Outbox::new(1000);
    assert_eq!(outbox.push(answer(5000)), Ok(()));
    assert!(matches!(
        outbox.push(answer(1)),
        Err(Refused::Full { bytes: 5256 })
    ));
    let outbox = Outbox::new(1000);
    assert_eq!(
        [outbox.push(answer(100)), outbox.push(answer(100))],
        [Ok(()), Ok(())]
    );
    assert!(outbox.push(answer(100)).is_err());
    outbox.finish();
    assert_eq!(outbox.push(answer(1)), Err(Refused::Finished));
}

#[tokio::test]
async fn all_that_waits_leaves_in_order_through_a_narrow_pipe() {
    let outbox = Outbox::new(usize::MAX);
    let sizes = [0, 1, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 100_000, 3];
    for (opaque, size) in (0..).zip(sizes) {
        let chunks = vec![
            Bytes::from(vec![b'a'; size]),
            Bytes::new(),
            Bytes::from(vec![b'b'; size * 2]),
        ];
        let mut command = Command::request(RequestCode::PULL_MESSAGE).with_body(chunks);
        command.opaque = opaque;
        outbox.push(command).unwrap();
    }
    outbox.finish();
    let (mut near, mut far) = tokio::io::duplex(777);
    let stats = Stats::default();
    let writing = async {
        outbox
            .write_all(&mut near, Duration::from_secs(9), &stats, || ())
            .await
            .unwrap();
        drop(near);
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
    assert_eq!(stats.snapshot().frames_out, 6);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_progress_times_out() {
    let outbox = Outbox::new(usize::MAX);
    outbox.push(answer(1000)).unwrap();
    let (mut near, _far) = tokio::io::duplex(10);
    let written = outbox
        .write_all(&mut near, Duration::from_secs(30), &Stats::default(), || ())
        .await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
