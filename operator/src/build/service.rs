//! Addresses: one that follows the master of a group, and stable names of single pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rocket_api::{GroupRule, label};

use super::metadata;
use crate::names::{PORT_BROKER, PORT_HA, PORT_METRICS, PORT_NAMESRV};
use crate::validate::ValidatedCluster;

/// What clients configure.
pub(super) fn name_servers(cluster: &ValidatedCluster) -> Service {
    let metadata = metadata(
        cluster,
        cluster.names.namesrv(),
        cluster.names.namesrv_labels(),
    );
    clients(
        metadata,
        cluster.names.namesrv_selector(),
        &[("namesrv", PORT_NAMESRV)],
    )
}

/// What brokers register with: every name server, ready or not.
pub(super) fn name_server_replicas(cluster: &ValidatedCluster) -> Service {
    let metadata = metadata(
        cluster,
        cluster.names.namesrv_replicas(),
        cluster.names.namesrv_labels(),
    );
    headless(
        metadata,
        cluster.names.namesrv_selector(),
        &[("namesrv", PORT_NAMESRV), ("metrics", PORT_METRICS)],
    )
}

/// The address of a group. It stays the same over a change of master, so a client reconnects at once instead of waiting for its next
/// look-up of routes.
///
/// A fixed master is found by the name that its StatefulSet puts on the pod: made anew, the pod is reached while the operator is away,
/// and while it carries nothing out. In a group that elects it is the pod with the role `master`.
///
/// `is_led`: the operator says itself where it leads. The selector then finds no pod; without any, Kubernetes would keep the endpoint
/// that it found by a former one.
pub(super) fn master(
    cluster: &ValidatedCluster,
    index: i32,
    master: Option<i32>,
    is_led: bool,
) -> Service {
    let names = &cluster.names;
    let (key, value) = match cluster.rule {
        GroupRule::Static => (
            label::POD_NAME,
            names.pod(index, master.unwrap_or_default()),
        ),
        GroupRule::Elected if is_led => (label::ROLE, label::ROLE_NOBODY.to_owned()),
        GroupRule::Elected => (label::ROLE, label::ROLE_MASTER.to_owned()),
    };
    let mut selector = names.group_selector(index);
    selector.insert(key.to_owned(), value);
    let mut service = clients(
        metadata(cluster, names.group(index), names.group_labels(index)),
        selector,
        &[("broker", PORT_BROKER)],
    );
    if let Some(spec) = &mut service.spec {
        // A broker whose disk is full is not ready, and only consumers that reach it make room.
        spec.publish_not_ready_addresses = (!is_led).then_some(true);
    }
    service
}

/// Stable names of a group's pods.
pub(super) fn replicas(cluster: &ValidatedCluster, index: i32) -> Service {
    let metadata = metadata(
        cluster,
        cluster.names.group_replicas(index),
        cluster.names.group_labels(index),
    );
    headless(
        metadata,
        cluster.names.group_selector(index),
        &[
            ("broker", PORT_BROKER),
            ("ha", PORT_HA),
            ("metrics", PORT_METRICS),
        ],
    )
}

fn clients(
    metadata: ObjectMeta,
    selector: BTreeMap<String, String>,
    open: &[(&str, i32)],
) -> Service {
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(ports(open)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn headless(
    metadata: ObjectMeta,
    selector: BTreeMap<String, String>,
    open: &[(&str, i32)],
) -> Service {
    let mut service = clients(metadata, selector, open);
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".to_owned());
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

fn ports(open: &[(&str, i32)]) -> Vec<ServicePort> {
    let port = |(name, port): &(&str, i32)| ServicePort {
        name: Some((*name).to_owned()),
        port: *port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String((*name).to_owned())),
        ..ServicePort::default()
    };
    open.iter().map(port).collect()
}
