use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use rocket_protocol::RequestCode;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::NoRequests;
use crate::config::ConnectionLimits;
use crate::connection::{Inner, Shared};
use crate::room::Room;

const ROOM: usize = 1 << 20;

fn connection() -> Connection {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let shared = Shared {
        room: Room::new(ROOM),
        ..Shared::default()
    };
    let limits = ConnectionLimits::default();
    Connection(Arc::new(Inner::new(
        nowhere,
        nowhere,
        limits,
        Arc::new(shared),
    )))
}

/// What a peer sent: a frame with a body of each of these lengths.
async fn sent(bodies: &[usize]) -> (DuplexStream, DuplexStream) {
    let mut bytes = BytesMut::new();
    for len in bodies {
        let request = Command::request(RequestCode(1)).with_body(vec![1; *len]);
        frame::encode(&request, &mut bytes);
    }
    let (mut peer, socket) = tokio::io::duplex(bytes.len());
    peer.write_all(&bytes).await.unwrap();
    (peer, socket)
}

/// Serves until there is nothing to be read or to be done.
async fn serve(incoming: &mut Incoming<'_, DuplexStream>) {
    poll_fn(|context| {
        while incoming.poll_serve(context, Instant::now).unwrap() {}
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn a_large_frame_is_read_on_when_there_is_room_for_all_of_it() {
    let connection = connection();
    let (_peer, socket) = sent(&[100, 300 << 10, 100, 40 << 10, 100]).await;
    let mut incoming = Incoming::new(socket, &connection, &NoRequests, Instant::now());
    let all = connection.0.shared.room.take_all().unwrap();
    serve(&mut incoming).await;
    assert!(incoming.waits_for_room());
    assert_eq!(incoming.frames, 1);
    assert!(
        incoming.kept.len() <= SMALL_BYTES,
        "{}",
        incoming.kept.len()
    );
    serve(&mut incoming).await;
    assert_eq!(incoming.frames, 1);
    drop(all);
    serve(&mut incoming).await;
    assert!(!incoming.waits_for_room());
    assert_eq!((incoming.frames, incoming.kept.len()), (5, 0));
    // All of it was given back.
    assert!(connection.0.shared.room.take_all().is_some());
}

#[tokio::test]
async fn small_frames_need_no_room() {
    let connection = connection();
    let (_peer, socket) = sent(&[30 << 10; 40]).await;
    let mut incoming = Incoming::new(socket, &connection, &NoRequests, Instant::now());
    let _all = connection.0.shared.room.take_all().unwrap();
    serve(&mut incoming).await;
    assert_eq!((incoming.frames, incoming.kept.len()), (40, 0));
}

#[tokio::test]
async fn who_ends_gives_back_what_it_has_and_what_it_waits_for() {
    let connection = connection();
    let shared = &connection.0.shared;
    let mut peers = Vec::new();
    let mut ended = Vec::new();
    // The first has all of the room, and the second waits for it.
    for _ in 0..2 {
        let (mut peer, socket) = tokio::io::duplex(2 << 20);
        let mut bytes = BytesMut::new();
        let request = Command::request(RequestCode(1)).with_body(vec![1; ROOM]);
        frame::encode(&request, &mut bytes);
        peer.write_all(bytes.get(..ROOM / 2).unwrap())
            .await
            .unwrap();
        let mut incoming = Incoming::new(socket, &connection, &NoRequests, Instant::now());
        serve(&mut incoming).await;
        peers.push(peer);
        ended.push(incoming);
    }
    let waits: Vec<_> = ended.iter().map(Incoming::waits_for_room).collect();
    assert_eq!(waits, [false, true]);
    for incoming in ended {
        drop(incoming.into_socket());
    }
    assert!(shared.room.take_all().is_some());
}
