//! Key-value settings that are kept on disk: `{"configTable":{namespace:{key:value}}}`, RocketMQ's `kvConfig.json`.
//!
//! A change is answered after it is on disk: written beside, synced, renamed over, the folder synced. Readers wait for none of
//! that: they have the table as it was until the next one is there. A file that cannot be read ends the
//! start: an empty table in its place would be written over it by the next change.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

/// The namespace whose entries say which topics are ordered.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Bytes of all namespaces, keys and values together; RocketMQ sets no bound, and nothing that it uses this for comes near.
/// Each change writes them all.
const BYTES_MAX: usize = 1 << 20;

/// What can go wrong. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written; the same call may work later.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what this program or RocketMQ writes; a person must look at it.
    #[error("{}: is not a key-value table: {source}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// Too much; delete something first.
    #[error("the key-value table would hold more than {BYTES_MAX} bytes")]
    Full,
}

type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Document {
    #[serde(rename = "configTable", default)]
    table: Namespaces,
}

impl Document {
    fn bytes(&self) -> usize {
        let of_entry = |(key, value): (&String, &String)| key.len() + value.len();
        let namespaces = self.table.iter();
        let of_namespace = |(name, entries): (&String, &BTreeMap<String, String>)| {
            name.len() + entries.iter().map(of_entry).sum::<usize>()
        };
        namespaces.map(of_namespace).sum()
    }
}

/// See the module.
#[derive(Debug)]
pub struct KvConfig {
    path: PathBuf,
    /// Held for no longer than it takes to clone or to replace the pointer.
    document: RwLock<Arc<Document>>,
    /// Held over the write so that two changes reach the disk in the order in which readers see them.
    changing: Mutex<()>,
}

impl KvConfig {
    /// Reads the file; one that does not exist is an empty table and is written at the first change.
    ///
    /// # Errors
    /// When it exists and cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let document = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Damaged {
                path: path.to_owned(),
                source,
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Document::default(),
            Err(source) => {
                return Err(Error::Io {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        Ok(Self {
            path: path.to_owned(),
            document: RwLock::new(Arc::new(document)),
            changing: Mutex::new(()),
        })
    }

    fn document(&self) -> Arc<Document> {
        Arc::clone(&self.document.read())
    }

    /// The value of a key.
    pub fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.document().table.get(namespace)?.get(key).cloned()
    }

    /// All entries of a namespace; `None` when it has never had one.
    pub fn namespace(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.document().table.get(namespace).cloned()
    }

    /// Sets a key. Blocks on the disk.
    ///
    /// # Errors
    /// When it could not be written; the old value then stays.
    pub fn put(&self, namespace: &str, key: &str, value: &str) -> Result<(), Error> {
        self.change(|table| {
            table
                .entry(namespace.to_owned())
                .or_default()
                .insert(key.to_owned(), value.to_owned());
        })
    }

    /// Removes a key, if it is there. Blocks on the disk.
    ///
    /// # Errors
    /// When it could not be written; the key then stays.
    pub fn delete(&self, namespace: &str, key: &str) -> Result<(), Error> {
        self.change(|table| {
            if let Some(entries) = table.get_mut(namespace) {
                entries.remove(key);
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Namespaces)) -> Result<(), Error> {
        let _changing = self.changing.lock();
        let before = self.document();
        let mut next = Document::clone(&before);
        change(&mut next.table);
        // A table of RocketMQ's may be larger already; what makes it smaller is always taken.
        if next.bytes() > BYTES_MAX.max(before.bytes()) {
            return Err(Error::Full);
        }
        self.write(&next).map_err(|source| Error::Io {
            path: self.path.clone(),
            source,
        })?;
        *self.document.write() = Arc::new(next);
        Ok(())
    }

    fn write(&self, document: &Document) -> std::io::Result<()> {
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let beside = self.path.with_extension("json.tmp");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(document)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_after_a_restart_and_what_was_deleted_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("namesrv/kvConfig.json");
        let kv = KvConfig::open(&path).unwrap();
        kv.put("n", "k", "v").unwrap();
        kv.put("n", "gone", "v").unwrap();
        kv.delete("n", "gone").unwrap();
        let again = KvConfig::open(&path).unwrap();
        assert_eq!(again.get("n", "k").as_deref(), Some("v"));
        assert_eq!(again.get("n", "gone"), None);
        assert_eq!(again.namespace("n").unwrap().len(), 1);
        assert_eq!(again.namespace("other"), None);
    }

    #[test]
    fn a_file_of_rocketmq_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        std::fs::write(
            &path,
            "{\n\t\"configTable\":{\"ORDER_TOPIC_CONFIG\":{\"T\":\"broker-a:4\"}\n\t}\n}",
        )
        .unwrap();
        assert_eq!(
            KvConfig::open(&path)
                .unwrap()
                .get(ORDER_TOPIC_CONFIG, "T")
                .as_deref(),
            Some("broker-a:4")
        );
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        std::fs::write(&path, "{\"configTable\":").unwrap();
        assert!(matches!(KvConfig::open(&path), Err(Error::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"configTable\":");
    }

    #[test]
    fn a_change_that_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let kv = KvConfig::open(&folder.path().join("other.json")).unwrap();
        kv.put("n", "k", "v").unwrap();
        let kv = KvConfig {
            path: folder.path().join("file/kv.json"),
            ..kv
        };
        assert!(kv.put("n", "k", "w").is_err());
        assert_eq!(kv.get("n", "k").as_deref(), Some("v"));
    }

    #[test]
    fn the_table_takes_a_mebibyte_and_what_makes_it_smaller() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvConfig.json");
        let kv = KvConfig::open(&path).unwrap();
        let half = "v".repeat(1 << 19);
        kv.put("n", "a", &half).unwrap();
        assert!(matches!(kv.put("n", "b", &half), Err(Error::Full)));
        assert_eq!(kv.get("n", "b"), None);
        kv.put("n", "b", "v").unwrap();
        // As RocketMQ may have written it.
        let large = format!(
            r#"{{"configTable":{{"n":{{"a":"{half}","b":"{half}","c":"{half}","d":"v"}}}}}}"#
        );
        std::fs::write(&path, large).unwrap();
        let kv = KvConfig::open(&path).unwrap();
        assert!(matches!(kv.put("n", "d", "vv"), Err(Error::Full)));
        kv.put("n", "a", "v").unwrap();
        kv.delete("n", "b").unwrap();
        kv.put("n", "d", "vv").unwrap();
    }

    /// The disk is a pipe here that nobody reads yet.
    #[test]
    fn readers_do_not_wait_for_the_disk_of_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let kv = Arc::new(KvConfig::open(&folder.path().join("kvConfig.json")).unwrap());
        kv.put("n", "k", "old").unwrap();
        let beside = folder.path().join("kvConfig.json.tmp");
        let made = std::process::Command::new("mkfifo")
            .arg(&beside)
            .status()
            .unwrap();
        assert!(made.success());
        let changing = {
            let kv = Arc::clone(&kv);
            std::thread::spawn(move || kv.put("n", "k", "new"))
        };
        while kv.changing.try_lock().is_some() {
            std::thread::yield_now();
        }
        assert!(kv.document.try_read().is_some(), "readers would wait");
        assert_eq!(kv.get("n", "k").as_deref(), Some("old"));
        assert_eq!(kv.namespace("n").unwrap()["k"], "old");
        // The change ends: a pipe can be written now, and not be synced.
        std::fs::read(&beside).unwrap();
        assert!(changing.join().unwrap().is_err());
        assert_eq!(kv.get("n", "k").as_deref(), Some("old"));
    }
}
