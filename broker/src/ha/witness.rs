//! Where this broker keeps its residence proof (docs/replication.md §4.1), what its store tells of its flushes, and what a start
//! finds of a failure of the run before.
//!
//! `/dev/shm` of a pod lives as long as the pod, over restarts of its containers, and so does the mount of its volume: what a
//! killed process had written is there as long as the proof is. Another machine, another pod or another boot has neither.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use rocket_ha::{BootId, FolderId, Items, Residence, Shelf, StartError, look_at_failures};
use rocket_mapped_file::Directory;
use rocket_mapped_file::disk::DiskDirectory;
use rocket_store::{FailureKind, PastFailure, past_failure};

use super::millis;
use crate::clock;
use crate::config::BrokerConfig;
use crate::mutant::mutations;

/// The store's, in its folder. It is made once and never replaced.
const LOCK: &str = "lock";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What `statfs` says of file systems that are in memory only (`TMPFS_MAGIC`, `RAMFS_MAGIC`).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Hears of the store's flushes and keeps the proof.
pub(crate) struct Witness {
    residence: Arc<Residence>,
    /// The store's.
    folder: PathBuf,
    disk_fail_window: Duration,
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
            disk_fail_window: config.disk_fail_window,
        }
    }

    pub(crate) fn residence(&self) -> Arc<Residence> {
        Arc::clone(&self.residence)
    }

    /// The store's folder is locked. A failure of the run before is counted now, durably: the store removes the note of it when it
    /// has recovered, and this process may end before its replica begins. Whether it was one too many is asked then.
    ///
    /// # Errors
    /// It cannot be counted, and the note must stay.
    pub(crate) fn locked(&self) -> io::Result<()> {
        let dir: Arc<dyn Directory> = Arc::new(DiskDirectory::open(&self.folder)?);
        let items = Items::new(Arc::clone(&dir));
        match folder_id(&self.folder) {
            Ok(id) => self.residence.look(&items, id),
            Err(error) => {
                tracing::warn!(%error, "no residence proof is looked for, and none is made");
            }
        }
        let Some(past) = past_failure(&*dir)? else {
            return Ok(());
        };
        // It may not have come to that itself.
        self.residence.distrust();
        let Some(failed_ms) = disk_failure_ms(past) else {
            return Ok(());
        };
        match look_at_failures(&items, Some(failed_ms), millis(self.disk_fail_window)) {
            Ok(()) | Err(StartError::DiskFails) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
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

/// When that was, if it was the disk's: a second failure of any other kind says nothing of the disk, and one that every replica
/// comes to would halt the whole group. An earlier version did not note the time; the start comes soon after.
fn disk_failure_ms(past: PastFailure) -> Option<u64> {
    let now = || u64::try_from(clock::now().0).unwrap_or(0);
    match past.kind {
        FailureKind::Store => None,
        FailureKind::Disk => {
            let known = u64::try_from(past.at.0).ok().filter(|ms| *ms > 0);
            Some(known.unwrap_or_else(now))
        }
    }
}

/// Which files the data folder and its lock are, now that it is locked. The number of a file may be given again, the time at which
/// it was made is nobody's to set: who copies a folder, or restores one, gets others. (Another build of this program may come to
/// another id: that costs one proof.)
fn folder_id(folder: &Path) -> io::Result<FolderId> {
    let mut hasher = DefaultHasher::new();
    for path in [folder, &folder.join(LOCK)] {
        let file = fs::metadata(path)?;
        // Not every file system tells when a file was made.
        (file.dev(), file.ino(), file.created().ok()).hash(&mut hasher);
    }
    Ok(FolderId(u128::from(hasher.finish())))
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
    // Nobody else may write there, and nobody else may have made it: what lies there is believed.
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error.to_string());
        }
        _ => {}
    }
    is_own(&folder, user)?;
    let dir = DiskDirectory::open(&folder).map_err(|error| error.to_string())?;
    let boot = fs::read_to_string(BOOT_ID).map_err(|error| error.to_string())?;
    let boot = boot_id(&boot).ok_or("the kernel does not say which boot this is")?;
    Ok(Shelf {
        dir: Arc::new(dir),
        boot,
    })
}

/// Whether the folder is one, this user's, and nobody else's to write or read. A link to one is none.
fn is_own(folder: &Path, user: u32) -> Result<(), String> {
    let found = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
    let mode = found.mode() & 0o777;
    if !found.is_dir() {
        return Err(format!("{} is not a folder", folder.display()));
    }
    if found.uid() != user || mode != 0o700 {
        return Err(format!(
            "{} is of user {} with mode {mode:03o}, and must be of user {user} with mode 700: remove it",
            folder.display(),
            found.uid()
        ));
    }
    Ok(())
}

fn boot_id(text: &str) -> Option<BootId> {
    let digits = text.trim().replace('-', "");
    let is_id = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let id = u128::from_str_radix(&digits, 16).ok()?;
    is_id.then_some(BootId(id))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rocket_ha::Failures;
    use rocket_protocol::UnixMillis;
    use rocket_replication::DiskId;
    use rocket_replication::epochs::Epochs;

    use super::*;

    #[test]
    fn only_failures_of_the_disk_count_towards_its_being_broken() {
        let of = |kind, at| {
            let at = UnixMillis(at);
            disk_failure_ms(PastFailure { at, kind })
        };
        assert_eq!(of(FailureKind::Disk, 17), Some(17));
        assert_eq!(of(FailureKind::Store, 17), None);
        // Of a version that did not note the time: it was just now.
        assert!(of(FailureKind::Disk, 0).is_some_and(|ms| ms > 17));
    }

    #[test]
    fn failure_is_counted_when_the_folder_is_locked_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir: Arc<dyn Directory> = Arc::new(DiskDirectory::open(folder.path()).unwrap());
        let items = Items::new(Arc::clone(&dir));
        items.format(DiskId(9), &Epochs::default()).unwrap();
        let witness = Witness {
            residence: Arc::default(),
            folder: folder.path().to_owned(),
            disk_fail_window: Duration::from_mins(10),
        };
        let counted = |note: &str| {
            dir.replace("rocket/flush-failed", note.as_bytes()).unwrap();
            witness.locked().unwrap();
            items.failures().unwrap()
        };
        let failures = |last_ms, is_second| Some(Failures { last_ms, is_second });
        // The first process ends before its store removes the note, and the next one finds it again.
        for _ in 0..2 {
            let first = counted("1000 kind=disk commitlog/0: input/output error");
            assert_eq!(first, failures(1000, false));
        }
        let panicked = counted("2000 kind=store store: a step of the store panicked");
        assert_eq!(panicked, failures(1000, false));
        let second = counted("3000 kind=disk commitlog/0: input/output error");
        assert_eq!(second, failures(3000, true));
    }

    #[test]
    fn folder_is_known_by_its_files_and_a_copy_is_another_one() {
        let parent = tempfile::tempdir().unwrap();
        let lock = || {
            let folder = parent.path().join("data");
            let dir = DiskDirectory::open(&folder).unwrap();
            drop(dir.lock(LOCK).unwrap());
            folder_id(&folder).unwrap()
        };
        let id = lock();
        // As long as it is the same one, each process finds it so.
        assert_eq!(lock(), id);
        fs::write(parent.path().join("data/abort"), "1").unwrap();
        assert_eq!(lock(), id, "whatever lies beside the lock");

        let (data, aside) = (parent.path().join("data"), parent.path().join("aside"));
        fs::rename(&data, &aside).unwrap();
        assert_ne!(lock(), id, "a copy in its place");
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&aside, &data).unwrap();
        assert_eq!(lock(), id, "the first one is back");
        // Another lock in the same folder, as a restore in place leaves.
        fs::write(parent.path().join("lock"), "").unwrap();
        fs::rename(parent.path().join("lock"), data.join(LOCK)).unwrap();
        assert_ne!(lock(), id);
    }

    #[test]
    fn only_a_folder_of_this_users_own_is_believed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("own");
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let user = fs::metadata(&folder).unwrap().uid();
        assert_eq!(is_own(&folder, user), Ok(()));
        assert!(is_own(&folder, user + 1).is_err(), "another user's");
        for mode in [0o777, 0o770, 0o750, 0o701] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let why = is_own(&folder, user).unwrap_err();
            assert!(why.contains(&format!("mode {mode:o}")), "{why}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let (link, file) = (parent.path().join("link"), parent.path().join("file"));
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        fs::write(&file, "").unwrap();
        for none in [link, file, parent.path().join("missing")] {
            assert!(is_own(&none, user).is_err(), "{none:?}");
        }
    }

    /// Where the broker looks, with what somebody else put there before.
    #[test]
    fn shelf_that_others_may_write_to_is_none() {
        let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        let user = rustix::process::getuid().as_raw();
        let folder = memory.path().join(format!("rocketcluster-{user}"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(shelf(memory.path()).is_err_and(|why| why.contains("777")));
        fs::remove_dir(&folder).unwrap();
        for _ in 0..2 {
            let shelf = shelf(memory.path());
            assert!(shelf.is_ok(), "{:?}", shelf.err());
        }
    }

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
