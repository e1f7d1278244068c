//! Rules about places: dense, in order, each used once, batches whole.

use std::collections::{BTreeMap, HashMap};

use super::{Found, Sent, Violation};

pub(super) fn dense(found: &[Found], first: &BTreeMap<u32, u64>, violations: &mut Vec<Violation>) {
    let mut queues: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for message in found {
        queues
            .entry(message.queue)
            .or_default()
            .push(message.offset);
    }
    for (queue, mut offsets) in queues {
        offsets.sort_unstable();
        let mut expected = first.get(&queue).copied().unwrap_or(0);
        for found in offsets {
            if found != expected {
                violations.push(Violation::Gap {
                    queue,
                    expected,
                    found,
                });
            }
            expected = found + 1;
        }
    }
}

/// A producer that waits for each answer has its messages in order; one that pipelines has no order to lose, and its
/// events carry sequence numbers that only rise when the previous answer was in.
pub(super) fn ordered(
    sent: &HashMap<&str, Sent<'_>>,
    found: &[Found],
    violations: &mut Vec<Violation>,
) {
    /// One message of a lane: offset, place in the order of sending, key.
    type Place<'a> = (u64, u64, &'a str);
    let mut lanes: BTreeMap<(u32, u32), Vec<Place<'_>>> = BTreeMap::new();
    for message in found {
        if let Some(known) = sent.get(message.key.as_str()) {
            let lane = lanes.entry((known.producer, message.queue)).or_default();
            lane.push((message.offset, known.sequence, known.key));
        }
    }
    for lane in lanes.values_mut() {
        lane.sort_unstable();
        for pair in lane.windows(2) {
            if let [(_, first, later), (_, second, earlier)] = pair
                && second < first
            {
                violations.push(Violation::Reordered {
                    earlier: (*earlier).to_owned(),
                    later: (*later).to_owned(),
                });
            }
        }
    }
}

/// No two answers name one place.
pub(super) fn used_once(sent: &HashMap<&str, Sent<'_>>, violations: &mut Vec<Violation>) {
    let mut acked: Vec<_> = sent
        .values()
        .filter_map(|known| Some((known.acked?, known.physical, known.key)))
        .collect();
    acked.sort_unstable();
    for pair in acked.windows(2) {
        if let [(place, _, one), (other_place, _, other)] = pair
            && place == other_place
        {
            let (queue, offset) = *place;
            violations.push(Violation::Reused {
                queue,
                offset,
                keys: [(*one).to_owned(), (*other).to_owned()],
            });
        }
    }
    acked.sort_unstable_by_key(|&(_, physical, key)| (physical, key));
    for pair in acked.windows(2) {
        if let [(_, Some(physical), one), (_, Some(other_physical), other)] = pair
            && physical == other_physical
        {
            violations.push(Violation::ReusedPlace {
                physical: *physical,
                keys: [(*one).to_owned(), (*other).to_owned()],
            });
        }
    }
}

/// Of a batch there is all, nothing, or a beginning, and nothing stands in between.
pub(super) fn whole(
    sent: &HashMap<&str, Sent<'_>>,
    places: &HashMap<&str, &Found>,
    first: &BTreeMap<u32, u64>,
    violations: &mut Vec<Violation>,
) {
    let mut batches: BTreeMap<(u32, u64), Vec<(u64, &str)>> = BTreeMap::new();
    for known in sent.values() {
        if let Some(batch) = known.batch {
            let batch = batches.entry((known.producer, batch)).or_default();
            batch.push((known.sequence, known.key));
        }
    }
    for batch in batches.values_mut() {
        batch.sort_unstable();
        for pair in batch.windows(2) {
            let [(_, before), (_, key)] = pair else {
                continue;
            };
            let Some(place) = places.get(key) else {
                continue;
            };
            let begin = first.get(&place.queue).copied().unwrap_or(0);
            let alone = match places.get(before) {
                Some(before) => (before.queue, before.offset + 1) != (place.queue, place.offset),
                None => place.offset != begin || begin == 0,
            };
            if alone {
                let first = batch
                    .first()
                    .map_or_else(String::new, |(_, key)| (*key).to_owned());
                violations.push(Violation::Torn {
                    first,
                    key: (*key).to_owned(),
                });
                break;
            }
        }
    }
}
