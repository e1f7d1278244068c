//! The one place where the broker reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use rocket_protocol::ids::UnixMillis;

/// Now, in milliseconds since 1970; 0 on a machine whose clock is before that.
pub fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
