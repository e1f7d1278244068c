//! Binary search over what has to be read.

use std::io;

/// The first index in `low..high` for which `before` is false, `high` if there is none; `before` must not become true
/// again.
pub(crate) fn partition(
    mut low: u64,
    mut high: u64,
    before: impl Fn(u64) -> io::Result<bool>,
) -> io::Result<u64> {
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
