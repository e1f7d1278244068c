//! Names: what processes see, what the medium holds, and the changes between, in order.
//!
//! A change is there for good when the folder that it belongs to was synced. A power cut keeps all of the others, none,
//! a beginning, or any: POSIX promises no order among them. A rename is one change: never half of it.

use std::collections::BTreeMap;

use rocket_mapped_file::memory::Dice;

use crate::survival::Survival;

/// Number of a file or folder.
pub type Node = u64;
/// The folder that is mounted.
pub const ROOT: Node = 1;

type Folders = BTreeMap<Node, BTreeMap<String, Node>>;

#[derive(Debug, Clone)]
enum Change {
    Named {
        folder: Node,
        name: String,
        node: Node,
    },
    Removed {
        folder: Node,
        name: String,
        node: Node,
    },
    Moved {
        from: (Node, String),
        to: (Node, String),
        node: Node,
    },
}

impl Change {
    const fn touches(&self, at: Node) -> bool {
        match self {
            Self::Named { folder, .. } | Self::Removed { folder, .. } => *folder == at,
            Self::Moved { from, to, .. } => from.0 == at || to.0 == at,
        }
    }

    fn apply(&self, folders: &mut Folders) {
        match self {
            Self::Named { folder, name, node } => {
                folders
                    .entry(*folder)
                    .or_default()
                    .insert(name.clone(), *node);
            }
            Self::Removed { folder, name, node } => remove(folders, *folder, name, *node),
            Self::Moved { from, to, node } => {
                remove(folders, from.0, &from.1, *node);
                folders.entry(to.0).or_default().insert(to.1.clone(), *node);
            }
        }
    }
}

fn remove(folders: &mut Folders, folder: Node, name: &str, node: Node) {
    if let Some(names) = folders.get_mut(&folder)
        && names.get(name) == Some(&node)
    {
        names.remove(name);
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Names {
    seen: Folders,
    medium: Folders,
    unsynced: Vec<Change>,
}

impl Names {
    /// What `name` in `folder` is.
    pub fn get(&self, folder: Node, name: &str) -> Option<Node> {
        self.seen.get(&folder)?.get(name).copied()
    }

    /// All names in `folder`.
    pub fn list(&self, folder: Node) -> impl Iterator<Item = (&str, Node)> {
        let names = self.seen.get(&folder).into_iter().flatten();
        names.map(|(name, node)| (name.as_str(), *node))
    }

    /// A new name.
    pub fn set(&mut self, folder: Node, name: &str, node: Node) {
        self.change(Change::Named {
            folder,
            name: name.to_owned(),
            node,
        });
    }

    /// A name goes.
    pub fn unset(&mut self, folder: Node, name: &str, node: Node) {
        self.change(Change::Removed {
            folder,
            name: name.to_owned(),
            node,
        });
    }

    /// A name becomes another, perhaps in the place of one that was there.
    pub fn rename(&mut self, from: (Node, &str), to: (Node, &str), node: Node) {
        self.change(Change::Moved {
            from: (from.0, from.1.to_owned()),
            to: (to.0, to.1.to_owned()),
            node,
        });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    /// Changes of `folder` are there for good.
    pub fn sync(&mut self, folder: Node) {
        let (synced, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|change| change.touches(folder));
        for change in synced {
            change.apply(&mut self.medium);
        }
        self.unsynced = left;
    }

    /// Changes that wait for a sync.
    pub const fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Names after a power cut.
    #[must_use]
    pub fn after_cut(&self, dice: &mut Dice) -> Self {
        let mut medium = self.medium.clone();
        let survival = Survival::of(self.unsynced.len(), dice);
        for (at, change) in self.unsynced.iter().enumerate() {
            if survival.keeps(at, dice) {
                change.apply(&mut medium);
            }
        }
        Self {
            seen: medium.clone(),
            medium,
            unsynced: Vec::new(),
        }
    }

    /// Everything that has a name, from the root down.
    pub fn reachable(&self) -> Vec<Node> {
        let mut nodes = vec![ROOT];
        let mut at = 0;
        while let Some(node) = nodes.get(at).copied() {
            at += 1;
            nodes.extend(self.list(node).map(|(_, node)| node));
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn outcomes(names: &Names) -> BTreeSet<Vec<String>> {
        (0..300)
            .map(|seed| {
                let after = names.after_cut(&mut Dice::new(seed));
                after
                    .list(ROOT)
                    .map(|(name, node)| format!("{name}{node}"))
                    .collect()
            })
            .collect()
    }

    fn sets(all: &[&[&str]]) -> BTreeSet<Vec<String>> {
        all.iter()
            .map(|names| names.iter().map(|&name| name.to_owned()).collect())
            .collect()
    }

    #[test]
    fn a_synced_name_stays_and_an_unsynced_one_may_not() {
        let mut names = Names::default();
        names.set(ROOT, "a", 2);
        assert_eq!(outcomes(&names), sets(&[&[], &["a2"]]));
        names.sync(ROOT);
        assert_eq!(outcomes(&names), sets(&[&["a2"]]));
    }

    #[test]
    fn a_rename_over_a_file_leaves_the_old_or_the_new_one() {
        let mut names = Names::default();
        names.set(ROOT, "a", 2);
        names.sync(ROOT);
        names.set(ROOT, "t", 3);
        names.rename((ROOT, "t"), (ROOT, "a"), 3);
        assert_eq!(names.get(ROOT, "a"), Some(3));
        assert_eq!(outcomes(&names), sets(&[&["a2"], &["a2", "t3"], &["a3"]]));
        names.sync(ROOT);
        assert_eq!(outcomes(&names), sets(&[&["a3"]]));
    }

    #[test]
    fn an_unsynced_removal_may_come_back_without_the_others() {
        let mut names = Names::default();
        names.set(ROOT, "a", 2);
        names.set(ROOT, "b", 3);
        names.sync(ROOT);
        names.unset(ROOT, "a", 2);
        names.unset(ROOT, "b", 3);
        assert_eq!(
            outcomes(&names),
            sets(&[&[], &["a2"], &["b3"], &["a2", "b3"]])
        );
    }

    #[test]
    fn a_sync_of_another_folder_promises_nothing_here() {
        let mut names = Names::default();
        names.set(ROOT, "f", 2);
        names.sync(ROOT);
        names.set(2, "a", 3);
        names.sync(ROOT);
        let kept: BTreeSet<usize> = (0..100)
            .map(|seed| names.after_cut(&mut Dice::new(seed)).list(2).count())
            .collect();
        assert_eq!(kept, [0, 1].into());
    }
}
