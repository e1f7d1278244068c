//! Replicas that are played in tests: they answer questions over real links, and that is all.

use std::sync::Arc;

use parking_lot::Mutex;
use rocket_link::{Event, Links, Message, Outgoing, Secret, Settings};
use rocket_replication::memory::member;
use rocket_replication::messages::{Holding, Report, RoleName};
use rocket_replication::{DiskId, Epoch, GroupUid, PhysicalOffset, Version};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What they and who asks them prove themselves with.
pub(super) const SECRET: &[u8] = b"a secret of the cluster, of some length";

/// The same as a secret.
pub(super) fn secret() -> Secret {
    Secret::new(SECRET)
}

/// What a replica holds that reports so.
fn holding(report: &Report) -> Holding {
    let id = report.member.replica_id;
    Holding {
        disk_id: DiskId(u128::from(id.0)),
        group: Some((GroupUid(9), id)),
        former: None,
        incarnation: report.member.incarnation,
        role: report.role,
        max_epoch: report.max_epoch,
        version: report.version,
        last: report.last,
        log_end: report.log_end,
        damaged: report.damaged,
    }
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
            let Event::Received { link, message, .. } = event else {
                continue;
            };
            let report = *told.lock();
            let said = match message {
                Message::Probe => Message::Report(report),
                Message::Survey => Message::Holding(Box::new(holding(&report))),
                _ => continue,
            };
            links.send(link, Outgoing::Message(said));
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(answering));
    report
}
