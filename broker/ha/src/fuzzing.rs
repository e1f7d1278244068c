//! Entry of the fuzzer (`broker/fuzz`): the small files of a replica. A finding is a panic.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a finding is a panic"
)]

use std::sync::Arc;

use rocket_mapped_file::Directory;
use rocket_mapped_file::memory::MemoryDirectory;
use rocket_replication::epochs::Epochs;
use rocket_replication::{DiskId, Epoch, Version};

use crate::disk::Items;
use crate::sealed::{Kind, seal};

/// Name and entry of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("replica_items", replica_items)];

/// One file. The first byte says which, and whether the rest is taken as it is or as the content behind a head that is right,
/// of the first version or the second. One value in 64 means the file that came last, so that what was found before it came means what
/// it meant.
/// What is read is written and reads the same.
fn replica_items(data: &[u8]) {
    let Some((&choice, content)) = data.split_first() else {
        return;
    };
    let kind = [Kind::Meta, Kind::Seen, Kind::Epochs, Kind::Clean, Kind::Cut];
    let kind = match choice % 64 {
        63 => Kind::Runs,
        _ => *kind.get(usize::from(choice % 5)).expect("one of five"),
    };
    let dir = MemoryDirectory::default();
    let items = Items::new(Arc::new(dir.clone()));
    items.format(DiskId(1), &Epochs::default()).unwrap();
    items.save_seen(Epoch(1), Version(1)).unwrap();
    let file = if choice >= 128 {
        content.to_vec()
    } else {
        seal(kind, 1 + u16::from(choice >= 64), content)
    };
    dir.replace(&kind.path(), &file).unwrap();
    let Ok(saved) = items.load() else { return };
    let saved = saved.expect("it is formatted");
    items.save_meta(&saved.meta).unwrap();
    items.save_seen(saved.seen.0, saved.seen.1).unwrap();
    items.save_epochs(&saved.epochs).unwrap();
    if let Some(mark) = &saved.clean {
        items.save_clean(mark).unwrap();
    }
    if let Some(intent) = &saved.cut {
        items.save_cut(intent).unwrap();
    }
    if let Some(runs) = &saved.runs {
        items.save_runs(runs).unwrap();
    }
    assert_eq!(items.load().unwrap(), Some(saved));
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
