//! Pulls every message of a topic from its masters.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use rocket_protocol::code::{RequestCode, ResponseCode};
use rocket_protocol::command::Command;
use rocket_protocol::message::RecordView;
use rocket_protocol::message::properties::{property, scan};
use rocket_remoting::Client;

use crate::check::Found;
use crate::produce::crc32;
use crate::route::{self, TIMEOUT, remark};
use crate::wire::pull;

/// Everything that the topic's masters give back, and each queue's first offset.
#[derive(Debug, Default)]
pub struct Contents {
    /// Every message.
    pub found: Vec<Found>,
    /// The first offset of each queue.
    pub first: BTreeMap<u32, u64>,
}

/// Reads a topic whole. Queue ids must not repeat over brokers: the checker speaks of one broker group.
///
/// # Errors
/// Any request that fails or any record that cannot be read.
pub async fn read(namesrv: &str, topic: &str) -> anyhow::Result<Contents> {
    let mut contents = Contents::default();
    for queue in route::queues(namesrv, topic).await? {
        let client = route::connect(&queue.addr).await?;
        let min = offset(&client, RequestCode::GET_MIN_OFFSET, topic, queue.id).await?;
        let max = offset(&client, RequestCode::GET_MAX_OFFSET, topic, queue.id).await?;
        if contents.first.insert(queue.id, min).is_some() {
            bail!("topic {topic} lies on several broker groups; check one group at a time");
        }
        let mut next = min;
        while next < max {
            next = take(&client, topic, queue.id, next, &mut contents.found).await?;
        }
    }
    Ok(contents)
}

/// Asks for the ends of all queues again and again until `is_over`, and keeps the greatest of each in `ends`: what a
/// reader was told is there.
///
/// # Errors
/// Any request that fails.
pub async fn ends(
    namesrv: &str,
    topic: &str,
    ends: &mut BTreeMap<u32, u64>,
    is_over: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let queues = route::queues(namesrv, topic).await?;
    let first = queues.first().context("a topic without queues")?;
    let client = route::connect(&first.addr).await?;
    while !is_over() {
        for queue in &queues {
            let end = offset(&client, RequestCode::GET_MAX_OFFSET, topic, queue.id).await?;
            let known = ends.entry(queue.id).or_default();
            *known = end.max(*known);
        }
    }
    Ok(())
}

async fn offset(
    client: &Client,
    code: RequestCode,
    topic: &str,
    queue: u32,
) -> anyhow::Result<u64> {
    let request = Command::request(code)
        .with_ext("topic", topic.to_owned())
        .with_ext("queueId", queue.to_string());
    let answer = client
        .call(request, TIMEOUT)
        .await
        .with_context(|| format!("{code} of queue {queue}"))?;
    if answer.response_code() != ResponseCode::SUCCESS {
        bail!(
            "{code} of queue {queue}: {} {}",
            answer.response_code(),
            remark(&answer)
        );
    }
    answer
        .ext
        .get("offset")
        .and_then(|text| text.parse().ok())
        .context("an answer without an offset")
}

async fn take(
    client: &Client,
    topic: &str,
    queue: u32,
    from: u64,
    found: &mut Vec<Found>,
) -> anyhow::Result<u64> {
    let request = pull::request(topic, queue, from, 32);
    let answer = client
        .call(request, TIMEOUT)
        .await
        .with_context(|| format!("pull of queue {queue} at {from}"))?;
    if answer.response_code() != ResponseCode::SUCCESS {
        bail!(
            "pull of queue {queue} at {from}: {} {}",
            answer.response_code(),
            remark(&answer)
        );
    }
    let body = answer.body.contiguous();
    let mut rest: &[u8] = &body;
    while !rest.is_empty() {
        let (record, len) = RecordView::parse(rest)
            .with_context(|| format!("a record of queue {queue} after {from}"))?;
        let properties = record.properties();
        let key = scan(properties, property::UNIQ_KEY)
            .context("a record without UNIQ_KEY")?
            .to_owned();
        found.push(Found {
            key,
            queue,
            offset: record.queue_offset().0,
            crc: crc32(record.body()),
        });
        rest = rest.get(len..).unwrap_or_default();
    }
    answer
        .ext
        .get("nextBeginOffset")
        .and_then(|text| text.parse().ok())
        .context("an answer without nextBeginOffset")
}
