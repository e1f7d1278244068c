//! The static rule: which replica of a group is master, recorded once and kept.
//!
//! The record is the group object. A role is never read from an ordinal: an ordinal is looked at exactly once, when a group
//! has no record yet, and then the first replica that already has a volume is taken, so that existing messages stay in reach.

use std::collections::BTreeMap;

use kube::ResourceExt;
use rocket_api::{
    GROUP_FORMAT, GroupRule, GroupState, Incarnation, Member, Replica, RocketBrokerGroup,
};

use crate::names::Names;
use crate::observe::Observed;

/// Ordinal of the master: as recorded, else the first replica that has a volume, else the first.
pub fn ordinal(index: i32, names: &Names, observed: &Observed) -> i32 {
    let prefix = format!("{}-", names.group(index));
    recorded(index, names, observed).unwrap_or_else(|| {
        let claims = format!("{}-{prefix}", crate::names::CLAIM);
        observed
            .claims
            .iter()
            .filter_map(|claim| claim.name_any().strip_prefix(&claims)?.parse().ok())
            .min()
            .unwrap_or(0)
    })
}

/// Ordinal of the master that the record names.
pub fn recorded(index: i32, names: &Names, observed: &Observed) -> Option<i32> {
    let pod = observed.state(&names.group(index))?.master_pod()?;
    names.ordinal(index, pod)
}

/// The state to write, or `None` when the record is already right.
///
/// A record is made once; afterwards only `minInSync` follows the specification, as one more version.
pub fn next_state(
    group: &RocketBrokerGroup,
    names: &Names,
    ordinal: i32,
    min_in_sync: i32,
) -> Option<GroupState> {
    if let Some(state) = &group.status {
        let mut next = state.clone();
        next.min_in_sync = min_in_sync;
        next.version += 1;
        return (state.min_in_sync != min_in_sync).then_some(next);
    }
    let index = group.spec.index;
    let name = names.pod(index, ordinal);
    let id = i64::from(ordinal) + 1;
    let incarnation = Incarnation::unregistered();
    let master = Member {
        replica_id: id,
        incarnation: incarnation.clone(),
    };
    let address = format!("{name}.{}", names.host(&names.group_replicas(index)));
    let replica = Replica {
        name: name.clone(),
        address,
        incarnation: Some(incarnation),
        ..Replica::default()
    };
    Some(GroupState {
        format: GROUP_FORMAT,
        group_uid: group.uid().unwrap_or_default(),
        version: 1,
        epoch: 1,
        master: Some(master.clone()),
        in_sync: vec![master],
        min_in_sync,
        replicas: BTreeMap::from([(id.to_string(), replica)]),
        next_replica_id: id + 1,
        last_complete: vec![id],
        rule: GroupRule::Static,
        master_name: Some(name.clone()),
        in_sync_names: name,
        ..GroupState::default()
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use rocket_api::RocketBrokerGroupSpec;

    use super::*;

    fn names() -> Names {
        Names {
            cluster: "orders".into(),
            namespace: "mq".into(),
            domain: "cluster.local".into(),
        }
    }

    fn group() -> RocketBrokerGroup {
        let mut group = RocketBrokerGroup::new(
            "orders-0",
            RocketBrokerGroupSpec {
                cluster: "orders".into(),
                index: 0,
            },
        );
        group.metadata.uid = Some("uid-of-group".into());
        group
    }

    fn with_claims(names: &[&str]) -> Observed {
        let claim = |name: &&str| PersistentVolumeClaim {
            metadata: kube::api::ObjectMeta {
                name: Some((*name).to_owned()),
                ..Default::default()
            },
            ..Default::default()
        };
        Observed {
            claims: names.iter().map(claim).collect(),
            ..Observed::default()
        }
    }

    #[test]
    fn a_new_group_takes_the_first_replica_that_has_a_volume() {
        assert_eq!(ordinal(0, &names(), &Observed::default()), 0);
        let claims = with_claims(&[
            "data-orders-0-2",
            "data-orders-0-1",
            "data-orders-1-0",
            "data-orders-0-0-0",
        ]);
        assert_eq!(ordinal(0, &names(), &claims), 1);
    }

    #[test]
    fn a_recorded_master_is_kept_whatever_exists() {
        let mut group = group();
        group.status = next_state(&group, &names(), 1, 1);
        let mut observed = with_claims(&["data-orders-0-0"]);
        observed.groups.insert("orders-0".into(), group.clone());
        assert_eq!(ordinal(0, &names(), &observed), 1);
        assert_eq!(next_state(&group, &names(), 1, 1), None);
    }

    #[test]
    fn another_min_in_sync_is_the_next_version_of_the_same_state() {
        let mut group = group();
        group.status = next_state(&group, &names(), 0, 1);
        let before = group.status.clone().unwrap();
        let after = next_state(&group, &names(), 0, 2).unwrap();
        assert_eq!(
            (after.version, after.min_in_sync, after.epoch),
            (before.version + 1, 2, before.epoch)
        );
        assert_eq!(after.master, before.master);
    }
}
