//! Keeps a happening that a peer can cause at will from filling the log: one line a second, with the number left out.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct RateLimit(Mutex<(Option<Instant>, u64)>);

impl RateLimit {
    /// `Some(n)`: write a line now, `n` were left out since the last one.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut state = self.0.lock();
        let (last, suppressed) = &mut *state;
        let now = Instant::now();
        if last.is_some_and(|last| now - last < INTERVAL) {
            *suppressed += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_tells_how_many_were_left_out() {
        let limit = RateLimit::default();
        assert_eq!(
            [limit.admit(), limit.admit(), limit.admit()],
            [Some(0), None, None]
        );
        tokio::time::advance(INTERVAL).await;
        assert_eq!([limit.admit(), limit.admit()], [Some(2), None]);
    }
}
