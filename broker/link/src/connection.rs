//! One link: a task that reads frames and writes what waits, until either side ends it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rocket_replication::frame::{self, FrameError};
use rocket_replication::messages::{LinkId, Message};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::links::{Deliver, Event, Settings};
use crate::outgoing::Outbox;

/// How much is asked of the socket at once.
const READ_BYTES: usize = 256 << 10;

/// How long a peer may take to read the last that is written to it.
const CLOSING: Duration = Duration::from_secs(1);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the other side closed it")]
    Closed,
    #[error("the other side says nothing any more")]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame breaks the rules: {0}")]
    Frame(#[from] FrameError),
    #[error("nobody listens here any more")]
    Deaf,
    #[error("this side closed it")]
    Finished,
}

/// What a received message holds until it is dropped: its share of what a link may have under way.
#[derive(Debug)]
pub struct Share {
    _permit: OwnedSemaphorePermit,
}

/// Carries frames both ways until the link ends.
pub(crate) async fn run(
    id: LinkId,
    stream: TcpStream,
    outbox: &Outbox,
    deliver: &Deliver,
    settings: &Settings,
) -> End {
    let stream = Arc::new(stream);
    let inbound_bytes_max = settings.inbound_bytes_max;
    let room = Arc::new(Semaphore::new(inbound_bytes_max as usize));
    let reading = async {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(message) = frame::decode(&mut buffer)? {
                let cost = cost(&message).min(inbound_bytes_max);
                // Who serves the messages is behind: the peer is slowed down by not being read.
                let Ok(permit) = Arc::clone(&room).acquire_many_owned(cost).await else {
                    return Err(End::Deaf);
                };
                let share = Share { _permit: permit };
                let event = Event::Received {
                    link: id,
                    message,
                    share,
                };
                if !deliver.0(event) {
                    return Err(End::Deaf);
                }
            }
            buffer.reserve(READ_BYTES);
            // Only while this side listens: what it does not read says nothing of the peer.
            let readable = timeout(settings.silence_max, stream.readable()).await;
            readable.map_err(|_| End::Silent)??;
            match stream.try_read_buf(&mut buffer) {
                Ok(0) => return Err::<(), End>(End::Closed),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
        }
    };
    let too_late = async {
        outbox.finishing().await;
        sleep(CLOSING).await;
    };
    tokio::select! {
        ended = reading => ended.err().unwrap_or(End::Closed),
        written = outbox.write_all(&stream) => written.map_or_else(End::Io, |()| End::Finished),
        () = too_late => End::Finished,
    }
}

fn cost(message: &Message) -> u32 {
    let bytes = match message {
        Message::Data(data) => data.bytes.len(),
        Message::Range(range) => range.bytes.len(),
        _ => 0,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(256)
}
