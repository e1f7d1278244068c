//! A producer and a long-polling consumer on one clock: how long a message takes from hand to hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::pull::{AtEnd, From, Pulled, Reader, Reading};
use super::send::{Load, Sent};
use super::{Control, Watch, Window};

/// Messages that were acknowledged must arrive in this time after the last send.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Runs `load` with stamps and a consumer of all its queues beside it. The consumer's latencies are those from stamp to receipt.
///
/// # Errors
/// Those of the producer or of the consumer.
pub fn run(load: &Load, watch: &mut dyn Watch) -> anyhow::Result<(Sent, Pulled)> {
    let broker = *load.brokers.first().context("no broker")?;
    let load = Load {
        stamps: true,
        ..load.clone()
    };
    let window = Window::new(load.warm_up, load.measured);
    let reading = Reading {
        topics: load.topics,
        queues: load.queues,
        format: load.format,
        connections: 1,
        from: From::Last,
        at_end: AtEnd::Wait,
        stamps: Some(window),
        group: format!("rocket-bench-{}", std::process::id()),
        ..Reading::on(broker, &load.topic)
    };
    // The consumer listens until it is told to stop.
    let listening = Window {
        to: u64::MAX,
        ..window
    };
    let consumer_control: Arc<Control> = Arc::default();
    let shared = Arc::clone(&consumer_control);
    let reader = Reader::start(&reading, listening)?;
    let consumer = std::thread::spawn(move || reader.run(&shared));
    let sent = load.run_in(window, &Arc::default(), watch);
    let end = Instant::now() + ARRIVAL;
    if let Ok(sent) = &sent {
        let wanted = sent.messages_in_all;
        while consumer_control.messages.load(Ordering::Relaxed) < wanted && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    consumer_control.stop();
    match consumer.join() {
        Ok(pulled) => Ok((sent?, pulled?)),
        Err(_) => bail!("the consumer panicked"),
    }
}
