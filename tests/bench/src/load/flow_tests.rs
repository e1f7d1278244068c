use std::time::Duration;

use super::*;
use crate::load::latency::{Percentiles, histogram};

const MS: u64 = 1_000_000;

fn window(seconds: u64) -> Window {
    Window::new(Duration::ZERO, Duration::from_secs(seconds))
}

/// A broker that answers after 1 ms, one request after another in the order they came, and does nothing at all between 4 s
/// and 5 s of a run of 10 s. Time is simulated.
fn stalling_broker(pace: Pace, in_flight: u32) -> (u64, Percentiles) {
    let mut flow = Flow::new(pace, window(10), in_flight, u64::MAX);
    let mut latencies = histogram();
    let mut queue: std::collections::VecDeque<(u64, i32)> = std::collections::VecDeque::new();
    let mut answered = 0;
    for now in (0..11_000 * MS).step_by(100_000) {
        let stalled = (4000 * MS..5000 * MS).contains(&now);
        while let Some((due, opaque)) = queue
            .front()
            .copied()
            .filter(|(due, _)| *due <= now && !stalled)
        {
            let _ = due;
            queue.pop_front();
            let (finished, took) = flow.finish(now, opaque).expect("an open request");
            assert!(finished.measured || now >= 10_000 * MS);
            latency::record(&mut latencies, took);
            answered += 1;
        }
        while let Some(start) = flow.start(now, || 0) {
            queue.push_back((now + MS, start.opaque));
        }
    }
    (answered, Percentiles::of(&latencies))
}

#[test]
fn an_open_loop_sees_a_stall_as_its_customers_would() {
    let open = Pace::Open {
        interval: 1e6,
        first: 0.0,
    };
    let (answered, latency) = stalling_broker(open, 1 << 14);
    assert_eq!(answered, 10_000);
    // One second in ten: a tenth of the requests was intended in it, and waited half a second in the mean.
    assert!((1_000.0..1_300.0).contains(&latency.p50), "{latency:?}");
    assert!(latency.p99 > 850_000.0, "{latency:?}");
    assert!(latency.max > 990_000.0, "{latency:?}");
}

#[test]
fn the_same_stall_is_seen_though_all_slots_are_taken() {
    let open = Pace::Open {
        interval: 1e6,
        first: 0.0,
    };
    let (answered, latency) = stalling_broker(open, 16);
    assert_eq!(answered, 10_000);
    assert!(latency.p99 > 850_000.0, "{latency:?}");
}

#[test]
fn a_closed_loop_does_not_see_it() {
    let (_, latency) = stalling_broker(Pace::Closed, 1);
    assert!(latency.p99 < 1_300.0, "{latency:?}");
    assert!(latency.max > 990_000.0, "{latency:?}");
}

#[test]
fn what_never_left_counts_with_the_time_it_waited() {
    let open = Pace::Open {
        interval: 1e8,
        first: 0.0,
    };
    let mut flow = Flow::new(open, window(1), 1, u64::MAX);
    assert!(flow.start(0, || 0).is_some());
    let mut latencies = histogram();
    // One is open, nine more were intended at 0.1 s .. 0.9 s.
    assert_eq!(flow.give_up(2_000 * MS, &mut latencies), 10);
    assert_eq!(latencies.len(), 10);
    let latency = Percentiles::of(&latencies);
    assert!(
        (1_990_000.0..2_010_000.0).contains(&latency.max),
        "{latency:?}"
    );
    assert!(latencies.min() >= 1_090 * MS);
}

#[test]
fn what_was_not_due_when_a_run_is_stopped_counts_nothing() {
    let open = Pace::Open {
        interval: 1e8,
        first: 0.0,
    };
    let mut flow = Flow::new(open, window(10), 1, u64::MAX);
    assert!(flow.start(0, || 0).is_some());
    let mut latencies = histogram();
    // Stopped after a quarter of a second: one is open, two more were intended.
    assert_eq!(flow.give_up(250 * MS, &mut latencies), 3);
    assert!(latencies.min() >= 49 * MS);
}

#[test]
fn an_answer_counts_once_and_only_for_an_open_request() {
    let mut flow = Flow::new(Pace::Closed, window(1), 2, u64::MAX);
    let first = flow.start(0, || 7).expect("a free slot");
    let second = flow.start(0, || 8).expect("a free slot");
    assert!(flow.start(0, || 9).is_none(), "two are in flight");
    let (finished, took) = flow.finish(5, first.opaque).expect("an open request");
    assert_eq!((finished.note, took), (7, 5));
    assert_eq!(flow.finish(6, first.opaque), None, "answered twice");
    let third = flow.start(6, || 9).expect("a free slot");
    assert_ne!(
        third.opaque, first.opaque,
        "the slot's next request has another number"
    );
    assert_eq!(flow.finish(7, first.opaque), None, "answered twice");
    assert_eq!(flow.finish(7, second.opaque).map(|(f, _)| f.note), Some(8));
    assert_eq!(flow.finish(7, 3), None, "never asked");
    assert_eq!(flow.open(), 1);
}

#[test]
fn opaques_keep_ten_digits_over_many_turns() {
    let mut flow = Flow::new(Pace::Closed, window(1), 3, u64::MAX);
    flow.slots[2].turn = u32::MAX - 3;
    for _ in 0..8 {
        let start = flow.start(0, || 0).expect("a free slot");
        assert!(start.opaque >= OPAQUE_BASE, "{start:?}");
        assert!(flow.finish(0, start.opaque).is_some());
    }
}
