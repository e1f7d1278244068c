use std::cell::Cell;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// Waits for messages of a queue from an offset on with one tags code, or with any when that is 0.
#[derive(Debug, PartialEq, Clone)]
struct Waiter {
    name: u32,
    queue: (TopicName, QueueId),
    from: u64,
    tag: i64,
    is_gone: bool,
}

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

impl Waiting for Waiter {
    fn queue(&self) -> (&TopicName, QueueId) {
        (&self.queue.0, self.queue.1)
    }
    fn wants(&self, queue_offset: u64, tags_code: i64) -> bool {
        ASKED.set(ASKED.get() + 1);
        queue_offset >= self.from && (self.tag == 0 || self.tag == tags_code)
    }
    fn is_gone(&self) -> bool {
        self.is_gone
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn waiter(name: u32, queue: u32, from: u64, tag: i64) -> Waiter {
    Waiter {
        name,
        queue: (topic("t"), QueueId(queue)),
        from,
        tag,
        is_gone: false,
    }
}

fn woken(polling: &LongPolling<Waiter>) -> Vec<(u32, Wake)> {
    let mut items = Vec::new();
    while !polling.take_woken(1000, &mut items) {}
    items.iter().map(|(item, why)| (item.name, *why)).collect()
}

#[test]
fn an_arrival_wakes_the_waiters_of_its_queue_that_want_it() {
    let polling = LongPolling::new(10);
    let deadline = ElapsedMillis(100);
    let mut other_topic = waiter(5, 0, 5, 0);
    other_topic.queue.0 = topic("u");
    for item in [
        waiter(1, 0, 5, 0),
        waiter(2, 0, 7, 0),
        waiter(3, 0, 5, 9),
        waiter(4, 1, 5, 0),
        other_topic,
    ] {
        polling.park(deadline, item).unwrap();
    }
    polling.arrived(&topic("t"), QueueId(0), 5, 8);
    assert_eq!(woken(&polling), [(1, Wake::Arrival)]);
    polling.arrived(&topic("t"), QueueId(0), 7, 9);
    assert_eq!(woken(&polling), [(2, Wake::Arrival), (3, Wake::Arrival)]);
    polling.arrived(&topic("t"), QueueId(0), 8, 9);
    assert_eq!(woken(&polling), []);
    assert_eq!(polling.len(), 2);
}

#[test]
fn a_waiter_is_woken_once_and_not_before_its_deadline() {
    let polling = LongPolling::new(10);
    let start = 1_700_000_000_000;
    for (name, after) in [(1, 20_000), (2, 10_000), (3, 120_000), (4, 500_000)] {
        let at = ElapsedMillis(start + after);
        polling.park(at, waiter(name, name, 0, 0)).unwrap();
    }
    for (after, expected) in [
        (9_999, vec![]),
        (10_000, vec![2]),
        (10_001, vec![]),
        (20_001, vec![1]),
        (119_999, vec![]),
        // The wheel has turned by more than once.
        (499_999, vec![3]),
        (500_000, vec![4]),
        (500_001, vec![]),
    ] {
        polling.tick(ElapsedMillis(start + after));
        let names: Vec<u32> = woken(&polling).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, expected, "{after}");
        assert_eq!(polling.ticked(), ElapsedMillis(start + after));
    }
    assert!(polling.is_empty());
}

#[test]
fn a_full_table_and_a_closed_one_give_the_waiter_back() {
    let polling = LongPolling::new(1);
    polling.park(ElapsedMillis(1), waiter(1, 0, 0, 0)).unwrap();
    let refused = polling.park(ElapsedMillis(1), waiter(2, 0, 0, 0));
    assert_eq!(refused.err().map(|waiter| waiter.name), Some(2));
    polling.tick(ElapsedMillis(1));
    assert_eq!(woken(&polling), [(1, Wake::Deadline)]);
    polling.park(ElapsedMillis(9), waiter(3, 0, 0, 0)).unwrap();
    polling.close();
    assert_eq!(woken(&polling), [(3, Wake::Deadline)]);
    assert!(polling.park(ElapsedMillis(9), waiter(4, 0, 0, 0)).is_err());
    assert!(polling.is_empty());
}

#[test]
fn only_one_gets_a_waiter() {
    let polling = LongPolling::new(10);
    let ticket = polling.park(ElapsedMillis(1), waiter(1, 0, 0, 0)).unwrap();
    polling.arrived(&topic("t"), QueueId(0), 0, 0);
    assert!(polling.take(ticket).is_none());
    assert_eq!(woken(&polling).len(), 1);
    let second = polling.park(ElapsedMillis(1), waiter(2, 0, 0, 0)).unwrap();
    assert!(polling.take(ticket).is_none());
    assert_eq!(polling.take(second).map(|waiter| waiter.name), Some(2));
    polling.close();
    assert_eq!(woken(&polling), []);
    assert!(polling.is_empty());
}

#[test]
fn those_that_nobody_waits_for_are_dropped_in_time() {
    let polling = LongPolling::new(10_000);
    for name in 0..2_000 {
        let mut item = waiter(name, name, 0, 0);
        item.is_gone = name % 2 == 0;
        polling.park(ElapsedMillis(1_000_000), item).unwrap();
    }
    for now in 0..20 {
        polling.tick(ElapsedMillis(now));
    }
    assert_eq!(polling.len(), 1000);
    assert_eq!(woken(&polling), []);
}

/// A hundred thousand pulls wait in as many queues: what one costs, and what an arrival and a tick look at.
#[test]
fn a_hundred_thousand_waiters_cost_little_and_nothing_per_arrival() {
    let polling = LongPolling::new(100_000);
    let count = 100_000;
    for name in 0..count {
        let deadline = ElapsedMillis(30_000 + i64::from(name % 1000));
        polling.park(deadline, waiter(name, name, 0, 0)).unwrap();
    }
    let bytes: usize = polling
        .shards
        .iter()
        .map(|shard| shard.lock().bytes())
        .sum();
    let each = bytes / 100_000;
    assert!(
        each <= size_of::<Waiter>() * 2 + 300,
        "{each} bytes a waiter"
    );
    ASKED.set(0);
    polling.arrived(&topic("t"), QueueId(77), 0, 0);
    assert_eq!((ASKED.get(), woken(&polling).len()), (1, 1));
    polling.arrived(&topic("t"), QueueId(count), 0, 0);
    assert_eq!(ASKED.get(), 1, "nobody waits there");
    let looked_at = |polling: &LongPolling<Waiter>| -> usize {
        polling
            .shards
            .iter()
            .map(|shard| shard.lock().looked_at())
            .sum()
    };
    for now in (0..30_000).step_by(100) {
        polling.tick(ElapsedMillis(now));
    }
    assert_eq!(looked_at(&polling), 0, "nothing is due yet");
    // All come within one second, and leave in batches of those who take them.
    polling.tick(ElapsedMillis(31_000));
    assert_eq!(looked_at(&polling), 99_999);
    let mut batch = Vec::new();
    assert!(!polling.take_woken(64, &mut batch));
    assert_eq!(batch.len(), 64);
    assert_eq!(polling.len(), 99_999 - 64);
    assert_eq!(woken(&polling).len(), 99_999 - 64);
    let kept: usize = polling
        .shards
        .iter()
        .map(|shard| shard.lock().bytes())
        .sum();
    assert!(kept < 512 << 10, "{kept} bytes stay");
}

#[tokio::test]
async fn whoever_serves_the_woken_is_told_of_each() {
    let polling = LongPolling::new(10);
    for round in 0..3 {
        polling
            .park(ElapsedMillis(9), waiter(round, 0, 0, 0))
            .unwrap();
        polling.arrived(&topic("t"), QueueId(0), 0, 0);
        polling.some_woken().await;
        assert_eq!(woken(&polling), [(round, Wake::Arrival)]);
    }
}

/// The table against a plain list, step by step.
#[test]
fn the_table_does_what_a_plain_list_would() {
    for seed in 0..200 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut table = Waiters::default();
        let mut model: Vec<(Name, i64, Waiter)> = Vec::new();
        let mut out: Vec<u32> = Vec::new();
        let (mut now, mut next) = (0i64, 0);
        for _ in 0..300 {
            let queue = random.random_range(0..4);
            match random.random_range(0..10) {
                0..5 => {
                    let deadline = now + random.random_range(-50..200_000);
                    let item = waiter(next, queue, random.random_range(0..5), 0);
                    next += 1;
                    let name = table.park(u64::from(queue), ElapsedMillis(deadline), item.clone());
                    model.push((name, deadline, item));
                }
                5..7 => {
                    let offset = random.random_range(0..5);
                    let name = topic("t");
                    let message = Arrived {
                        topic: &name,
                        queue_id: QueueId(queue),
                        queue_offset: offset,
                        tags_code: 0,
                    };
                    let count = table.arrived(u64::from(queue), &message);
                    let (woken, rest) = model.into_iter().partition(|(_, _, item)| {
                        item.queue.1 == QueueId(queue) && offset >= item.from
                    });
                    model = rest;
                    let woken: Vec<_> = woken;
                    assert_eq!(count, woken.len(), "seed {seed}");
                    out.extend(woken.iter().map(|(_, _, item)| item.name));
                }
                7 => {
                    now += random.random_range(0..60_000);
                    let count = table.expire(ElapsedMillis(now));
                    let (woken, rest) = model
                        .into_iter()
                        .partition(|(_, at, _): &(_, i64, _)| *at <= now);
                    model = rest;
                    let woken: Vec<(Name, i64, Waiter)> = woken;
                    assert_eq!(count, woken.len(), "seed {seed}");
                    out.extend(woken.iter().map(|(_, _, item)| item.name));
                }
                8 => {
                    while let Some((item, _)) = table.next_woken() {
                        let at = out.iter().position(|name| *name == item.name);
                        out.remove(at.unwrap_or_else(|| panic!("seed {seed}: {item:?}")));
                    }
                    assert_eq!(out, [0; 0], "seed {seed}");
                }
                _ if !model.is_empty() => {
                    let (name, _, item) = model.remove(random.random_range(0..model.len()));
                    assert_eq!(table.take(name), Some(item), "seed {seed}");
                    assert_eq!(table.take(name), None, "seed {seed}");
                }
                _ => {}
            }
            assert_eq!(table.len(), model.len() + out.len(), "seed {seed}");
        }
    }
}
