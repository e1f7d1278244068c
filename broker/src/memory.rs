//! How much memory this process may use: the smallest limit of its cgroup and of those above it, else what the machine
//! has. In a container the machine's memory is somebody else's. And how much it has taken.

use std::fs;
use std::path::Path;

/// Bytes; `None` where the system does not say.
pub(crate) fn bytes() -> Option<u64> {
    let text = |path: &str| fs::read_to_string(path).ok();
    let machine = text("/proc/meminfo").and_then(|text| total(&text));
    let limit = text("/proc/self/cgroup")
        .and_then(|groups| limit(&groups, |path| fs::read_to_string(path).ok()));
    [machine, limit].into_iter().flatten().min()
}

/// What a process has in RAM, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// All of it.
    pub(crate) resident: u64,
    /// What is no file's.
    pub(crate) anonymous: u64,
}

/// What this process has; `None` where the system does not say.
pub(crate) fn taken() -> Option<Taken> {
    taken_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn taken_of(status: &str) -> Option<Taken> {
    Some(Taken {
        resident: bytes_of(status, "VmRSS:")?,
        anonymous: bytes_of(status, "RssAnon:")?,
    })
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    bytes_of(meminfo, "MemTotal:")
}

/// The line of `text` that begins with `name`, which counts KiB, in bytes.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit of the groups that `/proc/self/cgroup` names. In a container the names may be those of the machine
/// while the mount shows only its own part, so the root of the mount is looked at too.
fn limit(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut lowest = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(name)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|named| named == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let root = Path::new(root);
        let own = root.join(name.trim_start_matches('/'));
        let folders = own
            .ancestors()
            .take_while(|folder| folder.starts_with(root));
        let limits = folders
            .filter_map(|folder| read(&folder.join(file)))
            // "max" in the second version; the first one says a number that no machine has.
            .filter_map(|text| text.trim().parse::<u64>().ok());
        lowest = lowest.into_iter().chain(limits).min();
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        limit(groups, |path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let files = [
            ("/sys/fs/cgroup/pods/broker/memory.max", "max\n"),
            ("/sys/fs/cgroup/pods/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/memory.max", "4294967296\n"),
        ];
        assert_eq!(limit_of("0::/pods/broker\n", &files), Some(2 << 30));
        assert_eq!(limit_of("0::/other\n", &files), Some(4 << 30));
        assert_eq!(
            limit_of("0::/\n", &[("/sys/fs/cgroup/memory.max", "max")]),
            None
        );
    }

    #[test]
    fn the_first_version_of_cgroups_is_understood() {
        let groups = "12:cpu,cpuacct:/a\n5:memory:/docker/x\n";
        let files = [
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ("/sys/fs/cgroup/cpu/memory.limit_in_bytes", "1"),
        ];
        assert_eq!(limit_of(groups, &files), Some(512 << 20));
    }

    #[test]
    fn what_is_taken_is_told_with_and_without_files() {
        let status = "VmRSS:\t    3584 kB\nRssAnon:\t     512 kB\nRssFile:\t    3072 kB\n";
        let taken = Taken {
            resident: 3584 << 10,
            anonymous: 512 << 10,
        };
        assert_eq!(taken_of(status), Some(taken));
        assert_eq!(taken_of("VmRSS:\t1 kB\n"), None);
        let own = super::taken().expect("this machine says so");
        assert!(own.anonymous > 0 && own.anonymous <= own.resident);
    }

    #[test]
    fn this_machine_says_how_much_it_has() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:  2048 kB\n"), Some(2 << 20));
        assert!(bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
