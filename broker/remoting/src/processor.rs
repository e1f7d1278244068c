//! Who serves the requests of a connection.

use std::sync::Arc;
use std::time::Instant;

use rocket_protocol::frame::{FrameView, Limits};
use rocket_protocol::{Command, HeaderFormat, ResponseCode};

use crate::connection::Connection;
use crate::reply::Reply;

/// Serves the requests of all connections of a server, or of the peer of a client.
pub trait Processor: Send + Sync + 'static {
    /// Serves one request. Runs on the connection's task and therefore must not block: whoever has to wait keeps `reply`
    /// and answers later, from any thread. A panic closes the connection.
    fn process(&self, connection: &Connection, request: Command, reply: Reply);

    /// Comes before [`Processor::process`] for every frame, with the frame as it lies in the read buffer: for requests that are
    /// so many that they are read there, without a [`Command`] of their own.
    ///
    /// # Errors
    /// The request itself, when it shall be decoded and processed as all others.
    fn process_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        Err(request)
    }

    /// All whole frames of one read of this connection were processed: for work that is done once for many requests.
    fn served(&self, _connection: &Connection) {}

    /// A connection was opened; comes before its first request.
    fn opened(&self, _connection: &Connection) {}

    /// A connection was closed; comes once for each that was opened, after its last request.
    fn closed(&self, _connection: &Connection) {}
}

/// A frame that may be a request, as it lies in the read buffer.
#[derive(Debug, Clone)]
pub struct RawRequest<'a> {
    frame: FrameView<'a>,
    connection: &'a Connection,
    received: Instant,
}

impl<'a> RawRequest<'a> {
    pub(crate) fn new(frame: FrameView<'a>, connection: &'a Connection, received: Instant) -> Self {
        Self {
            frame,
            connection,
            received,
        }
    }

    /// The frame.
    pub fn frame(&self) -> FrameView<'a> {
        self.frame
    }

    /// The bounds that the frame was checked against and its header is to be.
    pub fn limits(&self) -> &'a Limits {
        &self.connection.0.limits.frame
    }

    /// Who sent it.
    pub fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// When it was read.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Takes the request up: it is open until the reply is used or dropped. The three values are what its header says.
    pub fn accept(self, opaque: i32, format: HeaderFormat, is_oneway: bool) -> Reply {
        let inner = Arc::clone(&self.connection.0);
        Reply::new(inner, opaque, format, is_oneway, self.frame.len())
    }
}

/// Serves nothing: for clients whose peer has nothing to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRequests;

impl Processor for NoRequests {
    fn process(&self, _connection: &Connection, request: Command, reply: Reply) {
        let remark = format!("request code {} is not supported here", request.code);
        reply.send(Command::response(ResponseCode::REQUEST_CODE_NOT_SUPPORTED).with_remark(remark));
    }
}
