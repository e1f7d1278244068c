//! Where the master of a group that elects is reached, as the group's Service leads there: one EndpointSlice that the operator writes
//! itself, in the same step as the record of an election. Pure.
//!
//! Kubernetes would find the master by a label too, but late: its controller first takes the former master's address away and may come
//! back for the next one a second later, and kube-proxy takes up no more than one change a second, so each change that says nothing
//! holds up the one that matters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use serde_json::Value;

use crate::kind::Kind;
use crate::names::Names;
use crate::observe::Observed;

/// Annotation of the EndpointSlice: the epoch whose master it leads to.
pub const EPOCH: &str = "rocketcluster.io/epoch";

/// A pod as others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The pod.
    pub pod: String,
    /// That very pod.
    pub uid: String,
    /// Its IP address.
    pub ip: String,
    /// The node that it is on.
    pub node: Option<String>,
}

impl Home {
    /// Nothing while the pod has no address, or has none any more.
    pub fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let ip = status.pod_ip.clone().filter(|ip| !ip.is_empty())?;
        (!has_ended(pod)).then(|| Self {
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ip,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        })
    }

    /// Whether the address may be another pod's by now.
    fn is_left(&self, observed: &Observed) -> bool {
        let Some(pod) = observed.pod(&self.pod) else {
            return true;
        };
        let is_other = pod.uid().as_ref() != Some(&self.uid);
        let has_moved = Self::of(pod).is_some_and(|home| home.ip != self.ip);
        is_other || has_moved || has_ended(pod)
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Where a group's Service leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The epoch whose master it is.
    pub epoch: i64,
    /// The master's pod.
    pub home: Home,
}

impl Address {
    /// What an EndpointSlice says; nothing when it is none of ours.
    fn read(slice: &Value) -> Option<Self> {
        let slice: EndpointSlice = serde_json::from_value(slice.clone()).ok()?;
        let epoch = slice.annotations().get(EPOCH)?.parse().ok()?;
        let endpoint = slice.endpoints.into_iter().next()?;
        let target = endpoint.target_ref?;
        let home = Home {
            pod: target.name?,
            uid: target.uid.unwrap_or_default(),
            ip: endpoint.addresses.into_iter().next()?,
            node: endpoint.node_name,
        };
        Some(Self { epoch, home })
    }
}

/// Where the Service of a group should lead. An elector may have written the next master's address after the record was read here: what
/// belongs to a later epoch stays, and what leads to a pod that is gone stays until the next master takes its place, or [`is_stale`] has
/// held for too long. When the record is lost its master may go on (docs/replication.md §8.16), and is reached as before.
pub fn of(index: i32, names: &Names, observed: &Observed) -> Option<Address> {
    let key = (Kind::EndpointSlice, names.group_master(index));
    let live = observed.children.get(&key).and_then(Address::read);
    let Some(state) = observed.state(&names.group(index)) else {
        return live;
    };
    let pod = state.master_pod().and_then(|pod| observed.pod(pod));
    let epoch = state.epoch;
    match (live, pod.and_then(Home::of)) {
        (Some(live), Some(_)) if live.epoch > epoch => Some(live),
        (_, Some(home)) => Some(Address { epoch, home }),
        (live, None) => live,
    }
}

/// How long a Service leads to an address that its pod has left. Longer than an election takes as a rule: kube-proxy takes up no more
/// than one change a second, and this one shall not hold up the next master's.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Whether an address of a group may be another pod's by now, perhaps a broker's of another group, which would take what is sent there.
/// While its StatefulSet is made anew a pod may not be seen for a moment, and is where it was.
pub fn is_stale(address: &Address, index: i32, names: &Names, observed: &Observed) -> bool {
    observed.stateful_sets.contains_key(&names.group(index)) && address.home.is_left(observed)
}

/// Since when addresses are stale, by namespace, cluster and group.
#[derive(Debug, Default)]
pub struct Stale(BTreeMap<(String, String, i32), Instant>);

impl Stale {
    /// Whether an address has been stale at every look since `patience` ago.
    pub fn has_lasted(
        &mut self,
        (names, index): (&Names, i32),
        is_stale: bool,
        (now, patience): (Instant, Duration),
    ) -> bool {
        let group = (names.namespace.clone(), names.cluster.clone(), index);
        if !is_stale {
            self.0.remove(&group);
            return false;
        }
        let since = *self.0.entry(group).or_insert(now);
        now.saturating_duration_since(since) >= patience
    }

    /// Whether one is that has not lasted yet, or has not been taken away.
    pub fn is_any(&self, names: &Names) -> bool {
        let mut groups = self.0.keys();
        groups.any(|(namespace, cluster, _)| {
            (namespace, cluster) == (&names.namespace, &names.cluster)
        })
    }

    /// Forgets those clusters.
    pub fn forget(&mut self, is_gone: impl Fn(&str, &str) -> bool) {
        self.0
            .retain(|(namespace, name, _), _| !is_gone(namespace, name));
    }
}

#[cfg(test)]
mod tests {

    use rocket_api::{
        GroupState, Incarnation, Member, Replica, RocketBrokerGroup, RocketBrokerGroupSpec,
    };
    use serde_json::json;

    use super::*;
    use crate::build;

    fn names() -> Names {
        Names {
            cluster: "orders".into(),
            namespace: "mq".into(),
            domain: "cluster.local".into(),
        }
    }

    fn pod(name: &str, status: &Value) -> Pod {
        let pod = json!({"metadata": {"name": name, "uid": name}, "spec": {"nodeName": "n1", "containers": []}, "status": status});
        serde_json::from_value(pod).unwrap()
    }

    /// The second replica is master in the third epoch.
    fn observed() -> Observed {
        let replica = Replica {
            name: "orders-0-1".into(),
            ..Replica::default()
        };
        let state = GroupState {
            epoch: 3,
            master: Some(Member {
                replica_id: 2,
                incarnation: Incarnation::unregistered(),
            }),
            replicas: BTreeMap::from([("2".to_owned(), replica)]),
            ..GroupState::default()
        };
        let spec = RocketBrokerGroupSpec {
            cluster: "orders".into(),
            index: 0,
        };
        let mut group = RocketBrokerGroup::new("orders-0", spec);
        group.status = Some(state);
        let mut observed = Observed::default();
        observed.groups.insert("orders-0".into(), group);
        let status = json!({"phase": "Running", "podIP": "10.0.0.2"});
        observed.pods.push(pod("orders-0-1", &status));
        observed
    }

    #[test]
    fn service_leads_to_the_recorded_master_where_its_pod_is() {
        let found = of(0, &names(), &observed()).unwrap();
        assert_eq!(
            (
                found.epoch,
                found.home.ip.as_str(),
                found.home.node.as_deref()
            ),
            (3, "10.0.0.2", Some("n1"))
        );
        for status in [
            json!({"phase": "Pending"}),
            json!({"phase": "Succeeded", "podIP": "10.0.0.2"}),
        ] {
            let mut without = observed();
            without.pods = vec![pod("orders-0-1", &status)];
            assert_eq!(of(0, &names(), &without), None, "{status}");
        }
    }

    #[test]
    fn address_of_a_later_epoch_is_not_taken_back_and_one_of_an_earlier_is_replaced() {
        let slice = |epoch| {
            let home = Home {
                pod: "orders-0-2".into(),
                uid: "u".into(),
                ip: "10.0.0.3".into(),
                node: None,
            };
            let address = Address { epoch, home };
            let object = build::master_address(&names(), "uid", 0, &address).object;
            assert_eq!(Address::read(&object).as_ref(), Some(&address));
            object
        };
        let mut present = observed();
        let key = (Kind::EndpointSlice, names().group_master(0));
        for (epoch, expected) in [(2, "orders-0-1"), (3, "orders-0-1"), (4, "orders-0-2")] {
            present.children.insert(key.clone(), slice(epoch));
            let found = of(0, &names(), &present).unwrap();
            assert_eq!(found.home.pod, expected, "{epoch}");
        }
        present.pods.clear();
        present.children.insert(key, slice(3));
        let kept = of(0, &names(), &present).unwrap();
        assert_eq!(kept.home.pod, "orders-0-2", "it may be written anew by now");
    }

    #[test]
    fn address_is_stale_when_its_pod_has_left_it() {
        let home = Home {
            pod: "orders-0-1".into(),
            uid: "orders-0-1".into(),
            ip: "10.0.0.2".into(),
            node: None,
        };
        let of = |home: &Home| Address {
            epoch: 3,
            home: home.clone(),
        };
        let mut present = observed();
        let set = || serde_json::from_value(json!({"metadata": {"name": "orders-0"}})).unwrap();
        present.stateful_sets.insert("orders-0".into(), set());
        let is_stale =
            |home: &Home, observed: &Observed| is_stale(&of(home), 0, &names(), observed);
        assert!(!is_stale(&home, &present));
        let other = |change: &dyn Fn(&mut Home)| {
            let mut other = home.clone();
            change(&mut other);
            other
        };
        assert!(is_stale(
            &other(&|home| home.uid = "former".into()),
            &present
        ));
        assert!(is_stale(
            &other(&|home| home.ip = "10.0.0.9".into()),
            &present
        ));
        for (status, expected) in [
            (json!({"phase": "Pending"}), false),
            (json!({"phase": "Failed", "podIP": "10.0.0.2"}), true),
        ] {
            present.pods = vec![pod("orders-0-1", &status)];
            assert_eq!(is_stale(&home, &present), expected, "{status}");
        }
        present.pods.clear();
        assert!(is_stale(&home, &present));
        present.stateful_sets.clear();
        assert!(!is_stale(&home, &present), "its pods go on without it");
    }

    #[test]
    fn address_is_stale_for_a_while_before_it_goes() {
        let (mut stale, start, names) = (Stale::default(), Instant::now(), names());
        let mut look = |is_stale, seconds| {
            let now = start + Duration::from_secs(seconds);
            let lasts = stale.has_lasted((&names, 0), is_stale, (now, PATIENCE));
            (lasts, stale.is_any(&names))
        };
        assert_eq!(look(true, 0), (false, true));
        assert_eq!(look(false, 8), (false, false));
        assert_eq!(look(true, 9), (false, true));
        assert_eq!(look(true, 18), (false, true));
        assert_eq!(look(true, 19), (true, true));
        stale.forget(|_, name| name == "other");
        assert!(stale.is_any(&names));
        stale.forget(|_, name| name == "orders");
        assert!(!stale.is_any(&names));
    }
}
