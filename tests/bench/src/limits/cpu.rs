//! How fast one core is at present.

use std::time::{Duration, Instant};

/// The best of three tenths of a second, in 10^6 steps per second.
pub(super) fn million_per_second() -> f64 {
    (0..3).map(|_| once()).fold(0.0, f64::max)
}

fn once() -> f64 {
    const STEPS: u32 = 100_000;
    let begin = Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut rounds = 0_u32;
    while begin.elapsed() < Duration::from_millis(100) {
        for _ in 0..STEPS {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        std::hint::black_box(state);
        rounds += 1;
    }
    f64::from(rounds) * f64::from(STEPS) / 1e6 / begin.elapsed().as_secs_f64()
}
