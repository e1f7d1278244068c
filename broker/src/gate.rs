//! A processor that is put in place after the port is bound: what it serves must know that port.

use std::sync::{Arc, OnceLock};

use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{Connection, Processor, RawRequest, Reply};

/// Refuses until it is opened, then passes everything on.
#[derive(Default)]
pub struct Gate {
    behind: OnceLock<Arc<dyn Processor>>,
}

impl Gate {
    /// Passes everything on to `processor` from now on. Only the first call counts.
    pub fn open(&self, processor: Arc<dyn Processor>) {
        let _ = self.behind.set(processor);
    }
}

impl Processor for Gate {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        match self.behind.get() {
            Some(processor) => processor.process(connection, request, reply),
            None => reply.send(
                Command::response(ResponseCode::SERVICE_NOT_AVAILABLE)
                    .with_remark("the broker is starting"),
            ),
        }
    }

    fn process_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        match self.behind.get() {
            Some(processor) => processor.process_in_place(request),
            None => Err(request),
        }
    }

    fn served(&self, connection: &Connection) {
        if let Some(processor) = self.behind.get() {
            processor.served(connection);
        }
    }

    fn opened(&self, connection: &Connection) {
        if let Some(processor) = self.behind.get() {
            processor.opened(connection);
        }
    }

    fn closed(&self, connection: &Connection) {
        if let Some(processor) = self.behind.get() {
            processor.closed(connection);
        }
    }
}
