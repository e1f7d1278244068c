//! Links, requests to the coordinator, and reads for other replicas: what the actor wants is taken out and carried by a test.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rocket_replication::PhysicalOffset;
use rocket_replication::coordinator::Cas;
use rocket_replication::frame::DataHead;
use rocket_replication::messages::{Data, LinkId, Message};

use crate::surroundings::{Coordinator, Net, RangeReader};

/// What an actor wants of the network.
#[derive(Debug, Clone)]
pub enum Wish {
    /// Open a link to an address.
    Connect(LinkId, String),
    /// Close a link.
    Close(LinkId),
    /// Send a message.
    Send(LinkId, Message),
}

/// Links in memory: what the actor wants is taken out and carried by a test. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryNet {
    wishes: Arc<Mutex<(u64, VecDeque<Wish>)>>,
}

impl MemoryNet {
    /// A number for a link that the other side opened.
    pub fn fresh(&self) -> LinkId {
        let mut wishes = self.wishes.lock();
        wishes.0 += 1;
        LinkId(wishes.0)
    }

    /// The oldest wish.
    pub fn take(&self) -> Option<Wish> {
        self.wishes.lock().1.pop_front()
    }

    fn wish(&self, wish: Wish) {
        self.wishes.lock().1.push_back(wish);
    }
}

impl Net for MemoryNet {
    fn connect(&mut self, address: &str) -> LinkId {
        let link = self.fresh();
        self.wish(Wish::Connect(link, address.to_owned()));
        link
    }

    fn close(&mut self, link: LinkId) {
        self.wish(Wish::Close(link));
    }

    fn send(&mut self, link: LinkId, message: Message) {
        self.wish(Wish::Send(link, message));
    }

    fn send_data(&mut self, link: LinkId, head: DataHead, pieces: Vec<Bytes>) {
        let data = Data {
            epoch: head.epoch,
            bytes_epoch: head.bytes_epoch,
            offset: head.offset,
            file_end: head.file_end,
            confirm: head.confirm,
            bytes: pieces.concat().into(),
        };
        self.send(link, Message::Data(data));
    }
}

/// A request to the coordinator.
#[derive(Debug, Clone)]
pub enum Request {
    /// A current read.
    Read,
    /// A write.
    Cas(Cas),
}

/// Requests to the coordinator, taken out and answered by a test. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryRequests {
    out: Arc<Mutex<Option<Request>>>,
}

impl MemoryRequests {
    /// The request that is out.
    pub fn take(&self) -> Option<Request> {
        self.out.lock().take()
    }

    /// Whether the request that is out is a write.
    pub fn is_write(&self) -> bool {
        matches!(*self.out.lock(), Some(Request::Cas(_)))
    }

    fn ask(&self, request: Request) {
        let before = self.out.lock().replace(request);
        assert!(before.is_none(), "two requests to the coordinator at once");
    }
}

impl Coordinator for MemoryRequests {
    fn read(&mut self) {
        self.ask(Request::Read);
    }

    fn cas(&mut self, cas: Cas) {
        self.ask(Request::Cas(cas));
    }
}

/// Reads of the log for other replicas, taken out and made by a test. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct MemoryReader {
    out: Arc<Mutex<Option<(PhysicalOffset, u32)>>>,
}

impl MemoryReader {
    /// What is to be read: where, and how many bytes.
    pub fn take(&self) -> Option<(PhysicalOffset, u32)> {
        self.out.lock().take()
    }

    /// Whether something is.
    pub fn is_asked(&self) -> bool {
        self.out.lock().is_some()
    }
}

impl RangeReader for MemoryReader {
    fn read_range(&mut self, offset: PhysicalOffset, length: u32) {
        let before = self.out.lock().replace((offset, length));
        assert!(before.is_none(), "two reads for other replicas at once");
    }
}
