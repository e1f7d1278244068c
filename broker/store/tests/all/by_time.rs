//! Searches by time against a plain list: equal times, gaps, times before the first and after the last, and a beginning that
//! retention took.

use std::sync::Arc;

use proptest::prelude::*;
use rocket_protocol::QueueId;
use rocket_store::{Boundary, NoEvents, QueueRange};

use crate::reading::World;

/// What a plain list says: `times` of the messages from queue offset 0 on, of which those before `range.min` are gone.
fn expected(times: &[i64], range: QueueRange, time: i64, boundary: Boundary) -> i64 {
    let (min, max) = (range.min.to_wire(), range.max.to_wire());
    let mut left = (min..max).map(|offset| (offset, times[usize::try_from(offset).unwrap()]));
    match boundary {
        Boundary::Lower => left
            .find(|(_, stored)| *stored >= time)
            .map_or(max, |(offset, _)| offset),
        Boundary::Upper => left
            .rfind(|(_, stored)| *stored <= time)
            .map_or(min, |(offset, _)| offset),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_search_by_time_finds_what_a_plain_list_finds(
        sends in proptest::collection::vec((0..3_u32, 0..4_i64, 0..600_usize), 1..60),
        full_percent in proptest::option::of(86..99_u64),
    ) {
        let world = World::new(Arc::new(NoEvents));
        let mut times: [Vec<i64>; 3] = Default::default();
        let mut now = 10;
        for (queue, step, body) in sends {
            // Half of the steps are none: many messages of one millisecond.
            now += step.saturating_sub(1).max(0);
            world.send_to(queue, now, body);
            times[queue as usize].push(now);
        }
        if let Some(percent) = full_percent {
            world.fill_disk(percent);
        }
        for (queue, times) in (0..).zip(&times) {
            let Some(range) = world.engine.queue_range(&world.topic, QueueId(queue)) else {
                prop_assert!(times.is_empty());
                continue;
            };
            prop_assert_eq!(usize::try_from(range.max.0).unwrap(), times.len());
            for time in 8..now + 3 {
                for boundary in [Boundary::Lower, Boundary::Upper] {
                    let found = world.search(queue, time, boundary);
                    let wanted = expected(times, range, time, boundary);
                    prop_assert_eq!(found, wanted, "queue {} time {} {:?}", queue, time, boundary);
                }
            }
        }
    }
}
