//! What waits to be written to a link: control frames as bytes side by side, data frames as a head and the pieces of the log
//! that they carry, which stay where they are. Everything that waits leaves in one vectored write.
//!
//! Whoever adds something writes it, on his own thread, as long as the socket takes it: nobody has to be woken for that. What the
//! socket does not take is written by the link's task.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
pub use rocket_replication::frame::DataHead;
use rocket_replication::frame::{self, FrameError};
use rocket_replication::messages::Message;
use rustix::net::Shutdown;
use tokio::net::TcpStream;
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
    /// There once the link is open.
    socket: OnceLock<Arc<TcpStream>>,
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
    /// The socket takes no more for now, or is broken: the rest is the task's.
    is_blocked: bool,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            socket: OnceLock::new(),
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
        if let Some(socket) = self.socket.get()
            && !state.is_blocked
            && !matches!(state.write(socket), Ok(true))
        {
            state.is_blocked = true;
            self.wake.notify_one();
        }
        let is_full = state.bytes > self.bytes_max;
        drop(state);
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

    /// Writes to `socket` what waits and what nobody else writes, until the socket fails or all is written after [`Outbox::finish`].
    pub(crate) async fn write_all(&self, socket: &Arc<TcpStream>) -> io::Result<()> {
        let _ = self.socket.set(Arc::clone(socket));
        loop {
            let is_finished = self.is_finished.is_cancelled();
            let is_blocked = {
                let mut state = self.state.lock();
                state.is_blocked = !state.write(socket)?;
                state.is_blocked
            };
            if is_blocked {
                socket.writable().await?;
            } else if is_finished {
                return Ok(rustix::net::shutdown(socket, Shutdown::Write)?);
            } else {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = self.is_finished.cancelled() => {}
                }
            }
        }
    }
}

impl State {
    /// Writes what waits. Says whether that was all; else the socket takes no more for now.
    fn write(&mut self, socket: &TcpStream) -> io::Result<bool> {
        loop {
            if !self.tail.is_empty() {
                let tail = self.tail.split().freeze();
                self.pieces.push_back(tail);
            }
            if self.pieces.is_empty() {
                return Ok(true);
            }
            let pieces = self.pieces.iter().take(PIECES_MAX);
            let slices: Vec<IoSlice<'_>> = pieces.map(|piece| IoSlice::new(piece)).collect();
            match socket.try_write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn written(&mut self, mut bytes: usize) {
        self.bytes -= bytes;
        while bytes > 0
            && let Some(first) = self.pieces.front_mut()
        {
            let len = first.len().min(bytes);
            bytes::Buf::advance(first, len);
            bytes -= len;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rocket_replication::epochs::EpochStart;
    use rocket_replication::messages::{Ack, Data};
    use rocket_replication::{Epoch, PhysicalOffset};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

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

    async fn sockets() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Arc::new(one.unwrap()), other.unwrap().0)
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
        let (one, mut other) = sockets().await;
        let writing = async { outbox.write_all(&one).await };
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
        let (one, mut other) = sockets().await;
        outbox.write_all(&one).await.unwrap();
        let mut heard = BytesMut::new();
        while other.read_buf(&mut heard).await.unwrap() > 0 {}
        assert_eq!(frame::decode(&mut heard).unwrap(), Some(ack));
    }

    #[tokio::test]
    async fn whoever_adds_writes_until_the_socket_is_full_and_the_task_writes_the_rest() {
        let outbox = Arc::new(Outbox::new(256 << 20));
        let (one, mut other) = sockets().await;
        let piece = Bytes::from(vec![7; 1 << 20]);
        let data = || Outgoing::Data {
            head: head(),
            pieces: vec![piece.clone()],
        };
        let mut count = 0;
        let (waiting, socket) = (Arc::clone(&outbox), Arc::clone(&one));
        let tasks = TaskTracker::new();
        let task = tasks.spawn(async move { waiting.write_all(&socket).await });
        while outbox.socket.get().is_none() {
            tokio::task::yield_now().await;
        }
        // A socket that was just made may say that it takes nothing until the system has told of it.
        one.writable().await.unwrap();
        outbox.push(data()).unwrap();
        count += 1;
        assert!(!outbox.state.lock().is_blocked, "nobody was woken for it");
        while !outbox.state.lock().is_blocked {
            outbox.push(data()).unwrap();
            count += 1;
        }
        outbox.push(data()).unwrap();
        count += 1;
        let mut heard = BytesMut::new();
        for _ in 0..count {
            let message = loop {
                if let Some(message) = frame::decode(&mut heard).unwrap() {
                    break message;
                }
                other.read_buf(&mut heard).await.unwrap();
            };
            let Message::Data(data) = message else {
                unreachable!("{message:?}")
            };
            assert_eq!(data.bytes, piece);
        }
        assert_eq!(outbox.state.lock().bytes, 0);
        outbox.finish();
        task.await.unwrap().unwrap();
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
