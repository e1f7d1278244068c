//! Entries of the fuzzer (`broker/fuzz`): changes of metadata. A finding is a panic.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

use super::change::{Change, Record};
use super::state::State;

/// Name and entry of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of this module.
pub const TARGETS: &[Target] = &[("metadata_change", metadata_change)];

/// Lines, each a change: they are folded, and what comes out of that is written and read again as parts of a snapshot.
fn metadata_change(data: &[u8]) {
    let mut state = State::default();
    for (line, offset) in data.split(|byte| *byte == b'\n').zip(0..) {
        let Ok(record) = Record::decode(line) else {
            continue;
        };
        let again = Record::decode(&record.encode().unwrap()).unwrap();
        assert_eq!(again, record);
        if let Change::Part(part) = &record.change {
            state.add(part.content.clone());
        }
        state.apply(&record, offset);
    }
    let mut again = State::default();
    for content in state.split(100) {
        again.add(content);
    }
    assert_eq!(again, state);
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn what_the_fuzzer_found_worth_keeping_goes_through_its_decoder() {
        for (name, run) in TARGETS {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/");
            for entry in std::fs::read_dir(format!("{folder}{name}")).expect(name) {
                run(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }

    /// What the fuzzer does, a little of it and always the same.
    #[test]
    fn nothing_that_is_nearly_a_change_is_a_finding() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = move |end: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % end as u64).unwrap()
        };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/metadata_change");
        for entry in std::fs::read_dir(folder).unwrap() {
            let good = std::fs::read(entry.unwrap().path()).unwrap();
            for _ in 0..3000 {
                let mut bytes = good.clone();
                for _ in 0..=below(3) {
                    let at = below(bytes.len());
                    match below(4) {
                        0 => bytes[at] ^= 1 << below(8),
                        1 => drop(bytes.remove(at)),
                        2 => bytes.insert(at, b"\"{}[]:,-0919enulx@"[below(18)]),
                        _ => {
                            let end = (at + below(40)).min(bytes.len());
                            let again = bytes[at..end].to_vec();
                            bytes.splice(at..at, again);
                        }
                    }
                }
                super::metadata_change(&bytes);
            }
        }
    }
}
