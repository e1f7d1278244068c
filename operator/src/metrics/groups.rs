//! Elections of each group. They are counted from 0 on, because Prometheus does not see the first of a series that begins with it.

use std::collections::BTreeSet;
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

/// The counters, and the groups that have any.
pub(super) struct Elections {
    counters: IntCounterVec,
    counted: Mutex<BTreeSet<Group>>,
}

impl Elections {
    pub(super) const LABELS: [&str; 4] = ["namespace", "cluster", "group", "kind"];

    pub(super) fn new(counters: IntCounterVec) -> Arc<Self> {
        let counted = Mutex::default();
        Arc::new(Self { counters, counted })
    }

    /// Makes the series of a group, if it has none: what was counted before goes on.
    pub(super) fn count(self: &Arc<Self>, group: Group) -> CountedGroup {
        let mut counted = self.counted.lock();
        for kind in ElectionKind::ALL {
            self.counters.with_label_values(&labels(&group, kind));
        }
        counted.insert(group.clone());
        drop(counted);
        let elections = Arc::clone(self);
        CountedGroup { elections, group }
    }

    /// Ends the series of those groups.
    pub(super) fn forget(&self, is_over: impl Fn(&Group) -> bool) {
        let mut counted = self.counted.lock();
        for group in counted.extract_if(.., is_over) {
            for kind in ElectionKind::ALL {
                // Each was made when the group began to be counted.
                let _ = self.counters.remove_label_values(&labels(&group, kind));
            }
        }
    }

    pub(super) fn sum(&self, kind: ElectionKind) -> u64 {
        let counted = self.counted.lock();
        let groups = counted.iter().map(|group| labels(group, kind));
        groups
            .map(|labels| self.counters.with_label_values(&labels).get())
            .sum()
    }
}

/// A group whose elections are counted. Its series outlive it: an operator that waited for the lease elects and then leads, with other
/// electors, and Prometheus has not seen yet what the former ones did. They end when the group is forgotten.
pub struct CountedGroup {
    elections: Arc<Elections>,
    group: Group,
}

impl CountedGroup {
    /// Counts one; none of a group that was forgotten meanwhile.
    pub fn elected(&self, kind: ElectionKind) {
        let counted = self.elections.counted.lock();
        if counted.contains(&self.group) {
            let labels = labels(&self.group, kind);
            self.elections.counters.with_label_values(&labels).inc();
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
    fn elections_of_a_group_are_shown_from_0_on_until_it_is_forgotten() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        assert!(lines(&registry).is_empty());
        let counted = metrics.count_group("mq", "orders", "orders-0");
        let other = metrics.count_group("mq", "orders", "orders-1");
        let shown = lines(&registry);
        assert!(
            shown.len() == 6 && shown.iter().all(|line| line.ends_with("} 0")),
            "{shown:?}"
        );
        other.elected(ElectionKind::Clean);
        metrics.forget_group("mq", "orders", "orders-1");
        other.elected(ElectionKind::Clean);
        assert_eq!(lines(&registry).len(), 3, "it is not made anew");
        metrics.forget("mq", "other");
        assert_eq!(lines(&registry).len(), 3);
        counted.elected(ElectionKind::Unclean);
        metrics.forget("mq", "orders");
        assert!(lines(&registry).is_empty());
        let anew = metrics.count_group("mq", "orders", "orders-0");
        counted.elected(ElectionKind::Clean);
        anew.elected(ElectionKind::Clean);
        let of = |kind| metrics.elections(kind);
        assert_eq!((of(ElectionKind::Clean), of(ElectionKind::Unclean)), (2, 0));
    }

    #[test]
    fn what_an_elector_counted_is_still_told_when_another_one_has_taken_over() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let standing_by = metrics.count_group("mq", "orders", "orders-0");
        standing_by.elected(ElectionKind::Unclean);
        drop(standing_by);
        let wanted = r#"rocket_operator_failover_total{cluster="orders",group="orders-0",kind="unclean",namespace="mq"} 1"#;
        let is_told = || lines(&registry).iter().any(|line| line == wanted);
        assert!(is_told(), "nobody looks after the group for a moment");
        let _leading = metrics.count_group("mq", "orders", "orders-0");
        assert!(is_told());
        assert_eq!(metrics.elections(ElectionKind::Unclean), 1);
    }
}
