//! What waits to be written to a link: control frames as bytes side by side, data frames as a head and the pieces of the log
//! that they carry, which stay where they are. Everything that waits leaves in one vectored write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
pub use rocket_replication::frame::DataHead;
use rocket_replication::frame::{self, FrameError};
use rocket_replication::messages::Message;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Pieces named in one write; the system takes no more than 1024.
const PIECES_MAX: usize = 256;

/// Something to send.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// A message as it is.
    Message(Message),
    /// A `Data` whose bytes are pieces of the log, in order.
    Data {
        /// Its fields.
        head: DataHead,
        /// Its bytes, at most [`frame::DATA_BYTES_MAX`] with the fields.
        pieces: Vec<Bytes>,
    },
}

/// Why something was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("more than {max} bytes wait for a peer that does not read them")]
    Full { max: usize },
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
    bytes_max: usize,
    /// Nothing is added any more.
    is_finished: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Control frames and heads that are not a piece yet.
    tail: BytesMut,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            bytes_max,
            is_finished: CancellationToken::new(),
        }
    }

    /// Takes something in; never blocks.
    pub(crate) fn push(&self, outgoing: Outgoing) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let before = state.tail.len();
        match outgoing {
            Outgoing::Message(message) => {
                frame::encode(&message, &mut state.tail)?;
                state.bytes += state.tail.len() - before;
            }
            Outgoing::Data { head, pieces } => {
                frame::encode_data_head(&head, &pieces, &mut state.tail)?;
                state.bytes += state.tail.len() - before;
                let tail = state.tail.split().freeze();
                state.pieces.push_back(tail);
                state.bytes += pieces.iter().map(Bytes::len).sum::<usize>();
                state.pieces.extend(pieces);
            }
        }
        let is_full = state.bytes > self.bytes_max;
        drop(state);
        self.wake.notify_one();
        if is_full {
            return Err(Refused::Full {
                max: self.bytes_max,
            });
        }
        Ok(())
    }

    /// What waits now is the last.
    pub(crate) fn finish(&self) {
        self.is_finished.cancel();
    }

    /// Waits for [`Outbox::finish`].
    pub(crate) async fn finishing(&self) {
        self.is_finished.cancelled().await;
    }

    /// Writes whatever comes, until the socket fails or all is written after [`Outbox::finish`].
    pub(crate) async fn write_all(&self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut pieces = VecDeque::new();
        loop {
            self.next(&mut pieces).await;
            if pieces.is_empty() {
                return socket.shutdown().await;
            }
            while !pieces.is_empty() {
                self.write_some(&mut pieces, socket).await?;
            }
        }
    }

    /// What waits, as soon as there is something; nothing when it never comes.
    async fn next(&self, pieces: &mut VecDeque<Bytes>) {
        loop {
            let is_finished = self.is_finished.is_cancelled();
            {
                let mut state = self.state.lock();
                if !state.tail.is_empty() {
                    let tail = state.tail.split().freeze();
                    state.pieces.push_back(tail);
                }
                if !state.pieces.is_empty() {
                    std::mem::swap(&mut state.pieces, pieces);
                    return;
                }
            }
            if is_finished {
                return;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.is_finished.cancelled() => {}
            }
        }
    }

    async fn write_some(
        &self,
        pieces: &mut VecDeque<Bytes>,
        socket: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let slices: Vec<IoSlice<'_>> = pieces
            .iter()
            .take(PIECES_MAX)
            .map(|piece| IoSlice::new(piece))
            .collect();
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.state.lock().bytes -= written;
        while written > 0
            && let Some(first) = pieces.front_mut()
        {
            let len = first.len().min(written);
            bytes::Buf::advance(first, len);
            written -= len;
            if first.is_empty() {
                pieces.pop_front();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rocket_replication::epochs::EpochStart;
    use rocket_replication::messages::{Ack, Data};
    use rocket_replication::{Epoch, PhysicalOffset};
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    fn head() -> DataHead {
        DataHead {
            epoch: Epoch(3),
            bytes_epoch: EpochStart {
                epoch: Epoch(2),
                start: PhysicalOffset(5),
            },
            offset: PhysicalOffset(7),
            file_end: PhysicalOffset(99),
            confirm: PhysicalOffset(6),
        }
    }

    #[tokio::test]
    async fn data_in_pieces_is_the_message_that_it_would_be_whole() {
        let outbox = Outbox::new(1 << 20);
        let ack = Message::Ack(Ack {
            epoch: Epoch(1),
            offset: PhysicalOffset(2),
        });
        let pieces = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg")];
        let head = head();
        outbox.push(Outgoing::Message(ack.clone())).unwrap();
        outbox.push(Outgoing::Data { head, pieces }).unwrap();
        outbox.push(Outgoing::Message(ack.clone())).unwrap();
        let (mut one, mut other) = duplex(64);
        let writing = async { outbox.write_all(&mut one).await };
        let reading = async {
            let mut heard = BytesMut::new();
            let mut messages = Vec::new();
            while messages.len() < 3 {
                other.read_buf(&mut heard).await.unwrap();
                while let Some(message) = frame::decode(&mut heard).unwrap() {
                    messages.push(message);
                }
            }
            messages
        };
        let messages = tokio::select! {
            ended = writing => unreachable!("{ended:?}"),
            messages = reading => messages,
        };
        let data = Message::Data(Data {
            epoch: head.epoch,
            bytes_epoch: head.bytes_epoch,
            offset: head.offset,
            file_end: head.file_end,
            confirm: head.confirm,
            bytes: Bytes::from_static(b"abcdefg"),
        });
        assert_eq!(messages, [ack.clone(), data, ack]);
        assert_eq!(outbox.state.lock().bytes, 0);
    }

    #[tokio::test]
    async fn what_waits_is_written_before_the_end() {
        let outbox = Outbox::new(1 << 20);
        let ack = Message::Ack(Ack {
            epoch: Epoch(1),
            offset: PhysicalOffset(2),
        });
        outbox.push(Outgoing::Message(ack.clone())).unwrap();
        outbox.finish();
        let (mut one, mut other) = duplex(4096);
        outbox.write_all(&mut one).await.unwrap();
        let mut heard = BytesMut::new();
        while other.read_buf(&mut heard).await.unwrap() > 0 {}
        assert_eq!(frame::decode(&mut heard).unwrap(), Some(ack));
    }

    #[test]
    fn what_a_peer_does_not_read_is_bounded() {
        let outbox = Outbox::new(100);
        let data = || Outgoing::Data {
            head: head(),
            pieces: vec![Bytes::from_static(&[0; 40])],
        };
        outbox.push(data()).unwrap();
        assert!(matches!(
            outbox.push(data()),
            Err(Refused::Full { max: 100 })
        ));
    }
}
