//! Addresses: one that follows the master of a group, and stable names of single pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rocket_api::label;

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

/// The address of a group: whichever pod carries the role `master`. It stays the same over a change of master, so a client
/// reconnects at once instead of waiting for its next look-up of routes.
///
/// `is_led`: the operator says itself where it leads. The selector then finds no pod; without any, Kubernetes would keep the endpoint
/// that it found by a former one.
pub(super) fn master(cluster: &ValidatedCluster, index: i32, is_led: bool) -> Service {
    let mut selector = cluster.names.group_selector(index);
    let role = if is_led {
        label::ROLE_NOBODY
    } else {
        label::ROLE_MASTER
    };
    selector.insert(label::ROLE.to_owned(), role.to_owned());
    clients(
        metadata(
            cluster,
            cluster.names.group(index),
            cluster.names.group_labels(index),
        ),
        selector,
        &[("broker", PORT_BROKER)],
    )
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
