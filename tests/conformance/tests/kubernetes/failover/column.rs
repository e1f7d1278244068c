//! The columns of docs/replication.md §11: the modes of a group, and which fault may cost what its master acknowledged last.

use serde_json::{Value, json};

/// Modes, replicas and `minInSync` of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    A,
    B,
    C1,
    C,
    D,
}

/// What befalls a master, as the rows of §11 tell faults apart. One fault at a time: the group is whole when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No row: it hands over, or goes on.
    Nothing,
    /// Its process is killed, and perhaps back before anyone is elected.
    Killed,
    /// Its machine loses power.
    PowerLost,
    /// It stands still, and goes on after an election.
    Paused,
    /// It is cut off from slaves and coordinator, and clients still reach it.
    CutOff,
}

impl Column {
    const ALL: [Self; 5] = [Self::A, Self::B, Self::C1, Self::C, Self::D];

    /// The column that `ROCKET_FAILOVER_COLUMN` names; D, what a cluster has by itself, without it.
    pub(super) fn chosen() -> Self {
        let Ok(name) = std::env::var("ROCKET_FAILOVER_COLUMN") else {
            return Self::D;
        };
        let mut all = Self::ALL.into_iter();
        let named = all.find(|column| format!("{column:?}") == name);
        named.unwrap_or_else(|| panic!("{name} is no column: one of {:?}", Self::ALL))
    }

    /// Replicas of a group.
    pub(super) fn replicas(self) -> usize {
        if self == Self::C1 { 2 } else { 3 }
    }

    /// Whether a master answers when it has a message itself.
    pub(super) fn answers_alone(self) -> bool {
        matches!(self, Self::A | Self::B)
    }

    /// What a cluster's specification says of it.
    pub(super) fn spec(self) -> Value {
        let flush = match self {
            Self::B | Self::D => "Sync",
            Self::A | Self::C1 | Self::C => "Async",
        };
        let mode = if self.answers_alone() {
            "Async"
        } else {
            "Sync"
        };
        let min_in_sync = match self {
            Self::C | Self::D => 2,
            Self::A | Self::B | Self::C1 => 1,
        };
        json!({
            "groups": {"replicas": self.replicas()},
            "flush": flush,
            "replication": {"mode": mode, "minInSync": min_in_sync},
        })
    }

    /// Whether the end of the former master's log may go with what it acknowledged there. What a power cut takes besides (the
    /// "window" of §11) is not seen on nodes that are one machine: their page cache outlives them.
    pub(super) fn may_lose_an_end(self, fault: Fault) -> bool {
        match fault {
            Fault::Nothing => false,
            Fault::Killed | Fault::PowerLost | Fault::Paused | Fault::CutOff => {
                self.answers_alone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of docs/replication.md §11 that a fault is judged by.
    fn row(fault: Fault) -> &'static str {
        match fault {
            Fault::Nothing => "coordinator down for an hour",
            Fault::Killed => "master process killed, slave elected",
            Fault::PowerLost => "power loss of the master's machine",
            Fault::Paused => "master paused, resumes after an election",
            Fault::CutOff => "master cut off from slaves *and* coordinator, clients still reach it",
        }
    }

    #[test]
    fn an_end_may_be_lost_where_the_table_says_so_and_nowhere_else() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/replication.md");
        let page = std::fs::read_to_string(page).unwrap();
        for fault in [
            Fault::Nothing,
            Fault::Killed,
            Fault::PowerLost,
            Fault::Paused,
            Fault::CutOff,
        ] {
            let begin = format!("| {} |", row(fault));
            let cells = page
                .lines()
                .find_map(|line| line.strip_prefix(&begin))
                .unwrap_or_else(|| panic!("no row {begin}"));
            let cells: Vec<&str> = cells
                .split('|')
                .map(|cell| cell.trim().trim_start_matches('*'))
                .collect();
            for (column, cell) in Column::ALL.into_iter().zip(cells) {
                // "same" and "as C" stand where nothing is lost in the first one.
                let is_lossy = cell.starts_with("tail");
                assert_eq!(
                    column.may_lose_an_end(fault),
                    is_lossy,
                    "{fault:?} in {column:?}: {cell}"
                );
            }
        }
    }
}
