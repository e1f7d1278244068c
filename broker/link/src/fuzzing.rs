//! Entries of the fuzzer (`broker/fuzz`): what a stranger may say first. A finding is a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::opening;
use crate::secret::{Secret, Side};

/// Name and entry of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("handshake", handshake)];

/// Both sides of the opening hear the bytes and nothing else: nobody who does not have the secret gets in.
fn handshake(data: &[u8]) {
    for side in [Side::Dialer, Side::Asker, Side::Listener] {
        let mut stream = tokio::io::join(data, tokio::io::sink());
        let secret = Secret::new(b"a secret of the cluster");
        let opened = pin!(opening::open(&mut stream, side, &secret));
        let Poll::Ready(opened) = opened.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("bytes in memory are there at once");
        };
        assert!(opened.is_err(), "a stranger got in");
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn what_the_fuzzer_found_worth_keeping_goes_through_its_decoder() {
        for (name, run) in TARGETS {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
            for entry in std::fs::read_dir(format!("{folder}{name}")).expect(name) {
                run(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }
}
