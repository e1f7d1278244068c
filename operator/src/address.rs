//! Where the master of a group that elects is reached, as the group's Service leads there: one EndpointSlice that the operator writes
//! itself, in the same step as the record of an election. Pure.
//!
//! Kubernetes would find the master by a label too, but late: its controller first takes the former master's address away and may come
//! back for the next one a second later, and kube-proxy takes up no more than one change a second, so each change that says nothing
//! holds up the one that matters.

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
        let has_ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        let ip = status.pod_ip.clone().filter(|ip| !ip.is_empty())?;
        (!has_ended).then(|| Self {
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ip,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        })
    }
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
/// belongs to a later epoch stays, and what leads to a pod that is gone stays until the next master takes its place. When the record is
/// lost its master may go on (docs/replication.md §8.16), and is reached as before.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
}
