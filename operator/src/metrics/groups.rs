//! Elections of each group. They are counted from 0 on, because Prometheus does not see the first of a series that begins with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::IntCounterVec;

/// What an election was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionKind {
    /// The first one of a new group.
    First,
    /// Of a replica that has everything that was acknowledged.
    Clean,
    /// Of one that may lack some of it.
    Unclean,
}

impl ElectionKind {
    const ALL: [Self; 3] = [Self::First, Self::Clean, Self::Unclean];

    /// As in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Clean => "clean",
            Self::Unclean => "unclean",
        }
    }
}

/// Namespace, cluster and name of a group.
type Group = [String; 3];

/// The counters, and how many look after each group.
pub(super) struct Elections {
    counters: IntCounterVec,
    counted: Mutex<BTreeMap<Group, u32>>,
}

impl Elections {
    pub(super) const LABELS: [&str; 4] = ["namespace", "cluster", "group", "kind"];

    pub(super) fn new(counters: IntCounterVec) -> Arc<Self> {
        let counted = Mutex::default();
        Arc::new(Self { counters, counted })
    }

    pub(super) fn count(self: &Arc<Self>, group: Group) -> CountedGroup {
        let mut counted = self.counted.lock();
        *counted.entry(group.clone()).or_default() += 1;
        for kind in ElectionKind::ALL {
            // Makes the series, if there is none.
            self.counters.with_label_values(&labels(&group, kind));
        }
        drop(counted);
        let elections = Arc::clone(self);
        CountedGroup { elections, group }
    }

    pub(super) fn sum(&self, kind: ElectionKind) -> u64 {
        let counted = self.counted.lock();
        let groups = counted.keys().map(|group| labels(group, kind));
        groups
            .map(|labels| self.counters.with_label_values(&labels).get())
            .sum()
    }
}

/// A group whose elections are counted. Its series end with the last of them.
pub struct CountedGroup {
    elections: Arc<Elections>,
    group: Group,
}

impl CountedGroup {
    /// Counts one.
    pub fn elected(&self, kind: ElectionKind) {
        let labels = labels(&self.group, kind);
        self.elections.counters.with_label_values(&labels).inc();
    }
}

impl Drop for CountedGroup {
    fn drop(&mut self) {
        let mut counted = self.elections.counted.lock();
        let left = counted.get(&self.group).copied().unwrap_or(1) - 1;
        if left > 0 {
            counted.insert(self.group.clone(), left);
            return;
        }
        counted.remove(&self.group);
        for kind in ElectionKind::ALL {
            // Each was made with the first of them.
            let _ = self
                .elections
                .counters
                .remove_label_values(&labels(&self.group, kind));
        }
    }
}

fn labels(group: &Group, kind: ElectionKind) -> [&str; 4] {
    let [namespace, cluster, name] = group;
    [namespace, cluster, name, kind.as_str()]
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::super::Metrics;
    use super::*;

    fn lines(registry: &Registry) -> Vec<String> {
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let elections = text
            .lines()
            .filter(|line| line.starts_with("rocket_operator_failover_total{"));
        elections.map(str::to_owned).collect()
    }

    #[test]
    fn elections_of_a_group_are_shown_from_0_on_and_no_longer_than_it_is_looked_after() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        assert!(lines(&registry).is_empty());
        let counted = metrics.count_group("mq", "orders", "orders-0");
        let shown = lines(&registry);
        assert!(
            shown.len() == 3 && shown.iter().all(|line| line.ends_with("} 0")),
            "{shown:?}"
        );
        counted.elected(ElectionKind::Unclean);
        // Another elector takes over before the former one has ended.
        let next = metrics.count_group("mq", "orders", "orders-0");
        drop(counted);
        assert_eq!(metrics.elections(ElectionKind::Unclean), 1);
        let wanted = r#"rocket_operator_failover_total{cluster="orders",group="orders-0",kind="unclean",namespace="mq"} 1"#;
        assert!(lines(&registry).iter().any(|line| line == wanted));
        drop(next);
        assert!(lines(&registry).is_empty());
    }
}
