//! Where this broker keeps its residence proof (docs/replication.md §4.1), and what its store tells of its flushes.
//!
//! `/dev/shm` of a pod lives as long as the pod, over restarts of its containers, and so does the mount of its volume: what a
//! killed process had written is there as long as the proof is. Another machine, another pod or another boot has neither.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocket_ha::{BootId, Items, Residence, Shelf};
use rocket_mapped_file::disk::DiskDirectory;

use crate::config::BrokerConfig;
use crate::mutant::mutations;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What `statfs` says of file systems that are in memory only (`TMPFS_MAGIC`, `RAMFS_MAGIC`).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Hears of the store's flushes and keeps the proof.
pub(crate) struct Witness {
    residence: Arc<Residence>,
    /// The store's.
    folder: PathBuf,
}

impl Witness {
    pub(crate) fn of(config: &BrokerConfig) -> Self {
        let path = config.residence_proof_path.as_deref();
        let residence = match path.map(shelf) {
            None => Residence::none(),
            Some(Ok(shelf)) => Residence::on(shelf),
            Some(Err(why)) => {
                tracing::warn!(path = ?path, %why, "no residence proof is made: if this process is killed while flush is ASYNC, its replica is not taken for complete");
                Residence::none()
            }
        };
        Self {
            residence: Arc::new(residence.with_mutations(mutations())),
            folder: config.store_path_root_dir.clone(),
        }
    }

    pub(crate) fn residence(&self) -> Arc<Residence> {
        Arc::clone(&self.residence)
    }

    /// The store's folder is locked.
    pub(crate) fn locked(&self) {
        match DiskDirectory::open(&self.folder) {
            Ok(dir) => self.residence.look(&Items::new(Arc::new(dir))),
            Err(error) => tracing::warn!(%error, "no residence proof is looked for"),
        }
    }

    pub(crate) fn flush_begins(&self) {
        self.residence.flush_begins();
    }

    pub(crate) fn flush_succeeded(&self) {
        self.residence.flush_succeeded();
    }

    pub(crate) fn lost(&self) {
        self.residence.lost();
    }
}

/// A folder of this user's own in `path`, if that is in memory.
fn shelf(path: &Path) -> Result<Shelf, String> {
    let stat = rustix::fs::statfs(path).map_err(|error| error.to_string())?;
    let kind = u64::try_from(stat.f_type).unwrap_or(0);
    if !IN_MEMORY.contains(&kind) {
        return Err("it is on a disk".to_owned());
    }
    let user = rustix::process::getuid().as_raw();
    let folder = path.join(format!("rocketcluster-{user}"));
    // Nobody else may write there.
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error.to_string());
        }
        _ => {}
    }
    let dir = DiskDirectory::open(&folder).map_err(|error| error.to_string())?;
    let boot = fs::read_to_string(BOOT_ID).map_err(|error| error.to_string())?;
    let boot = boot_id(&boot).ok_or("the kernel does not say which boot this is")?;
    Ok(Shelf {
        dir: Arc::new(dir),
        boot,
    })
}

fn boot_id(text: &str) -> Option<BootId> {
    let digits = text.trim().replace('-', "");
    let is_id = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let id = u128::from_str_radix(&digits, 16).ok()?;
    is_id.then_some(BootId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_is_known_by_its_uuid_and_nothing_else() {
        let id = "00000000-0000-4000-8000-0000000000ab\n";
        assert_eq!(boot_id(id), Some(BootId(0x4000_8000_0000_0000_00ab)));
        for wrong in ["", "ab", "+0000000-0000-4000-8000-0000000000ab"] {
            assert_eq!(boot_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn folder_on_a_disk_is_no_place_for_it() {
        // What the kernel shows of itself is on no disk and in no memory that a program may write.
        let proc = shelf(Path::new("/proc"));
        assert!(proc.is_err_and(|why| why == "it is on a disk"));
    }
}
