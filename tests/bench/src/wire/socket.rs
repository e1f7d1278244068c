//! A non-blocking connection with its two buffers, and the set of connections that one thread waits on.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::PREFIX_BYTES;

const INPUT_BYTES: usize = 64 << 10;
const INPUT_BYTES_MAX: usize = 64 << 20;
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// One frame in the input buffer.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// Header type.
    pub kind: u8,
    /// Header.
    pub header: &'a [u8],
    /// Body.
    pub body: &'a [u8],
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Bytes.
    Some,
    /// Nothing at present.
    Nothing,
}

/// A connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that are to leave; append whole frames.
    pub output: Vec<u8>,
    sent: usize,
    wants_write: bool,
}

impl Socket {
    /// Connects; afterwards nothing blocks.
    ///
    /// # Errors
    /// As connecting.
    pub fn connect(addr: SocketAddr, output_bytes: usize) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, CONNECT_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: vec![0; INPUT_BYTES],
            start: 0,
            end: 0,
            output: Vec::with_capacity(output_bytes),
            sent: 0,
            wants_write: false,
        })
    }

    /// Reads once.
    ///
    /// # Errors
    /// The connection's, and `UnexpectedEof` when the peer closed it.
    pub fn fill(&mut self) -> io::Result<Fill> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.input.len() {
                if self.end >= INPUT_BYTES_MAX {
                    return Err(io::Error::other("an answer is longer than 64 MiB"));
                }
                self.input.resize(self.end * 2, 0);
            }
        }
        let room = self.input.get_mut(self.end..).unwrap_or_default();
        match (&self.stream).read(room) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.end += read;
                Ok(Fill::Some)
            }
            Err(error) if would_block(&error) => Ok(Fill::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Takes the next whole frame out of the input.
    ///
    /// # Errors
    /// Lengths that contradict each other.
    pub fn next_frame(&mut self) -> io::Result<Option<FrameRef<'_>>> {
        let bytes = self.input.get(self.start..self.end).unwrap_or_default();
        let Some((total, rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let Some([kind, len @ ..]) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        let [high, middle, low] = *len;
        let total = 4 + u32::from_be_bytes(*total) as usize;
        if bytes.len() < total {
            return Ok(None);
        }
        let header_end = PREFIX_BYTES + u32::from_be_bytes([0, high, middle, low]) as usize;
        self.start += total;
        match (
            bytes.get(PREFIX_BYTES..header_end),
            bytes.get(header_end..total),
        ) {
            (Some(header), Some(body)) => Ok(Some(FrameRef {
                kind: *kind,
                header,
                body,
            })),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a frame whose header is longer than itself",
            )),
        }
    }

    /// Writes as much of the output as goes; whether all of it went.
    ///
    /// # Errors
    /// The connection's.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match (&self.stream).write(self.output.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Bytes that wait to leave.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Token of the timer.
const TIMER: u64 = u64::MAX;
const EVENTS_MAX: usize = 64;

/// The connections of one thread, and a timer with a resolution below a millisecond.
pub struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<u64>,
}

impl Poll {
    /// Waits on nothing yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        epoll::add(
            &epoll,
            &timer,
            epoll::EventData::new_u64(TIMER),
            epoll::EventFlags::IN,
        )?;
        Ok(Self {
            epoll,
            timer,
            armed: None,
        })
    }

    /// Adds a connection under a number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, socket: &Socket, token: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        epoll::add(&self.epoll, &socket.stream, data, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Says whether the connection waits for room to write; costs a system call only when that changes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn want_write(&self, socket: &mut Socket, token: usize, wanted: bool) -> io::Result<()> {
        if socket.wants_write != wanted {
            socket.wants_write = wanted;
            let data = epoll::EventData::new_u64(token as u64);
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, wanted);
            epoll::modify(&self.epoll, &socket.stream, data, flags)?;
        }
        Ok(())
    }

    /// Leaves a connection out from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forget(&self, socket: &Socket) -> io::Result<()> {
        epoll::delete(&self.epoll, &socket.stream)?;
        Ok(())
    }

    /// Waits until a connection is ready or the time has come, and appends the ready numbers to `ready`.
    ///
    /// `now` and `until` are nanoseconds of the same clock; without `until` it waits at most 100 ms.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self, now: u64, until: Option<u64>, ready: &mut Vec<usize>) -> io::Result<()> {
        if let Some(until) = until
            && self.armed != Some(until)
        {
            self.arm(until.saturating_sub(now).max(1))?;
            self.armed = Some(until);
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
        let events: &[epoll::Event] =
            match epoll::wait(self.epoll.as_fd(), &mut room[..], Some(&timeout)) {
                Ok((events, _)) => events,
                Err(rustix::io::Errno::INTR) => &[],
                Err(error) => return Err(error.into()),
            };
        for event in events {
            match { event.data }.u64() {
                TIMER => {
                    let mut count = [0; 8];
                    let _ = rustix::io::read(&self.timer, &mut count);
                    self.armed = None;
                }
                token => ready.push(usize::try_from(token).unwrap_or(usize::MAX)),
            }
        }
        Ok(())
    }

    fn arm(&self, nanos: u64) -> io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        };
        let once = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
