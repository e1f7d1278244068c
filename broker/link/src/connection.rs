//! One link: a task that reads frames and writes what waits, until either side ends it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rocket_replication::frame::{self, FrameError};
use rocket_replication::messages::{LinkId, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::links::{Event, Settings};
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
    stream: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    outbox: &Outbox,
    events: &mpsc::UnboundedSender<Event>,
    settings: &Settings,
) -> End {
    let (mut read_half, mut write_half) = stream;
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
                events.send(event).map_err(|_| End::Deaf)?;
            }
            buffer.reserve(READ_BYTES);
            // Only while this side listens: what it does not read says nothing of the peer.
            let read = timeout(settings.silence_max, read_half.read_buf(&mut buffer)).await;
            if read.map_err(|_| End::Silent)?? == 0 {
                return Err::<(), End>(End::Closed);
            }
        }
    };
    let too_late = async {
        outbox.finishing().await;
        sleep(CLOSING).await;
    };
    tokio::select! {
        ended = reading => ended.err().unwrap_or(End::Closed),
        written = outbox.write_all(&mut write_half) => written.map_or_else(End::Io, |()| End::Finished),
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
