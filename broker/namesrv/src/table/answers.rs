//! What the table tells: routes, groups, clusters, topics.

use std::collections::{BTreeMap, BTreeSet};

use super::{Group, MASTER_ID, PERM_WRITE, Queues, Route, RouteTable};

impl RouteTable {
    /// Who serves `topic`; `None` when nobody does.
    pub fn route(&self, topic: &str) -> Option<Route> {
        let queues = self.routes.get(topic)?;
        let mut groups: BTreeMap<String, Group> = queues
            .keys()
            .filter_map(|name| Some((name.clone(), self.groups.get(name)?.clone())))
            .collect();
        if groups.is_empty() {
            return None;
        }
        if self.rules.acting_master {
            for (name, group) in &mut groups {
                let read_only = queues
                    .get(name)
                    .is_some_and(|queues| queues.perm & PERM_WRITE == 0);
                if group.acting_master
                    && read_only
                    && !group.addrs.contains_key(&MASTER_ID)
                    && let Some((_, addr)) = group.addrs.pop_first()
                {
                    group.addrs.insert(MASTER_ID, addr);
                }
            }
        }
        Some(Route {
            queues: queues.clone(),
            groups,
        })
    }

    /// All groups by name.
    pub fn groups(&self) -> &BTreeMap<String, Group> {
        &self.groups
    }

    /// Names of the groups of each cluster.
    pub fn clusters(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        self.groups.iter().fold(
            BTreeMap::new(),
            |mut clusters: BTreeMap<_, BTreeSet<_>>, (name, group)| {
                clusters
                    .entry(group.cluster.as_str())
                    .or_default()
                    .insert(name.as_str());
                clusters
            },
        )
    }

    /// All topics, sorted, that pass `keep`, which is given the topic's queues by broker name.
    pub fn topics(&self, keep: impl Fn(&BTreeMap<String, Queues>) -> bool) -> Vec<&str> {
        let mut topics: Vec<&str> = self
            .routes
            .iter()
            .filter(|(_, queues)| keep(queues))
            .map(|(topic, _)| topic.as_str())
            .collect();
        topics.sort_unstable();
        topics
    }

    /// Topics of a cluster, sorted.
    pub fn topics_of_cluster(&self, cluster: &str) -> Vec<&str> {
        self.topics(|queues| {
            queues.keys().any(|name| {
                self.groups
                    .get(name)
                    .is_some_and(|group| group.cluster == cluster)
            })
        })
    }

    /// How many brokers (addresses) are alive.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// How many topics have a route.
    pub fn topic_count(&self) -> usize {
        self.routes.len()
    }
}
