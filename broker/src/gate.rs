//! A processor that is put in place after the port is bound, and may be replaced by another one: what serves clients comes and
//! goes with the role of the replica, the port stays. In a group, sends that come in between wait here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{Connection, Processor, RawRequest, Reply};
use rocket_replication::replica::Writes;
use tokio_util::sync::CancellationToken;

use crate::refuser::refuse;
use crate::waiting_room::{Waiting, WaitingRoom, is_send};

/// Refuses until it is opened, then passes everything on.
#[derive(Default)]
pub struct Gate {
    behind: ArcSwapOption<Arc<dyn Processor>>,
    /// Whether what is behind takes sends whenever the replica does.
    serves: AtomicBool,
    connections: Mutex<HashMap<u64, Connection>>,
    room: OnceLock<WaitingRoom>,
}

impl Gate {
    /// Passes everything on to `processor` from now on, which takes no sends itself. Requests that another one has are that one's to
    /// answer.
    pub fn open(&self, processor: Arc<dyn Processor>) {
        self.behind.store(Some(Arc::new(processor)));
        self.serves.store(false, Ordering::Release);
    }

    /// The same to one that takes sends.
    pub fn serve(&self, processor: Arc<dyn Processor>) {
        self.behind.store(Some(Arc::new(processor)));
        self.serves.store(true, Ordering::Release);
    }

    /// Has every connection that is open now answered and closed, so that clients look where to go.
    pub fn drain(&self) {
        let open: Vec<Connection> = self.connections.lock().values().cloned().collect();
        for connection in open {
            connection.drain();
        }
    }

    /// Has sends wait while a mastership is on its way, as `writes` tells. To be called once; what waits is let go by [`Gate::usher`].
    pub(crate) fn keep_waiting(&self, writes: impl Fn() -> Writes + Send + Sync + 'static) {
        let is_first = self.room.set(WaitingRoom::new(writes)).is_ok();
        debug_assert!(is_first, "one replica says what waits");
    }

    /// Lets sends go on that need not wait any more, until `stop`; from then on none waits.
    pub(crate) async fn usher(self: Arc<Self>, stop: CancellationToken) {
        let Some(room) = self.room.get() else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = room.someone() => self.let_go(room),
            }
        }
        room.close();
        self.let_go(room);
    }

    fn let_go(&self, room: &WaitingRoom) {
        for Waiting {
            connection,
            request,
            reply,
            ..
        } in room.leaving(Instant::now(), self.serves())
        {
            self.pass(&connection, request, reply);
            self.served(&connection);
        }
    }

    fn serves(&self) -> bool {
        self.serves.load(Ordering::Acquire)
    }

    fn must_wait(&self) -> bool {
        self.room
            .get()
            .is_some_and(|room| room.must_wait(self.serves()))
    }

    fn pass(&self, connection: &Connection, request: Command, reply: Reply) {
        match &*self.behind.load() {
            Some(processor) => processor.process(connection, request, reply),
            None => refuse(
                &request,
                reply,
                Command::response(ResponseCode::SERVICE_NOT_AVAILABLE)
                    .with_remark("the broker is starting"),
            ),
        }
    }
}

impl Processor for Gate {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        let waits = self.must_wait() && is_send(request.request_code());
        let Some(room) = self.room.get().filter(|_| waits) else {
            return self.pass(connection, request, reply);
        };
        let waiting = Waiting::new(Instant::now(), connection.clone(), request, reply);
        // Where there is no room for it, it is refused as one that has waited in vain.
        if let Some(Waiting { request, reply, .. }) = room.enter(waiting) {
            self.pass(connection, request, reply);
        }
    }

    fn process_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        match &*self.behind.load() {
            Some(processor) if !self.must_wait() => processor.process_in_place(request),
            _ => Err(request),
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
