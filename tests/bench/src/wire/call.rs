//! One request and its answer on a connection of their own: what a run needs besides its load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use rocket_protocol::code::{RequestCode, ResponseCode};
use rocket_protocol::command::Command;
use rocket_protocol::frame::{self, Limits};

use crate::route::creation;

/// An admin request that is not answered in this time has failed; creating many topics takes a broker long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A blocking connection for admin requests.
#[derive(Debug)]
pub struct Caller {
    stream: TcpStream,
    input: BytesMut,
}

impl Caller {
    /// Connects.
    ///
    /// # Errors
    /// As connecting.
    pub fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))
            .with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            input: BytesMut::new(),
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection's, and a frame that is none.
    pub fn call(&mut self, request: &Command) -> anyhow::Result<Command> {
        let mut out = BytesMut::new();
        frame::encode(request, &mut out);
        self.stream.write_all(&out)?;
        let limits = Limits {
            frame_bytes_max: 64 << 20,
            ..Limits::default()
        };
        let mut piece = vec![0; 64 << 10];
        loop {
            while let Some(answer) = frame::decode(&mut self.input, &limits)? {
                if answer.is_response() {
                    return Ok(answer);
                }
            }
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                bail!("the connection was closed before the answer");
            }
            self.input
                .extend_from_slice(piece.get(..read).unwrap_or_default());
        }
    }

    /// The same, and anything but success is an error.
    ///
    /// # Errors
    /// As [`Caller::call`], and any other code.
    pub fn ask(&mut self, request: &Command) -> anyhow::Result<Command> {
        let answer = self.call(request)?;
        if answer.response_code() != ResponseCode::SUCCESS {
            let remark = answer.remark.as_deref().unwrap_or_default();
            bail!("{} {remark}", answer.response_code());
        }
        Ok(answer)
    }

    /// Creates a topic on this broker, or sets its queues.
    ///
    /// # Errors
    /// As [`Caller::ask`].
    pub fn create_topic(&mut self, topic: &str, queues: u32) -> anyhow::Result<()> {
        self.ask(&creation(topic, queues))
            .with_context(|| format!("creating topic {topic} with {queues} queues"))?;
        Ok(())
    }

    /// The offset behind a queue's last message.
    ///
    /// # Errors
    /// As [`Caller::ask`].
    pub fn max_offset(&mut self, topic: &str, queue: u32) -> anyhow::Result<u64> {
        let request = Command::request(RequestCode::GET_MAX_OFFSET)
            .with_ext("topic", topic.to_owned())
            .with_ext("queueId", queue.to_string());
        let answer = self
            .ask(&request)
            .with_context(|| format!("the end of queue {queue} of {topic}"))?;
        answer
            .ext
            .get("offset")
            .and_then(|text| text.parse().ok())
            .context("an answer without an offset")
    }
}

/// The first address of `host:port`.
///
/// # Errors
/// No such host.
pub fn resolve(addr: &str) -> anyhow::Result<SocketAddr> {
    addr.to_socket_addrs()
        .with_context(|| format!("the address {addr}"))?
        .next()
        .with_context(|| format!("{addr} has no address"))
}
