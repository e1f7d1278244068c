//! Looks after a run whether the broker has what it acknowledged: a broker must not win by not storing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rocket_protocol::message::RecordView;

use super::offsets::Seen;
use crate::wire::call::Caller;
use crate::wire::frame::topic_name;
use crate::wire::pull;

/// Queues that are looked into.
const SAMPLES: usize = 8;

/// An acknowledged message must be readable in this time.
const PATIENCE: Duration = Duration::from_mins(1);

/// Asks for the end of up to eight queues that got messages, and reads the first and the last message that were acknowledged
/// there. Gives the time until all of them were in their queues.
///
/// # Errors
/// A queue ends before an acknowledged offset, or such a message cannot be read, has another offset or another length of its body.
pub fn check(
    broker: SocketAddr,
    (topic, topics, queues): (&str, u32, u32),
    body_bytes: usize,
    seen: &[Seen],
) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut waited = Duration::ZERO;
    let mut caller = Caller::connect(broker)?;
    let used: Vec<(usize, &Seen)> = seen
        .iter()
        .enumerate()
        .filter(|(_, seen)| seen.count() > 0)
        .collect();
    let step = used.len().div_ceil(SAMPLES).max(1);
    for (place, seen) in used.into_iter().step_by(step) {
        let place = u32::try_from(place)?;
        let name = topic_name(topic, topics, place / queues.max(1));
        let queue = place % queues.max(1);
        let (Some(first), Some(last)) = (seen.min(), seen.max()) else {
            continue;
        };
        let max = reached(&mut caller, (&name, queue), last)?;
        if max <= last {
            bail!("queue {queue} of {name} ends at {max}, though offset {last} was acknowledged");
        }
        waited = begin.elapsed();
        for offset in [first, last] {
            let body = read(&mut caller, &name, queue, offset)
                .with_context(|| format!("message {offset} of queue {queue} of {name}"))?;
            if body != body_bytes {
                bail!(
                    "message {offset} of queue {queue} of {name} has {body} bytes, not {body_bytes}"
                );
            }
        }
    }
    Ok(waited)
}

/// The end of a queue, once it is beyond `last` or patience has ended: an acknowledged message may be stored and not yet
/// in its queue.
fn reached(caller: &mut Caller, (topic, queue): (&str, u32), last: u64) -> anyhow::Result<u64> {
    let end = Instant::now() + PATIENCE;
    loop {
        let max = caller.max_offset(topic, queue)?;
        if max > last || Instant::now() > end {
            return Ok(max);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes of the body of the message at `offset`; its checksum is verified.
fn read(caller: &mut Caller, topic: &str, queue: u32, offset: u64) -> anyhow::Result<usize> {
    let request = pull::request(topic, queue, offset, 1);
    let body = caller.ask(&request)?.body.contiguous();
    let (record, _) = RecordView::parse(&body)?;
    if record.queue_offset().0 != offset {
        bail!("offset {} was given instead", record.queue_offset().0);
    }
    Ok(record.body().len())
}
