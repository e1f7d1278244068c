//! Who is connected: producers and consumers by connection, and the queue locks of ordered consumers.
//!
//! The tables are pure; [`Clients`] shares them. Whoever changes membership tells the members ([`notify`]), outside the lock.

pub mod consumers;
pub mod grace;
pub mod locks;
pub mod producers;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rocket_protocol::header::ConsumerGroupHeader;
use rocket_protocol::{Command, RequestCode, UnixMillis};
use rocket_remoting::Connection;

pub use consumers::{ConsumerGroup, Consumers, Full, Member, Notice, Subscription};
pub use grace::Grace;
pub use locks::QueueLocks;
pub use producers::Producers;

/// The shared tables of connected clients.
#[derive(Default)]
pub struct Clients {
    /// Consumer groups.
    pub consumers: RwLock<Consumers<Connection>>,
    /// Producer groups.
    pub producers: RwLock<Producers<Connection>>,
    /// Locks of queues that are consumed in order.
    pub locks: Mutex<QueueLocks>,
}

impl Clients {
    /// Empty tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all: this broker serves nobody any more.
    pub fn clear(&self) {
        *self.consumers.write() = Consumers::default();
        *self.producers.write() = Producers::default();
        *self.locks.lock() = QueueLocks::default();
    }

    /// What `group` wants of `topic`, if it has members.
    pub fn subscription(&self, group: &str, topic: &str) -> Option<Arc<Subscription>> {
        let consumers = self.consumers.read();
        consumers.group(group)?.subscription(topic).map(Arc::clone)
    }

    /// Forgets a closed connection; returns whom to tell.
    pub fn closed(&self, channel_id: u64) -> Vec<Notice<Connection>> {
        self.producers.write().closed(channel_id);
        self.consumers.write().closed(channel_id)
    }

    /// Forgets clients that were silent for longer than `silence_ms`, closes their connections, and returns whom to tell.
    pub fn expire(&self, now: UnixMillis, silence_ms: i64) -> Vec<Notice<Connection>> {
        let mut gone = self.producers.write().expire(now, silence_ms);
        let (notices, silent) = self.consumers.write().expire(now, silence_ms);
        gone.extend(silent);
        for connection in gone {
            tracing::info!(peer = %connection.peer(), "client was silent for too long, closing its connection");
            connection.close();
        }
        self.locks.lock().sweep(now);
        notices
    }
}

/// Tells members that their group changed (NOTIFY_CONSUMER_IDS_CHANGED): they rebalance at once instead of within 20 s.
pub fn notify(notice: &Notice<Connection>) {
    let header = ConsumerGroupHeader {
        consumer_group: notice.group.as_str().to_owned().into(),
    };
    for channel in &notice.channels {
        let mut command =
            Command::request(RequestCode::NOTIFY_CONSUMER_IDS_CHANGED).with_header(&header);
        command.set_oneway();
        // One that cannot be told rebalances by itself within 20 s.
        if let Err(error) = channel.send_oneway(command) {
            tracing::debug!(peer = %channel.peer(), group = %notice.group, error = %error, "member was not told of a change");
        }
    }
}
