//! Replication links as the network of a replica.

use bytes::Bytes;
use rocket_ha::{Event, Net};
use rocket_link::{DataHead, LinkId, Links, Message, Outgoing};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Mail, Post};

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

/// Brings what happens on the links to the replica.
pub(super) async fn forward(mut events: UnboundedReceiver<rocket_link::Event>, post: Post) {
    use rocket_link::Event as Happened;
    while let Some(event) = events.recv().await {
        post.mail(match event {
            Happened::Connected(link) => Mail::Happened(Event::Connected(link)),
            Happened::ConnectFailed(link) => Mail::Happened(Event::ConnectFailed(link)),
            Happened::Disconnected(link) => Mail::Happened(Event::Disconnected(link)),
            Happened::Received {
                link,
                message,
                share,
            } => Mail::Served(Event::Received(link, message), share),
        });
    }
}
