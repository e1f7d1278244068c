//! The one endpoint of the Service of a group that elects; see [`crate::address`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use rocket_api::label;

use super::owned;
use crate::address::{Address, EPOCH};
use crate::names::{Names, PORT_BROKER, slice_selector};

/// Where clients of a group are led.
pub(super) fn master(names: &Names, uid: &str, index: i32, address: &Address) -> EndpointSlice {
    let mut labels = names.group_labels(index);
    labels.extend(slice_selector());
    labels.insert(label::SERVICE.to_owned(), names.group(index));
    let mut metadata = owned(names, uid, names.group_master(index), labels);
    let epoch = (EPOCH.to_owned(), address.epoch.to_string());
    metadata.annotations = Some(BTreeMap::from([epoch]));
    let home = &address.home;
    let family = if home.ip.contains(':') {
        "IPv6"
    } else {
        "IPv4"
    };
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: vec![Endpoint {
            addresses: vec![home.ip.clone()],
            // Who leads is the record's word, not a probe's: a master that opens is worth connecting to.
            conditions: Some(EndpointConditions {
                ready: Some(true),
                ..EndpointConditions::default()
            }),
            node_name: home.node.clone(),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                name: Some(home.pod.clone()),
                namespace: Some(names.namespace.clone()),
                uid: Some(home.uid.clone()),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        }],
        metadata,
        ports: Some(vec![EndpointPort {
            name: Some("broker".to_owned()),
            port: Some(PORT_BROKER),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}
