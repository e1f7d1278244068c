//! `kill -9` under load, and how long the next start takes to its first `SEND_OK`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::send::Load;
use super::{Control, Nobody, Window};
use crate::program::{Program, Running};
use crate::wire::frame::{Message, SendFrames, Shape};
use crate::wire::socket::{Fill, Socket};

/// How long a start may take to its first `SEND_OK`.
const PATIENCE: Duration = Duration::from_mins(5);

/// A probe that is not answered in this time is sent again on another connection.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// Between two tries of a probe.
const PROBE_PAUSE: Duration = Duration::from_micros(200);

/// One round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Seconds from the exec to the first `SEND_OK`.
    pub seconds: f64,
    /// Messages that were acknowledged before the kill.
    pub acked: u64,
}

/// Loads the running broker, kills it in the middle, starts it again. Gives the started process back, for the next round.
///
/// # Errors
/// A broker that does not start, or ends by itself.
pub fn round(
    program: &Program,
    running: Running,
    load: &Load,
    before_kill: Duration,
) -> anyhow::Result<(Running, Round)> {
    let control: Arc<Control> = Arc::default();
    let window = Window::new(Duration::ZERO, before_kill + Duration::from_secs(2));
    let (sending, shared) = (load.clone(), Arc::clone(&control));
    let sender = std::thread::spawn(move || sending.run_in(window, &shared, &mut Nobody));
    std::thread::sleep(before_kill);
    running.kill()?;
    control.stop();
    let acked = match sender.join() {
        Ok(sent) => sent?.messages_in_all,
        Err(_) => bail!("the producer panicked"),
    };
    let begin = Instant::now();
    let mut started = program.start()?;
    let broker = *load.brokers.first().context("no broker")?;
    await_send_ok(broker, &load.topic, || started.has_ended())?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok((started, Round { seconds, acked }))
}

/// Sends one message again and again until one is acknowledged.
///
/// # Errors
/// The broker has ended, or nothing is acknowledged in five minutes; with the last reason.
pub fn await_send_ok(
    broker: SocketAddr,
    topic: &str,
    has_ended: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    await_master(&[broker], topic, has_ended)?;
    Ok(())
}

/// Sends one message to the brokers of a group in turn until one acknowledges it: which that is.
///
/// # Errors
/// A broker has ended, or nothing is acknowledged in five minutes; with the last reason.
pub fn await_master(
    brokers: &[SocketAddr],
    topic: &str,
    mut has_ended: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<SocketAddr> {
    let end = Instant::now() + PATIENCE;
    let mut looked = Instant::now();
    loop {
        for broker in brokers {
            match probe(*broker, topic) {
                Ok(()) => return Ok(*broker),
                Err(error) if Instant::now() > end => {
                    return Err(error).context("no SEND_OK in five minutes");
                }
                Err(error) => {
                    // Looking after the process costs a system call; once in a while is enough.
                    if looked.elapsed() > Duration::from_millis(50) {
                        looked = Instant::now();
                        if has_ended()? {
                            return Err(error).context("the broker has ended");
                        }
                    }
                }
            }
        }
        std::thread::sleep(PROBE_PAUSE);
    }
}

fn probe(broker: SocketAddr, topic: &str) -> anyhow::Result<()> {
    let shape = Shape {
        format: rocket_protocol::command::HeaderFormat::Compact,
        topic: topic.to_owned(),
        topics: 1,
        queues: 1,
        body_bytes: 64,
        batch: 1,
        origin: u64::from(std::process::id()),
    };
    let message = Message {
        opaque: crate::wire::OPAQUE_BASE,
        topic: 0,
        queue: 0,
        born: 1_800_000_000_000,
        sequence: 0,
        stamp: None,
    };
    let mut socket = Socket::connect(broker, 1 << 10)?;
    SendFrames::new(&shape).write(&message, &mut socket.output);
    socket.flush()?;
    let end = Instant::now() + PROBE_PATIENCE;
    while Instant::now() < end {
        if socket.fill()? == Fill::Nothing {
            std::thread::sleep(PROBE_PAUSE);
            continue;
        }
        if let Some(frame) = socket.next_frame()? {
            let answer = crate::wire::answer::Answer::scan(frame.kind, frame.header);
            match answer {
                Some(answer) if answer.code == 0 && answer.offset.is_some() => return Ok(()),
                _ => bail!("{}", crate::wire::answer::readable(frame.header)),
            }
        }
    }
    bail!("no answer in {PROBE_PATIENCE:?}")
}
