//! The records of a part of the log.

use rocket_protocol::RecordView;

use crate::log::ticket_of;

/// Calls `each` with all records of a log, up to the first thing that is none.
pub(super) fn for_each_record(
    log: &[u8],
    mut each: impl FnMut(&RecordView<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut rest = log;
    while !rest.is_empty() {
        let len = match RecordView::parse(rest) {
            Ok((view, len)) => {
                each(&view)?;
                len
            }
            Err(rocket_protocol::RecordError::Blank { len }) => len,
            Err(error) => return Err(format!("a record that is none: {error}")),
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    Ok(())
}

/// Offset in the queue and body of each record.
pub(super) fn bodies(chunk: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let (mut rest, mut found) = (chunk, Vec::new());
    while let Ok((view, len)) = RecordView::parse(rest) {
        found.push((view.queue_offset().to_wire(), view.body().to_vec()));
        rest = rest.get(len..).unwrap_or_default();
    }
    found
}

/// Offset in the queue and ticket of each record.
pub(super) fn views(chunk: &[u8]) -> Vec<(u64, u64)> {
    let (mut rest, mut found) = (chunk, Vec::new());
    while let Ok((view, len)) = RecordView::parse(rest) {
        found.extend(ticket_of(view.body()).map(|ticket| (view.queue_offset().0, ticket)));
        rest = rest.get(len..).unwrap_or_default();
    }
    found
}
