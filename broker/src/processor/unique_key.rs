//! Ids for messages whose producer gave none (`MessageClientIDSetter`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rocket_protocol::UnixMillis;
use rocket_protocol::message::UniqueKey;

/// Makes ids that no other process makes: by address, process, a random number, time and a counter.
#[derive(Debug)]
pub(super) struct UniqueKeys {
    ip: IpAddr,
    process_id: u16,
    random: u32,
    counter: AtomicU32,
}

impl UniqueKeys {
    pub(super) fn new(ip: IpAddr) -> Self {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        Self {
            ip,
            process_id: u16::from_be_bytes([high, low]),
            random: rand::random(),
            counter: AtomicU32::new(0),
        }
    }

    /// The next id.
    pub(super) fn next(&self, now: UnixMillis) -> String {
        let [_, _, high, low] = self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        UniqueKey {
            ip: self.ip,
            process_id: self.process_id,
            class_loader_hash: self.random,
            month_millis: month_millis(now),
            counter: u16::from_be_bytes([high, low]),
        }
        .to_string()
    }
}

/// Milliseconds since the start of the month: tools compute from it when the message was made.
fn month_millis(now: UnixMillis) -> u32 {
    let start = Timestamp::from_millisecond(now.0)
        .ok()
        .and_then(|now| {
            let now = now.to_zoned(TimeZone::UTC);
            now.first_of_month().ok()?.start_of_day().ok()
        })
        .map_or(0, |start| start.timestamp().as_millisecond());
    u32::try_from(now.0.saturating_sub(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_tell_the_time_of_the_month() {
        let keys = UniqueKeys::new(IpAddr::from([127, 0, 0, 1]));
        let now = UnixMillis(1_700_000_000_000);
        let key = keys.next(now);
        assert_ne!(key, keys.next(now));
        assert_eq!(key.len(), 32);
        // 2023-11-14T22:13:20Z.
        assert_eq!(
            month_millis(now),
            ((13 * 24 + 22) * 3600 + 13 * 60 + 20) * 1000
        );
        let parsed: UniqueKey = key.parse().unwrap();
        assert_eq!(parsed.month_millis, month_millis(now));
    }
}
