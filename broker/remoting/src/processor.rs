//! Who serves the requests of a connection.

use rocket_protocol::{Command, ResponseCode};

use crate::connection::Connection;
use crate::reply::Reply;

/// Serves the requests of all connections of a server, or of the peer of a client.
pub trait Processor: Send + Sync + 'static {
    /// Serves one request. Runs on the connection's task and therefore must not block: whoever has to wait keeps `reply`
    /// and answers later, from any thread. A panic closes the connection.
    fn process(&self, connection: &Connection, request: Command, reply: Reply);

    /// A connection was opened; comes before its first request.
    fn opened(&self, _connection: &Connection) {}

    /// A connection was closed; comes once for each that was opened, after its last request.
    fn closed(&self, _connection: &Connection) {}
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
