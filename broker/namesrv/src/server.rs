//! The name server behind a socket.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rocket_protocol::Command;
use rocket_remoting::{Connection, Processor, Reply};
use tokio_util::task::TaskTracker;

use crate::processor::{Namesrv, Outcome};
use crate::table::Channel;

/// Serves requests of any number of connections from one [`Namesrv`].
pub struct NamesrvProcessor {
    namesrv: Arc<Namesrv>,
    /// So that a broker that fell silent can be cut off: it then connects and registers anew.
    connections: Mutex<HashMap<Channel, Connection>>,
    tasks: TaskTracker,
}

impl NamesrvProcessor {
    /// `tasks` own the waits for the disk.
    pub fn new(namesrv: Arc<Namesrv>, tasks: TaskTracker) -> Self {
        Self {
            namesrv,
            connections: Mutex::default(),
            tasks,
        }
    }

    /// Forgets brokers that were silent for too long and closes their connections.
    pub fn expire(&self) {
        for channel in self.namesrv.expire() {
            let connection = self.connections.lock().get(&channel).cloned();
            if let Some(connection) = connection {
                connection.close();
            }
        }
    }
}

impl Processor for NamesrvProcessor {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        match self.namesrv.handle(connection.id().0, &request) {
            Outcome::Answer(answer) => reply.send(answer),
            Outcome::Disk(change) => {
                self.tasks
                    .spawn_blocking(move || reply.send(change.apply()));
            }
        }
    }

    fn opened(&self, connection: &Connection) {
        self.connections
            .lock()
            .insert(connection.id().0, connection.clone());
    }

    fn closed(&self, connection: &Connection) {
        self.connections.lock().remove(&connection.id().0);
        self.namesrv.closed(connection.id().0);
    }
}
