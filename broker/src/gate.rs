//! A processor that is put in place after the port is bound, and may be replaced by another one: what serves clients comes and
//! goes with the role of the replica, the port stays.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{Connection, Processor, RawRequest, Reply};

/// Refuses until it is opened, then passes everything on.
#[derive(Default)]
pub struct Gate {
    behind: ArcSwapOption<Arc<dyn Processor>>,
    connections: Mutex<HashMap<u64, Connection>>,
}

impl Gate {
    /// Passes everything on to `processor` from now on. Requests that another one has are that one's to answer.
    pub fn open(&self, processor: Arc<dyn Processor>) {
        self.behind.store(Some(Arc::new(processor)));
    }

    /// Has every connection that is open now answered and closed, so that clients look where to go.
    pub fn drain(&self) {
        let open: Vec<Connection> = self.connections.lock().values().cloned().collect();
        for connection in open {
            connection.drain();
        }
    }
}

impl Processor for Gate {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        match &*self.behind.load() {
            Some(processor) => processor.process(connection, request, reply),
            None => reply.send(
                Command::response(ResponseCode::SERVICE_NOT_AVAILABLE)
                    .with_remark("the broker is starting"),
            ),
        }
    }

    fn process_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        match &*self.behind.load() {
            Some(processor) => processor.process_in_place(request),
            None => Err(request),
        }
    }

    fn served(&self, connection: &Connection) {
        if let Some(processor) = &*self.behind.load() {
            processor.served(connection);
        }
    }

    fn opened(&self, connection: &Connection) {
        let id = connection.id().0;
        self.connections.lock().insert(id, connection.clone());
        if let Some(processor) = &*self.behind.load() {
            processor.opened(connection);
        }
    }

    fn closed(&self, connection: &Connection) {
        self.connections.lock().remove(&connection.id().0);
        if let Some(processor) = &*self.behind.load() {
            processor.closed(connection);
        }
    }
}
