//! Appends from 64 senders at once, each waiting for its answer, and prints how many flushes that took. Not a verdict:
//! the disk of the machine decides the rate; the number of flushes per message shows the grouping.
//!
//! `append_rate FOLDER [MESSAGES] [BODY_BYTES] [FLIGHTS]`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rocket_protocol::message::record::body_crc;
use rocket_protocol::{Message, QueueId, SysFlag, TopicName, UnixMillis};
use rocket_store::{
    Clock, Completion, Flush, LocalPolicy, NoEvents, Promise, PutOutcome, PutStatus, Store,
    StoreConfig,
};

struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "the edge of this program")]
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

struct Tell(Sender<PutStatus>);

impl Completion for Tell {
    fn complete(self, outcome: PutOutcome) {
        let _ended = self.0.send(outcome.status);
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge of this program")]
fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("which folder?")?);
    let mut number = |otherwise: usize| arguments.next().map_or(Ok(otherwise), |text| text.parse());
    let (messages, bytes, flights) = (number(50_000)?, number(1024)?, number(2)?);
    let config = StoreConfig {
        dir,
        segment_bytes: 256 << 20,
        flush_flights: flights,
        ..StoreConfig::default()
    };
    let policy = Arc::new(LocalPolicy { flush: Flush::Sync });
    let (store, _) = Store::open(config, Arc::new(System), policy, Arc::new(NoEvents))?;
    let body = bytes::Bytes::from(vec![b'x'; bytes]);
    let message = Message {
        topic: TopicName::parse("rate")?,
        queue_id: QueueId(0),
        flag: 0,
        sys_flag: SysFlag(0),
        born_timestamp: UnixMillis(0),
        born_host: "127.0.0.1:1".parse()?,
        store_host: "127.0.0.1:2".parse()?,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body,
        properties: bytes::Bytes::new(),
    };
    let (tell, told) = channel();
    let send = || {
        let completion = Tell(tell.clone());
        store
            .append(&[message.as_ref()], Promise::Kept, completion)
            .map_err(|refused| anyhow::anyhow!("{:?}", refused.into_parts().1))?;
        store.write_out();
        anyhow::Ok(())
    };
    let begun = Instant::now();
    let mut sent = messages.min(64);
    (0..sent).try_for_each(|_| send())?;
    for _ in 0..messages {
        anyhow::ensure!(told.recv()? == PutStatus::Ok, "a message was not stored");
        if sent < messages {
            send()?;
            sent += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let stats = store.stats();
    #[expect(clippy::cast_precision_loss, reason = "counts for people")]
    let (rate, flushes) = (
        messages as f64 / seconds,
        stats.flushes as f64 * 1000.0 / messages as f64,
    );
    println!(
        "{messages} messages of {bytes} bytes, 64 in flight, {flights} flights: {rate:.0} a second, {flushes:.1} flushes per 1000, {} batches",
        stats.batches_appended
    );
    store.close()?;
    Ok(())
}
