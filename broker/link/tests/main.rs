//! Links over real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rocket_link::{DataHead, Event, LinkId, Links, Message, Outgoing, Secret, Settings};
use rocket_replication::epochs::EpochStart;
use rocket_replication::frame::encode;
use rocket_replication::messages::{Ack, LINK_VERSION};
use rocket_replication::{Epoch, PhysicalOffset};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SECRET: &[u8] = b"the cluster's shared secret";

struct Broker {
    links: Links,
    events: UnboundedReceiver<Event>,
    address: String,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Broker {
    async fn new(secret: &[u8], settings: Settings) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (links, events) =
            Links::new(settings, Secret::new(secret), tasks.clone(), stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        links.listen(listener);
        Self {
            links,
            events,
            address,
            tasks,
            stop,
        }
    }

    async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
        event.unwrap().unwrap()
    }

    async fn message(&mut self) -> (LinkId, Message) {
        match self.next().await {
            Event::Received { link, message, .. } => (link, message),
            other => panic!("{other:?}"),
        }
    }

    async fn connected(&mut self, to: &Self) -> LinkId {
        let id = self.links.connect(to.address.clone());
        assert!(matches!(self.next().await, Event::Connected(opened) if opened == id));
        id
    }
}

fn ack(offset: u64) -> Message {
    Message::Ack(Ack {
        epoch: Epoch(1),
        offset: PhysicalOffset(offset),
    })
}

fn data(offset: u64, bytes: &Bytes) -> Outgoing {
    let head = DataHead {
        epoch: Epoch(1),
        bytes_epoch: EpochStart {
            epoch: Epoch(1),
            start: PhysicalOffset(0),
        },
        offset: PhysicalOffset(offset),
        file_end: PhysicalOffset(1 << 30),
        confirm: PhysicalOffset(0),
    };
    Outgoing::Data {
        head,
        pieces: vec![bytes.clone()],
    }
}

#[tokio::test]
async fn messages_pass_both_ways_in_order_and_the_end_is_told() {
    let mut slave = Broker::new(SECRET, Settings::default()).await;
    let mut master = Broker::new(SECRET, Settings::default()).await;
    let there = slave.connected(&master).await;
    for offset in 0..3 {
        slave.links.send(there, Outgoing::Message(ack(offset)));
    }
    let (here, first) = master.message().await;
    assert_eq!(first, ack(0));
    assert_eq!(master.message().await.1, ack(1));
    assert_eq!(master.message().await.1, ack(2));
    let bytes = Bytes::from(vec![7; 600_000]);
    master.links.send(here, data(0, &bytes));
    let (_, Message::Data(got)) = slave.message().await else {
        panic!("not data")
    };
    assert_eq!(got.bytes, bytes);
    slave.links.close(there);
    assert!(matches!(master.next().await, Event::Disconnected(gone) if gone == here));
    assert!(slave.links.is_empty() && master.links.is_empty());
}

/// A refusal is sent and the link closed: without its reason the peer would not know better.
#[tokio::test]
async fn what_was_sent_before_a_close_arrives() {
    let mut slave = Broker::new(SECRET, Settings::default()).await;
    let mut master = Broker::new(SECRET, Settings::default()).await;
    let there = slave.connected(&master).await;
    slave.links.send(there, Outgoing::Message(ack(1)));
    slave.links.close(there);
    let (here, message) = master.message().await;
    assert_eq!(message, ack(1));
    assert!(matches!(master.next().await, Event::Disconnected(gone) if gone == here));
}

#[tokio::test]
async fn broker_of_another_cluster_gets_no_link() {
    let mut slave = Broker::new(b"of another cluster", Settings::default()).await;
    let master = Broker::new(SECRET, Settings::default()).await;
    let id = slave.links.connect(master.address.clone());
    assert!(matches!(slave.next().await, Event::ConnectFailed(failed) if failed == id));
    assert!(master.links.is_empty());
}

/// Hole 6 of docs/replication.md §13.4: bytes on the port were taken for what a slave acknowledges.
#[tokio::test]
async fn bytes_of_a_stranger_are_no_message() {
    let mut master = Broker::new(SECRET, Settings::default()).await;
    // A slave of RocketMQ says how far it is in eight bytes, with nothing around them.
    let bare = 1_000_000_u64.to_be_bytes().repeat(64);
    let mut frame = BytesMut::new();
    encode(&ack(1_000_000), &mut frame).unwrap();
    let version = LINK_VERSION.to_be_bytes();
    let greeting = [&b"RKTL"[..], &version, &[0, 0], &[7; 32]].concat();
    let unproved = [&greeting[..], &[7; 32], &frame[..]].concat();
    for noise in [bare, frame.to_vec(), unproved] {
        let mut stranger = TcpStream::connect(&master.address).await.unwrap();
        // Who is sent away may notice it while it still writes.
        let _ = stranger.write_all(&noise).await;
        let _ = stranger.shutdown().await;
        let _ = stranger.read_to_end(&mut Vec::new()).await;
    }
    let mut slave = Broker::new(SECRET, Settings::default()).await;
    let there = slave.connected(&master).await;
    slave.links.send(there, Outgoing::Message(ack(7)));
    assert_eq!(master.message().await.1, ack(7), "the first that it hears");
}

#[tokio::test]
async fn frame_that_breaks_the_rules_ends_the_link() {
    let mut slave = Broker::new(SECRET, Settings::default()).await;
    // A master that has the secret and then talks nonsense: a proxy that garbles what comes after the proofs.
    let master = Broker::new(SECRET, Settings::default()).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap().to_string();
    let garbling = async {
        let (mut near, _) = proxy.accept().await.unwrap();
        let mut far = TcpStream::connect(&master.address).await.unwrap();
        let mut bytes = [0; 72];
        for (from_near, len) in [(true, 40), (false, 40), (true, 32), (false, 32)] {
            let (from, to) = if from_near {
                (&mut near, &mut far)
            } else {
                (&mut far, &mut near)
            };
            from.read_exact(&mut bytes[..len]).await.unwrap();
            to.write_all(&bytes[..len]).await.unwrap();
        }
        near.write_all(&[0xff; 64]).await.unwrap();
        (near, far)
    };
    let id = slave.links.connect(address);
    let (_near, _far) = garbling.await;
    assert!(matches!(slave.next().await, Event::Connected(_)));
    assert!(matches!(slave.next().await, Event::Disconnected(gone) if gone == id));
}

#[tokio::test]
async fn peer_that_is_not_served_is_not_read_and_one_that_does_not_read_is_closed() {
    let settings = Settings {
        inbound_bytes_max: 1 << 20,
        outbound_bytes_max: 16 << 20,
        ..Settings::default()
    };
    let mut slave = Broker::new(SECRET, settings.clone()).await;
    let mut master = Broker::new(SECRET, settings).await;
    let there = slave.connected(&master).await;
    slave.links.send(there, Outgoing::Message(ack(0)));
    let (here, _) = master.message().await;
    // The slave holds on to what it gets, so after its share the rest stays in the sockets and in the master.
    let bytes = Bytes::from(vec![7; 500_000]);
    let mut held = Vec::new();
    for number in 0..200 {
        master.links.send(here, data(number, &bytes));
        tokio::task::yield_now().await;
    }
    assert!(matches!(master.next().await, Event::Disconnected(gone) if gone == here));
    loop {
        match slave.next().await {
            Event::Received { share, .. } => {
                held.push(share);
                // Two of these messages fill the share; a third is not taken before one is let go.
                assert!(held.len() <= 2);
                if held.len() == 2 {
                    match slave.events.try_recv() {
                        Ok(Event::Received { .. }) => panic!("a third one was taken"),
                        Ok(Event::Disconnected(_)) => break,
                        _ => held.clear(),
                    }
                }
            }
            Event::Disconnected(_) => break,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn strangers_wait_their_turn_and_are_sent_away() {
    let settings = Settings {
        opening_timeout: Duration::from_millis(50),
        strangers_max: 1,
        ..Settings::default()
    };
    let master = Broker::new(SECRET, settings).await;
    let mut silent = TcpStream::connect(&master.address).await.unwrap();
    let mut slave = Broker::new(SECRET, Settings::default()).await;
    // The only place for strangers is taken, until the silent one is sent away.
    slave.connected(&master).await;
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    master.stop.cancel();
    master.tasks.close();
    master.tasks.wait().await;
}

#[tokio::test]
async fn link_whose_peer_falls_silent_is_given_up() {
    let settings = Settings {
        silence_max: Duration::from_millis(50),
        ..Settings::default()
    };
    let mut slave = Broker::new(SECRET, settings).await;
    let master = Broker::new(SECRET, Settings::default()).await;
    let there = slave.connected(&master).await;
    assert!(matches!(slave.next().await, Event::Disconnected(gone) if gone == there));
}
