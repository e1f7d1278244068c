//! Memory that is there while a run fills the page cache.
//!
//! A virtual machine gives what is free back to its host, a few seconds after it became free, and gets it again page by page when
//! it is touched: some 300 MB a second where this was looked at, which is less than either broker appends. A run in such memory
//! measures the host. So memory is touched before a run and freed evenly over its time, a little ahead of who needs it.

use std::time::{Duration, Instant};

use crate::load::send::{Load, Sent};
use crate::process::Meter;

const CHUNK_BYTES: usize = 64 << 20;
const PAGE_BYTES: usize = 4 << 10;
/// The most that is held for a run.
const HELD_BYTES_MAX: u64 = 4 << 30;
/// Bytes of a record beside its body, and what else is written of it; rather more.
const BESIDE_BODY: u64 = 256;

/// Runs a load that may append `bytes`.
pub(super) fn run(load: &Load, meter: &mut Meter, bytes: u64) -> anyhow::Result<Sent> {
    let memory = Memory::take(bytes);
    std::thread::scope(|scope| {
        scope.spawn(|| memory.free_over(load.warm_up + load.measured));
        load.run(meter)
    })
}

/// What a load has appended, or a little more.
pub(super) fn appended(load: &Load, sent: &Sent) -> u64 {
    sent.messages_in_all * (load.body_bytes as u64 + BESIDE_BODY)
}

/// Memory that the host has given.
pub(super) struct Memory {
    chunks: Vec<Vec<u8>>,
}

impl Memory {
    /// Takes so many bytes, but leaves a quarter of what is free: nothing is to leave the page cache for it.
    pub(super) fn take(bytes: u64) -> Self {
        let status = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let bytes = bytes.min(HELD_BYTES_MAX).min(free_bytes(&status) / 4 * 3);
        let count = usize::try_from(bytes).unwrap_or(0) / CHUNK_BYTES;
        Self {
            chunks: std::iter::repeat_with(touched).take(count).collect(),
        }
    }

    /// Frees it in even steps over `time`.
    pub(super) fn free_over(self, time: Duration) {
        let begin = Instant::now();
        let step = time / u32::try_from(self.chunks.len()).unwrap_or(u32::MAX).max(1);
        for (chunk, number) in self.chunks.into_iter().zip(0..) {
            std::thread::sleep((step * number).saturating_sub(begin.elapsed()));
            drop(chunk);
        }
    }
}

fn touched() -> Vec<u8> {
    let mut chunk = vec![0; CHUNK_BYTES];
    chunk
        .iter_mut()
        .step_by(PAGE_BYTES)
        .for_each(|byte| *byte = 1);
    std::hint::black_box(chunk)
}

/// What `/proc/meminfo` calls `MemFree`.
fn free_bytes(status: &str) -> u64 {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("MemFree:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_what_the_kernel_says() {
        let status = "MemTotal:       24689048 kB\nMemFree:        13522996 kB\nMemAvailable:   22578264 kB\n";
        assert_eq!(free_bytes(status), 13_522_996 << 10);
        assert_eq!(free_bytes("Cached: 1 kB\n"), 0);
    }

    #[test]
    fn memory_is_taken_in_whole_chunks_and_freed_in_all() {
        assert!(Memory::take(CHUNK_BYTES as u64 - 1).chunks.is_empty());
        let memory = Memory::take(2 * CHUNK_BYTES as u64);
        assert!(memory.chunks.iter().all(|chunk| chunk.len() == CHUNK_BYTES));
        memory.free_over(Duration::ZERO);
    }
}
