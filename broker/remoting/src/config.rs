//! Bounds and timeouts of connections.

use std::time::Duration;

use rocket_protocol::frame;

/// What one connection may cost, on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Bounds of frames. Default: RocketMQ's 16 MiB.
    pub frame: frame::Limits,
    /// Silence in both directions after which the connection is closed. Default 120 s, as Netty's idle handler there.
    pub idle_timeout: Duration,
    /// A frame that has begun must be whole within this. Default 30 s.
    pub frame_timeout: Duration,
    /// A write must make progress within this. Default 30 s.
    pub write_timeout: Duration,
    /// How long a connection that is asked to stop may still answer its open requests. Default 5 s.
    pub drain_timeout: Duration,
    /// Bytes that wait to be written, beyond which the peer counts as not reading and is closed; from a quarter of them on no
    /// more requests are read. One answer may be larger when nothing else waits. Default 64 MiB.
    pub outbound_bytes_max: usize,
    /// Requests that may be open at one time; those beyond are answered SYSTEM_BUSY. Also the bound of open calls to the
    /// peer. Default 16384: an asynchronous Java producer may have many thousands open.
    pub inflight_max: usize,
    /// Requests that may wait for something to happen ([`crate::Reply::park`]), counted apart from the open ones. Default
    /// 65536: a client with one connection pulls from each of its queues at once.
    pub parked_max: usize,
    /// Bytes of open requests, beyond which no more is read until some are answered. Default 64 MiB.
    pub inflight_bytes_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            frame: frame::Limits::default(),
            idle_timeout: Duration::from_mins(2),
            frame_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            outbound_bytes_max: 64 << 20,
            inflight_max: 16_384,
            parked_max: 65_536,
            inflight_bytes_max: 64 << 20,
        }
    }
}

/// Bounds of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// What one connection may cost.
    pub limits: ConnectionLimits,
    /// Connections open at one time; those beyond are closed at once. Default 10,000.
    pub connections_max: usize,
    /// Bytes of frames that are not whole yet, of all connections together. A frame of up to 32 KiB always goes on; a larger one
    /// is read on when there is room for all of it, and given up after `frame_timeout`. Default 256 MiB.
    pub half_frame_bytes_max: usize,
    /// Connections that the kernel holds ready. Default 1024, as RocketMQ's `serverSocketBacklog`.
    pub backlog: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            limits: ConnectionLimits::default(),
            connections_max: 10_000,
            half_frame_bytes_max: 256 << 20,
            backlog: 1024,
        }
    }
}

/// Bounds of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// What the connection may cost.
    pub limits: ConnectionLimits,
    /// How long name look-up and connecting may take together. Default 3 s.
    pub connect_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            limits: ConnectionLimits::default(),
            connect_timeout: Duration::from_secs(3),
        }
    }
}
