//! Loopback TCP: echoes, `sendfile` out of the page cache, and from a connection into a file.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::fs::{FallocateFlags, fallocate, sendfile as sendfile_call};
use rustix::time::{ClockId, clock_gettime};

use super::flush::{Scratch, fill};
use super::megabytes_per_second;
use crate::load::latency::{Percentiles, histogram, record};
use crate::load::nanos;

const REQUEST_BYTES: usize = 1024;
const ANSWER_BYTES: usize = 64;
const PIECE_BYTES: usize = 256 << 10;
const FILE_BYTES: u64 = 64 << 20;

/// A connection of this process with itself.
fn pair() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

fn join<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    match thread.join() {
        Ok(outcome) => outcome,
        Err(_) => bail!("a thread panicked"),
    }
}

/// Requests of 1 KiB answered with 64 B, `in_flight` at a time: per second, and the median of a round trip in µs.
pub(super) fn echo(in_flight: usize, time: Duration) -> anyhow::Result<(f64, f64)> {
    let (mut client, server) = pair()?;
    let server = std::thread::spawn(move || answer(server));
    let requests = vec![0x5a_u8; REQUEST_BYTES * in_flight];
    let mut answers = vec![0_u8; ANSWER_BYTES * in_flight];
    let mut latencies = histogram();
    let (mut open, mut partial, mut done) = (0, 0, 0_u32);
    let begin = Instant::now();
    while done == 0 || begin.elapsed() < time {
        let start = Instant::now();
        let more = (in_flight - open) * REQUEST_BYTES;
        client.write_all(requests.get(..more).unwrap_or_default())?;
        open = in_flight;
        let read = client.read(&mut answers)?;
        partial += read;
        let answered = partial / ANSWER_BYTES;
        partial %= ANSWER_BYTES;
        open -= answered;
        done += u32::try_from(answered)?;
        record(&mut latencies, nanos(start.elapsed()));
    }
    let seconds = begin.elapsed().as_secs_f64();
    drop(client);
    join(server)?;
    Ok((f64::from(done) / seconds, Percentiles::of(&latencies).p50))
}

fn answer(mut server: TcpStream) -> anyhow::Result<()> {
    let mut requests = vec![0_u8; PIECE_BYTES];
    let answers = vec![1_u8; PIECE_BYTES / REQUEST_BYTES * ANSWER_BYTES + ANSWER_BYTES];
    let mut partial = 0;
    loop {
        let read = match server.read(&mut requests) {
            // A client that leaves with answers unread resets the connection.
            Ok(0) | Err(_) => return Ok(()),
            Ok(read) => read,
        };
        partial += read;
        let whole = partial / REQUEST_BYTES;
        partial %= REQUEST_BYTES;
        if server
            .write_all(answers.get(..whole * ANSWER_BYTES).unwrap_or_default())
            .is_err()
        {
            return Ok(());
        }
    }
}

/// MB per second, and per CPU second of the sending thread.
pub(super) fn sendfile(dir: &Path, time: Duration) -> anyhow::Result<(f64, f64)> {
    let scratch = Scratch::new(dir, "rocket-bench-sendfile")?;
    let file = scratch.open()?;
    fill(&file, FILE_BYTES)?;
    let (client, server) = pair()?;
    let reader = std::thread::spawn(move || swallow(client));
    let cpu = thread_seconds();
    let begin = Instant::now();
    let mut bytes = 0;
    while bytes == 0 || begin.elapsed() < time {
        let mut at = bytes % FILE_BYTES;
        bytes += sendfile_call(&server, &file, Some(&mut at), PIECE_BYTES)? as u64;
    }
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), thread_seconds() - cpu);
    drop(server);
    join(reader)?;
    Ok((
        megabytes_per_second(bytes, seconds),
        megabytes_per_second(bytes, cpu.max(1e-6)),
    ))
}

fn swallow(mut client: TcpStream) -> anyhow::Result<()> {
    let mut piece = vec![0_u8; PIECE_BYTES];
    while client.read(&mut piece)? > 0 {}
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a span of time needs no more than 53 bits"
)]
fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// One thread sends, one receives and writes into a file with reserved blocks: MB per second.
pub(super) fn receive_pwrite(dir: &Path, time: Duration) -> anyhow::Result<f64> {
    const ROOM: u64 = 1 << 30;
    let scratch = Scratch::new(dir, "rocket-bench-receive")?;
    let file = scratch.open()?;
    fallocate(&file, FallocateFlags::empty(), 0, ROOM)?;
    let (mut client, mut server) = pair()?;
    let sender = std::thread::spawn(move || -> anyhow::Result<()> {
        let data = vec![0x5a_u8; PIECE_BYTES];
        let begin = Instant::now();
        loop {
            client.write_all(&data)?;
            if begin.elapsed() >= time {
                break;
            }
        }
        Ok(())
    });
    let mut piece = vec![0_u8; PIECE_BYTES];
    let begin = Instant::now();
    let mut bytes = 0_u64;
    loop {
        let read = server.read(&mut piece)?;
        if read == 0 {
            break;
        }
        file.write_all_at(piece.get(..read).unwrap_or_default(), bytes % (ROOM / 2))?;
        bytes += read as u64;
    }
    let seconds = begin.elapsed().as_secs_f64();
    join(sender)?;
    Ok(megabytes_per_second(bytes, seconds))
}
