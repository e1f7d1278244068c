//! Replicas that are played in tests: they answer questions over real links, and that is all.

use std::sync::Arc;

use parking_lot::Mutex;
use rocket_link::{Event, Links, Message, Outgoing, Secret, Settings};
use rocket_replication::memory::member;
use rocket_replication::messages::{Report, RoleName};
use rocket_replication::{Epoch, PhysicalOffset, Version};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What they and who asks them prove themselves with.
pub(super) fn secret() -> Secret {
    Secret::new(b"a secret of the cluster, of some length")
}

/// Answers every question as replica `id` until `stop`; what it says can be changed.
pub(super) fn answer(
    id: u32,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Arc<Mutex<Report>> {
    let report = Report {
        member: member(id),
        role: RoleName::Idle,
        max_epoch: Epoch(1),
        last: None,
        log_end: PhysicalOffset(0),
        durable_end: PhysicalOffset(0),
        confirm: PhysicalOffset(0),
        version: Version(1),
        master_linked: false,
        damaged: false,
    };
    let (links, mut events) =
        Links::new(Settings::default(), secret(), tasks.clone(), stop.clone());
    links.listen(listener);
    let report = Arc::new(Mutex::new(report));
    let told = Arc::clone(&report);
    let answering = async move {
        while let Some(event) = events.recv().await {
            if let Event::Received {
                link,
                message: Message::Probe,
                ..
            } = event
            {
                let report = *told.lock();
                links.send(link, Outgoing::Message(Message::Report(report)));
            }
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(answering));
    report
}
