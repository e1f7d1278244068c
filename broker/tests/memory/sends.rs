//! A send takes no memory, and one read and one write serve many.
//!
//! Counted are the threads that serve connections: they decode, append, write to the log and answer. The clients' frames are
//! made before, so that nothing but the broker's work is between two counts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rocket_protocol::HeaderFormat;
use rocket_protocol::header::SendMessageV2Header;
use rocket_protocol::message::BatchMessage;

use super::*;

/// Requests that are on their way at a time on one connection.
const IN_FLIGHT: usize = 64;
/// Times that memory may be taken for 1000 messages: what grows or is made now and then.
const CALLS_PER_THOUSAND_MAX: u64 = 1;

/// As Java's client sends it.
fn header(batch: bool) -> SendMessageV2Header {
    let properties = "KEYS\u{1}order-17\u{2}UNIQ_KEY\u{1}7F00000100002A9F18B4AAC20ACE0001\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA\u{2}";
    let header = SendMessageHeader {
        producer_group: "producers".into(),
        topic: "T".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        born_timestamp: 1_700_000_000_000,
        properties: Some(properties.into()),
        reconsume_times: Some(0),
        batch,
        broker_name: Some("broker-a".into()),
        ..SendMessageHeader::default()
    };
    header.into()
}

fn request(format: HeaderFormat, opaque: i32) -> Command {
    let mut request = Command::request(RequestCode::SEND_MESSAGE_V2)
        .with_header(&header(false))
        .with_body(vec![7; 128]);
    (request.format, request.opaque) = (format, opaque);
    request
}

pub(super) fn batch_request(messages: usize, body_bytes: usize) -> Command {
    let mut body = Vec::new();
    for _ in 0..messages {
        BatchMessage {
            flag: 0,
            body: vec![7; body_bytes].into(),
            properties: "UNIQ_KEY\u{1}7F00000100002A9F18B4AAC20ACE0001\u{2}WAIT\u{1}true\u{2}"
                .into(),
        }
        .encode(&mut body);
    }
    Command::request(RequestCode::SEND_BATCH_MESSAGE)
        .with_header(&header(true))
        .with_body(body)
}

/// A client that takes no memory while it works.
pub(super) struct Client {
    socket: TcpStream,
    frames: Vec<u8>,
    count: usize,
    read: Vec<u8>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, requests: &[Command]) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let frames = requests.iter().flat_map(frame_of).collect();
        Self {
            socket,
            frames,
            count: requests.len(),
            read: vec![0; 1 << 20],
        }
    }

    /// Sends all frames and waits for as many answers, each a success.
    pub(super) fn round(&mut self) {
        self.socket.write_all(&self.frames).unwrap();
        let (mut filled, mut at, mut answers) = (0, 0, 0);
        while answers < self.count {
            let len = self.socket.read(&mut self.read[filled..]).unwrap();
            assert!(len > 0, "the broker closed the connection");
            filled += len;
            while let Some(head) = self.read[at..filled].first_chunk::<4>() {
                let end = at + 4 + usize::try_from(i32::from_be_bytes(*head)).unwrap();
                if end > filled {
                    break;
                }
                let header = &self.read[at + 8..end];
                assert!(
                    header.starts_with(b"{\"code\":0,") || header.starts_with(&[0, 0]),
                    "{}",
                    String::from_utf8_lossy(header)
                );
                (at, answers) = (end, answers + 1);
            }
        }
    }
}

/// Runs `work` against a broker that flushes now and then.
pub(super) fn against_a_broker(work: impl FnOnce(SocketAddr, &Broker)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let serving = counted_runtime();
    let dir = folder.path().to_owned();
    let broker = serving
        .block_on(
            serving.spawn(async move { start(&dir, &[("flushDiskType", "ASYNC_FLUSH")]).await }),
        )
        .unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, broker.address().port()));
    work(address, &broker);
    serving.block_on(broker.stop()).unwrap();
}

/// Memory taken while `rounds` are made, after what is made once was made.
pub(super) fn calls(client: &mut Client, rounds: usize) -> u64 {
    for _ in 0..100 {
        client.round();
    }
    let before = counting::counted().calls;
    for _ in 0..rounds {
        client.round();
    }
    counting::counted().calls - before
}

#[test]
fn a_send_takes_no_memory() {
    against_a_broker(|address, _| {
        for format in [HeaderFormat::Json, HeaderFormat::Compact] {
            let requests: Vec<_> = (0..)
                .take(IN_FLIGHT)
                .map(|opaque| request(format, opaque))
                .collect();
            let rounds = 50_000 / IN_FLIGHT;
            let calls = calls(&mut Client::new(address, &requests), rounds);
            let messages = u64::try_from(rounds * IN_FLIGHT).unwrap();
            assert!(
                calls * 1000 <= messages * CALLS_PER_THOUSAND_MAX,
                "{format:?}: memory taken {calls} times for {messages} messages"
            );
        }
        // A request of another kind does take some: the counter counts.
        let unknown = Command::request(RequestCode::HEART_BEAT);
        let mut other = TcpStream::connect(address).unwrap();
        let before = counting::counted().calls;
        other.write_all(&frame_of(&unknown)).unwrap();
        assert!(other.read(&mut [0; 100]).unwrap() > 0);
        assert!(counting::counted().calls > before);
    });
}

#[test]
fn a_message_of_a_batch_takes_no_memory() {
    const MESSAGES: usize = 128;
    against_a_broker(|address, _| {
        let rounds = 400;
        let calls = calls(
            &mut Client::new(address, &[batch_request(MESSAGES, 100)]),
            rounds,
        );
        let messages = u64::try_from(rounds * MESSAGES).unwrap();
        // The list of the places where its messages lie.
        let allowed = u64::try_from(rounds).unwrap() + messages * CALLS_PER_THOUSAND_MAX / 1000;
        assert!(
            calls <= allowed,
            "memory taken {calls} times for {messages} messages"
        );
    });
}

#[test]
fn what_arrives_together_costs_one_read_and_one_write() {
    const CONNECTIONS: usize = 8;
    const EACH: usize = 8;
    const ROUNDS: usize = 300;
    against_a_broker(|address, broker| {
        let requests: Vec<_> = (0..)
            .take(EACH)
            .map(|opaque| request(HeaderFormat::Json, opaque))
            .collect();
        let mut clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| Client::new(address, &requests))
            .collect();
        clients.iter_mut().for_each(Client::round);
        let before = broker.traffic();
        std::thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| (0..ROUNDS).for_each(|_| client.round()));
            }
        });
        let after = broker.traffic();
        let messages = u64::try_from(CONNECTIONS * EACH * ROUNDS).unwrap();
        assert_eq!(after.frames_out - before.frames_out, messages);
        let calls = after.reads - before.reads + after.writes - before.writes;
        // One of each for eight messages, and room for a piece that comes late.
        assert!(
            calls * 10 <= messages * 3,
            "{calls} reads and writes for {messages} messages"
        );
    });
}
