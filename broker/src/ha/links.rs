//! Replication links as the network of a replica.

use bytes::Bytes;
use rocket_ha::{Event, Net};
use rocket_link::{DataHead, LinkId, Links, Message, Outgoing};

use super::Mail;

/// See the module. Its methods are called inside a runtime.
pub(super) struct LinkNet(Links);

impl LinkNet {
    pub(super) fn new(links: Links) -> Self {
        Self(links)
    }
}

impl Net for LinkNet {
    fn connect(&mut self, address: &str) -> LinkId {
        self.0.connect(address.to_owned())
    }

    fn close(&mut self, link: LinkId) {
        self.0.close(link);
    }

    fn send(&mut self, link: LinkId, message: Message) {
        self.0.send(link, Outgoing::Message(message));
    }

    fn send_data(&mut self, link: LinkId, head: DataHead, pieces: Vec<Bytes>) {
        self.0.send(link, Outgoing::Data { head, pieces });
    }
}

/// What happened on a link, as the replica is told.
pub(super) fn mail(event: rocket_link::Event) -> Mail {
    use rocket_link::Event as Happened;
    match event {
        Happened::Connected(link) => Mail::Happened(Event::Connected(link)),
        Happened::ConnectFailed(link) => Mail::Happened(Event::ConnectFailed(link)),
        Happened::Disconnected(link) => Mail::Happened(Event::Disconnected(link)),
        Happened::Received {
            link,
            message,
            share,
        } => Mail::Served(Event::Received(link, message), share),
    }
}
