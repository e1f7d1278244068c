//! What is logged when a store was opened: after a crash an operator must read what it may have cost, and from when on.

use std::path::Path;

use rocket_store::{Flush, RecoveryReport};

/// One line, or two after a process that did not end in order. `flush`: of a broker that stands alone.
pub(crate) fn tell(dir: &Path, report: &RecoveryReport, flush: Option<Flush>) {
    tracing::info!(dir = %dir.display(), ?report, "the store is open");
    if report.clean {
        return;
    }
    let last_stored = jiff::Timestamp::from_millisecond(report.last_stored.0)
        .map_or_else(|_| "never".to_owned(), |time| time.to_string());
    let (log_end, tail_cut) = (report.log_end, report.tail_cut);
    match flush {
        Some(Flush::Sync) => tracing::warn!(
            last_stored,
            %log_end,
            tail_cut,
            "the last process did not end in order; with SYNC_FLUSH nothing that it acknowledged is lost"
        ),
        None => tracing::warn!(
            last_stored,
            %log_end,
            tail_cut,
            "the last process did not end in order; if the machine failed, what it had not flushed is lost here, and the group's state says whether this copy may lead"
        ),
        Some(Flush::Async) => tracing::warn!(
            last_stored,
            %log_end,
            tail_cut,
            "the last process did not end in order; if the machine failed, what it acknowledged with ASYNC_FLUSH after last_stored may be lost"
        ),
    }
}
