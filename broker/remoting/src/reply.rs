//! The one answer that a request is owed.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use rocket_protocol::{Command, HeaderFormat, ResponseCode};
use thiserror::Error;

use crate::connection::Inner;

/// Answers one request. Dropped unanswered it sends SYSTEM_ERROR, so that no client waits in vain; the answer to a one-way
/// request goes nowhere. Held, it counts as an open request of its connection, or as a parked one ([`Reply::park`]).
pub struct Reply {
    connection: Arc<Inner>,
    opaque: i32,
    format: HeaderFormat,
    is_oneway: bool,
    is_answered: bool,
    is_parked: bool,
    bytes: usize,
}

/// As many requests of the connection as allowed are parked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many requests of this connection wait")]
pub struct TooManyParked;

impl Reply {
    /// Opens the request: it counts until this is dropped.
    pub(crate) fn new(
        connection: Arc<Inner>,
        opaque: i32,
        format: HeaderFormat,
        is_oneway: bool,
        bytes: usize,
    ) -> Self {
        connection.begin_request(bytes);
        Self {
            connection,
            opaque,
            format,
            is_oneway,
            is_answered: false,
            is_parked: false,
            bytes,
        }
    }

    /// Sends the answer: in the request's header format, under its opaque. An answer to a connection that is gone is
    /// forgotten. Never blocks.
    pub fn send(mut self, response: Command) {
        self.answer(response);
    }

    /// Sends an answer that `encode` appends as a whole frame to what waits already, under the opaque and in the header
    /// format that it is given. It runs under the connection's lock: it must be short, and must not send anything itself.
    pub fn send_with(mut self, encode: impl FnOnce(i32, HeaderFormat, &mut BytesMut)) {
        self.is_answered = true;
        if !self.is_oneway {
            let (opaque, format) = (self.opaque, self.format);
            // Refused only when the connection is gone or is being closed for this.
            let _ = self
                .connection
                .enqueue_with(|out| encode(opaque, format, out));
        }
    }

    /// Ends the request without an answer: for a peer that would take any for something else. It waits for its own time.
    pub fn withhold(mut self) {
        self.is_answered = true;
    }

    /// Says that the answer waits for something to happen, for seconds perhaps, and that nothing of the request's frame is
    /// kept: from now on it counts against [`crate::ConnectionLimits::parked_max`] and no longer among the open requests,
    /// so that it keeps nothing else of its connection waiting. A second call changes nothing.
    ///
    /// # Errors
    /// When too many wait already; it still counts as open then, and is to be answered.
    pub fn park(&mut self) -> Result<(), TooManyParked> {
        if !self.is_parked {
            if !self.connection.park_request(self.bytes) {
                return Err(TooManyParked);
            }
            self.is_parked = true;
        }
        Ok(())
    }

    /// Whether the peer wants no answer.
    pub const fn is_oneway(&self) -> bool {
        self.is_oneway
    }

    /// Whether the connection can still carry the answer.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    fn answer(&mut self, mut response: Command) {
        self.is_answered = true;
        if !self.is_oneway {
            response.set_response_to(self.opaque, self.format);
            // Refused only when the connection is gone or is being closed for this.
            let _ = self.connection.enqueue(&response);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_answered {
            let response = Command::response(ResponseCode::SYSTEM_ERROR)
                .with_remark("the request was dropped unanswered");
            self.answer(response);
        }
        if self.is_parked {
            self.connection.end_parked();
        } else {
            self.connection.end_request(self.bytes);
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("peer", &self.connection.peer)
            .field("opaque", &self.opaque)
            .finish_non_exhaustive()
    }
}
