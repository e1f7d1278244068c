//! Entries of the fuzzer (`broker/fuzz`): files and flags of the configuration. A finding is a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

use super::load::from_entries;
use super::{BrokerConfig, Entry, NamesrvConfig, Place, Settings, source};

/// Name and entry of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("config", config)];

/// A file in both forms for both programs, and its lines as flags. The first byte may put a key that exists before a line.
fn config(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let at = |line| Place::Line("broker.conf".into(), line);
    match kind {
        0 => load(source::properties(text, at)),
        1 => load(source::toml(text, at)),
        _ => {
            let keys = BrokerConfig::KEYS;
            let key = keys[usize::from(kind) % keys.len()].name;
            load(Ok(Entry::from_flag(&format!("{key}={text}"))
                .into_iter()
                .collect()));
        }
    }
}

fn load(entries: Result<Vec<Entry>, super::Error>) {
    if let Ok(entries) = entries {
        let _ = from_entries::<BrokerConfig>(entries.clone()).map_err(|error| error.to_string());
        let _ = from_entries::<NamesrvConfig>(entries).map_err(|error| error.to_string());
    }
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
}
